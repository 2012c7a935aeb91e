"""The networks: states in, one Q-value an action out; and the same forward pass in NumPy, for acting."""

import numpy as np

from keras_dqn.backend import keras


def mlp(state_size, action_size, hidden=(24, 24), activation="relu", seed=None):
    """A Sequential of Dense layers; by default the notebook's 24-24 network.

    Args:
        state_size: length of the state vector.
        action_size: number of actions, and of outputs (linear).
        hidden: width of each hidden layer.
        activation: of the hidden layers.
        seed: of the Glorot uniform initial weights; an int, a `np.random.SeedSequence`, or None for fresh entropy.

    Returns:
        A built `keras.Sequential`, float32 [B, state_size] to [B, action_size].
    """
    seeds = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    seeds = iter(seeds.generate_state(len(hidden) + 1).tolist())

    def dense(width, activation):
        kernel = keras.initializers.GlorotUniform(seed=next(seeds))
        return keras.layers.Dense(width, activation=activation, kernel_initializer=kernel)

    hidden_layers = [dense(width, activation) for width in hidden]
    return keras.Sequential([keras.Input((state_size,)), *hidden_layers, dense(action_size, "linear")])


_ZERO = np.zeros((), np.float32)  # a Python 0 would be converted in every call


class NumpyForward:
    """A Dense network's forward pass in NumPy: the brain's numbers without the cost of a TensorFlow call.

    At the size of these networks a call of the model costs a hundred times its arithmetic.

    Args:
        brain: a built `keras.Sequential` of Dense layers with relu or linear activation (see `supports`).
    """

    def __init__(self, brain):
        self._relu = [layer.activation is keras.activations.relu for layer in brain.layers]
        self._shapes = [tuple(variable.shape) for variable in brain.weights]
        self.refresh(np.concatenate([weight.ravel() for weight in brain.get_weights()]))

    @staticmethod
    def supports(brain):
        """Whether `brain` is such a network."""
        return isinstance(brain, keras.Sequential) and all(
            type(layer) is keras.layers.Dense
            and layer.use_bias
            and layer.activation in (keras.activations.relu, keras.activations.linear)
            and layer.compute_dtype == layer.variable_dtype == "float32"
            for layer in brain.layers
        )

    def refresh(self, flat_weights):
        """Take over new weights: all of the brain's, in order, as one float32 vector."""
        parts = np.split(flat_weights, np.cumsum([np.prod(shape, dtype=int) for shape in self._shapes])[:-1])
        arrays = [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        biases = [bias[None] for bias in arrays[1::2]]  # [1, width]: for one state no broadcasting, at half the cost
        self._layers = list(zip(arrays[::2], biases, self._relu, strict=True))

    def __call__(self, states):
        """Q-values, float32 [N, actions], of states [N, state_size]."""
        x = states
        for kernel, bias, relu in self._layers:
            x = x.dot(kernel)  # at this size half the cost of `@`
            x += bias
            if relu:
                np.maximum(x, _ZERO, out=x)
        return x
