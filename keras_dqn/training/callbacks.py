"""What listens to a training: Keras's callbacks, and ours, which also hear of every step.

An epoch is an episode, or, where steps are counted, a tenth of them, 10,000 at most; a train batch is a replay. The
words are Keras's, so its own callbacks and other people's work as they are.
"""

import csv
import importlib.util
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_dqn.backend import keras, tf
from keras_dqn.checks import check_integer
from keras_dqn.core.counting import Every
from keras_dqn.files.atomic import atomic_write
from keras_dqn.training.evaluate import EVALUATION_SEED
from keras_dqn.training.history import Evaluated

if TYPE_CHECKING:
    from keras_dqn.core.loop import TrainStep

MOST_STEPS = 10_000  # of an epoch


class TrainingCallback(keras.callbacks.Callback):
    """A Keras callback that also hears of every step of the loop.

    Attributes:
        training: the `Training` that it listens to; Keras's own `model` is the agent's brain.
    """

    training: Any

    def on_step(self, step: "TrainStep") -> None:
        """The agent has acted, remembered and, where a replay was due, learned."""

    def close(self, error: type | None) -> None:
        """The training is over, by an error of that type or by itself; whatever is open is closed."""


def checked(callbacks: Any) -> list[keras.callbacks.Callback]:
    """A callback, or several, as a list.

    Raises:
        ValueError: one is no callback of Keras.
        ImportError: one needs TensorBoard, which is not installed.
    """
    callbacks = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks)
    for one in callbacks:
        if not isinstance(one, keras.callbacks.Callback):
            raise ValueError(f"`callbacks` must be keras.callbacks.Callback objects. Received: {one!r}")
        if isinstance(one, keras.callbacks.TensorBoard) and importlib.util.find_spec("tensorboard") is None:
            pip = "pip install tensorboard"
            raise ImportError(f"Keras's TensorBoard needs the package tensorboard: {pip}. Received: {one!r}")
    return callbacks


class KeepBest(TrainingCallback):
    """Evaluates every so many steps, keeps the weights that did best, and may end the training.

    Its 100 greedy episodes have seeds of their own (from EVALUATION_SEED on), so that an evaluation afterwards is on
    episodes that chose nothing. Without room on the disk, the next weights that do better are kept.

    Args:
        every: environment steps.
        stop_score: end the training once an evaluation has this mean.
    """

    def __init__(self, every: int, stop_score: float | None = None):
        super().__init__()
        self.every, self.stop_score = check_integer("evaluate_every", every), stop_score

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._due = Every(self.every, self.training.steps)
        self._attempts = Attempts(f"{self.training.runner.best_backup} (the best weights)")

    def on_step(self, step: "TrainStep") -> None:
        training = self.training
        if not self._due(training.steps):
            return
        runner, began = training.runner, time.perf_counter()
        score = runner.evaluate(seed=EVALUATION_SEED).mean
        training.history.evaluations.append(Evaluated(training.steps, score, time.perf_counter() - began))
        if runner.best_score is None or score > runner.best_score:
            with self._attempts:
                runner.agent.save_model(runner.best_backup)
                runner.best_score = score
        if self.stop_score is not None and score >= self.stop_score:
            training.stop(training.history.evaluations[-1])


