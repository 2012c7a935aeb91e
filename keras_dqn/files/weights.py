"""Reading and writing weight files: one loads whole or raises and leaves the network as it was; one is written whole.

Read, told apart by content: by h5py, whole-model and weights-only .h5 of Keras 1 and 2, and whole-model .h5 of Keras 3;
by Keras itself, `.weights.h5` and `.keras`.
Written: the weights-only layout of Keras 2, which `load_weights` of Keras 2 and 3 reads from a name like `x.h5`.
"""

import io
import json
import re
import tempfile
from pathlib import Path

import h5py
import numpy as np

from keras_dqn.backend import keras
from keras_dqn.checks import all_finite
from keras_dqn.files.atomic import atomic_write
from keras_dqn.files.h5_probe import WeightFileError
from keras_dqn.files.network_config import network_of
from keras_dqn.files.weight_file import CHECKSUM, NETWORK, SHIPPED, STATISTICS, TOP_LEVEL, checksum, read_weight_file

LONGEST_ATTRIBUTE = 60_000  # bytes, of HDF5's 64 KiB


def load_weights(model: keras.Model, path: str | Path, value_first: bool | None = None) -> None:
    """Loads every weight of `model` from the file `path`; on any error, Ctrl-C included, the network stays as it was.

    Args:
        value_first: whether the file has the value of a `layers.Dueling` head in the first column and the advantages
            behind it; by default it is taken for so where keras-rl wrote it, which its Lambda layer tells.

    Raises:
        WeightFileError: the file is damaged, hostile or another network's; names file and tensor.
        ValueError: the network is not built, or `value_first` is given and it has no `Dueling` head.
    """
    heads = [head for layer in model.layers if (head := getattr(layer, "value_and_advantages", None)) is not None]
    if value_first is not None and not heads:
        raise ValueError(f"`value_first` is about the head of a dueling network. Received: {model!r}")
    file = read_weight_file(path, model.count_params())
    before = [np.asarray(variable).copy() for variable in model.variables]
    try:
        with np.errstate(over="ignore"):  # a float64 may become infinite, which is said below
            _load_numbered(model, file) if file.layers is None else _load_in_order(model, file)
        for variable in model.weights:
            _finite(variable, f"{variable.path!r}: expected finite numbers, all of them in the file")
        if file.joins_value_first if value_first is None else value_first:
            for variable in (variable for head in heads for variable in head.weights):
                variable.assign(np.roll(np.asarray(variable), -1, axis=-1))
    except BaseException as error:
        _assign(model, model.variables, before)
        if not isinstance(error, Exception):
            raise
        reason = str(error) if isinstance(error, WeightFileError) else f"cannot be loaded. Received: {error}"
        raise WeightFileError(f"{path}: {' '.join(reason.split())[:1000]}") from error


def _load_in_order(model, file):
    """Assign what h5py has read, layer by layer."""
    variables = [variable for _, variables in _layers_with_weights(model) for variable in variables]
    ours, theirs = [_leaf(variable.name) for variable in variables], [_leaf(name) for name in file.tensors]
    mixed = ours != theirs and sorted(ours) == sorted(theirs)  # Keras puts frozen weights last
    if mixed or len(ours) != len(theirs):
        raise _error("/", f"the {len(ours)} tensors of the network, in the order {ours}", list(file.tensors))
    for (name, values), variable in zip(file.tensors.items(), variables, strict=True):
        own = np.asarray(variable)
        if (values.shape, _kind(values)) != (own.shape, _kind(own)):
            raise _error(name, f"shape {own.shape} of {own.dtype}", f"{values.shape} of {values.dtype}")
        if values.ndim > 2 and (file.backend == "theano" or name.endswith("_W")):  # "_W:0" by TensorFlow
            raise _error(name, "a kernel as TensorFlow lays it out", "one that Keras wrote with Theano, turned round")
    _assign(model, variables, file.tensors.values())


def _load_numbered(model, file):
    """Have Keras read the layout that it alone knows; what it leaves out is not finite then."""
    floats = [variable for variable in model.weights if _kind(np.asarray(variable)) == "f"]
    stored = [name for name, values in file.tensors.items() if _kind(values) == "f"]  # seeds are no floats
    if len(stored) != len(floats):
        raise _error("/", f"the {len(floats)} tensors of the network", stored)
    for variable in floats:
        variable.assign(np.full(variable.shape, np.nan))
    with tempfile.TemporaryDirectory(prefix="keras_dqn-") as folder:
        path = Path(folder, "copy.weights.h5")  # Keras wants that suffix
        path.write_bytes(file.hdf5)
        model.load_weights(path, objects_to_skip=[getattr(model, "optimizer", None)])


