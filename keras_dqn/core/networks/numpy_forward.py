"""The forward pass in NumPy: what acts with small networks, on machines without TensorFlow, and on the page.

At the size of small Dense networks a call of the model costs a hundred times its arithmetic; and a process that imports
no TensorFlow starts in a second and takes a fifth of the memory.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

if TYPE_CHECKING:
    from keras_dqn.backend import keras

_FLOAT32 = np.dtype(np.float32)
_ZERO = np.zeros((), np.float32)  # a Python 0 would be converted in every call
# Multiplications in a product that NumPy's OpenBLAS makes on one thread. It shares larger ones out among several, which
# at the size of these networks wait for each other thirty times as long as the product takes.
_ONE_THREAD = 2**18
# the layers of networks that act faster so than through TensorFlow, unless convolutions see too much
_SMALL = {"convolution", "dense", "dueling", "expectation", "flatten", "mean", "noisy_dense", "permute"}
_SMALL |= {"reshape", "rescaling"}


class Layer(NamedTuple):
    """A layer of a network as plain data."""

    kind: str  # a name in `OPERATIONS`
    shapes: list[tuple[int, ...]]  # of its weights, in the order of Keras
    options: dict[str, Any]  # of the operation
    dtype: str = "float32"  # that Keras computes it in


class NumpyForward:
    """Layers one after the other, in NumPy: the brain's numbers, to float32 rounding.

    Args:
        layers: as `layers_of` describes them; `refresh` gives them weights.
    """

    def __init__(self, layers: list[Layer]):
        self.layers, self._operations, self._views, position = layers, [], [], 0
        for layer in layers:
            views = []
            for shape in layer.shapes:
                part = slice(position, position + math.prod(shape))
                # a bias as a row, so that nothing is broadcast
                views.append((part, (1, *shape) if layer.kind in _SMALL and len(shape) == 1 else shape))
                position = part.stop
            self._views.append((OPERATIONS[layer.kind](**layer.options), views))
        small = all(layer.kind in _SMALL for layer in layers)
        largest = max((math.prod(shape) for layer in layers for shape in layer.shapes), default=1)
        self._rows = max(_ONE_THREAD // largest // 4, 1) * 4 if small else 2**62  # by fours the numbers stay the same
        self._takes_bytes = layers[0].kind == "frames"
        self._noisy = [layer.kind == "noisy_dense" for layer in layers]

    def __reduce__(self):  # to other machines go the layers alone
        return NumpyForward, (self.layers,)

    def refresh(self, flat_weights: np.ndarray) -> None:
        """Take over new weights: all of the brain's, in order, as one float32 vector."""
        self._operations = [  # this runs every update
            (operation, [flat_weights[part].reshape(shape) for part, shape in views])
            for operation, views in self._views
        ]

    def __call__(self, states: np.ndarray, noise: np.random.Generator | None = None) -> np.ndarray:
        """Q-values, float32 [N, actions], of states [N, *state_shape]; with noise drawn for all of them, or without."""
        if not self._takes_bytes and states.dtype is not _FLOAT32:
            states = states.astype(np.float32)
        operations = self._operations if noise is None or not any(self._noisy) else self._with_noise(noise)
        if len(states) <= self._rows:
            return self._forward(operations, states)
        parts = [self._forward(operations, states[i : i + self._rows]) for i in range(0, len(states), self._rows)]
        return np.concatenate(parts)

    def _forward(self, operations, x):
        for operation, weights in operations:
            x = operation(x, *weights)
        return x

    def _with_noise(self, random):
        """The operations and weights, those of noisy layers with noise of this draw."""
        return [
            (operation, [*weights, *_noise_of(random, weights[0].shape)] if noisy else weights)
            for (operation, weights), noisy in zip(self._operations, self._noisy, strict=True)
        ]


def _noise_of(random, shape):
    """sgn(x) sqrt|x| of normal x, [inputs] and [units]; see `layers.NoisyDense`."""
    drawn = random.standard_normal(sum(shape), np.float32)
    drawn = np.sign(drawn) * np.sqrt(np.abs(drawn))
    return drawn[: shape[0]], drawn[shape[0] :]


