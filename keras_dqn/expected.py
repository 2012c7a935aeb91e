"""What is expected of files from outside: types, shapes, dtypes and ranges, checked before any of it is used."""

import base64
import json
import math
import os
import reprlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np


class Unexpected(ValueError):
    """Something is not what was expected; the message names its place and ends with what was received."""


class Number(NamedTuple):
    """A number of JSON: a whole one where `kind` is int; finite, and in the range from low to high."""

    kind: type = float
    low: float = -math.inf
    high: float = math.inf

    def check(self, value: Any, place: object) -> Any:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (self.kind is float and isinstance(value, float))) or not self._contains(value):
            name = "a whole number" if self.kind is int else "a number"
            raise Unexpected(f"{place}: expected {name} from {self.low} to {self.high}. Received: {shortened(value)}")
        return self.kind(value)

    def _contains(self, value):
        fits = math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63  # what NumPy can hold
        return fits and self.low <= value <= self.high


class Flag:
    """true or false."""

    @staticmethod
    def check(value: Any, place: object) -> bool:
        if not isinstance(value, bool):
            raise Unexpected(f"{place}: expected true or false. Received: {shortened(value)}")
        return value


class Anything:
    """What is looked at later, or not at all."""

    @staticmethod
    def check(value: Any, place: object) -> Any:
        return value


class Optional(NamedTuple):
    """As `expected`, or null."""

    expected: object

    def check(self, value: Any, place: object) -> Any:
        return None if value is None else check(value, self.expected, place)


class ListOf(NamedTuple):
    """A list of any length, at most `longest`, whose items are all as `expected`."""

    expected: object
    longest: int = 2**31

    def check(self, value: Any, place: object) -> list:
        if not isinstance(value, list) or len(value) > self.longest:
            raise Unexpected(f"{place}: expected a list of at most {self.longest}. Received: {shortened(value)}")
        return [check(item, self.expected, f"{place}[{i}]") for i, item in enumerate(value)]


class Array(NamedTuple):
    """An array of that shape and dtype, finite, and in the range from low to high.

    A length of None is any. In JSON it is a list of lists, and of bytes as `as_json` writes them a text.
    """

    shape: tuple
    dtype: np.dtype
    low: float = -math.inf
    high: float = math.inf

    def check(self, value: Any, place: object) -> np.ndarray:
        array = value if isinstance(value, np.ndarray) else self._from_lists(value, place)
        fits = len(array.shape) == len(self.shape) and all(map(_is_length, array.shape, self.shape))
        if not fits or array.dtype != self.dtype:
            raise Unexpected(
                f"{place}: expected {self.dtype} of shape {tuple(self.shape)}. Received: {array.dtype}, {array.shape}"
            )
        check_values(array, place, self.low, self.high)
        return array

    def _from_text(self, value, place):
        try:
            array = np.frombuffer(base64.b64decode(value, validate=True), np.uint8)
            return array.reshape([-1 if length is None else length for length in self.shape])
        except ValueError as error:
            raise Unexpected(
                f"{place}: expected bytes of shape {tuple(self.shape)}. Received: {shortened(value)}"
            ) from error

    def _from_lists(self, value, place):
        if isinstance(value, str) and self.dtype == np.uint8:
            return self._from_text(value, place)
        kind = {"f": float, "b": bool}.get(self.dtype.kind, int)
        flat = [value]
        for _ in self.shape:
            if not all(isinstance(item, list) for item in flat):
                raise Unexpected(f"{place}: expected lists of shape {tuple(self.shape)}. Received: {shortened(value)}")
            flat = [item for some in flat for item in some]
        if not all(type(item) is kind or (kind is float and type(item) is int) for item in flat):
            raise Unexpected(f"{place}: expected lists of {kind.__name__}. Received: {shortened(value)}")
        try:
            with np.errstate(over="raise"):
                return np.array(value, self.dtype).reshape(np.shape(value) if flat else [n or 0 for n in self.shape])
        except (ValueError, OverflowError, FloatingPointError) as error:
            raise Unexpected(f"{place}: expected {self.dtype}. Received: {shortened(value)}, {error}") from error


def _is_length(length, expected):
    return expected is None or length == expected


