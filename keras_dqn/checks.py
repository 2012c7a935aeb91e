"""Arguments checked once, with an error that names them and ends with what was received."""

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import partial
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

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
    return np.random.SeedSequence(None if seed is None else check_integer("seed", seed, 0))


def check_number(
    name: str, value: float, wanted: str = "a number", accepts: Callable[[float], bool] = math.isfinite
) -> float:
    """Return `value` if it is a finite number that is accepted; else raise a ValueError that says what is wanted."""
    if isinstance(value, bool) or not isinstance(value, Real) or not (math.isfinite(value) and accepts(value)):
        raise ValueError(f"`{name}` must be {wanted}. Received: {value!r}")
    return value


def check_integer(name: str, value: int, least: int = 1) -> int:
    """Return `value` if it is a whole number, `least` or more; else raise a ValueError that names it."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"`{name}` must be a whole number, {least} or more. Received: {value!r}")
    return int(value)


check_above_zero = partial(check_number, wanted="a number above 0", accepts=lambda number: number > 0)
check_fraction = partial(check_number, wanted="a number from 0 to 1", accepts=lambda number: 0 <= number <= 1)

# What a number may be, as a type: the fields of settings say it, and the command line reads it there.
PositiveInt = Annotated[int, check_integer]
NonNegativeInt = Annotated[int, partial(check_integer, least=0)]
PositiveFloat = Annotated[float, check_above_zero]
Fraction = Annotated[float, check_fraction]


def members(annotation: Any) -> tuple:
    """The types that an annotation joins: (int, NoneType) of `int | None`; of a single type itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


_LIST = list | tuple, "a list"
_FUNCTION = Callable, "a function (a constant is `exploration_rate`, or `learning_rate`)"
_KINDS = {
    bool: (bool | np.bool_, "True or False"),
    str: (str, "a text"),
    list: _LIST,
    Sequence: _LIST,
    Callable: _FUNCTION,
}


def check_type(name: str, annotation: Any, value: Any) -> Any:
    """Return `value` if it is what an annotation says: a text, True or False, a number, a list of them, or None.

    Raises:
        ValueError: it is not; the message names it. Of other types, and where there are several, nothing is checked.
    """
    kinds = members(annotation)
    if (value is None and NoneType in kinds) or len(set(kinds) - {NoneType}) > 1:
        return value
    kind, inner = get_origin(kinds[0]) or kinds[0], get_args(kinds[0])
    if kind is Annotated:
        return inner[1](name, value)
    if kind in (int, float):
        return check_integer(name, value) if kind is int else check_number(name, value)
    accepted, wanted = _KINDS.get(kind, (object, ""))
    if not isinstance(value, accepted):
        raise ValueError(f"`{name}` must be {wanted}. Received: {value!r}")
    return [check_type(name, inner[0], one) for one in value] if wanted == "a list" else value


def check_fields(settings: Any) -> None:
    """Check each field of a dataclass by its type; see `check_type`."""
    for field in fields(settings):
        check_type(field.name, field.type, getattr(settings, field.name))


def check_name(name: str, known: Iterable[str], what: str) -> str:
    """Return a name that is known; else raise a ValueError with the nearest, or with all of them if they are few."""
    known = sorted(known)
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"; the nearest is {near[0]}" if near else f"; there are {', '.join(known)}" if len(known) < 20 else ""
        raise ValueError(f"There is no {what} of that name{hint}. Received: {name}")
    return name


def as_batch(state: ArrayLike, shape: tuple[int, ...], name: str) -> np.ndarray:
    """A single state, of that shape or with a leading axis of 1, as a batch of one; else a ValueError names it."""
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        raise ValueError(f"`{name}` must be a state alone: `state, info = env.reset()`. Received: {state!r}")
    state = np.asarray(state)
    if state.shape not in (shape, (1, *shape)):
        raise ValueError(f"`{name}` must have shape {shape}. Received: {state.shape}")
    return state.reshape(1, *shape)


def check_states(states: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    """Raise a ValueError unless states are [N, *shape] and finite."""
    if states.shape[1:] != shape:
        raise ValueError(f"`{name}`, an observation, must have shape {shape}. Received: {states.shape[1:]}")
    if not all_finite(states):
        received = states  # whole, of a vector
        if len(shape) > 1:
            index = tuple(np.argwhere(~np.isfinite(states.astype(np.float32)))[0].tolist())
            received = f"{states[index]} at {index[1:]} of an observation of shape {shape}"
        raise ValueError(f"`{name}` must hold finite numbers. Received: {received}")
