"""Any gymnasium environment whose states are vectors of numbers and whose actions are discrete, by its id."""

import importlib
import re

import gymnasium as gym

from keras_dqn.environments import check_known
from keras_dqn.exploration import linear
from keras_dqn.recipes import BEST, PARALLEL
from keras_dqn.runner import Runner


class AnyGame(Runner):
    """The runner of an environment that keras_dqn has no settings for; `game_for` makes one."""

    pretrained_recipe = "juvin"
    recipes = {
        "juvin": {},  # the Agent's own defaults
        "best": {**BEST, "exploration": linear(1.0, 0.05, 10_000)},  # of the games that have one, not tuned to this
        "parallel": PARALLEL,
    }


def game_for(environment):
    """The `Runner` class for a gymnasium environment.

    Its files are named after the environment, and it counts as solved at gymnasium's `reward_threshold`, if it has one.

    Args:
        environment: gymnasium's id, like "Acrobot-v1"; "module:MyGame-v0" imports the module that registers it first.

    Raises:
        ValueError: there is no environment of that id; the message names the nearest.
        ImportError: there is no such module.

    Example:
        acrobot = game_for("Acrobot-v1")(300, recipe="best")
        acrobot.train()
    """
    module, _, environment = environment.rpartition(":")
    if module:
        importlib.import_module(module)
    check_known(environment)
    name = re.sub(r"[^\w.-]+", "_", environment)  # "ALE/Pong-v5" is no file name
    threshold = gym.spec(environment).reward_threshold
    return type(name, (AnyGame,), {"name": name, "environment": environment, "solved_score": threshold})
