"""Checkpoints: all that a training needs to go on, each in one file that is whole or is not used.

    breakout_checkpoints/
      log.csv                  what `callbacks.TrainingLog` writes; checkpoints know how long it was
      weights_000250000.h5     the weights alone after so many steps, if asked for; kept for good
      checkpoint_000041.npz    the one before, in case the newest is damaged
      checkpoint_000042.npz    arrays as NumPy writes them:
        progress                 JSON, as bytes: settings, counters, random generators, seconds, best score
        brain_0, target_0, …     weights, those of the target model, the optimizer's variables, in their order
        episodes, …              the history
        memory_state, …          the memory's arrays, if asked for

A file is written under another name first, synced to the disk and renamed: a process that is killed at any instant
leaves those before as they were. Files are data, nothing in them is executed: checksums are compared, then names,
dtypes and shapes with those that this training would write, and only then is all of it assigned, or none.
"""

import copy
import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from keras_dqn.checks import all_finite, check_integer, check_number
from keras_dqn.core.counting import Every
from keras_dqn.core.loop import TrainStep
from keras_dqn.files.atomic import atomic_write
from keras_dqn.training.callbacks import TrainingCallback, attempt
from keras_dqn.training.history import History

KEPT = 2  # checkpoints
GROWING = "progress", "episodes", "evaluations", "update_losses"  # arrays of any length
_NAME = re.compile(r"checkpoint_([0-9]{6,})\.npz")
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}-.+")  # as `atomic_write` names them


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another training; the message names it."""


class Checkpoints(TrainingCallback):
    """The checkpoints of one training: numbered files, of which the two newest are kept.

    Args:
        folder: where they go; a training makes it when missing.
        minutes: from one to the next; another is written when training ends or is interrupted.
        memory: whether the memory is saved too. Without it a training that goes on fills its memory anew first.
        weights_every: after every so many steps the weights alone are written, to files that are all kept: what they
            score, evaluated later, is the learning curve.
    """

    def __init__(
        self, folder: str | Path, minutes: float = 5.0, memory: bool = False, weights_every: int | None = None
    ):
        super().__init__()
        self.folder, self.memory = Path(folder), memory
        self.minutes = check_number("minutes", minutes, "a number, 0 or more", lambda number: number >= 0)
        self.weights_every = None if weights_every is None else check_integer("weights_every", weights_every)
        self.log = self.folder / "log.csv"
        self._last = time.monotonic()

    def paths(self) -> list[Path]:
        """The files of all checkpoints, the newest first; whether they are whole is only known when they are read."""
        files = [path for path in self.folder.glob("checkpoint_*") if _NAME.fullmatch(path.name) and path.is_file()]
        return sorted(files, key=_number, reverse=True)

    # ---------------------------------------------------------------- before a training

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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainings out of the folder, and remove what killed ones left half written there.

        Raises:
            CheckpointError: another training is at work in it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                with suppress(NotImplementedError):  # a file system without locks
                    held.enter_context(FileLock(self.folder / "training.lock", timeout=0))
            except Timeout as error:
                text = f"{self.folder}: another training writes its checkpoints there. Received: {error}"
                raise CheckpointError(text) from error
            for path in self.folder.iterdir():
                if _TEMPORARY.fullmatch(path.name) and path.is_file():
                    path.unlink()
            yield

    def restore(self, runner: Any) -> None:
        """Make a runner what it was at the newest checkpoint that can be used, and print what that is.

        One that is damaged or does not fit is not used: the one before is, and what is wrong with the newer is printed.

        Raises:
            CheckpointError: there is none that can be used; nothing is changed.
        """
        refused = {}
        for path in self.paths():
            try:
                log_bytes, remarks = _restore(path, runner)
            except Exception as error:  # whatever it is: nothing has been changed, and an older one may be whole
                reason = error if isinstance(error, CheckpointError) else f"cannot be used. Received: {error!r}"
                refused[path] = f"{path}: {reason}"[:1000]
                continue
            for other, reason in refused.items():
                print(f"Not used: {reason}")
                other.rename(other.with_suffix(".unused"))  # no whole one is pushed out by it
            if self.log.exists():  # rows of what will be made again go
                os.truncate(self.log, min(log_bytes, self.log.stat().st_size))
            agent, each = runner.agent, runner.frames_per_step
            steps = f"{agent.steps:,} steps" + (f" ({agent.steps * each:,} frames)" if each else "")
            print(f"Restored {path}: {steps}, {len(runner.history):,} episodes, {agent.learner.updates:,} updates")
            print(*remarks, f"The memory goes on with {len(agent.memory):,} steps", sep="\n")
            return
        reason = next(iter(refused.values()), f"there is none. Received: {self.folder}")
        raise CheckpointError(f"No checkpoint in {self.folder} can be gone on from; the newest: {reason}")

    # ---------------------------------------------------------------- during one

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._weights_due = Every(self.weights_every or math.inf, self.training.steps)

    def on_step(self, step: TrainStep) -> None:
        if self._weights_due(step.steps):
            with attempt("A file of weights"):
                self.training.agent.save_model(self.folder / f"weights_{step.steps:09d}.h5")
        if self.due:
            with attempt("The checkpoint"):
                self.save(self.training.runner)

    @property
    def due(self) -> bool:
        """Whether it is time for the next one: so long after the last was begun."""
        return time.monotonic() - self._last >= 60 * self.minutes

    def save(self, runner: Any) -> None:
        """Write the next checkpoint of a runner, and remove those before the last two.

        Raises:
            OSError: it cannot be written; those before are as they were.
        """
        self._last = time.monotonic()
        paths = self.paths()
        path = self.folder / f"checkpoint_{_number(paths[0]) + 1 if paths else 1:06d}.npz"
        arrays = _content(runner, self.log.stat().st_size if self.log.exists() else 0)
        if self.memory:
            arrays |= {f"memory_{name}": array for name, array in runner.agent.memory.snapshot().items()}
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        for old in paths[KEPT - 1 :]:
            old.unlink()


def _number(path):
    return int(_NAME.fullmatch(path.name)[1])


# ---------------------------------------------------------------- what is in a file


def _state(runner):
    """All that a checkpoint changes of a runner: what JSON holds, the learner's arrays, the history, the memory."""
    agent = runner.agent
    plain = {
        "counters": agent.counters(),
        "generators": {name: generator.bit_generator.state for name, generator in runner.generators.items()},
        "statistics": None if agent.statistics is None else agent.statistics.tolist(),
        "best_score": runner.best_score,
        "seconds": runner.seconds,
    }
    return plain, agent.learner.snapshot(), runner.history, agent.memory


