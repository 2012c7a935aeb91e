"""Every layout of weight files into the agents that users have; runs with the oldest Keras and TensorFlow as well."""

import functools
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tf_keras

from keras_dqn.core.agent import Agent
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.files.weights import load_weights, save_weights
from tests.test_weights import (
    assert_refused,
    bits,
    convolutional,
    custom,
    dense,
    nested,
    odd,
    randomized,
    subclassed,
    trained,
)
from tests.walker import walker, walking  # noqa: F401

pytestmark = pytest.mark.usefixtures("walker")

# ---------------------------------------------------------------- agents


def mixed_precision(dtype="mixed_bfloat16"):
    layers = [keras.layers.Dense(5, "relu", dtype=dtype) for _ in range(2)]
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2, dtype="float32")])


def sequential_in_sequential():
    torso = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "relu"), dense()])
    return keras.Sequential([keras.Input((4,)), torso, keras.layers.Dense(2)])


def compiled_with_metrics():
    model = dense()
    model.compile(keras.optimizers.Adam(), "mse", metrics=["mae"], weighted_metrics=[keras.metrics.MeanSquaredError()])
    model.train_on_batch(np.ones((2, 4)), np.ones((2, 2)))
    return model


AGENTS = {  # two kinds of acting
    "scaled and dueling": lambda: mlp(4, 2, (8, 8), scale=[1.0, 2.0, 3.0, 4.0], dueling=True),
    "convolutional": convolutional,
}
NETWORKS = {  # that users bring along
    "dense": dense,
    "compiled with metrics": compiled_with_metrics,
    "mixed precision": mixed_precision,
    "functional": nested,
    "nested": sequential_in_sequential,
    "subclassed": subclassed,
    "sub-layers in lists and dicts": custom,
    "odd": odd,
}


@functools.cache
def agent_of(name, which):
    """One of two agents with such a brain: compiled, and its optimizer built, as agents are."""
    state_size = (6, 6, 2) if name == "convolutional" else 4
    return Agent(state_size, 2, None, brain=AGENTS[name](), seed=which)


@functools.cache
def network_of(name, which):
    return (dense if which and name == "compiled with metrics" else NETWORKS[name])()


