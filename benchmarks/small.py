"""Small networks: what a replay, a step, an update, a training and an evaluation of CartPole take."""

import subprocess
import sys
from functools import partial

import gymnasium as gym
import numpy as np
import psutil

from benchmarks.measure import cpu_seconds, go_on, learning, median, ratio, seconds, steps_a_second
from keras_dqn import Agent, CartPole, Learner, Transition, interact
from keras_dqn.backend import keras
from keras_dqn.core.exploration import Linear
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.environments.vector import make_env, make_vector_env

FRESH = {"weights": None, "weight_backup": None}
FIRST_UPDATE = """
import time
from keras_dqn import CartPole, interact
started = time.process_time()
runner = CartPole(1, recipe="fast", weights=None, weight_backup=None, seed=0)
next(step for step in interact(runner.agent, runner.make_env(), runner.replay_every, seed=0) if step.losses is not None)
print(time.process_time() - started)
"""
CLEANRL = {  # the settings of CleanRL's DQN, where there is one environment
    "network": {"hidden": (120, 84)},
    "optimizer": lambda: keras.optimizers.Adam(2.5e-4, name="adam"),
    "memory_size": 10_000,
    "learning_starts": 1000,
    "sample_batch_size": 128,
    "minibatch_size": 128,
    "replay_every": 10,
    "gamma": 0.99,
    "target_update": 50,
    "exploration": Linear(1.0, 0.05, 10_000),
}


def replays(repeats, samples=32):
    """One compiled replay against the notebook's calls for as many samples of the same memory."""
    agent = filled(Agent(4, 2, None, seed=0))
    agent.replay(samples)
    agent.replay_as_written(1)
    compiled, literal = [], []
    for _ in range(repeats):
        compiled.append(median(seconds(partial(agent.replay, samples)) for _ in range(50)))
        literal.append(seconds(partial(agent.replay_as_written, samples)))
    yield f"replay of {samples} samples, compiled", f"{median(compiled) * 1e3:.2f} ms"
    yield "the same, `predict`, `predict`, `fit` a sample", f"{median(literal):.2f} s"
    yield "ratio", f"{ratio(literal, compiled):,.0f} times"


def recipe_as_written(repeats, episodes=200, **options):
    """The recipe `juvin`, its compilation included, against literal episodes in the same process."""
    fast, literal = [], []
    for seed in range(repeats):
        fast.append(seconds(lambda seed=seed: CartPole(episodes, seed=seed, **options, **FRESH).train(progress=False)))
        cartpole = CartPole(2, seed=seed, **options, **FRESH)
        filled(cartpole.agent).replay = cartpole.agent.replay_as_written
        literal.append(seconds(partial(cartpole.train, progress=False)) * episodes / 2)
    yield f"{episodes} episodes of `juvin`, compilation included", f"{median(fast):.1f} s"
    yield "the same with literal replays, from 2 episodes", f"{median(literal) / 60:.1f} min"
    yield "ratio", f"{ratio(literal, fast):,.0f} times"


