"""Q-learning of values (Watkins 1989): an output is the Q-value of an action."""

from collections.abc import Callable
from typing import Any

from keras_dqn.backend import keras
from keras_dqn.core.objectives.objective import Network, Objective, Tensor, masked, q_of_actions
from keras_dqn.core.transition import Transition


def q_learning_targets(rewards: Tensor, discounts: Tensor, next_q: Tensor) -> Tensor:
    """The Q-learning target, `r + discount * max_a Q(s', a)` (Watkins 1989; Mnih et al. 2015).

    Args:
        rewards, discounts: [B] float; a discount of 0 marks a terminal transition.
        next_q: [B, actions] float, the values that are bootstrapped from.

    Returns:
        [B] float.
    """
    return rewards + discounts * keras.ops.max(next_q, axis=-1)


def double_q_learning_targets(rewards: Tensor, discounts: Tensor, next_q: Tensor, online_q: Tensor) -> Tensor:
    """The double DQN target: `online_q` picks the action, `next_q` says its value (van Hasselt et al. 2016).

    Args:
        rewards, discounts: [B] float.
        next_q: [B, actions] float, of the target network.
        online_q: [B, actions] float, of the online network.

    Returns:
        [B] float.
    """
    return rewards + discounts * q_of_actions(next_q, keras.ops.argmax(online_q, axis=-1))


# -------------------------------------------------------------------- losses, one number a transition


def squared_errors(targets: Tensor, q: Tensor, actions: Tensor) -> Tensor:
    """The squared errors of the taken actions: [B], [B, actions] and [B] int to [B]."""
    return keras.ops.square(targets - q_of_actions(q, actions))


def fit_squared_errors(targets: Tensor, q: Tensor, actions: Tensor) -> Tensor:
    """The squared errors as Keras's `fit` takes their mean on the notebook's target vectors: [B].

    The notebook's target is Q(s) with the taken action's entry replaced, so the other entries' error is zero, yet they
    count in the mean: the error of the taken action is divided by the number of actions.
    """
    return squared_errors(targets, q, actions) / q.shape[-1]


def huber_errors(targets: Tensor, q: Tensor, actions: Tensor) -> Tensor:
    """Huber losses of the taken actions' errors, delta 1: [B] (the DQN papers' clipped error)."""
    error = keras.ops.abs(targets - q_of_actions(q, actions))
    quadratic = keras.ops.minimum(error, 1.0)
    return 0.5 * keras.ops.square(quadratic) + (error - quadratic)


LOSSES = {"fit_mse": fit_squared_errors, "huber": huber_errors, "mse": squared_errors}


def errors_of(loss: Any) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The function from targets, Q-values and actions to errors, [B], of a loss.

    Args:
        loss: "mse", the mean squared error of the taken actions; "fit_mse", the same as Keras's `fit` computes it on
            whole target vectors; "huber"; or any loss of Keras, as an object, a function or its name.

    Raises:
        ValueError: there is no such loss.
    """
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]
    by_row = _keras_loss(loss)
    return lambda targets, q, actions: by_row(targets[:, None], q_of_actions(q, actions)[:, None])


def fit_errors_of(loss: Any) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """As `errors_of`, of a loss as Keras's `fit` computes it on whole target vectors, like a compiled brain's."""
    if loss in ("mse", "mean_squared_error"):
        return fit_squared_errors
    by_row = _keras_loss(loss)

    def errors(targets, q, actions):
        taken = keras.ops.one_hot(actions, q.shape[-1], dtype="bool")
        return by_row(keras.ops.where(taken, targets[:, None], keras.ops.stop_gradient(q)), q)

    return errors


def _keras_loss(loss):
    """A loss of Keras as a function of [B, n] and [B, n] to [B]."""
    try:
        found = keras.losses.get(loss)
    except (ValueError, TypeError):
        found = None
    if not callable(found):
        raise ValueError(f"`loss` must be one of {sorted(LOSSES)}, or a loss of Keras. Received: {loss!r}")
    return found.call if isinstance(found, keras.losses.Loss) else found


class Value(Objective):
    """Q-learning of values, with the loss that is asked for.

    Args:
        loss: see `errors_of`.
        as_fit: whether it is one as Keras's `fit` computes it, see `fit_errors_of`.
    """

    no_returns = None

    def __init__(self, loss: Any = "mse", as_fit: bool = False):
        self.loss, self.as_fit = loss, as_fit or loss == "fit_mse"
        self._errors = (fit_errors_of if as_fit else errors_of)(loss)

    def get_config(self) -> dict[str, Any]:
        return {"loss": self.loss, **({"as_fit": True} if self.as_fit and self.loss != "fit_mse" else {})}

    def priorities(self, errors: Tensor) -> Tensor:
        """The size of the temporal-difference error, of losses that tell it (Schaul et al. 2016)."""
        if self.loss == "huber":
            return keras.ops.where(errors < 0.5, keras.ops.sqrt(2 * errors), errors + 0.5)
        return keras.ops.sqrt(errors) if self.loss in ("mse", "fit_mse") else errors

    def targets(self, batch: Transition, target: Network, online: Network | None) -> Tensor:
        next_q = masked(target(batch.next_state), batch.action_mask)
        if online is None:
            return q_learning_targets(batch.reward, batch.discount, next_q)
        online_q = masked(online(batch.next_state), batch.action_mask)
        return double_q_learning_targets(batch.reward, batch.discount, next_q, online_q)

    def errors(self, targets: Tensor, outputs: Tensor, actions: Tensor) -> Tensor:
        return self._errors(targets, outputs, actions)
