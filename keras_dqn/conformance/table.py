"""The table of an implementation: one line a probe."""

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from keras_dqn.conformance.adapters import ADAPTERS
from keras_dqn.conformance.check import Verdict, check
from keras_dqn.conformance.probes import PROBES


def verdicts(name: str, path: Path | None = None, seed: int = 0, probes: Collection[str] = ()) -> Iterator[Verdict]:
    """Train an implementation on each probe it can be asked about, and judge what it learned.

    Args:
        name: one of `ADAPTERS`.
        path: the checkout of its scripts, where it is no package.
        seed: of the training.
        probes: their names; all by default.

    Raises:
        ImportError: its package is not installed.
        ValueError: it needs a checkout, or takes none.
    """
    adapter = ADAPTERS[name]
    if adapter.checkout and (path is None or not path.is_dir()):
        raise ValueError(f"{name} needs `path`, a checkout of {adapter.checkout}. Received: {path}")
    train = adapter.load()
    asked = [probe for probe in PROBES if probe.__name__ not in adapter.left_out]
    asked = [probe for probe in asked if not probes or probe.__name__ in probes]
    return (_verdict(partial(train, probe, seed, path), probe) for probe in asked)


def _verdict(train, probe):
    """What is to be said of what was learned; or of the error that other people's code stopped with."""
    probe.seen.clear()
    try:
        learned = train()
    except (ImportError, OSError):  # of what it needs
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        return Verdict(probe.__name__, False, f"stopped with {type(error).__name__}: {said}", "it stops")
    return check(learned, probe)


def print_table(name: str, path: Path | None = None, seed: int = 0, probes: Collection[str] = ()) -> int:
    """Print the table of an implementation, and return how many probes fail that its authors say nothing about."""
    adapter, failures, judged = ADAPTERS[name], 0, 0
    judgments = verdicts(name, path, seed, probes)  # before anything is printed: nothing is run without what it needs
    print(f"{name}: {adapter.versions(path)}", flush=True)
    for verdict in judgments:
        documented = adapter.documented.get(verdict.probe, "")
        said = f"; documented: {documented}" if documented and not verdict.passed else ""
        failures += not verdict.passed and not documented
        judged += 1
        print(f"{verdict}{said}", flush=True)
    for probe, reason in adapter.left_out.items():
        print(f"{probe:<16}not asked: {reason}")
    print(f"{failures} of {judged} fail")
    return failures
