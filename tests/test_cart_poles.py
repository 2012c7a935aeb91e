"""Evaluation on gymnasium's NumPy CartPole: the same episodes as one by one."""

import gymnasium as gym
import numpy as np
import pytest

from keras_dqn import CartPole, evaluate
from keras_dqn.environments.cart_poles import CartPoles
from keras_dqn.environments.vector import MAX_STEPS, OneEpisodeEach, make_env

OTHERS = "phys2d/", "tabular/", "ALE/"  # need JAX; are played from pixels
VECTORISED = [id for id, spec in gym.registry.items() if spec.vector_entry_point and not id.startswith(OTHERS)]


@pytest.fixture(scope="module")
def agents():
    """One that holds the pole, and one with a large network that has learned nothing."""
    return {
        "pretrained": CartPole(weights="pretrained", weight_backup=None).agent,
        "large": CartPole(recipe="pytorch", weights=None, weight_backup=None, seed=0).agent,
    }


def both(agent, make, monkeypatch, episodes=20, **options):
    """An evaluation as it is, and one in environments of their own."""
    result = evaluate(agent, make, episodes, **options)
    with monkeypatch.context() as patch:
        patch.setattr(CartPoles, "supports", lambda env, max_steps: False)
        return result, evaluate(agent, make, episodes, **options)


def assert_same(results):
    for name in ("scores", "lengths"):
        first, second = (getattr(result, name) for result in results)
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)


def test_gymnasium_has_numpy_versions_of_cartpole_alone():
    assert {id.partition("-")[0] for id in VECTORISED} == {"CartPole"}


@pytest.mark.parametrize("environment", VECTORISED)
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["pretrained", "large"])
def test_scores_and_lengths_are_those_of_single_environments(agents, name, environment, epsilon, monkeypatch):
    assert CartPoles.supports(make_env(environment), MAX_STEPS)
    results = both(agents[name], lambda: make_env(environment), monkeypatch, seed=7, epsilon=epsilon)
    assert_same(results)
    assert len(set(results[0].lengths)) > 1 or epsilon == 0


@pytest.mark.parametrize(
    "options", [{"max_episode_steps": 30}, {"sutton_barto_reward": True}, {"disable_env_checker": True}]
)
def test_options_of_gym_make_count(agents, options, monkeypatch):
    assert CartPoles.supports(gym.make("CartPole-v1", **options), MAX_STEPS)
    results = both(agents["pretrained"], lambda: gym.make("CartPole-v1", **options), monkeypatch, epsilon=0.6)
    assert_same(results)
    assert results[0].lengths.max() <= options.get("max_episode_steps", 500)
    assert results[0].scores.min() < 0 or "sutton_barto_reward" not in options


def test_another_physics_counts(agents, monkeypatch):
    def heavy():
        env = make_env("CartPole-v1")
        env.unwrapped.gravity, env.unwrapped.length = 30, 1
        return env

    results = both(agents["large"], heavy, monkeypatch, seed=3)
    assert_same(results)
    usual = evaluate(agents["large"], lambda: make_env("CartPole-v1"), 20, 3)
    assert results[0].lengths.tolist() != usual.lengths.tolist()


class Own(gym.envs.classic_control.CartPoleEnv):
    """A subclass, which may do anything."""


@pytest.mark.parametrize(
    ("make", "max_steps"),
    [
        (lambda: make_env("CartPole-v1"), 499),
        (lambda: make_env("CartPole-v1", "rgb_array"), MAX_STEPS),
        (lambda: gym.wrappers.TimeAwareObservation(make_env("CartPole-v1")), MAX_STEPS),
        (lambda: gym.wrappers.TimeLimit(Own(), 500), MAX_STEPS),
        (lambda: gym.envs.classic_control.CartPoleEnv(), MAX_STEPS),
        (lambda: make_env("MountainCar-v0"), MAX_STEPS),
    ],
)
def test_others_play_in_environments_of_their_own(make, max_steps):
    assert not CartPoles.supports(make(), max_steps)


def test_the_poles_begin_with_seeds_of_their_own():
    together = CartPoles(make_env("CartPole-v1"), 3)
    states, _ = together.reset(seed=11)
    singly, _ = OneEpisodeEach([make_env("CartPole-v1") for _ in range(3)]).reset(seed=11)
    assert states.dtype == singly.dtype
    np.testing.assert_array_equal(states, singly)
