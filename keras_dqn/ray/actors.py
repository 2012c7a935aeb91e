"""What an actor does: it plays some games with the weights that it is given, and sends what happened as one chunk.

Nothing here imports TensorFlow or Ray: an actor starts in about a second.
"""

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from keras_dqn.core.exploration import epsilon_greedy
from keras_dqn.core.loop import collect
from keras_dqn.core.settings import ShapeReward
from keras_dqn.core.transition import StepBatch


class Chunk(NamedTuple):
    """T rounds of M games, as one actor played them one after the other.

    Of states that are stacks each frame is there once: a stack of k is the frame of its round and the k - 1 before it.
    """

    actor: int
    life: int  # which of the actors of that number: one that was lost is followed by another
    number: int  # counts from 0 in each life
    updates: int  # that had been made to the weights which it was played with
    frames: np.ndarray  # [M, T + 1, *state_shape], the states; of stacks the newest frames, after k - 1 older ones
    begins: list  # (round, game, state) where an episode begins in the midst of it
    ends: list  # (round, game, its last state or frame) where one ends
    played: np.ndarray  # [T, M] bool, False where a round only reset that game
    actions: np.ndarray  # [T, M] int
    rewards: np.ndarray  # [T, M] float, the true ones
    terminal: np.ndarray  # [T, M] bool, as `StepBatch` has it
    done: np.ndarray  # [T, M] bool
    values: np.ndarray  # [T, M] float32, the highest Q-value of the state
    action_mask: np.ndarray | None  # [T, M, actions] bool, what may be done in the next state; None for everything
    node: str  # the machine
    seconds: float  # that it took

    @property
    def steps(self) -> int:
        """How many steps it holds."""
        return int(np.count_nonzero(self.played))

    @property
    def bytes(self) -> int:
        """About how much of it travels."""
        arrays = [field for field in self if isinstance(field, np.ndarray)]
        return sum(array.nbytes for array in [*arrays, *(state for _, _, state in [*self.begins, *self.ends])])


class Games:
    """M games and what acts in them, under way from one chunk to the next.

    Args:
        actor, life: its number, and which of that number it is.
        seed: a `np.random.SeedSequence`, of environments and random actions.
        make_envs: a function of M that makes them, a vector of environments in NEXT_STEP mode.
        games: M.
        forward: as `forward.forward_of` makes it.
        action_size: number of actions.
        hold: for how many steps a random action is held at most.
        masked: whether masks of actions are heeded.
        stack: of how many frames a state is; None where it is no stack.
    """

    def __init__(
        self,
        actor: int,
        life: int,
        seed: Any,
        make_envs: Callable[[int], VectorEnv],
        games: int,
        forward: Any,
        action_size: int,
        hold: int = 1,
        masked: bool = True,
        stack: int | None = None,
    ):
        self._actor, self._life, self._number = actor, life, 0
        env_seed, exploration_seed = seed.spawn(2)
        self._explore = epsilon_greedy(action_size, hold, exploration_seed)
        self._forward, self._stack = forward, stack
        self._epsilon, self._values = 1.0, None
        self._fresh = np.zeros(games, bool)  # whose episode has ended: its next step begins another
        seed = int(np.random.default_rng(env_seed).integers(2**31))
        self._steps = collect(self._act, make_envs(games), seed, masked=masked)

    def ready(self) -> bool:
        """Whether it is there: True."""
        return True

    def play(self, weights: np.ndarray, updates: int, epsilon: float, rounds: int) -> Chunk:
        """Play so many rounds with these weights: a `Chunk`.

        Args:
            weights: of the network, as one float32 vector.
            updates: how many had been made to them.
            epsilon: probability of a random action.
            rounds: T.
        """
        began = time.perf_counter()
        self._forward.refresh(weights)
        self._epsilon = epsilon
        for t in range(rounds):
            steps = next(self._steps)
            if t == 0:
                chunk = self._empty(steps.state, updates, rounds)
            chunk = self._note(chunk, t, steps)
        chunk.frames[steps.env_id, -1] = self._newest(steps.next_state)
        self._number += 1
        return chunk._replace(seconds=time.perf_counter() - began)

    def _act(self, states, action_mask=None):
        q_values = self._forward(states)
        self._values = q_values.max(-1)
        if action_mask is not None:
            q_values = np.where(action_mask, q_values, -np.inf)
        return self._explore(q_values.argmax(-1), self._epsilon, action_mask)

    def _newest(self, states):
        return states if self._stack is None else states[:, -1]

    def _empty(self, states, updates, rounds):
        shape = rounds, len(self._fresh)
        older, frame = (0, states.shape[1:]) if self._stack is None else (self._stack - 1, states.shape[2:])
        frames = np.zeros((shape[1], older + rounds + 1, *frame), states.dtype)
        flags = [np.zeros(shape, bool) for _ in range(3)]
        numbers = [np.zeros(shape, kind) for kind in (np.int64, np.float64, np.float32)]
        (played, terminal, done), (actions, rewards, values) = flags, numbers
        kept = frames, [], [], played, actions, rewards, terminal, done, values
        return Chunk(self._actor, self._life, self._number, updates, *kept, None, socket.gethostname(), 0.0)

    def _note(self, chunk, t, steps):
        """Write the steps of one round into the chunk."""
        games, older = steps.env_id, 0 if self._stack is None else self._stack - 1
        if t == 0 and older:
            chunk.frames[games, :older] = steps.state[:, :older]
        elif t and self._fresh[games].any():
            chunk.begins.extend((t, int(game), steps.state[row].copy()) for row, game in self._rows(games, self._fresh))
        self._fresh[games] = steps.done
        chunk.frames[games, older + t] = self._newest(steps.state)
        for name, field in ("actions", "action"), ("rewards", "raw_reward"), ("terminal",) * 2, ("done",) * 2:
            getattr(chunk, name)[t, games] = getattr(steps, field)
        chunk.played[t, games], chunk.values[t, games] = True, self._values[games]
        if steps.done.any():
            last = self._newest(steps.next_state)
            chunk.ends.extend((t, int(game), last[row].copy()) for row, game in self._rows(games, chunk.done[t]))
            self._explore.end_episodes(games[steps.done])
        if steps.action_mask is not None:
            if chunk.action_mask is None:
                chunk = chunk._replace(action_mask=np.ones((*chunk.played.shape, steps.action_mask.shape[-1]), bool))
            chunk.action_mask[t, games] = steps.action_mask
        return chunk

    @staticmethod
    def _rows(games, which):
        """(row, game) of the games for which `which`, [M] bool, is true."""
        return [(row, game) for row, game in enumerate(games) if which[game]]


