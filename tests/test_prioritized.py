"""Prioritized replay: what is drawn how often, against exact probabilities and against a list that is slow."""

import numpy as np
import pytest
from scipy import stats

from keras_dqn import Agent, FrameMemory, ReplayMemory, Transition
from keras_dqn.core.memory.prioritized import SMALLEST, Prioritized, SumTree
from keras_dqn.core.transition import StepBatch


def sampler_of(priorities, seed=0, **options):
    sampler = Prioritized(seed, **{"alpha": 1.0, "beta": 1.0, **options})
    sampler.make_room(len(priorities))
    sampler.update(np.arange(len(priorities)), np.asarray(priorities) - SMALLEST)
    sampler.tree.set(np.flatnonzero(np.asarray(priorities) == 0), 0.0)
    return sampler


def transitions(first, count):
    numbers = np.arange(first, first + count, dtype=np.float32)
    return Transition(numbers[:, None], numbers.astype(int), numbers, numbers, numbers[:, None])


# ---------------------------------------------------------------- the tree


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 100, 4097])
def test_rows_are_found_in_their_order_whatever_their_number(rows):
    values = np.random.default_rng(rows).integers(1, 9, rows).astype(float)  # sums of whole numbers are exact
    tree = SumTree(rows)
    tree.set(np.arange(rows), values)
    sums = np.concatenate([values.cumsum() - values, values.cumsum() - 0.5])
    np.testing.assert_array_equal(tree.find(sums), np.tile(np.arange(rows), 2))
    assert tree.total == values.sum() and np.array_equal(tree.values[:rows], values)


def test_sums_do_not_drift_over_a_million_changes():
    """In float32, or with differences carried up, something is left at the end, and rows of priority 0 are drawn."""
    tree, random = SumTree(1000), np.random.default_rng(0)
    for _ in range(1000):
        tree.set(random.integers(1000, size=1000), random.random(1000) ** 20 * 1e6)
    assert tree.total == pytest.approx(tree.values.sum(), rel=1e-14)
    tree.set(np.arange(1000), np.zeros(1000))
    tree.set(np.array([3]), np.array([1e-9]))
    assert tree.total == 1e-9 and (tree.find(np.linspace(0, 1e-9, 100)) == 3).all()


def test_a_row_of_priority_zero_is_never_found():
    """Not at either end of what is positive, nor where rounding carries a sum beyond a node's own."""
    random = np.random.default_rng(1)
    for _ in range(50):
        values = random.random(300) * (random.random(300) < 0.1)
        values[7] = 0.1
        tree = SumTree(300)
        tree.set(np.arange(300), values)
        edges = np.concatenate([values.cumsum(), values.cumsum() - values, [0.0, tree.total]])
        around = [np.nextafter(edges, -1), edges, np.nextafter(edges, 1e9)]
        assert (values[tree.find(np.clip(np.concatenate(around), 0, tree.total))] > 0).all()


# ---------------------------------------------------------------- the sampler


def test_draws_have_the_exact_probabilities():
    priorities = np.random.default_rng(3).random(500) ** 4 * (np.random.default_rng(4).random(500) < 0.8)
    for alpha in (1.0, 0.6):
        sampler = Prioritized(5, alpha=alpha, beta=1.0)
        sampler.make_room(500)
        sampler.update(np.arange(500), priorities)
        sampler.tree.set(np.flatnonzero(priorities == 0), 0.0)
        rows, _ = sampler.draw(500, (200_000, 1))  # minibatches of one, so that draws are independent
        counts = np.bincount(rows.ravel(), minlength=500)
        expected = np.where(priorities > 0, (priorities + SMALLEST) ** alpha, 0)
        expected *= 200_000 / expected.sum()
        assert not counts[expected == 0].any()
        common = expected > 5
        rest = [[one[~common].sum()] for one in (counts, expected)]
        observed, wanted = (np.append(one[common], r) for one, r in zip((counts, expected), rest, strict=True))
        assert stats.chisquare(observed, wanted).pvalue > 0.01


class SlowList:
    """What `Prioritized` does, in plain words."""

    def __init__(self, seed, rows, alpha, beta):
        self.random, self.alpha, self.beta = np.random.default_rng(seed), alpha, beta
        self.priorities, self.largest = [0.0] * rows, 1.0

    def draw(self, count):
        rows, draws = [], self.random.random((1, count))[0]
        for i, draw in enumerate(draws):
            wanted, row = (i + draw) / count * sum(self.priorities), 0
            while self.priorities[row] <= wanted:
                wanted -= self.priorities[row]
                row += 1
            rows.append(row)
        weights = [(1 / self.priorities[row]) ** self.beta for row in rows]
        return rows, [weight / max(weights) for weight in weights]


