"""Actors without Ray: what they send is what happened, memories take it from several of them, networks act alike."""

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from keras_dqn import CartPole, train_seeds
from keras_dqn.core.agent import Agent
from keras_dqn.core.loop import collect
from keras_dqn.core.memory.frames import FrameMemory
from keras_dqn.core.memory.n_step import NStep
from keras_dqn.core.memory.replay import ReplayMemory
from keras_dqn.core.memory.rollout import RolloutMemory
from keras_dqn.core.networks.atari import difference_cnn, nature_cnn
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.networks.numpy_forward import NumpyForward
from keras_dqn.core.transition import StepBatch
from keras_dqn.environments.atari import AtariGames
from keras_dqn.environments.vector import make_vector_env
from keras_dqn.ray.actors import Games, KerasForward, forward_of, steps_of
from keras_dqn.ray.fleet import rounds_of as chunk_rounds
from tests.ray_games import Odd, Stacks


def test_an_actor_needs_neither_tensorflow_nor_ray():
    code = "import sys, keras_dqn.ray.actors, keras_dqn.environments.atari\n"
    code += "print([name for name in ('tensorflow', 'keras', 'ray', 'matplotlib') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_nothing_imports_ray_unasked():
    code = "import sys, keras_dqn.cli, keras_dqn.training.runner, keras_dqn.experiment\nprint('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# ---------------------------------------------------------------- chunks


def played(make_envs, games, stack, rounds, actions, hold=1):
    """The steps of some chunks, as an actor sends them and a learner reads them."""
    actor = Games(np.random.SeedSequence(5), make_envs, games, Odd(actions), actions, hold, stack=stack)
    for number, length in enumerate(rounds):
        chunk = actor.play(np.array([number], np.float32), 10 * number, 0.3, length)
        assert (
            chunk.updates == 10 * number
            and len(chunk.steps.action) == sum(count for _, count in chunk.rounds)
            and chunk.bytes >= chunk.frames.nbytes
        )
        steps = list(steps_of(chunk, 6, valued=True))
        assert len(steps) == length
        yield from steps


def collected(make_envs, games, actions):
    """The steps of the same environments, in which these actions are done."""
    env_seed, _ = np.random.SeedSequence(5).spawn(2)
    taken, done = iter(actions), np.zeros(games, bool)

    def act(states):
        chosen, rows = np.zeros(games, int), np.flatnonzero(~done)
        if len(rows):  # else they only reset, and nobody has noted what was done
            chosen[rows] = next(taken)
        done[:] = False
        return chosen

    for steps in collect(act, make_envs(games), int(np.random.default_rng(env_seed).integers(2**31))):
        done[steps.env_id[steps.done]] = True
        yield steps


CARTPOLES, BREAKOUTS = partial(make_vector_env, "CartPole-v1"), partial(AtariGames, "breakout")


@pytest.mark.parametrize(
    ("make_envs", "games", "stack", "rounds", "actions", "hold"),
    [
        *[(Stacks, games, 3, [7, 1, 2, 30, 60], 3, 1) for games in (1, 2, 5)],
        *[(CARTPOLES, games, None, [32, 32, 100], 2, 4) for games in (1, 3)],
        (BREAKOUTS, 2, 4, [40, 160], 3, 1),
    ],
)
def test_steps_come_out_of_chunks_as_they_were(make_envs, games, stack, rounds, actions, hold):
    theirs = list(played(make_envs, games, stack, rounds, actions, hold))
    ours = collected(make_envs, games, [steps.action for steps in theirs])
    for steps, other in zip(theirs, ours, strict=False):
        assert (steps.env_id - 6).tolist() == other.env_id.tolist()
        for name in ("state", "action", "next_state", "terminal", "done", "raw_reward", "reward"):
            assert np.array_equal(getattr(steps, name), getattr(other, name)), name
        assert steps.q_values.shape == (len(steps.action), 1)
    assert sum(steps.terminal.sum() for steps in theirs) > 0
    assert sum(steps.done.sum() for steps in theirs) > 5 or make_envs is BREAKOUTS


def test_rewards_are_shaped_where_they_are_learned_from():
    actor = Games(np.random.SeedSequence(1), Stacks, 2, Odd(3), 3, stack=3)
    chunk = actor.play(np.zeros(1, np.float32), 0, 0.0, 20)
    for steps in steps_of(chunk, 0, lambda states, actions, rewards, next_states: next_states[:, -1, 1, 0] + actions):
        assert np.array_equal(steps.reward, steps.next_state[:, -1, 1, 0] + steps.action)
        assert steps.q_values is None


@pytest.mark.parametrize(
    ("games", "stack", "rounds"), [(1, None, 32), (8, None, 32), (1, 4, 128), (4, 4, 128), (8, 4, 64), (100, 4, 32)]
)
def test_chunks_of_frames_are_the_longer_the_fewer_games_there_are(games, stack, rounds):
    assert chunk_rounds(games, stack) == rounds


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (partial(nature_cnn, (4, 84, 84), 4, normalization="layer"), NumpyForward),
        (partial(mlp, 4, 2, dueling=True, center=1.0), NumpyForward),
        (partial(difference_cnn, (2, 165, 140, 3), 3), KerasForward),
    ],
)
def test_what_travels_to_an_actor_has_the_q_values_of_the_network(make, kind):
    brain = make(seed=1)
    forward = pickle.loads(pickle.dumps(forward_of(brain)))
    assert isinstance(forward, kind)
    states = np.random.default_rng(0).integers(0, 9, (3, *brain.input_shape[1:])).astype(np.uint8)
    forward.refresh(np.concatenate([weight.ravel() for weight in brain.get_weights()]))
    q_values = forward(states)
    assert q_values.dtype == np.float32
    np.testing.assert_allclose(q_values, brain(states, training=False), atol=2e-5)