# -------------------------------------------------------------------- operations, functions of x and a layer's weights


def _dense_linear(x, kernel, bias):
    """[N, inputs] to [N, outputs]."""
    x = x.dot(kernel)  # at this size half the cost of `@`
    x += bias
    return x


def _dense_relu(x, kernel, bias):
    x = x.dot(kernel)
    x += bias
    return np.maximum(x, _ZERO, out=x)


def _then(function):
    return lambda x, kernel, bias: function(_dense_linear(x, kernel, bias))


def _elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, _ZERO)))


_DENSE = {  # by activation
    "linear": _dense_linear,
    "relu": _dense_relu,
    "tanh": _then(np.tanh),
    "sigmoid": _then(lambda x: 1 / (1 + np.exp(-x))),
    "elu": _then(_elu),
}


def _dense(activation):
    return _DENSE[activation]


def _dense_without_bias(activation):
    return lambda x, kernel: _DENSE[activation](x, kernel, _ZERO)


def _noisy_dense(activation):
    def noisy(x, kernel, bias, kernel_sigma, bias_sigma, of_inputs=None, of_outputs=None):
        if of_inputs is not None:  # the noise of the kernel is a product of these, so it is never made
            bias = bias + of_outputs * ((x * of_inputs).dot(kernel_sigma) + bias_sigma)
        return _DENSE[activation](x, kernel, bias)

    return noisy


def _rescaling(scale, offset):
    return lambda x: x * scale + offset


def _dueling():
    """Advantages and a value, [N, actions + 1, ...], to outputs [N, actions, ...]; see `layers.Dueling`."""

    def outputs(x):
        advantages, value = x[:, :-1], x[:, -1:]
        return value + advantages - np.mean(advantages, axis=1, keepdims=True)

    return outputs


def _reshape(shape):
    return lambda x: x.reshape(len(x), *shape)


def _permute(dims):
    return lambda x: np.ascontiguousarray(x.transpose(0, *dims))


def _expectation(values):
    """The means of distributions over values, from their logits: [N, actions, atoms] to [N, actions]."""

    def means(x):
        weights = np.exp(x - x.max(-1, keepdims=True))
        return weights.dot(values) / weights.sum(-1)

    return means


def _mean():
    return lambda x: x.mean(-1)


def _frames():
    """Stacks, uint8 [N, stack, height, width], as [N, height, width, stack] from 0 to 1; see `layers.ScaledFrames`."""
    return lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)) * np.float32(1 / 255)


def _convolution(stride, activation):
    """[N, height, width, channels] to [N, height', width', filters]; no padding."""

    def convolved(x, kernel, bias):
        x = np.ascontiguousarray(x)
        high, wide, channels, filters = kernel.shape
        count, height, width = len(x), (x.shape[1] - high) // stride + 1, (x.shape[2] - wide) // stride + 1
        by_state, by_row, by_column, by_channel = x.strides
        # Each row of a patch, its columns and channels, lies in one piece: these are what is copied.
        shape = count, height, width, high, wide * channels
        patches = as_strided(x, shape, (by_state, stride * by_row, stride * by_column, by_row, by_channel))
        outputs = _DENSE[activation](patches.reshape(count * height * width, -1), kernel.reshape(-1, filters), bias)
        return outputs.reshape(count, height, width, filters)

    return convolved


def _layer_norm_relu(epsilon):
    """relu of the normalization over all axes but the first; see `layers.LayerNormRelu`."""

    def normalized(x, gamma, beta):
        axes = tuple(range(1, x.ndim))
        centered = x - x.mean(axes, keepdims=True)
        scale = 1 / np.sqrt(np.square(centered).mean(axes, keepdims=True) + np.float32(epsilon))
        return np.maximum(centered * scale * gamma + beta, 0)

    return normalized


def _flatten():
    return lambda x: x.reshape(len(x), -1)


OPERATIONS = {
    "convolution": _convolution,
    "dense": _dense,
    "dense_without_bias": _dense_without_bias,
    "dueling": _dueling,
    "expectation": _expectation,
    "flatten": _flatten,
    "frames": _frames,
    "layer_norm_relu": _layer_norm_relu,
    "mean": _mean,
    "noisy_dense": _noisy_dense,
    "permute": _permute,
    "reshape": _reshape,
    "rescaling": _rescaling,
}
ACTIVATIONS = tuple(_DENSE)


