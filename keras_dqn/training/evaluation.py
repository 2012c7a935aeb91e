"""What evaluations tell: scores of whole episodes, their mean and its interval."""

from typing import NamedTuple

import numpy as np

FEWEST_FOR_AN_INTERVAL = 5  # values: of two or three, Student's t makes an interval wider than any score can be


class Evaluation(NamedTuple):
    """Scores of whole episodes played without learning."""

    scores: np.ndarray  # [episodes] float, sum of rewards
    lengths: np.ndarray  # [episodes] int, steps

    mean = property(lambda self: float(np.mean(self.scores)))
    std = property(lambda self: float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0)
    min = property(lambda self: float(np.min(self.scores)))
    max = property(lambda self: float(np.max(self.scores)))

    @property
    def interval(self) -> tuple[float, float]:
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


class Evaluated(NamedTuple):
    """One evaluation in the middle of training."""

    steps: int  # environment steps made before it
    score: float  # mean of its greedy episodes
    seconds: float  # that it took


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the mean of [n] values by Student's t: (low, high); NaN for fewer than two values."""
    from scipy import stats  # half a second to import, and only statistics need it

    values = np.asarray(values, float)
    if len(values) < 2:
        return float("nan"), float("nan")
    error = stats.sem(values)
    half_width = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * error
    return float(values.mean() - half_width), float(values.mean() + half_width)


def interval_or_range(values: np.ndarray) -> tuple[float, float]:
    """How far [n] values spread: the 95 % interval of their mean, of fewer than five the lowest and the highest."""
    if len(values) >= FEWEST_FOR_AN_INTERVAL:
        return mean_interval(values)
    return float(np.min(values)), float(np.max(values))
