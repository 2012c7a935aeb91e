"""The networks: states in, one Q-value an action out; and the same forward pass in NumPy, for acting."""

from keras_dqn.networks.mlp import Dueling, mlp
from keras_dqn.networks.numpy_forward import NumpyForward

__all__ = ["Dueling", "NumpyForward", "mlp"]
