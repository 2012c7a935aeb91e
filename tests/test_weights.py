"""Weight files: every kind Keras ever wrote is read, the rest is refused, and what is written survives a crash."""

import errno
import inspect
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_dqn
from keras_dqn import weights
from keras_dqn.files.atomic import atomic_write, check_writable
from keras_dqn.files.hdf5 import Tensor
from keras_dqn.files.weights import WeightFileError, load_weights, read_weights, save_weights

# ---------------------------------------------------------------- networks


def dense(api=keras):
    layers = api.layers
    return api.Sequential([layers.Input((4,)), layers.Dense(5, "relu"), layers.Dense(5, "relu"), layers.Dense(2)])


def convolutional(api=keras):
    layers = api.layers
    return api.Sequential(
        [
            layers.Input((6, 6, 2)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(3, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(4),
            layers.BatchNormalization(),
            layers.Dense(2),
        ]
    )


def nested(api=keras):
    """A dueling network: Functional, with a Sequential inside and a layer named by hand."""
    layers = api.layers
    screens = layers.Input((4,))
    torso = api.Sequential([layers.Dense(5), layers.BatchNormalization(), layers.Dense(3)], name="torso")(screens)
    value, advantage = layers.Dense(1, name="state_value")(torso), layers.Dense(2)(torso)
    return api.Model(screens, layers.Add()([value, advantage]))


class Dueling(keras.layers.Layer):
    """Sub-layers in attributes whose alphabetical order is not the order they were made in, in a list and in a dict."""

    def __init__(self):
        super().__init__()
        self.value, self._last = keras.layers.Dense(1), keras.layers.Dense(2)
        self.advantage = [keras.layers.Dense(3), keras.layers.Dense(2)]
        self.scales = {"a": keras.layers.Dense(2), "b": [keras.layers.Dense(2)]}

    def build(self, shape):
        self.temperature = self.add_weight(shape=(1,), name="temperature")
        self.nameless = [self.add_weight(shape=(2,)), self.add_weight(shape=(2,))]

    def call(self, x):
        first, second = self.advantage
        scaled = self.scales["b"][0](self.scales["a"](second(first(x)) * self.nameless[0] + self.nameless[1]))
        return self.value(x) + self._last(scaled) * self.temperature


def custom():
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3), Dueling()])
    model(np.zeros((1, 4)))
    return model


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.zeroth, self.hidden = keras.layers.Dense(3), [keras.layers.Dense(3), keras.layers.Dense(2)]
        self.own = self.add_weight(shape=(2,), name="own")

    def call(self, x):
        for layer in [self.zeroth, *self.hidden]:
            x = layer(x)
        return x * self.own


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 4)))
    return model


BOTH = [dense, convolutional, nested]
ALL = [*BOTH, custom, subclassed]


def randomized(model, seed=0):
    """Gives each weight other finite bits: subnormals, huge values and minus zero among them."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        values = random.integers(0, 2**32, variable.shape, np.uint32).view(np.float32)
        variable.assign(np.where(np.isfinite(values), values, np.float32(-0.0)))
    return model


def trained(model, api):
    """Gives the optimizer a state worth saving."""
    model.compile(api.optimizers.Adam(), "mse")
    model.fit(np.ones((2, *model.input_shape[1:])), np.ones((2, 2)), verbose=0)
    return model


def bits(model):
    return [np.asarray(variable).tobytes() for variable in model.weights]


def save_unsealed(model, path):
    """The file that `save_weights` wrote before there were checksums in it, which may be edited."""
    save_weights(model, path)
    with h5py.File(path, "r+") as file:
        del file.attrs["sha256"]


def save_like_2017(model, path):
    """Keras 2.0.4's whole-model file: byte strings, layers counted from one, a list for config, an optimizer's `lr`."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = b"2.0.4", b"tensorflow"
        file.attrs["model_config"] = json.dumps(
            {"class_name": "Sequential", "config": [{"class_name": "Dense"}]}
        ).encode()
        file.attrs["training_config"] = json.dumps({"optimizer_config": {"config": {"lr": 0.001}}}).encode()
        group = file.create_group("model_weights")
        names = [f"dense_{number}" for number in range(1, 1 + len(model.layers))]
        group.attrs["layer_names"] = np.array(names, dtype="S")
        for name, layer in zip(names, model.layers, strict=True):
            tensors = [f"{name}/kernel:0", f"{name}/bias:0"]
            group.create_group(name).attrs["weight_names"] = np.array(tensors, dtype="S")
            for tensor, variable in zip(tensors, layer.weights, strict=True):
                group[name][tensor] = np.asarray(variable)
        file.create_group("optimizer_weights").attrs["weight_names"] = [b"iterations:0"]
        file["optimizer_weights/iterations:0"] = np.float32(3)


