"""What a long training writes down while it goes on: a row every so many steps, as CSV and for TensorBoard."""

import csv
import time
from collections import deque
from pathlib import Path

import numpy as np

from keras_dqn.records.weights import atomic_write

LOG_EVERY = 10_000  # steps
_COUNTS = ["steps", "frames", "episodes", "updates"]
_MEASURES = ["mean_score_100", "epsilon", "loss", "steps_per_second", "seconds"]


class TrainingLog:
    """Appends a row every `every` steps to a CSV file: how far training is, and how it goes.

    The columns: `steps` (of all environments), `frames` (the emulator's, where a step is several), `episodes`,
    `updates`, `mean_score_100` (of the last 100 episodes, their true rewards), `epsilon`, `loss` (mean of the updates
    since the row before), `steps_per_second` (since then as well), `seconds` (of training).

    Args:
        path: of the file.
        every: steps from row to row.
        frames_per_step: emulator frames a step, or None.
        tensorboard: a folder that the same numbers go to as TensorFlow writes them, or None.
    """

    def __init__(self, path, every=LOG_EVERY, frames_per_step=None, tensorboard=None):
        self.path, self.every, self.frames_per_step = Path(path), every, frames_per_step
        self._losses = deque(maxlen=100_000)
        self._tensorboard = None if tensorboard is None else _TensorBoard(tensorboard)

    def begin(self, steps, seconds):
        """Go on after so many steps and seconds of training: rows of later ones, which will be made again, go."""
        self._started, self._seconds_before = time.perf_counter(), seconds
        self._last_steps, self._last_seconds = steps, seconds
        rows = _read_rows(self.path, self._columns())
        with atomic_write(self.path) as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows([self._columns(), *(row for row in rows if int(row[0]) <= steps)])

    @property
    def seconds(self):
        """Of training, those before an interruption included."""
        return self._seconds_before + time.perf_counter() - self._started

    def hear(self, steps, losses, agent, history):
        """Take note of a step; write a row if one is due.

        Args:
            steps: of all environments, since training began.
            losses: [K] float, of the updates made after it, or None.
        """
        if losses is not None:
            self._losses.extend(losses.tolist())
        if steps // self.every > self._last_steps // self.every:
            self._write(self._row(steps, agent, history))

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
        return row

    def _write(self, row):
        texts = [f"{row[name]:.6g}" if name in _MEASURES else row[name] for name in self._columns()]
        with open(self.path, "a", newline="") as file:  # closed each time: nothing waits in a buffer
            csv.writer(file).writerow(texts)
        if self._tensorboard is not None:
            self._tensorboard.write(row["steps"], {name: row[name] for name in self._columns()[1:]})

    def _columns(self):
        counts = _COUNTS if self.frames_per_step is not None else [name for name in _COUNTS if name != "frames"]
        return [*counts, *_MEASURES]


def _read_rows(path, columns):
    """The whole rows of a log, as text; a last one that was cut off is none."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [row for row in csv.reader(file) if len(row) == len(columns) and row[0].isdigit() and row[-1]]


class _TensorBoard:
    """Scalars as TensorBoard reads them, by TensorFlow's own writer.

    Not `tf.summary.scalar`, which wants TensorBoard itself to be installed where the training runs.
    """

    def __init__(self, folder):
        from keras_dqn.backend import tf

        self._tf, self._writer = tf, tf.summary.create_file_writer(str(folder))

    def write(self, steps, scalars):
        tf = self._tf
        with self._writer.as_default(step=steps):
            for name, value in scalars.items():
                metadata = tf.compat.v1.SummaryMetadata(
                    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=_SCALAR
                )
                tf.summary.write(f"training/{name}", float(value), metadata=metadata)
        self._writer.flush()


_SCALAR = 1  # DATA_CLASS_SCALAR of TensorFlow's summary.proto
