"""Checkpoints and the log: what is saved, what goes on, and what a kill at any instant leaves."""

import csv
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from keras_dqn import CartPole, CheckpointError, Checkpoints, WeightFileError, play
from keras_dqn.__main__ import main
from keras_dqn.backend import keras, tf
from keras_dqn.games.breakout import Breakout
from keras_dqn.training import checkpointing as records
from keras_dqn.training import log as training_log
from keras_dqn.training.checkpoint import bytes_needed, check_integer_folder
from keras_dqn.training.checkpointing import Records
from keras_dqn.training.saved_training import REQUIRED
from tests.test_breakout import TINY, tiny


def cartpole(steps=None, **options):
    """A CartPole whose training is over in a moment, and learns every step."""
    options = {"weights": None, "weight_backup": None, "recipe": "pytorch", "seed": 0, "memory_size": 300, **options}
    return CartPole(5, steps=steps, **options)


def everything(agent):
    """All that an agent is: a list of arrays and texts."""
    learner = agent.learner
    variables = [*agent.brain.weights, *learner.target_brain.weights, *learner.optimizer.variables]
    generators = {name: generator.bit_generator.state for name, generator in agent.generators.items()}
    return [*map(np.asarray, variables), *agent.memory.snapshot().values(), str(generators), str(agent.counters())]


def assert_same(one, other):
    for a, b in zip(everything(one), everything(other), strict=True):
        np.testing.assert_array_equal(a, b)


def go_on(runner, steps):
    """Play and learn so many steps more, as the runner's training does."""
    envs = runner.make_envs(runner.num_envs)
    for step in play(runner.agent, envs, runner.replay_every, runner._next_seed(), shape_reward=runner.shape_reward):
        if step.steps >= steps:
            break
    envs.close()


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize("make", [lambda **options: tiny(num_envs=2, **options), lambda **options: cartpole(**options)])
def test_what_goes_on_is_bit_for_bit_what_would_have_gone_on(make, capsys):
    """From the same memory, weights and generators; the environments begin new episodes in both, with the same seed."""
    first = make(steps=500)
    first.train(progress=False, checkpoints=Checkpoints("saved", memory=True))
    second = make(steps=500, seed=99)
    Records(second, Checkpoints("saved", memory=True), resume=True)
    assert_same(first.agent, second.agent)
    assert first.agent.learner.updates > 0
    np.testing.assert_array_equal(second.history, first.history)
    np.testing.assert_array_equal(second.history.update_losses, first.history.update_losses)
    for runner in (first, second):
        go_on(runner, 300)
    assert_same(first.agent, second.agent)
    out = capsys.readouterr().out
    assert "Restored saved/checkpoint_000001: 50" in out and "No memory" not in out
    assert "Each checkpoint in saved takes " in out


def test_steps_and_episodes_count_what_was_done_before(capsys):
    cartpole(300).train(progress=False, checkpoints="saved")
    history = cartpole(500).train(checkpoints="saved", resume=True)
    out, err = capsys.readouterr()
    assert "500/500" in err or "/500" in err
    assert "No memory was saved: 128 steps are played before learning goes on" in out
    assert "`memory_size`" not in out
    assert sorted(history.times) == list(history.times)
    runner = cartpole(500)
    np.testing.assert_array_equal(runner.train(progress=False, checkpoints="saved", resume=True), history)
    assert runner.agent.steps == 500 and "nothing left to train" in capsys.readouterr().out
    runner = cartpole(gamma=0.5)
    runner.episodes = len(history) + 3
    assert len(runner.train(progress=False, checkpoints="saved", resume=True)) == len(history) + 3
    assert "`gamma` was 0.99 and is 0.5 now" in capsys.readouterr().out


