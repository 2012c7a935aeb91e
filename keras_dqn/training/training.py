"""A training from its beginning to its end: what is checked first, who hears of it and in which order."""

import signal
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from keras_dqn.backend import keras
from keras_dqn.files.atomic import check_writable, copied_beside
from keras_dqn.show.film import VideoRecorder
from keras_dqn.show.notebook import in_notebook
from keras_dqn.training.callbacks import Board, Epochs, KeepBest, TrainingCallback, TrainingLog, checked
from keras_dqn.training.checkpoint import SaveCheckpoints
from keras_dqn.training.history import Evaluated, History
from keras_dqn.training.progress import LiveCurve, ProgressBar
from keras_dqn.training.settings import TrainSettings

if TYPE_CHECKING:
    from keras_dqn.core.loop import TrainStep


def begin_training(runner: Any, callbacks: Any, settings: TrainSettings) -> "Training":
    """Check everything, then begin afresh or go on where a checkpoint ends; errors are those of `Runner.train`."""
    callbacks = checked(callbacks)
    if settings.evaluate_every is not None:
        callbacks.append(KeepBest(settings.evaluate_every, settings.stop_score))
    if settings.tensorboard is not None:
        callbacks += checked(Board(settings.tensorboard))
    written = _check(runner, callbacks, settings.learning_rate)
    with ExitStack() as opened:
        env = _environment(runner, settings)
        opened.callback(env.close)
        saving = None
        if settings.checkpoints is not None:
            saving = SaveCheckpoints(runner, settings.checkpoints)
            saving.checkpoints.check_begun(settings.resume)
            opened.enter_context(saving.checkpoints.locked())
            saving.begin(settings.resume)
        if not settings.resume:
            runner.history, runner.best_score = History(), None
            _keep_what_was_there(runner, written)
            runner.agent.reset_exploration()
        if settings.learning_rate is not None:
            runner.agent.learner.learning_rate = settings.learning_rate
        callbacks.append(ProgressBar(settings.progress, settings.verbose))
        if in_notebook() if settings.live is None else settings.live:
            callbacks.append(LiveCurve(solved_score=runner.solved_score, title=runner.environment))
        if saving is not None:  # last of all: what the others do of a step is part of its checkpoint
            callbacks += [*_logs(env, saving.checkpoints.folder, runner.agent.steps, settings), saving]
        seconds = 0.0 if saving is None else saving.seconds
        return Training(runner, env, callbacks, opened.pop_all(), seconds, settings.verbose)


class Training:
    """A training under way: what the loop's steps come to, and who hears of them.

    As a context it begins and ends the callbacks and saves the agent's weights whatever ends it.

    Args:
        runner: whose training it is.
        env: what is played in.
        callbacks: of Keras and ours, in the order in which they hear of a step; but evaluations come first of all, as
            they are part of the epoch of the same step.
        opened: an `ExitStack` of what is closed at the end.
        seconds: of training before, where it goes on with one.
        verbose: what callbacks are told.

    Attributes:
        steps: of all environments, those before this training included where it goes on with one.
        history: the runner's.
        comments: lines that the game has to say of the episodes that ended with the last step.
        reached: the `Evaluated` that ended the training, or None.
    """

    def __init__(
        self,
        runner: Any,
        env: Any,
        callbacks: list[keras.callbacks.Callback],
        opened: ExitStack,
        seconds: float = 0.0,
        verbose: bool = False,
    ):
        self.runner, self.env, self.agent, self.history = runner, env, runner.agent, runner.history
        self.steps = self._steps_before = runner.agent.steps
        self.comments, self.reached = [], None
        self._seconds_before, self._began = seconds, time.perf_counter()
        self._model = runner.agent.brain
        self._model.stop_training = False
        self._opened, self._interruptions = opened, Interruptions()
        ours = [one for one in callbacks if isinstance(one, TrainingCallback)]
        for one in ours:
            one.training = self
        self._epochs = Epochs(callbacks, self, verbose)
        first = [one for one in ours if isinstance(one, KeepBest)]
        self._listeners = [*first, self._epochs, *(one for one in ours if one not in first)]
        self._on_step = [one.on_step for one in self._listeners if type(one).on_step is not TrainingCallback.on_step]

    @property
    def seconds(self) -> float:
        """Of training, those of its parts before an interruption included."""
        return self._seconds_before + time.perf_counter() - self._began

    @property
    def over(self) -> bool:
        """Whether it ends here: everything is played that was asked for, or a callback stops it."""
        last_step = self.runner.steps
        if last_step is not None and self.steps >= last_step:
            return True
        return self.runner.is_over(self.history) or bool(getattr(self._model, "stop_training", False))

    def stop(self, reached: Evaluated | None = None) -> None:
        """End the training after this step, as `model.stop_training = True` does, since this was reached."""
        self.reached = reached
        self._model.stop_training = True

    def hear(self, step: "TrainStep") -> None:
        """Count a `TrainStep` and tell the callbacks."""
        self.steps = self._steps_before + step.steps
        if step.losses is not None:
            self.history.add_losses(step.losses)
        counted, self.comments = [], []
        for episode in step.episodes:
            if self.runner.is_over(self.history):
                break  # several environments may end an episode in the same step
            counted.append(episode._replace(time=self._seconds_before + episode.time))
            self.history.append(counted[-1])
            self.comments += self.runner.comments(self.history)
        step = step._replace(steps=self.steps, episodes=counted)
        for on_step in self._on_step:
            on_step(step)
        self._interruptions.raise_held()

    def close(self) -> None:
        """Close what was opened for it, where it does not begin."""
        self._opened.close()

    def __enter__(self) -> "Training":
        with self._opened as opened:  # closed where a callback fails
            opened.enter_context(self._interruptions)
            self._epochs.on_train_begin()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: Any) -> None:
        with self._opened as closing:
            for one in self._listeners:  # the last is closed first
                closing.callback(one.close, kind)
            closing.callback(self.agent.save_model)
            if kind is None:
                self._epochs.end_last_epoch()
            if kind is None or issubclass(kind, KeyboardInterrupt):  # after any other a step may be half done
                self._epochs.on_train_end()


