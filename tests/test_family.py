"""The family: what each objective moves outputs towards and how far off they are, by hand and against plain NumPy."""

import math

import gymnasium as gym
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_dqn import Agent, CartPole, Checkpoints, Learner, Transition, game_for
from keras_dqn.core.networks.atari import nature_cnn
from keras_dqn.core.networks.layers import Dueling
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.objectives.c51 import C51
from keras_dqn.core.objectives.munchausen import Munchausen
from keras_dqn.core.objectives.quantile import Quantile
from keras_dqn.core.transition import StepBatch

TINY = 1e-12  # its logarithm is low enough for no probability at all


def logits(*distributions):
    """Of one state's actions, [1, actions, atoms]."""
    return np.log(np.maximum(np.array([distributions], np.float32), TINY))


def at(place, atoms=5):
    """All probability at one atom."""
    return [float(i == place) for i in range(atoms)]


def one(reward, discount, mask=None, action=0):
    """A minibatch of one transition between the states 0 and 1."""
    mask = None if mask is None else np.array([mask])
    fields = [[0.0]], action, reward, discount, [[1.0]]
    state, action, reward, discount, next_state = (np.asarray(field, np.float32) for field in fields)
    return Transition(state, action.astype(int)[None], reward[None], discount[None], next_state, mask)


def always(outputs):
    """A network that gives these outputs for every state."""
    return lambda states: keras.ops.convert_to_tensor(np.asarray(outputs, np.float32))


# ---------------------------------------------------------------- C51, over the values 0, 1, 2, 3, 4

FAR = [0.5, 0, 0, 0, 0.5]  # mean 2
NEAR = [0, 0, 0.9, 0.1, 0]  # mean 2.1
C51_ROWS = {  # reward, discount, mask, target's distributions of both actions, online's or None: the target
    "a value that falls on a value goes there whole": (1, 0.5, None, (at(4), at(0)), None, [0, 0, 0, 1, 0]),
    "one between two is shared": (1, 0.5, None, (at(0), at(1)), None, [0, 0.5, 0.5, 0, 0]),
    "shared by nearness, terminal": (2.25, 0, None, (at(4), at(0)), None, [0, 0, 0.75, 0.25, 0]),
    "both ends keep what is theirs": (0, 1, None, (FAR, at(0)), None, FAR),
    "beyond the highest": (9, 1, None, (FAR, at(0)), None, at(4)),
    "below the lowest": (-9, 1, None, (FAR, at(0)), None, at(0)),
    "the best mean, not the likeliest highest": (0, 1, None, (FAR, NEAR), None, NEAR),
    "the best allowed": (0, 1, [True, False], (at(1), at(4)), None, at(1)),
    "online picks, target values": (0, 1, None, (at(4), at(2)), (at(0), at(1)), at(2)),
    "online picks of those allowed": (0, 1, [True, False], (at(3), at(2)), (at(0), at(1)), at(3)),
}


@pytest.mark.parametrize("row", C51_ROWS, ids=str)
def test_c51_targets_by_hand(row):
    reward, discount, mask, target, online, expected = C51_ROWS[row]
    online = None if online is None else always(logits(*online))
    got = C51(0, 4, 5).targets(one(reward, discount, mask), always(logits(*target)), online)
    np.testing.assert_allclose(got, [expected], atol=1e-6)


@pytest.mark.parametrize(
    ("target", "own", "expected"),
    [
        (at(2), [0.2] * 5, math.log(5)),
        ([0.25, 0.75, 0, 0, 0], [0.25, 0.75, 0, 0, 0], 0),  # what is right has no error, unlike its cross-entropy
        ([0.5, 0.5, 0, 0, 0], [0.25, 0.25, 0.5, 0, 0], math.log(2)),
    ],
)
def test_c51_errors_by_hand(target, own, expected):
    outputs = logits(at(0), own)  # of the taken action, which is the second: a softmax over actions would mix them
    got = C51(0, 4, 5).errors(np.array([target], np.float32), outputs, np.array([1]))
    assert float(got[0]) == pytest.approx(expected, abs=1e-6)


