"""What the agent remembers: transitions in preallocated arrays, the oldest overwritten first."""

from typing import NamedTuple

import numpy as np


class Transition(NamedTuple):
    """One step of experience, or a batch of them: then every field has the same leading axes.

    `discount` takes the place of a `done` flag (as in DeepMind's dqn_zoo): 0 where the episode terminated, gamma
    (gamma^n over n steps) everywhere else, a truncated last step included. A target is then always
    `reward + discount * value`.
    """

    state: np.ndarray  # [..., *state_shape], the environment's dtype
    action: np.ndarray  # [...], int
    reward: np.ndarray  # [...], float32
    discount: np.ndarray  # [...], float32
    next_state: np.ndarray  # [..., *state_shape]


class ReplayMemory:
    """A first-in-first-out memory of transitions (Lin 1992), sampled uniformly.

    The arrays are allocated once, at the first `add`, from the shape and dtype of its transitions, so the same class
    holds four floats or a uint8 frame a state.

    Args:
        capacity: how many transitions are kept; the oldest makes room for the newest.
        seed: of the sampling; an int, a `np.random.SeedSequence`, or None for fresh entropy.

    Example:
        memory = ReplayMemory(2000, seed=0)
        memory.add(Transition(states, actions, rewards, discounts, next_states))  # [N, ...] each
        batch = memory.sample(32)
    """

    def __init__(self, capacity, seed=None):
        if not isinstance(capacity, int | np.integer) or capacity < 1:
            raise ValueError(f"`capacity` must be a whole number of transitions, 1 or more. Received: {capacity!r}")
        self.capacity = int(capacity)
        self.random = np.random.default_rng(seed)
        self._arrays = None  # a Transition of arrays [capacity, ...], from the first `add` on
        self._accepted_layout = None
        self._size = 0
        self._next = 0  # the row that the next transition goes to

    def __len__(self):
        """The number of transitions stored, at most `capacity`."""
        return self._size

    def add(self, transitions):
        """Store N transitions, in order; every field has the leading axis N.

        Raises:
            ValueError: a field's shape or dtype is not that of the first transitions stored; nothing is stored then.
        """
        if self._arrays is None:
            self._arrays = Transition(*(np.zeros((self.capacity, *new.shape[1:]), new.dtype) for new in transitions))
        s, a, r, d, n = transitions
        layout = (s.shape, a.shape, r.shape, d.shape, n.shape, s.dtype, a.dtype, r.dtype, d.dtype, n.dtype)
        if layout != self._accepted_layout:  # almost always the same as the last time, and this runs every step
            self._check_layout(transitions)
            self._accepted_layout = layout
        count = len(transitions.action)
        end = self._next + count
        if count == 1:  # one environment: the case that must cost next to nothing
            states, actions, rewards, discounts, next_states = self._arrays
            row = self._next
            states[row], actions[row], rewards[row], discounts[row], next_states[row] = s[0], a[0], r[0], d[0], n[0]
        else:
            self._write(transitions, count, end)
        self._next = end % self.capacity
        self._size = min(self._size + count, self.capacity)

    def _write(self, transitions, count, end):
        if end <= self.capacity:
            rows = slice(self._next, end)
        else:
            rows = np.arange(end - min(count, self.capacity), end) % self.capacity
            transitions = [new[-self.capacity :] for new in transitions]
        for array, new in zip(self._arrays, transitions, strict=True):
            array[rows] = new

    def sample(self, count, replace=False):
        """Draw `count` transitions uniformly, as copies: a `Transition` of arrays [count, ...].

        Args:
            count: how many.
            replace: whether one transition may be drawn twice.

        Raises:
            ValueError: the memory is empty, or holds fewer than `count` and `replace` is False.
        """
        if self._size == 0 or (count > self._size and not replace):
            raise ValueError(f"The memory holds {self._size} transitions, too few for this sample. Received: {count}")
        rows = (
            self.random.integers(self._size, size=count)
            if replace
            else self.random.choice(self._size, count, replace=False)
        )
        return Transition(*(array[rows] for array in self._arrays))

    def contents(self):
        """All transitions from the oldest to the newest, as copies: a `Transition` of arrays [len(memory), ...]."""
        if self._arrays is None:
            raise ValueError("The memory has no transitions yet. Received: 0")
        rows = (np.arange(self._size) + self._next - self._size) % self.capacity
        return Transition(*(array[rows] for array in self._arrays))

    @staticmethod
    def bytes_needed(capacity, state_shape):
        """How many bytes the arrays take, for float32 states."""
        return capacity * (2 * 4 * int(np.prod(state_shape)) + 8 + 4 + 4)

    def state(self):
        """What is stored, as a dict of arrays for `restore`; a memory without transitions has none."""
        if self._arrays is None:
            return {}
        arrays = {name: array[: self._size] for name, array in zip(Transition._fields, self._arrays, strict=True)}
        return {**arrays, "next_row": np.array(self._next)}

    def restore(self, arrays, state_shape):
        """Hold what `state` of another memory gave.

        Raises:
            ValueError: it was of another capacity, or of other states; nothing is changed.
        """
        fields = [arrays[name] for name in Transition._fields]
        size, row = len(arrays["action"]), int(arrays["next_row"])
        if size > self.capacity or not 0 <= row < self.capacity or (size < self.capacity and row != size):
            raise ValueError(
                f"`memory_size` must be what it was: {size} steps are saved, the next goes to row {row}. "
                f"Received: {self.capacity}"
            )
        if fields[0].shape[1:] != tuple(state_shape):
            raise ValueError(f"The saved states must have shape {state_shape}. Received: {fields[0].shape[1:]}")
        self._arrays = Transition(*(np.zeros((self.capacity, *field.shape[1:]), field.dtype) for field in fields))
        for array, field in zip(self._arrays, fields, strict=True):
            array[:size] = field
        self._accepted_layout, self._size, self._next = None, size, row

    def _check_layout(self, transitions):
        count = len(transitions.action)
        for name, array, new in zip(Transition._fields, self._arrays, transitions, strict=True):
            if new.shape != (count, *array.shape[1:]):
                raise ValueError(f"`{name}` must have shape {(count, *array.shape[1:])}. Received: {new.shape}")
            if new.dtype != array.dtype:
                raise ValueError(f"`{name}` must have dtype {array.dtype}. Received: {new.dtype}")
