"""The command line as a user types it."""

import subprocess
import sys

import pytest

from keras_dqn.__main__ import main


def keras_dqn(*arguments):
    """Run `python -m keras_dqn …` in a process of its own: (status, stdout, stderr)."""
    done = subprocess.run([sys.executable, "-m", "keras_dqn", *arguments], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def test_train_evaluate_run_from_the_shell():
    train = ("train", "cartpole", "--episodes", "15", "--seed", "0", "--plot", "curve.png")
    status, out, err = keras_dqn(*train)
    assert status == 0
    assert "Backup weights for model not found" in out and "15 episodes, " in out and "480 updates" in out
    assert "Weights: cartpole_weight.h5" in out and "Learning curve: curve.png" in out
    assert "15/15" in err and "tensorflow" not in err.lower() and "cuda" not in err.lower()  # the bar and nothing else
    with open("curve.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"

    status, out, err = keras_dqn("evaluate", "cartpole", "--weights", "cartpole_weight.h5", "--episodes", "5")
    assert (status, err) == (0, "")
    assert out.startswith("mean ") and "std " in out and "min " in out and "max " in out and "95 % interval " in out
    assert keras_dqn("evaluate", "cartpole", "--weights", "cartpole_weight.h5", "--episodes", "5") == (0, out, "")

    status, out, err = keras_dqn("run", "cartpole", "--epsilon", "1", "--seed", "3", "--video", "films/random.mp4")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "Found saved weights, loaded into model"
    assert "Cumulative reward: " in out and "Video: films/random.mp4" in out
    assert keras_dqn("run", "cartpole", "--epsilon", "1", "--seed", "3", "--video", "films/random.mp4")[1] == out


def test_any_environment_by_its_id(capsys):
    assert main(["train", "--env", "Acrobot-v1", "--steps", "600", "--recipe", "best", "--seed", "0", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "1 episodes, 600 steps, 4" in out and "Weights: Acrobot-v1_best_weight.h5" in out
    assert main(["evaluate", "--env", "Acrobot-v1", "--recipe", "best", "--episodes", "2"]) == 0
    assert capsys.readouterr().out.startswith("Found saved weights, loaded into model\nmean -")
    assert main(["run", "--env", "Acrobot-v1", "--weights", "none", "--epsilon", "1", "--seed", "0"]) == 0
    assert "Video: videos/Acrobot-v1.mp4" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [(), ("train",), ("compare",), ("run",), ("evaluate",), ("bench",), ("export-html",)]
)
def test_help_at_every_level(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    out = capsys.readouterr().out
    assert left.value.code == 0
    assert out.startswith("usage: python -m keras_dqn")
    if command and command not in [("bench",), ("export-html",)]:
        assert ("--weights" in out) == (command != ("compare",)) and "--env" in out and "--seed" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "cartpole", "--episodes", "0"), "`episodes` must be a whole number, 1 or more. Received: 0"),
        (("train", "cartpole", "--recipe", "x"), "`recipe` must be one of ['juvin'"),
        (("train", "cartpole", "--out", "no/folder/w.h5"), "no/folder/w.h5"),
        (("train", "cartpole", "--plot", "no/folder/p.png"), "no/folder/p.png"),
        (("train", "cartpole", "--plot", "p.bmp"), "p.bmp"),
        (("run", "cartpole", "--epsilon", "7"), "`epsilon` must be a number from 0 to 1. Received: 7.0"),
        (("train", "cartpole", "--steps", "0"), "`steps` must be a whole number, 1 or more. Received: 0"),
        (("train", "--env", "FrozenLake-v1"), "must be a vector of numbers. Received: Discrete(16)"),
        (("run", "--env", "Pendulum-v1"), "needs discrete actions 0, 1, 2, … Received: Box(-2.0, 2.0, (1,), float32)"),
        (("train", "--env", "Acrobat-v1"), "the nearest are ['Acrobot-v1'"),
        (("evaluate", "--env", "no_module:X-v0"), "No module named 'no_module'"),
        (("evaluate", "--env", "Acrobot-v1", "--weights", "pretrained"), "Received: 'Acrobot-v1'"),
        (("evaluate", "cartpole", "--episodes", "-1"), "`episodes` must be a whole number, 1 or more. Received: -1"),
        (("evaluate", "cartpole", "--weights", "missing.h5"), "missing.h5"),
        (("evaluate", "cartpole", "--weights", "."), "Received: a folder"),
    ],
)
def test_errors_are_one_line_and_change_nothing(arguments, message, capsys, tmp_path):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("keras_dqn: error: ") and err.count("\n") == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_words_it_does_not_know(capsys):
    both = ["train", "cartpole", "--env", "Acrobot-v1"]
    for arguments in (["fly"], ["train", "pong2"], ["train"], both, ["train", "cartpole", "--seed", "-1"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
    assert "a seed is 0 or more, received -1" in capsys.readouterr().err


QUIET = """
import sys
import keras_dqn
assert not {"torch", "ale_py", "moviepy", "matplotlib", "pygame", "tensorflow", "IPython"} & set(sys.modules)
for name in ("torch", "ale_py", "moviepy", "matplotlib", "pygame"):
    sys.modules[name] = None  # importing it would raise, though Keras itself may have a try
from keras_dqn import Agent, CartPole
CartPole(1, seed=0, weights=None, weight_backup=None).train(progress=False)
"""


def test_import_is_lazy_and_quiet():
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_another_keras_backend_is_named():
    code = "import os; os.environ['KERAS_BACKEND'] = 'numpy'; from keras_dqn import Agent"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "needs Keras on TensorFlow" in done.stderr and "Received: 'numpy'" in done.stderr


@pytest.mark.parametrize(
    "option", [("--resume",), ("--checkpoints", "folder"), ("--memory-size", "500"), ("--verbose",)]
)
def test_what_several_seeds_cannot_do_is_refused(option, capsys):
    assert main(["train", "cartpole", "--seeds", "2", *option]) == 2
    assert f"`{option[0]}` is for a single training; with --seeds each starts afresh" in capsys.readouterr().err
