"""A training in a file: the options of `train` under their names, the settings of the agent in a table.

    game = "cartpole"
    recipe = "fast"
    evaluate_every = 500

    [agent]
    gamma = 0.99
    network = {hidden = [64, 64]}
    exploration = {class = "Linear", start = 1.0, end = 0.05, steps_to_end = 3000}
    optimizer = {class = "Adam", learning_rate = 0.0005, clipvalue = 1.0}

`keras-dqn train --config FILE` reads it, and a training leaves one beside its weights, with every setting. The file is
read as data: a schedule, an optimizer and a network are names and numbers. A function, like that of `shape_reward`, is
"module:name", and its module is imported; a network that a function makes is `{function = "module:name", width = 8}`.
"""

import ast
import inspect
import pkgutil
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_origin

import tomli_w

from keras_dqn.checks import check_name, check_number, check_type, members
from keras_dqn.core.exploration import Blocks, Exponential, Linear, OverTraining, Pieces
from keras_dqn.core.settings import Settings
from keras_dqn.files.atomic import atomic_write
from keras_dqn.version import VERSION

if TYPE_CHECKING:
    from keras_dqn.training.runner import Runner

AGENT = (*Settings.names(), "network", "replay_every")  # what goes into the table
SCHEDULES = {kind.__name__: kind for kind in (Linear, Exponential, Blocks, Pieces, OverTraining)}


def checked(values: dict[str, Any], types: dict[str, Any], what: str = "setting") -> dict[str, Any]:
    """The values, each of its type; what is no text there is read from a text as Python writes it, and "none" is None.

    Raises:
        ValueError: there is no setting of such a name, or a value is not of its type; the message names it.
    """
    for name in values:
        check_name(name, types, what)
    values = {name: _from_text(types[name], value) for name, value in values.items()}
    # what a text or a table says of a function is looked at where it is made
    by_name = {name for name in values if any(get_origin(kind) is Callable for kind in members(types[name]))}
    return {name: one if name in by_name else check_type(name, types[name], one) for name, one in values.items()}


def _from_text(annotation, value):
    kinds = members(annotation)
    if value == "none" and (NoneType in kinds or Any in kinds):
        return None
    try:
        return value if str in kinds or not isinstance(value, str) else ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value


