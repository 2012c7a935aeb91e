"""The learner's side: N actors are asked for chunks, given weights, and replaced when they are lost."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from tqdm.auto import tqdm

from keras_dqn.checks import check_integer, seed_sequence
from keras_dqn.core.settings import ShapeReward
from keras_dqn.core.transition import StepBatch
from keras_dqn.ray.actors import Games, steps_of
from keras_dqn.ray.cluster import check_nodes, joined, versions

if TYPE_CHECKING:
    from keras_dqn.core.agent import Agent

PACKAGES = "ray", "gymnasium", "numpy", "ale-py"  # what games depend on
ROUNDS = 32  # of a chunk, where no rollout says how many; of one of frames, at the least
STEPS, MOST_ROUNDS = 512, 128  # of a chunk of frames, see `_rounds`
PATIENCE = 120.0  # seconds without a chunk, after which an actor that has started is replaced
TICK = 1.0  # seconds between two looks at who is late
AT_ONCE = 5e-3  # seconds: what one waits for longer had nothing beside it when the wait began
LIVES = 3  # of one actor in a row, without a single chunk, before its error ends the training


class Fleet(VectorEnv):
    """Games on N actors as the environments of a training: they are not stepped but give `StepBatch`, see `collected`.

    Ray is neither to restart nor to repeat anything by itself: an actor begun again would play the same steps again. A
    chunk is taken whole or not at all, and those of an actor in the order in which it played them.

    Args:
        make_envs: a function of M that makes as many games as one; it travels, and is all that an actor knows of them.
        forward: what acts, as `forward.forward_of` makes it; it travels, too.
        num_envs: how many games there are at least, over all actors.
        actors: N.
        address: as `cluster.joined` takes it.
        rollout: how many steps the learner's rollout has; None for a replay memory.
        in_order: take chunks in turns instead of as they come, so that a training can be repeated.
        ahead: how many chunks an actor is asked for at most before the first has been learned from.
        **acting: `action_size`, `hold`, `masked` and `stack` of `actors.Games`.

    Attributes:
        alive: how many actors have played the newest chunk asked of them, or are at it.
        lost: how many were lost so far.

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
        self.games = math.ceil(num_envs / actors)
        self.num_envs = self.games * actors
        self._valued = rollout is not None
        self.in_order, self._stack = in_order, acting.get("stack")
        self.rounds = math.ceil(rollout / self.num_envs) if self._valued else _rounds(self.games, self._stack)
        self.lost, self._totals = 0, {"steps": 0, "bytes": 0}
        self.age = 0  # updates between the weights of the newest chunk and those that learned from it
        with ExitStack() as exit_stack:
            ray = self._ray = exit_stack.enter_context(joined(address))
            self._full = ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError
            parts = partial(Games, make_envs=make_envs, games=self.games, forward=forward, **acting)
            check_nodes(ray, _packed(parts), versions(PACKAGES))
            cpus = ray.cluster_resources().get("CPU", 0)
            if actors > cpus:
                _say(f"{actors} actors share {cpus:g} CPUs of the cluster")
            share = math.floor(10_000 / math.ceil(actors / max(cpus, 1))) / 10_000  # as many fit on every whole CPU
            threads = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")}
            options = {"num_cpus": share, "max_restarts": 0, "max_task_retries": 0}
            self._class = ray.remote(_Actor).options(runtime_env={"env_vars": threads}, **options)
            self._parts = ray.put(_packed(parts))
            self._exit = exit_stack.pop_all()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin anew with that seed; the actors are asked once weights are there."""
        self._seed = seed_sequence(seed)
        everybody = range(self.actors)
        self._handles, self._ready = [None for _ in everybody], [None for _ in everybody]
        self._lives, self._expected = [-1 for _ in everybody], [0 for _ in everybody]
        self._in_vain, self._heard = [0 for _ in everybody], [0.0 for _ in everybody]
        self._owed = [deque() for _ in everybody]  # of each actor, what it was asked for, the oldest first
        self._turn, self._weights = 0, None
        return np.zeros(self.num_envs, np.uint8), {}

    def collected(
        self,
        agent: "Agent",
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
        self._agent, self._on_lost = agent, on_lost
        taken = 0
        self._give()
        for i in range(self.actors):
            self._begin(i)
        for chunk in self._chunks():
            i, taken = chunk.actor, taken + 1
            self.age = agent.learner.updates - chunk.updates
            self._totals["steps"] += chunk.steps
            self._totals["bytes"] += chunk.bytes
            yield from steps_of(chunk, i * self.games, self._stack, shape_reward, self._valued)
            if taken >= self.actors and agent.learner.updates > self._updates:
                taken = 0
                self._give()
            del chunk  # its memory is the store's
            self._ask(i)

    @property
    def totals(self) -> dict[str, int]:
        """Steps and bytes that have come in."""
        return dict(self._totals)

    @property
    def alive(self) -> int:
        """How many actors have started and are not lost."""
        return sum(ready is True for ready in self._ready)

    def close_extras(self, **_: Any) -> None:
        """End all actors, and Ray where it was started for them."""
        for handle in getattr(self, "_handles", []):
            if handle is not None:
                self._ray.kill(handle)
        self._exit.close()

    # ---------------------------------------------------------------- asking

    def _give(self):
        """Put the weights where every actor finds them; where there is no room they go on with those they have."""
        learner = self._agent.learner
        try:
            self._weights, self._updates = self._ray.put(learner.read_weights()), learner.updates
        except self._full as error:
            if self._weights is None:
                raise
            _say(f"There is no room for new weights{_named(error)}; the actors go on with the last ones")

    def _begin(self, i):
        """Start actor i in a new life, with random numbers of its own, and ask it."""
        self._lives[i] += 1
        self._expected[i] = 0
        self._owed[i].clear()
        seed = np.random.SeedSequence(self._seed.entropy, spawn_key=(*self._seed.spawn_key, i, self._lives[i]))
        self._handles[i] = self._class.remote(self._parts, i, self._lives[i], seed)
        self._ready[i], self._heard[i] = self._handles[i].ready.remote(), time.monotonic()
        for _ in range(self.ahead):
            self._ask(i)

    def _ask(self, i):
        epsilon = self._agent.exploration_rate
        self._owed[i].append(self._handles[i].play.remote(self._weights, self._updates, epsilon, self.rounds))

    # ---------------------------------------------------------------- taking

    def _chunks(self):
        """The chunks as they come, or in turns."""
        while True:
            waiting = {self._owed[i][0]: i for i in ([self._turn] if self.in_order else range(self.actors))}
            began = time.monotonic()
            ready, _ = self._ray.wait(list(waiting), timeout=TICK)
            at_once = time.monotonic() - began < AT_ONCE
            self._look_after([i for reference, i in waiting.items() if reference not in ready])
            if at_once and len(waiting) > 1:  # all that are there: else one that is quick could be all one sees
                ready, _ = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
            for reference in ready:
                i = waiting[reference]
                if self._owed[i] and self._owed[i][0] == reference and (chunk := self._taken(i)) is not None:
                    yield chunk

    def _taken(self, i):
        """The oldest chunk that actor i owes; None where it was lost."""
        ray = self._ray
        try:
            chunk = ray.get(self._owed[i].popleft())
        except ray.exceptions.RayTaskError as error:
            fault = error.cause or error
            no_room = f"found no room for a chunk{_named(fault)}"
            self._replace(i, no_room if isinstance(fault, self._full) else f"raised {_first_line(fault)}", error)
            return None
        except ray.exceptions.RayError as error:
            self._replace(i, f"was lost{_named(error)}", error)
            return None
        if (chunk.actor, chunk.life, chunk.number) != (i, self._lives[i], self._expected[i]):
            expected = f"chunk {self._expected[i]} of life {self._lives[i]} of actor {i}"
            raise RuntimeError(f"Expected {expected}. Received: {chunk.number}, {chunk.life}, {chunk.actor}")
        self._expected[i] += 1
        self._in_vain[i], self._heard[i], self._ready[i] = 0, time.monotonic(), True
        self._turn = (i + 1) % self.actors
        return chunk

    def _look_after(self, actors):
        """Replace those of the actors that have started and have been silent for too long."""
        now = time.monotonic()
        for i in actors:
            if self._ready[i] is not True:
                if self._ray.wait([self._ready[i]], timeout=0)[0]:  # or it failed to start: what it owes will tell
                    self._ready[i], self._heard[i] = True, now
                elif now - self._heard[i] > PATIENCE:
                    self._heard[i] = math.inf  # said once
                    _say(f"Actor {i} waits for a free CPU of the cluster")
            elif now - self._heard[i] > PATIENCE and not self._ray.wait([self._owed[i][0]], timeout=0)[0]:
                self._replace(i, f"was silent for {PATIENCE:g} s", None)

    def _replace(self, i, why, error):
        """Go on without what actor i was at, and start another in its place."""
        self.lost += 1
        self._in_vain[i] += error is not None
        self._ray.kill(self._handles[i])
        if self._in_vain[i] >= LIVES:
            raise RuntimeError(f"Actor {i} cannot play, {LIVES} times in a row. Received: it {why}") from error
        _say(f"Actor {i} {why}; another begins in its place")
        games = np.arange(i * self.games, (i + 1) * self.games)
        self._agent.memory.begin_episodes(games)
        self._on_lost(games)
        self._begin(i)
        self._turn = i if self.in_order else self._turn


def _rounds(games, stack):
    """How many rounds of so many games a chunk has, where no rollout says how many.

    To ask for a chunk and take it costs about 2 ms, and what is to be learned from frames needs steps by the million:
    the weights may be some thousand steps older. One game's round costs so much itself that more would save little.
    """
    return ROUNDS if stack is None else min(max(ROUNDS, math.ceil(STEPS / games)), MOST_ROUNDS)


class _Actor(Games):
    """`Games` out of the bytes that they travel as."""

    def __init__(self, packed, actor, life, seed):
        from ray import cloudpickle

        made = cloudpickle.loads(packed)
        super().__init__(actor, life, seed, **made.keywords)


def _packed(parts):
    from ray import cloudpickle

    try:
        return cloudpickle.dumps(parts)
    except Exception as error:  # whatever an environment of somebody's own raises
        raise ValueError(
            f"The games of actors are made by id, or of a module that is importable on every machine. "
            f"Received: {error!r}"
        ) from error


def _named(error):
    return f" ({type(error).__name__})"


def _first_line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _say(line):
    """Print a line beside whatever bars there are."""
    tqdm.write(line)
