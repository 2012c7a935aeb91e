"""The shipped weights against their cards, here and inside an installed wheel."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from keras_dqn import Breakout, CartPole, MountainCar
from keras_dqn.backend import keras
from keras_dqn.files.weights import pretrained

REPOSITORY = Path(__file__).parent.parent
CARDS = (REPOSITORY / "weights" / "README.md").read_text()


def card(name):
    """The rows of a card as a dict."""
    section = CARDS.split(f"## `{name}`")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| (\w[\w ]*) \| (.*) \|$", section, re.MULTILINE))


def test_every_file_has_a_card_and_is_the_one_described():
    files = sorted(path.name for path in (REPOSITORY / "weights").glob("*.h5"))
    assert files == re.findall(r"^## `(.*)`$", CARDS, re.MULTILINE)
    for name in files:
        digest = hashlib.sha256((REPOSITORY / "weights" / name).read_bytes()).hexdigest()
        assert card(name)["sha256"] == f"`{digest}`"


@pytest.mark.parametrize(
    ("recipe", "name", "limit", "row"),
    [
        ("juvin", "cartpole_weight.h5", None, "score"),
        ("juvin", "cartpole_weight.h5", 10_000, "beyond that limit"),
        ("fast", "cartpole_fast_weight.h5", 10_000, "score"),
    ],
)
def test_cartpole_scores_what_its_card_says(recipe, name, limit, row):
    evaluation = CartPole(recipe=recipe, weights="pretrained").evaluate(100, max_episode_steps=limit)
    assert card(name)[row].startswith(re.sub(r"95 .* to \S+ ", "", str(evaluation)))


def test_a_hundred_poles_of_gymnasiums_own_stand_for_ten_thousand_steps_in_the_middle_of_the_track():
    agent = CartPole(recipe="fast", weights="pretrained").agent
    envs = CartPoleVectorEnv(100, max_episode_steps=10_000)
    states, _ = envs.reset(seed=7)
    for _ in range(10_000):
        states, _, terminated, truncated, _ = envs.step(agent.q_values(states).argmax(-1))
        assert not terminated.any()
    assert truncated.all()
    said = re.search(r"at most (\S+) from the middle", card("cartpole_fast_weight.h5")["at the end"])[1]
    assert np.abs(states[:, 0]).max() <= float(said)


def test_mountain_car_scores_what_its_card_says():
    evaluation = MountainCar(weights="pretrained").evaluate(100)
    assert evaluation.mean >= -102  # what training was ended for, on other episodes
    said = re.sub(r"95 .* to \S+ ", "", str(evaluation))
    assert card("mountain_car_weight.h5")["score"].split(",")[0] == said.split(",")[0]


@pytest.mark.parametrize(("game", "games"), [("pong", 3), pytest.param("breakout", 10, marks=pytest.mark.long)])
def test_an_atari_game_is_played_as_well_as_its_card_says(game, games):
    mean, std = map(float, re.search(r"mean (\S+), std (\S+),", card(f"{game}_parallel_weight.h5")["score"]).groups())
    evaluation = Breakout(game=game, weights="pretrained").evaluate(games, epsilon=0.01)
    # Games of another random generator, in which one bit decides where the ball goes: within three standard errors.
    assert abs(evaluation.mean - mean) < 3 * std / games**0.5


def test_cartpole_is_the_24_24_network_and_loads_in_keras_2_and_3():
    import tf_keras

    states = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    expected = CartPole(weights="pretrained").agent.q_values(states)
    for library in (keras, tf_keras):
        layers = library.layers
        model = library.Sequential(
            [layers.Input((4,)), layers.Dense(24, "relu"), layers.Dense(24, "relu"), layers.Dense(2)]
        )
        model.load_weights(pretrained("cartpole"))
        np.testing.assert_allclose(model.predict(states, verbose=0), expected, rtol=1e-5, atol=1e-4)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'cartpole'.* Received: 'cartpol'"):
        pretrained("cartpol")


def test_the_wheel_holds_the_weights(tmp_path):
    source = tmp_path / "source"
    for name in ("keras_dqn", "weights"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "installed")
        metadata = next(name for name in file.namelist() if name.endswith("METADATA"))
        declared = re.findall(r"^Requires-Dist: ([\w-]+)", file.read(metadata).decode(), re.MULTILINE)
    required = re.findall(r"^([\w-]+)", (REPOSITORY / "requirements.txt").read_text(), re.MULTILINE)
    assert set(required) <= set(declared)
    shutil.rmtree(source)
    code = (
        "import keras_dqn; print(keras_dqn.__file__, keras_dqn.weights.pretrained('cartpole'));"
        "keras_dqn.CartPole(weights='pretrained').run(seed=0); keras_dqn.play_here('cartpole')"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert out.count(str(tmp_path / "installed" / "keras_dqn")) == 2
    assert "Cumulative reward: 500" in out
