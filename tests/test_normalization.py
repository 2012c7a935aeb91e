"""Layer normalization and relu in one pass: the numbers of Keras's own layer, in every way a network is used."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dqn import Breakout, WeightFileError, load_weights, save_weights
from keras_dqn.backend import keras
from keras_dqn.core.networks.atari import nature_cnn
from keras_dqn.core.networks.layers import LayerNormRelu, ScaledFrames, norm_relu, scaled_frames
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.networks.numpy_forward import acting_forward

SHAPES = [(20, 20, 32), (7, 7, 64), (512,), (5,)]


def results(layer, inputs, gradient):
    """The outputs, and the gradients of inputs and weights, of a layer that ends with relu."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
    weights = [weight.value for weight in layer.trainable_variables]
    return [outputs, *tape.gradient(outputs, [inputs, *weights], gradient)]


def pair(shape, dtype="float32", seed=0):
    """The layer and Keras's own with relu after it, with the same random weights, and inputs and a gradient."""
    random = np.random.default_rng(seed)
    inputs, gradient = (tf.constant(random.normal(2, 3, (6, *shape)), tf.float32) for _ in range(2))
    ours = LayerNormRelu(dtype=dtype)
    axes = list(range(1, len(shape) + 1))
    theirs = keras.Sequential([keras.layers.LayerNormalization(axes, epsilon=1e-5), keras.layers.ReLU()])
    for layer in (ours, theirs):
        layer.build(inputs.shape)
        layer.set_weights([random.normal(1, 0.3, shape), random.normal(0, 0.3, shape)])
    theirs.set_weights(ours.get_weights())
    return ours, theirs, inputs, gradient


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_are_those_of_keras(shape):
    ours, theirs, inputs, gradient = pair(shape)
    for one, other in zip(results(ours, inputs, gradient), results(theirs, inputs, gradient), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


def test_in_bfloat16_sums_and_weights_stay_float32():
    """Its outputs are those of float32 rounded once."""
    ours, theirs, inputs, gradient = pair((20, 20, 32), "mixed_bfloat16")
    rounded = tf.cast(inputs, tf.bfloat16)
    assert all(weight.dtype == "float32" for weight in ours.weights)
    exact = results(theirs, tf.cast(rounded, tf.float32), tf.cast(tf.cast(gradient, tf.bfloat16), tf.float32))
    received = results(ours, rounded, tf.cast(gradient, tf.bfloat16))
    assert [value.dtype.name for value in received] == ["bfloat16", "bfloat16", "float32", "float32"]
    for one, other in zip(received, exact, strict=True):
        scale = float(tf.reduce_max(tf.abs(other)))
        np.testing.assert_allclose(tf.cast(one, tf.float32), other, rtol=2**-8, atol=scale * 2**-9)


def test_rows_do_not_mix():
    """Each state is normalized by itself, so Q-values do not depend on the batch they are worked out in."""
    ours, _, inputs, _ = pair((7, 7, 64))
    np.testing.assert_allclose(ours(inputs)[2:3], ours(inputs[2:3]), rtol=1e-4, atol=1e-6)


def test_it_is_cloned_and_described_as_other_layers_are():
    brain = nature_cnn((4, 84, 84), 4, seed=0, normalization="layer")
    twin = keras.models.clone_model(brain)
    twin.set_weights(brain.get_weights())
    frames = np.random.default_rng(0).integers(256, size=(3, 4, 84, 84), dtype=np.uint8)
    np.testing.assert_array_equal(brain(frames), twin(frames))
    assert LayerNormRelu.from_config(LayerNormRelu(epsilon=0.5).get_config()).epsilon == 0.5


def test_the_normalized_network():
    """The paper's, with two numbers a unit more; the weights of a layer are orthogonal at first."""
    plain, brain = (nature_cnn((4, 84, 84), 6, seed=1, normalization=kind) for kind in (None, "layer"))
    units = 20 * 20 * 32 + 9 * 9 * 64 + 7 * 7 * 64 + 512
    assert brain.count_params() == plain.count_params() + 2 * units
    for kernel in brain.get_weights()[::4]:
        rows = kernel.reshape(-1, kernel.shape[-1])
        gain = 1 if kernel.shape[-1] == 6 else 2
        np.testing.assert_allclose(rows.T @ rows, gain * np.eye(rows.shape[1]), atol=1e-4)
    same = nature_cnn((4, 84, 84), 6, seed=1, normalization="layer")
    for one, other in zip(brain.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_order_is_layer_normalization_relu():
    """The network's numbers, worked out with Keras's functions from its weights."""
    brain = nature_cnn((4, 84, 84), 4, seed=0, normalization="layer")
    random = np.random.default_rng(0)
    brain.set_weights([weight + 0.1 * random.normal(size=weight.shape) for weight in brain.get_weights()])
    frames = random.integers(256, size=(2, 4, 84, 84), dtype=np.uint8)
    x = tf.transpose(frames, (0, 2, 3, 1)) / 255
    weights, strides = brain.get_weights(), (4, 2, 1, None)
    for layer, stride in enumerate(strides):
        kernel, bias, gamma, beta = weights[4 * layer : 4 * layer + 4]
        x = tf.cast(x, tf.float32)
        x = tf.reshape(x, (2, -1)) @ kernel if stride is None else tf.nn.conv2d(x, kernel, stride, "VALID")
        axes = list(range(1, len(x.shape)))
        mean, variance = tf.nn.moments(x + bias, axes, keepdims=True)
        x = tf.nn.relu((x + bias - mean) / tf.sqrt(variance + 1e-5) * gamma + beta)
    np.testing.assert_allclose(brain(frames), x @ weights[-2] + weights[-1], rtol=1e-3, atol=1e-3)


def test_bfloat16_files_are_the_same_files():
    brain = nature_cnn((4, 84, 84), 4, seed=0, normalization="layer")
    half = nature_cnn((4, 84, 84), 4, seed=5, normalization="layer", dtype="mixed_bfloat16")
    save_weights(brain, "weights.h5")
    load_weights(half, "weights.h5")
    frames = np.random.default_rng(0).integers(256, size=(3, 4, 84, 84), dtype=np.uint8)
    assert half(frames).dtype == "float32"
    np.testing.assert_allclose(half(frames), brain(frames), atol=0.1)


def test_a_normalized_network_of_vectors():
    brain = mlp(4, 2, hidden=(8, 8), normalization="layer", seed=0)
    assert [type(layer).__name__ for layer in brain.layers] == ["Dense", "LayerNormRelu"] * 2 + ["Dense"]
    assert acting_forward(brain) is None
    for layer in brain.layers[:-1:2]:
        assert layer.activation is keras.activations.linear


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nature_cnn((4, 84, 84), 4, normalization="batch"), "\"layer\" or None. Received: 'batch'"),
        (lambda: mlp(4, 2, normalization="batch"), "`normalization`.* Received: 'batch' with the activation 'relu'"),
        (lambda: mlp(4, 2, normalization="layer", activation="tanh"), "Received: 'layer' with the activation 'tanh'"),
    ],
)
def test_what_networks_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("recipe", "other"), [("nature", "layer"), ("parallel", None)])
def test_weights_of_the_other_network_are_refused(recipe, other):
    save_weights(nature_cnn((4, 84, 84), 4, seed=0, normalization=other), "other.h5")
    breakout = Breakout(
        recipe=recipe, weights=None, weight_backup="mine.h5", seed=0, memory_size=100, learning_starts=0
    )
    before = breakout.agent.brain.get_weights()
    with pytest.raises(WeightFileError, match="other.h5.* Received"):
        breakout.agent.load_model("other.h5")
    for one, same in zip(before, breakout.agent.brain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)
    assert breakout.agent.exploration_rate == 1


