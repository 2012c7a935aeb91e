"""What acts on machines that do nothing else: without TensorFlow where NumPy knows the layers of a brain."""

import math
from typing import TYPE_CHECKING

import numpy as np

from keras_dqn.core.networks.numpy_forward import NumpyForward, layers_of

if TYPE_CHECKING:
    from keras_dqn.backend import keras


def forward_of(brain: "keras.Model") -> "NumpyForward | KerasForward":
    """What acts like the brain elsewhere: a `NumpyForward` where its layers are known, else a `KerasForward`."""
    layers = layers_of(brain)
    return KerasForward(brain) if layers is None else NumpyForward(layers)


class KerasForward:
    """The brain itself, with TensorFlow, where the layers are others."""

    def __init__(self, brain: "keras.Model"):
        from keras_dqn.backend import keras

        self._brain = keras.models.clone_model(brain)

    def refresh(self, flat_weights: np.ndarray) -> None:
        """Take over new weights: all of the brain's, in order, as one float32 vector."""
        ends = np.cumsum([math.prod(weight.shape) for weight in self._brain.weights])
        parts = np.split(flat_weights, ends[:-1])
        self._brain.set_weights([part.reshape(w.shape) for part, w in zip(parts, self._brain.weights, strict=True)])

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Q-values, float32 [N, actions], of states [N, *state_shape]."""
        return np.asarray(self._brain(states, training=False))
