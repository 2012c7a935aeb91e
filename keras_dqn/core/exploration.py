"""How the agent explores: epsilon as a function of its steps or of its replays, and epsilon-greedy policies."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from keras_dqn.checks import Seed

NEVER_ENDS = 10**12  # steps: by then every schedule is at its end


@dataclass(frozen=True)
class Linear:
    """Epsilon from `start` to `end` in a straight line over `steps_to_end` steps, then `end` (Mnih et al. 2015)."""

    start: float
    end: float
    steps_to_end: int

    def __call__(self, steps: int) -> float:
        return _on_the_way(self.start, self.end, steps / self.steps_to_end)


@dataclass(frozen=True)
class Exponential:
    """Epsilon from `start` towards `end`, 63 % of the way after `decay_steps` steps (the PyTorch tutorial)."""

    start: float
    end: float
    decay_steps: float

    def __call__(self, steps: int) -> float:
        return self.end + (self.start - self.end) * math.exp(-steps / self.decay_steps)


@dataclass(frozen=True)
class Blocks:
    """Epsilon 1, times `factor` after every `block_steps` steps, never below `minimum` (the MountainCar notebook)."""

    factor: float
    block_steps: int
    minimum: float

    def __call__(self, steps: int) -> float:
        return max(self.factor ** (steps // self.block_steps), self.minimum)


@dataclass(frozen=True, init=False)
class Pieces:
    """Epsilon in straight lines between points (steps, epsilon), constant before the first and after the last."""

    points: tuple

    def __init__(self, *points: tuple[float, float]):
        object.__setattr__(self, "points", points)

    def __call__(self, steps: int) -> float:
        return float(np.interp(steps, *zip(*self.points, strict=True)))


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

    def of(self, steps: int | None) -> "OverTraining":
        """The same over a training of so many steps; unchanged for None."""
        return self if steps is None else replace(self, steps=steps)

    def __call__(self, steps: int) -> float:
        return _on_the_way(self.start, self.end, steps / (self.fraction * self.steps))

    def __str__(self):
        return f"{self.start:g} to {self.end:g} over {self.fraction * self.steps:g} steps"


BETA = OverTraining(0.4, 1.0, steps=100_000)  # of prioritized replay, where nothing else is said (Schaul et al. 2016)


def _on_the_way(start, end, fraction):
    """The number that far between two, 1 and more at the end."""
    return start + (end - start) * min(fraction, 1.0)


def over_training(options: dict, steps: int | None) -> dict:
    """The options with every `OverTraining` among them over a training of so many steps; None changes none."""
    if options.get("prioritized"):
        options = {"priority_beta": BETA, **options}
    return {name: value.of(steps) if isinstance(value, OverTraining) else value for name, value in options.items()}


# -------------------------------------------------------------------- epsilon as it falls


class EpsilonSchedule:
    """Epsilon over the steps and replays of an agent.

    Attributes:
        value: epsilon as it is now.
        minimum: what it falls to.
        decay: its factor after each replay; None where it has none.
        held_at_minimum: whether it stays there, whatever the steps.
    """

    decay: float | None = None

    def __init__(self, start: float, minimum: float):
        self.start, self.minimum = start, minimum
        self.reset()

    def reset(self) -> None:
        """Explore as at first."""
        self.value, self.held_at_minimum = self.start, False

    def hold_at_minimum(self) -> None:
        """Explore at the minimum from now on."""
        self.value, self.held_at_minimum = self.minimum, True

    def after_steps(self, steps: int) -> None:
        """So many steps have been made."""

    def after_replay(self) -> None:
        """A replay has been made."""


class BySteps(EpsilonSchedule):
    """Epsilon as a function of the steps made.

    Args:
        schedule: a function from steps, an int, to epsilon: one of the above, or the caller's own.
    """

    def __init__(self, schedule: Callable[[int], float]):
        self.schedule = schedule
        super().__init__(schedule(0), float(schedule(NEVER_ENDS)))

    def after_steps(self, steps: int) -> None:
        if not self.held_at_minimum:
            self.value = self.schedule(steps)


class ByReplays(EpsilonSchedule):
    """Epsilon is multiplied by `decay` after each replay while it is above `minimum` (the CartPole notebook)."""

    def __init__(self, start: float, minimum: float, decay: float):
        self.decay = decay
        super().__init__(start, minimum)

    def after_replay(self) -> None:
        if self.value > self.minimum:
            self.value *= self.decay


# -------------------------------------------------------------------- policies


class EpsilonGreedy:
    """The action of the highest Q-value, or with probability epsilon a random one.

    Args:
        action_size: number of actions.
        seed: of the draws; an int, a `np.random.SeedSequence`, a `Generator`, or None for fresh entropy.
    """

    def __init__(self, action_size: int, seed: Seed = None):
        self.action_size, self.random = action_size, np.random.default_rng(seed)

    def begin_episodes(self) -> None:
        """All environments begin new episodes."""

    def end_episodes(self, env_ids: np.ndarray) -> None:
        """The episodes of these environments, [M] int, are over."""

    def __call__(self, q_values: np.ndarray, epsilon: float, action_mask: np.ndarray | None = None) -> np.ndarray:
        """Actions, [N] int, from Q-values, [N, actions]; of those that the mask allows, [N, actions] bool."""
        actions = greedy(q_values, action_mask)
        if epsilon > 0:
            for i, draw in enumerate(self.random.random(len(actions)).tolist()):
                if draw < epsilon:  # then the draw over epsilon is uniform too: it picks the action
                    choice = range(self.action_size) if action_mask is None else np.flatnonzero(action_mask[i])
                    actions[i] = choice[int(draw / epsilon * len(choice))]
        return actions


class HeldEpsilonGreedy(EpsilonGreedy):
    """Temporally extended epsilon-greedy: a random action is held for a random number of steps (Dabney et al. 2020).

    Single random actions cancel each other out where it takes a run of the same ones to get anywhere. The duration is
    drawn uniformly from 1 to `longest`; the paper draws it from a zeta distribution.

    Args:
        longest: the most steps an action is held.
    """

    def __init__(self, action_size: int, longest: int, seed: Seed = None):
        super().__init__(action_size, seed)
        self.longest = longest
        self._left = np.zeros(0, int)  # [N]: for how many more steps each environment's action is held
        self._held = np.zeros(0, int)

    def begin_episodes(self) -> None:
        self._left[:] = 0

    def end_episodes(self, env_ids: np.ndarray) -> None:
        if len(self._left):
            self._left[env_ids] = 0

    def __call__(self, q_values: np.ndarray, epsilon: float, action_mask: np.ndarray | None = None) -> np.ndarray:
        actions = greedy(q_values, action_mask)
        if epsilon == 0:
            return actions
        if len(self._left) != len(actions):
            self._left, self._held = np.zeros(len(actions), int), np.zeros(len(actions), int)
        begins = (self._left == 0) & (self.random.random(len(actions)) < epsilon)
        if count := np.count_nonzero(begins):
            self._left[begins] = self.random.integers(1, self.longest + 1, size=count)
            self._held[begins] = self.random.integers(self.action_size, size=count)
        held = self._left > 0
        self._left[held] -= 1
        if action_mask is not None:  # what is held gives way where it is not allowed
            held &= action_mask[np.arange(len(actions)), self._held]
        actions[held] = self._held[held]
        return actions


def greedy(q_values: np.ndarray, action_mask: np.ndarray | None = None) -> np.ndarray:
    """The action of the highest Q-value of each row, [N, actions] to [N] int, of those that the mask allows."""
    return (q_values if action_mask is None else np.where(action_mask, q_values, -np.inf)).argmax(-1)


def epsilon_greedy(action_size: int, hold: int, seed: Seed = None) -> EpsilonGreedy:
    """The policy that takes random actions with probability epsilon and holds each of them for up to `hold` steps."""
    return HeldEpsilonGreedy(action_size, hold, seed) if hold > 1 else EpsilonGreedy(action_size, seed)
