"""A small Dense network's forward pass in NumPy, for acting."""

import math

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.core.networks.mlp import Dueling

_FLOAT32 = np.dtype(np.float32)


_ZERO = np.zeros((), np.float32)  # a Python 0 would be converted in every call
# Multiplications in a product that NumPy's OpenBLAS makes on one thread. It shares larger ones out among several, which
# at the size of these networks wait for each other thirty times as long as the product takes.
_ONE_THREAD = 2**18


class NumpyForward:
    """A Dense network's forward pass in NumPy: the brain's numbers without the cost of a TensorFlow call.

    At the size of these networks a call of the model costs a hundred times its arithmetic.

    Args:
        brain: a built `keras.Sequential` as `mlp` makes it: Dense layers with relu or linear activation, perhaps a
            Rescaling before and a `Dueling` head after them (see `supports`).
    """

    def __init__(self, brain: "keras.Model"):
        layers = list(brain.layers)
        self._rescale = None
        if isinstance(layers[0], keras.layers.Rescaling):
            rescaling = layers.pop(0)
            self._rescale = np.array([rescaling.scale, rescaling.offset], np.float32)[:, None]
        self._dueling = layers[-1].join if isinstance(layers[-1], Dueling) else None
        self._relu = [getattr(layer, "activation", None) is keras.activations.relu for layer in layers]
        shapes = [tuple(variable.shape) for variable in brain.weights]
        self._rows = max(_ONE_THREAD // max(map(math.prod, shapes)) // 4, 1) * 4  # by fours the numbers stay the same
        ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
        biases = [(1, *shape) if len(shape) == 1 else shape for shape in shapes]  # for one state no broadcasting
        self._views = [(slice(start, end), shape) for start, end, shape in zip([0, *ends], ends, biases, strict=False)]
        self.refresh(np.concatenate([weight.ravel() for weight in brain.get_weights()]))

    @staticmethod
    def supports(brain: "keras.Model") -> bool:
        """Whether `brain` is such a network."""
        if not isinstance(brain, keras.Sequential):
            return False
        layers = list(brain.layers)
        if type(layers[0]) is keras.layers.Rescaling and np.ndim(layers[0].scale) == np.ndim(layers[0].offset) == 1:
            layers.pop(0)
        if layers and type(layers[-1]) is Dueling:
            layers[-1] = layers[-1].value_and_advantages
        return bool(layers) and all(
            type(layer) is keras.layers.Dense
            and layer.use_bias
            and layer.activation in (keras.activations.relu, keras.activations.linear)
            and layer.compute_dtype == layer.variable_dtype == "float32"
            for layer in layers
        )

    def refresh(self, flat_weights: np.ndarray) -> None:
        """Take over new weights: all of the brain's, in order, as one float32 vector."""
        arrays = [flat_weights[part].reshape(shape) for part, shape in self._views]  # this runs every update
        self._layers = list(zip(arrays[::2], arrays[1::2], self._relu, strict=True))

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Q-values, float32 [N, actions], of states [N, state_size]."""
        if len(states) <= self._rows:
            return self._forward(states)
        return np.concatenate([self._forward(states[i : i + self._rows]) for i in range(0, len(states), self._rows)])

    def _forward(self, states):
        states = states if states.dtype is _FLOAT32 else states.astype(np.float32)
        x = states if self._rescale is None else states * self._rescale[0] + self._rescale[1]
        for kernel, bias, relu in self._layers:
            x = x.dot(kernel)  # at this size half the cost of `@`
            x += bias
            if relu:
                np.maximum(x, _ZERO, out=x)
        return x if self._dueling is None else self._dueling(x, np.mean)
