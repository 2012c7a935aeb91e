"""Checkpoints: all of a training comes back, whole or not at all, whatever the files hold and however it was ended."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_dqn import Agent, CartPole, CheckpointError, Checkpoints, MountainCar, interact
from keras_dqn.backend import keras
from keras_dqn.training import checkpoint
from tests.test_breakout import tiny


def made(steps=None, **options):
    """A training with all that a checkpoint can hold: n steps, a target model, held actions, a memory that is full."""
    own = {"recipe": "fast", "weights": None, "weight_backup": None, "seed": 0, "memory_size": 300}
    return MountainCar(10**6, steps=steps, wait_for_terminal=False, **{**own, **options})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a training of 310 steps that went on to 330, a checkpoint each."""
    folder = tmp_path_factory.mktemp("saved")
    made(310).train(progress=False, checkpoints=Checkpoints(folder, memory=True))
    made(330).train(progress=False, checkpoints=Checkpoints(folder, memory=True), resume=True)
    return folder


@pytest.fixture(scope="module")
def runner():
    """One that the checkpoints of `saved` fit."""
    return made()


@pytest.fixture
def copied(saved):
    """A copy of that folder, "saved"."""
    shutil.copytree(saved, "saved")
    return Path("saved")


def digest(runner):
    """sha256 of all that a checkpoint may change, and of what is acted on."""
    agent, learner = runner.agent, runner.agent.learner
    arrays = [array for arrays in learner.snapshot().values() for array in arrays]
    arrays += [*agent.memory.snapshot().values(), learner.q_values(np.ones((1, *agent.state_shape), np.float32))]
    states = [generator.bit_generator.state for generator in runner.generators.values()]
    whole = hashlib.sha256(
        str([states, agent.counters(), runner.best_score, runner.seconds, list(runner.history)]).encode()
    )
    for array in arrays:
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def restore(runner, folder="saved"):
    Checkpoints(folder).restore(runner)


