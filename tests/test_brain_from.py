"""Brains that are made of a weight file alone: every layout, files of other people in games, and hostile ones."""

import json
import resource
import zipfile

import h5py
import numpy as np
import pytest
import tf_keras

from keras_dqn import Breakout, CartPole, MountainCar, brain_from, play_here
from keras_dqn.__main__ import main
from keras_dqn.backend import keras
from keras_dqn.core.networks.atari import difference_cnn, nature_cnn
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.files.network_config import in_words, made, network_of, parsed
from keras_dqn.files.weights import WeightFileError, save_weights
from tests.test_weight_layouts import LAYOUTS, keras_rl, mixed_precision, save_like_keras_1, sequential_in_sequential
from tests.test_weights import bits, convolutional, dense, nested, odd, randomized, save_like_2017, subclassed
from tests.walker import walker, walking  # noqa: F401

pytestmark = pytest.mark.usefixtures("walker")

layers = keras.layers


def tanh(widths=(64, 32), api=keras):
    """Somebody's network on CartPole, with an activation and a dropout that its shapes do not tell."""
    hidden = [layer for width in widths for layer in (api.layers.Dense(width, "tanh"), api.layers.Dropout(0.2))]
    return api.Sequential([api.layers.Input((4,)), *hidden, api.layers.Dense(2)])


def chain(api=keras):
    """The same kind of network, Functional, with activations and a Flatten as layers."""
    inputs = api.layers.Input((4,))
    x = api.layers.Activation("relu")(api.layers.Dense(7)(api.layers.Flatten()(inputs)))
    return api.Model(inputs, api.layers.Dense(2)(api.layers.ReLU()(api.layers.Dense(5)(x))))


def pooled(api=keras):
    kinds = [
        api.layers.Conv2D(4, 3, padding="same", groups=2),
        api.layers.MaxPooling2D(),
        api.layers.AveragePooling2D(3),
    ]
    return api.Sequential([api.layers.Input((6, 6, 2)), *kinds, api.layers.Flatten(), api.layers.Dense(2)])


def residual():
    one = layers.Input((4,))
    hidden = layers.Dense(8, "relu")(one)
    return keras.Model(one, layers.Dense(2)(layers.Add()([hidden, layers.Dense(8, "relu")(hidden)])))


def shared():
    one, dense = layers.Input((4,)), layers.Dense(4)
    return keras.Model(one, layers.Dense(2)(dense(dense(one))))


def leaky():
    return keras.Sequential([layers.Input((4,)), layers.Dense(8), layers.LeakyReLU(), layers.Dense(2)])


STACKS = {
    "mlp": lambda: mlp(4, 2),
    "scaled": lambda: mlp(4, 2, (8, 8), scale=[1.0, 2.0, 3.0, 4.0]),
    "normalized and dueling": lambda: mlp(4, 2, (8,), dueling=True, normalization="layer"),
    "Nature, normalized": lambda: nature_cnn((4, 36, 36), 3, normalization="layer"),
    "differences": lambda: difference_cnn((2, 100, 90, 3), 4),
    "convolutional": convolutional,
    "pooled": pooled,
    "mixed precision": mixed_precision,
    "nested": sequential_in_sequential,
    "chain": chain,
}
NO_STACKS = {"functional": nested, "residual": residual, "shared": shared, "leaky": leaky, "odd": odd}


def states_of(model):
    shape, random = model.input_shape[1:], np.random.default_rng(0)
    if len(shape) > 1:
        return random.integers(0, 256, (3, *shape)).astype(np.uint8)
    return random.normal(size=(3, *shape)).astype(np.float32)


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("name", STACKS)
def test_a_file_that_tells_its_network_makes_the_same_brain(name):
    theirs = STACKS[name]()
    states, outputs = states_of(theirs), np.asarray(theirs(states_of(theirs)))
    if name == "mixed precision":  # ours computes in float32, which bfloat16 comes within no bound of
        twin = mixed_precision("float32")
        twin.set_weights(theirs.get_weights())
        outputs = np.asarray(twin(states))
    for layout in "ours.h5", "whole.h5", "zipped.keras":
        LAYOUTS[layout](theirs, layout)
        ours = brain_from(layout)
        assert bits(ours) == bits(theirs) and network_of(ours) == network_of(theirs)
    np.testing.assert_allclose(ours(states), outputs, rtol=1e-5, atol=1e-6)
    again = made(parsed(json.dumps(network_of(theirs))), theirs.count_params())
    assert again.count_params() == theirs.count_params()


