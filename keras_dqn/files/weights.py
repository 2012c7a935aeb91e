"""Reading and writing weight files (.h5): a file loads whole or raises and leaves the network as it was.

Read, told apart by content: whole-model and weights-only .h5 of Keras 1 and 2; whole-model .h5, `.weights.h5` and
`.keras` of Keras 3. They are parsed in Python, from a copy in memory: whatever their bytes, none crashes or hangs the
caller, or eats its memory.
Written: the weights-only layout of Keras 2, which `load_weights` of Keras 2 and 3 reads from a name like `x.h5`.
"""

import hashlib
import io
import json
import logging
import math
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from keras_dqn.files.atomic import atomic_write as atomic_write
from keras_dqn.files.atomic import check_writable as check_writable
from keras_dqn.files.hdf5 import File, Group, Tensor
from keras_dqn.files.hdf5_blocks import LONGEST_NAME
from keras_dqn.files.weight_bytes import WeightFileError, hdf5_bytes
from keras_dqn.training.renamed import of_now

if TYPE_CHECKING:
    from keras_dqn.backend import keras

logger = logging.getLogger("keras_dqn")

LONGEST_PATH = 4 * LONGEST_NAME
TOP_LEVEL = "top_level_model_weights"  # Keras' group for weights that the model holds outside its layers
CHECKSUM = "sha256"  # an attribute of the files that are written here, of all their tensors
NETWORK = "network"  # another: the configuration of the network, where it is a stack of known layers
LONGEST_ATTRIBUTE = 60_000  # bytes, in the form that it is stored in
OF_KERAS_1 = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}


def load_weights(model: "keras.Model", path: str | Path, value_first: bool | None = None) -> None:
    """Loads every weight of `model` from the file `path`; on any error, Ctrl-C included, the network stays as it was.

    Args and errors: as `read_weights`.
    """
    touched = []
    try:
        for variable, array in zip(model.weights, read_weights(model, path, value_first), strict=True):
            touched.append((variable, np.asarray(variable).copy()))
            variable.assign(array)
    except BaseException:
        for variable, before in touched:
            variable.assign(before)
        raise


def read_weights(model: "keras.Model", path: str | Path, value_first: bool | None = None) -> list[np.ndarray]:
    """Returns the arrays of the file `path` in the order, shapes and dtypes of `model.weights`; assigns nothing.

    What the file declares is checked before its tensors are touched.

    Args:
        value_first: whether the file has the value of a `networks.Dueling` head in the first column and the advantages
            behind it; by default it is taken for so where keras-rl wrote it, which its Lambda layer tells.

    Raises:
        WeightFileError: the file is damaged, hostile or another network's; names file and tensor.
        ValueError: the network has no weights, or `value_first` is given and it has no `Dueling` head.
    """
    _check_built(model)
    heads = [head for layer in model.layers if (head := getattr(layer, "value_and_advantages", None)) is not None]
    if value_first is not None and not heads:
        raise ValueError(f"`value_first` is about the head of a dueling network. Received: {model!r}")
    limit, bookkeeping = _limits(model)
    try:
        file = File(hdf5_bytes(path, limit), bookkeeping)
        pairs, is_value_first = _pair(file, model)
        for variable, name, tensor in pairs:
            _check_declaration(variable, name, tensor)
        _check_sum(file.open(file.root), pairs)
        arrays = {}
        for variable, name, tensor in pairs:
            values = _read(variable, name, tensor)
            if not np.array_equal(arrays.setdefault(id(variable), values), values):
                raise _error(name, "equal values wherever a shared weight is stored", "different ones")
    except WeightFileError as error:
        raise WeightFileError(f"{path}: {error}") from error
    except Exception as error:  # of whatever kind: what else a damaged file may do
        raise WeightFileError(f"{path}: cannot be read as Keras weights. Received: {_shorten(error)}") from error
    if {"optimizer", "optimizer_weights"} & set(file.open(file.root).links):
        logger.info("The optimizer state in %s was not loaded", path)
    if heads and (is_value_first if value_first is None else value_first):
        logger.info("The first column of the dueling head in %s, the value, was moved to the end", path)
        for variable in (variable for head in heads for variable in head.weights):
            arrays[id(variable)] = np.roll(arrays[id(variable)], -1, axis=-1)
    return [arrays[id(variable)] for variable in model.weights]


def _check_built(model) -> None:
    if not model.weights:
        raise ValueError(f"Expected a network that is built and has weights. Received: {model!r}")


