"""Keras' global dtype policy: default networks are float32 under each, and other brains must give float32 Q-values."""

import numpy as np
import pytest

from keras_dqn import Agent
from keras_dqn.backend import keras
from keras_dqn.core.networks.atari import difference_cnn, nature_cnn
from keras_dqn.core.networks.mlp import mlp
from tests.test_agent import fill

POLICIES = ["mixed_float16", "mixed_bfloat16", "float16", "float64"]
NETWORK = {"hidden": (8,), "dueling": True, "center": 0.5, "scale": 2.0}


@pytest.fixture(params=POLICIES)
def policy(request):
    """Keras' dtype policy for the time of a test."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def learned():
    """Losses and weights of a short training of a default brain."""
    agent = Agent(4, 2, weight_backup=None, network=NETWORK, target_update=1, minibatch_size=8, seed=0)
    fill(agent, 40)
    return agent.replay(), agent.learner.read_weights(), agent.q_values(np.ones((3, 4)))


@pytest.fixture(scope="module")
def expected():
    """Made before any policy is set: fixtures of a module come first."""
    assert keras.config.dtype_policy().name == "float32"
    return learned()


def test_default_brains_learn_the_same_under_every_policy(expected, policy):
    for got, wanted in zip(learned(), expected, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, wanted)


def configs():
    """What Keras writes down of each default network, but for the names that it numbers."""
    networks = [mlp(4, 2, seed=0, **NETWORK), mlp(4, 2, seed=0), nature_cnn((4, 84, 84), 3, seed=0)]
    networks.append(difference_cnn((2, 100, 100, 3), 3, seed=0))
    return [[(type(layer), layer.get_config() | {"name": None}) for layer in network.layers] for network in networks]


@pytest.fixture(scope="module")
def plain():
    return configs()


def test_every_layer_says_float32_itself(plain, policy):
    assert configs() == plain


def head(*hidden, **options):
    return keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(2, name="output", **options)])


def test_other_brains_must_give_float32(policy):
    dtype = keras.config.dtype_policy().compute_dtype
    with pytest.raises(ValueError, match=rf'last layer dtype="float32".* Received: {dtype}, with .*{policy}'):
        Agent(4, 2, weight_backup=None, brain=head(keras.layers.Dense(8, "tanh")))


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_brains_that_end_in_float32_learn(policy):
    brain = head(keras.layers.Dense(8, "tanh"), dtype="float32")
    agent = Agent(4, 2, weight_backup=None, brain=brain, minibatch_size=8, seed=0)
    fill(agent, 40)
    before = [weight.copy() for weight in brain.get_weights()]
    assert np.isfinite(agent.replay()).all()
    assert any(np.any(old != new) for old, new in zip(before, brain.get_weights(), strict=True))


def test_scaled_losses_are_refused():
    brain, scaled = head(dtype="float32"), keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match="auto_scale_loss=False.* Received: LossScaleOptimizer"):
        Agent(4, 2, weight_backup=None, brain=brain, optimizer=scaled)
    brain.compile(loss="mse", optimizer=scaled)
    with pytest.raises(ValueError, match="auto_scale_loss=False.* Received: LossScaleOptimizer"):
        Agent(4, 2, weight_backup=None, brain=brain)
