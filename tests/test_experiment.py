"""Experiments over seeds: what the folder, the tables and the figure hold, and that they can be gone on with."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import keras_dqn
from keras_dqn import CartPole, MountainCar, compare, game_for, load_weights, train_seeds
from keras_dqn.__main__ import main
from keras_dqn.backend import keras, tf
from keras_dqn.core.exploration import Linear
from keras_dqn.core.learner import Learner
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.experiment.report import Experiment
from keras_dqn.experiment.results import Result
from keras_dqn.experiment.seeds import _Training
from keras_dqn.games.breakout import Breakout
from keras_dqn.training.evaluation import Evaluation
from tests.test_checkpoint import TINY_RECIPE


def result(framework="Keras", seed=0, score=400.0, steps_to_solve=2000, **fields):
    """A `Result` as training leaves it, of 100 steps a second."""
    known = {"best_score": score + 10, "steps": 3000, "seconds": 30.0, "evaluation_seconds": 5.0, "error": None}
    evaluations = [[1000, score / 2], [2000, score]]
    curves = {"evaluations": evaluations, "scores": [20.0, 30.0], "lengths": [20, 30]}
    return Result(
        **{**known, **curves, **fields}, framework=framework, seed=seed, score=score, steps_to_solve=steps_to_solve
    )


@pytest.fixture
def trained(monkeypatch):
    """Instead of training: the list of what would have been trained, (framework, seed)."""
    calls = []

    def run(self, framework, seed, folder, progress):
        calls.append((framework, seed))
        return result(framework, seed, score=400.0 + seed)

    monkeypatch.setattr(_Training, "run", run)
    return calls


# ---------------------------------------------------------------- the real thing


COMPARE = ["compare", "cartpole", "--recipe", "pytorch", "--seeds", "2", "--steps", "300", "--evaluate-every", "150"]


def test_compare_trains_both_and_leaves_tables_plot_and_weights(capsys, monkeypatch):
    assert main(COMPARE) == 0
    out, err = capsys.readouterr()
    assert "cartpole, seed 1, PyTorch: 100%" in err and "4/4" in err and "training" in err  # a bar, with time left
    folder = Path("results/cartpole_pytorch_comparison")
    assert out.endswith(f"Results: {folder}\n") and (folder / "table.md").read_text() in out
    assert out.startswith("|  | Keras | PyTorch |\n") and "| failures | 2 of 2 | 2 of 2 |" in out
    assert f"PyTorch on one thread. keras_dqn {keras_dqn.__version__}, tensorflow {tf.__version__}, " in out

    with open(folder / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["framework"], row["seed"]) for row in rows] == [
        ("Keras", "0"), ("PyTorch", "0"), ("Keras", "1"), ("PyTorch", "1"),
    ]  # fmt: skip
    assert all(row["steps"] == "300" and float(row["steps_per_second"]) > 0 for row in rows)
    assert (folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    for framework in "keras", "pytorch":
        for end in "", "_best":
            load_weights(mlp(4, 2, (128, 128)), folder / f"{framework}_seed_1_weight{end}.h5")
        done = json.loads((folder / f"{framework}_seed_1.json").read_text())
        assert [steps for steps, _ in done["evaluations"]] == [150, 300] and done["evaluation_seconds"] > 0
        assert sum(done["lengths"]) <= 300 and done["scores"] == done["lengths"]

    monkeypatch.setattr(_Training, "run", None)  # would raise
    assert main(COMPARE) == 0
    assert capsys.readouterr().out == out


def test_a_seed_gives_what_a_single_training_with_it_gives():
    budget = {"steps": 200, "network": {"hidden": (16,)}}
    experiment = train_seeds(
        CartPole, "fast", seeds=1, seed=3, evaluate_every=100, folder="here", progress=False, **budget
    )
    (done,) = experiment.results
    single = CartPole(recipe="fast", seed=3, weights=None, **budget)
    history = single.train(progress=False, evaluate_every=100)
    assert (done.seed, done.steps, done.episodes) == (3, 200, len(history))
    assert done.scores == history.scores.tolist()
    assert done.score == single.evaluate(100).mean
    single.agent.load_model(single.best_backup)
    assert done.best_score == single.evaluate(100).mean
    assert done.evaluations == [[made.steps, made.score] for made in history.evaluations]
    assert Path("here/keras_seed_3_weight.h5").read_bytes() == Path("cartpole_fast_weight.h5").read_bytes()


def test_a_training_that_breaks_off_is_a_failure_and_stays(monkeypatch):
    def diverges(self, batches):
        raise FloatingPointError("The loss is not finite. Received: nan")

    monkeypatch.setattr(Learner, "update", diverges)
    experiment = train_seeds(CartPole, "juvin", seeds=1, steps=500, evaluate_every=1000, progress=False)
    (done,) = experiment.results
    assert done.steps_to_solve is None and 32 <= done.steps < 500 and done.best_score == done.score > 0
    assert "Keras, seed 0: The loss is not finite. Received: nan" in str(experiment)
    assert "| failures | 1 of 1 |" in str(experiment)


def test_torch_runs_on_one_thread_and_gets_its_own_back(monkeypatch):
    threads = []
    monkeypatch.setattr(
        _Training, "_result", lambda self, *_: threads.append(torch.get_num_threads()) or result("PyTorch")
    )
    monkeypatch.setattr(CartPole, "train", lambda self, **_: None)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        train_seeds(CartPole, seeds=1, frameworks=["PyTorch"], progress=False)
        assert threads == [1] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- going on


def test_frameworks_take_turns(trained):
    compare(CartPole, seeds=2, seed=5, progress=False)
    assert trained == [("Keras", 5), ("PyTorch", 5), ("Keras", 6), ("PyTorch", 6)]


def test_after_an_interruption_the_same_call_goes_on(trained, monkeypatch, capsys):
    run = _Training.run

    def interrupted(self, framework, seed, *arguments):
        if seed == 2:
            raise KeyboardInterrupt
        return run(self, framework, seed, *arguments)

    monkeypatch.setattr(_Training, "run", interrupted)
    train = ["train", "cartpole", "--seeds", "4", "--out", "mine"]
    assert main(train) == 130
    assert "2 of 4 trainings are kept in mine; the same call goes on from there" in capsys.readouterr().out
    assert Path("mine/table.md").read_text().count("| Keras | ") == 2
    monkeypatch.setattr(_Training, "run", run)
    assert main(train) == 0
    assert trained == [("Keras", seed) for seed in (0, 1, 2, 3)]
    assert "2/4" in capsys.readouterr().err  # the bar begins where the first one ended


def test_more_seeds_join_those_there_are(trained):
    train_seeds(CartPole, seeds=2, folder="mine", progress=False)
    assert len(train_seeds(CartPole, seeds=3, folder="mine", progress=False).results) == 3
    assert trained == [("Keras", 0), ("Keras", 1), ("Keras", 2)]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"recipe": "fast"}, "recipe 'juvin': give another folder. Received: recipe 'fast'"),
        ({"episodes": 7}, "episodes 200: give another folder. Received: episodes 7"),
        ({"evaluate_every": 500}, "evaluate_every 1000: .* Received: evaluate_every 500"),
        (
            {"game": MountainCar, "recipe": "fast"},
            "environment 'CartPole-v1': .* Received: environment 'MountainCar-v0'",
        ),
        ({"gamma": 0.9}, "gamma None: .* Received: gamma 0.9"),
        ({"frameworks": ["Keras", "PyTorch"]}, "torch None: .* Received: torch '2"),
    ],
)
def test_a_folder_of_other_settings_is_refused(trained, other, message):
    settings = {"game": CartPole, "seeds": 1, "folder": "mine", "progress": False}
    train_seeds(**settings)
    with pytest.raises(ValueError, match=f"mine holds results of other settings, {message}"):
        train_seeds(**{**settings, **other})
    assert len(trained) == 1


def test_functions_are_told_apart_by_what_they_were_made_of(trained):
    settings = {"game": CartPole, "seeds": 1, "folder": "mine", "progress": False}
    for _ in range(2):
        train_seeds(**settings, exploration=Linear(1.0, 0.05, 3000))
    with pytest.raises(ValueError, match=r"exploration .* Received: exploration .*0.1"):
        train_seeds(**settings, exploration=Linear(1.0, 0.1, 3000))
    assert len(trained) == 1


@pytest.mark.parametrize("content", ["", "[]", '{"seed": 1}'])
def test_a_damaged_result_is_named(trained, content):
    train_seeds(CartPole, seeds=1, folder="mine", progress=False)
    Path("mine/keras_seed_0.json").write_text(content)
    with pytest.raises(ValueError, match="keras_seed_0.json: expected the result of a training; remove it. Received: "):
        train_seeds(CartPole, seeds=1, folder="mine", progress=False)


# ---------------------------------------------------------------- tables and figure


def experiment(results, goal=475):
    options = {"episodes": 600, "steps": None}
    settings = {
        "environment": "CartPole-v1",
        "recipe": "fast",
        "evaluate_every": 1000,
        "goal": goal,
        "options": options,
    }
    made = Experiment(Path("mine"), {**settings, "versions": {"keras": "3"}})
    made.results.extend(results)
    return made


def test_the_summary_counts_failures_and_takes_them_for_the_slowest():
    solved_after = [1000, 3000, 2000, None, 4000]
    ours = [result(seed=i, score=100.0 * (i + 1), steps_to_solve=n) for i, n in enumerate(solved_after)]
    theirs = [result("PyTorch", i, score=9.0 + i, steps_to_solve=1000 * i + 1000, seconds=10.0) for i in range(3)]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in experiment(ours + theirs).summary().splitlines()
    ]
    # t of 4 degrees of freedom at 97.5 %: 2.776445; the scores' standard deviation is 158.1139
    half = 2.776445 * 158.1139 / 5**0.5
    assert rows == [
        ["", "Keras", "PyTorch"],
        ["---"] * 3,
        ["score", f"300.0 ({300 - half:.1f} to {300 + half:.1f})", "10.0 (min 9.0, max 11.0)"],
        ["score of the best weights", f"310.0 ({310 - half:.1f} to {310 + half:.1f})", "20.0 (min 19.0, max 21.0)"],
        ["failures", "1 of 5", "0 of 3"],
        ["steps to solve, median", "3,000", "2,000"],
        ["steps to solve, worst", "not solved", "3,000"],
        ["seconds, median", "30.0", "10.0"],
        ["steps per second", "100 (100 to 100)", "300 (min 300, max 300)"],
    ]


def test_the_table_has_a_row_for_each_training():
    lines = experiment([result(seed=3), result("PyTorch", 3, steps_to_solve=None)]).table().splitlines()
    assert (
        lines[0]
        == "| framework | seed | score | best weights | steps to solve | steps | episodes | seconds | steps/s |"
    )
    assert lines[2:] == [
        "| Keras | 3 | 400.0 | 410.0 | 2,000 | 3,000 | 2 | 30.0 | 100 |",
        "| PyTorch | 3 | 400.0 | 410.0 | not solved | 3,000 | 2 | 30.0 | 100 |",
    ]


def test_one_seed_has_no_interval_and_no_goal_no_failures():
    summary = experiment([result(steps_to_solve=None)], goal=None).summary()
    assert "| score | 400.0 |" in summary and "| failures | – |" in summary and "median | – |" in summary


def test_after_the_end_of_training_its_score_stays_in_the_curve():
    short = result(seed=0, evaluations=[[1000, 100.0], [2000, 480.0]])
    long = result(seed=1, evaluations=[[1000, 20.0], [2000, 40.0], [3000, 60.0]])
    none = result("PyTorch", 0, score=9.0, steps=500, evaluations=[])
    (panel,) = experiment([short, none, long]).figure().axes
    lines = {line.get_label(): line for line in panel.lines}
    mean = lines["Keras, mean, min and max of 2 seeds"]
    assert mean.get_xdata().tolist() == [500, 1000, 2000, 3000] and mean.get_ydata().tolist() == [60, 60, 260, 270]
    assert lines["PyTorch, 1 seed"].get_ydata().tolist() == [9, 9, 9, 9]
    assert lines["Solved: 475"].get_ydata() == [475, 475]


def test_a_notebook_shows_tables_and_figure(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *things, **options: shown.extend(things))
    made = experiment([result()])
    made._ipython_display_()
    assert shown[0].data == str(made)
    shown[1]._ipython_display_()
    assert shown[2]["image/png"].startswith(b"\x89PNG")


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "cartpole", "--seeds", "0"), "--seeds must be a whole number, 1 or more. Received: 0"),
        (("train", "cartpole", "--seeds", "-2"), "--seeds must be a whole number, 1 or more. Received: -2"),
        (("train", "cartpole", "--seeds", "2", "--evaluate-every", "0"), "--evaluate-every must be a whole number"),
        (
            ("train", "cartpole", "--seeds", "2", "--recipe", "x"),
            "--recipe must be one of juvin, pytorch",
        ),
        (("train", "cartpole", "--seeds", "2", "--plot", "p.png"), "--plot is for a single training"),
        (("train", "cartpole", "--seeds", "2", "--verbose"), "--verbose is for a single training"),
        (("train", "cartpole", "--seeds", "2", "--weights", "pretrained"), "starts afresh. Received: pretrained"),
        (("compare", "mountaincar", "--steps", "0"), "--steps must be a whole number, 1 or more. Received: 0"),
        (("compare", "--env", "Blackjack-v1"), "must be a vector of numbers"),
    ],
)
def test_errors_are_one_line_and_leave_no_folder(arguments, message, capsys, tmp_path):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("keras_dqn: error: ") and err.count("\n") == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_seeds("cartpole"), "`game` must be a Runner class, like CartPole. Received: 'cartpole'"),
        (lambda: train_seeds(CartPole, frameworks=["JAX"]), r"`frameworks` must be of .* Received: \['JAX'\]"),
        (lambda: train_seeds(CartPole, seed=-1), "`seed`.* Received: -1"),
        (lambda: train_seeds(CartPole, seed=None), "`seed`.* Received: None"),
        (lambda: train_seeds(CartPole, brain=mlp(4, 2)), "no object may go from seed to seed. Received: <Sequential"),
        (lambda: train_seeds(CartPole, optimizer=keras.optimizers.SGD()), "no object .* Received: <keras"),
    ],
)
def test_refuses_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_any_environment_can_be_trained_from_several_seeds(trained):
    made = train_seeds(game_for("Acrobot-v1"), "fast", seeds=1, progress=False)
    assert made.folder == Path("results/Acrobot-v1_fast") and made.settings["goal"] == -100


def test_the_checkpoints_of_one_training_are_not_in_the_way_of_the_next(monkeypatch):
    monkeypatch.setitem(Breakout.recipes, "nature", {**Breakout.recipes["nature"], **TINY_RECIPE})
    monkeypatch.setattr(Breakout, "evaluate", lambda *_, **__: Evaluation(np.zeros(5), np.ones(5, int)))
    options = {"steps": 64, "memory_size": 3000, "progress": False}
    assert [one.steps for one in train_seeds(Breakout, seeds=2, **options).results] == [64, 64]
    assert not list(Path().glob("*checkpoints*"))


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from keras_dqn.__main__ import main
sys.exit(main(["compare", "cartpole", "--recipe", "pytorch"]))
"""


def test_a_missing_torch_is_said_before_anything_is_trained(tmp_path):
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs PyTorch: pip install torch. Received: " in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
