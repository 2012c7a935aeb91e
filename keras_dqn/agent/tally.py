"""Episodes as they end: score, length and mean loss, counted from the steps of N environments."""

import time

import numpy as np

from keras_dqn.records.history import Episode

UNDER_WAY = "scores", "lengths", "losses", "updates"


class Tally:
    """Counts the steps and episodes of a loop, and what each of N environments has collected in its episode so far.

    Attributes:
        steps: made, over all environments.
        episodes: ended.
    """

    def __init__(self, num_envs):
        self.steps = self.episodes = 0
        self._scores, self._lengths = np.zeros(num_envs), np.zeros(num_envs, int)
        self._losses, self._updates = np.zeros(num_envs), np.zeros(num_envs, int)
        self._started = time.perf_counter()

    def add(self, steps):
        """Count `Steps`; returns how many episodes end with them."""
        count = len(steps.reward)
        if count == len(self._scores):  # nearly always, and this runs every step
            self._scores += steps.true_reward
            self._lengths += 1
        else:
            self._scores[steps.environment] += steps.true_reward
            self._lengths[steps.environment] += 1
        self.steps += count
        ends = int(np.count_nonzero(steps.ended))
        self.episodes += ends
        return ends

    def add_losses(self, losses):
        """Count the losses of a replay for the episodes that are being played."""
        self._losses += losses.sum()
        self._updates += len(losses)

    def end(self, environments, epsilon):
        """The `Episode`s of the environments, [M] int, in which one has ended; their counts begin anew."""
        seconds = time.perf_counter() - self._started
        episodes = [self._episode(i, epsilon, seconds) for i in environments]
        for counts in (self._scores, self._lengths, self._losses, self._updates):
            counts[environments] = 0
        return episodes

    def episodes_under_way(self):
        """Their score, length, sum of losses and number of updates, as copies: {name: [N]}."""
        return {name: np.array(getattr(self, f"_{name}")) for name in UNDER_WAY}

    def go_on_with(self, episodes):
        """Count on in what `episodes_under_way` gave."""
        for name in UNDER_WAY:
            setattr(self, f"_{name}", np.array(episodes[name]))

    def _episode(self, i, epsilon, seconds):
        loss = self._losses[i] / self._updates[i] if self._updates[i] else float("nan")
        return Episode(float(self._scores[i]), int(self._lengths[i]), float(loss), float(epsilon), seconds)