def check_values(array: np.ndarray, place: object, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise `Unexpected` unless all numbers of an array are finite and in the range from low to high."""
    if array.dtype == bool:  # a file may hold other bytes
        array, low, high = array.view(np.uint8), 0, 1
    if array.size == 0:
        return
    least, most = array.min(), array.max()  # NaN if there is one
    if not (low <= least and most <= high and np.isfinite(least) and np.isfinite(most)):
        raise Unexpected(f"{place}: expected finite numbers from {low} to {high}. Received: {least} to {most}")


def check(value: Any, expected: Any, place: object) -> Any:
    """The value, as it is to be used, if it is what is expected.

    Args:
        value: of JSON.
        expected: one of the classes above; or a dict of what is expected under each name, where a name that is expected
            to be `Optional` may be missing; or a tuple of what is expected of each item of a list.
        place: where it stands, for the message.

    Raises:
        Unexpected: it is something else.
    """
    if isinstance(expected, dict):
        needed = {name for name, part in expected.items() if not isinstance(part, Optional)}
        if not isinstance(value, dict) or not needed <= value.keys() <= expected.keys():
            raise Unexpected(f"{place}: expected {', '.join(expected) or 'nothing'}. Received: {shortened(value)}")
        return {name: check(value.get(name), part, f"{place}: {name}") for name, part in expected.items()}
    if isinstance(expected, tuple) and type(expected) is tuple:
        if not isinstance(value, list) or len(value) != len(expected):
            raise Unexpected(f"{place}: expected a list of {len(expected)}. Received: {shortened(value)}")
        return [check(*pair, f"{place}[{i}]") for i, pair in enumerate(zip(value, expected, strict=True))]
    return expected.check(value, place)


def as_json(array: np.ndarray) -> Any:
    """What `Array` reads an array from: lists of numbers, or, of bytes, their base64."""
    return base64.b64encode(array.tobytes()).decode() if array.dtype == np.uint8 else array.tolist()


class GeneratorState(NamedTuple):
    """The state of a `np.random.Generator`: one that a generator of that kind takes, and gives back as it was."""

    generator: np.random.Generator

    def check(self, value: Any, place: object) -> dict[str, Any]:
        fresh = type(self.generator.bit_generator)(0)
        try:
            fresh.state = value
            taken = fresh.state == value
        except (ValueError, TypeError, KeyError, OverflowError, AttributeError):
            taken = False
        if not taken:
            name = type(fresh).__name__
            raise Unexpected(f"{place}: expected the state of a generator {name}. Received: {shortened(value)}")
        return value


def shortened(value: Any) -> str:
    """A text for what was received, of a line at most, whatever it is."""
    return reprlib.repr(value)[:300]


# ---------------------------------------------------------------- files


@contextmanager
def opened(path: Path, most: int | None = None) -> Iterator[BinaryIO]:
    """Open a regular file to read bytes, never waiting for a pipe; `Unexpected` for others, or for one too large."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unexpected(f"{path}: expected a regular file. Received: {stat.filemode(status.st_mode)}")
        if most is not None and status.st_size > most:
            raise Unexpected(f"{path}: expected at most {most} bytes. Received: {status.st_size}")
        yield file


def read_json(path: Path, most: int) -> Any:
    """What a file of JSON holds, at most so many bytes; `Unexpected` where it is none, or has a number that is none."""

    def refuse(constant):
        raise ValueError(f"{constant} is no number of JSON")

    with opened(path, most) as file:
        content = file.read(most + 1)
    try:
        return json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Unexpected(f"{path}: expected JSON. Received: {shortened(str(error))}") from error


def declared(file: IO[bytes], place: object, bytes_left: int) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, dtype) that an .npy file declares, at whose data `file` is left; its bytes must be just so many.

    Raises:
        Unexpected: it is no such file, of Python objects, in Fortran's order, or of another length.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except (ValueError, EOFError, RecursionError, MemoryError) as error:
        raise Unexpected(f"{place}: expected an array of NumPy. Received: {shortened(str(error))}") from error
    header, length = file.tell(), math.prod(shape) * dtype.itemsize
    if dtype.hasobject or (fortran and len(shape) > 1) or header + length != bytes_left:
        raise Unexpected(
            f"{place}: expected {bytes_left - header} bytes of numbers. Received: {dtype}, {shape}, fortran={fortran}"
        )
    return shape, dtype