def read(path: str | Path, types: dict[str, Any]) -> dict[str, Any]:
    """What a file says, its table of the agent included; all of it must be of these types.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML, or there is no setting of such a name or of such a value.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # UnicodeDecodeError, too
        raise ValueError(f"{path}: expected TOML. Received: {error}") from error
    table = content.pop("agent") if isinstance(content.get("agent"), dict) else {}
    try:
        return checked({**content, **table}, types)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


# ---------------------------------------------------------------- from names and numbers to objects


def keywords(values: dict[str, Any]) -> dict[str, Any]:
    """Settings of a game and its agent, as a file has them, as keywords of a `Runner`.

    Raises:
        ValueError: one of them says nothing.
        ImportError: the module of a function cannot be imported.
    """
    makers = {"network": _network, "optimizer": _optimizer, "exploration": _schedule}
    makers |= {"learning_rate_schedule": _schedule, "shape_reward": _shape_reward}
    makers |= {"objective": _objective, "priority_beta": _number_or_schedule}
    return {
        name: value if value is None or name not in makers else makers[name](name, value)
        for name, value in values.items()
    }


def _function(setting, value, *arguments, **options):
    """The function of a text, "module:name", which must take these; importing its module executes that."""
    if ":" not in str(value):
        raise ValueError(f'`{setting}` must be a function, "module:name". Received: {value!r}')
    try:
        function = pkgutil.resolve_name(value)
    except Exception as error:  # a module runs, and may raise anything
        raise ImportError(f"`{setting}` cannot be imported from {value!r}. Received: {error!r}") from error
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        takes = ", ".join([*arguments, *options])
        raise ValueError(f"`{setting}` must be a function of {takes}. Received: {value!r}, {error}") from error
    return function


def _shape_reward(setting, value):
    return _function(setting, value, "states", "actions", "rewards", "next_states")


def _network(setting, value):
    from keras_dqn.core.networks.mlp import mlp

    if not isinstance(value, dict):
        value = {"hidden": value} if isinstance(value, list | tuple) else {"function": value}
    options = {name: one for name, one in value.items() if name != "function"}
    if "function" in value:
        function = _function(setting, value["function"], "state_shape", "action_size", seed=None, **options)
        return partial(function, **options) if options else function
    _, _, *known, _ = inspect.signature(mlp).parameters.values()  # but for the sizes and the seed
    return checked(options, {one.name: one.annotation for one in known}, "option of a network")


def _schedule(setting, value):
    kind, options = _class(setting, value, SCHEDULES)
    try:
        schedule = Pieces(*map(tuple, options["points"])) if kind == "Pieces" else SCHEDULES[kind](**options)
        check_number(setting, schedule(1))
    except (TypeError, KeyError, ValueError, ArithmeticError) as error:
        raise ValueError(f"`{setting}` must have the fields of {kind}. Received: {value!r}") from error
    return schedule


def _number_or_schedule(setting, value):
    return value if isinstance(value, int | float) else _schedule(setting, value)


def _objective(setting, value):
    from keras_dqn.core.learner import OBJECTIVES

    if isinstance(value, str):
        return value
    classes = {one.__name__: one for one in OBJECTIVES.values()}
    kind, options = _class(setting, value, classes)
    try:
        return classes[kind](**options)
    except TypeError as error:
        raise ValueError(f"`{setting}` must have the arguments of {kind}. Received: {value!r}") from error


def _optimizer(setting, value):
    from keras_dqn.backend import keras

    known = {name for name, one in vars(keras.optimizers).items() if isinstance(one, type)} - {"Optimizer"}
    kind, options = _class(setting, value, known)
    make = partial(keras.optimizers.deserialize, {"class_name": kind, "config": options})
    try:
        make()
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{setting}` must be one of Keras's. Received: {value!r}: {error}") from error
    return make


def _class(setting, value, known):
    """The name of a class, which must be known, and its options, which are numbers and lists of them."""
    options = dict(value) if isinstance(value, dict) else {"class": value}
    if any(isinstance(one, dict) for one in options.values()):
        raise ValueError(f"`{setting}` must be a class with numbers. Received: {value!r}")
    return check_name(options.pop("class", None), known, f"class for `{setting}`"), options


# ---------------------------------------------------------------- a file that describes a training


def write(path: Path, given: dict[str, Any], runner: "Runner") -> None:
    """Write the options that were given to a training, and all settings, into a file, whole or not at all."""
    told = {name: "none" if value is None else value for name, value in given.items()}
    told |= {"config": None, "resume": None}  # what is None is not written
    settings = {**runner.settings, "recipe": runner.recipe}
    settings |= {"episodes": None if runner.steps else runner.episodes, "brain": None}
    settings["learning_rate"] = None  # the optimizer has it
    content = {**told, **settings, **told}
    agent = {name: content.pop(name) for name in AGENT if name in content}
    text = tomli_w.dumps(_as_toml({**content, "agent": agent}))
    with atomic_write(path) as temporary:
        temporary.write_text(f"# keras_dqn {VERSION}\n\n{text}", encoding="utf-8")


def _as_toml(value):
    """The same without what is None in its tables, which TOML does not have, and with functions by their names."""
    if not isinstance(value, dict):
        return value
    if "encloses" not in value:
        return {name: _as_toml(one) for name, one in value.items() if one is not None}
    function, (*_, arguments) = ":".join(value["function"].rsplit(".", 1)), value.get("arguments", [{}])
    return {"function": function, **arguments} if arguments else function