def steps_of(
    chunk: Any, first: int, stack: int | None = None, shape_reward: ShapeReward | None = None, valued: bool = False
) -> Iterator[StepBatch]:
    """The `StepBatch` of a chunk, round by round, as `collect` would have made them.

    Args:
        chunk: a `Chunk`.
        first: the number of its first game among the environments of all actors.
        stack: of how many frames a state is; None where it is no stack.
        shape_reward: as `collect` takes it.
        valued: whether the steps carry the Q-values that they were acted on with, of each state the highest.
    """
    begins, ends = ({(t, game): state for t, game, state in some} for some in (chunk.begins, chunk.ends))
    done, whole = chunk.done.any(1).tolist(), chunk.played.all(1).tolist()  # by round
    games = np.arange(first, first + chunk.played.shape[1])
    older = 0 if stack is None else stack - 1
    now = _states(chunk.frames, 0, older, stack, {})
    under_way = {}  # game: (round it began in, first state), while a stack reaches back beyond that
    for t in range(len(chunk.played)):
        following = _states(chunk.frames, t + 1, older, stack, under_way)
        new = {game: state for (round_, game), state in begins.items() if round_ == t}
        if new:
            now = now.copy()
            for game, state in new.items():
                now[game] = state
            under_way |= {game: (t, state) for game, state in new.items()}
            following = _states(chunk.frames, t + 1, older, stack, under_way)
        under_way = {game: begun for game, begun in under_way.items() if t + 1 - begun[0] < older}
        after = following
        if done[t]:
            after = following.copy()
            for game in np.flatnonzero(chunk.done[t]).tolist():
                last = ends[t, game]
                after[game] = last if stack is None else np.concatenate([now[game][1:], last[None]])
        rows = slice(None) if whole[t] else np.flatnonzero(chunk.played[t])
        yield _round(chunk, t, games, rows, now, after, shape_reward, valued)
        now = following


def _states(frames, t, older, stack, under_way):
    """The states of round t, [M, …]: a view, unless an episode has begun so lately that a stack reaches beyond it."""
    if stack is None:
        return frames[:, t]
    states = frames[:, t : t + stack]
    if under_way:
        states = states.copy()
        for game, (begun, state) in under_way.items():
            states[game] = np.concatenate([state, frames[game, begun + stack : t + stack]])[-stack:]
    return states


def _round(chunk, t, games, rows, now, after, shape_reward, valued):
    """The `StepBatch` of round t, of those games that it did not just reset: `rows`."""
    state, action, true, next_state = now[rows], chunk.actions[t][rows], chunk.rewards[t][rows], after[rows]
    learned = true if shape_reward is None else np.asarray(shape_reward(state, action, true, next_state), float)
    flags = chunk.terminal[t][rows], chunk.done[t][rows]
    action_mask = None if chunk.action_mask is None else chunk.action_mask[t][rows]
    values = chunk.values[t][rows][:, None] if valued else None
    return StepBatch(state, action, learned, next_state, *flags, games[rows], true, action_mask, values)
