"""The replay memory against a plain list."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keras_dqn.core.memory.replay import ReplayMemory
from keras_dqn.core.transition import Transition


def transitions(numbers):
    """Transitions that can be told apart in every field."""
    numbers = np.asarray(numbers)
    states = np.stack([numbers, numbers + 0.5], axis=1).astype(np.float32)
    return Transition(states, numbers % 7, numbers.astype(np.float32), numbers.astype(np.float32) / 2, states + 1)


def assert_rows_are(batch, numbers):
    assert batch.action_mask is None
    for got, expected in zip(batch[:5], transitions(numbers)[:5], strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


@given(capacity=st.integers(1, 9), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=30))
def test_holds_what_a_list_would(capacity, sizes):
    memory, model, number = ReplayMemory(capacity), [], 0
    for size in sizes:
        added = list(range(number, number + size))
        number += size
        memory.add(transitions(added))
        model = [*model, *added][-capacity:]
        assert len(memory) == len(model)
        assert_rows_are(memory.contents(), model)


@given(capacity=st.integers(1, 40), added=st.integers(1, 100), data=st.data(), seed=st.integers(0, 99))
def test_a_sample_is_of_what_is_there(capacity, added, data, seed):
    memory = ReplayMemory(capacity, seed)
    for number in range(added):
        memory.add(transitions([number]))
    count = data.draw(st.integers(1, len(memory)))
    batch = memory.sample(count)
    numbers = batch.reward.astype(int)
    assert len(set(numbers)) == count  # all different
    assert set(numbers) <= set(range(added)[-capacity:])
    assert_rows_are(batch, numbers)  # every field of the same transition
    twice = memory.sample(3 * capacity, replace=True)
    assert set(twice.reward.astype(int)) <= set(range(added)[-capacity:])


def test_sampling_is_uniform():
    memory = ReplayMemory(10, seed=0)
    memory.add(transitions(range(10)))
    for replace in (False, True):
        counts = np.zeros(10)
        for _ in range(4000):
            np.add.at(counts, memory.sample(4, replace=replace).reward.astype(int), 1)
        # 1600 expected each; five standard deviations of a binomial count
        assert np.abs(counts - 1600).max() < 5 * np.sqrt(1600 * 0.9)


def test_same_seed_same_sample():
    memories = [ReplayMemory(50, seed) for seed in (3, 3, 4)]
    for memory in memories:
        memory.add(transitions(range(50)))
    first, same, other = (memory.sample(20).reward.tolist() for memory in memories)
    assert first == same != other


def test_samples_are_copies():
    memory = ReplayMemory(3)
    memory.add(transitions([0, 1, 2]))
    for batch in (memory.sample(3), memory.sample(3, replace=True), memory.contents()):
        batch.state[:] = 99
    assert_rows_are(memory.contents(), [0, 1, 2])


@given(capacity=st.integers(1, 9), before=st.integers(1, 30), after=st.integers(0, 30))
@example(capacity=9, before=3, after=2)  # not full
@example(capacity=5, before=7, after=1)  # the oldest in the middle
def test_a_restored_memory_goes_on_as_the_other_would(capacity, before, after):
    memory, restored = ReplayMemory(capacity), ReplayMemory(capacity)
    memory.add(transitions(range(before)))
    restored.restore({name: array.copy() for name, array in memory.snapshot().items()}, (2,))
    for one in (memory, restored):
        if after:
            one.add(transitions(range(before, before + after)))
        assert_rows_are(one.contents(), list(range(before + after))[-capacity:])
        assert len(one) == min(before + after, capacity)


def test_what_is_restored_must_fit():
    memory = ReplayMemory(5)
    memory.add(transitions([0, 1, 2]))
    good = memory.snapshot()
    wrong = [(good, (3,), r"states must have shape \(3,\). Received: \(2,\)")]
    wrong += [({**good, "next_row": np.array(row)}, (2,), "the next goes to row .* Received: 5") for row in (2, 5, -1)]
    other = ReplayMemory(5)
    other.add(transitions([7]))
    for arrays, shape, message in wrong:
        with pytest.raises(ValueError, match=message):
            other.restore(arrays, shape)
    with pytest.raises(ValueError, match="`memory_size` must be what it was: 3 steps are saved.* Received: 2"):
        ReplayMemory(2).restore(good, (2,))
    assert_rows_are(other.contents(), [7])


def test_is_ready_with_a_sample_and_no_sooner_than_learning_starts():
    memory, patient = ReplayMemory(9), ReplayMemory(9, learning_starts=5)
    ready = []
    for number in range(6):
        for one in (memory, patient):
            one.add(transitions([number]))
        ready.append((memory.ready((3, 1)), patient.ready((3, 1)), patient.ready((3, 2))))
    assert ready == [(False,) * 3] * 2 + [(True, False, False)] * 2 + [(True, True, False), (True, True, True)]


def test_keeps_the_dtype_of_frames():
    memory = ReplayMemory(4)
    frames = np.full((2, 84, 84, 4), 255, np.uint8)
    memory.add(Transition(frames, np.zeros(2, int), np.zeros(2, np.float32), np.zeros(2, np.float32), frames))
    assert memory.sample(2).state.dtype == np.uint8


def test_refuses_what_does_not_fit():
    memory = ReplayMemory(4)
    with pytest.raises(ValueError, match=r"holds 0 transitions.* Received: 1"):
        memory.sample(1)
    with pytest.raises(ValueError, match="Received: 0"):
        memory.contents()
    memory.add(transitions([0, 1]))
    with pytest.raises(ValueError, match=r"holds 2 transitions.* Received: 3"):
        memory.sample(3)
    wrong_shape = transitions([5])._replace(next_state=np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match=r"`next_state` must have shape \(1, 2\). Received: \(1, 3\)"):
        memory.add(wrong_shape)
    with pytest.raises(ValueError, match=r"`reward` must have dtype float32. Received: float64"):
        memory.add(transitions([5])._replace(reward=np.zeros(1)))
    with pytest.raises(ValueError, match=r"`reward` must have shape \(2,\)"):
        memory.add(transitions([5, 6])._replace(reward=np.zeros(1, np.float32)))
    assert_rows_are(memory.contents(), [0, 1])  # nothing was stored half
    for capacity in (0, -1, 1.5, "9"):
        with pytest.raises(ValueError, match=r"`capacity`.* Received: "):
            ReplayMemory(capacity)
