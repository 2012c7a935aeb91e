"""The networks that see: on stacks of frames (Mnih et al. 2015), and on differences of screens."""

from keras_dqn.backend import keras
from keras_dqn.checks import Seed, seed_sequence
from keras_dqn.core.networks.layers import LayerNormRelu, NoisyDense, ScaledFrames, ScreenDifference, head


def nature_cnn(
    state_shape: tuple[int, ...],
    action_size: int | tuple[int, int],
    seed: Seed = None,
    dtype: str = "float32",
    normalization: str | None = None,
    dueling: bool = False,
    noisy: bool = False,
) -> "keras.Model":
    """The network of Mnih et al. 2015 (Nature): three convolutions and a Dense layer of 512 on stacks of frames.

    Args:
        state_shape: (stack, height, width), (4, 84, 84) in the paper.
        action_size: number of actions, and of outputs (linear); or (actions, atoms), where each has so many outputs.
        seed: of the initial weights; an int, a `np.random.SeedSequence`, or None for fresh entropy.
        dtype: Keras dtype policy of the hidden layers; "mixed_bfloat16" is faster where the processor has it.
        normalization: "layer" normalizes what goes into each relu over all of its units, from orthogonal initial
            weights (PQN, Gallici et al. 2025); None is the paper's network.
        dueling: whether the head is a `Dueling` layer.
        noisy: whether the Dense layers are `NoisyDense`, which explore by themselves.

    Returns:
        A built `keras.Sequential`, uint8 [B, stack, height, width] to Q-values, float32 [B, action_size], or to
        [B, actions, atoms].

    Raises:
        ValueError: there is no such normalization, or not with `dueling` or `noisy`.
    """
    if normalization is not None:
        if dueling or noisy:
            raise ValueError(f"`normalization` is without them. Received: dueling={dueling}, noisy={noisy}")
        return _normalized_cnn(state_shape, action_size, seed, dtype, normalization)
    layers, seeds = keras.layers, iter(seed_sequence(seed).generate_state(5).tolist())

    def convolution(number, filters, size, stride):
        kernel = keras.initializers.HeUniform(seed=next(seeds))
        options = {"kernel_initializer": kernel, "dtype": dtype, "name": f"convolution_{number}"}
        return layers.Conv2D(filters, size, stride, activation="relu", **options)

    def dense(name, width, activation, dtype):
        if noisy:
            return NoisyDense(width, activation, seed=next(seeds), dtype=dtype, name=name)
        kernel = keras.initializers.GlorotUniform(seed=next(seeds))
        return layers.Dense(width, activation=activation, kernel_initializer=kernel, dtype=dtype, name=name)

    return keras.Sequential(
        [
            keras.Input(state_shape, dtype="uint8"),
            ScaledFrames(dtype=dtype),
            convolution(1, 32, 8, 4),
            convolution(2, 64, 4, 2),
            convolution(3, 64, 3, 1),
            layers.Flatten(dtype=dtype),
            dense("hidden", 512, "relu", dtype),
            *head(lambda width: dense("output", width, "linear", "float32"), action_size, dueling),
        ],
        name="nature_cnn",  # and no name with a number of Keras': see `networks.mlp`
    )


def _normalized_cnn(state_shape, action_size, seed, dtype, normalization):
    if normalization != "layer":
        raise ValueError(f'`normalization` must be "layer" or None. Received: {normalization!r}')
    layers, seeds = keras.layers, iter(seed_sequence(seed).generate_state(5).tolist())

    def options(name, gain=2**0.5, dtype=dtype):
        kernel = keras.initializers.Orthogonal(gain, seed=next(seeds))
        return {"kernel_initializer": kernel, "dtype": dtype, "name": name}

    network = [keras.Input(state_shape, dtype="uint8"), ScaledFrames(dtype=dtype)]
    for number, (filters, size, stride) in enumerate(((32, 8, 4), (64, 4, 2), (64, 3, 1)), 1):
        network.append(layers.Conv2D(filters, size, stride, **options(f"convolution_{number}")))
        network.append(LayerNormRelu(dtype=dtype, name=f"normalization_{number}"))
    network += [layers.Flatten(), layers.Dense(512, **options("hidden")), LayerNormRelu(name="normalization_hidden")]
    network += head(lambda width: layers.Dense(width, **options("output", 1.0, "float32")), action_size)
    return keras.Sequential(network, name="nature_cnn")


def difference_cnn(state_shape: tuple[int, ...], action_size: int, seed: Seed = None) -> "keras.Model":
    """The network of a notebook of 2018: four 5x5 convolutions of stride 2, batch-normalized, on a `ScreenDifference`.

    Its 165x140 pixels become 7x5 with 32 filters: 1120 numbers go into the linear head.

    Args:
        state_shape: (2, height, width, 3), (2, 165, 140, 3) in the notebook.
        action_size: number of actions, and of outputs (linear).
        seed: of the initial weights; an int, a `np.random.SeedSequence`, or None for fresh entropy.

    Returns:
        A built `keras.Sequential`, uint8 [B, 2, height, width, 3] to Q-values, float32 [B, action_size].
    """
    layers, seeds = keras.layers, iter(seed_sequence(seed).generate_state(5).tolist())

    def kernel():
        return keras.initializers.GlorotUniform(seed=next(seeds))

    network = [keras.Input(state_shape, dtype="uint8"), ScreenDifference(dtype="float32")]
    for number, filters in enumerate((16, 32, 32, 32), 1):
        network += [
            layers.Conv2D(filters, 5, 2, kernel_initializer=kernel(), dtype="float32", name=f"convolution_{number}"),
            # momentum and epsilon are what PyTorch, where this is from, has by default
            layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype="float32", name=f"normalization_{number}"),
            layers.Activation("relu", dtype="float32"),
        ]
    network.append(layers.Flatten(dtype="float32"))
    network.append(layers.Dense(action_size, kernel_initializer=kernel(), dtype="float32", name="output"))
    return keras.Sequential(network, name="difference_cnn")
