"""C51 (Bellemare et al. 2017): an output is the distribution of an action's return, over values that are fixed."""

from typing import Any

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.checks import check_integer, check_number
from keras_dqn.core.networks.numpy_forward import Layer
from keras_dqn.core.objectives.objective import Network, Objective, Tensor, greedy, q_of_actions
from keras_dqn.core.transition import Transition


class C51(Objective):
    """Distributions of returns over `atoms` values from `low` to `high`, learned by cross-entropy.

    What lies beyond these values counts as the nearest of them, so that they have to span the *returns*, not the
    rewards: 0 to 100 for rewards from 0 to 1 with gamma 0.99. How much was beyond is counted; see `remarks`.

    Args:
        low, high: the lowest and the highest return.
        atoms: how many values there are between and with them.

    Raises:
        ValueError: an argument is out of range.

    Example:
        Agent(4, 2, objective=C51(0.0, 100.0), gamma=0.99)
    """

    def __init__(self, low: float, high: float, atoms: int = 51):
        self.low, self.high = float(check_number("low", low)), float(check_number("high", high))
        self.atoms = check_integer("atoms", atoms, 2)
        if self.low >= self.high:
            raise ValueError(f"`low` must be below `high`. Received: low={low}, high={high}")
        self.values = np.linspace(self.low, self.high, self.atoms, dtype=np.float32)
        self._beyond = None  # [the sum of what updates had beyond the ends, how many there were], once it learns

    @classmethod
    def of_rewards(cls, low: float, high: float, gamma: float, atoms: int = 51) -> "C51":
        """Over all returns that rewards from `low` to `high` can come to, those of an episode's end included.

        Raises:
            ValueError: gamma is 1, so that returns have no ends.
        """
        check_number("gamma", gamma, "a number from 0 to below 1", lambda number: 0 <= number < 1)
        return cls(*(round(reward / (1 - gamma), 6) for reward in (min(low, 0.0), max(high, 0.0))), atoms)

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "atoms": self.atoms}

    def for_learner(self) -> "C51":
        counting = C51(self.low, self.high, self.atoms)
        counting._beyond = keras.Variable(np.zeros(2), dtype="float32", trainable=False, name="beyond")
        counting.variables = (counting._beyond,)
        return counting

    def __reduce__(self):  # what was counted stays behind
        return C51, (self.low, self.high, self.atoms)

    def q_values(self, outputs: Tensor) -> Tensor:
        """The means, [B, actions], of distributions given as logits, [B, actions, atoms]."""
        return keras.ops.sum(keras.ops.softmax(outputs) * self.values, axis=-1)

    def q_layers(self) -> list[Layer]:
        return [Layer("expectation", [], {"values": self.values})]

    def targets(self, batch: Transition, target: Network, online: Network | None) -> Tensor:
        """The distribution of the next state's best action by mean, moved by reward and discount: [B, atoms]."""
        outputs = target(batch.next_state)
        best = greedy(self.q_values(outputs if online is None else online(batch.next_state)), batch.action_mask)
        probabilities = keras.ops.softmax(q_of_actions(outputs, best))
        moved = batch.reward[:, None] + batch.discount[:, None] * self.values
        self._count_beyond(moved, probabilities)
        return self.projected(moved, probabilities)

    def projected(self, moved: Tensor, probabilities: Tensor) -> Tensor:
        """The distribution over the values that has these probabilities at these places: [B, atoms] both.

        Each is shared by the two values that it lies between, in proportion to how near they are; one that lies on a
        value goes there whole, and one that lies beyond the ends to the nearest.
        """
        ops, width = keras.ops, (self.high - self.low) / (self.atoms - 1)
        places = (ops.clip(moved, self.low, self.high) - self.low) / width
        below = ops.floor(places)
        above = places - below  # the share of the value above; 0 for one that lies on a value
        parts = ops.stack([probabilities * (1 - above), probabilities * above], axis=1)  # [B, 2, from]
        to_below = ops.cast(below[:, :, None] == np.arange(self.atoms, dtype=np.float32), parts.dtype)  # [B, from, to]
        laid = ops.matmul(parts, to_below)  # half the time of a sum over all pairs
        return laid[:, 0] + ops.pad(laid[:, 1, :-1], ((0, 0), (1, 0)))

    def errors(self, targets: Tensor, outputs: Tensor, actions: Tensor) -> Tensor:
        """The Kullback-Leibler divergences, [B]: cross-entropies less the targets' own entropies, which move nothing.

        So 0 is right, and what prioritized replay prefers is what Rainbow prefers.
        """
        log_outputs = keras.ops.log_softmax(q_of_actions(outputs, actions))
        log_targets = keras.ops.log(keras.ops.maximum(targets, 1e-30))
        return keras.ops.sum(targets * (log_targets - log_outputs), axis=-1)

    def _count_beyond(self, moved, probabilities):
        if self._beyond is not None:
            slack = 1e-4 * (self.high - self.low)  # what rounding moves is no loss
            beyond = keras.ops.cast((moved < self.low - slack) | (moved > self.high + slack), "float32")
            share = keras.ops.mean(keras.ops.sum(beyond * probabilities, axis=-1))
            self._beyond.assign_add(keras.ops.stack([share, keras.ops.ones_like(share)]))

    @property
    def beyond(self) -> float:
        """Which share of the targets' probability lay beyond the ends, 0 to 1, over all updates of this learner."""
        share, updates = (0.0, 0.0) if self._beyond is None else np.asarray(self._beyond).tolist()
        return share / updates if updates else 0.0

    def remarks(self) -> list[str]:
        if self.beyond < 0.001:
            return []
        return [
            f"C51: {self.beyond:.1%} of the returns' probability lay beyond {self.low:g} and {self.high:g} and was "
            "taken for these ends; wider ones would keep it"
        ]
