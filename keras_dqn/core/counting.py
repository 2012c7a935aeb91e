"""What is counted while an agent plays: what is due, and episodes as they end."""

import time
from typing import NamedTuple

import numpy as np

from keras_dqn.core.transition import StepBatch


class Every:
    """Tells how often something is due, by a count that only grows.

    Args:
        n: after every so many.
        start: what was counted before.

    Example:
        replays_due = Every(8)
        for _ in range(replays_due(steps)):  # once for each multiple of 8 that was passed since it was last asked
            agent.replay()
    """

    def __init__(self, n: int, start: int = 0):
        self.n, self._passed = n, start // n

    def __call__(self, count: int) -> int:
        passed, self._passed = self._passed, count // self.n
        return self._passed - passed


class Episode(NamedTuple):
    """One finished episode."""

    score: float  # sum of rewards, undiscounted
    length: int  # steps
    loss: float  # mean loss of the updates made during the episode, or NaN where there were none
    epsilon: float  # exploration rate at its last step
    time: float  # seconds since training began, at its end


class EpisodeStats:
    """Counts the steps and episodes of a loop, and what each of N environments has collected in its episode so far.

    Attributes:
        steps: made, over all environments.
        episodes: ended.
    """

    def __init__(self, num_envs: int):
        self.steps = self.episodes = 0
        self._scores = np.zeros(num_envs)
        self._rounds, self._begun = 0, np.zeros(num_envs, int)  # of all environments, and each's less its length
        self._losses, self._updates = np.zeros(num_envs), np.zeros(num_envs, int)
        self._started = time.perf_counter()

    def add(self, steps: StepBatch) -> int:
        """Count `StepBatch`; returns how many episodes end with them."""
        count = len(steps.reward)
        if count == len(self._scores):  # nearly always, and this runs every step
            self._rounds += 1
            self._scores = self._scores + steps.raw_reward  # half the cost of `+=` for an array of one
        else:
            self._scores[steps.env_id] += steps.raw_reward
            self._begun[steps.env_id] -= 1
        self.steps += count
        ends = int(np.count_nonzero(steps.done))
        self.episodes += ends
        return ends

    def add_losses(self, losses: np.ndarray) -> None:
        """Count the losses of a replay for the episodes that are being played."""
        self._losses += losses.sum()
        self._updates += len(losses)

    def end(self, environments: np.ndarray, epsilon: float) -> list[Episode]:
        """The `Episode`s of the environments, [M] int, in which one has ended; their counts begin anew."""
        seconds = time.perf_counter() - self._started
        episodes = [self._episode(i, epsilon, seconds) for i in environments]
        self._begun[environments] = self._rounds
        for counts in (self._scores, self._losses, self._updates):
            counts[environments] = 0
        return episodes

    def _episode(self, i, epsilon, seconds):
        loss = self._losses[i] / self._updates[i] if self._updates[i] else float("nan")
        length = int(self._rounds - self._begun[i])
        return Episode(float(self._scores[i]), length, float(loss), float(epsilon), seconds)
