"""What is in a checkpoint: the files of a training, and what is expected of each before any of it is used.

`read_training` reads all of them and changes nothing; `SavedTraining.assign` then changes all that they say, or, should
even that be interrupted, nothing.
"""

import copy
import json
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_dqn.core.memory.frames import RINGS, FrameMemory
from keras_dqn.core.transition import Transition
from keras_dqn.expected import (
    Array,
    Flag,
    GeneratorState,
    ListOf,
    Number,
    Optional,
    Unexpected,
    check,
    check_values,
    declared,
    opened,
    read_json,
    shortened,
)
from keras_dqn.files.weights import read_weights, save_weights
from keras_dqn.training.history import Evaluated, History
from keras_dqn.training.renamed import same_recipe

if TYPE_CHECKING:
    from keras_dqn.core.agent import Agent
    from keras_dqn.training.checkpoint import Progress

REQUIRED = {"brain.h5", "optimizer.npz", "state.json", "settings.json", "history.csv", "update_losses.npy"}
_JSON = 2**24  # bytes of a file of JSON, at most
_WHOLE, _FINITE, _SECONDS = Number(int, 0, 2**62), Number(), Number(float, 0)


class SavedTraining(NamedTuple):
    """A checkpoint that was read and is what was expected; nothing is changed yet."""

    changes: list  # [(function that assigns, the new value, the one until now)]
    history: History
    seconds: float
    best_score: float | None
    different: list  # lines that say which settings are not those of the checkpoint

    def assign(self) -> None:
        """Make everything what it was; if that is interrupted, nothing."""
        made = []
        try:
            for assign, new, old in self.changes:
                made.append((assign, old))
                assign(new)
        except BaseException:
            for assign, old in reversed(made):
                assign(old)
            raise

    def remarks(self, agent: "Agent") -> list[str]:
        """Lines to print about what goes on, and how."""
        memory = f"The memory goes on with {len(agent.memory):,} steps"
        if not len(agent.memory):
            steps = max(agent.settings.memory.learning_starts, agent.sample_batch_size)
            memory = f"No memory was saved: {steps:,} steps are played before learning goes on"
        return [*self.different, memory]


# ---------------------------------------------------------------- writing


def write_training(
    folder: Path,
    agent: "Agent",
    settings: dict[str, Any],
    generators: dict[str, np.random.Generator],
    progress: "Progress",
    memory: bool,
) -> None:
    """Write the files of a checkpoint, all but its manifest; arguments as `Checkpoints.save` has them."""
    save_weights(agent.brain, folder / "brain.h5")
    np.savez(folder / "target.npz", *map(np.asarray, agent.learner.variables["target"]))
    np.savez(folder / "optimizer.npz", *map(np.asarray, agent.learner.optimizer.variables))
    if memory:
        for name, array in agent.memory.snapshot().items():
            np.save(folder / f"memory_{name}.npy", array)
    np.save(folder / "update_losses.npy", progress.history.update_losses)
    progress.history.save(folder / "history.csv")
    state = {
        "counters": agent.counters(),
        "generators": {name: generator.bit_generator.state for name, generator in generators.items()},
        "seconds": progress.seconds,
        "best_score": progress.best_score,
        "evaluations": progress.history.evaluations,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=1))
    (folder / "settings.json").write_text(json.dumps(settings, indent=1))


# ---------------------------------------------------------------- reading


def read_training(
    path: Path,
    names: Iterable[str],
    agent: "Agent",
    settings: dict[str, Any],
    generators: dict[str, np.random.Generator],
) -> SavedTraining:
    """Read all of a checkpoint and compare it with what is expected of this training; nothing is changed.

    Args:
        path: its folder.
        names: of the files in it that its manifest vouches for; others are not looked at.
        agent, settings, generators: as `Checkpoints.restore` has them, all generators in one dict.

    Returns:
        A `SavedTraining`.

    Raises:
        ValueError, OSError and whatever else reading raises: something in it is not as expected.
    """
    different = _differences(path / "settings.json", settings)
    file, learner = path / "state.json", agent.learner
    state = check(read_json(file, _JSON), _state_description(agent, generators), str(file))
    changes = [(learner.restore, _read_learner(path, learner), learner.snapshot())]
    memory_names = {name for name in names if name.startswith("memory_")}
    if memory_names:
        changes.append(_replacing(agent.memory, _read_memory(path, memory_names, agent)))
    _check_rate(state["counters"], agent.settings.exploration.exploration, file)
    changes.append((agent.restore_counters, state["counters"], agent.counters()))
    for name, generator in generators.items():
        changes.append((_set_state(generator), state["generators"][name], generator.bit_generator.state))
    history = _read_history(path, state["evaluations"])
    return SavedTraining(changes, history, state["seconds"], state["best_score"], different)


