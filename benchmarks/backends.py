"""Keras on TensorFlow, on JAX and on PyTorch: the same trainings, in processes of their own that take turns."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec

THREADS = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")}
NAMES = {
    "start": "import, agent and exactly 1,000 steps of `fast`, CPU s",
    "import": "the import alone, CPU s",
    "step": "a step of `fast`, an update of 128 each, CPU µs",
    "cleanrl 1": "a step with the settings of CleanRL, CPU µs",
    "cleanrl 10": "the same, 10 environments at once, CPU µs",
    "juvin": "a replay of `juvin`, 32 updates of 1, CPU µs",
    "pytorch": "an update of `pytorch`, 128 transitions, 128-128, CPU µs",
    "small": "an update of 32, MinAtar's network (16 filters 3×3, Dense 128), CPU µs",
    "nature": "an update of 32, Nature's network, CPU ms",
}


def measured():
    """What this process, on the backend of KERAS_BACKEND, comes to: {name: number}."""
    clock = time.process_time
    begin = clock()
    from keras_dqn import CartPole

    made = {"import": clock() - begin}
    fresh = {"weights": None, "weight_backup": None, "seed": 0}
    CartPole(recipe="fast", steps=1000, **fresh).train(progress=False)
    made["start"] = clock() - begin

    import numpy as np

    from benchmarks.measure import cpu_seconds, go_on, learning, median
    from benchmarks.small import CLEANRL
    from keras_dqn import Learner, Transition
    from keras_dqn.backend import BACKEND, keras
    from keras_dqn.core.networks.atari import nature_cnn
    from keras_dqn.core.networks.mlp import mlp

    few = 20 if BACKEND == "torch" else 1  # times fewer of each
    loop = learning(CartPole(recipe="fast", updates_before_xla=0, **fresh))
    made["step"] = 1e6 * median(cpu_seconds(partial(go_on, loop, 1000 // few)) * few / 1000 for _ in range(3))
    for count in (1, 10):
        runner = CartPole(**fresh, **CLEANRL)
        loop = learning(runner, runner.make_envs(count) if count > 1 else None)
        rounds = 3000 // count // few
        made[f"cleanrl {count}"] = 1e6 * median(
            cpu_seconds(partial(go_on, loop, rounds)) / rounds / count for _ in "123"
        )

    def update(brain, shape, dtype, count, size, repeats):
        random = np.random.default_rng(0)
        learner = Learner(brain, keras.optimizers.Adam(1e-3, name="adam"), "huber", 1, 0.005)
        states, next_states = (random.integers(2, size=(2, count, size, *shape))).astype(dtype)
        ones = np.ones((count, size), np.float32)
        batches = Transition(states, random.integers(2, size=(count, size)), ones, 0.99 * ones, next_states)
        learner.update(batches)
        return median(cpu_seconds(partial(learner.update, batches)) for _ in range(max(3, repeats // few)))

    layers = keras.layers
    own = layers.Conv2D(16, 3, activation="relu"), layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(3)
    small = keras.Sequential([keras.Input((10, 10, 4)), *own])
    made["juvin"] = 1e6 * update(mlp(4, 2, seed=0), (4,), "float32", 32, 1, 300)
    made["pytorch"] = 1e6 * update(mlp(4, 2, (128, 128), seed=0), (4,), "float32", 1, 128, 300)
    made["small"] = 1e6 * update(small, (10, 10, 4), "float32", 1, 32, 100)
    made["nature"] = 1e3 * update(nature_cnn((4, 84, 84), 4, seed=0), (4, 84, 84), "uint8", 1, 32, 20)
    return made


def side_by_side(repeats):
    """Each backend in turn, so that whatever else the machine does meets all of them."""
    from benchmarks.measure import median, ratio

    backends = [name for name in ("tensorflow", "jax", "torch") if find_spec(name)]
    runs = {backend: [] for backend in backends}
    for _ in range(repeats):
        for backend, made in runs.items():
            environment = {**os.environ, **THREADS, "KERAS_BACKEND": backend}
            command = [sys.executable, "-m", "benchmarks.backends"]
            child = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            made.append(json.loads(child.stdout.splitlines()[-1]))
    first, *others = backends
    for name, words in NAMES.items():
        values = {backend: [one[name] for one in made] for backend, made in runs.items()}
        results = [f"{first} {median(values[first]):.3g}"]
        for other in others:
            times = ratio(values[other], values[first])
            results.append(f"{other} {median(values[other]):.3g} ({times:.2f} times)")
        yield words, ", ".join(results)


MEASUREMENTS = [side_by_side]

if __name__ == "__main__":
    print(json.dumps(measured()))
