"""Whole episodes played without learning: for scores, and for films."""

import math
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from keras_dqn.checks import check_fraction, check_integer
from keras_dqn.core.agent import Agent
from keras_dqn.core.exploration import EpsilonGreedy
from keras_dqn.core.loop import collect
from keras_dqn.environments.cart_poles import CartPoles
from keras_dqn.environments.vector import MAX_STEPS, OneEpisodeEach
from keras_dqn.show.plots import FEWEST_FOR_AN_INTERVAL, mean_interval

EVALUATION_SEED = 1_000_000  # of the episodes that choose the best weights; others have seeds from 0 on


class Evaluation(NamedTuple):
    """Scores of whole episodes played without learning."""

    scores: np.ndarray  # [episodes] float, sum of rewards
    lengths: np.ndarray  # [episodes] int, steps

    mean = property(lambda self: float(np.mean(self.scores)))
    std = property(lambda self: float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0)
    min = property(lambda self: float(np.min(self.scores)))
    max = property(lambda self: float(np.max(self.scores)))
    interval = property(lambda self: tuple(map(float, mean_interval(self.scores))), doc="95 %, of the mean.")

    def __repr__(self):
        count = len(self.scores)
        low, high = self.interval
        interval = f"95 % interval {low:.2f} to {high:.2f}, " if count >= FEWEST_FOR_AN_INTERVAL else ""
        return (
            f"mean {self.mean:.2f}, std {self.std:.2f}, min {self.min:.0f}, max {self.max:.0f}, {interval}"
            f"{count} episode{'s' * (count > 1)}"
        )


def acting(
    agent: Agent, epsilon: float, seed: Any, watch: Callable | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from states, [N, *state_shape], to the agent's actions, [N] int, that changes nothing of the agent.

    Args:
        epsilon: probability of a random action.
        seed: of the random actions: the agent's own generator is left alone.
        watch: is given the Q-values, [N, actions], of every call.
    """
    check_fraction("epsilon", epsilon)
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
    agent: Agent,
    make_env: Callable[[], gym.Env],
    episodes: int = 100,
    seed: int = 0,
    epsilon: float = 0.0,
    max_steps: int = MAX_STEPS,
) -> Evaluation:
    """Play whole episodes without learning, episode i in an environment of its own reset with seed + i.

    Args:
        agent: acts; nothing else of it changes, its random generator included.
        make_env: makes one environment.
        epsilon: probability of a random action.
        max_steps: after so many an episode is truncated, if it does not end by itself.
    """
    check_integer("max_steps", max_steps)

    def make_envs(count):
        env = make_env()
        if CartPoles.supports(env, max_steps):  # the one game that gymnasium has a NumPy version of
            return CartPoles(env, count)
        return OneEpisodeEach([env, *(make_env() for _ in range(count - 1))], max_steps)

    return evaluate_together(agent, make_envs, episodes, seed, epsilon, at_once=episodes)


def evaluate_together(
    agent: Agent,
    make_envs: Callable[[int], Any],
    episodes: int = 100,
    seed: int = 0,
    epsilon: float = 0.0,
    at_once: int = 20,
) -> Evaluation:
    """As `evaluate`, at most `at_once` episodes side by side in one vector of environments, which `make_envs` makes.

    Episode i is the first that an environment plays after a reset with seed + i. What it plays after that, while others
    still play theirs, does not count: short episodes would else count more often than long ones.
    """
    check_integer("episodes", episodes)
    size = math.ceil(episodes / math.ceil(episodes / at_once))
    act = acting(agent, epsilon, seed)
    with closing(make_envs(size)) as envs:
        rounds = [first_episodes(agent, act, envs, one) for one in range(seed, seed + episodes, size)]
    scores, lengths = (np.concatenate(column)[:episodes] for column in zip(*rounds, strict=True))
    return Evaluation(scores, lengths)


def first_episodes(agent: Agent, act: Callable, envs: Any, seed: int) -> Evaluation:
    """The first episode that each of several environments plays after a reset with that seed."""
    scores, lengths = np.zeros(envs.num_envs), np.zeros(envs.num_envs, int)
    playing = np.ones(envs.num_envs, bool)
    for steps in collect(act, envs, seed, masked=agent.settings.exploration.mask_actions):
        counts = playing[steps.env_id]
        scores[steps.env_id[counts]] += steps.raw_reward[counts]
        lengths[steps.env_id[counts]] += 1
        playing[steps.env_id[steps.done]] = False
        if not playing.any():
            return Evaluation(scores, lengths)
