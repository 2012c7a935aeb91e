"""Our learner and memories against the fixtures, which a NumPy version in float64 has computed."""

import json

import numpy as np
import pytest

from keras_dqn.backend import keras
from keras_dqn.conformance import make_fixtures, reference
from keras_dqn.conformance.make_fixtures import FOLDER, HIDDEN, LEARNERS, STATES, UPDATES
from keras_dqn.core.learner import Learner
from keras_dqn.core.memory.n_step import NStep
from keras_dqn.core.memory.rollout import RolloutMemory
from keras_dqn.core.objectives.value import Value
from keras_dqn.core.transition import StepBatch, Transition

NAMES = [f"{layer}{number}" for number in (1, 2, 3) for layer in "Wb"]
NAMED = [*LEARNERS, "n_step", "lambda_returns", "prioritized"]


def fixture(name):
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def weights_in(arrays, key):
    return [arrays[f"{key}.{name}"] for name in NAMES]


# ---------------------------------------------------------------- the files


def test_the_files_are_what_the_reference_computes(tmp_path):
    make_fixtures.main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()}
    for name in NAMED:
        with np.load(tmp_path / f"{name}.npz") as new:
            old = fixture(name)
            assert set(new) == set(old)
            for key in new:
                np.testing.assert_allclose(new[key], old[key], rtol=1e-9, atol=1e-12, err_msg=f"{name} {key}")


def test_they_are_small_and_said_in_words():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 2 * 2**20
    for name in NAMED:
        words = json.loads((FOLDER / f"{name}.json").read_text())
        assert all(isinstance(said, str) and said for said in words.values())


@pytest.mark.parametrize("name", LEARNERS)
def test_the_gradients_are_those_of_finite_differences(name):
    """What is independent of us is right by itself."""
    arrays, objective = fixture(name), LEARNERS[name].objective
    weights = weights_in(arrays, "weights")
    keys = ("state", "action", "reward", "discount", "next_state", *(["weight"] if "weight" in arrays else []))
    batch = {key: arrays[key][0] for key in keys}
    importance = batch.get("weight", np.ones(len(batch["action"])))
    random, step = np.random.default_rng(0), 1e-6

    def loss(moved):
        outputs = reference.forward(moved, batch["state"])[-1]
        return np.mean(importance * objective.losses(arrays["targets"], outputs, batch["action"])[0])

    assert loss(weights) == pytest.approx(np.mean(importance * arrays["losses"]), rel=1e-12)
    for number, (one, gradient) in enumerate(zip(weights, weights_in(arrays, "gradients"), strict=True)):
        direction = random.normal(size=one.shape)
        ends = [[*weights[:number], one + sign * step * direction, *weights[number + 1 :]] for sign in (1, -1)]
        slope = (loss(ends[0]) - loss(ends[1])) / (2 * step)
        assert slope == pytest.approx(float(np.sum(gradient * direction)), rel=1e-5, abs=1e-8), NAMES[number]


# ---------------------------------------------------------------- ours


def network(outputs, weights):
    """A Keras model of the fixtures' shape, with these weights."""
    layers = [keras.layers.Dense(HIDDEN, "relu"), keras.layers.Dense(HIDDEN, "relu"), keras.layers.Dense(outputs)]
    brain = keras.Sequential([keras.Input((STATES,)), *layers])
    brain.set_weights(weights)
    return brain


OURS = {  # fixture: objective, and options of the learner
    "dqn": (Value("mse"), {"target_update": 10}),
    "soft_target": (Value("mse"), {"target_update": 1, "tau": 0.1}),
    "double": (Value("mse"), {"target_update": 10, "double": True}),
    "huber": (Value("huber"), {"target_update": 10}),
    "adam_epsilon_before": (Value("mse"), {"target_update": 10}),
    "weighted": (Value("mse"), {"target_update": 10}),
}


