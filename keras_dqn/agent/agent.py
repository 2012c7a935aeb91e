"""The agent: a memory, a way to explore and a learner, under the CartPole notebook's words; and the loop it is in."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import ArrayLike

from keras_dqn.agent.names import NotebookNames
from keras_dqn.agent.resuming import Resumable
from keras_dqn.agent.settings import AgentKeywords, Settings, ShapeReward, check_keywords
from keras_dqn.agent.tally import Tally
from keras_dqn.checks import Seed, all_finite, check_fraction, check_states, check_whole, one_state, seed_sequence
from keras_dqn.counting import Every
from keras_dqn.environments.position import Position
from keras_dqn.environments.vector import MAX_STEPS, as_vector, one_number
from keras_dqn.exploration import ByReplays, BySteps, epsilon_greedy
from keras_dqn.memory import FrameMemory, Memory, NStep, OneStep, ReplayMemory, RolloutMemory, Steps

if TYPE_CHECKING:  # learners import TensorFlow, which `collect` does without
    from keras_dqn.backend import keras
    from keras_dqn.learner.compiled import AnyLearner

LARGEST = float(np.finfo(np.float32).max) ** 2  # a sum of squares below this is of numbers that float32 can hold


class Agent(NotebookNames, Resumable):
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
        **settings: Unpack[AgentKeywords],
    ):
        check_keywords(type(self).__name__, settings, Settings.names())
        self.settings = Settings().but(**settings)
        self.state_size, self.action_size = state_size, check_whole("action_size", action_size)
        self.state_shape = tuple(np.atleast_1d(state_size).tolist())
        self.weight_backup = None if weight_backup is None else Path(weight_backup)
        network_seed, memory_seed, exploration_seed = seed_sequence(seed).spawn(3)
        if memory is None:
            memory = _make_memory(self.settings, memory_seed, lambda states: self.learner.q_values(states))
        self.memory = memory
        self.epsilon, self.explore = _make_exploration(self.settings.exploration, self.action_size, exploration_seed)
        self.learner = self.make_learner(brain, network, network_seed)
        self._n_step = self.settings.memory.n_step
        self._reward_limit = LARGEST / self._n_step**2
        self.steps = 0  # remembered since exploration began
        self.episodes = 0  # ended ones
        self._waits = self.settings.memory.wait_for_terminal
        self._acted = None  # [N, actions], the Q-values of the states that were acted in last
        self._known = None  # the next states that were remembered last: finite, and mostly the states of the next step
        copy_every = self.settings.learner.target_update_episodes
        self._copies_due = None if copy_every is None else Every(copy_every)
        if load_backup and self.weight_backup is not None:
            self._load_backup()

    def make_learner(
        self, brain: "keras.Model | None", network: dict[str, Any] | Callable[..., Any] | None, seed: Seed
    ) -> "AnyLearner":
        """The learner of a brain; the agent of another library makes another."""
        from keras_dqn.learner.compiled import make_learner

        bootstrap = self.memory.bootstraps
        return make_learner(brain, network, self.state_shape, self.action_size, self.settings.learner, seed, bootstrap)

    # ---------------------------------------------------------------- one state at a time, as the notebook does

    def act(self, state: ArrayLike, epsilon: float | None = None) -> int:
        """Choose an action for one state: random with probability epsilon, else the one of the highest Q-value.

        Args:
            state: [*state_shape], or [1, *state_shape] as the notebook passes it; finite numbers.
            epsilon: probability of a random action; by default `exploration_rate`.

        Returns:
            An int, 0 to action_size - 1.
        """
        epsilon = self.exploration_rate if epsilon is None else check_fraction("epsilon", epsilon)
        return int(self.explore(self.q_values(one_state(state, self.state_shape, "state")).argmax(-1), epsilon)[0])

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
        state, next_state = (
            one_state(state, self.state_shape, "state"),
            one_state(next_state, self.state_shape, "next_state"),
        )
        whole = one_number("action", action)
        if whole not in range(self.action_size) or np.asarray(action).dtype.kind == "f":
            raise ValueError(f"`action` must be a whole number from 0 to {self.action_size - 1}. Received: {action!r}")
        terminal = bool(one_number("done", done))
        flags = np.array([terminal]), np.array([terminal or bool(one_number("truncated", truncated))])
        actions, rewards = np.array([int(whole)]), np.array([one_number("reward", reward)])
        self._acted = None  # nobody knows whether this is a state that was acted in
        self.remember_batch(Steps(state, actions, rewards, next_state, *flags, np.zeros(1, int), rewards))

    def q_values(self, states: ArrayLike) -> np.ndarray:
        """The brain's Q-values, [N, action_size] float32, of states [N, *state_shape]."""
        self.learner.sync()
        states = np.asarray(states)
        self.check_states(states, "states")
        return self.learner.q_values(states)

    # ---------------------------------------------------------------- N states at a time, as the loop does

    def act_batch(
        self, states: np.ndarray, epsilon: float | None = None, allowed: np.ndarray | None = None
    ) -> np.ndarray:
        """Choose an action for each of N states, [N, *state_shape] to [N] int.

        Args:
            states: [N, *state_shape].
            epsilon: probability of a random action; by default `exploration_rate`.
            allowed: [N, action_size] bool, which actions may be taken; None for all.
        """
        self._acted = q_values = self.learner.q_values(states)
        if allowed is not None:
            q_values = np.where(allowed, q_values, -np.inf)
        return self.explore(q_values.argmax(-1), self.epsilon.rate if epsilon is None else epsilon, allowed)

    def begin_episodes(self) -> None:
        """Close the episodes under way: what is remembered from now on is of others."""
        self.memory.begin_episodes()
        self.explore.begin_episodes()
        self._acted = None

    def remember_batch(self, steps: Steps) -> None:
        """Store `Steps` of N environments, whose states went through `act_batch`.

        Raises:
            ValueError: a state has another shape, or it or a reward is not finite in float32, or n steps of such a
                reward are not; nothing is stored then.
        """
        # Products tell whether all is finite, unless they overflow; this runs every step.
        state, next_state, reward = steps.state, steps.next_state, steps.reward
        largest = _sum_of_squares(next_state) + (0.0 if state is self._known else _sum_of_squares(state))
        if not largest < LARGEST or not state.shape[1:] == next_state.shape[1:] == self.state_shape:
            self.check_states(state, "state")
            self.check_states(next_state, "next_state")
        if not (float(np.vdot(reward, reward)) < self._reward_limit or all_finite(reward.astype(float) * self._n_step)):
            raise ValueError(f"`reward` must be finite in float32, over {self._n_step} steps. Received: {reward}")
        if not self.memory.bootstraps and self._acted is not None:
            steps, self._acted = steps._replace(q_values=self._acted[steps.environment]), None
        self.memory.remember(steps)
        self._known, self.steps = next_state, self.steps + len(steps.action)
        self.epsilon.stepped(self.steps)
        if ends := np.count_nonzero(steps.ended):
            self.episodes += int(ends)
            self.explore.end_episodes(steps.environment[steps.ended])
            if self._copies_due is not None and self._copies_due(self.episodes):
                self.learner.copy_to_target()
        self._waits = self._waits and not bool(steps.terminal.any())

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
        """The literal twin of `replay`, a thousand times slower: see `learner.LiteralLearner`."""
        from keras_dqn.learner.literal import LiteralLearner

        return self._replay(LiteralLearner.of(self.learner), sample_batch_size)

    def _replay(self, learner, sample_batch_size):
        shape = self.settings.minibatches(sample_batch_size)
        if self._waits or not self.memory.ready(shape):
            return None
        self._schedule_learning_rate()
        losses = [learner.update(self.memory.sample(*shape)) for _ in range(self.memory.epochs)]
        self.epsilon.replayed()
        return losses[0] if len(losses) == 1 else np.concatenate(losses)

    def _schedule_learning_rate(self):
        if (rate := self.settings.learner.learning_rate_schedule) is not None:
            self.learner.learning_rate = rate(self.steps)

    def explore_anew(self) -> None:
        """Explore as at first, as a new training does."""
        self.steps = 0
        self.epsilon.begin()

    # ---------------------------------------------------------------- weights

    def save_model(self, path: str | Path | None = None) -> None:
        """Write the brain's weights to a .h5 file, whole or not at all.

        Args:
            path: the file; by default `weight_backup`, which stays as it is while nothing has been learned.
        """
        if path is not None:
            self.learner.save_weights(path)
        elif self.weight_backup is not None and (self.learner.updates or not self.weight_backup.exists()):
            self.learner.save_weights(self.weight_backup)

    def load_model(self, path: str | Path) -> None:
        """Take weights from a .h5 file of any Keras, and explore at the minimum from now on.

        Raises:
            WeightFileError: the file is not whole or not this network's; the agent is unchanged.
        """
        self.learner.load_weights(path)
        self.epsilon.settle()

    def _load_backup(self):
        if self.weight_backup.exists():
            self.load_model(self.weight_backup)
            print("Found saved weights, loaded into model")
        else:
            print("Backup weights for model not found")

    def check_states(self, states: np.ndarray, name: str = "state") -> None:
        """Raise a ValueError unless states are [N, *state_shape] and finite."""
        check_states(states, self.state_shape, name)


