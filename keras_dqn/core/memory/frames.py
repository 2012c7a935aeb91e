"""What the agent remembers where a state is a stack of frames: each frame once, stacks rebuilt when sampled."""

import math

import numpy as np

from keras_dqn.checks import Seed
from keras_dqn.core.memory.sampling import SampledMemory, Uniform, divided_by_largest
from keras_dqn.core.transition import StepBatch, Transition

RINGS = "frames", "actions", "rewards", "terminal", "slot_type", "frames_since_reset"  # the arrays [games, slots, ...]
PADDINGS = "zero", "reset"
STEP, LAST, END = 0, 1, 2  # a step; the step that ended its game; no step, only the frame that a game ended with
_TYPE_BY_DONE = np.array([STEP, LAST], np.uint8)


class FrameMemory(SampledMemory):
    """A first-in-first-out memory of steps whose states are stacks of frames, of which each step adds one.

    Every game (environment) has a ring of its own, where a slot holds one frame, the newest of a state, and what was
    done there; the frame that a game ended with has a slot to itself. A sampled stack is rebuilt from the slots before:
    it never reaches beyond the start of its game (see `padding`), and a step whose stack or whose n steps are no
    longer, or not yet, all there is not drawn. n-step returns are summed at sampling: over at most n steps, and less at
    a game's end and where the bootstrap stops. The arrays are made of the first steps.

    Args:
        capacity: how many slots there are, over all games; rounded up to a multiple of their number.
        n_step: how many steps a transition spans at most.
        gamma: discount a step.
        seed: of the sampling; an int, a `np.random.SeedSequence`, or None for fresh entropy.
        padding: what takes the place of frames before a game's first: "zero" (as `AtariVectorEnv` stacks them), or
            "reset", that first frame.
        learning_starts: `ready` only with this many steps.
        sampler: says which are drawn; by default `sampling.Uniform`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        capacity: int,
        n_step: int = 1,
        gamma: float = 0.99,
        seed: Seed = None,
        padding: str = "zero",
        learning_starts: int = 0,
        sampler: Uniform | None = None,
    ):
        if padding not in PADDINGS:
            raise ValueError(f"`padding` must be one of {list(PADDINGS)}. Received: {padding!r}")
        super().__init__(capacity, sampler or Uniform(seed), learning_starts)
        self.n_step, self.gamma, self.padding = n_step, gamma, padding
        self._frames = self._games = None  # how many games there will be, where the first steps are of fewer
        self._steps = self._at_edges = 0  # stored; and of these at the ends of their rings, so perhaps not drawn

    @staticmethod
    def bytes_needed(capacity: int, state_shape: tuple[int, ...] = (4, 84, 84)) -> int:
        """How many bytes the arrays take once they are full, for uint8 frames."""
        return capacity * (int(np.prod(state_shape[1:])) + 4 + 4 + 1 + 1 + 1)

    def __len__(self) -> int:
        """How many of the stored steps can be drawn, at the least: not those at the edges of the rings."""
        return max(self._steps - self._at_edges, 0)

    def ready(self, shape: tuple[int, ...]) -> bool:
        """Whether there is enough to draw a sample of that shape."""
        return len(self) >= max(math.prod(shape), self.learning_starts)

    def remember(self, steps: StepBatch) -> None:
        """Store one step of each of the games (environments); the first call has all games there are.

        Args:
            steps: `StepBatch` whose states are [N, stack, height, width] uint8, the newest frame last.

        Raises:
            ValueError: the memory is too small for as many games, at the first call.
        """
        games, done = steps.env_id, steps.done
        if self._frames is None:
            self._allocate(steps.state, self._games)
            self.sampler.make_room(self._slot_type.size)
        slots = self._written[games] % self._length
        self._replace(games, slots)
        self._frames[games, slots] = steps.state[:, -1]
        self._actions[games, slots] = steps.action
        self._rewards[games, slots] = steps.reward
        self._terminal[games, slots] = steps.terminal
        self._slot_type[games, slots] = _TYPE_BY_DONE.take(done)
        self._frames_since_reset[games, slots] = ages = self._age[games]
        self._age[games] = self._older[ages]
        self._written[games] += 1
        self._steps += len(games)
        self.sampler.added(games * self._length + slots)
        if np.count_nonzero(done):
            over = games[done]
            slots = self._written[over] % self._length
            self._replace(over, slots)
            self._frames[over, slots] = steps.next_state[done, -1]
            self._slot_type[over, slots] = END
            self.sampler.removed(over * self._length + slots)
            self._frames_since_reset[over, slots] = self._age[over]
            self._age[over] = 0
            self._written[over] += 1

    def expect(self, games: int) -> None:
        """Make room for so many games: the first steps will be of some of them alone.

        Raises:
            ValueError: there are steps of another number.
        """
        if self._frames is not None and len(self._frames) != games:
            raise ValueError(f"The memory has a ring for each of {len(self._frames)} games. Received: {games} games")
        self._games = games

    def begin_episodes(self, environments: np.ndarray | None = None) -> None:
        """Close the games under way, these or all: the last frame is the one it ended with, as if truncated there."""
        if self._frames is None:
            return
        for game in np.flatnonzero(self._written) if environments is None else environments:
            if not self._written[game]:
                continue
            newest = (self._written[game] - 1) % self._length
            if self._slot_type[game, newest] != STEP:
                continue
            self._slot_type[game, newest] = END
            self.sampler.removed(game * self._length + newest)
            self._steps -= 1
            before = (newest - 1) % self._length
            if self._written[game] > 1 and self._slot_type[game, before] == STEP:  # else LAST or END
                self._slot_type[game, before] = LAST
            self._age[game] = 0

    def sample(self, *shape: int) -> Transition:
        """Draw steps (one may be drawn twice), as n-step transitions: arrays [*shape, ...].

        Raises:
            ValueError: the memory holds no step whose stack and whose n steps are all there.
        """
        rows, weight = self._draw(count := math.prod(shape))
        weight = divided_by_largest(weight, shape)
        games, steps = self._located(rows)
        rewards, discounts = np.zeros(count, np.float32), np.ones(count, np.float32)
        alive, spans = np.ones(count, bool), np.zeros(count, int)
        for k in range(self.n_step):
            at = (steps + k) % self._length
            rewards += np.where(alive, discounts * self._rewards[games, at], 0)
            terminal = self._terminal[games, at]
            discounts *= np.where(alive, np.where(terminal, 0, self.gamma), 1).astype(np.float32)
            spans += alive
            alive &= ~terminal & (self._slot_type[games, at] == STEP)
        states, slots = self._stacks(games, steps), steps % self._length
        next_states = self._stacks(games, steps + spans)
        drawn = Transition(states, self._actions[games, slots], rewards, discounts, next_states, None, weight, rows)
        return drawn.each(lambda field: field.reshape(*shape, *field.shape[1:]))

    def snapshot(self) -> dict[str, np.ndarray]:
        """What is stored, as a dict of arrays for `restore`; a memory without steps has none."""
        if self._frames is None:
            return {}
        filled = min(int(self._written.max()), self._length)
        arrays = {name: getattr(self, f"_{name}")[:, :filled] for name in RINGS}
        state = {"written": self._written, "age": self._age, "layout": np.array([self._length, self._stack])}
        return {**arrays, **state, **self.sampler.snapshot()}

    def restore(self, arrays: dict[str, np.ndarray], state_shape: tuple[int, ...]) -> None:
        """Hold what `snapshot` of another memory gave; the arrays of a full one become this memory's own.

        Raises:
            ValueError: it was of another capacity, or of other frames or stacks; nothing is changed.
        """
        games, filled, *frame_shape = arrays["frames"].shape
        length, stack = arrays["layout"].tolist()
        if (stack, *frame_shape) != tuple(state_shape):
            raise ValueError(f"The saved stacks must be {tuple(state_shape)}. Received: {(stack, *frame_shape)}")
        if length != -(-self.capacity // games) or filled > length:
            raise ValueError(
                f"`memory_size` must be what it was: {games * length} steps of {games} games. Received: {self.capacity}"
            )
        self._allocate(np.zeros((games, *state_shape), arrays["frames"].dtype))
        for name in RINGS:
            if filled == length:
                setattr(self, f"_{name}", arrays[name])
            else:
                getattr(self, f"_{name}")[:, :filled] = arrays[name]
        self._written[:], self._age[:] = arrays["written"], arrays["age"]
        there = np.arange(self._length) < np.minimum(self._written, self._length)[:, None]
        steps = there & (self._slot_type != END)
        self._steps = int(np.count_nonzero(steps))
        self.sampler = self.sampler.restored(arrays, np.flatnonzero(steps), steps.size)

    def _allocate(self, states, games=None):
        count, self._stack, *frame_shape = states.shape
        games = games or count
        self._length = -(-self.capacity // games)
        fewest = self._stack + self.n_step + 1
        if self._length < fewest:
            raise ValueError(
                f"`capacity` must be at least {games * fewest} steps for {games} games with stacks of {self._stack} "
                f"frames and n_step={self.n_step}. Received: {self.capacity}"
            )
        self._at_edges = games * (self._stack - 1 + self.n_step)
        shape = games, self._length
        self._frames = np.zeros((*shape, *frame_shape), states.dtype)
        self._actions, self._rewards = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        self._terminal = np.zeros(shape, bool)
        self._slot_type, self._frames_since_reset = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        self._written = np.zeros(games, int)  # slots ever written of each game; step s is in slot s % length
        self._age = np.zeros(games, int)  # how many frames of its game the next stack can look back on, at most stack-1
        self._older = np.minimum(np.arange(self._stack) + 1, self._stack - 1)  # by age, what it is a step later

    def _replace(self, games, slots):
        """The slots are about to be overwritten: count no longer what they hold."""
        full = self._written[games] >= self._length
        self._steps -= int(np.count_nonzero(full & (self._slot_type[games, slots] != END)))

    def _draw(self, count):
        """The rows of steps that can be drawn, [count], and their weights, or None."""
        if not (stored := 0 if self._frames is None else int(np.minimum(self._written, self._length).sum())):
            raise ValueError(f"The memory holds no steps yet. Received: {count}")
        rows, weights = [], []
        for _ in range(1000):  # nearly always once: few slots hold no step, or one at the edge of a ring
            drawn, weight = self.sampler.draw(stored, (count - sum(map(len, rows)),), True, self._row_of)
            whole = self._is_whole(*self._located(drawn))
            rows.append(drawn[whole])
            weights.append(None if weight is None else weight[whole])
            if sum(map(len, rows)) == count:
                return np.concatenate(rows), None if weight is None else np.concatenate(weights)
        raise ValueError(f"The memory holds {self._steps} steps, none with its stack and n steps. Received: {count}")

    def _row_of(self, numbers):
        """The rows of what is stored by number: game after game, of each the newest first."""
        stored = np.minimum(self._written, self._length)
        ends = np.cumsum(stored)
        games = np.searchsorted(ends, numbers, side="right")
        steps = self._written[games] - 1 - (numbers - (ends - stored)[games])
        return games * self._length + steps % self._length

    def _located(self, rows):
        """The games of rows, and which of their steps it is that each holds."""
        games, slots = np.divmod(rows, self._length)
        newest = self._written[games] - 1
        return games, newest - (newest - slots) % self._length

    def _is_whole(self, games, steps):
        """Whether each slot, [N], holds a step, its stack is still there, and its n steps are there already."""
        slots, newest = steps % self._length, self._written[games] - 1
        oldest = np.maximum(newest + 1 - self._length, 0)
        whole = (self._slot_type[games, slots] != END) & (steps - self._frames_since_reset[games, slots] >= oldest)
        alive = whole.copy()
        for k in range(self.n_step):
            whole &= ~alive | (steps + k < newest)  # the slot after this one holds the next state
            at = (steps + k) % self._length
            alive &= whole & ~self._terminal[games, at] & (self._slot_type[games, at] == STEP)
        return whole

    def _stacks(self, games, steps):
        """The states of these steps, [N, stack, height, width]."""
        back = np.arange(self._stack - 1, -1, -1)  # how many steps back each frame of a stack is
        ages = self._frames_since_reset[games, steps % self._length][:, None]
        slots = (steps[:, None] - np.minimum(back, ages)) % self._length  # where there is none, the game's first
        stacks = self._frames[games[:, None], slots]
        if self.padding == "zero":
            stacks[back > ages] = 0
        return stacks
