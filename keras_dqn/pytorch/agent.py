"""The agent with a torch brain: memory, exploration, loop and files are those of `Agent`."""

from keras_dqn.agent import Agent
from keras_dqn.pytorch.learner import make_torch_learner


class TorchAgent(Agent):
    """The `Agent` with a torch brain; memory, exploration, loop and .h5 files are the same.

    Args:
        brain: an `nn.Module`, [B, *state_shape] to [B, action_size], instead of the default `QNetwork`. To start from
            given weights: `brain.load_state_dict(to_state_dict(keras_model))`.
        network: options of `QNetwork`.
        optimizer: a Keras optimizer, or a function that makes one, to be aligned with, its clipping included.
        torch_optimizer: a function from parameters to a torch optimizer, instead; without either, torch's Adam.
        clipping: options of `clip_gradients`; by default those of `optimizer`.
        *arguments, **options: as `Agent` has them.
    """

    def __init__(self, *arguments, torch_optimizer=None, clipping=None, **options):
        self._torch = {"torch_optimizer": torch_optimizer, "clipping": clipping}
        super().__init__(*arguments, **options)

    def make_learner(self, brain, network, seed):
        """The `TorchLearner` of a brain, the caller's own or a default one."""
        settings, keeps = self.settings.learner, self.weight_backup is not None
        return make_torch_learner(
            brain, network, self.state_shape, self.action_size, settings, seed, keeps_weights=keeps, **self._torch
        )
