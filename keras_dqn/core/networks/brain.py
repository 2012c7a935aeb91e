"""The brain of an agent: a default one, or the caller's own, checked and compiled."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.checks import Seed
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.objectives.objective import Objective


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
        outputs = brain(np.zeros((1, *state_shape), np.float32), training=False)
        if isinstance(outputs, list | tuple | dict):
            raise ValueError(f"it has {len(outputs)} outputs instead of one")
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