# ---------------------------------------------------------------- reading


def test_a_file_of_2017_is_read_and_its_optimizer_state_is_not(tmp_path, caplog):
    theirs, ours = randomized(dense()), dense()
    save_like_2017(theirs, tmp_path / "cartpole_weight.h5")
    with caplog.at_level(logging.INFO, "keras_dqn"):
        load_weights(ours, tmp_path / "cartpole_weight.h5")
    assert bits(ours) == bits(theirs)
    assert [record.getMessage() for record in caplog.records] == [
        f"The optimizer state in {tmp_path / 'cartpole_weight.h5'} was not loaded"
    ]


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize("name", ["whole.h5", "weights_only.h5", "numbered.weights.h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_files_of_keras_2_are_read(build, name, tmp_path):
    theirs, ours = trained(build(tf_keras), tf_keras), build()
    randomized(theirs)
    (theirs.save if name == "whole.h5" else theirs.save_weights)(tmp_path / name)
    load_weights(ours, tmp_path / name)
    assert bits(ours) == bits(theirs)


@pytest.mark.filterwarnings("ignore:.*state_updates")  # to read that property of Keras 2 warns
def test_networks_of_keras_2_are_read_into(tmp_path):
    theirs, ours = randomized(dense()), trained(dense(tf_keras), tf_keras)  # Keras 2 takes metrics for layers
    theirs.save_weights(tmp_path / "x.weights.h5")
    load_weights(ours, tmp_path / "x.weights.h5")
    assert bits(ours) == bits(theirs)


def test_the_name_of_a_file_says_nothing(tmp_path):
    theirs, ours = randomized(dense()), dense()
    theirs.save_weights(tmp_path / "a.weights.h5")
    (tmp_path / "a.weights.h5").rename(tmp_path / "legacy_weight.h5")
    save_weights(theirs, tmp_path / "legacy.weights.h5")
    for name in "legacy_weight.h5", "legacy.weights.h5":
        load_weights(randomized(ours, seed=1), tmp_path / name)
        assert bits(ours) == bits(theirs)


def test_lists_of_names_in_pieces_are_read(tmp_path, monkeypatch):
    theirs, ours = randomized(dense(tf_keras)), dense()
    monkeypatch.setattr(tf_keras.src.saving.legacy.hdf5_format, "HDF5_OBJECT_HEADER_LIMIT", 20)
    theirs.save_weights(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert "layer_names1" in file.attrs and "layer_names" not in file.attrs
    load_weights(ours, tmp_path / "x.h5")
    assert bits(ours) == bits(theirs)


def test_frozen_layers_do_not_mix_up_their_weights(tmp_path):
    """Keras orders the weights of a frozen torso otherwise; the names tell."""
    theirs, ours = randomized(nested()), randomized(nested(), seed=1)
    save_weights(theirs, tmp_path / "x.h5")
    ours.layers[1].trainable = False
    before = bits(ours)
    with pytest.raises(WeightFileError, match="expected the tensors"):
        load_weights(ours, tmp_path / "x.h5")
    assert bits(ours) == before


def test_arrays_come_in_the_order_and_dtype_of_the_weights(tmp_path):
    model = convolutional()
    for number, variable in enumerate(model.weights):
        variable.assign(np.full(variable.shape, number))
    save_unsealed(model, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        for name, dtype in ("conv2d/conv2d/kernel:0", ">f8"), ("dense/dense/bias:0", "f2"):
            values = file[name][()]
            del file[name]
            file[name] = values.astype(dtype)
    arrays = read_weights(model, tmp_path / "x.h5")
    assert [array.flat[0] for array in arrays] == list(range(len(model.weights)))
    assert {array.dtype for array in arrays} == {np.dtype("float32")}
    assert [array.shape for array in arrays] == [variable.shape for variable in model.weights]


# ---------------------------------------------------------------- refusing

KERNEL, BIAS = "dense_1/dense_1/kernel:0", "dense_1/dense_1/bias:0"


def replace(name, data=lambda values: values, **options):
    def damage(file):
        values = file[name][()]
        del file[name]
        file.create_dataset(name, data=data(values), **options)

    return damage


def add(name, data=0.0):
    return lambda file: file.create_dataset(name, data=data)


def remove(name):
    return lambda file: file.__delitem__(name)


def attribute(where, name, value):
    return lambda file: file[where].attrs.__setitem__(name, value)


def relink(name, target):
    def damage(file):
        file.move(name, "/elsewhere")
        file[name] = target(file)

    return damage


def virtual(file):
    layout = h5py.VirtualLayout((5,), "f4")
    layout[:] = h5py.VirtualSource("another_file.h5", "x", (5,))
    del file[BIAS]
    file.create_virtual_dataset(BIAS, layout)


def external(file):
    del file[BIAS]
    file.create_dataset(BIAS, (5,), "f4", external=[("/etc/passwd", 0, 20)])


def undecodable(file):
    text = h5py.string_dtype("ascii")
    file.attrs.create("layer_names", np.array([b"dense\xff", b"dense_1", b"dense_2"], dtype=object), dtype=text)


def crowd(file):
    for number in range(400):
        file.create_group(f"empty_{number}")


def remove_all(file):
    file.attrs.clear()
    for name in list(file):
        del file[name]


def declare(name, shape, **options):
    def damage(file):
        del file[name]
        file.create_dataset(name, shape, "f4", **options)

    return damage


def forget_a_layer(file):
    del file["dense_2"]
    file.attrs["layer_names"] = LAYERS[:2]


def swap_for_a_link(file):
    """In the attribute-free root, where the walk does not come by."""
    file.move("model_weights", "optimizer_weights/hidden")
    file["model_weights"] = h5py.SoftLink("/optimizer_weights/hidden")


def name_a_tensor_in_two_ways(file):
    del file["dense_2"]
    file.attrs["layer_names"] = names("dense", "dense_1", "dense_1/dense_1")
    file["dense_1/dense_1"].attrs["weight_names"] = names("kernel:0", "bias:0")


def tensor_for_a_group(file):
    del file["model_weights"]
    file.create_dataset("model_weights", (3 * 2**28,), "f4")


def names(*text):
    return np.array(text, dtype="S")


OURS, WHOLE, NUMBERED = "ours", "whole", "numbered"
LAYERS = names("dense", "dense_1", "dense_2")
DAMAGES = [  # what is wrong, with which kind of file, how it comes about, what the message says
    # it is another network's, or not whole
    ("extra tensor", OURS, add("dense/dense/gamma:0"), "'unexpected': ['dense/dense/gamma:0']"),
    ("extra tensor beside the layers", OURS, add("note"), "'unexpected': ['note']"),
    ("extra tensor beside the weights", WHOLE, add("note"), "'unexpected': ['note']"),
    ("extra numbered tensor", NUMBERED, add("layers/dense/vars/2"), "'unexpected': ['layers/dense/vars/2']"),
    ("extra tensor of the model", OURS, add("top_level_model_weights/x"), "an attribute weight_names"),
    ("missing tensor", OURS, remove(BIAS), f"{{'missing': ['{BIAS}'], 'unexpected': []}}"),
    ("missing numbered tensor", NUMBERED, remove("layers/dense_1/vars/1"), "'missing': ['layers/dense_1/vars/1']"),
    ("missing group", OURS, remove("dense_2"), "a group for every layer. Received: 'none for dense_2'"),
    ("one layer less", OURS, attribute("/", "layer_names", LAYERS[:2]), "'unexpected': ['dense_2/"),
    ("no tensors", OURS, attribute("dense_1", "weight_names", np.array([])), "'unexpected': ['dense_1/"),
    ("fewer layers", OURS, forget_a_layer, "expected 3 layers with weights. Received: ['/dense', '/dense_1']"),
    ("swapped", OURS, attribute("dense", "weight_names", names("dense/bias:0", "dense/kernel:0")), "the tensors"),
    ("layers swapped", OURS, attribute("/", "layer_names", LAYERS[::-1]), "expected shape (4, 5) for 'kernel'"),
    ("layer twice", OURS, attribute("/", "layer_names", names("dense", "dense")), "no name twice in layer_names"),
    ("tensor twice", OURS, attribute("dense", "weight_names", names("dense/x", "dense/x")), "no name twice"),
    ("tensor in two ways", OURS, name_a_tensor_in_two_ways, "3 layers with weights. Received: ['/dense', '/dense_1', "),
    ("nothing", OURS, remove_all, "every tensor of the network and no other"),
    # shapes and numbers
    ("transposed", OURS, replace("dense/dense/kernel:0", np.transpose), "expected shape (4, 5) for 'kernel'"),
    ("flat", OURS, replace(KERNEL, np.ravel), "Received: (25,)"),
    ("no shape", OURS, replace(BIAS, lambda _: h5py.Empty("f4")), "Received: None"),
    ("integers", OURS, replace(BIAS, lambda v: v > 0, dtype="i4"), "Received: 'int32'"),
    ("booleans", OURS, replace(BIAS, np.bool_), "Received: 'enumeration'"),
    ("complex", OURS, replace(BIAS, np.complex64), "Received: 'compound'"),
    (
        "long doubles",
        OURS,
        replace(BIAS, np.longdouble),
        f"Received: 'float{8 * np.dtype(np.longdouble).itemsize} of another form'",
    ),
    ("strings", OURS, replace(BIAS, lambda v: v.astype("S")), "expected float16, float32 or float64"),
    ("objects", OURS, replace(BIAS, lambda _: [b"x"] * 5, dtype=h5py.string_dtype()), "Received: 'text'"),
    ("nan", OURS, replace(BIAS, lambda v: v * np.float32("nan")), "finite float32 values. Received: nan"),
    ("infinity", NUMBERED, replace("layers/dense/vars/1", lambda v: v - np.inf), "Received: -inf"),
    ("too big", WHOLE, replace(f"model_weights/{BIAS}", lambda v: v * 0 + np.float64(1e300)), "Received: 1e+300"),
    # data that are not in the file, or not as declared
    ("soft link", OURS, relink(BIAS, lambda _: h5py.SoftLink("/elsewhere")), "Received: 'SoftLink'"),
    ("link to a file", OURS, relink(BIAS, lambda _: h5py.ExternalLink("a.h5", "/x")), "Received: 'ExternalLink'"),
    ("layer by soft link", OURS, relink("dense", lambda _: h5py.SoftLink("/elsewhere")), "Received: 'SoftLink'"),
    ("all by soft link", WHOLE, swap_for_a_link, "'model_weights' to lie in the file itself. Received: 'SoftLink'"),
    ("a type", OURS, relink(BIAS, lambda _: np.dtype("f4")), "a group or a tensor. Received: 'Datatype'"),
    ("a tensor for a group", WHOLE, tensor_for_a_group, "'/model_weights': expected a group. Received: 'Tensor'"),
    ("external data", OURS, external, "data in the file itself. Received: 'external storage'"),
    ("virtual data", OURS, virtual, "data in the file itself. Received: 'virtual'"),
    ("chunks", OURS, replace(BIAS, chunks=(5,)), "in one piece. Received: 'chunks of (5,)'"),
    ("compressed", OURS, replace(KERNEL, compression="gzip"), "in one piece. Received: 'chunks of (5, 5)'"),
    ("never written", OURS, declare(BIAS, (5,)), "expected 20 bytes of data. Received: 0"),
    ("a circle", OURS, lambda file: file.__setitem__("dense/circle", file["/"]), "groups and tensors"),
    ("a crowd", OURS, crowd, "groups and tensors. Received: 'more'"),
    # attributes
    ("no list", OURS, lambda file: file["dense"].attrs.__delitem__("weight_names"), "an attribute weight_names"),
    ("numbers for names", OURS, attribute("/", "layer_names", [1, 2, 3]), "a list of names. Received: 'int64"),
    ("one name", OURS, attribute("/", "layer_names", np.bytes_("dense")), "a list of names. Received: '|S5, shape ()'"),
    ("empty attribute", OURS, attribute("/", "layer_names", h5py.Empty("S5")), "a list of names"),
    ("table of names", OURS, attribute("dense", "weight_names", [names("a", "b")]), "shape (1, 2)"),
    ("many names", OURS, attribute("/", "layer_names", names(*"abcdefghijklmnopqrstuvw")), "names. Received: 23"),
    ("long name", OURS, attribute("/", "layer_names", names("x" * 2000)), "a list of names. Received: '|S2000"),
    ("long text", OURS, attribute("/", "layer_names", ["x" * 2000]), "names of at most 1024 bytes of UTF-8"),
    ("bad bytes", OURS, attribute("/", "layer_names", np.array([b"\xff\xfe"])), "bytes of UTF-8 in layer_names"),
    ("bad text", OURS, undecodable, "bytes of UTF-8 in layer_names. Received: b'dense\\xff'"),
    ("the way up", OURS, attribute("dense", "weight_names", names("../x", "/x")), "['dense/../x', 'dense//x']"),
]


SAVE = {OURS: save_unsealed, WHOLE: save_like_2017, NUMBERED: lambda model, path: model.save_weights(path)}


@pytest.fixture(scope="module")
def network():
    return randomized(dense(), seed=1)


def assert_refused(network, path, message):
    """No weight of the network changes, and the message names the file and ends with what was received."""
    before = bits(network)
    with pytest.raises(WeightFileError) as caught:
        load_weights(network, path)
    assert bits(network) == before
    assert str(path) in str(caught.value) and "Received: " in str(caught.value)
    assert message in str(caught.value)
    str(caught.value).encode()  # can be printed


@pytest.mark.parametrize("kind, damage, message", [pytest.param(*row[1:], id=row[0]) for row in DAMAGES])
def test_a_damaged_file_is_refused_and_the_network_untouched(kind, damage, message, network, tmp_path):
    path = tmp_path / "x.weights.h5"
    SAVE[kind](randomized(dense()), path)
    read_weights(network, path)  # sound so far
    with h5py.File(path, "r+") as file:
        damage(file)
    assert_refused(network, path, message)


@pytest.mark.parametrize("content, message", [(b"", "an empty file"), (b"PK\3\4" * 99, "a damaged zip file")])
def test_other_files_are_refused(content, message, network, tmp_path):
    (tmp_path / "x.h5").write_bytes(content)
    assert_refused(network, tmp_path / "x.h5", message)


def test_what_is_not_a_file_is_refused(network, tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    assert_refused(network, tmp_path, "a folder")
    assert_refused(network, tmp_path / "missing.h5", "No such file")
    assert_refused(network, tmp_path / "pipe.h5", "not a regular file")


@pytest.mark.parametrize("kind", SAVE)
def test_a_file_cut_short_or_too_long_is_refused(kind, network, tmp_path):
    path = tmp_path / "x.weights.h5"
    SAVE[kind](randomized(dense()), path)
    content = path.read_bytes()
    for length in range(1, len(content), len(content) // 12):
        path.write_bytes(content[:length])
        assert_refused(network, path, "")
    path.write_bytes(content + bytes(2**20))
    assert_refused(network, path, "where this network needs at most")


@pytest.mark.parametrize("kind", SAVE)
def test_random_damage_raises_nothing_else(kind, network, tmp_path):
    path, random = tmp_path / "x.weights.h5", np.random.default_rng(5)
    SAVE[kind](randomized(dense()), path)
    content, refused = np.frombuffer(path.read_bytes(), np.uint8), 0
    for _ in range(100):
        damaged = content.copy()
        damaged[random.integers(0, len(content), 40)] = random.integers(0, 256, 40)
        path.write_bytes(damaged.tobytes())
        try:
            assert all(np.isfinite(array).all() for array in read_weights(network, path))
        except WeightFileError:
            refused += 1
    assert refused > 10


@pytest.fixture
def reads(monkeypatch):
    """The shapes of the tensors of which data were read."""
    shapes, read = [], Tensor.read
    monkeypatch.setattr(Tensor, "read", lambda self: shapes.append(self.shape) or read(self))
    return shapes


@pytest.mark.parametrize(
    "kind, damage",
    [
        (OURS, declare(BIAS, (3 * 2**28,))),
        (WHOLE, tensor_for_a_group),
        (OURS, declare(BIAS, (5,), maxshape=(None,), chunks=(2**28,), compression="gzip")),
        (OURS, replace(BIAS, lambda values: np.repeat(values, 2**14), compression="gzip")),
        (OURS, attribute("dense_1", "weight_names", np.array([b"dense_1/bias:0"], dtype="S60000"))),
    ],
    ids=["3 GiB", "3 GiB for a group", "a chunk of 1 GiB", "compressed", "a padded name"],
)
def test_a_memory_bomb_is_refused_before_any_data_are_read(kind, damage, network, tmp_path, reads):
    SAVE[kind](randomized(dense()), tmp_path / "x.h5")
    read_weights(network, tmp_path / "x.h5")
    assert len(reads) == len(network.weights)  # the fixture sees what is read
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        damage(file)
    reads.clear()
    assert_refused(network, tmp_path / "x.h5", "expected")
    assert reads == []


def test_a_shared_weight_must_be_stored_alike_everywhere(tmp_path):
    shared = keras.layers.Dense(3)
    torsos = [keras.Sequential([keras.layers.Input((3,)), shared, keras.layers.Dense(3)]) for _ in range(2)]
    model = randomized(keras.Sequential([keras.layers.Input((3,)), *torsos]))
    before = bits(model)
    save_unsealed(model, tmp_path / "x.h5")
    load_weights(randomized(model, seed=1), tmp_path / "x.h5")
    assert bits(model) == before
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["sequential_1/sequential_1/layers/dense/bias:0"][0] = 7
    assert_refused(model, tmp_path / "x.h5", "wherever a shared weight is stored")


def test_a_network_without_weights_is_refused(tmp_path):
    empty = keras.Sequential([keras.layers.Dense(2)])
    for function in load_weights, save_weights:
        with pytest.raises(ValueError, match="a network that is built"):
            function(empty, tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failing_assignment_is_undone(error, tmp_path, monkeypatch):
    theirs, ours = randomized(dense()), randomized(dense(), seed=1)
    save_weights(theirs, tmp_path / "x.h5")
    before, assign = bits(ours), ours.weights[3].assign

    def fail_once(value):
        assign(value)
        monkeypatch.setattr(ours.weights[3], "assign", assign)
        raise error

    monkeypatch.setattr(ours.weights[3], "assign", fail_once)
    with pytest.raises(error):
        load_weights(ours, tmp_path / "x.h5")
    assert bits(ours) == before


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("build", BOTH)
def test_what_is_written_both_kerases_read(build, tmp_path):
    theirs = randomized(build())
    assert save_weights(theirs, str(tmp_path / "x.h5")) == tmp_path / "x.h5"
    for api in keras, tf_keras:
        model = build(api)
        model.load_weights(tmp_path / "x.h5")
        assert bits(model) == bits(theirs)


def test_what_is_written_is_not_taken_for_a_file_of_keras_1(tmp_path):
    """Keras 2 would convert the kernels of one that names no version."""
    theirs, ours = (
        tf_keras.Sequential([tf_keras.layers.Input((9, 2)), tf_keras.layers.Conv1D(3, 4)]) for _ in range(2)
    )
    save_weights(randomized(theirs), tmp_path / "x.h5")
    ours.load_weights(tmp_path / "x.h5")
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("build", ALL)
def test_what_is_written_is_read_back_bit_for_bit(build, tmp_path):
    theirs, by_us, by_keras = randomized(build()), build(), build()
    save_weights(theirs, tmp_path / "x.h5")
    load_weights(by_us, tmp_path / "x.h5")
    by_keras.load_weights(tmp_path / "x.h5")
    assert bits(by_us) == bits(by_keras) == bits(theirs)


@settings(max_examples=20)
@given(widths=st.lists(st.integers(1, 9), min_size=2, max_size=5), bias=st.booleans(), seed=st.integers(0, 2**32))
def test_networks_of_any_width_come_back(widths, bias, seed, tmp_path_factory):
    def build():
        layers = [keras.layers.Dense(width, use_bias=bias) for width in widths[1:]]
        return keras.Sequential([keras.layers.Input((widths[0],)), *layers])

    path = tmp_path_factory.getbasetemp() / "any_width.h5"
    theirs, ours = randomized(build(), seed), build()
    save_weights(theirs, path)
    load_weights(ours, path)
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.filterwarnings("ignore:.*state_updates")
def test_equal_weights_give_equal_bytes(build, tmp_path):
    save_weights(randomized(build()), tmp_path / "1.h5")
    time.sleep(1.1)  # HDF5 counts time stamps in seconds
    save_weights(randomized(build()), tmp_path / "2.h5")
    save_weights(randomized(build(tf_keras)), tmp_path / "3.h5")
    save_weights(randomized(build(), seed=1), tmp_path / "4.h5")
    first, second, third, other = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert first == second == third
    assert first != other


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_not_written(bad, tmp_path):
    model = randomized(dense())
    save_weights(model, tmp_path / "x.h5")
    before = (tmp_path / "x.h5").read_bytes()
    model.weights[3].assign([0, 0, bad, 0, 0])
    with pytest.raises(WeightFileError, match=r"x\.h5: 'dense_1/bias:0': .*Received: float32, 1 of 5 not finite"):
        save_weights(model, tmp_path / "x.h5")
    assert (tmp_path / "x.h5").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_no_other(error, step, tmp_path, monkeypatch):
    save_weights(randomized(dense()), tmp_path / "x.h5")
    before = (tmp_path / "x.h5").read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(error):
        save_weights(randomized(dense(), seed=1), tmp_path / "x.h5")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.h5", before)]


def test_data_are_on_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    for name in "fsync", "replace":
        function = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, function=function: calls.append(name) or function(*args))
    save_weights(dense(), tmp_path / "x.h5")
    assert calls == ["fsync", "replace", "fsync"]  # file, name, folder


@pytest.mark.parametrize("name", ["curve.png", "video.mp4", "scores.csv", "x.weights.h5", "no_suffix"])
def test_the_temporary_name_keeps_the_suffix_and_the_folder(name, tmp_path):
    with atomic_write(tmp_path / name) as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, Path(name).suffix)
        temporary.write_text("new")
        assert not (tmp_path / name).exists()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "new")]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    save_weights(dense(), tmp_path / "x.h5")
    assert (tmp_path / "x.h5").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "drive").mkdir()
    (tmp_path / "x.h5").symlink_to(tmp_path / "drive" / "real.h5")
    save_weights(dense(), tmp_path / "x.h5")
    assert (tmp_path / "x.h5").is_symlink()
    assert [path.name for path in (tmp_path / "drive").iterdir()] == ["real.h5"]


def test_only_abandoned_temporary_files_are_removed(tmp_path):
    ours, recent = f".{'a' * 16}-x.h5", f".{'b' * 16}-x.h5"
    others = [f".{'a' * 16}-y.h5", ".mine-x.h5", f"{'a' * 16}-x.h5"]
    for name in [ours, recent, *others]:
        (tmp_path / name).touch()
        if name != recent:
            os.utime(tmp_path / name, (time.time() - 4000,) * 2)
    save_weights(dense(), tmp_path / "x.h5")
    assert {path.name for path in tmp_path.iterdir()} == {recent, "x.h5", *others}


# ---------------------------------------------------------------- crashes


def fake_network():
    """What this module needs to know of a network, without Keras."""
    from types import SimpleNamespace

    import numpy as np

    class Variable(np.ndarray):
        name = "kernel"

        def assign(self, values):
            self[...] = values

    layers = []
    for _ in range(4):
        variables = [np.zeros((256, 256), np.float32).view(Variable)]
        layers.append(SimpleNamespace(weights=variables, trainable_weights=variables, non_trainable_weights=[]))
    return SimpleNamespace(layers=layers, weights=[layer.weights[0] for layer in layers])


PREAMBLE = f"""
import sys

sys.path.insert(0, sys.argv[1])
from keras_dqn import weights

{inspect.getsource(fake_network)}
"""
SAVE_FOREVER = """
saved, model = 0, fake_network()
while True:
    for variable in model.weights:
        variable.assign(saved)
    weights.save_weights(model, sys.argv[2])
    saved += 1
    if saved == 2:
        print("saving", flush=True)
"""


def run(source, path):
    """Starts a Python that has no TensorFlow in it."""
    command = [sys.executable, "-c", PREAMBLE + source, str(Path(keras_dqn.__file__).parents[1]), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_process_stopped_at_any_instant_leaves_a_whole_file(stop, tmp_path):
    path, last = tmp_path / "x.h5", 0
    for attempt in range(5):
        with run(SAVE_FOREVER, path) as process:
            assert process.stdout.readline() == "saving\n"
            time.sleep(0.003 * attempt)
            process.send_signal(stop)
            errors = process.communicate(timeout=30)[1]
        assert process.returncode == -stop, errors
        arrays = read_weights(fake_network(), path)
        last = max(last, arrays[0][0, 0])
        assert all((array == arrays[0][0, 0]).all() for array in arrays)
    assert last >= 1  # it was stopped while it saved over an older file
    left = [file for file in tmp_path.iterdir() if file != path]
    assert len(left) <= (5 if stop == signal.SIGKILL else 0)
    for file in left:
        os.utime(file, (0, 0))
    check_writable(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_oserror_and_leaves_the_old_file(tmp_path):
    source = """
import resource, signal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in 0, 100, 500_000:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        weights.save_weights(fake_network(), sys.argv[2])
    except OSError as error:
        print(limit, error.strerror)
"""
    save_weights(fake_network(), tmp_path / "x.h5")
    before = (tmp_path / "x.h5").read_bytes()
    with run(source, tmp_path / "x.h5") as process:
        assert process.communicate(timeout=30) == (
            "".join(f"{n} Cannot write: File too large. Received\n" for n in (0, 100, 500_000)),
            "",
        )
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.h5", before)]


def test_it_needs_no_tensorflow(tmp_path):
    save = "weights.save_weights(fake_network(), sys.argv[2])"
    source = f"{save}; print({{'h5py', 'keras', 'tf_keras', 'tensorflow', 'torch'}} & set(sys.modules))"
    with run(source, tmp_path / "x.h5") as process:
        assert process.communicate(timeout=30) == ("{'h5py'}\n", "")


def test_a_weight_that_is_no_float_is_neither_read_nor_written(tmp_path):
    model = fake_network()
    save_weights(model, tmp_path / "x.h5")
    model.weights[0] = model.layers[0].weights[0] = model.weights[0].astype(np.int32)
    with pytest.raises(WeightFileError, match=r"for a weight in int32\. Received: 'float32'"):
        load_weights(model, tmp_path / "x.h5")
    with pytest.raises(WeightFileError, match=r"expected finite floats to save\. Received: int32"):
        save_weights(model, tmp_path / "x.h5")


# ---------------------------------------------------------------- check_writable, pretrained


def test_a_path_that_can_be_written_is_left_alone(tmp_path):
    check_writable(tmp_path / "new.h5")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old.h5").write_text("old")
    before = (tmp_path / "old.h5").stat()
    check_writable(str(tmp_path / "old.h5"))
    after = (tmp_path / "old.h5").stat()
    assert (after.st_mtime_ns, after.st_ino, after.st_size) == (before.st_mtime_ns, before.st_ino, before.st_size)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "name, error, reason",
    [
        ("folder", IsADirectoryError, "it is a folder"),
        ("missing/x.h5", FileNotFoundError, "No such file or directory"),
        ("file/x.h5", NotADirectoryError, "Not a directory"),
        ("x" * 250 + ".h5", OSError, "File name too long"),
        ("pipe", OSError, "it is not a regular file"),
    ],
)
@pytest.mark.parametrize("function", [check_writable, lambda path: save_weights(dense(), path)])
def test_a_path_that_cannot_be_written_is_refused(function, name, error, reason, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(error) as caught:
        function(tmp_path / name)
    assert str(caught.value).endswith(f"Cannot write: {reason}. Received: {str(tmp_path / name)!r}")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "pipe"]


@pytest.mark.parametrize("number, error", [(errno.EACCES, PermissionError), (errno.EROFS, OSError)])
def test_a_folder_that_cannot_be_written_is_refused(number, error, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(error, match=rf"Cannot write: {os.strerror(number)}. Received: '{tmp_path}/x.h5'$"):
        check_writable(tmp_path / "x.h5")


def test_pretrained_files_are_found_in_a_checkout_and_in_a_wheel(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "__file__", str(tmp_path / "keras_dqn" / "records" / "weights.py"))
    checkout, wheel = tmp_path / "weights", tmp_path / "keras_dqn" / "pretrained"
    with pytest.raises(ValueError, match=r"one of \[\]. Received: 'cartpole'"):
        weights.pretrained("cartpole")
    for folder, name in (checkout, "cartpole"), (checkout, "breakout"), (wheel, "cartpole"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}_weight.h5").touch()
    assert weights.pretrained("breakout") == checkout / "breakout_weight.h5"
    assert weights.pretrained("cartpole") == wheel / "cartpole_weight.h5"
    for unknown in "pong", "../weights/cartpole", "":
        with pytest.raises(ValueError, match=r"one of \['breakout', 'cartpole'\]. Received: "):
            weights.pretrained(unknown)
