"""Deep Q-learning in Keras, from the transition to the film.

    environments, files → core → show, ray, pytorch → training → games → experiment, playable, cli

Imports follow the arrows. `core` is what learns: transitions, memories, networks, the learner, the agent and the only
training loop. `environments` makes games, one or many at once; `files` reads and writes weights; `training` trains an
agent, evaluates it and films it; `games` names the environments and their recipes.
Beside them: `show` (figures and films), `playable` (games for the keyboard, in a window or on a page), `pytorch` (the
same agent in PyTorch), `ray` (actors on other machines), `experiment` (many seeds), `cli` (the command line); and
`conformance`, which any implementation can be checked with and which knows the rest by its public names alone.
"""

import importlib
import re
from typing import TYPE_CHECKING

from keras_dqn.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:  # the public names, for editors and type checkers; `__getattr__` reads their homes here as well
    from keras_dqn.core.agent import Agent as Agent
    from keras_dqn.core.learner import Learner as Learner
    from keras_dqn.core.loop import interact as interact
    from keras_dqn.core.memory.frames import FrameMemory as FrameMemory
    from keras_dqn.core.memory.replay import ReplayMemory as ReplayMemory
    from keras_dqn.core.transition import Transition as Transition
    from keras_dqn.experiment import compare as compare
    from keras_dqn.experiment import train_seeds as train_seeds
    from keras_dqn.files import weights as weights
    from keras_dqn.files.h5_probe import WeightFileError as WeightFileError
    from keras_dqn.files.weights import load_weights as load_weights
    from keras_dqn.files.weights import save_weights as save_weights
    from keras_dqn.games.any_game import game_for as game_for
    from keras_dqn.games.breakout import Breakout as Breakout
    from keras_dqn.games.cartpole import CartPole as CartPole
    from keras_dqn.games.mountain_car import MountainCar as MountainCar
    from keras_dqn.playable.page import play_here as play_here
    from keras_dqn.show import inside as inside
    from keras_dqn.show import plots as plots
    from keras_dqn.show.notebook import compare_videos as compare_videos
    from keras_dqn.show.notebook import show_animation as show_animation
    from keras_dqn.show.notebook import show_video as show_video
    from keras_dqn.training.checkpoint import CheckpointError as CheckpointError
    from keras_dqn.training.checkpoint import Checkpoints as Checkpoints
    from keras_dqn.training.evaluate import Evaluation as Evaluation
    from keras_dqn.training.evaluate import evaluate as evaluate
    from keras_dqn.training.history import History as History
    from keras_dqn.training.load_into_agent import brain_from as brain_from

_HOMES = {  # name: its module, which is imported when the name is first used
    name: home for home, name in re.findall(r"^    from (\S+) import (\w+) as", __loader__.get_source(__name__), re.M)
}
__all__ = sorted(_HOMES)  # `conformance`, `playable`, and `pytorch`, which needs torch, are imported as modules


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; there are {', '.join(__all__)}")
    home = _HOMES[name]
    return getattr(importlib.import_module(home), name, None) or importlib.import_module(f"{home}.{name}")


def __dir__():
    return __all__
