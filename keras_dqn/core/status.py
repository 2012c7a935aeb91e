"""How an agent stands, for whoever looks at it or saves it, and its files of weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from keras_dqn.checks import check_fraction
from keras_dqn.core.counting import Every
from keras_dqn.files.weight_file import read_statistics

if TYPE_CHECKING:
    from keras_dqn.backend import keras


class AgentStatus:
    """The names of the CartPole notebook (G. Juvin 2017), each read where it lies; and what a checkpoint asks for."""

    @property
    def epsilon(self) -> float:
        """Probability of a random action; a schedule of steps changes it again with the next step."""
        return self.epsilon_schedule.value

    @epsilon.setter
    def epsilon(self, epsilon: float):
        self.epsilon_schedule.value = check_fraction("epsilon", epsilon)

    exploration_rate = epsilon

    @property
    def brain(self) -> "keras.Model":
        """The network. Whoever asks for it may assign weights, which the agent then acts with."""
        self.learner.weights_assigned = True
        return self.learner.brain

    gamma = property(lambda self: self.settings.learner.gamma, doc="Discount a step.")
    learning_rate = property(lambda self: self.learner.learning_rate, doc="Of the optimizer, as it is now.")
    exploration_min = property(lambda self: self.epsilon_schedule.minimum, doc="What the exploration rate falls to.")
    exploration_decay = property(
        lambda self: self.epsilon_schedule.decay, doc="Factor after each replay; None with a schedule."
    )
    sample_batch_size = property(lambda self: self.settings.learner.sample_batch_size, doc="Transitions a replay.")
    minibatch_size = property(lambda self: self.settings.learner.minibatch_size, doc="Transitions an update.")

    def __repr__(self):
        backup = None if self.weight_backup is None else str(self.weight_backup)
        memory = f"{len(self.memory):,} of {self.memory.capacity:,} transitions"
        return (
            f"{type(self).__name__}(state_size={self.state_size}, action_size={self.action_size}, gamma={self.gamma}, "
            f"exploration_rate={self.exploration_rate:.3g}, sample_batch_size={self.sample_batch_size}, "
            f"minibatch_size={self.minibatch_size}, weight_backup={backup!r}, memory={memory}, "
            f"learner={self.learner!r})"
        )

    # ---------------------------------------------------------------- weights

    normalizer: Any = None  # of the wrapper `NormalizeObservation`, where a game has one; it goes where the weights go

    @property
    def statistics(self) -> np.ndarray | None:
        """The normalizer's mean, variance and count, [3, *state_shape]; None where there is none."""
        one = self.normalizer
        return None if one is None else np.stack(np.broadcast_arrays(one.mean, one.var, one.count)).astype(float)

    @statistics.setter
    def statistics(self, values: ArrayLike | None):
        if self.normalizer is not None and values is not None:
            one, (mean, var, count) = self.normalizer, np.array(values)
            one.mean, one.var, one.count = mean.astype(one.mean.dtype), var.astype(one.var.dtype), float(count.flat[0])

    def save_model(self, path: str | Path | None = None) -> None:
        """Write the brain's weights to a .h5 file, whole or not at all.

        Args:
            path: the file, whose folder is made; by default `weight_backup`, which stays while nothing was learned.
        """
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self.learner.save_weights(path, self.statistics)
        elif self.weight_backup is not None and (self.learner.updates or not self.weight_backup.exists()):
            self.learner.save_weights(self.weight_backup, self.statistics)
        else:
            reason = "nothing was learned" if self.weight_backup else "`save_model(path)` writes them"
            print(f"No weights were written to {self.weight_backup}: {reason}")

    def load_model(self, path: str | Path) -> None:
        """Take weights from a .h5 file of any Keras, and explore at the minimum from now on.

        Raises:
            WeightFileError: the file is not whole or not this network's; the agent is unchanged.
        """
        statistics = None if self.normalizer is None else read_statistics(path, self.state_shape)
        self.learner.load_weights(path)
        self.epsilon_schedule.hold_at_minimum()
        self.statistics = statistics

    def load_backup(self) -> None:
        """Take the weights of `weight_backup`, if it is there, and say so."""
        if not self.weight_backup.exists():
            print("Backup weights for model not found")
            return
        self.load_model(self.weight_backup)
        print("Found saved weights, loaded into model")

    # ---------------------------------------------------------------- for checkpoints

    @property
    def generators(self) -> dict[str, np.random.Generator]:
        """The agent's own `np.random.Generator`s, by name."""
        return {"exploration": self.policy.random, "memory": self.memory.random}

    def counters(self) -> dict:
        """How far learning and exploration are, in plain numbers."""
        return {
            "steps": self.steps,
            "episodes": self.episodes,
            "updates": self.learner.updates,
            "exploration_rate": self.exploration_rate,
            "settled": self.epsilon_schedule.held_at_minimum,
            "waits": self._awaits_first_terminal,
        }

    def restore_counters(self, counters: dict) -> None:
        """Go on from there; nothing is changed where one is missing."""
        names = ("steps", "episodes", "updates", "waits", "exploration_rate")
        steps, episodes, updates, waits, rate = (counters[name] for name in names)
        self.steps, self.episodes, self._awaits_first_terminal, self.learner.updates = steps, episodes, waits, updates
        self.epsilon_schedule.value, self.epsilon_schedule.held_at_minimum = rate, bool(counters.get("settled"))
        if self._copies_due is not None:
            self._copies_due = Every(self._copies_due.n, episodes)