def test_it_is_the_slow_list():
    fast, slow, random = Prioritized(9, 0.7, 0.5), SlowList(9, 40, 0.7, 0.5), np.random.default_rng(2)
    fast.make_room(40)
    for step in range(300):
        row = step % 40
        if step % 11 == 10:
            fast.removed(np.array([row]))
            slow.priorities[row] = 0.0
        else:
            fast.added(row if step % 2 else np.array([row]))
            slow.priorities[row] = slow.largest
        if step >= 3:
            rows, weights = fast.draw(40, (1, 5))
            assert (rows[0].tolist(), pytest.approx(list(weights[0] / weights.max()))) == slow.draw(5)
            errors = random.random((1, 5)).astype(np.float32) * 3
            fast.update(rows, errors)
            for row, error in zip(rows[0].tolist(), errors[0].tolist(), strict=True):
                slow.priorities[row] = (error + SMALLEST) ** 0.7
                slow.largest = max(slow.largest, slow.priorities[row])
    assert fast.largest == slow.largest > 1


def test_weights_by_hand():
    """Of priorities 1, 2 and 4 with beta 1 they are 1, 1/2, 1/4, over the largest of each minibatch."""
    memory = ReplayMemory(3, sampler=Prioritized(0, alpha=1.0, beta=1.0))
    memory.add(transitions(0, 3))
    memory.update_errors(np.arange(3)[None], np.array([[1, 2, 4]]) - SMALLEST)
    batches = memory.sample(50, 2, replace=True)
    expected = 1 / 2.0**batches.rows
    np.testing.assert_allclose(batches.weight, expected / expected.max(1, keepdims=True), rtol=1e-5)
    assert batches.weight.dtype == np.float32 and {1.0} == set(batches.weight.max(1).tolist())
    memory.sampler.beta = 0.5
    batches = memory.sample(50, 2, replace=True)
    expected = 1 / 2.0 ** (batches.rows / 2)
    np.testing.assert_allclose(batches.weight, expected / expected.max(1, keepdims=True), rtol=1e-5)


