"""What `NormalizeObservation` has learned goes with the weights: into files, copies and checkpoints."""

import gymnasium as gym
import h5py
import numpy as np
import pytest

from keras_dqn import Checkpoints, WeightFileError, game_for
from keras_dqn.backend import keras


def normalized():
    return gym.wrappers.NormalizeObservation(gym.make("CartPole-v1"))


def game(environment=normalized, episodes=10, **options):
    own = {"weights": None, "weight_backup": "n.h5", "seed": 0}
    return game_for(environment)(episodes, **own | options)


def known(runner):
    """Mean, variance and count that it evaluates with."""
    (layer,) = [layer for layer in wrappers(runner.make_env()) if hasattr(layer, "obs_rms")]
    assert not layer.update_running_mean
    return layer.obs_rms.mean, layer.obs_rms.var, layer.obs_rms.count


def wrappers(env):
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env


def same(one, other):
    for mine, theirs in zip(known(one), known(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture
def trained():
    runner = game()
    runner.train(progress=False, evaluate_every=10**6)
    return runner


@pytest.mark.parametrize("weights", ["n.h5", "n_best.h5", "backup", "another.h5"])
@pytest.mark.parametrize("environment", [normalized, "an object"])
def test_a_loaded_agent_sees_what_it_was_trained_on(trained, weights, environment):
    trained.agent.save_model("another.h5")
    loaded = game(normalized() if environment == "an object" else environment, weights=weights)
    same(loaded, trained)
    assert known(loaded)[2] > 100 and loaded.evaluate(5).scores.tolist() == trained.evaluate(5).scores.tolist()
    later = game(weight_backup=None)
    later.agent.load_model("another.h5")
    same(later, trained)


def test_keras_reads_the_weights_as_before(trained):
    again = game(weight_backup=None).agent.brain
    again.load_weights("n.h5")
    np.testing.assert_array_equal(again.get_weights()[0], trained.agent.brain.get_weights()[0])
    assert isinstance(again, keras.Model)


def test_files_without_them_say_so(capsys):
    game(lambda: gym.make("CartPole-v1")).agent.save_model("plain.h5")
    capsys.readouterr()
    runner = game(weights="plain.h5", weight_backup=None)
    assert "plain.h5 has no statistics of NormalizeObservation" in capsys.readouterr().out
    assert known(runner)[2] < 1


@pytest.mark.parametrize("wrong", [np.zeros((2, 4)), np.full((3, 4), np.nan), -np.ones((3, 4)), np.zeros(4)])
def test_damaged_ones_are_refused_and_nothing_is_changed(trained, wrong):
    with h5py.File("n.h5", "a") as file:
        del file["observation_statistics"]
        file["observation_statistics"] = wrong
    other = game(weight_backup=None, seed=1)
    before, fresh = other.agent.brain.get_weights(), known(other)
    with pytest.raises(WeightFileError, match="n.h5: 'observation_statistics': .* Received: "):
        other.agent.load_model("n.h5")
    np.testing.assert_array_equal(before[0], other.agent.brain.get_weights()[0])
    np.testing.assert_array_equal(fresh[0], known(other)[0])


def test_a_training_that_is_resumed_goes_on_with_them():
    runner = game()
    runner.train(progress=False, checkpoints="saved")
    resumed = game()
    Checkpoints("saved").restore(resumed)
    same(resumed, runner)
    resumed.episodes = 12
    resumed.train(progress=False, checkpoints="saved", resume=True)
    assert known(resumed)[2] > known(runner)[2]
