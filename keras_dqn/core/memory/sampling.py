"""Which of the remembered transitions are learned from next."""

from collections.abc import Callable
from typing import Any

import numpy as np
import psutil

from keras_dqn.checks import Seed, check_integer

RowOf = Callable[[np.ndarray], np.ndarray]


class Uniform:
    """Every transition is as likely as every other, and counts as much (Lin 1992).

    What other samplers need to prefer some transitions to others does nothing here.

    Args:
        seed: an int, a `np.random.SeedSequence`, or None for fresh entropy.

    Attributes:
        random: the `np.random.Generator` that is drawn from.
    """

    def __init__(self, seed: Seed = None):
        self.random = np.random.default_rng(seed)

    def draw(
        self, size: int, shape: tuple[int, ...], replace: bool = False, row_of: RowOf | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows of a memory that holds `size` transitions, and how much the error of each counts.

        Args:
            size: how many can be drawn.
            shape: (K, B) for K minibatches of B.
            replace: whether one may be drawn twice.
            row_of: makes rows of numbers 0 to size - 1; None where these are the rows.

        Returns:
            Rows, int [*shape], and weights, float64 [*shape], or None where all count the same.
        """
        if replace:
            numbers = self.random.integers(size, size=shape)
        else:
            numbers = self.random.choice(size, int(np.prod(shape)), replace=False).reshape(shape)
        return numbers if row_of is None else row_of(numbers), None

    def make_room(self, rows: int) -> None:
        """The memory has so many rows, all empty."""

    def added(self, rows: Any) -> None:
        """These rows, an int or [N] int, hold new transitions."""

    def removed(self, rows: Any) -> None:
        """These rows, [N] int, hold nothing that may be drawn."""

    def update(self, rows: np.ndarray, errors: Any) -> None:
        """The transitions in these rows, [K, B] int, had these errors, [K, B] float32, when they were learned from."""

    def after_steps(self, steps: int) -> None:
        """The agent has made so many steps."""

    def snapshot(self) -> dict[str, np.ndarray]:
        """What there is to know of the rows, as arrays for `restored`."""
        return {}

    def restored(self, arrays: dict[str, np.ndarray], rows: np.ndarray, room: int) -> "Uniform":
        """A sampler like this one, with the same generator, that knows what `snapshot` gave.

        Args:
            arrays: may be of another kind of sampler.
            rows: [N] int, those that hold transitions.
            room: how many rows there are.
        """
        return self


class SampledMemory:
    """What memories have in common that a sampler draws from.

    Args:
        capacity: how much is kept.
        sampler: says what is drawn.
        learning_starts: there is nothing to draw with fewer.
    """

    epochs, bootstraps = 1, True  # a replay draws once, and next states are valued

    def __init__(self, capacity: int, sampler: Uniform, learning_starts: int):
        self.capacity = check_integer("capacity", capacity)
        self.sampler, self.learning_starts = sampler, learning_starts

    @property
    def random(self) -> np.random.Generator:
        """What the sampling draws from."""
        return self.sampler.random

    def check_fits(self, state_shape: tuple[int, ...]) -> None:
        """Raise a ValueError that names a capacity that fits, unless nine tenths of the free memory hold this one."""
        if not len(self):
            check_fits(self.capacity, self.bytes_needed(1, state_shape))

    def after_steps(self, steps: int) -> None:
        """The agent has made so many steps."""
        self.sampler.after_steps(steps)

    def update_errors(self, rows: np.ndarray, errors: Any) -> None:
        """The transitions in these rows, [K, B] int, had these errors, [K, B] float32, when they were learned from."""
        self.sampler.update(rows, errors)


def divided_by_largest(weight: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Weights of which the largest of each minibatch is 1, float32 in the shape that they come in; None stays None.

    Args:
        weight: of minibatches [*shape], in that shape or flat.
    """
    if weight is None:
        return None
    minibatches = weight.reshape(shape)
    return (minibatches / minibatches.max(-1, keepdims=True)).astype(np.float32).reshape(weight.shape)


def check_fits(capacity: int, bytes_a_step: int) -> None:
    """Raise a ValueError that names a capacity that fits, unless nine tenths of the free memory hold this one."""
    needed, free = capacity * bytes_a_step, psutil.virtual_memory().available
    if needed > 0.9 * free:
        fits = int(0.9 * free / bytes_a_step)
        fits -= fits % 1000 if fits > 1000 else 0
        raise ValueError(
            f"A memory of {capacity} steps needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            f"`memory_size={fits}` (--memory-size {fits}) fits. Received: {capacity}"
        )
