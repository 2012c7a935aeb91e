"""How the torch network learns: `learner.compiled`, in a plain eager loop."""

import math

import numpy as np
import torch
from torch import nn

from keras_dqn.pytorch.optimizer import clip_gradients

LOSSES = {"mse": nn.functional.mse_loss, "huber": nn.functional.smooth_l1_loss}


class TorchLearner:
    """What `Learner` is, for a torch network and optimizer, in a plain eager loop.

    Args:
        brain: an `nn.Module`, float32 [B, ...] to Q-values [B, actions], without dropout or batch normalisation.
        optimizer: a torch optimizer of its parameters.
        loss, target_brain, target_update, tau, double: as `Learner` has them.
        clipping: options of `clip_gradients`, like `{"clipvalue": 100}`.
    """

    def __init__(
        self, brain, optimizer, loss="mse", target_brain=None, target_update=None, tau=1.0, double=False, clipping=None
    ):
        if loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {sorted(LOSSES)}. Received: {loss!r}")
        if double and target_brain is None:
            raise ValueError("`double` needs a target model. Received: target_brain=None")
        for module in brain.modules():  # they would need to be told when they are trained, and when asked
            if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
                raise ValueError(f"`brain` must be the same in training and evaluation. Received: {module}")
        self.brain, self.target_brain, self.optimizer = brain, target_brain, optimizer
        self.loss, self.target_update, self.tau, self.double = LOSSES[loss], target_update, tau, double
        self.fit_mean = loss == "mse"  # Keras' `fit` also averages over the untaken actions, whose error is zero
        self.clipping = {name: value for name, value in (clipping or {}).items() if value is not None}
        self.updates = 0
        self._parameters = list(brain.parameters())
        self._target_parameters = [] if target_brain is None else list(target_brain.parameters())
        self.copy_to_target()

    @property
    def learning_rate(self):
        """The optimizer's. A new one counts from the next update on."""
        return self.optimizer.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, rate):
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def update(self, batches):
        """K gradient updates one after the other, from a `Transition` of arrays [K, B, ...]; the losses, float32 [K].

        Raises FloatingPointError, as `Learner.update` does, before a number that is not finite can reach the weights.
        """
        states, actions, rewards, discounts, next_states = map(torch.from_numpy, batches)
        batches = states.float(), actions.long(), rewards, discounts, next_states.float()
        losses = np.empty(len(actions), np.float32)
        for k, batch in enumerate(zip(*batches, strict=True)):
            losses[k], finite = self._gradient_step(*batch)
            if not finite:
                stopped = f"The loss or a gradient of update {k + 1} of {len(losses)} is not finite; it was not made"
                raise FloatingPointError(f"{stopped}, nor those after it. Received: a loss of {losses[k]}")
        return losses

    def read_weights(self):
        """All of the brain's weights as one vector, float32 [parameters], in the order and layout of Keras."""
        return np.concatenate([parameter.detach().numpy().T.ravel() for parameter in self._parameters])

    @torch.no_grad()
    def copy_to_target(self, tau=1.0):
        """Make the target model equal to the brain, as it is at construction; or move it there by the fraction tau."""
        if self.target_brain is not None:
            torch._foreach_lerp_(self._target_parameters, self._parameters, tau)

    def _gradient_step(self, states, actions, rewards, discounts, next_states):
        """One update of B transitions: its loss, and whether that and the gradients were finite and it was made."""
        targets = self._targets(rewards, discounts, next_states)
        q = self.brain(states)
        loss = self.loss(q.gather(1, actions.unsqueeze(1)).squeeze(1), targets)
        if self.fit_mean:
            loss = loss / q.shape[1]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # before clipping, which would hide an infinity; by the largest of each, as a sum of squares may overflow
        largest = torch._foreach_norm([parameter.grad for parameter in self._parameters], math.inf)
        value, finite = loss.item(), bool(torch.stack(largest).isfinite().all())
        finite = finite and math.isfinite(value)
        if finite:
            clip_gradients(self._parameters, **self.clipping)
            self.optimizer.step()
            self.updates += 1
            if self.target_brain is not None and self.updates % self.target_update == 0:
                self.copy_to_target(self.tau)
        return value, finite

    @torch.no_grad()
    def _targets(self, rewards, discounts, next_states):
        next_q = (self.brain if self.target_brain is None else self.target_brain)(next_states)
        if not self.double:
            return rewards + discounts * next_q.amax(1)
        chosen = self.brain(next_states).argmax(1, keepdim=True)
        return rewards + discounts * next_q.gather(1, chosen).squeeze(1)
