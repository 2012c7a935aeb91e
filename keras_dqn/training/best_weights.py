"""The weights of the best evaluation of a training, in a file of their own."""

from pathlib import Path
from typing import TYPE_CHECKING

from keras_dqn.files.atomic import atomic_write
from keras_dqn.files.weights import weights_content
from keras_dqn.training.attempts import Attempts

if TYPE_CHECKING:
    from keras_dqn.backend import keras


class BestWeights:
    """Keeps the weights that did best in a file; where it cannot be written, they wait in memory and are tried again.

    Args:
        path: of the .h5 file.
        score: of the weights that an earlier part of the training left there, or None.

    Attributes:
        score: of the weights that are in the file, or None where this training has written none.
    """

    def __init__(self, path: str | Path, score: float | None = None):
        self.path, self.score = Path(path), score
        self._waiting = None  # (content, score) that could not be written yet
        self._attempts = Attempts(f"{self.path} (the best weights)")

    def keep(self, brain: "keras.Model", score: float) -> None:
        """Write the weights of a Keras model, which did best so far; without room on the disk, as soon as there is.

        Raises:
            WeightFileError: the weights are not finite.
        """
        self._waiting = weights_content(brain, self.path), score
        self.try_again()

    def try_again(self) -> None:
        """Write what waits to be written, if anything does."""
        with self._attempts:
            self.finish()

    def finish(self) -> None:
        """Write what waits to be written, if anything does.

        Raises:
            OSError: it cannot be written.
        """
        if self._waiting is not None:
            content, score = self._waiting
            with atomic_write(self.path) as temporary:
                temporary.write_bytes(content)
            self.score, self._waiting = score, None