def _kind(values):
    """The letter of NumPy for a kind of numbers: "f" for floats, and for bfloat16, which NumPy does not know."""
    return values.dtype.kind.replace("V", "f")


def _assign(model, variables, all_values):
    for variable, values in zip(variables, all_values, strict=True):
        variable.assign(values)
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):  # Normalization keeps something beside its variables
            layer.finalize_state()


def _finite(variable, expected):
    values = np.asarray(variable)
    if values.dtype.name == "bfloat16":  # HDF5 has none, and float32 holds each exactly
        values = values.astype(np.float32)
    if not all_finite(values):
        raise WeightFileError(f"{expected}. Received: {np.count_nonzero(~np.isfinite(values))} that are not")
    return values


def _error(name, expected, received):
    return WeightFileError(f"{name!r}: expected {expected}. Received: {str(received)[:500]}")


# ---------------------------------------------------------------- writing


def save_weights(model: keras.Model, path: str | Path, statistics: np.ndarray | None = None) -> Path:
    """Writes the weights of `model` to `path` and returns it; a reader, or a crash, finds the old file or the new one.

    Names count from zero in every file: equal weights give equal bytes. With them go a sha256 of all tensors and the
    configuration of the network, where it is a stack of known layers (see `brain_from`), and the `statistics` of
    normalized observations, [3, *state_shape], all of which Keras passes over.
    Raises WeightFileError for weights that are not finite, OSError where `path` cannot be written.
    """
    if not model.weights:
        raise ValueError(f"Expected a network that is built and has weights. Received: {model!r}")
    content, tensors = io.BytesIO(), {}  # HDF5 itself reports a full disk as anything but an OSError
    with h5py.File(content, "w") as file:
        names = []
        for number, (layer, variables) in enumerate(_layers_with_weights(model)):
            names.append(TOP_LEVEL if layer is model else f"{type(layer).__name__.lower()}_{number}")
            leaves = [f"{_leaf(variable.name)}_{place}:0" for place, variable in enumerate(variables)]
            file.create_group(names[-1]).attrs["weight_names"] = np.array(leaves, dtype="S")
            for leaf, variable in zip(leaves, variables, strict=True):
                name = f"{names[-1]}/{leaf}"
                tensors[name] = _finite(variable, f"{path}: {name!r}: expected finite numbers to save")
                file.create_dataset(name, data=tensors[name], track_times=False)
        file.attrs["layer_names"] = np.array([name for name in names if name != TOP_LEVEL], dtype="S")
        # Keras 2 would take a file without a version for one of Keras 1, and convert its kernels.
        file.attrs.update(backend=np.bytes_("tensorflow"), keras_version=np.bytes_("2.15.0"))
        file.attrs[CHECKSUM] = np.bytes_(checksum(tensors))
        if statistics is not None:
            file.create_dataset(STATISTICS, data=statistics, track_times=False)
        text = json.dumps(network_of(model), separators=(",", ":"), sort_keys=True)
        if text != "null" and len(text) <= LONGEST_ATTRIBUTE:
            file.attrs[NETWORK] = np.bytes_(text)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getvalue())
    return Path(path)


def _layers_with_weights(model):
    """[(layer, variables)] as Keras 2 orders them: in a layer the trainable ones first, the model's own at the end."""
    layers = [(layer, [*layer.trainable_weights, *layer.non_trainable_weights]) for layer in model.layers]
    theirs = {id(variable) for _, variables in layers for variable in variables}
    layers.append((model, [variable for variable in model.weights if id(variable) not in theirs]))
    return [(layer, variables) for layer, variables in layers if variables]


def _leaf(name):
    """The last part of a tensor's name, without its number: "/dense_1/kernel:0" and "kernel_2" are "kernel"."""
    return re.sub(r"(_\d+)?(:0)?$", "", name.rsplit("/")[-1])


# ---------------------------------------------------------------- those of the package


def pretrained(name: str) -> Path:
    """Returns the weight file shipped for `name`, like "cartpole"; raises ValueError, listing those there are."""
    if name not in (known := pretrained_files()):
        helps = "name one's recipe, or train"
        raise ValueError(f"There are no pretrained weights but {sorted(known)}: {helps}. Received: {name!r}")
    return known[name]


def pretrained_files() -> dict[str, Path]:
    """Returns the shipped weight files by name: "breakout", "cartpole", …"""
    files = [file for folder in SHIPPED for file in sorted(folder.glob("*_weight.h5"))]
    return {file.name.removesuffix("_weight.h5"): file for file in files}
