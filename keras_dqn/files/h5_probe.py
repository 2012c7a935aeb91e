"""What is in a weight file, found by walking all of it in a process with limits on time and memory.

HDF5's C library hangs or crashes on some crafted files, and nothing in the process can stop it, so a file that did not
come with the package is first walked by a child: python -I -S h5_probe.py FILE MOST_BYTES FOLDER_OF_H5PY ...
It prints what it found as JSON. It refuses what h5py would follow out of the file (external and virtual data, links),
data that were never written, and anything that takes more than MOST_BYTES.
"""

import hashlib
import io
import json
import math
import re
import sys
import zipfile
from contextlib import suppress

if __name__ == "__main__":
    sys.path += sys.argv[3:]
import h5py
import numpy as np

ZIP = b"PK\3\4"  # how a `.keras` file begins
TENSORS, CONFIG = "model.weights.h5", "config.json"  # in a `.keras` file
TOP_LEVEL = "top_level_model_weights"  # Keras's group for weights that a model holds outside its layers
NETWORK, CHECKSUM = "network", "sha256"  # attributes of the files that keras_dqn writes


class Refused(ValueError):
    """A file that is not to be read; names the tensor and ends with what was received."""


def walk(path: str, most: int) -> dict:
    """Reads an .h5 or .keras file of at most so many bytes to its end, and returns what `Contents` has of it.

    Raises `Refused`, or whatever h5py and zipfile raise for a damaged file.
    """
    config, source = None, path
    with open(path, "rb") as file:
        zipped = file.read(len(ZIP)) == ZIP
    if zipped:
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            if sizes.get(TENSORS, 0) + sizes.get(CONFIG, 0) > most:
                raise Refused(f"{TENSORS}: expected at most {most} bytes. Received: {sizes[TENSORS]}")
            source = io.BytesIO(archive.read(TENSORS))
            config = archive.read(CONFIG) if CONFIG in sizes else None
    with h5py.File(source, "r") as file:
        numbered = _walk_groups(file, most)
        return _contents(file, numbered, config or file.attrs.get(NETWORK) or file.attrs.get("model_config"))


def _contents(file, numbered, config):
    """What is told of a file that was walked."""
    root = file["model_weights"] if "layer_names" not in file.attrs and "model_weights" in file else file
    legacy = bool({"layer_names", "layer_names0"} & set(root.attrs))
    layers = _names(root, "layer_names") if legacy else []
    if legacy:
        holders = [root[layer] for layer in [*layers, *([TOP_LEVEL] if TOP_LEVEL in root else [])]]
        found = [holder[name] for holder in holders for name in _names(holder, "weight_names")]
    else:
        found = [file[name] for name in sorted(numbered, key=_by_numbers)]
    if CHECKSUM in file.attrs:
        computed = checksum({dataset.name[1:]: dataset[()] for dataset in found})
        if (stored := _text(file.attrs[CHECKSUM])) != computed:
            raise Refused(f"/: expected tensors of {CHECKSUM} {stored[:64]}. Received: {computed}")
    return {
        "legacy": legacy,
        "layer_names": layers,
        "backend": _text(root.attrs.get("backend", "")),
        "config": config and _text(config),
        "weights": [(dataset.name, dataset.shape, _dtype(dataset)) for dataset in found],
    }


def _walk_groups(root, most):
    """Reads every group, attribute and dataset once; returns the datasets with names like /layers/dense/vars/0."""
    seen, pending, numbered = {h5py.h5o.get_info(root.id).addr}, [root], []
    while pending:
        group = pending.pop()
        dict(group.attrs)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise Refused(f"{group.name}/{name}: expected data in the file itself. Received: a link")
            item = group[name]
            if (address := h5py.h5o.get_info(item.id).addr) in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                pending.append(item)
            elif isinstance(item, h5py.Dataset) and item.shape is not None:
                most -= _read(item, most)
                if re.search(r"^/(?!optimizer/|metrics/)(.*/)?vars/\d+$", item.name):
                    numbered.append(item.name)
    return numbered


def _read(item, most):
    """Reads a dataset, and returns how many bytes that took."""
    if item.is_virtual or item.external:
        raise Refused(f"{item.name}: expected data in the file itself. Received: data of another file")
    needed = max(item.size, math.prod(item.chunks or ())) * item.dtype.itemsize
    if needed > most:
        raise Refused(f"{item.name}: expected at most {most} bytes more. Received: {needed}")
    if item.size and not item.id.get_storage_size():
        raise Refused(f"{item.name}: expected data. Received: a tensor that was never written, {item.shape}")
    try:
        dict(item.attrs), item[()]
    except OSError as error:
        raise Refused(f"{item.name}: expected data as they were written. Received: {error}") from error
    return needed


def _by_numbers(name):
    """What sorts dense_2 before dense_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _names(group, attribute):
    """A list of names, which Keras cuts into attribute0, attribute1, ... where it is long."""
    pieces = [f"{attribute}{number}" for number in range(len(group.attrs))]
    keys = [attribute] if attribute in group.attrs else [piece for piece in pieces if piece in group.attrs]
    return [_text(name) for key in keys for name in group.attrs[key]]


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _dtype(dataset):
    return "bfloat16" if dataset.attrs.get("dtype") == "bfloat16" else str(dataset.dtype)  # HDF5 has none


def checksum(tensors: dict[str, np.ndarray]) -> str:
    """The sha256 of tensors with their names, dtypes and shapes."""
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()


def _limit_resources(most):
    with suppress(ImportError):  # Windows has none; the parent limits the time anyway
        import resource

        limits = {"RLIMIT_CPU": 2 + most // 2**28, "RLIMIT_AS": 2**29 + 3 * most, "RLIMIT_CORE": 0}
        for name, value in limits.items():
            with suppress(ValueError, OSError):  # a lower one is set already
                resource.setrlimit(getattr(resource, name), (value, value))


def _main(path, most):
    _limit_resources(most)
    try:
        told = json.dumps(walk(path, most))
    except Exception as error:  # of whatever kind: what a damaged file may do
        refused = str(error) if isinstance(error, Refused) else f"expected a weight file. Received: {error!r}"
        told = json.dumps({"refused": refused[:1000]})
    print(
        told if len(told) <= most else json.dumps({"refused": f"expected shorter names. Received: {len(told)} bytes"})
    )


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
