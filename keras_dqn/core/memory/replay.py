"""What the agent remembers: steps go in, minibatches of transitions come out, the oldest overwritten first."""

import math
from typing import Any, Protocol

import numpy as np

from keras_dqn.checks import Seed
from keras_dqn.core.memory.sampling import SampledMemory, Uniform, divided_by_largest
from keras_dqn.core.transition import StepBatch, Transition


class Memory(Protocol):
    """What the agent needs of a memory: `ReplayMemory`, `frames.FrameMemory` and others."""

    capacity: int
    random: np.random.Generator  # of the sampling
    epochs: int  # how often a replay draws
    bootstraps: bool  # False where every discount is 0

    def __len__(self) -> int:
        """How many transitions can be drawn."""
        ...

    def remember(self, steps: StepBatch) -> None:
        """Store what N environments did."""
        ...

    def begin_episodes(self, environments: np.ndarray | None = None) -> None:
        """Close the episodes under way, of these environments or of all: what comes next is of new ones."""
        ...

    def ready(self, shape: tuple[int, ...]) -> bool:
        """Whether there is enough to draw a sample of that shape."""
        ...

    def sample(self, *shape: int) -> Transition:
        """Draw transitions: `sample(K, B)` are K minibatches of B, arrays [K, B, ...]."""
        ...

    def after_steps(self, steps: int) -> None:
        """The agent has made so many steps."""
        ...

    def update_errors(self, rows: np.ndarray, errors: np.ndarray) -> None:
        """The transitions in these rows, [K, B] int, had these errors, [K, B] float32, when they were learned from."""
        ...

    def snapshot(self) -> dict[str, np.ndarray]:
        """What is stored, as arrays for `restore`."""
        ...

    def restore(self, snapshot: dict[str, np.ndarray], state_shape: tuple[int, ...]) -> None:
        """Hold what `snapshot` of another memory gave; on a ValueError nothing is changed."""
        ...

    def check_fits(self, state_shape: tuple[int, ...]) -> None:
        """Raise a ValueError if the memory, once full, takes more than this machine has free."""
        ...


class OneStep:
    """Makes each step a transition of its own; `n_step.NStep` makes longer ones.

    Args:
        gamma: discount a step.
    """

    def __init__(self, gamma: float):
        self._discounts = np.array([gamma, 0], np.float32)  # by whether the step is terminal

    def append(self, steps: StepBatch) -> Transition:
        """The transitions that the steps complete."""
        discounts = self._discounts.take(steps.terminal)
        rewards = steps.reward.astype(np.float32)
        return Transition(steps.state, steps.action, rewards, discounts, steps.next_state, steps.action_mask)

    def clear(self, environments: np.ndarray | None = None) -> None:
        """Forget the steps that wait for others; here none does."""


