"""The replay as the notebook wrote it: `predict`, `predict` and `fit` for each transition."""

import numpy as np

from keras_dqn.core.learner import Learner, Update
from keras_dqn.core.objectives.value import Value
from keras_dqn.core.transition import Transition


class LiteralLearner(Learner):
    """The literal twin of `Learner`: a thousand times slower, the same updates to float32 rounding.

    It is kept because the test that both leave the same weights is the licence for the fast one. It is for the
    notebook's own case: minibatches of 1, the loss that the brain was compiled with, no target network.

    Args:
        brain: a compiled Keras model; `fit` trains it with its own optimizer and loss.

    Raises:
        ValueError: it is another case.
    """

    @classmethod
    def of(cls, learner: Learner) -> "LiteralLearner":
        """The literal twin of a `Learner`, with the same brain and optimizer."""
        objective = learner.objective
        if learner.target is not None or type(objective) is not Value or not objective.as_fit:
            raise ValueError(
                "The notebook's replay has no target network, and the loss of `fit` on whole target vectors. "
                f"Received: {objective}, target_update={learner.target and learner.target.every}"
            )
        return cls(learner.brain, learner.optimizer, objective)

    def update(self, batches: Transition) -> Update:
        """Make K updates of one transition each, in the notebook's words."""
        if batches.reward.shape[1] != 1:
            raise ValueError(f"The notebook's replay has minibatches of 1. Received: {batches.reward.shape[1]}")
        if batches.action_mask is not None:
            raise ValueError("The notebook's replay has no action masks. Received: some")
        losses = []
        for state, action, reward, discount, next_state in zip(*batches[:5], strict=True):
            target = reward[0]
            if discount[0] != 0:
                target = reward[0] + discount[0] * np.amax(self.brain.predict(next_state, verbose=0)[0])
            target_f = self.brain.predict(state, verbose=0)
            target_f[0][action[0]] = target
            losses.append(self.brain.fit(state, target_f, epochs=1, verbose=0).history["loss"][0])
        self.updates += len(losses)
        self.weights_assigned = True
        losses = np.array(losses, np.float32)
        return Update(losses, losses[:, None])
