"""Breakout from pixels: the networks, the recipes and the runner, which plays any other Atari game as well."""

from functools import partial
from pathlib import Path

import numpy as np
from ale_py.roms import get_all_rom_ids

from keras_dqn.atari import AtariGame, AtariGames, AtariScreens, action_meanings, check_game
from keras_dqn.backend import keras, tf
from keras_dqn.checks import check_fraction, check_whole, seed_sequence
from keras_dqn.evaluation import evaluate_together
from keras_dqn.exploration import OverTraining, exponential, pieces
from keras_dqn.normalisation import LayerNormRelu
from keras_dqn.runner import Runner
from keras_dqn.weights import pretrained_names


def nature_cnn(state_shape, action_size, seed=None, dtype="float32", normalisation=None):
    """The network of Mnih et al. 2015 (Nature): three convolutions and a Dense layer of 512 on stacks of frames.

    Args:
        state_shape: (stack, height, width), (4, 84, 84) in the paper.
        action_size: number of actions, and of outputs (linear).
        seed: of the initial weights; an int, a `np.random.SeedSequence`, or None for fresh entropy.
        dtype: Keras dtype policy of the hidden layers; "mixed_bfloat16" is faster where the processor has it.
        normalisation: "layer" normalises what goes into each relu over all of its units, from orthogonal initial
            weights (PQN, Gallici et al. 2025); None is the paper's network.

    Returns:
        A built `keras.Sequential`, uint8 [B, stack, height, width] to Q-values, float32 [B, action_size].

    Raises:
        ValueError: there is no such normalisation.
    """
    if normalisation is not None:
        return _normalised_cnn(state_shape, action_size, seed, dtype, normalisation)
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
            ScaledFrames(dtype=dtype),
            convolution(32, 8, 4),
            convolution(64, 4, 2),
            convolution(64, 3, 1),
            layers.Flatten(),
            dense(512, "relu", dtype),
            dense(action_size, "linear", "float32"),
        ]
    )


def _normalised_cnn(state_shape, action_size, seed, dtype, normalisation):
    if normalisation != "layer":
        raise ValueError(f'`normalisation` must be "layer" or None. Received: {normalisation!r}')
    layers, seeds = keras.layers, iter(seed_sequence(seed).generate_state(5).tolist())

    def kernel(gain=2**0.5):
        return keras.initializers.Orthogonal(gain, seed=next(seeds))

    network = [keras.Input(state_shape, dtype="uint8"), ScaledFrames(dtype=dtype)]
    for filters, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
        network.append(layers.Conv2D(filters, size, stride, kernel_initializer=kernel(), dtype=dtype))
        network.append(LayerNormRelu(dtype=dtype))
    network += [layers.Flatten(), layers.Dense(512, kernel_initializer=kernel(), dtype=dtype), LayerNormRelu()]
    return keras.Sequential([*network, layers.Dense(action_size, kernel_initializer=kernel(1.0))])


@keras.saving.register_keras_serializable("keras_dqn")
class ScaledFrames(keras.layers.Layer):
    """Stacks of frames, ready to be convolved: uint8 [B, stack, height, width] to [B, height, width, stack], 0 to 1.

    In one compiled pass: Permute and Rescaling take three over the largest array there is.
    """

    def call(self, inputs):
        return _scaled_frames(inputs, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        batch, stack, *size = input_shape
        return (batch, *size, stack)


@tf.function(jit_compile=True)
def _scaled_frames(frames, dtype):
    return tf.cast(tf.cast(tf.transpose(frames, (0, 2, 3, 1)), tf.float32) / 255, dtype)


@keras.saving.register_keras_serializable("keras_dqn")
class ScreenDifference(keras.layers.Layer):
    """What changed between two screens: uint8 [B, 2, height, width, 3] to float32 [B, height, width, 3], -1 to 1.

    The screens are scaled to 0 to 1 first: a difference of uint8 would wrap, -1 become 255.
    """

    def call(self, inputs):
        scaled = keras.ops.cast(inputs, self.compute_dtype) / 255
        return scaled[:, 1] - scaled[:, 0]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *input_shape[2:])


