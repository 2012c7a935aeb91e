"""How fast it is, and how much memory it takes: `python -m benchmarks small`, in the folder of the repository.

Each part is a module of measurements: functions of the number of repeats that yield (what was measured, result).
"""

import argparse
import importlib
import os
import platform
from importlib.metadata import version

PARTS = {
    "small": "CartPole: replays, the loop, updates, recipes, evaluations; beside PyTorch where it is installed",
    "breakout": "the recipes of Breakout, and the memory of frames",
    "peers": "Stable-Baselines3 and the PyTorch tutorial's loop beside ours, where they are installed",
    "backends": "Keras on TensorFlow, JAX and PyTorch, where they are installed",
    "ray": "what actors and sweeps gain and cost",
}


def table(part, repeats, **sizes):
    """Print the measurements of a part as lines of a Markdown table."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "gymnasium", "numpy"))
    print(f"Python {platform.python_version()}, {packages}, {os.cpu_count()} CPU cores; medians of {repeats} runs\n")
    print("| measured | result |\n| --- | --- |")
    for measurement in importlib.import_module(f"benchmarks.{part}").MEASUREMENTS:
        for name, result in measurement(repeats, **sizes.get(measurement.__name__, {})):
            print(f"| {name} | {result} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m benchmarks", epilog="; ".join(f"{a}: {b}" for a, b in PARTS.items()))
    parser.add_argument("part", choices=PARTS, nargs="?", default="small")
    parser.add_argument("--repeats", type=int, default=5, help="runs whose medians are shown; 5 if not given")
    options = parser.parse_args()
    table(options.part, options.repeats)
