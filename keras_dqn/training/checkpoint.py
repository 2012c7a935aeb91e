"""Checkpoints: all that a training needs to go on, each in one file that is whole or is not used.

    breakout_checkpoints/
      log.csv                  what `callbacks.TrainingLog` writes; part of no checkpoint
      weights_000250000.h5     the weights alone after so many steps, if asked for; kept for good
      checkpoint_000041.npz    the one before, in case the newest is damaged
      checkpoint_000042.npz    arrays as NumPy writes them:
        progress                 JSON, as bytes: settings, counters, random generators, evaluations
        brain_0, target_0, …     weights, those of the target model, the optimizer's variables, in their order
        episodes, update_losses  the history
        memory_state, …          the memory's arrays, if asked for

A file is written under another name first, synced to the disk and renamed: a process that is killed at any instant
leaves those before as they were. Files are data, nothing in them is executed: what a file declares is compared with
what is expected before its arrays are read, the zip's checksums as they are, and only then is all of it assigned.
"""

import copy
import errno
import json
import math
import re
import shutil
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from keras_dqn.checks import all_finite, check_integer
from keras_dqn.core.counting import Every
from keras_dqn.core.episode_stats import Episode
from keras_dqn.files.atomic import atomic_write
from keras_dqn.files.weights import save_weights
from keras_dqn.training.callbacks import Attempts, TrainingCallback
from keras_dqn.training.history import Evaluated, History

if TYPE_CHECKING:
    from keras_dqn.core.agent import Agent
    from keras_dqn.core.loop import TrainStep