def loops(repeats, steps=10_000):
    """The loop without replays, the pretrained agent at epsilon 0.1, against bare random steps."""
    for num_envs, name in (1, "CartPole-v1"), (8, "CartPole-v1, 8 at once"):
        make = partial(make_env, "CartPole-v1") if num_envs == 1 else partial(make_vector_env, "CartPole-v1", num_envs)
        agent = CartPole(weights="pretrained", weight_backup=None).agent
        agent.exploration_rate = 0.1
        ours, bare = [], []
        for _ in range(repeats):
            ours.append(steps_a_second(interact(agent, make(), seed=0, learn=False), steps))
            bare.append(steps / seconds(partial(random_steps, make(), steps // num_envs)))
        yield f"act, step, remember in {name}", f"{median(ours):,.0f} steps/s"
        yield "bare steps with random actions", f"{median(bare):,.0f} steps/s"
        yield "ratio", f"{ratio(ours, bare):.2f}"


def random_steps(env, rounds):
    """Step with random actions; a single environment is reset when its episode ends."""
    env.reset(seed=0)
    single = not isinstance(env, gym.vector.VectorEnv)
    for _ in range(rounds):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if single and (terminated or truncated):
            env.reset()


def updates(repeats):
    """Gradient updates a second, K of them to a call, of 64 transitions each."""
    random = np.random.default_rng(0)
    for hidden in ((64, 64), (256, 256)):
        learner = Learner(mlp(4, 2, hidden, seed=0), keras.optimizers.Adam(1e-3), "huber", 1, 0.005)
        for count in (1, 32, 128):
            states, next_states = random.normal(size=(2, count, 64, 4)).astype(np.float32)
            ones = np.ones((count, 64), np.float32)
            batches = Transition(states, random.integers(2, size=(count, 64)), ones, 0.99 * ones, next_states)
            learner.update(batches)
            spent = median(seconds(partial(learner.update, batches)) for _ in range(20 * repeats))
            yield f"updates of 64 transitions, {hidden[0]}-{hidden[1]}, K={count} a call", f"{count / spent:,.0f} /s"


def fast_recipe(repeats):
    """Recipe `fast`, an update of 128 a step; its agent and first update, in a process that has imported everything."""
    spent = [training_seconds(CartPole(recipe="fast", seed=seed, **FRESH)) for seed in range(repeats)]
    yield "CartPole `fast`, an update of 128 every step", f"{1 / median(spent):,.0f} steps/s"
    command = [sys.executable, "-c", FIRST_UPDATE]
    first = [
        float(subprocess.run(command, check=True, stdout=-1, text=True).stdout.split()[-1]) for _ in range(repeats)
    ]
    yield "the agent of `fast` and its first update, compilation included", f"{median(first):.1f} CPU s"


def evaluations(repeats):
    """100 episodes of CartPole, of 500 steps each, with the pretrained agents."""
    for recipe in ("juvin", "fast"):
        cartpole = CartPole(recipe=recipe, weights="pretrained", weight_backup=None)
        spent = median(cpu_seconds(cartpole.evaluate) for _ in range(repeats))
        yield f"evaluation of 100 episodes of 500 steps, `{recipe}`", f"{spent:.2f} CPU s"


def cleanrl_settings(repeats, steps=3000):
    """CPU time a step with the settings of CleanRL, an update of 128 every 10 steps, and of such an update alone."""
    for num_envs in (1, 10):
        runner = CartPole(seed=0, **FRESH, **CLEANRL)
        loop = learning(runner, runner.make_envs(num_envs) if num_envs > 1 else None)
        spent = median(cpu_seconds(partial(go_on, loop, steps // num_envs)) / steps for _ in range(repeats))
        yield f"settings of CleanRL, {num_envs} at once", f"{spent * 1e6:.0f} CPU µs a step"
    update = partial(runner.agent.learner.update, runner.agent.memory.sample(1, 128))
    spent = median(cpu_seconds(partial(go_on, iter(update, None), 300)) / 3000 for _ in range(repeats))
    yield "its update of 128, shared out over 10 steps", f"{spent * 1e6:.0f} CPU µs a step"


def pytorch_recipe(repeats, steps=1000):
    """Recipe `pytorch` here and in PyTorch, and the loop as the PyTorch tutorial writes it; in turns."""
    try:
        from keras_dqn.pytorch import TorchAgent, torch
    except ImportError:
        yield "CartPole `pytorch` against PyTorch", "not measured: pip install torch"
        return
    from benchmarks.tutorial import seconds_a_step

    def ours(threads=1, **options):
        torch.set_num_threads(threads)
        return training_seconds(CartPole(recipe="pytorch", seed=0, **FRESH, **options), steps)

    unfused = {"torch_optimizer": lambda parameters: torch.optim.AdamW(parameters, 1e-4, amsgrad=True)}
    unfused["clipping"] = {"clipvalue": 100.0}
    sides = {"CartPole `pytorch`, an update of 128 every step": ours}
    for name, measure in {
        "`TorchAgent`": partial(ours, agent_class=TorchAgent),
        "`TorchAgent`, torch's AdamW by default (not fused)": partial(ours, agent_class=TorchAgent, **unfused),
        "the tutorial's own loop": partial(seconds_a_step, steps=min(steps, 300)),
    }.items():
        sides |= {f"{name}, 1 thread": partial(measure, 1), f"{name}, 2 threads": partial(measure, 2)}
    spent = {name: [] for name in sides}
    for _ in range(repeats):
        for name, measure in sides.items():
            spent[name].append(measure())
    first, *others = spent
    yield first, f"{1 / median(spent[first]):,.0f} steps/s"
    for name in others:
        times = ratio(spent[name], spent[first])
        yield name, f"{1 / median(spent[name]):,.0f} steps/s; ours is {times:.2f} times that"


def memory_growth(repeats, replays=2000):
    """Resident memory at each quarter of so many replays."""
    agent, process, sizes = filled(Agent(4, 2, None, seed=0)), psutil.Process(), []
    for i in range(replays + 1):
        agent.replay()
        if i % (replays // 4) == 0:
            sizes.append(f"{process.memory_info().rss / 2**20:.1f}")
    yield f"resident memory at each quarter of {replays} replays", f"{', '.join(sizes)} MiB"


def training_seconds(runner, steps=1000):
    """Seconds a step of training once every step learns, compilation left out."""
    return seconds(partial(go_on, learning(runner), steps)) / steps


def filled(agent):
    """The agent, 500 steps in its memory."""
    go_on(interact(agent, make_env("CartPole-v1"), seed=0, learn=False), 500)
    return agent


MEASUREMENTS = [replays, recipe_as_written, loops, updates, fast_recipe, evaluations, cleanrl_settings]
MEASUREMENTS += [pytorch_recipe, memory_growth]
