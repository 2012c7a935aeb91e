"""Writing that may fail without ending a training: a disk is full, or a drive is away for a moment."""


class Attempts:
    """A context for each attempt to write something: an OSError is printed instead of raised, and only the first time.

    After an attempt that succeeded, the next failure is printed again. Whoever writes keeps what was not written, and
    tries again at the next opportunity.

    Args:
        what: is written, as the message begins: "A row of the log".

    Attributes:
        failed: whether the last attempt failed.
    """

    def __init__(self, what: str):
        self.what, self.failed = what, False

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None and not issubclass(kind, OSError):
            return False
        if kind is not None and not self.failed:
            print(f"{self.what} was not written; training goes on and tries again. Received: {error}")
        self.failed = kind is not None
        return self.failed
