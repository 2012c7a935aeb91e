"""Any gymnasium environment with vectors for states and discrete actions, and a clear word about every other."""

import sys
import threading
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from keras_dqn import game_for
from keras_dqn.__main__ import main
from tests.environments import Counter


class WholeNumbers(Counter):
    """A `Counter` whose states are whole numbers."""

    observation_space = gym.spaces.Box(0, 1000, (2,), np.int64)

    def __init__(self, render_mode=None):
        super().__init__()

    def _state(self):
        return super()._state().astype(np.int64)


@pytest.fixture
def registered():
    """A function that registers an environment as `Temporary-v0` for one test."""
    yield lambda entry_point: gym.register("Temporary-v0", entry_point, disable_env_checker=True)
    gym.registry.pop("Temporary-v0", None)


def test_acrobot_learns_and_leaves_files_of_its_name():
    acrobot = game_for("Acrobot-v1")(1, recipe="fast", weights=None, seed=0)
    assert (acrobot.name, acrobot.solved_score) == ("Acrobot-v1", -100)  # gymnasium's own threshold
    history = acrobot.train(progress=False)
    assert history.scores[0] <= -100 and len(history.update_losses) > 0
    assert acrobot.agent.weight_backup.name == "Acrobot-v1_fast_weight.h5" and acrobot.agent.weight_backup.exists()
    assert game_for("Acrobot-v1")().agent.weight_backup.name == "Acrobot-v1_weight.h5"


def test_the_default_recipe_is_the_agents_own_defaults():
    acrobot = game_for("Acrobot-v1")(seed=0)
    assert acrobot.recipe == "juvin" and acrobot.agent.gamma == 0.95 and acrobot.replay_every == "episode"


@pytest.mark.parametrize("recipe", ["juvin", "fast"])
def test_states_may_be_whole_numbers(registered, recipe):
    registered(WholeNumbers)
    game = game_for("Temporary-v0")(60, recipe=recipe, weights=None, seed=0)
    assert game.solved_score is None
    assert len(game.train(progress=False).update_losses) > 0
    assert len(game.evaluate(2).scores) == 2


def test_a_module_before_the_name_registers_it(tmp_path, monkeypatch, registered):
    (tmp_path / "my_games.py").write_text(
        "import gymnasium\ngymnasium.register('Temporary-v0', 'tests.test_any_game:WholeNumbers')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_games", raising=False)
    assert game_for("my_games:Temporary-v0")().name == "Temporary-v0"


@pytest.mark.parametrize("module", [".evil", "..", "a..b", "a b", "a/b", "x\0y", " "])
def test_what_is_no_name_of_a_module_is_refused_in_one_line(module, capsys):
    assert main(("train", f"{module}:X-v0")) == 2
    err = capsys.readouterr().err
    assert err.startswith("keras_dqn: error: ") and err.count("\n") == 1 and "odule" in err


@pytest.mark.parametrize(
    ("text", "message"), [("1 / 0", "ZeroDivisionError"), ("one two", "SyntaxError"), ("import no_such", "no_such")]
)
def test_a_module_that_cannot_be_imported_is_named_in_one_line(text, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_games.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_games", raising=False)
    assert main(("train", "my_games:X-v0")) == 2
    err = capsys.readouterr().err
    assert err.startswith("keras_dqn: error: ") and err.count("\n") == 1 and message in err


def image_in_a_dictionary():
    env = Counter()
    env.observation_space = gym.spaces.Dict(a=gym.spaces.Discrete(4), b=gym.spaces.Box(0, 255, (7, 7, 3), np.uint8))
    return env


def text_in_a_tuple():
    env = Counter()
    env.observation_space = gym.spaces.Tuple([gym.spaces.Discrete(4), gym.spaces.Text(9)])
    return env


def too_many_combinations():
    env = Counter()
    env.action_space = gym.spaces.MultiDiscrete([11, 91])
    return env


def many_actions():
    env = Counter()
    env.action_space = gym.spaces.Box(np.arange(40, dtype=np.float32) - 50, np.arange(40, dtype=np.float32) / 3)
    return env


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ("Taxi-v99", r"nearest is Taxi-v\d. Received: Taxi-v99$"),
        (image_in_a_dictionary, r"an image must be all of it: .*ImgObsWrapper.* Received: Dict\('a': .*\)$"),
        (text_in_a_tuple, r"must be arrays and numbers; .*FilterObservation.* Received: Tuple\(.*Text.*\)$"),
        (too_many_combinations, r"TransformAction.* 1,001 combinations, 1,000 at most. Received: MultiDiscrete"),
        ("Pendulum-v1", r"needs discrete actions .*DiscretizeAction.* Received: Box\(-2.0, 2.0, \(1,\), float32\)$"),
        (many_actions, r"needs discrete actions .* Received: Box\(.*\(40,\), float32\)$"),
        ("Acrobat-v1", "nearest is Acrobot-v1. Received: Acrobat-v1$"),
    ],
)
def test_what_it_cannot_learn_is_said_in_one_line(environment, message, registered):
    if callable(environment):
        registered(lambda render_mode=None, make=environment: make())
        environment = "Temporary-v0"
    with pytest.raises(ValueError, match=message) as raised:
        game_for(environment)()
    assert "\n" not in str(raised.value)


