"""C51, QR-DQN, Munchausen and prioritized sampling against the fixtures."""

import numpy as np
import pytest

from keras_dqn.backend import keras
from keras_dqn.conformance.make_fixtures import ACTIONS, HIDDEN, STATES, UPDATES
from keras_dqn.core.learner import Learner
from keras_dqn.core.memory.prioritized import SMALLEST, Prioritized
from keras_dqn.core.objectives.c51 import C51
from keras_dqn.core.objectives.munchausen import Munchausen
from keras_dqn.core.objectives.quantile import Quantile
from tests.test_fixtures import assert_close, batches_of, fixture, weights_in

OURS = {
    "munchausen": Munchausen(alpha=0.9, tau=0.03, clip=-1.0, loss="mse"),
    "c51": C51(-3.0, 3.0, 7),
    "qr_dqn": Quantile(5),
}


def learner_of(objective, arrays):
    layers = [keras.layers.Dense(HIDDEN, "relu"), keras.layers.Dense(HIDDEN, "relu")]
    layers.append(keras.layers.Dense(arrays["weights.b3"].size))
    if not isinstance(objective, Munchausen):
        layers.append(keras.layers.Reshape((ACTIONS, objective.atoms)))
    brain = keras.Sequential([keras.Input((STATES,)), *layers])
    brain.set_weights(weights_in(arrays, "weights"))
    return Learner(brain, keras.optimizers.Adam(1e-2, epsilon=1e-7), objective, target_update=10)


def entropies(probabilities):
    return -(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(-1)


@pytest.mark.parametrize("name", OURS)
def test_our_learner_computes_the_same(name):
    arrays, objective = fixture(name), OURS[name]
    learner, first = learner_of(objective, arrays), batches_of(arrays, 1)
    for variable, other in zip(learner.target.variables, weights_in(arrays, "target_weights"), strict=True):
        variable.assign(other)
    # The errors of C51 are divergences: cross-entropies less the targets' entropies, which no gradient comes from.
    expected = arrays["losses"] - (entropies(arrays["targets"]) if name == "c51" else 0)
    np.testing.assert_allclose(learner.update(first).errors[0], expected, rtol=1e-4, atol=1e-5)

    learner = learner_of(objective, arrays)
    learner.update(first)
    assert_close(learner.brain.get_weights(), weights_in(arrays, "after_1"), 1e-5)

    learner = learner_of(objective, arrays)
    learner.update(batches_of(arrays, UPDATES))
    assert_close(learner.brain.get_weights(), weights_in(arrays, "after_100"), 5e-3)


def test_our_priorities_are_the_same():
    arrays, sampler = fixture("prioritized"), Prioritized(0, alpha=0.6, beta=0.4)
    rows = np.arange(16)
    sampler.make_room(16)
    sampler.added(rows)
    sampler.update(rows, arrays["priorities"] - SMALLEST)
    np.testing.assert_allclose(sampler.tree.values[rows] / sampler.tree.total, arrays["probabilities"], rtol=1e-9)
    weights = sampler.tree.values[arrays["drawn"]] ** -sampler.beta
    np.testing.assert_allclose(weights / weights.max(), arrays["weights"], rtol=1e-6)
