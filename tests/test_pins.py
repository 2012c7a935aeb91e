"""The weights after a short seeded training of every recipe: the same bytes as before, and from run to run."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

REPOSITORY = Path(__file__).parents[1]
# On one thread, as the sums of convolutions depend on how they are shared out among several.
ENVIRONMENT = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

TRAININGS = """
import hashlib, json, sys
from keras_dqn import Breakout, CartPole, MountainCar

def digest(game, recipe, **options):
    runner = game(recipe=recipe, weights=None, weight_backup=None, **options)
    runner.train(progress=False, **({"checkpoints": False} if game is Breakout else {}))
    return hashlib.sha256(runner.agent.learner.read_weights().astype("<f4").tobytes()).hexdigest()[:16]

print(json.dumps({
    "CartPole juvin": digest(CartPole, "juvin", episodes=12, seed=1),
    "CartPole juvin, 4 environments": digest(CartPole, "juvin", episodes=12, seed=1, num_envs=4),
    "CartPole pytorch": digest(CartPole, "pytorch", steps=300, seed=2),
    "CartPole fast": digest(CartPole, "fast", steps=300, seed=3),
    "CartPole fast, 3 environments": digest(CartPole, "fast", steps=330, seed=3, num_envs=3),
    "MountainCar notebook": digest(MountainCar, "notebook", steps=700, seed=4),
    "MountainCar fast": digest(MountainCar, "fast", steps=700, seed=5, wait_for_terminal=False),
    "Breakout nature": digest(Breakout, "nature", steps=560, seed=6, memory_size=2000, learning_starts=300),
    "Breakout hackathon2018": digest(Breakout, "hackathon2018", steps=136, seed=7, memory_size=400),
}))
"""

MACHINE = "AuthenticAMD 25 17, tensorflow 2.21.0, keras 3.15.1, numpy 2.4.6"
PINS = {
    "CartPole juvin": "f63ece12cbd78708",
    "CartPole juvin, 4 environments": "be5ae4a4316c8e52",
    "CartPole pytorch": "b2dd74f47eb3d266",
    "CartPole fast": "c87c52a93c9ef1b6",
    "CartPole fast, 3 environments": "026ec059f7d16705",
    "MountainCar notebook": "dca415d730d01bf3",
    "MountainCar fast": "11e7548a78d7d9a8",
    "Breakout nature": "a04cc4f20f94edf6",
    "Breakout hackathon2018": "0bd03a3643deb4ef",
}


def trained():
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", TRAININGS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def this_machine():
    """Processor and versions, which decide how numbers are rounded."""
    processor = platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text()
        lines = dict(map(str.strip, line.split(":", 1)) for line in text.splitlines() if ":" in line)
        processor = " ".join(lines[name] for name in ("vendor_id", "cpu family", "model"))
    except (OSError, KeyError):
        pass
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
    return ", ".join([processor, *(f"{name} {version}" for name, version in versions.items())])


def test_the_weights_are_the_same_bytes_as_before():
    """On another machine or with other versions a second run has to give what the first did."""
    expected = PINS if this_machine() == MACHINE else trained()
    assert trained() == expected