def contents(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


# ---------------------------------------------------------------- what goes on


@pytest.mark.parametrize("make", [made, tiny, lambda **options: made(brain=bfloat16(), **options)])
def test_what_goes_on_is_bit_for_bit_what_would_have_gone_on(make, capsys):
    """From the same memory, weights and generators; environments begin new episodes in both, with the same seed."""
    first, second = make(steps=330), make(steps=330, seed=99)
    first.train(progress=False, checkpoints=Checkpoints("saved", memory=True))
    first.history.evaluations.append((20, 4.5, 0.5))
    first.best_score = 3.25
    Checkpoints("saved", memory=True).save(first)
    assert digest(second) != digest(first) and first.agent.learner.updates > 0
    capsys.readouterr()
    restore(second)
    out = capsys.readouterr().out
    assert out.startswith("Restored saved/checkpoint_000002.npz: ") and "The memory goes on with " in out
    assert digest(second) == digest(first) and second.seconds > 0
    assert second.history.evaluations == [(20, 4.5, 0.5)]
    np.testing.assert_array_equal(second.history.update_losses, first.history.update_losses)
    for one in (first, second):
        envs = one.make_envs(one.num_envs)
        for step in interact(one.agent, envs, one.replay_every, seed=7, shape_reward=one.shape_reward):
            if step.steps >= 60:
                break
        envs.close()
    assert digest(second) == digest(first)


def bfloat16():
    """A network with weights of a kind that NumPy has no name for."""
    layers = [keras.layers.Dense(4, "tanh", dtype="bfloat16"), keras.layers.Dense(3, dtype="float32")]
    return keras.Sequential([keras.Input((2,)), *layers])


def test_steps_and_episodes_count_what_was_done_before(copied, capsys):
    runner = made(400, gamma=0.5)
    history = runner.train(checkpoints=copied, resume=True)
    out, err = capsys.readouterr()
    assert runner.agent.steps == 400 and "400/400" in err and sorted(history.times) == list(history.times)
    assert "Restored saved/checkpoint_000002.npz: 330 steps, 1 episodes, " in out
    assert "`gamma` was 0.99 and is 0.5 now\nThe memory goes on with 300 steps\n" in out
    again = made(400)
    again.train(progress=False, checkpoints=copied, resume=True)
    out = capsys.readouterr().out
    assert "The memory goes on with 0 steps\nThere is nothing left to train" in out
    assert again.agent.steps == 400 and again.agent.learner.updates == runner.agent.learner.updates
    again = made()
    again.episodes = len(history) + 1
    assert len(again.train(progress=False, checkpoints=copied, resume=True)) == len(history) + 1


def test_a_training_goes_on_at_another_learning_rate(copied):
    for steps, rate, expected in [(450, 0.5, 0.5), (451, None, 0.5), (600, 1e-12, 1e-12)]:
        runner = made(steps)
        runner.train(progress=False, checkpoints=Checkpoints(copied, memory=True), resume=True, learning_rate=rate)
        assert runner.agent.learner.learning_rate == pytest.approx(expected), "the checkpoint's, not the recipe's"
        weights = runner.agent.learner.read_weights()
    restore(before := made())
    np.testing.assert_allclose(before.agent.learner.read_weights(), weights, atol=1e-6)


def test_frames_are_counted_and_what_is_not_saved_is_played_first(capsys):
    tiny(steps=300).train(progress=False)
    again = tiny(steps=400, seed=5)
    again.train(progress=False, resume=True)
    out = capsys.readouterr().out
    assert "Restored breakout_checkpoints/checkpoint_000001.npz: 300 steps (1,200 frames)" in out
    assert "The memory goes on with 0 steps" in out and again.agent.steps == 400


def test_the_two_newest_are_kept_and_weights_of_every_so_many_steps():
    runner = made(140, memory_size=100, sample_batch_size=32, minibatch_size=32)
    runner.train(progress=False, checkpoints=Checkpoints("saved", minutes=0, weights_every=40))
    names = sorted(path.name for path in Path("saved").iterdir())
    weights = [f"weights_000000{n}.h5" for n in ("040", "080", "120")]
    assert names == ["checkpoint_000140.npz", "checkpoint_000141.npz", "log.csv", "training.lock", *weights]
    last = made(weights="saved/weights_000000120.h5")  # read by its own loader
    assert not np.array_equal(last.agent.learner.read_weights(), runner.agent.learner.read_weights())


def test_one_is_due_so_many_minutes_after_the_last(monkeypatch, runner):
    now = [1000.0]
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: now[0]))
    checkpoints, due = Checkpoints("saved", minutes=2), []
    for seconds in (119, 1):
        now[0] += seconds
        due.append(checkpoints.due)
    checkpoints.folder.mkdir()
    checkpoints.save(runner)
    assert [*due, checkpoints.due] == [False, True, False]


# ---------------------------------------------------------------- what is refused, with nothing changed


