"""keras_dqn itself."""

from pathlib import Path
from typing import Any

from keras_dqn import game_for
from keras_dqn.conformance.check import QFunction
from keras_dqn.conformance.probe import GAMMA, Probe


def settings(probe: type[Probe], seed: int = 0) -> dict[str, Any]:
    """Double DQN with the squared error, a target network and one update of 32 a step, 16 of them in one call."""
    falls = probe.greedy_after
    return {
        "steps": probe.steps,
        "seed": seed,
        "recipe": "juvin",
        "weights": None,
        "weight_backup": None,
        "gamma": GAMMA,
        "exploration": (lambda _: 1.0) if falls is None else (lambda step: max(1 - step / falls, 0.0)),
        "network": {"hidden": (64, 64)},
        "learning_rate": probe.learning_rate,
        "loss": "mse",
        "double": True,
        "target_update": probe.target_every,
        "memory_size": probe.memory,
        "sample_batch_size": 512,
        "minibatch_size": 32,
        "replay_every": 16,
    }


def train(probe: type[Probe], seed: int = 0, path: Path | None = None, **others: Any) -> QFunction:
    """The agent after training with these settings, or others."""
    game = game_for(probe)(**settings(probe, seed) | others)
    game.train(progress=False)
    return game.agent.q_values


def n_steps(probe: type[Probe], seed: int = 0, path: Path | None = None) -> QFunction:
    """The same with returns of three steps."""
    return train(probe, seed, n_step=3)