def _limits(model) -> tuple[int, int]:
    """Bytes that a file for this network may have, and bytes of them that may be bookkeeping of HDF5 and Keras."""
    weights = sum(int(np.prod(variable.shape)) * _dtype(variable).itemsize for variable in model.weights)
    bookkeeping = 2**14 * (16 + len(model.weights) + len(model.layers))
    return 6 * weights + bookkeeping, bookkeeping  # float64 ones with the two moments of Adam


def _shorten(received: object, most: int = 500) -> str:
    text = repr(received)  # escapes control characters, and a hostile file must not fill the screen
    return text if len(text) <= most else text[:most] + "…"


def _error(name: str, expected: str, received: object) -> WeightFileError:
    return WeightFileError(f"{_shorten(name, 150)}: expected {expected}. Received: {_shorten(received)}")


# ---------------------------------------------------------------- which tensor belongs to which weight


def _pair(file: File, model) -> tuple[list[tuple], bool]:
    """Pairs the weights with their tensors: [(variable, name, tensor), ...]; and whether keras-rl wrote the file."""
    root = file.open(file.root)
    if not isinstance(root, Group):
        raise _error("/", "a group", root)
    if {"layer_names", "layer_names0"} & set(root.attributes):
        return _pair_by_layer(file, root, "/", model)
    if "model_weights" in root.links:
        _check_names("/", {"model_weights"}, set(root.links) - {"optimizer_weights"})
        group = _child(file, root, "/", "model_weights")
        if not isinstance(group, Group):
            raise _error("/model_weights", "a group", type(group).__name__)
        return _pair_by_layer(file, group, "/model_weights/", model)
    return _pair_by_number(file, root, model), False


def _pair_by_layer(file: File, root: Group, place: str, model) -> tuple[list[tuple], bool]:
    """The layout of Keras 2 and of `model.save("x.h5")`: an ordered list of layers, each with one of its tensors.

    Names are numbered automatically and differ between sessions: only the last part, like "kernel", has a meaning.
    """
    groups, tensors = _walk(file, root, place, model)
    expected = _layers_with_weights(model)
    longest = max(len(variables) for _, variables in expected)
    layer_names = _read_names(root, place, "layer_names", limit=16 + 2 * len(model.layers))
    stored = []
    for layer in layer_names + [TOP_LEVEL] * (TOP_LEVEL in groups):
        if layer not in groups:
            raise _error(place, "a group for every layer", f"none for {layer}")
        if names := _read_names(groups[layer], place + layer, "weight_names", limit=longest):
            stored.append((layer, [f"{layer}/{name}" for name in names]))
    claimed = [name for _, names in stored for name in names]
    _check_names(place, claimed, tensors)
    if len(stored) != len(expected) or len(claimed) != len(tensors):  # "a/b" and "c" is the same name as "a" and "b/c"
        raise _error(place, f"{len(expected)} layers with weights", [place + layer for layer, _ in stored])
    pairs = []
    for (layer, variables), (stored_layer, names) in zip(expected, stored, strict=True):
        leaves = [_leaf(variable.name) for variable in variables]
        if leaves not in ([_leaf(name) for name in names], _leaves_of_keras_1(names)):
            raise _error(place + stored_layer, f"the tensors {leaves} of layer {layer.name!r}", names)
        pairs += [(variable, place + name, tensors[name]) for variable, name in zip(variables, names, strict=True)]
    behind = layer_names[layer_names.index(stored[-1][0]) + 1 :] if stored[-1][0] in layer_names else []
    return pairs, any(name.startswith("lambda") for name in behind)  # keras-rl joins value and advantages in one


def _pair_by_number(file: File, root: Group, model) -> list[tuple]:
    """The layout of `.weights.h5`: numbered tensors, filed under classes and attributes, like layers/dense_1/vars/0."""
    _, tensors = _walk(file, root, "/", model, skip=("optimizer", "metrics"))
    if "layers" not in root.links:  # up to TensorFlow 2.12 they had another name
        tensors = {name.replace("_layer_checkpoint_dependencies", "layers"): found for name, found in tensors.items()}
    expected = {
        f"{place}vars/{number}": variable
        for place, variables in _places(model, "", set())
        for number, variable in enumerate(variables)
    }
    _check_names("/", expected, tensors)
    return [(variable, f"/{name}", tensors[name]) for name, variable in expected.items()]


