"""How the torch network learns: `learner.compiled`, in a plain eager loop."""

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from keras_dqn.backend import keras
from keras_dqn.checks import Seed, seed_sequence
from keras_dqn.core.learner import NEVER
from keras_dqn.core.networks.brain import default_brain
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.transition import Transition
from keras_dqn.files.weights import read_weights, save_weights
from keras_dqn.pytorch.network import QNetwork, from_state_dict, to_state_dict
from keras_dqn.pytorch.optimizer import aligned_optimizer, clip_gradients

if TYPE_CHECKING:
    from keras_dqn.core.settings import LearnerSettings

LOSSES = {
    "fit_mse": nn.functional.mse_loss,
    "huber": nn.functional.smooth_l1_loss,
    "mse": nn.functional.mse_loss,
}


class TorchLearner:
    """What `Learner` is, for a torch network and optimizer, in a plain eager loop.

    Args:
        brain: an `nn.Module`, float32 [B, ...] to Q-values [B, actions], without dropout or batch normalization.
        optimizer: a torch optimizer of its parameters.
        loss, target_brain, target_update, tau, double: as `Learner` has them.
        clipping: options of `clip_gradients`, like `{"clipvalue": 100}`.
        twin: a Keras network of the same layers, which reads and writes the .h5 files; None where there are none.
    """

    def __init__(
        self,
        brain: "torch.nn.Module",
        optimizer: "torch.optim.Optimizer",
        loss: str = "mse",
        target_brain: "torch.nn.Module | None" = None,
        target_update: int | None = None,
        tau: float = 1.0,
        double: bool = False,
        clipping: dict[str, float] | None = None,
        twin: "keras.Model | None" = None,
    ):
        if loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {sorted(LOSSES)}. Received: {loss!r}")
        if double and target_brain is None:
            raise ValueError("`double` needs a target network. Received: target_brain=None")
        for module in brain.modules():  # they would need to be told when they are trained, and when asked
            if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
                raise ValueError(f"`brain` must be the same in training and evaluation. Received: {module}")
        self.brain, self.target_brain, self.optimizer = brain, target_brain, optimizer
        self.loss, self.target_update, self.tau, self.double = LOSSES[loss], target_update, tau, double
        self.fit_mean = loss == "fit_mse"  # Keras' `fit` also averages over the untaken actions, whose error is zero
        self.clipping = {name: value for name, value in (clipping or {}).items() if value is not None}
        self.updates, self.twin = 0, twin
        self._parameters = list(brain.parameters())
        self._target_parameters = [] if target_brain is None else list(target_brain.parameters())
        self.copy_to_target()

    @property
    def learning_rate(self) -> float:
        """The optimizer's. A new one counts from the next update on."""
        return self.optimizer.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, rate: float):
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def update(self, batches: Transition) -> np.ndarray:
        """K gradient updates one after the other, from a `Transition` of arrays [K, B, ...]; the losses, float32 [K].

        Raises FloatingPointError, as `Learner.update` does, before a number that is not finite can reach the weights.
        """
        states, actions, rewards, discounts, next_states = map(torch.from_numpy, batches[:5])
        # without masks, each update gets nothing in their place
        action_mask = [None] * len(actions) if batches.action_mask is None else torch.from_numpy(batches.action_mask)
        batches = states.float(), actions.long(), rewards, discounts, next_states.float(), action_mask
        losses = np.empty(len(actions), np.float32)
        for k, batch in enumerate(zip(*batches, strict=True)):
            losses[k], finite = self._gradient_step(*batch)
            if not finite:
                stopped = f"The loss or a gradient of update {k + 1} of {len(losses)} is not finite; it was not made"
                raise FloatingPointError(f"{stopped}, nor those after it. Received: a loss of {losses[k]}")
        return losses

    @torch.inference_mode()
    def q_values(self, states: np.ndarray) -> np.ndarray:
        """The brain's Q-values, [N, actions] float32, of states [N, *state_shape]."""
        return self.brain(torch.from_numpy(states).float()).numpy()

    def sync(self) -> None:
        """Take over the weights that others assigned to the brain: torch asks the brain itself each time."""

    def keras_model(self) -> "keras.Model":
        """The twin, with the weights as they are now."""
        self.twin.set_weights(from_state_dict(self.brain.state_dict(), self.twin))
        return self.twin

    def save_weights(self, path: str | Path) -> None:
        """Write the brain's weights to an .h5 file that Keras reads, whole or not at all."""
        save_weights(self.keras_model(), path)

    def load_weights(self, path: str | Path) -> None:
        """Take the weights of brain and target network from an .h5 file, as `Learner.load_weights` does."""
        self.brain.load_state_dict(to_state_dict(read_weights(self.twin, path)))
        self.copy_to_target()

    def read_weights(self) -> np.ndarray:
        """All of the brain's weights as one vector, float32 [parameters], in the order and layout of Keras."""
        return np.concatenate([parameter.detach().numpy().T.ravel() for parameter in self._parameters])

    @torch.no_grad()
    def copy_to_target(self, tau: float = 1.0) -> None:
        """Make the target network equal to the brain, as at construction; or move it there by the fraction tau."""
        if self.target_brain is not None:
            torch._foreach_lerp_(self._target_parameters, self._parameters, tau)

    def _gradient_step(self, states, actions, rewards, discounts, next_states, action_mask):
        """One update of B transitions: its loss, and whether that and the gradients were finite and it was made."""
        targets = self._targets(rewards, discounts, next_states, action_mask)
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
    def _targets(self, rewards, discounts, next_states, action_mask):
        next_q = _of_allowed((self.brain if self.target_brain is None else self.target_brain)(next_states), action_mask)
        if not self.double:
            return rewards + discounts * next_q.amax(1)
        chosen = _of_allowed(self.brain(next_states), action_mask).argmax(1, keepdim=True)
        return rewards + discounts * next_q.gather(1, chosen).squeeze(1)


