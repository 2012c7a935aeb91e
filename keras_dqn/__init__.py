"""Deep Q-learning in Keras, from the transition to the film.

    environment → transition → memory → learner → agent → runner → results (weights, videos, plots)

Each arrow is a module, and imports follow the arrows: `environments` makes them, `memory` keeps transitions, `learner`
turns minibatches of them into gradient updates, `agent` acts, remembers and replays, `runner` holds the only training
loop, `evaluation` plays without learning, `cartpole`, `mountain_car` and `breakout` are games.
Beside them: `networks` (the brains), `exploration` and `n_step` (what the agent may do beyond the notebook), `history`,
`weights`, `video`, `plots`, `playable` (games for the keyboard), `pytorch` (the same agent in PyTorch), `bench`, and
`checks`. For Atari: `atari` (its games), `frame_memory` (what keeps their frames once each); for long trainings:
`records` (what they leave behind), `checkpoint`, `training_log`.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {  # public name: its module, imported when the name is first used
    "Agent": "agent",
    "Breakout": "breakout",
    "CartPole": "cartpole",
    "CheckpointError": "checkpoint",
    "Checkpoints": "checkpoint",
    "Evaluation": "evaluation",
    "FrameMemory": "frame_memory",
    "History": "history",
    "Learner": "learner",
    "MountainCar": "mountain_car",
    "PlayableCartPole": "playable",
    "ReplayMemory": "memory",
    "Transition": "memory",
    "WeightFileError": "weights",
    "evaluate": "evaluation",
    "load_weights": "weights",
    "play": "runner",
    "save_weights": "weights",
}
_MODULES = {"bench", "playable", "plots", "pytorch", "video", "weights"}
__all__ = sorted({*_HOMES, *_MODULES})


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"keras_dqn.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"keras_dqn.{name}")
    raise AttributeError(f"keras_dqn has no {name!r}; it has {__all__}")


def __dir__():
    return __all__