@pytest.mark.parametrize("name", NO_STACKS)
def test_what_is_no_stack_says_to_give_the_brain(name):
    """And never a `network`, though the kernels of a residual one go together like those of a chain."""
    theirs = NO_STACKS[name]()
    assert network_of(theirs) is None
    theirs.save("x.keras")
    same_shapes = {"hidden": [weights.shape[1] for weights in theirs.get_weights() if weights.ndim == 2][:-1]}
    for call in (
        lambda: brain_from("x.keras"),
        lambda: CartPole(weights="x.keras", weight_backup=None),
        lambda: CartPole(weights="x.keras", weight_backup=None, network=same_shapes),
    ):
        with pytest.raises(WeightFileError) as caught:
            call()
        assert str(caught.value).startswith("x.keras: ")
        assert "its kernels are (" in str(caught.value) and "`network`" not in str(caught.value)
        assert "; give `brain`, a Keras model with these layers. Received: " in str(caught.value)


@pytest.mark.parametrize("layout", ["whole.h5", "zipped.keras"])
@pytest.mark.parametrize("build", [dense, convolutional, tanh, chain, pooled])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file", "ignore:.*state_updates")
def test_whole_models_of_keras_2_tell_their_network(build, layout):
    theirs = build(api=tf_keras)
    theirs.save(layout)
    brain = brain_from(layout)
    assert bits(brain) == bits(theirs)
    np.testing.assert_allclose(brain(states_of(brain)), theirs(states_of(brain)), rtol=1e-5, atol=1e-5)
    assert [layer.rate for layer in brain.layers if isinstance(layer, layers.Dropout)] == [
        layer.rate for layer in theirs.layers if isinstance(layer, tf_keras.layers.Dropout)
    ]


@pytest.mark.parametrize("save", [save_like_2017, save_like_keras_1])
def test_files_of_old_times(save):
    theirs = randomized(dense())
    save(theirs, "x.h5")
    kinds = [
        {"class_name": "Dense", "config": {"output_dim": 5, "activation": "relu", "input_dim": 4}},
        {"class_name": "Dense", "config": {"output_dim": 5, "activation": "relu", "bias": True}},
        {"class_name": "Dense", "config": {"output_dim": 2, "activation": "linear"}},
    ]
    with h5py.File("x.h5", "r+") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": kinds}).encode()
    ours = brain_from("x.h5")
    assert bits(ours) == bits(theirs) and network_of(ours) == network_of(theirs)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_the_lambda_of_keras_rl_is_known_for_a_dueling_network_and_for_no_other():
    (theirs := keras_rl()).save("x.h5")
    brain = CartPole(weights="x.h5", weight_backup=None, network={"hidden": (8,), "dueling": True}).agent.brain
    np.testing.assert_allclose(brain(states_of(brain)), theirs(states_of(brain)), rtol=1e-5, atol=1e-6)
    with pytest.raises(WeightFileError, match="give `brain`"):
        CartPole(weights="x.h5", weight_backup=None, network={"hidden": (8,)})


def test_activations_in_layers_of_their_own_become_their_layers():
    assert in_words(network_of(chain())) == "Dense 7 relu, Dense 5 relu, Dense 2"


def test_a_file_without_a_configuration_says_what_to_give():
    tf_keras.Sequential.save_weights(tanh(api=tf_keras), "x.h5")
    hint = '{"hidden": (64, 32), "activation": "relu"}'
    words = "the file does not tell its network (it has no configuration): its kernels are (4, 64), (64, 32), (32, 2)"
    with pytest.raises(WeightFileError) as caught:
        CartPole(weights="x.h5")
    assert f"x.h5: {words}; give `network`, like {hint}, with their activation. Received: x.h5" in str(caught.value)
    assert CartPole(weights="x.h5", network=eval(hint)).agent.brain.count_params() == tanh().count_params()
    mlp(4, 2, (6,), dueling=True).save_weights("x.weights.h5")
    with pytest.raises(WeightFileError, match='"activation": "relu", "dueling": True}, with'):
        brain_from("x.weights.h5")
    save_weights(subclassed(), "x.h5")
    with pytest.raises(WeightFileError, match="it has no configuration"):
        brain_from("x.h5")


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


