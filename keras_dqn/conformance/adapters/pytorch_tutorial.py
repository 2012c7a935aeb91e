"""PyTorch's tutorial "Reinforcement Learning (DQN)" (Paszke and Towers), from a checkout of pytorch/tutorials.

It has its settings in its text and plays CartPole, so the environment is put in its place and these lines are replaced.
"""

import contextlib
import random
from pathlib import Path
from unittest.mock import patch

import gymnasium as gym
import numpy as np

from keras_dqn.conformance.check import QFunction
from keras_dqn.conformance.probe import GAMMA, Probe

SCRIPT = Path("intermediate_source", "reinforcement_q_learning.py")


class EnoughSteps(Exception):
    """The probe's steps are made."""


class Limited(gym.Wrapper):
    """An environment that stops the script when it has made so many steps."""

    def __init__(self, env: gym.Env, steps: int):
        super().__init__(env)
        self.left = steps

    def step(self, action: int) -> tuple:
        self.left -= 1
        if self.left < 0:
            raise EnoughSteps
        return self.env.step(action)


def dqn(probe: type[Probe], seed: int = 0, path: Path | None = None) -> QFunction:
    """The script, with another discount, learning rate, tau and epsilon, and without its plots."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    random.seed(seed)
    text = ((path or Path()) / SCRIPT).read_text()
    new = {"GAMMA": GAMMA, "TAU": 1 / probe.target_every, "LR": probe.learning_rate, "BATCH_SIZE": 32}
    new |= {"EPS_START": 1.0, "EPS_END": 1.0}
    for name, value in new.items():
        lines = [line for line in text.splitlines() if line.startswith(f"{name} = ")]
        if len(lines) != 1:
            raise ValueError(f"The tutorial must set {name} in one line. Received: {lines}")
        text = text.replace(f"\n{lines[0]}\n", f"\n{name} = {value}\n")
    text = text.replace("num_episodes = 50", f"num_episodes = {probe.steps}").replace(" plot_durations()\n", " pass\n")
    env = Limited(gym.make(probe.id), probe.steps)
    env.reset(seed=seed)
    names: dict = {"__name__": "__main__"}
    with (
        patch.object(gym, "make", lambda *_, **__: env),
        patch("matplotlib.pyplot.show"),
        patch("matplotlib.pyplot.ion"),
        contextlib.suppress(EnoughSteps),
    ):
        exec(compile(text, str(SCRIPT), "exec"), names)

    def q_values(states):
        with torch.no_grad():
            return names["policy_net"](torch.as_tensor(np.asarray(states, np.float32))).numpy()

    return q_values
