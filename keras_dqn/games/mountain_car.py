"""MountainCar: the environment, its recipes, and what counts as solved."""

from functools import partial

from keras_dqn.backend import keras
from keras_dqn.core.exploration import Blocks, Pieces
from keras_dqn.core.objectives.c51 import C51
from keras_dqn.games.recipes import FAST, family
from keras_dqn.training.history import History
from keras_dqn.training.runner import Runner

_FAST = {
    **FAST,
    "network": {**FAST["network"], "center": (-0.3, 0.0), "scale": (0.9, 0.07)},
    "optimizer": partial(keras.optimizers.Adam, 2e-3, name="adam"),
    "tau": 0.02,
    # Most seeds reach a first flag within 2,000 steps; until then greedy actions are a fresh network's.
    "exploration": Pieces((0, 1.0), (2000, 1.0), (6000, 0.05)),
    "hold_random_actions": 60,
    "wait_for_terminal": True,
}


class MountainCar(Runner):
    """Get an underpowered car up a hill: position and velocity in, push left, none or right, -1 a step.

    An episode ends at the flag or after 200 steps; solved at a mean score of -110. Before the agent has reached the
    flag for the first time, every episode scores -200 and there is nothing to learn from: a matter of exploration.

    Example:
        car = MountainCar(1000, recipe="fast")
        car.train()
        car.run(0.0)
    """

    name = "mountain_car"
    environment = "MountainCar-v0"
    solved_score = -110
    action_names = ("left", "none", "right")
    pretrained_recipe = "fast"
    recipes = {
        "notebook": {
            "network": {"hidden": (64, 64)},
            "optimizer": partial(keras.optimizers.Adam, 1e-3, global_clipnorm=1.0, name="adam"),
            "memory_size": 1000,
            "sample_batch_size": 64,
            "minibatch_size": 64,
            "replay_every": 5,
            "gamma": 0.99,
            "loss": "mse",
            "double": True,
            "target_update": 1,
            "tau": 1e-3,
            "exploration": Blocks(0.9, 200, 0.001),
        },
        "fast": _FAST,
        **family(_FAST, C51.of_rewards(-1.0, 0.0, FAST["gamma"]), 2e-3, Pieces((2000, 1.0), (6000, 0.0))),
    }

    def is_over(self, history: History) -> bool:
        """Training ends when the last 100 episodes, exploration and all, have the mean that counts as solved."""
        return super().is_over(history) or self._is_solved(history)

    def _is_solved(self, history):
        return len(history) >= 100 and history.mean_score() >= self.solved_score

    def comments(self, history: History) -> list[str]:
        episodes, mean = len(history), history.mean_score()
        if self._is_solved(history):
            return [f"Solved after {episodes} episodes and {history[-1].time:.1f} s: mean of 100 is {mean:.1f}"]
        hopeless = (
            "100 episodes without reaching the flag: nothing is broken, random pushes rarely get there. "
            'The recipe "fast" holds its random actions for several steps, which does.'
        )
        told = [hopeless] if episodes == 100 and history.scores.max() <= -200 else []
        return [*told, f"Episode {episodes}: mean of the last 100 is {mean:.1f}"] if episodes % 100 == 0 else []
