"""What the outputs of a network mean, what they are moved towards, and how far off they are.

Everything here and in the objectives is a pure function in `keras.ops`, the same on every backend.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.core.networks.numpy_forward import Layer
from keras_dqn.core.transition import Transition

LOWEST = float(np.finfo(np.float32).min)
Tensor = Any  # of the backend
Network = Callable[[Tensor], Tensor]  # states [B, *state_shape] to outputs [B, actions] or [B, actions, n]


def q_of_actions(outputs: Tensor, actions: Tensor) -> Tensor:
    """What belongs to each row's action: [B, actions] and [B] int to [B], or [B, actions, atoms] to [B, atoms]."""
    # A product and a sum: a third of the operations of a gather and its gradient, and the same numbers.
    taken = keras.ops.one_hot(actions, outputs.shape[1], dtype=outputs.dtype)
    taken = keras.ops.reshape(taken, (-1, outputs.shape[1], *[1] * (len(outputs.shape) - 2)))
    return keras.ops.sum(outputs * taken, axis=1)


def masked(q: Tensor, action_mask: Tensor | None) -> Tensor:
    """The Q-values, [B, actions], with those of actions that may not be taken below all others."""
    return q if action_mask is None else keras.ops.where(action_mask, q, LOWEST)


def greedy(q: Tensor, action_mask: Tensor | None) -> Tensor:
    """The actions of the highest Q-values, [B, actions] to [B] int, of those that may be taken."""
    return keras.ops.argmax(masked(q, action_mask), axis=-1)


class Objective:
    """What a network learns: each member of the family is a subclass.

    Attributes:
        atoms: how many outputs an action has, for outputs [B, actions, atoms]; None for [B, actions].
        variables: Keras variables that `targets` assigns, to count something.
        no_double, no_n_step, no_returns: why there is no double DQN, no n-step return or no learning from the finished
            returns of rollouts with it; None where there is.
    """

    atoms: int | None = None
    no_double: str | None = None
    no_n_step: str | None = None
    variables: tuple[Any, ...] = ()
    no_returns: str | None = "A rollout's returns are single numbers, and it learns more than their mean."

    def get_config(self) -> dict[str, Any]:
        """The arguments that make another like this one, in types of JSON, for checkpoints to compare."""
        raise NotImplementedError

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.get_config().items())})"

    def for_learner(self) -> "Objective":
        """The one that a learner has for itself: an objective that counts something counts it there."""
        return self

    def remarks(self) -> list[str]:
        """What there is to say of a training with it, in lines of text."""
        return []

    def q_values(self, outputs: Tensor) -> Tensor:
        """Q-values, [B, actions], of outputs."""
        return outputs

    def q_layers(self) -> list[Layer] | None:
        """What `q_values` does as layers of the forward pass in NumPy; None where that does not know them."""
        return [] if type(self).q_values is Objective.q_values else None

    def priorities(self, errors: Tensor) -> Tensor:
        """What prioritized replay prefers transitions by, [B], of their errors."""
        return errors

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