def _sum_of_squares(states):
    """Finite only where all numbers are; of frames, whose numbers always are, 0."""
    return float(np.vdot(states, states)) if states.dtype.kind == "f" else 0.0


def _make_memory(settings, seed, q_values):
    """The memory that the settings describe; `q_values` is for one that has to value states."""
    own, gamma = settings.memory, settings.learner.gamma
    if own.rollout is not None:
        q_lambda = 0.65 if own.q_lambda is None else own.q_lambda
        return RolloutMemory(own.rollout, q_values, gamma, q_lambda, own.epochs or 2, seed)
    if own.store_frames:  # these make the n steps when they are sampled
        padding = own.frame_padding or "zero"
        return FrameMemory(own.memory_size, own.n_step, gamma, seed, padding, own.learning_starts)
    returns = OneStep(gamma) if own.n_step == 1 else NStep(own.n_step, gamma)
    return ReplayMemory(own.memory_size, seed, returns, own.learning_starts)


def _make_exploration(settings, action_size, seed):
    """Epsilon as it falls, and what makes actions random with that probability."""
    if settings.exploration is not None:
        epsilon = BySteps(settings.exploration)
    else:
        epsilon = ByReplays(settings.exploration_rate, settings.exploration_min, settings.exploration_decay)
    return epsilon, epsilon_greedy(action_size, settings.hold_random_actions, seed)


