"""The settings: each stands once, none is ignored, all are written down."""

import inspect
from dataclasses import fields

import pytest

from keras_dqn import Agent, CartPole
from keras_dqn.backend import keras
from keras_dqn.core.exploration import Linear, Pieces
from keras_dqn.core.settings import ExplorationSettings, LearnerSettings, MemorySettings, Settings, to_json
from keras_dqn.games.breakout import NATURE, Breakout


def test_every_setting_stands_once_and_the_signatures_show_it():
    groups = MemorySettings, LearnerSettings, ExplorationSettings
    names = [field.name for group in groups for field in fields(group)]
    assert sorted(names) == sorted(set(names)) == sorted(Settings.names())
    for shows in Agent, CartPole:
        assert set(names) <= set(inspect.signature(shows).parameters)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Agent(4, 2, None, gama=0.9), "^Agent has no keyword .* nearest is `gamma`. Received: gama$"),
        (lambda: CartPole(200, gama=0.9), "^CartPole has no keyword .* nearest is `gamma`. Received: gama$"),
        (lambda: CartPole(eposides=3), "^CartPole has no keyword .*Received: eposides$"),
        (
            lambda: Breakout(lerning_starts=3),
            "^Breakout has no keyword .* `learning_starts`. ",
        ),
        (lambda: Settings().but(taus=3), "nearest is `tau`. Received: taus"),
    ],
)
def test_an_unknown_keyword_is_refused_with_the_nearest(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"learning_rate": 0.1, "optimizer": keras.optimizers.SGD()},
            "has its own .*Received: learning_rate=0.1",
        ),
        ({"tau": 0.5}, "`tau` needs a target network: give `target_update`. Received: tau=0.5"),
        ({"frame_padding": "reset"}, "`frame_padding` needs `store_frames=True`. Received: 'reset'"),
    ],
)
def test_what_would_be_ignored_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Agent(4, 2, None, **options)


def test_a_compiled_brain_has_its_own_rate():
    brain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    brain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="compiled with an optimizer of its own. Received: learning_rate=0.1"):
        Agent(4, 2, None, brain=brain, learning_rate=0.1)


def test_settings_leave_nothing_out():
    one, other = (to_json(Settings().but(exploration=Linear(1.0, end, 9)).flat()) for end in (0.1, 0.2))
    assert (
        one["exploration"] == {"class": "Linear", "start": 1.0, "end": 0.1, "steps_to_end": 9} != other["exploration"]
    )
    assert to_json(Pieces((0, 1.0), (5, 0.5)))["points"] == [[0, 1.0], [5, 0.5]]
    nature = Breakout(weights=None, weight_backup=None, memory_size=1000, learning_starts=0, precision="mixed_bfloat16")
    assert nature.settings["optimizer"]["class"] == "Adam" and nature.settings["optimizer"]["epsilon"] == 1.5e-4
    assert "mixed_bfloat16" in str(nature.settings["network"]) and nature.settings["exploration"]["class"] == "Pieces"
    assert NATURE["exploration"] == Pieces(*nature.agent.settings.exploration.exploration.points)


def test_resuming_with_another_schedule_or_network_is_reported(capsys):
    def game(steps, **options):
        options = {"weights": None, "weight_backup": None, "seed": 0, "network": {"activation": "tanh"}, **options}
        return CartPole(steps=steps, **options)

    game(30, exploration=Linear(1.0, 0.1, 50)).train(progress=False, checkpoints="saved")
    other = {"exploration": Linear(1.0, 0.2, 50), "network": {"activation": "relu"}}
    game(40, **other).train(progress=False, checkpoints="saved", resume=True)
    out = capsys.readouterr().out
    assert "`exploration` was" in out and "`network` was" in out


def test_attributes_tell_the_truth():
    agent = CartPole(recipe="pytorch", weights=None, weight_backup=None).agent
    assert agent.learning_rate == 1e-4 and agent.exploration_decay is None
    assert agent.exploration_min == pytest.approx(0.05)
    agent = Agent(4, 2, None, learning_rate=0.002)
    assert agent.learning_rate == 0.002 and agent.exploration_min == 0.01 and agent.exploration_decay == 0.995