# ---------------------------------------------------------------- memories


def rounds_of(count, environments, seed=0):
    """Whole rounds of steps of vectors, episodes of which end now and then."""
    random = np.random.default_rng(seed)
    states = random.normal(size=(environments, 2)).astype(np.float32)
    for _ in range(count):
        following = random.normal(size=states.shape).astype(np.float32)
        terminal = random.random(environments) < 0.1
        done = terminal | (random.random(environments) < 0.1)
        rewards = random.normal(size=environments)
        actions = random.integers(2, size=environments)
        yield StepBatch(states, actions, rewards, following, terminal, done, np.arange(environments), rewards)
        states = np.where(done[:, None], random.normal(size=states.shape), following).astype(np.float32)


def some(steps, rows):
    return StepBatch(*(None if field is None else field[rows] for field in steps))


def q_values(states):
    return np.stack([states[:, 0], states[:, 1] * 2], -1)


def test_a_rollout_from_actors_has_the_returns_of_one_from_environments_here():
    """Chunk by chunk, and one actor ahead of the other, each step is worth what it is worth in whole rounds."""
    whole, parts = RolloutMemory(48, q_values), RolloutMemory(48, q_values)
    parts.expect(6)
    rounds = list(rounds_of(8, 6))
    for steps in rounds:
        whole.remember(steps)
    first, second = np.arange(3), np.arange(3, 6)
    for rows, some_rounds in ((first, rounds[:5]), (second, rounds[:3]), (first, rounds[5:]), (second, rounds[3:])):
        for steps in some_rounds:
            parts.remember(some(steps, rows))
    worth = [dict(zip(map(bytes, m._arrays["state"][:48]), m.lambda_returns(), strict=True)) for m in (whole, parts)]
    assert worth[0] == worth[1] and len(worth[0]) == 48


def test_a_lost_actors_last_steps_in_a_rollout_bootstrap_from_their_own_next_state():
    memory = RolloutMemory(4, q_values, gamma=0.5, q_lambda=0.5)
    memory.expect(2)
    steps = [one._replace(terminal=np.zeros(1, bool), done=np.zeros(1, bool)) for one in rounds_of(4, 1)]
    for one in steps[:2]:
        memory.remember(one)
    memory.begin_episodes(np.array([0]))
    for one in steps[2:]:
        memory.remember(one)
    returns = memory.lambda_returns()
    for last in 1, 3:
        worth = steps[last].reward[0] + 0.5 * q_values(steps[last].next_state).max()
        assert returns[last] == pytest.approx(worth, rel=1e-6)


def test_the_frames_of_a_lost_actor_are_closed_and_others_are_not():
    memory = FrameMemory(60, n_step=2)
    memory.expect(2)
    frames = np.zeros((1, 3, 1, 1), np.uint8)
    no = np.zeros(1, bool)
    for number in range(6):
        for game in range(2):
            memory.remember(StepBatch(frames + number, no, no, frames + number + 1, no, no, np.array([game]), no))
    before = memory.snapshot()["slot_type"].copy()
    memory.begin_episodes(np.array([1]))
    after = memory.snapshot()["slot_type"]
    assert np.array_equal(before[0], after[0]) and after[1, :6].tolist() == [0, 0, 0, 0, 1, 2]
    with pytest.raises(ValueError, match="a ring for each of 2 games. Received: 3 games"):
        memory.expect(3)


def test_pending_steps_of_a_lost_actor_are_forgotten():
    memory = ReplayMemory(100, n_step=NStep(3, 1.0))
    steps = [one._replace(terminal=np.zeros(2, bool), done=np.zeros(2, bool)) for one in rounds_of(4, 2)]
    for one in steps[:2]:
        memory.remember(one)
    memory.begin_episodes(np.array([1]))
    memory.remember(steps[2])
    assert len(memory) == 1


def test_an_agent_takes_steps_of_some_environments():
    agent = Agent(2, 2, None, memory_size=100)
    steps = next(rounds_of(1, 4))
    agent.remember_batch(some(steps, np.array([1, 3])))
    assert len(agent.memory) == 2 and agent.steps == 2


# ---------------------------------------------------------------- what is refused, before Ray is needed


@pytest.mark.parametrize("address", ["here", "ray://head:10001", "head:port", 6379, ""])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ValueError, match='^`ray` must be "auto" or the host:port .*Received: '):
        train_seeds(CartPole, ray=address, seeds=1)
    assert not Path("results").exists()


def test_ray_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"needs Ray: pip install 'keras_dqn\[ray\]'. Received: import of ray halted"):
        train_seeds(CartPole, seeds=2, ray="auto")
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"actors": 0}, "^`actors` must be a whole number, 1 or more. Received: 0$"),
        ({"actors": 1, "ahead": 0}, "^`ahead` must be a whole number"),
        ({"actors": 1, "record_every": 5}, "^`record_every` films an environment that is here. Received: actors=1$"),
        ({"ray": "auto"}, "^`ray` needs `actors`. Received: ray='auto'"),
        ({"in_order": True}, "^`in_order` needs `actors`. Received: in_order=True"),
        ({"actors": 1, "ray": "nowhere"}, '^`ray` must be "auto" or'),
    ],
)
def test_what_actors_cannot_do_is_refused(options, message):
    runner = CartPole(weights=None)
    with pytest.raises(ValueError, match=message):
        runner.train(progress=False, **options)
    assert list(Path().iterdir()) == []
