"""How many inputs and actions a network has, told from its weight file alone."""

import re
from pathlib import Path

from keras_dqn.records.hdf5 import File, Group, Tensor
from keras_dqn.records.weight_bytes import hdf5_bytes
from keras_dqn.records.weights import _read_names

LARGEST = 2**26  # bytes of a file that is looked into
MOST_LAYERS = 1000


def sizes(path: str | Path) -> tuple[int, int] | None:
    """(inputs, actions) of a network of Dense layers, by its first and last kernel; None where it cannot be told."""
    try:
        file = File(hdf5_bytes(path, LARGEST), 2**20)
        kernels = _kernels(file, file.open(file.root))
    except (ValueError, OSError):
        return None
    if not kernels or any(len(shape) != 2 for _, shape in kernels):
        return None
    (_, (inputs, _)), (last, (_, outputs)) = kernels[0], kernels[-1]
    return inputs, outputs - ("dueling" in last)  # whose head has the value beside the advantages


def _kernels(file, group, place=""):
    """[(name, shape)] of all tensors that are no vectors, in the file's order of layers, or that of their numbers."""
    found = []
    links = {name: link for name, link in group.links.items() if not name.startswith("optimizer")}
    in_order = sorted(links, key=lambda name: [int(part) if part.isdigit() else part for part in _parts(name)])
    if {"layer_names", "layer_names0"} & set(group.attributes):
        in_order = [name for name in _read_names(group, place, "layer_names", MOST_LAYERS) if name in links]
    for name in in_order:
        child = file.open(links[name]) if isinstance(links[name], int) else None
        if isinstance(child, Group):
            found += _kernels(file, child, f"{place}/{name}")
        elif isinstance(child, Tensor) and len(child.shape or ()) > 1:
            found.append((f"{place}/{name}", child.shape))
    return found


def _parts(name):
    """Text and numbers in turn, the first one text, so that dense_2 comes before dense_10."""
    return re.split(r"(\d+)", name)
