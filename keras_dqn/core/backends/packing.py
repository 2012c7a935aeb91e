"""The arrays of an update as one, since with small networks a call costs as much as its arithmetic."""

from typing import Any

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.core.transition import Transition


def packed(batches: Transition, bootstraps: bool) -> tuple[np.ndarray, ...]:
    """The fields of a `Transition`, [K, B, ...], that an update looks at.

    They are one array, [K, B, 2 size + 3], where they are no more than five and states are float32 vectors.
    """
    extras = [field for field in batches[5:7] if field is not None]
    if not bootstraps or extras or batches.state.dtype != np.float32 or batches.state.ndim != 3:
        return *batches[: 5 if bootstraps else 3], *extras
    numbers = np.stack([batches.action, batches.reward, batches.discount], -1, dtype=np.float32, casting="same_kind")
    return (np.concatenate([batches.state, batches.next_state, numbers], -1),)


def unpacked(fields: tuple[Any, ...], bootstraps: bool) -> Transition:
    """The `Transition` that was packed, as tensors; what an update does not look at is the reward again."""
    if len(fields) > 1:
        needed, extras = (fields[:5], fields[5:]) if bootstraps else ((*fields[:3], *fields[2:3] * 2), fields[3:])
        dtypes = [keras.backend.standardize_dtype(one.dtype) for one in extras]
        names = ["action_mask" if dtype == "bool" else "weight" for dtype in dtypes]
        return Transition(*needed, **dict(zip(names, extras, strict=True)))
    (field,), ops = fields, keras.ops
    size = (field.shape[-1] - 3) // 2
    states, next_states = field[..., :size], field[..., size : 2 * size]
    action, reward, discount = (field[..., 2 * size + i] for i in range(3))
    return Transition(states, ops.cast(action, "int32"), reward, discount, next_states)
