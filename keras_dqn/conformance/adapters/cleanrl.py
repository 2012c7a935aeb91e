"""CleanRL's scripts, as they are, from a checkout: dqn.py, c51.py and pqn.py.

They are written for gymnasium 0.29, so its two habits are given back to today's: a vector of environments resets within
the step that ends an episode, and calls that episode's last observation `final_observation`.
"""

import contextlib
import io
import runpy
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import gymnasium as gym
import numpy as np

from keras_dqn.conformance.adapters.torch_alone import without_tensorflow
from keras_dqn.conformance.check import QFunction, quantiles
from keras_dqn.conformance.probe import GAMMA, Probe

REPLAY = {"--learning-starts": 100, "--batch-size": 32}


class VectorOfOld(gym.vector.SyncVectorEnv):
    """gymnasium 0.29's vector of environments."""

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env]]):
        super().__init__(env_fns, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)

    def step(self, actions: np.ndarray) -> tuple:
        *made, info = super().step(actions)
        return *made, {"final_observation": info["final_obs"]} if "final_obs" in info else {}


def dqn(probe: type[Probe], seed: int = 0, path: Path | None = None) -> QFunction:
    """dqn.py."""
    network = _run("dqn", probe, seed, path, REPLAY | _of(probe))["q_network"]
    return _without_gradient(lambda states: network(states).numpy())


def c51(probe: type[Probe], seed: int = 0, path: Path | None = None) -> QFunction:
    """c51.py, with 101 atoms from -20 to 20."""
    support = {"--v-min": -20, "--v-max": 20}
    network = _run("c51", probe, seed, path, REPLAY | support | _of(probe))["q_network"]

    def learned(states):
        logits = network.network(states).view(len(states), network.n, network.n_atoms)
        return quantiles(network.atoms.numpy(), logits.softmax(-1).numpy())

    return _without_gradient(learned)


def pqn(probe: type[Probe], seed: int = 0, path: Path | None = None) -> QFunction:
    """pqn.py, without the lambda that mixes in the returns of random actions."""
    rollouts = {"--num-envs": 4, "--num-steps": 32, "--q-lambda": 0.0}
    # A rollout is 128 steps, gone through four times in four minibatches.
    network = _run("pqn", probe, seed, path, rollouts, steps=4 * probe.steps)["q_network"]
    return _without_gradient(lambda states: network(states).numpy())


def _of(probe):
    return {
        "--buffer-size": probe.memory,
        "--target-network-frequency": probe.target_every,
        "--train-frequency": probe.update_every,
    }


def _run(script, probe, seed, path, options, steps=None):
    """What a script has defined at its end; it writes into a folder that is thrown away."""
    checkout, steps = (path or Path()).resolve(), steps or probe.steps
    options = options | {
        "--env-id": probe.id,
        "--seed": seed,
        "--gamma": GAMMA,
        "--learning-rate": probe.learning_rate,
        "--total-timesteps": steps,
        "--end-e": 1.0 if probe.greedy_after is None else 0.0,
        "--exploration-fraction": 1.0 if probe.greedy_after is None else probe.greedy_after / steps,
    }
    arguments = [script, "--no-cuda", *[str(one) for option in options.items() for one in option]]
    with (
        without_tensorflow(),
        patch.object(sys, "argv", arguments),
        patch.object(sys, "path", [str(checkout), *sys.path]),
        patch.object(gym.vector, "SyncVectorEnv", VectorOfOld),
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        return runpy.run_path(str(checkout / "cleanrl" / f"{script}.py"), run_name="__main__")


def _without_gradient(function):
    import torch

    def called(states):
        with torch.no_grad():
            return function(torch.as_tensor(np.asarray(states, np.float32)))

    return called
