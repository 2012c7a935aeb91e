"""The networks: states in, one Q-value an action out; and the same forward pass in NumPy, for acting."""

import math

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.checks import seed_sequence
from keras_dqn.normalisation import LayerNormRelu


def mlp(
    state_size,
    action_size,
    hidden=(24, 24),
    activation="relu",
    dueling=False,
    center=0.0,
    scale=1.0,
    initializer="glorot",
    normalisation=None,
    seed=None,
):
    """A Sequential of Dense layers; by default the CartPole notebook's 24-24 network.

    Args:
        state_size: length of the state vector.
        action_size: number of actions, and of outputs (linear).
        hidden: width of each hidden layer.
        activation: of the hidden layers.
        dueling: whether the head is a `Dueling` layer instead of a Dense one.
        center, scale: states go in as (state - center) / scale, one number or one an element, by a layer of its own, so
            that whoever has the weights file has the scaling too.
        initializer: of the weights: "glorot" is Keras' own (Glorot uniform, biases 0), "torch" is PyTorch's, uniform
            between ±1 / sqrt(inputs) for kernels and biases. That matters where states are few and small numbers: then
            PyTorch's units are not all zero at the same place, and those of Keras are.
        normalisation: "layer" normalises what goes into each hidden layer's relu over its units (`LayerNormRelu`).
        seed: of the initial weights; an int, a `np.random.SeedSequence`, or None for fresh entropy.

    Returns:
        A built `keras.Sequential`, float32 [B, state_size] to [B, action_size].

    Raises:
        ValueError: an initializer or a normalisation is unknown, or the latter is to come before another activation.
    """
    if normalisation is not None and (normalisation != "layer" or activation != "relu"):
        received = f"{normalisation!r} with the activation {activation!r}"
        raise ValueError(f'`normalisation` must be None, or "layer" before relu. Received: {received}')
    if initializer not in ("glorot", "torch"):
        raise ValueError(f'`initializer` must be "glorot" or "torch". Received: {initializer!r}')
    widths = [state_size, *hidden]
    seeds = seed_sequence(seed).generate_state(2 * len(widths)).tolist()

    def dense(layer, width, activation):
        """The Dense layer of that number, with its own seeds for kernel and bias."""
        options = {"kernel_initializer": keras.initializers.GlorotUniform(seed=seeds[layer])}
        if initializer == "torch":
            most = widths[layer] ** -0.5
            names = {"kernel_initializer": seeds[layer], "bias_initializer": seeds[layer + len(widths)]}
            options = {name: keras.initializers.RandomUniform(-most, most, seed) for name, seed in names.items()}
        return keras.layers.Dense(width, activation=activation, **options)

    layers = [keras.Input((state_size,))]
    if np.any(center) or np.any(np.asarray(scale) != 1):
        inverse = np.broadcast_to(1 / np.asarray(scale, float), (state_size,))
        layers.append(keras.layers.Rescaling(inverse.tolist(), (-np.asarray(center) * inverse).tolist()))
    for layer, width in enumerate(hidden):
        layers.append(dense(layer, width, activation if normalisation is None else "linear"))
        if normalisation is not None:
            layers.append(LayerNormRelu())
    last = dense(len(hidden), action_size + dueling, "linear")
    return keras.Sequential([*layers, Dueling(action_size, last) if dueling else last])


class Dueling(keras.layers.Layer):
    """A head that splits value and advantage: Q(s, a) = V(s) + A(s, a) - mean of A(s, ·) (Wang et al. 2016).

    Args:
        action_size: number of actions, and of outputs.
        value_and_advantages: the Dense layer of action_size + 1 that does it, the value in the last column: one product
            instead of two. By default a new one.
    """

    def __init__(self, action_size, value_and_advantages=None, **options):
        super().__init__(**options)
        self.action_size = action_size
        self.value_and_advantages = value_and_advantages or keras.layers.Dense(action_size + 1)

    def build(self, input_shape):
        self.value_and_advantages.build(input_shape)
        self.built = True

    def call(self, inputs):
        return self.join(self.value_and_advantages(inputs), keras.ops.mean)

    def join(self, outputs, mean):
        """Q-values [B, actions] from advantages and value [B, actions + 1], in whatever library `mean` is of."""
        advantages, value = outputs[:, :-1], outputs[:, -1:]
        return value + advantages - mean(advantages, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.action_size)

    def get_config(self):
        dense = self.value_and_advantages.get_config()
        return {**super().get_config(), "action_size": self.action_size, "value_and_advantages": dense}

    @classmethod
    def from_config(cls, config):
        dense = keras.layers.Dense.from_config(config["value_and_advantages"])
        return cls(**{**config, "value_and_advantages": dense})


_FLOAT32 = np.dtype(np.float32)
_ZERO = np.zeros((), np.float32)  # a Python 0 would be converted in every call


class NumpyForward:
    """A Dense network's forward pass in NumPy: the brain's numbers without the cost of a TensorFlow call.

    At the size of these networks a call of the model costs a hundred times its arithmetic.

    Args:
        brain: a built `keras.Sequential` as `mlp` makes it: Dense layers with relu or linear activation, perhaps a
            Rescaling before and a `Dueling` head after them (see `supports`).
    """

    def __init__(self, brain):
        layers = list(brain.layers)
        self._rescale = None
        if isinstance(layers[0], keras.layers.Rescaling):
            rescaling = layers.pop(0)
            self._rescale = np.array([rescaling.scale, rescaling.offset], np.float32)[:, None]
        self._dueling = layers[-1].join if isinstance(layers[-1], Dueling) else None
        self._relu = [getattr(layer, "activation", None) is keras.activations.relu for layer in layers]
        shapes = [tuple(variable.shape) for variable in brain.weights]
        ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
        biases = [(1, *shape) if len(shape) == 1 else shape for shape in shapes]  # for one state no broadcasting
        self._views = [(slice(start, end), shape) for start, end, shape in zip([0, *ends], ends, biases, strict=False)]
        self.refresh(np.concatenate([weight.ravel() for weight in brain.get_weights()]))

    @staticmethod
    def supports(brain):
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

    def refresh(self, flat_weights):
        """Take over new weights: all of the brain's, in order, as one float32 vector."""
        arrays = [flat_weights[part].reshape(shape) for part, shape in self._views]  # this runs every update
        self._layers = list(zip(arrays[::2], arrays[1::2], self._relu, strict=True))

    def __call__(self, states):
        """Q-values, float32 [N, actions], of states [N, state_size]."""
        states = states if states.dtype is _FLOAT32 else states.astype(np.float32)
        x = states if self._rescale is None else states * self._rescale[0] + self._rescale[1]
        for kernel, bias, relu in self._layers:
            x = x.dot(kernel)  # at this size half the cost of `@`
            x += bias
            if relu:
                np.maximum(x, _ZERO, out=x)
        return x if self._dueling is None else self._dueling(x, np.mean)
