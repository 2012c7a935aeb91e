"""Targets, losses and updates against tables computed by hand."""

import numpy as np
import pytest

from keras_dqn.backend import keras
from keras_dqn.core.learner import Learner
from keras_dqn.core.literal import LiteralLearner
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.objectives.objective import q_of_actions
from keras_dqn.core.objectives.value import (
    Value,
    double_q_learning_targets,
    errors_of,
    fit_squared_errors,
    huber_errors,
    q_learning_targets,
    squared_errors,
)
from keras_dqn.core.transition import Transition
from keras_dqn.files.weights import save_weights

# Traps: 99 stands where only a wrong argmax would look; the terminal row lies in the middle.
REWARDS = np.array([1.0, -2.0, 0.5], np.float32)
DISCOUNTS = np.array([0.9, 0.0, 0.5], np.float32)
NEXT_Q = np.array([[2.0, 3.0], [99.0, 99.0], [-4.0, -6.0]], np.float32)


def test_q_learning_targets():
    np.testing.assert_allclose(q_learning_targets(REWARDS, DISCOUNTS, NEXT_Q), [1 + 2.7, -2, 0.5 - 2], rtol=1e-6)


def test_double_q_learning_targets():
    selector_q = np.array([[5.0, 1.0], [0.0, 1.0], [99.0, 100.0]], np.float32)  # picks 0, 1, 1
    targets = double_q_learning_targets(REWARDS, DISCOUNTS, NEXT_Q, selector_q)
    np.testing.assert_allclose(targets, [1 + 1.8, -2, 0.5 - 3], rtol=1e-6)


def test_errors():
    q = keras.ops.convert_to_tensor([[1.0, 99.0], [99.0, 2.0]])
    targets, actions = keras.ops.convert_to_tensor([1.5, 5.0]), keras.ops.convert_to_tensor([0, 1])  # errors 0.5 and 3
    np.testing.assert_allclose(squared_errors(targets, q, actions), [0.25, 9])
    np.testing.assert_allclose(fit_squared_errors(targets, q, actions), [0.125, 4.5])  # over the actions
    np.testing.assert_allclose(huber_errors(targets, q, actions), [0.125, 2.5])
    np.testing.assert_allclose(errors_of("mae")(targets, q, actions), [0.5, 3])
    np.testing.assert_allclose(errors_of(keras.losses.Huber(2.0))(targets, q, actions), [0.125, 4], rtol=1e-6)


def test_what_belongs_to_an_action_may_have_many_numbers():
    outputs = np.arange(24, dtype=np.float32).reshape(2, 3, 4)  # of 2 states, 3 actions
    np.testing.assert_array_equal(q_of_actions(outputs, np.array([2, 0])), [[8, 9, 10, 11], [12, 13, 14, 15]])


@pytest.mark.parametrize("loss", ["mse", "huber", keras.losses.MeanAbsoluteError(), keras.losses.log_cosh])
def test_the_loss_of_a_compiled_brain_is_that_of_fit(loss):
    brain = mlp(3, 4, hidden=(), seed=1)
    brain.compile(loss=loss, optimizer=keras.optimizers.SGD(0.0))
    states = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    actions, targets = np.array([0, 3, 1, 1, 2]), np.arange(5, dtype=np.float32)
    vectors = brain.predict(states, verbose=0)
    vectors[np.arange(5), actions] = targets
    expected = brain.fit(states, vectors, batch_size=5, verbose=0).history["loss"][0]
    errors = Value(loss, as_fit=True).errors(targets, brain(states), actions)
    assert float(np.mean(errors)) == pytest.approx(expected, rel=1e-5)


def table(*weights):
    """A brain that is a table: Q(s) of the one-hot state s is row s of its kernel."""
    kernel = np.array(weights, np.float32)
    brain = keras.Sequential([keras.Input((len(kernel),)), keras.layers.Dense(kernel.shape[1], use_bias=False)])
    brain.set_weights([kernel])
    return brain


