"""Trainings in files: what is left of one does it again, the command line wins, and what is wrong is named."""

import inspect
import re
import sys
import tomllib
from pathlib import Path

import pytest

from keras_dqn import CartPole, MountainCar
from keras_dqn.__main__ import main
from keras_dqn.cli import parse
from keras_dqn.config import keywords, write
from keras_dqn.core.exploration import Linear, Pieces
from keras_dqn.core.networks.atari import nature_cnn
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.games.breakout import Breakout, clipped

FILE = """
game = "cartpole"
recipe = "fast"
seed = 7
steps = 300
evaluate_every = 100
stop_score = -5.5
verbose = true
quiet = false
weights = "none"
max_episode_steps = 50
num_envs = 3
shape_reward = "keras_dqn.games.breakout:clipped"

[agent]
gamma = 0.9
network = {hidden = [8]}
exploration = {class = "Linear", start = 1.0, end = 0.05, steps_to_end = 3000}
optimizer = {class = "SGD", learning_rate = 0.5}
"""


def given(*typed, text=FILE):
    """What a training is told by a file and by what is typed beside it."""
    Path("run.toml").write_text(text)
    return parse(["train", "--config", "run.toml", *typed])[1]


def again(content):
    """What such a file says, as keywords of a game."""
    names = {"num_envs", "max_episode_steps", "shape_reward"} & content.keys()
    return keywords({**content["agent"], **{name: content[name] for name in names}})


# ---------------------------------------------------------------- written


@pytest.mark.parametrize(
    ("game", "recipe"),
    [
        *((game, recipe) for game in (CartPole, MountainCar) for recipe in game.recipes),
        (Breakout, "nature"),
        (Breakout, "parallel"),
    ],
)
def test_every_setting_of_a_recipe_comes_back_from_its_file(game, recipe):
    small = {"memory_size": 50_000} if recipe == "nature" else {}
    runner = game(recipe=recipe, weights=None, seed=0, **small)
    write(Path("run.toml"), {"quiet": True, "config": "a.toml", "resume": True}, runner)
    said = tomllib.loads(Path("run.toml").read_text())
    assert (said["recipe"], said["episodes"], said["quiet"]) == (recipe, 200, True)
    assert not {"config", "resume"} & said.keys()
    settled = {name for name, value in runner.agent.settings.flat().items() if value is not None}
    assert said["agent"].keys() >= settled - {"learning_rate"}
    assert game(recipe=recipe, weights=None, seed=0, **again(said)).settings == runner.settings
    if game is CartPole:  # the file alone says all of it
        bare = CartPole(recipe="juvin", weights=None, **again(said))
        assert {**bare.settings, "recipe": recipe} == runner.settings


def test_a_training_is_done_again_by_what_it_left(capsys):
    typed = "--recipe fast --steps 250 --seed 3 --weights none --memory-size 2000 --quiet --target-update none --tau 1"
    assert (
        main(
            [
                "train",
                "cartpole",
                *typed.replace("--weights none ", "").split(),
                "--no-double",
                "--learning-rate",
                "0.002",
            ]
        )
        == 0
    )
    assert "Settings: cartpole_fast_weight.toml\n" in capsys.readouterr().out
    said = tomllib.loads(Path("cartpole_fast_weight.toml").read_text())
    assert (said["steps"], said["seed"], said["agent"]["memory_size"], said["quiet"]) == (250, 3, 2000, True)
    assert (
        said["agent"]["target_update"] == "none" and said["agent"]["learning_rate"] == 0.002 and "episodes" not in said
    )
    assert main(["train", "--config", "cartpole_fast_weight.toml", "--out", "again.h5"]) == 0
    assert Path("again.h5").read_bytes() == Path("cartpole_fast_weight.h5").read_bytes()
    assert main(["train", "--config", "again.toml", "--out", "third.h5", "--seed", "4"]) == 0
    assert Path("third.h5").read_bytes() != Path("again.h5").read_bytes()


