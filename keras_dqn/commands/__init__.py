"""The command line."""

from keras_dqn.commands.parser import main

__all__ = ["main"]
