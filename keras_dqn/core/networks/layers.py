"""Layer normalization and relu as one layer: the passes over the largest arrays of a network, compiled into one."""

from functools import partial
from typing import Any

from keras_dqn.backend import keras, tf


@keras.saving.register_keras_serializable("keras_dqn")
class LayerNormRelu(keras.layers.Layer):
    """relu of Keras's `LayerNormalization` over all axes but the first (Ba et al. 2016), [B, ...] to [B, ...].

    The same numbers, to float32 rounding, in a third of the time: mean, variance, scale, shift and relu, and in the
    gradient all that follows from them, are one compiled pass each, whose sums over a row are matrix products. The sums
    are float32 whatever the inputs are.

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
        # TensorFlow warns of code that meets ever new shapes, which here are those of other layers: each has its own.
        self._forward, self._backward = (tf.function(partial(one), jit_compile=True) for one in (_forward, _backward))

    def call(self, inputs: "tf.Tensor") -> "tf.Tensor":
        gamma, beta = (tf.reshape(keras.ops.convert_to_tensor(weight), [-1]) for weight in (self.gamma, self.beta))
        rows = tf.reshape(inputs, (-1, gamma.shape[0]))
        outputs = self._norm_relu(rows, gamma, beta)
        return tf.reshape(outputs, (-1, *inputs.shape[1:]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}

    def _norm_relu(self, rows, gamma, beta):
        """[B, n] and [n] to [B, n] of the dtype that is computed in, with its gradient."""

        @tf.custom_gradient
        def normalized(rows, gamma, beta):
            outputs, mean, inverse_std = self._forward(rows, gamma, beta, self.epsilon, self.compute_dtype)
            return outputs, lambda gradient: self._backward(rows, gamma, beta, mean, inverse_std, gradient)

        return normalized(rows, gamma, beta)


def _row_mean(values):
    """[B, n] to [B, 1]; as a product it is vectorised, as a sum it is not."""
    count = values.shape[1]
    return tf.matmul(values, tf.ones((count, 1))) / count


def _forward(rows, gamma, beta, epsilon, dtype):
    rows = tf.cast(rows, tf.float32)
    mean = _row_mean(rows)
    centred = rows - mean
    inverse_std = tf.math.rsqrt(_row_mean(tf.square(centred)) + epsilon)
    return tf.cast(tf.nn.relu(centred * inverse_std * gamma + beta), dtype), mean, inverse_std


def _backward(rows, gamma, beta, mean, inverse_std, gradient):
    """The gradients of rows, gamma and beta from that of the outputs; the first has the dtype of the rows."""
    normalized = (tf.cast(rows, tf.float32) - mean) * inverse_std
    gradient = tf.where(normalized * gamma + beta > 0, tf.cast(gradient, tf.float32), 0.0)
    scaled = gradient * gamma
    of_rows = inverse_std * (scaled - _row_mean(scaled) - normalized * _row_mean(scaled * normalized))
    return tf.cast(of_rows, rows.dtype), tf.reduce_sum(gradient * normalized, 0), tf.reduce_sum(gradient, 0)
