"""Tianshou's DQN, double by its own default."""

from pathlib import Path

import gymnasium as gym
import numpy as np

from keras_dqn.conformance.adapters.torch_alone import without_tensorflow
from keras_dqn.conformance.check import QFunction
from keras_dqn.conformance.probe import GAMMA, Probe


def dqn(probe: type[Probe], seed: int = 0, path: Path | None = None) -> QFunction:
    """Collect a few steps, make an update of 32, and so on."""
    with without_tensorflow():
        import torch
        from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy
        from tianshou.algorithm.optim import AdamOptimizerFactory
        from tianshou.data import Collector, VectorReplayBuffer
        from tianshou.env import DummyVectorEnv
        from tianshou.utils.net.common import Net
        from tianshou.utils.torch_utils import policy_within_training_step

    torch.manual_seed(seed)
    np.random.seed(seed)
    env = gym.make(probe.id)
    net = Net(state_shape=env.observation_space.shape, action_shape=int(env.action_space.n), hidden_sizes=(64, 64))
    policy = DiscreteQLearningPolicy(model=net, action_space=env.action_space, observation_space=env.observation_space)
    algorithm = DQN(
        policy=policy,
        optim=AdamOptimizerFactory(lr=probe.learning_rate),
        gamma=GAMMA,
        target_update_freq=probe.target_every // probe.update_every,
    )
    buffer = VectorReplayBuffer(probe.memory, 1)
    collector = Collector(algorithm, DummyVectorEnv([lambda: env]), buffer, exploration_noise=True)
    collector.reset(gym_reset_kwargs={"seed": seed})
    for step in range(0, probe.steps, probe.update_every):
        falls = probe.greedy_after
        policy.set_eps_training(1.0 if falls is None else max(1 - step / falls, 0.0))
        with policy_within_training_step(policy):
            collector.collect(n_step=probe.update_every)
            if step >= 100:
                algorithm.update(buffer=buffer, sample_size=32)

    def q_values(states):
        with torch.no_grad():
            return net(states)[0].numpy()

    return q_values
