"""What training tells afterwards: a record of each episode, the loss of each update, and each evaluation."""

import csv
import io
import json
import math
import reprlib
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np

from keras_dqn.checks import all_finite
from keras_dqn.core.episode_stats import Episode
from keras_dqn.files.atomic import atomic_write
from keras_dqn.training.evaluation import Evaluated


class History(list):
    """A list of `Episode`s, in the order they ended; its columns as arrays.

    Attributes:
        evaluations: an `Evaluated` for each evaluation made.
    """

    def __init__(self, episodes: Iterable[Episode] = ()):
        super().__init__(episodes)
        self.evaluations = []
        self._update_losses = array("f")  # 4 bytes an update, as there may be millions

    @overload
    def __getitem__(self, which: SupportsIndex) -> Episode: ...

    @overload
    def __getitem__(self, which: slice) -> "History": ...

    def __getitem__(self, which: Any) -> Any:
        """An `Episode`; of a slice, a `History` of those episodes, and of all evaluations and losses of updates."""
        if not isinstance(which, slice):
            return super().__getitem__(which)
        part = type(self)(super().__getitem__(which))
        part.evaluations, part._update_losses = list(self.evaluations), array("f", self._update_losses)
        return part

    def copy(self) -> "History":
        """Another `History` of the same."""
        return self[:]

    scores = property(lambda self: self._column("score"), doc="[episodes] float, sum of rewards")
    lengths = property(lambda self: self._column("length"), doc="[episodes] int, steps")
    losses = property(lambda self: self._column("loss"), doc="[episodes] float, NaN where nothing was learned")
    epsilons = property(lambda self: self._column("epsilon"), doc="[episodes] float")
    times = property(lambda self: self._column("time"), doc="[episodes] float, seconds")

    @property
    def update_losses(self) -> np.ndarray:
        """[updates] float32, the loss of each update in the order they were made."""
        return np.array(self._update_losses, np.float32)

    def add_losses(self, losses: np.ndarray) -> None:
        """Keep the losses, [K] float32, of K updates."""
        self._update_losses.frombytes(losses.tobytes())

    def mean_score(self, last: int = 100) -> float:
        """Mean score of the last episodes, NaN where there is none."""
        episodes = super().__getitem__(slice(-last, None))
        return float(np.mean([episode.score for episode in episodes])) if self else float("nan")

    def save(self, path: str | Path) -> None:
        """Write the history to a file, whole or not at all, in a folder made if missing.

        A .json holds everything: "episodes" and "evaluations", a list of objects with the fields of `Episode` and
        `Evaluated`, and "update_losses", some 20 bytes each; the loss of an episode without updates is null. A .csv
        holds the episodes alone, a row each below the names of the fields: evaluations and the losses of updates are
        not in it. `load` returns the same numbers to the last bit.

        Raises:
            ValueError: another suffix, or a number that is not finite, but for the loss of an episode.
            OSError: it cannot be written there.
        """
        path = check_history_path(path)
        text = _WRITERS[path.suffix.lower()](self, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")

    @classmethod
    def load(cls, path: str | Path) -> "History":
        """A new history from a file that `save` wrote; from a .csv it has neither evaluations nor losses of updates.

        Raises:
            ValueError: another suffix, or the file is damaged or of something else; the message names file and place.
            OSError: it cannot be read, as FileNotFoundError where there is none.
        """
        path = check_history_path(path)
        try:
            return _READERS[path.suffix.lower()](path.read_text(encoding="utf-8"), path, cls())
        except OSError as error:  # Python picks the subclass by the number
            raise OSError(error.errno, f"Cannot read: {error.strerror}. Received", str(path)) from error
        except (UnicodeDecodeError, json.JSONDecodeError, csv.Error, RecursionError) as error:
            raise ValueError(f"{path}: cannot be read as a history. Received: {error!r}") from error

    def _column(self, name):
        return np.array([getattr(episode, name) for episode in self])

    def __repr__(self):
        return (
            f"<History of {len(self)} episodes, mean score of the last {min(len(self), 100)}: {self.mean_score():.1f}>"
        )


def check_history_path(path: str | Path) -> Path:
    """Return the path if a history can have its suffix; else raise a ValueError, before the work and not after."""
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"A history is saved as one of {', '.join(_WRITERS)}. Received: {path}")
    return path


