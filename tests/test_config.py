"""Trainings in files: what is left of one does it again, the command line wins, and what is wrong is named."""

import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from keras_dqn import CartPole, MountainCar, game_for
from keras_dqn.__main__ import main
from keras_dqn.commands.config import agent_settings, description
from keras_dqn.commands.parser import make_parser
from keras_dqn.core.exploration import Linear, Pieces
from keras_dqn.core.networks.atari import nature_cnn
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.games.breakout import Breakout, clipped


def options_of(*arguments):
    return make_parser().parse_args(["train", *arguments])


@pytest.mark.parametrize(
    ("game", "name", "recipe"),
    [
        *(("cartpole", CartPole, recipe) for recipe in CartPole.recipes),
        *(("mountaincar", MountainCar, recipe) for recipe in MountainCar.recipes),
        ("breakout", Breakout, "nature"),
        ("breakout", Breakout, "parallel"),
    ],
)
def test_every_setting_of_a_recipe_comes_back_from_its_file(game, name, recipe):
    small = {"memory_size": 50_000} if recipe == "nature" else {}
    runner = name(recipe=recipe, weights=None, seed=0, **small)
    text, left_out = description(options_of(game, "--recipe", recipe), runner)
    said = tomllib.loads(text)
    assert (said["game"], said["recipe"], said["episodes"], left_out) == (game, recipe, 200, [])
    assert (said["num_envs"], said["max_steps"]) == (runner.num_envs, runner.max_steps)
    assert said.get("shape_reward") == ("clipped" if game == "breakout" else None)
    given = {name for name, value in runner.agent.settings.flat().items() if value is not None}
    assert said["agent"].keys() >= given - {"learning_rate"}
    again = name(recipe=recipe, weights=None, seed=0, **agent_settings(said["agent"], "a.toml"))
    assert again.settings == runner.settings


def test_a_training_is_done_again_by_what_it_left(capsys):
    typed = ["--steps", "250", "--seed", "3", "--weights", "none", "--memory-size", "2000", "--quiet"]
    assert main(["train", "cartpole", "--recipe", "fast", *typed]) == 0
    assert "Settings: cartpole_fast_weight.toml\n" in capsys.readouterr().out
    said = tomllib.loads(Path("cartpole_fast_weight.toml").read_text())
    assert (said["steps"], said["seed"], said["agent"]["memory_size"], said["quiet"]) == (250, 3, 2000, True)
    assert "episodes" not in said and said["agent"]["exploration"]["schedule"] == "Linear"
    assert main(["train", "--config", "cartpole_fast_weight.toml", "--out", "again.h5"]) == 0
    assert Path("again.h5").read_bytes() == Path("cartpole_fast_weight.h5").read_bytes()
    assert main(["train", "--config", "again.toml", "--out", "third.h5", "--seed", "4"]) == 0
    assert Path("third.h5").read_bytes() != Path("again.h5").read_bytes()


@pytest.mark.parametrize("recipe", ["pytorch", "fast"])
def test_the_file_alone_says_all_of_a_network_and_its_learning(recipe):
    runner = CartPole(recipe=recipe, weights=None)
    table = tomllib.loads(description(options_of("cartpole"), runner)[0])["agent"]
    bare = CartPole(recipe="juvin", weights=None, **agent_settings(table, "a.toml"))
    assert {**bare.settings, "recipe": recipe} == runner.settings


@pytest.fixture
def asked(monkeypatch):
    """What the runner of a training would have been made with: options, weights, settings."""
    made = []

    def make(options, weights, **settings):
        made.append((options, weights, settings))
        raise ValueError("made")

    monkeypatch.setattr("keras_dqn.commands.train.make_runner", make)
    return made


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