def c51_in_numpy(reward, discount, probabilities, low, high):
    """Algorithm 1 of the paper, atom by atom, with what it loses where a place falls on an atom."""
    atoms = len(probabilities)
    width, target = (high - low) / (atoms - 1), np.zeros(atoms)
    for j, probability in enumerate(probabilities):
        place = min((min(max(reward + discount * (low + j * width), low), high) - low) / width, atoms - 1)
        lower, upper = math.floor(place), math.ceil(place)
        if lower == upper:
            target[lower] += probability
        else:
            target[lower] += probability * (upper - place)
            target[upper] += probability * (place - lower)
    return target


NUMBERS = st.floats(-20, 20, width=32)


@given(st.integers(0, 10**6), NUMBERS, st.floats(0, 1, width=32), st.integers(2, 60), st.floats(0.5, 30, width=32))
def test_c51_is_the_algorithm_of_the_paper(seed, reward, discount, atoms, width):
    outputs = np.random.default_rng(seed).normal(0, 2, (1, 3, atoms))
    objective = C51(-width, width, atoms)
    got = np.asarray(objective.targets(one(reward, discount), always(outputs), None))[0]
    probabilities = np.exp(outputs[0]) / np.exp(outputs[0]).sum(-1, keepdims=True)
    means = probabilities @ np.linspace(-width, width, atoms)
    best = [a for a in range(3) if means[a] > means.max() - 1e-4]  # float32 may pick either of two that are alike
    expected = [c51_in_numpy(reward, discount, probabilities[a], -width, width) for a in best]
    assert got.sum() == pytest.approx(1, abs=1e-5)
    assert min(np.abs(got - one).max() for one in expected) < 1e-4


def test_c51_counts_what_lies_beyond_its_ends_and_says_so():
    objective, alone = C51(0, 4, 5).for_learner(), C51(0, 4, 5)
    half = always(logits([0, 0, 0, 0.5, 0.5], at(0)))
    for reward in (0, 1):  # of the second the value 4 becomes 5; a place at the very end is not beyond it
        objective.targets(one(reward, 1), half, None)
        alone.targets(one(reward, 1), half, None)
    assert objective.beyond == pytest.approx(0.25) and alone.beyond == 0 and not alone.remarks()
    (said,) = objective.remarks()
    assert "25.0%" in said and "0 and 4" in said
    assert objective.for_learner().beyond == 0


@pytest.mark.parametrize(
    ("low", "high", "gamma", "expected"),
    [(0, 1, 0.99, (0, 100)), (-1, -1, 0.5, (-2, 0)), (-2, 3, 0.9, (-20, 30)), (1, 1, 0, (0, 1))],
)
def test_the_support_follows_returns_and_not_rewards(low, high, gamma, expected):
    objective = C51.of_rewards(low, high, gamma)
    assert (objective.low, objective.high) == pytest.approx(expected)


def test_returns_without_ends_have_no_support():
    with pytest.raises(ValueError, match="gamma"):
        C51.of_rewards(0, 1, 1.0)


# ---------------------------------------------------------------- quantile regression

QUANTILE_ROWS = {
    "the action of the best mean, not each quantile's best": (1, 0.5, None, [[0, 10], [4, 8]], None, [3, 5]),
    "terminal": (2, 0, None, [[0, 10], [4, 8]], None, [2, 2]),
    "the best allowed": (0, 1, [True, False], [[0, 10], [4, 8]], None, [0, 10]),
    "online picks, target values": (0, 1, None, [[0, 10], [4, 8]], [[3, 3], [1, 1]], [0, 10]),
}


@pytest.mark.parametrize("row", QUANTILE_ROWS, ids=str)
def test_quantile_targets_by_hand(row):
    reward, discount, mask, target, online, expected = QUANTILE_ROWS[row]
    got = Quantile(2).targets(one(reward, discount, mask), always([target]), online and always([online]))
    np.testing.assert_allclose(got, [expected])