LAYOUTS = {
    "ours.h5": save_weights,
    "whole.h5": lambda model, path: model.save(path),
    "numbered.weights.h5": lambda model, path: model.save_weights(path),
    "zipped.keras": lambda model, path: model.save(path),
}
SAVES_LISTS_IN_LISTS = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 15)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_takes_the_weights_of_another(name, layout, tmp_path):
    random, theirs, ours = np.random.default_rng(0), agent_of(name, 0), agent_of(name, 1)
    for agent in (theirs, ours):
        agent.brain.set_weights([random.uniform(0.1, 1, weight.shape) for weight in agent.brain.get_weights()])
    states = random.normal(size=(5, *ours.state_shape)).astype(np.float32)
    LAYOUTS[layout](theirs.brain, tmp_path / layout)
    ours.load_model(tmp_path / layout)
    assert bits(ours.brain) == bits(theirs.brain)
    theirs.learner.weights_assigned = True
    np.testing.assert_allclose(ours.q_values(states), theirs.q_values(states), rtol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_the_weights_of_another(name, layout, tmp_path):
    if name == "subclassed" and layout in ("whole.h5", "zipped.keras"):
        return  # Keras writes none of a model that no configuration makes
    theirs, ours = (randomized(network_of(name, which), which) for which in range(2))
    LAYOUTS[layout](theirs, tmp_path / layout)
    if name.startswith("sub-layers") and layout in ("numbered.weights.h5", "zipped.keras") and not SAVES_LISTS_IN_LISTS:
        assert_refused(ours, tmp_path / layout, "tensors of the network")
    elif name == "odd" and layout == "whole.h5":  # nobody can read the bfloat16 that Keras writes there
        assert_refused(ours, tmp_path / layout, "cannot be loaded. Received: ")
    else:
        load_weights(ours, tmp_path / layout)
        assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("name", ["whole.h5", "weights_only.h5", "numbered.weights.h5", "zipped.keras"])
@pytest.mark.parametrize("build", [convolutional, nested])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file", "ignore:.*state_updates")
def test_files_of_keras_2_are_read(build, name, tmp_path):
    theirs, ours = trained(build(tf_keras), tf_keras), build()
    randomized(theirs)
    (theirs.save_weights if "weights" in name else theirs.save)(tmp_path / name)
    load_weights(ours, tmp_path / name)
    assert bits(ours) == bits(theirs)


def test_the_first_keras_files_of_keras_2_are_read(tmp_path):
    """Up to TensorFlow 2.12 they called the layers of a model its checkpoint dependencies."""
    theirs, ours = randomized(convolutional()), convolutional()
    theirs.save_weights(tmp_path / "x.weights.h5")
    with h5py.File(tmp_path / "x.weights.h5", "r+") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    load_weights(ours, tmp_path / "x.weights.h5")
    assert bits(ours) == bits(theirs)


# ---------------------------------------------------------------- what else Keras reads


def copied(source, target, **options):
    """A file with each tensor written in another way."""
    with h5py.File(source) as old, h5py.File(target, "w", userblock_size=options.pop("userblock_size", 0)) as new:

        def copy(name, item):
            if isinstance(item, h5py.Dataset) and item.shape:
                new.create_dataset(name, data=item[()], **options)
            elif isinstance(item, h5py.Dataset):
                new[name] = item[()]
            else:
                new.require_group(name)
            new[name].attrs.update(item.attrs)

        new.attrs.update(old.attrs)
        old.visititems(copy)


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"chunks": True}, {"userblock_size": 512}])
@pytest.mark.parametrize("layout", ["whole.h5", "numbered.weights.h5"])
def test_tensors_stored_in_another_way_are_read(layout, options, tmp_path):
    theirs, ours = randomized(dense()), dense()
    LAYOUTS[layout](theirs, tmp_path / layout)
    copied(tmp_path / layout, tmp_path / "x.h5", **options)
    if "userblock_size" in options:
        content = (tmp_path / "x.h5").read_bytes()
        (tmp_path / "x.h5").write_bytes(b"made by hand\n".ljust(512) + content[512:])
    load_weights(ours, tmp_path / "x.h5")
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_else_is_in_a_file_is_passed_over(layout, tmp_path):
    theirs, ours = randomized(dense()), dense()
    LAYOUTS[layout](theirs, tmp_path / layout)
    inside = "model.weights.h5" if layout.endswith(".keras") else layout
    if inside != layout:
        with zipfile.ZipFile(tmp_path / layout) as archive:
            archive.extract(inside, tmp_path)
    with h5py.File(tmp_path / inside, "r+") as file:
        file["rewards"], file["notes/text"], file["notes/flag"] = np.arange(5.0), "by hand", True
        file["notes/circle"], file["type"], file["nothing"] = file["/"], np.dtype("f4"), h5py.Empty("f4")
        file.attrs["author"] = "somebody"
    load_weights(ours, tmp_path / inside)
    if inside != layout:
        with zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / inside, inside)
            archive.writestr("notes.txt", "by hand")
        load_weights(randomized(ours, seed=1), tmp_path / "x.keras")
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("layout", ["whole.h5", "numbered.weights.h5", "zipped.keras"])
def test_other_floats_are_converted(layout, tmp_path):
    """float64 with the two moments of Adam, and float16."""
    for dtype in "float64", "float16":
        layers = [keras.layers.Dense(width, dtype=dtype) for width in (5, 5, 2)]
        theirs, ours = trained(keras.Sequential([keras.Input((4,)), *layers]), keras), dense()
        LAYOUTS[layout](theirs, tmp_path / layout)
        load_weights(ours, tmp_path / layout)
        for mine, other in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_array_equal(np.asarray(mine), np.asarray(other).astype(np.float32))


