"""Checkpoints: all that a training needs to go on, in folders that are whole or are not looked at.

    breakout_checkpoints/
      log.csv                 of `training_log`, not part of any checkpoint
      weights_000250000.h5    the weights alone after so many steps, if asked for; kept for good
      checkpoint_000041/      the one before, in case the newest is damaged
      checkpoint_000042/
        brain.h5              the weights, as `save_weights` writes them
        target.h5             those of the target model, if there is one
        optimizer.npz         the optimizer's variables, in its order
        state.json            counters, random generators, evaluations
        settings.json         game, recipe and every plain option
        history.csv           one line an episode
        update_losses.npy     one number an update
        memory_*.npy          the memory's arrays, if asked for
        manifest.json         size and sha256 of each file above; written last

A checkpoint is written into a folder with another name, each file is synced to the disk, and then it is renamed: a
process that is killed at any instant leaves the checkpoints before as they were. Everything is read as data, nothing of
it is executed.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_dqn.checks import check_whole
from keras_dqn.history import Evaluated, History
from keras_dqn.weights import ABANDONED_AFTER, read_weights, save_weights

KEPT = 2  # checkpoints
NAME = re.compile(r"checkpoint_(\d{6,})")
MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another training; the message names its folder."""


class Progress(NamedTuple):
    """How far a training has come, beside what its agent knows."""

    history: History
    seconds: float  # of training, all its parts together
    best_score: float | None  # of the best evaluation so far


