"""A training from its beginning to its end: what is checked first, who hears of it and in which order."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from gymnasium.vector import VectorEnv

from keras_dqn.backend import keras
from keras_dqn.core.loop import TrainStep, interact
from keras_dqn.environments.vector import MAX_STEPS
from keras_dqn.files.atomic import check_writable, copied_beside
from keras_dqn.show.film import VideoRecorder
from keras_dqn.show.notebook import in_notebook
from keras_dqn.training.callbacks import Board, Epochs, KeepBest, TrainingCallback, TrainingLog
from keras_dqn.training.checkpoint import Checkpoints
from keras_dqn.training.history import Evaluated, History
from keras_dqn.training.progress import LiveCurve, ProgressBar
from keras_dqn.training.settings import TrainSettings


def train(runner: Any, callbacks: Any, settings: TrainSettings) -> None:
    """Check everything, then play and learn, afresh or from where a checkpoint ends; see `Runner.train`."""
    callbacks = _callbacks(callbacks, settings)
    written = _check(runner, callbacks, settings)
    checkpoints = settings.checkpoints
    if not isinstance(checkpoints, Checkpoints | None):
        checkpoints = Checkpoints(checkpoints)
    with ExitStack() as opened:
        if checkpoints is not None:
            checkpoints.check_begun(settings.resume)
            opened.enter_context(checkpoints.locked())
        env = _environment(runner, settings)
        opened.callback(env.close)
        if settings.resume:
            checkpoints.restore(runner)
        else:
            runner.history, runner.best_score, runner.seconds = History(), None, 0.0
            _keep_what_was_there(runner, written)
            runner.agent.reset_exploration()
        if settings.learning_rate is not None:
            runner.agent.learner.learning_rate = settings.learning_rate
        callbacks.append(ProgressBar(settings.progress, settings.verbose))
        if in_notebook() if settings.live is None else settings.live:
            callbacks.append(LiveCurve())
        if checkpoints is not None:  # last of all: what the others do of a step is part of its checkpoint
            callbacks += [TrainingLog(checkpoints.log), checkpoints]
        training = Training(runner, env, callbacks, settings.verbose)
        if training.over:
            print("There is nothing left to train: ask for more steps or episodes")
            return
        raise_held = opened.enter_context(held_interruptions())
        playing = {"shape_reward": runner.shape_reward, "max_steps": runner.max_episode_steps or MAX_STEPS}
        with training:
            for step in interact(runner.agent, env, runner.replay_every, runner.next_seed(), **playing):
                training.hear(step)
                raise_held()
                if training.over:
                    break


class Training:
    """A training under way: what the loop's steps come to, and who hears of them.

    As a context it begins and ends the callbacks and saves the agent's weights whatever ends it.

    Args:
        runner: whose training it is.
        env: what is played in.
        callbacks: of Keras and ours, in the order in which they hear of a step; but evaluations come first of all,
            then Keras's, as they are part of the epoch of the same step.
        verbose: what callbacks are told.

    Attributes:
        history: the runner's.
        comments: lines that the game has to say of the episodes that ended with the last step.
        reached: the `Evaluated` that ended the training, or None.
    """

    def __init__(self, runner: Any, env: Any, callbacks: list[keras.callbacks.Callback], verbose: bool):
        self.runner, self.env, self.agent, self.history = runner, env, runner.agent, runner.history
        self.comments, self.reached = [], None
        self._began = time.perf_counter() - runner.seconds
        self._model = runner.agent.brain
        self._model.stop_training = False
        ours = [one for one in callbacks if isinstance(one, TrainingCallback)]
        for one in ours:
            one.training = self
        self._epochs = Epochs(callbacks, self, verbose)
        self._evaluations = [one for one in ours if isinstance(one, KeepBest)]
        self._checkpoints = [one for one in ours if isinstance(one, Checkpoints)]
        self._listeners = sorted([self._epochs, *ours], key=lambda one: one not in self._evaluations)

    @property
    def steps(self) -> int:
        """Of all environments, those before an interruption included."""
        return self.agent.steps

    @property
    def over(self) -> bool:
        """Whether it ends here: everything is played that was asked for, or a callback stops it."""
        played = self.runner.steps is not None and self.steps >= self.runner.steps
        return played or self.runner.is_over(self.history) or bool(self._model.stop_training)

    def stop(self, reached: Evaluated | None = None) -> None:
        """End the training after this step, as `model.stop_training = True` does, since this was reached."""
        self.reached = reached
        self._model.stop_training = True

    def hear(self, step: TrainStep) -> None:
        """Count a `TrainStep` and tell the callbacks."""
        self.runner.seconds = time.perf_counter() - self._began
        if step.losses is not None:
            self.history.add_losses(step.losses)
        counted, self.comments = [], []
        for episode in step.episodes:
            if self.runner.is_over(self.history):
                break  # several environments may end an episode in the same step
            counted.append(episode._replace(time=self.runner.seconds))
            self.history.append(counted[-1])
            self.comments += self.runner.comments(self.history)
        step = step._replace(steps=self.steps, episodes=counted)
        for one in self._listeners:
            one.on_step(step)

    def __enter__(self) -> "Training":
        self._epochs.on_train_begin()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: Any) -> None:
        with ExitStack() as closing:  # what is named last is done first
            for one in self._listeners:
                closing.callback(one.close, kind)
            if self.agent.weight_backup is not None:
                closing.callback(self.agent.save_model)
            if kind is None or issubclass(kind, KeyboardInterrupt):  # after any other a step may be half done
                closing.callback(self._epochs.on_train_end)
                closing.callback(self.agent.learner.end_training)
                for one in self._checkpoints:  # a training that is resumed goes on from the weights before that
                    closing.callback(one.save, self.runner)
            if kind is None:
                for one in self._evaluations:
                    one.evaluate()  # unless the last step is evaluated already
                self._epochs.end_last_epoch()


@contextmanager
def held_interruptions() -> Iterator[Callable[[], None]]:
    """While this context is open, Ctrl-C and SIGTERM wait; yields what raises one that waits. The second does not wait.

    A handler that somebody else has installed stays, as does that a signal is ignored. Outside of the main thread,
    which is the one that signals reach, nothing changes.
    """
    held, usual = [], {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

    def receive(number, frame):
        if held:
            raise KeyboardInterrupt
        held.append(number)

    def raise_held():
        if held:
            held.clear()
            raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    replaced = [number for number, own in usual.items() if in_main_thread and signal.getsignal(number) == own]
    try:
        for number in replaced:
            signal.signal(number, receive)
        yield raise_held
    finally:
        for number in replaced:
            signal.signal(number, usual[number])
    raise_held()


def _callbacks(callbacks, settings):
    """Those of the caller, one or several, and those that settings ask for, as a list."""
    callbacks = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    for one in callbacks:
        if not isinstance(one, keras.callbacks.Callback):
            helps = f"; how long it trains, the game is told: CartPole(episodes={one})" * isinstance(one, int)
            raise ValueError(f"`callbacks` must be keras.callbacks.Callback objects{helps}. Received: {one!r}")
    if settings.evaluate_every is not None:
        callbacks.append(KeepBest(settings.evaluate_every, settings.stop_score, settings.evaluate_max_episode_steps))
    if settings.tensorboard is not None:
        callbacks.append(Board(settings.tensorboard))
    return callbacks


def _check(runner, callbacks, settings):
    """Find out before training what would make it fail at its end; returns the files that it will write weights to."""
    agent, rate = runner.agent, settings.learning_rate
    written = [] if agent.weight_backup is None else [agent.weight_backup]
    if any(isinstance(one, KeepBest) for one in callbacks):
        written.append(runner.best_backup)
    for path in written:
        check_writable(path)
    if rate is not None and (schedule := agent.settings.learner.learning_rate_schedule) is not None:
        raise ValueError(f"`learning_rate` follows a schedule, {schedule}. Received: {rate!r}")
    if settings.checkpoints is not None and not hasattr(agent.brain, "weights"):
        raise ValueError(f"Checkpoints are of agents with a Keras brain. Received: {type(agent).__name__}")
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
        return fleet_of(runner, settings)
    if every is None:
        return runner.training_env()
    if runner.num_envs > 1:
        raise ValueError(f"`record_every` films a single environment. Received: num_envs={runner.num_envs}")
    return VideoRecorder(
        runner.make_env("rgb_array"),
        lambda episode: runner.video_folder / f"{runner.name}_episode_{episode}.mp4",
        episode_trigger=lambda episode: episode % every == 0,
    )


def fleet_of(runner: Any, settings: TrainSettings) -> VectorEnv:
    """The actors that play a runner's games, as many as it has environments, or one each; errors are those of `Fleet`.

    Training is then not the same from run to run, and never to the last bit what it is without actors.
    """
    from keras_dqn.ray.actors import forward_of
    from keras_dqn.ray.fleet import Fleet  # an extra

    agent = runner.agent
    exploration = agent.settings.exploration
    return Fleet(
        runner.envs_elsewhere(),
        forward_of(agent.learner.keras_model(), getattr(agent.learner, "objective", None)),  # PyTorch's has none
        runner.num_envs,
        settings.actors,
        settings.ray or "auto",
        agent.settings.memory.rollout,
        settings.in_order,
        settings.ahead,
        action_size=agent.action_size,
        hold=exploration.hold_random_actions,
        masked=exploration.mask_actions,
        stack=agent.state_shape[0] if getattr(runner.env.unwrapped, "stacks_frames", False) else None,
    )
