"""TensorFlow, torch and its triton in one process, in every order in which they can be imported.

With TensorFlow 2.20 or 2.21 and triton 3.7, both as pip installs them, `import tensorflow, triton` is a segmentation
fault, and torch imports triton with its first optimizer.
"""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = pytest.mark.torch

STATEMENTS = {
    "tensorflow": "import tensorflow",
    "torch": "import torch",
    "optimizer": "import torch; torch.optim.AdamW(torch.nn.Linear(2, 2).parameters())",
    "keras_dqn": "import keras_dqn.backend",
    "TorchAgent": "from keras_dqn.pytorch import TorchAgent; TorchAgent(4, 2, weight_backup=None)",
}
LEARN = """
import sys
import numpy as np
from keras_dqn.pytorch import TorchAgent
agent = TorchAgent(4, 2, weight_backup=None, seed=0)
state = np.zeros((1, 4), np.float32)
for done in 32 * [True]:
    agent.remember(state, 0, 1.0, state, done)
agent.replay()
assert agent.learner.updates
print("triton" if sys.modules.get("triton") else "no triton")
"""


def learn_after(*order):
    """What is left of triton in a new process that imports these, one after the other, and learns with torch."""
    code = "\n".join([*(STATEMENTS[name] for name in order), LEARN])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])  # -11 is the segmentation fault
    return done.stdout.strip()


@pytest.mark.parametrize(
    "order",
    [
        ("keras_dqn", "optimizer", "tensorflow"),
        ("TorchAgent", "tensorflow", "optimizer"),
        ("torch", "keras_dqn", "optimizer"),
        ("optimizer", "tensorflow", "keras_dqn"),
    ],
    ids=", ".join,
)
def test_torch_learns_and_keeps_its_triton(order):
    assert learn_after(*order) == ("triton" if importlib.util.find_spec("triton") else "no triton")


@pytest.mark.parametrize(
    "order",
    [
        ("tensorflow", "keras_dqn", "optimizer"),
        ("tensorflow", "TorchAgent"),
        ("torch", "tensorflow", "TorchAgent"),
    ],
    ids=", ".join,
)
def test_where_tensorflow_was_imported_before_us_torch_learns_all_the_same(order):
    learn_after(*order)
