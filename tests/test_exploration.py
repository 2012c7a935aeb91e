"""Schedules at their ends and in between, and held actions."""

import math

import numpy as np
import pytest

from keras_dqn import Agent
from keras_dqn.exploration import HeldEpsilonGreedy, blocks, exponential, linear


def test_exponential():
    epsilon = exponential(0.9, 0.05, 1000)
    assert epsilon(0) == pytest.approx(0.9)
    assert epsilon(1000) == pytest.approx(0.05 + 0.85 / math.e)
    assert epsilon(10**6) == pytest.approx(0.05)


def test_blocks():
    epsilon = blocks(0.9, 200, 0.001)
    assert [epsilon(steps) for steps in (0, 199, 200, 399, 400)] == pytest.approx([1, 1, 0.9, 0.9, 0.81])
    assert epsilon(10**6) == 0.001


def test_linear():
    epsilon = linear(1.0, 0.2, 100)
    assert [epsilon(steps) for steps in (0, 25, 100, 101, 10**6)] == pytest.approx([1, 0.8, 0.2, 0.2, 0.2])


def test_an_agent_follows_its_schedule_by_steps_and_not_by_replays():
    agent = Agent(2, 2, weight_backup=None, exploration=linear(1.0, 0.0, 64), sample_batch_size=4, seed=0)
    rates = []
    for _ in range(64):
        rates.append(agent.exploration_rate)
        agent.remember(np.zeros(2), 0, 1, np.zeros(2), False)
        agent.replay()
    assert rates == pytest.approx([1 - step / 64 for step in range(64)])
    assert agent.exploration_rate == 0
    agent.explore_anew()
    assert agent.exploration_rate == 1
    agent.remember(np.zeros(2), 0, 1, np.zeros(2), False)
    assert agent.exploration_rate == 1 - 1 / 64, "its steps count anew"


def test_random_actions_are_held_for_their_time():
    held = HeldEpsilonGreedy(4, 7, seed=0)
    actions = np.array([held(np.full(3, 9), 0.05) for _ in range(20_000)])
    runs = []  # how long each random action lasted; two in a row may be the same, so few runs are longer
    for column in actions.T:
        changes = np.flatnonzero(np.diff(column)) + 1
        runs += [(run[0], len(run)) for run in np.split(column, changes)]
    random_runs = [length for action, length in runs if action != 9]
    assert set(range(1, 8)) <= set(random_runs)
    assert np.mean(np.array(random_runs) <= 7) > 0.95
    assert {action for action, _ in runs} == {0, 1, 2, 3, 9}
    # A run begins in 5 % of the free steps and takes 4 steps on average: 0.05 * 4 / (0.05 * 4 + 0.95) of the time.
    assert np.mean(actions != 9) == pytest.approx(0.2 / 1.15, abs=0.02)


def test_epsilon_one_is_all_random_and_epsilon_zero_ends_what_is_held():
    agent = Agent(4, 2, weight_backup=None, hold_random_actions=40, seed=0)
    state = np.ones((1, 4), np.float32)
    assert len({int(agent.act_batch(state, 1.0)[0]) for _ in range(300)}) == 2
    greedy = int(agent.q_values(state).argmax())
    assert all(int(agent.act_batch(state, 0.0)[0]) == greedy for _ in range(50))
