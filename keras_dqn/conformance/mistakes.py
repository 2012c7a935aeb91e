"""What Q-values a mistake leads to: an implementation that makes it learns from other transitions than happened.

A mistake is a function of a probe to the transitions that are learned from, each with its frequency; their values
follow by iteration. So for every probe it is known which mistakes show there, and by which numbers.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from keras_dqn.conformance.probe import GAMMA, TERMINATED, Probe

N = 3  # steps, where a mistake is one of n-step returns


class Learned(NamedTuple):
    """A transition that is learned from."""

    weight: float  # how frequent it is
    state: str
    action: int
    reward: float
    discount: float
    next_state: str
    end: str | None


def steps_from(probe: type[Probe], weights: dict[str, float]) -> Iterator[Learned]:
    """The steps that random actions make from states of these weights."""
    for state, weight in weights.items():
        actions = probe.actions_in(state)
        for action in actions:
            for one in probe.moves[state][action]:
                share = weight * one.probability / len(actions)
                discount = 0.0 if one.end == TERMINATED else GAMMA
                yield Learned(share, state, action, one.reward, discount, one.next_state, one.end)


def steps_of(probe: type[Probe]) -> list[Learned]:
    """The steps of an episode with random actions, each as often as it happens: what is learned without a mistake."""
    states = list(probe.moves)
    moves = np.zeros((len(states), len(states)))
    for one in steps_from(probe, dict.fromkeys(states, 1.0)):
        if one.end is None:
            moves[states.index(one.state), states.index(one.next_state)] += one.weight
    start = [probe.start.get(state, 0.0) for state in states]
    visits = np.linalg.solve(np.eye(len(states)) - moves.T, start)
    return list(steps_from(probe, dict(zip(states, visits.tolist(), strict=True))))


def paths(
    probe: type[Probe], first: Learned, steps: int, crossing: bool
) -> Iterator[tuple[float, float, int, Learned]]:
    """What n steps may come to: weight, sum of rewards, number of steps and the last of them."""
    if steps == 1 or (first.end is not None and not crossing):
        yield first.weight, first.reward, 1, first
        return
    begins = {first.next_state: 1.0} if first.end is None else probe.start
    for second in steps_from(probe, begins):
        for weight, reward, made, last in paths(probe, second, steps - 1, crossing):
            yield first.weight * weight, first.reward + GAMMA * reward, made + 1, last


def n_steps(probe: type[Probe], crossing: bool = False, power: bool = True, whole: bool = False) -> list[Learned]:
    """Transitions of `N` steps: across an episode's end, without gamma's power, or without the shorter ones."""
    learned = []
    for first in steps_of(probe):
        for weight, reward, made, last in paths(probe, first, N, crossing):
            discount = last.discount ** (made if power else 1)
            if made == N or not whole:
                learned.append(Learned(weight, *first[1:3], reward, discount, *last[5:]))
    return learned


def first_observations(probe: type[Probe]) -> list[Learned]:
    """Each episode ends in the first observation of the next one."""
    learned = []
    for one in steps_of(probe):
        begins = {one.next_state: 1.0} if one.end is None else probe.start
        learned += [one._replace(weight=one.weight * share, next_state=state) for state, share in begins.items()]
    return learned


def reset_steps(probe: type[Probe]) -> list[Learned]:
    """After each end one transition more, from the last observation to the first of the next episode."""
    learned = steps_of(probe)
    for one in [one for one in learned if one.end is not None]:
        for state, share in probe.start.items():
            for action in range(probe.action_space.n):
                weight = one.weight * share / probe.action_space.n
                learned.append(Learned(weight, one.next_state, action, 0.0, GAMMA, state, None))
    return learned


def changed(change: Callable[[Learned], dict[str, float]]) -> Callable[[type[Probe]], list[Learned]]:
    """The mistake that changes each step by itself."""
    return lambda probe: [one._replace(**change(one)) for one in steps_of(probe)]


LEARNED = {  # the mistake: what is learned from
    "a time limit is taught as the end": changed(lambda one: {"discount": 0.0 if one.end else GAMMA}),
    "values are bootstrapped beyond the end": changed(lambda one: {"discount": GAMMA}),
    "the next episode's first observation is taken for the last": first_observations,
    "the step that only resets is learned from": reset_steps,
    "rewards are clipped": changed(lambda one: {"reward": float(np.clip(one.reward, -1, 1))}),
    "the signs of rewards are taken": changed(lambda one: {"reward": float(np.sign(one.reward))}),
    "nothing is discounted": changed(lambda one: {"discount": one.discount / GAMMA}),
    "rewards are discounted once too often": changed(lambda one: {"reward": GAMMA * one.reward}),
    f"n steps run on over the episode's end (n = {N})": lambda probe: n_steps(probe, crossing=True),
    f"n steps are bootstrapped with gamma, not gamma to the n (n = {N})": lambda probe: n_steps(probe, power=False),
    f"the last n - 1 steps of an episode are dropped (n = {N})": lambda probe: n_steps(probe, whole=True),
}
CLIPPED = "clipped errors (a Huber loss) do not estimate the mean"


def q_values(probe: type[Probe], learned: list[Learned], clipped: bool = False) -> np.ndarray:
    """The Q-values that transitions lead to, [N, actions] in the order of `exact`; nan where nothing is learned.

    Args:
        clipped: the loss is Huber's, with errors clipped at 1.
    """
    seen = {probe.observations[one.state] for one in learned}
    values = {seen_as: np.zeros(probe.action_space.n) for seen_as in seen}
    entries: dict[tuple, list[Learned]] = {}
    for one in learned:
        entries.setdefault((probe.observations[one.state], one.action), []).append(one)
    for _ in range(120):  # the discount to that power is nothing
        best = {
            state: values.get(observation, np.zeros(1))[probe.actions_in(state) if observation in seen else [0]].max()
            for state, observation in probe.observations.items()
        }
        for (observation, action), ones in entries.items():
            weights = np.array([one.weight for one in ones])
            targets = np.array([one.reward + one.discount * best[one.next_state] for one in ones])
            errors = targets - values[observation][action]
            errors = np.clip(errors, -1, 1) if clipped else errors
            values[observation][action] += weights @ errors / weights.sum()
    unseen = np.full(probe.action_space.n, np.nan)
    return np.array([values.get(observation, unseen) for observation in probe.exact])


def marks_of(probe: type[Probe]) -> dict[str, np.ndarray]:
    """{mistake: the Q-values that it leads to}, [N, actions] each; those of mistakes that show in this probe."""
    marks = {mistake: np.array(list(values.values()), float) for mistake, values in probe.marks.items()}
    marks[CLIPPED] = q_values(probe, steps_of(probe), clipped=True)
    marks |= {mistake: q_values(probe, learned(probe)) for mistake, learned in LEARNED.items()}
    return {mistake: values for mistake, values in marks.items() if probe.distance(values) > probe.tolerance}
