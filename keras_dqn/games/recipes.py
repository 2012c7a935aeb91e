"""What the games' own recipes have in common; each game's file holds only its differences."""

from functools import partial
from typing import Any

from keras_dqn.backend import keras
from keras_dqn.core.exploration import Linear, OverTraining
from keras_dqn.core.objectives.munchausen import Munchausen
from keras_dqn.core.objectives.objective import Objective
from keras_dqn.core.objectives.quantile import Quantile

FAST = {  # the learner of every recipe "fast": double DQN on n-step returns, one update of 128 every step
    "network": {"hidden": (128, 128)},
    "memory_size": 50_000,
    "sample_batch_size": 128,
    "minibatch_size": 128,
    "replay_every": 1,
    "gamma": 0.99,
    "loss": "mse",
    "double": True,
    "target_update": 1,
    "tau": 0.01,
    "n_step": 3,
    "updates_before_xla": 5_000,  # most trainings have ended by then; compiling pays from about there on
}

PARALLEL = {  # PQN (Gallici et al. 2025) for states that are vectors; what Breakout has of it, in small
    "network": {"hidden": (128, 128), "normalization": "layer"},
    # 20 for the squared error is the 10 that PQN has for half of it
    "optimizer": partial(keras.optimizers.Adam, 1e-3, epsilon=1e-8, global_clipnorm=20.0, name="adam"),
    "learning_rate_schedule": OverTraining(1e-3, 0.0, steps=100_000),
    "exploration": OverTraining(1.0, 0.05, fraction=0.5, steps=100_000),
    "num_envs": 8,
    "rollout": 256,  # steps: 32 of each environment
    "replay_every": 256,
    "epochs": 4,
    "minibatch_size": 64,
    "gamma": 0.99,
    "q_lambda": 0.65,
    "loss": "mse",
}

NO_EPSILON = Linear(0.0, 0.0, 1)


def family(
    fast: dict[str, Any], returns: Objective | str, learning_rate: float = 1e-3, exploration: Any = NO_EPSILON
) -> dict[str, dict[str, Any]]:
    """A game's recipes of the family: what each paper adds to DQN, or to double DQN, with the rest of "fast".

    Args:
        fast: the game's recipe of that name.
        returns: the `C51` that spans the game's returns, or "c51" where its environment declares its rewards.
        learning_rate: of Adam.
        exploration: the epsilons of noisy networks, which explore by their noise.
    """
    double = {**fast, "n_step": 1, "optimizer": partial(keras.optimizers.Adam, learning_rate, name="adam")}
    slow = partial(keras.optimizers.Adam, learning_rate / 4, name="adam")
    dqn = {**double, "double": False}
    distributional = {name: value for name, value in dqn.items() if name != "loss"}
    noisy = {"network": {**fast["network"], "noisy": True}, "exploration": exploration}
    return {
        "c51": {**distributional, "objective": returns},  # Bellemare et al. 2017
        "quantile": {**distributional, "objective": Quantile(32)},  # Dabney et al. 2018; the paper has 200
        "munchausen": {**distributional, "objective": Munchausen()},  # Vieillard et al. 2020
        "noisy": {**dqn, **noisy},  # Fortunato et al. 2018
        "prioritized": {**double, "prioritized": True, "optimizer": slow},  # Schaul et al. 2016
        "rainbow": {  # Hessel et al. 2018
            **{**distributional, "double": True, "n_step": 3, "objective": returns},
            **{**noisy, "network": {**noisy["network"], "dueling": True}},
            **{"prioritized": True, "priority_alpha": 0.5},
        },
    }
