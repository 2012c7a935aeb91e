"""How the network learns: targets and losses as pure functions, and one compiled function that applies them.

Every recipe is a choice of K, B and when: `Learner.update` makes K gradient updates of B transitions each, one after
the other, in a single compiled call. The notebook's per-sample replay is K=32, B=1 once an episode; the PyTorch
tutorial's is K=1, B=128 every step.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from keras_dqn.backend import keras, tf, warm_up_xla
from keras_dqn.checks import Seed
from keras_dqn.core.memory.replay import Transition, transition
from keras_dqn.core.networks.mlp import built, default_brain
from keras_dqn.core.networks.numpy_forward import NumpyForward
from keras_dqn.files.weights import load_weights, save_weights

if TYPE_CHECKING:
    from keras_dqn.core.settings import LearnerSettings

NEVER = 2**62  # updates: a target model that no count of updates moves


def q_learning_targets(rewards: "tf.Tensor", discounts: "tf.Tensor", next_q: "tf.Tensor") -> "tf.Tensor":
    """The Q-learning target, `r + discount * max_a Q(s', a)` (Watkins 1989; Mnih et al. 2015).

    Args:
        rewards, discounts: [B] float; a discount of 0 marks a terminal transition.
        next_q: [B, actions] float, the values that are bootstrapped from.

    Returns:
        [B] float.
    """
    return rewards + discounts * tf.reduce_max(next_q, axis=-1)


def double_q_learning_targets(
    rewards: "tf.Tensor", discounts: "tf.Tensor", next_q: "tf.Tensor", selector_q: "tf.Tensor"
) -> "tf.Tensor":
    """The double DQN target: `selector_q` picks the action, `next_q` says its value (van Hasselt et al. 2016).

    Args:
        rewards, discounts: [B] float.
        next_q: [B, actions] float, of the target network.
        selector_q: [B, actions] float, of the online network.

    Returns:
        [B] float.
    """
    return rewards + discounts * taken(next_q, tf.argmax(selector_q, axis=-1))


def bootstrapped(batch: Transition, judge: "keras.Model", selector: "keras.Model | None") -> "tf.Tensor":
    """The targets of a minibatch, [B] float; double DQN's with a selector. Neither network learns here."""
    next_q = _of_allowed(judge(batch.next_state, training=False), batch.action_mask)
    if selector is None:
        return q_learning_targets(batch.reward, batch.discount, next_q)
    selector_q = _of_allowed(selector(batch.next_state, training=False), batch.action_mask)
    return double_q_learning_targets(batch.reward, batch.discount, next_q, selector_q)


def taken(q: "tf.Tensor", actions: "tf.Tensor") -> "tf.Tensor":
    """The value of each row's action: [B, actions] and [B] int to [B]."""
    return tf.gather(q, actions, axis=-1, batch_dims=1)


def mse_loss(targets: "tf.Tensor", q: "tf.Tensor", actions: "tf.Tensor") -> "tf.Tensor":
    """Mean squared error of the taken actions: a scalar."""
    return tf.reduce_mean(tf.square(targets - taken(q, actions)))


def fit_mse_loss(targets: "tf.Tensor", q: "tf.Tensor", actions: "tf.Tensor") -> "tf.Tensor":
    """Mean squared error as Keras' `fit` computes it on the notebook's target vectors: a scalar.

    The notebook's target is Q(s) with the taken action's entry replaced, so the other entries' error is zero, yet they
    count in the mean: the error of the taken action is divided by the number of actions.
    """
    return mse_loss(targets, q, actions) / q.shape[-1]


def huber_loss(targets: "tf.Tensor", q: "tf.Tensor", actions: "tf.Tensor", delta: float = 1.0) -> "tf.Tensor":
    """Huber loss of the taken actions' errors, mean over the batch: a scalar (the DQN papers' clipped error)."""
    error = tf.abs(targets - taken(q, actions))
    quadratic = tf.minimum(error, delta)
    return tf.reduce_mean(0.5 * tf.square(quadratic) + delta * (error - quadratic))


