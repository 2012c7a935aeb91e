"""What a long training writes down while it goes on: a row every so many steps, as CSV and for TensorBoard."""

import csv
import errno
import io
import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_dqn.core.counting import Every
from keras_dqn.files.atomic import atomic_write
from keras_dqn.training.attempts import Attempts
from keras_dqn.training.history import History

if TYPE_CHECKING:
    from keras_dqn.core.agent import Agent

LOG_EVERY = 10_000  # steps
_COUNTS = ["steps", "frames", "episodes", "updates"]
_MEASURES = ["mean_score_100", "epsilon", "loss", "steps_per_second", "seconds"]


class TrainingLog:
    """Appends a row every `every` steps to a CSV file: how far training is, and how it goes.

    The columns: `steps` (of all environments), `frames` (the emulator's, where a step is several), `episodes`,
    `updates`, `mean_score_100` (of the last 100 episodes, their true rewards), `epsilon`, `loss` (mean of the updates
    since the row before), `steps_per_second` (since then as well), `seconds` (of training).

    A row that cannot be written, since the disk is full or the folder gone, is written with the next one.

    Args:
        path: of the file.
        every: steps from row to row.
        frames_per_step: emulator frames a step, or None.
        tensorboard: a folder that the same numbers go to as TensorFlow writes them, or None.
    """

    def __init__(
        self,
        path: str | Path,
        every: int = LOG_EVERY,
        frames_per_step: int | None = None,
        tensorboard: str | Path | None = None,
    ):
        self.path, self.every, self.frames_per_step = Path(path), every, frames_per_step
        self._losses = deque(maxlen=100_000)
        self._outputs = [_Output("The log", self._append)]
        if tensorboard is not None:
            self._outputs.append(_Output("The log for TensorBoard", _TensorBoard(tensorboard).write))

    def begin(self, steps: int, seconds: float) -> None:
        """Go on after so many steps and seconds of training: rows of later ones, which will be made again, go."""
        self._started, self._seconds_before = time.perf_counter(), seconds
        self._due = Every(self.every, steps)
        self._last_steps, self._last_seconds = steps, seconds
        rows = _read_rows(self.path, self._columns())
        with atomic_write(self.path) as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows([self._columns(), *(row for row in rows if int(row[0]) <= steps)])

    @property
    def seconds(self) -> float:
        """Of training, those before an interruption included."""
        return self._seconds_before + time.perf_counter() - self._started

    def hear(self, steps: int, losses: np.ndarray | None, agent: "Agent", history: History | None) -> None:
        """Take note of a step; write a row if one is due.

        Args:
            steps: of all environments, since training began.
            losses: [K] float, of the updates made after it, or None.
        """
        if losses is not None:
            self._losses.extend(losses.tolist())
        if self._due(steps):
            row = self._row(steps, agent, history)
            for output in self._outputs:
                output.rows.append(row)
            self.write()

    def _row(self, steps, agent, history):
        seconds = self.seconds
        row = {
            "steps": steps,
            "frames": steps * (self.frames_per_step or 1),
            "episodes": len(history),
            "updates": agent.learner.updates,
            "mean_score_100": history.mean_score(),
            "epsilon": agent.exploration_rate,
            "loss": float(np.mean(self._losses)) if self._losses else float("nan"),
            "steps_per_second": (steps - self._last_steps) / max(seconds - self._last_seconds, 1e-9),
            "seconds": seconds,
        }
        self._losses.clear()
        self._last_steps, self._last_seconds = steps, seconds
        return {name: row[name] for name in self._columns()}

    def write(self) -> None:
        """Write the rows that wait to be written; what cannot be written goes on waiting."""
        for output in self._outputs:
            output.write()

    def _append(self, rows):
        """Append rows to the CSV file, all of them or none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:  # closed each time: nothing waits in a buffer
            text, end = io.StringIO(newline=""), file.tell()
            lines = csv.writer(text)
            if end == 0:  # somebody removed it
                lines.writerow(self._columns())
            for row in rows:
                lines.writerow(f"{value:.6g}" if name in _MEASURES else value for name, value in row.items())
            content = text.getvalue().encode()
            if file.write(content) < len(content):  # the disk was full in the middle of it
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def _columns(self):
        counts = _COUNTS if self.frames_per_step is not None else [name for name in _COUNTS if name != "frames"]
        return [*counts, *_MEASURES]


def _read_rows(path, columns):
    """The whole rows of a log, as text; a last one that was cut off is none."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [row for row in csv.reader(file) if len(row) == len(columns) and row[0].isdigit() and row[-1]]


class _Output:
    """Something that rows are written to, with those that could not be written yet.

    Args:
        what: it is, for the message that it was not written.
        write: a function that writes a list of rows, or raises an OSError.
    """

    def __init__(self, what, write):
        self.rows, self._write, self._attempts = [], write, Attempts(what)

    def write(self):
        if self.rows:
            with self._attempts:
                self._write(self.rows)
                self.rows.clear()


class _TensorBoard:
    """Scalars as TensorBoard reads them, by TensorFlow's own writer.

    Not `tf.summary.scalar`, which wants TensorBoard itself to be installed where the training runs.
    """

    def __init__(self, folder):
        from keras_dqn.backend import tf

        self._tf, self._writer = tf, tf.summary.create_file_writer(str(folder))

    def write(self, rows):
        """Write rows, dicts of numbers of which "steps" counts, or raise an OSError."""
        tf = self._tf
        try:
            for row in rows:
                with self._writer.as_default(step=row["steps"]):
                    for name in row.keys() - {"steps"}:
                        metadata = tf.compat.v1.SummaryMetadata(
                            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
                            data_class=_SCALAR,
                        )
                        tf.summary.write(f"training/{name}", float(row[name]), metadata=metadata)
            self._writer.flush()
        except tf.errors.OpError as error:
            raise OSError(error.message) from error


_SCALAR = 1  # DATA_CLASS_SCALAR of TensorFlow's summary.proto