class Interruptions:
    """While this context is open, Ctrl-C and SIGTERM wait until `raise_held` is called; the second does not wait.

    A handler that somebody else has installed stays, as does that a signal is ignored. Outside of the main thread,
    which is the one that signals reach, nothing changes.
    """

    _usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

    def __init__(self):
        self._held, self._replaced = None, []

    def __enter__(self) -> "Interruptions":
        if threading.current_thread() is threading.main_thread():
            self._replaced = [number for number, usual in self._usual.items() if signal.getsignal(number) == usual]
        for number in self._replaced:
            signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: Any) -> None:
        for number in self._replaced:
            signal.signal(number, self._usual[number])
        if kind is None:
            self.raise_held()

    def raise_held(self) -> None:
        """Raise what has waited, if anything has."""
        held, self._held = self._held, None
        if held is not None:
            raise held

    def _receive(self, number, frame):
        interruption = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if self._held is not None:
            raise interruption
        self._held = interruption


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as a system that shuts down asks: to a training the same as Ctrl-C."""


def _check(runner, callbacks, learning_rate):
    """Find out before training what would make it fail at its end; returns the files that it will write weights to."""
    agent = runner.agent
    written = [] if agent.weight_backup is None else [agent.weight_backup]
    if any(isinstance(one, KeepBest) for one in callbacks):
        written.append(runner.best_backup)
    for path in written:
        check_writable(path)
    if learning_rate is not None and (schedule := agent.settings.learner.learning_rate_schedule) is not None:
        raise ValueError(f"`learning_rate` follows a schedule, {schedule}. Received: {learning_rate!r}")
    agent.memory.check_fits(agent.state_shape)
    return written


def _keep_what_was_there(runner, paths):
    """Keep what a training before this runner left in the files that this one will replace."""
    for path in paths:
        if path not in runner.own_files and (kept := copied_beside(path)):
            print(f"The weights in {path} are kept as {kept}")
    runner.own_files.update(paths)


def _environment(runner, settings):
    """What is trained in: an environment, filmed every so many episodes, or several, or actors that play elsewhere."""
    every = settings.record_every
    if settings.actors is not None:
        from keras_dqn.training.remote import fleet_of

        return fleet_of(runner, settings.actors, settings.ray, settings.in_order, settings.ahead)
    if every is None:
        return runner.training_env()
    if runner.num_envs > 1:
        raise ValueError(f"`record_every` films a single environment. Received: num_envs={runner.num_envs}")
    return VideoRecorder(
        runner.make_env("rgb_array"),
        lambda episode: runner.video_folder / f"{runner.name}_episode_{episode}.mp4",
        episode_trigger=lambda episode: episode % every == 0,
    )


def _logs(env, folder, steps, settings):
    """What is written beside checkpoints: the log of the training, and that of its actors, if there are such."""
    logs = [TrainingLog(folder / "log.csv", steps)]
    if settings.actors is not None:
        from keras_dqn.training.remote import ActorsLog

        logs.append(ActorsLog(env, folder / "actors.csv"))
    return logs
