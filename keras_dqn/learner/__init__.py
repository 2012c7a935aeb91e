"""How the network learns: K gradient updates of B transitions each, and the same as the notebook wrote it."""

from keras_dqn.learner.compiled import Learner
from keras_dqn.learner.literal import LiteralLearner

__all__ = ["Learner", "LiteralLearner"]