def difference_cnn(state_shape, action_size, seed=None):
    """The network of a notebook of 2018: four 5x5 convolutions of stride 2, batch-normalised, on a `ScreenDifference`.

    Its 165x140 pixels become 7x5 with 32 filters: 1120 numbers go into the linear head.

    Args:
        state_shape: (2, height, width, 3), (2, 165, 140, 3) in the notebook.
        action_size: number of actions, and of outputs (linear).
        seed: of the initial weights; an int, a `np.random.SeedSequence`, or None for fresh entropy.

    Returns:
        A built `keras.Sequential`, uint8 [B, 2, height, width, 3] to Q-values, float32 [B, action_size].
    """
    layers, seeds = keras.layers, iter(seed_sequence(seed).generate_state(5).tolist())

    def kernel():
        return keras.initializers.GlorotUniform(seed=next(seeds))

    network = [keras.Input(state_shape, dtype="uint8"), ScreenDifference()]
    for filters in (16, 32, 32, 32):
        network += [
            layers.Conv2D(filters, 5, 2, kernel_initializer=kernel()),
            layers.BatchNormalization(momentum=0.9, epsilon=1e-5),  # what PyTorch, where this is from, has by default
            layers.Activation("relu"),
        ]
    return keras.Sequential([*network, layers.Flatten(), layers.Dense(action_size, kernel_initializer=kernel())])


def clipped(states, actions, rewards, next_states):
    """Rewards to learn from: their sign (Mnih et al. 2015), so that one learning rate fits every game."""
    return np.sign(rewards)


NATURE = {  # double DQN (van Hasselt et al. 2016) with n-step returns, for 1,000,000 steps and more
    "network": nature_cnn,
    "optimizer": lambda: keras.optimizers.Adam(1e-4, epsilon=1.5e-4),
    "memory_size": 400_000,
    "store_frames": True,
    "learning_starts": 20_000,
    "sample_batch_size": 64,
    "minibatch_size": 32,
    "replay_every": 8,
    "num_envs": 8,
    "gamma": 0.99,
    "loss": "huber",
    "double": True,
    "target_update": 2000,
    "n_step": 3,
    "exploration": pieces((0, 1.0), (250_000, 0.05), (1_000_000, 0.01)),
}

PARALLEL = {  # PQN (Gallici et al. 2025), for 10,000,000 steps
    "network": partial(nature_cnn, normalisation="layer"),
    "optimizer": lambda: keras.optimizers.Adam(2.5e-4, epsilon=1e-8, global_clipnorm=10.0),
    "learning_rate_schedule": OverTraining(2.5e-4, 0.0),
    "exploration": OverTraining(1.0, 0.01, fraction=0.1),
    "num_envs": 64,
    "rollout": 2048,  # steps: 32 of each game
    "replay_every": 2048,
    "epochs": 2,
    "minibatch_size": 128,
    "gamma": 0.99,
    "q_lambda": 0.65,
    "loss": "mse",
}

HACKATHON2018 = {  # as a notebook of 2018 wrote it, where it never learned
    "network": difference_cnn,
    # PyTorch's RMSprop, whose epsilon of 1e-8 is added to the root; Keras adds its own under it
    "optimizer": lambda: keras.optimizers.RMSprop(0.01, rho=0.99, epsilon=1e-16, clipvalue=1.0),
    "memory_size": 10_000,
    "store_frames": True,
    "frame_padding": "reset",  # at a game's start both screens are the same: the difference is 0
    "sample_batch_size": 128,
    "minibatch_size": 128,
    "replay_every": 1,
    "gamma": 0.999,
    "loss": "huber",
    "target_update_episodes": 10,
    "exploration": exponential(0.9, 0.05, 200),
}


