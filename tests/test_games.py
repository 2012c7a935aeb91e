"""The games' recipes: what they set, and that they run on the real environments."""

import numpy as np
import pytest

from keras_dqn import CartPole, History, MountainCar
from keras_dqn.core.counting import Episode
from keras_dqn.core.networks.layers import Dueling
from keras_dqn.games import GAMES, IN_A_WINDOW, ON_A_PAGE
from keras_dqn.games.breakout import Breakout


def test_pytorch_recipe_is_the_tutorials():
    cartpole = CartPole(recipe="pytorch", seed=0)
    agent, optimizer = cartpole.agent, cartpole.agent.brain.optimizer
    assert [layer.units for layer in agent.brain.layers] == [128, 128, 2]
    assert (agent.memory.capacity, agent.sample_batch_size, agent.minibatch_size) == (10_000, 128, 128)
    assert (type(optimizer).__name__, optimizer.amsgrad, optimizer.clipvalue) == ("AdamW", True, 100)
    assert float(optimizer.learning_rate) == pytest.approx(1e-4)
    assert (agent.learner.target.tau, agent.learner.target.every, agent.learner.double) == (0.005, 1, False)
    assert agent.learner.objective.loss == "huber"
    assert cartpole.replay_every == 1 and agent.gamma == 0.99
    assert agent.exploration_rate == pytest.approx(0.9)
    assert agent.settings.exploration.exploration(1000) == pytest.approx(0.05 + 0.85 / np.e)
    history = CartPole(8, recipe="pytorch", seed=0).train(progress=False)
    assert np.isnan(history.losses[0]) or history.lengths[0] >= 128  # nothing is learned before 128 transitions


def test_notebook_recipe_is_the_mountain_car_notebooks():
    car = MountainCar(recipe="notebook", seed=0)
    agent, optimizer = car.agent, car.agent.brain.optimizer
    assert [layer.units for layer in agent.brain.layers] == [64, 64, 3]
    assert (agent.memory.capacity, agent.minibatch_size, car.replay_every) == (1000, 64, 5)
    assert (type(optimizer).__name__, optimizer.global_clipnorm) == ("Adam", 1)
    assert (agent.learner.target.tau, agent.learner.target.every, agent.learner.double) == (1e-3, 1, True)
    assert agent.learner.objective.loss == "mse"
    assert [agent.settings.exploration.exploration(steps) for steps in (0, 200, 10**6)] == pytest.approx(
        [1, 0.9, 0.001]
    )


@pytest.mark.parametrize(("game", "recipe"), [(CartPole, "fast"), (MountainCar, "notebook"), (MountainCar, "fast")])
def test_recipes_run_on_the_real_thing(game, recipe):
    history = game(3, recipe=recipe, seed=0).train(progress=False)
    assert len(history) == 3
    expected = history.lengths if game is CartPole else -history.lengths
    assert history.scores.tolist() == expected.tolist()


def test_fast_cartpole_learns_within_three_thousand_steps():
    cartpole = CartPole(1000, recipe="fast", seed=0)
    history = cartpole.train(progress=False, evaluate_every=500, stop_score=475)
    assert cartpole.best_score >= 475 and history.lengths.sum() <= 5000
    cartpole.agent.load_model(cartpole.best_backup)
    assert cartpole.evaluate(100).mean >= 450  # other episodes than those that chose it


def test_every_recipe_has_a_file_of_its_own():
    names = {CartPole(recipe=recipe).agent.weight_backup.name for recipe in CartPole.recipes}
    assert len(names) == len(CartPole.recipes) == 10
    assert {"cartpole_weight.h5", "cartpole_pytorch_weight.h5", "cartpole_fast_weight.h5"} < names


def test_options_replace_those_of_the_recipe():
    cartpole = CartPole(recipe="fast", network={"hidden": (8,), "dueling": True}, gamma=0.9, replay_every=7)
    assert isinstance(cartpole.agent.brain.layers[-1], Dueling)
    assert cartpole.agent.gamma == 0.9 and cartpole.replay_every == 7


def test_the_recipe_fast_of_mountain_car_waits_for_the_first_flag():
    car = MountainCar(2, recipe="fast", seed=0)
    history = car.train(progress=False)
    assert history.scores.max() == -200 and np.isnan(history.losses).all() and len(car.agent.memory) >= 128
    state = np.zeros(2, np.float32)
    car.agent.remember(state, 0, -1, state, True)
    assert car.agent.replay() is not None


def test_a_shaped_reward_is_learned_and_the_true_one_reported():
    def height(states, actions, rewards, next_states):
        return rewards + next_states[:, 0]

    history = MountainCar(1, recipe="notebook", seed=0, shape_reward=height)
    scores = history.train(progress=False).scores
    stored = history.agent.memory.contents()
    assert scores.tolist() == [-200]
    np.testing.assert_allclose(stored.reward, -1 + stored.next_state[:, 0], rtol=1e-6)


def episodes(scores):
    return History([Episode(score, int(-score), 0.5, 0.1, 12.5) for score in scores])


def test_mountain_car_says_what_the_notebook_says_and_stops_when_solved():
    car = MountainCar(1000, recipe="notebook", seed=0)
    assert not car.is_over(episodes([-105.0] * 99))
    assert car.is_over(episodes([-105.0] * 100))
    assert car.comments(episodes([-105.0] * 100)) == ["Solved after 100 episodes and 12.5 s: mean of 100 is -105.0"]
    assert car.comments(episodes([-150.0] * 200)) == ["Episode 200: mean of the last 100 is -150.0"]
    assert "nothing is broken" in car.comments(episodes([-200.0] * 100))[0]
    assert car.comments(episodes([-150.0] * 150)) == []


@pytest.mark.parametrize(
    ("game", "recipe"), [(game, recipe) for game in (CartPole, MountainCar, Breakout) for recipe in game.recipes]
)
def test_networks_made_again_have_the_same_names(game, recipe):
    """TensorFlow keeps memory for each name that a variable ever had: new ones would be 0.7 MB a runner."""

    def names():
        learner = game(recipe=recipe, weights=None, weight_backup=None).agent.learner
        return [variable.value.name for variables in learner.variables.values() for variable in variables]

    first = names()
    assert len(first) > 10 and names() == first


@pytest.mark.parametrize("name", GAMES)
def test_the_registry_says_of_a_game_what_its_runner_says(name):
    game = GAMES[name]
    runner = game.runner_class()
    assert game.environment.removeprefix("keras_dqn.playable:") == (runner.environment or "breakout")
    assert game.recipes == tuple(runner.recipes)


def test_what_the_window_and_the_page_play():
    assert IN_A_WINDOW == {"cartpole": "keras_dqn/PlayableCartPole-v0", "mountaincar": "MountainCar-v0"}
    assert ON_A_PAGE == ["cartpole", "playable-cartpole", "mountaincar"]
