"""The torch network of the PyTorch tutorial's shape, and its weights to Keras and back."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from keras_dqn.backend import keras


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
        if normalization is not None:
            raise ValueError(f"`normalization` is not there in torch: it must be None. Received: {normalization!r}")
        if activation != "relu" or initializer != "torch":
            received = f"{activation!r}, {initializer!r}"
            raise ValueError(f"`activation` must be 'relu' in torch, and `initializer` 'torch'. Received: {received}")
        self.rescales = np.any(center) or np.any(np.asarray(scale) != 1)
        self.center, self.scale = torch.as_tensor(center).float(), torch.as_tensor(scale).float()
        self.dueling = dueling
        widths = [state_size, *hidden, action_size + dueling]
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths), 1):
            self.add_module(f"layer{number}", nn.Linear(inputs, outputs))

    def forward(self, states: "torch.Tensor") -> "torch.Tensor":
        x = (states - self.center) / self.scale if self.rescales else states
        *hidden, last = self.children()
        for layer in hidden:
            x = torch.relu(layer(x))
        x = last(x)
        return x[:, -1:] + x[:, :-1] - x[:, :-1].mean(-1, keepdim=True) if self.dueling else x


def to_state_dict(model_or_weights: "keras.Model | Sequence[np.ndarray]") -> "dict[str, torch.Tensor]":
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