LOSSES = {"fit_mse": fit_mse_loss, "huber": huber_loss, "mse": mse_loss}


class AnyLearner(Protocol):
    """What the agent needs of a learner: `Learner`, `literal.LiteralLearner` and `pytorch.TorchLearner`."""

    updates: int  # how many gradient updates have been made
    learning_rate: float  # the optimizer's; a new one counts from the next update on

    def update(self, batches: Transition) -> np.ndarray:
        """Make K gradient updates from arrays [K, B, ...], one after the other; the losses, [K] float32."""
        ...

    def q_values(self, states: np.ndarray) -> np.ndarray:
        """Q-values, [N, actions] float32, of states [N, *state_shape]."""
        ...

    def sync(self) -> None:
        """Take over the weights that others assigned to the network."""
        ...

    def read_weights(self) -> np.ndarray:
        """All weights as one vector, [parameters] float32, in the order of Keras."""
        ...

    def copy_to_target(self) -> None:
        """Make the target model equal to the network."""
        ...

    def keras_model(self) -> "keras.Model":
        """A Keras model with the weights as they are now, for the .h5 files."""
        ...

    def save_weights(self, path: str | Path) -> None:
        """Write the weights to an .h5 file, whole or not at all."""
        ...

    def load_weights(self, path: str | Path) -> None:
        """Take weights from an .h5 file; on any error everything is as it was."""
        ...


