"""Networks as data: a stack of known layers, from a configuration that nobody vouches for.

A whole-model .h5 and a .keras file hold the configuration of their model as JSON, and the files that `save_weights`
writes hold that of `network_of`. Only the layers and options below are looked at, and handed to Keras as plain numbers
and words; a layer is built when it is known to have no more parameters than there are in the file.
"""

import json
import math
import re
from typing import Any

from keras_dqn.backend import keras

MOST_BYTES = 2**17  # of a configuration
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
    "Reshape": ("target_shape",),
    "Rescaling": ("scale", "offset"),
    "BatchNormalization": (*NORMALIZATION, "momentum"),
    "LayerNormalization": (*NORMALIZATION, "rms_scaling"),
    # those of keras_dqn, which the modules that define them register with Keras
    "LayerNormRelu": ("epsilon",),
    "ScaledFrames": (),
    "ScreenDifference": (),
    "Dueling": ("action_size", "atoms"),
    "NoisyDense": ("units", "activation", "sigma"),
}
OLD_NAMES = {"output_dim": "units", "bias": "use_bias", "p": "rate"}  # in files of Keras 1
WIDTHS = ("units", "filters", "action_size")
SAID = (*WIDTHS, "kernel_size", "pool_size", "strides", "rate", "activation")  # of a layer, in words

Config = dict[str, Any]  # of a layer or model, as Keras has it: its `class_name` and its `config`


def network_of(model: keras.Model) -> Config | None:
    """The network that a Keras model is, or None where it is no stack of known layers."""
    try:
        return parsed(model.to_json())
    except Exception:  # whatever its author's layers do when they are asked
        return None


def told_network(text: str | None) -> tuple[Config | None, str]:
    """The network that the configuration in a file describes, and where it describes none, why."""
    if text is None:
        return None, "it has no configuration"
    try:
        return parsed(text), ""
    except Exception as error:  # of whatever kind: what Keras, or JSON, makes of it
        return None, str(error)[:500] if isinstance(error, ValueError) else repr(error)[:500]


def in_words(network: Config) -> str:
    """A network in a line: "Dense 24 relu, Dense 2"."""
    layers = [(layer["class_name"], layer["config"]) for layer in network["config"]["layers"][1:]]
    unsaid = (None, "linear", [1, 1])
    said = [[kind, *(config[name] for name in SAID if config.get(name) not in unsaid)] for kind, config in layers]
    return ", ".join(" ".join(map(str, words)) for words in said)


# ---------------------------------------------------------------- reading


def parsed(text: str) -> Config:
    """The Sequential of known layers, all their options spelled out, that a configuration of Keras 1, 2 or 3 describes.

    It begins with an `InputLayer`. Raises whatever tells why there is none.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"expected a configuration of at most {MOST_BYTES} bytes. Received: {len(text)}")
    model = json.loads(text)
    chain = _chain(model)
    first = chain[0]["config"]
    batch = first.get("batch_shape") or first.get("batch_input_shape") or [None, first.get("input_dim")]
    shape = (model["config"]["build_input_shape"] if batch == [None, None] else batch)[1:]
    if not all(type(length) is int and length > 0 for length in shape) or math.prod(shape) > MOST_NUMBERS:
        raise ValueError(f"expected states of 1 to {MOST_NUMBERS:,} numbers. Received: shape {shape}")
    inputs = {"batch_shape": [None, *shape], "dtype": "uint8" if first.get("dtype") == "uint8" else "float32"}
    layers = [{"class_name": "InputLayer", "config": inputs}, *_layers(chain, shape)]
    return {"class_name": "Sequential", "config": {"layers": layers}}


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


def made(network: Config, most: int) -> keras.Sequential:
    """A built Keras model of the network, in float32, with fresh weights, of which there are at most about `most`.

    Raises whatever tells why there is none.
    """
    first, *layers = network["config"]["layers"]
    shape = first["config"]["batch_shape"][1:]
    return keras.Sequential([keras.Input(shape, dtype=first["config"]["dtype"]), *_built(layers, shape, most)])


def _built(layers, shape, left):
    """Layers of Keras, on inputs of that shape, with no more parameters than are left."""
    built = []
    for number, layer in enumerate(layers, 1):
        kind, options = layer["class_name"], layer["config"]
        if kind == "Sequential":
            built.append(keras.Sequential(_built(options["layers"], shape, left)))
        else:
            built.append(_make(kind, options, name=f"{kind.lower()}_{number}"))
        after = built[-1].compute_output_shape((None, *shape))[1:]
        width = max(options.get(width, 0) for width in WIDTHS)
        each = math.prod(options.get("kernel_size", ())) * (options.get("atoms") or 1)
        needed = shape[-1] * width * each // options.get("groups", 1)  # or more
        if needed > left or not 0 < math.prod(after) <= MOST_NUMBERS:
            received = f"{needed:,} parameters and outputs of shape {after}, where the file has {left:,} more"
            raise ValueError(f"expected a {kind} that the file has room for. Received: {received}")
        built[-1].build((None, *shape))
        shape, left = after, left - built[-1].count_params()
    return built
