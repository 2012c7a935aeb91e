"""The brain of a weight file: made from the file alone, where it says enough."""

import json
import re
from itertools import pairwise
from pathlib import Path

from keras_dqn.backend import keras
from keras_dqn.expected import Unexpected
from keras_dqn.files.hdf5 import File, Group, Tensor
from keras_dqn.files.network_config import Network, made, parsed
from keras_dqn.files.weight_bytes import LONGEST_CONFIG, WeightFileError, hdf5_and_config, hdf5_bytes
from keras_dqn.files.weights import NETWORK, _read_names, load_weights

LARGEST = 2**26  # bytes of a file that is looked into
BOOKKEEPING = 2**21  # bytes of them, the configuration among them
MOST_OBJECTS = 1000  # that are looked at to find the kernels
MOST_SAID = 20  # of them, in a message


def brain_from(path: str | Path) -> "keras.Sequential":
    """A Keras model with the weights of a file, of the network that the file says they are of.

    Files that say so are whole models (.h5 of Keras 1, 2 and 3, .keras) and those that keras_dqn writes. They are read
    as data: a model is made of known layers, Dense and convolutional ones, activations, dropout, normalization and
    scaling, one after the other, and nothing of the file is executed.

    Returns:
        A `keras.Sequential`, [B, *state_shape] to float32 [B, actions], to be handed on: `CartPole(brain=brain)`.

    Raises:
        WeightFileError: the file does not tell its network, in which case the message has the shapes of its tensors and
            what to give instead, or it is damaged; names file and tensor.

    Example:
        CartPole(brain=brain_from("theirs.h5"), weights=None).evaluate()
    """
    try:
        network = network_in(path)
    except Unexpected as error:
        raise WeightFileError(f"{path}: {untold(path)}. Received: {error}") from error
    if network is None:
        raise WeightFileError(f"{path}: {untold(path)}. Received: no configuration")
    brain = made(network)
    load_weights(brain, path)
    return brain


def network_in(path: str | Path) -> Network | None:
    """The network that a file says its weights are of; None where it says nothing of it.

    Raises:
        Unexpected: what it says is none of a stack of known layers, with no more parameters than the file has room for.
        WeightFileError, OSError: it is no weight file, or cannot be read.
    """
    content, text = hdf5_and_config(path, LARGEST)
    if text is None:
        text = _attribute(path, content)
    if text is None:
        return None
    try:
        network = parsed(json.loads(text))
    except Unexpected:
        raise
    except (ValueError, RecursionError) as error:
        raise Unexpected(f"configuration: expected JSON. Received: {str(error)[:200]}") from error
    if 2 * network.parameters > len(content):  # float16 has two bytes
        raise Unexpected(f"expected room for {network.parameters} parameters. Received: {len(content)} bytes")
    return network


def _attribute(path, content: bytes) -> bytes | None:
    """The text of the configuration in an .h5 file, or None."""
    try:
        root = (file := File(content, BOOKKEEPING)).open(file.root)
        found = [root.attributes[name] for name in (NETWORK, "model_config") if name in getattr(root, "attributes", ())]
        if not found or found[0].type.text is None or found[0].shape != () or found[0].type.size > LONGEST_CONFIG:
            return None
        (text,) = found[0].texts()
    except Exception as error:  # of whatever kind: what a damaged file may do
        raise WeightFileError(f"{path}: cannot be read as Keras weights. Received: {str(error)[:500]!r}") from error
    return text[:LONGEST_CONFIG]


# ---------------------------------------------------------------- files that do not say it


def untold(path: str | Path, reason: str | None = None) -> str:
    """Words for a file that does not tell its network: the shapes of its kernels, and what to give instead."""
    found = kernels(path)
    shapes = ", ".join(str(shape) for _, shape in found[:MOST_SAID])[:500] or "none"
    why = "" if reason is None else f" ({reason[:500]})"
    return f"the file does not tell its network{why}: its kernels are {shapes}; give {_keyword(found)}"


def _keyword(found: list) -> str:
    """The keyword of an agent or a game for a network with such kernels."""
    if len(found) > MOST_SAID or not _is_chain([shape for _, shape in found]):
        return "`brain`, a Keras model with these layers"
    hidden = tuple(shape[1] for _, shape in found[:-1])
    dueling = ', "dueling": True' if "dueling" in found[-1][0] else ""
    return f'`network`, like {{"hidden": {hidden}, "activation": "relu"{dueling}}}, with their activation'


def sizes(path: str | Path) -> tuple[int, int] | None:
    """(inputs, actions) of a network of Dense layers, by its first and last kernel; None where it cannot be told."""
    found = kernels(path)
    if not _is_chain([shape for _, shape in found]):
        return None
    (_, (inputs, _)), (last, (_, outputs)) = found[0], found[-1]
    return inputs, outputs - ("dueling" in last)  # whose head has the value beside the advantages


def _is_chain(shapes: list[tuple[int, ...]]) -> bool:
    """Whether they can be the kernels of Dense layers, one after the other."""
    if not shapes or any(len(shape) != 2 for shape in shapes):
        return False
    return all(before[1] == after[0] for before, after in pairwise(shapes))


def kernels(path: str | Path) -> list[tuple[str, tuple[int, ...]]]:
    """[(name, shape)] of the tensors that are no vectors, in the file's order of layers, or that of their numbers."""
    try:
        file = File(hdf5_bytes(path, LARGEST), BOOKKEEPING)
        return list(_kernels(file, file.root, "", set()))
    except Exception:  # of whatever kind: what a damaged file may do
        return []


def _kernels(file, address, place, seen):
    """As `kernels`, of one object and what lies in it; each object once, as a file may be a circle of groups."""
    if address in seen or len(seen) > MOST_OBJECTS:
        return
    seen.add(address)
    found = file.open(address)
    if isinstance(found, Tensor) and len(found.shape or ()) > 1:
        yield place, found.shape
    if not isinstance(found, Group):
        return
    links = {name: link for name, link in found.links.items() if isinstance(link, int)}
    in_order = sorted(links, key=lambda name: [int(part) if part.isdigit() else part for part in _parts(name)])
    if {"layer_names", "layer_names0"} & set(found.attributes):
        in_order = [name for name in _read_names(found, place, "layer_names", MOST_OBJECTS) if name in links]
    for name in in_order:
        if place or not name.startswith("optimizer"):
            yield from _kernels(file, links[name], f"{place}/{name}", seen)


def _parts(name):
    """Text and numbers in turn, the first one text, so that dense_2 comes before dense_10."""
    return re.split(r"([0-9]+)", name)