# ---------------------------------------------------------------- read


def test_a_file_is_read_as_it_stands():
    told = given()
    settings = keywords({name: told[name] for name in ("gamma", "network", "exploration", "optimizer", "shape_reward")})
    assert (told["game"], told["recipe"], told["seed"], told["stop_score"]) == ("cartpole", "fast", 7, -5.5)
    assert told["verbose"] and not told["quiet"] and told["weights"] == "none" and told["steps"] == 300
    optimizer = settings.pop("optimizer")()
    assert type(optimizer).__name__ == "SGD" and float(optimizer.learning_rate) == 0.5
    assert settings == {
        "gamma": 0.9,
        "network": {"hidden": [8]},
        "exploration": Linear(1.0, 0.05, 3000),
        "shape_reward": clipped,
    }
    points = {"class": "Pieces", "points": [[0, 1.0], [100, 0.1]]}
    assert keywords({"exploration": points}) == {"exploration": Pieces((0, 1.0), (100, 0.1))}
    made = keywords({"network": "keras_dqn.core.networks.atari:nature_cnn", "optimizer": None})
    assert made == {"network": nature_cnn, "optimizer": None}
    assert keywords({"network": (64, 64)}) == {"network": {"hidden": [64, 64]}}


def test_the_file_in_the_guide_is_one():
    guide = (Path(__file__).parents[1] / "docs" / "guide.md").read_text()
    (block,) = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))*^ {4}\[agent\]\n(?:^ {4}.*\n|^\n(?= {4}))+", guide, re.MULTILINE)
    told = given(text=re.sub("^ {4}", "", block, flags=re.MULTILINE))
    assert (told["game"], told["stop_score"], told["gamma"]) == ("cartpole", 490, 0.99)
    assert keywords(told)["exploration"] == Linear(1.0, 0.05, 3000)


