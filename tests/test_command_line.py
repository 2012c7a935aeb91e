"""The command line as a user types it."""

import contextlib
import inspect
import io
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from matplotlib import image

from keras_dqn import CartPole, plots
from keras_dqn.__main__ import main
from keras_dqn.cli import COMMANDS, parse
from keras_dqn.core.counting import Episode
from keras_dqn.core.settings import Settings
from keras_dqn.files.weights import pretrained
from keras_dqn.games import GAMES
from keras_dqn.training.history import History
from keras_dqn.training.runner import Runner
from keras_dqn.training.settings import GameSettings, TrainSettings

TRAIN = "train cartpole --recipe fast --steps 300 --seed 0 --weights none --quiet"


def said(line):
    """What a command that ends well prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(shlex.split(line)) == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder that a training was made in, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    with contextlib.chdir(folder):
        return folder, said(f"{TRAIN} --evaluate-every 200 --plot curve.png --history h.json --memory-size 2000")


@pytest.fixture
def its_folder(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)


# ---------------------------------------------------------------- what commands do


def test_a_training_says_what_it_leaves(trained):
    folder, out = trained
    lines = ["History: h.json", "Settings: cartpole_fast_weight.toml"]
    lines += [r"\d+ episodes, 300 steps, \d\d\d updates in .* s", r"Mean score of the last \d+: .*"]
    lines += ["Weights: cartpole_fast_weight.h5"]
    lines += ["Best weights: cartpole_fast_weight_best.h5, mean score .*", "Learning curve: curve.png"]
    assert re.fullmatch("\n".join(lines) + "\n", out)
    assert (folder / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert len(History.load(folder / "h.json").evaluations) == 2, "the last step, too"


def test_the_best_weights_are_played_where_there_are_some(its_folder):
    evaluate = "evaluate cartpole --recipe fast --episodes 5"
    first = said(evaluate)
    assert re.fullmatch(r"Weights: \S+_best.h5\nmean .*, std .*, min .*, max .*, 95 % interval .*, 5 episodes\n", first)
    assert said(evaluate) == first
    film = "run cartpole --recipe fast --seed 3 --max-frames 9 --inside --video films/one.mp4"
    assert re.match(r"Weights: \S+_best.h5\nCumulative reward: .*\n(.*\n)*Video: films/one.mp4", said(film))
    Path("cartpole_fast_weight_best.h5").unlink()
    assert said(evaluate).startswith("Weights: cartpole_fast_weight.h5\n")


def test_an_untrained_network_plays_only_if_asked_to(its_folder, capsys):
    for command in "run", "evaluate":
        assert main([command, "cartpole"]) == 2
        expected = "untrained, as there is no cartpole_weight.h5 here: give --recipe fast. Received: backup\n"
        assert capsys.readouterr().err.endswith(expected)
    assert "\nmean " in said("evaluate cartpole --weights none --games 1")


@pytest.mark.filterwarnings("default")
def test_a_film_that_cannot_be_made_is_an_error(capsys):
    Path("file").touch()
    assert main(["run", "cartpole", "--epsilon", "1", "--weights", "none", "--video", "file/film.mp4"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("Cumulative reward: ")
    assert err.count("\n") == 2 and err.endswith("keras_dqn: error: There is no film. Received: file/film.mp4\n")


def test_histories_are_drawn(its_folder, monkeypatch):
    for name in ("a/history.json", "b/history.json", "other.csv"):
        History([Episode(1.0, 1, 0.5, 1.0, 0.1), Episode(3.0, 3, 0.5, 1.0, 0.2)]).save(name)
    sizes = {"h.json": (870, 900), "h.json other.csv": (750, 900), "h.json --x steps": (712, 900)}
    for given, size in sizes.items():
        assert said(f"plot {given} --out new/figure.png") == "Figure: new/figure.png\n"
        assert image.imread("new/figure.png").shape[:2] == size
    labels = []
    monkeypatch.setattr(plots, "compare_runs", lambda runs, **_: labels.extend(runs) or plots.new_figure(1))
    said("plot a/history.json b/history.json other.csv --out a.png")
    assert labels == ["a/history", "b/history", "other"]


def test_files_of_an_earlier_training_are_kept(capsys):
    train = ["train", "cartpole", "--episodes", "1", "--weights", "none", "--quiet", "--history", "h.json"]
    for seed in "1", "2":
        main([*train, "--plot", "c.png", "--seed", seed])
    assert "h.json of before is kept as h_before.json" in capsys.readouterr().out
    old, new = History.load("h_before.json"), History.load("h.json")
    assert old[0][:2] != new[0][:2] and Path("c_before.png").exists()


def test_what_ends_a_training_early_leaves_its_history(monkeypatch, capsys):
    def comments(runner, history):
        raise KeyboardInterrupt

    monkeypatch.setattr(CartPole, "comments", comments)
    train = ["train", "cartpole", "--history", "a.csv", "--quiet"]
    assert main(train) == 130
    out = capsys.readouterr().out
    assert out.endswith(
        "Weights: cartpole_weight.h5; --weights backup goes on from them, and --resume from a checkpoint\n"
        "History: a.csv\nSettings: cartpole_weight.toml\n"
    )
    assert len(History.load("a.csv")) == 1 and 'weights = "none"' in Path("cartpole_weight.toml").read_text()
    before = Path("a.csv").stat().st_mtime_ns
    assert main([*train, "--recipe", "parallel", "--learning-rate", "0.1"]) == 2
    assert "--learning-rate follows a schedule" in capsys.readouterr().err
    assert Path("a.csv").stat().st_mtime_ns == before, "this one did not begin"


def test_any_environment_by_its_id():
    out = said("train Acrobot-v1 --steps 600 --recipe fast --seed 0 --quiet")
    assert "1 episodes, 600 steps, 4" in out and "Weights: Acrobot-v1_fast_weight.h5" in out
    assert "game = 'Acrobot-v1'" in Path("Acrobot-v1_fast_weight.toml").read_text().replace('"', "'")
    out = said("evaluate Acrobot-v1 --recipe fast --episodes 1")
    assert out.startswith("Weights: Acrobot-v1_fast_weight.h5\nmean -")


def test_several_seeds_and_settings():
    several = "train cartpole --recipe fast --steps 30 --weights none --quiet --seeds 1 --gamma 0.9 --out results"
    out = said(f"{several} --sweep n-step=1,2 --sweep learning_rate=1e-4")
    assert out.count("learning_rate=0.0001") == 2 and out.endswith("Results: results\n")
    (one, other) = [json.loads(path.read_text()) for path in sorted(Path("results").glob("*/settings.json"))]
    assert one["options"]["gamma"] == 0.9 and (one["options"]["n_step"], other["options"]["n_step"]) == (1, 2)


# ---------------------------------------------------------------- options


def test_every_setting_is_an_option():
    names = {*Settings.names(), *(field.name for one in (TrainSettings, GameSettings) for field in fields(one))}
    assert {*COMMANDS["train"][1]} >= names - {"progress", "live"}
    assert {field.name for field in fields(GameSettings)} <= {
        *inspect.signature(Runner).parameters,
        "network",
        "replay_every",
    }


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_at_every_level(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([command, "--help"] if command else ["--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert left.value.code == 0 and out.startswith("usage: keras-dqn ")
    options = COMMANDS[command][1] if command else []
    assert not command or f"example: keras-dqn {command} " in out
    for name in {*options} - {"game", "files", "names", "atari_game"}:
        flag = f"--{name.replace('_', '-')}"
        assert re.search(rf" {flag}(, --\S+)?( N| X| TEXT| VALUE| PROBE)? (?!--)\S+ \S+ ", out), f"{flag} has a help"
    for name in GAMES if "recipe" in options else ():
        assert f"{name}: {', '.join(GAMES[name].recipes)}" in out


def test_what_is_typed_is_read_by_the_type_of_its_setting():
    line = (
        "train cartpole --seed 7 --gamma 1 --target-update None --optimizer none --no-double --mask-actions --out 2024"
    )
    given = {
        "game": "cartpole",
        "seed": 7,
        "gamma": 1,
        "target_update": None,
        "optimizer": None,
        "double": False,
        "mask_actions": True,
    }
    assert parse([*line.split(), "--steps", "1_000"])[1] == {**given, "out": "2024", "steps": 1000}
    given = {"game": "breakout", "atari_game": "pong", "epsilon": 0.01}
    assert parse(["run", "breakout", "--game", "pong", "--epsilon=0.01"])[1] == given


EARLY = """
 → the following arguments are required: COMMAND. Received:
