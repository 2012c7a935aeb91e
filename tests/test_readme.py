"""What the README says is so: its commands exist, its code runs, and its errors are those that libraries raise."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from keras_dqn.__main__ import _parser
from keras_dqn.backend import keras

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
CARDS = (REPOSITORY / "weights" / "README.md").read_text()


def commands():
    """Every command line of README and cards that starts this package, on one line each."""
    text = re.sub(r" \\\n +", " ", README + CARDS)
    found = re.findall(r"^ {4}(?:\w+=\S+ )*python -m keras_dqn (.*)$", text, re.MULTILINE)
    return sorted({*found, *re.findall(r"`python -m keras_dqn ([a-z][^`]*)`", text)})


def test_there_are_commands():
    assert len(commands()) > 20


@pytest.mark.parametrize("command", commands())
def test_a_command_is_one_that_the_program_knows(command):
    _parser().parse_args(shlex.split(command.replace("[", "").replace("]", "")))


def blocks():
    """The blocks of Python in the README, as text."""
    found = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", README, re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in found if "keras_dqn import" in block]


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.strip().splitlines()[0])
def test_a_block_of_python_is_python(block):
    compile(block, "README.md", "exec")


def test_an_environment_of_ones_own_learns_as_the_readme_says(tmp_path):
    (block,) = [block for block in blocks() if "class Corridor" in block]
    command = [sys.executable, "-c", block]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^mean -1\d\.\d\d, .*, 10 episodes", done.stdout, re.MULTILINE), done.stdout
    assert (tmp_path / "Corridor-v0_best_weight.h5").exists()


# ---------------------------------------------------------------- errors, by their text


def cartpole(**options):
    return gym.make("CartPole-v1", **options)


def old_step():
    env = cartpole()
    env.reset()
    _state, _reward, _done, _info = env.step(0)


def model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(24), keras.layers.Dense(2)])


def load_an_old_file(folder):
    network = model()
    network.compile("adam", "mse")
    network.save(folder / "old.h5")
    keras.models.load_model(folder / "old.h5")


def load_another_network(folder):
    model().save(folder / "two.h5")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).load_weights(folder / "two.h5")


ERRORS = {
    "too many values to unpack (expected 4)": lambda _: old_step(),
    "setting an array element with a sequence. The requested array has an inhomogeneous shape": lambda _: np.reshape(
        cartpole().reset(), [1, 4]
    ),
    "'TimeLimit' object has no attribute 'seed'": lambda _: cartpole().seed(0),
    "module 'numpy' has no attribute 'bool8'": lambda _: np.bool8,
    "module 'gymnasium.wrappers' has no attribute 'Monitor'": lambda _: gym.wrappers.Monitor,
    "Render mode is None, which is incompatible with RecordVideo": lambda folder: gym.wrappers.RecordVideo(
        cartpole(), str(folder / "films")
    ),
    "Argument(s) not recognized: {'lr': 0.001}": lambda _: keras.optimizers.Adam(lr=0.001),
    "No module named 'keras.optimizers.adam_v2'": lambda _: __import__("keras.optimizers.adam_v2"),
    "The filename must end in .weights.h5": lambda folder: model().save_weights(folder / "w.h5"),
    "Could not deserialize 'keras.metrics.mse' because it is not a KerasSaveable subclass": load_an_old_file,
    "Layer count mismatch when loading weights from file": load_another_network,
    "No module named 'moviepy.editor'": lambda _: __import__("moviepy.editor"),
}


@pytest.mark.parametrize("text", ERRORS)
def test_what_libraries_say_today_is_what_the_readme_explains(text, tmp_path):
    assert text in README
    with pytest.raises(Exception) as raised:
        ERRORS[text](tmp_path)
    said = str(raised.value).replace("`", "")
    assert text in said


def test_a_namespace_that_nobody_registered():
    with pytest.raises(gym.error.NamespaceNotFound, match="Namespace NOSUCH not found"):
        gym.make("NOSUCH/Breakout-v5")
    assert "NamespaceNotFound: Namespace ALE not found" in README
