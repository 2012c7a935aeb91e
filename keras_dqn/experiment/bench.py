"""What `python -m keras_dqn bench` measures: two things in one process, as a ratio, several times, the median."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
from gymnasium.vector import VectorEnv

from keras_dqn.backend import keras, tf
from keras_dqn.core.agent import Agent
from keras_dqn.core.exploration import Linear
from keras_dqn.core.learner import Learner
from keras_dqn.core.loop import TrainStep, play
from keras_dqn.core.memory.frames import FrameMemory
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.transition import StepBatch, Transition
from keras_dqn.environments.vector import make_env, make_vector_env
from keras_dqn.files.weights import pretrained
from keras_dqn.games.cartpole import CartPole
from keras_dqn.training.runner import Runner


def main(repeats: int = 5, measurements: Iterable[Callable[[int], Iterable[tuple[str, str]]]] | None = None) -> None:
    """Print every measurement as a line of a Markdown table; by default those of the games with small networks."""
    print(f"Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}, ", end="")
    print(
        f"gymnasium {gym.__version__}, NumPy {np.__version__}, {os.cpu_count()} CPU cores; medians of {repeats} runs\n"
    )
    print("| measured | result |\n| --- | --- |")
    for measurement in measurements or SMALL:
        for name, result in measurement(repeats):
            print(f"| {name} | {result} |", flush=True)


def replay_against_literal(repeats: int) -> Iterator[tuple[str, str]]:
    """One compiled replay of 32 samples against the notebook's calls for 32 samples of the same memory."""
    agent = _agent_with_memory()
    agent.replay()
    agent.replay_as_written(1)
    compiled, literal = [], []
    for _ in range(repeats):
        compiled.append(_median_seconds(agent.replay, 50))
        literal.append(_median_seconds(agent.replay_as_written, 1))
    yield "replay of 32 samples, compiled", f"{statistics.median(compiled) * 1e3:.2f} ms"
    yield "the same, `predict`, `predict`, `fit` a sample", f"{statistics.median(literal):.2f} s"
    yield "ratio", f"{_median_ratio(literal, compiled):,.0f} times"


def recipe_against_literal(repeats: int) -> Iterator[tuple[str, str]]:
    """200 episodes of the recipe, its compilation included, against literal episodes in the same process."""
    fast, literal = [], []
    for seed in range(repeats):
        started = time.perf_counter()
        CartPole(200, weights=None, weight_backup=None, seed=seed).train(progress=False)
        fast.append(time.perf_counter() - started)
        cartpole = CartPole(2, weights=None, weight_backup=None, seed=seed)
        _fill(cartpole.agent)
        cartpole.agent.replay = cartpole.agent.replay_as_written
        started = time.perf_counter()
        cartpole.train(progress=False)
        literal.append((time.perf_counter() - started) * 100)
    yield "200 episodes of `juvin`, compilation included", f"{statistics.median(fast):.1f} s"
    yield "the same with literal replays, from 2 episodes", f"{statistics.median(literal) / 60:.1f} min"
    yield "ratio", f"{_median_ratio(literal, fast):,.0f} times"


def loop_of_1(repeats: int) -> Iterator[tuple[str, str]]:
    """The loop without replays, the pretrained agent at epsilon 0.1, against bare random steps in one environment."""
    return _loop("CartPole-v1", lambda: make_env("CartPole-v1"), 1, repeats)


def loop_of_8(repeats: int) -> Iterator[tuple[str, str]]:
    """The same in eight environments of gymnasium's NumPy-vectorised CartPole."""
    return _loop("CartPole-v1, 8 at once", lambda: make_vector_env("CartPole-v1", 8), 8, repeats)


def updates(repeats: int) -> Iterator[tuple[str, str]]:
    """Gradient updates a second, K of them to a call, of 64 transitions each."""
    random = np.random.default_rng(0)
    for hidden in ((64, 64), (256, 256)):
        brain = mlp(4, 2, hidden, seed=0)
        learner = Learner(brain, keras.optimizers.Adam(1e-3), "huber", mlp(4, 2, hidden, seed=0), 1, 0.005)
        for count in (1, 32, 128):
            batches = Transition(
                random.normal(size=(count, 64, 4)).astype(np.float32),
                random.integers(2, size=(count, 64)),
                np.ones((count, 64), np.float32),
                np.full((count, 64), 0.99, np.float32),
                random.normal(size=(count, 64, 4)).astype(np.float32),
            )
            learner.update(batches)
            seconds = _median_seconds(partial(learner.update, batches), 20 * repeats)
            yield f"updates of 64 transitions, {hidden[0]}-{hidden[1]}, K={count} a call", f"{count / seconds:,.0f} /s"


