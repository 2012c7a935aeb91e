"""Networks as data: a stack of layers, read from a configuration that nobody vouches for, and made of it.

A whole-model .h5 and a .keras file hold the configuration of their model as JSON, and the files that `save_weights`
writes hold `described`. Each layer's kind, and each of its options, has to be one of those below, and nothing else is
looked at; shapes are worked out, and bounded, before a layer is made.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from keras_dqn.backend import keras
from keras_dqn.core.networks.heads import Dueling
from keras_dqn.core.networks.layers import LayerNormRelu, ScaledFrames, ScreenDifference
from keras_dqn.expected import Anything, Flag, ListOf, Number, Unexpected, check, shortened

MOST_LAYERS = 100
MOST_NUMBERS = 2**24  # in a state, or from one layer to the next
ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid", "elu", "selu", "softplus", "softsign", "gelu", "silu", "softmax")
OLD_NAMES = {"units": "output_dim", "use_bias": "bias", "rate": "p"}  # in files of Keras 1
STACKS = ("Sequential", "Functional", "Model")
SIZE = Number(int, 1, MOST_NUMBERS)


class OneOf(NamedTuple):
    """One of some texts."""

    texts: tuple[str, ...]

    def check(self, value: Any, place: object) -> str:
        if not isinstance(value, str) or value not in self.texts:
            raise Unexpected(f"{place}: expected one of {', '.join(self.texts)}. Received: {shortened(value)}")
        return value


class Same(NamedTuple):
    """One value and no other, in which case there is nothing to say."""

    values: tuple

    def check(self, value: Any, place: object) -> Any:
        if not any(type(value) is type(one) and value == one for one in self.values):
            raise Unexpected(f"{place}: expected {self.values[0]!r}. Received: {shortened(value)}")
        return self.values[0]


class Pair:
    """A length for each of two axes, or one for both."""

    @staticmethod
    def check(value: Any, place: object) -> list[int]:
        return check([value, value] if isinstance(value, int) else value, (SIZE, SIZE), place)


class Numbers:
    """A number, or one for each element of a state."""

    @staticmethod
    def check(value: Any, place: object) -> Any:
        return check(value, ListOf(Number(), MOST_NUMBERS) if isinstance(value, list) else Number(), place)


class Text:
    """A text."""

    @staticmethod
    def check(value: Any, place: object) -> str:
        if not isinstance(value, str):
            raise Unexpected(f"{place}: expected a text. Received: {shortened(value)}")
        return value


class Axis:
    """One axis, alone or in a list."""

    @staticmethod
    def check(value: Any, place: object) -> int:
        return check(value[0] if isinstance(value, list) and len(value) == 1 else value, Number(int, -1, 10), place)


ACTIVATION = (OneOf(ACTIVATIONS), "linear")
KINDS = {  # {kind: {option: (what is expected, its default)}}; without a default it must be given
    "Dense": {"units": (SIZE,), "activation": ACTIVATION, "use_bias": (Flag(), True)},
    "Conv2D": {
        "filters": (SIZE,),
        "kernel_size": (Pair(),),
        "strides": (Pair(), [1, 1]),
        "padding": (OneOf(("valid", "same")), "valid"),
        "activation": ACTIVATION,
        "use_bias": (Flag(), True),
        "data_format": (Same(("channels_last", None)), "channels_last"),
        "dilation_rate": (Same(([1, 1], 1)), [1, 1]),
        "groups": (Same((1,)), 1),
    },
    "Activation": {"activation": ACTIVATION},
    "ReLU": {
        "max_value": (Same((None,)), None),
        "negative_slope": (Same((0.0, 0)), 0.0),
        "threshold": (Same((0.0, 0)), 0.0),
    },
    "Dropout": {"rate": (Number(float, 0, 0.999),)},
    "Flatten": {},
    "Permute": {"dims": (ListOf(Number(int, 1, 10), 10),)},
    "Rescaling": {"scale": (Numbers(),), "offset": (Numbers(), 0.0)},
    "BatchNormalization": {
        "axis": (Axis(), -1),
        "momentum": (Number(float, 0, 1), 0.99),
        "epsilon": (Number(float, 0, 1), 1e-3),
        "center": (Flag(), True),
        "scale": (Flag(), True),
        "renorm": (Same((False,)), False),
    },
    "LayerNormalization": {
        "axis": (Axis(), -1),
        "epsilon": (Number(float, 0, 1), 1e-3),
        "center": (Flag(), True),
        "scale": (Flag(), True),
        "rms_scaling": (Same((False,)), False),
    },
    # those of `networks`
    "LayerNormRelu": {"epsilon": (Number(float, 0, 1), 1e-5)},
    "ScaledFrames": {},
    "ScreenDifference": {},
    "Dueling": {"action_size": (SIZE,)},
}
OURS = {layer.__name__: layer for layer in (LayerNormRelu, ScaledFrames, ScreenDifference, Dueling)}
SHORT = {"units", "filters", "kernel_size", "strides", "rate", "activation", "action_size"}  # what a line says


class Layer(NamedTuple):
    """A layer: its kind, and its options by name; a "Sequential" has its `layers`."""

    kind: str
    options: dict[str, Any]

    def __str__(self):
        if self.kind == "Sequential":
            return f"({', '.join(map(str, self.options['layers']))})"
        said = [value for name, value in self.options.items() if name in SHORT and value not in ("linear", [1, 1])]
        sizes = ["x".join(map(str, value)) if isinstance(value, list) else str(value) for value in said]
        return " ".join([self.kind, *sizes])


class Network(NamedTuple):
    """A stack of layers on states of a shape and a dtype."""

    state_shape: tuple[int, ...]
    dtype: str
    layers: list[Layer]
    outputs: tuple[int, ...]  # the shape of what comes out
    parameters: int

    def __str__(self):
        return ", ".join(map(str, self.layers))


# ---------------------------------------------------------------- reading


def parsed(config: Any) -> Network:
    """The network that a configuration of Keras 1, 2 or 3 describes, as JSON is parsed.

    Raises:
        Unexpected: it is no stack of the layers that are known here, or one of another size than a network has.
    """
    configs = list(_layer_configs(config, "model", MOST_LAYERS))
    if not configs:
        raise Unexpected(f"model: expected layers. Received: {shortened(config)}")
    first = configs[0][1]
    batch = first.get("batch_shape", first.get("batch_input_shape"))
    if batch is None and "input_dim" in first:  # Keras 1
        batch = [None, first["input_dim"]]
    if batch is None and isinstance(config.get("config"), dict):
        batch = config["config"].get("build_input_shape")
    shape = check(batch[1:] if isinstance(batch, list) else batch, ListOf(SIZE, 10), "model: shape of the states")
    dtype = "uint8" if first.get("dtype") == "uint8" else "float32"
    layers, outputs, parameters = _stack(configs, _bounded(tuple(shape), "model"))
    if (count := _count(layers)) > MOST_LAYERS:
        raise Unexpected(f"model: expected at most {MOST_LAYERS} layers. Received: {count}")
    return Network(tuple(shape), dtype, layers, outputs, parameters)


def _layer_configs(model: Any, place: str, most: int) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """(kind, config, module) of each layer of a model that is a stack, in its order."""
    if not isinstance(model, dict) or model.get("class_name") not in STACKS:
        raise Unexpected(f"{place}: expected a Sequential, or a Functional. Received: {shortened(model)}")
    config = model.get("config")
    layers = config.get("layers") if isinstance(config, dict) else config
    check(layers, ListOf(Anything(), most), f"{place}: layers")
    before = None
    for number, layer in enumerate(layers):
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict | list):
            raise Unexpected(f"{place}: layer {number}: expected a name and a config. Received: {shortened(layer)}")
        kind, name = layer.get("class_name"), layer.get("name")
        if model["class_name"] != "Sequential":
            check(name, Text(), f"{place}: layer {number}: name")
            _check_chain(layer, before, f"{place}: layer {number}")
            before = name
        yield kind, layer if kind in STACKS else layer["config"], layer.get("module")
    if before is not None and (outputs := _sources(config.get("output_layers"))) != [before]:
        raise Unexpected(f"{place}: expected the last layer's outputs. Received: those of {shortened(outputs)}")


def _count(layers: list[Layer]) -> int:
    return sum(_count(layer.options["layers"]) if layer.kind == "Sequential" else 1 for layer in layers)


def _check_chain(layer: dict, before: Any, place: str) -> None:
    """Refuse a layer of a Functional whose inputs are not those of the layer before it alone."""
    sources = _sources(layer.get("inbound_nodes"))
    if set(sources) != (set() if before is None else {before}):
        received = f"{shortened(layer.get('name'))} after {shortened(sources)}"
        raise Unexpected(f"{place}: expected one layer after the other. Received: {received}")


def _sources(nodes: Any) -> list[str]:
    """The names of the layers that the nodes of a layer come from: all that a tensor is taken of."""
    if isinstance(nodes, dict):
        history = nodes.get("keras_history")
        found = [str(history[0])] if isinstance(history, list) and history else []
        return found + [name for value in nodes.values() for name in _sources(value)]
    if isinstance(nodes, list):
        if len(nodes) in (3, 4) and isinstance(nodes[0], str):  # Keras 2: [name, node, tensor, {}]
            return [nodes[0] if nodes[1:3] == [0, 0] else f"{nodes[0]} {nodes[1:3]}"]
        return [name for value in nodes for name in _sources(value)]
    return []


def _stack(configs: list, shape: tuple[int, ...]) -> tuple[list[Layer], tuple[int, ...], int]:
    """Layers on inputs of a shape: (layers, shape of the outputs, parameters)."""
    layers, parameters = [], 0
    for number, (kind, config, module) in enumerate(configs):
        place = f"layer {number}"
        if kind == "InputLayer":
            continue
        before = shape
        if kind in STACKS:
            inner, shape, more = _stack(list(_layer_configs(config, place, MOST_LAYERS)), shape)
            layer = Layer("Sequential", {"layers": inner})
        else:
            layer = _layer(kind, config, module, place)
            shape, more = _after(layer, shape, place)
        parameters += more
        if layer.kind in ("Activation", "ReLU") and layers and layers[-1].options.get("activation") == "linear":
            layers[-1].options["activation"] = layer.options.get("activation", "relu")  # the same, in one layer
        elif layer.kind != "Flatten" or len(before) > 1:
            layers.append(layer)
        _bounded(shape, place)
    return layers, shape, parameters


def _layer(kind: Any, config: Any, module: Any, place: str) -> Layer:
    """A layer with the options that are known of its kind, and no others."""
    kind = kind.removeprefix("keras_dqn>") if isinstance(kind, str) else None  # as Keras names them in .h5
    if kind not in KINDS or not isinstance(config, dict):
        raise Unexpected(f"{place}: expected one of {', '.join(KINDS)}. Received: {shortened(kind)}")
    library = str(module or ("keras_dqn" if kind in OURS else "keras")).split(".")[0]
    if library not in (("keras_dqn",) if kind in OURS else ("keras", "tf_keras")):
        raise Unexpected(f"{place}: expected the {kind} that is known here. Received: one of {shortened(module)}")
    options = {}
    for name, (expected, *default) in KINDS[kind].items():
        value = config.get(name, config.get(OLD_NAMES.get(name), *default))
        options[name] = check(value, expected, f"{place}, {kind}: {name}")
    return Layer(kind, options)


def _bounded(shape: tuple[int, ...], place: str) -> tuple[int, ...]:
    if not shape or math.prod(shape) > MOST_NUMBERS:
        raise Unexpected(f"{place}: expected 1 to {MOST_NUMBERS:,} numbers. Received: shape {shape}")
    return shape


def _after(layer: Layer, shape: tuple[int, ...], place: str) -> tuple[tuple[int, ...], int]:
    """The shape of what a layer makes of inputs of a shape, and how many parameters it has."""
    kind, options = layer
    ranks = {"Conv2D": 3, "ScaledFrames": 3, "ScreenDifference": 4, "Dueling": 1}
    if ranks.get(kind, len(shape)) != len(shape):
        raise Unexpected(f"{place}: expected inputs of {ranks[kind]} axes for {kind}. Received: shape {shape}")
    if kind == "Dense":
        return (*shape[:-1], options["units"]), (shape[-1] + options["use_bias"]) * options["units"]
    if kind == "Conv2D":
        return _convolved(options, shape, place)
    if kind == "Dueling":
        return (options["action_size"],), (shape[0] + 1) * (options["action_size"] + 1)
    if kind == "Flatten":
        return (math.prod(shape),), 0
    if kind == "Permute":
        if sorted(options["dims"]) != list(range(1, len(shape) + 1)):
            raise Unexpected(f"{place}: expected an order of {len(shape)} axes. Received: {options['dims']}")
        return tuple(shape[axis - 1] for axis in options["dims"]), 0
    if kind == "ScaledFrames":
        return (*shape[1:], shape[0]), 0
    if kind == "ScreenDifference":
        if shape[0] != 2:
            raise Unexpected(f"{place}: expected two screens. Received: shape {shape}")
        return shape[1:], 0
    if kind == "Rescaling":
        for name, value in options.items():
            if isinstance(value, list) and len(value) != shape[-1]:
                raise Unexpected(f"{place}: {name}: expected {shape[-1]} numbers. Received: {len(value)}")
    if "axis" in options:
        if options["axis"] not in (-1, len(shape)):
            raise Unexpected(f"{place}: expected the last axis of {len(shape)}. Received: {options['axis']}")
        options["axis"] = -1
    per_axis = {"BatchNormalization": 4, "LayerNormalization": 2}
    return shape, 2 * math.prod(shape) if kind == "LayerNormRelu" else per_axis.get(kind, 0) * shape[-1]


def _convolved(options: dict[str, Any], shape: tuple[int, ...], place: str) -> tuple[tuple[int, ...], int]:
    """As `_after`, of a convolution."""
    size, filters = [], options["filters"]
    for length, kernel, stride in zip(shape, options["kernel_size"], options["strides"], strict=False):
        size.append(-(-length // stride) if options["padding"] == "same" else (length - kernel) // stride + 1)
    if min(size) < 1:
        raise Unexpected(f"{place}: expected kernels that fit into {shape}. Received: {options['kernel_size']}")
    return (*size, filters), filters * (math.prod(options["kernel_size"]) * shape[-1] + options["use_bias"])


# ---------------------------------------------------------------- making, and describing


def made(network: Network) -> "keras.Sequential":
    """A built Keras model of the network, in float32, with fresh weights."""
    layers = [keras.Input(network.state_shape, dtype=network.dtype), *_made(network.layers)]
    return keras.Sequential(layers, name="network")


def _made(layers: list[Layer]) -> list:
    """The layers of Keras."""
    made = []
    for number, (kind, options) in enumerate(layers, 1):
        common = {"dtype": "float32", "name": f"{kind.lower()}_{number}"}
        if kind == "Sequential":
            made.append(keras.Sequential(_made(options["layers"]), name=common["name"]))
        elif kind == "Dueling":
            size = options["action_size"]
            made.append(Dueling(size, keras.layers.Dense(size + 1, dtype="float32", name="output"), **common))
        else:
            said = {name: value for name, value in options.items() if not isinstance(KINDS[kind][name][0], Same)}
            made.append((OURS.get(kind) or getattr(keras.layers, kind))(**said, **common))
    return made


def network_of(model: Any) -> Network | None:
    """The network that a Keras model is, or None where it is none that can be described."""
    try:
        return parsed(json.loads(model.to_json()))
    except Exception:  # whatever its author's layers do when they are asked
        return None


def described(network: Network) -> dict[str, Any]:
    """A configuration that `parsed` makes the network of."""
    inputs = {"batch_shape": [None, *network.state_shape], "dtype": network.dtype}
    layers = [{"class_name": "InputLayer", "config": inputs}, *map(_described, network.layers)]
    return {"class_name": "Sequential", "config": {"layers": layers}}


def _described(layer: Layer) -> dict[str, Any]:
    inner = layer.options.get("layers")
    options = layer.options if inner is None else {"layers": [_described(one) for one in inner]}
    return {"class_name": layer.kind, "config": options}