class Learner:
    """Updates a Keras model from minibatches of transitions, K of them in one compiled call.

    Args:
        brain: the Keras model to train, states [B, ...] to Q-values [B, actions].
        optimizer: a Keras optimizer with its own clipping; it is built here if it is not.
        loss: "mse" or "huber" of the taken actions, or "fit_mse", the first as Keras' `fit` has it on whole vectors.
        target_brain: the model that next states are valued with; None for the brain itself, as it is at that update.
        target_update: every how many updates the target model moves to the brain.
        tau: how far it moves: 1 copies the brain ("hard"), less moves that fraction of the way ("soft").
        double: whether the brain picks the next action and the target model values it.
        bootstrap: False leaves out the pass over the next states, where every discount is known to be 0: a rollout's
            rewards are whole returns.
        jit_compile: whether to compile with XLA; by default where there is no convolution, which XLA slows on a CPU.
        updates_before_xla: so many updates, one a call, are made by a plain graph before XLA compiles: it is ready in a
            tenth of the time, and an update costs a fifth more. By count, not clock: the two round differently.
    """

    def __init__(
        self,
        brain: "keras.Model",
        optimizer: "keras.optimizers.Optimizer",
        loss: str = "mse",
        target_brain: "keras.Model | None" = None,
        target_update: int | None = None,
        tau: float = 1.0,
        double: bool = False,
        bootstrap: bool = True,
        jit_compile: bool | None = None,
        updates_before_xla: int = 0,
    ):
        if loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {sorted(LOSSES)}. Received: {loss!r}")
        if double and target_brain is None:
            raise ValueError(
                "`double` needs a target model: without one, both networks are the same. Received: target_brain=None"
            )
        if target_brain is not None and not bootstrap:
            raise ValueError("A target model values next states; without `bootstrap` nobody asks. Received: one")
        self.brain, self.target_brain, self.optimizer = brain, target_brain, optimizer
        self.bootstrap = bootstrap
        self.loss, self.target_update, self.tau, self.double = LOSSES[loss], target_update, tau, double
        if not optimizer.built:
            optimizer.build(brain.trainable_variables)
        warm_up_xla()
        # Counted here, too: every update asks, and reading the variable would cost as much as a small network.
        self._updates, self._updates_here = tf.Variable(0, dtype=tf.int64, trainable=False), 0
        self.jit_compile = not _has_convolution(brain) if jit_compile is None else jit_compile
        self.updates_before_xla = updates_before_xla
        self._update = tf.function(self._updated, jit_compile=self.jit_compile, autograph=False)
        self._update_plainly = tf.function(self._updated_plainly, autograph=False)
        self._traced = {}  # which of them and layout of the batches: that function, traced for it
        # The optimizer is one pass over the weights in XLA and ten without: worth it even within a plain graph.
        self._apply = tf.function(self._applied, jit_compile=True, autograph=False)
        self._flatten = tf.function(self._flat, autograph=False).get_concrete_function()
        # At the size of small Dense networks a call of the model costs a hundred times its arithmetic.
        self._numpy_forward = NumpyForward(brain) if NumpyForward.supports(brain) else None
        self._compiled_forward = tf.function(lambda states: brain(states, training=False), autograph=False)
        self.copy_to_target()

    def __repr__(self):
        target = (
            f", target_update={self.target_update}, tau={self.tau}, double={self.double}" if self.target_brain else ""
        )
        optimizer = type(self.optimizer).__name__
        return (
            f"Learner(loss={self.loss.__name__.removesuffix('_loss')!r}, optimizer={optimizer}, "
            f"learning_rate={self.learning_rate:g}{target}, updates={self.updates})"
        )

    @property
    def updates(self) -> int:
        """How many gradient updates have been made."""
        return self._updates_here

    @updates.setter
    def updates(self, count: int):
        self._updates.assign(count)
        self._updates_here = count

    @property
    def learning_rate(self) -> float:
        """The optimizer's. A new one counts from the next update on."""
        return float(str(np.float32(self.optimizer.learning_rate)))  # 0.001, and not what float32 makes of it

    @learning_rate.setter
    def learning_rate(self, rate: float):
        if isinstance(self.optimizer.get_config()["learning_rate"], dict):
            raise ValueError(f"`learning_rate` follows the schedule of the optimizer. Received: {rate!r}")
        self.optimizer.learning_rate = rate

    @property
    def traces(self) -> int:
        """How often the update was traced: once for every shape of minibatches, and once more where XLA takes over."""
        return sum(f.experimental_get_tracing_count() for f in (self._update, self._update_plainly))

    def update(self, batches: Transition) -> np.ndarray:
        """Make K gradient updates from a `Transition` of arrays [K, B, ...], one after the other, each from the weights
        that the one before left; returns the loss of each before it was made, [K] float32.

        Raises:
            FloatingPointError: a loss or gradient is not finite; that update and those after it were not made.
        """
        # With small networks the call costs as much as the arithmetic: so one array where that can be, made into a
        # tensor here, and a function that is looked up by shape and not by all its arguments.
        arrays = _packed(batches, self.bootstrap)
        plainly = self.jit_compile and len(batches.reward) == 1 and self._updates_here < self.updates_before_xla
        layout = (plainly, *((array.shape, array.dtype) for array in arrays))
        arrays = [tf.constant(array) for array in arrays]
        if layout not in self._traced:
            self._traced[layout] = (self._update_plainly if plainly else self._update).get_concrete_function(*arrays)
        losses, made, flat_weights = self._traced[layout](*arrays)
        if self._numpy_forward is not None:  # whatever comes next, states are judged by the newest weights
            self._numpy_forward.refresh(flat_weights.numpy() if self.jit_compile else self.read_weights())
        losses, made = losses.numpy(), int(made)
        self._updates_here += made
        if made < len(losses):
            raise FloatingPointError(
                f"The loss or a gradient of update {made + 1} of {len(losses)} is not finite; neither it nor those "
                f"after it were made. Received: a loss of {losses[made]}"
            )
        return losses

    def q_values(self, states: np.ndarray) -> np.ndarray:
        """The brain's Q-values, [N, actions] float32, of states [N, *state_shape].

        They are those of the weights as `update`, `load_weights` and `sync` left them: this runs every step, and asking
        every variable whether somebody else assigned it would cost more than the network.
        """
        if self._numpy_forward is not None:
            return self._numpy_forward(states)
        return self._compiled_forward(tf.constant(states)).numpy()

    def sync(self) -> None:
        """Take over the weights that others assigned to the brain."""
        if self._numpy_forward is not None:
            self._numpy_forward.refresh(self.read_weights())

    def keras_model(self) -> "keras.Model":
        """A Keras model with the weights as they are now: the brain."""
        return self.brain

    def save_weights(self, path: str | Path) -> None:
        """Write the brain's weights to an .h5 file, whole or not at all."""
        save_weights(self.brain, path)

    def load_weights(self, path: str | Path) -> None:
        """Take the weights of brain and target model from an .h5 file of any Keras.

        Raises:
            WeightFileError: the file is not whole or not this network's; nothing is changed.
        """
        load_weights(self.brain, path)
        self.copy_to_target()
        self.sync()

    def read_weights(self) -> np.ndarray:
        """All of the brain's weights as one vector, float32 [parameters], in the order of `brain.weights`."""
        return self._flatten().numpy()

    def copy_to_target(self) -> None:
        """Make the target model equal to the brain, as it is at construction."""
        if self.target_brain is not None:
            self.target_brain.set_weights(self.brain.get_weights())

    def snapshot(self) -> dict[str, list[np.ndarray]]:
        """Copies of all that updates change, for `restore`: weights, the target model's, the optimizer's variables."""
        return {
            name: [np.asarray(variable).copy() for variable in variables]
            for name, variables in self._variables().items()
        }

    def restore(self, snapshot: dict[str, list[np.ndarray]]) -> None:
        """Go on from what `snapshot` gave."""
        for name, variables in self._variables().items():
            for variable, array in zip(variables, snapshot[name], strict=True):
                variable.assign(array)
        self.sync()

    def _variables(self):
        target = [] if self.target_brain is None else self.target_brain.weights
        return {"brain": self.brain.weights, "target": target, "optimizer": self.optimizer.variables}

    def _flat(self):
        return tf.concat([tf.reshape(tf.cast(weight.value, tf.float32), [-1]) for weight in self.brain.weights], 0)

    def _updated(self, *arrays):
        """The compiled function: one gradient step a round, until all K are made or one is not finite."""
        batches = _unpacked(arrays, self.bootstrap)
        count = batches.reward.shape[0]

        def gradient_step(k, finite, losses):
            loss, finite = self._gradient_step(batches.each(lambda field: field[k]), self._apply)
            return k + tf.cast(finite, tf.int32), finite, losses.write(k, loss)

        losses = tf.TensorArray(tf.float32, size=count, element_shape=())
        made, _, losses = tf.while_loop(
            lambda k, finite, _: (k < count) & finite, gradient_step, (0, True, losses), maximum_iterations=count
        )
        return losses.stack(), made, self._flat() if self.jit_compile else tf.zeros(0)

    def _updated_plainly(self, *arrays):
        """The same for K=1, without a loop and with nothing in it that XLA compiles."""
        batch = _unpacked(arrays, self.bootstrap).each(lambda field: field[0])
        loss, finite = self._gradient_step(batch, self._applied)
        return loss[tf.newaxis], tf.cast(finite, tf.int32), self._flat()

    def _gradient_step(self, batch, apply_gradients):
        """One update from one minibatch [B, ...]; nothing is assigned unless loss and gradients are finite."""
        brain = self.brain
        weights = [variable.value for variable in brain.trainable_variables]
        others = [variable.value for variable in brain.non_trainable_variables]
        judge = brain if self.target_brain is None else self.target_brain
        targets = bootstrapped(batch, judge, brain if self.double else None) if self.bootstrap else batch.reward
        with tf.GradientTape() as tape:
            # stateless, so that batch normalization's new statistics, too, are assigned only with the rest
            q, new_others = brain.stateless_call(weights, others, batch.state, training=True)
            loss = self.loss(targets, q, batch.action)
        gradients = tape.gradient(loss, weights)
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in [loss, *gradients]])

        def apply():
            apply_gradients(gradients)
            for variable, value in zip(others, new_others, strict=True):
                variable.assign(value)
            self._updates.assign_add(1)
            self._move_target()
            return True

        return loss, tf.cond(finite, apply, lambda: False)

    def _applied(self, gradients):
        self.optimizer.apply(gradients, self.brain.trainable_variables)

    def _move_target(self):
        """Every `target_update` updates the target model moves to the brain, all the way or the fraction `tau`."""
        if self.target_brain is None:
            return

        def move():
            for old, new in zip(self.target_brain.weights, self.brain.weights, strict=True):  # no seeds of dropout
                old.assign(new if self.tau == 1 else old + self.tau * (new - old))
            return 0

        if self.target_update == 1:
            move()
        else:
            tf.cond(self._updates % self.target_update == 0, move, lambda: 0)


