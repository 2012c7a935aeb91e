"""What an actor does: it plays some games with the weights that it is given, and sends what happened as one chunk.

Nothing here imports TensorFlow or Ray: an actor starts in about a second.
"""

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

    updates: int  # that had been made to the weights which it was played with
    frames: np.ndarray  # [M, T + 1, *state_shape], the states; of stacks the newest frames, after k - 1 older ones
    begins: list  # (round, game, first state) where an episode begins in the midst of it; of stacks alone
    ends: list  # (round, game, its last state or frame) where one ends
    played: np.ndarray  # [T, M] bool, False where a round only reset that game
    actions: np.ndarray  # [T, M] int
    rewards: np.ndarray  # [T, M] float, the true ones
    terminal: np.ndarray  # [T, M] bool, as `StepBatch` has it
    done: np.ndarray  # [T, M] bool
    values: np.ndarray  # [T, M] float32, the highest Q-value of the state
    action_mask: np.ndarray | None  # [T, M, actions] bool, what may be done in the next state; None for everything

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
        seed: np.random.SeedSequence,
        make_envs: Callable[[int], VectorEnv],
        games: int,
        forward: Any,
        action_size: int,
        hold: int = 1,
        masked: bool = True,
        stack: int | None = None,
    ):
        env_seed, exploration_seed = seed.spawn(2)
        self._policy, self._epsilon = epsilon_greedy(action_size, hold, exploration_seed), 1.0
        self._forward, self._stack, self._values = forward, stack, None
        self._fresh = np.zeros(games, bool)  # whose episode has ended: its next step begins another
        seed = int(np.random.default_rng(env_seed).integers(2**31))
        self._steps = collect(self._act, make_envs(games), seed, masked=masked)

    def play(self, weights: np.ndarray, updates: int, epsilon: float, rounds: int) -> Chunk:
        """Play so many rounds with these weights: a `Chunk`.

        Args:
            weights: of the network, as one float32 vector.
            updates: how many had been made to them.
            epsilon: probability of a random action.
            rounds: T.
        """
        self._forward.refresh(weights)
        self._epsilon = epsilon
        for t in range(rounds):
            steps = next(self._steps)
            if t == 0:
                chunk = self._empty(steps, updates, rounds)
            self._note(chunk, t, steps)
        chunk.frames[steps.env_id, -1] = self._newest(steps.next_state)
        return chunk

    def _act(self, states, action_mask=None):
        q_values = self._forward(states)
        self._values = q_values.max(-1)
        return self._policy(q_values, self._epsilon, action_mask)

    def _newest(self, states):
        return states if self._stack is None else states[:, -1]

    def _empty(self, steps, updates, rounds):
        """A chunk that begins with these steps, before they are noted in it."""
        shape = rounds, len(self._fresh)
        frame, older = self._newest(steps.state).shape[1:], 0 if self._stack is None else self._stack - 1
        frames = np.zeros((shape[1], older + rounds + 1, *frame), steps.state.dtype)
        if older:
            frames[steps.env_id, :older] = steps.state[:, :older]
        played, terminal, done = (np.zeros(shape, bool) for _ in range(3))
        actions, rewards, values = (np.zeros(shape, kind) for kind in (np.int64, np.float64, np.float32))
        masks = None if steps.action_mask is None else np.ones((*shape, steps.action_mask.shape[-1]), bool)
        kept = frames, [], [], played, actions, rewards, terminal, done, values, masks
        return Chunk(updates, *kept)

    def _note(self, chunk, t, steps):
        """Write the steps of one round into the chunk."""
        games, done = steps.env_id, steps.done
        if t and self._stack is not None:
            rows = np.flatnonzero(self._fresh[games]).tolist()
            chunk.begins.extend((t, int(games[row]), steps.state[row].copy()) for row in rows)
        self._fresh[games] = done
        chunk.frames[games, chunk.frames.shape[1] - len(chunk.played) - 1 + t] = self._newest(steps.state)
        chunk.played[t, games], chunk.values[t, games] = True, self._values[games]
        chunk.actions[t, games], chunk.rewards[t, games] = steps.action, steps.raw_reward
        chunk.terminal[t, games], chunk.done[t, games] = steps.terminal, done
        if done.any():
            last, rows = self._newest(steps.next_state), np.flatnonzero(done).tolist()
            chunk.ends.extend((t, int(games[row]), last[row].copy()) for row in rows)
            self._policy.end_episodes(games[done])
        if steps.action_mask is not None:
            chunk.action_mask[t, games] = steps.action_mask


def steps_of(
    chunk: Chunk, first: int, stack: int | None = None, shape_reward: ShapeReward | None = None, valued: bool = False
) -> Iterator[StepBatch]:
    """The `StepBatch` of a chunk, round by round, as `collect` would have made them.

    Args:
        chunk: a `Chunk`.
        first: the number of its first game among the environments of all actors.
        stack: of how many frames a state is; None where it is no stack.
        shape_reward: as `collect` takes it.
        valued: whether the steps carry the Q-values that they were acted on with, of each state the highest.
    """
    done, whole = chunk.done.any(1).tolist(), chunk.played.all(1).tolist()  # by round
    games = np.arange(first, first + chunk.played.shape[1])
    ends = {(t, game): state for t, game, state in chunk.ends}
    begun = {}  # game: (round it began in, first state), while a stack reaches back beyond that
    for t in range(len(chunk.played)):
        begun |= {game: (t, state) for round_, game, state in chunk.begins if round_ == t}
        now, after = (_states(chunk.frames, at, stack, begun) for at in (t, t + 1))
        begun = {game: (round_, state) for game, (round_, state) in begun.items() if t + 2 - round_ < stack}
        if done[t]:
            after = after.copy()
            for game in np.flatnonzero(chunk.done[t]).tolist():
                last = ends[t, game]
                after[game] = last if stack is None else np.concatenate([now[game][1:], last[None]])
        rows = slice(None) if whole[t] else np.flatnonzero(chunk.played[t])  # a game that is only reset has no step
        state, action, raw_reward, next_state = now[rows], chunk.actions[t][rows], chunk.rewards[t][rows], after[rows]
        reward = raw_reward
        if shape_reward is not None:
            reward = np.asarray(shape_reward(state, action, raw_reward, next_state), float)
        flags = chunk.terminal[t][rows], chunk.done[t][rows]
        mask = None if chunk.action_mask is None else chunk.action_mask[t][rows]
        values = chunk.values[t][rows][:, None] if valued else None
        yield StepBatch(state, action, reward, next_state, *flags, games[rows], raw_reward, mask, values)


def _states(frames, t, stack, begun):
    """The states of round t, [M, …]: a view, unless an episode has begun so lately that a stack reaches beyond it."""
    if stack is None:
        return frames[:, t]
    states = frames[:, t : t + stack]
    if begun:
        states = states.copy()
        for game, (round_, state) in begun.items():
            states[game] = np.concatenate([state, frames[game, round_ + stack : t + stack]])[-stack:]
    return states
