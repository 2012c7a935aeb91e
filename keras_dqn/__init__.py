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

from keras_dqn.version import VERSION

if TYPE_CHECKING:  # for editors and type checkers; when the package runs, a name is imported when it is first used
    from keras_dqn import playable as playable
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

__version__ = VERSION
_NAMES_OF = {  # module: its public names; its own name stands for the module itself
    "core.agent": "Agent",
    "core.learner": "Learner",
    "core.loop": "interact",
    "core.memory.frames": "FrameMemory",
    "core.memory.replay": "ReplayMemory",
    "core.transition": "Transition",
    "experiment": "compare train_seeds",
    "files.weight_file": "WeightFileError",
    "files.weights": "load_weights save_weights weights",
    "games.any_game": "game_for",
    "games.breakout": "Breakout",
    "games.cartpole": "CartPole",
    "games.mountain_car": "MountainCar",
    "playable": "playable",
    "playable.page": "play_here",
    "show.inside": "inside",
    "show.notebook": "compare_videos show_animation show_video",
    "show.plots": "plots",
    "training.checkpoint": "CheckpointError Checkpoints",
    "training.evaluate": "Evaluation evaluate",
    "training.history": "History",
    "training.load_into_agent": "brain_from",
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names.split()}
__all__ = sorted(_MODULE_OF)  # all but `pytorch`, which needs torch: `from keras_dqn import pytorch` imports it


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; there are {', '.join(__all__)}")
    module = importlib.import_module(f"{__name__}.{_MODULE_OF[name]}")
    return getattr(module, name, module)


def __dir__():
    return __all__