def test_what_is_not_installed_is_named(registered):
    def needs_a_simulator(render_mode=None):
        raise gym.error.DependencyNotInstalled("pip install a-simulator")

    registered(needs_a_simulator)
    with pytest.raises(ValueError, match="cannot make 'Temporary-v0'. Received: .*pip install a-simulator"):
        game_for("Temporary-v0")()


# ---------------------------------------------------------------- environments as people write them


class Short(gym.Env):
    """Three steps long; subclasses change one thing."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    info = {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), self.info

    def step(self, action):
        self.steps += 1
        return self.observe(), 1.0, self.steps == 3, False, {}

    def observe(self):
        return np.array([0.3, 0.7], np.float32)


def trained(env, **options):
    game = game_for(env)(5, weights=None, weight_backup=None, **options)
    game.train(progress=False)
    return game


def test_numbers_that_do_not_fit_the_space_are_refused():
    class Whole(Short):
        observation_space = gym.spaces.Box(0, 1, (2,), dtype=int)

    class Bytes(Short):
        observation_space = gym.spaces.Box(0, 255, (2,), np.uint8)

        def observe(self):
            return np.array([3, 256])

    for env, received in (Whole, r"float32, \[0\.3 0\.7\]"), (Bytes, r"int64, \[  3 256\]"):
        with pytest.raises(ValueError, match=f"The observation space has the dtype .* Received: {received}"):
            trained(env)


@pytest.mark.parametrize("num_envs", [1, 2])
def test_an_observation_of_another_shape_is_said_with_space_and_step(num_envs):
    class Grows(Short):
        def observe(self):
            return np.zeros(2 + (self.steps > 1), np.float32)

    with pytest.raises(ValueError, match=r"space is Box\(.*, \(2,\), .*Received: .* shape \(3,\), in step 2 of an"):
        trained(Grows, num_envs=num_envs)


def test_what_makes_an_environment_is_called_again_and_not_copied():
    class Locked(Short):
        def __init__(self):
            self.lock = threading.Lock()

    assert len(trained(Locked, recipe="fast").evaluate(3).scores) == 3
    with pytest.raises(ValueError, match="cannot be copied to evaluate in. Received: TypeError"):
        game_for(Locked())(2, weights=None)
    with pytest.raises(FileNotFoundError, match="prices.csv"):
        game_for(lambda: Path("prices.csv").read_text())(2, weights=None)


def test_a_reset_without_options_and_a_render_mode_of_ones_own():
    class Old(Short):
        def reset(self, seed=None):
            return super().reset(seed=seed)

    trained(Old)
    game_for("CartPole-v1", render_mode="rgb_array")(2, weights=None, weight_backup=None).train(progress=False)


def test_a_mask_that_only_reset_gives_is_refused():
    class Masked(Short):
        info = {"action_mask": np.array([1, 0], np.int8)}

    with pytest.raises(ValueError, match=r"`action_mask` must be in the info of `step`.* Received: \[\]"):
        trained(Masked)
