"""What a training leaves behind while it goes on: a log, checkpoints, and a Ctrl-C that finds them whole."""

import signal

from keras_dqn.records.checkpoint import Checkpoints, Progress
from keras_dqn.records.log import TrainingLog
from keras_dqn.runner.callbacks import TrainingCallback


class Recording(TrainingCallback):
    """Has the `Records` of a training listen to it.

    Args:
        records: those.
    """

    def __init__(self, records):
        super().__init__()
        self.records = records

    def on_train_begin(self, logs=None):
        self.records.__enter__()

    def on_step(self, step):
        self.records.hear(step)

    def close(self, error):
        self.records.__exit__(error, None, None)


class Records:
    """Listens to a training: writes the rows of its log and its checkpoints when they are due, and at its end.

    As a context it holds Ctrl-C back until the step is over, so that what is saved then is whole; the second Ctrl-C
    does not wait.

    Args:
        runner: whose training it is.
        checkpoints: a `Checkpoints`, or the folder for one.
        resume: whether the runner, its agent and history go on from the newest checkpoint; that is printed.
        tensorboard: a folder for TensorBoard, or None.

    Raises:
        ValueError: the agent's brain is no Keras model.
        CheckpointError: see `Checkpoints.restore` and `Checkpoints.check_unused`.
        OSError: the checkpoints cannot be written there, or have no room.
    """

    def __init__(self, runner, checkpoints, resume=False, tensorboard=None):
        if not hasattr(runner.agent.brain, "weights"):
            raise ValueError(f"Checkpoints are of agents with a Keras brain. Received: {type(runner.agent).__name__}")
        self._runner = runner
        self._checkpoints = checkpoints if isinstance(checkpoints, Checkpoints) else Checkpoints(checkpoints)
        folder = self._checkpoints.folder
        if not resume:
            self._checkpoints.check_unused()
        size = self._checkpoints.check_space(runner.agent)
        if self._checkpoints.memory:
            print(f"Each checkpoint in {folder} takes {size / 1e6:,.0f} MB once the memory is full; there are up to 3")
        self.seconds = self._restore() if resume else 0.0  # of training before this part of it
        self._log = TrainingLog(folder / "log.csv", frames_per_step=runner.frames_per_step, tensorboard=tensorboard)
        self._interrupted = False

    def __enter__(self):
        self._steps = self._runner.agent.steps
        self._log.begin(self._steps, self.seconds)
        try:
            self._handler = signal.signal(signal.SIGINT, self._interrupt)
        except ValueError:  # not in the main thread, which is the one that Ctrl-C reaches
            self._handler = None
        return self

    def __exit__(self, kind, error, traceback):
        try:
            if kind is None or issubclass(kind, KeyboardInterrupt):  # after any other error a step may be half done
                self._save()
        finally:
            if self._handler is not None:
                signal.signal(signal.SIGINT, self._handler)

    def hear(self, step):
        """Take note of a `Step` that the agent has learned from."""
        runner = self._runner
        self._log.hear(runner.agent.steps, step.losses, runner.agent, runner.history)
        if self._interrupted:
            raise KeyboardInterrupt
        try:
            every, before, self._steps = self._checkpoints.weights_every, self._steps, runner.agent.steps
            if every is not None and self._steps // every > before // every:
                self._checkpoints.save_weights(runner.agent)
            if self._checkpoints.due:
                self._save()
        except OSError as error:  # a full disk may have room again the next time
            print(f"The checkpoint was not written, training goes on. Received: {error}")
            self._checkpoints.postpone()

    def _interrupt(self, *_):
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True

    def _save(self):
        runner = self._runner
        progress = Progress(runner.history, self._log.seconds, runner.best_score)
        self._checkpoints.save(runner.agent, runner.settings, runner.generators, progress)

    def _restore(self):
        """Go on from the newest checkpoint and say so; returns the seconds of training until then."""
        runner, agent = self._runner, self._runner.agent
        path, progress, remarks = self._checkpoints.restore(agent, runner.settings, runner.generators)
        runner.history, runner.best_score = history, _ = progress.history, progress.best_score
        frames = "" if runner.frames_per_step is None else f" ({agent.steps * runner.frames_per_step:,} frames)"
        print(
            f"Restored {path}: {agent.steps:,} steps{frames}, {len(history):,} episodes, "
            f"{agent.learner.updates:,} updates, epsilon {agent.exploration_rate:.3f}, "
            f"mean score of the last {min(len(history), 100)}: {history.mean_score():.1f}"
        )
        for remark in remarks:
            print(remark)
        return progress.seconds


def open_records(runner, checkpoints, resume, tensorboard):
    """The `Records` of a training that has any, with everything restored on `resume`; else None."""
    if checkpoints is not None:
        return Records(runner, checkpoints, resume, tensorboard)
    if resume or tensorboard is not None:
        given = f"resume={resume}, tensorboard={tensorboard!r}"
        raise ValueError(f"`resume` and `tensorboard` need `checkpoints`. Received: {given}")
    return None
