"""`max_episode_steps`: another time limit than the environment's, in training, evaluations, films and files."""

import tomllib
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.wrappers import TimeLimit

from keras_dqn import Breakout, CartPole, MountainCar, game_for
from keras_dqn.__main__ import main
from keras_dqn.environments.cart_poles import CartPoles
from keras_dqn.environments.vector import limited

FRESH = {"weights": None, "weight_backup": None, "seed": 0}


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_training_ends_its_episodes_at_the_limit_and_values_what_would_follow(num_envs):
    cartpole = CartPole(12, max_episode_steps=9, num_envs=num_envs, **FRESH)
    assert set(cartpole.train(progress=False).lengths) <= {8, 9}  # nothing falls in fewer than 8
    stored = cartpole.agent.memory.contents()
    assert (stored.discount == 0).sum() < 6, "a time limit is not the end of the world"
    assert cartpole.evaluate(5).lengths.max() == 9 == cartpole.evaluate(5, max_episode_steps=9).lengths.max()
    assert cartpole.run(video="pole.mp4", show=lambda film: None, max_episode_steps=4) == 4


def test_a_limit_may_lie_beyond_the_environments_own():
    car = MountainCar(1, max_episode_steps=230, **FRESH)
    assert car.train(progress=False).lengths.tolist() == [230], "no agent reaches the flag in its first episode"
    assert car.evaluate(2, max_episode_steps=260).lengths.tolist() == [260] * 2
    two = MountainCar(2, max_episode_steps=230, num_envs=2, **FRESH)
    assert two.train(progress=False).lengths.tolist() == [230] * 2


def test_cartpoles_side_by_side_play_to_the_limit_of_single_ones(monkeypatch):
    cartpole = CartPole(weights="pretrained", weight_backup=None)
    together = cartpole.evaluate(3, max_episode_steps=700)
    monkeypatch.setattr(CartPoles, "supports", lambda env, max_steps: False)
    assert cartpole.evaluate(3, max_episode_steps=700).lengths.tolist() == together.lengths.tolist()
    assert together.lengths.max() > 500


@pytest.mark.parametrize("own", [gym.make("CartPole-v1"), lambda: gym.make("CartPole-v1").unwrapped])
def test_environments_of_ones_own_have_it_too(own):
    game = game_for(own)(4, max_episode_steps=9, **FRESH)
    assert game.train(progress=False).lengths.max() <= 9 == game.evaluate(4).lengths.max()
    lengths = game.evaluate(4, epsilon=1.0, max_episode_steps=700).lengths
    assert lengths.max() > 9 and game.evaluate(4).lengths.max() == 9, "a copy had the other limit"


def test_an_atari_game_is_cut_short_by_its_emulator():
    breakout = Breakout(recipe="nature", max_episode_steps=12, **FRESH, memory_size=200, learning_starts=0)
    assert breakout.evaluate(2).lengths.tolist() == [12, 12]
    assert breakout.evaluate(1, max_episode_steps=20).lengths.tolist() == [20]
    breakout.run(video="breakout.mp4", show=lambda film: None, inside=True, max_episode_steps=7)
    assert len(breakout.last_run.q_values) == 7


def test_the_best_weights_can_be_chosen_by_longer_episodes_than_those_of_training():
    cartpole = CartPole(steps=40, max_episode_steps=5, weights=None, seed=0)
    cartpole.train(progress=False, evaluate_every=20, evaluate_max_episode_steps=30)
    assert [one.steps for one in cartpole.history.evaluations] == [20, 40]
    assert cartpole.history.lengths.max() == 5 < cartpole.best_score <= 30


def test_the_command_line_the_settings_file_and_checkpoints_have_it(capsys):
    train = "train cartpole --weights none --seed 0 --quiet --checkpoints held --max-episode-steps"
    assert main([*train.split(), "8", "--episodes", "5", "--history", "h.csv"]) == 0
    assert tomllib.loads(Path("cartpole_weight.toml").read_text())["max_episode_steps"] == 8
    lengths = [int(row.split(",")[1]) for row in Path("h.csv").read_text().splitlines()[1:]]
    assert lengths == [8] * 5
    assert main(["evaluate", "cartpole", "--max-episode-steps", "9", "--episodes", "3"]) == 0
    assert "max 9," in capsys.readouterr().out
    assert main([*train.split(), "7", "--episodes", "6", "--resume"]) == 0
    assert "`max_episode_steps` was 8 and is 7 now" in capsys.readouterr().out


@pytest.mark.parametrize("value", [0, -1, 2.5, "500", True])
def test_what_is_no_number_of_steps_is_refused(value):
    message = "`max_episode_steps` must be a whole number, 1 or more. Received: "
    for game in (CartPole, Breakout, game_for(lambda: gym.make("CartPole-v1"))):
        with pytest.raises(ValueError, match=message):
            game(max_episode_steps=value, **FRESH)
    with pytest.raises(ValueError, match=message):
        CartPole(**FRESH).evaluate(2, max_episode_steps=value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluate cartpole --weights pretrained --max-episode-steps 0", "--max-episode-steps must be a whole number"),
        ("train cartpole --max-episode-steps long", "--max-episode-steps must be a whole number, 1 or more. Received"),
        ("train cartpole --evaluate-max-episode-steps 900", "--evaluate-max-episode-steps needs --evaluate-every. R"),
    ],
)
def test_the_command_line_names_what_is_wrong(line, message, capsys):
    assert main(line.split()) == 2
    assert message in capsys.readouterr().err


def test_a_wrapper_that_limits_is_taken_and_none_is_put_around_it():
    env = gym.make("CartPole-v1")
    assert limited(env, None) is env is limited(env, 900) and env.spec.max_episode_steps == 900
    assert isinstance(limited(env.unwrapped, 3), TimeLimit)