KEPT = 2  # checkpoints
_NAME = re.compile(r"checkpoint_([0-9]{6,})\.npz")
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}-.+")  # as `atomic_write` names them


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another training; the message names it."""


class Progress(NamedTuple):
    """How far a training has come, beside what its agent knows."""

    history: History
    seconds: float  # of training, all its parts together
    best_score: float | None  # of the best evaluation so far


class Checkpoints:
    """The checkpoints of one training: numbered files, of which the two newest are kept.

    Args:
        folder: where they go; it is made when missing.
        minutes: how long after the last one the next is `due`.
        memory: whether the memory is saved too. Without it a training that goes on fills its memory anew first.
        weights_every: after every so many steps the weights alone are written, to files that are all kept: what they
            score, evaluated later, is the learning curve.

    Raises:
        ValueError: `minutes` is negative, or `weights_every` no whole number from 1 on.
    """

    def __init__(
        self, folder: str | Path, minutes: float = 5.0, memory: bool = False, weights_every: int | None = None
    ):
        if not isinstance(minutes, int | float) or not minutes >= 0:
            raise ValueError(f"`minutes` must be a number, 0 or more. Received: {minutes!r}")
        self.folder, self.minutes, self.memory = Path(folder), minutes, memory
        self.weights_every = None if weights_every is None else check_integer("weights_every", weights_every)
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for the next one: so long after the last was begun."""
        return time.monotonic() - self._last >= 60 * self.minutes

    def paths(self) -> list[Path]:
        """The files of all checkpoints, the newest first; whether they are whole is only known when they are read."""
        files = [path for path in self.folder.glob("checkpoint_*") if _NAME.fullmatch(path.name) and path.is_file()]
        return sorted(files, key=_number, reverse=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainings out of the folder, and remove what killed ones left half written there.

        Raises:
            CheckpointError: another training is at work in it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "training.lock", timeout=0)
        try:
            with suppress(NotImplementedError):  # a file system without locks
                lock.acquire()
        except Timeout as error:
            text = f"{self.folder}: another training writes its checkpoints there. Received: {error}"
            raise CheckpointError(text) from error
        try:
            for path in self.folder.iterdir():
                if _TEMPORARY.fullmatch(path.name) and path.is_file():
                    path.unlink()
            yield
        finally:
            lock.release()

    def check_begun(self, resume: bool) -> None:
        """Raise a CheckpointError where there is none to resume from, or some that a new training would push out."""
        paths = self.paths()
        if resume and not paths:
            raise CheckpointError(f"There is no checkpoint to go on from in this folder. Received: {self.folder}")
        if paths and not resume:
            raise CheckpointError(
                f"{self.folder} holds the checkpoints of a training: go on with it (`resume=True`, --resume), name "
                f"another folder (`checkpoints`, --checkpoints), or move it away. Received: {paths[0]}"
            )

    def check_space(self, agent: "Agent") -> int:
        """Raise an OSError if the disk has no room for a third checkpoint beside two; return the bytes of one."""
        size = bytes_needed(agent, self.memory)
        free = shutil.disk_usage(self.folder).free + sum(path.stat().st_size for path in self.paths())
        if free < (KEPT + 1) * size:
            raise OSError(
                errno.ENOSPC,
                f"A checkpoint takes {size / 1e9:.2f} GB, and there are {KEPT + 1} for a moment. "
                f"Received: {free / 1e9:.2f} GB free",
                str(self.folder),
            )
        return size

    def save(
        self, agent: "Agent", settings: dict[str, Any], generators: dict[str, np.random.Generator], progress: Progress
    ) -> Path:
        """Write the next checkpoint and remove those before the last two; return its file.

        Args:
            agent: a Keras `Agent`.
            settings: a dict of plain values that say what is trained; "game" and "recipe" must agree on resuming.
            generators: a dict of the `np.random.Generator`s that are not the agent's.
            progress: a `Progress`.

        Raises:
            OSError: it cannot be written; those before are as they were.
        """
        self._last = time.monotonic()
        paths = self.paths()
        path = self.folder / f"checkpoint_{_number(paths[0]) + 1 if paths else 1:06d}.npz"
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **_content(agent, settings, {**agent.generators, **generators}, progress, self.memory))
        for old in paths[KEPT - 1 :]:
            old.unlink()
        return path

    def save_weights(self, agent: "Agent") -> Path:
        """Write the weights alone, named after the agent's steps; return the file."""
        path = self.folder / f"weights_{agent.steps:09d}.h5"
        save_weights(agent.brain, path)
        return path

    def restore(
        self, agent: "Agent", settings: dict[str, Any], generators: dict[str, np.random.Generator]
    ) -> tuple[Path, Progress, list[str]]:
        """Make the agent and the generators what they were in the newest checkpoint that can be used.

        One that is damaged or does not fit is not used: the one before is, and what is wrong with the newer is printed.

        Args:
            agent, settings, generators: as `save` takes them.

        Returns:
            Its file, the `Progress`, and lines to print: which settings differ, and what goes on.

        Raises:
            CheckpointError: there is none that can be used; nothing is changed.
        """
        refused = {}
        for path in self.paths():
            try:
                progress, remarks = _restore(path, agent, settings, {**agent.generators, **generators})
            except Exception as error:  # whatever it is: nothing has been changed, and an older one may be whole
                reason = str(error)[:1000]
                refused[path] = reason if str(path) in reason else f"{path}: cannot be read. Received: {reason}"
            else:
                for other, reason in refused.items():
                    print(f"Not used: {reason}")
                    other.rename(other.with_suffix(".unused"))  # no whole one is pushed out by it
                return path, progress, remarks
        reason = next(iter(refused.values()), f"there is none. Received: {self.folder}")
        raise CheckpointError(f"No checkpoint in {self.folder} can be gone on from; the newest: {reason}")


def _number(path):
    return int(_NAME.fullmatch(path.name)[1])


def bytes_needed(agent: "Agent", memory: bool = False) -> int:
    """How many bytes a checkpoint of an agent takes, a full memory included if asked for; without its history."""
    size = sum(array.nbytes for arrays in agent.learner.snapshot().values() for array in arrays)
    return size + (agent.memory_bytes if memory else 0)


# ---------------------------------------------------------------- what is in a file


