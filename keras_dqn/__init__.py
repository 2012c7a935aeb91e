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
