"""How much the agent explores, as functions of its steps, and for how long a random action is held."""

import math
from dataclasses import dataclass, replace

import numpy as np


def exponential(start, end, decay_steps):
    """Epsilon from `start` towards `end`, 63 % of the way after `decay_steps` steps (the PyTorch tutorial)."""
    return lambda steps: end + (start - end) * math.exp(-steps / decay_steps)


def blocks(factor, block_steps, minimum):
    """Epsilon 1, times `factor` after every `block_steps` steps, never below `minimum` (the MountainCar notebook)."""
    return lambda steps: max(factor ** (steps // block_steps), minimum)


def linear(start, end, steps_to_end):
    """Epsilon from `start` to `end` in a straight line over `steps_to_end` steps, then `end` (Mnih et al. 2015)."""
    return lambda steps: start + (end - start) * min(steps / steps_to_end, 1.0)


def pieces(*points):
    """Epsilon in straight lines between points (steps, epsilon), constant before the first and after the last."""
    steps_at, epsilons = zip(*points, strict=True)
    return lambda steps: float(np.interp(steps, steps_at, epsilons))


@dataclass(frozen=True)
class OverTraining:
    """A number that goes from `start` to `end` in a straight line over a fraction of a training's steps, then stays.

    Args:
        start, end: epsilons, or learning rates.
        fraction: of the steps that the training is to make; 1 for all of them.
        steps: how many these are where nobody says so; `of` makes it the number that was asked for.
    """

    start: float
    end: float
    fraction: float = 1.0
    steps: int = 10_000_000

    def of(self, steps):
        """The same over a training of so many steps; unchanged for None."""
        return self if steps is None else replace(self, steps=steps)

    def __call__(self, steps):
        return self.start + (self.end - self.start) * min(steps / (self.fraction * self.steps), 1.0)

    def __str__(self):
        return f"{self.start:g} to {self.end:g} over {self.fraction * self.steps:g} steps"


def over_training(options, steps):
    """The options with every `OverTraining` among them over a training of so many steps; None changes none."""
    return {name: value.of(steps) if isinstance(value, OverTraining) else value for name, value in options.items()}


class HeldActions:
    """Temporally extended epsilon-greedy: a random action is held for a random number of steps (Dabney et al. 2020).

    Single random actions cancel each other out where it takes a run of the same ones to get anywhere. The duration is
    drawn uniformly from 1 to `longest`; the paper draws it from a zeta distribution.

    Args:
        longest: the most steps an action is held.
    """

    def __init__(self, longest):
        self.longest = longest
        self._left = np.zeros(0, int)  # [N]: for how many more steps each environment's action is held
        self._action = np.zeros(0, int)

    def apply(self, actions, epsilon, action_size, random):
        """The actions, [N] int, with those replaced that are held or, with probability epsilon, begin to be."""
        if len(self._left) != len(actions):
            self._left, self._action = np.zeros(len(actions), int), np.zeros(len(actions), int)
        begins = (self._left == 0) & (random.random(len(actions)) < epsilon)
        if count := np.count_nonzero(begins):
            self._left[begins] = random.integers(1, self.longest + 1, size=count)
            self._action[begins] = random.integers(action_size, size=count)
        held = self._left > 0
        actions[held] = self._action[held]
        self._left[held] -= 1
        return actions
