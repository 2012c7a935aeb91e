"""Networks that follow the shape of a state: convolutions on grids and images, Dense layers on what is flattened."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from keras_dqn.backend import keras
from keras_dqn.checks import Seed, check_name, seed_sequence
from keras_dqn.core.networks.layers import LayerNormRelu
from keras_dqn.core.networks.mlp import mlp, mlp_options
from keras_dqn.environments.spaces import FEWEST_CELLS, channels_first, shorter_side

CONVOLUTIONS = {  # (filters, size, stride) of each
    "small": ((16, 3, 1),),  # MinAtar's (Young and Tian 2019)
    "nature": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),  # Mnih et al. 2015
}
NATURE_CELLS = 36  # along the shorter side: the fewest that the three convolutions of Nature leave something of


def grid_cnn(
    state_shape: tuple[int, ...],
    action_size: int | tuple[int, int],
    seed: Seed = None,
    convolutions: str = "small",
    channels: str = "last",
    scale: float = 1.0,
    hidden: tuple[int, ...] = (128,),
    normalization: str | None = None,
    **options: Any,
) -> "keras.Sequential":
    """A network on grids and images: convolutions without padding, and the Dense layers of `networks.mlp` on top.

    Args:
        state_shape: (height, width), or these with the channels at one end.
        action_size: number of actions, and of outputs (linear); or (actions, atoms), where each has so many outputs.
        seed: of the initial weights; an int, a `np.random.SeedSequence`, or None for fresh entropy.
        convolutions: "small", 16 filters of 3×3; or "nature", the three of Mnih et al. 2015, for 36 pixels and more.
        channels: "last" or "first", where there are such.
        scale: states are divided by it; 255 for uint8.
        hidden: the width of each hidden layer.
        normalization: "layer" normalizes what goes into each relu.
        **options: of `networks.mlp`: `dueling`, `noisy`, …

    Returns a built `keras.Sequential`, [B, *state_shape] to float32 [B, action_size] or [B, actions, atoms]; raises
    ValueError for an unknown word.
    """
    check_name(channels, ("first", "last"), "place of `channels`")
    layers = [keras.Input(state_shape, dtype="float32")]
    if len(state_shape) == 2:
        layers.append(keras.layers.Reshape((*state_shape, 1), dtype="float32"))
    elif channels == "first":
        layers.append(keras.layers.Permute((2, 3, 1), dtype="float32"))
    if scale != 1:
        layers.append(keras.layers.Rescaling(1 / scale, dtype="float32"))
    seeds = iter(seed_sequence(seed).generate_state(4).tolist())
    shapes = CONVOLUTIONS[check_name(convolutions, CONVOLUTIONS, "`convolutions`")]
    for number, (filters, size, stride) in enumerate(shapes, 1):
        activation, kernel = None if normalization else "relu", keras.initializers.HeUniform(seed=next(seeds))
        own = {"kernel_initializer": kernel, "name": f"convolution_{number}", "dtype": "float32"}
        layers.append(keras.layers.Conv2D(filters, size, stride, activation=activation, **own))
        if normalization:
            layers.append(LayerNormRelu(name=f"convolution_normalization_{number}", dtype="float32"))
    own = {"hidden": hidden, "normalization": normalization, "seed": next(seeds)}
    return _topped(layers, action_size, own | options, "grid_cnn")


def flat_mlp(
    state_shape: tuple[int, ...], action_size: int | tuple[int, int], seed: Seed = None, **options: Any
) -> "keras.Sequential":
    """The network of `networks.mlp`, with these options of it, on states of any shape, flattened."""
    return _topped([keras.Input(state_shape, dtype="float32")], action_size, {"seed": seed, **options}, "flat_mlp")


def _topped(layers, action_size, options, name):
    """A network of these layers, flattened, and those of `networks.mlp`."""
    layers = [*layers, keras.layers.Flatten(dtype="float32")]
    width = keras.Sequential(layers).output_shape[1]
    return keras.Sequential([*layers, *mlp(width, action_size, **options).layers], name=name)


def network_for(
    space: gym.spaces.Box, network: dict[str, Any] | Callable[..., Any] | None, keeps_hidden: bool
) -> dict[str, Any] | Callable[..., Any] | None:
    """The `network` of an `Agent` whose states are of that space: Dense layers on vectors, else a function here.

    Args:
        space: of the states; uint8 up to 255 is scaled to 0 to 1.
        network: options of `networks.mlp`, or None; a function is returned as it is.
        keeps_hidden: whether the hidden layers among these are for convolutions, too, instead of their own.
    """
    if callable(network):
        return network
    is_bytes = space.dtype == np.uint8 and bool(np.any(space.high == 255))
    scale, options = {"scale": 255} if is_bytes else {}, mlp_options(network)
    if len(space.shape) == 1:
        return {**scale, **options} if scale else network and options
    cells = shorter_side(space.shape)
    if cells < FEWEST_CELLS:
        return partial(flat_mlp, **{**scale, **options})
    convolutions, width = ("small", 128) if cells < NATURE_CELLS else ("nature", 512)
    channels = {} if len(space.shape) == 2 else {"channels": "first" if channels_first(space.shape) else "last"}
    if not keeps_hidden or "hidden" not in options:
        options = {**options, "hidden": (width,)}
    return partial(grid_cnn, **{"convolutions": convolutions, **channels, **scale, **options})
