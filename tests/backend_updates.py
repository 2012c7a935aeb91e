"""Updates from given weights and batches, on the backend of KERAS_BACKEND: `python -m tests.backend_updates FILE`.

The file has, for each case, all variables after 1 and after 100 updates, the losses, and the Q-values of some states.
"""

import sys
from functools import partial

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.core.learner import Learner
from keras_dqn.core.networks.atari import nature_cnn
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.objectives.c51 import C51
from keras_dqn.core.objectives.munchausen import Munchausen
from keras_dqn.core.objectives.quantile import Quantile
from keras_dqn.core.objectives.value import Value
from keras_dqn.core.transition import Transition

K, B, ACTIONS = 100, 16, 3
optimizers, layers = keras.optimizers, keras.layers


def batches(shape=(4,), dtype=np.float32, mask=False, weight=False):
    random = np.random.default_rng(1)

    def states():
        if dtype == np.uint8:
            return random.integers(256, size=(K, B, *shape), dtype=np.uint8)
        return random.normal(size=(K, B, *shape)).astype(dtype)

    batch = Transition(
        states(),
        random.integers(ACTIONS, size=(K, B)),
        random.normal(size=(K, B)).astype(np.float32),
        random.choice(np.float32([0, 0.9, 0.81]), size=(K, B)),
        states(),
    )
    allowed = random.random((K, B, ACTIONS)) < 0.6
    allowed[..., 0] = True
    weights = random.random((K, B)).astype(np.float32)
    return batch._replace(action_mask=allowed if mask else None, weight=weights if weight else None)


def sequential(*own):
    return keras.Sequential([keras.Input((4,)), *own, layers.Dense(ACTIONS)])


def residual():
    inputs = keras.Input((4,))
    hidden = layers.Dense(8, "relu", kernel_regularizer="l2")(inputs)
    return keras.Model(inputs, layers.Dense(ACTIONS)(layers.Concatenate()([inputs, hidden])))


SMALL = partial(mlp, 4, ACTIONS, (8, 8))
ADAM = partial(optimizers.Adam, 1e-2)
# name: network, optimizer, options of the learner, options of the batches
CASES = {
    "as fit": (SMALL, ADAM, {"objective": Value("mse", as_fit=True)}, {}),
    "huber, double, hard target, average of the weights": (
        SMALL,
        partial(optimizers.Adam, 1e-2, use_ema=True, ema_momentum=0.9),
        {"objective": "huber", "target_update": 3, "double": True},
        {},
    ),
    "soft target, masks, weights, AdamW with clipnorm": (
        SMALL,
        partial(optimizers.AdamW, 1e-2, clipnorm=0.1),
        {"target_update": 1, "tau": 0.05},
        {"mask": True, "weight": True},
    ),
    "dueling, layer norm, no bootstrap, global clipnorm": (
        partial(SMALL, dueling=True, normalization="layer", scale=2.0),
        partial(optimizers.Adam, 1e-2, global_clipnorm=0.5),
        {"bootstraps": False},
        {},
    ),
    "batch norm, rmsprop, clipvalue": (
        partial(sequential, layers.Dense(8, "relu"), layers.BatchNormalization()),
        partial(optimizers.RMSprop, 1e-3, clipvalue=0.1),
        {},
        {},
    ),
    "no stack, regularizer, sgd": (
        residual,
        partial(optimizers.SGD, 1e-2, momentum=0.9, nesterov=True),
        {"target_update": 1, "tau": 0.1},
        {},
    ),
    "c51, double": (
        partial(mlp, 4, (ACTIONS, 11), (8, 8)),
        ADAM,
        {"objective": C51(-3.0, 3.0, atoms=11), "target_update": 2, "double": True},
        {},
    ),
    "quantiles, dueling, weighted": (
        partial(mlp, 4, (ACTIONS, 8), (8, 8), dueling=True),
        ADAM,
        {"objective": Quantile(8), "target_update": 1, "tau": 0.1},
        {"weight": True},
    ),
    "munchausen": (SMALL, ADAM, {"objective": Munchausen(), "target_update": 2}, {}),
    "frames": (
        partial(nature_cnn, (2, 36, 36), ACTIONS, normalization="layer"),
        partial(optimizers.Adam, 1e-3),
        {},
        {"shape": (2, 36, 36), "dtype": np.uint8},
    ),
}


def results(network, optimizer, options, batch_options):
    brain = network()
    random = np.random.default_rng(0)
    brain.set_weights([(0.3 * random.normal(size=one.shape)).astype(np.float32) ** 2 for one in brain.weights])
    learner = Learner(brain, optimizer(name="adam"), jit_compile=False, **options)
    made, batch = {}, batches(**batch_options)
    for name, part in {"first": slice(0, 1), "hundred": slice(1, K)}.items():
        update = learner.update(batch.each(lambda field, part=part: field[part]))
        made |= {f"{name} losses": update.losses, f"{name} errors": np.asarray(update.errors)}
        made |= {f"{name} {part} {i}": array for part, all in learner.snapshot().items() for i, array in enumerate(all)}
        made[f"{name} q_values"] = learner.q_values(batch.state[0])
    return made


if __name__ == "__main__":
    made = {f"{case}: {name}": array for case, own in CASES.items() for name, array in results(*own).items()}
    np.savez(sys.argv[1], **made)
