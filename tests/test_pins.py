"""The weights after a short seeded training of every recipe: the same bytes as before, and from run to run.

To compare with another checkout, on any machine: `make same-bytes OTHER=path`.
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

REPOSITORY = Path(__file__).parents[1]
MACHINES = [
    "AuthenticAMD 25 17, tensorflow 2.21.0, keras 3.15.1, numpy 2.4.6",
    "AuthenticAMD 25 17, tensorflow 2.21.0, keras 3.15.1, numpy 2.5.5",
]
PINS = {
    "CartPole juvin": "f63ece12cbd78708",
    "CartPole juvin, 4 environments": "be5ae4a4316c8e52",
    "CartPole pytorch": "b2dd74f47eb3d266",
    "CartPole fast": "109670e1b2b75e82",
    "CartPole fast, 3 environments": "1b9187344610b69a",
    "CartPole parallel": "1918460323c221d1",
    "MountainCar notebook": "b8f18f154352a171",
    "MountainCar fast": "637e8e7ff7998607",
    "Taxi fast": "64c02bf706f82241",
    "Taxi parallel": "8dd91da5bfb0c80f",
    "Breakout nature": "a04cc4f20f94edf6",
    "Breakout parallel": "aa69cf24d58010ea",
    "Breakout hackathon2018": "0bd03a3643deb4ef",
}


def same_bytes(*arguments):
    command = [sys.executable, str(REPOSITORY / "tools" / "same_bytes.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


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
    if this_machine() in MACHINES:
        done = same_bytes()
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == PINS
    else:
        done = same_bytes(REPOSITORY)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_no_checkout_is_refused(tmp_path):
    done = same_bytes(tmp_path)
    assert done.returncode == 1 and str(tmp_path) in done.stderr
