"""The agent with a torch brain: memory, exploration, loop and files are those of `Agent`."""

import copy
from functools import cached_property, partial

import torch
from torch import nn

from keras_dqn.agent.agent import Agent
from keras_dqn.backend import keras
from keras_dqn.checks import check_whole, seed_sequence
from keras_dqn.networks.mlp import mlp
from keras_dqn.pytorch.learner import TorchLearner
from keras_dqn.pytorch.network import QNetwork, from_state_dict, to_state_dict
from keras_dqn.pytorch.optimizer import aligned_optimizer
from keras_dqn.records.weights import read_weights


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
