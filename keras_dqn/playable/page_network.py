"""A trained network as the page reads it: its layers and their weights, for network.js."""

import base64

import numpy as np

from keras_dqn.backend import keras
from keras_dqn.core.networks.heads import Dueling

_ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid", "elu")  # as network.js has them


def described(brain: "keras.Model") -> dict:
    """The layers of a network and their float32 weights, as network.js reads them.

    Raises:
        ValueError: it is no `keras.Sequential`, or has a layer that the page cannot run.
    """
    if not isinstance(brain, keras.Sequential):
        kind = f"{type(brain).__module__}.{type(brain).__name__}"
        raise ValueError(f"The page runs a network that is a keras.Sequential. Received: {kind}")
    layers, arrays, size = [], [], brain.input_shape[-1]
    for layer in brain.layers:
        for description, *weights in _parts(layer, size):
            layers.append(description)
            arrays += [np.asarray(weight, "<f4").ravel() for weight in weights]
            size = description.get("outputs", size)
    return {"layers": layers, "weights": base64.b64encode(np.concatenate(arrays).tobytes()).decode()}


def _parts(layer, size):
    """What a layer with inputs [B, size] is to network.js: a list of (description, weights…)."""
    if type(layer) is keras.layers.Rescaling and np.ndim(layer.scale) <= 1 and np.ndim(layer.offset) <= 1:
        scale, offset = (np.broadcast_to(numbers, (size,)) for numbers in (layer.scale, layer.offset))
        return [({"kind": "rescaling", "size": size}, scale, offset)]
    if type(layer) is Dueling:
        return [*_parts(layer.value_and_advantages, size), ({"kind": "dueling"},)]
    if type(layer) is keras.layers.Dropout:  # it is for training alone
        return []
    activation = getattr(getattr(layer, "activation", None), "__name__", None)
    known = activation in _ACTIVATIONS and layer.activation is getattr(keras.activations, activation)
    if type(layer) is not keras.layers.Dense or not known or layer.compute_dtype != "float32":
        raise ValueError(
            f"The page runs layers of Rescaling, Dueling, and Dense with {', '.join(_ACTIVATIONS)}, in float32. "
            f"Received: {layer.name!r}, {type(layer).__name__} with {activation}, {layer.compute_dtype}"
        )
    bias = layer.bias if layer.use_bias else np.zeros(layer.units)
    return [({"kind": "dense", "inputs": size, "outputs": layer.units, "activation": activation}, layer.kernel, bias)]