@pytest.mark.parametrize("asked", [{"network": {"hidden": (24, 24)}}, {"brain": mlp(4, 2)}])
def test_a_network_that_is_asked_for_and_not_the_files_is_refused(asked):
    """Its activation is another, which no shape tells."""
    tanh((24, 24)).save("x.h5")
    with pytest.raises(
        WeightFileError, match="x.h5: the file's network is another: Dense 24 tanh.*; leave out"
    ) as caught:
        CartPole(weights="x.h5", weight_backup=None, **asked)
    assert str(caught.value).endswith("Received: Dense 24 relu, Dense 24 relu, Dense 2")
    for brain in tanh((24, 24)), leaky():  # the file's, and one that nobody can describe
        brain.save("y.keras")
        game = CartPole(weights="y.keras", weight_backup=None, brain=keras.models.clone_model(brain))
        assert bits(game.agent.brain) == bits(brain)
    mlp(4, 2, (24, 24), "tanh").save("z.h5")
    assert CartPole(weights="z.h5", weight_backup=None, network={"hidden": (24, 24), "activation": "tanh"})


@pytest.mark.parametrize("name", ["x.h5", "x.keras", "x.weights.h5"])
def test_weights_of_another_game_are_named(name):
    words = "x.*: these are weights of a network with 4 inputs and 2 actions; MountainCar has 2 and 3. Received: "
    for model in tanh(), tanh((8,) * 12), mlp(4, 2, (8,), dueling=True):
        (model.save_weights if "weights" in name else model.save)(name)
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
    theirs = randomized(tanh((12,)))
    theirs.save("theirs.keras")
    line = "theirs.keras brings its network: Dense 12 tanh, Dropout 0.2, Dense 2\n"
    assert main(["evaluate", "cartpole", "--weights", "theirs.keras", "--episodes", "2"]) == 0
    assert (score := capsys.readouterr().out).startswith(f"{line}mean ")
    theirs.save_weights("x.weights.h5")
    played = ["evaluate", "cartpole", "--weights", "x.weights.h5", "--episodes", "2"]
    assert main(played) == 2
    assert 'give --network, like {"hidden": (12,), "activation": "relu"}' in capsys.readouterr().err
    assert main([*played, "--network", '{"hidden": (12,), "activation": "tanh"}']) == 0
    assert capsys.readouterr().out == score.removeprefix(line)


# ---------------------------------------------------------------- hostile files


def stack(*configs, shape=(4,)):
    inputs = {"class_name": "InputLayer", "config": {"batch_shape": [None, *shape]}}
    return {"class_name": "Sequential", "config": {"layers": [inputs, *configs]}}


def layer(kind, **config):
    return {"class_name": kind, "config": config}


def functional(*nodes, output="c"):
    """A Dense "b" and a Dense "c" behind an input "a", with such inbound nodes."""
    kinds = [layer("InputLayer", batch_shape=[None, 4]), layer("Dense", units=5), layer("Dense", units=2)]
    layers = [
        {**kind, "name": name, "inbound_nodes": node} for kind, name, node in zip(kinds, "abc", nodes, strict=True)
    ]
    return {"class_name": "Functional", "config": {"layers": layers, "output_layers": [[output, 0, 0]]}}