def test_a_game_without_weights_says_which_have_some():
    with pytest.raises(ValueError, match="'breakout_parallel', .*'pong_parallel'.*Received: 'asterix_parallel'"):
        Breakout(game="asterix", weights="pretrained")


def test_what_tensorflow_computes_in_one_pass_is_what_keras_ops_say():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(5, 4, 3)).astype(np.float32)
    layer, twin = LayerNormRelu(), LayerNormRelu()
    for one in (layer, twin):
        one.build(inputs.shape)
        one.set_weights([random.normal(size=(4, 3)) for _ in range(2)] if one is layer else layer.get_weights())
    twin._norm_relu = norm_relu
    results = []
    for one in (layer, twin):
        with tf.GradientTape() as tape:
            watched = tf.constant(inputs)
            tape.watch(watched)
            outputs = one(watched)
            loss = tf.reduce_sum(outputs * inputs)
        results.append([outputs, *tape.gradient(loss, [watched, one.gamma.value, one.beta.value])])
    for ours, keras_ops in zip(*results, strict=True):
        np.testing.assert_allclose(ours, keras_ops, rtol=1e-4, atol=1e-5)
    frames = random.integers(256, size=(2, 4, 5, 6), dtype=np.uint8)
    np.testing.assert_allclose(ScaledFrames()(frames), scaled_frames(frames, "float32"), rtol=1e-6)