fly → There is no command of that name; there are compare, conformance, evaluate, export-html, play, plot
train → There is no game of that name; there are breakout, cartpole, mountaincar, playable-cartpole. Received: none
train cartpol → There is no game of that name; the nearest is cartpole. Received: cartpol
train cartpole --stpes 9 → There is no argument of that name; the nearest is --steps. Received: --stpes
train cartpole --episodes → argument --episodes/--games: expected one argument. Received: train cartpole --episodes
train cartpole --steps 9 --episodes 9 → --steps takes the place of --episodes. Received: both
train cartpole --seed -1 → --seed must be a whole number, 0 or more. Received: -1
train cartpole --gamma 7 → --gamma must be a number from 0 to 1. Received: 7
train cartpole --learning-rate 0 → --learning-rate must be a number above 0. Received: 0
train cartpole --stop-score nan → --stop-score must be a number. Received: 'nan'
train cartpole --stop-score 9 → --stop-score needs --evaluate-every. Received: stop_score=9
train cartpole --recipe pytroch → There is no recipe of that name; the nearest is pytorch. Received: pytroch
train cartpole --out model.keras → --out must be a file of the kind .h5. Received: 'model.keras'
train cartpole --out no/w.h5 → [Errno 2] Cannot write: No such file or directory. Received: 'no/w.h5'
train cartpole --history h.txt → --history must be a file of the kind .json or .csv. Received: 'h.txt'
train cartpole --resume → --resume needs --checkpoints. Received: resume=True
train breakout --resume --weights pretrained → --resume takes the weights from the checkpoint. Received: --weights pre
train cartpole --checkpoint-minutes 3 → --checkpoint-minutes needs --checkpoints, a folder. Received: 3
train cartpole --ahead 3 → --ahead needs --actors. Received: ahead=3
train cartpole --actors 2 --record-every 3 → --record-every films an environment that is here. Received: actors=2
train cartpole --sweep tau=1 → --sweep needs --seeds. Received: tau=1
train cartpole --seeds 2 --sweep taau=1 → There is no setting of that name; the nearest is tau. Received: taau
train cartpole --seeds 2 --sweep tau=x → --tau must be a number from 0 to 1. Received: 'x'
train cartpole --exploration linear → There is no class for --exploration of that name; the nearest is Linear. Recei
train cartpole --exploration {'class':'Linear'} → --exploration must have the fields of Linear. Received: {'class'
train cartpole --sticky 0.25 → --game, --sticky and --precision are for breakout. Received: {'sticky': 0.25}
train breakout --seeds 2 --game pong → --game is for a single training, without --seeds. Received: pong
export-html breakout --out page.html → The games of a page are cartpole, playable-cartpole, mountaincar. Received: 'b
play breakout → The games to play are cartpole, mountaincar. Received: 'breakout'
compare cartpole --weights none → That is an option of train alone
plot no.json --out p.png → [Errno 2] No such file or directory: 'no.json'
plot h.json --out p.gif → A figure is saved as one of .png, .svg, .pdf. Received: p.gif
train cartpole --seeds 2 --checkpoints folder → --checkpoints is for a single training
train cartpole --seeds 2 --verbose → --verbose is for a single training
"""
CHILD = """
import contextlib, io, sys
from keras_dqn.__main__ import main
for line in sys.stdin.read().splitlines():
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(line.split()) == 2, line
    print(said.getvalue(), end="")
    assert not {"tensorflow", "keras"} & set(sys.modules), line
"""


def test_errors_are_one_line_and_come_before_tensorflow(tmp_path):
    lines, messages = zip(*(one.rstrip().split("→") for one in EARLY.strip("\n").splitlines()), strict=True)
    run = {"input": "\n".join(lines), "capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run([sys.executable, "-c", CHILD], **run)
    assert (done.returncode, done.stderr) == (0, "")
    for line, message, error in zip(lines, messages, done.stdout.splitlines(), strict=True):
        assert f"keras_dqn: error:{message}" in error, f"{line}: {error}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run Pendulum-v1", "DiscretizeAction(env, bins=5) makes them. Received: Box(-2.0, 2.0, (1,), float32)"),
        ("train Acrobat-v1", "There is no environment of that name; the nearest is Acrobot-v1. Received: Acrobat-v1"),
        ("train ALE/Breakout-v5", "Atari's games are played from pixels by `Breakout(game='breakout')`,"),
        ("train breakout --game pog", "There is no Atari game of that name; the nearest is pong. Received: pog"),
        (
            "train breakout --precision half",
            "--precision of nature must be one of ('float32', 'mixed_bfloat16'). Received: 'half'",
        ),
        ("evaluate no_module:X-v0", "No module named 'no_module'"),
        ("evaluate Acrobot-v1 --weights pretrained", "Received: 'Acrobot-v1'"),
        ("train cartpole --weights a.h5", "a.h5: expected a weight file. Received: no such file"),
        ("run cartpole --weights none --video film.avi", "A film is an .mp4 file. Received: film.avi"),
        ("train cartpole --network 64", '--network must be a function, "module:name". Received: 64'),
        ("train cartpole --network {'hiden':(3,)}", "There is no option of a network of that name; the nearest is hid"),
        ("train cartpole --network {'hidden':3}", "`hidden` must be a list. Received: 3"),
        ("train cartpole --network {'scale':'a'}", "could not convert string to float: 'a'"),
        ("train cartpole --network {'center':'a'}", "could not convert string to float: 'a'"),
        (
            "train cartpole --seeds 2 --sweep gama=0.9",
            "There is no setting of that name; the nearest is gamma. Received:",
        ),
        ("evaluate cartpole", "untrained, as there is no cartpole_weight.h5 here: give --weights pretrained, "),
        (
            f"evaluate mountaincar --weights {pretrained('cartpole')}",
            "with 4 inputs and 2 actions; MountainCar has 2 and 3. Received: Dense",
        ),
        ("train cartpole --optimizer Adamm", "There is no class for --optimizer of that name; the nearest is Adam"),
        ("train cartpole --optimizer {'class':'Adam','lr':1}", "--optimizer must be one of Keras's. Received: {'cl"),
        ("train cartpole --tau 0.5 --weights none", "--tau needs a target network: give --target-update. Received: "),
    ],
)
def test_later_errors_are_one_line_too(line, message, capsys, tmp_path):
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("keras_dqn: error: ") and err.count("\n") == 1 and message in err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- processes


@pytest.mark.parametrize("program", [["-m", "keras_dqn"], [Path(sys.executable).with_name("keras-dqn")]])
def test_help_takes_no_time_and_any_encoding(program):
    run = {"capture_output": True, "text": True, "timeout": 60, "env": {**os.environ, "PYTHONIOENCODING": "ascii"}}
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    done = subprocess.run([sys.executable, *program, "train", "--help"], **run)
    assert (done.returncode, done.stderr) == (0, "") and "--gamma X" in done.stdout
    assert sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before < 0.6, "CPU seconds: 0.2 where it is idle"


def test_a_reader_that_has_seen_enough_is_no_error():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": {**os.environ, "PYTHONUNBUFFERED": ""}}
    with subprocess.Popen([sys.executable, "-m", "keras_dqn", "plot", "--help"], **pipes) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (141, b"")


NEITHER = """
import sys
sys.modules["torch"] = sys.modules["ray"] = None
import pydoc, rlcompleter
import keras_dqn
assert "CartPole" in pydoc.render_doc(keras_dqn)
assert "keras_dqn.CartPole" in " ".join(rlcompleter.Completer({"keras_dqn": keras_dqn}).attr_matches("keras_dqn.C"))
from keras_dqn import *
assert CartPole is keras_dqn.CartPole and train_seeds and plots.learning_curve
"""


def test_help_completion_and_a_star_need_neither_torch_nor_ray():
    done = subprocess.run([sys.executable, "-c", NEITHER], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


QUIET = """
import sys
import keras_dqn
assert not {"torch", "ale_py", "moviepy", "matplotlib", "pygame", "tensorflow", "IPython"} & set(sys.modules)
for name in ("torch", "ale_py", "moviepy", "matplotlib", "pygame"):
    sys.modules[name] = None  # importing it would raise, though Keras itself may have a try
from keras_dqn import Agent, CartPole
CartPole(4, seed=0, weights=None, weight_backup=None).train(progress=False)
"""


def test_importing_is_lazy_and_a_training_is_quiet():
    """Neither TensorFlow nor XLA, which compiles in it, says anything of its own."""
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