def _state_description(agent, generators):
    """What is expected of state.json."""
    counters = {**dict.fromkeys(("steps", "episodes", "updates"), _WHOLE), "exploration_rate": _FINITE, "waits": Flag()}
    counters["settled"] = Optional(Flag())  # checkpoints of 0.1.0 have none
    return {
        "counters": counters,
        "generators": {name: GeneratorState(generator) for name, generator in generators.items()},
        "seconds": _SECONDS,
        "best_score": Optional(_FINITE),
        "evaluations": ListOf((_WHOLE, _FINITE, _SECONDS)),
    }


def _check_rate(counters, schedule, file):
    """Raise `Unexpected` unless epsilon is from 0 to 1, or what a schedule of somebody's own says beyond that."""
    rate = counters["exploration_rate"]
    if not 0 <= rate <= 1 and (schedule is None or rate != schedule(counters["steps"])):
        raise Unexpected(f"{file}: counters: exploration_rate: expected a number from 0 to 1. Received: {rate}")


def _differences(file, settings):
    """Lines that say which settings are not those of the checkpoint; `Unexpected` for another game or recipe."""
    saved = read_json(file, _JSON)
    if not isinstance(saved, dict):
        raise Unexpected(f"{file}: expected settings by name. Received: {shortened(saved)}")
    if same_recipe(saved.get("recipe"), settings.get("recipe")):
        saved["recipe"] = settings.get("recipe")
    for name in ("game", "recipe"):
        if saved.get(name) != settings.get(name):
            received = f"of this one. Received: {settings.get(name)!r}"
            raise Unexpected(f"{file}: a checkpoint of {name} {shortened(saved.get(name))}, not {received}")
    names = [name for name in sorted({*saved, *settings}) if saved.get(name) != settings.get(name)]
    return [f"`{shortened(n)[1:-1]}` was {shortened(saved.get(n))} and is {settings.get(n)!r} now" for n in names]


def _read_learner(path, learner):
    """What `Learner.snapshot` gave, from the files."""
    with np.load(path / "target.npz") as saved:
        target = [saved[f"arr_{i}"] for i in range(len(learner.variables["target"]))]
    return {
        "brain": read_weights(learner.brain, path / "brain.h5"),
        "target": target,
        "optimizer": _read_optimizer(path / "optimizer.npz", learner.optimizer),
    }


def _read_optimizer(path, optimizer):
    """The arrays of the optimizer's variables; `Unexpected` where they are of another one."""
    expected = [(tuple(variable.shape), np.asarray(variable).dtype) for variable in optimizer.variables]
    most = sum(math.prod(shape) * dtype.itemsize + 1000 for shape, dtype in expected) + 1000
    arrays = []
    with opened(path) as file, zipfile.ZipFile(file) as saved:
        files = saved.infolist()
        plain = all(info.compress_type == zipfile.ZIP_STORED and info.file_size <= most for info in files)
        if plain and [info.filename for info in files] == [f"arr_{i}.npy" for i in range(len(expected))]:
            for info, variable in zip(files, optimizer.variables, strict=True):
                with saved.open(info) as content:
                    place = f"{path}: {variable.path}"
                    shape, dtype = declared(content, place, info.file_size)
                    array = np.frombuffer(content.read(), dtype).reshape(shape)
                    # mean squares, and what counts or scales; any of them below 0 makes the next weights NaN
                    positive = variable.name.endswith(("velocity", "velocity_hat", "iteration", "learning_rate"))
                    check_values(array, place, 0 if positive else -math.inf)
                    arrays.append(array)
    if [(array.shape, array.dtype) for array in arrays] != expected:
        raise Unexpected(
            f"{path}: expected the {len(expected)} variables of {type(optimizer).__name__} for this network, not "
            f"compressed. Received: {len(files)}, {[info.file_size for info in files][:9]} bytes …"
        )
    return arrays