def steps(*rows):
    """K minibatches of one transition each: (state, action, reward, discount, next_state) as table rows."""
    one_hot = np.eye(2, dtype=np.float32)
    state, action, reward, discount, next_state = zip(*rows, strict=True)
    return Transition(
        one_hot[list(state)][:, None],
        np.array(action)[:, None],
        np.array(reward, np.float32)[:, None],
        np.array(discount, np.float32)[:, None],
        one_hot[list(next_state)][:, None],
    )


def kernel_of(learner):
    return learner.brain.get_weights()[0]


@pytest.mark.xla
def test_each_update_sees_the_one_before():
    learner = Learner(table([0, 0], [0, 0]), keras.optimizers.SGD(1.0), "fit_mse")
    # SGD(1) on error**2 / 2 actions moves the taken entry by the error itself, since 2 * error / 2 = error.
    losses, _ = learner.update(steps((1, 0, 8, 0.0, 0), (0, 1, 1, 0.5, 1), (0, 1, 0, 0.0, 0)))
    # Q(1,0) = 8; then Q(0,1) = 1 + 0.5 * 8 = 5, which a target from before the call would make 1; then back to 0.
    np.testing.assert_allclose(losses, [32, 12.5, 12.5])
    np.testing.assert_allclose(kernel_of(learner), [[0, 0], [8, 0]])
    assert learner.updates == 3
    np.testing.assert_allclose(learner.read_weights(), [0, 0, 8, 0])
    np.testing.assert_allclose(learner.read_weights(), [0, 0, 8, 0])


def test_untaken_actions_and_other_states_get_no_gradient():
    start = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    learner = Learner(table(*start), keras.optimizers.SGD(0.3), objective="huber")
    learner.update(steps((1, 0, 50, 0.9, 0)))
    changed = kernel_of(learner) != start
    np.testing.assert_array_equal(changed, [[False, False], [True, False]])


def test_a_target_network_has_variables_of_its_own_with_equal_weights():
    brain = mlp(4, 2, seed=0)
    brain.set_weights([weight + 0.5 for weight in brain.get_weights()])
    target = Learner(brain, keras.optimizers.Adam(), target_update=10).target
    for ours, theirs in zip(brain.weights, target.variables, strict=True):
        assert ours is not theirs
        np.testing.assert_array_equal(ours, theirs)
    brain.layers[-1].bias.assign([7, 7])
    np.testing.assert_array_equal(target.variables[-1], 0.5)


def with_target(brain, **options):
    return Learner(brain, keras.optimizers.SGD(1.0), "fit_mse", **options)


@pytest.mark.xla
def test_the_target_model_is_copied_in_the_middle_of_a_call():
    learner = with_target(table([0, 0], [0, 0]), target_update=2)
    to_the_other = (0, 0, 1, 1.0, 1), (1, 0, 1, 1.0, 0)
    learner.update(steps(to_the_other[0]))
    np.testing.assert_allclose(learner.target.variables[0], 0)  # 1 update: not yet
    learner.update(steps(to_the_other[1], to_the_other[0], to_the_other[1]))
    # The 2nd: Q(1,0) = 1 + 0, then copied: [1, 1]. The 3rd: Q(0,0) = 1 + 1. The 4th: Q(1,0) = 1 + 1, not 1 + 2. Copied.
    np.testing.assert_allclose(kernel_of(learner), [[2, 0], [2, 0]])
    np.testing.assert_allclose(learner.target.variables[0], [[2, 0], [2, 0]])


def test_a_soft_target_moves_by_tau():
    learner = with_target(table([0, 0], [0, 0]), target_update=1, tau=0.25)
    learner.update(steps((0, 0, 8, 0.0, 1)))
    np.testing.assert_allclose(learner.target.variables[0], [[2, 0], [0, 0]])


def test_double_picks_with_the_brain_and_values_with_the_target():
    learner = with_target(table([0, 0], [5, 1]), target_update=100, double=True)
    learner.target.variables[0].assign([[0, 0], [2, 99]])
    learner.update(steps((0, 0, 0, 1.0, 1)))
    np.testing.assert_allclose(kernel_of(learner), [[2, 0], [5, 1]])


