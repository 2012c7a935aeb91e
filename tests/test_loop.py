"""The loop and its accounts, on environments that tell what real ones seldom do, and with agents that only listen."""

import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from keras_dqn import Agent, interact
from keras_dqn.core.counting import EpisodeStats, Every
from keras_dqn.core.loop import collect
from keras_dqn.core.settings import Settings
from keras_dqn.core.transition import StepBatch
from tests.environments import Counter


class Told(VectorEnv):
    """Two environments whose state is [environment, round]; the info of a round is what functions say of it.

    The first environment's episode ends with the third round, so that the fourth only resets it.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    num_envs = 2
    single_observation_space, single_action_space = Box(0, 99, (2,), np.float32), Discrete(3)

    def __init__(self, **told):
        self.told = told

    def reset(self, *, seed=None, options=None):
        self.round = 0
        return self._states(), self._info()

    def step(self, actions):
        self.round += 1
        ends, no = np.array([self.round == 3, False]), np.zeros(2, bool)
        return self._states(), np.array([1.0, 10.0]) * self.round, ends, no, self._info()

    def _states(self):
        return np.array([[0, self.round], [1, self.round]], np.float32)

    def _info(self):
        return {name: function(self.round) for name, function in self.told.items()}


class Listener:
    """Does what an agent does for the loop, and notes down what it was asked."""

    def __init__(self, losses=(), **settings):
        self.settings, self.epsilon = Settings().but(**settings), 1.0
        self.losses, self.heard, self.remembered = iter(losses), [], []

    def act_batch(self, states, action_mask=None):
        self.heard.append(action_mask)
        return np.zeros(len(states), int)

    def begin_episodes(self):
        self.heard.append("begin")

    def remember_batch(self, steps):
        self.remembered.append(steps)

    def replay(self):
        self.epsilon /= 2
        self.heard.append("replay")
        losses = next(self.losses, None)
        return None if losses is None else np.array(losses, np.float32)


def first(count, iterator):
    return [next(iterator) for _ in range(count)]


def zeros(states, action_mask=None):
    return np.zeros(len(states), int)


def masks(number):
    """[2, 3]: another one each round; in the third nothing at all is allowed to the second environment."""
    return np.array([[True, number % 2 == 0, number == 1], [number != 3, False, False]])


# ---------------------------------------------------------------- collecting


def test_masks_are_of_the_state_that_is_acted_in_and_of_the_next():
    asked = []
    rounds = first(
        3, collect(lambda states, action_mask: asked.append(action_mask) or zeros(states), Told(action_mask=masks))
    )
    for number, (steps, action_mask) in enumerate(zip(rounds, asked, strict=True)):
        np.testing.assert_array_equal(action_mask, masks(number))
        expected = masks(number + 1)
        expected[1] |= not expected[1].any()  # where nothing is allowed, everything is
        np.testing.assert_array_equal(steps.action_mask, expected)


def test_masks_that_are_not_heeded_are_not_seen():
    for steps in first(3, collect(lambda states: zeros(states), Told(action_mask=masks), masked=False)):
        assert steps.action_mask is None
    agent = Listener(mask_actions=False)
    first(2, interact(agent, Told(action_mask=masks), learn=False))
    assert [heard for heard in agent.heard if not isinstance(heard, str)] == [None, None]


def test_what_was_done_instead_is_what_is_remembered():
    done = np.array([2, 1])
    told = Told(executed_actions=lambda number: done, life_lost=lambda number: np.array([False, number == 2]))
    rounds = first(3, collect(zeros, told))
    for steps in rounds:
        np.testing.assert_array_equal(steps.action, done)
    assert [steps.terminal.tolist() for steps in rounds] == [[False, False], [False, True], [True, False]]
    assert [steps.done.tolist() for steps in rounds] == [[False, False], [False, False], [True, False]]


def test_rows_that_only_reset_are_no_steps():
    steps = first(5, collect(zeros, Told(action_mask=masks)))
    assert [step.env_id.tolist() for step in steps] == [[0, 1], [0, 1], [0, 1], [1], [0, 1]]
    assert steps[3].state.tolist() == [[1, 3]] and steps[3].next_state.tolist() == [[1, 4]]
    assert steps[3].reward.tolist() == [40] and steps[3].action_mask.shape == (1, 3)
    assert [step.state[-1].tolist() for step in steps] == [[1, number] for number in range(5)]


def test_shaped_rewards_are_of_this_step_and_scores_are_of_the_true_ones():
    asked = []

    def shape(states, actions, rewards, next_states):
        asked.append((states[1, 1], actions[0], rewards[1], next_states[1, 1]))
        return -rewards

    steps = first(2, collect(zeros, Told(), shape_reward=shape))
    assert asked == [(0, 0, 10, 1), (1, 0, 20, 2)]
    assert [step.reward.tolist() for step in steps] == [[-1, -10], [-2, -20]]
    assert [step.raw_reward.tolist() for step in steps] == [[1, 10], [2, 20]]
    (episode,) = first(3, interact(Listener(), Told(), learn=False, shape_reward=shape))[-1].episodes
    assert (episode.score, episode.length) == (1 + 2 + 3, 3)


# ---------------------------------------------------------------- playing


def test_an_agent_begins_new_episodes_before_it_acts():
    agent = Listener()
    first(2, interact(agent, Counter((5,)), 1))
    assert agent.heard == ["begin", None, "replay", None, "replay"]


def test_weights_that_somebody_assigned_are_acted_on():
    agent = Agent(2, 2, weight_backup=None, seed=0, exploration_rate=0.0, exploration_min=0.0)
    for bias in ([0, 1000], [1000, 0]):
        agent.brain.layers[-1].bias.assign(bias)
        first(3, interact(agent, Counter((9,)), learn=False))
    assert agent.memory.contents().action.tolist() == [1, 1, 1, 0, 0, 0]
    assert agent.steps == 6


def test_steps_and_episodes_of_all_environments_count():
    agent = Agent(2, 3, weight_backup=None, seed=0)
    happened = first(5, interact(agent, Told(), learn=False))
    assert agent.steps == happened[-1].steps == 9 and agent.episodes == 1


def test_epsilon_of_an_episode_is_that_of_its_last_step():
    happened = first(6, interact(Listener(), Counter((3,)), 1))
    assert [episode.epsilon for step in happened for episode in step.episodes] == [1 / 4, 1 / 32]


def test_all_losses_of_a_step_are_heard():
    envs = SyncVectorEnv([lambda: Counter((9,)) for _ in range(6)])
    happened = first(2, interact(Listener([[1, 2], None, [3]]), envs, 2))
    np.testing.assert_array_equal(happened[0].losses, np.array([1, 2, 3], np.float32))
    assert happened[1].losses is None and [step.steps for step in happened] == [6, 12]


def test_episodes_that_end_together_each_earn_a_replay():
    agent = Listener()
    first(7, interact(agent, SyncVectorEnv([lambda: Counter((3,)) for _ in range(2)])))
    assert agent.heard.count("replay") == 4


# ---------------------------------------------------------------- accounts


def rows(environments, done, rewards):
    """`StepBatch` of some of the environments: what a tally looks at."""
    environments, rewards = np.array(environments), np.array(rewards, float)
    return StepBatch(None, None, -rewards, None, None, np.array(done), environments, rewards)


def test_a_tally_counts_each_environment_by_itself():
    stats = EpisodeStats(3)
    assert stats.add(rows([0, 1, 2], [False, False, False], [1, 2, 3])) == 0
    stats.add_losses(np.array([4, 6], np.float32))
    assert stats.add(rows([0, 2], [True, True], [10, 30])) == 2
    stats.add_losses(np.array([2], np.float32))
    done = stats.end(np.array([0, 2]), 0.5)
    assert [episode[:4] for episode in done] == [(11, 2, 4, 0.5), (33, 2, 4, 0.5)]
    stats.add(rows([0, 1, 2], [True, True, False], [100, 200, 300]))
    assert [episode[:2] for episode in stats.end(np.array([0, 1]), 0.5)] == [(100, 1), (202, 2)]
    assert np.isnan(stats.end(np.array([0]), 0.5)[0].loss)
    assert (stats.steps, stats.episodes) == (8, 4)


def test_every_counts_multiples_that_were_passed():
    every = Every(4)
    assert [every(count) for count in (1, 3, 4, 5, 8, 20, 20)] == [0, 0, 1, 0, 1, 3, 0]
    every = Every(4, start=6)  # 4 was passed before
    assert [every(count) for count in (7, 8, 9)] == [0, 1, 0]