# -------------------------------------------------------------------- playing


class Step(NamedTuple):
    """What happened in one step of the training loop."""

    steps: int  # environment steps so far, over all environments
    episodes: list | tuple  # the `Episode`s that ended with it, mostly none
    losses: np.ndarray | None  # of the updates made after it; None where none were made


def collect(
    act: Callable[..., np.ndarray],
    envs: Any,
    seed: int | None = None,
    shape_reward: ShapeReward | None = None,
    masked: bool = True,
    position: Position | None = None,
) -> Iterator[Steps]:
    """Play without end: a generator of the `Steps` that environments make, for learning, evaluation and films alike.

    Args:
        act: a function from states, [N, *state_shape], to actions, [N] int; where the environments give masks, they
            are its keyword `allowed`, [N, actions] bool.
        envs: a vector of environments in NEXT_STEP mode, as gymnasium has it (see `environments.as_vector`): the step
            after an episode's end only resets that environment, and is no step of it. Three entries of the info
            count, where there are such: `executed_actions`, [N] int, what was done instead of the actions; `life_lost`,
            [N] bool, where nothing is bootstrapped though the episode goes on; and `action_mask`, [N, actions].
        seed: of the first reset.
        shape_reward: a `ShapeReward`: what to learn from instead; scores stay those of the true rewards.
        masked: whether masks are heeded.
        position: a `Position` that has begun, to go on from instead of a reset; it notes down where the loop is.
    """
    if position is None:
        position = Position()
        position.begin(envs, None, seed)
    states, info, everywhere = position.states, position.info, np.arange(envs.num_envs)
    real = np.flatnonzero(~position.ended) if position.ended.any() else None  # which do more than reset; None for all
    while True:
        masks = info.get("action_mask") if masked else None
        actions = act(states) if masks is None else act(states, allowed=_allowed(masks))
        next_states, rewards, terminated, truncated, info = envs.step(actions)
        actions, terminal, learned = info.get("executed_actions", actions), terminated, rewards
        if "life_lost" in info:
            terminal = terminated | info["life_lost"]
        if shape_reward is not None:
            learned = np.asarray(shape_reward(states, actions, rewards, next_states), float)
        ended = terminated | truncated
        masks = None if masks is None else _allowed(info["action_mask"])
        steps = Steps(states, actions, learned, next_states, terminal, ended, everywhere, rewards, masks)
        position.states, position.ended = next_states, ended
        if real is None:
            yield steps
        elif len(real):
            yield Steps(*(None if field is None else field[real] for field in steps))
        real = np.flatnonzero(~ended) if np.count_nonzero(ended) else None
        states = next_states


