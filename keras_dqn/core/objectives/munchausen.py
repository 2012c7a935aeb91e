"""Munchausen (Vieillard et al. 2020): a policy that is soft, and a reward for being sure of it."""

from typing import Any

from keras_dqn.backend import keras
from keras_dqn.checks import check_above_zero, check_fraction, check_number
from keras_dqn.core.objectives.objective import Network, Tensor, q_of_actions
from keras_dqn.core.objectives.value import Value
from keras_dqn.core.transition import Transition


class Munchausen(Value):
    """Q-values of the policy softmax(Q / tau), with `alpha` times its log-probability added to the reward.

    The policies of a state and of the next are both those of the target network (M-DQN).

    Args:
        alpha: how much of the log-probability is added.
        tau: the temperature; the lower, the nearer is the policy to the greedy one.
        clip: the lowest that tau times a log-probability counts as.
        loss: see `value.errors_of`.

    Raises:
        ValueError: an argument is out of range.
    """

    no_double = "The policy of the next state is soft: there is no best action that another network could pick."
    no_n_step = no_returns = "Its bonus belongs to each step, and returns over several are made of rewards alone."

    def __init__(self, alpha: float = 0.9, tau: float = 0.03, clip: float = -1.0, loss: Any = "huber"):
        super().__init__(loss)
        self.alpha, self.tau = check_fraction("alpha", alpha), check_above_zero("tau", tau)
        self.clip = check_number("clip", clip, "a number, 0 or less", lambda number: number <= 0)

    def get_config(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "tau": self.tau, "clip": self.clip, "loss": self.loss}

    def targets(self, batch: Transition, target: Network, online: Network | None) -> Tensor:
        """r + alpha clip(tau log pi(a|s)) + discount * the sum of pi(a'|s') (Q(s', a') - tau log pi(a'|s')): [B]."""
        if batch.action_mask is not None:
            raise ValueError(
                "Munchausen's bonus needs the mask of the state itself, and memories keep that of the next state: "
                "give `mask_actions=False`. Received: action masks"
            )
        log_policy = self._tau_log_policy(target(batch.state))
        bonus = keras.ops.clip(q_of_actions(log_policy, batch.action), self.clip, 0.0)
        next_q = target(batch.next_state)
        return batch.reward + self.alpha * bonus + batch.discount * self._soft_value(next_q)

    def _tau_log_policy(self, q):
        """tau log pi, [B, actions], without a quotient that is rounded: the log of a small sum is exact enough."""
        advantages = q - keras.ops.max(q, axis=-1, keepdims=True)
        return advantages - self._soft_maximum(advantages)

    def _soft_maximum(self, advantages):
        return self.tau * keras.ops.log(keras.ops.sum(keras.ops.exp(advantages / self.tau), axis=-1, keepdims=True))

    def _soft_value(self, q):
        """The sum of pi (Q - tau log pi) is tau log sum exp(Q / tau): [B]."""
        highest = keras.ops.max(q, axis=-1, keepdims=True)
        return (highest + self._soft_maximum(q - highest))[:, 0]