class ReplayMemory(SampledMemory):
    """A first-in-first-out memory of transitions (Lin 1992).

    The arrays are allocated once, at the first `add`, from the shape and dtype of its transitions, so the same class
    holds four floats or a uint8 frame a state.

    Args:
        capacity: how many transitions are kept; the oldest makes room for the newest.
        seed: of the sampling; an int, a `np.random.SeedSequence`, or None for fresh entropy.
        n_step: makes transitions of steps: `OneStep` or `n_step.NStep`.
        learning_starts: `ready` only with this many.
        sampler: says which of them are drawn; by default `sampling.Uniform`, with the seed.

    Example:
        memory = ReplayMemory(2000, seed=0)
        memory.add(Transition(states, actions, rewards, discounts, next_states))  # [N, ...] each
        batches = memory.sample(4, 32)  # 4 minibatches of 32
    """

    def __init__(
        self,
        capacity: int,
        seed: Seed = None,
        n_step: Any = None,
        learning_starts: int = 0,
        sampler: Uniform | None = None,
    ):
        super().__init__(capacity, sampler or Uniform(seed), learning_starts)
        self.sampler.make_room(capacity)
        self.n_step = n_step or OneStep(gamma=0.99)
        self._arrays = None  # a Transition of arrays [capacity, ...], from the first `add` on
        self._accepted_layout = None
        self._size = 0
        self._next = 0  # the row that the next transition goes to

    def __len__(self) -> int:
        """The number of transitions stored, at most `capacity`."""
        return self._size

    def remember(self, steps: StepBatch) -> None:
        """Store what N environments did, once `n_step` has made transitions of it."""
        if (transitions := self.n_step.append(steps)) is not None:
            self.add(transitions)

    def begin_episodes(self, environments: np.ndarray | None = None) -> None:
        """Close the episodes under way, of these environments or of all: what comes next is of new ones."""
        self.n_step.clear(environments)

    def ready(self, shape: tuple[int, ...]) -> bool:
        """Whether there is enough to draw a sample of that shape."""
        return self._size >= max(math.prod(shape), self.learning_starts)

    def add(self, transitions: Transition) -> None:
        """Store N transitions, in order; every field has the leading axis N.

        Raises:
            ValueError: a field's shape or dtype is not that of the first transitions stored; nothing is stored then.
        """
        if self._arrays is None:
            self._arrays = transitions.each(lambda new: np.zeros((self.capacity, *new.shape[1:]), new.dtype))
        s, a, r, d, n, action_mask = transitions[:6]
        layout = (s.shape, a.shape, r.shape, d.shape, n.shape, s.dtype, a.dtype, r.dtype, d.dtype, n.dtype)
        if action_mask is not None:
            layout = (*layout, action_mask.shape, action_mask.dtype)
        if layout != self._accepted_layout:  # almost always the same as the last time, and this runs every step
            self._check_layout(transitions)
            self._accepted_layout = layout
        count, row = len(transitions.action), self._next
        if count == 1:  # one environment: the case that must cost next to nothing
            states, actions, rewards, discounts, next_states, action_masks = self._arrays[:6]
            states[row], actions[row], rewards[row], discounts[row], next_states[row] = s[0], a[0], r[0], d[0], n[0]
            if action_mask is not None:
                action_masks[row] = action_mask[0]
            rows = row
        else:
            rows = self._write(transitions, count)
        self.sampler.added(rows)
        self._next = (row + count) % self.capacity
        self._size = min(self._size + count, self.capacity)

    def _write(self, transitions, count):
        """Store several transitions, of more than the capacity the newest; returns their rows."""
        rows = np.arange(self._next + count - min(count, self.capacity), self._next + count) % self.capacity
        for array, new in zip(self._arrays, transitions, strict=True):
            if new is not None:
                array[rows] = new[-self.capacity :]
        return rows

    def sample(self, *shape: int, replace: bool = False) -> Transition:
        """Draw transitions as copies: `sample(K, B)` are K minibatches of B, all different unless `replace`.

        Args:
            replace: whether one transition may be drawn twice.

        Returns:
            A `Transition` of arrays [*shape, ...], its `rows` among them.

        Raises:
            ValueError: the memory is empty, or holds fewer and `replace` is False.
        """
        count = math.prod(shape)
        if self._arrays is None or (count > self._size and not replace):
            raise ValueError(f"The memory holds {self._size} transitions, too few for this sample. Received: {count}")
        rows, weight = self.sampler.draw(self._size, shape, replace)
        weight = divided_by_largest(weight, shape)
        return self._arrays.each(lambda array: array[rows])._replace(weight=weight, rows=rows)

    def contents(self) -> Transition:
        """All transitions from the oldest to the newest, as copies: a `Transition` of arrays [len(memory), ...]."""
        if self._arrays is None:
            raise ValueError("The memory has no transitions yet. Received: 0")
        rows = (np.arange(self._size) + self._next - self._size) % self.capacity
        return self._arrays.each(lambda array: array[rows])

    @staticmethod
    def bytes_needed(capacity: int, state_shape: tuple[int, ...]) -> int:
        """How many bytes the arrays take, for float32 states."""
        return capacity * (2 * 4 * int(np.prod(state_shape)) + 8 + 4 + 4)

    def snapshot(self) -> dict[str, np.ndarray]:
        """What is stored, as a dict of arrays for `restore`; a memory without transitions has none."""
        if self._arrays is None:
            return {}
        arrays = {name: array[: self._size] for name, array in self._arrays._asdict().items() if array is not None}
        return {**arrays, "next_row": np.array(self._next), **self.sampler.snapshot()}

    def restore(self, arrays: dict[str, np.ndarray], state_shape: tuple[int, ...]) -> None:
        """Hold what `snapshot` of another memory gave; the arrays of a full one become this memory's own.

        Raises:
            ValueError: it was of another capacity, or of other states; nothing is changed.
        """
        fields = Transition(*(arrays[name] for name in Transition._fields[:5]), arrays.get("action_mask"))
        size, row = len(arrays["action"]), int(arrays["next_row"])
        if size > self.capacity or not 0 <= row < self.capacity or (size < self.capacity and row != size):
            raise ValueError(
                f"`memory_size` must be what it was: {size} steps are saved, the next goes to row {row}. "
                f"Received: {self.capacity}"
            )
        if fields[0].shape[1:] != tuple(state_shape):
            raise ValueError(f"The saved states must have shape {state_shape}. Received: {fields[0].shape[1:]}")
        self._arrays = fields
        if size < self.capacity:
            self._arrays = fields.each(lambda field: np.zeros((self.capacity, *field.shape[1:]), field.dtype))
            for array, field in zip(self._arrays, fields, strict=True):
                if field is not None:
                    array[:size] = field
        self._accepted_layout, self._size, self._next = None, size, row
        self.sampler = self.sampler.restored(arrays, np.arange(size), self.capacity)

    def _check_layout(self, transitions):
        count = len(transitions.action)
        for name, array, new in zip(Transition._fields, self._arrays, transitions, strict=True):
            if (array is None) != (new is None):
                raise ValueError(f"`{name}` must be in all transitions or in none. Received: {new}")
            if new is None:
                continue
            if new.shape != (count, *array.shape[1:]):
                raise ValueError(f"`{name}` must have shape {(count, *array.shape[1:])}. Received: {new.shape}")
            if new.dtype != array.dtype:
                raise ValueError(f"`{name}` must have dtype {array.dtype}. Received: {new.dtype}")
