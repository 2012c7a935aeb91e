"""Deep Q-learning in Keras, from the transition to the film.

    environments → memory → learner → agent → runner → results (weights, videos, plots)

Every word of the data flow is a folder, and imports follow the arrows: `environments` makes one or many of them,
`memory` keeps steps and gives transitions, `learner` turns minibatches of them into gradient updates, `agent` acts,
remembers and replays and holds the only training loop, `runner` trains, evaluates and films with it, `games` name the
environments and their recipes.
Beside them: `networks` (the brains), `exploration`, `records` (what is kept: weight files, histories, checkpoints),
`show` (figures and films), `playable` (games for the keyboard, in a window or on a page), `pytorch` (the same agent in
PyTorch), `experiment` (trainings from several seeds, and the benchmark), `commands` (the command line), and `checks`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers; when the package runs, a name is imported when it is first used
    from keras_dqn import playable as playable
    from keras_dqn import pytorch as pytorch
    from keras_dqn.agent import Agent as Agent
    from keras_dqn.agent import play as play
    from keras_dqn.experiment import bench as bench
    from keras_dqn.experiment import compare as compare
    from keras_dqn.experiment import train_seeds as train_seeds
    from keras_dqn.games.any_game import game_for as game_for
    from keras_dqn.games.breakout import Breakout as Breakout
    from keras_dqn.games.cartpole import CartPole as CartPole
    from keras_dqn.games.mountain_car import MountainCar as MountainCar
    from keras_dqn.learner import Learner as Learner
    from keras_dqn.memory import FrameMemory as FrameMemory
    from keras_dqn.memory import ReplayMemory as ReplayMemory
    from keras_dqn.memory import Transition as Transition
    from keras_dqn.playable import PlayableCartPole as PlayableCartPole
    from keras_dqn.playable import page as page
    from keras_dqn.playable.page import play_here as play_here
    from keras_dqn.records import history as history
    from keras_dqn.records import weights as weights
    from keras_dqn.records.brain_from import brain_from as brain_from
    from keras_dqn.records.checkpoint import CheckpointError as CheckpointError
    from keras_dqn.records.checkpoint import Checkpoints as Checkpoints
    from keras_dqn.records.evaluation import Evaluation as Evaluation
    from keras_dqn.records.history import History as History
    from keras_dqn.records.weights import WeightFileError as WeightFileError
    from keras_dqn.records.weights import load_weights as load_weights
    from keras_dqn.records.weights import save_weights as save_weights
    from keras_dqn.runner.evaluate import evaluate as evaluate
    from keras_dqn.show import inside as inside
    from keras_dqn.show import plots as plots
    from keras_dqn.show import video as video
    from keras_dqn.show.video import compare_videos as compare_videos

__version__ = "0.1.0"

_HOMES = {  # public name: its module, imported when the name is first used
    "Agent": "agent",
    "Breakout": "games.breakout",
    "CartPole": "games.cartpole",
    "CheckpointError": "records.checkpoint",
    "Checkpoints": "records.checkpoint",
    "Evaluation": "records.evaluation",
    "FrameMemory": "memory",
    "History": "records.history",
    "Learner": "learner",
    "MountainCar": "games.mountain_car",
    "PlayableCartPole": "playable",
    "ReplayMemory": "memory",
    "Transition": "memory",
    "WeightFileError": "records.weights",
    "brain_from": "records.brain_from",
    "compare": "experiment",
    "compare_videos": "show.video",
    "evaluate": "runner.evaluate",
    "game_for": "games.any_game",
    "load_weights": "records.weights",
    "play": "agent",
    "play_here": "playable.page",
    "save_weights": "records.weights",
    "train_seeds": "experiment",
}
_MODULES = {  # public module: where it lies
    "bench": "experiment.bench",
    "history": "records.history",
    "inside": "show.inside",
    "page": "playable.page",
    "playable": "playable",
    "plots": "show.plots",
    "pytorch": "pytorch",
    "video": "show.video",
    "weights": "records.weights",
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
