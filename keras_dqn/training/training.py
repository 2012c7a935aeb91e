"""A training from its beginning to its end: what is checked first, who hears of it and in which order."""

import importlib.util
from collections.abc import Iterable
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

from keras_dqn.backend import keras
from keras_dqn.checks import check_above_zero, check_integer
from keras_dqn.files.atomic import check_writable, copied_beside
from keras_dqn.show.video import VideoRecorder, in_notebook
from keras_dqn.training.callbacks import Epochs, KeepBest, TrainingCallback
from keras_dqn.training.checkpointing import Records, open_records
from keras_dqn.training.evaluation import Evaluated
from keras_dqn.training.history import History
from keras_dqn.training.interruptions import Interruptions
from keras_dqn.training.progress import LiveCurve, ProgressBar

if TYPE_CHECKING:
    from keras_dqn.core.loop import TrainStep
    from keras_dqn.training.runner import Runner


def begin_training(
    runner: "Runner",
    callbacks: Iterable[keras.callbacks.Callback],
    *,
    verbose: bool = False,
    progress: bool = True,
    live: bool | None = None,
    record_every: int | None = None,
    evaluate_every: int | None = None,
    stop_score: float | None = None,
    learning_rate: float | None = None,
    actors: int | None = None,
    ray: str | None = None,
    in_order: bool = False,
    ahead: int = 2,
    **keeping: Any,
) -> "Training":
    """Check everything, then begin afresh or go on where a checkpoint ends: the `Training`.

    Arguments and errors are those of `Runner.train`; `keeping` are checkpoints, resume and tensorboard.
    """
    _check(runner, callbacks, evaluate_every, stop_score, learning_rate)
    if actors is None and (ray is not None or in_order):
        raise ValueError(f"`ray` and `in_order` need `actors`. Received: ray={ray!r}, in_order={in_order!r}")
    elsewhere = {"ray": ray, "in_order": in_order, "ahead": ahead}
    env = _environment(runner, record_every) if actors is None else _fleet(runner, record_every, actors, elsewhere)
    try:
        records = open_records(runner, **keeping)
    except BaseException:
        env.close()
        raise
    if learning_rate is not None:
        runner.agent.learner.learning_rate = learning_rate
    if not keeping.get("resume"):
        runner.history, runner.best_score = History(), None
        _keep_what_was_there(runner)
        runner.agent.reset_exploration()
    # The one order in which they hear of a step: an evaluation is part of the checkpoint of the same step.
    first = [] if evaluate_every is None else [KeepBest(evaluate_every, stop_score)]
    rest = [*callbacks, ProgressBar(progress, verbose)]
    if actors is not None and records is not None:
        rest.append(_watch(env, records))
    if in_notebook() if live is None else live:
        rest.append(LiveCurve(solved_score=runner.solved_score, title=runner.environment))
    if records is not None:
        rest.append(records)
    epochs = Epochs([*first, *rest], runner.agent.brain)
    listeners = [*first, epochs, *(one for one in rest if isinstance(one, TrainingCallback))]
    return Training(runner, env, listeners, records)