def _packed(batches, bootstrap):
    """The arrays of a `Transition`, [K, B, ...], that are needed, which without `bootstrap` are the first three; packed
    into one, [K, B, 2 size + 3], where states are float32 vectors."""
    if not bootstrap:
        return batches[:3]
    if batches.action_mask is not None:
        return tuple(batches)
    if batches.state.dtype != np.float32 or batches.state.ndim != 3:
        return tuple(batches)
    numbers = np.stack([batches.action, batches.reward, batches.discount], -1, dtype=np.float32, casting="same_kind")
    return (np.concatenate([batches.state, batches.next_state, numbers], -1),)


def _unpacked(arrays, bootstrap):
    """The `Transition` that was packed, as tensors; what nobody needs is the reward again."""
    if not bootstrap:
        return Transition(*arrays, arrays[2], arrays[2])
    if len(arrays) > 1:
        return transition(*arrays)
    size = (arrays[0].shape[-1] - 3) // 2
    states, next_states, action, reward, discount = tf.split(arrays[0], [size, size, 1, 1, 1], axis=-1)
    return Transition(states, tf.cast(action[..., 0], tf.int32), reward[..., 0], discount[..., 0], next_states)


def _of_allowed(q, action_mask):
    """The Q-values, [B, actions], with those of actions that are not allowed below all others."""
    return q if action_mask is None else tf.where(action_mask, q, q.dtype.min)


