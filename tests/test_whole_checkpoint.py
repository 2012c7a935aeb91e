"""A checkpoint of an agent that was never trained: everything in it is another number than in the one that takes it."""

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from keras_dqn import Agent, CheckpointError, Checkpoints
from keras_dqn.core.episode_stats import Episode
from keras_dqn.core.transition import StepBatch
from keras_dqn.training import checkpoint
from keras_dqn.training.checkpoint import Progress, bytes_needed, check_integer_folder, written_whole
from keras_dqn.training.history import Evaluated, History

SETTINGS = {"game": "none", "recipe": "own", "gamma": 0.9}


def lived(seed, steps=30):
    """An agent whose every number follows from the seed."""
    random = np.random.default_rng(seed)
    options = {"memory_size": 20, "sample_batch_size": 4, "target_update": 5, "hold_random_actions": 4}
    agent = Agent(2, 2, weight_backup=None, network={"hidden": (3,)}, seed=seed, **options)
    for _ in range(steps):
        states, next_states = random.normal(size=(2, 1, 2)).astype(np.float32)
        actions, rewards, ends = agent.act_batch(states), random.normal(size=1), random.random(1) < 0.2
        agent.remember_batch(StepBatch(states, actions, rewards, next_states, ends, ends, np.zeros(1, int), rewards))
    if steps:
        agent.memory.sample(4)  # so that its generator has moved
    learner = agent.learner
    for variable in [*learner.brain.weights, *learner.target_brain.weights, *learner.optimizer.variables]:
        variable.assign((random.random(variable.shape) * 9).astype(variable.dtype))
    learner.updates = int(random.integers(100))
    agent.exploration_rate = random.random()
    learner.sync()
    return agent


def told(agent):
    """All that a checkpoint keeps of an agent, and what it acts on."""
    learner = agent.learner
    variables = [*learner.brain.weights, *learner.target_brain.weights, *learner.optimizer.variables]
    arrays = [*map(np.asarray, variables), *agent.memory.snapshot().values()]
    arrays.append(learner.q_values(np.eye(2, dtype=np.float32)))
    states = {name: generator.bit_generator.state for name, generator in agent.generators.items()}
    return [array.tolist() for array in arrays], states, agent.counters()


def save(agent, folder="saved", memory=True, seed=0, **settings):
    history = History([Episode(5.0, 3, 0.25, 0.5, 1.5)])
    history.evaluations.append(Evaluated(20, 4.5, 0.5))
    history.add_losses(np.array([0.5, 0.25], np.float32))
    generators = {"environments": np.random.default_rng(seed)}
    checkpoints = Checkpoints(folder, memory=memory)
    return checkpoints.save(agent, {**SETTINGS, **settings}, generators, Progress(history, 12.5, 3.25))


def restore(agent, folder="saved", **generators):
    generators = generators or {"environments": np.random.default_rng(7)}
    return Checkpoints(folder).restore(agent, SETTINGS, generators)


