"""Which of the remembered transitions are learned from next."""

import numpy as np

from keras_dqn.checks import Seed


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

    def update(self, rows: np.ndarray, errors: np.ndarray) -> None:
        """The transitions in these rows, [K, B] int, had these errors, [K, B] float32, when they were learned from."""
