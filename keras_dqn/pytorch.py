"""The agent in PyTorch, to compare with and to port from: the memory, exploration, loop and files are those of `Agent`.

It runs on the CPU, where networks of this size are fastest. What differs between the two libraries, and what to set for
the same on both sides, is a table of docs/compare.md, "The PyTorch version".
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.checks import Seed, seed_sequence
from keras_dqn.core.agent import Agent
from keras_dqn.core.learner import Update
from keras_dqn.core.loss import NEVER
from keras_dqn.core.networks.mlp import default_brain, mlp
from keras_dqn.core.settings import LearnerSettings, shown_signature
from keras_dqn.core.transition import Transition
from keras_dqn.files.weights import load_weights, save_weights

try:
    import torch
    from torch import nn
except ImportError as error:
    message = f"keras_dqn.pytorch needs PyTorch: pip install torch. Received: {error}"
    raise ImportError(message, name="torch") from error

LOSSES = {"fit_mse": nn.functional.mse_loss, "huber": nn.functional.smooth_l1_loss, "mse": nn.functional.mse_loss}
CLIPPING = {  # an option of Keras's optimizers: what does the same to the gradients of parameters
    "clipnorm": lambda parameters, norm: [nn.utils.clip_grad_norm_(parameter, norm) for parameter in parameters],
    "clipvalue": nn.utils.clip_grad_value_,
    "global_clipnorm": nn.utils.clip_grad_norm_,
}


class TorchAgent(Agent):
    """The `Agent` with a torch brain; memory, exploration, loop and .h5 files are the same.

    Args:
        brain: an `nn.Module`, [B, *state_shape] to [B, action_size], instead of the default `QNetwork`. To start from
            given weights: `brain.load_state_dict(to_state_dict(keras_model))`.
        network: options of `QNetwork`.
        optimizer: a Keras optimizer, or a function that makes one, to be aligned with, its clipping included.
        torch_optimizer: a function from parameters to a torch optimizer, instead; without either, torch's Adam.
        clipping: of gradients, like {"clipvalue": 100}, with a name of `CLIPPING`; by default that of `optimizer`.
        *arguments, **options: as `Agent` has them.
    """

    def __init__(
        self,
        *arguments: Any,
        torch_optimizer: Callable[..., Any] | None = None,
        clipping: dict[str, float] | None = None,
        **options: Any,
    ):
        self._torch_optimizer, self._clipping = torch_optimizer, clipping
        super().__init__(*arguments, **options)

    def make_learner(self, brain: "QNetwork | None", network: Any, seed: Seed) -> "TorchLearner":
        """The `TorchLearner` of a brain, the caller's own or a default one.

        Raises:
            ValueError: the brain does not map [B, *state_shape] to [B, action_size], or .h5 files cannot hold it.
        """
        if (objective := self.settings.learner.objective) is not None:
            raise ValueError(f"`objective` is for Keras; in torch give a `loss`. Received: {objective!r}")
        if self.settings.memory.prioritized:
            raise ValueError("`prioritized` is for Keras: no update in torch weighs errors. Received: True")
        if isinstance(network, dict) and network.get("noisy"):
            raise ValueError("`noisy` networks are for Keras: `QNetwork` has no such layers. Received: noisy=True")
        if brain is None:
            brain = self._default_brain(network or {}, seed)
        if not isinstance(brain, nn.Module):
            raise ValueError(f"`brain` must be a torch.nn.Module. Received: {brain!r}")
        with torch.no_grad():
            shape = tuple(brain(torch.zeros(1, *self.state_shape)).shape)
        if shape != (1, self.action_size):
            raise ValueError(f"`brain` must return [1, {self.action_size}] for one state. Received: {shape}")
        optimizer, clipping = self._optimizer_of(brain.parameters())
        twin = self._keras_twin(brain) if len(self.state_shape) == 1 else None
        if self.weight_backup is not None:
            from_state_dict(brain.state_dict(), twin)  # raises now, not when hours of training are saved
        return TorchLearner(brain, optimizer, self.settings.learner, clipping, twin)

    def _default_brain(self, options, seed):
        if len(self.state_shape) != 1 or callable(options):  # which raises, or makes what is not a module
            return default_brain(options, self.state_shape, self.action_size, seed)
        options = {"seed": seed, **options}
        with torch.random.fork_rng(devices=[]):  # nobody else's random numbers change
            torch.manual_seed(int(seed_sequence(options.pop("seed")).generate_state(1)[0]))
            return QNetwork(self.state_shape[0], self.action_size, **options)

    def _optimizer_of(self, parameters):
        """The torch optimizer of the parameters, and the clipping that goes with it."""
        settings = self.settings.learner
        if self._torch_optimizer is not None:
            return self._torch_optimizer(parameters), self._clipping
        if settings.optimizer is None:
            return torch.optim.Adam(parameters, settings.learning_rate or 0.001, fused=True), self._clipping
        theirs = settings.optimizer() if callable(settings.optimizer) else keras.optimizers.get(settings.optimizer)
        clipping = self._clipping or {name: getattr(theirs, name) for name in CLIPPING}
        return aligned_optimizer(theirs, parameters), clipping

    def _keras_twin(self, brain):
        """A Keras network of the shapes that the brain should have, which reads and writes its files."""
        *hidden, outputs = [len(tensor) for name, tensor in brain.state_dict().items() if name.endswith("weight")]
        return mlp(self.state_shape[0], self.action_size, hidden, dueling=outputs == self.action_size + 1)


TorchAgent.__signature__ = shown_signature(Agent.__init__, TorchAgent.__init__)


class TorchLearner:
    """What `Learner` is, for a torch network and optimizer, in a plain eager loop.

    Args:
        brain: an `nn.Module`, float32 [B, ...] to Q-values [B, actions], without dropout or batch normalization.
        optimizer: a torch optimizer of its parameters.
        settings: of these the loss, "mse", "huber" or "fit_mse", the target network's, and `double`.
        clipping: of gradients, {a name of `CLIPPING`: a number or None}.
        twin: a Keras network of the same layers, which reads and writes the .h5 files; None where there are none.
    """

    def __init__(
        self,
        brain: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: LearnerSettings,
        clipping: dict[str, float] | None = None,
        twin: "keras.Model | None" = None,
    ):
        loss = settings.loss or "fit_mse"
        if loss not in [*LOSSES]:
            raise ValueError(f"`loss` must be one of {sorted(LOSSES)}. Received: {loss!r}")
        for module in brain.modules():  # they would need to be told when they are trained, and when asked
            if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
                raise ValueError(f"`brain` must be the same in training and evaluation. Received: {module}")
        self.brain, self.optimizer, self.twin = brain, optimizer, twin
        self.target_update = settings.target_update if settings.target_update_episodes is None else NEVER
        self.target_brain = None if self.target_update is None else copy.deepcopy(brain)
        self.loss, self.tau, self.double = LOSSES[loss], settings.tau, settings.double
        self.fit_mean = loss == "fit_mse"  # Keras's `fit` also averages over the other actions, whose error is zero
        self.clipping = {name: value for name, value in (clipping or {}).items() if value is not None}
        self.updates, self.weights_assigned = 0, False  # torch asks the brain itself each time
        self._parameters = list(brain.parameters())

    @property
    def learning_rate(self) -> float:
        """The optimizer's. A new one counts from the next update on."""
        return self.optimizer.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, rate: float):
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def update(self, batches: Transition) -> Update:
        """K gradient updates one after the other, from a `Transition` of arrays [K, B, ...].

        Raises:
            FloatingPointError: a loss or gradient is not finite; that update and those after it were not made.
        """
        states, actions, rewards, discounts, next_states = map(torch.from_numpy, batches[:5])
        # without masks, each update gets nothing in their place
        action_mask = [None] * len(actions) if batches.action_mask is None else torch.from_numpy(batches.action_mask)
        batches = states.float(), actions.long(), rewards, discounts, next_states.float(), action_mask
        losses, errors = np.empty(len(actions), np.float32), np.empty(actions.shape, np.float32)
        for k, batch in enumerate(zip(*batches, strict=True)):
            losses[k], errors[k], finite = self._gradient_step(*batch)
            if not finite:
                stopped = f"The loss or a gradient of update {k + 1} of {len(losses)} is not finite; it was not made"
                raise FloatingPointError(f"{stopped}, nor those after it. Received: a loss of {losses[k]}")
        return Update(losses, errors)

    @torch.inference_mode()
    def q_values(self, states: np.ndarray, noise: np.random.Generator | None = None) -> np.ndarray:
        """The brain's Q-values, [N, actions] float32, of states [N, *state_shape]; no network here is noisy."""
        return self.brain(torch.from_numpy(states).float()).numpy()

    def keras_model(self) -> "keras.Model":
        """The twin, with the weights as they are now."""
        self.twin.set_weights(from_state_dict(self.brain.state_dict(), self.twin))
        return self.twin

    def remarks(self) -> list[str]:
        """Nothing: the losses here have nothing to say."""
        return []

    def end_training(self) -> None:
        """Nothing: optimizers that keep averages of the weights are refused here."""

    def save_weights(self, path: str | Path, statistics: np.ndarray | None = None) -> None:
        """Write the brain's weights to an .h5 file that Keras reads, whole or not at all."""
        save_weights(self.keras_model(), path, statistics)

    def load_weights(self, path: str | Path) -> None:
        """Take the weights of brain and target network from an .h5 file, as `Learner.load_weights` does."""
        load_weights(self.twin, path)
        self.brain.load_state_dict(to_state_dict(self.twin.get_weights()))
        self.copy_to_target()

    def read_weights(self) -> np.ndarray:
        """All of the brain's weights as one vector, float32 [parameters], in the order and layout of Keras."""
        return np.concatenate([parameter.detach().numpy().T.ravel() for parameter in self._parameters])

    @torch.no_grad()
    def copy_to_target(self, tau: float = 1.0) -> None:
        """Make the target network equal to the brain, as at construction; or move it there by the fraction tau."""
        if self.target_brain is not None:
            torch._foreach_lerp_(list(self.target_brain.parameters()), self._parameters, tau)

    def _gradient_step(self, states, actions, rewards, discounts, next_states, action_mask):
        """One update of B transitions: its loss, their errors, and whether all was finite and it was made."""
        targets = self._targets(rewards, discounts, next_states, action_mask)
        q = self.brain(states)
        errors = self.loss(q.gather(1, actions.unsqueeze(1)).squeeze(1), targets, reduction="none")
        errors = errors / q.shape[1] if self.fit_mean else errors
        loss = errors.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # before clipping, which would hide an infinity; by the largest of each, as a sum of squares may overflow
        largest = torch._foreach_norm([parameter.grad for parameter in self._parameters], math.inf)
        value, finite = loss.item(), bool(torch.stack(largest).isfinite().all())
        finite = finite and math.isfinite(value)
        if finite:
            for name, most in self.clipping.items():
                CLIPPING[name](self._parameters, most)
            self.optimizer.step()
            self.updates += 1
            if self.target_brain is not None and self.updates % self.target_update == 0:
                self.copy_to_target(self.tau)
        return value, errors.detach().numpy(), finite

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


