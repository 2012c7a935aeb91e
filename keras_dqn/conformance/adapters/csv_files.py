"""Implementations in other languages: transitions are written, and the Q-values that were learned from them are read.

The folder gets `TimeLimit.csv`, … with a row a step: the observation, action, reward, the observation that followed (at
an episode's end its own last one), `terminated` and `truncated`. It is to get `TimeLimit.q.csv`, … with a row for each
observation: its numbers, then the Q-value of each action; no header.
"""

from pathlib import Path

import gymnasium as gym
import numpy as np

from keras_dqn.conformance.check import QFunction
from keras_dqn.conformance.probe import Probe


def exchange(probe: type[Probe], seed: int = 0, path: Path | None = None) -> QFunction:
    """Read what was learned from the transitions; where nothing was yet, write them.

    Raises:
        FileNotFoundError: there are no Q-values yet; the transitions have been written.
    """
    folder = Path(path or ".")
    answer, file = folder / f"{probe.__name__}.q.csv", folder / f"{probe.__name__}.csv"
    if not answer.exists():
        write_transitions(probe, file, seed)
        raise FileNotFoundError(
            f"Learn from {file} and write the Q-values, one row an observation. Received: no {answer}"
        )
    rows = np.loadtxt(answer, delimiter=",", ndmin=2)
    width = probe.states().shape[1]
    known = {tuple(row[:width]): row[width:] for row in rows}
    return lambda states: np.array([known[tuple(state)] for state in states.astype(float)])


def write_transitions(probe: type[Probe], file: Path, seed: int = 0) -> None:
    """Play with random actions for as many steps as the probe has, and write each as a row."""
    env, rows = gym.make(probe.id), []
    env.action_space.seed(seed)
    state = np.array(env.reset(seed=seed)[0])
    for _ in range(probe.steps):
        action = env.action_space.sample()
        next_state, reward, terminated, truncated, _ = env.step(action)
        rows.append([*state, action, reward, *next_state, terminated, truncated])
        state = np.array(env.reset()[0] if terminated or truncated else next_state)
    names = [f"{name}_{i}" for name in ("state", "next_state") for i in range(len(state))]
    header = [*names[: len(state)], "action", "reward", *names[len(state) :], "terminated", "truncated"]
    np.savetxt(file, np.array(rows, float), fmt="%.9g", delimiter=",", header=",".join(header), comments="")