# -------------------------------------------------------------------- from Keras


def acting_forward(brain: "keras.Model", q_layers: list[Layer] | None = ()) -> NumpyForward | None:
    """What acts with the brain's numbers faster than the brain does: for small networks, else None.

    Args:
        q_layers: what makes Q-values of the brain's outputs; see `Objective.q_layers`.
    """
    layers = layers_of(brain, q_layers)
    if layers is None or not all(
        layer.kind in _SMALL
        and layer.dtype == "float32"
        and layer.options.get("activation") in (None, "linear", "relu")
        for layer in layers
    ):
        return None
    large = any(math.prod(shape) > _ONE_THREAD for layer in layers for shape in layer.shapes)
    return None if large and any(layer.kind == "convolution" for layer in layers) else NumpyForward(layers)


def layers_of(brain: "keras.Model", q_layers: list[Layer] | None = ()) -> list[Layer] | None:
    """The layers of a `keras.Sequential` as plain data, then those that make Q-values of its outputs; None where one is
    of a kind that is not known here.
    """
    from keras_dqn.backend import keras

    if not isinstance(brain, keras.Sequential) or q_layers is None:
        return None
    found = []
    for layer in brain.layers:
        described = _described(layer)
        if described is None:
            return None
        found += described
    shapes = [shape for layer in found for shape in layer.shapes]
    return [*found, *q_layers] if shapes == [tuple(weight.shape) for weight in brain.weights] else None


def _described(layer):
    """A Keras layer as a list of `Layer`s; None where its kind is not known."""
    from keras_dqn.backend import keras
    from keras_dqn.core.networks.layers import Dueling, LayerNormRelu, NoisyDense, ScaledFrames

    kind, dtype, shapes = type(layer), layer.compute_dtype, [tuple(weight.shape) for weight in layer.weights]
    activation = getattr(getattr(layer, "activation", None), "__name__", None)
    known = activation in ACTIVATIONS and layer.activation is getattr(keras.activations, activation)
    if kind is keras.layers.Dropout:  # it is for training alone
        return []
    if kind is keras.layers.Rescaling:
        scale, offset = (np.asarray(value, np.float32) for value in (layer.scale, layer.offset))
        return [Layer("rescaling", [], {"scale": scale, "offset": offset}, dtype)]
    if kind is keras.layers.Dense and known:
        name = "dense" if layer.use_bias else "dense_without_bias"
        return [Layer(name, shapes, {"activation": activation}, dtype)]
    if kind is Dueling and (inner := _described(layer.value_and_advantages)) is not None:
        apart = [] if layer.atoms is None else [_reshaped((layer.action_size + 1, layer.atoms))]
        return [*inner, *apart, Layer("dueling", [], {}, dtype)]
    if kind is NoisyDense and known:
        return [Layer("noisy_dense", shapes, {"activation": activation}, dtype)]
    if kind is keras.layers.Reshape and -1 not in layer.target_shape:
        return [_reshaped(layer.target_shape)]
    if kind is keras.layers.Permute:
        return [Layer("permute", [], {"dims": layer.dims})]
    if kind is LayerNormRelu:
        return [Layer("layer_norm_relu", shapes, {"epsilon": layer.epsilon}, dtype)]
    if kind in (ScaledFrames, keras.layers.Flatten):
        return [Layer("frames" if kind is ScaledFrames else "flatten", [], {}, dtype)]
    if kind is keras.layers.Conv2D and known and layer.use_bias and layer.strides[0] == layer.strides[1]:
        plain = layer.padding, layer.data_format, layer.groups, tuple(layer.dilation_rate)
        if plain == ("valid", "channels_last", 1, (1, 1)):
            options = {"stride": layer.strides[0], "activation": activation}
            return [Layer("convolution", shapes, options, dtype)]
    return None


def _reshaped(shape):
    return Layer("reshape", [], {"shape": tuple(shape)})
