"""Reading and writing weight files: one loads whole or raises and leaves the network as it was; one is written whole.

Read, told apart by content: by h5py, whole-model and weights-only .h5 of Keras 1 and 2, and whole-model .h5 of Keras 3;
by Keras itself, `.weights.h5` and `.keras`.
Written: the weights-only layout of Keras 2, which `load_weights` of Keras 2 and 3 reads from a name like `x.h5`.
"""

import io
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from keras_dqn.files import h5_probe
from keras_dqn.files.atomic import atomic_write
from keras_dqn.files.network_config import described, network_of
from keras_dqn.files.weight_file import LARGEST, SHIPPED, opened
from keras_dqn.files.weight_file import WeightFileError as WeightFileError

if TYPE_CHECKING:
    from keras_dqn.backend import keras

LONGEST_ATTRIBUTE = 60_000  # bytes, of HDF5's 64 KiB


def load_weights(model: "keras.Model", path: str | Path, value_first: bool | None = None) -> None:
    """Loads every weight of `model` from the file `path`; on any error, Ctrl-C included, the network stays as it was.

    Args:
        value_first: whether the file has the value of a `heads.Dueling` head in the first column and the advantages
            behind it; by default it is taken for so where keras-rl wrote it, which its Lambda layer tells.

    Raises:
        WeightFileError: the file is damaged, hostile or another network's; names file and tensor.
        ValueError: the network has no weights, or `value_first` is given and it has no `Dueling` head.
    """
    _check_built(model)
    heads = [head for layer in model.layers if (head := getattr(layer, "value_and_advantages", None)) is not None]
    if value_first is not None and not heads:
        raise ValueError(f"`value_first` is about the head of a dueling network. Received: {model!r}")
    most = max(LARGEST, 24 * sum(math.prod(variable.shape) for variable in model.weights))  # float64, and two moments
    with opened(path, most) as (contents, copy):
        before = [(variable, np.asarray(variable).copy()) for variable in model.variables]
        try:
            _check_tensors(contents, _expected(model, contents, copy.with_name("own.weights.h5"), most))
            _read_into(model, contents, copy)
            if _is_of_keras_rl(contents) if value_first is None else value_first:
                for variable in (variable for head in heads for variable in head.weights):
                    variable.assign(np.roll(np.asarray(variable), -1, axis=-1))
        except BaseException as error:
            _restore(model, before)
            if not isinstance(error, Exception):
                raise
            reason = str(error) if isinstance(error, WeightFileError) else f"cannot be loaded. Received: {error}"
            raise WeightFileError(f"{path}: {' '.join(reason.split())[:1000]}") from error


def _check_built(model):
    if not model.weights:
        raise ValueError(f"Expected a network that is built and has weights. Received: {model!r}")


def _expected(model, contents, own, most):
    """(name, shape, dtype) of the network's tensor for each of the file; `own` is the path of a file to be written."""
    stored = [name for name, *_ in contents.weights]
    if contents.legacy:
        expected = [(variable.name, variable.shape, variable.dtype) for variable in _in_legacy_order(model)]
        if len(stored) != len(expected):
            raise _error("/", f"the {len(expected)} tensors of the network", stored)
        ours, theirs = ([_leaf(name) for name in names] for names in ([name for name, *_ in expected], stored))
        if ours != theirs and sorted(ours) == sorted(theirs):  # Keras puts frozen weights last
            raise _error("/", f"tensors in the order {ours}, as layers are trainable or not", theirs)
        return expected
    model.save_weights(own)
    by_name = {name: (name, *tensor) for name, *tensor in h5_probe.walk(str(own), most)["weights"]}
    # as Keras called them up to TensorFlow 2.12
    names = [name.replace("_layer_checkpoint_dependencies", "layers") for name in stored]
    if unexpected := sorted(set(names) - set(by_name)):
        raise _error("/", "every tensor of the network and no other", {"unexpected": unexpected})
    return [by_name[name] for name in names]


def _check_tensors(contents, expected):
    """Raises a WeightFileError where a tensor is another than the network's, by all that it declares."""
    for (name, shape, dtype), (own_name, own_shape, own_dtype) in zip(contents.weights, expected, strict=True):
        shape = None if shape is None else tuple(shape)
        if shape != tuple(own_shape):
            raise _error(name, f"shape {tuple(own_shape)} for {own_name!r}", shape)
        if _kind(dtype) != _kind(own_dtype):
            raise _error(name, f"numbers for a weight in {own_dtype}", dtype)
        if len(shape) > 2 and (contents.backend == "theano" or (":" not in name and name.endswith("_W"))):
            raise _error(name, "a kernel as TensorFlow lays it out", "one that Keras wrote with Theano, turned round")


def _kind(dtype):
    """The letter of NumPy for a kind of numbers: "f" for floats, bfloat16 among them."""
    return "f" if str(dtype) == "bfloat16" else np.dtype(str(dtype)).kind


def _read_into(model, contents, copy):
    """Have h5py, or Keras, read the file; a weight that it leaves out, or that is not finite, is an error."""
    floats = [variable for variable in model.weights if _kind(variable.dtype) == "f"]
    for variable in floats:
        variable.assign(np.full(variable.shape, np.nan))
    with np.errstate(over="ignore"):
        if contents.legacy:
            with h5py.File(copy) as file:
                for variable, (name, *_) in zip(_in_legacy_order(model), contents.weights, strict=True):
                    variable.assign(file[name][()])
            _finalize(model)
        else:
            model.load_weights(copy, objects_to_skip=[getattr(model, "optimizer", None)])
    for variable in floats:
        values = np.asarray(variable).astype(np.float32)
        if not np.isfinite(values).all():
            raise _error(variable.path, "finite values, all of them in the file", values[~np.isfinite(values)][0])


