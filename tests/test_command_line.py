"""The command line as a user types it."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import image

from keras_dqn import CartPole, plots
from keras_dqn.__main__ import main
from keras_dqn.core.episode_stats import Episode
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.files.brain_from import sizes
from keras_dqn.files.weights import pretrained, save_weights
from keras_dqn.games import GAMES, WITH_A_RUNNER
from keras_dqn.training.history import History
from keras_dqn.training.runner import Runner


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
    assert out.splitlines()[0] == "Weights: cartpole_weight.h5"
    assert "Cumulative reward: " in out and "Video: films/random.mp4" in out
    assert keras_dqn("run", "cartpole", "--epsilon", "1", "--seed", "3", "--video", "films/random.mp4")[1] == out


def test_a_history_is_saved_and_drawn(capsys, tmp_path):
    train = ["train", "cartpole", "--quiet", "--weights", "none", "--episodes"]
    assert main([*train, "6", "--seed", "0", "--history", "first.json"]) == 0
    assert "History: first.json" in capsys.readouterr().out
    assert main([*train, "4", "--seed", "1", "--history", "second.csv"]) == 0
    first, second = History.load("first.json"), History.load("second.csv")
    assert (len(first), len(second), len(first.update_losses), len(second.update_losses)) == (6, 4, 6 * 32, 0)
    capsys.readouterr()
    sizes = {}
    for figure, arguments in {
        "one.png": ["first.json"],
        "both.png": ["first.json", "second.csv"],
        "steps.png": ["first.json", "second.csv", "--x", "steps"],
        "new/alone.png": ["first.json", "--x", "steps"],
    }.items():
        assert main(["plot", *arguments, "--out", figure]) == 0
        assert capsys.readouterr().out == f"Figure: {figure}\n"
        sizes[figure] = image.imread(tmp_path / figure).shape[:2]
    assert sizes == {
        "one.png": (870, 900),
        "both.png": (750, 900),
        "steps.png": (750, 900),
        "new/alone.png": (712, 900),
    }
    assert (image.imread("both.png") != image.imread("steps.png")).any()


def test_films_are_joined_with_their_names_or_given_captions(capsys, monkeypatch):
    joined = []
    monkeypatch.setattr(
        "keras_dqn.show.video.join_videos", lambda *given, **options: joined.append((given, options)) or given[1]
    )
    assert main(["film", "--compare", "videos/a.mp4", "so = so=b.mp4", "--out", "both.gif", "--columns", "1"]) == 0
    ((films, path), options) = joined[0]
    assert films == {"a": "videos/a.mp4", "so = so": "b.mp4"} and path == "both.gif" and options["columns"] == 1
    assert capsys.readouterr().out == "Film: both.gif\n"
    assert main(["film", "--compare", "a.mp4", "b/a.mp4", "--out", "both.gif"]) == 2
    assert "Received: ['a.mp4', 'b/a.mp4']" in capsys.readouterr().err and len(joined) == 1


def test_runs_are_named_by_what_tells_them_apart(monkeypatch):
    for name in ("a/history.json", "b/history.json", "other.csv"):
        History([Episode(1.0, 1, 0.5, 1.0, 0.1)]).save(name)
    labels = []
    monkeypatch.setattr(plots, "compare_runs", lambda runs, **_: labels.append(list(runs)) or plots.new_figure(1))
    assert main(["plot", "a/history.json", "other.csv", "--out", "a.png"]) == 0
    assert main(["plot", "a/history.json", "b/history.json", "--out", "a.png"]) == 0
    assert labels == [["history", "other"], ["a/history.json", "b/history.json"]]


def test_what_ends_a_training_early_leaves_its_history(monkeypatch, capsys):
    def one_episode_and_ctrl_c(runner, **options):
        runner.history.append(Episode(1.0, 1, 0.5, 1.0, 0.1))
        runner.agent.steps = 1
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "train", one_episode_and_ctrl_c)
    assert main(["train", "cartpole", "--history", "a.csv", "--weights", "none"]) == 130
    assert "History: a.csv" in capsys.readouterr().out
    assert len(History.load("a.csv")) == 1


def test_a_training_that_does_not_begin_leaves_the_history_of_the_one_before():
    History().save("a.csv")
    before = Path("a.csv").stat().st_mtime_ns
    assert main(["train", "cartpole", "--history", "a.csv", "--weights", "none", "--stop-score", "9"]) == 2
    assert Path("a.csv").stat().st_mtime_ns == before


def test_a_replay_every_so_many_steps(capsys):
    options = ["--recipe", "fast", "--steps", "300", "--seed", "0", "--weights", "none", "--quiet"]
    assert main(["train", "cartpole", *options]) == main(["train", "cartpole", *options, "--replay-every", "10"]) == 0
    every, tenth = (int(count) for count in re.findall(r"300 steps, (\d+) updates", capsys.readouterr().out))
    assert every > 150 and tenth == pytest.approx(every / 10, abs=1)


def test_any_environment_by_its_id(capsys):
    assert main(["train", "--env", "Acrobot-v1", "--steps", "600", "--recipe", "fast", "--seed", "0", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "1 episodes, 600 steps, 4" in out and "Weights: Acrobot-v1_fast_weight.h5" in out
    assert main(["evaluate", "--env", "Acrobot-v1", "--recipe", "fast", "--episodes", "2"]) == 0
    assert capsys.readouterr().out.startswith("Weights: Acrobot-v1_fast_weight.h5\nmean -")
    options = ["--inside", "--max-frames", "20"]
    assert main(["run", "--env", "Acrobot-v1", "--weights", "none", "--epsilon", "1", "--seed", "0", *options]) == 0
    assert "Video: videos/Acrobot-v1.mp4" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [(), ("train",), ("compare",), ("plot",), ("run",), ("evaluate",), ("bench",), ("export-html",)]
)
def test_help_at_every_level(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    out = capsys.readouterr().out
    assert left.value.code == 0
    assert (out.startswith("usage: keras-dqn ") and "None)" not in out and "\nexample:\n" in out) or not command
    if command and command not in [("plot",), ("bench",), ("export-html",)]:
        assert ("--weights" in out) == (command != ("compare",)) and "--env" in out and "--seed" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "cartpole", "--episodes", "0"), "--episodes must be a whole number, 1 or more. Received: 0"),
        (("train", "cartpole", "--recipe", "x"), "--recipe must be one of juvin, pytorch, fast, parallel. Received: x"),
        (("train", "cartpole", "--out", "no/folder/w.h5"), "no/folder/w.h5"),
        (("train", "cartpole", "--plot", "no/folder/p.png"), "no/folder/p.png"),
        (("train", "cartpole", "--plot", "p.bmp"), "p.bmp"),
        (("train", "cartpole", "--history", "no/folder/h.json"), "no/folder/h.json"),
        (
            ("train", "cartpole", "--history", "h.txt"),
            "a file of the kind .json or .csv. Received: h.txt",
        ),
        (("plot", "no.json", "--out", "p.png"), "Cannot read: No such file or directory. Received: 'no.json'"),
        (("plot", "no.json", "--out", "p.gif"), "one of .png, .svg, .pdf. Received: p.gif"),
        (("plot", "h.png", "--out", "p.png"), "one of .json, .csv. Received: h.png"),
        (("plot", "h.csv", "h.csv", "--out", "p.png"), "Each history is drawn once. Received: h.csv h.csv"),
        (("train", "cartpole", "--replay-every", "0"), "--replay-every must be a whole number, 1 or more. Received: 0"),
        (("train", "cartpole", "--learning-rate", "0"), "--learning-rate must be a number above 0. Received: 0"),
        (("run", "cartpole", "--max-frames", "0"), "--max-frames must be a whole number, 1 or more. Received: 0"),
        (("run", "cartpole", "--epsilon", "7"), "--epsilon must be a number from 0 to 1. Received: 7"),
        (("train", "cartpole", "--steps", "0"), "--steps must be a whole number, 1 or more. Received: 0"),
        (("train", "--env", "Blackjack-v1"), "must be a vector of numbers"),
        (("run", "--env", "Pendulum-v1"), "needs discrete actions 0, 1, 2, … Received: Box(-2.0, 2.0, (1,), float32)"),
        (("train", "--env", "Acrobat-v1"), "the nearest are ['Acrobot-v1'"),
        (("evaluate", "--env", "no_module:X-v0"), "No module named 'no_module'"),
        (("evaluate", "--env", "Acrobot-v1", "--weights", "pretrained"), "Received: 'Acrobot-v1'"),
        (("evaluate", "cartpole", "--episodes", "-1"), "--episodes must be a whole number, 1 or more. Received: -1"),
        (("evaluate", "cartpole", "--weights", "missing.h5"), "missing.h5"),
        (("evaluate", "cartpole", "--weights", "."), "Received: a folder"),
        (("evaluate", "cartpole"), "untrained, as there is no cartpole_weight.h5 here: give --weights pretrained"),
        (("train", "cartpole", "--seed", "-1"), "--seed must be a whole number, 0 or more. Received: -1"),
        (("train", "cartpole", "--stop-score", "9"), "--stop-score needs --evaluate-every. Received: --stop-score 9"),
        (("train", "cartpole", "--out", "model.keras"), "--out must be a file of the kind .h5. Received: model.keras"),
        (("train", "--env", "ALE/Breakout-v5"), "breakout --game breakout"),
        (("run", "cartpole", "--video", "film.avi"), "--video must be a file of the kind .mp4. Received: film.avi"),
        (("export-html", "pong", "--out", "page.html"), "Received: 'pong'"),
        (
            ("evaluate", "mountaincar", "--weights", str(pretrained("cartpole"))),
            "these are weights of a network with 4 inputs and 2 actions; MountainCar has 2 and 3. Received: ",
        ),
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
    misspelt = ["train", "cartpole", "--stpes", "9"]
    for arguments in (["fly"], ["train", "pong2"], ["train"], both, misspelt):
        assert main(arguments) == 2
        error, usage = capsys.readouterr().err.splitlines()
        assert error.startswith("keras_dqn: error: ") and usage.startswith("usage: keras-dqn ")
        assert usage.endswith("see keras-dqn --help" if arguments == ["fly"] else "see keras-dqn train --help")
    assert error.endswith("the nearest is --steps. Received: --stpes 9")


QUIET = """
import sys
import keras_dqn
assert not {"torch", "ale_py", "moviepy", "matplotlib", "pygame", "tensorflow", "IPython"} & set(sys.modules)
for name in ("torch", "ale_py", "moviepy", "matplotlib", "pygame"):
    sys.modules[name] = None  # importing it would raise, though Keras itself may have a try
