"""JAX and PyTorch make the updates that TensorFlow makes, and TensorFlow is not imported for them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_dqn import CartPole
from tests.backend_updates import CASES

pytestmark = pytest.mark.timeout(900)  # each backend compiles a dozen updates in a process of its own
ROOT = Path(__file__).parents[1]
OTHERS = ["jax", pytest.param("torch", marks=pytest.mark.torch)]


def run(backend, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=800, check=False
    )


def updates(backend, folder):
    path = folder / f"{backend}.npz"
    child = run(backend, "-m", "tests.backend_updates", path)
    assert child.returncode == 0, child.stderr[-3000:]
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return updates("tensorflow", tmp_path_factory.mktemp("tensorflow"))


@pytest.fixture(scope="module", params=OTHERS)
def received(request, tmp_path_factory):
    return updates(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("case", CASES)
def test_the_same_updates(case, expected, received):
    names = [name for name in expected if name.startswith(f"{case}: ")]
    assert len(names) > 10 and received.keys() == expected.keys()
    for name in names:
        tolerance = 1e-5 if "first" in name else 1e-4
        np.testing.assert_allclose(received[name], expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


TRAINING = """
import os
import sys
import numpy as np
from keras_dqn import CartPole, Checkpoints
options = {"weights": None, "weight_backup": "there.h5", "seed": 0}
for i in range(2):
    cartpole = CartPole(recipe="fast", steps=400, **options)
    cartpole.train(progress=False, checkpoints=Checkpoints("saved"), resume=False)
    os.rename("saved", f"saved_{i}")
    weights = cartpole.agent.learner.read_weights()
    print("weights", weights.sum().item().hex())
print("q", cartpole.agent.q_values(np.ones((1, 4), np.float32))[0].tolist())
CartPole(recipe="fast", weights="there.h5", weight_backup=None).evaluate(2)
print("tensorflow", "tensorflow" in sys.modules)
"""


@pytest.mark.parametrize("backend", OTHERS)
def test_a_training_there_goes_on_here(backend):
    child = run(backend, "-c", TRAINING)
    assert child.returncode == 0, child.stderr[-3000:]
    said = dict(line.split(" ", 1) for line in child.stdout.splitlines() if line.startswith(("q ", "tensorflow ")))
    assert said["tensorflow"] == "False", "nothing imports it"
    first, again = [line for line in child.stdout.splitlines() if line.startswith("weights ")]
    assert first == again, "the same seed, the same bits"
    states = np.ones((1, 4), np.float32)
    loaded = CartPole(recipe="fast", weights="there.h5", weight_backup=None)
    np.testing.assert_allclose(loaded.agent.q_values(states)[0], json.loads(said["q"]), rtol=1e-5)
    resumed = CartPole(recipe="fast", steps=600, weights=None, weight_backup="here.h5", seed=0)
    resumed.train(progress=False, checkpoints="saved_1", resume=True)
    assert resumed.agent.steps == 600 and resumed.agent.learner.updates > 300


def test_another_backend_is_refused():
    child = run("numpy", "-c", "import keras_dqn.backend")
    assert child.returncode == 1 and "needs Keras on TensorFlow, JAX or PyTorch" in child.stderr
    assert child.stderr.strip().endswith("Received: 'numpy'")
