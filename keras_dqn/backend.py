"""TensorFlow, and Keras on it, imported without TensorFlow's start-up messages."""

import contextlib
import functools
import os
import sys
import tempfile


@contextlib.contextmanager
def _stderr_held_back():
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


def _check_backend(name):
    if name != "tensorflow":
        raise ImportError(
            "keras_dqn needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow before keras is first imported. "
            f"Received: {name!r}"
        )


_check_backend(os.environ.setdefault("KERAS_BACKEND", "tensorflow"))  # before Keras imports another one
# TensorFlow 2.20 and 2.21 show their LLVM to every library that is loaded after them. triton 3.7, which torch imports
# with its first optimizer, takes it for its own, and the process dies (tensorflow#124205). Later versions leave this
# module out, so we do too. Where TensorFlow was imported before us it is too late: torch then does without triton.
if sys.modules.setdefault("tensorflow.python.pywrap_dlopen_global_flags", None):
    sys.modules.setdefault("triton", None)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # later messages, up to warnings; errors still come as exceptions
with _stderr_held_back():
    import keras
    import tensorflow as tf

_check_backend(keras.backend.backend())  # it may have been imported, on another one, before


@functools.cache
def warm_up_xla() -> None:
    """Compile something small with XLA, once, so that what XLA says of itself is not said in the middle of a training.

    Not on import, because it starts TensorFlow's devices, whose settings cannot be changed after that.
    """
    with _stderr_held_back():
        tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(0.0))


__all__ = ["keras", "tf", "warm_up_xla"]