[agent]
gamma = 0.9
network = {hidden = [8]}
exploration = {schedule = "Linear", start = 1.0, end = 0.05, steps_to_end = 3000}
optimizer = {class = "SGD", learning_rate = 0.5}
"""


def test_a_file_is_read_as_it_stands(asked):
    Path("run.toml").write_text(FILE)
    assert main(["train", "--config", "run.toml"]) == 2
    ((options, weights, settings),) = asked
    assert (options.game, options.recipe, options.seed, options.stop_score) == ("cartpole", "fast", 7, -5.5)
    assert options.verbose and not options.quiet and weights is None
    optimizer = settings.pop("optimizer")()
    assert type(optimizer).__name__ == "SGD" and float(optimizer.learning_rate) == 0.5
    assert settings == {
        "episodes": 200,
        "steps": 300,
        "gamma": 0.9,
        "network": {"hidden": [8]},
        "exploration": Linear(1.0, 0.05, 3000),
    }


def test_the_file_in_the_guide_is_one(asked):
    guide = (Path(__file__).parents[1] / "docs" / "guide.md").read_text()
    (block,) = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))*^ {4}\[agent\]\n(?:^ {4}.*\n)+", guide, re.MULTILINE)
    Path("run.toml").write_text(re.sub("^ {4}", "", block, flags=re.MULTILINE))
    assert main(["train", "--config", "run.toml"]) == 2
    ((options, _, settings),) = asked
    assert (options.game, options.stop_score, settings["gamma"]) == ("cartpole", 490, 0.99)


def test_what_is_typed_wins(asked):
    Path("run.toml").write_text(FILE)
    for typed in (["--episodes", "9", "--memory-size", "77"], ["--recipe", "juvin"], ["--env", "Acrobot-v1"]):
        assert main(["train", "--config", "run.toml", *typed]) == 2
    (first, _, settings), (recipe, _, others), (env, *_) = asked
    assert (first.steps, settings["episodes"], settings["steps"]) == (None, 9, None)
    assert settings["memory_size"] == 77 and settings["gamma"] == 0.9
    assert recipe.recipe == "juvin" and others == {"episodes": 200, "steps": 300}, "the table is of another recipe"
    assert (env.env, env.game, env.recipe) == ("Acrobot-v1", None, "fast")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "game = 'cartpole'\neposides = 3",
            "no setting of that name; the nearest is episodes. Received: eposides",
        ),
        ("game = 'cartpole'\n[agent]\ngama = 0.9", "the nearest is gamma. Received: gama"),
        ("game = 'cartpole'\nepisodes = 0", "run.toml: --episodes must be a whole number, 1 or more. Received: 0"),
        ("game = 'cartpole'\nepisodes = true", "run.toml: episodes is not true or false. Received: True"),
        ("game = 'cartpole'\nquiet = 1", "run.toml: quiet must be true or false. Received: 1"),
        ("game = 'cartpole'\nseed = [1]", "run.toml: seed must be a text or a number. Received: [1]"),
        ("game = 'pong'", "invalid choice: 'pong'"),
        ("game = ", "run.toml: expected TOML. Received: "),
        ("agent = 3", "run.toml: [agent] must be a table. Received: 3"),
        ("resume = true", "there is no setting of that name"),
        ("stop_score = 9\ngame = 'cartpole'", "--stop-score needs --evaluate-every"),
        ("game = 'cartpole'\n[agent]\ngamma = 2", "`gamma` must be a number from 0 to 1"),
        (
            "game = 'cartpole'\n[agent.exploration]\nschedule = 'eval'",
            "as schedule one of Blocks, Exponential, Linear, OverT",
        ),
        ("game = 'cartpole'\n[agent.exploration]\nschedule = 'Linear'", "must have the fields of Linear"),
        ("game = 'cartpole'\n[agent]\noptimizer = {class = 'get'}", "optimizer must have as class one of"),
        ("game = 'cartpole'\n[agent]\noptimizer = {class = 'Adam', lr = 1}", "optimizer must be one of Keras's"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(text, message, capsys, tmp_path):
    Path("run.toml").write_text(text)
    assert main(["train", "--config", "run.toml"]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_a_missing_file_is_named(capsys):
    assert main(["train", "--config", "none.toml"]) == 2
    assert "none.toml" in capsys.readouterr().err


def test_schedules_of_several_pieces():
    table = {"exploration": {"schedule": "Pieces", "points": [[0, 1.0], [100, 0.1]]}}
    assert agent_settings(table, "a.toml") == {"exploration": Pieces((0, 1.0), (100, 0.1))}


@pytest.fixture
def my_module(monkeypatch):
    """A module of a user's own."""
    Path("my_settings_module.py").write_text(
        "from keras_dqn.core.networks.mlp import mlp\n\n\n"
        "def half(states, actions, rewards, next_states):\n    return rewards / 2\n\n\n"
        "def small(state_shape, action_size, seed=None, width=4):\n"
        "    return mlp(state_shape[0], action_size, (width,), seed=seed)\n\n\n"
        "nameless = lambda states, actions, rewards, next_states: -rewards\n"
        "number = 3\n\n\n"
        "def two(one, other):\n    return one\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    yield "my_settings_module"
    sys.modules.pop("my_settings_module", None)


def test_functions_and_several_environments_are_in_the_file(my_module, capsys):
    Path("run.toml").write_text(
        f'game = "cartpole"\nsteps = 130\nseed = 1\nweights = "none"\nquiet = true\nnum_envs = 2\n'
        f'shape_reward = "{my_module}:half"\nmax_steps = 60\n\n'
        f'[agent]\nnetwork = {{function = "{my_module}:small", width = 5}}\n'
    )
    assert main(["train", "--config", "run.toml", "--out", "one.h5"]) == 0
    assert "Settings: one.toml\n" in capsys.readouterr().out
    asked, said = (tomllib.loads(Path(name).read_text()) for name in ("run.toml", "one.toml"))
    assert {name: said[name] for name in asked.keys() - {"agent"}} == {n: asked[n] for n in asked.keys() - {"agent"}}
    assert said["agent"]["network"] == asked["agent"]["network"] and said["out"] == "one.h5"
    assert main(["train", "--config", "one.toml", "--out", "two.h5"]) == 0
    assert Path("two.h5").read_bytes() == Path("one.h5").read_bytes()
    assert main(["train", "--config", "one.toml", "--out", "three.h5", "--num-envs", "1"]) == 0
    assert tomllib.loads(Path("three.toml").read_text())["num_envs"] == 1
    assert Path("three.h5").read_bytes() != Path("one.h5").read_bytes()


def test_a_function_without_a_name_is_said_in_one_line():
    runner = CartPole(weights=None, shape_reward=lambda *arrays: arrays[2], network=lambda *a, seed: None or mlp(4, 2))
    text, left_out = description(options_of("cartpole"), runner)
    assert left_out == ["shape_reward", "network"]
    assert text.count("# not in here, as it has no name: ") == 2
    assert "network" not in tomllib.loads(text)["agent"] and "shape_reward" not in tomllib.loads(text)


def test_that_is_said_where_the_training_ends(my_module, capsys):
    typed = ["--steps", "40", "--weights", "none", "--quiet", "--shape-reward", f"{my_module}:nameless"]
    assert main(["train", "cartpole", *typed]) == 0
    out = capsys.readouterr().out
    assert "Settings: cartpole_weight.toml\n" in out, "it is found by the name that was typed"
    assert tomllib.loads(Path("cartpole_weight.toml").read_text())["shape_reward"] == f"{my_module}:nameless"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "shape_reward = 'eval'",
            "--shape-reward must be a function: clipped, or module:name. Received: 'eval'",
        ),
        ("shape_reward = 'no_such_module:f'", "no_such_module"),
        ("shape_reward = 'my_settings_module:number'", "there is no number in my_settings_module"),
        (
            "shape_reward = 'my_settings_module:two'",
            "--shape-reward must take states, actions, rewards and next_states",
        ),
        ("num_envs = 0", "run.toml: --num-envs must be a whole number, 1 or more. Received: 0"),
        ("agent.network = {function = 'nature_cnn', depth = 3}", "network must be what nature_cnn takes"),
        (
            "agent.network = {function = 3}",
            "network must be a function: nature_cnn, difference_cnn, or module:name. Received: 3",
        ),
        ("agent.network = {hiden = [3]}", "there is no option of that name; the nearest is hidden. Received: hiden"),
        ("agent.network = {hidden = 3}", "hidden has another value. Received: 3"),
        ("agent.network = 3", "network must be options. Received: 3"),
    ],
)
def test_a_function_that_is_none_is_refused(text, message, my_module, capsys):
    Path("run.toml").write_text(f"game = 'cartpole'\nweights = 'none'\n{text}\n")
    assert main(["train", "--config", "run.toml"]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_another_recipe_has_its_own_number_of_environments(asked):
    Path("run.toml").write_text(
        FILE.replace("seed = 7", "seed = 7\nnum_envs = 3\nshape_reward = 'clipped'\nmax_steps = 50")
    )
    for typed in ([], ["--recipe", "parallel"]):
        assert main(["train", "--config", "run.toml", *typed]) == 2
    (_, _, same), (_, _, other) = asked
    assert (same["num_envs"], same["shape_reward"], same["max_steps"]) == (3, clipped, 50)
    assert "num_envs" not in other and "shape_reward" not in other and other["max_steps"] == 50


def test_a_precision_that_is_typed_goes_before_the_network_of_the_file(asked):
    Path("run.toml").write_text('game = "breakout"\nweights = "none"\n[agent]\nnetwork = {function = "nature_cnn"}\n')
    for typed in ([], ["--precision", "mixed_bfloat16"]):
        assert main(["train", "--config", "run.toml", *typed]) == 2
    (_, _, same), (_, _, other) = asked
    assert same["network"] is nature_cnn and "network" not in other


def test_texts_survive():
    runner = SimpleNamespace(recipe='qu"ote\\\n', episodes=3, settings={}, max_steps=9)
    assert tomllib.loads(description(options_of("cartpole"), runner)[0])["recipe"] == runner.recipe


def test_an_environment_by_its_id_is_in_the_file():
    runner = game_for("Acrobot-v1")(3, weights=None)
    assert tomllib.loads(description(options_of("--env", "Acrobot-v1"), runner)[0])["env"] == "Acrobot-v1"
