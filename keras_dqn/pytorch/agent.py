"""The agent with a torch brain: memory, exploration, loop and files are those of `Agent`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keras_dqn.checks import Seed
from keras_dqn.core.agent import Agent
from keras_dqn.pytorch.learner import make_torch_learner

if TYPE_CHECKING:
    from keras_dqn.backend import keras
    from keras_dqn.pytorch.learner import TorchLearner
    from keras_dqn.pytorch.network import QNetwork


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

    def __init__(
        self,
        *arguments: Any,
        torch_optimizer: Callable[..., Any] | None = None,
        clipping: dict[str, float] | None = None,
        **options: Any,
    ):
        self._torch = {"torch_optimizer": torch_optimizer, "clipping": clipping}
        super().__init__(*arguments, **options)

    def make_learner(self, brain: "keras.Model | QNetwork | None", network: Any, seed: Seed) -> "TorchLearner":
        """The `TorchLearner` of a brain, the caller's own or a default one."""
        settings, keeps = self.settings.learner, self.weight_backup is not None
        return make_torch_learner(
            brain, network, self.state_shape, self.action_size, settings, seed, keeps_weights=keeps, **self._torch
        )
