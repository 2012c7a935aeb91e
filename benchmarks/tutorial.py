"""The loop of the PyTorch DQN tutorial the way it is usually written, to be measured beside ours."""

import math
import random
import time
from collections import deque, namedtuple

import gymnasium as gym
import torch
from torch import nn

Row = namedtuple("Row", "state action next_state reward")


def seconds_a_step(threads, steps=300):
    """Seconds an environment step of that loop, once the memory holds a batch."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    random.seed(0)
    env, memory = gym.make("CartPole-v1"), deque(maxlen=10_000)
    policy, target = network(), network()
    target.load_state_dict(policy.state_dict())
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4, amsgrad=True)
    started, made, state = None, 0, None
    while made < steps:
        state = tensor(env.reset()[0]) if state is None else state
        action = chosen(policy, state, env, made)
        observation, reward, terminated, truncated, _ = env.step(action.item())
        next_state = None if terminated else tensor(observation)
        memory.append(Row(state, action, next_state, torch.tensor([reward])))
        state = None if truncated else next_state
        if len(memory) >= 128:
            started = started or time.perf_counter()
            optimize(policy, target, optimizer, random.sample(memory, 128))
            made += 1
    return (time.perf_counter() - started) / steps


def network():
    return nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))


def tensor(state):
    return torch.tensor(state, dtype=torch.float32).unsqueeze(0)


def chosen(policy, state, env, steps):
    if random.random() > 0.05 + 0.85 * math.exp(-steps / 1000):
        with torch.no_grad():
            return policy(state).max(1).indices.view(1, 1)
    return torch.tensor([[env.action_space.sample()]], dtype=torch.long)


def optimize(policy, target, optimizer, rows):
    batch = Row(*zip(*rows, strict=True))
    alive = torch.tensor([state is not None for state in batch.next_state])
    q = policy(torch.cat(batch.state)).gather(1, torch.cat(batch.action))
    next_values = torch.zeros(len(rows))
    with torch.no_grad():
        next_values[alive] = target(torch.cat([state for state in batch.next_state if state is not None])).max(1).values
    targets = torch.cat(batch.reward) + 0.99 * next_values
    loss = nn.SmoothL1Loss()(q, targets.unsqueeze(1))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(policy.parameters(), 100)
    optimizer.step()
    old, new = target.state_dict(), policy.state_dict()
    for name in new:
        old[name] = 0.005 * new[name] + 0.995 * old[name]
    target.load_state_dict(old)
