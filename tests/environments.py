"""Environments whose every number is known, for tests of the loop."""

import gymnasium as gym
import numpy as np


class Counter(gym.Env):
    """Counts its steps: the state is [episode, step], the reward 10 * episode + step.

    Episode e terminates after `lengths[e % len(lengths)]` steps, or is truncated there if that is negative.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": []}

    def __init__(self, lengths=(3, -2)):
        self.lengths = lengths
        self.episode = -1
        self.seeds = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.episode += 1
        self.steps = 0
        return self._state(), {}

    def step(self, action):
        self.steps += 1
        length = self.lengths[self.episode % len(self.lengths)]
        over = self.steps == abs(length)
        return self._state(), float(10 * self.episode + self.steps), over and length > 0, over and length < 0, {}

    def _state(self):
        return np.array([self.episode, self.steps], np.float32)
