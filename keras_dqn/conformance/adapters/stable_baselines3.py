"""Stable-Baselines3's DQN and sb3-contrib's QR-DQN."""

from pathlib import Path

import gymnasium as gym

from keras_dqn.conformance.adapters.torch_alone import without_tensorflow
from keras_dqn.conformance.check import QFunction
from keras_dqn.conformance.probe import GAMMA, Probe


def dqn(probe: type[Probe], seed: int = 0, path: Path | None = None) -> QFunction:
    """DQN with the loss that it has."""
    with without_tensorflow():
        from stable_baselines3 import DQN

    model = _train(DQN, probe, seed)
    return lambda states: model.q_net(model.policy.obs_to_tensor(states)[0]).detach().numpy()


def qrdqn(probe: type[Probe], seed: int = 0, path: Path | None = None) -> QFunction:
    """QR-DQN with 50 quantiles."""
    with without_tensorflow():
        from sb3_contrib import QRDQN

    model = _train(QRDQN, probe, seed, policy_kwargs={"n_quantiles": 50})
    return lambda states: model.quantile_net(model.policy.obs_to_tensor(states)[0]).detach().numpy().swapaxes(1, 2)


def _train(algorithm, probe, seed, **settings):
    learner = {
        "gamma": GAMMA,
        "learning_rate": probe.learning_rate,
        "learning_starts": 100,
        "train_freq": probe.update_every,
        "buffer_size": probe.memory,
        "target_update_interval": probe.target_every,
        "exploration_fraction": (probe.greedy_after or probe.steps) / probe.steps,
        "exploration_final_eps": 1.0 if probe.greedy_after is None else 0.0,
        "seed": seed,
        "device": "cpu",
    }
    return algorithm("MlpPolicy", gym.make(probe.id), **learner | settings).learn(probe.steps)
