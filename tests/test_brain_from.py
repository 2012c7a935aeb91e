"""Brains that are made of a weight file alone: every layout, files of other people in games, and hostile ones."""

import inspect
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tf_keras

from keras_dqn import Breakout, CartPole, MountainCar, brain_from, play_here
from keras_dqn.__main__ import main
from keras_dqn.backend import keras
from keras_dqn.commands.options import NETWORK
from keras_dqn.core.networks.atari import difference_cnn, nature_cnn
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.files.brain_from import kernels, network_in
from keras_dqn.files.network_config import network_of
from keras_dqn.files.weights import WeightFileError, save_weights
from tests.test_hostile_files import at_most, mutated, save_like_keras_1
from tests.test_weight_layouts import BRAINS, LAYOUTS, mixed_precision
from tests.test_weights import bits, convolutional, dense, randomized, save_like_2017

layers = keras.layers
OURS = {
    "mlp": lambda: mlp(4, 2),
    "normalized and dueling": lambda: mlp(4, 2, (8,), dueling=True, normalization="layer"),
    "Nature": lambda: nature_cnn((4, 36, 36), 3),
    "Nature, normalized": lambda: nature_cnn((4, 36, 36), 3, normalization="layer"),
    "differences": lambda: difference_cnn((2, 100, 90, 3), 4),
}
NETWORKS = {**{name: make for name, make in BRAINS.items() if make is not None}, **OURS}
NO_STACKS = ("functional", "subclassed", "sub-layers in lists and dicts")


def tanh(widths=(64, 32), api=keras):
    """Somebody's network on CartPole, with an activation and a dropout that its shapes do not tell."""
    hidden = [layer for width in widths for layer in (api.layers.Dense(width, "tanh"), api.layers.Dropout(0.2))]
    return api.Sequential([api.layers.Input((4,)), *hidden, api.layers.Dense(2)])


def chain(api=keras):
    """The same kind of network, Functional, with activations and a Flatten as layers."""
    inputs = api.layers.Input((4,))
    x = api.layers.Activation("relu")(api.layers.Dense(7)(api.layers.Flatten()(inputs)))
    return api.Model(inputs, api.layers.Dense(2)(api.layers.ReLU()(api.layers.Dense(5)(x))))


def states_of(model):
    shape, random = model.input_shape[1:], np.random.default_rng(0)
    if len(shape) > 1:
        return random.integers(0, 256, (3, *shape)).astype(np.uint8)
    return random.normal(size=(3, *shape)).astype(np.float32)


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_that_tells_its_network_makes_the_same_brain(name, layout):
    theirs = NETWORKS[name]()
    LAYOUTS[layout](theirs, layout)
    if name in NO_STACKS or layout == "numbered.weights.h5":
        shapes = ", ".join(str(shape) for _, shape in kernels(layout))
        with pytest.raises(WeightFileError) as caught:
            brain_from(layout)
        assert f"its kernels are {shapes}; give `" in str(caught.value) and "Received: " in str(caught.value)
        return
    ours = brain_from(layout)
    assert bits(ours) == bits(theirs) and network_of(ours) == network_of(theirs)
    if name == "mixed precision":  # ours computes in float32, which bfloat16 comes within no bound of
        theirs = mixed_precision("float32")
        theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(states_of(theirs)), theirs(states_of(theirs)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["whole.h5", "zipped.keras"])
@pytest.mark.parametrize("build", [dense, convolutional, tanh, chain])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file", "ignore:.*state_updates")
def test_whole_models_of_keras_2_tell_their_network(build, name):
    theirs = randomized(build(api=tf_keras))
    theirs.save(name)
    ours = brain_from(name)
    assert bits(ours) == bits(theirs) and network_of(ours) == network_of(theirs)
    assert [layer.rate for layer in ours.layers if isinstance(layer, layers.Dropout)] == [
        layer.rate for layer in theirs.layers if isinstance(layer, tf_keras.layers.Dropout)
    ]


@pytest.mark.parametrize("save", [save_like_2017, save_like_keras_1])
def test_files_of_old_times(save):
    theirs = randomized(dense())
    save(theirs, "x.h5")
    with h5py.File("x.h5", "r+") as file:
        file.attrs["model_config"] = json.dumps(
            {
                "class_name": "Sequential",
                "config": [
                    {"class_name": "Dense", "config": {"output_dim": 5, "activation": "relu", "input_dim": 4}},
                    {"class_name": "Dense", "config": {"output_dim": 5, "activation": "relu", "bias": True}},
                    {"class_name": "Dense", "config": {"output_dim": 2, "activation": "linear"}},
                ],
            }
        ).encode()
    ours = brain_from("x.h5")
    assert bits(ours) == bits(theirs) and network_of(ours) == network_of(theirs)


