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

import keras_dqn

ANSWERS_WITHIN = 10.0  # seconds
STARTS_WITHIN = 300.0  # seconds that a machine may take to import what it needs, while it does other things too
ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0" has Ray listen on 127.0.0.1 alone, as it does on these two systems
NO_TRACEBACKS = "RAY_IGNORE_UNHANDLED_ERRORS"  # of results that nobody asks for any more, of an actor that was replaced
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # hello, and no settings
_SETTINGS = 4  # the kind of frame that is answered


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Ray, the module, connected: to the cluster at that address, or as `check_address` has "auto".

    A cluster that is joined goes on afterwards; Ray that was started here for this ends, and its files are removed. Of
    Ray that the caller has started already, everything stays as it is.

    Raises:
        ValueError: it is no address.
        ImportError: Ray is not installed.
        ConnectionError: nobody answers there within ten seconds, or it is another Ray or Python.
    """
    check_address(address)
    ray = check_installed()
    if ray.is_initialized():
        yield ray
        return
    with ExitStack() as exit_stack:
        exit_stack.enter_context(_variable(NO_TRACEBACKS, "1"))
        try:
            if (found := _found(address)) is None:
                _start(ray, exit_stack.enter_context(own_folder()))
            else:
                _join(ray, found)
            yield ray
        finally:
            ray.shutdown()


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


def _start(ray, folder):
    """Start Ray on this machine, with its files in that folder, where nobody else can reach it."""
    from ray._private import ray_constants

    constant = getattr(ray_constants, "ENABLE_RAY_CLUSTER", None)
    ray_constants.ENABLE_RAY_CLUSTER = False  # read when Ray is imported
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with _variable(ALONE, "0"):
            ray.init(address="local", include_dashboard=False, _temp_dir=folder, **_QUIET)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant


def _join(ray, address):
    try:
        _check_answers(address)
        ray.init(address=address, **_QUIET)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError, SystemExit) as error:
        said = " ".join(str(error).split())
        raise ConnectionError(f"No cluster of Ray could be joined at {address}. Received: {said}") from error


@contextmanager
def _variable(name, value):
    """Have an environment variable that value for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


_QUIET = {"log_to_driver": False, "logging_level": "error"}


def _check_answers(address):
    """Raise an OSError unless somebody answers there as Ray does: Ray itself would wait for minutes, and then exit."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), ANSWERS_WITHIN) as connection:
        if os.environ.get("RAY_USE_TLS", "0") not in ("0", ""):
            return
        connection.sendall(_HTTP2)
        if connection.recv(9)[3:4] != bytes([_SETTINGS]):
            raise ConnectionError("something answers there that is not Ray")


# ---------------------------------------------------------------- what each machine has


def versions(packages: Iterable[str]) -> dict[str, str]:
    """{name: version} of Python, keras_dqn and these packages, as installed where this runs."""
    there = {"Python": ".".join(platform.python_version_tuple()[:2]), "keras_dqn": keras_dqn.__version__}
    for name in packages:
        try:
            there[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            there[name] = "none"
    return there


def difference(expected: dict[str, str]) -> str | None:
    """A text where this machine has other versions than expected; None where it has the same."""
    there = versions(expected.keys() - {"Python", "keras_dqn"})
    for name, version in expected.items():
        if there[name] != version:
            return f"{socket.gethostname()} has {name} {there[name]}, where it must be {version} as here"
    return None


def check_nodes(ray: Any, call: bytes, expected: dict[str, str]) -> None:
    """Have every node with a CPU compare its versions and make what it is sent, before anything runs.

    Args:
        ray: the module, connected.
        call: bytes of cloudpickle.
        expected: as `versions` gives them here.

    Raises:
        ValueError: a node has other versions, or cannot make it; the message names it.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    nodes = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            nodes[look.options(scheduling_strategy=there).remote(call, expected)] = node
    answered, silent = ray.wait(list(nodes), num_returns=len(nodes), timeout=STARTS_WITHIN) if nodes else ([], [])
    said = {nodes[reference]["NodeManagerAddress"]: f"no answer within {STARTS_WITHIN:g} s" for reference in silent}
    for reference in answered:
        try:
            said[nodes[reference]["NodeManagerAddress"]] = ray.get(reference)
        except ray.exceptions.TaskUnschedulableError:
            continue  # the node has gone since it was listed, and nothing will run there
        except ray.exceptions.RayError as error:
            said[nodes[reference]["NodeManagerAddress"]] = type(error).__name__
    for node, problem in said.items():
        if problem is not None:
            raise ValueError(f"The node {node} of the cluster cannot be used. Received: {problem}")


def _look(call, expected):
    """What is wrong where this runs, as a text; None for nothing."""
    from ray import cloudpickle

    one_thread_each()
    if problem := difference(expected):
        return problem
    try:
        cloudpickle.loads(call)
    except Exception as error:  # whatever the modules raise that it imports
        return f"{socket.gethostname()} cannot make what it is sent: {error!r}"
    return None


def one_thread_each() -> None:
    """Have TensorFlow, which is not imported yet, use one thread: there is a training for every core."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