from keras_dqn import Agent, CartPole
CartPole(1, seed=0, weights=None, weight_backup=None).train(progress=False)
"""


def test_a_training_is_quiet():
    """Neither TensorFlow nor XLA, which compiles in it, says anything of its own."""
    code = "from keras_dqn import CartPole; CartPole(4, weights=None, weight_backup=None).train(progress=False)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_import_is_lazy_and_quiet():
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_another_keras_backend_is_named():
    code = "import os; os.environ['KERAS_BACKEND'] = 'numpy'; from keras_dqn import Agent; Agent(4, 2, None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "needs Keras on TensorFlow" in done.stderr and "Received: 'numpy'" in done.stderr


EARLY = """
import contextlib, io, sys
from keras_dqn.__main__ import main
for line in sys.stdin.read().splitlines():
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert main(line.split()) == 2, line
    assert said.getvalue().count("error: ") == 1, line
    assert not {"tensorflow", "keras"} & set(sys.modules), line
"""
TYPOS = """train cartpole --episodes 0
train cartpole --stop-score 400
train cartpole --recipe bets
train cartpole --out model.keras
train cartpole --out no/folder/w.h5
train cartpole --plot curve.bmp
train cartpole --history history.txt
train cartpole --weights missing.h5
train cartpole --resume
train cartpole --seeds 2 --verbose
train cartpole --checkpoint-minutes 3
train --env Acrobat-v1
train breakout --game pog
train breakout --precision half
train cartpole --sticky 0.25
evaluate cartpole --weights .
run cartpole --video film.avi
export-html pong --out page.html
compare cartpole --recipe x
"""


def test_options_are_checked_before_tensorflow_is_loaded():
    done = subprocess.run([sys.executable, "-c", EARLY], input=TYPOS, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_every_recipe_and_every_group(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    for name in WITH_A_RUNNER:
        assert f"{name}: {', '.join(GAMES[name].recipes)};" in out
    for group in ("what is played:", "the training:", "settings, instead of", "results:", "checkpoints, for long"):
        assert group in out


@pytest.mark.parametrize("arguments", [("train", "--help"), ("evaluate", "cartpole", "--weights", "none")])
def test_a_reader_that_has_seen_enough_is_no_error(arguments):
    arguments = [*arguments, "--episodes", "1"] if arguments[0] == "evaluate" else arguments
    command = [sys.executable, "-m", "keras_dqn", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": {**os.environ, "PYTHONUNBUFFERED": ""}}
    with subprocess.Popen(command, text=True, **pipes) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 141 and err.replace("The network is untrained\n", "") == ""


def test_a_film_that_cannot_be_made_is_one_line(monkeypatch, capsys):
    def no_ffmpeg():
        raise FileNotFoundError("there is no ffmpeg,\nnowhere")

    monkeypatch.setattr("keras_dqn.show.film._ffmpeg", no_ffmpeg)
    assert main(["run", "cartpole", "--epsilon", "1", "--weights", "none", "--seed", "0"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("Cumulative reward: ") and err.count("\n") == 1
    assert err.startswith("keras_dqn: error: There is no film. Received: Not filming videos/cartpole.mp4 ")


def test_an_untrained_network_is_called_so(capsys):
    assert main(["run", "cartpole", "--seed", "0", "--max-frames", "5"]) == 0
    assert capsys.readouterr().err == "The network is untrained, as there is no cartpole_weight.h5 here\n"
    assert main(["evaluate", "cartpole", "--weights", "none", "--episodes", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("mean ") and err == "The network is untrained\n"


def test_the_best_weights_are_played_where_there_are_some(capsys):
    save_weights(CartPole(weights=None, seed=0).agent.brain, "cartpole_weight.h5")
    scores = {}
    for name in ("cartpole_weight.h5", "cartpole_weight_best.h5"):
        if "best" in name:
            save_weights(CartPole(weights="pretrained").agent.brain, name)
        assert main(["evaluate", "cartpole", "--episodes", "5"]) == 0
        first, scores[name] = capsys.readouterr().out.splitlines()
        assert first == f"Weights: {name}"
    assert scores["cartpole_weight.h5"] != scores["cartpole_weight_best.h5"]


def test_what_the_library_says_of_a_keyword_is_said_of_the_option(monkeypatch, capsys):
    def refuse(runner, **options):
        raise ValueError("`stop_score` and `unheard_of` are odd. Received: stop_score=9")

    monkeypatch.setattr(Runner, "train", refuse)
    assert main(["train", "cartpole", "--weights", "none"]) == 2
    err = capsys.readouterr().err
    assert err == "keras_dqn: error: --stop-score and `unheard_of` are odd. Received: stop_score=9\n"


def test_a_full_disk_names_the_file(monkeypatch, capsys):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["train", "cartpole", "--weights", "none", "--episodes", "1", "--quiet"]) == 2
    error = "[Errno 28] Cannot write: No space left on device. Received: 'cartpole_weight.h5'"
    assert capsys.readouterr().err == f"keras_dqn: error: {error}\n"


@pytest.mark.parametrize(
    ("network", "found"),
    [({"hidden": (8, 8)}, (5, 3)), ({"hidden": (8,), "dueling": True}, (5, 3)), ({"hidden": (8,) * 12}, (5, 3))],
)
@pytest.mark.parametrize("name", ["ours.h5", "whole.h5", "keras3.weights.h5", "whole.keras"])
def test_a_weight_file_says_what_network_it_is_of(network, found, name):
    brain = mlp(5, 3, **network)
    save = {"ours.h5": lambda path: save_weights(brain, path), "keras3.weights.h5": brain.save_weights}
    save.get(name, brain.save)(name)
    assert sizes(name) == found


def test_a_file_that_says_nothing_of_its_network():
    Path("not.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert sizes("not.h5") is None and sizes("missing.h5") is None
    assert sizes(pretrained("breakout_parallel")) is None  # its first layers are convolutions


@pytest.mark.parametrize(
    "option",
    [
        ("--resume",),
        ("--checkpoints", "folder"),
        ("--checkpoint-memory",),
        ("--checkpoint-minutes", "5"),
        ("--weights-every", "1000"),
        ("--memory-size", "500"),
        ("--learning-rate", "0.1"),
        ("--verbose",),
        ("--history", "h.csv"),
        ("--game", "pong"),
        ("--sticky", "0"),
    ],
)
def test_what_several_seeds_cannot_do_is_refused(option, capsys):
    assert main(["train", "cartpole", "--seeds", "2", *option]) == 2
    assert f"{option[0]} is for a single training; with --seeds each starts afresh" in capsys.readouterr().err
