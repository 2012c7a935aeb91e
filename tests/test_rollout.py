"""Rollouts: their lambda-returns against a table worked out by hand and against a slow, obvious version."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_dqn import Agent, CartPole, Learner, Transition, game_for, interact, train_seeds
from keras_dqn.backend import keras
from keras_dqn.core.exploration import OverTraining
from keras_dqn.core.memory.rollout import RolloutMemory, lambda_return
from keras_dqn.core.transition import StepBatch
from keras_dqn.environments.vector import make_vector_env

TRAP = 99.0  # a value that no return may have anything of


def worth(states):
    """Q-values of two actions of states [N, 1]: the state's number is the higher one."""
    return np.stack([states[:, 0], states[:, 0] - 1000], -1).astype(np.float32)


def slow_returns(history, capacity, gamma, q_lambda):
    """The lambda-returns of the first `capacity` steps, each worked out by itself, as the sum over n-step returns.

    history: dicts of one step each, in the order they were made. The return of a step is the mean of its n-step
    returns, of weight (1 - q_lambda) q_lambda^(n - 1), the longest one having all the weight that is left.
    """
    returns = []
    for i, first in enumerate(history[:capacity]):
        chain = [first]
        for j in range(i + 1, capacity):
            if chain[-1]["terminal"] or chain[-1]["done"]:
                break
            if history[j]["env_id"] == first["env_id"]:
                chain.append(history[j])
        total = rewards = 0.0
        for n, step in enumerate(chain, 1):
            rewards += gamma ** (n - 1) * step["reward"]
            value = 0.0 if step["terminal"] else gamma**n * step["next_value"]
            weight = q_lambda ** (n - 1) * (1 if n == len(chain) else 1 - q_lambda)
            total += weight * (rewards + value)
        returns.append(total)
    return returns


def random_rounds(random, environments):
    """The `StepBatch` that some environments make, without end; who has ended only resets."""
    done, states = np.zeros(environments, bool), random.normal(size=(environments, 1))
    while True:
        next_states = random.normal(size=(environments, 1))
        terminal, over = random.random((2, environments)) < 0.2
        if len(rows := np.flatnonzero(~done)):
            flags, rewards = (terminal[rows], over[rows]), random.normal(size=len(rows))
            yield StepBatch(states[rows], rows % 3, rewards, next_states[rows], *flags, rows, np.zeros(len(rows)))
        done, states = ~done & over, next_states


def played(random, environments, capacity, forget_values=0.0):
    """A memory filled with a random history of some environments, and that history as dicts."""
    memory = RolloutMemory(capacity, worth, gamma=0.9, q_lambda=float(random.choice([0, 0.3, 0.65, 1])), seed=0)
    history, rounds = [], random_rounds(random, environments)
    while not memory.ready():
        steps = next(rounds)
        memory.remember(steps if random.random() < forget_values else steps._replace(q_values=worth(steps.state)))
        for k, environment in enumerate(steps.env_id):
            history.append(
                {
                    "state": steps.state[k, 0],
                    "reward": steps.reward[k],
                    "next_value": steps.next_state[k, 0],
                    "terminal": steps.terminal[k],
                    "done": steps.done[k],
                    "env_id": environment,
                }
            )
    return memory, history


@pytest.mark.parametrize("seed", range(60))
def test_the_returns_are_those_of_the_slow_version_on_random_histories(seed):
    random = np.random.default_rng(seed)
    environments = int(random.integers(1, 6))
    memory, history = played(random, environments, int(random.integers(environments, 40)), forget_values=0.3)
    expected = slow_returns(history, memory.capacity, 0.9, memory.q_lambda)
    np.testing.assert_allclose(memory.lambda_returns(), expected, rtol=1e-5, atol=1e-5)


def of_one_round(*rows):
    """`StepBatch` of rows (environment, state, reward, next state, terminal, ended)."""
    environment, state, reward, next_state, terminal, done = (np.array(column) for column in zip(*rows, strict=True))
    states, next_states = state[:, None].astype(float), next_state[:, None].astype(float)
    q_values = worth(states)
    return StepBatch(states, environment, reward, next_states, terminal, done, environment, reward, q_values=q_values)


def asked_for(states):
    """As `worth`, of the three states alone that may be asked for."""
    assert set(states[:, 0]) <= {8.0, 6.0, TRAP}
    return worth(states)


