"""QR-DQN (Dabney et al. 2018): an output is the distribution of an action's return, as quantiles that are learned."""

from typing import Any

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.checks import check_above_zero, check_integer
from keras_dqn.core.networks.numpy_forward import Layer
from keras_dqn.core.objectives.objective import Network, Objective, Tensor, greedy, q_of_actions
from keras_dqn.core.transition import Transition


class Quantile(Objective):
    """Returns by their quantiles, each of the same probability, learned by quantile regression.

    Args:
        quantiles: N, how many: quantile i, counted from 0, is that of (i + 1/2) / N.
        kappa: where the loss of an error goes from a square to a straight line (quantile Huber loss).

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, quantiles: int = 200, kappa: float = 1.0):
        self.atoms = check_integer("quantiles", quantiles)
        self.kappa = float(check_above_zero("kappa", kappa))
        self.fractions = ((np.arange(self.atoms) + 0.5) / self.atoms).astype(np.float32)

    def get_config(self) -> dict[str, Any]:
        return {"quantiles": self.atoms, "kappa": self.kappa}

    def q_values(self, outputs: Tensor) -> Tensor:
        """The means, [B, actions], of quantiles, [B, actions, N]."""
        return keras.ops.mean(outputs, axis=-1)

    def q_layers(self) -> list[Layer]:
        return [Layer("mean", [], {})]

    def targets(self, batch: Transition, target: Network, online: Network | None) -> Tensor:
        """The quantiles of the next state's best action by mean, moved by reward and discount: [B, N]."""
        outputs = target(batch.next_state)
        best = greedy(self.q_values(outputs if online is None else online(batch.next_state)), batch.action_mask)
        return batch.reward[:, None] + batch.discount[:, None] * q_of_actions(outputs, best)

    def errors(self, targets: Tensor, outputs: Tensor, actions: Tensor) -> Tensor:
        """The quantile Huber losses of each quantile against each of the targets': summed over the own, averaged over
        the targets', [B].
        """
        own = q_of_actions(outputs, actions)
        error = targets[:, None, :] - own[:, :, None]  # [B, own, targets']
        size = keras.ops.abs(error)
        quadratic = keras.ops.minimum(size, self.kappa)
        huber = quadratic * (size - 0.5 * quadratic) / self.kappa
        weight = keras.ops.abs(keras.ops.cast(error < 0, huber.dtype) - self.fractions[:, None])
        return keras.ops.sum(keras.ops.mean(weight * huber, axis=2), axis=1)
