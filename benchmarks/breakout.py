"""Breakout: steps a second of the recipes that learn, where the time goes, and what the memory of frames takes."""

import time
from functools import partial

import numpy as np
import psutil

from benchmarks.measure import learning, median, ratio, seconds
from keras_dqn import Breakout, FrameMemory
from keras_dqn.core.transition import StepBatch


def recipes(repeats, dtype="float32", replays=50, **parallel):
    """`nature` and `parallel` in turns, some replays at a time: steps a second, and the shares of what they do."""
    small = {"memory_size": 20_000, "learning_starts": 1000}  # how much is stored changes no speed
    trainings = {
        "nature": Training("nature", dtype, replays, **small),
        "parallel": Training("parallel", dtype, **parallel),
    }
    for _ in range(repeats):
        for training in trainings.values():
            training.measure()
    for recipe, training in trainings.items():
        speed, updates, alone, *shares = (median(column) for column in zip(*training.measured, strict=True))
        yield f"Breakout `{recipe}`, {dtype}", f"{speed:,.0f} steps/s, {updates:,.0f} updates/s"
        for part, share in zip(Training.parts, shares, strict=True):
            yield f"share of {part}", f"{share:.0%}"
        yield "of what its games, acting and updates alone would allow", f"{alone:.0%}"
    speeds = [[speed for speed, *_ in trainings[recipe].measured] for recipe in ("parallel", "nature")]
    yield f"`parallel` against `nature`, {dtype}", f"{ratio(*speeds):.1f} times the steps/s"


def recipes_in_bfloat16(repeats, **sizes):
    """The same in mixed_bfloat16."""
    yield from recipes(repeats, "mixed_bfloat16", **sizes)


class Training:
    """A training of Breakout that is measured a few replays at a time.

    Args:
        recipe, dtype: what is trained, and its precision.
        replays: how many a measurement is.
        **options: of `Breakout`.
    """

    parts = ("emulation", "acting", "sampling", "updating")

    def __init__(self, recipe, dtype, replays=1, **options):
        game = Breakout(recipe=recipe, precision=dtype, weights=None, weight_backup=None, seed=0, **options)
        self.agent, self.replays, self.measured = game.agent, replays, []
        envs, self.others = game.make_envs(game.num_envs), game.make_envs(game.num_envs)
        self.states, _ = self.others.reset(seed=1)
        self.spent, self.batches = dict.fromkeys(self.parts, 0.0), None
        methods = (
            (envs, "step"),
            (self.agent, "act_batch"),
            (self.agent.memory, "sample"),
            (self.agent.learner, "update"),
        )
        for (owner, method), part in zip(methods, self.parts, strict=True):
            setattr(owner, method, partial(self._clocked, getattr(owner, method), part))
        self.loop = learning(game, envs)

    def _clocked(self, method, part, *arguments, **options):
        started = time.perf_counter()
        result = method(*arguments, **options)
        self.spent[part] += time.perf_counter() - started
        self.batches = arguments[0] if part == "updating" else self.batches
        return result

    def measure(self):
        """Some replays and the steps before them; then what games, acting and updates take by themselves."""
        self.spent = dict.fromkeys(self.parts, 0.0)
        started, first, rounds, made, updates = time.perf_counter(), self.agent.steps, 0, 0, 0
        while made < self.replays:
            step, rounds = next(self.loop), rounds + 1
            if step.losses is not None:
                made, updates = made + 1, updates + len(step.losses)
        whole = time.perf_counter() - started
        shares = [self.spent[part] / whole for part in self.parts]
        actions, update = np.zeros(self.others.num_envs, int), partial(self.agent.learner.update, self.batches)
        alone = sum(seconds(partial(self.others.step, actions)) for _ in range(rounds))
        alone += sum(seconds(partial(self.agent.act_batch, self.states)) for _ in range(rounds))
        alone += sum(seconds(update) for _ in range(updates // len(self.batches.action)))
        self.measured.append(((self.agent.steps - first) / whole, updates / whole, alone / whole, *shares))


def frame_memory(repeats, steps=500_000):
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


MEASUREMENTS = [recipes, recipes_in_bfloat16, frame_memory]
