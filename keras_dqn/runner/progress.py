"""What shows how a training goes: a bar, lines of text, and a learning curve that grows."""

import time

from tqdm.auto import tqdm

from keras_dqn.runner.callbacks import TrainingCallback
from keras_dqn.show.plots import learning_curve, notebook_picture

EVERY = 3.0  # seconds between two drawings, at least
SHARE = 0.05  # of the time that drawing may take


class ProgressBar(TrainingCallback):
    """A bar with the score, the mean of the last 100 episodes and epsilon, and the lines that a game has to say.

    Args:
        shown: whether there is a bar; lines are printed all the same.
        verbose: print "Episode i# Score: n" after each episode.
    """

    def __init__(self, shown=True, verbose=False):
        super().__init__()
        self.shown, self.verbose = shown, verbose

    def on_train_begin(self, logs=None):
        training, runner = self.training, self.training.runner
        total, unit = (runner.steps, "step") if runner.steps else (runner.episodes, "episode")
        done = training.steps if runner.steps else len(training.history)
        # leave=None: the bar stays on the screen, unless it is inside another one
        self._bar = tqdm(total=total, initial=done, unit=unit, desc=runner.name, disable=not self.shown, leave=None)

    def on_step(self, step):
        if not step.episodes:
            return
        runner, history = self.training.runner, self.training.history
        for number, episode in enumerate(step.episodes, len(history) - len(step.episodes)):
            if self.verbose:
                self._bar.write(f"Episode {number}# Score: {episode.score:g}")
            self._bar.update(episode.length if runner.steps else 1)
        for line in self.training.comments:
            self._bar.write(line)
        self._bar.set_postfix(runner.progress(history), refresh=False)

    def close(self, error):
        if self.training.runner.steps:  # those of episodes under way
            self._bar.update(self.training.steps - self._bar.n)
        self._bar.close()


class LiveCurve(TrainingCallback):
    """Draws the learning curve in a notebook's output, and again and again as the history grows, in the same place.

    Drawing takes a second or so on a slow machine; it is done so rarely that it costs a twentieth of the time.

    Args:
        **options: of `plots.learning_curve`.
    """

    def __init__(self, **options):
        super().__init__()
        self.options = options
        self._handle = None

    def on_train_begin(self, logs=None):
        self._next = time.monotonic() + EVERY

    def on_step(self, step):
        if step.episodes and time.monotonic() >= self._next:
            self.draw()

    def close(self, error):
        self.draw()

    def draw(self):
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
