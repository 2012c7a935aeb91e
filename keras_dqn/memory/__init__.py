"""What the agent remembers: steps go in, minibatches of transitions come out."""

from keras_dqn.memory.frames import FrameMemory
from keras_dqn.memory.n_step import NStep
from keras_dqn.memory.replay import Memory, OneStep, ReplayMemory, Steps, Transition

__all__ = ["FrameMemory", "Memory", "NStep", "OneStep", "ReplayMemory", "Steps", "Transition"]
