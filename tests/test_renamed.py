"""The recipe `fast` was called `best`: whoever asks for that gets it, and what was written under that name is read."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from keras_dqn import CartPole, MountainCar, game_for, train_seeds
from keras_dqn.__main__ import main
from keras_dqn.files.weights import pretrained
from keras_dqn.games import GAMES

WORD = "The recipe best is called fast now\n"


def cartpole(**options):
    return CartPole(**{"recipe": "best", "steps": 150, "seed": 0, **options})


def weights(runner):
    return runner.agent.learner.read_weights()


@pytest.mark.parametrize("game", [CartPole, MountainCar, game_for("Acrobot-v1")])
def test_the_old_name_is_an_alias_with_a_word(game, capsys):
    runner = game(recipe="best")
    assert runner.recipe == "fast" and runner.agent.weight_backup.name == f"{game.name}_fast_weight.h5"
    assert capsys.readouterr().err == WORD
    assert runner.settings == game(recipe="fast").settings
    assert capsys.readouterr().err == ""


def test_no_recipe_goes_by_it_and_a_stranger_s_own_best_keeps_its_name(capsys):
    assert not any("best" in game.recipes for game in GAMES.values())

    class Mine(CartPole):
        recipes = {"mine": {}, "best": {"gamma": 0.5}}

    assert Mine(recipe="best").recipe == "best" and capsys.readouterr().err == ""
    with pytest.raises(ValueError, match=r"one of \['mine', 'best'\]. Received: 'fast'"):
        Mine(recipe="fast")


def test_the_shipped_weights_are_found_by_both_names():
    assert pretrained("cartpole_best") == pretrained("cartpole_fast")
    np.testing.assert_array_equal(
        weights(CartPole(recipe="best", weights="pretrained")), weights(CartPole(recipe="fast", weights="pretrained"))
    )


def test_weights_of_before_are_gone_on_with_until_there_are_new_ones():
    cartpole(weight_backup="cartpole_best_weight.h5").train(progress=False)
    before = weights(CartPole(recipe="fast", weights="cartpole_best_weight.h5"))
    runner = cartpole()
    np.testing.assert_array_equal(weights(runner), before)
    np.testing.assert_raises(AssertionError, np.testing.assert_array_equal, weights(cartpole(weights=None)), before)
    np.testing.assert_raises(
        AssertionError, np.testing.assert_array_equal, weights(cartpole(weight_backup="elsewhere_fast.h5")), before
    )
    Path("elsewhere_best.h5").write_bytes(Path("cartpole_best_weight.h5").read_bytes())
    np.testing.assert_raises(
        AssertionError, np.testing.assert_array_equal, weights(cartpole(weight_backup="elsewhere_fast.h5")), before
    )
    runner.train(progress=False)
    assert Path("cartpole_fast_weight.h5").exists()
    np.testing.assert_array_equal(weights(cartpole()), weights(runner))


def test_a_checkpoint_of_before_is_gone_on_with(capsys):
    cartpole().train(progress=False, checkpoints="saved")
    file = Path("saved/checkpoint_000001/settings.json")
    settings = json.loads(file.read_text())
    assert settings["recipe"] == "fast"
    retouched(file, json.dumps(settings | {"recipe": "best"}))
    capsys.readouterr()
    second = cartpole(recipe="fast", steps=160)
    second.train(progress=False, checkpoints="saved", resume=True)
    out = capsys.readouterr().out
    assert second.agent.steps == 160 and "`recipe`" not in out
    assert json.loads(Path("saved/checkpoint_000002/settings.json").read_text())["recipe"] == "fast"


def retouched(file, text):
    """Write a file of a checkpoint and its sum in the manifest."""
    file.write_text(text)
    manifest = json.loads((path := file.with_name("manifest.json")).read_text())
    entry = {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    assert manifest["files"][file.name].keys() == entry.keys()
    manifest["files"][file.name] = entry
    path.write_text(json.dumps(manifest))


def test_an_experiment_of_before_is_gone_on_with(capsys):
    options = {"steps": 150, "evaluate_every": 1000, "progress": False}
    first = train_seeds(CartPole, "best", seeds=1, **options)
    assert first.folder == Path("results/cartpole_fast") and capsys.readouterr().err == WORD
    first.folder.rename("results/cartpole_best")
    settings = json.loads((file := Path("results/cartpole_best/settings.json")).read_text())
    file.write_text(json.dumps(settings | {"recipe": "best"}))
    made = Path("results/cartpole_best/keras_seed_0.json").stat().st_mtime_ns
    again = train_seeds(CartPole, "fast", seeds=1, **options)
    assert again.folder == Path("results/cartpole_best") and again.results == first.results
    assert Path("results/cartpole_best/keras_seed_0.json").stat().st_mtime_ns == made


def test_the_command_line_takes_the_old_name_and_finds_the_old_files(capsys):
    typed = ["--steps", "150", "--seed", "0", "--weights", "none", "--quiet", "--evaluate-every", "100"]
    assert main(["train", "cartpole", "--recipe", "best", *typed]) == 0
    printed = capsys.readouterr()
    assert printed.err == WORD and "Best weights: cartpole_fast_weight_best.h5, mean score" in printed.out
    said = Path("cartpole_fast_weight.toml").read_text()
    assert 'recipe = "fast"' in said
    last = Path("cartpole_fast_weight.h5").read_bytes()

    Path("old.toml").write_text(said.replace('recipe = "fast"', 'recipe = "best"'))
    assert main(["train", "--config", "old.toml"]) == 0
    assert capsys.readouterr().err == WORD and Path("cartpole_fast_weight.h5").read_bytes() == last

    for path in Path.cwd().glob("cartpole_fast_weight*"):
        path.rename(path.name.replace("fast", "best"))
    assert main(["evaluate", "cartpole", "--recipe", "fast", "--episodes", "2"]) == 0
    assert capsys.readouterr().out.startswith("Weights: cartpole_best_weight_best.h5\nmean ")
