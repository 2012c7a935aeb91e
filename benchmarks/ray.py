"""What Ray costs and how far it carries: actors that play Breakout, one learner that takes steps in, sweeps."""

import time
from functools import partial
from pathlib import Path

import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv

from benchmarks.measure import median, seconds, steps_a_second
from keras_dqn import Agent, Breakout, CartPole, interact, train_seeds
from keras_dqn.core.networks.atari import nature_cnn
from keras_dqn.ray.cluster import joined, own_folder, ray_for
from keras_dqn.ray.fleet import Fleet
from keras_dqn.training.settings import TrainSettings
from keras_dqn.training.training import fleet_of

GAMES, FRAMES = 8, (4, 84, 84)
STEP_SECONDS = 1e-3  # that one core takes for a step of one game of Breakout: emulation 0.4 ms, the network 0.5 ms
WEIGHTS = 6_800_000 // 4  # float32, those of Breakout's network


def broadcast(repeats):
    """What it takes to lay the weights out for all actors of a machine, and for one to read them."""
    weights = np.zeros(WEIGHTS, np.float32)
    with joined("auto") as ray:
        put, got = [], []
        for _ in range(max(repeats, 3)):
            references = []
            put.append(seconds(lambda references=references: references.append(ray.put(weights))) * 1e3)
            got.append(seconds(partial(ray.get, references[0])) * 1e3)
    yield (
        f"weights of {weights.nbytes / 1e6:.1f} MB laid out for all",
        f"{median(put):.1f} ms, read in {median(got):.1f} ms",
    )


def one_actor(repeats, steps=2000):
    """The loop of Breakout's `nature` without learning: eight games in this process, and on one actor."""
    options = {"memory_size": 20_000, "learning_starts": 1, "weights": None, "weight_backup": None, "seed": 0}
    here, there = [], []
    for _ in range(repeats):
        for speeds, envs_of in (
            (here, lambda game: game.make_envs(GAMES)),
            (there, partial(fleet_of, settings=TrainSettings(actors=1))),
        ):
            game = Breakout(recipe="nature", **options)
            envs = envs_of(game)
            speeds.append(steps_a_second(interact(game.agent, envs, 8, seed=0, learn=False), steps))
            envs.close()
    yield "8 games of Breakout here, nothing learned", f"{median(here):,.0f} steps/s"
    yield "the same on one actor", f"{median(there):,.0f} steps/s"


def intake(repeats, counts=(1, 4, 16, 64), span=10.0, memory_size=20_000):
    """Transitions that one learner takes in from actors whose games sleep, and what each costs its process."""
    for actors in counts:
        taken = [taken_in(actors, span, memory_size) for _ in range(repeats)]
        rate, cost, size = (median(column) for column in zip(*taken, strict=True))
        yield (
            f"steps taken in from {actors} actors of {GAMES} games that sleep",
            f"{rate:,.0f} steps/s, {rate * STEP_SECONDS / actors:.0%} of what they could send, {rate * size / 1e6:.0f} "
            f"MB/s; {cost * 1e6:.1f} µs of this process each, so at most {1 / cost:,.0f} steps/s",
        )


def taken_in(actors, span, memory_size):
    """Steps a second, seconds of processor time a step, bytes a step, once all actors are there and the memory is full.

    Filling it for the first time costs more: the system has to find the room.
    """
    agent = Agent(FRAMES, 4, None, seed=0, network=nature_cnn, memory_size=memory_size, store_frames=True)
    fleet = Fleet(Sleeping, First(), GAMES * actors, actors, action_size=4, stack=FRAMES[0])
    try:
        loop = interact(agent, fleet, 8, seed=0, learn=False)
        next(loop)
        while fleet.alive < fleet.actors or fleet.steps < agent.memory.capacity:
            next(loop)
        steps, size, began, used = fleet.steps, fleet.bytes, time.perf_counter(), time.process_time()
        while time.perf_counter() < began + span:
            next(loop)
        passed, used = time.perf_counter() - began, time.process_time() - used
        steps, size = fleet.steps - steps, fleet.bytes - size
    finally:
        fleet.close()
    return steps / passed, used / steps, size / steps


class Sleeping(VectorEnv):
    """Games that need no processor: frames of noise, which come as late as real games' would."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    single_action_space = Discrete(4)

    def __init__(self, num_envs):
        self.num_envs, self.steps, self.never = num_envs, 0, np.zeros(num_envs, bool)
        self.noise = np.random.default_rng(0).integers(256, size=(16, num_envs, *FRAMES), dtype=np.uint8)

    def reset(self, *, seed=None, options=None):
        self.began = time.perf_counter()
        return self.noise[0], {}

    def step(self, actions):
        self.steps += 1
        due = self.began + self.steps * self.num_envs * STEP_SECONDS
        if self.steps % 10 == 0 and (early := due - time.perf_counter()) > 0:
            time.sleep(early)
        return self.noise[self.steps % len(self.noise)], np.zeros(self.num_envs), self.never, self.never, {}


class First:
    """Acts without a network."""

    def refresh(self, flat_weights):
        """There are no weights to take over."""

    def __call__(self, states, noise=None):
        return np.zeros((len(states), 4), np.float32)


def sweep(repeats, seeds=16, steps=1000):
    """Some seeds on one and on two workers; workers that have trained once already, so that neither starts any."""
    pairs = [[sweep_seconds(workers, seeds, steps) for workers in (1, 2)] for _ in range(repeats)]
    one, two = (median(column) for column in zip(*pairs, strict=True))
    yield f"{seeds} seeds of CartPole `fast`, {steps:,} steps each, on 1 worker", f"{one:.1f} s"
    yield "on 2 workers", f"{two:.1f} s, {one / (2 * two):.0%} of ideal"


def sweep_seconds(workers, seeds, steps):
    """Seconds of a sweep on so many workers."""
    ray = ray_for("auto")
    train = partial(train_seeds, CartPole, "fast", steps=steps, evaluate_every=steps, progress=False, ray="auto")
    with own_folder() as folder:
        quiet = {"include_dashboard": False, "log_to_driver": False}
        ray.init(address="local", num_cpus=workers, _temp_dir=f"{folder}/ray", **quiet)
        try:
            train(seeds=workers, folder=Path(folder, "before"))
            return seconds(partial(train, seeds=seeds, folder=Path(folder, "measured")))
        finally:
            ray.shutdown()


MEASUREMENTS = [broadcast, one_actor, intake, sweep]
