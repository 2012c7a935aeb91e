"""Breakout from pixels: the networks, the recipes and the runner."""

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.checks import seed_sequence
from keras_dqn.exploration import pieces


def nature_cnn(state_shape, action_size, seed=None, dtype="float32"):
    """The network of Mnih et al. 2015 (Nature): three convolutions and a Dense layer of 512 on stacks of frames.

    Args:
        state_shape: (stack, height, width), (4, 84, 84) in the paper.
        action_size: number of actions, and of outputs (linear).
        seed: of the initial weights; an int, a `np.random.SeedSequence`, or None for fresh entropy.
        dtype: Keras dtype policy of the hidden layers; "mixed_bfloat16" is faster where the processor has it.

    Returns:
        A built `keras.Sequential`, uint8 [B, stack, height, width] to Q-values, float32 [B, action_size].
    """
    layers, seeds = keras.layers, iter(seed_sequence(seed).generate_state(5).tolist())

    def convolution(filters, size, stride):
        kernel = keras.initializers.HeUniform(seed=next(seeds))
        return layers.Conv2D(filters, size, stride, activation="relu", kernel_initializer=kernel, dtype=dtype)

    def dense(width, activation, dtype):
        kernel = keras.initializers.GlorotUniform(seed=next(seeds))
        return layers.Dense(width, activation=activation, kernel_initializer=kernel, dtype=dtype)

    return keras.Sequential(
        [
            keras.Input(state_shape, dtype="uint8"),
            layers.Permute((2, 3, 1)),  # channels last, which is what TensorFlow convolves on a CPU
            layers.Rescaling(1 / 255, dtype=dtype),
            convolution(32, 8, 4),
            convolution(64, 4, 2),
            convolution(64, 3, 1),
            layers.Flatten(),
            dense(512, "relu", dtype),
            dense(action_size, "linear", "float32"),
        ]
    )


def clipped(states, actions, rewards, next_states):
    """Rewards to learn from: their sign (Mnih et al. 2015), so that one learning rate fits every game."""
    return np.sign(rewards)


NATURE = {
    "network": nature_cnn,
    "optimizer": lambda: keras.optimizers.Adam(1e-4, epsilon=1.5e-4),
    "memory_size": 400_000,
    "store_frames": True,
    "learning_starts": 20_000,
    "sample_batch_size": 64,
    "minibatch_size": 32,
    "replay_every": 8,
    "gamma": 0.99,
    "loss": "huber",
    "double": True,
    "target_update": 2000,
    "n_step": 3,
    "exploration": pieces((0, 1.0), (250_000, 0.05), (1_000_000, 0.01)),
}
