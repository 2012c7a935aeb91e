"""What is answered where something is wrong: one line, which names it and says what to do, and that then works."""

import gymnasium as gym
import numpy as np
import pytest

from keras_dqn import Agent, CartPole, History, game_for
from keras_dqn.__main__ import main
from keras_dqn.core.settings import ELSEWHERE, Settings, check_keywords
from tests.environments import Counter

NONE = {"weights": None, "weight_backup": None}
STATE = np.zeros(2, np.float32)


def one_with(**members):
    """An environment that is a `Counter` but for these members."""
    return type("Own", (Counter,), {"__init__": lambda self: Counter.__init__(self), **members})


def trained(environment, episodes=1, **options):
    game = game_for(environment)(episodes, **NONE, **options)
    game.train(progress=False)
    return game


def returns(*values):
    """A method that returns these, whatever it is asked."""
    return lambda self, *_, **__: values if len(values) > 1 else values[0]


class OfGym:
    """What gym, without -nasium, calls a space."""

    __module__ = "gym.spaces.discrete"
    n = 2


class Builds(Agent):
    def _build_model(self):
        raise AssertionError("nobody calls it")


WRONG = {
    "exploration": (lambda: CartPole(exploration=0.1, **NONE), "`exploration` must be a function .*`exploration_rate`"),
    "schedule": (lambda: CartPole(learning_rate_schedule=0.1, **NONE), "a function .*`learning_rate`.* Received: 0.1"),
    "network": (lambda: CartPole(network=64, **NONE), r"`network` must be .*\[64, 64\].* Received: 64"),
    "callbacks": (lambda: CartPole(**NONE).train(100), r"CartPole\(episodes=100\). Received: 100"),
    "episodes": (
        lambda: CartPole(**NONE).train(episodes=10),
        r"CartPole\(episodes=10\).train\(\). Received: episodes=10",
    ),
    "lr": (lambda: Agent(4, 2, None, lr=0.1), "the nearest is `learning_rate`. Received: lr"),
    "minibatch": (lambda: Agent(4, 2, None, minibatch_size=64), "sample_batch_size=64. Received: 64"),
    "budget": (lambda: CartPole(n_episodes=3), "the nearest is `episodes`. Received: n_episodes"),
    "environment": (
        lambda: Agent(gym.make("CartPole-v1"), 2),
        r"`state_size` must be .*shape\[0\] .*game_for.* Received: <",
    ),
    "act": (lambda: Agent(4, 2, None).act(gym.make("CartPole-v1").reset()), r"`state, info = env.reset\(\)`. Received"),
    "weights": (lambda: CartPole(weights="pretraned"), "the nearest is pretrained"),
    "pretrained": (
        lambda: CartPole(recipe="rainbow", weights="pretrained"),
        "'cartpole_fast'.* Received: 'cartpole_rain",
    ),
    "gym": (lambda: game_for(one_with(action_space=OfGym()))(), "from gymnasium import spaces.* Received: gym.spaces"),
    "no dict": (
        lambda: trained(one_with(reset=returns(STATE, None))),
        "state, info .* Received: ndarray, NoneType from",
    ),
    "four": (
        lambda: trained(one_with(step=returns(STATE, 1.0, True, {}))),
        "five values: .* ndarray, float, bool, dict",
    ),
    "six": (lambda: trained(one_with(step=returns(STATE, 1.0, True, False, {}, 1))), "five values: .* dict, int from"),
    "nothing": (lambda: trained(one_with(step=returns(None))), "five values: .* Received: NoneType from `step`"),
    "first": (lambda: trained(one_with(reset=returns(np.zeros(3), {}))), r"space is Box.*\(2,\).*shape \(3,\)"),
    "later": (
        lambda: trained(one_with(step=returns(np.zeros(3), 1.0, True, False, {}))),
        r"shape .3,., in step 1",
    ),
    "building": (lambda: Builds(4, 2, None), "`_build_model`.* as `brain`. Received: Builds"),
    "building for a game": (lambda: CartPole(agent_class=Builds), "`_build_model`.* as `brain`. Received: Builds"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_answered_in_one_line(name):
    call, words = WRONG[name]
    with pytest.raises((ValueError, TypeError), match=words) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_words_of_other_libraries_lead_to_settings_that_there_are():
    known = [*Settings.names(), "brain", "network", "replay_every", "max_episode_steps"]
    for names, words in ELSEWHERE.items():
        for name in names:
            with pytest.raises(TypeError) as raised:
                check_keywords("A game", [name], known)
            assert str(raised.value).endswith(f"; the nearest is {words}. Received: {name}")
            assert words.split("`")[1] in known and name not in known


def test_what_is_advised_works():
    assert Agent(4, 2, None, minibatch_size=64, sample_batch_size=64).minibatch_size == 64
    assert CartPole(network=[5, 7], **NONE).agent.brain.layers[1].units == 7
    assert Agent(4, 2, None, network=(5,)).brain.count_params() == 5 * 5 + 6 * 2
    brain = Agent(4, 2, None).brain
    assert Builds(4, 2, None, brain=brain).brain is brain


@pytest.mark.parametrize(
    ("space", "wrapper", "arguments"),
    [
        (gym.spaces.Box(-1, 1, (1,)), "DiscretizeAction", {"bins": 5}),
    ],
)
def test_actions_that_are_no_numbers_from_zero_name_the_wrapper_that_makes_them(space, wrapper, arguments):
    environment = one_with(action_space=space)
    with pytest.raises(ValueError, match=rf"gymnasium.wrappers.{wrapper}\(.* Received: "):
        game_for(environment)()
    wrapped = getattr(gym.wrappers, wrapper)
    assert len(trained(lambda: wrapped(environment(), **arguments)).history) == 1


def test_weights_that_are_not_written_are_named(capsys):
    agent = Agent(4, 2, "here.h5")
    agent.save_model("a/folder/made.h5")
    agent.save_model()
    capsys.readouterr()
    agent.save_model()
    assert capsys.readouterr().out == "No weights were written to here.h5: nothing was learned\n"
    Agent(4, 2, None).save_model()
    assert "`save_model(path)`" in capsys.readouterr().out
    assert Agent(4, 2, "a/folder/made.h5").exploration_rate == 0.01


def test_an_agent_that_has_learned_nothing_is_called_untrained(capsys):
    game = CartPole(2, seed=0, **NONE)
    game.evaluate(1)
    assert capsys.readouterr().out.startswith("The network is untrained: ")
    game.run(show=str, video="a.mp4", max_frames=2)
    assert capsys.readouterr().out.startswith("The network is untrained: ")
    game.run(1.0, show=str, video="b.mp4", max_frames=2)
    game.train(progress=False)
    game.evaluate(1)
    assert "untrained" not in capsys.readouterr().out


@pytest.mark.parametrize("weights", ["pretrained", "assigned", "brain", "backup"])
def test_an_agent_with_weights_is_not_called_untrained(weights, capsys):
    options = {"brain": CartPole(**NONE).agent.brain} if weights == "brain" else {}
    if weights == "backup":
        Agent(4, 2, "cartpole_weight.h5").save_model()
    game = CartPole(weights=weights if weights in ("pretrained", "backup") else None, **options)
    if weights == "assigned":
        game.agent.brain.set_weights(CartPole(**NONE).agent.brain.get_weights())
    game.evaluate(1)
    assert "untrained" not in capsys.readouterr().out


def test_a_history_without_episodes_has_no_mean():
    assert repr(History()) == "<History of 0 episodes>"


def test_options_of_train_are_named_as_such(capsys):
    assert main(["evaluate", "cartpole", "--gamma", "0.9"]) == 2
    assert "option of train" in capsys.readouterr().err
