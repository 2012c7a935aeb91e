"""Calls that run each once, here or wherever a cluster of Ray has room: trainings of many seeds and settings."""

import os
import socket
import traceback
from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from keras_dqn.ray.cluster import check_nodes, joined, packed, unpacked, versions

PACKAGES = "ray", "tensorflow", "keras", "gymnasium", "numpy"  # what numbers depend on
RETRIES = 3  # on another worker, after a worker or its machine died


class Outcome(NamedTuple):
    """What became of a call."""

    value: Any = None  # what it returned
    error: str | None = None  # what it raised, or that its worker died again and again
    node: str = ""  # the machine


def run_here(
    calls: dict[str, Callable[[], Any]], done: int = 0, name: str = "", progress: bool = True
) -> Generator[tuple[int, Outcome], None, None]:
    """Run calls in this process, one after the other, after so many that were done before; see `run_anywhere`.

    What one of them raises, it raises.
    """
    total = done + len(calls)
    with tqdm(total=total, initial=done, unit="training", desc=name, disable=not progress) as bar:
        for i, (label, call) in enumerate(calls.items()):
            bar.set_description(f"{name}, {label}")
            yield i, Outcome(call())
            bar.update()


def run_anywhere(
    calls: dict[str, Callable[[], Any]],
    address: str,
    packages: Iterable[str] = PACKAGES,
    done: int = 0,
    name: str = "",
    progress: bool = True,
) -> Generator[tuple[int, Outcome], None, None]:
    """Run calls on a cluster; a generator of (i, `Outcome` of calls[i]), in the order in which they end.

    Whatever ends it early cancels what has not ended.

    Args:
        calls: {name for the bar: a function}; they travel as `cluster.packed` has it.
        address: as `cluster.joined` takes it.
        packages: whose versions must be the same everywhere, as Python's and keras_dqn's.
        done: how many had ended before.
        name: before the bar.
        progress: whether there is a bar.

    Raises:
        ValueError: a call cannot be sent, or a node has other versions or cannot make it.
        ConnectionError, ImportError: as `cluster.joined`.
    """
    if not calls:
        return
    names, total = list(calls), done + len(calls)
    with joined(address) as ray, tqdm(total=total, initial=done, desc=name, disable=not progress) as bar:
        sent, expected = [packed(call) for call in calls.values()], versions(packages)
        check_nodes(ray, sent[0], expected)
        task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_run)
        waiting = {task.remote(call, expected): i for i, call in enumerate(sent)}
        try:
            while waiting:
                (reference, *_), _ = ray.wait(list(waiting))
                i = waiting.pop(reference)
                outcome = _outcome(ray, reference)
                yield i, outcome
                bar.set_postfix_str(f"{names[i]} ended on {outcome.node}" if outcome.node else f"{names[i]} died")
                bar.update()
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)


def _run(content, expected):
    """The task: make a call on the machine that this is."""
    call, node = unpacked(content, expected), socket.gethostname()
    try:
        return Outcome(call(), node=node)
    except Exception as error:  # whatever a game raises: the others go on
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}, line {place.lineno}"
        return Outcome(error=f"{type(error).__name__}: {' '.join(str(error).split())} ({where})", node=node)


def _outcome(ray, reference):
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # not of the call: of a node that joined later
        raise ValueError(f"A node of the cluster cannot be used. Received: {error.cause}") from error
    except ray.exceptions.RayError as error:
        return Outcome(error=f"{type(error).__name__}, {RETRIES + 1} times")
