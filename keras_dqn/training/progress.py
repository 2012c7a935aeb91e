"""What shows how a training goes: a bar, lines of text, and a learning curve that grows."""

import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from keras_dqn.show.notebook import notebook_picture
from keras_dqn.show.plots import learning_curve
from keras_dqn.training.callbacks import TrainingCallback

if TYPE_CHECKING:
    from keras_dqn.core.loop import TrainStep

EVERY = 3.0  # seconds between two drawings, at least
SHARE = 0.05  # of the time that drawing may take
NARROW = 100  # columns of a terminal; in fewer, score and epsilon come first


class ProgressBar(TrainingCallback):
    """A bar with the score, the mean of the last 100 episodes and epsilon, and the lines that a game has to say.

    A training that reaches its goal ends with a full green bar and one line that says so; one that is interrupted, with
    a line that says how far it came and where the weights are. The time left does not count what is compiled once.

    Args:
        shown: whether there is a bar; lines are printed all the same.
        verbose: print "Episode i# Score: n" after each episode.
    """

    def __init__(self, shown: bool = True, verbose: bool = False):
        super().__init__()
        self.shown, self.verbose = shown, verbose

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        training, runner = self.training, self.training.runner
        total, unit = (runner.steps, "step") if runner.steps else (runner.episodes, "episode")
        done = training.steps if runner.steps else len(training.history)
        self._bar = tqdm(total=total, initial=done, unit=unit, desc=runner.name, disable=not self.shown)
        if self.shown:
            self._bar.leave = self._bar.pos == 0  # it stays on the screen, unless it is inside another one
        columns = shutil.get_terminal_size().columns if sys.stderr.isatty() else NARROW
        self._is_narrow = self.shown and columns < NARROW and not hasattr(self._bar, "container")
        if self._is_narrow:
            self._bar.ncols, self._bar.bar_format = columns - 1, "{percentage:3.0f}%|{bar}| {remaining}{postfix}"
        self._compiles = True  # with the first replay

    def on_step(self, step: "TrainStep") -> None:
        if self._compiles and step.losses is not None:
            self._compiles = False
            if self.shown:
                self._bar.unpause()
        if not step.episodes:
            return
        history = self.training.history
        for number, episode in enumerate(step.episodes, len(history) - len(step.episodes)):
            if self.verbose:
                self._bar.write(f"Episode {number}# Score: {episode.score:g}")
        self._advance(len(step.episodes))
        for line in self.training.comments:
            self._bar.write(line)
        self._bar.set_postfix(self._numbers(), refresh=False)

    def close(self, error: type | None) -> None:
        training = self.training
        self._advance(0)  # by the steps of episodes under way
        if self.shown and training.history:
            self._bar.set_postfix(self._numbers(), refresh=False)
        if error is None and self._has_reached_its_goal() and self.shown:
            self._fill()
        self._bar.close()
        if error is None and training.reached is not None:
            print(self._success())
        elif error is not None and issubclass(error, KeyboardInterrupt):
            print(self._how_far())

    def _advance(self, episodes):
        """By so many episodes, or to the steps that there are; several environments may make some too many."""
        if last := self.training.runner.steps:
            episodes = min(self.training.steps, last) - self._bar.n
        self._bar.update(episodes)

    def _numbers(self):
        """What the bar shows, {name: value}, in a narrow terminal the score and epsilon first."""
        runner, history = self.training.runner, self.training.history
        numbers = runner.progress(history)
        if history.evaluations:
            numbers["evaluation"] = f"{history.evaluations[-1].score:.1f}"
        if self._is_narrow:
            first = {name: numbers[name] for name in ("score", "epsilon") if name in numbers}
            numbers = {**first, **numbers}
        return numbers

    def _has_reached_its_goal(self):
        training = self.training
        solved = training.runner.is_over(training.history) and len(training.history) < training.runner.episodes
        return training.reached is not None or solved

    def _fill(self):
        bar = self._bar
        bar.total = bar.n = max(bar.n, 1)  # of none that has ended, the one under way
        if hasattr(bar, "container"):  # of a notebook
            bar.container.children[1].max = bar.n
        bar.colour = "green"

    def _success(self):
        steps, mean, _ = self.training.reached
        runner = self.training.runner
        solved = runner.solved_score is None or mean >= runner.solved_score
        return (
            f"{'Solved' if solved else 'Stopped'} after {steps:,} steps: mean {mean:.1f} over 100 greedy episodes; "
            f"weights: {runner.best_backup}"
        )

    def _how_far(self):
        training, runner = self.training, self.training.runner
        backup, episodes = runner.agent.weight_backup, len(training.history)
        weights = "not saved" if backup is None or not backup.exists() else backup
        best = "" if runner.best_score is None else f"; the best: {runner.best_backup}"
        return f"Interrupted after {episodes:,} episodes and {training.steps:,} steps; weights: {weights}{best}"


class LiveCurve(TrainingCallback):
    """Draws the learning curve in a notebook's output, and again and again as the history grows, in the same place.

    Drawing takes a second or so on a slow machine; it is done so rarely that it costs a twentieth of the time.

    Args:
        **options: of `plots.learning_curve`.
    """

    def __init__(self, **options: Any):
        super().__init__()
        self.options = options
        self._handle = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._next = time.monotonic() + EVERY

    def on_step(self, step: "TrainStep") -> None:
        if step.episodes and time.monotonic() >= self._next:
            self.draw()

    def close(self, error: type | None) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw what there is; nothing where no episode has ended yet."""
        if not self.training.history:
            return
        from IPython.display import display

        began = time.monotonic()
        picture, metadata = notebook_picture(learning_curve(self.training.history, **self.options))
        if self._handle is None:
            self._handle = display(picture, metadata=metadata, raw=True, display_id=True)
        else:
            self._handle.update(picture, metadata=metadata, raw=True)
        now = time.monotonic()
        self._next = now + max(EVERY, (now - began) / SHARE)
