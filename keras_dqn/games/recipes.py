"""What the games' own recipes have in common; each game's file holds only its differences."""

from functools import partial

from keras_dqn.backend import keras
from keras_dqn.core.exploration import OverTraining

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