@pytest.mark.parametrize("capacity", [7, 6])
def test_the_returns_by_hand(capacity):
    """gamma 0.5, lambda 0.5, two environments; the highest Q-value of a state is its number."""
    memory = RolloutMemory(capacity, asked_for, gamma=0.5, q_lambda=0.5)
    memory.remember(of_one_round((0, 10, 1, TRAP, False, False), (1, 20, 2, TRAP, False, False)))
    # 0 loses a life, 1 is truncated in a state worth 8
    memory.remember(of_one_round((0, 12, 3, TRAP, True, False), (1, 22, 4, 8, False, True)))
    memory.remember(of_one_round((0, 14, 5, TRAP, False, False)))  # 1 only resets
    memory.remember(of_one_round((0, 16, 7, 6, False, False), (1, 24, 9, TRAP, True, True)))
    assert memory.ready()
    by_hand = [
        1 + 0.5 * (0.5 * 12 + 0.5 * 3),
        2 + 0.5 * (0.5 * 22 + 0.5 * 8),
        3,
        4 + 0.5 * 8,
        5 + 0.5 * (0.5 * 16 + 0.5 * 10),
        7 + 0.5 * 6,
        9,
    ]
    np.testing.assert_allclose(memory.lambda_returns(), by_hand[:capacity])


