"""What Ray costs and how far it carries: `keras-dqn bench ray`."""

import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv

from keras_dqn.core.agent import Agent
from keras_dqn.core.loop import play
from keras_dqn.core.networks.atari import nature_cnn
from keras_dqn.experiment.seeds import train_seeds
from keras_dqn.games.breakout import Breakout
from keras_dqn.games.cartpole import CartPole
from keras_dqn.ray.cluster import check_installed, own_folder
from keras_dqn.ray.fleet import Fleet

GAMES, FRAMES = 8, (4, 84, 84)
STEP_SECONDS = 1e-3  # that one core takes for a step of one game of Breakout: emulation 0.4 ms, the network 0.5 ms
WEIGHTS = 6_800_000 // 4  # float32, those of Breakout's network


class Sleeping(VectorEnv):
    """Games that need no processor: frames of noise, which come as late as real games' would."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    single_action_space = Discrete(4)

    def __init__(self, num_envs: int):
        self.num_envs = num_envs
        noise = np.random.default_rng(0).integers(256, size=(16, num_envs, *FRAMES), dtype=np.uint8)
        self._states, self._steps, self._never = noise, 0, np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self._began = time.perf_counter()
        return self._states[0], {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        self._steps += 1
        due = self._began + self._steps * self.num_envs * STEP_SECONDS
        if self._steps % 10 == 0 and (early := due - time.perf_counter()) > 0:
            time.sleep(early)
        states = self._states[self._steps % len(self._states)]
        return states, np.zeros(self.num_envs), self._never, self._never, {}


class First:
    """Acts without a network."""

    def refresh(self, flat_weights: np.ndarray) -> None:
        pass

    def __call__(self, states: np.ndarray) -> np.ndarray:
        return np.zeros((len(states), 4), np.float32)


def one_actor(repeats: int, steps: int = 2000) -> Iterator[tuple[str, str]]:
    """The loop of Breakout's `nature` without learning: eight games in this process, and on one actor."""
    options = {"memory_size": 20_000, "learning_starts": 1, "weights": None, "weight_backup": None, "seed": 0}
    here, there = [], []
    for _ in range(repeats):
        game = Breakout(recipe="nature", **options)
        here.append(_steps_a_second(play(game.agent, game.make_envs(GAMES), 8, seed=0, learn=False), steps))
        there.append(_with_fleet(Breakout(recipe="nature", **options), steps))
    yield "8 games of Breakout here, nothing learned", f"{statistics.median(here):,.0f} steps/s"
    yield "the same on one actor", f"{statistics.median(there):,.0f} steps/s"


def _with_fleet(game, steps):
    from keras_dqn.training.remote import fleet_of

    fleet = fleet_of(game, 1)
    try:
        return _steps_a_second(play(game.agent, fleet, 8, seed=0, learn=False), steps)
    finally:
        fleet.close()


def intake(
    repeats: int, counts: Sequence[int] = (1, 4, 16, 64), seconds: float = 10.0, memory_size: int = 20_000
) -> Iterator[tuple[str, str]]:
    """Transitions that one learner takes in from actors whose games sleep, and what each costs its process."""
    for actors in counts:
        rates, costs, shares = [], [], []
        for _ in range(repeats):
            options = {"network": nature_cnn, "memory_size": memory_size, "store_frames": True}
            agent = Agent(FRAMES, 4, None, seed=0, **options)
            fleet = Fleet(Sleeping, First(), GAMES * actors, actors, action_size=4, stack=FRAMES[0])
            try:
                rate, cost, size = _taken_in(agent, fleet, seconds)
            finally:
                fleet.close()
            rates.append(rate)
            costs.append(cost)
            shares.append(rate * STEP_SECONDS / actors)
        rate, cost = statistics.median(rates), statistics.median(costs)
        yield (
            f"steps taken in from {actors} actors of {GAMES} games that sleep",
            f"{rate:,.0f} steps/s, {statistics.median(shares):.0%} of what they could send, {rate * size / 1e6:.0f} "
            f"MB/s; {cost * 1e6:.1f} µs of this process each, so at most {1 / cost:,.0f} steps/s",
        )


def _taken_in(agent, fleet, seconds):
    """Steps a second, seconds of processor time a step, bytes a step, once all actors are there and the memory is full.

    Filling it for the first time costs more: the system has to find the room.
    """
    loop = play(agent, fleet, 8, seed=0, learn=False)
    next(loop)
    while fleet.alive < fleet.actors or fleet.totals["steps"] < agent.memory.capacity:
        next(loop)
    before, began, used = fleet.totals, time.perf_counter(), time.process_time()
    while time.perf_counter() < began + seconds:
        next(loop)
    passed, used = time.perf_counter() - began, time.process_time() - used
    steps, size = (fleet.totals[name] - before[name] for name in ("steps", "bytes"))
    return steps / passed, used / steps, size / steps


def broadcast(repeats: int) -> Iterator[tuple[str, str]]:
    """What it takes to lay the weights out for all actors of a machine, and for one to read them."""
    from keras_dqn.ray.cluster import joined

    weights = np.zeros(WEIGHTS, np.float32)
    with joined("auto") as ray:
        put, got = [], []
        for _ in range(max(repeats, 3)):
            began = time.perf_counter()
            reference = ray.put(weights)
            put.append(time.perf_counter() - began)
            began = time.perf_counter()
            ray.get(reference)
            got.append(time.perf_counter() - began)
    yield (
        f"weights of {weights.nbytes / 1e6:.1f} MB laid out for all",
        f"{statistics.median(put) * 1e3:.1f} ms, read in {statistics.median(got) * 1e3:.1f} ms",
    )


def sweep(repeats: int, seeds: int = 16, steps: int = 1000) -> Iterator[tuple[str, str]]:
    """Sixteen seeds on one and on two workers; workers that have trained once already, so that neither starts any."""
    pairs = [(_seconds_of_a_sweep(1, seeds, steps), _seconds_of_a_sweep(2, seeds, steps)) for _ in range(repeats)]
    one, two = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    yield f"{seeds} seeds of CartPole `fast`, {steps:,} steps each, on 1 worker", f"{one:.1f} s"
    yield "on 2 workers", f"{two:.1f} s, {one / (2 * two):.0%} of ideal"


def _seconds_of_a_sweep(workers, seeds, steps):
    ray = check_installed()
    train = partial(train_seeds, CartPole, "fast", steps=steps, evaluate_every=steps, progress=False, ray="auto")
    with own_folder() as folder:
        ray.init(
            address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, _temp_dir=f"{folder}/ray"
        )
        try:
            train(seeds=workers, folder=Path(folder, "before"))
            began = time.perf_counter()
            train(seeds=seeds, folder=Path(folder, "measured"))
            return time.perf_counter() - began
        finally:
            ray.shutdown()


def _steps_a_second(loop, steps):
    first = next(loop).steps
    began = time.perf_counter()
    last = next(step.steps for step in loop if step.steps >= first + steps)
    return (last - first) / (time.perf_counter() - began)


RAY = (broadcast, one_actor, intake, sweep)