def _assign(runner, plain, learner, history, memory):
    """Make a runner what it was in that state."""
    agent, best = runner.agent, plain["best_score"]
    agent.learner.restore(learner)
    agent.restore_counters(plain["counters"])
    agent.statistics = plain["statistics"]
    for name, generator in runner.generators.items():
        generator.bit_generator.state = plain["generators"][name]
    runner.best_score, runner.seconds = None if best is None else float(best), float(plain["seconds"])
    runner.history, agent.memory = history, memory


def _content(runner, log_bytes=0):
    """{name: array} of all that a checkpoint holds but the memory."""
    plain, learner, history, _ = _state(runner)
    text = json.dumps({**plain, "settings": runner.settings, "log_bytes": log_bytes})
    arrays = {f"{part}_{i}": array for part, arrays in learner.items() for i, array in enumerate(arrays)}
    return {"progress": np.frombuffer(text.encode(), np.uint8), **arrays, **history.snapshot()}


def _read(path, own):
    """{name: array} of a file, in no more room than it takes on the disk; what `own` has must be of its dtypes, shapes.

    Raises whatever tells why it cannot be used.
    """
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        if sum(member.file_size for member in file.zip.infolist()) > path.stat().st_size or file.zip.testzip():
            raise CheckpointError(f"expected arrays that are whole, and not compressed. Received: {file.files[:9]}")
        arrays = dict(file)
    if others := own.keys() ^ {name for name in arrays if not name.startswith("memory_")}:
        raise CheckpointError(f"expected the arrays of this training. Received: others in {sorted(others)}")
    for name, expected in own.items():
        array = arrays[name]
        if _layout(name, array) != _layout(name, expected):
            wanted = f"expected {expected.dtype} of shape {expected.shape}"
            raise CheckpointError(f"{name}: {wanted}. Received: {array.dtype}, {array.shape}")
        same = array.dtype.kind == "i"  # Keras counts in int64 on TensorFlow, and in int32 elsewhere
        arrays[name] = array.astype(expected.dtype) if same else array.view(expected.dtype)
    for name, array in arrays.items():
        if name != "episodes" and not all_finite(array):
            raise CheckpointError(f"{name}: expected finite numbers. Received: {array.min()} to {array.max()}")
    return arrays


def _layout(name, array):
    """The dtype, as NumPy saves it, bfloat16 as bytes, int of any size, and the shape, but the length of what grows."""
    dtype = "i" if array.dtype.kind == "i" else np.dtype(array.dtype.str)
    return dtype, array.shape[name in GROWING :]


def _restore(path, runner):
    """Assign all that a file holds, or nothing; returns the bytes of the log then, and lines to print."""
    before = _, learner, _, memory = _state(runner)
    arrays = _read(path, _content(runner))
    plain = json.loads(arrays["progress"].tobytes())
    remarks, log_bytes = _differences(plain["settings"], runner.settings), check_integer("log", plain["log_bytes"], 0)
    learner = {part: [arrays[f"{part}_{i}"] for i in range(len(own))] for part, own in learner.items()}
    saved = {name.removeprefix("memory_"): array for name, array in arrays.items() if name.startswith("memory_")}
    if saved:
        memory = copy.copy(memory)  # `restore` gives it arrays of its own
        memory.restore(saved, runner.agent.state_shape)
    try:
        _assign(runner, plain, learner, History.restored(arrays), memory)
    except BaseException:
        _assign(runner, *before)
        raise
    return log_bytes, remarks


def _differences(saved, settings):
    """Lines that say which settings are not the checkpoint's; a CheckpointError for another game or recipe."""
    for name in ("game", "recipe"):
        if saved[name] != settings[name]:
            received = f"of this one. Received: {settings[name]!r}"
            raise CheckpointError(f"a checkpoint of {name} {saved[name]!r}, not {received}")
    names = [name for name in sorted({*saved, *settings}) if saved.get(name) != settings.get(name)]
    return [f"`{name}` was {saved.get(name)!r} and is {settings.get(name)!r} now" for name in names]