def fast_recipe(repeats: int) -> Iterator[tuple[str, str]]:
    """Environment steps a second of recipe `fast`, which makes an update of 128 transitions a step."""
    seconds = [_training_seconds(CartPole(1, recipe="fast", weights=None, seed=seed)) for seed in range(repeats)]
    yield "CartPole `fast`, an update of 128 every step", f"{1 / statistics.median(seconds):,.0f} steps/s"


def first_update(repeats: int) -> Iterator[tuple[str, str]]:
    """Making the agent of recipe `fast` and its first update, in a process of its own that has imported everything."""
    spent = [_python(_FIRST_UPDATE) for _ in range(repeats)]
    yield "the agent of `fast` and its first update, compilation included", f"{statistics.median(spent):.1f} CPU s"


_FIRST_UPDATE = """
import time
from keras_dqn import CartPole
from keras_dqn.core.loop import play
started = time.process_time()
runner = CartPole(1, recipe="fast", weights=None, weight_backup=None, seed=0)
next(step for step in play(runner.agent, runner.make_env(), runner.replay_every, seed=0) if step.losses is not None)
print(time.process_time() - started)
"""


def evaluation(repeats: int) -> Iterator[tuple[str, str]]:
    """100 episodes of CartPole, of 500 steps each, with the pretrained agents."""
    for recipe in ("juvin", "fast"):
        cartpole = CartPole(recipe=recipe, weights="pretrained", weight_backup=None)
        seconds = [_cpu_seconds(cartpole.evaluate) for _ in range(repeats)]
        yield f"evaluation of 100 episodes of 500 steps, `{recipe}`", f"{statistics.median(seconds):.2f} CPU s"


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


