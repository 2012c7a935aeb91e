"""Other people's DQN beside ours, where it is installed: Stable-Baselines3 and the loop of the PyTorch tutorial."""

import contextlib
import importlib.util
import io
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.measure import cpu_seconds, go_on, learning, median
from keras_dqn import CartPole
from keras_dqn.backend import keras
from keras_dqn.core.exploration import Linear
from keras_dqn.environments.vector import make_env
from keras_dqn.training.evaluate import EVALUATION_SEED

PIP = "not measured: pip install stable-baselines3 torch"
LAST_STEP = 50_000  # the most that a training to 475 makes

# CartPole's settings in the zoo of Stable-Baselines3, under our names and under theirs.
ZOO = {
    "network": {"hidden": (256, 256), "initializer": "torch"},
    "optimizer": lambda: keras.optimizers.Adam(2.3e-3, epsilon=1e-8, global_clipnorm=10.0, name="adam"),
    "loss": "huber",
    "memory_size": 100_000,
    "learning_starts": 1000,
    "sample_batch_size": 128 * 64,
    "minibatch_size": 64,
    "replay_every": 256,
    "gamma": 0.99,
    "target_update": 128,  # theirs is copied every 10 steps: once before each 128 updates
    "exploration": Linear(1.0, 0.04, 8000),
}
THEIR_ZOO = {
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1000,
    "gamma": 0.99,
    "target_update_interval": 10,
    "train_freq": 256,
    "gradient_steps": 128,
    "exploration_fraction": 0.16,  # of 50,000 steps
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}


def to_solved(repeats):
    """Steps and CPU seconds, imports left out, until 100 greedy episodes have a mean of 475, from seeds 0, 1, 2, …"""
    yield "CartPole to 475, `fast`", medians([ours_solved(seed) for seed in range(repeats)])
    name = "the same, Stable-Baselines3 with its zoo's settings"
    yield name, medians([theirs_solved(seed) for seed in range(repeats)]) if has("stable_baselines3") else PIP


def zoo_settings(repeats, steps=2560):
    """CPU time a step with the zoo's settings, 128 updates of 64 every 256 steps, ours and Stable-Baselines3's."""
    theirs = None
    if has("stable_baselines3"):
        model = their_model(0).learn(1280)
        theirs = partial(model.learn, steps, reset_num_timesteps=False)
    sides = {"the zoo's settings, ours": our_steps(steps, **ZOO), "the same, Stable-Baselines3": theirs}
    yield from in_turns(sides, repeats, steps)


def tutorial(repeats, steps=300):
    """CPU time a step of recipe `pytorch`, ours and as the PyTorch tutorial writes it, an update of 128 every step."""
    theirs = None
    if has("torch"):
        from benchmarks.tutorial import seconds_a_step

        theirs = partial(seconds_a_step, 1, steps)
    name = "the same, the tutorial's own loop, 1 thread"
    yield from in_turns({"CartPole `pytorch`, ours": our_steps(steps, recipe="pytorch"), name: theirs}, repeats, steps)


def in_turns(sides, repeats, steps):
    """Rows of the CPU time a step of functions that make so many; None is not installed."""
    spent = {name: [] for name, side in sides.items() if side is not None}
    for _ in range(repeats):
        for name, times in spent.items():
            times.append(cpu_seconds(sides[name]) / steps * 1e6)
    for name in sides:
        yield name, f"{median(spent[name]):,.0f} CPU µs a step" if name in spent else PIP


def our_steps(steps, **options):
    """A function that goes on with a training of ours for so many steps."""
    return partial(go_on, learning(CartPole(weights=None, weight_backup=None, seed=0, **options)), steps)


def ours_solved(seed):
    """(steps, CPU seconds, the last evaluation) of a training with recipe `fast`, evaluated every 500 steps."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        backup = Path(folder, "fast.h5")
        cartpole = CartPole(recipe="fast", weights=None, weight_backup=backup, seed=seed, steps=LAST_STEP)
        cartpole.train(progress=False, live=False, evaluate_every=500, stop_score=475)
    last = cartpole.history.evaluations[-1]
    return last.steps, time.process_time() - started, last.score


def their_model(seed):
    """Stable-Baselines3's DQN with the settings of its zoo."""
    import torch
    from stable_baselines3 import DQN

    torch.set_num_threads(1)  # two wait for each other, with networks this small
    return DQN("MlpPolicy", make_env("CartPole-v1"), seed=seed, device="cpu", **THEIR_ZOO)


def theirs_solved(seed):
    """The same of Stable-Baselines3, by its own evaluation of 100 episodes at once, every 1,000 steps."""
    from stable_baselines3.common.callbacks import EvalCallback, StopTrainingOnRewardThreshold
    from stable_baselines3.common.env_util import make_vec_env

    started = time.process_time()
    envs = make_vec_env("CartPole-v1", n_envs=100, seed=EVALUATION_SEED)
    stop = StopTrainingOnRewardThreshold(475, verbose=0)
    evaluated = EvalCallback(envs, n_eval_episodes=100, eval_freq=1000, callback_on_new_best=stop, verbose=0)
    model = their_model(seed).learn(LAST_STEP, callback=evaluated)
    return model.num_timesteps, time.process_time() - started, evaluated.best_mean_reward


def medians(solved):
    """What (steps, seconds, score) of several seeds come to."""
    steps, spent, scores = zip(*solved, strict=True)
    reached = sum(score >= 475 for score in scores)
    return f"{median(steps):,.0f} steps, {median(spent):.1f} CPU s; {reached} of {len(scores)} reached it"


def has(package):
    """Whether a package is installed."""
    return importlib.util.find_spec(package) is not None


MEASUREMENTS = [to_solved, zoo_settings, tutorial]
