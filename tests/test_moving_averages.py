"""`use_ema=True`: a training ends with the averages of the weights, as `fit` does, wherever weights are looked at."""

import numpy as np
import pytest

from keras_dqn import CartPole, Checkpoints
from keras_dqn.backend import keras

MOMENTUM = 0.9


class Weights(keras.callbacks.Callback):
    """The weights after each update, and at the end."""

    def on_train_begin(self, logs=None):
        self.all = []

    def on_train_batch_end(self, batch, logs=None):
        self.all.append(self.model.get_weights())

    def on_train_end(self, logs=None):
        self.last = self.model.get_weights()


class Stops(keras.callbacks.Callback):
    """Ctrl-C after so many updates."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 40:
            raise KeyboardInterrupt


def cartpole(steps=120, **options):
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=MOMENTUM)
    own = {"weights": None, "weight_backup": None, "sample_batch_size": 1, "replay_every": 1, "seed": 0}
    return CartPole(steps=steps, optimizer=optimizer, **own | options)


def averages(weights):
    """Of the weights after each update."""
    average, *others = weights
    for one in others:
        average = [MOMENTUM * old + (1 - MOMENTUM) * new for old, new in zip(average, one, strict=True)]
    return average


def same(ones, others, **tolerance):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_allclose(one, other, **{"rtol": 0, "atol": 0} | tolerance)


def test_a_training_ends_with_them_in_the_brain_in_the_file_and_in_what_the_agent_does():
    game, heard = cartpole(weight_backup="averages.h5"), Weights()
    game.train(heard, progress=False)
    brain = game.agent.brain
    same(brain.get_weights(), averages(heard.all), atol=1e-5)
    assert not np.allclose(brain.get_weights()[0], heard.all[-1][0], atol=1e-4), "averages are no last weights"
    same(heard.last, brain.get_weights())
    same(CartPole(weights="averages.h5", weight_backup=None).agent.brain.get_weights(), brain.get_weights())
    states = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(game.agent.q_values(states), brain(states), rtol=1e-4, atol=1e-5)


def test_a_training_that_is_resumed_goes_on_from_the_weights_themselves():
    game, heard = cartpole(weight_backup="averages.h5"), Weights()
    with pytest.raises(KeyboardInterrupt):
        game.train([heard, Stops()], progress=False, checkpoints="averages")
    same(game.agent.brain.get_weights(), averages(heard.all), atol=1e-5)
    resumed = cartpole()
    Checkpoints("averages").restore(resumed)
    same(resumed.agent.brain.get_weights(), heard.all[-1])
