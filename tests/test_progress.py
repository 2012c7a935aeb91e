"""The progress bar: how it ends, and what it shows in little room."""

import re
from types import SimpleNamespace

import pytest
import tqdm.notebook

from keras_dqn import CartPole, MountainCar
from keras_dqn.backend import keras
from keras_dqn.core.counting import Episode
from keras_dqn.core.loop import TrainStep
from keras_dqn.training import progress
from keras_dqn.training.history import History
from keras_dqn.training.runner import Runner

EPISODE = Episode(21.0, 21, 0.5, 1.0, 0.1)


@pytest.fixture(autouse=True)
def evaluations(monkeypatch):
    """Evaluations that play nothing, and have these means one after the other."""
    means = [500.0]
    monkeypatch.setattr(Runner, "evaluate", lambda *_, **__: SimpleNamespace(mean=means.pop(0)))
    return means


def last_bar(text):
    """What of the bar stays on the screen."""
    return text.rstrip().split("\r")[-1]


def test_a_training_that_stops_at_its_score_ends_with_a_full_bar_and_one_line(capsys):
    runner = CartPole(1000, weights=None, seed=0)
    history = runner.train(evaluate_every=100, stop_score=490)
    out, err = capsys.readouterr()
    assert out == "Solved after 100 steps: mean 500.0 over 100 greedy episodes; weights: cartpole_weight_best.h5\n"
    episodes = len(history)
    bar = last_bar(err)
    assert f" {episodes}/{episodes} " in bar and "100%" in bar and "\x1b" not in err and "evaluation=500.0" in bar


def test_a_score_below_what_solves_the_game_is_not_called_so(capsys, evaluations):
    evaluations[:] = [30.0]
    CartPole(1000, weights=None, seed=0).train(progress=False, evaluate_every=60, stop_score=20)
    assert capsys.readouterr().out.startswith("Stopped after 60 steps: mean 30.0 over ")


def test_a_training_that_a_callback_ends_is_no_success(capsys):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    CartPole(1000, weights=None, seed=0).train([Stop()])
    out, err = capsys.readouterr()
    assert out == "" and " 1/1000 " in last_bar(err) and "\x1b[32m" not in err


def bar_of(runner, history=(), steps=0):
    """The bar of a training that is only pretended."""
    bar = progress.ProgressBar()
    bar.training = SimpleNamespace(runner=runner, history=History(history), steps=steps, comments=[], reached=None)
    bar.on_train_begin()
    return bar


def test_a_game_that_is_solved_before_its_episodes_are_played_fills_the_bar(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)  # elsewhere there are no colors
    history = [Episode(-100.0, 100, 0.5, 1.0, 0.1)] * 100
    bar_of(MountainCar(1000, weights=None), history).close(None)
    assert (
        " 100/100 " in last_bar(err := capsys.readouterr().err) and "\x1b[32m" in err and "compiling" not in err[-150:]
    )


def test_until_the_first_update_the_bar_says_what_takes_long(capsys):
    runner = CartPole(5, weights=None, seed=0)
    bar_of(runner)
    assert "first update=compiling" in capsys.readouterr().err
    runner.train()
    assert "compiling" not in last_bar(capsys.readouterr().err)


def test_the_bar_stays_in_a_notebook(monkeypatch):
    monkeypatch.setattr(progress, "tqdm", tqdm.notebook.tqdm)
    bar = bar_of(CartPole(5, weights=None))
    assert bar._bar.leave
    bar.training.history.append(EPISODE)
    bar.on_step(TrainStep(21, [EPISODE], None))
    bar.training.reached = SimpleNamespace(steps=21, score=500.0)
    bar._fill()
    bar._bar.close()
    middle = bar._bar.container.children[1]
    assert (middle.value, middle.max, middle.bar_style) == (
        1,
        1,
        "success",
    ) and bar._bar.container.layout.display is None


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_narrow_terminal_keeps_score_and_epsilon(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    bar = bar_of(CartPole(11, weights=None))
    bar.training.history.append(EPISODE)
    bar.on_step(TrainStep(21, [EPISODE], None))
    bar.close(None)
    line = last_bar(capsys.readouterr().err)
    assert re.search(r"%[|].+[|] \d\d:\d\d, score=21, epsilon=1.00", line) and len(line) < columns


def test_ctrl_c_says_how_far_it_came_and_where_the_weights_are(capsys):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    runner = CartPole(1000, weights=None, seed=0)
    with pytest.raises(KeyboardInterrupt):
        runner.train([Interrupt()], progress=False)
    said = f"Interrupted after 3 episodes and {runner.history.lengths.sum()} steps; weights: cartpole_weight.h5\n"
    assert capsys.readouterr().out == said
