"""What training tells afterwards: a record of each episode, the loss of each update, and each evaluation."""

import csv
import io
import json
import math
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_dqn.core.counting import Episode
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
        evaluations: a list of an `Evaluated` for each evaluation made.
    """

    def __init__(self, episodes: Iterable = (), evaluations: Iterable = (), update_losses: Iterable = ()):
        super().__init__(episodes)
        self.evaluations = list(evaluations)
        self._update_losses = array("f", update_losses)  # 4 bytes an update, as there may be millions

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
        return float(np.mean([episode.score for episode in self[-last:]])) if self else math.nan

    def _column(self, name):
        return np.array([getattr(episode, name) for episode in self])

    def __repr__(self):
        mean = f", mean score of the last {min(len(self), 100)}: {self.mean_score():.1f}" if self else ""
        return f"<History of {len(self)} episodes{mean}>"

    # ---------------------------------------------------------------- in checkpoints and in files

    def snapshot(self) -> dict[str, np.ndarray]:
        """All of it as arrays, for `restored`."""
        tables = {"episodes": (Episode, self), "evaluations": (Evaluated, self.evaluations)}
        arrays = {name: np.array(rows, float).reshape(-1, len(kind._fields)) for name, (kind, rows) in tables.items()}
        return {**arrays, "update_losses": self.update_losses}

    @classmethod
    def restored(cls, arrays: dict[str, np.ndarray]) -> "History":
        """The history of a `snapshot`."""
        episodes = [_typed(Episode(*row)) for row in arrays["episodes"].tolist()]
        evaluations = [_typed(Evaluated(*row)) for row in arrays["evaluations"].tolist()]
        return cls(episodes, evaluations, arrays["update_losses"])

    def save(self, path: str | Path) -> None:
        """Write the history to a file, whole or not at all, in a folder made if missing.

        A .json holds everything: "episodes" and "evaluations", a list of objects with the fields of `Episode` and
        `Evaluated`, and "update_losses"; the loss of an episode without updates is null. A .csv holds the episodes
        alone, a row each below the names of the fields. `load` returns the same numbers to the last bit.

        Raises:
            ValueError: another suffix, or, of a .json, a number that is not finite.
        """
        path, episodes = _checked(path), [_typed(one) for one in self]
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            if path.suffix.lower() == ".csv":
                csv.writer(file, lineterminator="\n").writerows([Episode._fields, *episodes])
                return
            nulls = [one._replace(loss=None if math.isnan(one.loss) else one.loss) for one in episodes]
            content = {
                "episodes": [one._asdict() for one in nulls],
                "evaluations": [_typed(one)._asdict() for one in self.evaluations],
                "update_losses": self.update_losses.tolist(),
            }
            json.dump(content, file, allow_nan=False)

    @classmethod
    def load(cls, path: str | Path) -> "History":
        """A new history from a file that `save` wrote; from a .csv it has neither evaluations nor losses of updates.

        Raises:
            ValueError: another suffix, or the file is damaged or of something else; the message names it.
        """
        path = _checked(path)
        try:
            text = path.read_text(encoding="utf-8")
            content = _of_csv(text) if path.suffix.lower() == ".csv" else json.loads(text)
            episodes = [_typed(Episode(**one)) for one in content["episodes"]]
            evaluations = [_typed(Evaluated(**one)) for one in content["evaluations"]]
            return cls(episodes, evaluations, content["update_losses"])
        except (ValueError, TypeError, KeyError, OverflowError, csv.Error, RecursionError) as error:
            raise ValueError(f"{path}: cannot be read as a history. Received: {str(error)[:300]}") from error


def _checked(path):
    """The path, if a history can have its suffix."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ValueError(f"A history is saved as one of {', '.join(SUFFIXES)}. Received: {path}")
    return Path(path)


def _of_csv(text):
    """What a .json would hold."""
    rows = csv.DictReader(io.StringIO(text), restval="")
    if rows.fieldnames != list(Episode._fields):
        raise ValueError(f"the columns {rows.fieldnames}, not {', '.join(Episode._fields)}")
    return {"episodes": list(rows), "evaluations": [], "update_losses": []}


def _typed(record: Any) -> Any:
    """The same with numbers as its fields are typed, whatever they were read from; None, of JSON, is NaN."""
    types = type(record).__annotations__.values()
    return type(record)(*(of(math.nan if one is None else one) for of, one in zip(types, record, strict=True)))
