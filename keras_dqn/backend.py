"""Keras, on the backend that is chosen as with any Keras program, imported without TensorFlow's start-up messages.

TensorFlow is the default; `KERAS_BACKEND=jax` or Keras's configuration file choose another.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def stderr_held_back() -> Iterator[None]:
    """Hold back what native code writes to file descriptor 2, and show it only if the import fails.

    TF_CPP_MIN_LOG_LEVEL alone does not do: the messages about missing GPUs come before the log level is read.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # started without one
        yield
        return
    with tempfile.TemporaryFile() as messages:
        sys.stderr.flush()
        os.dup2(messages.fileno(), 2)
        try:
            yield
        except BaseException:
            messages.seek(0)
            os.write(stderr, messages.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


# TensorFlow 2.20 and 2.21 show their LLVM to every library that is loaded after them. triton 3.7, which torch imports
# with its first optimizer, takes it for its own, and the process dies (tensorflow#124205). Later versions leave this
# module out, so we do too. Where TensorFlow was imported before us it is too late: torch then does without triton.
if sys.modules.setdefault("tensorflow.python.pywrap_dlopen_global_flags", None):
    sys.modules.setdefault("triton", None)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # later messages, up to warnings; errors still come as exceptions
with stderr_held_back():
    import keras

BACKEND = keras.backend.backend()
if BACKEND not in ("tensorflow", "jax", "torch"):
    raise ImportError(
        "keras_dqn needs Keras on TensorFlow, JAX or PyTorch: set KERAS_BACKEND before keras is first imported. "
        f"Received: {BACKEND!r}"
    )
if BACKEND != "tensorflow" and "tensorflow" not in sys.modules:
    # Keras asks once whether TensorFlow is there, as it first writes a configuration, and would import it for that.
    sys.modules["tensorflow"] = None
    keras.saving.serialize_keras_object(keras.initializers.Zeros())
    del sys.modules["tensorflow"]

__all__ = ["BACKEND", "keras", "stderr_held_back"]
