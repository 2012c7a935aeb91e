"""The learner's side: N actors are asked for chunks, given weights, and replaced when they are lost."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from tqdm.auto import tqdm

from keras_dqn.checks import check_integer, seed_sequence
from keras_dqn.core.agent import Agent
from keras_dqn.core.settings import ShapeReward
from keras_dqn.core.transition import StepBatch
from keras_dqn.ray.actors import Chunk, Games, steps_of
from keras_dqn.ray.cluster import check_nodes, joined, packed

PACKAGES = "ray", "gymnasium", "numpy", "ale-py"  # what games depend on
ROUNDS = 32  # of a chunk, where no rollout says how many; of one of frames, at the least
STEPS, MOST_ROUNDS = 512, 128  # of a chunk of frames, see `rounds_of`
PATIENCE = 120.0  # seconds without a chunk, after which an actor that has started is replaced
TICK = 1.0  # seconds between two looks at who is late
LIVES = 3  # of one actor in a row, without a single chunk, before its error ends the training


@dataclass
class Seat:
    """One of the N places of a fleet: the actor that plays there now, and what it owes."""

    life: int = -1  # how many actors were lost here
    actor: Any = None
    started: Any = None  # the result that tells; True once it has
    heard: float = 0.0  # when something came last
    in_vain: int = 0  # lives in a row that ended with an error and without a chunk
    owed: deque = field(default_factory=deque)  # what it was asked for, the oldest first


class Fleet(VectorEnv):
    """Games on N actors as the environments of a training: they are not stepped but give `StepBatch`, see `collected`.

    Ray is neither to restart nor to repeat anything by itself: an actor begun again would play the same steps again. A
    chunk is taken whole or not at all, and those of an actor in the order in which it played them.

    Args:
        make_envs: a function of M that makes as many games as one; it travels, and is all that an actor knows of them.
        forward: what acts, as `actors.forward_of` makes it; it travels, too.
        num_envs: how many games there are at least, over all actors.
        actors: N.
        address: as `cluster.joined` takes it.
        rollout: how many steps the learner's rollout has; None for a replay memory.
        in_order: take chunks in turns instead of as they come, so that a training can be repeated.
        ahead: how many chunks an actor is asked for at most before the first has been learned from.
        **acting: `action_size`, `hold`, `masked` and `stack` of `actors.Games`.

    Attributes:
        lost: how many actors were lost so far.
        steps, bytes: how much has come in.
        age: updates between the weights that played the newest chunk and those that learned from it.

    Raises:
        ValueError: an argument is out of range, something cannot travel, or a node cannot be used.
        ConnectionError, ImportError: as `cluster.joined`.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        make_envs: Callable[[int], VectorEnv],
        forward: Any,
        num_envs: int,
        actors: int,
        address: str = "auto",
        rollout: int | None = None,
        in_order: bool = False,
        ahead: int = 2,
        **acting: Any,
    ):
        self.actors, self.ahead = check_integer("actors", actors), check_integer("ahead", ahead)
        self.in_order = in_order
        self.games = math.ceil(num_envs / actors)
        self.num_envs = self.games * actors
        self._valued = rollout is not None
        self.rounds = math.ceil(rollout / self.num_envs) if self._valued else rounds_of(self.games, acting.get("stack"))
        self.lost = self.steps = self.bytes = self.age = 0
        self._seats = []
        with ExitStack() as exit_stack:
            ray = self._ray = exit_stack.enter_context(joined(address))
            made = partial(Games, make_envs=make_envs, games=self.games, forward=forward, **acting)
            parcel = packed(made, PACKAGES)
            check_nodes(ray, parcel)
            cpus = ray.cluster_resources().get("CPU", 0)
            if actors > cpus:
                tqdm.write(f"{actors} actors share {cpus:g} CPUs of the cluster")
            share = math.floor(10_000 / math.ceil(actors / max(cpus, 1))) / 10_000  # as many fit on every whole CPU
            threads = {"env_vars": dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")}
            options = {"num_cpus": share, "max_restarts": 0, "max_task_retries": 0, "runtime_env": threads}
            self._new_actor = partial(ray.remote(_Actor).options(**options).remote, ray.put(parcel))
            self._exit = exit_stack.pop_all()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin anew with that seed; the actors are asked once weights are there."""
        self._seed, self._turn, self._weights = seed_sequence(seed), 0, None
        self._seats = [Seat() for _ in range(self.actors)]
        return np.zeros(self.num_envs, np.uint8), {}

    def collected(
        self,
        agent: Agent,
        shape_reward: ShapeReward | None = None,
        on_lost: Callable[[np.ndarray], Any] = lambda games: None,
    ) -> Iterator[StepBatch]:
        """Play without end: a generator of `StepBatch` of the games of one actor each, chunk by chunk.

        Weights are given out once an iteration, that is, after as many chunks as there are actors.

        Args:
            agent: whose weights act, and whose memory is told of episodes that nobody goes on with.
            shape_reward: as `loop.collect` takes it.
            on_lost: is given the games, [M] int, of an actor that was lost in the middle of their episodes.
        """
        if hasattr(agent.memory, "expect"):
            agent.memory.expect(self.num_envs)
        self._agent, self._on_lost, taken = agent, on_lost, 0
        self._give_weights()
        for i in range(self.actors):
            self._begin(i)
        for i, chunk in self._chunks():
            taken += 1
            self.age = agent.learner.updates - chunk.updates
            self.steps += len(chunk.steps.done)
            self.bytes += chunk.bytes
            yield from steps_of(chunk, i * self.games, shape_reward, self._valued)
            if taken >= self.actors and agent.learner.updates > self._updates:
                taken = 0
                self._give_weights()
            del chunk  # its memory is the store's
            self._ask(self._seats[i])

    @property
    def alive(self) -> int:
        """How many actors have started and are not lost."""
        return sum(seat.started is True for seat in self._seats)

    def close_extras(self, **_: Any) -> None:
        """End all actors, and Ray where it was started for them."""
        for seat in self._seats:
            if seat.actor is not None:
                self._ray.kill(seat.actor)
        self._exit.close()

    # ---------------------------------------------------------------- asking

    def _give_weights(self):
        """Put the weights where every actor finds them; where there is no room they go on with those they have."""
        learner, full = self._agent.learner, self._ray.exceptions
        try:
            self._weights, self._updates = self._ray.put(learner.read_weights()), learner.updates
        except (full.ObjectStoreFullError, full.OutOfDiskError) as error:
            if self._weights is None:
                raise
            said = f"There is no room for new weights ({type(error).__name__}); the actors go on with the last ones"
            tqdm.write(said)

    def _begin(self, i):
        """Start the next actor at seat i, with random numbers of its own, and ask it."""
        seat = self._seats[i]
        seat.life, seat.heard = seat.life + 1, time.monotonic()
        seed = np.random.SeedSequence(self._seed.entropy, spawn_key=(*self._seed.spawn_key, i, seat.life))
        seat.actor = self._new_actor(seed)
        seat.started = seat.actor.__ray_ready__.remote()
        seat.owed.clear()
        for _ in range(self.ahead):
            self._ask(seat)

    def _ask(self, seat):
        seat.owed.append(seat.actor.play.remote(self._weights, self._updates, self._agent.epsilon, self.rounds))

    # ---------------------------------------------------------------- taking

    def _chunks(self):
        """The chunks as they come, or in turns: (seat, `Chunk`)."""
        while True:
            waiting = {self._seats[i].owed[0]: i for i in ([self._turn] if self.in_order else range(self.actors))}
            ready, late = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
            if not ready:
                ready, late = self._ray.wait(list(waiting), timeout=TICK)
            for i in map(waiting.get, ready):
                if (chunk := self._taken(i)) is not None:
                    yield i, chunk
            for i in map(waiting.get, late):
                self._look_after(i)

    def _taken(self, i) -> Chunk | None:
        """The oldest chunk that seat i owes; None where its actor was lost."""
        seat, errors = self._seats[i], self._ray.exceptions
        try:
            chunk = self._ray.get(seat.owed.popleft())
        except errors.RayTaskError as error:
            fault = error.cause or error
            return self._replace(i, f"raised {type(fault).__name__}: {' '.join(str(fault).split())}", error)
        except errors.RayError as error:
            return self._replace(i, f"was lost ({type(error).__name__})", error)
        seat.in_vain, seat.heard, seat.started = 0, time.monotonic(), True
        self._turn = (i + 1) % self.actors
        return chunk

    def _look_after(self, i):
        """Replace the actor of seat i if it has started and has been silent for too long."""
        seat, now = self._seats[i], time.monotonic()
        if seat.started is not True:
            if self._ray.wait([seat.started], timeout=0)[0]:  # or it failed to start: what it owes will tell
                seat.started, seat.heard = True, now
        elif now - seat.heard > PATIENCE and not self._ray.wait([seat.owed[0]], timeout=0)[0]:
            self._replace(i, f"was silent for {PATIENCE:g} s", None)

    def _replace(self, i, why, error):
        """Go on without what the actor of seat i was at, and start another in its place."""
        seat = self._seats[i]
        self.lost += 1
        seat.in_vain += error is not None
        self._ray.kill(seat.actor)
        if seat.in_vain >= LIVES:
            raise RuntimeError(f"Actor {i} cannot play, {LIVES} times in a row. Received: it {why}") from error
        tqdm.write(f"Actor {i} {why}; another begins in its place")
        games = np.arange(i * self.games, (i + 1) * self.games)
        self._agent.memory.begin_episodes(games)
        self._on_lost(games)
        self._begin(i)


def rounds_of(games: int, stack: int | None) -> int:
    """How many rounds of so many games a chunk has, where no rollout says how many.

    To ask for a chunk and take it costs about 2 ms, and what is to be learned from frames needs steps by the million:
    the weights may be some thousand steps older. One game's round costs so much itself that more would save little.
    """
    return ROUNDS if stack is None else min(max(ROUNDS, math.ceil(STEPS / games)), MOST_ROUNDS)


class _Actor(Games):
    """`Games` out of the parcel that they travel in."""

    def __init__(self, parcel, seed):
        super().__init__(seed, **parcel.unpacked().keywords)
