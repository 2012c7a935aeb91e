"""The agent: the notebook's words and numbers, and the licence for the fast replay."""

import copy
import pickle

import numpy as np
import pytest

from keras_dqn import Agent, CartPole, WeightFileError, save_weights
from keras_dqn.backend import keras
from keras_dqn.core.learner import Update
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.networks.numpy_forward import acting_forward
from keras_dqn.core.objectives.value import Value, q_learning_targets


def make_agent(**options):
    return Agent(4, 2, **{"weight_backup": None, "seed": 0, **options})


def fill(agent, count=200, seed=0):
    """Transitions of no environment: states near what CartPole gives, one in ten terminal."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        state, next_state = random.normal(size=(2, 4)).astype(np.float32)
        agent.remember(state, random.integers(2), random.normal(), next_state, random.random() < 0.1)


def test_defaults_are_the_notebooks():
    agent = make_agent()
    assert agent.memory.capacity == 2000
    assert (agent.learning_rate, agent.gamma) == (0.001, 0.95)
    assert (agent.exploration_rate, agent.exploration_min, agent.exploration_decay) == (1.0, 0.01, 0.995)
    assert [layer.units for layer in agent.brain.layers] == [24, 24, 2]
    assert [layer.activation.__name__ for layer in agent.brain.layers] == ["relu", "relu", "linear"]
    assert type(agent.brain.optimizer).__name__ == "Adam"
    assert float(agent.brain.optimizer.learning_rate) == pytest.approx(0.001)
    assert agent.brain.loss == "mse"
    assert Agent(4, 2).weight_backup.name == "cartpole_weight.h5"


def test_says_whether_a_backup_was_found(capsys):
    agent = Agent(4, 2, seed=1)
    assert capsys.readouterr().out == "Backup weights for model not found\n"
    assert agent.exploration_rate == 1.0
    agent.save_model()
    again = Agent(4, 2, seed=2)
    assert capsys.readouterr().out == "Found saved weights, loaded into model\n"
    assert again.exploration_rate == again.exploration_min
    np.testing.assert_array_equal(again.learner.read_weights(), agent.learner.read_weights())
    assert Agent(4, 2, seed=2, load_backup=False).exploration_rate == 1.0


def test_a_backup_of_another_network_is_refused():
    save_weights(mlp(3, 2), "cartpole_weight.h5")
    with pytest.raises(WeightFileError, match=r"cartpole_weight.h5.*shape \(4, 24\).* Received: \(3, 24\)"):
        Agent(4, 2)


# ---------------------------------------------------------------- the licence for the fast replay


def twins(**options):
    """Two agents with the same weights, optimizer state, memory and random generators."""
    pair = [make_agent(**options) for _ in range(2)]
    for agent in pair:
        fill(agent)
    return pair


def largest_difference(first, second):
    pairs = zip(
        first.brain.weights + first.brain.optimizer.variables,
        second.brain.weights + second.brain.optimizer.variables,
        strict=True,
    )
    return max(float(np.abs(a.numpy().astype(float) - b.numpy().astype(float)).max()) for a, b in pairs)


def replay_both(fast, literal, replays):
    for _ in range(replays):
        fast_losses, literal_losses = fast.replay(), literal.replay_as_written()
        np.testing.assert_allclose(fast_losses, literal_losses, atol=1e-5)
    return largest_difference(fast, literal)


@pytest.mark.xla
def test_compiled_replay_gives_the_weights_of_the_notebooks_calls():
    fast, literal = twins()
    start = fast.learner.read_weights()
    assert replay_both(fast, literal, replays=5) < 1e-6
    assert np.abs(fast.learner.read_weights() - start).max() > 1e-3  # something was learned
    assert fast.learner.updates == 160
    assert fast.exploration_rate == literal.exploration_rate == pytest.approx(0.995**5)


def test_a_wrong_target_would_be_seen(monkeypatch):
    def bootstraps_from_terminal_states(rewards, discounts, next_q):
        return right(rewards, 0 * discounts + 0.95, next_q)

    right = q_learning_targets
    monkeypatch.setattr("keras_dqn.core.objectives.value.q_learning_targets", bootstraps_from_terminal_states)
    fast, literal = twins()
    for _ in range(2):
        fast.replay(), literal.replay_as_written()
    assert largest_difference(fast, literal) > 1e-3


@pytest.mark.parametrize("options", [{"loss": "huber"}, {"minibatch_size": 8}, {"target_update": 1}])
def test_the_literal_replay_is_for_the_notebooks_case(options):
    agent = make_agent(**options)
    fill(agent)
    with pytest.raises(
        ValueError, match="The notebook's replay has .* Received: (8|Value.loss='huber'|Value.*target_update=1)"
    ):
        agent.replay_as_written()


def test_literal_and_compiled_replays_can_take_turns():
    fast, literal = twins()
    fast.replay(), fast.replay_as_written(8), fast.replay()
    literal.replay_as_written(), literal.replay_as_written(8), literal.replay_as_written()
    assert largest_difference(fast, literal) < 1e-6


def test_the_target_is_valued_by_the_network_as_it_is_by_then():
    """32 updates at once would give other weights than 32 one after the other: the test above can tell."""
    one_by_one, at_once = twins()
    one_by_one.replay()
    at_once.learner.update(at_once.memory.sample(1, 32))
    assert largest_difference(one_by_one, at_once) > 1e-3


# ---------------------------------------------------------------- replay


def test_replay_waits_for_a_full_sample_and_decays_epsilon():
    agent = make_agent(exploration_min=0.5, exploration_decay=0.6)
    fill(agent, 31)
    assert agent.replay() is None
    assert agent.exploration_rate == 1.0
    fill(agent, 1)
    assert agent.replay().shape == (32,)
    rates = []
    for _ in range(3):
        rates.append(agent.exploration_rate)
        agent.replay()
    assert rates == pytest.approx([0.6, 0.36, 0.36])  # while above the minimum, as the notebook has it


def test_minibatches_share_a_replay():
    agent = make_agent(sample_batch_size=32, minibatch_size=8)
    fill(agent)
    assert agent.replay().shape == (4,)
    assert agent.replay(16).shape == (2,)
    assert agent.learner.updates == 6


def test_a_frozen_target_model_is_copied_every_n_updates():
    agent = make_agent(target_update=48)
    fill(agent)
    start = agent.learner.read_weights()
    target = lambda: np.concatenate([np.ravel(one) for one in agent.learner.target.variables])  # noqa: E731
    agent.replay()
    np.testing.assert_array_equal(target(), start)
    agent.replay()  # update 48 is in the middle of this one
    assert np.abs(target() - start).max() > 1e-4
    assert np.abs(target() - agent.learner.read_weights()).max() > 1e-4
    agent.replay()
    np.testing.assert_array_equal(target(), agent.learner.read_weights())  # update 96 ends it


def test_a_model_of_ones_own_keeps_its_optimizer():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, activation="tanh")(inputs)
    outputs = keras.layers.Add()([keras.layers.Dense(2)(hidden), keras.layers.Dense(1)(hidden)])
    brain = keras.Model(inputs, outputs)
    brain.compile(loss="mse", optimizer=keras.optimizers.SGD(0.01))
    agent = make_agent(brain=brain)
    fill(agent)
    before = agent.learner.read_weights()
    agent.replay()
    assert agent.brain is brain
    assert type(brain.optimizer).__name__ == "SGD" and int(brain.optimizer.iterations) == 32
    assert np.abs(agent.learner.read_weights() - before).max() > 0
    states = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    np.testing.assert_allclose(agent.q_values(states), brain.predict(states, verbose=0), rtol=1e-5, atol=1e-5)
    assert agent.act(states[0], epsilon=0) == brain.predict(states[:1], verbose=0).argmax()


def test_images_work_with_a_brain_of_convolutions():
    brain = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(2, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    agent = Agent((6, 6, 2), 3, weight_backup=None, brain=brain, seed=0, sample_batch_size=4, minibatch_size=2)
    frames = np.random.default_rng(0).integers(256, size=(8, 6, 6, 2), dtype=np.uint8)
    for frame in frames:
        agent.remember(frame, 2, 1.0, frame, False)
    assert agent.memory.sample(1).state.dtype == np.uint8
    assert agent.replay().shape == (2,)
    assert agent.act(frames[0], epsilon=0) == brain.predict(frames[:1], verbose=0).argmax()


# ---------------------------------------------------------------- acting


@pytest.mark.parametrize("hidden", [(24, 24), (), (64,)])
def test_numpy_forward_gives_the_brains_numbers(hidden):
    agent = make_agent(brain=mlp(4, 2, hidden, seed=3))
    assert acting_forward(agent.brain) is not None
    states = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    for _ in range(2):
        np.testing.assert_allclose(agent.q_values(states), agent.brain.predict(states, verbose=0), rtol=1e-5, atol=1e-5)
        agent.brain.set_weights([weight * 1.5 + 0.1 for weight in agent.brain.get_weights()])  # behind its back


def test_acting_after_a_replay_uses_the_new_weights():
    agent = make_agent()
    fill(agent)
    states = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    at_first = agent.learner.q_values(states)
    agent.replay()
    expected = agent.brain.predict(states, verbose=0)
    assert np.abs(expected - at_first).max() > 0.01
    np.testing.assert_allclose(agent.learner.q_values(states), expected, rtol=1e-5, atol=1e-6)  # not asked to sync
    np.testing.assert_array_equal(agent.act_batch(states, 0.0), expected.argmax(-1))
    assert [agent.act(state, 0.0) for state in states] == expected.argmax(-1).tolist()


def test_epsilon_is_a_number_that_can_be_set():
    agent = make_agent()
    agent.epsilon = 0.4
    agent.act(np.zeros(4))
    assert agent.epsilon == agent.exploration_rate == 0.4
    agent.exploration_rate = 0.0
    assert agent.epsilon == 0 and len({agent.act(np.zeros(4)) for _ in range(50)}) == 1
    with pytest.raises(ValueError, match="`epsilon` must be a number from 0 to 1. Received: 2"):
        agent.epsilon = 2


def test_states_of_any_numbers_are_learned_from():
    agent = make_agent()
    agent.remember([0, 1, 2, 3], 0, 1.0, np.array([0, 0.5, 1, 2]), False)
    agent.remember(np.ones(4, np.float32), 0, 1.0, np.ones(4, bool), False)
    assert agent.memory.contents().next_state.tolist() == [[0, 0.5, 1, 2], [1, 1, 1, 1]]


def test_an_optimizer_may_be_a_name_and_two_outputs_are_refused():
    assert type(make_agent(optimizer="sgd").learner.optimizer) is keras.optimizers.SGD
    one = keras.Input((4,))
    brain = keras.Model(one, [keras.layers.Dense(2)(one), keras.layers.Dense(2)(one)])
    with pytest.raises(ValueError, match="`brain` must make Q-values .* Received: it has 2 outputs instead of one"):
        make_agent(brain=brain)


@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_one_rule_for_losses(loss):
    """`objective` decides, then `loss`, then what the brain was compiled with, as `fit` computes it."""

    def compiled():
        brain = mlp(4, 2, seed=1)
        brain.compile("adam", loss)
        return brain

    assert (make_agent(brain=compiled()).learner.objective.loss, make_agent().learner.objective.loss) == (loss, "mse")
    assert make_agent(brain=compiled()).learner.objective.as_fit and make_agent().learner.objective.as_fit
    assert not make_agent(brain=compiled(), loss="mse").learner.objective.as_fit
    ours, objective = keras.losses.LogCosh(), Value("huber")
    assert make_agent(loss=ours).learner.objective.loss is ours
    assert make_agent(brain=compiled(), objective=objective).learner.objective is objective
    with pytest.raises(ValueError, match=r"`objective` has a loss of its own.* Received: objective=Value.*loss='mse'"):
        make_agent(objective=objective, loss="mse")
    literal, fast = make_agent(brain=compiled()), make_agent(brain=compiled())
    for agent in (literal, fast):
        fill(agent)
    np.testing.assert_allclose(literal.replay_as_written(4), fast.replay(4), rtol=1e-4)
    assert largest_difference(fast, literal) < 1e-5


def test_acting_after_a_literal_replay_or_a_callback_uses_the_new_weights():
    agent = make_agent()
    fill(agent)
    states = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    agent.act_batch(states)
    agent.replay_as_written(8)
    np.testing.assert_allclose(agent.learner.q_values(states), agent.brain(states), rtol=1e-4, atol=1e-5)
    agent.brain.set_weights([weight + 0.1 for weight in agent.brain.get_weights()])
    expected = np.asarray(agent.brain(states)).argmax(-1)
    assert [agent.act(state, 0.0) for state in states] == expected.tolist()


def test_explores_as_often_as_epsilon_says_and_evenly():
    agent = Agent(4, 5, weight_backup=None, seed=0)
    states = np.zeros((40_000, 4), np.float32)
    greedy = agent.act_batch(states, 0.0)
    assert len(set(greedy.tolist())) == 1
    counts = np.bincount(agent.act_batch(states, 0.3), minlength=5)
    expected = np.full(5, 40_000 * 0.3 / 5)
    expected[greedy[0]] += 40_000 * 0.7
    assert np.abs(counts - expected).max() < 5 * np.sqrt(40_000 * 0.06 * 0.94)
    everything = np.bincount(agent.act_batch(states, 1.0), minlength=5)
    assert np.abs(everything - 8000).max() < 5 * np.sqrt(40_000 * 0.2 * 0.8)


def test_a_single_state_is_explored_in_at_the_agents_rate():
    agent = Agent(4, 5, weight_backup=None, seed=0)
    assert {agent.act(np.zeros(4)) for _ in range(200)} == set(range(5))
    agent.exploration_rate = 0.0
    assert len({agent.act(np.zeros(4)) for _ in range(200)}) == 1
    assert {agent.act(np.zeros(4), epsilon=1) for _ in range(200)} == set(range(5))


def test_n_steps_end_where_an_episode_is_truncated():
    agent = make_agent(n_step=2)
    for number in range(4):
        agent.remember(np.full(4, number), 0, 1, np.full(4, number + 1), False, truncated=number == 2)
    stored = agent.memory.contents()
    assert stored.next_state[:, 0].tolist() == [2, 3, 3]
    np.testing.assert_allclose(stored.reward, [1.95, 1.95, 1])
    np.testing.assert_allclose(stored.discount, [0.95**2, 0.95**2, 0.95])


def test_learning_waits_for_a_terminal_state_where_it_is_told_to():
    agent, updates = make_agent(wait_for_terminal=True, sample_batch_size=1), []
    update = Update(np.zeros(1, np.float32), np.zeros((1, 1), np.float32))
    agent.learner.update = lambda batches: updates.append(1) or update
    for number, (done, truncated) in enumerate([(False, False), (False, True), (True, False), (False, False)]):
        agent.remember(np.zeros(4), 0, 1, np.zeros(4), done, truncated)
        assert (agent.replay() is None) == (number < 2)
    assert len(updates) == 2


def test_counters_are_gone_on_from():
    first, second = (make_agent(target_update_episodes=3) for _ in range(2))
    first.learner.updates = 7
    first.epsilon_schedule.hold_at_minimum()
    for _ in range(2):
        first.remember(np.zeros(4), 0, 1, np.zeros(4), True)
    second.restore_counters(first.counters())
    assert second.counters() == first.counters()
    assert (second.steps, second.episodes, second.learner.updates, second.epsilon_schedule.held_at_minimum) == (
        2,
        2,
        7,
        True,
    )
    copies = []
    second.learner.copy_to_target = lambda: copies.append(second.episodes)
    for _ in range(5):
        second.remember(np.zeros(4), 0, 1, np.zeros(4), True)
    assert copies == [3, 6]
    fourth = make_agent(target_update_episodes=3)
    fourth.restore_counters({**first.counters(), "episodes": 4})
    fourth.learner.copy_to_target = lambda: copies.append(fourth.episodes)
    fourth.remember(np.zeros(4), 0, 1, np.zeros(4), True)
    assert copies == [3, 6], "the copy after three was made before"
    with pytest.raises(KeyError):
        second.restore_counters({"steps": 100})
    assert second.steps == 7


@pytest.mark.parametrize("options", [{"target_update": 3, "double": True}, {"rollout": 64, "minibatch_size": 8}])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda agent: pickle.loads(pickle.dumps(agent))])
def test_a_copy_learns_on_as_the_agent_does(copied, options):
    agent = make_agent(**options)
    fill(agent, 64)
    agent.replay()
    other = copied(agent)
    for one in (agent, other):
        fill(one, 64, seed=1)
        one.replay()
    np.testing.assert_array_equal(other.learner.read_weights(), agent.learner.read_weights())
    state = np.ones((20, 4), np.float32)
    np.testing.assert_array_equal(other.act_batch(state), agent.act_batch(state))
    assert other.counters() == agent.counters()
    other.brain.layers[-1].bias.assign([9, 9])
    assert agent.learner.read_weights()[-1] != 9


def test_a_game_cannot_be_pickled_and_says_what_can_be_done():
    cartpole = CartPole(1, weights=None, weight_backup=None)
    with pytest.raises(TypeError, match=r"`agent.save_model\(path\)` .*`train\(checkpoints=.* Received: CartPole\("):
        pickle.dumps(cartpole)


def test_same_seed_same_agent():
    def life(seed):
        agent = make_agent(seed=seed)
        fill(agent)
        losses = agent.replay()
        actions = [agent.act(np.zeros(4)) for _ in range(30)]
        return actions, losses.tolist(), agent.learner.read_weights().tolist()

    assert life(5) == life(5)
    assert life(5) != life(6)


def test_takes_states_as_the_notebook_shapes_them():
    agent = make_agent()
    state = np.ones(4, np.float32)
    agent.remember(state, 0, 1, state * 2, False)
    agent.remember(state.reshape(1, 4), 1, 2.0, state.reshape(1, 4) * 2, True)
    stored = agent.memory.contents()
    np.testing.assert_array_equal(stored.state, np.ones((2, 4)))
    np.testing.assert_array_equal(stored.next_state, np.full((2, 4), 2))
    np.testing.assert_array_equal(stored.action, [0, 1])
    np.testing.assert_array_equal(stored.reward, [1, 2])
    np.testing.assert_allclose(stored.discount, [0.95, 0])
    assert agent.act(state, 0.0) == agent.act(state.reshape(1, 4), 0.0)
    assert isinstance(agent.act(state), int)


# ---------------------------------------------------------------- what it refuses

STATE = np.zeros(4, np.float32)
BAD_STATE = np.array([0, np.nan, 0, 0], np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda agent: agent.act(np.zeros(3)), r"`state` must have shape \(4,\). Received: \(3,\)"),
        (lambda agent: agent.act(BAD_STATE), "finite.* Received: .*nan"),
        (lambda agent: agent.act(STATE, epsilon=1.5), "`epsilon` must be a number from 0 to 1. Received: 1.5"),
        (lambda agent: agent.act(STATE, epsilon="0"), "`epsilon`.* Received: '0'"),
        (lambda agent: agent.remember(np.zeros((2, 4)), 0, 1, STATE, False), r"`state`.* Received: \(2, 4\)"),
        (lambda agent: agent.remember(STATE, 0, 1, np.zeros(5), False), r"`next_state`.* Received: \(5,\)"),
        (lambda agent: agent.remember(BAD_STATE, 0, 1, STATE, False), "`state` must hold finite numbers. Received"),
        (lambda agent: agent.remember(STATE, 0, 1, BAD_STATE, False), "`next_state` must hold finite numbers. Rece"),
        (
            lambda agent: agent.remember(STATE, 0, np.inf, STATE, False),
            "`reward` must be finite in float32.* Received: .*inf",
        ),
        (lambda agent: agent.remember(STATE, 2, 1, STATE, False), "`action`.* from 0 to 1. Received: 2"),
        (lambda agent: agent.remember(STATE, -1, 1, STATE, False), "`action`.* Received: -1"),
        (lambda agent: agent.remember(STATE, 0.5, 1, STATE, False), "`action`.* Received: 0.5"),
        (lambda agent: agent.replay(33), r"`sample_batch_size`.* multiple of 2.* Received: 33"),
        (lambda agent: agent.replay(0), "`sample_batch_size`.* Received: 0"),
    ],
)
def test_bad_input_is_named_and_stored_nowhere(call, message):
    agent = make_agent(minibatch_size=2)
    fill(agent, 40)
    before = copy.deepcopy(agent.memory.contents())
    with pytest.raises(ValueError, match=message):
        call(agent)
    for old, new in zip(before, agent.memory.contents(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_large_numbers_are_not_mistaken_for_infinite_ones():
    agent = make_agent()
    agent.remember(np.full(4, 1e30, np.float32), 0, 1e30, np.full(4, -1e30, np.float32), False)
    assert len(agent.memory) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.1}, "`gamma`.* Received: 1.1"),
        ({"exploration_rate": -0.1}, "`exploration_rate`.* Received: -0.1"),
        ({"exploration_decay": 2}, "`exploration_decay`.* Received: 2"),
        ({"sample_batch_size": 0}, "`sample_batch_size`.* Received: 0"),
        ({"sample_batch_size": 32, "minibatch_size": 5}, "`minibatch_size` must divide.* Received: 5"),
        ({"memory_size": 31}, "`sample_batch_size`.* memory .31.* Received: 32"),
        ({"memory_size": 0, "sample_batch_size": 1}, "Received: "),
        ({"target_update": 0}, "`target_update`.* Received: 0"),
        ({"learning_rate": 0}, "`learning_rate`.* Received: 0"),
        ({"updates_before_xla": -1}, "`updates_before_xla` must be a whole number, 0 or more. Received: -1"),
        ({"brain": "24-24"}, "`brain` must be a keras.Model. Received: '24-24'"),
        ({"brain": mlp(4, 3)}, r"`brain` must return one Q-value for each of 2 actions. Received: \(1, 3\)"),
        ({"brain": mlp(5, 2)}, r"`brain` must make Q-values of states of shape \(4,\). Received"),
        ({"seed": -1}, "`seed`.* Received: -1"),
    ],
)
def test_refuses_settings_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        make_agent(**options)


def test_saving_nothing_learned_keeps_the_file_that_is_there():
    first = Agent(4, 2, seed=1)
    first.save_model()
    other = Agent(4, 2, seed=2, load_backup=False)
    other.save_model()  # has learned nothing: must not replace what may be hours of training
    np.testing.assert_array_equal(Agent(4, 2).learner.read_weights(), first.learner.read_weights())
    fill(other)
    other.replay()
    other.save_model()
    np.testing.assert_array_equal(Agent(4, 2).learner.read_weights(), other.learner.read_weights())
