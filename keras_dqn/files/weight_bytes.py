"""The bytes of a weight file: read once, of bounded size, taken out of a `.keras` file, or named for what they are."""

import io
import os
import stat
import zipfile
from pathlib import Path

from keras_dqn.files.hdf5_blocks import SIGNATURE

WITHIN = "model.weights.h5"  # the weights in a `.keras` file
ZIP = b"PK\3\4"  # how a `.keras` file begins
CONFIG = "config.json"  # what network they are of, there
LONGEST_CONFIG = 2**20  # bytes of it
MOST_MEMBERS = 1000  # of a `.keras` file; Keras writes three, and one for each file that a layer brings along


class WeightFileError(ValueError):
    """A weight file that is damaged, hostile or made for another network; names the file and the tensor."""


def hdf5_bytes(path: str | Path, limit: int) -> bytes:
    """Returns the HDF5 file that `path` is, or contains as a `.keras` file does; of at most `limit` bytes.

    Never waits for a pipe or device. Raises WeightFileError for anything else than such a file, OSError.
    """
    return _hdf5(_read(path, limit), limit)


def hdf5_and_config(path: str | Path, limit: int) -> tuple[bytes, bytes | None]:
    """As `hdf5_bytes`, and the configuration in a `.keras` file beside it, None in another; the file is read once."""
    content = _read(path, limit)
    hdf5 = _hdf5(content, limit)
    return hdf5, _unpack(content, LONGEST_CONFIG, CONFIG) if content.startswith(ZIP) else None


def _hdf5(content: bytes, limit: int) -> bytes:
    if content.startswith(ZIP):
        content = _unpack(content, limit)
    if not content.startswith(SIGNATURE):
        raise _error("a weight file", _name(content))
    return content


def _error(expected: str, received: str) -> WeightFileError:
    return WeightFileError(f"expected {expected}. Received: {received}")


def _read(path: str | Path, limit: int) -> bytes:
    _check(os.stat(path), limit)  # some devices do something when they are opened
    # a pipe may have taken the file's place since: not to wait for its other end
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        _check(before, limit)
        content = file.read(before.st_size)
        after = os.fstat(file.fileno())
    if len(content) != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _error("a weight file", "one that is being written")
    return content


def _check(status: os.stat_result, limit: int) -> None:
    for refused, received in (
        (stat.S_ISDIR(status.st_mode), "a folder"),
        (not stat.S_ISREG(status.st_mode), "something that is not a regular file"),
        (status.st_size == 0, "an empty file"),
        (status.st_size > limit, f"{status.st_size} bytes, where this network needs at most {limit}"),
    ):
        if refused:
            raise _error("a weight file", received)


def _unpack(content: bytes, limit: int, within: str = WITHIN) -> bytes:
    """The weights in a `.keras` file, or its configuration. What else is in it stays unread."""
    if (most := content.count(b"PK\1\2")) > MOST_MEMBERS:  # so begins each line of the list that zipfile would read
        raise _error(f"a .keras file of at most {MOST_MEMBERS} members", f"{most}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if member.filename == within]
            if len(members) != 1:
                names = [member.filename[:40] for member in archive.infolist()[:5]]
                received = f"a zip file with {len(members)} of that name, and {names}"
                raise _error(f"a .keras file with one {within}", received)
            if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or members[0].flag_bits & 1:
                raise _error(f"{within} as Keras packs it", f"method {members[0].compress_type}, or encrypted")
            if members[0].file_size > limit:
                received = f"{members[0].file_size} bytes"
                raise _error(f"{within} of at most {limit} bytes, which is enough for this network", received)
            with archive.open(members[0]) as file:
                return file.read(members[0].file_size)
    except WeightFileError:
        raise
    except Exception as error:  # zipfile and zlib raise nearly anything for a damaged file
        raise _error("a .keras file", f"a damaged zip file, {str(error)[:200]!r}") from error


def _name(content: bytes) -> str:
    """What a file that is not HDF5 is."""
    start = content[:1000].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, which only says where the file is: fetch that with `git lfs pull`"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page saved under this name: download the file itself (on GitHub by its button for raw files)"
    return f"a file that is not HDF5, which begins with {content[:16]!r}"
