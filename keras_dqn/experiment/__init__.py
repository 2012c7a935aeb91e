"""Experiments: one recipe trained from several seeds, in Keras or beside PyTorch."""

from keras_dqn.experiment.report import Experiment, Result, Sweep
from keras_dqn.experiment.seeds import compare, train_seeds

__all__ = ["Experiment", "Result", "Sweep", "compare", "train_seeds"]
