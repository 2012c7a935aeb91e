"""How good an agent is: whole episodes played without learning, and what their scores tell."""

import math
from typing import NamedTuple

import numpy as np

from keras_dqn.checks import check_fraction, check_whole

FEWEST_FOR_AN_INTERVAL = 5  # values: of two or three, Student's t makes an interval wider than any score can be
EVALUATION_SEED = 1_000_000  # of the episodes that choose the best weights; others have seeds from 0 on


class Evaluation(NamedTuple):
    """Scores of whole episodes played without learning."""

    scores: np.ndarray  # [episodes] float, sum of rewards
    lengths: np.ndarray  # [episodes] int, steps

    mean = property(lambda self: float(np.mean(self.scores)))
    std = property(lambda self: float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0)
    min = property(lambda self: float(np.min(self.scores)))
    max = property(lambda self: float(np.max(self.scores)))

    @property
    def interval(self):
        """The 95 % confidence interval of the mean (Student's t)."""
        return mean_interval(self.scores)

    def __repr__(self):
        count = len(self.scores)
        low, high = self.interval
        interval = f"95 % interval {low:.2f} to {high:.2f}, " if count >= FEWEST_FOR_AN_INTERVAL else ""
        return (
            f"mean {self.mean:.2f}, std {self.std:.2f}, min {self.min:.0f}, max {self.max:.0f}, {interval}"
            f"{count} episode{'s' * (count > 1)}"
        )


def mean_interval(values, confidence=0.95):
    """Confidence interval of the mean of [n] values by Student's t: (low, high); NaN for fewer than two values."""
    from scipy import stats  # half a second to import, and only statistics need it

    values = np.asarray(values, float)
    if len(values) < 2:
        return float("nan"), float("nan")
    error = stats.sem(values)
    half_width = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * error
    return float(values.mean() - half_width), float(values.mean() + half_width)


def interval_or_range(values):
    """How far [n] values spread: the 95 % interval of their mean, of fewer than five the lowest and the highest."""
    if len(values) >= FEWEST_FOR_AN_INTERVAL:
        return mean_interval(values)
    return float(np.min(values)), float(np.max(values))


def evaluate_together(agent, make_envs, episodes=100, seed=0, epsilon=0.0, at_once=20):
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
    check_whole("episodes", episodes)
    check_fraction("epsilon", epsilon)
    agent.refresh()
    random = np.random.default_rng(seed)
    size = math.ceil(episodes / math.ceil(episodes / at_once))
    envs = make_envs(size)
    try:
        played = [_first_episodes(agent, envs, seed + i, epsilon, random) for i in range(0, episodes, size)]
    finally:
        envs.close()
    scores, lengths = (np.concatenate(column)[:episodes] for column in zip(*played, strict=True))
    return Evaluation(scores, lengths)


def _first_episodes(agent, envs, seed, epsilon, random):
    """Scores and lengths, [N] each, of each environment's first episode after a reset."""
    scores, lengths = np.zeros(envs.num_envs), np.zeros(envs.num_envs, int)
    playing = np.ones(envs.num_envs, bool)
    states, _ = envs.reset(seed=seed)
    while playing.any():
        agent.check_states(states)
        actions = agent.act_batch(states, epsilon, random)  # of all, since another number would be compiled anew
        states, rewards, terminated, truncated, _ = envs.step(actions)
        scores[playing] += rewards[playing]
        lengths[playing] += 1
        playing &= ~(terminated | truncated)
    return scores, lengths


def evaluate(agent, make_env, episodes=100, seed=0, epsilon=0.0):
    """Play whole episodes without learning, episode i in an environment of its own reset with seed + i.

    Args:
        agent: acts; nothing else of it changes, its random generator included.
        make_env: a function that makes one environment.
        episodes: how many.
        seed: of the first episode.
        epsilon: probability of a random action.

    Returns:
        An `Evaluation`.
    """
    check_whole("episodes", episodes)
    check_fraction("epsilon", epsilon)
    agent.refresh()
    random = np.random.default_rng(seed)
    envs = [make_env() for _ in range(episodes)]
    scores, lengths = np.zeros(episodes), np.zeros(episodes, int)
    states = np.stack([env.reset(seed=seed + i)[0] for i, env in enumerate(envs)])
    playing = np.arange(episodes)
    while len(playing):
        agent.check_states(states[playing])
        actions = agent.act_batch(states[playing], epsilon, random)
        goes_on = []
        for i, action in zip(playing, actions, strict=True):
            states[i], reward, terminated, truncated, _ = envs[i].step(int(action))
            scores[i] += reward
            lengths[i] += 1
            goes_on.append(not (terminated or truncated))
        playing = playing[goes_on]
    for env in envs:
        env.close()
    return Evaluation(scores, lengths)
