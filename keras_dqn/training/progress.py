"""What shows how a training goes: a bar, lines of text, and a learning curve that grows."""

import shutil
import sys
import time
from typing import Any

from tqdm.auto import tqdm

from keras_dqn.core.loop import TrainStep
from keras_dqn.show.notebook import notebook_picture
from keras_dqn.show.plots import learning_curve
from keras_dqn.training.callbacks import TrainingCallback

EVERY = 3.0  # seconds between two drawings, at least
SHARE = 0.05  # of the time that drawing may take
NARROW = 100  # columns of a terminal; in fewer there is only room for a short bar


class ProgressBar(TrainingCallback):
    """A bar with the score, the mean of the last 100 episodes and epsilon, and the lines that a game has to say.

    A training that reaches its goal ends with a full green bar and one line that says so; one that is interrupted, with
    a line that says how far it came and where the weights are.

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
        columns = shutil.get_terminal_size().columns if sys.stderr.isatty() else NARROW
        narrow = {"ncols": columns - 1, "bar_format": "{percentage:3.0f}%|{bar}| {remaining}{postfix}"}
        options = {"unit": unit, "desc": runner.name, "disable": not self.shown, **(narrow if columns < NARROW else {})}
        self._bar = tqdm(total=total, initial=done, **options)
        if self.shown:
            self._bar.leave = self._bar.pos == 0  # it stays on the screen, unless it is inside another one
        self._advance(0)
        self._bar.refresh()

    def on_step(self, step: TrainStep) -> None:
        if not step.episodes:
            return
        if self.verbose:
            for number, episode in enumerate(step.episodes, len(self.training.history) - len(step.episodes)):
                self._bar.write(f"Episode {number}# Score: {episode.score:g}")
        self._advance(len(step.episodes))
        for line in self.training.comments:
            self._bar.write(line)

    def close(self, error: type | None) -> None:
        training = self.training
        self._advance(0, ends=True)  # by the steps of episodes under way
        solved = training.runner.is_over(training.history) and len(training.history) < training.runner.episodes
        if self.shown and error is None and (training.reached or solved):
            self._fill()
        self._bar.close()
        if error is None and training.reached:
            print(self._success())
        elif error is not None and issubclass(error, KeyboardInterrupt):
            print(self._how_far())

    def _advance(self, episodes, ends=False):
        """By so many episodes, or to the steps that there are; several environments may make some too many."""
        runner, history = self.training.runner, self.training.history
        shown = runner.progress(history) if history else {}
        if not (ends or runner.agent.learner.updates):
            shown["first update"] = "compiling"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(min(self.training.steps, runner.steps) - self._bar.n if runner.steps else episodes)

    def _fill(self):
        bar = self._bar
        bar.total = bar.n = max(bar.n, 1)  # of none that has ended, the one under way
        if hasattr(bar, "container"):  # of a notebook
            bar.container.children[1].max = bar.n
        if hasattr(bar, "container") or sys.stderr.isatty():  # a file would have the codes in it
            bar.colour = "green"

    def _success(self):
        (steps, mean, _), runner = self.training.reached, self.training.runner
        word = "Solved" if runner.solved_score is None or mean >= runner.solved_score else "Stopped"
        played = f"mean {mean:.1f} over 100 greedy episodes"
        return f"{word} after {steps:,} steps: {played}; weights: {runner.best_backup}"

    def _how_far(self):
        training, runner = self.training, self.training.runner
        backup = runner.agent.weight_backup
        weights = "not saved" if backup is None or not backup.exists() else backup
        best = "" if runner.best_score is None else f"; the best: {runner.best_backup}"
        played = f"{len(training.history):,} episodes and {training.steps:,} steps"
        return f"Interrupted after {played}; weights: {weights}{best}"


class LiveCurve(TrainingCallback):
    """Draws the learning curve in a notebook's output, and again and again as the history grows, in the same place.

    Drawing takes a second or so on a slow machine; it is done so rarely that it costs a twentieth of the time.
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._next, self._handle = time.monotonic() + EVERY, None

    def on_step(self, step: TrainStep) -> None:
        if step.episodes and time.monotonic() >= self._next:
            self.draw()

    def close(self, error: type | None) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw what there is; nothing where no episode has ended yet."""
        history, runner = self.training.history, self.training.runner
        if not history:
            return
        from IPython.display import display

        began = time.monotonic()
        curve = learning_curve(history, solved_score=runner.solved_score, title=runner.environment)
        picture, metadata = notebook_picture(curve)
        if self._handle is None:
            self._handle = display(picture, metadata=metadata, raw=True, display_id=True)
        else:
            self._handle.update(picture, metadata=metadata, raw=True)
        now = time.monotonic()
        self._next = now + max(EVERY, (now - began) / SHARE)
