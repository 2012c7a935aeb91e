"""Rollouts: their lambda-returns against a table worked out by hand and against a slow, obvious version."""

import numpy as np
import pytest

from keras_dqn.rollout import RolloutMemory, Steps, lambda_return

TRAP = 99.0  # a value that no return may have anything of


def worth(states):
    """Q-values of two actions of states [N, 1]: the state's number is the higher one."""
    return np.stack([states[:, 0], states[:, 0] - 1000], -1).astype(np.float32)


def slow_returns(history, capacity, gamma, q_lambda):
    """The lambda-returns of the first `capacity` steps, each worked out by itself, as the sum over n-step returns.

    history: dicts of one step each, in the order they were made. The return of a step is the mean of its n-step
    returns, of weight (1 - q_lambda) q_lambda^(n - 1), the longest one having all the weight that is left.
    """
    returns = []
    for i, first in enumerate(history[:capacity]):
        chain = [first]
        for j in range(i + 1, capacity):
            if chain[-1]["terminal"] or chain[-1]["ended"]:
                break
            if history[j]["environment"] == first["environment"]:
                chain.append(history[j])
        total = rewards = 0.0
        for n, step in enumerate(chain, 1):
            rewards += gamma ** (n - 1) * step["reward"]
            value = 0.0 if step["terminal"] else gamma**n * step["next_value"]
            weight = q_lambda ** (n - 1) * (1 if n == len(chain) else 1 - q_lambda)
            total += weight * (rewards + value)
        returns.append(total)
    return returns


def played(random, environments, capacity, forget_values=0.0):
    """A memory filled with a random history of some environments, and that history as dicts."""
    memory = RolloutMemory(capacity, worth, gamma=0.9, q_lambda=float(random.choice([0, 0.3, 0.65, 1])), seed=0)
    history, ended = [], np.zeros(environments, bool)
    states = random.normal(size=(environments, 1))
    while not memory.ready():
        next_states = random.normal(size=(environments, 1))
        terminal = random.random(environments) < 0.2
        over = random.random(environments) < 0.2
        rows = np.flatnonzero(~ended)  # an environment that ended only resets
        if len(rows):
            q_values = None if random.random() < forget_values else worth(states[rows])
            steps = Steps(
                states[rows],
                rows % 3,
                random.normal(size=len(rows)),
                next_states[rows],
                terminal[rows],
                over[rows],
                rows,
                q_values=q_values,
            )
            memory.remember(steps)
            for k, row in enumerate(rows):
                history.append(
                    {
                        "state": states[row, 0],
                        "reward": steps.reward[k],
                        "next_value": next_states[row, 0],
                        "terminal": terminal[row],
                        "ended": over[row],
                        "environment": row,
                    }
                )
        ended = np.where(ended, False, over)
        states = next_states
    return memory, history


@pytest.mark.parametrize("seed", range(60))
def test_the_returns_are_those_of_the_slow_version_on_random_histories(seed):
    random = np.random.default_rng(seed)
    environments = int(random.integers(1, 6))
    memory, history = played(random, environments, int(random.integers(environments, 40)), forget_values=0.3)
    expected = slow_returns(history, memory.capacity, 0.9, memory.q_lambda)
    np.testing.assert_allclose(memory.lambda_returns(), expected, rtol=1e-5, atol=1e-5)