@pytest.mark.parametrize(
    ("targets", "own", "kappa", "expected"),
    [
        # errors of 3 and 5, losses 2.5 and 4.5, on average 3.5: 1/4 of it for the first quantile, 3/4 for the second
        ([3, 5], [0, 0], 1, 3.5),
        # both too high: -1 and -2 cost 0.5 and 1.5, times 3/4 and 1/4
        ([0, 0], [1, 2], 1, 0.75 * 0.5 + 0.25 * 1.5),
        # the sum over the own and the mean over the target's: with both halves it would be half of that
        ([1, 1], [0, 0], 1, 0.5),
        # (error² / 2) / kappa within kappa, and straight beyond: 1/4 and 4 - 1
        ([1, 4], [0, 0], 2, (0.25 + 3) / 2),
    ],
)
def test_quantile_errors_by_hand(targets, own, kappa, expected):
    outputs = np.array([[[99, -99], own]], np.float32)
    got = Quantile(2, kappa).errors(np.array([targets], np.float32), outputs, np.array([1]))
    assert float(got[0]) == pytest.approx(expected)


@given(st.integers(0, 10**6), st.integers(1, 9), st.floats(0.25, 4, width=32))
def test_quantile_errors_are_those_of_plain_loops(seed, count, kappa):
    random = np.random.default_rng(seed)
    targets, outputs = random.normal(0, 2, (3, count)), random.normal(0, 2, (3, 2, count))
    actions, expected = random.integers(2, size=3), np.zeros(3)
    for b in range(3):
        for i in range(count):
            for target in targets[b]:
                error = target - outputs[b, actions[b], i]
                huber = error**2 / 2 if abs(error) <= kappa else kappa * (abs(error) - kappa / 2)
                expected[b] += abs((i + 0.5) / count - (error < 0)) * huber / kappa / count
    got = Quantile(count, kappa).errors(targets.astype("f4"), outputs.astype("f4"), actions)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- Munchausen


def by_state(now, after):
    """A network with these Q-values of the states 0 and 1."""
    return lambda states: keras.ops.convert_to_tensor(np.array([now if states[0, 0] == 0 else after], np.float32))


LN2 = math.log(2)
MUNCHAUSEN_ROWS = {  # Q(s), Q(s'), action, reward, discount: the target
    "two that are alike": ([0, 0], [5, 5], 0, 1, 0.5, 1 - 0.9 * 0.03 * LN2 + 0.5 * (5 + 0.03 * LN2)),
    "the bonus is clipped, then scaled": ([10, 0], [0, -9], 1, 1, 0.5, 1 - 0.9),
    "the best action has next to no bonus": ([10, 0], [0, -9], 0, 1, 0.5, 1),
    "a terminal state has a bonus too": ([0, 0], [99, 99], 1, 2, 0, 2 - 0.9 * 0.03 * LN2),
}


@pytest.mark.parametrize("row", MUNCHAUSEN_ROWS, ids=str)
def test_munchausen_targets_by_hand(row):
    now, after, action, reward, discount, expected = MUNCHAUSEN_ROWS[row]
    got = Munchausen().targets(one(reward, discount, action=action), by_state(now, after), None)
    assert float(got[0]) == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0.01, 2), st.floats(-5, 0), NUMBERS)
def test_munchausen_is_its_formula_in_float64(seed, alpha, tau, clip, reward):
    random = np.random.default_rng(seed)
    now, after = random.normal(0, 5, (2, 4)).astype(np.float32)
    policies = []
    for q in (now.astype(float), after.astype(float)):
        scaled = q / tau - (q / tau).max()
        policies.append(scaled - np.log(np.exp(scaled).sum()))
    soft = (np.exp(policies[1]) * (after - tau * policies[1])).sum()
    expected = reward + alpha * np.clip(tau * policies[0][2], clip, 0) + 0.9 * soft
    got = Munchausen(alpha, tau, clip).targets(one(reward, 0.9, action=2), by_state(now, after), None)
    assert float(got[0]) == pytest.approx(expected, rel=1e-5, abs=1e-4)


# ---------------------------------------------------------------- what goes with what

