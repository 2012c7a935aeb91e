"""Calls that run wherever a cluster has room, each once: trainings from many seeds and with many settings."""

import contextlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from keras_dqn.ray.cluster import check_nodes, difference, joined, one_thread_each, versions

PACKAGES = "ray", "tensorflow", "keras", "gymnasium", "numpy"  # what numbers depend on
RETRIES = 3  # on another worker, after a worker or its machine died
TOLD_EVERY = 1.0  # seconds
NAMED = 3  # of the calls under way, in the bar


class Outcome(NamedTuple):
    """What became of a call."""

    value: Any = None  # what it returned
    error: str | None = None  # what it raised, or that its worker died again and again
    node: str = ""  # the machine


def run_anywhere(
    calls: dict[str, Callable[..., Any]],
    address: str,
    packages: Iterable[str] = PACKAGES,
    name: str = "",
    progress: bool = True,
) -> Generator[tuple[int, Outcome], None, None]:
    """Run calls on a cluster; a generator of (i, `Outcome` of calls[i]), in the order in which they end.

    Whatever ends it early cancels what has not ended.

    Args:
        calls: {name for the bar: a function of `tell`, itself a function that takes note of the fraction done}. What
            they hold travels by cloudpickle: its modules must be importable on every machine, but for `__main__`.
        address: as `cluster.joined` takes it.
        packages: whose versions must be the same everywhere, as Python's and keras_dqn's.
        name: before the bar.
        progress: whether there is a bar.

    Raises:
        ValueError: a call cannot be sent, or a node has other versions or cannot make it.
        ConnectionError, ImportError: as `cluster.joined`.
    """
    with joined(address) as ray:
        sent, expected = _packed(calls.values()), versions(packages)
        check_nodes(ray, sent[0], expected)
        board = _board(ray) if progress else None
        task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_run)
        waiting = {task.remote(call, expected, board, i): i for i, call in enumerate(sent)}
        bar = _Bar(name, list(calls), progress)
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting), timeout=TOLD_EVERY)
                for reference in ready:
                    i = waiting.pop(reference)
                    outcome = _outcome(ray, reference)
                    bar.ended(i)
                    yield i, outcome
                if board is not None and waiting:
                    bar.show(_read(ray, board))
        finally:
            bar.close()
            for reference in waiting:
                ray.cancel(reference, force=True)
            if board is not None:
                ray.kill(board)


def _packed(calls):
    """Each call as bytes; a ValueError where one cannot be."""
    from ray import cloudpickle

    try:
        return [cloudpickle.dumps(call) for call in calls]
    except Exception as error:  # whatever its parts raise
        raise ValueError(f"What runs elsewhere must be able to travel there. Received: {error!r}") from error


def _run(call, expected, board, i):
    """The task: run a call on the machine that this is."""
    from ray import cloudpickle

    one_thread_each()
    if problem := difference(expected):
        return Outcome(error=problem, node=_UNUSABLE)
    node = socket.gethostname()

    def tell(fraction):
        if board is not None:
            board.tell.remote(i, node, fraction)

    tell(0.0)
    try:
        return Outcome(cloudpickle.loads(call)(tell), node=node)
    except Exception as error:  # whatever a game raises: the others go on
        return Outcome(error=_said(error), node=node)


_UNUSABLE = "*"  # in place of the machine: one that joined later, with other versions


def _said(error):
    """An error in one line, with where it came from."""
    line = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({os.path.basename(line.filename)}, line {line.lineno})"


def _outcome(ray, reference):
    try:
        outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Outcome(error=f"{type(error).__name__}, {RETRIES + 1} times")
    if outcome.node == _UNUSABLE:
        raise ValueError(f"A node of the cluster cannot be used. Received: {outcome.error}")
    return outcome


# ---------------------------------------------------------------- what is shown


class Board:
    """Keeps what calls tell of themselves: the actor that a bar asks."""

    def __init__(self):
        self.notes = {}

    def tell(self, i: int, node: str, fraction: float) -> None:
        """Call i runs on that node and has done that fraction."""
        self.notes[i] = node, fraction

    def read(self) -> dict[int, tuple[str, float]]:
        """{i: (node, fraction)}."""
        return self.notes


def _board(ray):
    """A `Board` beside this process, whose end is its own."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()


def _read(ray, board):
    with contextlib.suppress(ray.exceptions.RayError):
        return ray.get(board.read.remote(), timeout=TOLD_EVERY)
    return {}


class _Bar:
    """One bar over all calls: how many have ended, what runs where, and the time that is left by what is done."""

    def __init__(self, name, calls, shown):
        self._calls, self._ended = calls, set()
        layout = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}] {postfix}"
        self._bar = tqdm(total=len(calls), desc=name, disable=not shown, bar_format=layout)
        self._next = time.monotonic()

    def ended(self, i):
        self._ended.add(i)
        self._draw({})

    def show(self, notes):
        """Draw it with what runs: {i: (node, fraction)}."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + (TOLD_EVERY if sys.stderr.isatty() else 30 * TOLD_EVERY)
            self._draw({i: note for i, note in notes.items() if i not in self._ended})

    def _draw(self, running):
        bar = self._bar
        bar.n = max(bar.n, len(self._ended) + sum(fraction for _, fraction in running.values()))
        some = [f"{self._calls[i]} on {node} {done:.0%}" for i, (node, done) in sorted(running.items())[:NAMED]]
        more = [f"{len(running) - NAMED} more"] if len(running) > NAMED else []
        bar.set_postfix_str(", ".join([f"{len(self._ended)} of {bar.total} ended", *some, *more]))

    def close(self):
        self._bar.close()