# ---------------------------------------------------------------- the network, and its weights to Keras and back


class QNetwork(nn.Module):
    """The network of `networks.mlp`, [B, state_size] to [B, action_size], with torch's own initial weights.

    Its layers are layer1, layer2, ... as in the PyTorch tutorial, whose network loads the state_dict as it is.
    """

    def __init__(
        self,
        state_size: int,
        action_size: int,
        hidden: Sequence[int] = (24, 24),
        activation: str = "relu",
        dueling: bool = False,
        center: float | Sequence[float] = 0,
        scale: float | Sequence[float] = 1,
        initializer: str = "torch",
        normalization: str | None = None,
    ):
        super().__init__()
        options = {"activation": activation, "initializer": initializer, "normalization": normalization}
        if options != (torchs := {"activation": "relu", "initializer": "torch", "normalization": None}):
            raise ValueError(f"`network` must have {torchs} in torch. Received: {options}")
        self.rescales = np.any(center) or np.any(np.asarray(scale) != 1)
        self.center, self.scale = torch.as_tensor(center).float(), torch.as_tensor(scale).float()
        self.dueling = dueling
        widths = [state_size, *hidden, action_size + dueling]
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths), 1):
            self.add_module(f"layer{number}", nn.Linear(inputs, outputs))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        x = (states - self.center) / self.scale if self.rescales else states
        *hidden, last = self.children()
        for layer in hidden:
            x = torch.relu(layer(x))
        x = last(x)
        return x[:, -1:] + x[:, :-1] - x[:, :-1].mean(-1, keepdim=True) if self.dueling else x


