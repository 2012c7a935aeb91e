"""Networks as data: a stack of known layers, from a configuration that nobody vouches for.

A whole-model .h5 and a .keras file hold the configuration of their model as JSON, and the files that `save_weights`
writes hold `described`. Only the layers and options below are looked at, and handed to Keras as plain numbers and
words; a layer is built when it is known to have no more parameters than there are in the file.
"""

import json
import math
import re
from typing import Any, NamedTuple

from keras_dqn.backend import keras

MOST_LAYERS = 100
MOST_NUMBERS = 2**22  # in a state, or from one layer to the next
STACKS = ("Sequential", "Functional", "Model")
WINDOW = ("strides", "padding", "data_format")
NORMALIZATION = ("axis", "epsilon", "center", "scale")
KINDS = {  # {layer: its options}
    "Dense": ("units", "activation", "use_bias"),
    "Conv2D": ("filters", "kernel_size", *WINDOW, "dilation_rate", "groups", "activation", "use_bias"),
    "MaxPooling2D": ("pool_size", *WINDOW),
    "AveragePooling2D": ("pool_size", *WINDOW),
    "Activation": ("activation",),
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "Dropout": ("rate",),
    "Flatten": (),
    "Permute": ("dims",),
    "Rescaling": ("scale", "offset"),
    "BatchNormalization": (*NORMALIZATION, "momentum"),
    "LayerNormalization": (*NORMALIZATION, "rms_scaling"),
    # those of keras_dqn, which the modules that define them register with Keras
    "LayerNormRelu": ("epsilon",),
    "ScaledFrames": (),
    "ScreenDifference": (),
    "Dueling": ("action_size",),
}
OLD_NAMES = {"output_dim": "units", "bias": "use_bias", "p": "rate"}  # in files of Keras 1
WIDTHS = ("units", "filters", "action_size")
SHORT = (*WIDTHS, "kernel_size", "pool_size", "strides", "rate", "activation")  # what a line says of a layer


class Network(NamedTuple):
    """A stack of layers on states of a shape and a dtype; each has a `class_name` and a `config`, as Keras has it."""

    state_shape: tuple[int, ...]
    dtype: str
    layers: list[dict[str, Any]]

    def __str__(self):
        return _line(self.layers)


def _line(layers):
    said = []
    for layer in layers:
        kind, options = layer["class_name"], layer["config"]
        values = [options[name] for name in SHORT if options.get(name) not in (None, "linear", [1, 1])]
        words = [kind, *("x".join(map(str, value)) if isinstance(value, list) else str(value) for value in values)]
        said.append(f"({_line(options['layers'])})" if kind == "Sequential" else " ".join(words))
    return ", ".join(said)


def network_of(model: Any) -> Network | None:
    """The network that a Keras model is, or None where it is none that can be described."""
    try:
        return parsed(model.to_json())
    except Exception:  # whatever its author's layers do when they are asked
        return None


def described(network: Network) -> str:
    """A configuration, JSON, that `parsed` makes the network of."""
    inputs = {"batch_shape": [None, *network.state_shape], "dtype": network.dtype}
    layers = [{"class_name": "InputLayer", "config": inputs}, *network.layers]
    return json.dumps({"class_name": "Sequential", "config": {"layers": layers}}, separators=(",", ":"), sort_keys=True)


# ---------------------------------------------------------------- reading


def parsed(text: str) -> Network:
    """The network that a configuration of Keras 1, 2 or 3, in JSON, describes; raises whatever tells why it is none."""
    if len(text) > 2**20 or text.count('"class_name"') > 10 * MOST_LAYERS:  # initializers have one too
        raise ValueError(f"expected a configuration of at most {MOST_LAYERS} layers. Received: {len(text)} bytes")
    model = json.loads(text)
    chain = _chain(model)
    first = chain[0]["config"]
    batch = first.get("batch_shape") or first.get("batch_input_shape") or [None, first.get("input_dim")]
    shape = tuple(model["config"]["build_input_shape"] if batch == [None, None] else batch)[1:]
    if not all(type(length) is int and length > 0 for length in shape) or math.prod(shape) > MOST_NUMBERS:
        raise ValueError(f"expected states of 1 to {MOST_NUMBERS:,} numbers. Received: shape {shape}")
    return Network(shape, "uint8" if first.get("dtype") == "uint8" else "float32", _layers(chain, shape))


