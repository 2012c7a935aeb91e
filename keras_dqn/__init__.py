"""Deep Q-learning in Keras, from the transition to the film.

    environment → transition → memory → learner → agent → runner → results (weights, videos, plots)

Each arrow is a module, and imports follow the arrows: `environments` makes them, `memory` keeps transitions, `learner`
turns minibatches of them into gradient updates, `agent` acts, remembers and replays, `runner` holds the only training
loop, `evaluation` plays without learning, `cartpole`, `mountain_car` and `breakout` are games, `any_game` makes one of
any other environment with vectors for states and discrete actions.
Beside them: `networks` (the brains), `recipes` (what the games' own have in common), `exploration` and `n_step` (what
the agent may do beyond the notebook), `history`, `weights`, `video`, `plots`, `playable` (games for the keyboard),
`page` (the same in a notebook or a browser), `pytorch` (the same agent in PyTorch), `experiment` (trainings from
several seeds), `inside` (what a network thinks), `live` (curves that grow), `bench`, and `checks`.
For Atari: `atari` (its games) and `frame_memory` (what keeps their frames once each); for learning from parallel games
without a memory of transitions: `rollout` and `normalisation`; for long trainings: `records` (what they leave behind),
`checkpoint` and `training_log`.
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
    "RolloutMemory": "rollout",
    "Transition": "memory",
    "WeightFileError": "weights",
    "compare": "experiment",
    "compare_videos": "video",
    "evaluate": "evaluation",
    "game_for": "any_game",
    "load_weights": "weights",
    "play": "runner",
    "play_here": "page",
    "save_weights": "weights",
    "train_seeds": "experiment",
}
_MODULES = {"bench", "history", "page", "playable", "plots", "pytorch", "video", "weights"}
__all__ = sorted({*_HOMES, *_MODULES})


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"keras_dqn.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"keras_dqn.{name}")
    raise AttributeError(f"keras_dqn has no {name!r}; it has {__all__}")


def __dir__():
    return __all__