def test_weights_in_bfloat16_are_stored_in_float32_and_those_of_keras_are_read(tmp_path):
    theirs, ours = randomized(odd()), odd()
    save_weights(theirs, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["dense_1/kernel_0:0"].dtype == np.float32
        assert file["normalization_0/count_2:0"].dtype.kind == "i"
    theirs.save_weights(tmp_path / "x.weights.h5")
    into_float32 = [
        keras.layers.Normalization(),
        keras.layers.Dense(5),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(2),
    ]
    ours = keras.Sequential([keras.Input((4,)), *into_float32])
    load_weights(ours, tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(np.asarray(ours.weights[3]), np.asarray(theirs.weights[3]).astype(np.float32))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file", "ignore:.*state_updates")
def test_depthwise_convolutions_of_keras_2_are_read(tmp_path):
    """Whose kernels had another name."""
    theirs, ours = (
        api.Sequential([api.layers.Input((6, 6, 2)), api.layers.DepthwiseConv2D(3, depth_multiplier=2)])
        for api in (tf_keras, keras)
    )
    randomized(theirs).save(tmp_path / "x.h5")
    load_weights(ours, tmp_path / "x.h5")
    assert bits(ours) == bits(theirs)


# ---------------------------------------------------------------- Keras 1, and 2 in its first year


def save_like_keras_1(model, path, end=":0", **attributes):
    """The weights of Keras 1: tensors called "dense_1_W:0"."""
    words = {"kernel": "W", "bias": "b", "moving_mean": "running_mean", "moving_variance": "running_std"}
    layers = [layer for layer in model.layers if layer.weights]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([layer.name for layer in layers], dtype="S")
        file.attrs.update(attributes)
        for layer in layers:
            names = [f"{layer.name}_{words.get(v.name, v.name)}{end}" for v in layer.weights]
            file.create_group(layer.name).attrs["weight_names"] = np.array(names, dtype="S")
            for name, variable in zip(names, layer.weights, strict=True):
                file[layer.name][name] = np.asarray(variable)


@pytest.mark.parametrize("build", [dense, convolutional])
def test_files_of_keras_1_are_read(build, tmp_path):
    theirs, ours = randomized(build()), build()
    save_like_keras_1(theirs, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file, h5py.File(tmp_path / "whole.h5", "w") as whole:
        file.copy("/", whole, "model_weights")
        whole["model_weights"].attrs["layer_names"] = file.attrs["layer_names"]
    for name in "x.h5", "whole.h5":
        load_weights(randomized(ours, seed=1), tmp_path / name)
        assert bits(ours) == bits(theirs)


def test_kernels_that_theano_turned_round_are_refused(tmp_path):
    """Its tensors lack the ":0" of TensorFlow's in Keras 1; Keras 2 says its backend."""
    ours = randomized(convolutional())
    save_like_keras_1(ours, tmp_path / "1.h5", end="")
    save_like_keras_1(ours, tmp_path / "2.h5", backend=b"theano", keras_version=b"2.0.4")
    for name in "1.h5", "2.h5":
        assert_refused(ours, tmp_path / name, "Received: one that Keras wrote with Theano")


# ---------------------------------------------------------------- keras-rl


def join(outputs):
    return outputs[:, :1] + outputs[:, 1:] - tf_keras.backend.mean(outputs[:, 1:], axis=1, keepdims=True)


def keras_rl():
    """A dueling network as keras-rl makes it: a Dense layer, the value in its first column, and a Lambda that joins."""
    inputs = tf_keras.layers.Input((4,))
    outputs = tf_keras.layers.Dense(3)(tf_keras.layers.Dense(8, "relu")(inputs))
    return tf_keras.Model(inputs, tf_keras.layers.Lambda(join)(outputs))


@pytest.mark.parametrize("name", ["weights_only.h5", "whole.h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_the_value_of_a_dueling_file_of_keras_rl_is_found(name, tmp_path):
    theirs, states = keras_rl(), np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    theirs.set_weights([weight + 0.1 for weight in theirs.get_weights()])
    (theirs.save_weights if name == "weights_only.h5" else theirs.save)(tmp_path / name)
    agent = Agent(4, 2, None, network={"hidden": (8,), "dueling": True})
    agent.load_model(tmp_path / name)
    np.testing.assert_allclose(agent.q_values(states), theirs(states), rtol=1e-5, atol=1e-6)
    load_weights(agent.brain, tmp_path / name, value_first=False)
    assert bits(agent.brain) == bits(theirs)  # the columns where they were


def test_where_a_dueling_file_cannot_tell_its_reader_can(tmp_path):
    """A file that keeps nothing of the layer that joins value and advantages."""
    layers = [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(3)]
    theirs, ours = randomized(keras.Sequential(layers)), mlp(4, 2, (8,), dueling=True)
    save_weights(theirs, tmp_path / "x.h5")
    load_weights(ours, tmp_path / "x.h5")
    assert bits(ours) == bits(theirs)
    load_weights(ours, tmp_path / "x.h5", value_first=True)
    for got, stored in zip(ours.weights[2:], theirs.weights[2:], strict=True):
        np.testing.assert_array_equal(np.asarray(got)[..., -1], np.asarray(stored)[..., 0])
        np.testing.assert_array_equal(np.asarray(got)[..., :-1], np.asarray(stored)[..., 1:])
    assert bits(ours)[:2] == bits(theirs)[:2]
    with pytest.raises(ValueError, match="`value_first` is about the head of a dueling network. Received: <Sequential"):
        load_weights(theirs, tmp_path / "x.h5", value_first=True)
