"""Libraries that need PyTorch alone, kept from importing TensorFlow by way of TensorBoard.

Where both are there, that takes seconds, and torch's triton, loaded after TensorFlow 2.20 or 2.21, ends the process.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_tensorflow() -> Iterator[None]:
    """Within it TensorFlow cannot be imported, unless it is already."""
    hidden = "tensorflow" not in sys.modules
    if hidden:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        import torch

        torch.set_num_threads(1)
        yield
    finally:
        if hidden:
            del sys.modules["tensorflow"]
