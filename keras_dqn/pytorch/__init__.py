"""The PyTorch version, for comparison: the agent's own memory, exploration, loop and files around a torch network.

It needs PyTorch and runs on the CPU, where networks of this size are fastest. What differs between
the two libraries, and what to set for the same on both sides, is a table of docs/compare.md, "The PyTorch version".
"""

try:
    import torch  # noqa: F401
except ImportError as error:
    message = f"keras_dqn.pytorch needs PyTorch: pip install torch. Received: {error}"
    raise ImportError(message, name="torch") from error

from keras_dqn.pytorch.agent import TorchAgent
from keras_dqn.pytorch.learner import TorchLearner
from keras_dqn.pytorch.network import QNetwork, from_state_dict, to_state_dict
from keras_dqn.pytorch.optimizer import aligned_optimizer, clip_gradients, one_thread

__all__ = [
    "QNetwork",
    "TorchAgent",
    "TorchLearner",
    "aligned_optimizer",
    "clip_gradients",
    "from_state_dict",
    "one_thread",
    "to_state_dict",
]
