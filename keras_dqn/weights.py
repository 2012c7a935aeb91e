"""Reading and writing weight files (.h5): a file loads whole or raises and leaves the network as it was.

Read, told apart by content: whole-model and weights-only .h5 of Keras 2, whole-model .h5 and `.weights.h5` of Keras 3.
Written: the weights-only layout of Keras 2, which `load_weights` of Keras 2 and 3 reads from a name like `x.h5`.
"""

import errno
import io
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

logger = logging.getLogger("keras_dqn")

TOP_LEVEL = "top_level_model_weights"  # Keras' group for weights that the model holds outside its layers
LONGEST_NAME = 1024  # bytes
ABANDONED_AFTER = 3600  # seconds; a temporary file untouched for so long was left by a killed process


class WeightFileError(ValueError):
    """A weight file that is damaged, hostile or made for another network; names the file and the tensor."""


def load_weights(model, path: str | Path) -> None:
    """Loads every weight of `model` from the file `path`; on any error, Ctrl-C included, the network stays as it was.

    Raises WeightFileError as `read_weights` does.
    """
    touched = []
    try:
        for variable, array in zip(model.weights, read_weights(model, path), strict=True):
            touched.append((variable, np.asarray(variable).copy()))
            variable.assign(array)
    except BaseException:
        for variable, before in touched:
            variable.assign(before)
        raise


def read_weights(model, path: str | Path) -> list[np.ndarray]:
    """Returns the arrays of the file `path` in the order, shapes and dtypes of `model.weights`; assigns nothing.

    What the file declares is checked before its first byte of data is read. Raises WeightFileError.
    """
    _check_built(model)
    try:
        _check_file(model, path)
        with h5py.File(path, "r") as file:
            pairs = _pair(file, model)
            for variable, dataset in pairs:
                _check_declaration(variable, dataset)
            arrays = {}
            for variable, dataset in pairs:
                values = _read(variable, dataset)
                if not np.array_equal(arrays.setdefault(id(variable), values), values):
                    raise _error(dataset, "equal values wherever a shared weight is stored", "different ones")
            if "optimizer" in file or "optimizer_weights" in file:
                logger.info("The optimizer state in %s was not loaded", path)
            return [arrays[id(variable)] for variable in model.weights]
    except WeightFileError:
        raise
    except Exception as error:  # h5py raises nearly anything for a damaged file
        raise WeightFileError(f"{path}: cannot be read as Keras weights. Received: {error!r}") from error


def _check_built(model) -> None:
    if not model.weights:
        raise ValueError(f"Expected a network that is built and has weights. Received: {model!r}")


def _check_file(model, path: str | Path) -> None:
    # Six times the weights: float64 ones with the two moments of Adam. The rest is HDF5's and Keras' bookkeeping.
    weights = sum(int(np.prod(variable.shape)) * _dtype(variable).itemsize for variable in model.weights)
    limit = 6 * weights + 2**14 * (16 + len(model.weights) + len(model.layers))
    status = os.stat(path)
    for refused, received in (
        (stat.S_ISDIR(status.st_mode), "a folder"),
        (not stat.S_ISREG(status.st_mode), "something that is not a regular file"),
        (status.st_size == 0, "an empty file"),
        (status.st_size > limit, f"{status.st_size} bytes, where this network needs at most {limit}"),
    ):
        if refused:
            raise WeightFileError(f"{path}: expected a weight file. Received: {received}")
    if not h5py.is_hdf5(path):
        raise WeightFileError(f"{path}: expected a weight file. Received: a file that is not HDF5")


def _error(where: h5py.Group | h5py.Dataset, expected: str, received: object) -> WeightFileError:
    text = repr(received)  # escapes control characters, and a hostile file must not fill the screen
    text = text if len(text) <= 500 else text[:500] + "…"
    return WeightFileError(f"{where.file.filename}: {where.name!r}: expected {expected}. Received: {text}")


def _pair(file: h5py.File, model) -> list[tuple]:
    """Pairs the network's weights with their datasets: [(variable, dataset), ...]."""
    if "layer_names" in file.attrs or "layer_names0" in file.attrs:
        return _pair_by_layer(file, model)
    if "model_weights" in file:
        _check_names(file, {"model_weights"}, set(file) - {"optimizer_weights"})
        root = _child(file, "model_weights")
        if not isinstance(root, h5py.Group):  # to walk a tensor would read it
            raise _error(root, "a group", type(root).__name__)
        return _pair_by_layer(root, model)
    return _pair_by_number(file, model)


