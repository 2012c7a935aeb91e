"""Layers of our own, in `keras.ops`; where TensorFlow computes one in fewer passes, it does (`backends`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from keras_dqn.backend import keras

if keras.backend.backend() == "tensorflow":
    from keras_dqn.core.backends import tensorflow_layers as fused
else:
    fused = None


@keras.saving.register_keras_serializable("keras_dqn")
class LayerNormRelu(keras.layers.Layer):
    """relu of Keras's `LayerNormalization` over all axes but the first (Ba et al. 2016), [B, ...] to [B, ...].

    Its sums are float32 whatever the inputs are.

    Args:
        epsilon: added to the variance.
    """

    def __init__(self, epsilon: float = 1e-5, **options: Any):
        super().__init__(**options)
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = tuple(input_shape[1:])
        # autocast would take them to bfloat16 and back
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta", autocast=False)
        self._norm_relu = norm_relu if fused is None else fused.layer_norm_relu()

    def call(self, inputs: Any) -> Any:
        gamma, beta = map(keras.ops.convert_to_tensor, (self.gamma, self.beta))
        return self._norm_relu(inputs, gamma, beta, self.epsilon, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


def norm_relu(inputs: Any, gamma: Any, beta: Any, epsilon: float, dtype: str) -> Any:
    """What `LayerNormRelu` computes, of inputs [B, ...], gamma and beta [...]."""
    ops, axes = keras.ops, tuple(range(1, len(inputs.shape)))
    inputs = ops.cast(inputs, "float32")
    centered = inputs - ops.mean(inputs, axes, keepdims=True)
    inverse_std = ops.rsqrt(ops.mean(ops.square(centered), axes, keepdims=True) + epsilon)
    return ops.cast(ops.relu(centered * inverse_std * gamma + beta), dtype)


@keras.saving.register_keras_serializable("keras_dqn")
class ScaledFrames(keras.layers.Layer):
    """Stacks of frames, ready to be convolved: uint8 [B, stack, height, width] to [B, height, width, stack], 0 to 1."""

    def call(self, inputs: Any) -> Any:
        return (scaled_frames if fused is None else fused.scaled_frames)(inputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, stack, *size = input_shape
        return (batch, *size, stack)


def scaled_frames(frames: Any, dtype: str) -> Any:
    """What `ScaledFrames` computes."""
    ops = keras.ops
    return ops.cast(ops.cast(ops.transpose(frames, (0, 2, 3, 1)), "float32") / 255, dtype)


@keras.saving.register_keras_serializable("keras_dqn")
class ScreenDifference(keras.layers.Layer):
    """What changed between two screens: uint8 [B, 2, height, width, 3] to float32 [B, height, width, 3], -1 to 1.

    The screens are scaled to 0 to 1 first: a difference of uint8 would wrap, -1 become 255.
    """

    def call(self, inputs: Any) -> Any:
        scaled = keras.ops.cast(inputs, self.compute_dtype) / 255
        return scaled[:, 1] - scaled[:, 0]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], *input_shape[2:])


# -------------------------------------------------------------------- heads


@keras.saving.register_keras_serializable("keras_dqn")
class Dueling(keras.layers.Layer):
    """A head that splits value and advantage: Q(s, a) = V(s) + A(s, a) - mean of A(s, ·) (Wang et al. 2016).

    Of distributions each atom has a value and advantages of its own: a value that all atoms shared would cancel in
    their softmax.

    keras-rl has the value in the first column. Its files are known by their Lambda layer, and the column is moved as
    they are loaded; they are taken for its default, `dueling_type="avg"`. Where a file of other origin has the value
    first, nothing in it may say so: `load_weights(brain, path, value_first=True)`.

    Args:
        action_size: number of actions.
        value_and_advantages: the Dense layer of action_size + 1 that does it, the value in the last column: one product
            instead of two. By default a new one.
        atoms: how many outputs an action has, for outputs [B, actions, atoms]; None for [B, actions].
    """

    def __init__(
        self,
        action_size: int,
        value_and_advantages: "keras.layers.Layer | None" = None,
        atoms: int | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        self.action_size, self.atoms = action_size, atoms
        dense = value_and_advantages or keras.layers.Dense((action_size + 1) * (atoms or 1), dtype=self.dtype_policy)
        self.value_and_advantages = dense

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.value_and_advantages.built:
            self.value_and_advantages.build(input_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        outputs = self.value_and_advantages(inputs)
        if self.atoms is not None:
            outputs = keras.ops.reshape(outputs, (-1, self.action_size + 1, self.atoms))
        advantages, value = outputs[:, :-1], outputs[:, -1:]
        return value + advantages - keras.ops.mean(advantages, axis=1, keepdims=True)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.action_size, *([] if self.atoms is None else [self.atoms]))

    def get_config(self) -> dict[str, Any]:
        dense = keras.saving.serialize_keras_object(self.value_and_advantages)
        own = {"action_size": self.action_size, "atoms": self.atoms, "value_and_advantages": dense}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Dueling":
        dense = keras.saving.deserialize_keras_object(config["value_and_advantages"])
        return cls(**{**config, "value_and_advantages": dense})


def head(
    dense: Callable[[int], "keras.layers.Layer"], action_size: int | tuple[int, int], dueling: bool = False
) -> "list[keras.layers.Layer]":
    """The last layers of a network.

    Args:
        dense: a function that makes a layer of so many outputs.
        action_size: number of actions, for outputs [B, actions]; or (actions, atoms), for [B, actions, atoms].
        dueling: whether values and advantages are apart.
    """
    actions, atoms = action_size if isinstance(action_size, tuple) else (action_size, None)
    outputs = dense((actions + dueling) * (atoms or 1))
    if dueling:
        return [Dueling(actions, outputs, atoms, name="dueling", dtype="float32")]
    return [outputs, *([] if atoms is None else [keras.layers.Reshape((actions, atoms), dtype="float32")])]


# -------------------------------------------------------------------- noise

_PASS = ContextVar("_PASS", default=None)  # the pass that noise is drawn for, (purpose, number); None for none


@contextmanager
def noise(purpose: int, number: Any) -> Iterator[None]:
    """Noisy layers that are called in this context add noise, drawn anew for each purpose and number.

    Args:
        purpose: what a pass is for, so that two passes of the same number have other noise.
        number: a whole number, or a tensor of one; None for no noise.
    """
    token = _PASS.set(None if number is None else (purpose, number))
    try:
        yield
    finally:
        _PASS.reset(token)


@keras.saving.register_keras_serializable("keras_dqn")
class NoisyDense(keras.layers.Layer):
    """A Dense layer whose weights have noise, of a size that is learned (Fortunato et al. 2018), [B, n] to [B, units].

    The noise is factorised, one number an input and one an output, and the same for all rows of a batch. It is drawn
    where a context of `noise` is open, which the learner opens for every update, for passes of the target network and
    for acting in a training. Everywhere else, in evaluations, films and `predict`, the weights are their means.

    Args:
        units: number of outputs.
        activation: of the outputs, as Keras knows it.
        sigma: how large the noise is at first: sigma / sqrt(n) a weight.
        seed: of the initial weights and of the noise; by default a random one.
    """

    def __init__(self, units: int, activation: Any = None, sigma: float = 0.5, seed: int | None = None, **options: Any):
        super().__init__(**options)
        self.units, self.activation, self.sigma = units, keras.activations.get(activation), sigma
        self.seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape, most = (input_shape[-1], self.units), input_shape[-1] ** -0.5
        means = [keras.initializers.RandomUniform(-most, most, seed=self.seed + i) for i in (0, 1)]
        sizes = keras.initializers.Constant(self.sigma * most)
        self.kernel = self.add_weight(shape=shape, initializer=means[0], name="kernel")
        self.bias = self.add_weight(shape=shape[1:], initializer=means[1], name="bias")
        self.kernel_sigma = self.add_weight(shape=shape, initializer=sizes, name="kernel_sigma")
        self.bias_sigma = self.add_weight(shape=shape[1:], initializer=sizes, name="bias_sigma")

    def call(self, inputs: Any) -> Any:
        kernel, bias = map(keras.ops.convert_to_tensor, (self.kernel, self.bias))
        if (drawn_for := _PASS.get()) is not None:
            of_inputs, of_outputs = self._noise(*drawn_for)
            kernel = kernel + self.kernel_sigma * (of_inputs[:, None] * of_outputs)
            bias = bias + self.bias_sigma * of_outputs
        return self.activation(keras.ops.matmul(inputs, kernel) + bias)

    def _noise(self, purpose, number):
        """sgn(x) sqrt|x| of normal x, [inputs] and [units]."""
        size = self.kernel.shape[0]
        numbers = (self.seed + purpose) % 2**31, number
        seed = _Drawn(keras.ops.stack([keras.ops.cast(one, "uint32") for one in numbers]))
        drawn = keras.random.normal((size + self.units,), dtype=self.compute_dtype, seed=seed)
        drawn = keras.ops.sign(drawn) * keras.ops.sqrt(keras.ops.abs(drawn))
        return drawn[:size], drawn[size:]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        activation = keras.activations.serialize(self.activation)
        own = {"units": self.units, "activation": activation, "sigma": self.sigma, "seed": self.seed}
        return {**super().get_config(), **own}


def is_noisy(brain: "keras.Model") -> bool:
    """Whether there is noise to be drawn for a network."""
    return any(isinstance(layer, NoisyDense) for layer in brain._flatten_layers())


class _Drawn(keras.random.SeedGenerator):
    """A seed of two numbers that are there already, in the one form in which `keras.random` takes such."""

    def __init__(self, seed):
        self._seed = seed

    def next(self, ordered=True):
        return self._seed
