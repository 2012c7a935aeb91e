"""Layers of our own, in `keras.ops`; where TensorFlow computes one in fewer passes, it does (`backends`)."""

from typing import Any

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
