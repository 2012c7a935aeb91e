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
it is executed, and nothing is changed before all of it has been read and found to be what is expected (see
`saved_training`).
"""

import errno
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_dqn.checks import check_integer
from keras_dqn.expected import shortened
from keras_dqn.files.weights import save_weights
from keras_dqn.training.folder_lock import FolderLock
from keras_dqn.training.history import History
from keras_dqn.training.saved_training import read_training, write_training
from keras_dqn.training.whole_folder import LARGEST, NAME, _remove, _remove_abandoned, written_whole
from keras_dqn.training.whole_folder import CheckpointError as CheckpointError
from keras_dqn.training.whole_folder import check_integer_folder as check_integer_folder

if TYPE_CHECKING:
    from keras_dqn.core.agent import Agent

KEPT = 2  # checkpoints


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

    def __init__(
        self, folder: str | Path, minutes: float = 5.0, memory: bool = False, weights_every: int | None = None
    ):
        if not isinstance(minutes, int | float) or not minutes >= 0:
            raise ValueError(f"`minutes` must be a number, 0 or more. Received: {minutes!r}")
        self.folder, self.minutes, self.memory = Path(folder), minutes, memory
        self.weights_every = None if weights_every is None else check_integer("weights_every", weights_every)
        self._last = time.monotonic()
        self._lock = FolderLock(self.folder)
        self._refused = set()  # names of the checkpoints that were not whole when one was restored

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._last >= 60 * self.minutes

    def postpone(self) -> None:
        """Wait as long for the next one as if one had been written now."""
        self._last = time.monotonic()

    def paths(self) -> list[Path]:
        """The folders of all checkpoints, the newest first; whether they are whole is only known when they are read."""
        return [path for _, path in self._numbered() if path.is_dir()]

    def _numbered(self):
        """(number, path) of whatever is named like a checkpoint, the newest first."""
        if not self.folder.exists():
            return []
        matches = ((NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)

    def claim(self) -> None:
        """Lock the folder against other trainings, and remove what killed processes left in it; see `release`.

        Raises:
            CheckpointError: another training has it; the message says which process that is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except BlockingIOError as error:
            raise CheckpointError(f"{self.folder}: another training writes its checkpoints there. {error}") from error
        if self._lock.held:
            _remove_abandoned(self.folder, ".*", age=0)

    def release(self) -> None:
        """Let other trainings have the folder."""
        self._lock.release()

    def check_unclaimed(self) -> None:
        """Raise a CheckpointError if another training has locked the folder."""
        if self.folder.exists():
            self.claim()
            self.release()

    def check_unused(self) -> None:
        """Raise a CheckpointError if there are checkpoints already, which a training from the start would push out."""
        if paths := self.paths():
            raise CheckpointError(
                f"{self.folder} holds the checkpoints of a training: go on with it (`resume=True`, --resume), name "
                f"another folder (`checkpoints`, --checkpoints), or move it away. Received: {paths[0]}"
            )

    def check_space(self, agent: "Agent") -> int:
        """Raise an OSError if the disk has no room for a third checkpoint beside two; return the bytes of one."""
        size = bytes_needed(agent, self.memory)
        self.folder.mkdir(parents=True, exist_ok=True)
        here = sum(file.lstat().st_size for path in self.paths() for file in path.iterdir())
        free = shutil.disk_usage(self.folder).free + here
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
        """Write the next checkpoint and remove those before the last two; return its folder.

        Args:
            agent: a Keras `Agent`.
            settings: a dict of plain values that say what is trained; "game" and "recipe" must agree on resuming.
            generators: a dict of the `np.random.Generator`s that are not the agent's.
            progress: a `Progress`.

        Raises:
            OSError: it cannot be written; those before are as they were.
        """
        number = numbered[0][0] + 1 if (numbered := self._numbered()) else 1
        path = self.folder / f"checkpoint_{number:06d}"
        with written_whole(path) as folder:
            write_training(folder, agent, settings, {**agent.generators, **generators}, progress, self.memory)
        paths = self.paths()
        whole = [path for path in paths if path.name not in self._refused]
        for old in paths[paths.index(whole[:KEPT][-1]) + 1 :]:
            _remove(old)
        self.postpone()
        return path

    def save_weights(self, agent: "Agent") -> Path:
        """Write the weights alone, named after the agent's steps; return the file."""
        path = self.folder / f"weights_{agent.steps:09d}.h5"
        save_weights(agent.brain, path)
        return path

    def restore(
        self,
        agent: "Agent",
        settings: dict[str, Any],
        generators: dict[str, np.random.Generator],
    ) -> tuple[Path, Progress, list[str]]:
        """Make the agent and the generators what they were in the newest checkpoint that is whole.

        One that is damaged, or has anything in it that is not expected of this training, is not used: the one before
        is, and what is wrong with the newer one is printed.

        Args:
            agent, settings, generators: as `save` takes them.

        Returns:
            Its folder, the `Progress`, and lines to print: which settings differ, and what goes on.

        Raises:
            CheckpointError: there is none that can be used; nothing is changed.
        """
        refused = []
        for path in self.paths():
            try:
                most = max(LARGEST, 4 * bytes_needed(agent, memory=True))
                names = check_integer_folder(path, most)
                saved = read_training(path, names, agent, settings, {**agent.generators, **generators})
            except Exception as error:  # whatever it is: nothing has been changed, and an older one may be whole
                refused.append((path, _reason(path, error), error))
            else:
                break
        else:
            text = f"There is no whole checkpoint to go on from in {self.folder}"
            if not refused:
                raise CheckpointError(f"{text}. Received: {self.folder}")
            _, reason, error = refused[0]
            raise CheckpointError(f"{text}; the newest is not used: {reason}") from error
        saved.assign()
        for old, reason, _ in refused:
            print(f"Not used: {reason}")
            self._refused.add(old.name)
        progress = Progress(saved.history, saved.seconds, saved.best_score)
        return path, progress, saved.remarks(agent)


def _reason(path, error):
    """Why a checkpoint is not used: its folder, and what was received."""
    text = str(error)
    if isinstance(error, ValueError | OSError) and str(path) in text:
        return text[:1000]
    return f"{path}: cannot be read. Received: {shortened(error)}"


def bytes_needed(agent: "Agent", memory: bool = False) -> int:
    """How many bytes a checkpoint of an agent takes, a full memory included if asked for; without its history."""
    variables = [one for several in agent.learner.variables.values() for one in several]
    size = sum(np.asarray(variable).nbytes for variable in variables)
    return size + (agent.memory_bytes if memory else 0)


# ---------------------------------------------------------------- folders that are whole
