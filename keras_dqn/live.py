"""A learning curve that grows while the agent learns: one figure of a notebook, drawn again in its place."""

import time

from keras_dqn.plots import learning_curve, notebook_picture

EVERY = 3.0  # seconds between two drawings, at least
SHARE = 0.05  # of the time that drawing may take


class LiveCurve:
    """Draws the learning curve of a history in a notebook's output, and again and again as the history grows.

    Drawing takes a second or so on a slow machine; it is done so rarely that it costs a twentieth of the time.

    Args:
        history: the `History` that training appends to.
        **options: of `plots.learning_curve`.
    """

    def __init__(self, history, **options):
        self.history, self.options = history, options
        self._handle = None
        self._next = time.monotonic() + EVERY

    def update(self):
        """Draw if it is time to."""
        if time.monotonic() >= self._next:
            self.draw()

    def draw(self):
        """Draw what there is; nothing where no episode has ended yet."""
        if not self.history:
            return
        from IPython.display import display

        began = time.monotonic()
        picture, metadata = notebook_picture(learning_curve(self.history, **self.options))
        if self._handle is None:
            self._handle = display(picture, metadata=metadata, raw=True, display_id=True)
        else:
            self._handle.update(picture, metadata=metadata, raw=True)
        now = time.monotonic()
        self._next = now + max(EVERY, (now - began) / SHARE)