def test_activations_in_layers_of_their_own_become_their_layers():
    theirs = randomized(chain())
    theirs.save("x.keras")
    assert str(network_in("x.keras")) == "Dense 7 relu, Dense 5 relu, Dense 2"
    np.testing.assert_allclose(brain_from("x.keras")(np.ones((1, 4))), theirs(np.ones((1, 4))))


def test_a_file_without_a_configuration_says_what_to_give():
    tf_keras.Sequential.save_weights(tanh(api=tf_keras), "x.h5")
    hint = '{"hidden": (64, 32), "activation": "relu"}'
    with pytest.raises(WeightFileError) as caught:
        CartPole(weights="x.h5")
    words = "the file does not tell its network (it has no configuration): its kernels are (4, 64), (64, 32), (32, 2)"
    assert f"x.h5: {words}; " in str(caught.value)
    assert f"give `network`, like {hint}, with their activation. Received: x.h5" in str(caught.value)
    assert CartPole(weights="x.h5", network=eval(hint)).agent.brain.count_params() == tanh().count_params()
    mlp(4, 2, (6,), dueling=True).save_weights("x.weights.h5")
    with pytest.raises(WeightFileError, match='"activation": "relu", "dueling": True}, with'):
        brain_from("x.weights.h5")


# ---------------------------------------------------------------- games


@pytest.mark.parametrize("name", ["theirs.h5", "theirs.keras"])
def test_a_game_plays_a_network_of_other_widths(name, capsys):
    theirs = randomized(tanh())
    theirs.save(name)
    game = CartPole(weights=name, seed=0)
    line = f"{name} brings its network: Dense 64 tanh, Dropout 0.2, Dense 32 tanh, Dropout 0.2, Dense 2\n"
    assert capsys.readouterr().out == line
    states = states_of(theirs)
    np.testing.assert_allclose(game.agent.q_values(states), theirs(states), rtol=1e-5, atol=1e-4)
    assert bits(game.agent.brain) == bits(theirs) and game.settings["brain"]["class"] == "Sequential"
    page = play_here("cartpole", weights=name)
    assert play_here(game).html == page.html and page.html.count("tanh") >= 2


def test_what_is_trained_from_it_comes_back_with_its_network(capsys):
    tanh((8,)).save("theirs.h5")
    game = CartPole(weights="theirs.h5", recipe="fast", steps=140, seed=0)
    game.train(progress=False)
    capsys.readouterr()
    again = CartPole(weights="cartpole_fast_weight.h5", recipe="fast", seed=0)
    assert "cartpole_fast_weight.h5 brings its network: Dense 8 tanh, Dropout 0.2, Dense 2\n" in capsys.readouterr().out
    np.testing.assert_array_equal(again.agent.learner.read_weights(), game.agent.learner.read_weights())


def test_a_network_of_the_same_shapes_is_its_own_all_the_same():
    keras.Sequential([layers.Input((4,)), *[layers.Dense(24, "tanh") for _ in range(2)], layers.Dense(2)]).save("x.h5")
    assert CartPole(weights="x.h5").agent.brain.layers[0].activation is keras.activations.tanh


def test_the_recipes_own_network_stays_what_it_is(capsys):
    save_weights(CartPole(recipe="fast", weights=None).agent.brain, "x.h5")
    plain = CartPole(recipe="fast", weights="x.h5", seed=0)
    assert plain.settings == CartPole(recipe="fast", weights=None, seed=0).settings
    assert "brings" not in capsys.readouterr().out


def test_what_the_caller_says_of_the_network_goes_before_what_the_file_says():
    tanh((24, 24)).save("x.h5")
    game = CartPole(weights="x.h5", network={"hidden": (24, 24)})
    assert game.agent.brain.layers[0].activation is keras.activations.relu
    with pytest.raises(WeightFileError, match=r"x.h5: '/model_weights/.*expected shape \(4, 8\)"):
        CartPole(weights="x.h5", network={"hidden": (8, 8)})


@pytest.mark.parametrize("name", ["x.h5", "x.keras", "x.weights.h5"])
def test_weights_of_another_game_are_named(name):
    model = tanh()
    (model.save_weights if "weights" in name else model.save)(name)
    words = "x.*: these are weights of a network with 4 inputs and 2 actions; MountainCar has 2 and 3. Received: "
    with pytest.raises(WeightFileError, match=words):
        MountainCar(weights=name)