OBJECTIVES = {"c51": C51(0, 5, 11), "quantile": Quantile(7), "munchausen": Munchausen(), "value": None}


def agent_of(objective, dueling=False, noisy=False, n_step=1, **options):
    network = {"hidden": (8,), "dueling": dueling, "noisy": noisy}
    usual = {"memory_size": 60, "sample_batch_size": 12, "minibatch_size": 4, "target_update": 2, "gamma": 0.8}
    return Agent(3, 2, None, network=network, objective=objective, n_step=n_step, seed=0, **usual | options)


def play(agent, steps=40, masked=False, seed=0):
    random = np.random.default_rng(seed)
    state = random.normal(size=(1, 3)).astype(np.float32)
    for i in range(steps):
        ends, next_state = np.array([i % 7 == 6]), random.normal(size=(1, 3)).astype(np.float32)
        mask = np.array([[True, i % 3 > 0]]) if masked else None
        happened = state, agent.act_batch(state), np.ones(1), next_state, ends, ends, np.zeros(1, int), np.ones(1)
        agent.remember_batch(StepBatch(*happened, mask))
        state = next_state
    return agent.replay()


COMBINATIONS = [
    ("c51", {"double": True, "n_step": 3, "masked": True, "prioritized": True, "noisy": True, "dueling": True}),
    ("c51", {"tau": 0.1, "target_update": 1}),
    ("quantile", {"double": True, "n_step": 3, "masked": True, "dueling": True, "prioritized": True}),
    ("quantile", {"noisy": True, "target_update": None}),
    ("munchausen", {"dueling": True, "noisy": True, "prioritized": True}),
    ("munchausen", {"tau": 0.1, "target_update": 1}),
    ("value", {"double": True, "n_step": 3, "masked": True, "noisy": True, "dueling": True, "prioritized": True}),
]


@pytest.mark.parametrize(("name", "options"), COMBINATIONS)
def test_updates_of_one_call_are_one_trace_and_act_with_their_numbers(name, options):
    masked = options.get("masked", False)
    agent = agent_of(OBJECTIVES[name], **{key: value for key, value in options.items() if key != "masked"})
    losses = play(agent, masked=masked)
    assert losses.shape == (3,) and np.isfinite(losses).all() and agent.learner.traces == 1
    states = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    learner = agent.learner
    brain = np.asarray(learner.objective.q_values(learner.brain(states, training=False)))
    np.testing.assert_allclose(agent.q_values(states), brain, atol=1e-5)
    np.testing.assert_allclose(learner._compiled.q_values(states), brain, atol=1e-5)
    assert brain.shape == (6, 2)


@pytest.mark.parametrize("name", ["c51", "quantile", "value"])
def test_several_updates_of_a_call_are_those_of_several_calls(name):
    """Noise and weights of errors included."""
    learners = [agent_of(OBJECTIVES[name], noisy=True, dueling=True, double=True).learner for _ in range(2)]
    random = np.random.default_rng(0)
    states, next_states = random.normal(size=(2, 4, 5, 3)).astype(np.float32)
    rewards, weights = random.random((2, 4, 5)).astype(np.float32)
    numbers = states, random.integers(2, size=(4, 5)), rewards, np.full((4, 5), 0.8, np.float32), next_states
    batches = Transition(*numbers, weight=weights)
    together = learners[0].update(batches)
    apart = [learners[1].update(batches.each(lambda field, k=k: field[k : k + 1])) for k in range(4)]
    np.testing.assert_allclose(together.losses, np.concatenate([one.losses for one in apart]), rtol=1e-5)
    np.testing.assert_allclose(together.errors, np.concatenate([np.asarray(one.errors) for one in apart]), rtol=1e-4)
    np.testing.assert_allclose(learners[0].read_weights(), learners[1].read_weights(), atol=1e-6)


