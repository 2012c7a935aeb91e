"""The agent: a network (its brain), a memory, and the habit of exploring less and less."""

import math
from pathlib import Path

import numpy as np

from keras_dqn.backend import keras, tf
from keras_dqn.checks import all_finite, check_above_zero, check_fraction, check_whole, seed_sequence
from keras_dqn.exploration import HeldActions
from keras_dqn.frame_memory import FrameMemory
from keras_dqn.learner import Learner, mse_loss
from keras_dqn.memory import ReplayMemory, Transition
from keras_dqn.n_step import NStep
from keras_dqn.networks import NumpyForward, mlp
from keras_dqn.rollout import RolloutMemory, Steps, check_rollout
from keras_dqn.weights import load_weights, save_weights

NEVER = 2**62  # updates: a target model that no count of updates moves


class Agent:
    """A deep Q-learning agent with the names and defaults of the CartPole notebook (G. Juvin 2017).

    Args:
        state_size: length of the state vector, or the shape of a state.
        action_size: number of actions.
        weight_backup: the .h5 file that `save_model` writes. Where it is there already, it is loaded on construction
            and exploration starts at its minimum. None for no backup.
        memory_size: how many transitions the memory holds.
        store_frames: states are stacks of frames, [stack, height, width], of which a step adds one: store each frame
            once (see `FrameMemory`).
        frame_padding: what takes the place of frames before an episode's first, "zero" or "reset" (see `FrameMemory`).
        learning_rate: of Adam.
        gamma: discount a step.
        exploration_rate: probability of a random action, at first.
        exploration_min: the exploration rate decays while it is above this.
        exploration_decay: factor on the exploration rate after each replay.
        sample_batch_size: how many transitions one replay draws from the memory, all different.
        minibatch_size: transitions a gradient update. A replay is sample_batch_size / minibatch_size updates, one after
            the other, each seeing the network as the one before left it.
        target_update: value next states with a target model, which moves to the brain every so many updates; None
            values them with the brain itself.
        tau: how far the target model moves: 1 makes it a copy ("hard"), less moves it that fraction ("soft").
        target_update_episodes: copy the brain to the target model each time so many episodes have ended, instead of
            counting updates with `target_update`.
        double: the brain picks the next action and the target model values it (double DQN).
        loss: "mse", as Keras' `fit` computes it over all actions, or "huber" of the taken actions.
        optimizer: a Keras optimizer with its own clipping, or a function that makes one, instead of Adam.
        n_step: how many steps a transition spans.
        exploration: epsilon as a function of the steps made (see `exploration`), instead of the decay by replays.
        hold_random_actions: the most steps that a random action is held (see `exploration.HeldActions`).
        learning_starts: do not learn before this many steps are remembered.
        rollout: learn from rollouts of so many steps, over all environments together, instead of from a memory of
            transitions: each is drawn whole and forgotten (see `RolloutMemory`); `sample_batch_size` and `memory_size`
            are then what follows from it.
        epochs: how often a rollout is gone through, in another order each time.
        q_lambda: mixes the returns of a rollout, 0 for one-step targets (see `rollout.lambda_return`).
        learning_rate_schedule: the optimizer's learning rate as a function of the steps made, for each replay anew.
        wait_for_terminal: do not learn before the first terminal transition; where reaching the end is the goal, there
            is nothing to learn from before.
        brain: any Keras model, states [B, *state_shape] to Q-values [B, action_size]; one that is compiled keeps its
            optimizer. By default a Sequential of two Dense layers of 24.
        network: options of `networks.mlp` for another default brain: `{"hidden": (64, 64), "dueling": True}`; or a
            function of state shape, `action_size` and `seed` that makes one.
        seed: covers initial weights, sampling and exploration: an int, a `np.random.SeedSequence`, or None.
        load_backup: False starts afresh even where the backup is there.

    Raises:
        ValueError: an argument is out of its range.
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
        state_size,
        action_size,
        weight_backup="cartpole_weight.h5",
        memory_size=2000,
        store_frames=False,
        frame_padding="zero",
        learning_rate=0.001,
        gamma=0.95,
        exploration_rate=1.0,
        exploration_min=0.01,
        exploration_decay=0.995,
        sample_batch_size=32,
        minibatch_size=1,
        target_update=None,
        tau=1.0,
        target_update_episodes=None,
        double=False,
        loss="mse",
        optimizer=None,
        n_step=1,
        exploration=None,
        hold_random_actions=1,
        learning_starts=0,
        wait_for_terminal=False,
        rollout=None,
        epochs=2,
        q_lambda=0.65,
        learning_rate_schedule=None,
        brain=None,
        network=None,
        seed=None,
        load_backup=True,
    ):
        check_whole("action_size", action_size)
        if rollout is not None:
            sample_batch_size = memory_size = check_rollout(
                rollout,
                epochs,
                minibatch_size,
                q_lambda,
                target_update=target_update,
                target_update_episodes=target_update_episodes,
                n_step=None if n_step == 1 else n_step,
                store_frames=store_frames or None,
            )
        check_whole("sample_batch_size", sample_batch_size)
        check_whole("minibatch_size", minibatch_size)
        if sample_batch_size % minibatch_size:
            raise ValueError(
                f"`minibatch_size` must divide `sample_batch_size` ({sample_batch_size}). Received: {minibatch_size}"
            )
        if sample_batch_size > memory_size:
            raise ValueError(
                f"`sample_batch_size` must fit into the memory ({memory_size}). Received: {sample_batch_size}"
            )
        # a memory of frames has slots that hold no step: the frames that games ended with
        room = memory_size // 2 if store_frames else memory_size
        if learning_starts > room:
            raise ValueError(
                f"`learning_starts` must be at most {room} with memory_size={memory_size}, or nothing would ever be "
                f"learned. Received: {learning_starts}"
            )
        rates = {"gamma": gamma, "exploration_rate": exploration_rate, "exploration_min": exploration_min}
        for name, value in {**rates, "exploration_decay": exploration_decay}.items():
            check_fraction(name, value)

        check_whole("n_step", n_step)
        check_whole("hold_random_actions", hold_random_actions)
        if not 0 < tau <= 1:
            raise ValueError(f"`tau` must be above 0 and at most 1. Received: {tau!r}")
        if target_update_episodes is not None:
            check_whole("target_update_episodes", target_update_episodes)
            if target_update is not None or tau != 1:
                raise ValueError(
                    "`target_update_episodes` takes the place of `target_update` and `tau`. "
                    f"Received: target_update={target_update}, tau={tau}"
                )
        elif double and target_update is None:
            raise ValueError("`double` needs a target model: give `target_update`. Received: target_update=None")
        check_above_zero("learning_rate", learning_rate)

        self.state_shape = tuple(np.atleast_1d(state_size).tolist())
        self.state_size = state_size
        self.action_size = int(action_size)
        self.weight_backup = None if weight_backup is None else Path(weight_backup)
        self.learning_rate = learning_rate
        self.gamma = gamma
        self._discounts = np.array([gamma, 0], np.float32)  # by whether the transition is terminal
        self.exploration_rate = self.initial_exploration_rate = exploration(0) if exploration else exploration_rate
        self.exploration_min = exploration_min
        self.exploration_decay = exploration_decay
        self.sample_batch_size = sample_batch_size
        self.minibatch_size = minibatch_size

        seeds = seed_sequence(seed)
        network_seed, memory_seed, exploration_seed = seeds.spawn(3)
        if store_frames:  # these make the n steps when they are sampled
            self.memory = FrameMemory(memory_size, n_step, gamma, seed=memory_seed, padding=frame_padding)
        elif rollout is not None:
            self.memory = RolloutMemory(
                rollout, lambda states: self._forward(states), gamma, q_lambda, epochs, memory_seed
            )
        else:
            self.memory = ReplayMemory(memory_size, seed=memory_seed)
        self._stores_frames, self._rolls_out = store_frames, rollout is not None
        self._acting_q_values = None  # [N, actions], of the states that were acted in last
        self.learning_rate_schedule = learning_rate_schedule
        self._random = np.random.default_rng(exploration_seed)
        self.steps = 0  # transitions remembered since exploration began
        self.exploration = exploration
        self._held_actions = HeldActions(hold_random_actions) if hold_random_actions > 1 else None
        self._n_step = NStep(n_step, gamma) if n_step > 1 and not store_frames else None
        self.learning_starts = learning_starts
        self._waits = wait_for_terminal
        self.episodes = 0  # ended ones, counted where something waits for them
        self._target_update_episodes = target_update_episodes
        self._watches_ends = wait_for_terminal or target_update_episodes is not None
        if brain is None:
            brain = self._default_brain({} if network is None else network, network_seed)
        self.brain = self._built(brain, optimizer)
        updates = NEVER if target_update_episodes is not None else target_update
        self.learner = self._new_learner(updates, tau=tau, double=double, loss=loss)
        self._numpy_forward = NumpyForward(self.brain) if NumpyForward.supports(self.brain) else None
        compiled = tf.function(lambda states: self.brain(states, training=False))
        self._forward = self._numpy_forward or (lambda states: compiled(tf.constant(states)).numpy())
        if load_backup and self.weight_backup is not None:
            self._load_backup()

    # ---------------------------------------------------------------- acting

    def act(self, state, epsilon=None):
        """Choose an action for one state: random with probability epsilon, else the one of the highest Q-value.

        Args:
            state: [*state_shape], or [1, *state_shape] as the notebook passes it; finite numbers.
            epsilon: probability of a random action; by default `exploration_rate`.

        Returns:
            An int, 0 to action_size - 1.
        """
        epsilon = self.exploration_rate if epsilon is None else check_fraction("epsilon", epsilon)
        state = self._one(state, "state")
        self.check_states(state, "state")
        self.refresh()
        return int(self.act_batch(state, epsilon)[0])

    def act_batch(self, states, epsilon, random=None):
        """Choose an action for each of N states, [N, *state_shape] to [N] int: the loop's way of acting.

        It acts on the weights of the last update; after assigning others from outside, call `refresh` first.

        Args:
            states: [N, *state_shape], finite: an observation is checked once, when it comes from the environment.
            epsilon: probability of a random action.
            random: the `np.random.Generator` to explore with; by default the agent's own.
        """
        self._acting_q_values = self._forward(states)
        return self.explore(self._acting_q_values.argmax(-1), epsilon, random)

    def explore(self, actions, epsilon, random=None):
        """The greedy actions, [N] int, with those replaced that are random: `act_batch` without the network."""
        random = random or self._random
        if self._held_actions is not None and epsilon > 0 and random is self._random:
            self._held_actions.apply(actions, epsilon, self.action_size, random)
        elif epsilon > 0:
            draws = random.random(len(actions))
            explores = draws < epsilon
            if np.count_nonzero(explores):  # a draw below epsilon, over epsilon, is uniform too: it picks the action
                actions[explores] = draws[explores] / epsilon * self.action_size
        return actions

    def q_values(self, states):
        """The brain's Q-values, float32 [N, action_size], of states [N, *state_shape]."""
        self.refresh()
        states = np.asarray(states)
        self.check_states(states, "states")
        return self._forward(states)

    def refresh(self):
        """Act on the brain's weights as they are now, whoever assigned them."""
        if self._numpy_forward is not None:
            self._numpy_forward.refresh(self.learner.read_weights())

    # ---------------------------------------------------------------- remembering and learning

    def begin_episodes(self):
        """What is remembered from now on is of other episodes: those under way go on nowhere."""
        if self._n_step is not None:
            self._n_step.clear()
        if self._stores_frames or self._rolls_out:
            self.memory.begin_episodes()

    def remember(self, state, action, reward, next_state, done, truncated=False):
        """Store one transition.

        Args:
            state, next_state: [*state_shape] or [1, *state_shape], finite.
            action: int, 0 to action_size - 1.
            reward: a finite number.
            done: whether `next_state` is terminal, so that nothing follows it. A time limit (`truncated`) is not the
                end of the world: pass gymnasium's `terminated` alone.
            truncated: whether the episode ends here all the same; n-step transitions do not span two episodes.
        """
        state, next_state = self._one(state, "state"), self._one(next_state, "next_state")
        self.check_states(state, "state")
        if not isinstance(action, int | np.integer) or not 0 <= action < self.action_size:
            raise ValueError(f"`action` must be a whole number from 0 to {self.action_size - 1}. Received: {action!r}")
        actions, rewards = np.array([action]), np.array([reward], float)
        self._acting_q_values = None  # nobody knows whether this is a state that was acted in
        self.remember_batch(state, actions, rewards, next_state, np.array([bool(done)]), np.array([bool(truncated)]))

    def remember_batch(
        self, states, actions, rewards, next_states, terminated, truncated, environments=None, stops=None
    ):
        """Store N transitions of states and actions that went through `act_batch`: the loop's way of remembering.

        Args:
            states, next_states: [N, *state_shape].
            actions: [N] int.
            rewards: [N] float.
            terminated, truncated: [N] bool; see `remember`.
            environments: [N] int, which environment each row is of; by default 0 to N - 1.
            stops: [N] bool, where the bootstrap stops though the episode goes on: a lost life; None for nowhere.

        Raises:
            ValueError: a next state has another shape, or it or a reward is not finite; nothing is stored then.
        """
        if self._stores_frames or len(self.memory) == 0:
            fine = False
        else:  # two products tell whether all is finite, unless they overflow; this runs every step
            fine = math.isfinite(np.vdot(next_states, next_states) + np.vdot(rewards, rewards))
        if not fine:
            self.check_states(next_states, "next_state")
            if not all_finite(rewards):
                raise ValueError(f"`reward` must be finite. Received: {rewards}")
        if self._watches_ends:
            self._watch_ends(terminated, truncated)
        ended = terminated | truncated if self._rolls_out else None  # a lost life ends no episode
        if stops is not None and not self._stores_frames:
            terminated = terminated | stops
        if self._stores_frames:
            games = np.arange(len(states)) if environments is None else environments
            self.memory.add(games, states, actions, rewards, next_states, terminated, truncated, stops)
        elif self._rolls_out:
            games = np.arange(len(states)) if environments is None else environments
            steps = Steps(states, actions, rewards, next_states, terminated, ended, games)
            self.memory.remember(steps._replace(q_values=self._taken_q_values(games)))
        elif self._n_step is None:
            discounts = self._discounts.take(terminated)
            self.memory.add(Transition(states, actions, rewards.astype(np.float32), discounts, next_states))
        else:
            if environments is None:
                environments = np.arange(len(states))
            steps = (environments, states, actions, rewards, next_states, terminated, truncated)
            if (joined := self._n_step.join(*steps)) is not None:
                self.memory.add(joined)
        self.steps += len(states)
        if self.exploration is not None:
            self.exploration_rate = self.exploration(self.steps)

    def _taken_q_values(self, environments):
        """The Q-values of the pass that chose these environments' actions, once; None if there was none."""
        q_values, self._acting_q_values = self._acting_q_values, None
        return None if q_values is None else q_values[environments]

    def _watch_ends(self, terminated, truncated):
        """Do what waits for episodes to end, [N] bool."""
        self._waits = self._waits and not terminated.any()
        before, self.episodes = self.episodes, self.episodes + int(np.count_nonzero(terminated | truncated))
        every = self._target_update_episodes
        if every is not None and self.episodes // every > before // every:
            self.learner.copy_to_target()

    def replay(self, sample_batch_size=None):
        """Learn from memory: one gradient update after the other, all in one compiled call; then explore a little less.

        The same updates as `replay_as_written`, to float32 rounding.

        Args:
            sample_batch_size: how many different transitions to draw; by default the agent's.

        Returns:
            [updates] float32, the loss of each update; None while the memory holds fewer transitions than that.

        Raises:
            FloatingPointError: a loss or gradient is not finite; that update was not made.
        """
        self._schedule_learning_rate()
        losses = [self.learner.update(batches) for batches in self._drawn(sample_batch_size)]
        if not losses:
            return None
        losses = np.concatenate(losses)
        if self._numpy_forward is not None:
            self._numpy_forward.refresh(self.learner.flat_weights)
        self._explore_less()
        return losses

    def replay_as_written(self, sample_batch_size=None):
        """The literal twin of `replay`: the notebook's `predict`, `predict` and `fit` for each transition.

        A thousand times slower, and kept because the test that both leave the same weights is the licence for the fast
        one. It is for the notebook's own case: minibatches of 1, "mse", no target model.

        Returns:
            As `replay`.
        """
        learner = self.learner
        if self.minibatch_size != 1 or learner.target_brain is not None or learner.loss is not mse_loss:
            raise ValueError(
                "The notebook's replay has minibatches of 1, the loss mse and no target model. Received: "
                f"minibatch_size={self.minibatch_size}, {learner.loss.__name__}, target_update={learner.target_update}"
            )
        self._schedule_learning_rate()
        losses = []
        for batches in self._drawn(sample_batch_size):
            for state, action, reward, discount, next_state in zip(*batches, strict=True):
                target = reward[0]
                if discount[0] != 0:
                    target = reward[0] + discount[0] * np.amax(self.brain.predict(next_state, verbose=0)[0])
                target_f = self.brain.predict(state, verbose=0)
                target_f[0][action[0]] = target
                losses.append(self.brain.fit(state, target_f, epochs=1, verbose=0).history["loss"][0])
        if not losses:
            return None
        self.refresh()
        self._explore_less()
        return np.array(losses, np.float32)

    def _drawn(self, sample_batch_size):
        """What one replay learns from: minibatches [K, B, ...], once, or of a rollout once an epoch; nothing too early.

        One epoch at a time: a rollout of frames takes as much memory as the rest of a training.
        """
        batches = self._sample(sample_batch_size)
        while batches is not None:
            yield batches
            batches = self._sample(None) if self._rolls_out else None

    def _sample(self, sample_batch_size):
        """K minibatches of B transitions, `Transition` of arrays [K, B, ...]; None while the memory holds too few."""
        size, count = self.minibatch_size, self.sample_batch_size
        if sample_batch_size is not None:
            count = check_whole("sample_batch_size", sample_batch_size)
            if self._rolls_out:
                raise ValueError(f"`sample_batch_size` is the rollout's, {self.sample_batch_size}. Received: {count}")
            if count % size:
                raise ValueError(f"`sample_batch_size` must be a multiple of {size}. Received: {count}")
        if self._rolls_out:
            return self.memory.sample(count // size, size) if self.memory.ready() and not self._waits else None
        if self._waits or len(self.memory) < max(count, self.learning_starts):
            return None
        batch = self.memory.sample(count)
        return Transition(*(field.reshape(count // size, size, *field.shape[1:]) for field in batch))

    def _schedule_learning_rate(self):
        if self.learning_rate_schedule is not None:
            self.learner.learning_rate = self.learning_rate_schedule(self.steps)

    def explore_anew(self):
        """Explore as at first, as a new training does."""
        self.steps = 0
        self.exploration_rate = self.initial_exploration_rate

    def _explore_less(self):
        if self.exploration is None and self.exploration_rate > self.exploration_min:
            self.exploration_rate *= self.exploration_decay

    # ---------------------------------------------------------------- weights

    def save_model(self, path=None):
        """Write the brain's weights to a .h5 file, whole or not at all.

        Args:
            path: the file; by default `weight_backup`, which stays as it is while nothing has been learned.
        """
        if path is not None:
            save_weights(self._brain_to_save(), path)
        elif self.weight_backup is not None and (self.learner.updates or not self.weight_backup.exists()):
            save_weights(self._brain_to_save(), self.weight_backup)

    def load_model(self, path):
        """Take weights from a .h5 file of any Keras, and explore at the minimum from now on.

        Raises:
            WeightFileError: the file is not whole or not this network's; the agent is unchanged.
        """
        load_weights(self.brain, path)
        self.learner.copy_to_target()
        self.refresh()
        self.exploration_rate = self.exploration_min

    def _brain_to_save(self):
        """A Keras model with the brain's weights as they are now."""
        return self.brain

    def _load_backup(self):
        if self.weight_backup.exists():
            self.load_model(self.weight_backup)
            print("Found saved weights, loaded into model")
        else:
            print("Backup weights for model not found")

    # ---------------------------------------------------------------- going on after an interruption

    @property
    def generators(self):
        """The agent's own `np.random.Generator`s, by name."""
        return {"exploration": self._random, "memory": self.memory.random}

    @property
    def memory_bytes(self):
        """How many bytes the memory takes once it is full."""
        return self.memory.bytes_needed(self.memory.capacity, self.state_shape)

    def counters(self):
        """How far learning and exploration are, in plain numbers."""
        return {
            "steps": self.steps,
            "episodes": self.episodes,
            "updates": self.learner.updates,
            "exploration_rate": self.exploration_rate,
            "waits": self._waits,
        }

    def restore_counters(self, counters):
        """Go on from there; nothing is changed where one is missing."""
        steps, episodes, updates = (int(counters[name]) for name in ("steps", "episodes", "updates"))
        rate, waits = float(counters["exploration_rate"]), bool(counters["waits"])
        self.steps, self.episodes, self.exploration_rate, self._waits = steps, episodes, rate, waits
        self.learner.updates = updates

    def check_memory_fits(self):
        """Raise a ValueError if the memory, once full, takes more than this machine has free."""
        if self._stores_frames:
            self.memory.check_fits(self.state_shape)

    # ---------------------------------------------------------------- construction and checks

    def _default_brain(self, options, seed):
        if callable(options):
            return options(self.state_shape, self.action_size, seed=seed)
        if len(self.state_shape) != 1:
            raise ValueError(
                f"`brain` must be given where a state is not a vector. Received: state_size={self.state_size}"
            )
        return mlp(self.state_shape[0], self.action_size, **{"seed": seed, **options})

    def _built(self, brain, optimizer):
        """The brain with an optimizer, checked to map [B, *state_shape] to [B, action_size]."""
        if not isinstance(brain, keras.Model):
            raise ValueError(f"`brain` must be a keras.Model. Received: {brain!r}")
        if optimizer is not None and not isinstance(optimizer, keras.optimizers.Optimizer):
            optimizer = optimizer()
        if optimizer is not None or getattr(brain, "optimizer", None) is None:
            brain.compile(loss="mse", optimizer=optimizer or keras.optimizers.Adam(self.learning_rate))
        try:
            shape = tuple(brain(np.zeros((1, *self.state_shape), np.float32), training=False).shape)
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            raise ValueError(f"`brain` must take states of shape {self.state_shape}. Received: {error}") from error
        if shape != (1, self.action_size):
            raise ValueError(
                f"`brain` must return one Q-value for each of {self.action_size} actions. Received: {shape}"
            )
        return brain

    def _new_learner(self, target_update, **options):
        target_brain = None
        if target_update is not None:
            check_whole("target_update", target_update)
            target_brain = keras.models.clone_model(self.brain)
        options = {"target_brain": target_brain, "target_update": target_update, **options}
        if self._rolls_out:
            options["bootstrap"] = self.memory.bootstraps
        return Learner(self.brain, self.brain.optimizer, **options)

    def _one(self, state, name):
        """A single state as a batch of one."""
        state = np.asarray(state)
        if state.shape not in (self.state_shape, (1, *self.state_shape)):
            raise ValueError(f"`{name}` must have shape {self.state_shape}. Received: {state.shape}")
        return state.reshape(1, *self.state_shape)

    def check_states(self, states, name="state"):
        """Raise a ValueError unless states are [N, *state_shape] and finite."""
        if states.shape[1:] != self.state_shape:
            raise ValueError(f"`{name}` must have shape (N, *{self.state_shape}). Received: {states.shape}")
        if not all_finite(states):
            raise ValueError(f"`{name}` must hold finite numbers. Received: {states}")