def to_state_dict(model_or_weights: "keras.Model | Sequence[np.ndarray]") -> dict[str, torch.Tensor]:
    """The state_dict of `QNetwork` from a Keras model of Dense layers, or its `get_weights()`: [kernel, bias, ...]."""
    weights = getattr(model_or_weights, "get_weights", lambda: model_or_weights)()
    state_dict = {}
    for i, array in enumerate(weights):
        name = f"layer{i // 2 + 1}.{'bias' if i % 2 else 'weight'}"
        if np.ndim(array) != 2 - i % 2:
            raise ValueError(f"{name!r}: expected kernels [in, out], each with its bias. Received: {np.shape(array)}")
        state_dict[name] = torch.tensor(np.asarray(array, np.float32).T)
    return state_dict


def from_state_dict(state_dict: dict[str, Any], model: "keras.Model") -> list[np.ndarray]:
    """The arrays for `model.set_weights` from a state_dict that is named and shaped as `to_state_dict` does it.

    Raises:
        ValueError: a tensor is missing, unexpected, of another shape or not finite; the message names it.
    """
    expected = to_state_dict(model)
    for name in [*expected, *state_dict]:
        wanted, tensor = expected.get(name), state_dict.get(name)
        if wanted is None or tensor is None:
            raise ValueError(f"{name!r}: expected tensors {list(expected)}. Received: {list(state_dict)}")
        if tensor.shape != wanted.shape or not tensor.is_floating_point() or not tensor.isfinite().all():
            shape, received = tuple(wanted.shape), f"{tuple(tensor.shape)}, {tensor}"
            raise ValueError(f"{name!r}: expected finite floats of shape {shape}. Received: {received}")
    return [state_dict[name].detach().float().numpy().T.copy() for name in expected]


