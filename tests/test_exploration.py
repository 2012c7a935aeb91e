"""Schedules at their ends and in between, and held actions."""

import math

import numpy as np
import pytest

from keras_dqn import Agent, interact
from keras_dqn.core.exploration import Blocks, Exponential, HeldEpsilonGreedy, Linear
from tests.environments import Counter


def test_exponential():
    epsilon = Exponential(0.9, 0.05, 1000)
    assert epsilon(0) == pytest.approx(0.9)
    assert epsilon(1000) == pytest.approx(0.05 + 0.85 / math.e)
    assert epsilon(10**6) == pytest.approx(0.05)


def test_blocks():
    epsilon = Blocks(0.9, 200, 0.001)
    assert [epsilon(steps) for steps in (0, 199, 200, 399, 400)] == pytest.approx([1, 1, 0.9, 0.9, 0.81])
    assert epsilon(10**6) == 0.001


def test_linear():
    epsilon = Linear(1.0, 0.2, 100)
    assert [epsilon(steps) for steps in (0, 25, 100, 101, 10**6)] == pytest.approx([1, 0.8, 0.2, 0.2, 0.2])


def test_an_agent_follows_its_schedule_by_steps_and_not_by_replays():
    agent = Agent(2, 2, weight_backup=None, exploration=Linear(1.0, 0.0, 64), sample_batch_size=4, seed=0)
    rates = []
    for _ in range(64):
        rates.append(agent.exploration_rate)
        agent.remember(np.zeros(2), 0, 1, np.zeros(2), False)
        agent.replay()
    assert rates == pytest.approx([1 - step / 64 for step in range(64)])
    assert agent.exploration_rate == 0
    agent.reset_exploration()
    assert agent.exploration_rate == 1
    agent.remember(np.zeros(2), 0, 1, np.zeros(2), False)
    assert agent.exploration_rate == 1 - 1 / 64, "its steps count anew"


NINE_IS_BEST = np.eye(10)[[9, 9, 9]]  # none of the random actions, of which there are fewer


def test_random_actions_are_held_for_their_time():
    held = HeldEpsilonGreedy(4, 7, seed=0)
    actions = np.array([held(NINE_IS_BEST, 0.05) for _ in range(20_000)])
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


def test_what_is_held_ends_with_its_episode_and_with_the_training():
    held = HeldEpsilonGreedy(2, 1000, seed=0)
    held(NINE_IS_BEST, 1.0)
    before = held._held.copy()
    held.end_episodes(np.array([1]))
    assert (held._left > 0).tolist() == [True, False, True]
    np.testing.assert_array_equal(held(NINE_IS_BEST, 1e-12), [before[0], 9, before[2]])
    held.begin_episodes()
    assert held(NINE_IS_BEST, 1e-12).tolist() == [9, 9, 9]


def test_a_training_ends_what_the_one_before_held():
    agent = Agent(2, 2, weight_backup=None, hold_random_actions=1000, exploration_rate=1.0, seed=0)
    for _ in range(2):
        actions = []
        loop = interact(agent, Watched(actions), learn=False)
        for _ in range(14):
            next(loop)
        ends = np.cumsum([4, 4, 4])
        episodes = np.split(np.array(actions[:12]), ends[:-1])
        assert all(len(set(episode.tolist())) == 1 for episode in episodes), "held for the whole of it"
    assert len({episode[0] for episode in episodes} | {0, 1}) == 2


class Watched(Counter):
    """Episodes of four steps, whose actions are written down."""

    def __init__(self, actions):
        super().__init__((4,))
        self.actions = actions

    def step(self, action):
        self.actions.append(action)
        return super().step(action)


def test_epsilon_one_is_all_random_and_epsilon_zero_ends_what_is_held():
    agent = Agent(4, 2, weight_backup=None, hold_random_actions=40, seed=0)
    state = np.ones((1, 4), np.float32)
    assert len({int(agent.act_batch(state, 1.0)[0]) for _ in range(300)}) == 2
    greedy = int(agent.q_values(state).argmax())
    assert all(int(agent.act_batch(state, 0.0)[0]) == greedy for _ in range(50))