def _pair_by_layer(root: h5py.Group, model) -> list[tuple]:
    """The layout of Keras 2 and of `model.save("x.h5")`: an ordered list of layers, each with one of its tensors.

    Names are numbered automatically and differ between sessions: only the last part, like "kernel", has a meaning.
    """
    groups, datasets = _walk(root, model)
    expected = _layers_with_weights(model)
    longest = max(len(variables) for _, variables in expected)
    layer_names = _read_names(root, "layer_names", limit=16 + 2 * len(model.layers))
    stored = []
    for layer in layer_names + [TOP_LEVEL] * (TOP_LEVEL in groups):
        if layer not in groups:
            raise _error(root, "a group for every layer", f"none for {layer}")
        if names := _read_names(groups[layer], "weight_names", limit=longest):
            stored.append((groups[layer], [f"{layer}/{name}" for name in names]))
    claimed = [name for _, names in stored for name in names]
    _check_names(root, claimed, datasets)
    if len(stored) != len(expected) or len(claimed) != len(datasets):  # "a/b" and "c" is the same name as "a" and "b/c"
        raise _error(root, f"{len(expected)} layers with weights", [group.name for group, _ in stored])
    pairs = []
    for (layer, variables), (group, names) in zip(expected, stored, strict=True):
        leaves = [_leaf(variable.name) for variable in variables]
        if leaves != [_leaf(name) for name in names]:
            raise _error(group, f"the tensors {leaves} of layer {layer.name!r}", names)
        pairs += [(variable, datasets[name]) for variable, name in zip(variables, names, strict=True)]
    return pairs


def _pair_by_number(root: h5py.Group, model) -> list[tuple]:
    """The layout of `.weights.h5`: numbered tensors, filed under classes and attributes, like layers/dense_1/vars/0."""
    _, datasets = _walk(root, model, skip=("optimizer", "metrics"))
    expected = {
        f"{place}vars/{number}": variable
        for place, variables in _places(model, "", set())
        for number, variable in enumerate(variables)
    }
    _check_names(root, expected, datasets)
    return [(variable, datasets[name]) for name, variable in expected.items()]


def _walk(root: h5py.Group, model, skip: Iterable[str] = ()) -> tuple[dict, dict]:
    """All groups and all datasets below `root` by path, opened but not read."""
    limit = 100 + 20 * (len(model.weights) + len(model.layers))
    groups, datasets, pending = {}, {}, [("", root)]
    while pending:
        prefix, parent = pending.pop()
        for name in parent:
            if not prefix and name in skip:
                continue
            if len(groups) + len(datasets) == limit:  # a circle of hard links ends here too
                raise _error(root, f"at most {limit} groups and tensors", "more")
            child = _child(parent, name)
            if isinstance(child, h5py.Dataset):
                datasets[prefix + name] = child
            else:
                groups[prefix + name] = child
                pending.append((f"{prefix}{name}/", child))
    return groups, datasets


def _child(parent: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    link = parent.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise _error(parent, f"{name!r} to lie in the file itself", type(link).__name__)
    child = parent[name]
    if not isinstance(child, h5py.Group | h5py.Dataset):
        raise _error(parent, f"{name!r} to be a group or a tensor", type(child).__name__)
    return child


def _read_names(group: h5py.Group, attribute: str, limit: int) -> list[str]:
    """The list of names in an attribute, which Keras cuts into attribute0, attribute1, ... where it is long."""
    keys = [attribute] if attribute in group.attrs else []
    while attribute not in keys and f"{attribute}{len(keys)}" in group.attrs:
        keys.append(f"{attribute}{len(keys)}")
    if not keys:
        raise _error(group, f"an attribute {attribute}", "none")
    names = []
    for key in keys:
        declared = group.attrs.get_id(key)
        if declared.shape == (0,):  # Keras stores an empty list as floats
            continue
        text = h5py.check_string_dtype(declared.dtype)
        if text is None or (text.length or 0) > LONGEST_NAME or len(declared.shape or ()) != 1:
            raise _error(group, f"{key} to be a list of names", f"{declared.dtype}, shape {declared.shape}")
        if len(names) + declared.shape[0] > limit:
            raise _error(group, f"at most {limit} names in {attribute}", len(names) + declared.shape[0])
        names += [_decode(group, key, raw) for raw in group.attrs[key]]
    if len(set(names)) != len(names):
        raise _error(group, f"no name twice in {attribute}", names)
    return names


def _decode(group: h5py.Group, key: str, raw: bytes | str) -> str:
    raw = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")
    with suppress(UnicodeDecodeError):
        if len(raw) <= LONGEST_NAME:
            return raw.decode("utf-8")
    raise _error(group, f"names of at most {LONGEST_NAME} bytes of UTF-8 in {key}", raw)


def _check_names(where: h5py.Group, expected: Iterable[str], received: Iterable[str]) -> None:
    missing, extra = sorted(set(expected) - set(received)), sorted(set(received) - set(expected))
    if missing or extra:
        raise _error(where, "every tensor of the network and no other", {"missing": missing, "unexpected": extra})


def _check_declaration(variable, dataset: h5py.Dataset) -> None:
    """Refuses a dataset by what it declares, before a byte of it is read or allocated."""
    if dataset.is_virtual or dataset.external:
        raise _error(dataset, "data in the file itself", "virtual" if dataset.is_virtual else "external storage")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8 or _dtype(variable).kind != "f":
        raise _error(dataset, f"float16, float32 or float64 for a weight in {_dtype(variable)}", str(dataset.dtype))
    if dataset.shape != tuple(variable.shape):
        raise _error(dataset, f"shape {tuple(variable.shape)} for {variable.name!r}", dataset.shape)
    if dataset.chunks is not None:  # Keras writes none, and one compressed chunk may unpack to any size
        raise _error(dataset, "data in one piece", f"chunks of {dataset.chunks}")
    stored, needed = dataset.id.get_storage_size(), dataset.size * dataset.dtype.itemsize
    if stored != needed:  # data that was never written would read as zeros
        raise _error(dataset, f"{needed} bytes of data", stored)


def _read(variable, dataset: h5py.Dataset) -> np.ndarray:
    values = np.asarray(dataset[()])
    with np.errstate(all="ignore"):
        cast = values.astype(_dtype(variable))
    finite = np.isfinite(cast)
    if not finite.all():
        raise _error(dataset, f"finite {cast.dtype} values", float(values[~finite].flat[0]))
    return cast


def _dtype(variable) -> np.dtype:
    return np.dtype(getattr(variable.dtype, "name", variable.dtype))  # Keras 3 says "float32", TensorFlow tf.float32


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
        yield from _sublayers_in("layers", layer.layers)
    bookkeeping = dir(classes["Layer"]()) if "Layer" in classes else ()  # what every layer has holds none of its own
    for attribute in sorted(set(dir(layer)).difference(bookkeeping), key=lambda name: (name.startswith("_"), name)):
        value = None
        with suppress(Exception):  # a property may raise whatever it likes
            value = getattr(layer, attribute)
        yield from _sublayers_in(attribute, value)


def _sublayers_in(name: str, value: object) -> Iterator[tuple[str, object]]:
    if _is_layer(value):
        yield name, value
    elif isinstance(value, list | tuple | dict):
        used = {}
        for item in value.values() if isinstance(value, dict) else value:
            nested = isinstance(item, list | tuple | dict)
            if nested or _is_layer(item):
                item_name = _numbered("container" if nested else _snake_case(type(item)), used)
                yield from _sublayers_in(f"{name}/{item_name}", item)


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


def save_weights(model, path: str | Path) -> Path:
    """Writes the weights of `model` to `path` and returns it; a reader, or a crash, finds the old file or the new one.

    Names count from zero in every file: equal weights give equal bytes. Raises WeightFileError for weights that are not
    finite floats, OSError where `path` cannot be written.
    """
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
        file.attrs["layer_names"] = np.array([name for name in layers if name != TOP_LEVEL], dtype="S")
        for name, tensors in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array(list(tensors), dtype="S")
            for tensor, values in tensors.items():
                group.create_dataset(tensor, data=values, track_times=False)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getbuffer())
    return Path(path)


