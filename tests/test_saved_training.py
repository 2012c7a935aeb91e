"""Checkpoints that are damaged or hostile, their manifest made to fit: none is used, and nothing is half restored."""

import hashlib
import io
import json
import os
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from keras_dqn import Breakout, CheckpointError, Checkpoints, MountainCar
from keras_dqn.core.exploration import Linear
from keras_dqn.core.loop import fresh_position
from tests.test_breakout import tiny_network


def made(steps=None):
    """A training with everything that a checkpoint can hold: held actions, n steps, a target model, evaluations."""
    options = {"recipe": "fast", "weights": None, "weight_backup": None, "seed": 0, "memory_size": 300}
    return MountainCar(10**6, steps=steps, wait_for_terminal=False, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a training of 230 steps that went on to 260, a checkpoint each."""
    folder = tmp_path_factory.mktemp("saved") / "saved"
    made(230).train(progress=False, checkpoints=Checkpoints(folder, memory=True))
    made(260).train(progress=False, checkpoints=Checkpoints(folder, memory=True), resume=True)
    return folder


@pytest.fixture(scope="module")
def runner():
    return made()


@pytest.fixture(scope="module")
def fresh(runner):
    return runner.fresh_position()


def digest(runner):
    """sha256 of all that a checkpoint may change."""
    agent, learner = runner.agent, runner.agent.learner
    variables = [*agent.brain.weights, *learner.target_brain.weights, *learner.optimizer.variables]
    arrays = [
        *map(np.asarray, variables),
        *agent.memory.snapshot().values(),
        agent.q_values(np.zeros((1, 2), np.float32)),
    ]
    states = [generator.bit_generator.state for generator in {**agent.generators, **runner.generators}.values()]
    held, pending = agent.explore, agent.memory.returns._pending
    texts = [states, agent.counters(), held._left.tolist(), held._held.tolist(), str(pending)]
    whole = hashlib.sha256(str(texts).encode())
    for array in arrays:
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def seal(folder):
    """Make the manifest fit what the files of a checkpoint are now."""
    files = {
        file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and file.name != "manifest.json"
    }
    manifest = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}
    (folder / "manifest.json").write_text(json.dumps({"files": manifest}))


def restore(runner, fresh):
    return Checkpoints("saved").restore(runner.agent, runner.settings, runner.generators, fresh)


def assert_not_used(runner, fresh, capsys):
    """The newest is not used, which is said: the one before is, or where there is none, nothing is changed."""
    path, progress, _ = restore(runner, fresh)
    assert path.name == "checkpoint_000001" and runner.agent.steps == 230 and progress.position is not None
    out = capsys.readouterr().out
    assert out.startswith("Not used: saved/checkpoint_000002") and "Received: " in out and len(out) < 1200
    shutil.rmtree("saved/checkpoint_000001")
    before = digest(runner)
    with pytest.raises(CheckpointError, match="no whole checkpoint to go on from in saved; the newest is not used: "):
        restore(runner, fresh)
    assert digest(runner) == before


# ---------------------------------------------------------------- what its numbers say


def state(change):
    """A change of state.json."""

    def apply(folder):
        content = json.loads((folder / "state.json").read_text())
        change(content)
        (folder / "state.json").write_text(json.dumps(content))

    return apply


def counter(**values):
    return state(lambda content: content["counters"].update(values))


def put(**values):
    return state(lambda content: content.update(values))


def generator(**values):
    return state(lambda content: content["generators"]["memory"].update(values))


def held(**values):
    return state(lambda content: content["held_actions"].update(values))


def step(number, value):
    """A change of a step that waits for its n steps: 0 is its state, 1 its action, 2 its reward."""
    return state(lambda content: content["pending"][0][1][0].__setitem__(number, value))


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def array(name, change):
    """A change of the array in an .npy file."""
    return lambda folder: np.save(folder / name, change(np.load(folder / name)))


def element(name, value):
    def change(array):
        array[..., -1:] = value
        return array

    return globals()["array"](name, change)


def raw(name, change):
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def optimizer(change, **options):
    """A change of the optimizer's arrays, {name: array}."""

    def apply(folder):
        with np.load(folder / "optimizer.npz") as saved:
            arrays = dict(saved)
        change(arrays)
        np.savez(folder / "optimizer.npz", **arrays)

    return apply


def header(name, shape):
    """An .npy file that declares another shape than its data have."""

    def change(content):
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return file.getvalue() + content[-8:]

    return raw(name, change)


def flip(content):
    """Another bit in the middle, which is of some number: sealed again, only the archive's own sum tells."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DEEP = "[" * 100_000
HOSTILE = {
    "a generator that is a number": state(lambda content: content["generators"].update(memory=5)),
    "no generator": state(lambda content: content["generators"].pop("memory")),
    "no generators": state(lambda content: content.pop("generators")),
    "a negative generator": generator(state={"state": -1, "inc": 1}),
    "a generator of 129 bits": generator(state={"state": 2**128, "inc": 1}),
    "a generator of text": generator(state={"state": "1", "inc": 1}),
    "a generator without a state": generator(state={}),
    "another bit generator": generator(bit_generator="MT19937"),
    "a generator's half": generator(uinteger=2**32),
    "negative steps": counter(steps=-1),
    "steps of text": counter(steps="9"),
    "half steps": counter(steps=9.5),
    "infinite updates": counter(updates=float("inf")),
    "too many updates": counter(updates=2**70),
    "true episodes": counter(episodes=True),
    "epsilon 7": counter(exploration_rate=7),
    "epsilon -1": counter(exploration_rate=-1),
    "epsilon NaN": counter(exploration_rate=float("nan")),
    "epsilon of text": counter(exploration_rate="0.5"),
    "waits 1": counter(waits=1),
    "another counter": counter(lives=3),
    "counters in a list": put(counters=[]),
    "a best score of text": put(best_score="abc"),
    "a best score NaN": put(best_score=float("nan")),
    "negative seconds": put(seconds=-1),
    "seconds of text": put(seconds="9"),
    "no seconds": state(lambda content: content.pop("seconds")),
    "evaluations of text": put(evaluations=[["a", "b", "c"]]),
    "short evaluations": put(evaluations=[[1, 2]]),
    "an evaluation that is none": put(evaluations=5),
    "an evaluation NaN": put(evaluations=[[1, float("nan"), 1]]),
    "something else": put(more=1),
    "held too long": held(left=[61]),
    "held less than nothing": held(left=[-1]),
    "an action held that is none": held(action=[3]),
    "held by two": held(left=[1, 1]),
    "held text": held(left="1"),
    "a position that is a list": put(position=[]),
    "a due replay": state(lambda content: content["position"].update(due=10**9)),
    "elapsed half a step": state(lambda content: content["position"]["environments"].update(elapsed=0.5)),
    "no steps that wait": put(pending=None),
    "a step that waits elsewhere": state(lambda content: content["pending"][0].__setitem__(0, 1)),
    "too many steps wait": state(lambda content: content["pending"][0][1].append(content["pending"][0][1][0])),
    "a state that waits": step(0, [0.0, 0.0, 0.0]),
    "an action that waits": step(1, 3),
    "a reward that waits": step(2, float("nan")),
    "brackets": text("state.json", DEEP),
    "brackets in order": text("state.json", DEEP + "]" * 100_000),
    "half of it": raw("state.json", lambda content: content[: len(content) // 2]),
    "an empty file": text("state.json", ""),
    "a list": text("state.json", "[]"),
    "no UTF-8": raw("state.json", lambda content: b"\xff\xfe" + content),
    "a long number": text("state.json", "9" * 10_000),
    "too much of it": text("state.json", " " * (2**24 + 1)),
    "settings in a list": text("settings.json", "[]"),
    "deep settings": text("settings.json", DEEP),
    "broken settings": text("settings.json", "{"),
    "settings of another game": text("settings.json", '{"game": "cartpole", "recipe": "fast"}'),
    "no settings": lambda folder: (folder / "settings.json").unlink(),
    "no target": lambda folder: (folder / "target.h5").unlink(),
    "no text": text("history.csv", "score\n1\n"),
    "an episode of no steps": raw("history.csv", lambda content: content + b"1.0,0,,0.5,1.0\n"),
    "an endless episode": raw("history.csv", lambda content: content + b"inf,1,nan,0.5,1.0\n"),
    "losses NaN": element("update_losses.npy", np.nan),
    "losses of float64": array("update_losses.npy", lambda losses: losses.astype(float)),
    "losses in a table": array("update_losses.npy", lambda losses: losses[None]),
    "losses cut": raw("update_losses.npy", lambda content: content[:-1]),
    "no array": text("update_losses.npy", "not NumPy's"),
    "more losses than there are": header("update_losses.npy", (10**13,)),
    "fewer losses than there are": header("update_losses.npy", (1,)),
    "action 99": element("memory_action.npy", 99),
    "action -1": element("memory_action.npy", -1),
    "actions of float": array("memory_action.npy", lambda actions: actions.astype(float)),
    "actions of text": array("memory_action.npy", lambda actions: actions.astype(str)),
    "fewer rewards": array("memory_reward.npy", lambda rewards: rewards[:-1]),
    "a reward NaN": element("memory_reward.npy", np.nan),
    "rewards of float64": array("memory_reward.npy", lambda rewards: rewards.astype(float)),
    "discount 7": element("memory_discount.npy", 7),
    "discount NaN": element("memory_discount.npy", np.nan),
    "discount -1": element("memory_discount.npy", -1),
    "no discounts": lambda folder: (folder / "memory_discount.npy").unlink(),
    "a state of infinity": element("memory_state.npy", np.inf),
    "states of float64": array("memory_next_state.npy", lambda states: states.astype(float)),
    "states of three numbers": array("memory_state.npy", lambda states: np.repeat(states, 2, -1)[:, :3]),
    "a row elsewhere": array("memory_next_row.npy", lambda row: np.array(10**6)),
    "rows": array("memory_next_row.npy", lambda row: np.array([1, 2])),
    "no row yet": array("memory_next_row.npy", lambda row: np.array(3)),
    "something else in memory": lambda folder: np.save(folder / "memory_more.npy", np.zeros(3)),
    "Python objects": lambda folder: np.save(folder / "memory_action.npy", np.array([{}, []], object)),
    "other weights": lambda folder: shutil.copy(folder / "optimizer.npz", folder / "brain.h5"),
    "no archive": text("optimizer.npz", "not a zip"),
    "half an archive": raw("optimizer.npz", lambda content: content[: len(content) // 2]),
    "a bit of the archive": raw("optimizer.npz", flip),
    "a moment NaN": optimizer(lambda arrays: arrays["arr_2"].__setitem__(0, np.nan)),
    "a negative square": optimizer(lambda arrays: arrays["arr_3"].__setitem__(0, -1)),
    "a learning rate of infinity": optimizer(lambda arrays: arrays.update(arr_1=np.float32(np.inf))),
    "negative iterations": optimizer(lambda arrays: arrays.update(arr_0=np.int64(-1))),
    "one variable less": optimizer(lambda arrays: arrays.pop("arr_5")),
    "a variable more": optimizer(lambda arrays: arrays.update(more=np.zeros(3))),
    "another shape": optimizer(lambda arrays: arrays.update(arr_2=np.zeros((3, 3), np.float32))),
    "another dtype": optimizer(lambda arrays: arrays.update(arr_2=arrays["arr_2"].astype(float))),
    "objects in the archive": optimizer(lambda arrays: arrays.update(arr_2=np.array([{}], object))),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_not_expected_is_not_used(kind, saved, runner, fresh, capsys):
    shutil.copytree(saved, "saved")
    before = {file: file.read_bytes() for file in Path("saved/checkpoint_000002").iterdir()}
    HOSTILE[kind](Path("saved/checkpoint_000002"))
    assert before != {file: file.read_bytes() for file in Path("saved/checkpoint_000002").iterdir()}
    seal(Path("saved/checkpoint_000002"))
    assert_not_used(runner, fresh, capsys)


def games(**values):
    """A change of where the games are."""
    return state(lambda content: content["position"]["environments"].update(values))


ROLLOUT = {
    "action 4": element("memory_action.npy", 4),
    "a value NaN": element("memory_value.npy", np.nan),
    "a value of the last state of float64": array("memory_last_value.npy", lambda values: values.astype(float)),
    "fewer rewards": array("memory_reward.npy", lambda rewards: rewards[:-1]),
    "flags of bytes": array("memory_ended.npy", lambda flags: flags.astype(np.uint8)),
    "states of float": array("memory_state.npy", lambda states: states.astype(np.float32)),
    "smaller states": array("memory_state.npy", lambda states: states[:, :2]),
    "an environment that is none": element("memory_environment.npy", 3),
    "no environments": array("memory_environments.npy", lambda count: count * 0),
    "more environments than steps": array("memory_environments.npy", lambda count: count * 0 + 10**9),
    "environments in a list": array("memory_environments.npy", lambda count: count[None]),
    "half an environment": array("memory_environments.npy", lambda count: count + 0.5),
    "rounds backwards": array("memory_starts.npy", lambda starts: starts[::-1]),
    "a round that is too long": array("memory_starts.npy", lambda starts: starts[:1]),
    "the first round missing": array("memory_starts.npy", lambda starts: starts[1:]),
    "an empty round": array("memory_starts.npy", lambda starts: np.repeat(starts, 2)),
    "a round beyond the end": element("memory_starts.npy", 10**6),
    "newest states of others": element("memory_newest_environment.npy", 3),
    "fewer newest states": array("memory_newest_state.npy", lambda states: states[:-1]),
    "longer newest states": array("memory_newest_lengths.npy", lambda lengths: lengths + 1),
    "newest lengths in a table": array("memory_newest_lengths.npy", lambda lengths: lengths[None]),
    "no newest state": lambda folder: (folder / "memory_newest_state.npy").unlink(),
    "played that is no text": games(played=[5, 5, 5]),
    "played that is no base64": games(played=["AA=A"] * 3),
    "played of two games": games(played=["AAAA"] * 2),
    "states that are no base64": state(lambda content: content["position"].update(states="?")),
    "states of another length": state(lambda content: content["position"].update(states="AAAA")),
    "states of too many bytes": state(lambda content: content["position"].update(states="A" * 2**20)),
    "a negative seed": games(seeds=[-1, 1, 1]),
    "seeds of text": games(seeds=["1", "1", "1"]),
    "no seeds": state(lambda content: content["position"]["environments"].pop("seeds")),
}


@pytest.fixture(scope="module")
def saved_games(tmp_path_factory):
    """Two checkpoints of games from pixels, in the midst of their rollouts."""
    folder = tmp_path_factory.mktemp("games") / "saved"
    for steps in (260, 350):
        games = of_games(folder.parent, steps)
        games.train(progress=False, checkpoints=Checkpoints(folder, memory=True), resume=steps > 260)
    assert 3 < len(games.agent.memory) < 90
    return folder


def of_games(folder, steps=10**6):
    own = {"rollout": 90, "minibatch_size": 30, "num_envs": 3, "network": tiny_network, "seed": 0}
    schedules = {"learning_rate_schedule": None, "exploration": Linear(1.0, 0.1, 1000)}
    backup = folder / "weight.h5"
    return Breakout(recipe="parallel", steps=steps, weights=None, weight_backup=backup, **own, **schedules)


@pytest.fixture(scope="module")
def games_anew(tmp_path_factory):
    """A training to restore them in, and what is expected of its games."""
    runner = of_games(tmp_path_factory.mktemp("anew"))
    runner._repeatable = True
    return runner, runner.fresh_position()


@pytest.mark.parametrize("kind", [None, *ROLLOUT])
def test_what_is_not_expected_of_games_and_rollouts_is_not_used(kind, saved_games, games_anew, capsys):
    shutil.copytree(saved_games, "saved")
    newest = Path("saved/checkpoint_000002")
    if kind is not None:
        ROLLOUT[kind](newest)
        seal(newest)
    runner, fresh = games_anew
    path, progress, _ = restore(runner, fresh)
    out = capsys.readouterr().out
    assert path.name == ("checkpoint_000002" if kind is None else "checkpoint_000001"), kind
    assert out == "" if kind is None else out.startswith("Not used: saved/checkpoint_000002") and "Received: " in out
    assert len(out) < 1200 and progress.position is not None and len(runner.agent.memory) > 3


def test_what_is_expected_is_used(saved, runner, fresh, capsys):
    """As it is, sealed again, and with a file beside it that no manifest vouches for."""
    shutil.copytree(saved, "saved")
    seal(Path("saved/checkpoint_000002"))
    np.save("saved/checkpoint_000002/memory_more.npy", np.zeros(3))
    path, _, remarks = restore(runner, fresh)
    assert path.name == "checkpoint_000002" and runner.agent.steps == 260 and capsys.readouterr().out == ""
    assert remarks == ["The memory goes on with 258 steps", "The environments go on where they were"]


def test_an_archive_that_unpacks_to_more_is_not_unpacked(saved, runner, fresh, capsys):
    shutil.copytree(saved, "saved")
    path = Path("saved/checkpoint_000002/optimizer.npz")
    with np.load(path) as npz:
        arrays = dict(npz)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        for name, content in arrays.items():
            with bomb.open(f"{name}.npy", "w", force_zip64=True) as file:
                if name == "arr_2":
                    np.lib.format.write_array_header_1_0(
                        file, {"descr": "<f4", "fortran_order": False, "shape": (2**26,)}
                    )
                    for _ in range(2**8):
                        file.write(bytes(2**20))
                else:
                    np.save(file, content)
    assert path.stat().st_size < 2e6
    seal(path.parent)
    tracemalloc.start()
    try:
        assert_not_used(runner, fresh, capsys)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------- files that are none


def manifest(content):
    return lambda folder: (folder / "manifest.json").write_text(content)


def shortened(folder):
    files = json.loads((folder / "manifest.json").read_text())["files"]
    files.pop("state.json")
    (folder / "manifest.json").write_text(json.dumps({"files": files}))


def instead(name, make):
    def apply(folder):
        (folder / name).unlink()
        make(folder / name)

    return apply


ODD = {
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "empty": manifest(""),
    "no object": manifest("[]"),
    "no files": manifest('{"files": {}}'),
    "files in a list": manifest('{"files": ["brain.h5"]}'),
    "shortened": shortened,
    "brackets": manifest(DEEP),
    "brackets of files": manifest('{"files": ' + '{"a":' * 50_000 + "1" + "}" * 50_001),
    "a manifest that is a FIFO": instead("manifest.json", os.mkfifo),
    "a manifest that is a device": instead("manifest.json", lambda path: path.symlink_to("/dev/zero")),
    "a manifest that is a folder": instead("manifest.json", Path.mkdir),
    "weights that are a FIFO": instead("brain.h5", os.mkfifo),
    "weights that are a device": instead("brain.h5", lambda path: path.symlink_to("/dev/zero")),
    "a memory that is a FIFO": instead("memory_action.npy", os.mkfifo),
    "a circle of links": instead("state.json", lambda path: path.symlink_to(path)),
    "a file of 8 TB without data": instead("history.csv", lambda path: (path.touch(), os.truncate(path, 2**43))),
    "nothing in it": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("kind", ODD)
def test_files_that_are_none_are_not_waited_for(kind, saved, runner, fresh, capsys):
    shutil.copytree(saved, "saved")
    ODD[kind](Path("saved/checkpoint_000002"))
    assert_not_used(runner, fresh, capsys)


def test_names_like_those_of_checkpoints_do_no_harm(saved, runner, fresh, capsys):
    """They are not used, nothing is written over them, and they push no whole checkpoint out."""
    shutil.copytree(saved, "saved")
    Path("saved/checkpoint_000003").write_text("a file")
    Path("saved/checkpoint_٠٠٠٠٠٩").mkdir()
    Path("saved/checkpoint_000009").mkdir()
    checkpoints = Checkpoints("saved", memory=True)
    path, progress, _ = checkpoints.restore(runner.agent, runner.settings, runner.generators, fresh)
    assert path.name == "checkpoint_000002" and "Not used: saved/checkpoint_000009" in capsys.readouterr().out
    checkpoints.check_space(runner.agent)
    for number, kept in [(10, [2, 9, 10]), (11, [10, 11])]:
        path = checkpoints.save(runner.agent, runner.settings, runner.generators, progress)
        assert path.name == f"checkpoint_{number:06d}"
        folders = sorted(int(path.name[-6:]) for path in checkpoints.paths())
        assert folders == kept
    assert Path("saved/checkpoint_000003").read_text() == "a file" and Path("saved/checkpoint_٠٠٠٠٠٩").exists()


def test_an_interrupted_restoring_changes_nothing(saved, runner, fresh):
    shutil.copytree(saved, "saved")
    restore(runner, fresh)
    before = digest(runner)
    shutil.rmtree("saved/checkpoint_000002")
    agent, restore_counters = runner.agent, runner.agent.restore_counters
    called = []

    def interrupted(counters):
        restore_counters(counters)
        called.append(counters)
        if len(called) == 1:
            raise KeyboardInterrupt

    agent.restore_counters = interrupted
    try:
        with pytest.raises(KeyboardInterrupt):
            restore(runner, fresh)
    finally:
        del agent.restore_counters
    assert [counters["steps"] for counters in called] == [230, 260] and digest(runner) == before


def test_a_checkpoint_that_says_nothing_of_environments_is_used_too(saved, runner, fresh):
    """As all were before they said it."""
    shutil.copytree(saved, "saved")
    newer = ("held_actions", "pending", "position")
    state(lambda content: [content.pop(name) for name in newer])(Path("saved/checkpoint_000002"))
    seal(Path("saved/checkpoint_000002"))
    path, progress, remarks = restore(runner, fresh)
    assert path.name == "checkpoint_000002" and progress.position is None and runner.agent.steps == 260
    assert remarks[-1] == "The environments begin new episodes"


def test_without_a_fresh_position_environments_begin_anew(saved, runner):
    shutil.copytree(saved, "saved")
    _, progress, remarks = restore(runner, None)
    assert progress.position is None and remarks[-1] == "The environments begin new episodes"


def test_a_position_of_another_number_of_environments_is_refused(saved, runner, fresh):
    """With the same settings, that is: who changes `num_envs` is told so, and begins new episodes."""
    shutil.copytree(saved, "saved")
    three = fresh_position(runner.make_envs(3), 1)
    with pytest.raises(CheckpointError, match="position: environments: expected envs"):
        restore(runner, three)
