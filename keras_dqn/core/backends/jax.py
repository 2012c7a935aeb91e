"""What is JAX's in an update: the gradient, the compiled loop, and the assignment."""

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from keras_dqn.backend import keras
from keras_dqn.core.backends.packing import packed, unpacked
from keras_dqn.core.loss import MinibatchLoss, acting_values
from keras_dqn.core.transition import Transition


class Updates:
    """K gradient updates of B transitions, one after the other, in one compiled call.

    Args:
        loss: of a minibatch.
        optimizer: a Keras optimizer that is built; its clipping is its own.
        jit_compile: makes no difference: JAX compiles everything with XLA.
    """

    def __init__(self, loss: MinibatchLoss, optimizer: "keras.optimizers.Optimizer", jit_compile: bool):
        self._loss, self._optimizer = loss, optimizer
        brain, target = loss.brain, loss.target
        of_target = [] if target is None else target.variables
        of_brain = brain.trainable_variables, brain.non_trainable_variables
        self._parts = *of_brain, optimizer.variables, of_target, loss.objective.variables
        self._variables = [one for part in self._parts for one in part]
        self._count = 0  # of all updates, which the target moves by
        self.traces = 0  # how often an update was traced
        self._update = jax.jit(self._updated)
        self._forward = jax.jit(self._q_values)
        self._flatten = jax.jit(self._flat)

    def set_count(self, count: int) -> None:
        """So many updates have been made."""
        self._count = count

    def __call__(self, batches: Transition, plainly: bool) -> tuple[np.ndarray, "jax.Array", int, np.ndarray]:
        """Make K updates from a `Transition` of arrays [K, B, ...], until one is not finite.

        Args:
            plainly: makes no difference.

        Returns:
            Losses, [K]; errors, [K, B], an array of JAX, as few ask; how many updates were made; and all weights after
            them, [parameters]. All float32.
        """
        fields = packed(batches, self._loss.bootstraps)
        values, losses, errors, made, flat_weights = self._update(self._values(), self._count, fields)
        for variable, value in zip(self._variables, values, strict=True):
            variable._value = value
        made = int(made)
        self._count += made
        return np.asarray(losses), errors, made, np.asarray(flat_weights)

    def q_values(self, states: np.ndarray, draw: int | None = None) -> np.ndarray:
        """Q-values, float32 [N, actions], of states [N, *state_shape]; with the noise of a draw, or without."""
        return np.asarray(self._forward(self._values(), states, draw))

    def read_weights(self) -> np.ndarray:
        """All of the brain's weights as one vector, float32 [parameters], in the order of `brain.weights`."""
        return np.asarray(self._flatten(self._values()))

    def _values(self):
        """What all variables hold. `assign` and `value` of Keras take longer than an update, hence `_value`."""
        return [one._value for one in self._variables]

    def _updated(self, values, count, fields):
        """One gradient step a round, until all K are made or one is not finite."""
        self.traces += 1
        batches = unpacked(fields, self._loss.bootstraps)
        total, size = batches.reward.shape
        if total == 1:  # without a loop it is compiled sooner
            loss, error, finite, values = self._gradient_step(values, count, batches.each(lambda field: field[0]))
            return values, loss[None], error[None], finite.astype(jnp.int32), self._flat(values)

        def gradient_step(carry):
            k, _, values, losses, errors = carry
            batch = batches.each(lambda field: lax.dynamic_index_in_dim(field, k, keepdims=False))
            loss, error, finite, values = self._gradient_step(values, count + k, batch)
            return k + finite, finite, values, losses.at[k].set(loss), errors.at[k].set(error)

        begin = jnp.int32(0), jnp.bool_(True), values, jnp.zeros(total), jnp.zeros((total, size))
        made, _, values, losses, errors = lax.while_loop(
            lambda carry: (carry[0] < total) & carry[1], gradient_step, begin
        )
        return values, losses, errors, made, self._flat(values)

    def _gradient_step(self, values, count, batch):
        """One update from one minibatch [B, ...]: its loss, the errors, [B], whether all is finite, and the values.

        Where it is not, they are those from before.
        """
        trained, others, optimizer, target, _ = self._split(values)
        with self._scope(values) as scope:
            targets = self._loss.targets(batch, count)

            def loss_and_rest(weights):
                loss, errors, others = self._loss(batch, targets, weights, count)
                return loss, (errors, others)

            (loss, (errors, others)), gradients = jax.value_and_grad(loss_and_rest, has_aux=True)(trained)
            weights, optimizer = self._optimizer.stateless_apply(optimizer, gradients, trained)
            counted = [scope.get_current_value(one) for one in self._loss.objective.variables]
        finite = jnp.isfinite(loss)
        for gradient in gradients:
            finite &= jnp.isfinite(gradient).all()
        new = [*weights, *others]
        new += [*optimizer, *self._moved(target, new, count + 1), *counted]
        return loss, errors, finite, [jnp.where(finite, *pair) for pair in zip(new, values, strict=True)]

    def _moved(self, old, new, count):
        """The target network's values after that many updates."""
        target = self._loss.target
        if target is None:
            return old
        with self._scope(new):
            followed = [one.value for one in self._loss.brain.weights]

        def move(old):
            return [target.moved(*pair) for pair in zip(old, followed, strict=True)]

        return move(old) if target.every == 1 else lax.cond(count % target.every == 0, move, lambda old: old, old)

    def _q_values(self, values, states, draw):
        with self._scope(values):
            return acting_values(self._loss.brain, self._loss.objective, states, draw)

    def _flat(self, values):
        with self._scope(values):
            return jnp.concatenate([one.value.astype(jnp.float32).ravel() for one in self._loss.brain.weights])

    def _scope(self, values):
        """Within it, the variables hold these values."""
        return keras.StatelessScope(list(zip(self._variables, values, strict=False)))

    def _split(self, values):
        ends = np.cumsum([len(part) for part in self._parts])
        return [values[end - len(part) : end] for end, part in zip(ends, self._parts, strict=True)]
