"""Files that are whole or are not there: written under another name, flushed to the disk, then renamed."""

import errno
import glob
import itertools
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED_AFTER = 3600  # seconds; a temporary file untouched for so long was left by a killed process


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, with its suffix; when the block ends well, that file becomes `path`.

    On any failure, Ctrl-C included, the temporary file is removed and what was at `path` stays. Raises OSError.
    """
    with _temporary_beside(path) as (target, temporary):
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    with suppress(OSError):  # some network drives cannot sync a folder; the file itself is safe by now
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def check_writable(path: str | Path) -> None:
    """Raises the OSError (no such folder, no permission, ...) that writing `path` would meet; leaves no trace."""
    with _temporary_beside(path):
        pass


def copied_beside(path: Path) -> Path | None:
    """Copies a file to `…_before` beside it, or `…_before_2`, and so on: a name that is free; returns the copy's path.

    Where there is no such file, or one of these holds its bytes already, nothing is copied and None is returned.
    """
    if not path.exists():
        return None
    content = path.read_bytes()
    for number in itertools.count(1):
        kept = path.with_stem(f"{path.stem}_before" + f"_{number}" * (number > 1))
        if not kept.exists():
            with atomic_write(kept) as temporary:
                temporary.write_bytes(content)
            return kept
        if kept.read_bytes() == content:
            return None


@contextmanager
def _temporary_beside(path: str | Path) -> Iterator[tuple[Path, Path]]:
    """Yields (the file that `path` leads to, a new empty file beside it), and removes the second in the end."""
    target = Path(os.path.realpath(path))  # write through a link, not over it
    temporary = target.parent / f".{secrets.token_hex(8)}-{target.name}"
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EISDIR, "it is a folder, or not a regular file")
        temporary.touch(exist_ok=False)
        _remove_abandoned(target)
        yield target, temporary
    except OSError as error:
        if error.errno is None or str(error.filename) not in ("None", str(temporary)):
            raise  # it is about another file
        # a full disk does not say which file it was; Python picks the subclass by the number
        raise OSError(error.errno, f"Cannot write: {error.strerror}. Received", str(path)) from error
    finally:
        with suppress(OSError):  # as a rule it was renamed
            temporary.unlink()


def _remove_abandoned(target):
    """Removes the temporary files that killed processes left beside `target`."""
    with suppress(OSError):  # they are in nobody's way
        for file in target.parent.glob(f".{'[0-9a-f]' * 16}-{glob.escape(target.name)}"):
            if time.time() - file.stat().st_mtime >= ABANDONED_AFTER:
                file.unlink()
