"""Every layout of weight files into the agents that users have; runs with the oldest Keras and TensorFlow as well."""

import functools

import h5py
import keras
import numpy as np
import pytest
import tf_keras

from keras_dqn.core.agent import Agent
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.files.weights import WeightFileError, load_weights, read_weights, save_weights
from tests.test_hostile_files import save_like_keras_1
from tests.test_weights import bits, convolutional, custom, dense, nested, randomized, subclassed

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
    model.fit(np.ones((2, 4)), np.ones((2, 2)), verbose=0)
    return model


BRAINS = {  # the default and those of the recipes; networks that users bring along
    "dense": None,
    "scaled": lambda: mlp(4, 2, (8, 8), scale=[1.0, 2.0, 3.0, 4.0]),
    "dueling": lambda: mlp(4, 2, (8, 8), dueling=True),
    "compiled with metrics": compiled_with_metrics,
    "convolutional": convolutional,
    "mixed precision": mixed_precision,
    "functional": nested,
    "nested": sequential_in_sequential,
    "subclassed": subclassed,
    "sub-layers in lists and dicts": custom,
}


@functools.cache
def agent_of(name, which):
    """One of two agents with such a brain: compiled, and its optimizer built, as agents are."""
    state_size = (6, 6, 2) if name == "convolutional" else 4
    return Agent(state_size, 2, None, brain=BRAINS[name] and BRAINS[name](), seed=which)


def two_agents(name):
    """Both with other weights, and states to compare them on."""
    random, agents = np.random.default_rng(0), (agent_of(name, 0), agent_of(name, 1))
    for agent in agents:
        agent.brain.set_weights([random.uniform(0.1, 1, weight.shape) for weight in agent.brain.get_weights()])
    return *agents, random.normal(size=(5, *agents[0].state_shape)).astype(np.float32)


LAYOUTS = {
    "ours.h5": save_weights,
    "whole.h5": lambda model, path: model.save(path),
    "numbered.weights.h5": lambda model, path: model.save_weights(path),
    "zipped.keras": lambda model, path: model.save(path),
}


SAVES_LISTS_IN_LISTS = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 15)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", BRAINS)
def test_an_agent_takes_the_weights_of_another(name, layout, tmp_path):
    theirs, ours, states = two_agents(name)
    LAYOUTS[layout](theirs.brain, tmp_path / layout)
    if (
        name == "sub-layers in lists and dicts"
        and layout in ("numbered.weights.h5", "zipped.keras")
        and not SAVES_LISTS_IN_LISTS
    ):
        before = bits(ours.brain)
        with pytest.raises(WeightFileError, match="'missing': .'layers/dueling/scales/container/dense/vars/0'"):
            ours.load_model(tmp_path / layout)
        assert bits(ours.brain) == before
        return
    ours.load_model(tmp_path / layout)
    assert bits(ours.brain) == bits(theirs.brain)
    theirs.learner.sync()
    np.testing.assert_allclose(ours.q_values(states), theirs.q_values(states), rtol=1e-6)


@pytest.mark.parametrize("name", ["whole.h5", "weights_only.h5", "numbered.weights.h5", "zipped.keras"])
@pytest.mark.parametrize("build", [dense, convolutional, nested])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file", "ignore:.*state_updates")
def test_an_agent_takes_the_weights_of_keras_2(build, name, tmp_path):
    theirs = randomized(build(tf_keras))
    (theirs.save_weights if "weights" in name else theirs.save)(tmp_path / name)
    name_of_ours = {dense: "compiled with metrics", convolutional: "convolutional", nested: "functional"}[build]
    ours = agent_of(name_of_ours, 0)
    ours.load_model(tmp_path / name)
    assert bits(ours.brain) == bits(theirs)


def test_the_first_keras_files_of_keras_2_are_read(tmp_path):
    """Up to TensorFlow 2.12 they called the layers of a model its checkpoint dependencies."""
    theirs, ours = randomized(convolutional()), convolutional()
    theirs.save_weights(tmp_path / "x.weights.h5")
    with h5py.File(tmp_path / "x.weights.h5", "r+") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    load_weights(ours, tmp_path / "x.weights.h5")
    assert bits(ours) == bits(theirs)


def test_weights_of_mixed_precision_are_stored_in_float32(tmp_path):
    model = randomized(mixed_precision())
    assert {layer.compute_dtype for layer in model.layers} == {"bfloat16", "float32"}
    save_weights(model, tmp_path / "x.h5")
    stored = []
    with h5py.File(tmp_path / "x.h5") as file:
        file.visititems(lambda _, item: stored.append(item.dtype) if isinstance(item, h5py.Dataset) else None)
    assert stored == [np.dtype("float32")] * 6


# ---------------------------------------------------------------- Keras 1


def test_files_of_keras_1_are_read(tmp_path):
    theirs, ours = randomized(dense()), dense()
    save_like_keras_1(theirs, tmp_path / "x.h5")
    load_weights(ours, tmp_path / "x.h5")
    assert bits(ours) == bits(theirs)
    with h5py.File(tmp_path / "x.h5") as file, h5py.File(tmp_path / "whole.h5", "w") as whole:
        file.copy("/", whole, "model_weights")
        whole["model_weights"].attrs["layer_names"] = file.attrs["layer_names"]
    load_weights(randomized(ours, seed=1), tmp_path / "whole.h5")
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("backend", ["tensorflow", "theano"])
def test_convolutions_of_keras_1_are_read_where_tensorflow_wrote_them(backend, tmp_path):
    """Theano's kernels are turned round, and its tensors lack the ":0" of TensorFlow's."""
    theirs, ours = randomized(convolutional()), convolutional()
    words = {"kernel": "W", "bias": "b", "moving_mean": "running_mean", "moving_variance": "running_std"}
    layers = [layer for layer in theirs.layers if layer.weights]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"] = np.array([layer.name for layer in layers], dtype="S")
        for layer in layers:
            names = [
                f"{layer.name}_{words.get(v.name, v.name)}{':0' * (backend == 'tensorflow')}" for v in layer.weights
            ]
            file.create_group(layer.name).attrs["weight_names"] = np.array(names, dtype="S")
            for name, variable in zip(names, layer.weights, strict=True):
                file[layer.name][name] = np.asarray(variable)
    if backend == "tensorflow":
        load_weights(ours, tmp_path / "x.h5")
        assert bits(ours) == bits(theirs)
    else:
        with pytest.raises(WeightFileError, match="/conv2d.*_W'.*Received: 'one that Keras 1 wrote with Theano"):
            load_weights(ours, tmp_path / "x.h5")


# ---------------------------------------------------------------- no weight files


@pytest.mark.parametrize(
    "content, message",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Received: a git-lfs pointer"),
        (b"\n<!DOCTYPE html>\n<html lang=en><body>Not Found", "Received: an HTML page saved under this name"),
        (b"<HTML><head>", "Received: an HTML page saved under this name"),
        (b"\x80\x02}q\x00.", "Received: a file that is not HDF5, which begins with b'\\x80\\x02}q\\x00.'"),
    ],
    ids=["git-lfs", "html", "old html", "pickle"],
)
def test_other_files_are_named_for_what_they_are(content, message, tmp_path):
    (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(WeightFileError) as caught:
        read_weights(dense(), tmp_path / "x.h5")
    assert str(caught.value).startswith(f"{tmp_path / 'x.h5'}: expected a weight file. {message}")


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
