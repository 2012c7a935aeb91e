"""The machines that Ray joins: found or started, looked at before anything runs there, and left again."""

import importlib.metadata
import os
import platform
import re
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from keras_dqn.version import VERSION

ANSWERS_WITHIN = 10.0  # seconds
STARTS_WITHIN = 300.0  # seconds that a machine may take to import what it needs, while it does other things too
QUIET = {"log_to_driver": False, "logging_level": "critical"}  # errors come as exceptions


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Ray, the module, connected: to the cluster at that address, or as `ray_for` has "auto".

    A cluster that is joined goes on afterwards; Ray that was started here for this ends, and its files are removed. Of
    Ray that the caller has started already, everything stays as it is.

    Raises:
        ValueError, ImportError: as `ray_for`.
        ConnectionError: nobody answers there within ten seconds, or Ray cannot join what answers.
    """
    ray = ray_for(address)
    if ray.is_initialized():
        yield ray
        return
    with ExitStack() as exit_stack:
        found = _found(address)
        if found is None:
            folder = exit_stack.enter_context(own_folder())
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(address="local", include_dashboard=False, _temp_dir=folder, **QUIET)
        else:
            _join(ray, found)
        exit_stack.callback(ray.shutdown)
        yield ray


def own_folder() -> tempfile.TemporaryDirectory:
    """A folder for Ray's files, as a context; its path is short, since those of Ray's sockets have to be."""
    short = "/tmp" if os.path.isdir("/tmp") else None
    return tempfile.TemporaryDirectory(prefix="keras_dqn_", dir=short, ignore_cleanup_errors=True)


def ray_for(address: Any) -> Any:
    """The module ray, for an address that is "auto" or "host:port".

    "auto" is the cluster that this shell belongs to: the one that RAY_ADDRESS names, or the one that `ray start` has
    started or joined on this machine; where there is none, Ray is started here, for this machine alone.

    Raises:
        ValueError: it is no address.
        ImportError: Ray is not installed; the message has the line that installs it.
    """
    if address != "auto" and not (isinstance(address, str) and re.fullmatch(r"[\w.-]+:\d{1,5}", address)):
        raise ValueError(f'`ray` must be "auto" or the host:port that `ray start` has printed. Received: {address!r}')
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"This needs Ray: pip install 'keras_dqn[ray]'. Received: {error}") from error
    return ray


def _found(address):
    """The address of a cluster that is there, or None where Ray is to be started here."""
    if address != "auto":
        return address
    if named := os.environ.get("RAY_ADDRESS"):
        return None if named == "local" else named
    noted = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")  # Ray's documentation names it
    try:
        found = noted.read_text().strip()
        _check_answers(found)
        return found
    except (OSError, ValueError):  # none, or one that has ended
        return None


def _join(ray, address):
    try:
        _check_answers(address)
        ray.init(address=address, **QUIET)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError, SystemExit) as error:
        said = " ".join(str(error).split())
        raise ConnectionError(f"No cluster of Ray could be joined at {address}. Received: {said}") from error


def _check_answers(address):
    """Raise an OSError where nobody answers: Ray itself would wait for minutes, and then exit."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), ANSWERS_WITHIN).close()


# ---------------------------------------------------------------- what travels, and where it can arrive


class Parcel(NamedTuple):
    """A function, and what it holds, on the way to other machines."""

    content: bytes  # of cloudpickle
    versions: dict[str, str]  # that a machine must have, by package

    def unpacked(self) -> Any:
        """The function, on the machine that this is, where TensorFlow, not imported yet, will use one thread.

        Raises:
            ValueError: the machine has other versions, or cannot make it.
        """
        from ray import cloudpickle

        for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ.setdefault(name, "1")  # there is something to do for every core
        there, machine = versions(self.versions), socket.gethostname()
        for name, version in self.versions.items():
            if there[name] != version:
                raise ValueError(f"{machine} has {name} {there[name]}, where it must be {version} as here")
        try:
            return cloudpickle.loads(self.content)
        except Exception as error:  # whatever the modules raise that it imports
            raise ValueError(f"{machine} cannot make what it is sent: {error!r}") from error


def packed(thing: Any, packages: Iterable[str]) -> Parcel:
    """A function to send, and these packages as they are here; its modules must be importable there, but `__main__`.

    Raises:
        ValueError: it cannot travel.
    """
    from ray import cloudpickle

    try:
        return Parcel(cloudpickle.dumps(thing), versions(packages))
    except Exception as error:  # whatever an environment of somebody's own raises
        raise ValueError(f"What is sent to other machines cannot be packed. Received: {error!r}") from error


def versions(packages: Iterable[str]) -> dict[str, str]:
    """{name: version} of these packages, of Python and of keras_dqn, as installed where this runs."""
    there = dict.fromkeys(packages, "none")
    for name in there:
        with suppress(importlib.metadata.PackageNotFoundError):
            there[name] = importlib.metadata.version(name)
    return {**there, "Python": ".".join(platform.python_version_tuple()[:2]), "keras_dqn": VERSION}


def check_nodes(ray: Any, parcel: Parcel) -> None:
    """Have every node with a CPU unpack what it will be sent, before anything runs.

    Raises:
        ValueError: a node cannot, or does not answer; the message names it.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    nodes = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            nodes[look.options(scheduling_strategy=there).remote(parcel)] = node["NodeManagerAddress"]
    if nodes:
        ray.wait(list(nodes), num_returns=len(nodes), timeout=STARTS_WITHIN)
    for reference, node in nodes.items():
        try:
            ray.get(reference, timeout=0)
        except ray.exceptions.TaskUnschedulableError:
            continue  # the node has gone since it was listed, and nothing will run there
        except ray.exceptions.RayError as error:
            why = getattr(error, "cause", None) or type(error).__name__
            raise ValueError(f"The node {node} of the cluster cannot be used. Received: {why}") from error


def _look(parcel):
    parcel.unpacked()
