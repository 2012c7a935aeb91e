"""Training an agent in an environment, evaluating and filming it, and what listens to a training."""

from keras_dqn.runner.runner import Runner

__all__ = ["Runner"]