# ---------------------------------------------------------------- optimizers that do what those of Keras do


def aligned_optimizer(
    optimizer: "keras.optimizers.Optimizer", parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """The torch optimizer that does what a Keras SGD, Adam or AdamW does, to float32 rounding; without its clipping.

    Keras adds epsilon to sqrt(v), torch to sqrt(v / (1 - beta_2^t)): the same once torch's epsilon is Keras's divided
    by sqrt(1 - beta_2^t), which a hook sets before every step.
    """
    config, kind, kinds = optimizer.get_config(), type(optimizer), keras.optimizers
    refused = isinstance(config["learning_rate"], dict) or kind not in (kinds.SGD, kinds.Adam, kinds.AdamW)
    refused |= any(config[name] for name in ("use_ema", "loss_scale_factor", "gradient_accumulation_steps"))
    if refused or (kind is kinds.SGD and config["weight_decay"]):
        raise ValueError(f"`optimizer` must be a plain Keras SGD, Adam or AdamW. Received: {kind.__name__}, {config}")
    if kind is kinds.SGD:
        momentum = {"momentum": config["momentum"], "nesterov": config["nesterov"]}
        return torch.optim.SGD(parameters, config["learning_rate"], fused=True, **momentum)
    options = {"amsgrad": config["amsgrad"], "weight_decay": config["weight_decay"] or 0.0, "fused": True}
    beta_2, epsilon = config["beta_2"], config["epsilon"]
    adam = torch.optim.AdamW(parameters, config["learning_rate"], (config["beta_1"], beta_2), epsilon, **options)

    def set_epsilon(adam, *_):
        for group in adam.param_groups:
            steps = float(adam.state[group["params"][0]].get("step", 0))
            group["eps"] = epsilon / math.sqrt(1 - beta_2 ** (steps + 1))

    adam.register_step_pre_hook(set_epsilon)
    return adam


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread while this lasts, so that its speed depends less on what else the machine does.

    On cores that others use, threads that wait for one another have been seen to take a hundred times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
