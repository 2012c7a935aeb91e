"""Arguments checked once, with an error that names them and ends with what was received."""

import math

import numpy as np
from numpy.typing import ArrayLike

Seed = int | np.random.SeedSequence | None  # None for fresh entropy


def all_finite(values: np.ndarray) -> bool:
    """Whether no number is infinite or NaN, nor becomes it in float32, which everything is learned in."""
    if values.dtype.kind != "f":
        return True  # frames
    # One product tells in a fifth of the time, unless it overflows.
    if values.dtype == np.float32 and math.isfinite(np.vdot(values, values)):
        return True
    with np.errstate(over="ignore"):
        return bool(np.isfinite(values.astype(np.float32)).all())


def seed_sequence(seed: Seed) -> np.random.SeedSequence:
    """A `np.random.SeedSequence` from an int 0 or more, from None (fresh entropy), or from itself."""
    if isinstance(seed, np.random.SeedSequence):
        return seed
    if seed is not None and (not isinstance(seed, int | np.integer) or seed < 0):
        raise ValueError(f"`seed` must be a whole number, 0 or more, or None. Received: {seed!r}")
    return np.random.SeedSequence(seed)


def check_fraction(name: str, value: float) -> float:
    """Return `value` if it is a number from 0 to 1; else raise a ValueError that names it."""
    if not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be a number from 0 to 1. Received: {value!r}")
    return value


def check_above_zero(name: str, value: float) -> float:
    """Return `value` if it is above 0; else raise a ValueError that names it."""
    if not value > 0:
        raise ValueError(f"`{name}` must be above 0. Received: {value!r}")
    return value


def check_integer(name: str, value: int, least: int = 1) -> int:
    """Return `value` if it is a whole number, `least` or more; else raise a ValueError that names it."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"`{name}` must be a whole number, {least} or more. Received: {value!r}")
    return int(value)


def as_batch(state: ArrayLike, shape: tuple[int, ...], name: str) -> np.ndarray:
    """A single state, of that shape or with a leading axis of 1, as a batch of one; else a ValueError names it."""
    state = np.asarray(state)
    if state.shape not in (shape, (1, *shape)):
        raise ValueError(f"`{name}` must have shape {shape}. Received: {state.shape}")
    return state.reshape(1, *shape)


def check_states(states: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    """Raise a ValueError unless states are [N, *shape] and finite."""
    if states.shape[1:] != shape:
        raise ValueError(f"`{name}` must have shape (N, *{shape}). Received: {states.shape}")
    if not all_finite(states):
        raise ValueError(f"`{name}` must hold finite numbers. Received: {states}")