def test_minibatches_have_one_of_each_part():
    sampler = sampler_of([1.0] * 64)
    rows, _ = sampler.draw(64, (30, 8))
    assert (rows // 8 == np.arange(8)).all()


def test_new_transitions_have_the_largest_priority_so_far():
    sampler = sampler_of([3.0, 0.5, 0.0])
    sampler.added(2)
    sampler.draw(3, (1, 1))
    assert sampler.tree.values[:3].tolist() == pytest.approx([3, 0.5, 3])
    sampler.update(np.array([[0]]), np.array([[0.1]]))  # the largest now is smaller than the largest so far
    sampler.added(np.array([1]))
    sampler.draw(3, (1, 1))
    assert sampler.tree.values[1] == pytest.approx(3)


def test_beta_follows_the_steps():
    sampler = Prioritized(0, beta=lambda steps: min(0.4 + steps / 1000, 1))
    assert sampler.beta == 0.4
    sampler.after_steps(300)
    assert sampler.beta == pytest.approx(0.7)
    with pytest.raises(ValueError, match="priority_beta"):
        Prioritized(0, beta=lambda steps: 2).after_steps(0)
    with pytest.raises(ValueError, match="priority_alpha"):
        Prioritized(0, alpha=-1)


# ---------------------------------------------------------------- in memories


def test_a_half_full_memory_draws_what_it_holds_and_an_overwritten_row_is_new():
    memory = ReplayMemory(100, sampler=Prioritized(0, beta=1.0))
    memory.add(transitions(0, 40))
    assert set(memory.sample(200, 4, replace=True).action.ravel()) == set(range(40))
    memory.update_errors(np.arange(40)[None], np.full((1, 40), 1e-9))
    memory.add(transitions(40, 70))  # the oldest ten go
    drawn = memory.sample(500, 4, replace=True)
    assert drawn.action.min() >= 10 and (drawn.rows == drawn.action % 100).all()
    assert (drawn.action >= 40).mean() > 0.99  # of the largest priority, the first ten rows among them
    assert {*range(100, 110)} <= set(drawn.action.ravel())


def frames(memory, steps, games=2, seed=0, ends=9):
    random = np.random.default_rng(seed)
    for i in range(steps):
        state, next_state = (random.integers(255, size=(games, 2, 3, 3), dtype=np.uint8) for _ in range(2))
        done = np.arange(games) == (i // ends if i % ends == ends - 1 else -1)
        numbers = np.full(games, i), np.full(games, float(i))
        memory.remember(StepBatch(state, *numbers, next_state, done, done, np.arange(games), numbers[1]))


@pytest.mark.parametrize("steps", [20, 200])
def test_a_memory_of_frames_draws_steps_alone_in_proportion(steps):
    """Not the frames that games ended with, nor steps at the edges of its rings, full or not."""
    memory = FrameMemory(60, n_step=2, seed=0, sampler=Prioritized(0, alpha=1.0, beta=1.0))
    frames(memory, steps)
    slots = np.unique(memory.sample(3000).rows)
    assert len(slots) >= len(memory) and (memory._slot_type.ravel()[slots] != 2).all()
    memory.update_errors(slots[None], 1.0 + slots[None] % 3)
    drawn = memory.sample(3000, 10)
    assert set(drawn.rows.ravel()) == set(slots)
    share = np.bincount(drawn.rows.ravel(), minlength=60)[slots] / (1 + slots % 3)
    assert share.max() / share.min() < 1.4
    np.testing.assert_allclose(drawn.weight.max(-1), 1)
    expected = 1 / (1 + drawn.rows % 3)
    np.testing.assert_allclose(drawn.weight, expected / expected.max(-1, keepdims=True), rtol=1e-5)


def test_games_that_are_closed_leave_no_end_to_be_drawn():
    memory = FrameMemory(60, seed=0, sampler=Prioritized(0, alpha=1.0, beta=1.0))
    frames(memory, 15)
    memory.begin_episodes()
    memory.sample(1)
    ends = memory._slot_type.ravel() == 2
    assert ends.sum() == 3 and not memory.sampler.tree.values[:60][ends].any()
    with pytest.raises(ValueError, match="no steps"):
        FrameMemory(60, sampler=Prioritized(0)).sample(1)


@pytest.mark.parametrize("kind", [ReplayMemory, FrameMemory])
def test_a_memory_that_is_restored_draws_what_the_other_draws(kind):
    def filled():
        memory = kind(60, sampler=Prioritized(1, beta=0.5))
        if kind is ReplayMemory:
            memory.add(transitions(0, 75))
        else:
            frames(memory, 35)
        return memory

    memory, shape = filled(), (1,) if kind is ReplayMemory else (2, 3, 3)
    for seed in range(5):
        rows = memory.sample(1, 8).rows
        memory.update_errors(rows, np.random.default_rng(seed).random((1, 8)) * 9)
    saved = {name: array.copy() for name, array in memory.snapshot().items()}
    other = kind(60, sampler=Prioritized(2, beta=0.5))
    before = other.sampler
    other.restore({name: array.copy() for name, array in saved.items()}, shape)
    assert other.sampler is not before and before.largest == 1  # which is another memory's until all is restored
    other.random.bit_generator.state = memory.random.bit_generator.state
    for _ in range(3):
        ours, theirs = memory.sample(2, 8), other.sample(2, 8)
        np.testing.assert_array_equal(ours.rows, theirs.rows)
        np.testing.assert_array_equal(ours.weight, theirs.weight)
    uniform = kind(60, seed=3)
    uniform.restore({name: array.copy() for name, array in saved.items()}, shape)
    assert uniform.sample(4).weight is None
    without = {name: array.copy() for name, array in saved.items() if "priorit" not in name}
    other = kind(60, sampler=Prioritized(2))
    other.restore(without, shape)  # of a training without priorities: all are new
    assert set(other.sampler.tree.values) <= {0.0, 1.0} and set(other.sample(50).weight) == {1.0}


def test_an_agent_prefers_what_it_was_wrong_about():
    agent = Agent(
        1, 2, None, memory_size=64, sample_batch_size=64, minibatch_size=16, prioritized=True, seed=0, gamma=0
    )
    for i in range(64):
        agent.remember([i / 64], 0, 100.0 if i == 5 else 0.0, [0.0], True)
    for _ in range(5):
        agent.replay()
    values = agent.memory.sampler.tree.values[:64]
    assert values.argmax() == 5 and agent.memory.sampler.largest > 10
    assert (agent.memory.sample(16).rows == 5).sum() > 2
