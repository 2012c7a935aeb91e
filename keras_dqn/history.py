"""What training tells afterwards: a record of each episode, the loss of each update, and each evaluation."""

from array import array
from typing import NamedTuple

import numpy as np


class Episode(NamedTuple):
    """One finished episode."""

    score: float  # sum of rewards, undiscounted
    length: int  # steps
    loss: float  # mean loss of the updates made during the episode, or NaN where there were none
    epsilon: float  # exploration rate at its last step
    time: float  # seconds since training began, at its end


class Evaluated(NamedTuple):
    """One evaluation in the middle of training."""

    steps: int  # environment steps made before it
    score: float  # mean of its greedy episodes
    seconds: float  # that it took


class History(list):
    """A list of `Episode`s, in the order they ended; its columns as arrays.

    Attributes:
        evaluations: an `Evaluated` for each evaluation made.
    """

    def __init__(self, episodes=()):
        super().__init__(episodes)
        self.evaluations = []
        self._update_losses = array("f")  # 4 bytes an update, as there may be millions

    scores = property(lambda self: self._column("score"), doc="[episodes] float, sum of rewards")
    lengths = property(lambda self: self._column("length"), doc="[episodes] int, steps")
    losses = property(lambda self: self._column("loss"), doc="[episodes] float, NaN where nothing was learned")
    epsilons = property(lambda self: self._column("epsilon"), doc="[episodes] float")
    times = property(lambda self: self._column("time"), doc="[episodes] float, seconds")

    @property
    def update_losses(self):
        """[updates] float32, the loss of each update in the order they were made."""
        return np.array(self._update_losses, np.float32)

    def add_losses(self, losses):
        """Keep the losses, [K] float32, of K updates."""
        self._update_losses.frombytes(losses.tobytes())

    def mean_score(self, last=100):
        """Mean score of the last episodes, NaN where there is none."""
        return float(np.mean([episode.score for episode in self[-last:]])) if self else float("nan")

    def _column(self, name):
        return np.array([getattr(episode, name) for episode in self])

    def __repr__(self):
        return (
            f"<History of {len(self)} episodes, mean score of the last {min(len(self), 100)}: {self.mean_score():.1f}>"
        )