class Checkpoints:
    """The checkpoints of one training: numbered folders, of which the two newest are kept.

    Args:
        folder: where they go; it is made when missing.
        minutes: how long after the last one the next is `due`.
        memory: whether the memory is saved too. Without it a training that goes on fills its memory anew first.
        weights_every: after every so many steps the weights alone are written, to files that are all kept: what they
            score, evaluated later, is the learning curve.

    Raises:
        ValueError: `minutes` is negative, or `weights_every` no whole number from 1 on.
    """

    def __init__(self, folder, minutes=5.0, memory=False, weights_every=None):
        if not isinstance(minutes, int | float) or not minutes >= 0:
            raise ValueError(f"`minutes` must be a number, 0 or more. Received: {minutes!r}")
        self.folder, self.minutes, self.memory = Path(folder), minutes, memory
        self.weights_every = None if weights_every is None else check_whole("weights_every", weights_every)
        self._last = time.monotonic()

    @property
    def due(self):
        """Whether it is time for the next one."""
        return time.monotonic() - self._last >= 60 * self.minutes

    def postpone(self):
        """Wait as long for the next one as if one had been written now."""
        self._last = time.monotonic()

    def paths(self):
        """The folders of all checkpoints, the newest first; whether they are whole, `newest` knows."""
        if not self.folder.exists():
            return []
        named = {int(match[1]): path for path in self.folder.iterdir() if (match := NAME.fullmatch(path.name))}
        return [named[number] for number in sorted(named, reverse=True)]

    def check_unused(self):
        """Raise a CheckpointError if there are checkpoints already, which a training from the start would push out."""
        if paths := self.paths():
            raise CheckpointError(
                f"{self.folder} holds the checkpoints of a training: go on with it (`resume=True`, --resume), name "
                f"another folder (`checkpoints`, --checkpoints), or move it away. Received: {paths[0]}"
            )

    def check_space(self, agent):
        """Raise an OSError if the disk has no room for a third checkpoint beside two; return the bytes of one."""
        size = bytes_needed(agent, self.memory)
        self.folder.mkdir(parents=True, exist_ok=True)
        here = sum(file.stat().st_size for path in self.paths() for file in path.iterdir())
        free = shutil.disk_usage(self.folder).free + here
        if free < (KEPT + 1) * size:
            raise OSError(
                errno.ENOSPC,
                f"A checkpoint takes {size / 1e9:.2f} GB, and there are {KEPT + 1} for a moment. "
                f"Received: {free / 1e9:.2f} GB free",
                str(self.folder),
            )
        return size

    def save(self, agent, settings, generators, progress):
        """Write the next checkpoint and remove those before the last two; return its folder.

        Args:
            agent: a Keras `Agent`.
            settings: a dict of plain values that say what is trained; "game" and "recipe" must agree on resuming.
            generators: a dict of the `np.random.Generator`s that are not the agent's.
            progress: a `Progress`.

        Raises:
            OSError: it cannot be written; those before are as they were.
        """
        number = int(NAME.fullmatch(paths[0].name)[1]) + 1 if (paths := self.paths()) else 1
        path = self.folder / f"checkpoint_{number:06d}"
        with written_whole(path) as folder:
            _write(folder, agent, settings, {**agent.generators, **generators}, progress, self.memory)
        for old in self.paths()[KEPT:]:
            _remove(old)
        self.postpone()
        return path

    def save_weights(self, agent):
        """Write the weights alone, named after the agent's steps; return the file."""
        path = self.folder / f"weights_{agent.steps:09d}.h5"
        save_weights(agent.brain, path)
        return path

    def newest(self):
        """The newest checkpoint that is whole; of those that are not, a line is printed.

        Raises:
            CheckpointError: there is none.
        """
        for path in self.paths():
            try:
                check_whole_folder(path)
            except CheckpointError as error:
                print(f"Not used: {error}")
            else:
                return path
        raise CheckpointError(f"There is no whole checkpoint to go on from. Received: {self.folder}")

    def restore(self, agent, settings, generators):
        """Make the agent and the generators what they were in the newest whole checkpoint.

        Returns:
            Its folder, the `Progress`, and lines to print: which settings differ, and whether there was a memory.

        Raises:
            CheckpointError: there is none, or it is of another game or recipe; nothing is changed.
            WeightFileError: its network is another one; nothing is changed.
        """
        path = self.newest()
        remarks = _differences(path, settings)
        try:
            progress = _read(path, agent, {**agent.generators, **generators})
        except (KeyError, TypeError, AttributeError, OSError) as error:  # what a foreign, though whole, one may raise
            raise CheckpointError(f"{path}: cannot be read. Received: {error!r}") from error
        if len(agent.memory):
            remarks.append(f"The memory goes on with {len(agent.memory):,} steps; environments begin new episodes")
        else:
            steps = max(agent.learning_starts, agent.sample_batch_size)
            remarks.append(f"The memory was not saved: {steps:,} steps are played before learning goes on")
        return path, progress, remarks


def bytes_needed(agent, memory=False):
    """How many bytes a checkpoint of an agent takes, a full memory included if asked for; without its history."""
    variables = [*agent.brain.weights, *agent.learner.optimizer.variables]
    if agent.learner.target_brain is not None:
        variables += agent.learner.target_brain.weights
    size = sum(np.asarray(variable).nbytes for variable in variables)
    return size + (agent.memory_bytes if memory else 0)


# ---------------------------------------------------------------- folders that are whole


