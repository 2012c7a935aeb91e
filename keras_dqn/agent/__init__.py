"""The agent: it acts, remembers and learns."""

from keras_dqn.agent.agent import Agent

__all__ = ["Agent"]