def _content(agent, settings, generators, progress, memory):
    """{name: array} of all that a checkpoint holds."""
    plain = {
        "settings": settings,
        "counters": agent.counters(),
        "generators": {name: generator.bit_generator.state for name, generator in generators.items()},
        "evaluations": progress.history.evaluations,
        "seconds": progress.seconds,
        "best_score": progress.best_score,
    }
    return {
        "progress": np.frombuffer(json.dumps(plain).encode(), np.uint8),
        "episodes": np.array(progress.history, float).reshape(-1, len(Episode._fields)),
        "update_losses": progress.history.update_losses,
        **_named(agent.learner.snapshot()),
        **({f"memory_{name}": array for name, array in agent.memory.snapshot().items()} if memory else {}),
    }


def _named(snapshot):
    """{"brain_0": array} of a learner's {"brain": [array]}."""
    return {f"{part}_{i}": array for part, arrays in snapshot.items() for i, array in enumerate(arrays)}


def _restore(path, agent, settings, generators):
    """Assign all that a file holds, or nothing: the `Progress`, and lines to print."""
    now = agent.learner.snapshot()
    arrays = _read(path, _named(now))
    saved = json.loads(arrays["progress"].tobytes())
    different = _differences(path, saved["settings"], settings)
    part = {name: [arrays[f"{name}_{i}"] for i in range(len(own))] for name, own in now.items()}
    changes = [(agent.learner.restore, part, now), (agent.restore_counters, saved["counters"], agent.counters())]
    for name, generator in generators.items():
        assign = partial(setattr, generator.bit_generator, "state")
        changes.append((assign, saved["generators"][name], generator.bit_generator.state))
    memory = {name.removeprefix("memory_"): array for name, array in arrays.items() if name.startswith("memory_")}
    if memory:
        filled = copy.copy(agent.memory)  # `restore` gives it arrays of its own
        filled.restore(memory, agent.state_shape)
        changes.append((vars(agent.memory).update, dict(vars(filled)), dict(vars(agent.memory))))
    history = History(Episode(score, int(length), *rest) for score, length, *rest in arrays["episodes"].tolist())
    history.add_losses(arrays["update_losses"])
    history.evaluations = [Evaluated(int(steps), float(score), float(s)) for steps, score, s in saved["evaluations"]]
    best = saved["best_score"]
    progress = Progress(history, float(saved["seconds"]), None if best is None else float(best))
    _assign(changes)
    if memory:
        return progress, [*different, f"The memory goes on with {len(agent.memory):,} steps"]
    steps = max(agent.settings.memory.learning_starts, agent.sample_batch_size)
    return progress, [*different, f"No memory was saved: {steps:,} steps are played before learning goes on"]


def _read(path, own):
    """{name: array} of a file, read once all that it declares is as expected.

    Args:
        own: {name: array} of those whose names, shapes and dtypes must be the same.

    Raises:
        CheckpointError: it is of something else, or declares more than there is in it.
    """
    expected = {name: (array.shape, np.dtype(array.dtype.str)) for name, array in own.items()}  # bfloat16 as bytes
    expected |= {"progress": ((None,), np.uint8), "episodes": ((None, 5), float), "update_losses": ((None,), "float32")}
    with zipfile.ZipFile(path) as file:
        members = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
        if sum(info.file_size for info in members.values()) > path.stat().st_size:
            raise CheckpointError(f"{path}: expected arrays that are not compressed. Received: {sorted(members)[:9]}")
        others = expected.keys() ^ {name for name in members if not name.startswith("memory_")}
        if others:
            raise CheckpointError(f"{path}: expected the arrays of this training. Received: others in {sorted(others)}")
        for name, info in members.items():
            _check_declared(file, info, f"{path}: {name}", *expected.get(name, (None, None)))
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in members}
    for name, array in arrays.items():
        if name != "episodes" and array.dtype.kind == "f" and not all_finite(array):
            raise CheckpointError(f"{path}: {name}: expected finite numbers. Received: {array.min()} to {array.max()}")
    return arrays | {name: arrays[name].view(array.dtype) for name, array in own.items()}


def _check_declared(file, info, place, shape, dtype):
    """Raise a CheckpointError unless a member of a zip declares an array that is expected, and has just its bytes."""
    with file.open(info) as member:
        np.lib.format.read_magic(member)
        declared, _, kind = np.lib.format.read_array_header_1_0(member)
        size = member.tell() + kind.itemsize * math.prod(declared)
    fits = shape is None or (len(declared) == len(shape) and all(map(_is_length, declared, shape)) and kind == dtype)
    if kind.hasobject or size != info.file_size or not fits:
        raise CheckpointError(f"{place}: expected {dtype} of shape {shape}. Received: {kind}, {declared}")


