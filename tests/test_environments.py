"""Environments as others write them: arrays changed in place, numbers in arrays, masks, no end, other interfaces."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import NormalizeObservation, TimeLimit

from keras_dqn import Agent, evaluate, game_for, interact
from keras_dqn.core.exploration import Linear
from keras_dqn.core.loop import collect
from keras_dqn.environments.vector import MAX_STEPS, as_vector, make_vector_env
from tests.environments import Counter

TAXI = next(name for name in gym.registry if name.startswith("Taxi-"))


class InPlace(Counter):
    """Returns one array and changes it in place; whole numbers from `reset`, floats from `step`."""

    def reset(self, **options):
        super().reset(**options)
        self.array = np.array([self.episode, 0], int)
        return self.array, {}

    def step(self, action):
        state, *rest = super().step(action)
        if self.array.dtype.kind == "i":
            self.array = np.zeros(2)
        self.array[:] = state + 0.5
        return (self.array, *rest)


def test_observations_are_copied_and_have_the_dtype_of_the_space():
    agent = Agent(2, 2, None, seed=0)
    loop = interact(agent, InPlace((3,)), learn=False)
    for _ in range(6):
        next(loop)
    stored = agent.memory.contents()
    assert stored.state.dtype == np.float32
    assert stored.state.tolist()[:3] == [[0, 0], [0.5, 1.5], [0.5, 2.5]]
    assert stored.next_state.tolist()[:3] == [[0.5, 1.5], [0.5, 2.5], [0.5, 3.5]]
    seen = []
    agent.learner.q_values = lambda states: seen.append(states.copy()) or np.zeros((len(states), 2), np.float32)
    evaluate(agent, lambda: InPlace((3,)), 2)
    assert seen[1].tolist() == [[0.5, 1.5], [0.5, 1.5]] and seen[1].dtype == np.float32


class NumbersInArrays(Counter):
    """Gives its numbers as arrays of one."""

    def step(self, action):
        state, reward, terminated, truncated, info = super().step(action)
        return state, np.array([reward]), np.array([terminated]), np.bool_(truncated), info


def test_an_array_of_one_number_is_that_number():
    agent = Agent(2, 2, None, seed=0)
    loop = interact(agent, NumbersInArrays((3,)), learn=False)
    episodes = [episode for _ in range(6) for episode in next(loop).episodes]
    assert [episode.score for episode in episodes] == [6, 36]
    assert agent.memory.contents().reward.tolist() == [1, 2, 3, 11, 12, 13]
    state = np.zeros(2, np.float32)
    agent.remember(state, np.array([1]), np.array([7.0]), state, np.array([True]))
    last = agent.memory.contents().each(lambda field: field[-1])
    assert (last.action, last.reward, last.discount) == (1, 7, 0) and last.reward.shape == ()
    assert evaluate(agent, lambda: NumbersInArrays((3,)), 2).scores.tolist() == [6, 6]
    for name, given in [
        ("reward", {"reward": np.array([1.0, 2.0])}),
        ("reward", {"reward": "much"}),
        ("done", {"done": np.array([True, False])}),
        ("action", {"action": np.array([0, 1])}),
    ]:
        with pytest.raises(ValueError, match=f"`{name}` must be one number. Received: "):
            agent.remember(**{"state": state, "action": 0, "reward": 1.0, "next_state": state, "done": False, **given})
    assert len(agent.memory) == 7


class Endless(Counter):
    """Never ends."""

    def __init__(self):
        super().__init__((10**9,))


def test_an_episode_that_does_not_end_is_truncated_and_that_is_said_once(monkeypatch):
    for module in ("runner", "training"):
        monkeypatch.setattr(f"keras_dqn.training.{module}.MAX_STEPS", 50)
    game = game_for(Endless)(3, weights=None, weight_backup=None, seed=0)
    with pytest.warns(RuntimeWarning, match="truncated after max_steps=50 steps") as warned:
        history = game.train(progress=False)
    assert history.lengths.tolist() == [50, 50, 50]
    assert len({str(warning.message) for warning in warned}) == 1
    assert game.agent.memory.contents().discount.min() > 0, "a time limit is not the end of the world"
    with pytest.warns(RuntimeWarning, match="max_steps=50"):
        assert game.evaluate(2).lengths.tolist() == [50, 50]
    with pytest.warns(RuntimeWarning, match="max_steps=7"):
        assert evaluate(game.agent, Endless, 2, max_steps=7).lengths.tolist() == [7, 7]
    assert make_vector_env("CliffWalking-v1", 2).envs[0].spec.max_episode_steps == MAX_STEPS


class Old:
    """An environment with the interface of gym before 0.26."""

    observation_space, action_space = Counter.observation_space, Counter.action_space

    def __init__(self, new_reset=False):
        self.new_reset = new_reset

    def reset(self, seed=None):
        return (np.zeros(2, np.float32), {}) if self.new_reset else np.zeros(2, np.float32)

    def step(self, action):
        return np.zeros(2, np.float32), 1.0, False, {}


@pytest.mark.parametrize(
    ("env", "received"), [(Old(), "ndarray from `reset`"), (Old(True), "ndarray, float, bool, dict from `step`")]
)
def test_the_old_interface_is_told_what_to_return(env, received):
    with pytest.raises(ValueError, match=rf"`step` five values: .* Received: {received}") as raised:
        next(interact(Agent(2, 2, None), env, learn=False))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["Breakout-v0", "ALE/Breakout-v5", "BreakoutNoFrameskip-v4"])
def test_games_of_atari_name_the_command_that_plays_them(name):
    with pytest.raises(ValueError, match=rf"breakout --game breakout`. Received: '{name}'"):
        game_for(name)  # whether ale_py has registered it by now or not


# ---------------------------------------------------------------- masks


class Masked(Counter):
    """Three actions, of which the one whose number is that of the step, modulo 3, is forbidden."""

    action_space = gym.spaces.Discrete(3)

    def reset(self, **options):
        state, _ = super().reset(**options)
        return state, {"action_mask": self._mask()}

    def step(self, action):
        assert self._mask()[action], f"{action} is forbidden at {self.steps}"
        state, *rest, _ = super().step(action)
        return (state, *rest, {"action_mask": self._mask()})

    def _mask(self):
        return (np.arange(3) != self.steps % 3).astype(np.int8)


@pytest.mark.parametrize("options", [{}, {"hold_random_actions": 5}, {"n_step": 2}])
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_no_forbidden_action_is_taken(options, num_envs, epsilon):
    agent = Agent(2, 3, None, seed=0, exploration_rate=epsilon, **options)
    env = Masked((7,)) if num_envs == 1 else gym.vector.SyncVectorEnv([lambda: Masked((7,))] * num_envs)
    loop = interact(agent, env, learn=False)
    for _ in range(100):
        next(loop)
    stored = agent.memory.contents()
    assert not np.any(stored.action == stored.state[:, 1] % 3)
    expected = np.arange(3) != (stored.next_state[:, 1] % 3)[:, None]
    np.testing.assert_array_equal(stored.action_mask, expected)
    evaluate(agent, lambda: Masked((7,)), 3, epsilon=epsilon)


@pytest.mark.parametrize("double", [False, True])
def test_the_target_is_the_best_of_those_allowed(double):
    target = {"double": True, "target_update": 1000} if double else {}
    agent = Agent(2, 3, None, seed=0, gamma=0.5, sample_batch_size=8, minibatch_size=8, loss="huber", **target)
    loop = interact(agent, Masked((7,)), learn=False)
    for _ in range(20):
        next(loop)
    batch = agent.memory.sample(1, 8)
    q = agent.q_values(batch.state[0])[np.arange(8), batch.action[0]]
    best = np.where(batch.action_mask[0], agent.q_values(batch.next_state[0]), -np.inf).max(-1)
    error = np.abs(batch.reward[0] + batch.discount[0] * best - q)
    wanted = np.where(error < 1, error**2 / 2, error - 0.5).mean()
    assert agent.learner.update(batch)[0] == pytest.approx(wanted, rel=1e-5)
    unmasked = np.abs(batch.reward[0] + batch.discount[0] * agent.q_values(batch.next_state[0]).max(-1) - q)
    assert not np.allclose(unmasked, error), "the mask made a difference"


def test_taxi_takes_no_forbidden_action_unless_asked_to():
    taxi = game_for(TAXI)
    for masked in (True, False):
        game = taxi(steps=300, weights=None, weight_backup=None, seed=0, mask_actions=masked)
        forbidden = 0
        env = game.make_env()
        for count, steps in enumerate(collect(game.agent.act_batch, as_vector(env), seed=0, masked=masked)):
            number = int(steps.state[0].argmax())
            forbidden += not env.unwrapped.action_mask(number)[steps.action[0]]
            if count == 300:
                break
        assert (forbidden == 0) is masked
        game.train(progress=False)


# ---------------------------------------------------------------- objects and wrappers


@pytest.mark.parametrize("name", ["FrozenLake-v1", TAXI, "CliffWalking-v1"])
def test_states_of_one_of_n_are_n_numbers(name):
    game = game_for(name)(steps=120, recipe="fast", weights=None, weight_backup=None, seed=0, max_episode_steps=60)
    game.train(progress=False)
    assert game.agent.state_shape == (gym.make(name).observation_space.n,)
    stored = game.agent.memory.contents()
    assert np.all(stored.state.sum(-1) == 1) and np.all(np.isin(stored.state, (0, 1)))


def test_options_go_to_gymnasium():
    slippery, sure = (game_for("FrozenLake-v1", is_slippery=value)(weights=None) for value in (True, False))
    assert slippery.env.unwrapped.P[0][2][0][0] < 1 == sure.env.unwrapped.P[0][2][0][0]


def test_an_environment_with_wrappers_is_taken_as_it_is():
    env = NormalizeObservation(TimeLimit(gym.make("CartPole-v1").unwrapped, 30))
    game = game_for(env)(6, weights=None, weight_backup=None, seed=0)
    history = game.train(progress=False)
    assert history.lengths.max() <= 30
    mean = env.obs_rms.mean.copy()
    assert np.abs(mean).max() > 1e-3, "it trained in this very environment"
    assert game.evaluate(3).lengths.max() <= 30
    np.testing.assert_array_equal(env.obs_rms.mean, mean)
    assert game.make_env().env is not env and not game.make_env().update_running_mean
    with pytest.raises(ValueError, match="NormalizeObservation of its own. Received: num_envs=2"):
        game_for(env)(6, weights=None, weight_backup=None, num_envs=2).train(progress=False)


def test_what_makes_an_environment_is_taken_too():
    game = game_for(Counter)(4, weights=None, weight_backup=None, seed=0)
    assert game.name == "Counter" and len(game.train(progress=False)) == 4
    assert game_for(lambda: Counter())(weights=None, weight_backup=None, num_envs=3).make_envs(3).num_envs == 3
    cartpole = game_for(gym.make("CartPole-v1"))
    assert (cartpole.name, cartpole.solved_score) == ("CartPole-v1", 475)
    film = cartpole(3, weights=None, weight_backup=None, seed=0)
    assert film.run(1.0, seed=0) > 0 and film.last_run.paths
    for wrong in (5, SyncLike(), Counter):
        with pytest.raises(ValueError, match="A game is for an id, one environment"):
            game_for(wrong, render_mode="human") if wrong is Counter else game_for(wrong)


def SyncLike():
    return gym.vector.SyncVectorEnv([Counter])


def test_filming_changes_nothing_that_is_learned_next():
    def trained(films):
        game = game_for("CartPole-v1")(8, weights=None, weight_backup=None, seed=0)
        game.train(progress=False)
        for _ in range(films):
            game.run(0.5, seed=3)
        game.train(progress=False)
        return game.agent.learner.read_weights().tobytes()

    assert trained(0) == trained(2)


def test_a_random_episode_of_an_agent_that_holds_its_actions_is_random():
    from keras_dqn import MountainCar

    car = MountainCar(recipe="fast", weights=None, weight_backup=None, seed=0)
    taken = []
    make = car.make_env

    class Watched(gym.Wrapper):
        def step(self, action):
            taken.append(action)
            return super().step(action)

    car.make_env = lambda render_mode=None: Watched(make(render_mode))
    car.random_episode(seed=0)
    assert len(taken) == 200 and np.count_nonzero(np.diff(taken)) > 100


# ---------------------------------------------------------------- what is promised of loading and of memory


def test_a_loaded_agent_explores_at_the_minimum_until_a_training_begins():
    first = Agent(2, 2, None, seed=0)
    first.save_model("w.h5")
    for schedule, minimum in ((None, 0.01), (Linear(1.0, 0.2, 1000), 0.2)):
        agent = Agent(2, 2, "w.h5", seed=0, exploration=schedule)
        assert agent.exploration_rate == pytest.approx(minimum)
        for _ in range(3):
            agent.remember(np.zeros(2), 0, 1.0, np.ones(2), False)
        assert agent.exploration_rate == pytest.approx(minimum), "whatever the schedule says of so few steps"
        agent.reset_exploration()
        agent.remember(np.zeros(2), 0, 1.0, np.ones(2), False)
        assert agent.exploration_rate > 0.9


class Wide(Counter):
    """States of 100,000 numbers."""

    observation_space = gym.spaces.Box(-1, 1, (100_000,), np.float32)


def test_a_memory_of_vectors_that_does_not_fit_is_found_out_before_training():
    game = game_for(Wide)(weights=None, weight_backup=None, memory_size=10_000_000, network={"hidden": (1,)})
    with pytest.raises(ValueError, match=r"needs 8,?000.\d GB, .* `memory_size=\d+` .* Received: 10000000"):
        game.train(progress=False)
    assert len(game.agent.memory) == 0