def test_a_training_from_the_start_pushes_no_checkpoint_out(copied):
    before, trained = contents(copied), made(400)
    with pytest.raises(
        CheckpointError, match="saved holds the checkpoints of a training.* Received: saved/checkpoint_"
    ):
        trained.train(progress=False, checkpoints=copied)
    with pytest.raises(CheckpointError, match="no checkpoint to go on from in this folder. Received: nowhere"):
        trained.train(progress=False, checkpoints="nowhere", resume=True)
    assert contents(copied) == before and trained.agent.steps == 0 and not Path("nowhere").exists()
    for options, message in [({"minutes": -1}, "`minutes`.* -1"), ({"weights_every": 0}, "`weights_every`.* 0")]:
        with pytest.raises(ValueError, match=message):
            Checkpoints("saved", **options)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: CartPole(recipe="fast", weights=None, weight_backup=None), "of shape .* Received: float32, "),
        (lambda: made(network={"hidden": (8, 8)}), r"brain_0: expected float32 of shape \(2, 8\). Received: float32, "),
        (lambda: made(optimizer=keras.optimizers.SGD), r"others in \['optimizer_10', 'optimizer_11'"),
        (lambda: made(target_update=None, tau=1.0, double=False), r"others in \['target_0'"),
        (lambda: made(memory_size=250), "`memory_size` must be what it was: 300 steps are saved.* Received: 250"),
        (lambda: tiny(weight_backup=None), "the arrays of this training"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(other, message, copied):
    runner, before = other(), contents(copied)
    had = digest(runner)
    with pytest.raises(CheckpointError, match=f"^No checkpoint in saved can be gone on from; the newest: .*{message}"):
        restore(runner)
    assert digest(runner) == had and contents(copied) == before


@pytest.mark.parametrize("name", ["game", "recipe"])
def test_a_checkpoint_of_another_game_or_recipe_is_refused(name, runner, copied, monkeypatch):
    had = digest(runner)
    monkeypatch.setitem(runner.settings, name, "other")
    with pytest.raises(CheckpointError, match=f"a checkpoint of {name} '.*', not of this one. Received: 'other'"):
        restore(runner)
    assert digest(runner) == had


def rewritten(change, savez=np.savez):
    """A change of the arrays of a checkpoint, or of its JSON."""

    def apply(path):
        with np.load(path) as file:
            arrays = dict(file)
        content = json.loads(arrays["progress"].tobytes())
        change(arrays, content)
        arrays["progress"] = np.frombuffer(json.dumps(content).encode(), np.uint8)
        with open(path, "wb") as file:
            savez(file, **arrays)

    return apply


def arrays(**new):
    return rewritten(lambda arrays, content: arrays.update(new))


def plain(change):
    return rewritten(lambda arrays, content: change(content))


def saying(text):
    """Other bytes in the place of the JSON."""

    def apply(path):
        with np.load(path) as file, open(path.with_suffix(".new"), "wb") as new:
            np.savez(new, **{**file, "progress": np.frombuffer(text, np.uint8)})
        path.with_suffix(".new").rename(path)

    return apply


def declaring(shape):
    """An array that declares another shape than it has bytes for."""

    def apply(path):
        with zipfile.ZipFile(path) as file:
            members = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(path, "w") as file:
            for name, content in members.items():
                if name == "episodes.npy":
                    content = content.replace(b"'shape': (1, 5), ", f"'shape': {shape}, ".encode())
                file.writestr(name, content)

    return apply


def no_regular_file(path):
    path.unlink()
    os.mkfifo(path)


HOSTILE = {
    "objects": arrays(update_losses=np.array([{}, []], object)),
    "objects in memory": arrays(memory_action=np.array([{}, []], object)),
    "another dtype": arrays(brain_0=np.zeros((2, 128))),
    "another shape": arrays(brain_0=np.zeros((2, 127), np.float32)),
    "a weight NaN": arrays(brain_1=np.full(128, np.nan, np.float32)),
    "a moment of infinity": arrays(optimizer_3=np.full(128, np.inf, np.float32)),
    "a reward NaN": arrays(memory_reward=np.full(300, np.nan, np.float32)),
    "losses in a table": arrays(update_losses=np.zeros((2, 2), np.float32)),
    "losses that are not finite": arrays(update_losses=np.full(3, np.inf, np.float32)),
    "episodes of text": arrays(episodes=np.array([["5"] * 5])),
    "an endless episode": arrays(episodes=np.array([[1.0, np.inf, 0, 0, 0]])),
    "one array less": rewritten(lambda arrays, content: arrays.pop("target_3")),
    "one array more": arrays(more=np.zeros(3)),
    "half a memory": rewritten(lambda arrays, content: arrays.pop("memory_discount")),
    "memory of fewer": arrays(memory_action=np.zeros(299, int)),
    "memory of other states": arrays(memory_state=np.zeros((300, 3), np.float32)),
    "a row elsewhere": arrays(memory_next_row=np.array(10**6)),
    "compressed": rewritten(lambda arrays, content: None, np.savez_compressed),
    "a bomb": rewritten(lambda arrays, content: arrays.update(memory_more=np.zeros(10**8)), np.savez_compressed),
    "more than there is": declaring("(10**12, 5)"),
    "more than anywhere": declaring((10**13, 5)),
    "a member that is no array": lambda path: zipfile.ZipFile(path, "a").writestr("memory_more", b"x"),
    "no zip": lambda path: path.write_bytes(b"not a zip"),
    "nothing": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "no JSON": saying(b"{"),
    "deep JSON": saying(b"[" * 100_000),
    "no length of the log": plain(lambda content: content.pop("log_bytes")),
    "a log of less than nothing": plain(lambda content: content.update(log_bytes=-1)),
    "no settings": plain(lambda content: content.pop("settings")),
    "no counters": plain(lambda content: content.pop("counters")),
    "no such counter": plain(lambda content: content["counters"].pop("updates")),
    "too many updates": plain(lambda content: content["counters"].update(updates=2**70)),
    "a generator that is a number": plain(lambda content: content["generators"].update(memory=5)),
    "another bit generator": plain(lambda content: content["generators"]["memory"].update(bit_generator="MT19937")),
    "no generator": plain(lambda content: content["generators"].pop("environments")),
    "seconds of text": plain(lambda content: content.update(seconds="long")),
    "short evaluations": arrays(evaluations=np.zeros((3, 2))),
    "evaluations of NaN": arrays(evaluations=np.full((1, 3), np.nan)),
    "a best score of text": plain(lambda content: content.update(best_score="high")),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_one_that_is_not_whole_is_named_and_the_one_before_is_used(kind, runner, copied, capsys):
    HOSTILE[kind](copied / "checkpoint_000002.npz")
    memory = psutil.Process().memory_info().rss
    restore(runner)
    path, out = copied / "checkpoint_000001.npz", capsys.readouterr().out
    assert f"Restored {path}: " in out and runner.agent.steps == 310
    assert out.startswith("Not used: saved/checkpoint_000002.npz: ") and "Received: " in out and len(out) < 1200
    (copied / "checkpoint_000002.unused").rename(path)  # now there is none before it
    had = digest(runner)
    with pytest.raises(CheckpointError, match="can be gone on from; the newest: saved/checkpoint_000001.npz: "):
        restore(runner)
    assert digest(runner) == had
    assert psutil.Process().memory_info().rss - memory < 2**28, "a bomb is not blown up"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_changed_bit_anywhere_is_seen_or_changes_nothing(position, bit, runner, saved, tmp_path):
    content = bytearray((saved / "checkpoint_000002.npz").read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    path = tmp_path / "flipped" / "checkpoint_000001.npz"
    path.parent.mkdir(exist_ok=True)
    restore(runner, saved)
    whole = digest(runner)
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        restore(runner, path.parent)
    assert digest(runner) == whole


def test_what_is_no_regular_file_is_no_checkpoint(runner, copied):
    no_regular_file(copied / "checkpoint_000002.npz")
    (copied / "checkpoint_000009.npz").mkdir()
    (copied / "checkpoint_٠٠٠٠٠٩.npz").write_text("")
    restore(runner)
    assert runner.agent.steps == 310


@pytest.mark.parametrize("number", range(1, 3))
def test_an_interrupted_restoring_changes_nothing(number, runner, copied, monkeypatch):
    restore(runner)
    had, count, learner = digest(runner), 0, runner.agent.learner
    (copied / "checkpoint_000002.npz").unlink()

    def interrupting(function):
        def call(*arguments):
            nonlocal count
            function(*arguments)
            count += 1
            if count == number:
                raise KeyboardInterrupt

        return call

    monkeypatch.setattr(runner.agent, "restore_counters", interrupting(runner.agent.restore_counters))
    monkeypatch.setattr(learner, "restore", interrupting(learner.restore))
    with pytest.raises(KeyboardInterrupt):
        restore(runner)
    assert digest(runner) == had


# ---------------------------------------------------------------- room


def test_a_memory_that_does_not_fit_is_refused_before_training(monkeypatch):
    free = 2e9
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    message = r"400000 steps needs 2.8 GB, 2.0 GB are free; `memory_size=(\d+)` .* Received: 400000"
    with pytest.raises(ValueError, match=message) as error:
        tiny(memory_size=400_000).train(progress=False)
    fits = int(str(error.value).split("memory_size=")[1].split("`")[0])
    assert 0.85 * free < fits * (84 * 84 + 11) <= 0.9 * free and fits % 1000 == 0
    assert list(Path().iterdir()) == []


def test_a_full_disk_stops_no_training(monkeypatch):
    runner, replace = made(60), os.replace

    def full(source, target):
        if runner.agent.steps < 60 and str(target).endswith(".npz"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(
        RuntimeWarning, match=r"The checkpoint was not written; training goes on .* Received: \[Errno 28\]"
    ):
        runner.train(progress=False, checkpoints=Checkpoints("saved", minutes=0))
    names = sorted(path.name for path in Path("saved").iterdir())
    assert names == ["checkpoint_000001.npz", "checkpoint_000002.npz", "log.csv", "training.lock"]
    restore(again := made())
    assert again.history == runner.history


def test_checkpoints_are_of_keras_agents():
    class Other(Agent):
        brain = property(lambda self: object())

    with pytest.raises(ValueError, match="agents with a Keras brain. Received: Other"):
        CartPole(1, agent_class=Other, weights=None, weight_backup=None).train(checkpoints="saved")


# ---------------------------------------------------------------- kills

TRAINING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background ignores
from keras_dqn import Checkpoints
from tests.test_checkpoint import made
print("ready", flush=True)
saved = Checkpoints("saved", minutes=0, memory=True)
made(10**6, weight_backup="weights.h5").train(progress=False, checkpoints=saved, resume=sys.argv[1] == "True")
"""


def newest():
    paths = Checkpoints("saved").paths()
    return int(paths[0].stem[-6:]) if paths else 0


def test_a_training_ended_at_any_instant_goes_on_from_a_whole_checkpoint(capfd):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    steps = 0
    for number in signal.SIGKILL, signal.SIGTERM, signal.SIGINT:
        before, command = newest(), [sys.executable, "-c", TRAINING, str(steps > 0)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            deadline = time.monotonic() + 60
            while newest() < before + 5 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(np.random.default_rng().uniform(0, 0.3))
            process.send_signal(number)
            process.communicate(timeout=60)
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else -signal.SIGINT)
        restore(again := made())
        assert f"Restored saved/checkpoint_{newest():06d}.npz" in capfd.readouterr().out and newest() >= before + 5
        assert again.agent.steps > steps and len(again.agent.memory) > 0
        steps = again.agent.steps
    last = made(weights="weights.h5")  # of the one that was interrupted, as its last checkpoint
    np.testing.assert_array_equal(last.agent.learner.read_weights(), again.agent.learner.read_weights())


def test_what_killed_processes_left_is_removed_when_the_training_goes_on(copied):
    left = ["saved/.0123456789abcdef-checkpoint_000009.npz", "saved/.0123456789abcdef-log.csv"]
    others = ["saved/mine", "saved/.0123456789abcdef", "saved/.123-checkpoint_000009.npz"]
    for name in [*left, *others]:
        Path(name).write_text("half")
    made(335).train(progress=False, checkpoints=copied, resume=True)
    assert not any(Path(name).exists() for name in left) and all(Path(name).exists() for name in others)


HOLDER = """
import sys
from keras_dqn import Checkpoints
with Checkpoints("saved").locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_trainings_do_not_share_a_folder():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    runner, message = made(10), "saved: another training writes its checkpoints there. Received: "
    with subprocess.Popen([sys.executable, "-c", HOLDER], env=environment, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(CheckpointError, match=message):
            runner.train(progress=False, checkpoints="saved")
        process.kill()
        process.wait(timeout=60)
    with Checkpoints("saved").locked(), pytest.raises(CheckpointError, match=message):
        runner.train(progress=False, checkpoints="saved")
    assert runner.agent.steps == 0
    replay, runner.agent.replay = runner.agent.replay, lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        runner.train(progress=False, checkpoints="saved")
    runner.agent.replay = replay
    runner.train(progress=False, checkpoints="saved")  # the folder was given back
    assert len(Checkpoints("saved").paths()) == 1