def _walk(file: File, root: Group, place: str, model, skip: Iterable[str] = ()) -> tuple[dict, dict]:
    """All groups and all tensors below `root` by path, as they are declared."""
    limit = 100 + 20 * (len(model.weights) + len(model.layers))
    groups, tensors, pending = {}, {}, [("", root)]
    while pending:
        prefix, parent = pending.pop()
        for name in parent.links:
            if not prefix and name in skip:
                continue
            if len(groups) + len(tensors) == limit:  # a circle of hard links ends here too
                raise _error(place, f"at most {limit} groups and tensors", "more")
            if len(prefix) > LONGEST_PATH:
                raise _error(place, f"at most {LONGEST_PATH} letters for the way to a tensor", len(prefix))
            child = _child(file, parent, place + prefix, name)
            if isinstance(child, Tensor):
                tensors[prefix + name] = child
            else:
                groups[prefix + name] = child
                pending.append((f"{prefix}{name}/", child))
    return groups, tensors


def _child(file: File, parent: Group, place: str, name: str) -> Group | Tensor:
    target = parent.links[name]
    if isinstance(target, str):
        raise _error(place, f"{_shorten(name, 100)} to lie in the file itself", target)
    child = file.open(target)
    if isinstance(child, str):
        raise _error(place, f"{_shorten(name, 100)} to be a group or a tensor", child)
    return child


def _read_names(group: Group, place: str, attribute: str, limit: int) -> list[str]:
    """The list of names in an attribute, which Keras cuts into attribute0, attribute1, ... where it is long."""
    keys = [attribute] if attribute in group.attributes else []
    while attribute not in keys and f"{attribute}{len(keys)}" in group.attributes:
        keys.append(f"{attribute}{len(keys)}")
    if not keys:
        raise _error(place, f"an attribute {attribute}", "none")
    names = []
    for key in keys:
        declared = group.attributes[key]
        kind, shape = declared.type, declared.shape
        if shape == (0,):  # Keras stores an empty list as floats
            continue
        if kind.text is None or (kind.text == "fixed" and kind.size > LONGEST_NAME) or len(shape or ()) != 1:
            raise _error(place, f"{key} to be a list of names", f"{kind.name}, shape {shape}")
        if len(names) + shape[0] > limit:
            raise _error(place, f"at most {limit} names in {attribute}", len(names) + shape[0])
        names += [_decode(place, key, raw) for raw in declared.texts()]
    if len(set(names)) != len(names):
        raise _error(place, f"no name twice in {attribute}", names)
    return names


def _decode(place: str, key: str, raw: bytes) -> str:
    with suppress(UnicodeDecodeError):
        if len(raw) <= LONGEST_NAME:
            return raw.decode("utf-8")
    raise _error(place, f"names of at most {LONGEST_NAME} bytes of UTF-8 in {key}", raw)


def _check_names(place: str, expected: Iterable[str], received: Iterable[str]) -> None:
    missing, extra = sorted(set(expected) - set(received)), sorted(set(received) - set(expected))
    if missing or extra:
        raise _error(place, "every tensor of the network and no other", {"missing": missing, "unexpected": extra})


# ---------------------------------------------------------------- the tensors


def _check_declaration(variable, name: str, tensor: Tensor) -> None:
    """Refuses a tensor by what it declares, before a byte of it is read or allocated."""
    if tensor.elsewhere in ("virtual", "external storage"):
        raise _error(name, "data in the file itself", tensor.elsewhere)
    if tensor.type.dtype is None or _dtype(variable).kind != "f":
        raise _error(name, f"float16, float32 or float64 for a weight in {_dtype(variable)}", tensor.type.name)
    if tensor.shape != tuple(variable.shape):
        raise _error(name, f"shape {tuple(variable.shape)} for {variable.name!r}", tensor.shape)
    if tensor.elsewhere is not None:  # Keras writes none, and one compressed chunk may unpack to any size
        raise _error(name, "data in one piece", tensor.elsewhere)
    needed = math.prod(tensor.shape) * tensor.type.size
    if tensor.stored != needed:  # data that was never written would read as zeros
        raise _error(name, f"{needed} bytes of data", tensor.stored)
    if len(tensor.shape) > 2 and name.endswith("_W"):  # TensorFlow's are called "convolution2d_1_W:0"
        raise _error(name, "a kernel as TensorFlow lays it out", "one that Keras 1 wrote with Theano, turned round")


