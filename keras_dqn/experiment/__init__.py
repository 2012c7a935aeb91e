"""Experiments: one recipe trained from several seeds, in Keras or beside PyTorch."""

from keras_dqn.experiment.report import Experiment
from keras_dqn.experiment.results import Result
from keras_dqn.experiment.seeds import compare, train_seeds

__all__ = ["Experiment", "Result", "compare", "train_seeds"]