def test_what_is_typed_wins():
    told = given("--episodes", "9", "--memory-size", "77", "--no-verbose")
    assert (told["episodes"], told["memory_size"], told["gamma"], told["verbose"]) == (9, 77, 0.9, False)
    assert "steps" not in told, "one takes the place of the other"
    told = given("--recipe", "juvin", "--tau", "0.5")
    of_the_recipe = {"gamma", "network", "exploration", "optimizer", "num_envs", "shape_reward"}
    assert not of_the_recipe & told.keys() and (told["max_episode_steps"], told["tau"]) == (50, 0.5)
    told = given("Acrobot-v1")
    assert (told["game"], told["recipe"]) == ("Acrobot-v1", "fast") and "gamma" not in told
    told = given(
        "breakout",
        "--precision",
        "mixed_bfloat16",
        text=FILE.replace("cartpole", "breakout").replace("fast", "parallel"),
    )
    assert "network" not in told and told["gamma"] == 0.9, "it is a network of its own"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eposides = 3", "run.toml: There is no setting of that name; the nearest is episodes. Received: eposides"),
        ("[agent]\ngama = 0.9", "run.toml: There is no setting of that name; the nearest is gamma. Received: gama"),
        ("resume = true", "run.toml: There is no setting of that name"),
        ("episodes = true", "run.toml: --episodes must be a whole number, 1 or more. Received: True"),
        ("quiet = 1", "run.toml: --quiet must be True or False. Received: 1"),
        ("out = 3", "run.toml: --out must be a text. Received: 3"),
        ("[agent]\ngamma = 2", "run.toml: --gamma must be a number from 0 to 1. Received: 2"),
        ("stop_score = 9", "--stop-score needs --evaluate-every. Received: stop_score=9"),
        ("episodes = 3\nsteps = 3", "--steps takes the place of --episodes. Received: both"),
        ("game = ", "run.toml: expected TOML. Received: "),
        ("agent = 3", "run.toml: There is no setting of that name"),
        ("[agent]\noptimizer.class = {class = 'Adam'}", "--optimizer must be a class with numbers. Received: {'class'"),
        ("[agent]\nnetwork = {function = 'mine:small', depth = 3}", "--network must be a function of state_shape, act"),
        ("[agent]\nnetwork = {function = 3}", '--network must be a function, "module:name". Received: 3'),
        ("shape_reward = 'eval'", "--shape-reward must be a function, \"module:name\". Received: 'eval'"),
        ("shape_reward = 'raises:f'", "--shape-reward cannot be imported from 'raises:f'. Received: ZeroDivisionError"),
        ("shape_reward = 'mine:none'", "--shape-reward cannot be imported from 'mine:none'. Received: AttributeError"),
        (
            "shape_reward = 'mine:number'",
            "--shape-reward must be a function of states, actions, rewards, next_states. R",
        ),
        ("shape_reward = 'mine:two'", "--shape-reward must be a function of states, actions, rewards, next_states. R"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(text, message, mine, capsys):
    Path("run.toml").write_text(f"weights = 'none'\n{text}\n")
    assert main(["train", "cartpole", "--config", "run.toml"]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not [*Path().glob("*.h5")]


def test_a_missing_file_is_named(capsys):
    assert main(["train", "--config", "none.toml"]) == 2
    assert "none.toml" in capsys.readouterr().err


def test_the_options_of_a_network_are_those_of_mlp():
    defaults = {name: one.default for name, one in inspect.signature(mlp).parameters.items()}
    options = {name: defaults[name] for name in [*defaults][2:-1]}
    assert keywords({"network": options})["network"] == {**options, "hidden": [24, 24]}


# ---------------------------------------------------------------- functions of a user


@pytest.fixture
def mine(monkeypatch):
    """Modules of a user's own."""
    Path("raises.py").write_text("1 / 0")
    Path("mine.py").write_text(
        "from keras_dqn.core.networks.mlp import mlp\n\n\n"
        "def half(states, actions, rewards, next_states):\n    return rewards / 2\n\n\n"
        "def small(state_shape, action_size, seed=None, width=4):\n"
        "    return mlp(state_shape[0], action_size, (width,), seed=seed)\n\n\n"
        "nameless = lambda states, actions, rewards, next_states: -rewards\n"
        "number = 3\n\n\n"
        "def two(one, other):\n    return one\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    yield
    sys.modules.pop("mine", None)


def test_functions_and_several_environments_are_in_the_file(mine, capsys):
    Path("run.toml").write_text(
        'game = "cartpole"\nrecipe = "fast"\nsteps = 150\nseed = 1\nweights = "none"\nquiet = true\nnum_envs = 2\n'
        'shape_reward = "mine:half"\nmax_episode_steps = 60\n\n'
        '[agent]\nnetwork = {function = "mine:small", width = 5}\n'
    )
    assert main(["train", "--config", "run.toml", "--out", "one.h5"]) == 0
    assert "Settings: one.toml\n" in capsys.readouterr().out
    asked, said = (tomllib.loads(Path(name).read_text()) for name in ("run.toml", "one.toml"))
    assert {name: said[name] for name in asked.keys() - {"agent"}} == {n: asked[n] for n in asked.keys() - {"agent"}}
    assert said["agent"]["network"] == asked["agent"]["network"] and said["out"] == "one.h5"
    assert main(["train", "--config", "one.toml", "--out", "two.h5"]) == 0
    assert Path("two.h5").read_bytes() == Path("one.h5").read_bytes()
    typed = ["--num-envs", "1", "--shape-reward", "mine:nameless"]
    assert main(["train", "--config", "one.toml", "--out", "three.h5", *typed]) == 0
    said = tomllib.loads(Path("three.toml").read_text())
    assert (said["num_envs"], said["shape_reward"]) == (1, "mine:nameless"), "it is found by the name that was typed"
    assert Path("three.h5").read_bytes() != Path("one.h5").read_bytes()
