"""How good an agent is: whole episodes played without learning, and what their scores tell."""

from typing import NamedTuple

import numpy as np

from keras_dqn.checks import check_fraction, check_whole

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

    def __str__(self):
        low, high = self.interval
        return (
            f"mean {self.mean:.2f}, std {self.std:.2f}, min {self.min:.0f}, max {self.max:.0f}, "
            f"95 % interval {low:.2f} to {high:.2f}, {len(self.scores)} episodes"
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