def _chain(model):
    """The configurations of the layers of a model, which must follow one another."""
    if model["class_name"] not in STACKS:
        raise ValueError(f"expected one of {', '.join(STACKS)}. Received: {model['class_name']!r}")
    config = model["config"]
    layers, before = config["layers"] if isinstance(config, dict) else config, []
    if model["class_name"] == "Sequential":
        return layers
    for layer in [*layers, {"name": "the output", "inbound_nodes": config["output_layers"]}]:
        # the layers that its tensors are of, ["dense", 0, 0], once for each
        sources = re.findall(r'\["((?:[^"\\]|\\.)*)", \d+, \d+', json.dumps(layer["inbound_nodes"]))
        if sources != before:
            raise ValueError(f"expected one layer after the other. Received: {layer['name']!r} after {sources}")
        before = [layer["name"]]
    return layers


def _layers(chain, shape=()):
    """The layers of configurations, without what makes no difference, with the options as Keras spells them out."""
    layers = []
    for config in chain:
        kind = config["class_name"].removeprefix("keras_dqn>")  # as Keras names them in .h5
        if kind in STACKS:
            layers.append({"class_name": "Sequential", "config": {"layers": _layers(_chain(config))}})
        elif kind != "InputLayer":
            options = _options(kind, config)
            if kind == "ReLU" and not any(options.values()):
                kind, options = "Activation", {"activation": "relu"}
            if kind == "Activation" and layers and layers[-1]["config"].get("activation") == "linear":
                layers[-1]["config"].update(options)  # the same, in one layer
            elif kind != "Flatten" or layers or len(shape) != 1:
                layers.append({"class_name": kind, "config": options})
    if not 0 < len(layers) <= MOST_LAYERS:
        raise ValueError(f"expected 1 to {MOST_LAYERS} layers. Received: {len(layers)}")
    return layers


def _options(kind, layer):
    module = layer.get("module") or "keras"
    if kind not in KINDS or module.split(".")[0] not in ("keras", "tf_keras", "keras_dqn"):
        raise ValueError(f"expected one of {', '.join(KINDS)}. Received: {kind!r} of {module!r}")
    config = {OLD_NAMES.get(name, name): value for name, value in layer["config"].items()}
    options = {name: config[name] for name in KINDS[kind] if name in config}
    if isinstance(axis := options.get("axis"), list) and len(axis) == 1:
        options["axis"] = axis[0]
    if not all(map(_is_plain, options.values())):
        raise ValueError(f"expected numbers and words for the options of {kind}. Received: {options}")
    spelled_out = _make(kind, options).get_config()
    return json.loads(json.dumps({name: spelled_out[name] for name in KINDS[kind]}))


def _is_plain(value):
    if isinstance(value, list):
        return all(isinstance(item, int | float) and _is_plain(item) for item in value)
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and abs(value) < 2**31)


def _make(kind, options, **more):
    cls = keras.saving.get_registered_object(f"keras_dqn>{kind}") or getattr(keras.layers, kind)
    return cls(**options, dtype="float32", **more)


# ---------------------------------------------------------------- making


def made(network: Network, most: int) -> "keras.Sequential":
    """A built Keras model of the network, in float32, with fresh weights, of which there must be 1 to `most`.

    Raises whatever tells why there is none.
    """
    layers, _, left = _built(network.layers, network.state_shape, most)
    if left == most:
        raise ValueError(f"expected layers with weights. Received: {network}")
    return keras.Sequential([keras.Input(network.state_shape, dtype=network.dtype), *layers], name="network")


def _built(layers, shape, left):
    """(layers of Keras, the shape of their outputs, how many more parameters there may be)."""
    built = []
    for number, layer in enumerate(layers, 1):
        kind, options = layer["class_name"], layer["config"]
        name = f"{kind.lower()}_{number}"
        if kind == "Sequential":
            inner, shape, left = _built(options["layers"], shape, left)
            built.append(keras.Sequential(inner, name=name))
            continue
        built.append(_make(kind, options, name=name))
        after = built[-1].compute_output_shape((None, *shape))[1:]
        width = max(options.get(width, 0) for width in WIDTHS)
        needed = shape[-1] * width * math.prod(options.get("kernel_size", ())) // options.get("groups", 1)
        if needed <= left and 0 < math.prod(after) <= MOST_NUMBERS:
            built[-1].build((None, *shape))
            needed = built[-1].count_params()
        if needed > left or not 0 < math.prod(after) <= MOST_NUMBERS:
            received = f"{needed:,} parameters and outputs of shape {after}, where the file has {left:,} more"
            raise ValueError(f"expected a {kind} that the file has room for. Received: {received}")
        shape, left = after, left - needed
    return built, shape, left
