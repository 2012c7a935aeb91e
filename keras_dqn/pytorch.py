"""The PyTorch version, for comparison: the agent's own memory, exploration, loop and files around a torch network.

It needs the extra `keras_dqn[torch]` and runs on the CPU, where networks of this size are fastest. What differs between
the two libraries, and what to set for the same on both sides, is a table of the README, "The PyTorch version".
"""

import copy
import itertools
import math
from contextlib import contextmanager
from functools import cached_property, partial

import numpy as np

from keras_dqn.agent import Agent
from keras_dqn.backend import keras
from keras_dqn.checks import check_whole, seed_sequence
from keras_dqn.networks import mlp
from keras_dqn.weights import read_weights

try:
    import torch
    from torch import nn
except ImportError as error:
    pip = 'pip install "keras_dqn[torch]"'
    raise ImportError(f"keras_dqn.pytorch needs PyTorch: {pip}. Received: {error}", name="torch") from error

LOSSES = {"mse": nn.functional.mse_loss, "huber": nn.functional.smooth_l1_loss}


class QNetwork(nn.Module):
    """The network of `networks.mlp`, [B, state_size] to [B, action_size], with torch's own initial weights.

    Its layers are layer1, layer2, ... as in the PyTorch tutorial, whose network loads the state_dict as it is.
    """

    def __init__(
        self,
        state_size,
        action_size,
        hidden=(24, 24),
        activation="relu",
        dueling=False,
        center=0,
        scale=1,
        initializer="torch",
        normalisation=None,
    ):
        super().__init__()
        if activation != "relu" or initializer != "torch":
            received = f"{activation!r}, {initializer!r}"
            raise ValueError(f"`activation` must be 'relu' in torch, and `initializer` 'torch'. Received: {received}")
        if normalisation is not None:
            raise ValueError(f"`normalisation` is not there in torch: it must be None. Received: {normalisation!r}")
        self.rescales = np.any(center) or np.any(np.asarray(scale) != 1)
        self.center, self.scale = torch.as_tensor(center).float(), torch.as_tensor(scale).float()
        self.dueling = dueling
        widths = [state_size, *hidden, action_size + dueling]
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths), 1):
            self.add_module(f"layer{number}", nn.Linear(inputs, outputs))

    def forward(self, states):
        x = (states - self.center) / self.scale if self.rescales else states
        *hidden, last = self.children()
        for layer in hidden:
            x = torch.relu(layer(x))
        x = last(x)
        return x[:, -1:] + x[:, :-1] - x[:, :-1].mean(-1, keepdim=True) if self.dueling else x


def to_state_dict(model_or_weights):
    """The state_dict of `QNetwork` from a Keras model of Dense layers, or its `get_weights()`: [kernel, bias, ...]."""
    weights = getattr(model_or_weights, "get_weights", lambda: model_or_weights)()
    state_dict = {}
    for i, array in enumerate(weights):
        name = f"layer{i // 2 + 1}.{'bias' if i % 2 else 'weight'}"
        if np.ndim(array) != 2 - i % 2:
            raise ValueError(f"{name!r}: expected kernels [in, out], each with its bias. Received: {np.shape(array)}")
        state_dict[name] = torch.tensor(np.asarray(array, np.float32).T)
    return state_dict


def from_state_dict(state_dict, model):
    """The arrays for `model.set_weights` from a state_dict that is named and shaped as `to_state_dict` does it.

    Raises ValueError, naming the tensor, where one is missing, unexpected, of another shape or not finite.
    """
    expected = to_state_dict(model)
    if odd := sorted(expected.keys() ^ state_dict.keys()):
        trouble = "is missing" if odd[0] in expected else "is unexpected"
        raise ValueError(f"{odd[0]!r} {trouble}: expected {list(expected)}. Received: {list(state_dict)}")
    for name, tensor in expected.items():
        shape, received = tuple(tensor.shape), state_dict[name]
        if tuple(received.shape) != shape or not received.is_floating_point() or not received.isfinite().all():
            found = f"{tuple(received.shape)}, {received}"
            raise ValueError(f"{name!r}: expected finite floats of shape {shape}. Received: {found}")
    return [state_dict[name].detach().float().numpy().T.copy() for name in expected]


@contextmanager
def one_thread():
    """Torch on one thread while this lasts, so that its speed depends less on what else the machine does.

    On cores that others use, threads that wait for one another have been seen to take a hundred times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def aligned_optimizer(optimizer, parameters):
    """The torch optimizer that does what a Keras SGD, Adam or AdamW does, to float32 rounding; without its clipping.

    Keras adds epsilon to sqrt(v), torch to sqrt(v / (1 - beta_2^t)): the same once torch's epsilon is Keras' divided by
    sqrt(1 - beta_2^t), which a hook sets before every step.
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


