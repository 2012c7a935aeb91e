"""Which of the remembered transitions are learned from next."""

from typing import Any

import numpy as np
import psutil

from keras_dqn.checks import Seed, check_integer


class Uniform:
    """Every transition is as likely as every other, and counts as much (Lin 1992).

    A sampler has three methods: `draw`, and, for those that prefer some transitions to others, `added` and `update`.

    Args:
        seed: an int, a `np.random.SeedSequence`, or None for fresh entropy.

    Attributes:
        random: the `np.random.Generator` that is drawn from.
    """

    def __init__(self, seed: Seed = None):
        self.random = np.random.default_rng(seed)

    def draw(self, size: int, shape: tuple[int, ...], replace: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows of a memory that holds `size` of them, and how much the error of each counts.

        Args:
            size: rows 0 to size - 1 can be drawn.
            shape: (K, B) for K minibatches of B.
            replace: whether one row may be drawn twice.

        Returns:
            Rows, int [*shape], and weights, float32 [*shape], or None where all count the same.
        """
        if replace:
            return self.random.integers(size, size=shape), None
        return self.random.choice(size, int(np.prod(shape)), replace=False).reshape(shape), None

    def added(self, rows: np.ndarray) -> None:
        """These rows, [N] int, hold new transitions."""

    def update(self, rows: np.ndarray, errors: Any) -> None:
        """The transitions in these rows, [K, B] int, had these errors, [K, B] float32, when they were learned from."""


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

    def update_errors(self, rows: np.ndarray, errors: Any) -> None:
        """The transitions in these rows, [K, B] int, had these errors, [K, B] float32, when they were learned from."""
        self.sampler.update(rows, errors)


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
