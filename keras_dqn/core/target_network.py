"""The target network: the brain's weights as they were some updates ago."""

from typing import Any

import numpy as np

from keras_dqn.backend import keras

NEVER = 2**62  # updates: a target network that no count of updates moves


class TargetNetwork:
    """Weights that follow the brain's: what next states are valued with (Mnih et al. 2015).

    It is a second set of variables and no second model: whatever computes the brain's outputs computes these too, so a
    brain may be any Keras model, one without a configuration included.

    Args:
        brain: the Keras model that is followed.
        every: updates from move to move.
        tau: how far it moves: 1 copies the brain ("hard"), less moves that fraction of the way ("soft").

    Attributes:
        variables: in the order of `brain.weights`, equal to them at first.
    """

    def __init__(self, brain: "keras.Model", every: int = 1, tau: float = 1.0):
        self.every, self.tau, self._followed = every, tau, list(brain.weights)
        self.variables = [
            keras.Variable(np.asarray(one), dtype=one.dtype, trainable=False, name="target") for one in self._followed
        ]

    def copy(self) -> None:
        """Make it equal to the brain."""
        for old, new in zip(self.variables, self._followed, strict=True):
            old.assign(new)

    def moved(self, old: Any, new: Any) -> Any:
        """A weight after a move towards the brain's; what is no float, like a count, is copied."""
        soft = self.tau < 1 and keras.backend.is_float_dtype(keras.backend.standardize_dtype(old.dtype))
        return old + self.tau * (new - old) if soft else new
