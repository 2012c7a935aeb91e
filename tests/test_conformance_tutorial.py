"""The adapter of PyTorch's tutorial, on a script that is built as the tutorial is, without a time limit's mistake."""

import pytest

from keras_dqn.conformance import verdicts
from keras_dqn.conformance.adapters.pytorch_tutorial import SCRIPT

pytestmark = pytest.mark.torch

TEXT = """
import random
from itertools import count

import gymnasium as gym
import matplotlib.pyplot as plt
import torch
from torch import nn

env = gym.make("CartPole-v1")
plt.ion()
BATCH_SIZE = 128
GAMMA = 0.99
EPS_START = 0.9
EPS_END = 0.01
TAU = 0.005
LR = 3e-4
policy_net, target_net = (nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2)) for _ in range(2))
optimizer = torch.optim.AdamW(policy_net.parameters(), lr=LR)
memory = []


def plot_durations():
    raise AssertionError("Nothing is drawn")


def optimize_model():
    states, actions, following, rewards, ends = map(torch.stack, zip(*random.sample(memory, BATCH_SIZE)))
    with torch.no_grad():
        targets = rewards + GAMMA * target_net(following).max(1).values * ~ends
    loss = nn.functional.smooth_l1_loss(policy_net(states).gather(1, actions[:, None])[:, 0], targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


if torch.cuda.is_available():
    num_episodes = 600
else:
    num_episodes = 50
for i_episode in range(num_episodes):
    state = torch.tensor(env.reset()[0])
    for t in count():
        action = env.action_space.sample()
        observation, reward, terminated, truncated, _ = env.step(action)
        following = torch.tensor(observation)
        memory.append((state, torch.tensor(action), following, torch.tensor(reward), torch.tensor(terminated)))
        state = following
        if len(memory) > BATCH_SIZE:
            optimize_model()
        for target, new in zip(target_net.parameters(), policy_net.parameters()):
            target.data += TAU * (new.data - target.data)
        if terminated or truncated:
            plot_durations()
            break
"""


def test_it_is_trained_on_the_probe_with_its_settings(tmp_path):
    (tmp_path / SCRIPT).parent.mkdir()
    (tmp_path / SCRIPT).write_text(TEXT)
    limit, ends = verdicts("pytorch-tutorial", tmp_path, probes=["TimeLimit", "Ends"])
    assert limit.passed, str(limit)
    assert ends.mistake == "clipped errors (a Huber loss) do not estimate the mean", str(ends)


def test_a_script_that_is_another_is_refused(tmp_path):
    (tmp_path / SCRIPT).parent.mkdir()
    (tmp_path / SCRIPT).write_text(TEXT.replace("TAU = 0.005\n", ""))
    (verdict,) = verdicts("pytorch-tutorial", tmp_path, probes=["TimeLimit"])
    assert verdict.text == "stopped with ValueError: The tutorial must set TAU in one line. Received: []"
