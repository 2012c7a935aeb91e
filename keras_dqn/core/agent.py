"""The agent: a memory, a policy and a learner, under the CartPole notebook's words."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from keras_dqn.checks import Seed, all_finite, as_batch, check_fraction, check_integer, check_states, seed_sequence
from keras_dqn.core.counting import Every
from keras_dqn.core.exploration import BETA, ByReplays, BySteps, epsilon_greedy
from keras_dqn.core.memory.frames import FrameMemory
from keras_dqn.core.memory.n_step import NStep
from keras_dqn.core.memory.prioritized import ALPHA, Prioritized
from keras_dqn.core.memory.replay import Memory, OneStep, ReplayMemory
from keras_dqn.core.memory.rollout import RolloutMemory
from keras_dqn.core.memory.sampling import Uniform
from keras_dqn.core.settings import Settings, check_keywords, shown_signature
from keras_dqn.core.status import AgentStatus
from keras_dqn.core.transition import StepBatch
from keras_dqn.environments.vector import as_scalar

if TYPE_CHECKING:  # learners import TensorFlow, which `collect` does without
    from keras_dqn.backend import keras
    from keras_dqn.core.learner import AnyLearner

LARGEST = float(np.finfo(np.float32).max) ** 2  # a sum of squares below this is of numbers that float32 can hold


class Agent(AgentStatus):
    """A deep Q-learning agent with the names and defaults of the CartPole notebook (G. Juvin 2017).

    Args:
        state_size: length of the state vector, or the shape of a state.
        action_size: number of actions.
        weight_backup: the .h5 file that `save_model` writes. Where it is there already, it is loaded on construction
            and exploration starts at its minimum. None for no backup.
        brain: any Keras model, states [B, *state_shape] to Q-values [B, action_size]; one that is compiled keeps its
            optimizer. By default a Sequential of two Dense layers of 24.
        network: options of `networks.mlp` for another default brain: `{"hidden": (64, 64), "dueling": True}`; or a
            function of state shape, `action_size` and `seed` that makes one.
        memory: a `Memory` of the caller's own, instead of the one that the settings describe.
        seed: covers initial weights, sampling and exploration: an int, a `np.random.SeedSequence`, or None.
        load_backup: False starts afresh even where the backup is there.
        **settings: the fields of `MemorySettings`, `LearnerSettings` and `ExplorationSettings`.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: there is no setting of that name; the message has the nearest.
        WeightFileError: the backup is there and is not this network's.

    Example:
        agent = Agent(state_size=4, action_size=2)
        action = agent.act(state)
        agent.remember(state, action, reward, next_state, done)
        agent.replay()
        agent.save_model()
    """

    def __init__(
        self,
        state_size: int | tuple[int, ...],
        action_size: int,
        weight_backup: str | Path | None = "cartpole_weight.h5",
        *,
        brain: "keras.Model | None" = None,
        network: dict[str, Any] | Callable[..., Any] | None = None,
        memory: Memory | None = None,
        seed: Seed = None,
        load_backup: bool = True,
        **settings: Any,
    ):
        check_keywords(type(self).__name__, settings, Settings.names())
        self.settings = Settings().but(**settings)
        self.state_size, self.action_size = state_size, check_integer("action_size", action_size)
        self.state_shape = _shape_of(state_size)
        if brain is None and network is None and hasattr(self, "_build_model"):
            helps = "nobody calls it: give the model that it makes as `brain`"
            raise TypeError(f"`_build_model` is of 2017, and {helps}. Received: {type(self).__name__}")
        self.weight_backup = None if weight_backup is None else Path(weight_backup)
        network_seed, memory_seed, exploration_seed = seed_sequence(seed).spawn(3)
        if memory is None:
            memory = _make_memory(self.settings, memory_seed, self.q_values)
        self.memory = memory
        self.epsilon_schedule = _make_epsilon_schedule(self.settings.exploration)
        hold = self.settings.exploration.hold_random_actions
        self.policy = epsilon_greedy(self.action_size, hold, exploration_seed)
        self.learner = self.make_learner(brain, network, network_seed)
        self._n_step = self.settings.memory.n_step
        self._reward_limit = LARGEST / self._n_step**2
        self.steps = self.episodes = 0  # remembered since exploration began; ended ones
        self._awaits_first_terminal = self.settings.memory.wait_for_terminal
        self._last_q_values = None  # [N, actions], of the states that were acted in last
        self._last_checked_states = None  # the next states that were remembered last, mostly the next step's states
        copy_every = self.settings.learner.target_update_episodes
        self._copies_due = None if copy_every is None else Every(copy_every)
        if load_backup and self.weight_backup is not None:
            self.load_backup()

    def make_learner(
        self, brain: "keras.Model | None", network: dict[str, Any] | Callable[..., Any] | None, seed: Seed
    ) -> "AnyLearner":
        """The learner of a brain; the agent of another library makes another."""
        from keras_dqn.core.learner import make_learner

        own = self.state_shape, self.action_size, self.settings.learner, seed
        return make_learner(brain, network, *own, self.memory.bootstraps, self.settings.memory.n_step)

    # ---------------------------------------------------------------- one state at a time, as the notebook does

    def act(self, state: ArrayLike, epsilon: float | None = None) -> int:
        """Choose an action for one state: random with probability epsilon, else the one of the highest Q-value.

        Args:
            state: [*state_shape], or [1, *state_shape] as the notebook passes it; finite numbers.
            epsilon: probability of a random action, without noise; by default `exploration_rate`, with noise.

        Returns:
            An int, 0 to action_size - 1.
        """
        noise = self.policy.random if epsilon is None else None
        epsilon = self.epsilon if epsilon is None else check_fraction("epsilon", epsilon)
        return int(self.policy(self.q_values(as_batch(state, self.state_shape, "state"), noise), epsilon)[0])

    def remember(
        self, state: ArrayLike, action: Any, reward: Any, next_state: ArrayLike, done: Any, truncated: Any = False
    ) -> None:
        """Store one transition.

        Args:
            state, next_state: [*state_shape] or [1, *state_shape], finite.
            action: int, 0 to action_size - 1.
            reward: a finite number, or an array of one.
            done: whether `next_state` is terminal, so that nothing follows it. A time limit (`truncated`) is not the
                end of the world: pass gymnasium's `terminated` alone.
            truncated: whether the episode ends here all the same; n-step transitions do not span two episodes.
        """
        state = as_batch(state, self.state_shape, "state")
        next_state = as_batch(next_state, self.state_shape, "next_state")
        kept = {np.dtype(np.uint8), getattr(self._last_checked_states, "dtype", None)}
        if state.dtype.kind == "f" or state.dtype not in kept:  # whatever numbers come are learned from in float32
            state, next_state = state.astype(np.float32), next_state.astype(np.float32)
        whole = as_scalar("action", action)
        if whole not in range(self.action_size) or np.asarray(action).dtype.kind == "f":
            raise ValueError(f"`action` must be a whole number from 0 to {self.action_size - 1}. Received: {action!r}")
        terminal = bool(as_scalar("done", done))
        flags = np.array([terminal]), np.array([terminal or bool(as_scalar("truncated", truncated))])
        actions, rewards = np.array([int(whole)]), np.array([as_scalar("reward", reward)])
        self._last_q_values = None  # nobody knows whether this is a state that was acted in
        self.remember_batch(StepBatch(state, actions, rewards, next_state, *flags, np.zeros(1, int), rewards))

    def q_values(self, states: ArrayLike, noise: np.random.Generator | None = None) -> np.ndarray:
        """The brain's Q-values, [N, action_size] float32, of states [N, *state_shape]; by default without noise."""
        states = np.asarray(states)
        self.check_states(states, "states")
        return self.learner.q_values(states, noise)

    # ---------------------------------------------------------------- N states at a time, as the loop does

    def act_batch(
        self, states: np.ndarray, epsilon: float | None = None, action_mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Choose an action for each of N states, [N, *state_shape] to [N] int; noisy networks act with noise.

        Args:
            states: [N, *state_shape].
            epsilon: probability of a random action; by default `exploration_rate`.
            action_mask: [N, action_size] bool, which actions may be taken; None for all.
        """
        self._last_q_values = q_values = self.learner.q_values(states, self.policy.random)
        return self.policy(q_values, self.epsilon_schedule.value if epsilon is None else epsilon, action_mask)

    def begin_episodes(self) -> None:
        """Close the episodes under way: what is remembered from now on is of others."""
        self.memory.begin_episodes()
        self.policy.begin_episodes()
        self.learner.weights_assigned = True  # who trains or loads between two trainings does not say so
        self._last_q_values = None

    def remember_batch(self, steps: StepBatch) -> None:
        """Store `StepBatch` of N environments, whose states went through `act_batch`.

        Raises:
            ValueError: a state has another shape, or it or a reward is not finite in float32, or n steps of such a
                reward are not; nothing is stored then.
        """
        # Products tell whether all is finite, unless they overflow; this runs every step.
        state, next_state, reward = steps.state, steps.next_state, steps.reward
        largest = _sum_of_squares(next_state) + (0.0 if state is self._last_checked_states else _sum_of_squares(state))
        if not largest < LARGEST or not state.shape[1:] == next_state.shape[1:] == self.state_shape:
            self.check_states(state, "state")
            self.check_states(next_state, "next_state")
        if not (float(np.vdot(reward, reward)) < self._reward_limit or all_finite(reward.astype(float) * self._n_step)):
            raise ValueError(f"`reward` must be finite in float32, over {self._n_step} steps. Received: {reward}")
        if not self.memory.bootstraps and self._last_q_values is not None:
            steps, self._last_q_values = steps._replace(q_values=self._last_q_values[steps.env_id]), None
        self.memory.remember(steps)
        self._last_checked_states, self.steps = next_state, self.steps + len(steps.action)
        self.epsilon_schedule.after_steps(self.steps)
        if ends := np.count_nonzero(steps.done):
            self.episodes += int(ends)
            self.policy.end_episodes(steps.env_id[steps.done])
            if self._copies_due is not None and self._copies_due(self.episodes):
                self.learner.copy_to_target()
        self._awaits_first_terminal = self._awaits_first_terminal and not bool(steps.terminal.any())

    def replay(self, sample_batch_size: int | None = None) -> np.ndarray | None:
        """Learn from memory: K gradient updates of B transitions, one after the other; then explore a little less.

        Args:
            sample_batch_size: K times B, how many different transitions to draw; by default the settings'.

        Returns:
            [K] float32, the loss of each update; None while the memory holds too little.

        Raises:
            FloatingPointError: a loss or gradient is not finite; that update was not made.
        """
        return self._replay(self.learner, sample_batch_size)

    def replay_as_written(self, sample_batch_size: int | None = None) -> np.ndarray | None:
        """The literal twin of `replay`, a thousand times slower: see `literal.LiteralLearner`."""
        from keras_dqn.core.literal import LiteralLearner

        losses = self._replay(LiteralLearner.of(self.learner), sample_batch_size)
        self.learner.weights_assigned = True
        return losses

    def _replay(self, learner, sample_batch_size):
        shape = self.settings.minibatches(sample_batch_size)
        if self._awaits_first_terminal or not self.memory.ready(shape):
            return None
        if (rate := self.settings.learner.learning_rate_schedule) is not None:
            self.learner.learning_rate = rate(self.steps)
        self.memory.after_steps(self.steps)
        losses = []
        for _ in range(self.memory.epochs):
            batches = self.memory.sample(*shape)
            update = learner.update(batches)
            self.memory.update_errors(batches.rows, update.errors)
            losses.append(update.losses)
        self.epsilon_schedule.after_replay()
        return losses[0] if len(losses) == 1 else np.concatenate(losses)

    def reset_exploration(self) -> None:
        """Explore as at first, as a new training does."""
        self.steps = 0
        self.epsilon_schedule.reset()

    def check_states(self, states: np.ndarray, name: str = "state") -> None:
        """Raise a ValueError unless states are [N, *state_shape] and finite."""
        check_states(states, self.state_shape, name)


def _shape_of(state_size):
    shape = tuple(np.atleast_1d(state_size).tolist())
    if not all(isinstance(length, int) and length > 0 for length in shape):
        wanted = "whole numbers above 0, like env.observation_space.shape[0] (`game_for(env)` makes an agent too)"
        raise ValueError(f"`state_size` must be of {wanted}. Received: {state_size}")
    return shape


def _sum_of_squares(states):
    """Finite only where all numbers are; of frames, whose numbers always are, 0."""
    return float(np.vdot(states, states)) if states.dtype.kind == "f" else 0.0


def _make_memory(settings, seed, q_values):
    """The memory that the settings describe; `q_values` is for one that has to value states."""
    own, gamma = settings.memory, settings.learner.gamma
    if own.rollout is not None:
        q_lambda = 0.65 if own.q_lambda is None else own.q_lambda
        return RolloutMemory(own.rollout, q_values, gamma, q_lambda, own.epochs or 2, seed)
    sampler = Uniform(seed)
    if own.prioritized:
        alpha, beta = own.priority_alpha, own.priority_beta
        sampler = Prioritized(seed, ALPHA if alpha is None else alpha, BETA if beta is None else beta)
    if own.store_frames:  # these make the n steps when they are sampled
        padding = own.frame_padding or "zero"
        return FrameMemory(own.memory_size, own.n_step, gamma, seed, padding, own.learning_starts, sampler)
    returns = OneStep(gamma) if own.n_step == 1 else NStep(own.n_step, gamma)
    return ReplayMemory(own.memory_size, seed, returns, own.learning_starts, sampler)


def _make_epsilon_schedule(settings):
    """Epsilon as it falls, by steps or by replays."""
    if settings.exploration is not None:
        return BySteps(settings.exploration)
    return ByReplays(settings.exploration_rate, settings.exploration_min, settings.exploration_decay)


Agent.__signature__ = shown_signature(Agent.__init__)
