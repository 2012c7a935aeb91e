"""What an actor does: it plays some games with the weights that it is given, and sends what happened as one chunk.

Nothing here imports TensorFlow or Ray: an actor starts in about a second, unless only Keras knows its network's layers.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from keras_dqn.core.exploration import epsilon_greedy
from keras_dqn.core.loop import collect
from keras_dqn.core.networks.numpy_forward import NumpyForward, layers_of
from keras_dqn.core.settings import ShapeReward
from keras_dqn.core.transition import StepBatch

if TYPE_CHECKING:
    from keras_dqn.backend import keras
    from keras_dqn.core.objectives.objective import Objective


class Chunk(NamedTuple):
    """T rounds of M games, as one actor played them one after the other.

    Each frame of stacks of k is there once: the stack of round t is frames t to t + k - 1, the newest last. Where an
    episode began less than k rounds before, its stacks hold what was never a frame of the game, and are there whole.
    """

    updates: int  # that had been made to the weights which it was played with
    frames: np.ndarray  # [M, T + 1, *state_shape], or of stacks [M, T + k, *frame_shape]
    stack: int | None  # k; None where states are no stacks
    whole: list[tuple[int, int, np.ndarray]]  # (round, game, its stack)
    rounds: list[tuple[int, int]]  # (round, of how many games it is a step) where it is of any; the others reset
    steps: StepBatch  # of all rounds, one after the other, without their states

    @property
    def bytes(self) -> int:
        """About how much of it travels."""
        arrays = [self.frames, *(stack for _, _, stack in self.whole), *self.steps]
        return sum(array.nbytes for array in arrays if array is not None)

    def states(self, t: int) -> np.ndarray:
        """The states of round t, [M, *state_shape]: a view where that is possible."""
        if self.stack is None:
            return self.frames[:, t]
        states = self.frames[:, t : t + self.stack]
        if whole := [(game, stack) for at, game, stack in self.whole if at == t]:
            states = states.copy()
            for game, stack in whole:
                states[game] = stack
        return states


class Games:
    """M games and what acts in them, under way from one chunk to the next.

    Args:
        seed: a `np.random.SeedSequence`, of environments and random actions.
        make_envs: a function of M that makes them, a vector of environments in NEXT_STEP mode.
        games: M.
        forward: as `forward_of` makes it.
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
        self._forward, self._games, self._stack = forward, games, stack
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
        self._epsilon, played, t = epsilon, [], 0
        for _ in range(rounds):
            steps = next(self._steps)
            self._policy.end_episodes(steps.env_id[steps.done])
            played.append((t, steps._replace(q_values=self._highest[steps.env_id, None])))
            t += 2 if np.count_nonzero(steps.done) == self._games else 1  # in the next all of them are reset
        frames, whole = self._frames(played, t)
        fields = zip(*[steps._replace(state=None, next_state=None) for _, steps in played], strict=True)
        together = StepBatch(*[None if field[0] is None else np.concatenate(field) for field in fields])
        return Chunk(updates, frames, self._stack, whole, [(t, len(steps.done)) for t, steps in played], together)

    def _act(self, states, action_mask=None):
        q_values = self._forward(states, self._policy.random)
        self._highest = q_values.max(-1)
        return self._policy(q_values, self._epsilon, action_mask)

    def _frames(self, played, rounds):
        """The states of a chunk, each frame once, and the stacks that are not made of these frames."""
        depth, whole, states = self._stack or 1, [], played[0][1].state
        frame = states.shape[1:] if self._stack is None else states.shape[2:]
        frames = np.zeros((self._games, depth + rounds, *frame), states.dtype)
        shown = np.zeros(self._games, int)  # how many of its episode's frames a game has there in a row
        for t, steps in played:
            games = steps.env_id
            now, after = (states.reshape(len(games), depth, *frame) for states in (steps.state, steps.next_state))
            if t == 0:
                frames[games, :depth], shown[games] = now, depth - 1
            frames[games, t + depth - 1], frames[games, t + depth] = now[:, -1], after[:, -1]
            shown[games] += 1
            for row in np.flatnonzero(shown[games] < depth):
                whole += [(t, games[row], now[row]), (t + 1, games[row], after[row])]
            shown[games[steps.done]] = 0
        return frames, whole


def steps_of(
    chunk: Chunk, first: int, shape_reward: ShapeReward | None = None, valued: bool = False
) -> Iterator[StepBatch]:
    """The `StepBatch` of a chunk, round by round, as `collect` would have made them.

    Args:
        chunk: a `Chunk`.
        first: the number of its first game among the environments of all actors.
        shape_reward: as `collect` takes it.
        valued: whether the steps carry the Q-values that they were acted on with, of each state the highest.
    """
    end = 0
    for t, count in chunk.rounds:
        begin, end = end, end + count
        steps = StepBatch(*[None if field is None else field[begin:end] for field in chunk.steps])
        games = slice(None) if count == len(chunk.frames) else steps.env_id  # a view where all were stepped
        state, next_state, reward = chunk.states(t)[games], chunk.states(t + 1)[games], steps.raw_reward
        if shape_reward is not None:
            reward = np.asarray(shape_reward(state, steps.action, reward, next_state), float)
        yield steps._replace(
            state=state,
            reward=reward,
            next_state=next_state,
            env_id=steps.env_id + first,
            q_values=steps.q_values if valued else None,
        )


# ---------------------------------------------------------------- what acts there


def forward_of(brain: "keras.Model", objective: "Objective | None" = None) -> "NumpyForward | KerasForward":
    """What acts like the brain elsewhere: a `NumpyForward` where its layers are known, else a `KerasForward`.

    Args:
        objective: makes Q-values of its outputs; None where they are Q-values.
    """
    layers = layers_of(brain, [] if objective is None else objective.q_layers())
    return KerasForward(brain, objective) if layers is None else NumpyForward(layers)


class KerasForward:
    """The brain itself, with TensorFlow, where the layers are others."""

    def __init__(self, brain: "keras.Model", objective: "Objective | None" = None):
        from keras_dqn.backend import keras
        from keras_dqn.core.networks.layers import is_noisy
        from keras_dqn.core.objectives.objective import Objective

        self._brain, self._objective = keras.models.clone_model(brain), objective or Objective()
        self._is_noisy = is_noisy(brain)

    def refresh(self, flat_weights: np.ndarray) -> None:
        """Take over new weights: all of the brain's, in order, as one float32 vector."""
        for weight in self._brain.weights:
            size = int(np.prod(weight.shape))
            weight.assign(flat_weights[:size].reshape(weight.shape))
            flat_weights = flat_weights[size:]

    def __call__(self, states: np.ndarray, noise: np.random.Generator | None = None) -> np.ndarray:
        """Q-values, float32 [N, actions], of states [N, *state_shape]; with noise drawn for all of them, or without."""
        from keras_dqn.core.loss import acting_values

        draw = None if noise is None or not self._is_noisy else int(noise.integers(2**31))
        return np.asarray(acting_values(self._brain, self._objective, states, draw))