def _tensor_names(layer, variables: Iterable, place: str) -> list[str]:
    """A name for each weight of a layer: it ends in the weight's own and tells apart those of sub-layers."""
    names = {}
    for where, own in _places(layer, place, set()):
        for number, variable in enumerate(own):
            leaf = f"{_leaf(variable.name)}:0"
            taken = f"{where}{leaf}" in names.values()  # nobody named the weights of this layer, or twice the same
            names[id(variable)] = f"{where}{number}/{leaf}" if taken else f"{where}{leaf}"
    return [names[id(variable)] for variable in variables]


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


@contextmanager
def _temporary_beside(path: str | Path) -> Iterator[tuple[Path, Path]]:
    """Yields (the file that `path` leads to, a new empty file beside it), and removes the second in the end."""
    target = Path(os.path.realpath(path))  # write through a link, not over it
    temporary = target.parent / f".{secrets.token_hex(8)}-{target.name}"
    try:
        try:
            if target.is_dir():
                raise OSError(errno.EISDIR, "it is a folder")
            if target.exists() and not target.is_file():
                raise OSError(errno.EINVAL, "it is not a regular file")
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:  # Python picks the subclass by the number
            raise OSError(error.errno, f"Cannot write: {error.strerror}. Received", str(path)) from error
        _remove_abandoned(target)
        yield target, temporary
    finally:
        with suppress(OSError):  # as a rule it was renamed
            temporary.unlink()


def _remove_abandoned(target: Path) -> None:
    """Removes the temporary files that killed processes left beside `target`."""
    ours = re.compile(r"\.[0-9a-f]{16}-" + re.escape(target.name))
    with suppress(OSError):  # they are in nobody's way
        for file in target.parent.iterdir():
            if ours.fullmatch(file.name) and time.time() - file.stat().st_mtime > ABANDONED_AFTER:
                file.unlink()


def pretrained(name: str) -> Path:
    """Returns the weight file shipped for `name`, like "cartpole"; raises ValueError, listing those there are."""
    known = _shipped()
    if name not in known:
        raise ValueError(f"Expected the name of a pretrained network, one of {sorted(known)}. Received: {name!r}")
    return known[name]


def pretrained_names() -> list[str]:
    """Returns the names of the shipped weight files: "breakout", "cartpole", …"""
    return sorted(_shipped())


def _shipped() -> dict[str, Path]:
    package = Path(__file__).resolve().parent
    folders = (package.parent / "weights", package / "pretrained")  # of a checkout; of a wheel, which goes first
    files = [file for folder in folders for file in sorted(folder.glob("*_weight.h5"))]
    return {file.name.removesuffix("_weight.h5"): file for file in files}
