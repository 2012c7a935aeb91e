"""What listens to a training: Keras's callbacks, and ours, which also hear of every step.

An epoch is an episode, or, where steps are counted, a tenth of them, 10,000 at most; a train batch is a replay. The
words are Keras's, so its own callbacks and other people's work as they are.
"""

import importlib
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.checks import check_integer
from keras_dqn.core.counting import Every
from keras_dqn.core.loop import TrainStep
from keras_dqn.training.evaluate import EVALUATION_SEED
from keras_dqn.training.history import Evaluated

MOST_STEPS = 10_000  # of an epoch


class TrainingCallback(keras.callbacks.Callback):
    """A Keras callback that also hears of every step of the loop.

    Attributes:
        training: the `Training` that it listens to; Keras's own `model` is the agent's brain.
    """

    training: Any

    def on_step(self, step: TrainStep) -> None:
        """The agent has acted, remembered and, where a replay was due, learned."""

    def close(self, error: type | None) -> None:
        """The training is over, by an error of that type or by itself; whatever is open is closed."""


class KeepBest(TrainingCallback):
    """Evaluates every so many steps and after the last, keeps the weights that did best, and may end the training.

    Its 100 greedy episodes have seeds of their own (from EVALUATION_SEED on), so that an evaluation afterwards is on
    episodes that chose nothing.

    Args:
        every: environment steps.
        stop_score: end the training once an evaluation has this mean.
        max_episode_steps: of these episodes; by default the training's.
    """

    def __init__(self, every: int, stop_score: float | None = None, max_episode_steps: int | None = None):
        super().__init__()
        self.every, self.stop_score = check_integer("evaluate_every", every), stop_score
        self.max_episode_steps = max_episode_steps

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._due = Every(self.every, self.training.steps)

    def on_step(self, step: TrainStep) -> None:
        if self._due(step.steps) or self.training.over:
            self.evaluate()

    def evaluate(self) -> None:
        """Evaluate the weights of this step, unless that has been done."""
        training, runner, began = self.training, self.training.runner, time.perf_counter()
        if any(one.steps == training.steps for one in training.history.evaluations[-1:]):
            return
        score = runner.evaluate(seed=EVALUATION_SEED, max_episode_steps=self.max_episode_steps).mean
        evaluated = Evaluated(training.steps, score, time.perf_counter() - began)
        training.history.evaluations.append(evaluated)
        if runner.best_score is None or score > runner.best_score:
            with attempt(f"{runner.best_backup} (the best weights)"):
                runner.agent.save_model(runner.best_backup)
                runner.best_score = score
        if self.stop_score is not None and score >= self.stop_score:
            training.stop(evaluated)


class Epochs(TrainingCallback):
    """Tells Keras's callbacks, and ours as far as they are such, of replays and of epochs.

    Args:
        callbacks: all of them.
        training: the `Training` that they listen to.
        verbose: what their `params` say of it.
    """

    def __init__(self, callbacks: list[keras.callbacks.Callback], training: Any, verbose: bool = False):
        super().__init__()
        runner, self.training = training.runner, training
        self._size = None if runner.steps is None else min(MOST_STEPS, math.ceil(runner.steps / 10))
        epochs = runner.episodes if self._size is None else math.ceil(runner.steps / self._size)
        params = {"epochs": epochs, "steps": None, "verbose": int(verbose)}  # nobody knows how many replays
        self._list = keras.callbacks.CallbackList(callbacks, model=runner.agent.brain, **params)
        self._hears_batches = any(_overrides(one, name) for one in callbacks for name in _BATCHES)  # there are many

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        steps, size = self.training.steps, self._size
        self._epoch = len(self.training.history) if size is None else math.ceil(steps / size)
        self._due = None if size is None else Every(size, steps)
        self._replays = 0
        self._list.on_train_begin()
        self._begin_epoch()

    def on_step(self, step: TrainStep) -> None:
        if step.losses is not None:
            self._losses.extend(step.losses.tolist())
            if self._hears_batches:
                self._list.on_train_batch_begin(self._replays)
                self._list.on_train_batch_end(self._replays, {"loss": float(step.losses.mean())})
                self._replays += 1
                self.training.agent.learner.weights_assigned = True  # they may have
        if self._due is None:
            for episode in step.episodes:
                self._end_epoch(episode)
        elif self._due(step.steps):
            self._end_epoch()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._list.on_train_end(logs)

    def end_last_epoch(self) -> None:
        """End the epoch under way, where steps are counted and some of them are left over."""
        if self._due is not None and self.training.steps > self._steps:
            self._end_epoch()

    def _begin_epoch(self):
        self._began, self._steps, self._losses = time.perf_counter(), self.training.steps, []
        self._list.on_epoch_begin(self._epoch)

    def _end_epoch(self, episode=None):
        self._list.on_epoch_end(self._epoch, self._logs(episode))
        self.training.agent.learner.weights_assigned = True
        self._epoch += 1
        self._begin_epoch()

    def _logs(self, episode):
        """What an epoch came to, {name: number}: always the same names, with NaN for what there is none of yet."""
        training, seconds = self.training, max(time.perf_counter() - self._began, 1e-9)
        history, agent, env = training.history, training.agent, training.env
        last = episode or (history[-1] if history else None)
        logs = {
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
            "seconds": training.runner.seconds,
        }
        if hasattr(env, "collected"):  # a fleet of actors
            logs |= {"actors": env.alive, "lost": env.lost, "weights_age": env.age, "bytes": env.bytes}
        return logs


_BATCHES = "on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"


def _overrides(callback, name):
    """Whether a callback does something when it hears of that."""
    method = getattr(callback, name)
    return getattr(method, "__func__", method) is not getattr(keras.callbacks.Callback, name)


# ---------------------------------------------------------------- files that a full disk may keep from being written


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Warn that something was not written, on a full disk or a drive that is away, where else an error would end all.

    Args:
        what: as the message begins: "The log".
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith("tensorflow"):  # TensorBoard's
            raise
        said = f"{what} was not written; training goes on and tries again. Received: {error}"
        warnings.warn(said, RuntimeWarning, stacklevel=3)  # which Python shows once


class TrainingLog(keras.callbacks.CSVLogger):
    """Keras's CSV log of a training, a row an epoch, which a training that is resumed goes on with.

    Args:
        path: of the file.
    """

    def __init__(self, path: str | Path):
        super().__init__(path, append=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.keys = sorted(logs)  # else Keras writes a second column, val_…, for each
        with attempt("The log"):
            super().on_epoch_end(epoch, logs)


class Board(keras.callbacks.TensorBoard):
    """Keras's log for TensorBoard, by steps instead of epochs.

    Args:
        folder: for its files.
    """

    on_train_batch_begin = keras.callbacks.Callback.on_train_batch_begin  # nothing of a batch is written
    on_train_batch_end = keras.callbacks.Callback.on_train_batch_end

    def __init__(self, folder: str | Path):
        importlib.import_module("tensorboard")  # else that it is missing is only found at the end of an epoch
        super().__init__(folder, write_graph=False)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with attempt("The log for TensorBoard"):
            super().on_epoch_end(int(logs["steps"]), logs)
