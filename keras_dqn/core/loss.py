"""The loss of a minibatch as a function of the brain's weights, which each backend takes the gradient of."""

from typing import Any

from keras_dqn.backend import keras
from keras_dqn.core.objectives.objective import Objective, Tensor
from keras_dqn.core.target_network import TargetNetwork
from keras_dqn.core.transition import Transition


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

    def targets(self, batch: Transition) -> Tensor:
        """What the outputs of the taken actions are moved towards; no gradient passes through it."""
        if not self.bootstraps:
            return batch.reward
        online = self._network(self.brain.weights)
        target = online if self.target is None else self._network(self.target.variables)
        return self.objective.targets(batch, target, online if self.double else None)

    def __call__(self, batch: Transition, targets: Tensor, weights: list) -> tuple[Tensor, Tensor, list]:
        """The loss of a minibatch with these weights in the brain's trainable variables.

        Losses that the brain carries, of regularizers and of `add_loss`, count too.

        Returns:
            The loss, a scalar; the errors, [B]; and the new values of the variables that are not trained.
        """
        brain = self.brain
        others = brain.non_trainable_variables  # which a pass in training may change, as batch normalization does
        mapping = [*zip(brain.trainable_variables, weights, strict=True), *((one, one.value) for one in others)]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            outputs = brain(batch.state, training=True)
            carried = brain.losses
        errors = self.objective.errors(targets, outputs, batch.action)
        loss = keras.ops.mean(errors if batch.weight is None else batch.weight * errors)
        for one in carried:
            loss = loss + one
        return loss, errors, [scope.get_current_value(one) for one in others]

    def _network(self, variables):
        """The brain in inference, with the values of these variables, as a function of states."""
        mapping = [(own, one.value) for own, one in zip(self.brain.weights, variables, strict=True)]

        def network(states: Any) -> Tensor:
            with keras.StatelessScope(mapping):
                return self.brain(states, training=False)

        return network