@pytest.mark.xla
@pytest.mark.parametrize(("bads", "updates_before_xla"), [(2, 0), (1, 0), (1, 100)])
@pytest.mark.parametrize("trouble", [np.nan, np.inf])
def test_nothing_not_finite_reaches_the_weights(trouble, bads, updates_before_xla):
    learner = with_target(mlp(2, 2, seed=0), target_update=1, updates_before_xla=updates_before_xla)
    good, bad = (0, 0, 1, 0.9, 1), (0, 0, trouble, 0.9, 1)
    learner.update(steps(good))
    once = [variable.numpy() for variable in learner.brain.variables + learner.optimizer.variables]
    with pytest.raises(FloatingPointError, match=rf"update 1 of {bads} is not finite.* Received: a loss of (nan|inf)"):
        learner.update(steps(*[bad, good][:bads]))
    now = [variable.numpy() for variable in learner.brain.variables + learner.optimizer.variables]
    for before, after in zip(once, now, strict=True):
        np.testing.assert_array_equal(before, after)
    assert learner.updates == 1
    learner.update(steps(good))
    assert learner.updates == 2


def test_a_gradient_that_clipping_would_hide_is_found():
    learner = Learner(table([0, 0], [0, 0]), keras.optimizers.SGD(1.0, clipvalue=1.0), "fit_mse")
    batches = steps((0, 0, 1e10, 0.0, 1))
    with pytest.raises(FloatingPointError, match=r"update 1 of 1 is not finite.* Received: a loss of 5\.0\d*e\+19"):
        learner.update(batches._replace(state=1e30 * batches.state))  # the gradient is 1e40, clipped it would be 1
    np.testing.assert_array_equal(learner.read_weights(), 0)


def test_a_loss_that_is_infinite_is_found_where_gradients_are_finite():
    learner = Learner(table([0, 0], [0, 0]), keras.optimizers.SGD(1.0, clipvalue=1.0), "fit_mse")
    with pytest.raises(FloatingPointError, match="Received: a loss of inf"):
        learner.update(steps((0, 0, 1e30, 0.0, 1)))  # its square is infinite
    np.testing.assert_array_equal(learner.read_weights(), 0)


@pytest.mark.xla
def test_after_an_update_that_fails_those_before_it_count():
    learner = Learner(mlp(2, 2, seed=0), keras.optimizers.SGD(0.1))
    states = np.eye(2, dtype=np.float32)
    at_first = learner.q_values(states)
    with pytest.raises(FloatingPointError, match=r"update 3 of 3 is not finite"):
        learner.update(steps((0, 0, 1, 0.9, 1), (1, 0, 1, 0.9, 1), (0, 0, np.nan, 0.9, 1)))
    assert learner.updates == 2
    now = learner.q_values(states)  # by NumPy, not asked to sync
    np.testing.assert_allclose(now, learner.brain(states), rtol=1e-5, atol=1e-6)
    assert np.abs(now - at_first).max() > 0.01


def test_batch_normalization_learns_in_updates_and_judges_in_inference():
    brain = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    learner = with_target(brain, target_update=3)
    mean = brain.layers[0].moving_mean
    batch = Transition(
        np.full((1, 4, 2), 10, np.float32),
        np.zeros((1, 4), int),
        np.zeros((1, 4), np.float32),
        np.ones((1, 4), np.float32),
        np.full((1, 4, 2), 1000, np.float32),
    )
    learner.update(batch)
    np.testing.assert_allclose(mean.numpy(), 0.1, rtol=1e-5)  # momentum 0.99 of 10; next states leave no trace
    np.testing.assert_allclose(learner.target.variables[2], 0)
    learner.update(batch)
    learner.update(batch)
    np.testing.assert_array_equal(learner.target.variables[2], mean.numpy())


@pytest.mark.xla
def test_traces_once_for_a_given_shape():
    learner = Learner(mlp(2, 2, seed=0), keras.optimizers.Adam())
    for _ in range(3):
        learner.update(steps((0, 0, 1, 0.9, 1), (0, 1, 2, 0.9, 1)))
    assert learner.traces == 1
    learner.update(steps((0, 0, 1, 0.9, 1)))
    assert learner.traces == 2


