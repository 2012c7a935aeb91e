"""What a training leaves behind while it goes on: a log, checkpoints, and a Ctrl-C that finds them whole."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_dqn.core.counting import Every
from keras_dqn.files.atomic import remove_abandoned
from keras_dqn.training.attempts import Attempts
from keras_dqn.training.callbacks import TrainingCallback
from keras_dqn.training.checkpoint import Checkpoints, Progress
from keras_dqn.training.interruptions import Interruptions
from keras_dqn.training.log import TrainingLog

if TYPE_CHECKING:
    from keras_dqn.core.loop import TrainStep
    from keras_dqn.training.runner import Runner


class Records(TrainingCallback):
    """Listens to a training: writes the rows of its log and its checkpoints when they are due, and at its end.

    While it listens the folder of the checkpoints is locked, and Ctrl-C and SIGTERM wait until the step is over, so
    that what is saved then is whole; the second one does not wait.

    Args:
        runner: whose training it is.
        checkpoints: a `Checkpoints`, or the folder for one.
        resume: whether the runner, its agent and history go on from the newest checkpoint; that is printed.
        tensorboard: a folder for TensorBoard, or None.

    Attributes:
        folder: of the checkpoints.

    Raises:
        ValueError: the agent's brain is no Keras model.
        CheckpointError: see `Checkpoints.restore`, `Checkpoints.check_unused` and `Checkpoints.claim`.
        OSError: the checkpoints cannot be written there, or have no room.
    """

    def __init__(self, runner: "Runner", checkpoints: Any, resume: bool = False, tensorboard: str | Path | None = None):
        if not hasattr(runner.agent.brain, "weights"):
            raise ValueError(f"Checkpoints are of agents with a Keras brain. Received: {type(runner.agent).__name__}")
        super().__init__()
        self._runner = runner
        self._checkpoints = checkpoints if isinstance(checkpoints, Checkpoints) else Checkpoints(checkpoints)
        folder = self.folder = self._checkpoints.folder
        self._checkpoints.check_unclaimed()
        if not resume:
            self._checkpoints.check_unused()
        size = self._checkpoints.check_space(runner.agent)
        if self._checkpoints.memory:
            print(f"Each checkpoint in {folder} takes {size / 1e6:,.0f} MB once the memory is full; there are up to 3")
        self._resumes = resume
        self.seconds = self._restore() if resume else 0.0  # of training before this part of it
        self._log = TrainingLog(folder / "log.csv", frames_per_step=runner.frames_per_step, tensorboard=tensorboard)
        self._attempts = Attempts("The checkpoint")
        self._weights_wait = False  # whether those of `weights_every` could not be written the last time
        self._interruptions = Interruptions(hold=True)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._checkpoints.claim()
        try:
            if self._resumes:
                self._remove_abandoned()
            steps, every = self._runner.agent.steps, self._checkpoints.weights_every
            self._weights_due = (lambda _: 0) if every is None else Every(every, steps)
            self._log.begin(steps, self.seconds)
        except BaseException:
            self._checkpoints.release()
            raise
        self._interruptions.__enter__()

    def close(self, error: type | None) -> None:
        try:
            self._log.write()
            if error is None or issubclass(error, KeyboardInterrupt):  # after any other error a step may be half done
                self._save()
        finally:
            self._interruptions.__exit__(None, None, None)
            self._checkpoints.release()

    def on_step(self, step: "TrainStep") -> None:
        runner = self._runner
        self._log.hear(runner.agent.steps, step.losses, runner.agent, runner.history)
        self._interruptions.raise_held()
        weights_due = self._weights_due(runner.agent.steps)
        checkpoint_due = self._checkpoints.due
        if not weights_due and not checkpoint_due:
            return
        with self._attempts:
            if weights_due or self._weights_wait:
                self._weights_wait = True
                self._checkpoints.save_weights(runner.agent)
                self._weights_wait = False
            if checkpoint_due:
                self._save()
        if checkpoint_due and self._attempts.failed:  # a full disk may have room again the next time
            self._checkpoints.postpone()

    def _remove_abandoned(self):
        """Remove the files that an earlier part of this training left beside its weights when it was killed."""
        if self._runner.agent.weight_backup is not None:
            for path in (self._runner.agent.weight_backup, self._runner.best_backup):
                remove_abandoned(path, age=0)

    def _save(self):
        runner, best = self._runner, self._runner.best_weights
        best_score = runner.best_score
        if best is not None:
            best.try_again()
            best_score = best.score  # of the weights in the file, which one that goes on has to do better than
        progress = Progress(runner.history, self._log.seconds, best_score)
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


def open_records(
    runner: "Runner", checkpoints: Any = None, resume: bool = False, tensorboard: str | Path | None = None
) -> Records | None:
    """The `Records` of a training that has any, with everything restored on `resume`; else None."""
    if checkpoints is not None:
        return Records(runner, checkpoints, resume, tensorboard)
    if resume or tensorboard is not None:
        given = f"resume={resume}, tensorboard={tensorboard!r}"
        raise ValueError(f"`resume` and `tensorboard` need `checkpoints`. Received: {given}")
    return None