@pytest.mark.parametrize("seed", range(10))
def test_lambda_0_is_one_step_q_learning(seed):
    random = np.random.default_rng(seed)
    memory, history = played(random, 3, 30)
    memory.q_lambda = 0
    expected = [step["reward"] + 0.9 * (not step["terminal"]) * step["next_value"] for step in history[:30]]
    np.testing.assert_allclose(memory.lambda_returns(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_lambda_1_is_the_discounted_return(seed):
    """Until the end or what was seen of it; there the value of the last state, unless that is terminal."""
    random = np.random.default_rng(seed)
    memory, history = played(random, 3, 30)
    memory.q_lambda = 1
    returns, later = np.zeros(30), {}
    for i in reversed(range(30)):
        step = history[i]
        goes_on = step["env_id"] in later and not step["done"]
        after = later[step["env_id"]] if goes_on else step["next_value"]
        returns[i] = later[step["env_id"]] = step["reward"] + 0.9 * (not step["terminal"]) * after
    np.testing.assert_allclose(memory.lambda_returns(), returns, rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 10_000), environments=st.integers(1, 4))
def test_an_environment_knows_nothing_of_the_others(seed, environments):
    """Its returns are those that it has alone, in a rollout that ends where this one does."""
    memory, history = played(np.random.default_rng(seed), environments, 24)
    returns = memory.lambda_returns()
    for environment in range(environments):
        own = [i for i in range(24) if history[i]["env_id"] == environment]
        if not own:
            continue
        alone = RolloutMemory(len(own), worth, gamma=0.9, q_lambda=memory.q_lambda)
        for i in own:
            step = history[i]
            row = (0, step["state"], step["reward"], step["next_value"], step["terminal"], step["done"])
            alone.remember(of_one_round(row))
        np.testing.assert_allclose(alone.lambda_returns(), returns[own], rtol=1e-5, atol=1e-5)


@given(reward=st.floats(-9, 9), value=st.floats(-9, 9), later=st.floats(-9, 9), q_lambda=st.floats(0, 1))
def test_a_return_lies_between_those_of_lambda_0_and_1(reward, value, later, q_lambda):
    ends = [lambda_return(reward, False, value, later, 0.9, end) for end in (0, 1)]
    mixed = lambda_return(reward, False, value, later, 0.9, q_lambda)
    assert min(ends) - 1e-9 <= mixed <= max(ends) + 1e-9
    assert lambda_return(reward, True, value, later, 0.9, q_lambda) == reward


def test_a_rollout_is_drawn_whole_in_another_order_each_epoch_and_forgotten():
    memory, history = played(np.random.default_rng(3), 4, 40)
    returns = dict(zip([step["state"] for step in history], memory.lambda_returns(), strict=False))
    kept, memory.epochs, orders = len(memory) - 40, 2, []
    for _ in range(2):
        assert memory.ready()
        drawn = memory.sample(5, 8)
        assert drawn.state.shape == (5, 8, 1) and drawn.next_state is drawn.state and not drawn.discount.any()
        assert drawn.reward.dtype == np.float32 and drawn.action.shape == (5, 8)
        states = drawn.state.ravel().tolist()
        assert sorted(states) == sorted(returns)
        assert drawn.reward.ravel().tolist() == [returns[state] for state in states]
        assert drawn.action.ravel().tolist() == [
            next(step["env_id"] for step in history if step["state"] == state) % 3 for state in states
        ]
        orders.append(states)
        memory.q_values = None  # the second time nobody asks a network that has learned since
    assert orders[0] != orders[1]
    assert len(memory) == kept and not memory.ready()


def test_steps_beyond_a_rollout_are_of_the_next():
    """Four environments, rollouts of six: two steps are left over, and no step is lost or learned twice."""
    memory = RolloutMemory(6, worth, gamma=0.9, q_lambda=0.65, seed=0)
    drawn = []
    for i in range(9):
        memory.remember(of_one_round(*((env, 10 * i + env, 1.0, 10 * i + 10 + env, False, False) for env in range(4))))
        if memory.ready():
            drawn += memory.sample(1, 6).state.ravel().tolist()
    assert sorted(drawn) == [10 * i + env for i in range(9) for env in range(4)]


def test_two_rollouts_are_worth_what_the_slow_version_says():
    """The second begins with steps that were left over from the first."""
    random, capacity, history = np.random.default_rng(5), 10, []
    memory = RolloutMemory(capacity, worth, gamma=0.9, q_lambda=0.65, epochs=2)
    states = random.normal(size=(4, 1))
    for _ in range(5):
        next_states, rewards = random.normal(size=(4, 1)), random.normal(size=4)
        rows = [(i, states[i, 0], rewards[i], next_states[i, 0], False, False) for i in range(4)]
        memory.remember(of_one_round(*rows))
        names = ("env_id", "state", "reward", "next_value", "terminal", "done")
        history += [dict(zip(names, row, strict=True)) for row in rows]
        states = next_states
        if memory.ready():
            expected = slow_returns(history, capacity, 0.9, 0.65)
            np.testing.assert_allclose(memory.lambda_returns(), expected, rtol=1e-5, atol=1e-5)
            memory.sample(2, 5)
            memory.sample(5, 2)
            history = history[capacity:]
    assert not history  # both were full


def test_new_episodes_begin_a_new_rollout():
    memory = RolloutMemory(4, worth)
    memory.remember(of_one_round((0, 1, 1.0, 2, False, False), (1, 1, 1.0, 2, False, False)))
    memory.begin_episodes()
    assert len(memory) == 0 and memory.snapshot() == {}


def test_states_are_valued_by_as_many_rows_as_there_are_environments():
    """So that a network is compiled for one shape, whichever environments only reset."""
    shapes = set()

    def counted(states):
        shapes.add(states.shape)
        return worth(states)

    memory = RolloutMemory(10, counted)
    memory.remember(of_one_round(*((env, 0, 0.0, 1, False, env == 1) for env in range(4))))
    memory.remember(of_one_round(*((env, 0, 0.0, 1, False, False) for env in (0, 2, 3)))._replace(q_values=None))
    memory.remember(of_one_round(*((env, 0, 0.0, 1, False, False) for env in (1, 2, 3))))
    memory.sample(2, 5)
    assert shapes == {(4, 1)}


def full(capacity=4):
    memory = RolloutMemory(capacity, worth)
    for i in range(capacity // 2):
        memory.remember(of_one_round((0, i, 1.0, i + 1, False, False), (1, i, 1.0, i + 1, False, False)))
    return memory


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: RolloutMemory(0, worth), "`rollout`.* Received: 0"),
        (lambda: RolloutMemory(8, worth, q_lambda=1.5), "`q_lambda`.* Received: 1.5"),
        (lambda: RolloutMemory(8, worth, gamma=-1), "`gamma`.* Received: -1"),
        (lambda: RolloutMemory(8, worth, epochs=0), "`epochs`.* Received: 0"),
        (lambda: full(4).sample(1, 5), r"4 steps.* Received: \(1, 5\)"),
        (lambda: full(4).sample(2, 4), r"4 steps.* Received: \(2, 4\)"),
        (lambda: RolloutMemory(4, worth).sample(1, 4), r"0 of which are there.* Received: \(1, 4\)"),
        (
            lambda: full(4).remember(of_one_round((0, 0, 1.0, 0, False, False))),
            "`replay_every`.* Received: 1 steps more",
        ),
        (
            lambda: RolloutMemory(1, worth).remember(
                of_one_round((0, 0, 1.0, 0, False, False), (1, 0, 1.0, 0, False, False))
            ),
            "2 environments.* Received: 1",
        ),
    ],
)
def test_what_it_refuses(refused, message):
    with pytest.raises(ValueError, match=message):
        refused()