@contextmanager
def written_whole(path):
    """Yield a temporary folder beside `path`; when the block ends well, it becomes `path` with a manifest in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    temporary = path.parent / f".{secrets.token_hex(8)}-{path.name}"
    temporary.mkdir()
    try:
        yield temporary
        files = {file.name: _fingerprint(file) for file in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps({"files": files}, indent=1))
        for file in [*temporary.iterdir(), temporary]:
            _sync(file)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    with suppress(OSError):  # some network drives cannot sync a folder
        _sync(path.parent)


def check_whole_folder(path):
    """Raise a CheckpointError unless every file of the manifest is there, of its size and with its sha256."""
    try:
        files = json.loads((path / MANIFEST).read_text())["files"]
        for name, expected in files.items():
            if Path(name).name != name:
                raise CheckpointError(f"{path}: a manifest names files of its own folder. Received: {name!r}")
            if (received := _fingerprint(path / name)) != expected:
                raise CheckpointError(f"{path / name}: damaged, expected {expected}. Received: {received}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: not whole. Received: {error!r}") from error


def _fingerprint(file):
    """Size and sha256 of a file."""
    with open(file, "rb") as content:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path):
    """Remove a checkpoint; under another name first, so that no half of it is ever taken for one."""
    hidden = path.parent / f".{secrets.token_hex(8)}-{path.name}"
    os.rename(path, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _remove_abandoned(folder):
    """Remove the temporary folders that killed processes left."""
    ours = re.compile(r"\.[0-9a-f]{16}-" + NAME.pattern)
    with suppress(OSError):  # they are in nobody's way
        for path in folder.iterdir():
            if ours.fullmatch(path.name) and time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(path, ignore_errors=True)


# ---------------------------------------------------------------- what is in them


def _write(folder, agent, settings, generators, progress, memory):
    save_weights(agent.brain, folder / "brain.h5")
    if agent.learner.target_brain is not None:
        save_weights(agent.learner.target_brain, folder / "target.h5")
    np.savez(folder / "optimizer.npz", *map(np.asarray, agent.learner.optimizer.variables))
    if memory:
        for name, array in agent.memory.state().items():
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


def _differences(path, settings):
    """Lines that say which settings are not those of the checkpoint; a CheckpointError for another game or recipe."""
    saved = json.loads((path / "settings.json").read_text())
    for name in ("game", "recipe"):
        if saved.get(name) != settings.get(name):
            raise CheckpointError(
                f"{path}: a checkpoint of {name} {saved.get(name)!r}, not of this one. Received: {settings.get(name)!r}"
            )
    different = [name for name in sorted({*saved, *settings}) if saved.get(name) != settings.get(name)]
    return [f"`{name}` was {saved.get(name)!r} and is {settings.get(name)!r} now" for name in different]


def _read(path, agent, generators):
    """Read all of a checkpoint, then assign it; returns the `Progress`."""
    learner = agent.learner
    brain, target = read_weights(agent.brain, path / "brain.h5"), None
    if learner.target_brain is not None:
        target = read_weights(learner.target_brain, path / "target.h5")
    optimizer = _read_optimizer(path / "optimizer.npz", learner.optimizer)
    state = json.loads((path / "state.json").read_text())
    states = {name: state["generators"][name] for name in generators}
    progress = _read_progress(path, state)
    arrays = {
        file.stem.removeprefix("memory_"): np.load(file, mmap_mode="r", allow_pickle=False)
        for file in path.glob("memory_*.npy")
    }
    if arrays:
        agent.memory.restore(arrays, agent.state_shape)
    agent.restore_counters(state["counters"])
    for name, generator in generators.items():
        generator.bit_generator.state = states[name]
    variables = [*agent.brain.weights, *(learner.target_brain.weights if target else ()), *learner.optimizer.variables]
    for variable, array in zip(variables, [*brain, *(target or ()), *optimizer], strict=True):
        variable.assign(array)
    agent.refresh()
    return progress


def _read_optimizer(file, optimizer):
    """The arrays of the optimizer's variables; a CheckpointError where they are of another one."""
    with np.load(file, allow_pickle=False) as saved:
        arrays = [saved[name] for name in saved.files]
    expected = [(np.asarray(variable).shape, np.asarray(variable).dtype) for variable in optimizer.variables]
    if [(array.shape, array.dtype) for array in arrays] != expected:
        raise CheckpointError(
            f"{file}: expected the {len(expected)} variables of {type(optimizer).__name__} for this network. "
            f"Received: {len(arrays)}, {[array.shape for array in arrays][:9]} …"
        )
    return arrays


def _read_progress(path, state):
    history = History.load(path / "history.csv")
    history.evaluations = [Evaluated(*evaluation) for evaluation in state["evaluations"]]
    history.add_losses(np.load(path / "update_losses.npy", allow_pickle=False))
    return Progress(history, float(state["seconds"]), state["best_score"])
