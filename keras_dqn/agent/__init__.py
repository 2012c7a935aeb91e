"""The agent: it acts, remembers and learns; and the loop it plays in."""

from keras_dqn.agent.agent import Agent, Step, collect, play

__all__ = ["Agent", "Step", "collect", "play"]
