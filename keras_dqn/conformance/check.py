"""Learned values against the exact ones: passed, or a line with what was expected, received, and whose mark that is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_dqn.conformance.mistakes import marks_of
from keras_dqn.conformance.probe import Probe

QFunction = Callable[
    [np.ndarray], Any
]  # observations [N, *shape] to Q-values [N, actions], or quantiles [N, actions, n]
MAX_WASSERSTEIN = 0.7  # in `Coins`, where a distribution of the mean alone is 1.5 off


@dataclass(frozen=True)
class Verdict:
    """What came of a probe; as text, one line.

    Attributes:
        probe: its name.
        passed: whether all that it judges is as it should be.
        text: what was expected and received, and whose mark that is; where it passed, empty.
        mistake: whose mark that is, or None.
    """

    probe: str
    passed: bool
    text: str = ""
    mistake: str | None = None

    def __str__(self):
        return f"{self.probe:<16}{'passed' if self.passed else self.text}"


def check(q_function: QFunction, probe: type[Probe]) -> Verdict:
    """Hold what was learned in a probe against what is exact; the actions that the probe saw are judged and forgotten.

    Args:
        q_function: from observations [N, *shape], in the dtype of the probe, to Q-values [N, actions]; or, of an agent
            that learns distributions, to quantiles [N, actions, n], equally likely (see `quantiles`).
        probe: one of `PROBES`.

    Raises:
        ValueError: the function returns another shape, or numbers that are not finite.
    """
    name, states = probe.__name__, probe.states()
    outputs = np.asarray(q_function(states), float)
    if outputs.shape[:2] != (len(states), probe.action_space.n) or not np.isfinite(outputs).all():
        shape = f"[{len(states)}, {probe.action_space.n}]"
        raise ValueError(f"{name} asks for finite Q-values of the shape {shape}. Received: {outputs.tolist()}")
    seen = list(probe.seen)
    probe.seen.clear()
    if probe.greedy_after is not None:
        return _judge_actions(probe, seen)
    q_values = outputs if outputs.ndim == 2 else outputs.mean(-1)
    if probe.bound is not None:
        mean = float(q_values.mean())
        said = f"expected at most {probe.bound} on average, received {mean:.2f}"
        return Verdict(
            name, mean <= probe.bound, said, "the network that picks an action also values it (no double DQN)"
        )
    if probe.distance(q_values) > probe.tolerance:
        return _failed(name, _worst(probe, q_values), _nearest(probe, q_values))
    if probe.distributions and outputs.ndim == 3:
        return _judge_distributions(probe, outputs)
    return Verdict(name, True)


def quantiles(atoms: Any, probabilities: Any, count: int = 200) -> np.ndarray:
    """Equally likely quantiles, [..., count], of probabilities [..., atoms] of ascending atoms, [atoms] (C51)."""
    levels = (np.arange(count) + 0.5) / count
    below = np.cumsum(np.asarray(probabilities, float), -1)[..., None, :] < levels[:, None]
    return np.asarray(atoms, float)[np.minimum(below.sum(-1), len(atoms) - 1)]


def _failed(probe, said, mistake):
    return Verdict(probe, False, f"{said}: {f'the mark of: {mistake}' if mistake else 'no known mistake'}", mistake)


def _worst(probe, q_values):
    """What is furthest off."""
    exact = probe.exact_values()
    row, action = np.unravel_index(np.abs(q_values - exact).argmax(), exact.shape)
    observation = list(probe.exact)[row]
    return (
        f"expected {exact[row, action]:.2f} in {observation} for action {action}, received {q_values[row, action]:.2f}"
    )


def _nearest(probe, q_values):
    """The mistake whose values are nearest, if they are near at all; of several that are the same, the first."""
    largest, near = np.abs(probe.exact_values()).max(), {}
    for mistake, values in marks_of(probe).items():
        near[mistake] = probe.distance(values, q_values) / max(np.nanmax(np.abs(values), initial=0) / largest, 1)
    least = min(near.values(), default=np.inf)
    if least > 1.5 * probe.tolerance:
        return None
    return next(mistake for mistake, distance in near.items() if distance <= least + 0.02)


def _judge_actions(probe, seen):
    """Whether epsilon fell from 1 to 0 in a straight line: the action that is never best is taken by chance alone."""
    end, falling = probe.greedy_after, seen[probe.greedy_after // 2 : probe.greedy_after]
    after, share = seen[end:], sum(falling) / max(len(falling), 1)  # of 1/8 where epsilon falls from 1/2 to 0
    if after and not sum(after) and 0.05 < share < 0.25:
        return Verdict(probe.__name__, True)
    said = f"expected action 1 in 12 % of steps {end // 2} to {end} and never after, "
    said += f"received {share:.0%}, and {sum(after)} of {len(after)} after"
    if sum(after):
        late = "epsilon stays above 0" if sum(after[len(after) // 2 :]) else "epsilon falls late"
        return _failed(probe.__name__, said, "epsilon does not fall" if share > 0.4 else late)
    return _failed(probe.__name__, said, "epsilon falls early" if after and share <= 0.05 else None)


def _judge_distributions(probe, outputs):
    """The distance between learned and exact distributions: the mean difference of their quantiles (Wasserstein)."""
    count, worst = outputs.shape[-1], 0.0
    for row, by_action in zip(outputs, probe.distributions.values(), strict=True):
        for learned, exact in zip(row, by_action, strict=True):
            values = sorted(exact)
            expected = quantiles(values, [exact[value] for value in values], count)
            worst = max(worst, float(np.abs(np.sort(learned) - expected).mean()))
    if worst <= MAX_WASSERSTEIN:
        return Verdict(probe.__name__, True)
    said = f"expected the exact distributions, received one that is {worst:.2f} off (Wasserstein distance)"
    collapsed = float(outputs.std(-1).max()) < 0.1
    return _failed(probe.__name__, said, "only the mean is learned" if collapsed else None)