def _is_length(length, expected):
    return expected is None or length == expected


def _differences(path, saved, settings):
    """Lines that say which settings are not the checkpoint's; a CheckpointError for another game or recipe."""
    for name in ("game", "recipe"):
        if saved[name] != settings[name]:
            received = f"of this one. Received: {settings[name]!r}"
            raise CheckpointError(f"{path}: a checkpoint of {name} {saved[name]!r}, not {received}")
    names = [name for name in sorted({*saved, *settings}) if saved.get(name) != settings.get(name)]
    return [f"`{name}` was {saved.get(name)!r} and is {settings.get(name)!r} now" for name in names]


def _assign(changes):
    """Make all of the changes, (function, new value, old value) each; or, if one fails or is interrupted, none."""
    made = []
    try:
        for assign, new, old in changes:
            made.append((assign, old))
            assign(new)
    except BaseException:
        for assign, old in reversed(made):
            assign(old)
        raise


# ---------------------------------------------------------------- in a training


class SaveCheckpoints(TrainingCallback):
    """Goes on from the newest checkpoint if asked to, writes one when it is due, and the last at the training's end.

    Args:
        runner: whose training it is.
        checkpoints: a `Checkpoints`, or the folder for one.

    Attributes:
        seconds: of training before this part of it.

    Raises:
        ValueError: the agent's brain is no Keras model.
    """

    def __init__(self, runner: Any, checkpoints: Any):
        if not hasattr(runner.agent.brain, "weights"):
            raise ValueError(f"Checkpoints are of agents with a Keras brain. Received: {type(runner.agent).__name__}")
        super().__init__()
        self.checkpoints = checkpoints if isinstance(checkpoints, Checkpoints) else Checkpoints(checkpoints)
        self._runner, self.seconds, self._attempts = runner, 0.0, Attempts("The checkpoint")

    def begin(self, resume: bool) -> None:
        """See that there is room for checkpoints; where it resumes, go on from the newest, and say so.

        Raises:
            CheckpointError: it cannot be gone on from.
            OSError: there is no room.
        """
        checkpoints, runner, agent = self.checkpoints, self._runner, self._runner.agent
        size = checkpoints.check_space(agent)
        if checkpoints.memory:
            there = f"there are up to {KEPT + 1}"
            print(
                f"Each checkpoint in {checkpoints.folder} takes {size / 1e6:,.0f} MB once the memory is full; {there}"
            )
        if not resume:
            return
        path, progress, remarks = checkpoints.restore(agent, runner.settings, runner.generators)
        runner.history, self.seconds, runner.best_score = history, *_ = progress
        frames = "" if runner.frames_per_step is None else f" ({agent.steps * runner.frames_per_step:,} frames)"
        print(
            f"Restored {path}: {agent.steps:,} steps{frames}, {len(history):,} episodes, "
            f"{agent.learner.updates:,} updates, epsilon {agent.exploration_rate:.3f}, "
            f"mean score of the last {min(len(history), 100)}: {history.mean_score():.1f}"
        )
        print(*remarks, sep="\n")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        every = self.checkpoints.weights_every
        self._weights_due = (lambda steps: 0) if every is None else Every(every, self.training.steps)

    def on_step(self, step: "TrainStep") -> None:
        if self._weights_due(step.steps):
            with self._attempts:
                self.checkpoints.save_weights(self._runner.agent)
        if self.checkpoints.due:
            with self._attempts:
                self._save()

    def close(self, error: type | None) -> None:
        if error is None or issubclass(error, KeyboardInterrupt):  # after any other a step may be half done
            self._save()

    def _save(self):
        runner = self._runner
        progress = Progress(runner.history, self.training.seconds, runner.best_score)
        self.checkpoints.save(runner.agent, runner.settings, runner.generators, progress)
