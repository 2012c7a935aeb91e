"""n-step transitions against sums by hand and against the definition."""

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from keras_dqn import Agent, interact
from keras_dqn.core.memory.n_step import NStep
from keras_dqn.core.memory.replay import OneStep
from keras_dqn.core.transition import StepBatch
from tests.environments import Counter


def rows(transition):
    """A Transition as a list of (state, action, reward, discount, next state), for a state of one number."""
    if transition is None:
        return []
    return [tuple(float(np.squeeze(value)) for value in row) for row in zip(*transition[:5], strict=True)]


def one_step(joiner, state, reward, terminated=False, truncated=False, environment=0):
    rewards = np.array([float(reward)])
    arrays = np.array([[state]]), np.array([state % 2]), rewards, np.array([[state + 1]])
    ends = np.array([terminated]), np.array([terminated or truncated])
    return rows(joiner.append(StepBatch(*arrays, *ends, np.array([environment]), rewards)))


def test_three_steps_by_hand():
    joiner = NStep(3, 0.5)
    assert one_step(joiner, 0, 1) == []
    assert one_step(joiner, 1, 10) == []
    assert one_step(joiner, 2, 100) == [(0, 0, 1 + 5 + 25, 0.125, 3)]
    assert one_step(joiner, 3, 1000) == [(1, 1, 10 + 50 + 250, 0.125, 4)]
    # Terminated: what is left becomes shorter, and nothing follows.
    assert one_step(joiner, 4, 4, terminated=True) == [(2, 0, 100 + 500 + 1, 0, 5), (3, 1, 1002, 0, 5), (4, 0, 4, 0, 5)]
    assert one_step(joiner, 7, 1) == []  # nothing of the last episode is left
    # Truncated: shorter too, and the bootstrap is discounted by the steps there were.
    assert one_step(joiner, 8, 2, truncated=True) == [(7, 1, 2, 0.25, 9), (8, 0, 2, 0.5, 9)]


def test_a_lost_life_completes_what_is_pending_though_the_episode_goes_on():
    joiner, rewards, yes, no = NStep(3, 0.5), np.array([2.0]), np.array([True]), np.array([False])
    one_step(joiner, 0, 1)
    steps = StepBatch(np.array([[1]]), np.array([1]), rewards, np.array([[2]]), yes, no, np.array([0]), rewards)
    assert rows(joiner.append(steps)) == [(0, 0, 2, 0, 2), (1, 1, 2, 0, 2)]
    assert one_step(joiner, 2, 4) == []


def test_environments_do_not_mix():
    joiner = NStep(2, 1.0)
    one_step(joiner, 0, 1, environment=0)
    one_step(joiner, 50, 100, environment=1)
    assert one_step(joiner, 1, 2, environment=0) == [(0, 0, 3, 1, 2)]
    assert one_step(joiner, 51, 200, environment=1) == [(50, 0, 300, 1, 52)]


@given(
    n=st.integers(1, 5),
    lengths=st.lists(st.integers(-6, 6).filter(bool), min_size=1, max_size=4),
    num_envs=st.integers(1, 3),
)
def test_the_loop_stores_what_the_definition_says(n, lengths, num_envs):
    gamma = 0.9
    agent = Agent.__new__(Agent)  # its memory and n-step part alone: a network a case would take minutes
    agent.__dict__.update(_loop_parts(n, gamma))
    envs = SyncVectorEnv([lambda i=i: Counter(lengths[i:] + lengths[:i]) for i in range(num_envs)])
    loop = interact(agent, envs, learn=False)
    for _ in range(25):
        next(loop)
    stored = agent.memory.contents()
    assert len(agent.memory) > 0
    got = zip(stored.state.tolist(), stored.reward, stored.discount, stored.next_state.tolist(), strict=True)
    for (episode, step), reward, discount, (end_episode, end_step) in got:
        assert end_episode == episode
        spanned = int(end_step - step)
        rewards = [10 * episode + step + k + 1 for k in range(spanned)]
        assert reward == pytest.approx(sum(gamma**k * r for k, r in enumerate(rewards)), rel=1e-5)
        matching = {(lengths[i:] + lengths[:i])[int(episode) % len(lengths)] for i in range(num_envs)}
        ends = {abs(length) for length in matching}
        assert spanned == n or end_step in ends
        assert discount == pytest.approx(gamma**spanned, rel=1e-5) or (discount == 0 and end_step in matching)


def _loop_parts(n, gamma):
    agent = Agent(2, 2, weight_backup=None, n_step=n, gamma=gamma, seed=0) if n not in _AGENTS else _AGENTS[n]
    _AGENTS[n] = agent
    n_step = NStep(n, gamma) if n > 1 else OneStep(gamma)
    return {**agent.__dict__, "memory": type(agent.memory)(500, seed=0, n_step=n_step)}


_AGENTS = {}


def test_n_step_transitions_survive_the_wrap_around():
    agent = Agent(2, 2, weight_backup=None, n_step=3, memory_size=32, seed=0)
    loop = interact(agent, Counter((5, -4)), learn=False)
    for _ in range(300):
        next(loop)
    stored = agent.memory.contents()
    assert len(agent.memory) == 32
    order = stored.state[:, 0] * 100 + stored.state[:, 1]
    assert np.all(np.diff(order) > 0)
    assert np.all(stored.next_state[:, 0] == stored.state[:, 0])


def test_transitions_do_not_span_two_trainings():
    agent = Agent(2, 2, weight_backup=None, n_step=3, seed=0)
    for _ in range(2):  # the first is left in the middle of an episode
        loop = interact(agent, Counter((5, -4)), learn=False)
        for _ in range(4):
            next(loop)
    stored = agent.memory.contents()
    assert np.all(stored.next_state - stored.state == [0, 3])
