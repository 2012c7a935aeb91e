"""The brain of an agent: a network of Dense layers, or the caller's own, checked and compiled."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_dqn.backend import BACKEND, keras
from keras_dqn.checks import Seed, seed_sequence
from keras_dqn.core.networks.layers import LayerNormRelu, NoisyDense, head
from keras_dqn.core.objectives.objective import Objective


@keras.saving.register_keras_serializable("keras_dqn")
class DrawnUniform(keras.initializers.Initializer):
    """Uniform initial weights, drawn by NumPy: JAX would compile its own generator for each shape, 0.3 s each time.

    Args:
        low, high: the range; by default Glorot's, ±sqrt(6 / (inputs + outputs)).
        seed: an int.
    """

    def __init__(self, low: float | None = None, high: float | None = None, seed: int | None = None):
        self.low, self.high, self.seed = low, high, seed

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> np.ndarray:
        most = (6 / sum(shape)) ** 0.5
        low, high = (-most, most) if self.low is None else (self.low, self.high)
        return keras.ops.convert_to_tensor(np.random.default_rng(self.seed).uniform(low, high, shape), dtype)

    def get_config(self) -> dict[str, float | int | None]:
        return {"low": self.low, "high": self.high, "seed": self.seed}


_glorot, _uniform = keras.initializers.GlorotUniform, keras.initializers.RandomUniform
if BACKEND != "tensorflow":
    _glorot = _uniform = DrawnUniform


def mlp(
    state_size: int,
    action_size: int | tuple[int, int],
    hidden: Sequence[int] = (24, 24),
    activation: str = "relu",
    dueling: bool = False,
    center: float | Sequence[float] = 0.0,
    scale: float | Sequence[float] = 1.0,
    initializer: str = "glorot",
    normalization: str | None = None,
    noisy: bool = False,
    seed: Seed = None,
) -> "keras.Sequential":
    """A Sequential of Dense layers; by default the CartPole notebook's 24-24 network.

    Args:
        state_size: length of the state vector.
        action_size: number of actions, and of outputs (linear); or (actions, atoms), where each has so many outputs.
        hidden, activation: the width of each hidden layer; their activation.
        dueling: whether the head is a `Dueling` layer instead of a Dense one.
        center, scale: states go in as (state - center) / scale, one number or one an element, by a layer of its own, so
            that whoever has the weights file has the scaling too.
        initializer: of the weights: "glorot" is Keras' own (Glorot uniform, biases 0), "torch" is PyTorch's, uniform
            between ±1 / sqrt(inputs) for kernels and biases: then not all units are zero at the same place.
        normalization: "layer" normalizes what goes into each hidden layer's relu over its units (`LayerNormRelu`).
        noisy: whether the layers are `NoisyDense`, which explore by themselves, with initial weights of their own.
        seed: of the initial weights; an int, a `np.random.SeedSequence`, or None for fresh entropy.

    Returns a built `keras.Sequential`, float32 [B, state_size] to [B, action_size] or [B, actions, atoms]; raises
    ValueError for an unknown initializer or normalization, or the latter without relu.
    """
    if normalization is not None and (normalization != "layer" or activation != "relu"):
        received = f"{normalization!r} with the activation {activation!r}"
        raise ValueError(f'`normalization` must be None, or "layer" before relu. Received: {received}')
    if initializer not in ("glorot", "torch"):
        raise ValueError(f'`initializer` must be "glorot" or "torch". Received: {initializer!r}')
    widths = [state_size, *hidden]
    seeds = seed_sequence(seed).generate_state(2 * len(widths)).tolist()

    def dense(layer, width, activation):  # of that number, with its own seeds for kernel and bias
        options = {"kernel_initializer": _glorot(seed=seeds[layer])}
        if initializer == "torch":
            most = widths[layer] ** -0.5
            names = {"kernel_initializer": seeds[layer], "bias_initializer": seeds[layer + len(widths)]}
            options = {name: _uniform(-most, most, seed) for name, seed in names.items()}
        name = f"hidden_{layer + 1}" if layer < len(hidden) else "output"
        if noisy:
            return NoisyDense(width, activation, seed=seeds[layer], name=name, dtype="float32")
        return keras.layers.Dense(width, activation=activation, name=name, dtype="float32", **options)

    layers = [keras.Input((state_size,), dtype="float32")]
    if np.any(center) or np.any(np.asarray(scale) != 1):
        layers.append(_rescaling(center, 1 / np.asarray(scale, float), state_size))
    for layer, width in enumerate(hidden):
        layers.append(dense(layer, width, "linear" if normalization else activation))
        if normalization:
            layers.append(LayerNormRelu(name=f"normalization_{layer + 1}", dtype="float32"))
    # TensorFlow keeps some 40 kB for each name that a variable ever had, and Keras' own names have ever new numbers.
    layers += head(lambda width: dense(len(hidden), width, "linear"), action_size, dueling)
    return keras.Sequential(layers, name="mlp")


def _rescaling(center, inverse, size):
    """A layer that subtracts `center` and multiplies by `inverse`, one number or one an element of [B, size]."""
    inverse = np.broadcast_to(inverse, (size,))
    offset = -np.asarray(center, float) * inverse
    return keras.layers.Rescaling(inverse.tolist(), offset.tolist(), dtype="float32")


# -------------------------------------------------------------------- the brain of an agent


def default_brain(
    network: dict[str, Any] | Callable[..., Any] | None,
    state_shape: tuple[int, ...],
    action_size: int | tuple[int, int],
    seed: Seed,
) -> "keras.Model":
    """The brain of an agent that is given none.

    Args:
        network: options of `mlp`, a dict, or widths of layers, or None for the notebook's; or a function of
            `state_shape`, `action_size` and `seed` that makes a Keras model.
        action_size: number of actions; or (actions, atoms), for outputs [B, actions, atoms].

    Raises:
        ValueError: states are no vectors and `network` is no function.
    """
    if callable(network):
        return network(state_shape, action_size, seed=seed)
    if len(state_shape) != 1:
        raise ValueError(f"`brain` or `network` must be given where a state is not a vector. Received: {state_shape}")
    return mlp(state_shape[0], action_size, **{"seed": seed, **mlp_options(network)})


def mlp_options(network: Any) -> dict[str, Any]:
    """Options of `mlp` from a dict of them, widths of its hidden layers, or None; a ValueError for anything else."""
    options = {"hidden": tuple(network)} if isinstance(network, list | tuple) else network or {}
    if not isinstance(options, dict):
        raise ValueError(f"`network` must be a dict, widths like [64, 64], or a function. Received: {network!r}")
    return options


def built(
    brain: "keras.Model",
    state_shape: tuple[int, ...],
    action_size: int,
    objective: Objective,
    optimizer: Any = None,
    learning_rate: float | None = None,
) -> "keras.Model":
    """The brain with an optimizer, checked to give float32 Q-values, [B, action_size], of states [B, *state_shape].

    Args:
        objective: makes Q-values of its outputs.
        optimizer: a Keras optimizer, its name, or a function that makes one; by default the compiled brain's, or Adam.
        learning_rate: of that Adam, by default 0.001.

    Raises:
        ValueError: it does not, or it has an optimizer and a learning rate is given.
    """
    if not isinstance(brain, keras.Model):
        raise ValueError(f"`brain` must be a keras.Model. Received: {brain!r}")
    if isinstance(optimizer, str):  # "adam", as Keras's `compile` takes it
        optimizer = keras.optimizers.get(optimizer)
    elif optimizer is not None and not isinstance(optimizer, keras.optimizers.Optimizer):
        optimizer = optimizer()
    has_optimizer = getattr(brain, "optimizer", None) is not None
    if has_optimizer and learning_rate is not None:
        raise ValueError(f"`brain` is compiled with an optimizer of its own. Received: learning_rate={learning_rate}")
    if isinstance(optimizer or getattr(brain, "optimizer", None), keras.optimizers.LossScaleOptimizer):
        name = type(optimizer or brain.optimizer).__name__
        raise ValueError(f"Losses are not scaled here: compile with auto_scale_loss=False. Received: {name}")
    if optimizer is not None or not has_optimizer:
        optimizer = optimizer or keras.optimizers.Adam(learning_rate or 0.001, name="adam")
        brain.compile(loss=getattr(brain, "loss", None) or "mse", optimizer=optimizer, auto_scale_loss=False)
    try:
        outputs = brain(keras.KerasTensor((1, *state_shape), "float32"), training=False)
        if isinstance(outputs, list | tuple | dict):
            raise ValueError(f"it has {len(outputs)} outputs instead of one")
        wanted = (1, action_size) if objective.atoms is None else (1, action_size, objective.atoms)
        if tuple(outputs.shape) != wanted and objective.atoms is not None:
            raise ValueError(f"{objective} needs outputs of shape {wanted}, and they have {tuple(outputs.shape)}")
        q_values = objective.q_values(outputs)
        shape, dtype = tuple(q_values.shape), keras.backend.standardize_dtype(q_values.dtype)
    except Exception as error:  # each backend has its own
        raise ValueError(f"`brain` must make Q-values of states of shape {state_shape}. Received: {error}") from error
    if shape != (1, action_size):
        raise ValueError(f"`brain` must return one Q-value for each of {action_size} actions. Received: {shape}")
    if dtype != "float32":
        policy = keras.config.dtype_policy().name
        raise ValueError(
            '`brain` must return float32: give its last layer dtype="float32" (whatever comes before may have '
            f"another). Received: {dtype}, with Keras' dtype policy {policy!r}"
        )
    return brain
