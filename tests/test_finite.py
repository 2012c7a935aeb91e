"""Numbers that float32 does not hold are refused before anything of them is stored, on every way into a memory."""

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from keras_dqn import Agent, interact
from keras_dqn.backend import keras
from keras_dqn.checks import all_finite
from keras_dqn.core.transition import StepBatch
from tests.environments import Counter

BEYOND = 1e39  # finite in float64, infinite in float32
LARGEST = float(np.finfo(np.float32).max)


def one_step(reward=1.0, state=0.0, next_state=0.0, dtype=np.float64):
    """`StepBatch` of one environment with states of two numbers."""
    states, next_states = (np.array([[1.0, value]], dtype) for value in (state, next_state))
    rewards, no = np.array([reward]), np.zeros(1, bool)
    return StepBatch(states, np.zeros(1, int), rewards, next_states, no, no, np.zeros(1, int), rewards)


def frames(reward):
    """`StepBatch` of one game whose states are stacks of two frames."""
    states, rewards, no = np.ones((1, 2, 1, 3), np.uint8), np.array([reward]), np.zeros(1, bool)
    return StepBatch(states, np.zeros(1, int), rewards, states, no, no, np.zeros(1, int), rewards)


def frame_agent(n_step):
    brain = keras.Sequential([keras.Input((2, 1, 3), dtype="uint8"), keras.layers.Flatten(), keras.layers.Dense(2)])
    options = {"brain": brain, "store_frames": True, "memory_size": 100, "n_step": n_step, "weight_backup": None}
    return Agent((2, 1, 3), 2, **options)


@pytest.mark.parametrize("n_step", [1, 3])
def test_vectors_and_rewards(n_step):
    agent = Agent(2, 2, weight_backup=None, n_step=n_step, seed=0)
    too_large = [{"reward": BEYOND}, {"reward": -BEYOND}, {"state": BEYOND}, {"next_state": -BEYOND}]
    too_large += [{"reward": np.nan}, {"next_state": np.inf}]
    too_large += [{"reward": 3e38}] if n_step == 3 else []  # three of them are 9e38
    for wrong in too_large:
        with pytest.raises(ValueError, match=r"must (be|hold) finite.* Received: .*(e\+3|nan|inf)"):
            agent.remember_batch(one_step(**wrong))
    assert agent.memory.snapshot() == {} and agent.steps == 0
    fits = [{"reward": LARGEST / n_step}, {"state": LARGEST}, {"next_state": -LARGEST}, {"reward": 1}, {"reward": 1}]
    for right in fits:  # what was refused is not in what n steps are joined of either
        agent.remember_batch(one_step(**right))
    stored = agent.memory.contents()
    assert agent.steps == len(fits) and len(stored.reward) == len(fits) - n_step + 1
    assert all(np.isfinite(field).all() for field in stored[:5])


@pytest.mark.parametrize(("n_step", "reward"), [(1, BEYOND), (3, 3e38), (3, -BEYOND), (1, np.nan)])
def test_frames(n_step, reward):
    agent = frame_agent(n_step)
    with pytest.raises(ValueError, match=rf"`reward` must be finite in float32, over {n_step} steps. Received: "):
        agent.remember_batch(frames(reward))
    assert agent.memory.snapshot() == {} and agent.steps == 0
    for _ in range(8):
        agent.remember_batch(frames(LARGEST / n_step))
    assert np.isfinite(agent.memory.sample(50).reward).all()


@pytest.mark.filterwarnings("error")
def test_float32_rewards_are_summed_without_a_warning():
    agent = Agent(2, 2, weight_backup=None, n_step=3, seed=0)
    steps = one_step()
    with pytest.raises(ValueError, match="`reward` must be finite in float32, over 3 steps. Received: .*e.38"):
        agent.remember_batch(steps._replace(reward=np.array([-3e38], np.float32)))
    agent.remember_batch(steps._replace(reward=np.array([1e38], np.float32)))
    assert agent.steps == 1


def test_the_notebooks_way_in():
    agent = Agent(2, 2, weight_backup=None, seed=0)
    zeros = np.zeros(2)
    for state, reward, next_state in [(zeros, BEYOND, zeros), ([BEYOND, 0], 1, zeros), (zeros, 1, [0, -BEYOND])]:
        with pytest.raises(ValueError, match=r"must (be|hold) finite.* Received: "):
            agent.remember(state, 0, reward, next_state, False)
    with pytest.raises(ValueError, match="`states` must hold finite"):
        agent.act([BEYOND, 0])
    assert len(agent.memory) == 0


class Overflows(Counter):
    """Its third reward is beyond float32, as its states may be."""

    def step(self, action):
        state, reward, *rest = super().step(action)
        return (state, BEYOND if self.steps == 3 else reward, *rest)


@pytest.mark.parametrize("n_step", [1, 3])
def test_the_loop_of_one_and_of_many(n_step):
    for env in (Overflows((9,)), SyncVectorEnv([lambda: Counter((9,)), lambda: Overflows((9,))])):
        agent = Agent(2, 2, weight_backup=None, n_step=n_step, seed=0)
        loop = interact(agent, env, learn=False)
        next(loop), next(loop)
        before = agent.memory.snapshot()
        with pytest.raises(ValueError, match="`reward` must be finite"):
            next(loop)
        assert before.keys() == agent.memory.snapshot().keys()
        for name, array in agent.memory.snapshot().items():
            np.testing.assert_array_equal(array, before[name])


def test_shaped_rewards_are_looked_at_and_true_ones_are_not_learned_from():
    agent = Agent(2, 2, weight_backup=None, seed=0)
    loop = interact(agent, Counter((9,)), learn=False, shape_reward=lambda s, a, r, n: r * BEYOND)
    with pytest.raises(ValueError, match="`reward` must be finite"):
        next(loop)
    assert len(agent.memory) == 0


def test_float32_is_what_counts():
    wide = [[BEYOND], [LARGEST * (1 + 1e-7)], [np.inf], [np.nan]]
    assert not any(all_finite(np.array(values)) for values in wide)
    assert not all_finite(np.array([np.inf], np.float32)) and not all_finite(np.array([np.nan], np.float16))
    for values in ([LARGEST], [-LARGEST, 1e-300], [1e30] * 1000):
        assert all_finite(np.array(values)) and all_finite(np.array(values, np.float32))
    assert all_finite(np.array([2**62])) and all_finite(np.array([255], np.uint8))
