"""Prioritized replay (Schaul et al. 2016): transitions that surprised the network are learned from more often."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dqn.checks import Seed, check_fraction
from keras_dqn.core.exploration import BETA
from keras_dqn.core.memory.sampling import Uniform

ALPHA = 0.6
SMALLEST = 1e-6  # of the error that is counted: none is so small that its transition is never drawn again
_FAN_OUT = 16  # children of a node: half the time of two


class SumTree:
    """Numbers by row, and sums of them, in float64: finds the row where a running sum passes a value.

    Sums are made anew from their parts, so that nothing drifts, and rows are in their order whatever their number.

    Args:
        rows: how many there are, all 0.
    """

    def __init__(self, rows: int):
        self._levels = [np.zeros((-(-rows // _FAN_OUT), _FAN_OUT))]  # the rows, then the sums of each line, and so on
        while len(self._levels[-1]) > 1:
            self._levels.append(np.zeros((-(-len(self._levels[-1]) // _FAN_OUT), _FAN_OUT)))

    @property
    def values(self) -> np.ndarray:
        """By row, float64; beyond the last row 0."""
        return self._levels[0].reshape(-1)

    @property
    def total(self) -> float:
        """The sum of all."""
        return float(self._levels[-1].sum())

    def set(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Set rows, [N] int, to values, [N]; of a row that is there twice the last counts."""
        self.values[rows] = values
        for level, above in zip(self._levels, self._levels[1:], strict=False):
            rows = rows // _FAN_OUT
            above.reshape(-1)[rows] = level[rows].sum(1)

    def find(self, sums: np.ndarray) -> np.ndarray:
        """The rows, [N] int, at which the running sum passes these, [N] from 0 to `total`; none of them holds a 0."""
        nodes = np.zeros(len(sums), int)
        for level in reversed(self._levels):
            running = level[nodes].cumsum(1)
            # a sum that rounding carries beyond the node's own belongs to its last child that is not 0
            sums = np.minimum(sums, np.nextafter(running[:, -1], 0))
            children = (running <= sums[:, None]).sum(1)
            before = np.where(children > 0, running[np.arange(len(sums)), children - 1], 0)
            nodes, sums = nodes * _FAN_OUT + children, sums - before
        return nodes


class Prioritized(Uniform):
    """Transitions are drawn in proportion to priority ** alpha, and count the less the more often they are drawn.

    A priority is the size of the error that a transition had when it was last learned from; a new one has the largest
    that there was. A minibatch of B has one from each B-th of the priorities (stratified sampling), so one may be drawn
    twice. The weight of its error is (1 / probability) ** beta, divided by the largest in the minibatch.

    Args:
        seed: an int, a `np.random.SeedSequence`, or None for fresh entropy.
        alpha: how much priorities matter: 0 draws uniformly.
        beta: how much weights make up for it, a number or a function of the agent's steps: 1 makes up for all of it.

    Attributes:
        largest: the largest priority ** alpha so far.
    """

    def __init__(self, seed: Seed = None, alpha: float = ALPHA, beta: float | Callable[[int], float] = BETA):
        super().__init__(seed)
        self.alpha, self.schedule = check_fraction("priority_alpha", alpha), beta
        self.largest = 1.0
        self._new = [], []  # rows and what they are set to, until the next draw
        self.after_steps(0)

    def make_room(self, rows: int) -> None:
        self.tree = SumTree(rows)

    def after_steps(self, steps: int) -> None:
        beta = self.schedule(steps) if callable(self.schedule) else self.schedule
        self.beta = check_fraction("priority_beta", beta)

    def draw(
        self, size: int, shape: tuple[int, ...], replace: bool = False, row_of: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        self._set_new()
        count = shape[-1]
        parts = (np.arange(count) + self.random.random(shape)) / count
        rows = self.tree.find((parts * self.tree.total).reshape(-1)).reshape(shape)
        return rows, self.tree.values[rows] ** -self.beta

    def added(self, rows: Any) -> None:
        self._set_later(rows, self.largest)

    def removed(self, rows: Any) -> None:
        self._set_later(rows, 0.0)

    def update(self, rows: np.ndarray, errors: Any) -> None:
        self._set_new()
        priorities = (np.asarray(errors, float) + SMALLEST) ** self.alpha
        self.largest = max(self.largest, float(priorities.max()))
        self.tree.set(rows.reshape(-1), priorities.reshape(-1))

    def snapshot(self) -> dict[str, np.ndarray]:
        self._set_new()
        return {"priorities": self.tree.values, "largest_priority": np.array(self.largest)}

    def restored(self, arrays: dict[str, np.ndarray], rows: np.ndarray, room: int) -> "Prioritized":
        other = Prioritized(self.random, self.alpha, self.schedule)
        other.make_room(room)
        if "priorities" not in arrays:  # of a memory that had none
            other.added(rows)
            return other
        other.largest = float(arrays["largest_priority"])
        other.tree.set(np.arange(room), arrays["priorities"][:room])
        return other

    def _set_later(self, rows, value):
        rows = np.atleast_1d(rows).tolist()
        self._new[0].extend(rows)
        self._new[1].extend([value] * len(rows))

    def _set_new(self):
        if self._new[0]:
            self.tree.set(np.array(self._new[0]), np.array(self._new[1]))
            self._new = [], []
