"""Ctrl-C and SIGTERM, which end a training at once or at the end of its step, with all of it saved."""

import signal


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as a system that shuts down asks: to a training the same as Ctrl-C."""


class Interruptions:
    """While this context is open, SIGTERM raises `Terminated`, as Ctrl-C raises KeyboardInterrupt.

    A handler of SIGTERM that somebody else has installed stays. Outside of the main thread, which is the one that
    signals reach, nothing changes.

    Args:
        hold: whether both wait until `raise_held` is called; the second one does not wait.
    """

    def __init__(self, hold: bool = False):
        self._hold, self._held, self._handlers = hold, None, {}

    def __enter__(self):
        numbers = [signal.SIGINT] if self._hold else []
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            numbers.append(signal.SIGTERM)
        try:
            for number in numbers:
                self._handlers[number] = signal.signal(number, self._receive)
        except ValueError:  # not in the main thread
            pass
        return self

    def __exit__(self, kind, error, traceback):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def raise_held(self) -> None:
        """Raise what has waited, if anything has."""
        if self._held is not None:
            raise self._held

    def _receive(self, number, frame):
        interruption = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if not self._hold or self._held is not None:
            raise interruption
        self._held = interruption
