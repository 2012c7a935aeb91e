"""Where states and rewards come from: gymnasium's environments and Atari's games behind one interface."""

from keras_dqn.environments.vector import as_vector, make_env, make_vector_env

__all__ = ["as_vector", "make_env", "make_vector_env"]
