"""The plan of the house: which way imports run, how long things are, and that each setting stands once."""

import ast
import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import keras_dqn
from keras_dqn import Agent, CartPole
from keras_dqn.backend import keras
from keras_dqn.core.exploration import Linear, Pieces
from keras_dqn.core.settings import (
    AgentKeywords,
    ExplorationSettings,
    LearnerSettings,
    MemorySettings,
    Settings,
    described,
)
from keras_dqn.games.breakout import NATURE, Breakout

PACKAGE = Path(keras_dqn.__file__).parent
# A folder imports those before it, and what lies in none.
ORDER = [
    *("environments", "files", "core", "ray", "show", "pytorch", "training", "games", "playable", "experiment"),
    "commands",
]


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE), ast.parse(path.read_text())


def imported(tree):
    """The folders of keras_dqn that a module imports when it is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("keras_dqn."):
            yield node.module.split(".")[1]


def for_type_checkers(tree):
    return {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


def test_imports_run_one_way():
    against = []
    for path, tree in modules():
        here = path.parts[0]
        if here not in ORDER:
            continue
        skipped = for_type_checkers(tree)
        for node in ast.walk(tree):
            if id(node) in skipped or not isinstance(node, ast.ImportFrom):
                continue
            for there in imported(node):
                if there in ORDER and ORDER.index(there) > ORDER.index(here):
                    against.append(f"{path}:{node.lineno} imports {there}")
    assert not against


def test_nothing_is_long():
    long = []
    for path, tree in modules():
        for node in ast.walk(tree):
            most = 250 if isinstance(node, ast.ClassDef) else 60
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.end_lineno - node.lineno > most:
                long.append(f"{path}: {node.name}")
    assert not long


def test_a_transition_is_followed_through_three_files():
    """From the environment's step to the update of the weights, in at most 300 lines."""
    way = {
        "core/loop.py": ["collect", "play"],
        "core/agent.py": ["remember_batch", "replay", "_replay"],
        "core/memory/replay.py": ["Transition", "join", "remember", "ready", "add", "sample"],
        "core/learner.py": ["q_learning_targets", "taken", "update", "_updated", "_gradient_step"],
    }
    way["core/learner.py"] += ["_applied", "bootstrapped"]
    lines = 0
    for path, names in way.items():
        nodes = {}
        for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
                nodes[node.name] = max(
                    node.end_lineno - node.lineno + 1, 1
                )  # the last of that name: not the Protocol's
        assert nodes.keys() == set(names)
        lines += sum(nodes.values())
    assert lines <= 300


def test_every_setting_stands_once():
    groups = MemorySettings, LearnerSettings, ExplorationSettings
    names = [field.name for group in groups for field in fields(group)]
    assert sorted(names) == sorted(set(names)) == sorted(AgentKeywords.__annotations__) == sorted(Settings.names())
    own = [one for one in inspect.signature(Agent).parameters.values() if one.kind is not one.VAR_KEYWORD]
    assert len(own) <= 9


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
    one, other = (described(Settings().but(exploration=Linear(1.0, end, 9)).flat()) for end in (0.1, 0.2))
    assert (
        one["exploration"] == {"class": "Linear", "start": 1.0, "end": 0.1, "steps_to_end": 9} != other["exploration"]
    )
    assert described(Pieces((0, 1.0), (5, 0.5)))["points"] == [[0, 1.0], [5, 0.5]]
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


def test_public_names_are_offered():
    assert {"CartPole", "Agent", "plots", "inside", "train_seeds"} <= set(dir(keras_dqn))
    assert all(getattr(keras_dqn, name) is not None for name in keras_dqn.__all__)
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    for_checkers = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        for part in node.body
        if isinstance(part, ast.ImportFrom)
        for alias in part.names
    }
    assert for_checkers == set(keras_dqn.__all__)
    assert {"train", "run", "evaluate"} <= set(dir(CartPole))
