"""Other people's implementations, and ours: an adapter trains one on a probe and returns what it learned.

An adapter is a function of a probe, a seed and the path of a checkout, `None` for what is installed.
"""

import importlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from keras_dqn.conformance.check import QFunction
from keras_dqn.conformance.probe import Probe

CLIPPED = "the loss is Huber's, the clipped error of the DQN papers"
PLAIN = "DQN without the double of 2016"
NO_MASKS = "takes no action masks"


@dataclass(frozen=True)
class Adapter:
    """An implementation that can be trained on the probes.

    Attributes:
        function: "module:function" that trains it, imported when it is asked for.
        packages: those whose versions the table names.
        checkout: the repository that `path` must lead to, where it is no package.
        documented: {probe: what its authors say about it}; a deviation there is theirs and no mistake.
        left_out: {probe: why it is not asked}.
    """

    function: str
    packages: tuple[str, ...] = ()
    checkout: str = ""
    documented: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def load(self) -> Callable[[type[Probe], int, Path | None], QFunction]:
        """The function itself."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(f"keras_dqn.conformance.adapters.{module}"), name)

    def versions(self, path: Path | None) -> str:
        """What is run: packages with their versions, and the commit of a checkout.

        Raises:
            ImportError: a package is not installed.
        """
        try:
            named = [f"{package} {version(package)}" for package in (*self.packages, "gymnasium")]
        except PackageNotFoundError as error:
            raise ImportError(f"A package is missing: pip install {error.name}. Received: {error}") from error
        if self.checkout:
            command = ["git", "-C", str(path), "rev-parse", "--short", "HEAD"]
            commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
            named.append(f"{self.checkout} at {commit or 'an unknown commit'}")
        return ", ".join(named)


HUBER = dict.fromkeys(("Ends", "Coins"), CLIPPED)
CLEANRL = "github.com/vwxyzjn/cleanrl"
UNMASKED, DOUBLE = {"Masks": NO_MASKS}, {"Overestimation": PLAIN}
ADAPTERS = {
    "keras_dqn": Adapter("ours:train", ("keras_dqn",)),
    "keras_dqn-3-steps": Adapter(
        "ours:n_steps", ("keras_dqn",), left_out={"Overestimation": "n-step returns leave little to overestimate"}
    ),
    "sb3-dqn": Adapter(
        "stable_baselines3:dqn",
        ("stable-baselines3", "torch"),
        documented={**HUBER, **DOUBLE},
        left_out=UNMASKED,
    ),
    "sb3-qrdqn": Adapter("stable_baselines3:qrdqn", ("sb3-contrib", "torch"), documented=DOUBLE, left_out=UNMASKED),
    "tianshou": Adapter("tianshou:dqn", ("tianshou", "torch"), left_out=UNMASKED),
    "cleanrl-dqn": Adapter("cleanrl:dqn", ("torch",), CLEANRL, documented=DOUBLE, left_out=UNMASKED),
    "cleanrl-c51": Adapter("cleanrl:c51", ("torch",), CLEANRL, documented=DOUBLE, left_out=UNMASKED),
    "cleanrl-pqn": Adapter("cleanrl:pqn", ("torch",), CLEANRL, left_out=UNMASKED),
    "pytorch-tutorial": Adapter(
        "pytorch_tutorial:dqn",
        ("torch",),
        "github.com/pytorch/tutorials",
        documented={**HUBER, **DOUBLE},
        left_out={"Masks": NO_MASKS, "Epsilon": "its epsilon falls exponentially"},
    ),
    "csv": Adapter("csv_files:exchange", left_out={"Epsilon": "no actions are seen", "Masks": NO_MASKS}),
}