def cleanrl_settings(repeats: int, steps: int = 3000) -> Iterator[tuple[str, str]]:
    """CPU time a step with the settings of CleanRL, an update of 128 every 10 steps, and of such an update alone."""
    for num_envs in (1, 10):
        runner = CartPole(1, weights=None, weight_backup=None, seed=0, **CLEANRL)
        envs = runner.make_env() if num_envs == 1 else runner.make_envs(num_envs)
        loop = learning(runner, envs)
        rounds = partial(go_on, loop, steps // num_envs)
        spent = [_cpu_seconds(rounds) / steps for _ in range(repeats)]
        yield f"settings of CleanRL, {num_envs} at once", f"{statistics.median(spent) * 1e6:.0f} CPU µs a step"
    batches = runner.agent.memory.sample(1, 128)
    updates = partial(go_on, iter(partial(runner.agent.learner.update, batches), None), 300)
    spent = [_cpu_seconds(updates) / 3000 for _ in range(repeats)]
    yield "its update of 128, shared out over 10 steps", f"{statistics.median(spent) * 1e6:.0f} CPU µs a step"


def pytorch_recipe(repeats: int) -> Iterator[tuple[str, str]]:
    """Recipe `pytorch` here and in PyTorch, and the loop as the PyTorch tutorial writes it; in turns."""
    try:
        import torch

        from keras_dqn.pytorch.agent import TorchAgent
        from keras_dqn.pytorch.tutorial import seconds_a_step as tutorial_seconds
    except ImportError:
        yield "CartPole `pytorch` against PyTorch", "not measured: pip install torch"
        return

    def in_torch(threads, **options):
        torch.set_num_threads(threads)
        return _training_seconds(CartPole(1, recipe="pytorch", weights=None, seed=0, agent_class=TorchAgent, **options))

    def plain_adamw(parameters):
        return torch.optim.AdamW(parameters, 1e-4, amsgrad=True)

    plain = {"torch_optimizer": plain_adamw, "clipping": {"clipvalue": 100.0}}
    variants = {
        "CartPole `pytorch`, an update of 128 every step": lambda: _training_seconds(
            CartPole(1, recipe="pytorch", weights=None, seed=0)
        ),
        "`TorchAgent`, 1 thread": lambda: in_torch(1),
        "`TorchAgent`, 2 threads": lambda: in_torch(2),
        "`TorchAgent`, 1 thread, torch's AdamW by default (not fused)": lambda: in_torch(1, **plain),
        "`TorchAgent`, 2 threads, torch's AdamW by default (not fused)": lambda: in_torch(2, **plain),
        "the tutorial's own loop, 1 thread": lambda: tutorial_seconds(1),
        "the tutorial's own loop, 2 threads": lambda: tutorial_seconds(2),
    }
    seconds = {name: [] for name in variants}
    for _ in range(repeats):
        for name, measure in variants.items():
            seconds[name].append(measure())
    ours, *others = seconds
    yield ours, f"{1 / statistics.median(seconds[ours]):,.0f} steps/s"
    for name in others:
        ratio = _median_ratio(seconds[name], seconds[ours])
        yield name, f"{1 / statistics.median(seconds[name]):,.0f} steps/s; ours is {ratio:.2f} times that"


def breakout(
    repeats: int, dtype: str = "float32", replays: int | None = None, **parallel: Any
) -> Iterator[tuple[str, str]]:
    """The recipes of Breakout that learn, in turns: steps a second, where the time goes, and what is lost of it."""
    small = {"memory_size": 20_000, "learning_starts": 1000}  # how much is stored changes no speed
    trainings = {
        "nature": _BreakoutTraining("nature", dtype, replays or 50, **small),
        "parallel": _BreakoutTraining("parallel", dtype, replays or 1, **parallel),
    }
    for _ in range(repeats):
        for training in trainings.values():
            training.measure()
    for recipe, training in trainings.items():
        yield from training.rows(f"Breakout `{recipe}`, {dtype}")
    nature, parallel = (training.speeds for training in trainings.values())
    yield f"`parallel` against `nature`, {dtype}", f"{_median_ratio(parallel, nature):.1f} times the steps/s"


class _BreakoutTraining:
    """A training of Breakout that is measured a few replays at a time.

    Args:
        recipe, dtype: what is trained, and its precision.
        replays: how many a measurement is.
        **options: of `Breakout`.
    """

    parts = ("emulation", "acting", "sampling", "updating")

    def __init__(self, recipe, dtype, replays, **options):
        from keras_dqn.games.breakout import Breakout

        game = Breakout(recipe=recipe, precision=dtype, weights=None, weight_backup=None, seed=0, **options)
        self._agent, self._replays = game.agent, replays
        self._envs, self._others = game.make_envs(game.num_envs), game.make_envs(game.num_envs)
        self._states = self._others.reset(seed=1)[0]
        self._seconds = {}  # that each part took since this was cleared
        learner = self._agent.learner
        methods = (self._envs, "step"), (self._agent, "act_batch"), (self._agent.memory, "sample"), (learner, "update")
        for name, method in zip(self.parts, methods, strict=True):
            _clock(*method, self._seconds, name)
        self._loop = play(self._agent, self._envs, game.replay_every, seed=0, shape_reward=game.shape_reward)
        self._steps = next(step.steps for step in self._loop if step.losses is not None)
        self.speeds, self._updates, self._shares, self._kept = [], [], [], []

    def measure(self):
        """Measure some replays and the steps before them, and then what each part takes by itself."""
        self._seconds.clear()
        started, rounds, made, updates = time.perf_counter(), 0, 0, 0
        for step in self._loop:
            rounds += 1
            if step.losses is not None:
                made, updates = made + 1, updates + len(step.losses)
            if made == self._replays:
                break
        whole = time.perf_counter() - started
        self.speeds.append((step.steps - self._steps) / whole)
        self._updates.append(updates / whole)
        self._steps = step.steps
        self._shares.append([self._seconds[name] / whole for name in self.parts])
        self._kept.append(self._alone(rounds, updates // len(self._seconds["batches"].action)) / whole)

    def _alone(self, rounds, calls):
        """Seconds of as many rounds of games and of acting, and calls of the learner with its newest minibatches."""
        actions = np.zeros(self._others.num_envs, int)
        games = sum(_seconds(partial(self._others.step, actions)) for _ in range(rounds))
        acting = sum(_seconds(partial(self._agent.act_batch, self._states)) for _ in range(rounds))
        update = partial(self._agent.learner.update, self._seconds["batches"])
        return games + acting + sum(_seconds(update) for _ in range(calls))

    def rows(self, name):
        """The medians of what was measured, as rows of the table."""
        speed, updates = statistics.median(self.speeds), statistics.median(self._updates)
        yield name, f"{speed:,.0f} steps/s, {updates:,.0f} updates/s"
        for part, shares in zip(self.parts, zip(*self._shares, strict=True), strict=True):
            yield f"share of {part}", f"{statistics.median(shares):.0%}"
        yield "of what its games, acting and updates alone would allow", f"{statistics.median(self._kept):.0%}"


def _clock(owner, method, seconds, name):
    """Have a method add the seconds that it takes to those of that name, and keep the newest minibatches."""
    function = getattr(owner, method)

    def clocked(*arguments, **options):
        started = time.perf_counter()
        result = function(*arguments, **options)
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
        if name == "updating":
            (seconds["batches"],) = arguments
        return result

    setattr(owner, method, clocked)


def frame_memory(repeats: int, steps: int = 500_000) -> Iterator[tuple[str, str]]:
    """What the process grows by when so many steps are stored, against the amount that is checked before training."""
    process = psutil.Process()
    before = process.memory_info().rss
    memory = FrameMemory(steps, n_step=3, seed=0)
    random, games = np.random.default_rng(0), np.arange(8)
    states = random.integers(256, size=(8, 4, 84, 84), dtype=np.uint8)
    ends, rewards = np.zeros(8, bool), np.ones(8)
    for _ in range(steps // 8):
        memory.remember(StepBatch(states, np.ones(8, int), rewards, states, ends, ends, games, rewards))
    grown, formula = process.memory_info().rss - before, memory.bytes_needed(steps)
    yield f"the process grows with {len(memory):,} stored steps by", f"{grown / 1e9:.2f} GB"
    yield "computed before training", f"{formula / 1e9:.2f} GB; the process grows by {grown / formula:.2f} times that"


def memory_growth(repeats: int, replays: int = 2000) -> Iterator[tuple[str, str]]:
    """Resident memory over 2,000 replays: first and second half, since allocators settle early."""
    agent, process = _agent_with_memory(), psutil.Process()
    sizes = []
    for i in range(replays + 1):
        agent.replay()
        if i % (replays // 4) == 0:
            sizes.append(process.memory_info().rss / 2**20)
    yield f"resident memory at each quarter of {replays} replays", ", ".join(f"{size:.1f}" for size in sizes) + " MiB"


def _loop(name, make, num_envs, repeats, steps=10_000):
    agent = Agent(4, 2, weight_backup=None, seed=0)
    agent.load_model(pretrained("cartpole"))
    agent.exploration_rate = 0.1
    ours, bare = [], []
    for _ in range(repeats):
        ours.append(_loop_seconds(agent, make(), steps))
        bare.append(_bare_seconds(make(), steps // num_envs) / num_envs)
    yield f"act, step, remember in {name}", f"{1 / statistics.median(ours):,.0f} steps/s"
    yield "bare steps with random actions", f"{1 / statistics.median(bare):,.0f} steps/s"
    yield "ratio", f"{_median_ratio(bare, ours):.2f}"


def _loop_seconds(agent, env, steps):
    """Seconds a step."""
    loop = play(agent, env, seed=0, learn=False)
    next(loop)
    started = time.perf_counter()
    done = next(step.steps for step in loop if step.steps >= steps)
    return (time.perf_counter() - started) / done


def _training_seconds(runner, steps=1000):
    """Seconds a step of training once every step learns, compilation left out."""
    loop = learning(runner, runner.make_env())
    started = time.perf_counter()
    for _ in range(steps):
        next(loop)
    return (time.perf_counter() - started) / steps


def _bare_seconds(env, rounds):
    """Seconds a round of the same environment with random actions; single environments are reset when they end."""
    env.reset(seed=0)
    single = not isinstance(env, gym.vector.VectorEnv)
    started = time.perf_counter()
    for _ in range(rounds):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if single and (terminated or truncated):
            env.reset()
    return (time.perf_counter() - started) / rounds


def _agent_with_memory():
    agent = Agent(4, 2, weight_backup=None, seed=0)
    _fill(agent)
    return agent


def _fill(agent):
    loop = play(agent, make_env("CartPole-v1"), seed=0, learn=False)
    next(step for step in loop if step.steps >= 500)


def _seconds(function):
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _python(code):
    """The number that some code prints last, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def learning(runner: Runner, envs: gym.Env | VectorEnv) -> Iterator[TrainStep]:
    """The loop of a runner in these environments, its first update made: compilation is left out."""
    loop = play(runner.agent, envs, runner.replay_every, seed=0)
    next(step for step in loop if step.losses is not None)
    return loop


def go_on(iterator: Iterator, count: int) -> None:
    """Take so many of it."""
    for _ in range(count):
        next(iterator)


def _cpu_seconds(function):
    """Of all threads of this process."""
    started = time.process_time()
    function()
    return time.process_time() - started


def _median_seconds(function, count):
    return statistics.median(_seconds(function) for _ in range(count))


def _median_ratio(first, second):
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


SMALL = (
    replay_against_literal,
    recipe_against_literal,
    loop_of_1,
    loop_of_8,
    updates,
    fast_recipe,
    first_update,
    evaluation,
    cleanrl_settings,
    pytorch_recipe,
    memory_growth,
)
BREAKOUT = (breakout, partial(breakout, dtype="mixed_bfloat16"), frame_memory)