def flip(path):
    """One bit of a file in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_everything_is_what_it_was():
    first, second, environments = lived(1), lived(2), np.random.default_rng(7)
    assert all(one != other for one, other in zip(told(first), told(second), strict=True))
    save(first)
    path, progress, remarks = restore(second, environments=environments)
    assert told(second) == told(first) and path == Path("saved/checkpoint_000001")
    assert environments.bit_generator.state == np.random.default_rng(0).bit_generator.state
    assert (progress.seconds, progress.best_score) == (12.5, 3.25)
    assert progress.history == [Episode(5.0, 3, 0.25, 0.5, 1.5)]
    assert progress.history.evaluations == [Evaluated(20, 4.5, 0.5)]
    assert progress.history.update_losses.tolist() == [0.5, 0.25]
    assert remarks == ["The memory goes on with 20 steps"]


def test_the_memory_is_saved_where_it_is_asked_for():
    agent = lived(1)
    assert not list(save(agent, memory=False).glob("memory_*")) and list(save(agent).glob("memory_*"))
    shutil.rmtree("saved/checkpoint_000002")
    _, _, remarks = restore(fresh := lived(2, steps=0))
    assert len(fresh.memory) == 0 and fresh.steps == 30
    assert remarks[0] == "No memory was saved: 4 steps are played before learning goes on"


@pytest.mark.parametrize(("name", "interrupted_at", "in_all"), [("restore_counters", 1, 2), ("sync", 1, 2)])
def test_what_is_interrupted_leaves_all_as_it_was(name, interrupted_at, in_all):
    save(lived(1))
    agent, environments, calls = lived(2), np.random.default_rng(7), []
    before, owner = told(agent), agent if name == "restore_counters" else agent.learner
    function = getattr(owner, name)

    def interrupted(*arguments):
        function(*arguments)
        calls.append(arguments)
        if len(calls) == interrupted_at:
            raise KeyboardInterrupt

    setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        restore(agent, environments=environments)
    assert told(agent) == before and len(calls) == in_all
    assert environments.bit_generator.state == np.random.default_rng(7).bit_generator.state


@pytest.mark.parametrize("name", ["brain.h5", "update_losses.npy", "memory_reward.npy", "settings.json"])
def test_one_bit_is_seen_and_the_older_one_used(name, capsys):
    first, second = lived(1), lived(2)
    save(first)
    flip(save(second) / name)
    path, *_ = restore(third := lived(3))
    assert path.name == "checkpoint_000001" and told(third) == told(first)
    assert capsys.readouterr().out.startswith(f"Not used: saved/checkpoint_000002/{name}: damaged")


def test_a_manifest_lists_what_is_needed_with_sizes_and_sums():
    path = save(lived(1))
    files = json.loads((path / "manifest.json").read_text())["files"]
    assert check_integer_folder(path) == {file.name for file in path.iterdir()} - {"manifest.json"} == set(files)
    del files["optimizer.npz"]
    (path / "manifest.json").write_text(json.dumps({"files": files}))
    with pytest.raises(CheckpointError, match=r"expected to list \['optimizer.npz'\]"):
        check_integer_folder(path)


def test_other_settings_are_said_and_another_game_refused():
    save(lived(1), gamma=0.5)
    assert "`gamma` was 0.5 and is 0.9 now" in restore(lived(2))[2]
    for name in ("game", "recipe"):
        save(lived(1), name, **{name: "other"})
        agent = lived(2)
        before = told(agent)
        with pytest.raises(CheckpointError, match=f"a checkpoint of {name} 'other', not of this one"):
            restore(agent, name)
        assert told(agent) == before


# ---------------------------------------------------------------- the folder


def test_the_two_newest_are_kept_and_whole_ones_before_damaged_ones():
    agent, checkpoints, progress = lived(1), Checkpoints("saved"), Progress(History(), 0.0, None)
    names = [checkpoints.save(agent, SETTINGS, {}, progress).name for _ in range(4)]
    assert names == [f"checkpoint_{number:06d}" for number in (1, 2, 3, 4)]
    assert [path.name for path in checkpoints.paths()] == names[:1:-1]
    flip(checkpoints.paths()[0] / "brain.h5")
    assert checkpoints.restore(agent, SETTINGS, {})[0].name == "checkpoint_000003"
    checkpoints.save(agent, SETTINGS, {}, progress)
    assert [int(path.name[-6:]) for path in checkpoints.paths()] == [5, 4, 3], "of which 4 is not whole"
    with pytest.raises(CheckpointError, match="go on with it .* Received: saved/checkpoint_000005"):
        checkpoints.check_unused()


def test_is_due_so_many_minutes_after_the_last(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: now[0], time=time.time))
    checkpoints, due = Checkpoints("saved", minutes=2), []
    for seconds in (119, 1):
        now[0] += seconds
        due.append(checkpoints.due)
    checkpoints.save(lived(1), SETTINGS, {}, Progress(History(), 0.0, None))
    due.append(checkpoints.due)
    now[0] += 121
    due.append(checkpoints.due)
    checkpoints.postpone()
    assert [*due, checkpoints.due] == [False, True, False, True, False]


def test_a_disk_needs_room_for_three(monkeypatch):
    agent, checkpoints = lived(1), Checkpoints("saved", memory=True)
    learner = agent.learner
    variables = [*learner.brain.weights, *learner.target_brain.weights, *learner.optimizer.variables]
    size = sum(np.asarray(variable).nbytes for variable in variables)
    assert bytes_needed(agent) == size
    size += agent.memory_bytes
    assert bytes_needed(agent, memory=True) == size
    free = [3 * size]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[0]))
    assert checkpoints.check_space(agent) == size
    free[0] -= 1
    with pytest.raises(OSError, match="there are 3 for a moment"):
        checkpoints.check_space(agent)
    save(agent)
    assert checkpoints.check_space(agent) == size, "what is there already is overwritten"


def test_a_folder_is_whole_or_is_not_there():
    with pytest.raises(KeyboardInterrupt), written_whole(Path("saved/checkpoint_000001")) as folder:
        (folder / "file").write_text("half")
        raise KeyboardInterrupt
    assert list(Path("saved").iterdir()) == []
    names = ["checkpoint_000007", ".0123456789abcdef-checkpoint_000007", ".0123456789abcdef-something_else"]
    for name in [*names, ".fedcba9876543210-checkpoint_000008"]:
        Path("saved", name).mkdir()
    for name in names:
        os.utime(Path("saved", name), (1, 1))
    with written_whole(Path("saved/checkpoint_000009")) as folder:
        (folder / "file").write_text("whole")
    left = {path.name for path in Path("saved").iterdir()}
    assert left == {names[0], names[2], ".fedcba9876543210-checkpoint_000008", "checkpoint_000009"}
