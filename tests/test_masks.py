"""Forbidden actions: not taken, remembered with the state they are forbidden in, and not bootstrapped from."""

import numpy as np
import pytest

from keras_dqn import Agent
from keras_dqn.backend import keras
from keras_dqn.core.exploration import HeldEpsilonGreedy
from keras_dqn.core.learner import Learner
from keras_dqn.core.memory.n_step import NStep
from keras_dqn.core.memory.replay import ReplayMemory
from keras_dqn.core.transition import StepBatch
from tests.test_learner import kernel_of, steps, table


def taking(number, count=1, done=False):
    """`StepBatch` of `count` environments whose masks say which number it was."""
    states = np.full((count, 1), number, np.float32)
    masks = np.array([[(number + i) >> bit & 1 for bit in range(4)] for i in range(count)], bool)
    ends, rewards = np.full(count, done), np.zeros(count)
    return StepBatch(states, np.zeros(count, int), rewards, states + 1, ends, ends, np.arange(count), rewards, masks)


def numbers(masks):
    return (masks @ [1, 2, 4, 8]).tolist()


# ---------------------------------------------------------------- acting


def test_only_allowed_actions_are_taken():
    agent = Agent(2, 3, weight_backup=None, seed=0)
    agent.brain.layers[-1].bias.assign([0, 5, 9])
    states = np.zeros((300, 2), np.float32)
    action_mask = np.tile([[True, True, False], [True, False, False], [False, False, True]], (100, 1))
    greedy = agent.act_batch(states, 0.0, action_mask).reshape(100, 3)
    np.testing.assert_array_equal(greedy, np.tile([1, 0, 2], (100, 1)))
    explored = agent.act_batch(states, 1.0, action_mask).reshape(100, 3)
    assert [set(column.tolist()) for column in explored.T] == [{0, 1}, {0}, {2}]


def test_a_held_action_gives_way_where_it_is_forbidden():
    held, q_values = HeldEpsilonGreedy(2, 50, seed=0), np.array([[1.0, 0.0]])
    everything, only_first = np.ones((1, 2), bool), np.array([[True, False]])
    while held(q_values, 1.0, everything)[0] == 0:
        pass
    assert held._left[0] > 1 and held(q_values, 0.5, only_first)[0] == 0
    assert held(q_values, 1e-9, everything)[0] == 1, "it is held all the same"


# ---------------------------------------------------------------- remembering


@pytest.mark.parametrize("count", [1, 3])
def test_a_memory_holds_them(count):
    memory = ReplayMemory(4, seed=0)
    for number in range(5):
        memory.remember(taking(number, count))
    expected = [number + i for number in range(5) for i in range(count)][-4:]
    assert numbers(memory.contents().action_mask) == expected
    batch = memory.sample(2, 2)
    assert batch.action_mask.shape == (2, 2, 4)
    assert sorted(numbers(batch.action_mask.reshape(4, 4))) == sorted(expected)
    with pytest.raises(ValueError, match="`action_mask` must be in all transitions or in none. Received: None"):
        memory.remember(taking(0)._replace(action_mask=None))
    assert numbers(memory.contents().action_mask) == expected


def test_n_steps_have_those_of_the_last_state():
    joiner, made = NStep(2, 0.5), []
    for number, done in [(0, False), (1, False), (2, True)]:
        if (transitions := joiner.append(taking(number, done=done))) is not None:
            made += numbers(transitions.action_mask)
    assert made == [1, 2, 2]
    assert NStep(1, 0.5).append(taking(3)._replace(action_mask=None)).action_mask is None


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize(("double", "expected"), [(False, 1), (True, 99)])
def test_targets_are_of_what_is_allowed(double, expected):
    target_update = 100 if double else None
    learner = Learner(table([0, 0], [5, 1]), keras.optimizers.SGD(1.0), "fit_mse", target_update, double=double)
    if double:
        learner.target.variables[0].assign([[0, 0], [2, 99]])
    learner.update(steps((0, 0, 0, 1.0, 1))._replace(action_mask=np.array([[[False, True]]])))
    np.testing.assert_allclose(kernel_of(learner), [[expected, 0], [5, 1]])