def test_a_network_of_screens_plays_breakout():
    theirs = keras.Sequential(
        [
            layers.Input((4, 84, 84), dtype="uint8"),
            layers.Permute((2, 3, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 8, 8, activation="relu"),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    theirs.save("x.keras")
    game = Breakout(weights="x.keras", weight_backup=None, memory_size=200, learning_starts=100)
    assert bits(game.agent.brain) == bits(theirs)
    states = states_of(theirs)
    np.testing.assert_allclose(game.agent.q_values(states), theirs(states), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- the command line


def test_the_commands_play_it_and_say_which_they_found(capsys):
    randomized(tanh((12,))).save("theirs.keras")
    line = "theirs.keras brings its network: Dense 12 tanh, Dropout 0.2, Dense 2\n"
    assert main(["evaluate", "cartpole", "--weights", "theirs.keras", "--episodes", "2"]) == 0
    assert capsys.readouterr().out.startswith(f"{line}mean ")
    assert main(["run", "cartpole", "--weights", "theirs.keras", "--seed", "0", "--max-frames", "5"]) == 0
    assert capsys.readouterr().out.startswith(f"{line}Cumulative reward: ")
    assert main(["export-html", "cartpole", "--weights", "theirs.keras", "--out", "x.html"]) == 0
    assert capsys.readouterr().out == f"{line}Page: x.html\n"


def test_what_the_file_does_not_tell_the_command_line_takes(capsys):
    theirs = tanh((12,))
    theirs.save_weights("x.weights.h5")
    played = ["evaluate", "cartpole", "--weights", "x.weights.h5", "--episodes", "2"]
    assert main(played) == 2
    assert 'give --network, like {"hidden": (12,), "activation": "relu"}' in capsys.readouterr().err
    given = ["--network", '{"hidden": (12,), "activation": "tanh"}']
    assert main([*played, *given]) == 0
    score = capsys.readouterr().out
    theirs.save("x.keras")
    assert main(["evaluate", "cartpole", "--weights", "x.keras", "--episodes", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == score.splitlines()
    page = ["export-html", "cartpole", "--weights", "x.weights.h5", "--out", "x.html"]
    assert main([*page, *given]) == 0 and "tanh" in Path("x.html").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("64", '--network must be options, like {"hidden": (64, 64)}. Received: 64'),
        ("__import__('os')", "--network must be options, like"),
        ("{'hiden': (64,)}", "there is no option of that name; the nearest is hidden. Received: hiden"),
        ("{'hidden': 64}", "hidden has another value. Received: 64"),
    ],
)
def test_a_network_that_is_none_is_refused(text, message, capsys):
    assert main(["evaluate", "cartpole", "--weights", "none", "--network", text]) == 2
    assert message in capsys.readouterr().err


def test_the_options_of_a_network_are_those_of_mlp():
    parameters = inspect.signature(mlp).parameters
    assert [*NETWORK] == [*parameters][2:-1]
    defaults = {name: parameters[name].default for name in NETWORK}
    assert all(NETWORK[name](value) for name, value in defaults.items() if value is not None)


# ---------------------------------------------------------------- hostile files


def stack(*configs, shape=(4,)):
    inputs = {"class_name": "InputLayer", "config": {"batch_shape": [None, *shape]}}
    return {"class_name": "Sequential", "config": {"layers": [inputs, *configs]}}


def layer(kind, **config):
    return {"class_name": kind, "config": config}


DEEP = stack(layer("Dense", units=2))
for _ in range(90):
    DEEP = {"class_name": "Sequential", "config": {"layers": [DEEP, DEEP] if _ < 8 else [DEEP]}}
DEEP = stack(DEEP)
HOSTILE = {
    "more units than bytes": (stack(layer("Dense", units=2**22)), "expected room for"),
    "units beyond counting": (stack(layer("Dense", units=2**70)), "units: expected a whole number"),
    "true for a number": (stack(layer("Dense", units=True)), "units: expected a whole number"),
    "a fraction": (stack(layer("Dense", units=2.5)), "units: expected a whole number"),
    "an activation that is code": (stack(layer("Dense", units=2, activation="eval")), "activation: expected one of"),
    "an activation that is an object": (
        stack(layer("Dense", units=2, activation={"class_name": "function"})),
        "activation: expected one of",
    ),
    "code": (stack(layer("Lambda", function=["4wEA", None, None])), "Received: 'Lambda'"),
    "another module's Dense": (
        stack({"module": "os.path", "class_name": "Dense", "config": {"units": 2}}),
        "Received: one of 'os.path'",
    ),
    "a state of many axes": (stack(layer("Dense", units=2), shape=[1] * 20), "expected a list of at most 10"),
    "a state beyond memory": (stack(layer("Dense", units=2), shape=(2**12, 2**13)), "expected 1 to 16,777,216"),
    "a convolution that fills the memory": (
        stack(layer("Conv2D", filters=3000, kernel_size=1), shape=(84, 84, 1)),
        "expected 1 to 16,777,216 numbers",
    ),
    "a kernel larger than the screen": (
        stack(layer("Conv2D", filters=1, kernel_size=9), shape=(8, 8, 1)),
        "expected kernels that fit",
    ),
    "a dropout of all": (stack(layer("Dropout", rate=1.0), layer("Dense", units=2)), "rate: expected a number"),
    "a rate that is none": (stack(layer("Dropout", rate="NaN"), layer("Dense", units=2)), "rate: expected a number"),
    "a scale of another length": (stack(layer("Rescaling", scale=[1.0, 2.0])), "expected 4 numbers. Received: 2"),
    "an order of other axes": (stack(layer("Permute", dims=[2, 1])), "expected an order of 1 axes"),
    "too many layers": (stack(*[layer("Dense", units=2)] * 200), "expected a list of at most 100"),
    "too many layers in layers": (DEEP, "expected at most 100 layers"),
    "no layers": ({"class_name": "Sequential", "config": {"layers": []}}, "expected layers"),
    "a text": ("Sequential", "expected a Sequential"),
    "two inputs": (
        {
            "class_name": "Functional",
            "config": {
                "layers": [
                    {**layer("InputLayer", batch_shape=[None, 4]), "name": "a", "inbound_nodes": []},
                    {**layer("Dense", units=2), "name": "b", "inbound_nodes": [[["a", 0, 0, {}], ["c", 0, 0, {}]]]},
                ],
                "output_layers": [["b", 0, 0]],
            },
        },
        "expected one layer after the other",
    ),
    "outputs in the middle": (
        {
            "class_name": "Functional",
            "config": {
                "layers": [
                    {**layer("InputLayer", batch_shape=[None, 4]), "name": "a", "inbound_nodes": []},
                    {**layer("Dense", units=5), "name": "b", "inbound_nodes": [[["a", 0, 0, {}]]]},
                    {**layer("Dense", units=2), "name": "c", "inbound_nodes": [[["b", 0, 0, {}]]]},
                ],
                "output_layers": [["b", 0, 0]],
            },
        },
        "expected the last layer's outputs",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_configuration_is_refused_before_anything_is_made(name, monkeypatch):
    config, message = HOSTILE[name]
    monkeypatch.setattr("keras_dqn.files.brain_from.made", None)
    save_weights(dense(), "x.h5")
    with h5py.File("x.h5", "r+") as file:
        del file.attrs["network"]
        file.attrs["model_config"] = json.dumps(config).encode()
    with at_most(seconds=2), pytest.raises(WeightFileError) as caught:
        brain_from("x.h5")
    assert message in str(caught.value) and str(caught.value).startswith("x.h5: the file does not tell its network")
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "NaN", "\xff", '{"class_name": 1e999}', "1" * 10_000, ""])
def test_a_configuration_that_is_no_json_is_refused(text):
    dense().save("whole.keras")
    with zipfile.ZipFile("whole.keras") as whole, zipfile.ZipFile("x.keras", "w") as file:
        file.writestr("config.json", text.encode("latin-1"))
        file.writestr("model.weights.h5", whole.read("model.weights.h5"))
    with at_most(seconds=2), pytest.raises(WeightFileError, match=r"x.keras: .*Received: "):
        brain_from("x.keras")


def test_a_configuration_that_unpacks_to_any_size_is_not_unpacked():
    with zipfile.ZipFile("x.keras", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", b" " * 2**24)
        file.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n")
    with pytest.raises(WeightFileError, match="config.json of at most 1048576 bytes"):
        brain_from("x.keras")


def test_a_circle_of_groups_and_a_tree_of_all_its_ways_come_to_an_end():
    save_weights(dense(), "x.h5")
    with h5py.File("x.h5", "r+") as file:
        del file.attrs["network"]
        file["a"] = file["dense"]
        for number in range(60):  # two ways from each group to the next
            group = file.create_group(f"g{number}")
            if number:
                group["one"] = group["two"] = file[f"g{number - 1}"]
        file["dense/circle"] = file["dense"]
    with at_most(seconds=2), pytest.raises(WeightFileError, match="its kernels are "):
        brain_from("x.h5")


@pytest.mark.parametrize("layout", ["ours.h5", "whole.h5", "zipped.keras"])
def test_damaged_files_are_read_or_refused(layout):
    theirs, random, refused, told = randomized(dense()), np.random.default_rng(3), 0, 0
    LAYOUTS[layout](theirs, layout)
    content, right = Path(layout).read_bytes(), network_in(layout)
    start, length = content.find(b'"class_name"') - 20, 3000
    for number in range(400):
        damaged = mutated(content, random)
        if number % 2 and start > 0:  # in the configuration itself
            at = start + int(random.integers(length))
            damaged = content[:at] + bytes([random.integers(32, 127)]) + content[at + 1 :]
        Path("x").write_bytes(damaged)
        try:
            with at_most(seconds=5):
                network = network_in("x")
                told += network is not None and network != right
                if number % 20 == 0:
                    brain_from("x")
        except ValueError as error:
            assert len(str(error)) < 2000
            refused += 1
    assert refused > 40 and (layout == "zipped.keras" or told > 0)
