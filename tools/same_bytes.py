"""Short seeded trainings of every recipe: do two checkouts learn the same weights, to the last bit?

    python tools/same_bytes.py                   a digest of the weights after each training, as JSON
    python tools/same_bytes.py OTHER_CHECKOUT    the trainings whose weights differ; exits with 1 if there are any

Each checkout trains in a process of its own, on one thread, under this Python with its TensorFlow, Keras and NumPy.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
# One thread, as the sums of convolutions depend on how they are shared out among several.
ENVIRONMENT = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

SMALL_MEMORY = {"memory_size": 2000, "learning_starts": 300}
SMALL_ROLLOUT = {"num_envs": 8, "rollout": 128, "replay_every": 128, "minibatch_size": 32}
TRAININGS = {  # name: game, recipe, options; "Taxi" masks its actions
    "CartPole juvin": ("CartPole", "juvin", {"episodes": 12, "seed": 1}),
    "CartPole juvin, 4 environments": ("CartPole", "juvin", {"episodes": 12, "seed": 1, "num_envs": 4}),
    "CartPole pytorch": ("CartPole", "pytorch", {"steps": 300, "seed": 2}),
    "CartPole fast": ("CartPole", "fast", {"steps": 300, "seed": 3}),
    "CartPole fast, 3 environments": ("CartPole", "fast", {"steps": 330, "seed": 3, "num_envs": 3}),
    "CartPole parallel": ("CartPole", "parallel", {"steps": 768, "seed": 8}),
    "MountainCar notebook": ("MountainCar", "notebook", {"steps": 700, "seed": 4}),
    "MountainCar fast": ("MountainCar", "fast", {"steps": 700, "seed": 5, "wait_for_terminal": False}),
    "Taxi fast": ("Taxi", "fast", {"steps": 300, "seed": 9}),
    "Taxi parallel": ("Taxi", "parallel", {"steps": 768, "seed": 10}),
    "Breakout nature": ("Breakout", "nature", {"steps": 560, "seed": 6, **SMALL_MEMORY}),
    "Breakout parallel": ("Breakout", "parallel", {"steps": 384, "seed": 11, **SMALL_ROLLOUT}),
    "Breakout hackathon2018": ("Breakout", "hackathon2018", {"steps": 136, "seed": 7, "memory_size": 400}),
}


def trained() -> dict[str, str]:
    """The first 16 hexadecimal digits of the SHA-256 of the weights after each training."""
    import numpy as np

    import keras_dqn

    games = {name: getattr(keras_dqn, name) for name in ("CartPole", "MountainCar", "Breakout")}
    games["Taxi"] = keras_dqn.game_for("Taxi-v4")
    digests = {}
    for name, (game, recipe, options) in TRAININGS.items():
        training = games[game](recipe=recipe, weights=None, weight_backup=None, **options)
        training.train(progress=False)
        weights = np.concatenate([array.ravel() for array in training.agent.brain.get_weights()])
        digests[name] = hashlib.sha256(weights.astype("<f4").tobytes()).hexdigest()[:16]
    return digests


def digests_of(checkout: Path) -> dict[str, str]:
    """What `trained` returns with the keras_dqn of a checkout."""
    code = "import json, same_bytes; print(json.dumps(same_bytes.trained()))"
    path = os.pathsep.join([str(checkout.resolve()), str(Path(__file__).resolve().parent)])
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryDirectory() as folder:  # of the weights and checkpoints that a training leaves
        command = [sys.executable, "-c", code]
        child = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if child.returncode:
        raise SystemExit(f"{child.stderr}\nThe trainings of {checkout} ended with status {child.returncode}.")
    return json.loads(child.stdout.splitlines()[-1])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other_checkout", nargs="?", type=Path)
    other = parser.parse_args().other_checkout
    if other is not None and not (other / "keras_dqn" / "__init__.py").exists():
        raise SystemExit(f"There is no keras_dqn in that folder. Received: {other}")
    ours = digests_of(HERE)
    if other is None:
        print(json.dumps(ours, indent=4))
        return
    theirs = digests_of(other)
    different = [name for name in TRAININGS if ours[name] != theirs[name]]
    for name in different:
        print(f"{name:32} {ours[name]} here, {theirs[name]} there")
    print(f"{len(different)} of {len(TRAININGS)} trainings differ")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
