"""What training tells afterwards: a record of each episode, the loss of each update, and each evaluation."""

import csv
import io
import json
import math
import reprlib
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_dqn.core.episode_stats import Episode
from keras_dqn.files.atomic import atomic_write

SUFFIXES = ".json", ".csv"


class Evaluated(NamedTuple):
    """One evaluation in the middle of training."""

    steps: int  # environment steps made before it
    score: float  # mean of its greedy episodes
    seconds: float  # that it took


class History(list[Episode]):
    """A list of `Episode`s, in the order they ended; its columns as arrays.

    Attributes:
        evaluations: an `Evaluated` for each evaluation made.
    """

    def __init__(self, episodes: Iterable[Episode] = ()):
        super().__init__(episodes)
        self.evaluations: list[Evaluated] = []
        self._update_losses = array("f")  # 4 bytes an update, as there may be millions

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
        path, text = check_history_path(path), io.StringIO()
        episodes = _records(Episode, [one._asdict() for one in self])
        if path.suffix.lower() == ".csv":
            csv.writer(text, lineterminator="\n").writerows([Episode._fields, *episodes])
        else:
            evaluations = _records(Evaluated, [one._asdict() for one in self.evaluations])
            content = {
                "episodes": [{name: _or_null(value) for name, value in one._asdict().items()} for one in episodes],
                "evaluations": [one._asdict() for one in evaluations],
                "update_losses": self.update_losses.tolist(),
            }
            text.write(json.dumps(content, allow_nan=False) + "\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8", newline="")

    @classmethod
    def load(cls, path: str | Path) -> "History":
        """A new history from a file that `save` wrote; from a .csv it has neither evaluations nor losses of updates.

        Raises:
            ValueError: another suffix, or the file is damaged or of something else; the message names file and place.
            OSError: it cannot be read, as FileNotFoundError where there is none.
        """
        path, history = check_history_path(path), cls()
        try:
            text = path.read_text(encoding="utf-8")
            if path.suffix.lower() == ".csv":
                episodes = list(csv.DictReader(io.StringIO(_whole(text))))
                content = {"episodes": episodes, "evaluations": [], "update_losses": []}
            else:
                content = json.loads(text)
            history += _records(Episode, content["episodes"])
            history.evaluations += _records(Evaluated, content["evaluations"])
            with np.errstate(over="ignore"):
                losses = np.array(content["update_losses"], np.float32)
            if losses.ndim != 1 or not np.isfinite(losses).all():
                raise ValueError(f"`update_losses` must be finite numbers, not {reprlib.repr(losses)}")
        except OSError as error:  # Python picks the subclass by the number
            raise OSError(error.errno, f"Cannot read: {error.strerror}. Received", str(path)) from error
        except (ValueError, TypeError, KeyError, OverflowError, csv.Error, RecursionError) as error:
            raise ValueError(f"{path}: cannot be read as a history. Received: {str(error)[:300]}") from error
        history.add_losses(losses)
        return history

    def _column(self, name):
        return np.array([getattr(episode, name) for episode in self])

    def __repr__(self):
        count, mean = min(len(self), 100), self.mean_score()
        return f"<History of {len(self)} episodes, mean score of the last {count}: {mean:.1f}>"


def check_history_path(path: str | Path) -> Path:
    """Return the path if a history can have its suffix; else raise a ValueError, before the work and not after."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"A history is saved as one of {', '.join(SUFFIXES)}. Received: {path}")
    return path


def _whole(text):
    """The text of a CSV, if its last row is whole: half of a number may be a number too."""
    if not text.endswith("\n"):
        raise ValueError("a last row that is cut off")
    return text


def _or_null(value):
    return None if math.isnan(value) else value  # JSON knows no NaN


def _records(kind, objects):
    """A list of `kind` from dicts of its fields, numbers or texts of them, all finite; errors name the place.

    None and NaN stand for the loss of an episode without updates.
    """
    records = []
    for count, one in enumerate(objects, 1):
        if not isinstance(one, dict) or one.keys() != set(kind._fields):
            raise ValueError(f"{kind.__name__} {count} must have {', '.join(kind._fields)}. Received: {one!r}")
        record = {}
        for name, of in kind.__annotations__.items():
            number = math.nan if one[name] is None else float(one[name])
            if not (math.isfinite(number) and of(number) == number) and not (name == "loss" and math.isnan(number)):
                raise ValueError(f"{kind.__name__} {count}: `{name}` must be finite. Received: {one[name]!r}")
            record[name] = of(number)
        records.append(kind(**record))
    return records