A, B = ["a", 0, 0, {}], ["b", 0, 0, {}]
CODE = {"class_name": "function", "module": "os", "config": "system"}
HUGE = layer("Conv2D", filters=3000, kernel_size=1)
HOSTILE = [  # what the message says, and of which configuration
    ("16,777,216 parameters", stack(layer("Dense", units=2**22))),
    ("numbers and words for the options of Dense", stack(layer("Dense", units=2**70))),
    ("numbers and words for the options of Dense", stack(layer("Dense", units=2, activation=CODE))),
    ("'/': expected the 2 tensors", stack(layer("Dense", units=2, kernel_initializer=CODE))),  # nobody looked at it
    ("options of Dropout", stack(layer("Dropout", rate=float("nan")), layer("Dense", units=2))),
    ("expected a positive integer", stack(layer("Dense", units=2.5))),
    ("identifier: eval", stack(layer("Dense", units=2, activation="eval"))),
    ("rate=1.5", stack(layer("Dropout", rate=1.5), layer("Dense", units=2))),
    ("Received: 'Lambda' of 'keras'", stack(layer("Lambda", function=["4wEA", None, None]))),
    ("Received: 'Dense' of 'os.path'", stack({**layer("Dense", units=2), "module": "os.path"})),
    ("expected states of 1 to 4,194,304 numbers", stack(layer("Dense", units=2), shape=(2**12, 2**13))),
    ("expected states of 1 to 4,194,304 numbers", stack(layer("Dense", units=2), shape=(0,))),
    ("outputs of shape (84, 84, 3000)", stack(HUGE, shape=(84, 84, 1))),
    ("kernel shape=(9, 9, 1, 1)", stack(layer("Conv2D", filters=1, kernel_size=9), shape=(8, 8, 1))),
    ("'/': expected the 0 tensors", stack(layer("Rescaling", scale=[1.0, 2.0, 3.0, 4.0]))),
    ("IndexError", stack(layer("Permute", dims=[2, 1]))),
    ("that the file has room for", stack(*[layer("Dense", units=2)] * 200)),
    ("configuration of at most 131072 bytes", stack(*[layer("Dense", units=2)] * 5000)),
    ("IndexError", {"class_name": "Sequential", "config": {"layers": []}}),
    ("TypeError", "Sequential"),
    ("expected one layer after the other. Received: 'c' after ['b', 'a']", functional([], [[A]], [[B, A]])),
    ("Received: 'b' after ['a', 'a']", functional([], [[A], [A]], [[B]])),
    ("Received: 'the output' after ['b']", functional([], [[A]], [[B]], output="b")),
]


@pytest.mark.parametrize(("message", "config"), HOSTILE)
def test_a_hostile_configuration_is_refused_before_it_takes_room(message, config):
    save_weights(dense(), "x.h5")
    with h5py.File("x.h5", "r+") as file:
        del file.attrs["network"]
    with h5py.File("x.h5") as weights, h5py.File("y.h5", "w", libver="latest") as file:  # for attributes of any length
        for name in weights:
            weights.copy(name, file)
        file.attrs["layer_names"] = weights.attrs["layer_names"]
        file.attrs["model_config"] = json.dumps(config)
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(WeightFileError) as caught:
        brain_from("y.h5")
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 5 and after.ru_maxrss - before.ru_maxrss < 100_000  # kB
    assert message in str(caught.value) and str(caught.value).startswith("y.h5: ") and len(str(caught.value)) < 2000


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "NaN", "\xff", '{"class_name": 1e999}', "1" * 10_000, ""])
def test_a_configuration_that_is_no_json_is_refused(text):
    dense().save("whole.keras")
    with zipfile.ZipFile("whole.keras") as whole, zipfile.ZipFile("x.keras", "w") as file:
        file.writestr("config.json", text.encode("latin-1"))
        file.writestr("model.weights.h5", whole.read("model.weights.h5"))
    with pytest.raises(WeightFileError, match=r"x.keras: .*Received: "):
        brain_from("x.keras")


def test_damaged_configurations_are_read_or_refused():
    """One letter changed in each."""
    text, random = json.dumps(network_of(mlp(4, 2, (8,), scale=2.0, dueling=True))), np.random.default_rng(3)
    refused = told = 0
    for _ in range(300):
        at = int(random.integers(len(text)))
        try:
            network = parsed(text[:at] + chr(random.integers(32, 127)) + text[at + 1 :])
            made(network, 100)
            told += 1
        except Exception:
            refused += 1
    assert refused > 100 and told > 10
