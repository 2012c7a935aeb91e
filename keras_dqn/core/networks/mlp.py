"""A network of Dense layers: vectors in, one Q-value an action out."""

from collections.abc import Sequence

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.checks import Seed, seed_sequence
from keras_dqn.core.networks.heads import Dueling
from keras_dqn.core.networks.layers import LayerNormRelu


def mlp(
    state_size: int,
    action_size: int,
    hidden: Sequence[int] = (24, 24),
    activation: str = "relu",
    dueling: bool = False,
    center: float | Sequence[float] = 0.0,
    scale: float | Sequence[float] = 1.0,
    initializer: str = "glorot",
    normalization: str | None = None,
    seed: Seed = None,
) -> "keras.Sequential":
    """A Sequential of Dense layers; by default the CartPole notebook's 24-24 network.

    Args:
        state_size, action_size: length of the state vector; number of actions, and of outputs (linear).
        hidden: width of each hidden layer.
        activation: of the hidden layers.
        dueling: whether the head is a `Dueling` layer instead of a Dense one.
        center, scale: states go in as (state - center) / scale, one number or one an element, by a layer of its own, so
            that whoever has the weights file has the scaling too.
        initializer: of the weights: "glorot" is Keras' own (Glorot uniform, biases 0), "torch" is PyTorch's, uniform
            between ±1 / sqrt(inputs) for kernels and biases: then not all units are zero at the same place.
        normalization: "layer" normalizes what goes into each hidden layer's relu over its units (`LayerNormRelu`).
        seed: of the initial weights; an int, a `np.random.SeedSequence`, or None for fresh entropy.

    Returns:
        A built `keras.Sequential`, float32 [B, state_size] to [B, action_size], whatever Keras' dtype policy is.

    Raises ValueError for an unknown initializer or normalization, or the latter without relu.
    """
    if normalization is not None and (normalization != "layer" or activation != "relu"):
        received = f"{normalization!r} with the activation {activation!r}"
        raise ValueError(f'`normalization` must be None, or "layer" before relu. Received: {received}')
    if initializer not in ("glorot", "torch"):
        raise ValueError(f'`initializer` must be "glorot" or "torch". Received: {initializer!r}')
    widths = [state_size, *hidden]
    seeds = seed_sequence(seed).generate_state(2 * len(widths)).tolist()

    def dense(layer, width, activation):  # of that number, with its own seeds for kernel and bias
        options = {"kernel_initializer": keras.initializers.GlorotUniform(seed=seeds[layer])}
        if initializer == "torch":
            most = widths[layer] ** -0.5
            names = {"kernel_initializer": seeds[layer], "bias_initializer": seeds[layer + len(widths)]}
            options = {name: keras.initializers.RandomUniform(-most, most, seed) for name, seed in names.items()}
        name = f"hidden_{layer + 1}" if layer < len(hidden) else "output"
        return keras.layers.Dense(width, activation=activation, name=name, dtype="float32", **options)

    layers = [keras.Input((state_size,), dtype="float32")]
    if np.any(center) or np.any(np.asarray(scale) != 1):
        layers.append(_rescaling(center, 1 / np.asarray(scale, float), state_size))
    for layer, width in enumerate(hidden):
        layers.append(dense(layer, width, "linear" if normalization else activation))
        if normalization:
            layers.append(LayerNormRelu(name=f"normalization_{layer + 1}", dtype="float32"))
    head = dense(len(hidden), action_size + dueling, "linear")
    # TensorFlow keeps some 40 kB for each name that a variable ever had, and Keras' own names have ever new numbers.
    if dueling:
        head = Dueling(action_size, head, name="dueling", dtype="float32")
    return keras.Sequential([*layers, head], name="mlp")


def _rescaling(center, inverse, size):
    """A layer that subtracts `center` and multiplies by `inverse`, one number or one an element of [B, size]."""
    inverse = np.broadcast_to(inverse, (size,))
    offset = -np.asarray(center, float) * inverse
    return keras.layers.Rescaling(inverse.tolist(), offset.tolist(), dtype="float32")