def _allowed(masks):
    """Masks, [N, actions], as bool; where nothing is allowed, as in a terminal state, everything is."""
    allowed = np.asarray(masks, bool)
    return allowed | ~allowed.any(-1, keepdims=True)


def play(
    agent: Agent,
    env: gym.Env | VectorEnv,
    replay_every: str | int = "episode",
    seed: int | None = None,
    learn: bool = True,
    shape_reward: ShapeReward | None = None,
    max_steps: int = MAX_STEPS,
    position: Position | None = None,
) -> Iterator[Step]:
    """Play and learn without end: a generator of `Step`s, which others listen to. This is the only training loop.

    Args:
        agent: acts, remembers and replays.
        env: a gymnasium environment, or a vector of them in NEXT_STEP mode; or a `ray.fleet.Fleet`, whose actors step.
        replay_every: "episode" replays once at each episode's end; a number, once every so many environment steps.
        seed, shape_reward: as `collect` has them.
        learn: False leaves `agent.replay` out, which measures the loop alone.
        max_steps: after so many an episode of a single environment is truncated, if it does not end by itself.
        position: a `Position` to begin at, where the loop then notes down where it is.
    """
    envs, masked = as_vector(env, max_steps), agent.settings.exploration.mask_actions
    period, by_episode, tally = replay_period(replay_every), replay_every == "episode", Tally(envs.num_envs)
    position = Position() if position is None else position
    position.begin(envs, tally, seed)
    if position.saved is None:
        agent.begin_episodes()
    agent.learner.sync()
    replays_due, before = Every(period), position.due
    collected = collect(agent.act_batch, envs, None, shape_reward, masked, position)
    if hasattr(envs, "collected"):  # the actors of a fleet do that
        collected = envs.collected(agent, position, shape_reward)
    for steps in collected:
        epsilon, losses = agent.exploration_rate, None
        agent.remember_batch(steps)
        ends = tally.add(steps)
        count = before + (tally.episodes if by_episode else tally.steps)
        position.due = count % period
        for _ in range(replays_due(count)):
            if learn and (new := agent.replay()) is not None:
                tally.add_losses(new)
                losses = new if losses is None else np.concatenate([losses, new])
        episodes = tally.end(steps.environment[steps.ended], epsilon) if ends else ()
        yield Step(tally.steps, episodes, losses)


def replay_period(replay_every: str | int) -> int:
    """After how many episodes, or environment steps, a replay is due; a ValueError for what is no such number."""
    return 1 if replay_every == "episode" else check_whole("replay_every", replay_every)


def fresh_position(env: gym.Env | VectorEnv, replay_every: str | int) -> dict:
    """The `Position.snapshot` of a loop that begins in new environments, which are closed; see `check_position`."""
    envs, position = as_vector(env), Position()
    try:
        position.begin(envs, Tally(envs.num_envs), seed=0)
        return {**position.snapshot(), "due": replay_period(replay_every) - 1}
    finally:
        env.close()