def test_a_full_rollout_stays_as_it_is_when_more_is_refused():
    memory = full(4)
    before = memory.lambda_returns()
    with pytest.raises(ValueError, match="Received"):
        memory.remember(of_one_round((0, 9, 9.0, 9, False, False)))
    with pytest.raises(ValueError, match="Received"):
        memory.sample(1, 3)
    np.testing.assert_array_equal(memory.lambda_returns(), before)


# ---------------------------------------------------------------- the agent


ROLLOUT = {"rollout": 16, "epochs": 2, "minibatch_size": 8, "weight_backup": None, "seed": 0, "gamma": 0.9}


def trained(steps, envs=2, **options):
    """An agent after so many rounds of CartPoles, with the losses of its updates."""
    agent = Agent(4, 2, **{**ROLLOUT, **options})
    losses = []
    for step in interact(agent, make_vector_env("CartPole-v1", envs), agent.memory.capacity, seed=3):
        if step.losses is not None:
            losses.append(step.losses)
        if step.steps >= steps:
            return agent, losses
    return None


def test_an_agent_learns_from_each_rollout_once_it_is_full():
    agent, losses = trained(80)
    assert agent.learner.updates == 4 * len(losses) == 4 * (agent.steps // 16)  # 2 epochs of 16 steps, 8 an update
    assert agent.learner.traces == 1


def test_the_loop_gives_the_memory_what_the_acting_pass_said():
    """The values in a rollout are those of the weights that acted, and the memory asks for none of them again."""
    agent = Agent(4, 2, **ROLLOUT)
    asked = []
    agent.memory.q_values = lambda states: asked.append(len(states)) or agent.q_values(states)
    loop = interact(agent, make_vector_env("CartPole-v1", 2), 1000, seed=3)  # never learns
    for _ in range(6):
        next(loop)
    arrays = agent.memory._arrays
    np.testing.assert_allclose(arrays["value"][:12], agent.q_values(arrays["state"][:12]).max(-1), rtol=1e-6)
    assert not asked


def test_a_step_remembered_by_hand_is_valued_by_the_network():
    agent = Agent(4, 2, **ROLLOUT)
    agent.act_batch(np.ones((1, 4)), 0.0)  # in another state than the one remembered
    agent.remember(np.zeros(4), 1, 1.0, np.ones(4), False)
    assert agent.memory._arrays["value"][0] == agent.q_values(np.zeros((1, 4))).max()


def test_a_lost_life_stops_the_bootstrap_and_not_the_episode():
    agent = Agent(1, 2, **{**ROLLOUT, "rollout": 2, "minibatch_size": 2})
    state, one, first = np.zeros((1, 1)), np.ones(1), np.zeros(1, int)
    for terminal in ([True], [False]):
        agent.act_batch(state, 0.0)
        agent.remember_batch(
            StepBatch(state, first, one, state + 1, np.array(terminal), np.array([False]), first, raw_reward=one)
        )
    assert agent.memory._arrays["terminal"][:2].tolist() == [True, False] and not agent.memory._arrays["done"].any()
    assert agent.memory.lambda_returns()[0] == 1


def test_the_fast_replay_is_the_literal_one():
    """The notebook's `predict`, `predict`, `fit` for each step of a rollout leaves the same weights."""
    agents = []
    for method in ("replay", "replay_as_written"):
        agent = Agent(4, 2, **{**ROLLOUT, "minibatch_size": 1, "epochs": 1})
        agent.replay_as_asked, agent.replay = getattr(agent, method), lambda: None
        for step in interact(agent, make_vector_env("CartPole-v1", 2), 16, seed=3):
            if step.steps >= 16:
                break
        losses = agent.replay_as_asked()
        agents.append((agent.brain.get_weights(), losses))
    (fast, fast_losses), (literal, literal_losses) = agents
    np.testing.assert_allclose(fast_losses, literal_losses, rtol=1e-4, atol=1e-6)
    for one, other in zip(fast, literal, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


class Counted(keras.layers.Layer):
    """Passes on what it gets and counts how often it is traced."""

    calls = 0

    def call(self, inputs):
        Counted.calls += 1
        return inputs


@pytest.mark.parametrize(("bootstrap", "passes"), [(True, 2), (False, 1)])
def test_no_next_state_is_valued_where_nothing_is_bootstrapped(bootstrap, passes):
    brain = keras.Sequential([keras.Input((3,)), Counted(), keras.layers.Dense(2)])
    learner = Learner(brain, keras.optimizers.SGD(0.1), bootstraps=bootstrap)
    states = np.ones((2, 4, 3), np.float32)
    reward = np.ones((2, 4), np.float32)
    Counted.calls = 0
    learner.update(Transition(states, np.zeros((2, 4), int), reward, np.zeros_like(reward), states))
    assert Counted.calls == passes


def test_without_bootstrap_the_updates_are_those_of_discount_0():
    states = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
    batches = Transition(states, np.ones((3, 4), int), states[..., 0], np.zeros((3, 4), np.float32), states[::-1])
    learned = []
    for bootstrap in (True, False):
        keras.utils.set_random_seed(0)
        brain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        Learner(brain, keras.optimizers.SGD(0.1), bootstraps=bootstrap).update(batches)
        learned.append(brain.get_weights())
    for one, other in zip(*learned, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_learning_rate_follows_its_schedule():
    agent, losses = trained(64, learning_rate_schedule=OverTraining(0.1, 0.0, steps=128))
    assert len(losses) == 4
    assert agent.learner.learning_rate == pytest.approx(0.1 * (1 - agent.steps / 128), abs=1e-8)


def test_a_schedule_goes_from_start_to_end_and_stays():
    schedule = OverTraining(1.0, 0.01, fraction=0.1).of(1000)
    assert [schedule(steps) for steps in (0, 50, 100, 5000)] == pytest.approx([1.0, 0.505, 0.01, 0.01])
    assert str(schedule) == "1 to 0.01 over 100 steps" and schedule.of(None) is schedule


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minibatch_size": 5}, "`minibatch_size` must divide the rollout of 16 steps. Received: 5"),
        ({"rollout": 0}, "`rollout`.* Received: 0"),
        ({"rollout": 16.0}, r"`rollout`.* Received: 16\.0"),
        ({"epochs": 0}, "`epochs`.* Received: 0"),
        ({"q_lambda": 1.01}, r"`q_lambda`.* Received: 1\.01"),
        ({"q_lambda": -0.1}, r"`q_lambda`.* Received: -0\.1"),
        ({"target_update": 10}, "`target_update` has no place.* Received: 10"),
        ({"target_update_episodes": 10}, "`target_update_episodes` has no place.* Received: 10"),
        ({"double": True}, "`double` needs a target network.* Received: target_update=None"),
        ({"n_step": 3}, "`n_step` has no place.* Received: 3"),
        ({"store_frames": True}, "`store_frames` has no place.* Received: True"),
    ],
)
def test_what_an_agent_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Agent(4, 2, **{**ROLLOUT, **options})


def test_a_replay_of_another_size_is_refused():
    agent = Agent(4, 2, **ROLLOUT)
    with pytest.raises(ValueError, match="`sample_batch_size` is the rollout's, 16. Received: 8"):
        agent.replay(8)


def test_a_learner_without_bootstrap_has_no_target_model():
    brain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="target network.* Received: target_update=1"):
        Learner(brain, keras.optimizers.SGD(0.1), target_update=1, bootstraps=False)


