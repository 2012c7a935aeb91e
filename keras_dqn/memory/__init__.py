"""What the agent remembers: steps go in, minibatches of transitions come out."""

from keras_dqn.memory.frames import FrameMemory
from keras_dqn.memory.n_step import NStep
from keras_dqn.memory.replay import Memory, OneStep, ReplayMemory, Steps, Transition
from keras_dqn.memory.rollout import RolloutMemory

__all__ = ["FrameMemory", "Memory", "NStep", "OneStep", "ReplayMemory", "RolloutMemory", "Steps", "Transition"]
