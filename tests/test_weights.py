"""Weight files: what Keras reads loads whole, the rest is refused, and what is written survives a crash."""

import json
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

import keras_dqn
from keras_dqn.files import weight_file, weights
from keras_dqn.files.atomic import atomic_write, check_writable
from keras_dqn.files.weights import WeightFileError, load_weights, save_weights
from tests.walker import walker, walking  # noqa: F401

pytestmark = pytest.mark.usefixtures("walker")

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
    """Nobody can make it from a configuration; it counts its calls in an integer."""

    def __init__(self, width):
        super().__init__()
        self.zeroth, self.hidden = keras.layers.Dense(width), [keras.layers.Dense(3), keras.layers.Dense(2)]
        self.own = self.add_weight(shape=(2,), name="own")
        self.calls = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="calls")

    def call(self, x):
        for layer in [self.zeroth, *self.hidden]:
            x = layer(x)
        return x * self.own


def subclassed():
    model = Subclassed(3)
    model(np.zeros((1, 4)))
    return model


def odd():
    """Weights that are no float32: Normalization's count, bfloat16; and a function that no configuration holds."""
    normalization = keras.layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(size=(50, 4)))
    layers = [keras.layers.Dense(5, dtype="bfloat16"), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dropout(0.1)]
    return keras.Sequential([keras.Input((4,)), normalization, *layers, keras.layers.Dense(2, dtype="float32")])


BOTH = [dense, convolutional, nested]
ALL = [*BOTH, custom, subclassed, odd]


