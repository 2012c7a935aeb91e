"""Probes with exact answers, for any implementation of deep Q-learning: train on each, then `check` what was learned.

    probe, probes → mistakes → check → adapters → table

`probes` are environments so small that every Q-value is known; `mistakes` says what values an implementation gets that
makes one. `reference` is an update of each algorithm in NumPy, `fixtures/` what it computed. It stands apart from the
rest of the package, which it knows by its public names alone.
"""

import gymnasium as gym

from keras_dqn.conformance.adapters import ADAPTERS
from keras_dqn.conformance.check import Verdict, check, quantiles
from keras_dqn.conformance.probe import GAMMA, Probe
from keras_dqn.conformance.probes import PROBES
from keras_dqn.conformance.table import print_table, verdicts

__all__ = ["ADAPTERS", "GAMMA", "PROBES", "Probe", "Verdict", "check", "print_table", "quantiles", "verdicts"]

for probe in PROBES:
    gym.register(probe.id, probe, disable_env_checker=True)
