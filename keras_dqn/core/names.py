"""The CartPole notebook's names for what lies in the agent's settings, learner and exploration."""

from typing import TYPE_CHECKING

from keras_dqn.checks import check_fraction

if TYPE_CHECKING:
    from keras_dqn.backend import keras


class NotebookNames:
    """What `Agent` answers to under the names of the notebook (G. Juvin 2017), each read where it lies."""

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
