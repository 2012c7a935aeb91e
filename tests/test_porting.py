"""What docs/troubleshooting.md advises those who bring a script of 2017, done as it stands there."""

import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from keras_dqn import Agent, CartPole, game_for

TEXT = (Path(__file__).parents[1] / "docs/troubleshooting.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


class Old:
    """An environment of gym before 0.26, which a time limit of four steps truncates, or two actions 1 terminate."""

    def seed(self, seed):
        self.seeded = seed

    def reset(self):
        self.steps = self.ones = 0
        return np.zeros(2, np.float32)

    def step(self, action):
        self.steps, self.ones = self.steps + 1, self.ones + action
        over = self.ones == 2 or self.steps == 4
        return np.zeros(2, np.float32), 1.0, over, {"TimeLimit.truncated": self.ones < 2} if over else {}


def block(word):
    """What the block with that word leaves behind."""
    (code,) = [block for block in BLOCKS if word in block]
    names = {"gym": gym, "np": np, "game_for": game_for, "CartPole": CartPole, "Old": Old}
    exec(code, names)
    return names


def test_the_wrapper_makes_an_old_environment_one_of_today():
    names = block("class Today")
    env = names["Today"](old := Old(), *names["spaces"])
    state, info = env.reset(seed=3)
    assert old.seeded == 3 and state.shape == (2,) and info == {}
    assert [env.step(0)[2:4] for _ in range(4)] == [(False, False)] * 3 + [(False, True)]
    env.reset()
    assert [env.step(1)[2:4] for _ in range(2)] == [(False, False), (True, False)]
    game = names["game"](12, weights=None, weight_backup=None, seed=0)
    assert len(game.train(progress=False)) == 12 and set(game.history.lengths) <= {2, 3, 4}
    assert game.evaluate(2).lengths.max() <= 4


def test_the_shaped_reward_is_that_of_the_end_alone():
    game = block("def shape_reward")["cartpole"]
    game = CartPole(10, shape_reward=game.shape_reward, weights=None, weight_backup=None, seed=0)
    ends = sum(game.train(progress=False).lengths < 500)
    remembered = game.agent.memory.sample(1, len(game.agent.memory))
    assert np.count_nonzero(remembered.reward == -10) == ends == 10
    assert np.count_nonzero(remembered.reward == 1) == len(game.agent.memory) - 10


@pytest.mark.parametrize(
    "old",
    [".model", ".save(", ".load(", ".memorize(", ".epsilon_min", ".epsilon_decay", "memory.append", "_build_model"],
)
def test_the_table_names_what_there_is_today(old):
    (row,) = [
        row
        for row in TEXT.splitlines()
        if row.startswith("|") and f"{old}" in row.split("|")[1] and "agent" in row.lower()
    ]
    today = re.findall(r"agent\.(\w+)", row.split("|")[2])
    agent = Agent(4, 2, None)
    assert all(hasattr(agent, name) for name in today) and (today or "brain=model" in row)


def test_a_replay_of_32_at_once():
    agent = Agent(4, 2, None, minibatch_size=32)
    for _ in range(32):
        agent.remember(np.zeros(4), 0, 1.0, np.zeros(4), False)
    assert agent.replay(32).shape == (1,)