@pytest.mark.xla
def test_xla_takes_over_at_a_count_of_updates():
    """The first updates, one a call, are a plain graph's: the same numbers but for rounding, and on resuming, too."""
    batch = steps((0, 0, 1, 0.9, 1))

    def learner(**options):
        return Learner(mlp(2, 2, (8,), seed=0), keras.optimizers.Adam(0.01), "huber", 2, double=True, **options)

    ours, at_once = learner(updates_before_xla=4), learner()
    for update in range(7):
        np.testing.assert_allclose(ours.update(batch).losses, at_once.update(batch).losses, rtol=1e-5)
        assert (ours.traces, at_once.traces) == (1 if update < 4 else 2, 1)
        np.testing.assert_allclose(ours.read_weights(), at_once.read_weights(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(ours.q_values(batch.state[0]), ours.brain(batch.state[0]), rtol=1e-5)
        if update == 2:
            snapshot = ours.snapshot()
    resumed = learner(updates_before_xla=4)
    resumed.restore(snapshot)
    resumed.updates = 3
    for _ in range(4):
        resumed.update(batch)
    assert resumed.traces == 2 and resumed.updates == ours.updates == 7
    np.testing.assert_array_equal(resumed.read_weights(), ours.read_weights())


def test_convolutions_are_not_compiled_with_xla_and_learn_all_the_same():
    brain = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    learner = Learner(brain, keras.optimizers.SGD(0.001))
    frames = np.ones((2, 4, 8, 8, 1), np.float32)
    one = np.ones((2, 4), np.float32)
    (first, second), _ = learner.update(Transition(frames, one.astype(int), one, 0 * one, frames))
    assert second < first
    assert learner.jit_compile is False
    nested = keras.Sequential([keras.Input((8, 8, 1)), keras.Sequential(brain.layers[:2]), keras.layers.Dense(2)])
    assert Learner(nested, keras.optimizers.SGD()).jit_compile is False


def test_loaded_weights_are_acted_on_and_are_the_target_models_too():
    learner, other = with_target(mlp(2, 2, seed=0), target_update=9), mlp(2, 2, seed=1)
    save_weights(other, "other.h5")
    learner.load_weights("other.h5")
    states = np.eye(2, dtype=np.float32)
    np.testing.assert_allclose(learner.q_values(states), other(states), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(learner.target.variables, other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_learning_rate_counts_from_the_next_update_on():
    learner = Learner(table([0, 0], [0, 0]), keras.optimizers.SGD(1.0), "fit_mse")
    learner.update(steps((0, 0, 8, 0.0, 1)))
    learner.learning_rate = 0.25
    learner.update(steps((0, 1, 8, 0.0, 1)))
    np.testing.assert_allclose(kernel_of(learner), [[8, 2], [0, 0]])
    assert learner.learning_rate == 0.25


def test_the_literal_twin_by_hand():
    """The numbers of `test_each_update_sees_the_one_before`; the largest next value counts, and not where it ends."""
    brain = table([0, 0], [0, 0])
    brain.compile(loss="mse", optimizer=keras.optimizers.SGD(1.0))
    literal = LiteralLearner(brain, brain.optimizer, "fit_mse")
    losses, _ = literal.update(steps((1, 0, 8, 0.0, 0), (0, 1, 1, 0.5, 1), (1, 1, 3, 0.0, 1)))
    np.testing.assert_allclose(losses, [32, 12.5, 4.5])
    np.testing.assert_allclose(kernel_of(literal), [[0, 5], [8, 3]])
    assert literal.updates == 3
    small = mlp(2, 2, hidden=(), seed=0)
    small.compile(loss="mse", optimizer=keras.optimizers.SGD(1.0))
    literal = LiteralLearner(small, small.optimizer)
    literal.update(steps((0, 0, 50, 0.0, 1)))
    np.testing.assert_allclose(literal.q_values(np.eye(2, dtype=np.float32)), small(np.eye(2)), rtol=1e-5)


def test_errors_and_weights_of_each_transition():
    batch = steps((0, 0, 8, 0.0, 1), (0, 0, 8, 0.0, 1)).each(lambda field: field.swapaxes(0, 1))  # K=1, B=2
    learner = Learner(table([0, 0], [0, 0]), keras.optimizers.SGD(1 / 16))
    losses, errors = learner.update(batch._replace(weight=np.array([[1.0, 0.0]], np.float32)))
    np.testing.assert_allclose(errors, [[8, 8]])  # with weights they are priorities, the sizes of the differences
    np.testing.assert_allclose(losses, [32])  # the mean of 64 and 0
    np.testing.assert_allclose(kernel_of(learner), [[8 / 16, 0], [0, 0]])  # half of 2 * 8 / 16


def test_losses_that_a_brain_carries_count():
    def update(**options):
        brain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False, **options)])
        brain.set_weights([np.eye(2, dtype=np.float32)])
        return brain, Learner(brain, keras.optimizers.SGD(0.5)).update(steps((0, 0, 1, 0.0, 1)))  # no error

    brain, (losses, errors) = update(kernel_regularizer=keras.regularizers.L2(0.25))
    np.testing.assert_allclose(losses, [0.5])  # 0.25 * (1 + 1)
    np.testing.assert_allclose(errors, [[0]])
    np.testing.assert_allclose(brain.get_weights()[0], 0.75 * np.eye(2))  # 1 - 0.5 * 2 * 0.25
    _, (losses, _) = update(activity_regularizer=keras.regularizers.L1(0.5))
    np.testing.assert_allclose(losses, [0.5])


class AsPeopleWrite(keras.Model):
    """No `training` argument, a required one in the constructor, no `get_config`, and a layer with a function."""

    def __init__(self, actions):
        super().__init__()
        self.hidden = keras.layers.Dense(8, lambda x: keras.ops.relu(x) + 0.1)
        self.double = keras.layers.Lambda(lambda x: 2 * x)
        self.dropout = keras.layers.Dropout(0.5, seed=1)
        self.q = keras.layers.Dense(actions)

    def call(self, x):
        return self.q(self.dropout(self.double(self.hidden(x))))


def test_models_as_people_write_them_have_target_networks_too():
    brain = AsPeopleWrite(2)
    brain(np.zeros((1, 2), np.float32))
    learner = Learner(brain, keras.optimizers.SGD(0.1), target_update=2, tau=0.5, double=True)
    before = [np.asarray(one).copy() for one in learner.target.variables]
    batch = steps((0, 0, 1, 0.9, 1))
    learner.update(batch)
    learner.update(batch)
    for old, target, new in zip(before, learner.target.variables, brain.weights, strict=True):
        np.testing.assert_allclose(target, (old + new) / 2, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(learner.q_values(batch.state[0]), brain(batch.state[0]), rtol=1e-5)


def test_weights_that_are_no_floats_or_half_as_long():
    """Normalization counts what it has seen; a layer in bfloat16 has a target in bfloat16."""
    normal = keras.layers.Normalization()
    normal.adapt(np.random.default_rng(0).normal(size=(100, 2)))
    hidden, q = keras.layers.Dense(8, dtype="bfloat16"), keras.layers.Dense(2, dtype="float32")
    brain = keras.Sequential([keras.Input((2,)), normal, hidden, q])
    learner = Learner(brain, keras.optimizers.SGD(0.1), target_update=1, tau=0.5)
    learner.update(steps((0, 0, 1, 0.9, 1)))
    for ours, theirs in zip(brain.weights, learner.target.variables, strict=True):
        assert ours.dtype == theirs.dtype


def test_refuses_options_that_make_no_sense():
    brain = mlp(2, 2)
    with pytest.raises(ValueError, match=r"`loss` must be one of \['fit_mse', 'huber', 'mse'\], or .* Received: 'mea'"):
        Learner(brain, keras.optimizers.Adam(), "mea")
    with pytest.raises(ValueError, match=r"`double` needs a target network.* Received: "):
        Learner(brain, keras.optimizers.Adam(), double=True)
    with pytest.raises(ValueError, match="without `bootstraps` nobody asks. Received: target_update=1"):
        Learner(brain, keras.optimizers.Adam(), target_update=1, bootstraps=False)
