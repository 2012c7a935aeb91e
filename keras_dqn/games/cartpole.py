"""CartPole: the environment, its recipes, and what counts as solved."""

from functools import partial

from keras_dqn.backend import keras
from keras_dqn.core.exploration import Exponential, Linear
from keras_dqn.core.objectives.c51 import C51
from keras_dqn.games.recipes import FAST, PARALLEL, family
from keras_dqn.training.runner import Runner

_FAST = {  # ours: half of the seeds solve it within 1,000 steps
    **FAST,
    # The track and the angle of failure become -1 to 1: with half of that the cart drifts, unnoticed for long.
    "network": {**FAST["network"], "scale": (2.4, 3.0, 0.21, 3.0)},
    "exploration": Linear(1.0, 0.05, 3000),
}


class CartPole(Runner):
    """Balance a pole on a cart: 4 numbers in, push left or right, +1 a step, 500 steps at most; solved at 475.

    Example:
        cartpole = CartPole(200)
        cartpole.train()
        cartpole.run(0.0)
        CartPole(weights="pretrained").run()
    """

    name = "cartpole"
    environment = "CartPole-v1"
    solved_score = 475
    action_names = ("left", "right")
    pretrained_recipe = "juvin"
    recipes = {
        "juvin": {},  # the Agent's own defaults are that notebook's
        "pytorch": {  # the PyTorch tutorial's
            "network": {"hidden": (128, 128), "initializer": "torch"},
            # weight decay and epsilon as torch's AdamW has them
            "optimizer": partial(
                keras.optimizers.AdamW,
                1e-4,
                weight_decay=0.01,
                amsgrad=True,
                epsilon=1e-8,
                clipvalue=100.0,
                name="adam_w",
            ),
            "memory_size": 10_000,
            "sample_batch_size": 128,
            "minibatch_size": 128,
            "replay_every": 1,
            "gamma": 0.99,
            "loss": "huber",
            "target_update": 1,
            "tau": 0.005,
            "exploration": Exponential(0.9, 0.05, 1000),
        },
        "fast": _FAST,
        "parallel": {**PARALLEL, "network": {**PARALLEL["network"], "scale": (2.4, 3.0, 0.21, 3.0)}},
        **family(_FAST, C51.of_rewards(0.0, 1.0, FAST["gamma"])),
    }
