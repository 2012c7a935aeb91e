"""Stable-Baselines3's DQN on the probes, in a process of its own; without it there is nothing to test."""

import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("stable_baselines3"):

    def test_stable_baselines3_deviates_as_it_documents_and_in_nothing_else():
        run = subprocess.run(
            [sys.executable, "-m", "keras_dqn", "conformance", "sb3-dqn"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=270,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        lines = {line.split()[0]: line for line in run.stdout.splitlines()}
        differing = {name for name, line in lines.items() if "; documented: " in line}
        assert differing == {"Ends", "Overestimation", "Coins"}
        assert sum(line.endswith("passed") for line in lines.values()) == 11
        assert "the mark of: clipped errors (a Huber loss) do not estimate the mean" in lines["Ends"]
        assert "not asked" in lines["Masks"]
