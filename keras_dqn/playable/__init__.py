"""Games for the keyboard: CartPole made slow enough for a human, a window and a page to play on."""

from keras_dqn.playable.cartpole import PlayableCartPole
from keras_dqn.playable.window import play

__all__ = ["PlayableCartPole", "play"]