def _check_sum(root: Group, pairs: list[tuple]) -> None:
    """Compares the tensors with the checksum in the file, where it has one."""
    if CHECKSUM not in root.attributes:
        return
    stored = root.attributes[CHECKSUM]
    if stored.type.text != "fixed" or stored.type.size != 64 or stored.shape != ():
        raise _error("/", f"{CHECKSUM} of 64 letters", f"{stored.type.name}, shape {stored.shape}")
    computed = _sum({name[1:]: tensor.read() for _, name, tensor in pairs})
    if stored.texts() != [computed.encode()]:
        raise _error("/", f"tensors of {CHECKSUM} {_shorten(stored.texts()[0])}", computed)


def _sum(tensors: dict[str, np.ndarray]) -> str:
    """The sha256 of tensors with their names, dtypes and shapes."""
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()


def _read(variable, name: str, tensor: Tensor) -> np.ndarray:
    values = tensor.read()
    with np.errstate(all="ignore"):
        cast = values.astype(_dtype(variable))
    finite = np.isfinite(cast)
    if not finite.all():
        raise _error(name, f"finite {cast.dtype} values", float(values[~finite].flat[0]))
    return cast


def _dtype(variable) -> np.dtype:
    return np.dtype(getattr(variable.dtype, "name", variable.dtype))  # Keras 3 says "float32", TensorFlow tf.float32


# ---------------------------------------------------------------- the weights of a network


def _layers_with_weights(model) -> list[tuple]:
    """[(layer, variables)] as Keras 2 orders them: in a layer the trainable ones first, the model's own at the end."""
    layers = [(layer, [*layer.trainable_weights, *layer.non_trainable_weights]) for layer in model.layers]
    layers.append((model, _without(model.weights, model.layers)))
    return [(layer, variables) for layer, variables in layers if variables]


def _places(layer, place: str, visited: set[int]) -> Iterator[tuple[str, list]]:
    """Each layer's own weights with its place in a `.weights.h5`, like "layers/sequential/layers/dense_1/"."""
    visited.add(id(layer))
    children = list(_sublayers(layer))
    yield place, _without(layer.weights, [child for _, child in children])
    for name, child in children:
        if id(child) not in visited:
            yield from _places(child, f"{place}{name}/", visited)


def _without(variables: Iterable, layers: Iterable) -> list:
    theirs = {id(variable) for layer in layers for variable in layer.weights}
    return [variable for variable in variables if id(variable) not in theirs]


def _sublayers(layer) -> Iterator[tuple[str, object]]:
    """The layers that a layer holds, as Keras 3 names and orders them: by attribute, private ones last."""
    classes = {cls.__name__: cls for cls in type(layer).__mro__}
    if "Sequential" in classes or "Functional" in classes:
        yield from _sublayers_in("layers", layer.layers, set())
    bookkeeping = dir(classes["Layer"]()) if "Layer" in classes else ()  # what every layer has holds none of its own
    for attribute in sorted(set(dir(layer)).difference(bookkeeping), key=lambda name: (name.startswith("_"), name)):
        value = None
        with suppress(Exception):  # a property may raise whatever it likes
            value = getattr(layer, attribute)
        yield from _sublayers_in(attribute, value, set())


def _sublayers_in(name: str, value: object, visited: set[int]) -> Iterator[tuple[str, object]]:
    # Containers first: TensorFlow wraps a layer's dicts into objects that call themselves layers as well, and that
    # fail where keys cannot be sorted, like those of the state that Keras keeps of a compiled model.
    if isinstance(value, list | tuple | dict):
        if id(value) in visited:
            return
        visited.add(id(value))
        used = {}
        for item in value.values() if isinstance(value, dict) else value:
            nested = isinstance(item, list | tuple | dict)
            if nested or _is_layer(item):
                item_name = _numbered("container" if nested else _snake_case(type(item)), used)
                yield from _sublayers_in(f"{name}/{item_name}", item, visited)
    elif _is_layer(value):
        yield name, value


def _is_layer(value: object) -> bool:
    return hasattr(value, "trainable_weights") and not isinstance(value, type)


def _snake_case(cls: type) -> str:
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", cls.__name__))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _numbered(name: str, used: dict[str, int]) -> str:
    used[name] = used.get(name, -1) + 1
    return f"{name}_{used[name]}" if used[name] else name


def _leaf(name: str) -> str:
    """The last part of a tensor's name: "dense_1/kernel:0" → "kernel". Keras numbers those that nobody named."""
    return re.sub(r"^variable_\d+$", "variable", name.rsplit("/")[-1].split(":")[0])