def test_a_training_goes_on_at_another_learning_rate():
    cartpole(300).train(progress=False, checkpoints="saved", learning_rate=0.5)
    runner = cartpole(500)
    runner.train(progress=False, checkpoints="saved", resume=True)
    assert runner.agent.learner.learning_rate == 0.5, "the checkpoint's, not the recipe's"
    updates, weights = runner.agent.learner.updates, runner.agent.brain.get_weights()
    runner = cartpole(700)
    runner.train(progress=False, checkpoints="saved", resume=True, learning_rate=1e-9)
    assert runner.agent.learner.updates > updates, "it learned"
    for before, after in zip(weights, runner.agent.brain.get_weights(), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5, rtol=1e-5)


def test_without_its_memory_a_training_plays_before_it_learns(capsys):
    tiny(steps=300).train(progress=False)
    again = tiny(steps=400, seed=5)
    again.train(progress=False, resume=True)
    out = capsys.readouterr().out
    assert "Restored breakout_checkpoints/checkpoint_000001: 300 steps (1,200 frames)" in out
    assert "No memory was saved: 100 steps are played before learning goes on" in out
    assert again.agent.steps == 400
    saved = json.loads(Path("breakout_checkpoints/checkpoint_000001/state.json").read_text())["counters"]
    assert again.agent.learner.updates <= saved["updates"] + 2  # 100 steps fill the memory, at its edges are some more


def test_the_best_score_survives():
    runner = cartpole(100)
    runner.train(progress=False, checkpoints="saved")
    runner.best_score, state = 123.5, Path("saved/checkpoint_000001/state.json")
    other = Records(runner, "other")
    other.on_train_begin()
    other.close(None)
    second = cartpole(101)
    Records(second, "other", resume=True)
    assert second.best_score == 123.5 and json.loads(state.read_text())["best_score"] is None


def test_two_are_kept():
    cartpole(30).train(progress=False, checkpoints=Checkpoints("saved", minutes=0))
    names = sorted(path.name for path in Path("saved").iterdir())
    assert len(names) == 3 and names[2] == "log.csv"
    numbers = [int(name.removeprefix("checkpoint_")) for name in names[:2]]
    assert numbers[1] == numbers[0] + 1 >= 30  # one each step, and one at the end


def test_weights_of_every_so_many_steps_are_all_kept():
    runner = cartpole(350, recipe="fast")
    runner.train(progress=False, checkpoints=Checkpoints("saved", weights_every=100))
    assert sorted(path.name for path in Path("saved").glob("*.h5")) == [f"weights_000000{n}00.h5" for n in (1, 2, 3)]
    further = cartpole(500, recipe="fast")
    further.train(progress=False, checkpoints=Checkpoints("saved", weights_every=100), resume=True)
    assert sorted(path.name for path in Path("saved").glob("*.h5"))[3:] == [
        "weights_000000400.h5",
        "weights_000000500.h5",
    ]
    last = CartPole(recipe="fast", weights="saved/weights_000000500.h5", weight_backup=None)
    np.testing.assert_array_equal(last.agent.learner.read_weights(), further.agent.learner.read_weights())
    with pytest.raises(ValueError, match="`weights_every`.* Received: 0"):
        Checkpoints("saved", weights_every=0)


def test_ctrl_c_leaves_a_checkpoint_of_a_whole_step(capsys, monkeypatch):
    runner, replays = cartpole(100_000), 0
    replay = runner.agent.replay

    def interrupted():
        nonlocal replays
        replays += 1
        if replays == 200:
            signal.raise_signal(signal.SIGINT)  # in the middle of a step
            assert True  # and it goes on
        return replay()

    runner.agent.replay = interrupted
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        runner.train(progress=False, checkpoints=Checkpoints("saved", memory=True))
    assert signal.getsignal(signal.SIGINT) is before
    second = cartpole(1000, seed=4)
    Records(second, Checkpoints("saved"), resume=True)
    assert second.agent.steps == 200
    assert_same(runner.agent, second.agent)


# ---------------------------------------------------------------- what is refused, with nothing changed