def _read_history(path, evaluations):
    """The `History` in the folder of a checkpoint."""
    with opened(path / "history.csv"):  # a regular file
        history = History.load(path / "history.csv")
    if any(episode.length < 1 or episode.time < 0 for episode in history):
        lengths = shortened(sorted(history.lengths.tolist()))
        raise Unexpected(f"{path / 'history.csv'}: expected episodes of 1 step or more. Received: {lengths}")
    history.evaluations = [Evaluated(*evaluation) for evaluation in evaluations]
    file = path / "update_losses.npy"
    with opened(file) as content:
        shape, dtype = declared(content, file, file.stat().st_size)
        if len(shape) != 1 or dtype != np.float32:
            raise Unexpected(f"{file}: expected a list of float32. Received: {dtype}, {shape}")
        losses = np.frombuffer(content.read(), dtype)
    check_values(losses, file)
    history.add_losses(losses)
    return history


def _read_memory(path, names, agent):
    """A memory like the agent's that holds what was saved, of its random generator as well.

    Args:
        names: of the files.
    """
    arrays = {}
    for name in sorted(names):
        with opened(path / name) as file:
            shape, dtype = declared(file, path / name, (path / name).stat().st_size)
            # mapped, not read: it is copied once, into the memory
            array = np.memmap(file, dtype, "r", file.tell(), shape) if math.prod(shape) else np.zeros(shape, dtype)
            arrays[name.removeprefix("memory_").removesuffix(".npy")] = array
    describe = _DESCRIPTIONS.get(type(agent.memory), _transitions_description)
    description = describe(agent, arrays)
    if arrays.keys() != description.keys():
        raise Unexpected(f"{path}: expected the memory's {sorted(description)}. Received: {sorted(arrays)}")
    for name, (shape, dtype, *_) in description.items():
        if (arrays[name].shape, arrays[name].dtype) != (shape, dtype):
            received = f"{arrays[name].dtype}, {arrays[name].shape}"
            raise Unexpected(f"{path / f'memory_{name}.npy'}: expected {dtype} of shape {shape}. Received: {received}")
    memory = copy.copy(agent.memory)  # `restore` gives it arrays of its own
    try:
        memory.restore(arrays, agent.state_shape)
    except ValueError as error:
        raise Unexpected(f"{path}: {error}") from error
    for name, array in memory.snapshot().items():  # those that are used from now on
        check_values(array, path / f"memory_{name}.npy", *description[name][2:])
    return memory


def _transitions_description(agent, arrays):
    """What is expected of the arrays of a `ReplayMemory`, {name: `Array`}."""
    size = len(arrays["action"]) if np.ndim(arrays.get("action")) else 0
    state = Array((size, *agent.state_shape), _state_dtype(arrays.get("state")))
    action_mask = (
        {"action_mask": Array((size, agent.action_size), np.dtype(bool), 0, 1)} if "action_mask" in arrays else {}
    )
    return {
        **dict.fromkeys(Transition._fields, state),
        **action_mask,
        "action": Array((size,), np.dtype(int), 0, agent.action_size - 1),
        "reward": Array((size,), np.dtype(np.float32)),
        "discount": Array((size,), np.dtype(np.float32), 0, 1),
        "next_row": Array((), np.dtype(int), 0, agent.memory.capacity - 1),
    }


def _frames_description(agent, arrays):
    """What is expected of the arrays of a `FrameMemory`, {name: `Array`}."""
    games, filled = np.shape(arrays.get("frames"))[:2] if np.ndim(arrays.get("frames")) > 1 else (0, 0)
    stack, *frame_shape = agent.state_shape
    ring = {name: Array((games, filled), np.dtype(np.uint8), 0, stack - 1) for name in RINGS}
    return {
        **ring,
        "frames": Array((games, filled, *frame_shape), _state_dtype(arrays.get("frames"))),
        "actions": Array((games, filled), np.dtype(np.int32), 0, agent.action_size - 1),
        "rewards": Array((games, filled), np.dtype(np.float32)),
        "terminal": Array((games, filled), np.dtype(bool), 0, 1),
        "kinds": Array((games, filled), np.dtype(np.uint8), 0, 2),
        "written": Array((games,), np.dtype(int), 0, 2**62),
        "age": Array((games,), np.dtype(int), 0, stack - 1),
        "layout": Array((2,), np.dtype(int), 1),
    }


_DESCRIPTIONS = {FrameMemory: _frames_description}


def _state_dtype(array):
    """The dtype of the saved states, if they are numbers."""
    return array.dtype if array is not None and array.dtype.kind in "fiu" else np.dtype(np.float32)


def _replacing(one, other):
    """The change that makes an object what another of its class is."""
    return vars(one).update, dict(vars(other)), dict(vars(one))


def _set_state(generator):
    def assign(state):
        generator.bit_generator.state = state

    return assign