def learner_of(name, objective, options, arrays):
    epsilon = 1e-3 if name == "adam_epsilon_before" else 1e-7
    brain = network(arrays["weights.b3"].size, weights_in(arrays, "weights"))
    return Learner(brain, keras.optimizers.Adam(1e-2, epsilon=epsilon), objective, **options)


def batches_of(arrays, updates):
    fields = [arrays[key][:updates] for key in ("state", "action", "reward", "discount", "next_state")]
    state, action, reward, discount, next_state = fields
    weight = arrays["weight"][:updates].astype(np.float32) if "weight" in arrays else None
    floats = [one.astype(np.float32) for one in (reward, discount, next_state)]
    return Transition(state.astype(np.float32), action, *floats, weight=weight)


@pytest.mark.parametrize("name", OURS)
def test_our_learner_computes_the_same(name):
    """Losses of the first batch with another target network; then weights after 1 and after 100 updates."""
    arrays, (objective, options) = fixture(name), OURS[name]
    learner = learner_of(name, objective, options, arrays)
    start, first = learner.snapshot(), batches_of(arrays, 1)
    for variable, other in zip(learner.target.variables, weights_in(arrays, "target_weights"), strict=True):
        variable.assign(other)
    errors = np.asarray(learner.update(first).errors[0])
    errors = errors**2 if name == "weighted" else errors  # those are priorities, the sizes of the differences
    np.testing.assert_allclose(errors, arrays["losses"], rtol=1e-4, atol=1e-5)

    learner.restore(start)
    learner.updates = 0
    learner.update(first)
    assert_close(learner.brain.get_weights(), weights_in(arrays, "after_1"), 1e-5)

    learner.restore(start)
    learner.updates = 0
    learner.update(batches_of(arrays, UPDATES))
    assert_close(learner.brain.get_weights(), weights_in(arrays, "after_100"), 2e-3)
    assert_close([np.asarray(one) for one in learner.target.variables], weights_in(arrays, "target_after_100"), 2e-3)


def assert_close(received, expected, tolerance):
    for name, one, other in zip(NAMES, received, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, err_msg=name)


def test_the_two_epsilons_are_not_the_same():
    """Else the fixtures could not tell them apart."""
    before, after = fixture("adam_epsilon_before"), fixture("adam_epsilon_after")
    assert np.abs(before["after_100.W1"] - after["after_100.W1"]).max() > 0.02
    assert np.abs(before["after_1.W1"] - after["after_1.W1"]).max() > 1e-4


def steps_of(arrays):
    """The sequence as the loop hands it over, one step at a time; the number of a step is its next state."""
    rows = zip(arrays["reward"], arrays["terminated"], arrays["truncated"], strict=True)
    for number, (reward, terminated, truncated) in enumerate(rows):
        state, next_state = np.array([[number - 1.0]]), np.array([[float(number)]])
        flags = np.array([terminated]), np.array([terminated or truncated])
        yield StepBatch(state, np.zeros(1, int), np.array([reward]), next_state, *flags, np.zeros(1, int), None)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_our_n_steps_are_the_same(n):
    arrays, returns = fixture("n_step"), NStep(n, make_fixtures.GAMMA)
    joined = [one for one in map(returns.append, steps_of(arrays)) if one is not None]
    rows = np.concatenate([np.stack([one.reward, one.discount, one.next_state[:, 0]], -1) for one in joined])
    np.testing.assert_allclose(rows, arrays[f"n_{n}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("q_lambda", [0.0, 0.65, 1.0])
def test_our_lambda_returns_are_the_same(q_lambda):
    arrays = fixture("lambda_returns")
    values = np.append(arrays["next_value"], 0.0)  # of the state before the first step, -1, which nobody asks for

    def q_values(states):
        return values[states[:, 0].astype(int)][:, None]

    memory = RolloutMemory(40, q_values, make_fixtures.GAMMA, q_lambda)
    for steps in steps_of(arrays):
        memory.remember(steps)
    np.testing.assert_allclose(memory.lambda_returns(), arrays[f"lambda_{q_lambda}"], rtol=1e-4, atol=1e-5)