def clip_gradients(parameters, clipnorm=None, clipvalue=None, global_clipnorm=None):
    """Clip the gradients in place as Keras optimizers with these options do; of which they take one at most."""
    if clipvalue is not None:
        nn.utils.clip_grad_value_(parameters, clipvalue)
    if global_clipnorm is not None:
        nn.utils.clip_grad_norm_(parameters, global_clipnorm)
    if clipnorm is not None:
        for parameter in parameters:
            nn.utils.clip_grad_norm_(parameter, clipnorm)


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


class TorchAgent(Agent):
    """The `Agent` with a torch brain; memory, exploration, loop and .h5 files are the same.

    Args:
        brain: an `nn.Module`, [B, *state_shape] to [B, action_size], instead of the default `QNetwork`. To start from
            given weights: `brain.load_state_dict(to_state_dict(keras_model))`.
        network: options of `QNetwork`.
        optimizer: a Keras optimizer, or a function that makes one, to be aligned with, its clipping included.
        torch_optimizer: a function from parameters to a torch optimizer, instead; without either, torch's Adam.
        clipping: options of `clip_gradients`; by default those of `optimizer`.
        *arguments, **options: as `Agent` has them.
    """

    def __init__(self, *arguments, torch_optimizer=None, clipping=None, **options):
        self._torch_optimizer, self._clipping = torch_optimizer, clipping
        super().__init__(*arguments, **options)
        self._forward = self._torch_forward

    @torch.inference_mode()
    def _torch_forward(self, states):
        return self.brain(torch.from_numpy(states).float()).numpy()

    def _brain_to_save(self):
        """The Keras twin with the brain's weights, so that `save_model` leaves an .h5 that Keras reads."""
        self._twin.set_weights(from_state_dict(self.brain.state_dict(), self._twin))
        return self._twin

    def load_model(self, path):
        """Take weights from a .h5 file of any Keras, as `Agent.load_model` does."""
        self.brain.load_state_dict(to_state_dict(read_weights(self._twin, path)))
        self.learner.copy_to_target()
        self.exploration_rate = self.exploration_min

    @cached_property
    def _twin(self):
        """A Keras network of the shapes that the brain should have, which reads and writes its files."""
        state_dict = self.brain.state_dict()
        *hidden, outputs = [len(tensor) for name, tensor in state_dict.items() if name.endswith("weight")]
        return mlp(self.state_shape[0], self.action_size, hidden, dueling=outputs == self.action_size + 1)

    def _default_brain(self, options, seed):
        if len(self.state_shape) != 1:
            return super()._default_brain(options, seed)  # which raises
        options = {"seed": seed, **options}
        with torch.random.fork_rng(devices=[]):  # nobody else's random numbers change
            torch.manual_seed(int(seed_sequence(options.pop("seed")).generate_state(1)[0]))
            return QNetwork(self.state_shape[0], self.action_size, **options)

    def _built(self, brain, optimizer):
        if not isinstance(brain, nn.Module):
            raise ValueError(f"`brain` must be a torch.nn.Module. Received: {brain!r}")
        with torch.no_grad():
            shape = tuple(brain(torch.zeros(1, *self.state_shape)).shape)
        if shape != (1, self.action_size):
            raise ValueError(f"`brain` must return [1, {self.action_size}] for one state. Received: {shape}")
        if optimizer is None or self._torch_optimizer is not None:
            make = self._torch_optimizer or partial(torch.optim.Adam, lr=self.learning_rate, fused=True)
            self.optimizer = make(brain.parameters())
        else:
            optimizer = optimizer if isinstance(optimizer, keras.optimizers.Optimizer) else optimizer()
            self.optimizer = aligned_optimizer(optimizer, brain.parameters())
            theirs = {name: getattr(optimizer, name) for name in ("clipnorm", "clipvalue", "global_clipnorm")}
            self._clipping = self._clipping or theirs
        return brain

    def _new_learner(self, target_update, **options):
        if self.weight_backup is not None:
            from_state_dict(self.brain.state_dict(), self._twin)  # raises now, not when hours of training are saved
        if target_update is not None:
            options["target_brain"] = copy.deepcopy(self.brain)
            options["target_update"] = check_whole("target_update", target_update)
        return TorchLearner(self.brain, self.optimizer, clipping=self._clipping, **options)
