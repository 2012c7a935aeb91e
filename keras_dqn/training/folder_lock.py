"""A lock on a folder, so that two trainings do not mix their files in it."""

import contextlib
import json
import os
import socket
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = "training.lock"


class FolderLock:
    """A lock file in a folder that only one process can hold; it says who that is.

    The system itself gives the lock back when a process ends, however it ends: a file that is left behind locks
    nothing. It holds between the processes of one machine, and where the file system has such locks.

    Args:
        folder: exists.
    """

    def __init__(self, folder: str | Path):
        self.path, self._file = Path(folder) / NAME, None

    @property
    def held(self) -> bool:
        """Whether it is certain that no other process of this machine holds it, since this one does."""
        return self._file is not None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            BlockingIOError: another process has it; the message says which.
            OSError: the file cannot be written.
        """
        while fcntl is not None:
            file = open(self.path, "a+")  # noqa: SIM115 - it stays open as long as the lock is held
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                with file:
                    text = f"It is in use by {_owner(file)}. Received"
                raise BlockingIOError(error.errno, text, str(self.path)) from None
            except OSError:  # a file system without locks
                file.close()
                return
            if not self._is_at_its_path(file):  # its owner removed it between the two calls
                file.close()
                continue
            file.truncate(0)
            owner = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            file.write(json.dumps(owner))
            file.flush()
            self._file = file
            return

    def release(self) -> None:
        """Give the lock back, and remove its file; nothing where it is not held."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # the folder may be gone
                if self._is_at_its_path(self._file):
                    self.path.unlink()
            self._file.close()
            self._file = None

    def _is_at_its_path(self, file):
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return False


def _owner(file):
    """Who holds the lock, as its file says."""
    file.seek(0)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        owner = json.loads(file.read(1000))
        return f"process {int(owner['process'])} on {str(owner['host'])[:100]!r}, since {str(owner['since'])[:30]}"
    return "another process"