class Breakout(Runner):
    """Break bricks with a ball that must not be lost, from pixels: NOOP, FIRE, RIGHT, LEFT; or any other Atari game.

    Scores are the game's own, of whole games with all their lives. "nature" learns: stacks of four grey frames, four
    frames a step, rewards clipped in the learner only, a lost life ends the bootstrap and not the game.
    "parallel" learns the same from 64 games without a replay memory and a target network, in a fraction of the time.
    "hackathon2018" runs as it was written: differences of colour screens, every frame a step.

    Args:
        game: ALE's name of it: "breakout", "pong", "space_invaders". Files are named after it.
        sticky: probability that the emulator repeats the last action instead, in each frame.
        num_envs: how many games are played at once; by default 8, 64 in "parallel" and 1 in "hackathon2018".
        shape_reward: rewards to learn from; by default clipped, except in "hackathon2018" (see `clipped`).
        precision: "mixed_bfloat16" computes the network with half the bits, which is faster where the processor can;
            weights and Q-values stay float32, and the files are the same. Not in "hackathon2018".
        Others as `Runner` has them.

    Raises:
        ValueError: ALE has no game of that name, or as `Runner`.

    Example:
        breakout = Breakout(steps=2_000_000)
        breakout.train()
        breakout.evaluate(100, epsilon=0.01)
        breakout.run(0.01)
    """

    name = "breakout"
    pretrained_recipe = "nature"
    recipes = {"nature": NATURE, "parallel": PARALLEL, "hackathon2018": HACKATHON2018}
    _games = {"nature": AtariGames, "parallel": AtariGames, "hackathon2018": AtariScreens}  # what each recipe looks at
    _shape_reward = {"nature": clipped, "parallel": clipped}

    def __init__(
        self,
        episodes=200,
        recipe=None,
        *,
        game="breakout",
        sticky=0.0,
        num_envs=None,
        shape_reward=None,
        precision="float32",
        **options,
    ):
        self.name = self.environment = check_game(game)
        self.sticky = check_fraction("sticky", sticky)
        known = "nature" if recipe is None else recipe
        if precision not in ("float32", "mixed_bfloat16") or (precision != "float32" and known == "hackathon2018"):
            received = f"{precision!r} with the recipe {known!r}"
            raise ValueError(
                f'`precision` must be "float32", or, in "nature" and "parallel", "mixed_bfloat16". Received: {received}'
            )
        if precision != "float32" and known in self.recipes:
            options.setdefault("network", partial(self.recipes[known]["network"], dtype=precision))
        super().__init__(
            episodes,
            recipe,
            num_envs=num_envs,
            shape_reward=shape_reward or self._shape_reward.get(known),
            **options,
        )
        self.action_names = tuple(name.lower() for name in action_meanings(game))
        self.settings |= {"sticky": sticky, "precision": precision}

    @property
    def frames_per_step(self):
        """Emulator frames a step."""
        return self._games[self.recipe].frames_per_step

    @property
    def checkpoint_folder(self):
        """Where `train` leaves log and checkpoints if nothing else is said; named as the weights are."""
        return Path(f"{self.name}{'' if self.recipe == 'nature' else '_' + self.recipe}_checkpoints")

    def train(self, *arguments, checkpoints=None, **options):
        """As `Runner.train`, with a log and checkpoints in `checkpoint_folder` or elsewhere; False for none of them."""
        if checkpoints is None:
            checkpoints = self.checkpoint_folder
        elif checkpoints is False:
            checkpoints = None
        return super().train(*arguments, checkpoints=checkpoints, **options)

    def _progress(self, history):
        games = {"frames": f"{self.agent.steps * self.frames_per_step:,}", "games": len(history)}
        return {**games, **super()._progress(history), "loss": f"{history[-1].loss:.4f}"}

    def _pretrained_name(self):
        name = f"{self.name}{'' if self.recipe == 'nature' else '_' + self.recipe}"
        if name not in (known := pretrained_names()):
            games, endings = get_all_rom_ids(), ["", *(f"_{recipe}" for recipe in self.recipes)]
            there = [other for other in known if any(other.removesuffix(ending) in games for ending in endings)]
            raise ValueError(f"No weights of this game and recipe ship with it, but {there}. Received: {name!r}")
        return name

    def make_env(self, render_mode=None):
        """One new game, behind gymnasium's interface."""
        return AtariGame(self.make_envs(1), render_mode)

    def make_envs(self, num_envs):
        """Several new games as one vector."""
        return self._games[self.recipe](self.environment, num_envs, self.sticky)

    def screens(self, steps=50, seed=None):
        """A figure of the screen and, beside it, what the agent sees of it, after some steps of random actions."""
        from keras_dqn.plots import screens

        env = self.make_env("rgb_array")
        try:
            state, _ = env.reset(seed=self._next_seed() if seed is None else seed)
            env.action_space.seed(seed)
            for _ in range(check_whole("steps", steps)):
                state, *_ = env.step(env.action_space.sample())
            original = env.render()
        finally:
            env.close()
        cleaned = ScreenDifference()(state[None]) if self.recipe == "hackathon2018" else state
        return screens(original, np.asarray(cleaned), self.name)

    def evaluate(self, episodes=100, seed=0, epsilon=0.0):
        """Mean score and its 95 % interval over whole games with fixed seeds; see `evaluation.evaluate_together`."""
        return evaluate_together(self.agent, self.make_envs, episodes, seed, epsilon)
