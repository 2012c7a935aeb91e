"""The loss of a minibatch as a function of the brain's weights, and the target network that values next states."""

from typing import Any

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.core.networks.layers import noise
from keras_dqn.core.objectives.objective import Objective, Tensor
from keras_dqn.core.transition import Transition

VALUING, PICKING, LEARNING, ACTING = range(4)  # what a pass is for: each draws noise of its own
NEVER = 2**62  # updates: a target network that no count of updates moves


class TargetNetwork:
    """Weights that follow the brain's: what next states are valued with (Mnih et al. 2015).

    It is a second set of variables and no second model: whatever computes the brain's outputs computes these too, so a
    brain may be any Keras model, one without a configuration included.

    Args:
        brain: the Keras model that is followed.
        every: updates from move to move.
        tau: how far it moves: 1 copies the brain ("hard"), less moves that fraction of the way ("soft").

    Attributes:
        variables: in the order of `brain.weights`, equal to them at first.
    """

    def __init__(self, brain: "keras.Model", every: int = 1, tau: float = 1.0):
        self.every, self.tau, self._followed = every, tau, list(brain.weights)
        self.variables = [
            keras.Variable(np.asarray(one), dtype=one.dtype, trainable=False, name="target") for one in self._followed
        ]

    def copy(self) -> None:
        """Make it equal to the brain."""
        for old, new in zip(self.variables, self._followed, strict=True):
            old.assign(new)

    def moved(self, old: Any, new: Any) -> Any:
        """A weight after a move towards the brain's; what is no float, like a count, is copied."""
        soft = self.tau < 1 and keras.backend.is_float_dtype(keras.backend.standardize_dtype(old.dtype))
        return old + self.tau * (new - old) if soft else new


class MinibatchLoss:
    """Targets, errors and their mean, in `keras.ops`; nothing is assigned.

    Args:
        brain: the Keras model that learns.
        objective: what its outputs mean.
        target: the network that values next states; None for the brain itself, as it is at that update.
        double: whether the brain picks the next action and the target network values it.
        bootstraps: False leaves out the pass over the next states, where every discount is known to be 0: a rollout's
            rewards are whole returns.
    """

    def __init__(
        self, brain: "keras.Model", objective: Objective, target: TargetNetwork | None, double: bool, bootstraps: bool
    ):
        self.brain, self.objective, self.target = brain, objective, target
        self.double, self.bootstraps = double, bootstraps

    def targets(self, batch: Transition, count: Tensor) -> Tensor:
        """What the outputs of the taken actions are moved towards; no gradient passes through it.

        Args:
            batch: a minibatch, [B, ...].
            count: of the updates before this one, for which noise is drawn.
        """
        if not self.bootstraps:
            return batch.reward
        online = self._network(self.brain.weights, PICKING, count)
        variables = self.brain.weights if self.target is None else self.target.variables
        target = self._network(variables, VALUING, count)
        return self.objective.targets(batch, target, online if self.double else None)

    def __call__(self, batch: Transition, targets: Tensor, weights: list, count: Tensor) -> tuple[Tensor, Tensor, list]:
        """The loss of a minibatch with these weights in the brain's trainable variables.

        Losses that the brain carries, of regularizers and of `add_loss`, count too.

        Returns:
            The loss, a scalar; the errors, [B], or where transitions have weights their priorities; and the new values
            of the variables that are not trained.
        """
        brain = self.brain
        others = brain.non_trainable_variables  # which a pass in training may change, as batch normalization does
        mapping = [*zip(brain.trainable_variables, weights, strict=True), *((one, one.value) for one in others)]
        with keras.StatelessScope(mapping, collect_losses=True) as scope, noise(LEARNING, count):
            outputs = brain(batch.state, training=True)
            carried = brain.losses
        errors = self.objective.errors(targets, outputs, batch.action)
        loss = keras.ops.mean(errors if batch.weight is None else batch.weight * errors)
        if batch.weight is not None:
            errors = self.objective.priorities(errors)
        for one in carried:
            loss = loss + one
        return loss, errors, [scope.get_current_value(one) for one in others]

    def _network(self, variables, purpose, count):
        """The brain in inference, with the values of these variables and noise, as a function of states."""
        mapping = [(own, one.value) for own, one in zip(self.brain.weights, variables, strict=True)]

        def network(states: Any) -> Tensor:
            with keras.StatelessScope(mapping), noise(purpose, count):
                return self.brain(states, training=False)

        return network


def acting_values(brain: "keras.Model", objective: Objective, states: Tensor, draw: Tensor | None = None) -> Tensor:
    """Q-values, [B, actions], for acting: with the noise of a draw, a whole number, or for None without noise."""
    with noise(ACTING, draw):
        return objective.q_values(brain(states, training=False))
