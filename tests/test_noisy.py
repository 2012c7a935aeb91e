"""Noisy networks: how large the noise is, when it is drawn anew, and where there is none."""

import keras
import numpy as np
import pytest

from keras_dqn import Agent, CartPole, Learner, Transition, brain_from, load_weights, save_weights
from keras_dqn.core.loss import LEARNING, PICKING, VALUING
from keras_dqn.core.networks.layers import NoisyDense, noise
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.networks.numpy_forward import NumpyForward, layers_of
from keras_dqn.core.objectives.c51 import C51
from keras_dqn.ray.actors import Games, forward_of

STATES = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def layer():
    layer = NoisyDense(3, seed=1)
    layer.build((None, 4))
    layer.bias_sigma.assign([0.1, 0.2, 0.3])
    return layer


def outputs(layer, number, purpose=0, states=STATES):
    with noise(purpose, number):
        return np.asarray(layer(states))


def test_the_initial_weights_are_those_of_the_paper():
    layer = NoisyDense(400, sigma=0.5, seed=0)
    layer.build((None, 100))
    for weight in (layer.kernel, layer.bias):
        values = np.asarray(weight)
        assert np.abs(values).max() <= 0.1 and values.std() == pytest.approx(0.1 / 3**0.5, rel=0.1)
    for weight in (layer.kernel_sigma, layer.bias_sigma):
        np.testing.assert_allclose(weight, 0.05)


def test_without_a_context_the_weights_are_their_means(layer):
    means = STATES @ np.asarray(layer.kernel) + np.asarray(layer.bias)
    np.testing.assert_allclose(layer(STATES), means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer(STATES, training=True), means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs(layer, None), means, rtol=1e-5, atol=1e-6)


def noise_of(draw, size):
    """The noise of kernel and bias, and what it comes to on average and by its variance, over many draws."""
    with_noise = np.array([draw(number) for number in range(size)])
    return with_noise.mean(0), with_noise.var(0)


def expected_variance(layer):
    """Of one output: f(e_in) f(e_out) and f(e_out) have mean 0; of f(e)² the mean is E|e| = sqrt(2 / pi)."""
    mean = (2 / np.pi) ** 0.5
    kernel, bias = np.asarray(layer.kernel_sigma), np.asarray(layer.bias_sigma)
    return mean**2 * (STATES**2) @ kernel**2 + mean * bias**2


def test_the_noise_has_the_mean_and_the_variance_of_its_formula(layer):
    forward = NumpyForward(layers_of(keras.Sequential([keras.Input((4,)), layer])))
    forward.refresh(np.concatenate([np.ravel(weight) for weight in layer.weights]))
    np.testing.assert_allclose(forward(STATES), layer(STATES), rtol=1e-5, atol=1e-6)
    random = np.random.default_rng(0)
    for draw, size in ((lambda i: outputs(layer, i), 4000), (lambda _: forward(STATES, random), 20_000)):
        mean, variance = noise_of(draw, size)
        deviation = np.sqrt(expected_variance(layer))
        assert (np.abs(mean - np.asarray(layer(STATES))) / deviation < 4 / size**0.5).all()
        np.testing.assert_allclose(variance, expected_variance(layer), rtol=0.15)


def test_the_noise_of_a_kernel_is_a_product_and_of_a_batch_the_same(layer):
    inputs = np.concatenate([np.eye(4), np.zeros((1, 4)), np.eye(4)]).astype(np.float32)
    added = outputs(layer, 7, states=inputs) - np.asarray(layer(inputs))
    np.testing.assert_allclose(added[:4], added[5:])  # whatever the row
    kernel = (added[:4] - added[4]) / np.asarray(layer.kernel_sigma)
    assert np.linalg.matrix_rank(kernel, tol=1e-4) == 1
    np.testing.assert_allclose(np.abs(kernel[0] / kernel[1]), abs(kernel[0, 0] / kernel[1, 0]), rtol=1e-3)


def test_every_purpose_number_and_layer_has_noise_of_its_own(layer):
    drawn = [outputs(layer, number, purpose) for number in (0, 1, 2) for purpose in (VALUING, PICKING, LEARNING)]
    assert len({one.tobytes() for one in drawn}) == 9
    assert np.array_equal(outputs(layer, 1, VALUING), drawn[3])
    twin = NoisyDense(3, seed=2)
    twin.build((None, 4))
    twin.set_weights(layer.get_weights())
    assert not np.allclose(outputs(twin, 0), outputs(layer, 0))


def batches(count, size=4, seed=0):
    random = np.random.default_rng(seed)
    states = np.repeat(random.normal(size=(1, size, 4)), count, axis=0).astype(np.float32)
    ones = np.ones((count, size), np.float32)
    return Transition(states, np.zeros((count, size), int), ones, 0.9 * ones, states)