class Training:
    """A training under way: what the loop's steps come to, and who hears of them.

    As a context it begins and ends the callbacks and saves the agent's weights whatever ends it.

    Args:
        runner: whose training it is.
        env: what is played in; it is closed at the end.
        listeners: `TrainingCallback`s in the order in which they hear of a step; one of them is `Epochs`, which tells
            the others of everything else.
        records: the `Records` among them, if there are such: it may go on with a training before, and holds Ctrl-C
            back.

    Attributes:
        steps: of all environments, those before this training included where it goes on with one.
        history: the runner's.
        comments: lines that the game has to say of the episodes that ended with the last step.
        reached: the `Evaluated` that ended the training, or None.
    """

    reached: Evaluated | None = None

    def __init__(self, runner: "Runner", env: Any, listeners: list[TrainingCallback], records: Records | None = None):
        self.runner, self.env, self.agent, self.history = runner, env, runner.agent, runner.history
        self.seconds = 0.0 if records is None else records.seconds
        self.steps = self._steps_before = runner.agent.steps
        self._model = runner.agent.brain
        self._model.stop_training = False
        self._listeners = listeners
        self._epochs = next(one for one in listeners if isinstance(one, Epochs))
        self._guard = Interruptions() if records is None else nullcontext()
        for one in listeners:
            one.training = self
        self._on_step = [one.on_step for one in listeners if type(one).on_step is not TrainingCallback.on_step]

    @property
    def over(self) -> bool:
        """Whether it ends here: everything is played that was asked for, or a callback stops it."""
        last_step = self.runner.steps
        if last_step is not None and self.steps >= last_step:
            return True
        return self.runner.is_over(self.history) or bool(getattr(self._model, "stop_training", False))

    def stop(self) -> None:
        """End the training after this step, as `model.stop_training = True` does."""
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
            counted.append(episode._replace(time=self.seconds + episode.time))
            self.history.append(counted[-1])
            self.comments += self.runner.comments(self.history)
        step = step._replace(steps=self.steps, episodes=counted)
        for on_step in self._on_step:
            on_step(step)

    def __enter__(self):
        self._guard.__enter__()
        self._epochs.on_train_begin()
        return self

    def __exit__(self, kind, error, traceback):
        try:
            if kind is None or issubclass(kind, KeyboardInterrupt):  # after any other a step may be half done
                self._epochs.on_train_end()
        finally:
            with ExitStack() as closing:
                closing.callback(self.env.close)
                closing.push(self._guard)
                for one in self._listeners:  # the last is closed first
                    closing.callback(one.close, kind)
                self.agent.save_model()


def _check(runner, callbacks, evaluate_every, stop_score, learning_rate):
    """Find out before training what would make it fail at its end."""
    for one in callbacks:
        if not isinstance(one, keras.callbacks.Callback):
            raise ValueError(f"`callbacks` must be keras.callbacks.Callback objects. Received: {one!r}")
        if isinstance(one, keras.callbacks.TensorBoard) and importlib.util.find_spec("tensorboard") is None:
            pip = "pip install tensorboard"
            raise ImportError(f"Keras's TensorBoard needs the package tensorboard: {pip}. Received: {one!r}")
    if runner.agent.weight_backup is not None:
        check_writable(runner.agent.weight_backup)
    if evaluate_every is not None:
        check_integer("evaluate_every", evaluate_every)
        check_writable(runner.best_backup)
    elif stop_score is not None:
        raise ValueError(f"`stop_score` needs `evaluate_every`. Received: stop_score={stop_score!r}")
    if learning_rate is not None:
        check_above_zero("learning_rate", learning_rate)
        if (schedule := runner.agent.settings.learner.learning_rate_schedule) is not None:
            raise ValueError(f"`learning_rate` follows a schedule, {schedule}. Received: {learning_rate!r}")
    runner.agent.memory.check_fits(runner.agent.state_shape)


def _environment(runner, record_every):
    """What is trained in: one environment, filmed every so many episodes, or several."""
    if record_every is None:
        return runner.training_env()
    if runner.num_envs > 1:
        raise ValueError(f"`record_every` films a single environment. Received: num_envs={runner.num_envs}")
    check_integer("record_every", record_every)
    return VideoRecorder(
        runner.make_env("rgb_array"),
        lambda episode: runner.video_folder / f"{runner.name}_episode_{episode}.mp4",
        episode_trigger=lambda episode: episode % record_every == 0,
    )


def _fleet(runner, record_every, actors, elsewhere):
    """The actors that play instead of an environment here."""
    from keras_dqn.training.remote import fleet_of

    if record_every is not None:
        raise ValueError(f"`record_every` films an environment that is here. Received: actors={actors}")
    return fleet_of(runner, actors, **elsewhere)


def _watch(fleet, records):
    """What writes down how the actors do."""
    from keras_dqn.training.remote import ActorsLog, WatchActors

    return WatchActors(ActorsLog(fleet, records.folder / "actors.csv"), records.seconds)


def _keep_what_was_there(runner):
    """Keep the weights that a training before this runner left in the backup file, which this one will replace."""
    backup = runner.agent.weight_backup
    if not runner.owns_backup and backup is not None and backup.exists() and (kept := copied_beside(backup)):
        print(f"The weights in {backup} are kept as {kept}")
    runner.owns_backup = True