def randomized(model, seed=0):
    """Gives each float32 weight other finite bits, subnormals, huge values and minus zero among them."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        values = random.integers(0, 2**32, variable.shape, np.uint32).view(np.float32)
        if variable.dtype != "float32":
            values = random.integers(1, 100, variable.shape)
        variable.assign(np.where(np.isfinite(values), values, np.float32(-0.0)))
    return model


def trained(model, api):
    """Gives the optimizer a state worth saving."""
    model.compile(api.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    for number, variable in enumerate(model.optimizer.variables):
        variable.assign(np.full(variable.shape, number + 1))
    return model


def bits(model):
    return [np.asarray(variable).tobytes() for variable in model.weights]


def save_unsealed(model, path):
    """The file that `save_weights` writes, without its checksum: one that may be edited."""
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


def test_the_name_of_a_file_says_nothing(tmp_path):
    theirs, ours = randomized(dense()), dense()
    theirs.save_weights(tmp_path / "a.weights.h5")
    (tmp_path / "a.weights.h5").rename(tmp_path / "legacy_weight.h5")
    save_weights(theirs, tmp_path / "legacy.weights.h5")
    theirs.save(tmp_path / "zipped.keras")
    (tmp_path / "zipped.keras").rename(tmp_path / "no_suffix")
    for name in "legacy_weight.h5", "legacy.weights.h5", "no_suffix":
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
    assert_refused(ours, tmp_path / "x.h5", "of the network, in the order ['kernel', ")


def test_an_optimizer_keeps_its_own_state(tmp_path):
    """Whatever the layout, and whether it is built or of another kind."""
    theirs, ours, other = trained(dense(), keras), trained(dense(), keras), dense()
    other.compile("sgd", "mse")
    before = [np.asarray(variable).copy() for variable in ours.optimizer.variables]
    theirs.save(tmp_path / "whole.h5")
    theirs.save_weights(tmp_path / "x.weights.h5")
    for name in "whole.h5", "x.weights.h5":
        for model in ours, other:
            load_weights(randomized(model), tmp_path / name)
            assert bits(model) == bits(theirs)
        np.testing.assert_equal([np.asarray(variable).copy() for variable in ours.optimizer.variables], before)


# ---------------------------------------------------------------- refusing

BIAS = "dense_1/bias_1:0"


def replace(name, data=lambda values: values, **options):
    def damage(file):
        values = file[name][()]
        del file[name]
        file.create_dataset(name, data=data(values), **options)

    return damage


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


def declare(name, shape, **options):
    def damage(file):
        del file[name]
        file.create_dataset(name, shape, "f4", **options)

    return damage


def names(*text):
    return np.array(text, dtype="S")


OLD_BIAS = "dense_1/bias:0"
OURS, WHOLE, NUMBERED = "ours", "whole", "numbered"
LAYERS, TWICE = names("dense_0", "dense_1", "dense_2"), names("bias_1:0", "kernel_0:0")
FIRST, OTHER_PLACE = "layers/dense/vars/0", "data in the file itself. Received: "
DAMAGES = [  # with which kind of file, how it comes about, what the message says
    # it is another network's, or not whole
    (OURS, remove(BIAS), "'bias_1:0' doesn't exist"),
    (NUMBERED, remove("layers/dense_1/vars/1"), "the 6 tensors of the network. Received: ["),
    (NUMBERED, lambda file: file.copy("layers/dense", "layers/more"), "'layers/more/vars/0', "),
    (NUMBERED, lambda file: file.move("layers/dense_1", "layers/more"), "cannot be loaded. Received: "),
    (OURS, attribute("/", "layer_names", LAYERS[:2]), "the 6 tensors of the network, in the order ['kernel', "),
    (OURS, attribute("/", "layer_names", LAYERS[::-1]), "'dense_2/kernel_0:0': expected shape (4, 5) of"),
    (OURS, attribute("dense_0", "weight_names", TWICE), "in the order ['kernel', 'bias', "),
    # shapes and numbers
    (OURS, replace("dense_0/kernel_0:0", np.transpose), "shape (4, 5) of float32. Received: (5, 4) of float32"),
    (NUMBERED, replace(FIRST, np.transpose), "variable.shape=(4, 5), Received: value.shape=(5, 4)"),
    (OURS, replace(BIAS, lambda _: h5py.Empty("f4")), "Received: () of object"),
    (OURS, replace(BIAS, lambda v: v > 0, dtype="i4"), "shape (5,) of float32. Received: (5,) of int32"),
    (NUMBERED, replace(FIRST, lambda v: v > 0, dtype="i4"), "the 6 tensors of the network"),
    (OURS, replace(BIAS, np.bool_), "Received: (5,) of bool"),
    (OURS, replace(BIAS, np.complex64), "Received: (5,) of complex64"),
    (OURS, replace(BIAS, lambda _: [b"x"] * 5, dtype=h5py.string_dtype()), "Received: (5,) of object"),
    (OURS, replace(BIAS, lambda v: v * np.float32("nan")), "/bias': expected finite numbers"),
    (NUMBERED, replace("layers/dense/vars/1", lambda v: v - np.inf), "/bias': expected finite numbers"),
    (WHOLE, replace(f"model_weights/dense_1/{OLD_BIAS}", lambda v: v * 0 + np.float64(1e300)), "Received: 5 that are"),
    # data that are not in the file, or more than there may be
    (OURS, relink(BIAS, lambda _: h5py.SoftLink("/elsewhere")), OTHER_PLACE + "a link"),
    (OURS, relink(BIAS, lambda _: h5py.ExternalLink("a.h5", "/x")), OTHER_PLACE + "a link"),
    (OURS, declare(BIAS, (5,), external=[("/etc/passwd", 0, 20)]), OTHER_PLACE + "data of another file"),
    (OURS, virtual, OTHER_PLACE + "data of another file"),
    (OURS, relink(BIAS, lambda _: np.dtype("f4")), "Received: "),
    (OURS, declare(BIAS, (5,)), "Received: a tensor that was never written"),
    (OURS, declare(BIAS, (3 * 2**28,)), "bytes more. Received: 3221225472"),
    (NUMBERED, lambda file: file.create_dataset("x", (3 * 2**28,), "f4"), "Received: 3221225472"),
    (OURS, declare(BIAS, (5,), maxshape=(None,), chunks=(2**28,), compression="gzip"), "Received: 1073741824"),
    # attributes
    (OURS, lambda file: file["dense_0"].attrs.__delitem__("weight_names"), "the 6 tensors of the network"),
    (OURS, attribute("/", "layer_names", [1, 2, 3]), "object '1' doesn't exist"),
    (OURS, attribute("/", "layer_names", names("x" * 50_000)), "Received: "),
    (OURS, attribute("/", "layer_names", np.array([b"\xff\xfe"])), "Received: "),
    (OURS, attribute("dense_0", "weight_names", names("../x", "/x")), "Received: "),
]
SAVE = {OURS: save_unsealed, WHOLE: save_like_2017, NUMBERED: lambda model, path: model.save_weights(path)}


@pytest.fixture(scope="module")
def network():
    return randomized(dense(), seed=1)


def assert_refused(network, path, message):
    """No weight of the network changes, and the message names the file and ends with what was received, in short."""
    before = bits(network)
    with pytest.raises(WeightFileError) as caught:
        load_weights(network, path)
    assert bits(network) == before
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "Received: " in text and len(text) < 1200 + len(str(path))
    assert message in text
    text.encode()  # can be printed


@pytest.mark.parametrize("kind, damage, message", DAMAGES)
def test_a_damaged_file_is_refused_and_the_network_untouched(kind, damage, message, network, tmp_path):
    path = tmp_path / "x.weights.h5"
    SAVE[kind](network, path)
    with h5py.File(path, "r+") as file:
        damage(file)
    assert_refused(network, path, message)


def test_what_is_no_weight_file_is_named_for_what_it_is(network, tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    assert_refused(network, tmp_path, "Received: a folder")
    assert_refused(network, tmp_path / "missing.h5", "Received: no such file")
    assert_refused(network, tmp_path / "missing" / "x.h5", "Received: no such file")
    assert_refused(network, tmp_path / "pipe.h5", "not a regular file")
    assert_refused(network, "/dev/zero", "not a regular file")
    for content, message in (
        (b"", "0 bytes that are no HDF5"),
        (b"PK\3\4" * 99, "BadZipFile"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Received: a git-lfs pointer"),
        (b"\n<!DOCTYPE html>\n<html lang=en><body>Not Found", "Received: an HTML page saved under this name"),
        (b"<HTML><head>", "Received: an HTML page saved under this name"),
        (b"\x80\x02}q\x00.", "Received: 6 bytes that are no HDF5, which begin with b'\\x80\\x02}q\\x00.'"),
    ):
        (tmp_path / "x.h5").write_bytes(content)
        assert_refused(network, tmp_path / "x.h5", message)


@pytest.mark.parametrize("kind", SAVE)
def test_half_a_file_is_refused(kind, network, tmp_path):
    path = tmp_path / "x.weights.h5"
    SAVE[kind](network, path)
    content = path.read_bytes()
    for part in 0.4, 0.99:
        path.write_bytes(content[: int(part * len(content))])
        assert_refused(network, path, "")


def test_a_misspelt_file_is_answered_with_the_nearest(network, tmp_path):
    save_weights(network, tmp_path / "cartpole_weight.h5")
    wrong = tmp_path / "cartpole_wieght.h5"
    assert_refused(network, wrong, f"no such file; the nearest is {tmp_path / 'cartpole_weight.h5'}")


@pytest.mark.filterwarnings("ignore:.*state_updates")
def test_what_tensorflow_alone_reads_is_answered_with_what_to_do(network, tmp_path):
    theirs = dense(tf_keras)
    theirs.save(tmp_path / "saved", save_format="tf")
    theirs.save_weights(tmp_path / "x.ckpt")  # of several files, and a list of them called "checkpoint"
    for name in "saved", "saved/saved_model.pb", "x.ckpt", "x.ckpt.index", "x.ckpt.data-00000-of-00001", ".":
        assert_refused(network, tmp_path / name, "TensorFlow: load it with tf_keras and save that model as an .h5 file")


def test_a_file_may_have_what_the_network_and_its_optimizer_take_and_some_more(network, tmp_path, monkeypatch):
    save_weights(network, tmp_path / "x.h5")
    size = (tmp_path / "x.h5").stat().st_size
    monkeypatch.setattr(weight_file, "LARGEST", size)
    load_weights(network, tmp_path / "x.h5")
    monkeypatch.setattr(weight_file, "LARGEST", size - 1)
    assert_refused(network, tmp_path / "x.h5", f"expected at most {size - 1} bytes for this network")


def test_a_network_without_weights_is_refused(tmp_path):
    empty = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="a network that is built"):
        save_weights(empty, tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []
    save_weights(dense(), tmp_path / "x.h5")
    with pytest.raises(ValueError, match="isn't built"):
        load_weights(empty, tmp_path / "x.h5")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("number", [3, -1])
def test_a_failing_assignment_is_undone(error, number, tmp_path, monkeypatch):
    """And so is what Normalization keeps beside its variables."""
    theirs, ours, states = randomized(odd()), odd(), np.ones((2, 4), np.float32)
    save_weights(theirs, tmp_path / "x.h5")
    before, outputs, assign = bits(ours), np.asarray(ours(states)), ours.weights[number].assign

    def fail(value):
        assign(value)
        if np.isfinite(np.asarray(value, np.float64)).all():  # Keras's own, of what is in the file
            monkeypatch.setattr(ours.weights[number], "assign", assign)
            raise error("in the middle")

    monkeypatch.setattr(ours.weights[number], "assign", fail)
    with pytest.raises(WeightFileError if error is RuntimeError else error, match="in the middle"):
        load_weights(ours, tmp_path / "x.h5")
    assert bits(ours) == before
    np.testing.assert_array_equal(np.asarray(ours(states)), outputs)


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("build", ALL)
def test_what_is_written_every_keras_reads_bit_for_bit(build, tmp_path):
    theirs, ours = randomized(build()), build()
    assert save_weights(theirs, str(tmp_path / "x.h5")) == tmp_path / "x.h5"
    load_weights(ours, tmp_path / "x.h5")
    assert bits(ours) == bits(theirs)
    if build is not subclassed:  # Keras 3 fails to compare more than one weight outside the layers
        for model in [build(), *([build(tf_keras)] if build in BOTH else [])]:
            model.load_weights(tmp_path / "x.h5")
            assert bits(model) == bits(theirs)


def test_what_is_written_is_not_taken_for_a_file_of_keras_1(tmp_path):
    """Keras 2 would convert the kernels of one that names no version."""
    theirs, ours = (api.Sequential([api.layers.Input((9, 2)), api.layers.Conv1D(3, 4)]) for api in (keras, tf_keras))
    save_weights(randomized(theirs), tmp_path / "x.h5")
    ours.load_weights(tmp_path / "x.h5")
    assert bits(ours) == bits(theirs)


def test_equal_weights_give_equal_bytes(tmp_path):
    save_weights(randomized(convolutional()), tmp_path / "1.h5")
    time.sleep(1.1)  # HDF5 counts time stamps in seconds
    save_weights(randomized(convolutional()), tmp_path / "2.h5")
    save_weights(randomized(convolutional(), seed=1), tmp_path / "3.h5")
    first, second, other = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert first == second != other


def test_every_bit_of_a_tensor_counts_for_its_checksum(network, tmp_path):
    save_weights(network, tmp_path / "x.h5")
    content = (tmp_path / "x.h5").read_bytes()
    for values in bits(network):
        damaged = bytearray(content)
        damaged[content.index(values)] ^= 1  # the smallest change of a number
        (tmp_path / "x.h5").write_bytes(damaged)
        assert_refused(network, tmp_path / "x.h5", "expected tensors of sha256 ")


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_not_written(bad, tmp_path):
    model = randomized(dense())
    save_weights(model, tmp_path / "x.h5")
    before = (tmp_path / "x.h5").read_bytes()
    model.weights[3].assign([0, 0, bad, 0, 0])
    with pytest.raises(WeightFileError, match=r"x\.h5: 'dense_1/bias_1:0': .*Received: 1 that are not"):
        save_weights(model, tmp_path / "x.h5")
    assert (tmp_path / "x.h5").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


# ---------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_no_other(error, step, network, tmp_path, monkeypatch):
    save_weights(dense(), tmp_path / "x.h5")
    before = (tmp_path / "x.h5").read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(error):
        save_weights(network, tmp_path / "x.h5")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.h5", before)]


def test_data_are_on_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    for name in "fsync", "replace":
        function = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, function=function: calls.append(name) or function(*args))
    with atomic_write(tmp_path / "film.mp4") as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".mp4")
        temporary.write_text("new")
    assert calls == ["fsync", "replace", "fsync"]  # file, name, folder


def test_a_link_is_written_through_with_the_usual_permissions(network, tmp_path):
    (tmp_path / "drive").mkdir()
    (tmp_path / "x.h5").symlink_to(tmp_path / "drive" / "real.h5")
    save_weights(network, tmp_path / "x.h5")
    assert (tmp_path / "x.h5").is_symlink()
    assert [path.name for path in (tmp_path / "drive").iterdir()] == ["real.h5"]
    (tmp_path / "usual").touch()
    assert (tmp_path / "x.h5").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_only_abandoned_temporary_files_are_removed(network, tmp_path):
    ours, recent = f".{'a' * 16}-x.h5", f".{'b' * 16}-x.h5"
    others = [f".{'a' * 16}-y.h5", ".mine-x.h5", f"{'a' * 16}-x.h5"]
    for name in [ours, recent, *others]:
        (tmp_path / name).touch()
        if name != recent:
            os.utime(tmp_path / name, (time.time() - 4000,) * 2)
    save_weights(network, tmp_path / "x.h5")
    assert {path.name for path in tmp_path.iterdir()} == {recent, "x.h5", *others}


def run(source, path):
    """Starts a Python that has no TensorFlow in it, with the signals of a shell's foreground."""
    source = f"import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{source}"
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_dqn.__file__).parents[1])}
    command = [sys.executable, "-c", source, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


SAVE_FOREVER = """
from keras_dqn.files.atomic import atomic_write

for number in range(10**9):
    with atomic_write(sys.argv[1]) as temporary:
        temporary.write_bytes(b"%09d" % number * 100_000)
    if number == 1:
        print("saving", flush=True)
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_process_stopped_at_any_instant_leaves_a_whole_file(stop, tmp_path):
    path = tmp_path / "x.h5"
    for attempt in range(5):
        with run(SAVE_FOREVER, path) as process:
            assert process.stdout.readline() == "saving\n"
            time.sleep(0.003 * attempt)
            process.send_signal(stop)
            errors = process.communicate(timeout=30)[1]
        assert process.returncode == -stop, errors
        content = path.read_bytes()
        assert content == content[:9] * 100_000 and int(content[:9]) >= 1
    left = [file for file in tmp_path.iterdir() if file != path]
    assert len(left) <= (5 if stop == signal.SIGKILL else 0)
    for file in left:
        os.utime(file, (0, 0))
    check_writable(path)
    assert list(tmp_path.iterdir()) == [path]


FULL_DISK = """
import resource
from keras_dqn.files.atomic import atomic_write

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
    with atomic_write(sys.argv[1]) as temporary:
        temporary.write_bytes(bytes(200))
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_an_oserror_and_leaves_the_old_file(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"old")
    with run(FULL_DISK, tmp_path / "x.h5") as process:
        out, errors = process.communicate(timeout=30)
    assert (out.split("] ")[1], errors) == (f"Cannot write: File too large. Received: '{tmp_path / 'x.h5'}'\n", "")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.h5", b"old")]


@pytest.mark.parametrize("function", [check_writable, lambda path: save_weights(dense(), path)])
def test_a_path_that_cannot_be_written_is_refused(function, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, error, reason in (
        ("folder", IsADirectoryError, "it is a folder, or not a regular file"),
        ("missing/x.h5", FileNotFoundError, "No such file or directory"),
        ("file/x.h5", NotADirectoryError, "Not a directory"),
        ("x" * 250 + ".h5", OSError, "File name too long"),
        ("pipe", OSError, "it is a folder, or not a regular file"),
    ):
        with pytest.raises(error) as caught:
            function(tmp_path / name)
        assert str(caught.value).endswith(f"Cannot write: {reason}. Received: {str(tmp_path / name)!r}")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "pipe"]


def test_pretrained_files_are_found_in_a_checkout_and_in_a_wheel(tmp_path, monkeypatch):
    checkout, wheel = tmp_path / "weights", tmp_path / "pretrained"
    monkeypatch.setattr(weights, "SHIPPED", [checkout, wheel])
    with pytest.raises(ValueError, match=r"weights but \[\].* Received: 'cartpole'"):
        weights.pretrained("cartpole")
    for folder, name in (checkout, "cartpole"), (checkout, "breakout"), (wheel, "cartpole"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}_weight.h5").touch()
    assert weights.pretrained("breakout") == checkout / "breakout_weight.h5"
    assert weights.pretrained("cartpole") == wheel / "cartpole_weight.h5"
    for unknown in "pong", "../weights/cartpole", "":
        with pytest.raises(ValueError, match=r"weights but \['breakout', 'cartpole'\].* Received: "):
            weights.pretrained(unknown)
