"""Folders that are whole or are not looked at: written under another name, with a manifest, then renamed."""

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from keras_dqn.expected import Unexpected, opened, read_json, shortened
from keras_dqn.files.atomic import ABANDONED_AFTER
from keras_dqn.training.saved_training import REQUIRED

NAME = re.compile(r"checkpoint_([0-9]{6,})")


MANIFEST = "manifest.json"


LARGEST = 2**30  # bytes of a file, or four times what the agent takes, if that is more: what is larger is not read


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another training; the message names its folder."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; when the block ends well, it becomes `path` with a manifest in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    temporary = path.parent / f".{secrets.token_hex(8)}-{path.name}"
    temporary.mkdir()
    try:
        yield temporary
        files = {file.name: _fingerprint(file) for file in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps({"files": files}, indent=1))
        for file in [*temporary.iterdir(), temporary]:
            _sync(file)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    with suppress(OSError):  # some network drives cannot sync a folder
        _sync(path.parent)


def check_integer_folder(path: Path, most: int = LARGEST) -> set[str]:
    """Raise a CheckpointError unless every file of the manifest is there, of its size and with its sha256.

    Args:
        path: of the folder.
        most: bytes that a file may have; larger ones are not read.

    Returns:
        The names of these files, a set.
    """
    try:
        files = read_json(path / MANIFEST, most=2**20)["files"]
        if missing := REQUIRED - files.keys():
            raise CheckpointError(
                f"{path / MANIFEST}: expected to list {sorted(missing)}. Received: {shortened(files)}"
            )
        for name, expected in files.items():
            if Path(name).name != name:
                raise CheckpointError(f"{path}: a manifest names files of its own folder. Received: {name!r}")
            if (received := _fingerprint(path / name, most)) != expected:
                raise CheckpointError(
                    f"{path / name}: damaged, expected {shortened(expected)}. Received: {received['bytes']} bytes, "
                    f"sha256 {received['sha256']}"
                )
        return set(files)
    except CheckpointError:
        raise
    except Unexpected as error:
        raise CheckpointError(str(error)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not whole. Received: {shortened(error)}") from error


def _fingerprint(file, most=None):
    """Size and sha256 of a regular file."""
    with opened(file, most) as content:
        size = os.fstat(content.fileno()).st_size
        return {"bytes": size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path):
    """Remove a checkpoint; under another name first, so that no half of it is ever taken for one."""
    hidden = path.parent / f".{secrets.token_hex(8)}-{path.name}"
    os.rename(path, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _remove_abandoned(folder, names=NAME.pattern, age=ABANDONED_AFTER):
    """Remove the temporary folders and files that killed processes left.

    Args:
        names: a regular expression of what they were to become.
        age: seconds that they have not been touched for.
    """
    ours = re.compile(r"\.[0-9a-f]{16}-" + names)
    with suppress(OSError):  # they are in nobody's way
        for path in folder.iterdir():
            if ours.fullmatch(path.name) and time.time() - path.lstat().st_mtime >= age:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
