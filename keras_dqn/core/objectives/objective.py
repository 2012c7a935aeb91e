"""What the outputs of a network mean, what they are moved towards, and how far off they are.

Everything here and in the objectives is a pure function in `keras.ops`, the same on every backend.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.core.transition import Transition

LOWEST = float(np.finfo(np.float32).min)
Tensor = Any  # of the backend
Network = Callable[[Tensor], Tensor]  # states [B, *state_shape] to outputs [B, actions] or [B, actions, n]


def q_of_actions(outputs: Tensor, actions: Tensor) -> Tensor:
    """What belongs to each row's action: [B, actions] and [B] int to [B], or [B, actions, n] to [B, n]."""
    # A product and a sum: a third of the operations of a gather and its gradient, and the same numbers.
    taken = keras.ops.one_hot(actions, outputs.shape[1], dtype=outputs.dtype)
    taken = keras.ops.reshape(taken, (-1, outputs.shape[1], *[1] * (len(outputs.shape) - 2)))
    return keras.ops.sum(outputs * taken, axis=1)


def masked(q: Tensor, action_mask: Tensor | None) -> Tensor:
    """The Q-values, [B, actions], with those of actions that may not be taken below all others."""
    return q if action_mask is None else keras.ops.where(action_mask, q, LOWEST)


class Objective:
    """What a network learns: each member of the family is a subclass."""

    def q_values(self, outputs: Tensor) -> Tensor:
        """Q-values, [B, actions], of outputs."""
        return outputs

    def targets(self, batch: Transition, target: Network, online: Network | None) -> Tensor:
        """What the outputs of the taken actions are moved towards, [B] or [B, n].

        Args:
            batch: a minibatch, [B, ...].
            target: the network that values next states.
            online: the network that picks the next actions (double DQN); None where `target` does that too.
        """
        raise NotImplementedError

    def errors(self, targets: Tensor, outputs: Tensor, actions: Tensor) -> Tensor:
        """The loss of each transition, [B] float, before it is weighted and averaged."""
        raise NotImplementedError