def _to_csv(history, path):
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerows([Episode._fields, *_records(Episode, history, path)])
    return text.getvalue()


def _from_csv(text, path, history):
    header, *rows = list(csv.reader(text.splitlines())) or [[]]
    if header != list(Episode._fields):
        expected = ",".join(Episode._fields)
        raise ValueError(f"{path}: expected the columns {expected}. Received: {reprlib.repr(','.join(header))}")
    if not text.endswith("\n"):  # half of a number may be a number too
        raise ValueError(
            f"{path}: the last row is cut off. Received: {reprlib.repr(','.join(rows[-1]) if rows else '')}"
        )
    history += _records(Episode, rows, path)
    return history


def _to_json(history, path):
    records = {
        "episodes": _records(Episode, history, path),
        "evaluations": _records(Evaluated, history.evaluations, path),
    }
    content = {name: [_object(record) for record in some] for name, some in records.items()}
    content["update_losses"] = _finite_losses(history.update_losses, path).tolist()
    return json.dumps(content, allow_nan=False) + "\n"


def _from_json(text, path, history):
    content = json.loads(text)
    names = ["episodes", "evaluations", "update_losses"]
    if not isinstance(content, dict) or sorted(content) != names:
        raise ValueError(f"{path}: expected an object with {', '.join(names)}. Received: {reprlib.repr(content)}")
    history += _records(Episode, _rows(Episode, content["episodes"], path), path)
    history.evaluations += _records(Evaluated, _rows(Evaluated, content["evaluations"], path), path)
    history.add_losses(_finite_losses(content["update_losses"], path))
    return history


_WRITERS = {".json": _to_json, ".csv": _to_csv}
_READERS = {".json": _from_json, ".csv": _from_csv}


def _object(record):
    """The fields of a record by name, as JSON has them: it knows no NaN."""
    return {name: None if math.isnan(value) else value for name, value in record._asdict().items()}


def _rows(kind, objects, path):
    """The values of a list of objects that have the fields of `kind`, in the order of these."""
    for one in objects if isinstance(objects, list) else [None]:
        if not isinstance(one, dict) or one.keys() != set(kind._fields):
            received = reprlib.repr(objects if one is None else one)
            expected = f"a list of objects with {', '.join(kind._fields)}"
            raise ValueError(f"{path}: expected {expected}. Received: {received}")
    return [[one[name] for name in kind._fields] for one in objects]


def _records(kind, rows, path):
    """A list of `kind` from rows of numbers, or of texts that are numbers; errors name file and row."""
    records = []
    for number, row in enumerate(rows, 1):
        place = f"{path}: {kind.__name__} {number}"
        if len(row) != len(kind._fields):
            raise ValueError(f"{place}: expected {len(kind._fields)} numbers. Received: {reprlib.repr(list(row))}")
        fields = kind.__annotations__.items()
        records.append(kind(*(_number(*field, value, place) for field, value in zip(fields, row, strict=True))))
    return records


def _number(name, kind, value, place):
    """The value of a field as the float or int that it is to be; None and NaN are a loss without updates."""
    with suppress(TypeError, ValueError, OverflowError):
        number = math.nan if value is None else float(value)
        if math.isfinite(number) and kind(number) == number:
            return kind(number)
        if math.isnan(number) and name == "loss":
            return number
    raise ValueError(f"{place}: `{name}` must be a finite {kind.__name__}. Received: {reprlib.repr(value)}")


def _finite_losses(losses, path):
    """[updates] float32."""
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(losses, np.float32)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.ndim != 1 or not all_finite(array):
        raise ValueError(f"{path}: `update_losses` must be a list of finite numbers. Received: {reprlib.repr(losses)}")
    return array