def _of_allowed(q, action_mask):
    """The Q-values, [B, actions], with those of actions that are not allowed below all others."""
    return q if action_mask is None else q.where(action_mask, torch.finfo(q.dtype).min)


def make_torch_learner(
    brain: "keras.Model | QNetwork | None",
    network: Any,
    state_shape: tuple[int, ...],
    action_size: int,
    settings: "LearnerSettings",
    seed: Seed,
    torch_optimizer: Callable[..., Any] | None = None,
    clipping: dict[str, float] | None = None,
    keeps_weights: bool = True,
) -> TorchLearner:
    """The `TorchLearner` of a brain, the caller's own or a default one, with its optimizer and its target network.

    Args:
        brain: an `nn.Module`, or None.
        network: options of `QNetwork`, where there is no brain.
        settings: `LearnerSettings`.
        seed: of the initial weights.
        torch_optimizer, clipping: as `TorchAgent` has them.
        keeps_weights: whether weights will be written, so that a brain which .h5 files cannot hold is refused now.

    Raises:
        ValueError: the brain does not map [B, *state_shape] to [B, action_size], or cannot be written.
    """
    if brain is None:
        brain = _default_brain(network or {}, state_shape, action_size, seed)
    if not isinstance(brain, nn.Module):
        raise ValueError(f"`brain` must be a torch.nn.Module. Received: {brain!r}")
    with torch.no_grad():
        shape = tuple(brain(torch.zeros(1, *state_shape)).shape)
    if shape != (1, action_size):
        raise ValueError(f"`brain` must return [1, {action_size}] for one state. Received: {shape}")
    if settings.optimizer is None or torch_optimizer is not None:
        rate = settings.learning_rate or 0.001
        optimizer = (torch_optimizer or partial(torch.optim.Adam, lr=rate, fused=True))(brain.parameters())
    else:
        theirs = settings.optimizer
        theirs = theirs if isinstance(theirs, keras.optimizers.Optimizer) else theirs()
        optimizer = aligned_optimizer(theirs, brain.parameters())
        names = ("clipnorm", "clipvalue", "global_clipnorm")
        clipping = clipping or {name: getattr(theirs, name) for name in names}
    twin = _twin(brain, state_shape, action_size) if len(state_shape) == 1 else None
    if keeps_weights:
        from_state_dict(brain.state_dict(), twin)  # raises now, not when hours of training are saved
    target_update = NEVER if settings.target_update_episodes is not None else settings.target_update
    target_brain = None if target_update is None else copy.deepcopy(brain)
    rest = (settings.loss, target_brain, target_update, settings.tau, settings.double, clipping, twin)
    return TorchLearner(brain, optimizer, *rest)


def _default_brain(options, state_shape, action_size, seed):
    if len(state_shape) != 1 or callable(options):
        return default_brain(options, state_shape, action_size, seed)  # which raises, or makes what is no module
    options = {"seed": seed, **options}
    with torch.random.fork_rng(devices=[]):  # nobody else's random numbers change
        torch.manual_seed(int(seed_sequence(options.pop("seed")).generate_state(1)[0]))
        return QNetwork(state_shape[0], action_size, **options)


def _twin(brain, state_shape, action_size):
    """A Keras network of the shapes that the brain should have, which reads and writes its files."""
    state_dict = brain.state_dict()
    *hidden, outputs = [len(tensor) for name, tensor in state_dict.items() if name.endswith("weight")]
    return mlp(state_shape[0], action_size, hidden, dueling=outputs == action_size + 1)