def _has_convolution(model):
    return any("Conv" in type(layer).__name__ or _has_convolution(layer) for layer in getattr(model, "layers", []))


def make_learner(
    brain: "keras.Model | None",
    network: Any,
    state_shape: tuple[int, ...],
    action_size: int,
    settings: "LearnerSettings",
    seed: Seed,
    bootstrap: bool = True,
) -> Learner:
    """The `Learner` of a brain, the caller's own or a default one, with its optimizer and its target model.

    Args:
        brain: a Keras model, or None.
        network: what `networks.mlp.default_brain` makes a brain of where there is none.
        settings: `LearnerSettings`.
        seed: of the initial weights.
        bootstrap: as `Learner` has it.

    Raises:
        ValueError: the brain does not map [B, *state_shape] to [B, action_size].
    """
    if brain is None:
        brain = default_brain(network, state_shape, action_size, seed)
    brain = built(brain, state_shape, action_size, settings.optimizer, settings.learning_rate)
    target_update = NEVER if settings.target_update_episodes is not None else settings.target_update
    target_brain = None if target_update is None else keras.models.clone_model(brain)
    target = (target_brain, target_update, settings.tau, settings.double)
    return Learner(
        brain, brain.optimizer, settings.loss, *target, bootstrap, updates_before_xla=settings.updates_before_xla
    )