# ---------------------------------------------------------------- the recipe


SMALL = {"rollout": 64, "replay_every": 64, "num_envs": 4, "minibatch_size": 32}


def test_the_recipe_of_cartpole_is_a_recipe_of_every_environment():
    cartpole = CartPole(recipe="parallel", weights=None, seed=0, steps=300, **SMALL)
    cartpole.train(progress=False)
    assert cartpole.num_envs == 4 and cartpole.agent.learner.updates == 4 * 4 * 64 // 32  # 4 rollouts, 4 epochs
    assert cartpole.agent.weight_backup.name == "cartpole_parallel_weight.h5"
    assert game_for("Acrobot-v1")(recipe="parallel", weights=None).num_envs == 8


def test_schedules_are_over_the_steps_that_are_asked_for():
    cartpole = CartPole(recipe="parallel", weights=None, steps=1000)
    assert cartpole.agent.settings.exploration.exploration(250) == pytest.approx(1 - 0.95 / 2)
    assert cartpole.agent.settings.learner.learning_rate_schedule(1000) == 0
    schedule = {"class": "OverTraining", "start": 0.001, "end": 0.0, "fraction": 1.0, "steps": 1000}
    assert cartpole.settings["learning_rate_schedule"] == schedule
    usual = CartPole(recipe="parallel", weights=None).agent.settings.exploration.exploration
    assert usual(25_000) == pytest.approx(1 - 0.95 / 2)


