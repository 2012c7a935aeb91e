"""Weight files from outside, as data: what is in one, and a copy for Keras to load, of the bytes that were walked."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from keras_dqn.files import h5_probe

LARGEST = 2**28  # bytes, in a file and for reading it: a small network, its optimizer and whatever else there is
SECONDS = 30  # a child that takes longer, on however busy a machine, does not come to an end
SIGNATURES = (b"\x89HDF\r\n\x1a\n", h5_probe.ZIP)
SHIPPED = [Path(__file__).parents[2] / "weights", Path(__file__).parents[1] / "pretrained"]  # checkout; wheel
_walked = {}  # {(sha256, most): contents} of the last files


class WeightFileError(ValueError):
    """A weight file that is damaged, hostile or made for another network; names the file and the tensor."""


class Contents(NamedTuple):
    """What is in a weight file."""

    legacy: bool  # as Keras 1 and 2 wrote weights, and every whole-model .h5: layers in their order
    layer_names: list[str]  # of a legacy file, those without weights too
    backend: str  # that wrote it, where it says so
    config: str | None  # of the network, JSON
    weights: list[tuple[str, list[int], str]]  # (name, shape, dtype) of each, in the order of the layers where there is


@contextmanager
def opened(path: str | Path, most: int = LARGEST) -> Iterator[tuple[Contents, Path]]:
    """Yields what is in a weight file of at most `most` bytes, and a copy with the suffix that Keras expects of it.

    Whatever HDF5's library does with the file happens in another process. Raises WeightFileError.
    """
    with tempfile.TemporaryDirectory(prefix="keras_dqn-") as folder:
        try:
            content = _read(Path(path), most)
            copy = Path(folder, "copy")
            copy.write_bytes(content)
            if (key := (hashlib.sha256(content).digest(), most)) not in _walked:
                shipped = Path(path).resolve().parent in SHIPPED
                found = h5_probe.walk(str(copy), most) if shipped else _walk_in_a_child(copy, most)
                if len(_walked) == 8:
                    _walked.clear()
                _walked[key] = Contents(**found)
            if content.startswith(h5_probe.ZIP):
                with zipfile.ZipFile(copy) as archive:
                    content = archive.read(h5_probe.TENSORS)
                copy.write_bytes(content)
            contents = _walked[key]
            copy = copy.rename(Path(folder, "copy.h5" if contents.legacy else "copy.weights.h5"))
        except Exception as error:  # of whatever kind: what a damaged file may do
            reason = str(error) if isinstance(error, WeightFileError) else f"cannot be read. Received: {error!r}"
            raise WeightFileError(f"{path}: {reason[:1000]}") from error
        yield contents, copy


def _read(path, most):
    """The bytes of a regular file that may be a weight file."""
    if path.exists() and not path.is_file():  # to open a pipe or device may wait, or do something
        received = "a folder" if path.is_dir() else "something that is not a regular file"
        raise WeightFileError(f"expected a weight file. Received: {received}")
    if (size := path.stat().st_size) > most:
        raise WeightFileError(f"expected at most {most} bytes for this network. Received: {size}")
    with open(path, "rb") as file:
        content = file.read(size)
    start = content[:1000].lstrip().lower()
    if not content:
        received = "an empty file"
    elif start.startswith(b"version https://git-lfs"):
        received = "a git-lfs pointer, which only says where the file is: fetch that with `git lfs pull`"
    elif start.startswith((b"<!doctype html", b"<html")):
        received = (
            "an HTML page saved under this name: download the file itself (on GitHub by its button for raw files)"
        )
    elif not any(signature in content for signature in SIGNATURES):
        received = f"a file that is not HDF5, which begins with {content[:16]!r}"
    else:
        return content
    raise WeightFileError(f"expected a weight file. Received: {received}")


def _walk_in_a_child(copy, most):
    folders = {str(Path(package.__file__).parents[1]) for package in (h5py, np)}
    command = [sys.executable, "-I", "-S", h5_probe.__file__, str(copy), str(most), *folders]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # each thread would take its share of the memory
    try:
        child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, env=environment)
    except subprocess.TimeoutExpired as error:
        raise WeightFileError(f"expected a file that HDF5 can read. Received: no end in {SECONDS} s") from error
    if child.returncode:
        *_, reason = child.stderr.decode("utf-8", "replace").strip().split("\n")
        received = reason or f"one that ends it, with status {child.returncode}"
        raise WeightFileError(f"expected a file that HDF5 can read. Received: {received}")
    found = json.loads(child.stdout)
    if "refused" in found:
        raise WeightFileError(found["refused"])
    return found
