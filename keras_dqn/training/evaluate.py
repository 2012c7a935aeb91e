"""Whole episodes played without learning: for scores, and for films."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from keras_dqn.checks import check_fraction, check_integer
from keras_dqn.core.exploration import EpsilonGreedy
from keras_dqn.core.loop import collect
from keras_dqn.environments.cart_poles import CartPoles
from keras_dqn.environments.vector import MAX_STEPS, OneEpisodeEach
from keras_dqn.show.plots import FEWEST_FOR_AN_INTERVAL

if TYPE_CHECKING:
    from keras_dqn.core.agent import Agent

EVALUATION_SEED = 1_000_000  # of the episodes that choose the best weights; others have seeds from 0 on


class Evaluation(NamedTuple):
    """Scores of whole episodes played without learning."""

    scores: np.ndarray  # [episodes] float, sum of rewards
    lengths: np.ndarray  # [episodes] int, steps

    mean = property(lambda self: float(np.mean(self.scores)))
    std = property(lambda self: float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0)
    min = property(lambda self: float(np.min(self.scores)))
    max = property(lambda self: float(np.max(self.scores)))
    interval = property(lambda self: mean_interval(self.scores), doc="95 % confidence interval of the mean.")

    def __repr__(self):
        count = len(self.scores)
        low, high = self.interval
        interval = f"95 % interval {low:.2f} to {high:.2f}, " if count >= FEWEST_FOR_AN_INTERVAL else ""
        return (
            f"mean {self.mean:.2f}, std {self.std:.2f}, min {self.min:.0f}, max {self.max:.0f}, {interval}"
            f"{count} episode{'s' * (count > 1)}"
        )


def acting(
    agent: "Agent", epsilon: float, seed: Any, watch: Callable | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from states, [N, *state_shape], to the agent's actions, [N] int, that changes nothing of the agent.

    Args:
        epsilon: probability of a random action.
        seed: of the random actions: the agent's own generator is left alone.
        watch: is given the Q-values, [N, actions], of every call.
    """
    policy = EpsilonGreedy(agent.action_size, seed)
    agent.learner.weights_assigned = True

    def act(states, action_mask=None):
        agent.check_states(states)
        q_values = agent.learner.q_values(states)
        if watch is not None:
            watch(q_values)
        return policy(q_values, epsilon, action_mask)

    return act


def evaluate(
    agent: "Agent",
    make_env: Callable[[], gym.Env],
    episodes: int = 100,
    seed: int = 0,
    epsilon: float = 0.0,
    max_steps: int = MAX_STEPS,
) -> Evaluation:
    """Play whole episodes without learning, episode i in an environment of its own reset with seed + i.

    Args:
        agent: acts; nothing else of it changes, its random generator included.
        make_env: a function that makes one environment.
        episodes: how many.
        seed: of the first episode.
        epsilon: probability of a random action.
        max_steps: after so many an episode is truncated, if it does not end by itself.

    Returns:
        An `Evaluation`.
    """
    check_integer("episodes", episodes)
    check_integer("max_steps", max_steps)
    check_fraction("epsilon", epsilon)
    env = make_env()
    if CartPoles.supports(env, max_steps):  # the one game that gymnasium has a NumPy version of
        envs = CartPoles(env, episodes)
    else:
        envs = OneEpisodeEach([env, *(make_env() for _ in range(episodes - 1))], max_steps)
    return _played(agent, acting(agent, epsilon, seed), envs, [seed])


def evaluate_together(
    agent: "Agent",
    make_envs: Callable[[int], VectorEnv],
    episodes: int = 100,
    seed: int = 0,
    epsilon: float = 0.0,
    at_once: int = 20,
) -> Evaluation:
    """Play whole episodes without learning, many at once in one vector of environments.

    Episode i is the first that an environment plays after a reset with seed + i. What it plays after that, while others
    still play theirs, does not count: short episodes would else count more often than long ones.

    Args:
        agent: acts; nothing else of it changes, its random generator included.
        make_envs: a function from a number to a vector of so many environments, in NEXT_STEP mode.
        episodes: how many.
        seed: of the first episode.
        epsilon: probability of a random action.
        at_once: how many at most.

    Returns:
        An `Evaluation`.
    """
    check_integer("episodes", episodes)
    check_fraction("epsilon", epsilon)
    size = math.ceil(episodes / math.ceil(episodes / at_once))
    played = _played(agent, acting(agent, epsilon, seed), make_envs(size), range(seed, seed + episodes, size))
    return Evaluation(played.scores[:episodes], played.lengths[:episodes])


def _played(agent, act, envs, seeds):
    """The first episode of each environment after each of these resets; the environments are closed."""
    masked = agent.settings.exploration.mask_actions
    try:
        scores, lengths = zip(*(_first_episodes(act, envs, seed, masked) for seed in seeds), strict=True)
    finally:
        envs.close()
    return Evaluation(np.concatenate(scores), np.concatenate(lengths))


def _first_episodes(act, envs, seed, masked):
    """Scores and lengths, [N] each, of each environment's first episode after a reset."""
    scores, lengths = np.zeros(envs.num_envs), np.zeros(envs.num_envs, int)
    playing = np.ones(envs.num_envs, bool)
    for steps in collect(act, envs, seed, masked=masked):
        counts = playing[steps.env_id]
        scores[steps.env_id[counts]] += steps.raw_reward[counts]
        lengths[steps.env_id[counts]] += 1
        playing[steps.env_id[steps.done]] = False
        if not playing.any():
            return scores, lengths


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the mean of [n] values by Student's t: (low, high); NaN for fewer than two values."""
    from scipy import stats  # half a second to import, and only statistics need it

    values = np.asarray(values, float)
    if len(values) < 2:
        return float("nan"), float("nan")
    half_width = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean() - half_width), float(values.mean() + half_width)


def interval_or_range(values: np.ndarray) -> tuple[float, float]:
    """How far [n] values spread: the 95 % interval of their mean, of fewer than five the lowest and the highest."""
    if len(values) >= FEWEST_FOR_AN_INTERVAL:
        return mean_interval(values)
    return float(np.min(values)), float(np.max(values))
