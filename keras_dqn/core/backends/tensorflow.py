"""What is TensorFlow's in an update: the gradient, the compiled loop, and the assignment."""

import functools

import numpy as np
import tensorflow as tf

from keras_dqn.backend import keras, stderr_held_back
from keras_dqn.core.backends.packing import packed, unpacked
from keras_dqn.core.loss import MinibatchLoss, acting_values
from keras_dqn.core.transition import Transition


class Updates:
    """K gradient updates of B transitions, one after the other, in one compiled call.

    Args:
        loss: of a minibatch.
        optimizer: a Keras optimizer that is built; its clipping is its own.
        jit_compile: whether XLA compiles the whole of it, the loop included, or only the optimizer.
    """

    def __init__(self, loss: MinibatchLoss, optimizer: "keras.optimizers.Optimizer", jit_compile: bool):
        warm_up_xla()
        self._loss, self._optimizer, self._jit_compile = loss, optimizer, jit_compile
        self._count = tf.Variable(0, dtype=tf.int64, trainable=False)  # of all updates, which the target moves by
        self._update = tf.function(self._updated, jit_compile=jit_compile, autograph=False)
        self._update_plainly = tf.function(self._updated_plainly, autograph=False)
        self._traced = {}  # which of them and the layout of the arrays: that function, traced for it
        # The optimizer is one pass over the weights in XLA and ten without: worth it even within a plain graph.
        self._apply = tf.function(self._applied, jit_compile=True, autograph=False)
        self._flatten = tf.function(self._flat, autograph=False).get_concrete_function()
        acting = functools.partial(acting_values, loss.brain, loss.objective)
        self._forward = tf.function(lambda states, draw: acting(states, draw), autograph=False)

    @property
    def traces(self) -> int:
        """How often an update was traced."""
        return sum(f.experimental_get_tracing_count() for f in (self._update, self._update_plainly))

    def set_count(self, count: int) -> None:
        """So many updates have been made."""
        self._count.assign(count)

    def __call__(self, batches: Transition, plainly: bool) -> tuple[np.ndarray, "tf.Tensor", int, np.ndarray]:
        """Make K updates from a `Transition` of arrays [K, B, ...], until one is not finite.

        Args:
            plainly: one update (K = 1) by a plain graph: it is ready in a tenth of the time, and costs a fifth more.

        Returns:
            Losses, [K]; errors, [K, B], a tensor, as few ask; how many updates were made; and all weights after
            them, [parameters]. All float32.
        """
        # With small networks the call costs as much as the arithmetic: so one array where that can be, made into a
        # tensor here, and a function that is looked up by layout and not by all its arguments.
        fields = packed(batches, self._loss.bootstraps)
        layout = (plainly, *((field.shape, field.dtype) for field in fields))
        fields = [tf.constant(field) for field in fields]
        if layout not in self._traced:
            function = self._update_plainly if plainly else self._update
            self._traced[layout] = function.get_concrete_function(*fields)
        losses, errors, made, flat_weights = self._traced[layout](*fields)
        return losses.numpy(), errors, int(made), flat_weights.numpy() if self._jit_compile else self.read_weights()

    def q_values(self, states: np.ndarray, draw: int | None = None) -> np.ndarray:
        """Q-values, float32 [N, actions], of states [N, *state_shape]; with the noise of a draw, or without."""
        return self._forward(tf.constant(states), None if draw is None else tf.constant(draw)).numpy()

    def read_weights(self) -> np.ndarray:
        """All of the brain's weights as one vector, float32 [parameters], in the order of `brain.weights`."""
        return self._flatten().numpy()

    def _updated(self, *fields):
        """One gradient step a round, until all K are made or one is not finite."""
        batches = unpacked(fields, self._loss.bootstraps)
        count, size = batches.reward.shape

        def gradient_step(k, finite, losses, errors):
            loss, error, finite = self._gradient_step(batches.each(lambda field: field[k]), self._apply)
            return k + tf.cast(finite, tf.int32), finite, losses.write(k, loss), errors.write(k, error)

        losses, errors = (tf.TensorArray(tf.float32, size=count, element_shape=shape) for shape in ((), (size,)))
        made, _, losses, errors = tf.while_loop(
            lambda k, finite, *_: (k < count) & finite,
            gradient_step,
            (0, True, losses, errors),
            maximum_iterations=count,
        )
        return losses.stack(), errors.stack(), made, self._flat() if self._jit_compile else tf.zeros(0)

    def _updated_plainly(self, *fields):
        """The same for K = 1, without a loop and with nothing in it that XLA compiles."""
        batch = unpacked(fields, self._loss.bootstraps).each(lambda field: field[0])
        loss, errors, finite = self._gradient_step(batch, self._applied)
        return loss[tf.newaxis], errors[tf.newaxis], tf.cast(finite, tf.int32), self._flat()

    def _gradient_step(self, batch, apply_gradients):
        """One update from one minibatch [B, ...]; nothing is assigned unless loss and gradients are finite.

        Returns:
            The loss, the errors, [B], and whether the update was made.
        """
        brain = self._loss.brain
        targets = self._loss.targets(batch, self._count)
        weights = [variable.value for variable in brain.trainable_variables]
        with tf.GradientTape() as tape:
            loss, errors, others = self._loss(batch, targets, weights, self._count)
        gradients = tape.gradient(loss, weights)
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in [loss, *gradients]])

        def apply():
            apply_gradients(gradients)
            for variable, value in zip(brain.non_trainable_variables, others, strict=True):
                variable.assign(value)
            self._count.assign_add(1)
            self._move_target()
            return True

        return loss, errors, tf.cond(finite, apply, lambda: False)

    def _applied(self, gradients):
        self._optimizer.apply(gradients, self._loss.brain.trainable_variables)

    def _move_target(self):
        """Every so many updates the target network moves to the brain."""
        target = self._loss.target
        if target is None:
            return

        def move():
            for old, new in zip(target.variables, self._loss.brain.weights, strict=True):
                old.assign(target.moved(old.value, new.value))
            return 0

        if target.every == 1:
            move()
        else:
            tf.cond(self._count % target.every == 0, move, lambda: 0)

    def _flat(self):
        weights = self._loss.brain.weights
        return tf.concat([tf.reshape(tf.cast(weight.value, tf.float32), [-1]) for weight in weights], 0)


@functools.cache
def warm_up_xla() -> None:
    """Compile something small with XLA, once, so that what XLA says of itself is not said in the middle of a training.

    Not on import, because it starts TensorFlow's devices, whose settings cannot be changed after that.
    """
    with stderr_held_back():
        tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(0.0))