@pytest.mark.parametrize("target_update", [None, 1])
def test_every_update_of_a_call_and_every_call_draws_anew(target_update):
    """With a learning rate of 0 all updates are of the same weights and transitions: what differs is the noise."""
    learner = Learner(mlp(4, 2, (8,), noisy=True, seed=0), keras.optimizers.SGD(0.0), "mse", target_update)
    losses = np.concatenate([learner.update(batches(4)).losses, learner.update(batches(4)).losses])
    assert len(set(losses.tolist())) == 8
    learner.updates = 4  # as a training that goes on counts
    np.testing.assert_array_equal(learner.update(batches(4)).losses, losses[4:])


def test_the_target_network_draws_noise_of_its_own():
    """Without it, Q(s') of s itself would be what it is moved from, and with gamma 1 and reward 0 there is no error."""
    learner = Learner(mlp(4, 1, (8,), noisy=True, seed=0), keras.optimizers.SGD(0.0), "mse", 1)
    same = batches(1)
    same = same._replace(reward=0 * same.reward, discount=1 + 0 * same.discount)
    assert learner.update(same).losses[0] > 1e-4
    for weight in learner.brain.weights:
        if "sigma" in weight.path:
            weight.assign(0 * weight)
    learner.copy_to_target()
    assert learner.update(same).losses[0] < 1e-10


def agent_of(**options):
    network = {"hidden": (8,), "noisy": True}
    usual = {"network": network, "memory_size": 50, "sample_batch_size": 4, "exploration_rate": 0, "exploration_min": 0}
    return Agent(4, 2, None, seed=0, **usual | options)


@pytest.mark.parametrize("options", [{}, {"objective": C51(0, 5, 7)}])
def test_an_agent_acts_with_noise_and_evaluates_without(options):
    agent = agent_of(**options)
    means = agent.q_values(STATES)
    assert np.array_equal(means, agent.q_values(STATES))
    brain = agent.learner.objective.q_values(agent.learner.brain(STATES))
    np.testing.assert_allclose(means, brain, atol=1e-5)
    noisy = [agent.learner.q_values(STATES, agent.policy.random) for _ in range(3)]
    assert len({one.tobytes() for one in [*noisy, means]}) == 4
    agent.act_batch(STATES)
    assert not np.allclose(agent._last_q_values, means)
    assert {agent.act(STATES[0], epsilon=0.0) for _ in range(50)} == {int(means[0].argmax())}
    close = min(STATES, key=lambda state: np.ptp(agent.q_values([state])))
    assert {agent.act(close) for _ in range(200)} == {0, 1}


def test_a_network_without_noise_draws_none():
    agent = agent_of(network={"hidden": (8,)})
    before = agent.policy.random.bit_generator.state
    agent.act_batch(STATES)
    assert agent.policy.random.bit_generator.state == before


def test_what_is_learned_is_how_large_the_noise_is():
    learner = Learner(mlp(4, 2, (8,), noisy=True, seed=0), keras.optimizers.Adam(1e-2), "mse")
    before = learner.snapshot()["brain"]
    learner.update(batches(5))
    assert all(not np.allclose(old, new) for old, new in zip(before, learner.snapshot()["brain"], strict=True))


def test_files_bring_noisy_layers_back(tmp_path):
    brain = mlp(4, (2, 5), (8, 8), noisy=True, dueling=True, seed=0)
    save_weights(brain, tmp_path / "noisy.h5")
    other = mlp(4, (2, 5), (8, 8), noisy=True, dueling=True, seed=1)
    load_weights(other, tmp_path / "noisy.h5")
    plain = mlp(4, (2, 5), (8, 8), noisy=True, seed=1)
    save_weights(plain, tmp_path / "plain.h5")
    np.testing.assert_array_equal(other(STATES), brain(STATES))
    np.testing.assert_array_equal(brain_from(tmp_path / "plain.h5")(STATES), plain(STATES))
    copy = keras.models.clone_model(brain)
    copy.set_weights(brain.get_weights())
    np.testing.assert_array_equal(copy(STATES), brain(STATES))


def test_actors_draw_noise():
    """With epsilon 0, nothing else makes one game differ from another of the same seed."""
    game = CartPole(recipe="noisy", weights=None, seed=0)
    learner = game.agent.learner
    games = [
        Games(np.random.SeedSequence(seed), game.make_envs, 1, forward_of(learner.brain, learner.objective), 2)
        for seed in (0, 0, 1)
    ]
    chunks = [one.play(learner.read_weights(), 0, 0.0, 40) for one in games]
    assert np.array_equal(chunks[0].steps.q_values, chunks[1].steps.q_values)
    assert not np.array_equal(chunks[0].steps.action, chunks[2].steps.action)
