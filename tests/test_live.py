"""The learning curve that grows in a notebook, without a notebook: what is displayed, and how often."""

from types import SimpleNamespace

import pytest

from keras_dqn import CartPole
from keras_dqn.core.counting import Episode
from keras_dqn.core.loop import TrainStep
from keras_dqn.training import progress as live
from keras_dqn.training.history import History


class Handle:
    def __init__(self):
        self.updates = []

    def update(self, data, metadata, raw):
        assert raw
        self.updates.append(data["image/png"])


@pytest.fixture
def shown(monkeypatch):
    """The handles that `display` gave."""
    handles = []

    def display(data, metadata, raw, display_id):
        assert raw is display_id is True and data["image/png"].startswith(b"\x89PNG")
        assert metadata["image/png"]["width"] == 600
        handles.append(Handle())
        return handles[-1]

    monkeypatch.setattr("IPython.display.display", display)
    return handles


drawn = []  # how many episodes there were at each drawing


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told to, and one for each drawing."""
    now = [0.0]
    drawn.clear()
    curve = live.learning_curve

    def slow_curve(history, *arguments, **options):
        now[0] += 1
        drawn.append(len(history))
        return curve(history, *arguments, **options)

    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(live, "learning_curve", slow_curve)
    return now


def curve_of(history):
    curve = live.LiveCurve()
    curve.training = SimpleNamespace(history=history, runner=CartPole)
    curve.on_train_begin()
    return curve


def test_one_figure_is_drawn_again_in_its_place_but_rarely(shown, clock):
    history = History([Episode(20.0, 20, 0.1, 1.0, 0.1)])
    curve = curve_of(history)
    for _ in range(200):
        clock[0] += 1
        curve.on_step(TrainStep(20, history[:1], None))
    curve.close(None)
    (handle,) = shown
    assert 5 <= len(handle.updates) <= 1 + 200 * live.SHARE
    history += [Episode(30.0, 30, 0.1, 1.0, 0.2)] * 4
    curve.draw()
    assert drawn[-1] == 5 and handle.updates[-1] != handle.updates[-2]


def test_nothing_is_drawn_before_the_first_episode(shown):
    curve_of(History()).close(None)
    assert shown == []


def test_training_in_a_notebook_draws_and_elsewhere_does_not(shown, monkeypatch):
    CartPole(3, seed=0).train(progress=False)
    assert shown == []
    monkeypatch.setattr("keras_dqn.training.training.in_notebook", lambda: True)
    CartPole(3, weights=None, seed=0).train(progress=False)
    assert len(shown) == 1
    CartPole(3, weights=None, seed=0).train(progress=False, live=False)
    assert len(shown) == 1
