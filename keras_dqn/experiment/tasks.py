"""Calls that run each once, wherever a cluster of Ray has room: trainings of many seeds and settings."""

import os
import socket
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple

from keras_dqn.ray.cluster import check_nodes, joined, packed

RETRIES = 3  # on another worker, after a worker or its machine died


class Outcome(NamedTuple):
    """What became of a call."""

    value: Any = None  # what it returned
    error: str | None = None  # what it raised, or that its worker died again and again
    node: str = ""  # "on" and the machine, where it was another process


def run_anywhere(
    calls: Sequence[Callable[[], Any]], address: str, packages: Iterable[str]
) -> Generator[tuple[int, Outcome], None, None]:
    """Run calls on a cluster; a generator of (i, `Outcome` of calls[i]), in the order in which they end.

    Whatever ends it early cancels what has not ended.

    Args:
        calls: functions; they travel as `cluster.packed` has it.
        address: as `cluster.joined` takes it.
        packages: whose versions must be the same everywhere, as Python's and keras_dqn's.

    Raises:
        ValueError: a call cannot be sent, or a node has other versions or cannot make it.
        ConnectionError, ImportError: as `cluster.joined`.
    """
    if not calls:
        return
    with joined(address) as ray:
        sent = [packed(call, packages) for call in calls]
        check_nodes(ray, sent[0])
        task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_run)
        waiting = {task.remote(parcel): i for i, parcel in enumerate(sent)}
        try:
            while waiting:
                (reference, *_), _ = ray.wait(list(waiting))
                yield waiting.pop(reference), _outcome(ray, reference)
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)


def _run(parcel):
    """The task: make a call on the machine that this is."""
    call, node = parcel.unpacked(), f"on {socket.gethostname()}"
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
