"""What listens to a training: Keras's callbacks, and ours, which also hear of every step.

An epoch is an episode where episodes are counted, and `STEPS_PER_EPOCH` environment steps where steps are; a train
batch is a replay. The words are Keras's, so its own callbacks and other people's work as they are.
"""

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.checks import check_integer
from keras_dqn.core.counting import Every
from keras_dqn.training.best_weights import BestWeights
from keras_dqn.training.evaluate import EVALUATION_SEED
from keras_dqn.training.evaluation import Evaluated

if TYPE_CHECKING:
    from keras_dqn.core.loop import TrainStep
    from keras_dqn.training.training import Training

STEPS_PER_EPOCH = 10_000


class TrainKeywords(TypedDict, total=False):
    """The keywords of `Runner.train` beside `callbacks`, which are short forms of our own."""

    verbose: bool
    progress: bool
    live: bool | None
    record_every: int | None
    evaluate_every: int | None
    stop_score: float | None
    checkpoints: Any
    resume: bool
    tensorboard: Any
    learning_rate: float | None
    actors: int | None
    ray: str | None
    in_order: bool
    ahead: int


class TrainingCallback(keras.callbacks.Callback):
    """A Keras callback that also hears of every step of the loop.

    Attributes:
        training: the `Training` that it listens to; Keras's own `model` is the agent's brain.
    """

    training: "Training"

    def on_step(self, step: "TrainStep") -> None:
        """The agent has acted, remembered and, where a replay was due, learned."""

    def close(self, error: type | None) -> None:
        """The training is over, by an error of that type or by itself; whatever is open is closed."""


class KeepBest(TrainingCallback):
    """Evaluates every so many steps, keeps the weights that did best, and may end the training.

    Its 100 greedy episodes have seeds of their own (from EVALUATION_SEED on), so that an evaluation afterwards is on
    episodes that chose nothing.

    Args:
        every: environment steps.
        stop_score: end the training once an evaluation has this mean.
    """

    def __init__(self, every: int, stop_score: float | None = None):
        super().__init__()
        self.every, self.stop_score = check_integer("evaluate_every", every), stop_score

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        runner = self.training.runner
        self._due = Every(self.every, self.training.steps)
        runner.best_weights = BestWeights(runner.best_backup, runner.best_score)

    def on_step(self, step: "TrainStep") -> None:
        training = self.training
        if not self._due(training.steps):
            return
        runner, began = training.runner, time.perf_counter()
        score = runner.evaluate(seed=EVALUATION_SEED).mean
        training.history.evaluations.append(Evaluated(training.steps, score, time.perf_counter() - began))
        if runner.best_score is None or score > runner.best_score:
            runner.best_weights.keep(runner.agent.learner.keras_model(), score)
            runner.best_score = score
        else:
            runner.best_weights.try_again()
        if self.stop_score is not None and runner.best_score >= self.stop_score:
            training.reached = training.history.evaluations[-1]
            training.stop()

    def close(self, error: type | None) -> None:
        self.training.runner.best_weights.finish()


class Epochs(TrainingCallback):
    """Tells Keras callbacks of replays and of epochs; nothing is called that no callback overrides.

    Args:
        callbacks: all of them, ours too.
        model: theirs.
    """

    def __init__(self, callbacks: Iterable[keras.callbacks.Callback], model: "keras.Model"):
        super().__init__()
        self._list = keras.callbacks.CallbackList(callbacks, add_history=False, add_progbar=False, model=model)
        hears = {name: any(_overrides(one, name) for one in callbacks) for name in _HOOKS}
        self._hears_batches = any(hears[name] for name in _HOOKS[:4])
        self._hears_epochs = any(hears[name] for name in _HOOKS[4:])

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        training = self.training
        by_steps = training.runner.steps is not None
        self._epoch = training.steps // STEPS_PER_EPOCH if by_steps else len(training.history)
        self._epochs_due = Every(STEPS_PER_EPOCH, training.steps) if by_steps else None
        self._replays = 0
        self._list.on_train_begin()
        self._begin_epoch()

    def on_step(self, step: "TrainStep") -> None:
        if self._hears_batches and step.losses is not None:
            self._list.on_train_batch_begin(self._replays)
            self._list.on_train_batch_end(self._replays, {"loss": float(step.losses.mean())})
            self._replays += 1
        if not self._hears_epochs:
            return
        if step.losses is not None:
            self._losses.extend(step.losses.tolist())
        for episode in step.episodes:
            if self._epochs_due is None:
                self._end_epoch(episode)
        if self._epochs_due is not None and self._epochs_due(self.training.steps):
            self._end_epoch(None)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._list.on_train_end(logs)

    def _begin_epoch(self):
        self._began, self._steps, self._losses = time.perf_counter(), self.training.steps, []
        if self._hears_epochs:
            self._list.on_epoch_begin(self._epoch)

    def _end_epoch(self, episode):
        training, seconds = self.training, max(time.perf_counter() - self._began, 1e-9)
        last = episode or (training.history[-1] if training.history else None)
        logs = {
            "score": math.nan if last is None else last.score,
            "length": 0 if last is None else last.length,
            "mean_score": training.history.mean_score(),
            "epsilon": float(training.agent.exploration_rate),
            "loss": float(np.mean(self._losses)) if self._losses else math.nan,
            "steps": training.steps,
            "frames": training.steps * (training.runner.frames_per_step or 1),
            "updates": training.agent.learner.updates,
            "steps_per_second": (training.steps - self._steps) / seconds,
            "learning_rate": training.agent.learning_rate,
        }
        if training.history.evaluations:
            logs["evaluation_score"] = training.history.evaluations[-1].score
        self._list.on_epoch_end(self._epoch, logs)
        self._epoch += 1
        self._begin_epoch()


_HOOKS = (
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_batch_begin",
    "on_batch_end",
    "on_epoch_begin",
    "on_epoch_end",
)


def _overrides(callback, name):
    """Whether a callback does something when it hears of that."""
    method = getattr(callback, name)
    return getattr(method, "__func__", method) is not getattr(keras.callbacks.Callback, name)
