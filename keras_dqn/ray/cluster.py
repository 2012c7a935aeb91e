"""The machines that Ray joins: found or started, looked at before anything runs there, and left again."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from keras_dqn.version import VERSION

ANSWERS_WITHIN = 10.0  # seconds
STARTS_WITHIN = 300.0  # seconds that a machine may take to import what it needs, while it does other things too
QUIET = {"log_to_driver": False, "logging_level": "critical"}  # errors come as exceptions


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Ray, the module, connected: to the cluster at that address, or as `check_address` has "auto".

    A cluster that is joined goes on afterwards; Ray that was started here for this ends, and its files are removed. Of
    Ray that the caller has started already, everything stays as it is.

    Raises:
        ValueError: it is no address.
        ImportError: Ray is not installed.
        ConnectionError: nobody answers there within ten seconds, or Ray cannot join what answers.
    """
    check_address(address)
    ray = check_installed()
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


def check_address(address: Any) -> None:
    """Raise a ValueError for what is neither "auto" nor "host:port".

    "auto" is the cluster that this shell belongs to: the one that RAY_ADDRESS names, or the one that `ray start` has
    started or joined on this machine; where there is none, Ray is started here, for this machine alone.
    """
    if address != "auto" and not (isinstance(address, str) and re.fullmatch(r"[\w.-]+:\d{1,5}", address)):
        raise ValueError(f'`ray` must be "auto" or the host:port that `ray start` has printed. Received: {address!r}')


def check_installed() -> Any:
    """The module ray; an ImportError with the line that installs it where it is missing."""
    if importlib.util.find_spec("ray") is None:
        raise ImportError("This needs Ray: pip install 'keras_dqn[ray]'. Received: no module named ray")
    import ray

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


def versions(packages: Iterable[str]) -> dict[str, str]:
    """{name: version} of these packages, of Python and of keras_dqn, as installed where this runs."""
    there = {}
    for name in packages:
        try:
            there[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            there[name] = "none"
    return {**there, "Python": ".".join(platform.python_version_tuple()[:2]), "keras_dqn": VERSION}


def packed(thing: Any) -> bytes:
    """A function, and what it holds, as bytes; its modules must be importable on every machine, but for `__main__`.

    Raises:
        ValueError: it cannot travel.
    """
    from ray import cloudpickle

    try:
        return cloudpickle.dumps(thing)
    except Exception as error:  # whatever an environment of somebody's own raises
        raise ValueError(f"What is sent to other machines cannot be packed. Received: {error!r}") from error


def unpacked(content: bytes, expected: dict[str, str]) -> Any:
    """What was packed, on the machine that this is, where TensorFlow, which is not imported yet, will use one thread.

    Raises:
        ValueError: the machine has other versions than expected, or cannot make it.
    """
    from ray import cloudpickle

    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")  # there is something to do for every core
    there, machine = versions(expected), socket.gethostname()
    for name, version in expected.items():
        if there[name] != version:
            raise ValueError(f"{machine} has {name} {there[name]}, where it must be {version} as here")
    try:
        return cloudpickle.loads(content)
    except Exception as error:  # whatever the modules raise that it imports
        raise ValueError(f"{machine} cannot make what it is sent: {error!r}") from error


def check_nodes(ray: Any, content: bytes, expected: dict[str, str]) -> None:
    """Have every node with a CPU compare its versions and make what it is sent, before anything runs.

    Args:
        ray: the module, connected.
        content: as `packed` gives it.
        expected: as `versions` gives them here.

    Raises:
        ValueError: a node has other versions, cannot make it, or does not answer; the message names it.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    nodes = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            nodes[look.options(scheduling_strategy=there).remote(content, expected)] = node["NodeManagerAddress"]
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


def _look(content, expected):
    unpacked(content, expected)
