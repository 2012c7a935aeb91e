"""What is PyTorch's in an update: the gradient and the assignment, one operation after the other."""

import numpy as np
import torch

from keras_dqn.backend import keras
from keras_dqn.core.loss import MinibatchLoss, acting_values
from keras_dqn.core.transition import Transition


class Updates:
    """K gradient updates of B transitions, one after the other; PyTorch compiles none of it.

    Args:
        loss: of a minibatch.
        optimizer: a Keras optimizer that is built; its clipping is its own.
        jit_compile: makes no difference.
    """

    traces = 0  # of an update: it is not traced

    def __init__(self, loss: MinibatchLoss, optimizer: "keras.optimizers.Optimizer", jit_compile: bool):
        self._loss, self._optimizer = loss, optimizer
        self._count = 0  # of all updates, which the target moves by

    def set_count(self, count: int) -> None:
        """So many updates have been made."""
        self._count = count

    def __call__(self, batches: Transition, plainly: bool) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
        """Make K updates from a `Transition` of arrays [K, B, ...], until one is not finite.

        Args:
            plainly: makes no difference.

        Returns:
            Losses, [K]; errors, [K, B]; how many updates were made; and all weights after them, [parameters]. All
            float32.
        """
        losses, errors = np.zeros(len(batches.reward), np.float32), np.zeros(batches.reward.shape, np.float32)
        made = 0
        for k in range(len(losses)):
            batch = batches.each(lambda field, k=k: keras.ops.convert_to_tensor(field[k]))
            loss, error, finite = self._gradient_step(batch)
            losses[k], errors[k] = loss.item(), error.detach().cpu()
            if not finite:
                break
            made += 1
        return losses, errors, made, self.read_weights()

    def q_values(self, states: np.ndarray, draw: int | None = None) -> np.ndarray:
        """Q-values, float32 [N, actions], of states [N, *state_shape]; with the noise of a draw, or without."""
        with torch.no_grad():
            return acting_values(self._loss.brain, self._loss.objective, states, draw).cpu().numpy()

    def read_weights(self) -> np.ndarray:
        """All of the brain's weights as one vector, float32 [parameters], in the order of `brain.weights`."""
        with torch.no_grad():
            weights = [one.value.reshape(-1).to(torch.float32) for one in self._loss.brain.weights]
            return torch.cat(weights).cpu().numpy()

    def _gradient_step(self, batch):
        """One update from one minibatch [B, ...]: its loss, the errors, [B], and whether it was made."""
        brain = self._loss.brain
        with torch.no_grad():
            targets = self._loss.targets(batch, self._count)
        weights = [one.value for one in brain.trainable_variables]
        loss, errors, others = self._loss(batch, targets, weights, self._count)
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        gradients = [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, weights, strict=True)]
        finite = all(bool(torch.isfinite(one).all()) for one in [loss, *gradients])
        if finite:
            with torch.no_grad():
                self._optimizer.apply(gradients, brain.trainable_variables)
                for variable, value in zip(brain.non_trainable_variables, others, strict=True):
                    variable.assign(value)
                self._count += 1
                self._move_target()
        return loss, errors, finite

    def _move_target(self):
        """Every so many updates the target network moves to the brain."""
        target = self._loss.target
        if target is not None and self._count % target.every == 0:
            for old, new in zip(target.variables, self._loss.brain.weights, strict=True):
                old.assign(target.moved(old.value, new.value))
