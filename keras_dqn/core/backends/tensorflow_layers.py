"""Layers as TensorFlow computes them in one compiled pass; `core.networks.layers` has the same in `keras.ops`."""

from collections.abc import Callable
from functools import partial

import tensorflow as tf


@tf.function(jit_compile=True)
def scaled_frames(frames: "tf.Tensor", dtype: str) -> "tf.Tensor":
    """Stacks, uint8 [B, stack, height, width], to [B, height, width, stack] from 0 to 1.

    Permute and Rescaling would take three passes over the largest array there is.
    """
    return tf.cast(tf.cast(tf.transpose(frames, (0, 2, 3, 1)), tf.float32) / 255, dtype)


def layer_norm_relu() -> Callable[..., "tf.Tensor"]:
    """A function from inputs [B, ...], gamma and beta [...], epsilon and a dtype to relu of the normalization.

    Mean, variance, scale, shift and relu, and in the gradient all that follows from them, are one pass each, whose sums
    over a row are matrix products: a third of the time. Each layer has a function of its own, since TensorFlow warns of
    one that meets ever new shapes.
    """
    forward, backward = (tf.function(partial(one), jit_compile=True) for one in (_forward, _backward))

    def norm_relu(inputs, gamma, beta, epsilon, dtype):
        gamma, beta = (tf.reshape(weight, [-1]) for weight in (gamma, beta))
        rows = tf.reshape(inputs, (-1, gamma.shape[0]))

        @tf.custom_gradient
        def normalized(rows, gamma, beta):
            outputs, mean, inverse_std = forward(rows, gamma, beta, epsilon, dtype)
            return outputs, lambda gradient: backward(rows, gamma, beta, mean, inverse_std, gradient)

        return tf.reshape(normalized(rows, gamma, beta), (-1, *inputs.shape[1:]))

    return norm_relu


def _row_mean(values):
    """[B, n] to [B, 1]; as a product it is vectorised, as a sum it is not."""
    count = values.shape[1]
    return tf.matmul(values, tf.ones((count, 1))) / count


def _forward(rows, gamma, beta, epsilon, dtype):
    rows = tf.cast(rows, tf.float32)
    mean = _row_mean(rows)
    centered = rows - mean
    inverse_std = tf.math.rsqrt(_row_mean(tf.square(centered)) + epsilon)
    return tf.cast(tf.nn.relu(centered * inverse_std * gamma + beta), dtype), mean, inverse_std


def _backward(rows, gamma, beta, mean, inverse_std, gradient):
    """The gradients of rows, gamma and beta from that of the outputs; the first has the dtype of the rows."""
    normalized = (tf.cast(rows, tf.float32) - mean) * inverse_std
    gradient = tf.where(normalized * gamma + beta > 0, tf.cast(gradient, tf.float32), 0.0)
    scaled = gradient * gamma
    of_rows = inverse_std * (scaled - _row_mean(scaled) - normalized * _row_mean(scaled * normalized))
    return tf.cast(of_rows, rows.dtype), tf.reduce_sum(gradient * normalized, 0), tf.reduce_sum(gradient, 0)
