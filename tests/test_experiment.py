"""Experiments over seeds: what the folder, the tables and the figure hold, and that they can be gone on with.

Those beside PyTorch are in test_pytorch.py, those on Ray in test_ray.py.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_dqn import CartPole, MountainCar, game_for, load_weights, train_seeds
from keras_dqn.__main__ import main
from keras_dqn.backend import keras
from keras_dqn.core.exploration import Linear
from keras_dqn.core.learner import Learner
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.experiment import Experiment, Result, Sweep
from keras_dqn.experiment.seeds import Plan
from keras_dqn.games.breakout import Breakout
from keras_dqn.training.evaluate import Evaluation

FEW = {"steps": 200, "network": {"hidden": (16,)}, "evaluate_every": 100, "progress": False}
TINY = {"memory_size": 3000, "learning_starts": 32, "exploration": Linear(1.0, 0.1, 200)}


def result(framework="Keras", seed=0, score=400.0, steps_to_solve=2000, **fields):
    """A `Result` as training leaves it, of 100 steps a second."""
    known = {"best_score": score + 10, "steps": 3000, "seconds": 30.0, "evaluation_seconds": 5.0}
    curves = {"evaluations": [[1000, score / 2], [2000, score]], "scores": [20.0, 30.0], "lengths": [20, 30]}
    return Result(framework, seed, score, steps_to_solve=steps_to_solve, **{**known, **curves, **fields})


@pytest.fixture
def trained(monkeypatch):
    """Instead of training: the list of what would have been trained, (framework, seed)."""
    calls = []

    def train(self, framework, seed, progress):
        calls.append((framework, seed))
        made = json.dumps(result(framework, seed, score=400.0 + seed)._asdict())
        return {f"{framework.lower()}_seed_{seed}.json": made.encode()}

    monkeypatch.setattr(Plan, "train", train)
    return calls


# ---------------------------------------------------------------- the real thing


def test_a_seed_gives_what_a_single_training_with_it_gives(capsys):
    experiment = train_seeds(CartPole, "fast", seeds=1, seed=3, folder="here", **{**FEW, "progress": True})
    err = capsys.readouterr().err
    assert "cartpole: 100%" in err and "Keras, seed 3 ended" in err
    (done,) = experiment.results
    single = CartPole(recipe="fast", seed=3, weights=None, steps=FEW["steps"], network=FEW["network"])
    history = single.train(progress=False, evaluate_every=100)
    assert (done.seed, done.steps, done.episodes, done.error) == (3, 200, len(history), None)
    assert done.scores == history.scores.tolist() and done.lengths == history.lengths.tolist()
    assert done.score == single.evaluate(100).mean
    single.agent.load_model(single.best_backup)
    assert done.best_score == single.evaluate(100).mean
    assert done.evaluations == [[made.steps, made.score] for made in history.evaluations]
    assert Path("here/keras_seed_3_weight.h5").read_bytes() == Path("cartpole_fast_weight.h5").read_bytes()
    load_weights(mlp(4, 2, (16,)), "here/keras_seed_3_weight_best.h5")
    kept = {"results.csv", "table.md", "learning_curves.png", "settings.json", "keras_seed_3.json"}
    assert {path.name for path in Path("here").iterdir()} > kept
    assert Path("here/table.md").read_text() == str(experiment)


def test_a_training_that_breaks_off_is_a_failure_and_stays(monkeypatch):
    def diverges(self, batches):
        raise FloatingPointError("The loss is not finite. Received: nan")

    monkeypatch.setattr(Learner, "update", diverges)
    experiment = train_seeds(CartPole, "juvin", seeds=1, steps=500, evaluate_every=1000, progress=False)
    (done,) = experiment.results
    assert done.steps_to_solve is None and 32 <= done.steps < 500 and done.best_score == done.score > 0
    assert "Keras, seed 0: The loss is not finite. Received: nan" in str(experiment)
    assert "| 1 of 1 | not solved | not solved |" in str(experiment)


def test_the_checkpoints_of_one_training_are_not_in_the_way_of_the_next(monkeypatch):
    monkeypatch.setitem(Breakout.recipes, "nature", {**Breakout.recipes["nature"], **TINY})
    monkeypatch.setattr(Breakout, "evaluate", lambda *_, **__: Evaluation(np.zeros(5), np.ones(5, int)))
    assert [one.steps for one in train_seeds(Breakout, seeds=2, steps=64, progress=False).results] == [64, 64]
    assert not list(Path().glob("*checkpoints*"))


# ---------------------------------------------------------------- going on


def test_after_an_interruption_the_same_call_goes_on(trained, monkeypatch, capsys):
    train = Plan.train

    def interrupted(self, framework, seed, *arguments):
        if seed == 2:
            raise KeyboardInterrupt
        return train(self, framework, seed, *arguments)

    monkeypatch.setattr(Plan, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_seeds(CartPole, seeds=4, folder="mine")
    assert "2 of 4 trainings are kept in mine; the same call goes on from there" in capsys.readouterr().out
    assert Path("mine/results.csv").read_text().count(",Keras,") == 2
    monkeypatch.setattr(Plan, "train", train)
    assert len(train_seeds(CartPole, seeds=4, folder="mine").results) == 4
    assert trained == [("Keras", seed) for seed in (0, 1, 2, 3)]
    assert "2/4" in capsys.readouterr().err  # the bar begins where the first one ended
    assert len(train_seeds(CartPole, seeds=5, folder="mine", progress=False).results) == 5  # more join them
    assert len(trained) == 5


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"recipe": "fast"}, r'-"recipe": "juvin", \+"recipe": "fast"'),
        ({"episodes": 7}, r'-"episodes": 200, \+"episodes": 7$'),
        ({"evaluate_every": 500}, r'-"evaluate_every": 1000, \+"evaluate_every": 500$'),
        ({"game": MountainCar, "recipe": "fast"}, r'-"environment": "CartPole-v1", .*"MountainCar-v0"'),
        ({"gamma": 0.9}, r'\+"gamma": 0.9$'),
        ({"exploration": Linear(1.0, 0.1, 3000)}, r'-"end": 0.05, \+"end": 0.1$'),
    ],
)
def test_a_folder_of_other_settings_is_refused(trained, other, message):
    settings = {"game": CartPole, "seeds": 1, "folder": "mine", "progress": False}
    for _ in range(2):
        train_seeds(**settings, exploration=Linear(1.0, 0.05, 3000))
    with pytest.raises(ValueError, match=f"mine holds results of other settings: .* Received: .*{message}"):
        train_seeds(**{**settings, "exploration": Linear(1.0, 0.05, 3000), **other})
    assert len(trained) == 1


def test_a_damaged_result_is_named(trained):
    train_seeds(CartPole, seeds=1, folder="mine", progress=False)
    for content in "", "[]", '{"seed": 1}':
        Path("mine/keras_seed_0.json").write_text(content)
        with pytest.raises(ValueError, match="keras_seed_0.json: expected the result of a training; remove it"):
            train_seeds(CartPole, seeds=1, folder="mine", progress=False)


def test_a_sweep_is_an_experiment_for_every_combination(trained):
    sweep = {"tau": [0.5, 0.25], "recipe": ["fast", "pytorch"]}
    made = train_seeds(CartPole, seeds=2, sweep=sweep, progress=False)
    assert made.folder == Path("results/cartpole_sweep") and len(made.results) == 8 == len(trained)
    assert list(made.experiments) == [f"tau={tau},recipe={recipe}" for tau in (0.5, 0.25) for recipe in sweep["recipe"]]
    for name, experiment in made.experiments.items():
        assert f"| {name}, Keras | 2 | 400.5 (min 400.0, max 401.0) |" in str(made)
        assert experiment.folder == made.folder / name and f"tau={experiment.settings['options']['tau']}" in name
        assert Path(experiment.folder, "table.md").read_text() == str(experiment)
    rows = Path(made.folder, "results.csv").read_text().splitlines()
    assert rows[0].startswith("settings,framework,seed,score") and len(rows) == 9
    assert rows[1].startswith('"tau=0.5,recipe=fast",Keras,0,400.0')
    assert Path(made.folder, "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(made.figure().axes[0].get_legend().get_texts()) == 5  # four curves, and the score that solves it


# ---------------------------------------------------------------- tables and figure


def experiment(results, goal=475):
    asked = {"environment": "CartPole-v1", "recipe": "fast", "evaluate_every": 1000, "goal": goal}
    made = Experiment(Path("mine"), {**asked, "options": {"episodes": 600, "steps": None}, "versions": {"keras": "3"}})
    made.results.extend(results)
    return made


def test_the_summary_counts_failures_and_takes_them_for_the_slowest():
    solved_after = [1000, 3000, 2000, None, 4000]
    ours = [result(seed=i, score=100.0 * (i + 1), steps_to_solve=n) for i, n in enumerate(solved_after)]
    theirs = [result("PyTorch", i, score=9.0 + i, steps_to_solve=1000 * i + 1000, seconds=10.0) for i in range(3)]
    # t of 4 degrees of freedom at 97.5 %: 2.776445; the scores' standard deviation is 158.1139
    half = 2.776445 * 158.1139 / 5**0.5
    interval, of_best = f"({300 - half:.1f} to {300 + half:.1f})", f"({310 - half:.1f} to {310 + half:.1f})"
    assert experiment(ours + theirs).summary().splitlines() == [
        "|  | seeds | score | best score | failures | steps to solve, median | worst | seconds, median "
        "| steps per second |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| Keras | 5 | 300.0 {interval} | 310.0 {of_best} | 1 of 5 | 3,000 | not solved | 30.0 | 100 (100 to 100) |",
        "| PyTorch | 3 | 10.0 (min 9.0, max 11.0) | 20.0 (min 19.0, max 21.0) | 0 of 3 | 2,000 | 3,000 | 10.0 "
        "| 300 (min 300, max 300) |",
    ]


def test_the_table_has_a_row_for_each_training():
    lines = experiment([result(seed=3), result("PyTorch", 3, steps_to_solve=None)]).table().splitlines()
    assert lines[0].startswith("| framework | seed | score | best score | steps to solve | steps | episodes | seconds ")
    assert lines[2:] == [
        "| Keras | 3 | 400.0 | 410.0 | 2,000 | 3,000 | 2 | 30.0 | 100.0 |",
        "| PyTorch | 3 | 400.0 | 410.0 | – | 3,000 | 2 | 30.0 | 100.0 |",
    ]


def test_one_seed_has_no_interval_and_no_goal_no_failures():
    summary = experiment([result(steps_to_solve=None)], goal=None).summary()
    assert "| Keras | 1 | 400.0 | 410.0 | – | – | – | 30.0 | 100 |" in summary


def test_one_that_raised_has_not_solved_it_and_counts_nowhere_else():
    broken = Result("Keras", 1, error="RuntimeError: the screen went dark", settings="tau=0.5")
    made = experiment([result(settings="tau=0.5"), broken])
    assert "| tau=0.5, Keras | 2 | 400.0 | 410.0 | 1 of 2 | not solved | not solved | 30.0 |" in made.summary()
    assert "| Keras | 1 | – | – | – | 0 | 0 | 0.0 | – |" in made.table()
    for one in made, Sweep(Path("mine"), {"tau=0.5": made}):
        assert str(one).endswith("\n\ntau=0.5, Keras, seed 1: RuntimeError: the screen went dark\n")
        assert len(one.figure().axes[0].lines) > 0


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
        (("train", "cartpole", "--seeds", "2", "--evaluate-every", "0"), "--evaluate-every must be a whole number"),
        (("train", "cartpole", "--seeds", "2", "--weights", "pretrained"), "without --seeds. Received: pretrained"),
        (("compare", "Pendulum-v1"), "needs discrete actions 0, 1, 2, …"),
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
        (
            lambda: train_seeds(CartPole, brain=mlp(4, 2)),
            "`brain` would go from seed to seed: .* Received: <Sequential",
        ),
        (
            lambda: train_seeds(CartPole, optimizer=keras.optimizers.SGD()),
            "`optimizer` would go from seed to seed.* Received: <keras",
        ),
        (lambda: train_seeds(CartPole, sweep={"gamma": []}), r"list of different values for gamma. Received: \[\]$"),
        (lambda: train_seeds(CartPole, sweep={"gamma": [0.9, 0.9]}), "different values for gamma"),
        (lambda: train_seeds(CartPole, sweep={"gamma": 0.9}), "a list of different values for gamma. Received: 0.9$"),
    ],
)
def test_refuses_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not list(Path().iterdir())


def test_what_is_for_a_single_training_is_no_option_of_several():
    with pytest.raises(TypeError, match="CartPole has no keyword of that name.* Received: record_every"):
        train_seeds(CartPole, record_every=5)


def test_any_environment_can_be_trained_from_several_seeds(trained):
    made = train_seeds(game_for("Acrobot-v1"), "fast", seeds=1, progress=False)
    assert made.folder == Path("results/Acrobot-v1_fast") and made.settings["goal"] == -100


WITHOUT_TORCH = """
import pathlib, sys, keras_dqn
sys.modules["torch"] = None
package = pathlib.Path(keras_dqn.__file__).parent
for file in package.rglob("*.py"):
    parts = file.relative_to(package).with_suffix("").parts
    if parts[-1] not in ("pytorch", "torch", "__init__", "__main__"):
        __import__(".".join(["keras_dqn", *parts]))
keras_dqn.compare(keras_dqn.CartPole, "pytorch")
"""


def test_a_missing_torch_is_said_before_anything_is_trained_and_nothing_else_imports_it(tmp_path):
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, timeout=120)
    expected = "ImportError: keras_dqn.pytorch needs PyTorch: pip install torch. Received: "
    assert done.stderr.splitlines()[-1].startswith(expected)
    assert list(tmp_path.iterdir()) == []
