"""Breakout from pixels: the networks, the recipes and the runner, which plays any other Atari game as well."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from keras_dqn.backend import keras
from keras_dqn.checks import check_fraction, check_integer
from keras_dqn.core.exploration import Exponential, OverTraining, Pieces
from keras_dqn.core.networks.atari import difference_cnn, nature_cnn
from keras_dqn.core.networks.layers import ScreenDifference
from keras_dqn.core.objectives.c51 import C51
from keras_dqn.core.settings import ShapeReward
from keras_dqn.environments.atari import AtariGame, AtariGames, AtariScreens, action_meanings, check_game
from keras_dqn.games.recipes import NO_EPSILON
from keras_dqn.training.evaluate import Evaluation, evaluate_together
from keras_dqn.training.history import History
from keras_dqn.training.runner import Runner

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def clipped(states: np.ndarray, actions: np.ndarray, rewards: np.ndarray, next_states: np.ndarray) -> np.ndarray:
    """Rewards to learn from: their sign (Mnih et al. 2015), so that one learning rate fits every game."""
    return np.sign(rewards)


NATURE = {  # double DQN (van Hasselt et al. 2016) with n-step returns, for 1,000,000 steps and more
    "network": nature_cnn,
    "optimizer": partial(keras.optimizers.Adam, 1e-4, epsilon=1.5e-4, name="adam"),
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
    "exploration": Pieces((0, 1.0), (250_000, 0.05), (1_000_000, 0.01)),
}

RAINBOW = {  # Hessel et al. 2018, with eight games at once, and with as many steps an update as "nature"
    **{name: value for name, value in NATURE.items() if name not in ("loss", "exploration")},
    "network": partial(nature_cnn, dueling=True, noisy=True),
    "optimizer": partial(keras.optimizers.Adam, 6.25e-5, epsilon=1.5e-4, name="adam"),
    "objective": C51(-10.0, 10.0),
    "exploration": NO_EPSILON,
    "prioritized": True,
    "priority_alpha": 0.5,
}

PARALLEL = {  # PQN (Gallici et al. 2025), for 10,000,000 steps
    "network": partial(nature_cnn, normalization="layer"),
    # 20 for the squared error is the 10 that PQN has for half of it
    "optimizer": partial(keras.optimizers.Adam, 2.5e-4, epsilon=1e-8, global_clipnorm=20.0, name="adam"),
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
    "optimizer": partial(keras.optimizers.RMSprop, 0.01, rho=0.99, epsilon=1e-16, clipvalue=1.0, name="rmsprop"),
    "memory_size": 10_000,
    "store_frames": True,
    "frame_padding": "reset",  # at a game's start both screens are the same: the difference is 0
    "sample_batch_size": 128,
    "minibatch_size": 128,
    "replay_every": 1,
    "gamma": 0.999,
    "loss": "huber",
    "target_update_episodes": 10,
    "exploration": Exponential(0.9, 0.05, 200),
}


class Breakout(Runner):
    """Break bricks with a ball that must not be lost, from pixels: NOOP, FIRE, RIGHT, LEFT; or any other Atari game.

    Scores are the game's own, of whole games with all their lives. "nature" learns: stacks of four grey frames, four
    frames a step, rewards clipped in the learner only, a lost life ends the bootstrap and not the game.
    "parallel" learns the same from 64 games without a replay memory and a target network, in a fraction of the time.
    "rainbow" is "nature" with distributions, priorities, noise and a dueling head instead of epsilon.
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
    pretrained_recipe = "parallel"
    recipes = {"nature": NATURE, "parallel": PARALLEL, "rainbow": RAINBOW, "hackathon2018": HACKATHON2018}

    def __init__(
        self,
        episodes: int = 200,
        recipe: str | None = None,
        *,
        game: str = "breakout",
        sticky: float = 0.0,
        num_envs: int | None = None,
        shape_reward: ShapeReward | None = None,
        precision: str = "float32",
        **options: Any,
    ):
        self.name = self.environment = check_game(game)
        self.sticky = check_fraction("sticky", sticky)
        known = ("float32",) if recipe == "hackathon2018" else ("float32", "mixed_bfloat16")
        if precision not in known:
            raise ValueError(f"`precision` of {recipe or 'nature'} must be one of {known}. Received: {precision!r}")
        if precision != "float32":
            options.setdefault("network", partial(self.recipes.get(recipe, NATURE)["network"], dtype=precision))
        if shape_reward is None and recipe != "hackathon2018":
            shape_reward = clipped
        super().__init__(episodes, recipe, num_envs=num_envs, shape_reward=shape_reward, **options)
        self.action_names = tuple(name.lower() for name in action_meanings(game))
        self.settings |= {"sticky": sticky, "precision": precision}

    @property
    def frames_per_step(self) -> int:
        """Emulator frames a step."""
        return self._games.frames_per_step

    @property
    def _games(self):
        """What the network looks at."""
        return AtariScreens if self.recipe == "hackathon2018" else AtariGames

    @property
    def checkpoint_folder(self) -> Path:
        """Where `train` leaves log and checkpoints if nothing else is said; named as the weights are."""
        return Path(f"{self._pretrained_name()}_checkpoints")

    def train(self, *arguments: Any, checkpoints: Any = None, **options: Any) -> History:
        """As `Runner.train`, with a log and checkpoints in `checkpoint_folder` or elsewhere; False for none of them."""
        if checkpoints is None:
            checkpoints = self.checkpoint_folder
        return super().train(*arguments, checkpoints=checkpoints or None, **options)

    def progress(self, history: History) -> dict[str, str]:
        games = {"frames": f"{self.agent.steps * self.frames_per_step:,}", "games": len(history)}
        return {**super().progress(history), **games, "loss": f"{history[-1].loss:.4f}"}

    def _pretrained_name(self):
        return self.name if self.recipe == "nature" else f"{self.name}_{self.recipe}"

    def make_env(self, render_mode: str | None = None) -> gym.Env:
        """One new game, behind gymnasium's interface."""
        return AtariGame(self.make_envs(1), render_mode)

    def envs_elsewhere(self, max_episode_steps: int | None = None) -> Callable[[int], VectorEnv]:
        """A function of their number that makes several games, on whatever machine it is sent to."""
        limit = self.step_limit(max_episode_steps)
        frames = {} if limit is None else {"max_frames": limit * self.frames_per_step}
        return partial(self._games, self.environment, sticky=self.sticky, **frames)

    def screens(self, steps: int = 50, seed: int | None = None) -> "Figure":
        """A figure of the screen and, beside it, what the agent sees of it, after some steps of random actions."""
        from keras_dqn.show.plots import screens

        check_integer("steps", steps)
        seed = self.next_seed() if seed is None else seed
        env = self.make_env("rgb_array")
        env.action_space.seed(seed)
        state, _ = env.reset(seed=seed)
        for _ in range(steps):
            state, *_ = env.step(env.action_space.sample())
        original = env.render()
        env.close()
        cleaned = ScreenDifference()(state[None]) if self.recipe == "hackathon2018" else state
        return screens(original, np.asarray(cleaned), self.name)

    def evaluate(
        self, episodes: int = 100, seed: int = 0, epsilon: float = 0.0, max_episode_steps: int | None = None
    ) -> Evaluation:
        """Mean score and its 95 % interval over whole games with fixed seeds; see `evaluate.evaluate_together`."""
        return evaluate_together(self.agent, self.envs_elsewhere(max_episode_steps), episodes, seed, epsilon)