def test_a_training_that_goes_on_has_what_it_had():
    """Weights, optimizer, epsilon and learning rate; the rollout under way is played anew, and that is said."""

    def training(steps):
        return CartPole(recipe="parallel", weights=None, seed=0, steps=steps, **SMALL)

    first = training(1000)
    first.steps = 200  # of the 1,000 that the schedules are over
    first.train(progress=False, checkpoints="checkpoints")
    second = training(1000)
    second.steps = second.agent.memory.capacity  # fewer than were made: it restores, and has nothing left to do
    second.train(progress=False, checkpoints="checkpoints", resume=True)
    for one, other in zip(everything(first.agent), everything(second.agent), strict=True):
        np.testing.assert_array_equal(one, other)
    assert second.agent.steps == first.agent.steps and second.agent.learner.updates == first.agent.learner.updates
    assert second.agent.exploration_rate == first.agent.exploration_rate < 1
    assert len(second.agent.memory) == 0 < len(first.agent.memory)
    third = training(1000)
    third.train(progress=False, checkpoints="checkpoints", resume=True)
    assert third.agent.steps >= 1000 and third.agent.learner.learning_rate < second.agent.learner.learning_rate


def everything(agent):
    """Arrays of all that learns."""
    return [np.asarray(variable) for variable in (*agent.brain.weights, *agent.learner.optimizer.variables)]


def test_what_becomes_of_a_rollout_is_said(capsys):
    for resume in (False, True):
        cartpole = CartPole(recipe="parallel", weights=None, seed=0, steps=100 + 100 * resume, **SMALL)
        cartpole.train(progress=False, checkpoints="checkpoints", resume=resume)
    assert "The memory goes on with 0 steps" in capsys.readouterr().out


def test_an_experiment_of_several_seeds_writes_down_what_it_was():
    experiment = train_seeds(
        CartPole, "parallel", seeds=1, steps=200, folder="results", progress=False, evaluate_every=100, **SMALL
    )
    settings = json.loads((experiment.folder / "settings.json").read_text())
    assert settings["options"]["exploration"]["steps"] == 200
    assert experiment.results[0].steps >= 200


@pytest.mark.torch
def test_the_torch_version_says_that_it_has_no_normalization():
    from keras_dqn.pytorch import TorchAgent

    with pytest.raises(ValueError, match="'normalization': None.* Received: .*'normalization': 'layer'"):
        CartPole(recipe="parallel", weights=None, agent_class=TorchAgent)


@pytest.mark.torch
def test_a_torch_agent_learns_from_rollouts_too():
    from keras_dqn.pytorch import TorchAgent

    cartpole = CartPole(
        recipe="parallel", weights=None, agent_class=TorchAgent, network={"hidden": (8,)}, seed=0, steps=200, **SMALL
    )
    cartpole.train(progress=False)
    assert cartpole.agent.learner.updates == 3 * 4 * 64 // 32


@pytest.mark.parametrize("replay_every", ["episode", 65])
def test_a_rollout_is_not_overfilled(replay_every):
    game = CartPole(recipe="parallel", weights=None, weight_backup=None, **{**SMALL, "replay_every": replay_every})
    with pytest.raises(ValueError, match=r"The rollout holds its 64 steps .*\(`replay_every`\)"):
        game.train(progress=False)


def test_a_learning_rate_beside_a_schedule_is_refused():
    cartpole = CartPole(recipe="parallel", weights=None, steps=100, **SMALL)
    with pytest.raises(ValueError, match=r"`learning_rate` follows a schedule, 0.001 to 0.* Received: 0.1"):
        cartpole.train(progress=False, learning_rate=0.1)