def contents(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_training_from_the_start_pushes_no_checkpoint_out():
    cartpole(100).train(progress=False, checkpoints="saved")
    before = contents("saved")
    with pytest.raises(
        CheckpointError, match=r"saved holds the checkpoints of a training.* Received: saved/checkpoint_"
    ):
        cartpole(100).train(progress=False, checkpoints="saved")
    assert contents("saved") == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: tiny(game="pong"), "a checkpoint of game 'breakout'.* Received: 'pong'"),
        (lambda: Breakout(recipe="hackathon2018", weights=None), "of recipe 'nature'.* Received: 'hackathon2018'"),
        (lambda: Breakout(weights=None), r"brain.h5: .* Received: "),
        (lambda: tiny(optimizer=keras.optimizers.SGD), "optimizer.npz: expected the 2 variables of SGD .* Received: 6"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(other, message):
    tiny(steps=50).train(progress=False)
    runner, before = other(), contents("breakout_checkpoints")
    weights = runner.agent.learner.read_weights()
    with pytest.raises((CheckpointError, WeightFileError), match=message):
        runner.train(progress=False, checkpoints="breakout_checkpoints", resume=True)
    np.testing.assert_array_equal(runner.agent.learner.read_weights(), weights)
    assert contents("breakout_checkpoints") == before and runner.agent.steps == 0


def test_a_saved_memory_of_another_size_is_refused():
    for make, sizes in [(tiny, (2000, 1800)), (cartpole, (150, 80))]:
        folder = f"saved_{sizes[0]}"
        make(steps=90, memory_size=sizes[0]).train(progress=False, checkpoints=Checkpoints(folder, memory=True))
        runner = make(steps=180, sample_batch_size=64, minibatch_size=64, memory_size=sizes[1])
        weights = runner.agent.learner.read_weights()
        with pytest.raises(ValueError, match=rf"`memory_size` must be what it was: .* Received: {sizes[1]}"):
            runner.train(progress=False, checkpoints=folder, resume=True)
        np.testing.assert_array_equal(runner.agent.learner.read_weights(), weights)
        assert runner.agent.steps == 0


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("file", ["brain.h5", "optimizer.npz", "state.json", "manifest.json", "history.csv"])
def test_a_damaged_checkpoint_is_skipped_and_that_is_said(saved_twice, damage, file, capsys):
    shutil.copytree(saved_twice, "saved")
    damage(Path("saved/checkpoint_000002") / file)
    if damage is flip and file == "manifest.json":
        check_json("saved/checkpoint_000002/manifest.json")
    runner = cartpole()
    Records(runner, "saved", resume=True)
    out = capsys.readouterr().out
    assert out.startswith("Not used: saved/checkpoint_000002") and "Restored saved/checkpoint_000001: 60 " in out
    cut(Path("saved/checkpoint_000001/target.h5"))
    with pytest.raises(CheckpointError, match="no whole checkpoint to go on from in saved; .*saved/checkpoint_000002"):
        Records(cartpole(), "saved", resume=True)


def check_json(path):
    """A flipped bit may leave a manifest as good as it was: then spoil it for certain."""
    Path(path).write_text(Path(path).read_text()[:40])


@pytest.fixture(scope="module")
def saved_twice(tmp_path_factory):
    """The checkpoints of a training of 60 steps that went on to 100."""
    folder = tmp_path_factory.mktemp("twice") / "saved"
    cartpole(60).train(progress=False, checkpoints=folder)
    cartpole(100).train(progress=False, checkpoints=folder, resume=True)
    return folder


def test_a_manifest_names_no_file_elsewhere():
    folder = Path("checkpoint_000001")
    folder.mkdir()
    elsewhere = json.dumps({"files": {"../x": 1, **dict.fromkeys(REQUIRED, 1)}})
    for text in ["[]", elsewhere, '{"files": 3}', "", "{}", '{"files": {}}']:
        (folder / "manifest.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"checkpoint_000001(/manifest.json)?: .*Received: "):
            check_integer_folder(folder)


@pytest.mark.parametrize("options", [{"resume": True}, {"tensorboard": "tb"}])
def test_resume_and_tensorboard_need_checkpoints(options):
    with pytest.raises(ValueError, match="need `checkpoints`. Received: "):
        cartpole(10).train(progress=False, **options)
    with pytest.raises(CheckpointError, match="Received: nowhere"):
        cartpole(10).train(progress=False, checkpoints="nowhere", resume=True)
    with pytest.raises(ValueError, match="`minutes`.* Received: -1"):
        Checkpoints("saved", minutes=-1)


# ---------------------------------------------------------------- room


def test_a_memory_that_does_not_fit_is_refused_before_training(monkeypatch):
    free = 2e9
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Free", (), {"available": free}))
    message = r"400000 steps needs 2.8 GB, 2.0 GB are free; `memory_size=(\d+)` .* Received: 400000"
    with pytest.raises(ValueError, match=message) as error:
        Breakout(weights=None, seed=0).train(progress=False)
    fits = int(str(error.value).split("memory_size=")[1].split("`")[0])
    assert 0.85 * free < fits * (84 * 84 + 11) <= 0.9 * free and fits % 1000 == 0
    Breakout(weights=None, seed=0, memory_size=fits).agent.memory.check_fits((4, 84, 84))
    assert list(Path().iterdir()) == []
    with pytest.raises(ValueError, match="`learning_starts` must be at most 5000 .* Received: 20000"):
        Breakout(weights=None, memory_size=10_000)


def test_a_disk_without_room_is_found_before_training(monkeypatch):
    runner = tiny()
    size = bytes_needed(runner.agent, memory=True)
    assert size > runner.agent.memory_bytes > 2000 * 84 * 84
    usage = shutil.disk_usage(".")._replace(free=3 * size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"takes 0.0\d GB.* Received: 0.0\d GB free"):
        runner.train(progress=False, checkpoints=Checkpoints("saved", memory=True))
    Checkpoints("saved").check_space(runner.agent)  # without its memory there is


def test_a_checkpoint_takes_as_much_as_was_said():
    runner = tiny(steps=1200, memory_size=1000)
    runner.train(progress=False, checkpoints=Checkpoints("saved", memory=True))
    size = sum(file.stat().st_size for file in Path("saved/checkpoint_000001").iterdir())
    assert bytes_needed(runner.agent, memory=True) == pytest.approx(size, rel=0.02)


def test_a_full_disk_stops_no_training(monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    runner = cartpole(100)
    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda *a: full() if runner.agent.steps < 100 else save(*a))
    runner.train(progress=False, checkpoints=Checkpoints("saved", minutes=0))
    out = capsys.readouterr().out
    assert out.count("The checkpoint was not written; training goes on and tries again. Received: [Errno 28]") == 1
    assert len(Checkpoints("saved").paths()) == 2  # at the last step, and at the end
    monkeypatch.setattr("keras_dqn.training.whole_folder._sync", full)
    with pytest.raises(OSError, match="No space left"):
        save(Checkpoints("saved"), runner.agent, runner.settings, {}, records.Progress(runner.history, 1.0, None))
    names = sorted(path.name for path in Path("saved").iterdir())
    assert names == ["checkpoint_000001", "checkpoint_000002", "log.csv"]


# ---------------------------------------------------------------- kills

WRITER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from keras_dqn.training import checkpoint

def write(folder, agent, settings, generators, progress, memory):
    for name in "abc":
        (folder / name).write_bytes(progress.to_bytes(4, "big") * 250_000)

checkpoint.write_training = write
checkpoints = checkpoint.Checkpoints("saved")
agent = SimpleNamespace(generators={})
print("ready", flush=True)
while True:
    number = int(checkpoints.paths()[0].name[-6:]) + 1 if checkpoints.paths() else 1
    checkpoints.save(agent, {}, {}, number)
"""


def killed_after(code, seconds, *arguments):
    """Run Python code and kill it so long after it is ready; where it has arguments, after its first checkpoint."""
    before = Checkpoints("saved").paths()
    command = [sys.executable, "-u", "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}  # for what the tests share
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "ready\n"
        while arguments and Checkpoints("saved").paths() == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds)
        process.kill()


def check_files(folder):
    """Raise unless the files of a checkpoint are those of its manifest."""
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert files.keys() == {"a", "b", "c"} == {file.name for file in folder.iterdir()} - {"manifest.json"}
    for name, expected in files.items():
        content = (folder / name).read_bytes()
        assert expected == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_a_kill_at_any_instant_leaves_a_whole_checkpoint():
    random, last = np.random.default_rng(0), 0
    for attempt in range(12):
        # first at any instant, then at any instant after another whole one, however slow the disk
        killed_after(WRITER, random.uniform(0, 0.15), *["goes on"] * (attempt >= 3))
        if not (paths := Checkpoints("saved").paths()):
            assert last == 0
            continue
        newest = paths[0]
        check_files(newest)  # a folder with that name is whole
        number = int(newest.name.removeprefix("checkpoint_"))
        assert number >= last
        for name in "abc":
            assert (newest / name).read_bytes() == number.to_bytes(4, "big") * 250_000
        last = number
    assert last >= 9
    killed_after(WRITER, 0.3)
    assert len(Checkpoints("saved").paths()) in (2, 3)


def test_what_killed_processes_left_is_removed_when_the_training_goes_on():
    cartpole(50, weight_backup="w.h5").train(progress=False, checkpoints="saved")
    others = ["saved/mine", "saved/.0123456789abcdef", ".0123456789abcdef-other.h5", "saved/.123-checkpoint_000009"]
    left = [".0123456789abcdef-w.h5", ".0123456789abcdef-w_best.h5", "saved/.0123456789abcdef-log.csv"]
    left += ["saved/.0123456789abcdef-weights_000000010.h5", "saved/.0123456789abcdef-checkpoint_000009/brain.h5"]
    for name in [*left, *others]:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("half")
    with pytest.raises(CheckpointError, match="holds the checkpoints"):
        cartpole(60, weight_backup="w.h5").train(progress=False, checkpoints="saved")
    assert Path(left[0]).exists(), "another training may be writing it"
    cartpole(60, weight_backup="w.h5", weights="backup").train(progress=False, checkpoints="saved", resume=True)
    assert not any(Path(name).exists() for name in left)
    assert not Path("saved/.0123456789abcdef-checkpoint_000009").exists()
    assert all(Path(name).exists() for name in others), "nobody's temporary files"


TRAINING = """
import sys
from keras_dqn import Checkpoints
from tests.test_breakout import tiny
print("ready", flush=True)
tiny(steps=10**6, memory_size=600).train(
    progress=False, checkpoints=Checkpoints("saved", minutes=0, memory=True), resume=sys.argv[1] == "True"
)
"""


def test_a_killed_training_goes_on(capsys):
    steps = 0
    for resume, seconds in [("False", 0.7), ("True", 1.1)]:
        killed_after(TRAINING, seconds, resume)
        runner = tiny(steps=1, memory_size=600)
        Records(runner, "saved", resume=True)
        assert "Restored saved/checkpoint_" in capsys.readouterr().out
        assert runner.agent.steps > steps  # the checkpoints before were gone on from, and are behind
        steps = runner.agent.steps
    assert read_log() == []  # these were no 10,000 steps


# ---------------------------------------------------------------- the log


def read_log(path="saved/log.csv"):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_log_has_a_row_every_so_many_steps_and_none_twice(monkeypatch):
    monkeypatch.setattr(training_log.TrainingLog.__init__, "__defaults__", (100, None, None))
    cartpole(350).train(progress=False, checkpoints="saved")
    assert [row["steps"] for row in read_log()] == ["100", "200", "300"]
    with open("saved/log.csv", "a") as file:  # later than the checkpoint, and one that a kill cut off
        file.write("400,9,9,9,9,9,9,9\n450,9,9")
    history = cartpole(600).train(progress=False, checkpoints="saved", resume=True)
    rows = read_log()
    assert [row["steps"] for row in rows] == ["100", "200", "300", "400", "500", "600"]
    assert "frames" not in rows[0] and rows[3]["updates"] != "9"
    assert float(rows[0]["loss"]) == float(rows[0]["loss"]) or int(rows[0]["updates"]) == 0
    assert int(rows[-1]["episodes"]) == len(history)
    assert float(rows[-1]["mean_score_100"]) == pytest.approx(history.mean_score(), rel=1e-4)
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)


def test_the_log_counts_frames_and_tensorboard_gets_the_same(monkeypatch):
    monkeypatch.setattr(training_log.TrainingLog.__init__, "__defaults__", (100, None, None))
    tiny(steps=250).train(progress=False, tensorboard="board")
    rows = read_log("breakout_checkpoints/log.csv")
    assert [(row["steps"], row["frames"]) for row in rows] == [("100", "400"), ("200", "800")]
    (file,) = Path("board").iterdir()
    values = {}
    for event in tf.compat.v1.train.summary_iterator(str(file)):
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            values[value.tag.removeprefix("training/"), event.step] = float(tf.make_ndarray(value.tensor))
    assert {steps for _, steps in values} == {100, 200}
    for row in rows:
        for name in row.keys() - {"steps"}:
            np.testing.assert_allclose(values[name, int(row["steps"])], float(row[name]), rtol=1e-4)


# ---------------------------------------------------------------- from the shell


def test_train_and_resume_from_the_shell(capsys, monkeypatch):
    monkeypatch.setitem(Breakout.recipes, "nature", {**Breakout.recipes["nature"], **TINY_RECIPE})
    train = ("train", "breakout", "--game", "pong", "--seed", "1", "--memory-size", "3000", "--quiet")
    assert main((*train, "--steps", "400")) == 0
    assert main((*train, "--steps", "500", "--resume")) == 0
    out, err = capsys.readouterr()
    assert "Restored pong_checkpoints/checkpoint_000001: 40" in out and "Weights: pong_weight.h5" in out and err == ""
    assert main((*train, "--steps", "500")) == 2
    assert "--resume" in capsys.readouterr().err
    games = ("--games", "2", "--sticky", "0.25", "--epsilon", "1", "--seed", "3", "--weights", "none")
    assert main(("evaluate", "breakout", *games)) == 0
    assert "mean " in (out := capsys.readouterr().out) and "2 episodes" in out
    for arguments, message in [
        (("train", "breakout", "--game", "pog"), "nearest are ['pong'"),
        (("evaluate", "cartpole", "--sticky", "0.25"), "are for breakout. Received: cartpole"),
        (("evaluate", "breakout", "--sticky", "3"), "--sticky must be a number from 0 to 1. Received: 3"),
        (("train", "cartpole", "--checkpoint-memory"), "needs --checkpoints FOLDER. Received: cartpole"),
        (
            ("train", "cartpole", "--weights-every", "100"),
            "--weights-every needs --checkpoints FOLDER. Received: cartpole",
        ),
        (("train", "breakout", "--resume", "--weights", "x.h5"), "from the checkpoint. Received: --weights x.h5"),
        (("train", "cartpole", "--resume"), "--resume needs --checkpoints FOLDER. Received: cartpole"),
        (("train", "cartpole", "--checkpoint-minutes", "3"), "--checkpoint-minutes needs --checkpoints FOLDER."),
        (("train", "breakout", "--resume"), "whole checkpoint to go on from in breakout_checkpoints. Received: break"),
    ]:
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith("keras_dqn: error: ") and err.count("\n") == 1 and message in err


TINY_RECIPE = {name: value for name, value in TINY.items() if name not in ("num_envs", "seed", "memory_size")}