def _leaves_of_keras_1(names: Iterable[str]) -> list[str]:
    """The last parts of names like "dense_1_W", in today's words."""
    leaves = [re.sub(rf"^.*_({'|'.join(OF_KERAS_1)}|gamma|beta)$", r"\1", _leaf(name)) for name in names]
    return [OF_KERAS_1.get(leaf, leaf) for leaf in leaves]


# ---------------------------------------------------------------- writing


def save_weights(model: "keras.Model", path: str | Path) -> Path:
    """Writes the weights of `model` to `path` and returns it; a reader, or a crash, finds the old file or the new one.

    Names count from zero in every file: equal weights give equal bytes. With them go a sha256 of all tensors and the
    configuration of the network (see `brain_from`), which Keras passes over. Raises WeightFileError for weights that
    are not finite floats, OSError where `path` cannot be written.
    """
    content = weights_content(model, path)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def _network(model):
    """The network that a model is, as JSON; None where it cannot be described."""
    if "keras" not in sys.modules:  # without it there is no model of it, and this costs no TensorFlow
        return None
    from keras_dqn.files.network_config import described, network_of

    network = network_of(model)
    return None if network is None else json.dumps(described(network), separators=(",", ":"), sort_keys=True)


def weights_content(model: "keras.Model", path: str | Path) -> memoryview:
    """Returns the bytes that `save_weights` writes to `path`, and writes nothing; raises WeightFileError as it does."""
    _check_built(model)
    layers, used = {}, {}
    for layer, variables in _layers_with_weights(model):
        name = TOP_LEVEL if layer is model else _numbered(_snake_case(type(layer)), used)
        names = _tensor_names(layer, variables, "" if layer is model else f"{name}/")
        layers[name] = dict(zip(names, map(np.asarray, variables), strict=True))
        for tensor, values in layers[name].items():
            if values.dtype.kind != "f" or not np.isfinite(values).all():
                received = f"{values.dtype}, {np.count_nonzero(~np.isfinite(values))} of {values.size} not finite"
                raise WeightFileError(f"{path}: {tensor!r}: expected finite floats to save. Received: {received}")
    content = io.BytesIO()  # HDF5 itself reports a full disk as anything but an OSError
    with h5py.File(content, "w") as file:
        # Keras 2 would take a file without a version for one of Keras 1, and convert its kernels.
        file.attrs.update(backend=np.bytes_("tensorflow"), keras_version=np.bytes_("2.15.0"))
        everything = {f"{layer}/{name}": v for layer, tensors in layers.items() for name, v in tensors.items()}
        file.attrs[CHECKSUM] = np.bytes_(_sum(everything))
        if (text := _network(model)) is not None and len(text) <= LONGEST_ATTRIBUTE:
            file.attrs[NETWORK] = np.bytes_(text)
        file.attrs["layer_names"] = np.array([name for name in layers if name != TOP_LEVEL], dtype="S")
        for name, tensors in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array(list(tensors), dtype="S")
            for tensor, values in tensors.items():
                group.create_dataset(tensor, data=values, track_times=False)
    return content.getbuffer()


def _tensor_names(layer, variables: Iterable, place: str) -> list[str]:
    """A name for each weight of a layer: it ends in the weight's own and tells apart those of sub-layers."""
    names = {}
    for where, own in _places(layer, place, set()):
        for number, variable in enumerate(own):
            leaf = f"{_leaf(variable.name)}:0"
            taken = f"{where}{leaf}" in names.values()  # nobody named the weights of this layer, or twice the same
            names[id(variable)] = f"{where}{number}/{leaf}" if taken else f"{where}{leaf}"
    return [names[id(variable)] for variable in variables]


def pretrained(name: str) -> Path:
    """Returns the weight file shipped for `name`, like "cartpole"; raises ValueError, listing those there are."""
    known = _shipped()
    if (now := of_now(name)) in known:
        return known[now]
    if name not in known:
        raise ValueError(f"Expected the name of a pretrained network, one of {sorted(known)}. Received: {name!r}")
    return known[name]


def pretrained_names() -> list[str]:
    """Returns the names of the shipped weight files: "breakout", "cartpole", …"""
    return sorted(_shipped())


def _shipped() -> dict[str, Path]:
    package = Path(__file__).resolve().parents[1]
    folders = (package.parent / "weights", package / "pretrained")  # of a checkout; of a wheel, which goes first
    files = [file for folder in folders for file in sorted(folder.glob("*_weight.h5"))]
    return {file.name.removesuffix("_weight.h5"): file for file in files}
