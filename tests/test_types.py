"""What a type checker and an editor know of the public names: pyright, in its standard mode."""

import ast
import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

TYPOS = """
from keras_dqn import CartPole

c = CartPole(200)
c.trian()
c.train().scoers
"""

USE = """
import keras

from keras_dqn import (
    Agent, Breakout, CartPole, CheckpointError, Checkpoints, Evaluation, FrameMemory, History, Learner, MountainCar,
    ReplayMemory, Transition, WeightFileError, brain_from, compare, compare_videos, evaluate,
    game_for, interact, load_weights, play_here, save_weights, train_seeds,
)
from keras_dqn import inside, playable, plots, weights

cartpole = CartPole(200, recipe="fast", gamma=0.99, network={"hidden": (64, 64)}, seed=0)
told = cartpole.train([keras.callbacks.CSVLogger("log.csv")], verbose=True, evaluate_every=500, stop_score=490)
print(told.scores.mean(), told[-1].score, told.mean_score(), told.evaluations[0].score)
print(cartpole.evaluate(100).mean, cartpole.run(0.0, seed=3), cartpole.agent.exploration_rate)
agent = Agent(4, 2, None, seed=0, memory_size=500, optimizer=keras.optimizers.Adam(1e-3))
action = agent.act([0.0, 0.0, 0.0, 0.0])
agent.remember([0.0] * 4, action, 1.0, [0.0] * 4, False)
losses = agent.replay()
agent.save_model("x.h5")
game_for("Acrobot-v1")(300, recipe="fast").train(resume=True, checkpoints=Checkpoints("saved"))
MountainCar(1000).train()
Breakout(steps=1000, game="pong").train(checkpoints=False)
"""


def errors(folder, script):
    """[(line, message)] of what pyright finds in a script."""
    (folder / "script.py").write_text(script)
    (folder / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "standard", "extraPaths": [str(REPOSITORY)]})
    )
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [(one["range"]["start"]["line"], one["message"].splitlines()[0]) for one in found]


def test_it_finds_typos_in_names_and_nothing_else(tmp_path):
    """Those in keywords are refused when the program runs: see test_settings."""
    found = errors(tmp_path, TYPOS)
    assert [line for line, _ in found] == [4, 5]
    assert "trian" in found[0][1] and "scoers" in found[1][1]


def test_what_users_write_is_clean(tmp_path):
    assert errors(tmp_path, USE) == []


def test_the_wheel_says_that_it_has_types():
    assert (REPOSITORY / "keras_dqn" / "py.typed").exists()
    assert '"keras_dqn" = ["py.typed"]' in (REPOSITORY / "pyproject.toml").read_text()


def test_every_public_signature_has_its_hints():
    missing = []

    def look(node, path):
        for inner in node.body:
            public = not inner.name.startswith("_") if hasattr(inner, "name") else False
            if isinstance(inner, ast.ClassDef) and public:
                look(inner, f"{path}: {inner.name}")
            elif isinstance(inner, ast.FunctionDef) and (public or inner.name in ("__init__", "__call__")):
                arguments = [*inner.args.posonlyargs, *inner.args.args, *inner.args.kwonlyargs]
                arguments += filter(None, [inner.args.vararg, inner.args.kwarg])
                bare = [one.arg for one in arguments if one.annotation is None and one.arg not in ("self", "cls")]
                setter = any(ast.unparse(one).endswith(".setter") for one in inner.decorator_list)
                if bare or (inner.returns is None and inner.name != "__init__" and not setter):
                    missing.append(f"{path}: {inner.name} {bare}")

    for path in sorted((REPOSITORY / "keras_dqn").rglob("*.py")):
        look(ast.parse(path.read_text()), path.relative_to(REPOSITORY))
    assert not missing