class Epochs(TrainingCallback):
    """Tells Keras callbacks of replays and of epochs; nothing is called that no callback overrides.

    Args:
        callbacks: all of them, ours too.
        training: the `Training` that they listen to.
        verbose: what their `params` say of it.
    """

    def __init__(self, callbacks: Iterable[keras.callbacks.Callback], training: Any, verbose: bool = False):
        super().__init__()
        runner, self.training = training.runner, training
        self._size = None if runner.steps is None else min(MOST_STEPS, math.ceil(runner.steps / 10))
        epochs = runner.episodes if self._size is None else math.ceil(runner.steps / self._size)
        params = {"epochs": epochs, "steps": None, "verbose": int(verbose)}  # nobody knows how many replays
        self._list = keras.callbacks.CallbackList(callbacks, model=runner.agent.brain, **params)
        self._hears_batches, self._hears_epochs = (
            any(_overrides(one, name) for one in callbacks for name in names) for names in (_BATCHES, _EPOCHS)
        )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        steps, size = self.training.steps, self._size
        self._epoch = len(self.training.history) if size is None else math.ceil(steps / size)
        self._due = None if size is None else Every(size, steps)
        self._replays = 0
        self._list.on_train_begin()
        self._begin_epoch()

    def on_step(self, step: "TrainStep") -> None:
        if self._hears_batches and step.losses is not None:
            self._list.on_train_batch_begin(self._replays)
            self._list.on_train_batch_end(self._replays, {"loss": float(step.losses.mean())})
            self._replays += 1
            self.training.agent.learner.weights_assigned = True  # they may have
        if not self._hears_epochs:
            return
        if step.losses is not None:
            self._losses.extend(step.losses.tolist())
        if self._due is None:
            for episode in step.episodes:
                self._end_epoch(episode)
        elif self._due(step.steps):
            self._end_epoch()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._list.on_train_end(logs)

    def end_last_epoch(self) -> None:
        """End the epoch under way, where steps are counted and some of them are left over."""
        if self._hears_epochs and self._due is not None and self.training.steps > self._steps:
            self._end_epoch()

    def _begin_epoch(self):
        self._began, self._steps, self._losses = time.perf_counter(), self.training.steps, []
        if self._hears_epochs:
            self._list.on_epoch_begin(self._epoch)

    def _end_epoch(self, episode=None):
        self._list.on_epoch_end(self._epoch, self._logs(episode))
        self.training.agent.learner.weights_assigned = True
        self._epoch += 1
        self._begin_epoch()

    def _logs(self, episode):
        """What an epoch came to, {name: number}: always the same names, with NaN for what there is none of yet."""
        training, seconds = self.training, max(time.perf_counter() - self._began, 1e-9)
        history, agent = training.history, training.agent
        last = episode or (history[-1] if history else None)
        return {
            "score": math.nan if last is None else last.score,
            "length": 0 if last is None else last.length,
            "mean_score": history.mean_score(),
            "evaluation_score": history.evaluations[-1].score if history.evaluations else math.nan,
            "epsilon": float(agent.exploration_rate),
            "loss": float(np.mean(self._losses)) if self._losses else math.nan,
            "learning_rate": agent.learning_rate,
            "steps": training.steps,
            "frames": training.steps * (training.runner.frames_per_step or 1),
            "episodes": len(history),
            "updates": agent.learner.updates,
            "steps_per_second": (training.steps - self._steps) / seconds,
            "seconds": training.seconds,
        }


_BATCHES = "on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"
_EPOCHS = "on_epoch_begin", "on_epoch_end"


def _overrides(callback, name):
    """Whether a callback does something when it hears of that."""
    method = getattr(callback, name)
    return getattr(method, "__func__", method) is not getattr(keras.callbacks.Callback, name)


# ---------------------------------------------------------------- files that a full disk may keep from being written


class Attempts:
    """A context for each attempt to write something: that it fails is printed, the first time, and raises nothing.

    Args:
        what: is written, as the message begins: "The log".
    """

    def __init__(self, what: str):
        self.what, self._failed = what, False

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: Any) -> bool:
        failed = isinstance(error, OSError | tf.errors.OpError)  # of a full disk, or a drive that is away
        if failed and not self._failed:
            print(f"{self.what} was not written; training goes on and tries again. Received: {error}")
        self._failed = failed
        return failed


class TrainingLog(keras.callbacks.CSVLogger):
    """Keras's CSV log of a training: a row an epoch, the first to the last, however often the training was resumed.

    Args:
        path: of the file.
        steps: of training that were made before; rows of later ones, which will be made again, go.
    """

    def __init__(self, path: str | Path, steps: int = 0):
        super().__init__(path, append=True)
        self._steps_before, self._attempts = steps, Attempts("The log")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        path = Path(self.filename)
        if path.exists():
            with open(path, newline="") as file:
                rows = [row for row in csv.DictReader(file) if None not in row.values()]  # a kill may cut one off
            kept = [row for row in rows if float(row.get("steps", "inf")) <= self._steps_before]
            with atomic_write(path) as temporary, open(temporary, "w", newline="") as file:
                if kept:
                    writer = csv.DictWriter(file, kept[0])
                    writer.writeheader()
                    writer.writerows(kept)
        super().on_train_begin(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.keys = sorted(logs)  # else Keras writes a second column, val_…, for each
        with self._attempts:
            super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        with self._attempts:
            super().on_train_end(logs)


class Board(keras.callbacks.TensorBoard):
    """Keras's log for TensorBoard, by steps instead of epochs.

    Args:
        folder: for its files.
    """

    on_train_batch_begin = keras.callbacks.Callback.on_train_batch_begin  # nothing of a batch is written
    on_train_batch_end = keras.callbacks.Callback.on_train_batch_end

    def __init__(self, folder: str | Path):
        super().__init__(folder, write_graph=False)
        self._attempts = Attempts("The log for TensorBoard")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with self._attempts:
            super().on_epoch_end(int(logs["steps"]), logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        with self._attempts:
            super().on_train_end(logs)
