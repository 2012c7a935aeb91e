"""Deep Q-learning in Keras, from the transition to the film.

    environments, files → core → show, ray, pytorch → training → games → experiment, playable, cli

Imports follow the arrows. `core` is what learns: transitions, memories, networks, the learner, the agent and the only
training loop. `environments` makes games, one or many at once; `files` reads and writes weights; `training` trains an
agent, evaluates it and films it; `games` names the environments and their recipes.
Beside them: `show` (figures and films), `playable` (games for the keyboard, in a window or on a page), `pytorch` (the
same agent in PyTorch), `ray` (actors on other machines), `experiment` (many seeds), `cli` (the command line).
"""

import importlib
from typing import TYPE_CHECKING

from keras_dqn.version import __version__ as __version__

if TYPE_CHECKING:  # for editors and type checkers; when the package runs, a name is imported when it is first used
    from keras_dqn import playable as playable
    from keras_dqn import pytorch as pytorch
    from keras_dqn.core.agent import Agent as Agent
    from keras_dqn.core.learner import Learner as Learner
    from keras_dqn.core.loop import interact as interact
    from keras_dqn.core.memory.frames import FrameMemory as FrameMemory
    from keras_dqn.core.memory.replay import ReplayMemory as ReplayMemory
    from keras_dqn.core.transition import Transition as Transition
    from keras_dqn.experiment import compare as compare
    from keras_dqn.experiment import train_seeds as train_seeds
    from keras_dqn.files import weights as weights
    from keras_dqn.files.weight_file import WeightFileError as WeightFileError
    from keras_dqn.files.weights import load_weights as load_weights
    from keras_dqn.files.weights import save_weights as save_weights
    from keras_dqn.games.any_game import game_for as game_for
    from keras_dqn.games.breakout import Breakout as Breakout
    from keras_dqn.games.cartpole import CartPole as CartPole
    from keras_dqn.games.mountain_car import MountainCar as MountainCar
    from keras_dqn.playable import PlayableCartPole as PlayableCartPole
    from keras_dqn.playable import page as page
    from keras_dqn.playable.page import play_here as play_here
    from keras_dqn.show import inside as inside
    from keras_dqn.show import plots as plots
    from keras_dqn.show.notebook import compare_videos as compare_videos
    from keras_dqn.show.notebook import show_animation as show_animation
    from keras_dqn.show.notebook import show_video as show_video
    from keras_dqn.training import history as history
    from keras_dqn.training.checkpoint import CheckpointError as CheckpointError
    from keras_dqn.training.checkpoint import Checkpoints as Checkpoints
    from keras_dqn.training.evaluate import Evaluation as Evaluation
    from keras_dqn.training.evaluate import evaluate as evaluate
    from keras_dqn.training.history import History as History
    from keras_dqn.training.load_into_agent import brain_from as brain_from

_HOMES = {  # public name: its module, imported when the name is first used
    "Agent": "core.agent",
    "Breakout": "games.breakout",
    "CartPole": "games.cartpole",
    "CheckpointError": "training.checkpoint",
    "Checkpoints": "training.checkpoint",
    "Evaluation": "training.evaluate",
    "FrameMemory": "core.memory.frames",
    "History": "training.history",
    "Learner": "core.learner",
    "MountainCar": "games.mountain_car",
    "PlayableCartPole": "playable",
    "ReplayMemory": "core.memory.replay",
    "Transition": "core.transition",
    "WeightFileError": "files.weight_file",
    "brain_from": "training.load_into_agent",
    "compare": "experiment",
    "compare_videos": "show.notebook",
    "evaluate": "training.evaluate",
    "game_for": "games.any_game",
    "load_weights": "files.weights",
    "interact": "core.loop",
    "play_here": "playable.page",
    "save_weights": "files.weights",
    "show_animation": "show.notebook",
    "show_video": "show.notebook",
    "train_seeds": "experiment",
}
_MODULES = {  # public module: where it lies
    "history": "training.history",
    "inside": "show.inside",
    "page": "playable.page",
    "playable": "playable",
    "plots": "show.plots",
    "pytorch": "pytorch",
    "weights": "files.weights",
}
__all__ = sorted({*_HOMES, *_MODULES})


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"keras_dqn.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"keras_dqn.{_MODULES[name]}")
    raise AttributeError(f"keras_dqn has no {name!r}; it has {__all__}")


def __dir__():
    return __all__
