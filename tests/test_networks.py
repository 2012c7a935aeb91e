"""The networks, and that NumPy gives their numbers."""

import numpy as np
import pytest

from keras_dqn import Agent, load_weights, save_weights
from keras_dqn.backend import keras
from keras_dqn.core.networks.layers import Dueling, LayerNormRelu, ScaledFrames
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.networks.numpy_forward import NumpyForward, acting_forward, layers_of

STATES = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)


def forward_of(brain):
    """The forward pass that acts, with the brain's weights."""
    forward = acting_forward(brain)
    forward.refresh(np.concatenate([weight.ravel() for weight in brain.get_weights()]))
    return forward


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hidden": ()},
        {"hidden": (64, 32), "dueling": True},
        {"scale": [2.4, 3, 0.2, 3]},
        {"center": [-0.3, 0, 1, 2], "scale": 0.5, "dueling": True},
        {"center": 1.0},
    ],
)
def test_numpy_forward_gives_the_brains_numbers(options):
    brain = mlp(4, 3, seed=0, **options)
    brain.set_weights([weight + 0.1 for weight in brain.get_weights()])  # biases too
    expected = brain.predict(STATES, verbose=0)
    for states in (STATES, STATES.astype(np.float64)):
        got = forward_of(brain)(states)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 16, 17, 64, 100])
def test_many_states_go_through_a_large_network_in_pieces(count):
    """A product that is shared out among threads costs thirty times as much: so 16 rows of 128 units at once."""
    brain = mlp(4, 2, (128, 128), seed=0)
    states = np.random.default_rng(1).normal(size=(count, 4)).astype(np.float32)
    forward, pieces = forward_of(brain), []
    whole = forward._forward(forward._operations, states)
    forward._forward = lambda by, part, once=forward._forward: pieces.append(len(part)) or once(by, part)
    got = forward(states)
    assert got.shape == (count, 2) and sum(pieces) == count and max(pieces) <= 16 and len(pieces) == -(-count // 16)
    np.testing.assert_allclose(got, whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got, brain(states), rtol=1e-5, atol=1e-6)


def test_scaling_is_part_of_the_network():
    plain, scaled = mlp(2, 2, seed=0), mlp(2, 2, center=[1.0, -2.0], scale=[4.0, 0.5], seed=0)
    raw = np.array([[5.0, -1.5]], np.float32)
    np.testing.assert_allclose(scaled(raw), plain(np.array([[1.0, 1.0]], np.float32)), rtol=1e-5)


def test_dueling_by_hand():
    head = Dueling(2)
    head.build((None, 1))
    head.set_weights([np.array([[1.0, 3.0, 10.0]]), np.zeros(3)])  # advantages x and 3x, value 10x
    np.testing.assert_allclose(head(np.array([[1.0], [2.0]])), [[9, 11], [18, 22]])


def test_other_networks_are_left_to_keras():
    tanh = mlp(4, 2, activation="tanh")
    inputs = keras.Input((4,))
    functional = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    half = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, dtype="bfloat16")])
    lstm = keras.Sequential([keras.Input((4, 1)), keras.layers.LSTM(2)])
    for brain in (tanh, functional, half, lstm):
        assert acting_forward(brain) is None
    assert layers_of(functional) is layers_of(lstm) is None


def test_every_layer_has_a_numpy_twin():
    layers = keras.layers
    shapes = {"kernel_initializer": "he_normal", "bias_initializer": "he_normal"}
    vectors = [
        layers.Rescaling(0.5, 1.0),
        *(layers.Dense(6, activation, **shapes) for activation in ("tanh", "sigmoid", "elu", "relu", "linear")),
        layers.Dropout(0.5),
        LayerNormRelu(),
        Dueling(3, layers.Dense(4, use_bias=False)),
    ]
    frames = [
        ScaledFrames(),
        layers.Conv2D(3, (3, 2), 2, activation="relu"),
        LayerNormRelu(),
        layers.Flatten(),
        layers.Dense(2),
    ]
    random = np.random.default_rng(0)
    for own, states in (vectors, STATES), (frames, random.integers(256, size=(5, 4, 12, 11), dtype=np.uint8)):
        brain = keras.Sequential([keras.Input(states.shape[1:], dtype=states.dtype.name), *own])
        brain.set_weights([weight + random.normal(size=weight.shape) / 10 for weight in brain.get_weights()])
        twin = NumpyForward(layers_of(brain))
        twin.refresh(np.concatenate([weight.ravel() for weight in brain.get_weights()]))
        np.testing.assert_allclose(twin(states), brain(states), rtol=1e-4, atol=1e-5)


def test_a_dueling_brain_learns_saves_and_loads():
    def make(seed):
        return Agent(4, 2, "dueling.h5", network={"hidden": (16,), "dueling": True, "scale": 2.0}, seed=seed)

    agent = make(0)
    for state in STATES:
        agent.remember(state, 1, 1.0, -state, False)
    assert agent.replay().shape == (32,)
    agent.save_model()
    np.testing.assert_array_equal(make(1).q_values(STATES), agent.q_values(STATES))
    save_weights(agent.brain, "copy.h5")
    other = mlp(4, 2, hidden=(16,), dueling=True, scale=2.0)
    load_weights(other, "copy.h5")
    np.testing.assert_allclose(other.predict(STATES, verbose=0), agent.q_values(STATES), rtol=1e-5, atol=1e-5)


def test_same_seed_same_weights_and_every_layer_its_own():
    first, same, other = (mlp(24, 24, hidden=(24,), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.get_weights()[0], same.get_weights()[0])
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])
    assert not np.array_equal(first.get_weights()[0], first.get_weights()[2])


def test_torchs_initial_weights_are_uniform_within_one_over_the_root_of_the_inputs():
    arrays = mlp(4, 2, (128, 128), initializer="torch", seed=0).get_weights()
    for array, inputs in zip(arrays, (4, 4, 128, 128, 128, 128), strict=True):
        assert np.abs(array).max() <= inputs**-0.5
        assert array.size == 2 or array.std() == pytest.approx((3 * inputs) ** -0.5, rel=0.15)
    again, other = (mlp(4, 2, (128, 128), initializer="torch", seed=seed).get_weights() for seed in (0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(arrays, other, strict=True))
    with pytest.raises(ValueError, match='`initializer` must be "glorot" or "torch". Received: \'he\''):
        mlp(4, 2, initializer="he")
