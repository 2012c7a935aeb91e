"""Weight files from outside, as data: what one holds, once a child process has read all of it and is still alive."""

import difflib
import hashlib
import io
import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from keras_dqn.checks import all_finite
from keras_dqn.files import h5_probe
from keras_dqn.files.h5_probe import WeightFileError as WeightFileError

LARGEST = 2**28  # bytes, in a file and for reading it: a small network, its optimizer and whatever else there is
SECONDS = 30  # a child that takes longer, on however busy a machine, does not come to an end
SIGNATURES = (b"\x89HDF\r\n\x1a\n", h5_probe.ZIP)
SHIPPED = [Path(__file__).parents[2] / "weights", Path(__file__).parents[1] / "pretrained"]  # checkout; wheel
TOP_LEVEL = "top_level_model_weights"  # Keras's group for weights that a model holds outside its layers
NETWORK, CHECKSUM = "network", "sha256"  # attributes of the files that keras_dqn writes
STATISTICS = "observation_statistics"  # a dataset in them: mean, variance and count of `NormalizeObservation`


class WeightFile(NamedTuple):
    """What is in a weight file."""

    hdf5: bytes  # the file, or the one in a .keras file
    config: str | None  # of the network, JSON
    layers: list[str] | None  # in their order, of Keras 1 and 2 and of every whole-model .h5; Keras 3 numbers weights
    backend: str  # that wrote it, where it says so
    tensors: dict[str, np.ndarray]  # by name; in the order of the layers
    statistics: np.ndarray | None  # of the observations that the network learned from, where they were normalized

    @property
    def joins_value_first(self) -> bool:
        """Whether the last layer is the Lambda by which keras-rl joins value and advantages."""
        return bool(self.layers) and self.layers[-1].startswith("lambda")


def read_weight_file(path: str | Path, parameters: int = 0) -> WeightFile:
    """Reads a weight file for a network of so many parameters, which says how large it may be.

    What HDF5's library does with a file that did not come with the package, it does in another process first.
    Raises WeightFileError, which names the file.
    """
    most = max(LARGEST, 24 * parameters)  # float64, and two moments
    try:
        content = _content(Path(path), most)
        if Path(path).resolve().parent not in SHIPPED:
            _walk_in_a_child(content, most)
        hdf5, config = h5_probe.unzipped(content, most)
        with h5py.File(io.BytesIO(hdf5)) as file:
            return _read(file, hdf5, config)
    except Exception as error:  # of whatever kind: what a damaged file may do
        reason = str(error) if isinstance(error, WeightFileError) else f"cannot be read. Received: {error}"
        raise WeightFileError(f"{path}: {reason[:1000]}") from error


def _read(file, hdf5, config):
    root = file["model_weights"] if "model_weights" in file and "layer_names" not in file.attrs else file
    layers = _names(root, "layer_names")
    if layers is None:
        names = []
        file.visit(names.append)
        names = [name for name in names if re.search(r"^(?!optimizer/|metrics/)(.*/)?vars/\d+$", name)]
        # dense_2 before dense_10
        datasets = map(file.get, sorted(names, key=lambda name: re.sub(r"\d+", lambda part: part[0].zfill(9), name)))
    else:
        groups = [root[layer] for layer in [*layers, *([TOP_LEVEL] if TOP_LEVEL in root else [])]]
        datasets = [group[name] for group in groups for name in _names(group, "weight_names") or ()]
    tensors = {dataset.name[1:]: np.asarray(dataset[()]) for dataset in datasets}
    stored = file.attrs.get(CHECKSUM)
    if stored is not None and _text(stored) != (computed := checksum(tensors)):
        raise WeightFileError(f"expected tensors of {CHECKSUM} {_text(stored)[:64]}. Received: {computed}")
    config = config or file.attrs.get(NETWORK) or file.attrs.get("model_config")
    statistics = np.asarray(file[STATISTICS][()]) if STATISTICS in file else None
    backend = _text(root.attrs.get("backend", ""))
    return WeightFile(hdf5, config and _text(config), layers, backend, tensors, statistics)


def read_statistics(path: str | Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Mean, variance and count of normalized observations in a file of weights, [3, *shape]; without, says so: None.

    Raises WeightFileError where they are not such.
    """
    values = read_weight_file(path).statistics
    if values is None:
        print(f"{path} has no statistics of NormalizeObservation: states are scaled otherwise than in its training")
    elif values.shape != (3, *shape) or not (all_finite(values) and (values[1:] >= 0).all()):
        raise WeightFileError(f"{path}: {STATISTICS!r}: expected mean, variance and count. Received: {values}"[:500])
    return values


def _names(group, attribute):
    """A list of names, which Keras cuts into attribute0, attribute1, ... where it is long; None where there is none."""
    pieces = [attribute, *(f"{attribute}{number}" for number in range(len(group.attrs)))]
    found = [group.attrs[piece] for piece in pieces if piece in group.attrs]
    return [_text(name) for names in found for name in names] if found else None


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def checksum(tensors: dict[str, np.ndarray]) -> str:
    """The sha256 of tensors with their names, dtypes and shapes."""
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()


@lru_cache(maxsize=1)  # what tells its network is read twice
def _walk_in_a_child(content, most):
    folders = {str(Path(package.__file__).parents[1]) for package in (h5py, np)}
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}  # each would take its share of the memory
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), **one_thread}
    command = [sys.executable, "-S", "-P", h5_probe.__file__, str(most)]  # -S: without a start of all that is installed
    child = subprocess.run(command, input=content, capture_output=True, timeout=SECONDS, env=environment)
    if child.returncode:
        *_, said = child.stderr.decode("utf-8", "replace").strip().split("\n")
        ended = f"expected a file that HDF5 can read. Received: {said or f'one that ends it, {child.returncode}'}"
        raise WeightFileError(said if "Received: " in said else ended)


# ---------------------------------------------------------------- what is no weight file


def _content(path, most):
    """The bytes of a file that may be a weight file; anything else is named for what it is."""
    if not path.is_file():  # to open a pipe or device may wait, or do something
        raise WeightFileError(f"expected a weight file. Received: {_instead(path)}")
    if (size := path.stat().st_size) > most:
        raise WeightFileError(f"expected at most {most} bytes for this network. Received: {size}")
    content = path.read_bytes()
    if not any(signature in content for signature in SIGNATURES):
        raise WeightFileError(f"expected a weight file. Received: {_instead(path, content[:1000].lstrip().lower())}")
    return content


def _instead(path, start=b""):
    """What is at a path, in the place of a weight file."""
    of_tensorflow = [path / "saved_model.pb", path / "checkpoint", path.parent / f"{path.name}.index"]
    if any(map(Path.exists, of_tensorflow)) or re.search(r"\.(pb|index|data-\d+-of-\d+)$", path.name):
        return "a SavedModel or checkpoint of TensorFlow: load it with tf_keras and save that model as an .h5 file"
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, which only says where the file is: fetch that with `git lfs pull`"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page saved under this name: download the file itself (on GitHub by its button for raw files)"
    if path.is_file():
        return f"{path.stat().st_size} bytes that are no HDF5, which begin with {start[:16]!r}"
    if path.exists():
        return "a folder" if path.is_dir() else "something that is not a regular file"
    names = [*(os.listdir(path.parent) if path.parent.is_dir() else []), "pretrained", "backup"]
    near = difflib.get_close_matches(path.name, names, 1)
    return "no such file" + (f"; the nearest is {path.parent / near[0]}" if near else "")
