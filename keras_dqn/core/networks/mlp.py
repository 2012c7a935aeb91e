"""The networks: states in, one Q-value an action out; and the same forward pass in NumPy, for acting."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_dqn.backend import keras, tf
from keras_dqn.checks import Seed, seed_sequence
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
        state_size: length of the state vector.
        action_size: number of actions, and of outputs (linear).
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

    Raises ValueError for an unknown initializer or normalization, or the latter before another activation than relu.
    """
    if normalization is not None and (normalization != "layer" or activation != "relu"):
        received = f"{normalization!r} with the activation {activation!r}"
        raise ValueError(f'`normalization` must be None, or "layer" before relu. Received: {received}')
    if initializer not in ("glorot", "torch"):
        raise ValueError(f'`initializer` must be "glorot" or "torch". Received: {initializer!r}')
    widths = [state_size, *hidden]
    seeds = seed_sequence(seed).generate_state(2 * len(widths)).tolist()

    def dense(layer, width, activation):
        """The Dense layer of that number, with its own seeds for kernel and bias."""
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
    last = dense(len(hidden), action_size + dueling, "linear")
    # TensorFlow keeps some 40 kB for each name that a variable ever had, and Keras' own names have ever new numbers.
    head = Dueling(action_size, last, name="dueling", dtype="float32") if dueling else last
    return keras.Sequential([*layers, head], name="mlp")


def _rescaling(center, inverse, size):
    """A layer that subtracts `center` and multiplies by `inverse`, one number or one an element of [B, size]."""
    inverse = np.broadcast_to(inverse, (size,))
    offset = -np.asarray(center) * inverse
    return keras.layers.Rescaling(inverse.tolist(), offset.tolist(), dtype="float32")


def default_brain(
    network: dict[str, Any] | Callable[..., Any] | None, state_shape: tuple[int, ...], action_size: int, seed: Seed
) -> "keras.Model":
    """The brain of an agent that is given none.

    Args:
        network: options of `mlp`, a dict, or None for the notebook's; or a function of `state_shape`, `action_size` and
            `seed` that makes a Keras model.

    Raises:
        ValueError: states are no vectors and `network` is no function.
    """
    if callable(network):
        return network(state_shape, action_size, seed=seed)
    if len(state_shape) != 1:
        raise ValueError(f"`brain` or `network` must be given where a state is not a vector. Received: {state_shape}")
    return mlp(state_shape[0], action_size, **{"seed": seed, **(network or {})})


def built(
    brain: "keras.Model",
    state_shape: tuple[int, ...],
    action_size: int,
    optimizer: Any = None,
    learning_rate: float | None = None,
) -> "keras.Model":
    """The brain with an optimizer, checked to map [B, *state_shape] to float32 [B, action_size].

    Args:
        optimizer: a Keras optimizer or a function that makes one; by default that of a compiled brain, or an Adam.
        learning_rate: of that Adam, by default 0.001.

    Raises:
        ValueError: it does not, or it has an optimizer and a learning rate is given.
    """
    if not isinstance(brain, keras.Model):
        raise ValueError(f"`brain` must be a keras.Model. Received: {brain!r}")
    if optimizer is not None and not isinstance(optimizer, keras.optimizers.Optimizer):
        optimizer = optimizer()
    has_optimizer = getattr(brain, "optimizer", None) is not None
    if has_optimizer and learning_rate is not None:
        raise ValueError(f"`brain` is compiled with an optimizer of its own. Received: learning_rate={learning_rate}")
    if isinstance(optimizer or getattr(brain, "optimizer", None), keras.optimizers.LossScaleOptimizer):
        name = type(optimizer or brain.optimizer).__name__
        raise ValueError(f"Losses are not scaled here: compile with auto_scale_loss=False. Received: {name}")
    if optimizer is not None or not has_optimizer:
        optimizer = optimizer or keras.optimizers.Adam(learning_rate or 0.001, name="adam")
        brain.compile(loss="mse", optimizer=optimizer, auto_scale_loss=False)
    try:
        q_values = brain(np.zeros((1, *state_shape), np.float32), training=False)
        shape, dtype = tuple(q_values.shape), keras.backend.standardize_dtype(q_values.dtype)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(f"`brain` must take states of shape {state_shape}. Received: {error}") from error
    if shape != (1, action_size):
        raise ValueError(f"`brain` must return one Q-value for each of {action_size} actions. Received: {shape}")
    if dtype != "float32":
        policy = keras.config.dtype_policy().name
        raise ValueError(
            '`brain` must return float32: give its last layer dtype="float32" (whatever comes before may have '
            f"another). Received: {dtype}, with Keras' dtype policy {policy!r}"
        )
    return brain


class Dueling(keras.layers.Layer):
    """A head that splits value and advantage: Q(s, a) = V(s) + A(s, a) - mean of A(s, ·) (Wang et al. 2016).

    keras-rl has the value in the first column. Its files are known by their Lambda layer, and the column is moved as
    they are loaded; they are taken for its default, `dueling_type="avg"`. Where a file of other origin has the value
    first, nothing in it may say so: `load_weights(brain, path, value_first=True)`.

    Args:
        action_size: number of actions, and of outputs.
        value_and_advantages: the Dense layer of action_size + 1 that does it, the value in the last column: one product
            instead of two. By default a new one.
    """

    def __init__(self, action_size: int, value_and_advantages: "keras.layers.Dense | None" = None, **options: Any):
        super().__init__(**options)
        self.action_size = action_size
        dense = value_and_advantages or keras.layers.Dense(action_size + 1, dtype=self.dtype_policy)
        self.value_and_advantages = dense

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.value_and_advantages.build(input_shape)
        self.built = True

    def call(self, inputs: "tf.Tensor") -> "tf.Tensor":
        return self.join(self.value_and_advantages(inputs), keras.ops.mean)

    def join(self, outputs: Any, mean: Callable[..., Any]) -> Any:
        """Q-values [B, actions] from advantages and value [B, actions + 1], in whatever library `mean` is of."""
        advantages, value = outputs[:, :-1], outputs[:, -1:]
        return value + advantages - mean(advantages, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.action_size)

    def get_config(self) -> dict[str, Any]:
        dense = self.value_and_advantages.get_config()
        return {**super().get_config(), "action_size": self.action_size, "value_and_advantages": dense}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Dueling":
        dense = keras.layers.Dense.from_config(config["value_and_advantages"])
        return cls(**{**config, "value_and_advantages": dense})