def _restore(model, before):
    for variable, values in before:
        variable.assign(values)
    _finalize(model)


def _finalize(model):
    """Let layers work out anew what they keep beside their variables, as Normalization does."""
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def _is_of_keras_rl(contents):
    """Whether the last layer is the Lambda that joins value and advantages there."""
    return bool(contents.layer_names) and contents.layer_names[-1].startswith("lambda")


def _error(name, expected, received):
    return WeightFileError(f"{name!r}: expected {expected}. Received: {str(received)[:500]}")


# ---------------------------------------------------------------- the weights of a network


def _layers_with_weights(model):
    """[(layer, variables)] as Keras 2 orders them: in a layer the trainable ones first, the model's own at the end."""
    layers = [(layer, [*layer.trainable_weights, *layer.non_trainable_weights]) for layer in model.layers]
    theirs = {id(variable) for _, variables in layers for variable in variables}
    layers.append((model, [variable for variable in model.weights if id(variable) not in theirs]))
    return [(layer, variables) for layer, variables in layers if variables]


def _in_legacy_order(model):
    return [variable for _, variables in _layers_with_weights(model) for variable in variables]


def _leaf(name):
    """The last part of a tensor's name, without its number: "/dense_1/kernel:0" and "kernel_2" are "kernel"."""
    return re.sub(r"(_\d+)?(:0)?$", "", name.rsplit("/")[-1])


def _numbered(names: Iterable[str]) -> list[str]:
    """Each name once: "dense", "dense_1", ..."""
    used, unique = {}, []
    for name in names:
        used[name] = used.get(name, -1) + 1
        unique.append(f"{name}_{used[name]}" if used[name] else name)
    return unique


# ---------------------------------------------------------------- writing


def save_weights(model: "keras.Model", path: str | Path) -> Path:
    """Writes the weights of `model` to `path` and returns it; a reader, or a crash, finds the old file or the new one.

    Names count from zero in every file: equal weights give equal bytes. With them go a sha256 of all tensors and the
    configuration of the network, where it is a stack of known layers (see `brain_from`), which Keras passes over.
    Raises WeightFileError for weights that are not finite, OSError where `path` cannot be written.
    """
    content = weights_content(model, path)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def weights_content(model: "keras.Model", path: str | Path) -> bytes:
    """Returns the bytes that `save_weights` writes to `path`, and writes nothing; raises WeightFileError as it does."""
    _check_built(model)
    layers = _layers_with_weights(model)
    names = _numbered(h5_probe.TOP_LEVEL if layer is model else _snake_case(type(layer)) for layer, _ in layers)
    content, tensors = io.BytesIO(), {}  # HDF5 itself reports a full disk as anything but an OSError
    with h5py.File(content, "w") as file:
        file.attrs["layer_names"] = np.array([name for name in names if name != h5_probe.TOP_LEVEL], dtype="S")
        for name, (_, variables) in zip(names, layers, strict=True):
            leaves = [f"{name}/{leaf}:0" for leaf in _numbered(_leaf(variable.name) for variable in variables)]
            file.create_group(name).attrs["weight_names"] = np.array(leaves, dtype="S")
            for leaf, variable in zip(leaves, variables, strict=True):
                tensors[f"{name}/{leaf}"] = values = _finite(variable, f"{path}: {leaf!r}")
                file.create_dataset(f"{name}/{leaf}", data=values, track_times=False)
        # Keras 2 would take a file without a version for one of Keras 1, and convert its kernels.
        file.attrs.update(backend=np.bytes_("tensorflow"), keras_version=np.bytes_("2.15.0"))
        file.attrs[h5_probe.CHECKSUM] = np.bytes_(h5_probe.checksum(tensors))
        if (network := network_of(model)) is not None and len(text := described(network)) <= LONGEST_ATTRIBUTE:
            file.attrs[h5_probe.NETWORK] = np.bytes_(text)
    return content.getvalue()


def _finite(variable, place):
    values = np.asarray(variable)
    if values.dtype.name == "bfloat16":  # HDF5 has none, and float32 holds each exactly
        values = values.astype(np.float32)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        received = f"{values.dtype}, {np.count_nonzero(~np.isfinite(values))} of {values.size} not finite"
        raise WeightFileError(f"{place}: expected finite numbers to save. Received: {received}")
    return values


def _snake_case(cls):
    """As Keras names layers of a class: "LayerNormRelu" → "layer_norm_relu"."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", cls.__name__)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


# ---------------------------------------------------------------- those of the package


def pretrained(name: str) -> Path:
    """Returns the weight file shipped for `name`, like "cartpole"; raises ValueError, listing those there are."""
    if name not in (known := _shipped()):
        raise ValueError(f"Expected the name of a pretrained network, one of {sorted(known)}. Received: {name!r}")
    return known[name]


def pretrained_names() -> list[str]:
    """Returns the names of the shipped weight files: "breakout", "cartpole", …"""
    return sorted(_shipped())


def _shipped():
    files = [file for folder in SHIPPED for file in sorted(folder.glob("*_weight.h5"))]
    return {file.name.removesuffix("_weight.h5"): file for file in files}