def test_weights_of_errors_weigh_the_loss_and_priorities_are_sizes_of_errors():
    learner = Learner(mlp(3, 2, (4,), seed=0), keras.optimizers.SGD(0.0), "mse")
    states = np.random.default_rng(0).normal(size=(1, 2, 3)).astype(np.float32)
    plain = Transition(states, np.array([[0, 1]]), np.array([[3, -2]], np.float32), np.zeros((1, 2), "f4"), states)
    error = plain.reward[0] - learner.q_values(states[0])[[0, 1], [0, 1]]
    weighed = learner.update(plain._replace(weight=np.array([[1, 0.25]], np.float32)))
    np.testing.assert_allclose(weighed.losses, [(error[0] ** 2 + error[1] ** 2 / 4) / 2], rtol=1e-5)
    np.testing.assert_allclose(weighed.errors, [np.abs(error)], rtol=1e-5)
    unweighed = learner.update(plain)
    np.testing.assert_allclose(unweighed.losses, [(error**2).mean()], rtol=1e-5)
    np.testing.assert_allclose(unweighed.errors, [error**2], rtol=1e-5)
    huber = Learner(learner.brain, keras.optimizers.SGD(0.0), "huber")
    priorities = huber.update(plain._replace(weight=np.ones((1, 2), np.float32))).errors
    np.testing.assert_allclose(priorities, [np.abs(error)], rtol=1e-5)


def test_a_dueling_head_centers_the_advantages_of_each_atom():
    """Over actions; a value that all atoms shared would cancel in the softmax."""
    head = Dueling(2, atoms=3)
    head.build((None, 9))
    head.value_and_advantages.set_weights([np.eye(9), np.zeros(9)])
    outputs = np.asarray(head(np.array([[1, 2, 3, 5, 2, 1, 10, 20, 30]], np.float32)))
    np.testing.assert_allclose(outputs, [[[8, 20, 31], [12, 20, 29]]])
    without = np.asarray(head(np.array([[1, 2, 3, 5, 2, 1, 0, 0, 0]], np.float32)))
    q_values = [np.asarray(C51(0, 2, 3).q_values(one)) for one in (outputs, without)]
    assert (q_values[0] - q_values[1] > 0.3).all()  # 10, 20, 30 prefers the highest return


@pytest.mark.parametrize("objective", [C51(-1, 1, 5), Quantile(4)])
def test_mixed_precision_keeps_distributions_in_float32(objective):
    brain = nature_cnn((4, 84, 84), (3, objective.atoms), seed=0, dtype="mixed_bfloat16", dueling=True, noisy=True)
    learner = Learner(brain, keras.optimizers.Adam(1e-3), objective, 1, double=True)
    frames = np.random.default_rng(0).integers(255, size=(1, 2, 4, 84, 84), dtype=np.uint8)
    ones = np.ones((1, 2), np.float32)
    update = learner.update(Transition(frames, np.array([[0, 2]]), ones, ones, frames, weight=ones))
    assert np.isfinite(update.losses).all() and np.asarray(update.errors).shape == (1, 2)
    assert learner.q_values(frames[0]).dtype == np.float32
    assert keras.backend.standardize_dtype(brain(frames[0]).dtype) == "float32"
    noisy = [learner.q_values(frames[0], np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(noisy[0], noisy[1]) and not np.allclose(noisy[0], noisy[2])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"objective": "munchausen", "double": True}, "`double` has no meaning.*soft"),
        ({"objective": "munchausen", "n_step": 3}, "`n_step` has no meaning.*each step"),
        ({"objective": "c51"}, r"C51\(0.0, 100.0\)"),
        ({"objective": "c15"}, "one of.*'c51', 'munchausen', 'quantile'"),
        ({"objective": 51}, "`objective` must be one of"),
        ({"objective": Quantile(3), "loss": "huber"}, "`objective` has a loss"),
        ({"objective": C51(0, 1, 5), "brain": mlp(3, 2)}, r"C51.*\(1, 2, 5\).*\(1, 2\)"),
        ({"objective": Quantile(5), "brain": mlp(3, (2, 4))}, r"Quantile.*\(1, 2, 5\).*\(1, 2, 4\)"),
        ({"brain": mlp(3, (2, 4))}, "one Q-value for each"),
        ({"priority_alpha": 0.5}, "`priority_alpha` needs `prioritized=True`"),
        ({"prioritized": True, "priority_beta": 2.0}, "`priority_beta` must be a number from 0 to 1"),
    ],
)
def test_what_has_no_meaning_is_refused_with_its_reason(options, reason):
    usual = {"target_update": 1} if "brain" not in options else {}
    with pytest.raises(ValueError, match=reason):
        Agent(3, 2, None, **usual, **options)


