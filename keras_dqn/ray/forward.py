"""A network's forward pass without TensorFlow, for acting on machines that do nothing else.

A process that imports no TensorFlow starts in a second and takes a fifth of the memory; for one state at a time or some
the arithmetic is the same. A network of other layers than these acts through Keras, see `KerasForward`.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided

if TYPE_CHECKING:
    from keras_dqn.backend import keras


def forward_of(brain: "keras.Model") -> "NumpyForward | KerasForward":
    """What acts like the brain elsewhere: a `NumpyForward` where its layers are known, else a `KerasForward`."""
    layers = _known(brain)
    return KerasForward(brain) if layers is None else NumpyForward(layers)


class NumpyForward:
    """Layers one after the other, in NumPy.

    Args:
        layers: [(operation, shapes of its weights, options)], as `forward_of` makes them.
    """

    def __init__(self, layers: list):
        self.layers, self._weights = layers, []

    def refresh(self, flat_weights: np.ndarray) -> None:
        """Take over new weights: all of the brain's, in order, as one float32 vector."""
        position, self._weights = 0, []
        for _, shapes, _ in self.layers:
            own = []
            for shape in shapes:
                end = position + math.prod(shape)
                own.append(flat_weights[position:end].reshape(shape))
                position = end
            self._weights.append(own)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Q-values, float32 [N, actions], of states [N, *state_shape]."""
        x = states
        for (operation, _, options), weights in zip(self.layers, self._weights, strict=True):
            x = operation(x, *weights, **options)
        return x


class KerasForward:
    """The brain itself, with TensorFlow, where the layers are others."""

    def __init__(self, brain: "keras.Model"):
        from keras_dqn.backend import keras

        self._brain = keras.models.clone_model(brain)

    def refresh(self, flat_weights: np.ndarray) -> None:
        """As `NumpyForward.refresh`."""
        ends = np.cumsum([math.prod(weight.shape) for weight in self._brain.weights])
        parts = np.split(flat_weights, ends[:-1])
        self._brain.set_weights([part.reshape(w.shape) for part, w in zip(parts, self._brain.weights, strict=True)])

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """As `NumpyForward`."""
        return np.asarray(self._brain(states, training=False))


# ---------------------------------------------------------------- operations


def frames(x: np.ndarray) -> np.ndarray:
    """Stacks, uint8 [N, stack, height, width], as [N, height, width, stack] from 0 to 1."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) * np.float32(1 / 255)


def rescaled(x: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """x * scale + offset, float32."""
    return x.astype(np.float32) * scale + offset


def dense(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, relu: bool) -> np.ndarray:
    """[N, inputs] to [N, outputs]."""
    x = x.astype(np.float32, copy=False).dot(kernel)
    x += bias
    return np.maximum(x, 0, out=x) if relu else x


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, relu: bool) -> np.ndarray:
    """[N, height, width, channels] to [N, height', width', filters]; no padding."""
    high, wide, channels, filters = kernel.shape
    count, height, width = len(x), (x.shape[1] - high) // stride + 1, (x.shape[2] - wide) // stride + 1
    by_state, by_row, by_column, by_channel = x.strides
    # Each row of a patch, its columns and channels, lies in one piece: these are what is copied.
    shape = count, height, width, high, wide * channels
    patches = as_strided(x, shape, (by_state, stride * by_row, stride * by_column, by_row, by_channel))
    outputs = patches.reshape(count * height * width, -1).dot(kernel.reshape(-1, filters))
    outputs += bias
    if relu:
        np.maximum(outputs, 0, out=outputs)
    return outputs.reshape(count, height, width, filters)


def normalized_relu(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> np.ndarray:
    """relu of the normalization over all axes but the first; see `networks.normalization`."""
    axes = tuple(range(1, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    scale = 1 / np.sqrt(np.square(centred).mean(axes, keepdims=True) + np.float32(epsilon))
    return np.maximum(centred * scale * gamma + beta, 0)


def flat(x: np.ndarray) -> np.ndarray:
    """[N, …] to [N, numbers]."""
    return x.reshape(len(x), -1)


def dueling(x: np.ndarray) -> np.ndarray:
    """Advantages and a value, [N, actions + 1], to Q-values; see `networks.mlp.Dueling`."""
    advantages, value = x[:, :-1], x[:, -1:]
    return value + advantages - advantages.mean(-1, keepdims=True)


# ---------------------------------------------------------------- from Keras


def _known(brain):
    """The layers of a brain as `NumpyForward` takes them; None where one is of another kind."""
    from keras_dqn.backend import keras

    if not isinstance(brain, keras.Sequential):
        return None
    found = []
    for layer in brain.layers:
        operations = _operations(layer)
        if operations is None:
            return None
        found += operations
    weights = sum(math.prod(shape) for _, shapes, _ in found for shape in shapes)
    return found if weights == brain.count_params() else None


def _operations(layer):
    from keras_dqn.backend import keras
    from keras_dqn.core.networks.heads import Dueling
    from keras_dqn.core.networks.layers import LayerNormRelu, ScaledFrames

    shapes = [tuple(weight.shape) for weight in layer.weights]
    relu = {keras.activations.relu: True, keras.activations.linear: False}.get(getattr(layer, "activation", None))
    kind = type(layer)
    if kind is keras.layers.Rescaling:
        scale, offset = (np.asarray(value, np.float32) for value in (layer.scale, layer.offset))
        return [(rescaled, [], {"scale": scale, "offset": offset})]
    if kind is ScaledFrames:
        return [(frames, [], {})]
    if kind is keras.layers.Flatten:
        return [(flat, [], {})]
    if kind is LayerNormRelu:
        return [(normalized_relu, shapes, {"epsilon": layer.epsilon})]
    if kind is keras.layers.Dense and relu is not None and layer.use_bias:
        return [(dense, shapes, {"relu": relu})]
    if kind is Dueling and (inner := _operations(layer.value_and_advantages)) is not None:
        return [*inner, (dueling, [], {})]
    if kind is keras.layers.Conv2D and relu is not None and layer.use_bias and layer.strides[0] == layer.strides[1]:
        kept = layer.padding, layer.data_format, layer.groups, tuple(layer.dilation_rate)
        if kept == ("valid", "channels_last", 1, (1, 1)):
            return [(convolved, shapes, {"stride": layer.strides[0], "relu": relu})]
    return None
