"""The replay as the notebook wrote it: `predict`, `predict` and `fit` for each transition."""

import numpy as np

from keras_dqn.core.learner import Learner, fit_mse_loss
from keras_dqn.core.memory.replay import Transition


class LiteralLearner(Learner):
    """The literal twin of `Learner`: a thousand times slower, the same updates to float32 rounding.

    It is kept because the test that both leave the same weights is the licence for the fast one. It is for the
    notebook's own case: minibatches of 1, "fit_mse", no target model.

    Args:
        brain: a compiled Keras model; `fit` trains it with its own optimizer and loss.

    Raises:
        ValueError: it is another case.
    """

    @classmethod
    def of(cls, learner: Learner) -> "LiteralLearner":
        """The literal twin of a `Learner`, with the same brain and optimizer."""
        if learner.target_brain is not None or learner.loss is not fit_mse_loss:
            received = f"{learner.loss.__name__}, target_update={learner.target_update}"
            raise ValueError(f"The notebook's replay has the loss fit_mse and no target model. Received: {received}")
        return cls(learner.brain, learner.optimizer, "fit_mse")

    def update(self, batches: Transition) -> np.ndarray:
        """Make K updates of one transition each, in the notebook's words; the losses, [K] float32."""
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
        self.sync()
        return np.array(losses, np.float32)