@pytest.mark.parametrize("name", ["c51", "quantile", "munchausen"])
def test_returns_of_rollouts_are_refused(name):
    rollout = {"rollout": 8, "minibatch_size": 4}
    with pytest.raises(ValueError, match="`rollout` has no meaning.*Received: (C51|Quantile|Munchausen)"):
        Agent(3, 2, None, objective=OBJECTIVES[name], **rollout)
    with pytest.raises(ValueError, match="`prioritized` has no place"):
        Agent(3, 2, None, prioritized=True, **rollout)


def test_munchausen_has_no_mask_of_the_state_itself():
    with pytest.raises(ValueError, match="mask_actions=False"):
        play(agent_of(Munchausen()), masked=True)


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (C51, (1, 1)),
        (C51, (0, 1, 1)),
        (C51, (0, math.inf)),
        (Quantile, (0,)),
        (Quantile, (3, 0)),
        (Munchausen, (2,)),
        (Munchausen, (0.9, 0)),
        (Munchausen, (0.9, 0.03, 1)),
    ],
)
def test_arguments_out_of_range(cls, arguments):
    with pytest.raises(ValueError, match="Received"):
        cls(*arguments)


# ---------------------------------------------------------------- recipes

FAMILY = ["c51", "quantile", "munchausen", "noisy", "prioritized", "rainbow"]


@pytest.mark.parametrize("recipe", FAMILY)
def test_every_recipe_of_the_family_trains_and_goes_on_from_a_checkpoint(recipe, capsys):
    game = CartPole(recipe=recipe, steps=160, seed=0, weights=None)
    game.train(progress=False, checkpoints=Checkpoints("there", memory=True))
    assert game.agent.learner.updates > 20
    again = CartPole(recipe=recipe, steps=170, seed=0, weights=None)
    again.train(progress=False, checkpoints=Checkpoints("there", memory=True), resume=True)
    assert again.agent.learner.updates == game.agent.learner.updates + 10
    score = again.evaluate(2)
    assert np.array_equal(score.scores, again.evaluate(2).scores)  # greedy evaluation has no noise
    other = CartPole(recipe=recipe, weights=again.agent.weight_backup)
    assert np.array_equal(other.evaluate(2).scores, score.scores)
    assert "C51:" not in capsys.readouterr().out  # 0 to 100 are all returns there are


def test_c51_by_name_spans_the_returns_that_an_environment_declares():
    class Ranged(gym.Wrapper):
        reward_range = (-1.0, 3.0)

    game = game_for(Ranged(gym.make("CartPole-v1")))(recipe="c51", weights=None, gamma=0.9)
    objective = game.agent.learner.objective
    assert (objective.low, objective.high) == pytest.approx((-10, 30))
    with pytest.raises(ValueError, match=r"C51\(0.0, 100.0\)"):
        game_for("Acrobot-v1")(recipe="rainbow", weights=None)
    acrobot = game_for("Acrobot-v1")(recipe="rainbow", weights=None, objective=C51(-100, 0))
    assert acrobot.agent.learner.objective.low == -100


def test_beta_is_annealed_over_the_training_that_is_asked_for():
    game = CartPole(recipe="prioritized", steps=200, weights=None, seed=0)
    game.train(progress=False)
    assert game.agent.memory.sampler.beta == pytest.approx(1, abs=0.01)
    usual = CartPole(recipe="fast", prioritized=True, steps=400, weights=None).agent.settings.memory.priority_beta
    assert usual(0) == 0.4 and usual(200) == pytest.approx(0.7) and usual(400) == 1
