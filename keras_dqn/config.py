"""A training in a file: the options of `train` under their names, the settings of the agent in a table.

    game = "cartpole"
    recipe = "fast"
    evaluate_every = 500

    [agent]
    gamma = 0.99
    network = {hidden = [64, 64]}
    exploration = {class = "Linear", start = 1.0, end = 0.05, steps_to_end = 3000}
    optimizer = {class = "Adam", learning_rate = 0.0005, clipvalue = 1.0}

`keras-dqn train --config FILE` reads it, and a training that has ended leaves one beside its weights, with every
setting. The file is read as data: a schedule, an optimizer and a network are names and numbers. A network that a
function makes is `{function = "nature_cnn", normalization = "layer"}`; a function of your own, like that of
`shape_reward`, is "module:name", and its module is imported.
"""

import ast
import importlib
import inspect
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any

import tomli_w

from keras_dqn.checks import check_integer, check_name, check_number, check_type, members
from keras_dqn.core.exploration import Blocks, Exponential, Linear, OverTraining, Pieces
from keras_dqn.core.settings import Settings
from keras_dqn.files.atomic import atomic_write
from keras_dqn.version import __version__

if TYPE_CHECKING:
    from keras_dqn.training.runner import Runner

AGENT = (*Settings.names(), "network", "replay_every")  # what goes into the table
SCHEDULES = {kind.__name__: kind for kind in (Linear, Exponential, Blocks, Pieces, OverTraining)}
FUNCTIONS = {  # those that have names of their own
    "nature_cnn": "keras_dqn.core.networks.atari:nature_cnn",
    "difference_cnn": "keras_dqn.core.networks.atari:difference_cnn",
    "clipped": "keras_dqn.games.breakout:clipped",
}


def _check_widths(name, value):
    if not isinstance(value, list | tuple):
        raise ValueError(f"`{name}` must be a list of whole numbers. Received: {value!r}")
    return [check_integer(name, one) for one in value]


def _check_numbers(name, value):
    for one in value if isinstance(value, list | tuple) else [value]:
        check_number(name, one)
    return value


MLP = {  # what `networks.mlp` takes
    "hidden": Annotated[Any, _check_widths],
    "activation": str,
    "dueling": bool,
    "center": Annotated[Any, _check_numbers],
    "scale": Annotated[Any, _check_numbers],
    "initializer": str,
    "normalization": str | None,
}


def checked(values: dict[str, Any], types: dict[str, Any], what: str = "setting") -> dict[str, Any]:
    """The values, each of its type; what is no text there is read from a text as Python writes it, and "none" is None.

    Raises:
        ValueError: there is no setting of such a name, or a value is not of its type; the message names it.
    """
    for name in values:
        check_name(name, types, what)
    return {name: check_type(name, types[name], _from_text(types[name], value)) for name, value in values.items()}


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
    table = content.pop("agent", {})
    if not isinstance(table, dict):
        raise ValueError(f"{path}: [agent] must be a table. Received: {table!r}")
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
    return {
        name: value if value is None or name not in makers else makers[name](name, value)
        for name, value in values.items()
    }


def function_called(setting: str, name: str) -> Callable[..., Any]:
    """The function of a name, one of `FUNCTIONS` or "module:name"; importing its module executes that.

    Raises:
        ValueError: there is none.
        ImportError: there is no such module, or it cannot be imported.
    """
    module, _, attribute = FUNCTIONS.get(str(name), str(name)).partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), attribute]):
        raise ValueError(f"`{setting}` must be a function: {', '.join(FUNCTIONS)}, or module:name. Received: {name!r}")
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        raise
    except Exception as error:  # it runs, and may raise anything
        raise ImportError(f"The module {module!r} cannot be imported. Received: {error!r}") from error
    if not callable(function):
        raise ValueError(f"`{setting}` must be a function: there is no {attribute} in {module}. Received: {name!r}")
    return function


def _network(setting, value):
    options = {"function": value} if isinstance(value, str) else value
    if not isinstance(options, dict):
        raise ValueError(f'`{setting}` must be options, like {{"hidden": (64, 64)}}. Received: {value!r}')
    if "function" in options:
        arguments = {name: one for name, one in options.items() if name != "function"}
        function = function_called(setting, options["function"])
        _check_takes(setting, function, "state_shape", "action_size", seed=None, **arguments)
        return partial(function, **arguments) if arguments else function
    return checked(options, MLP, "option of a network")


def _shape_reward(setting, value):
    function = function_called(setting, value)
    _check_takes(setting, function, "states", "actions", "rewards", "next_states")
    return function


def _check_takes(setting, function, *arguments, **options):
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        takes = ", ".join([*arguments, *options])
        raise ValueError(f"`{setting}` must be a function of {takes}. Received: {error}") from error


def _schedule(setting, value):
    kind, options = _class(setting, value, SCHEDULES)
    try:
        schedule = Pieces(*map(tuple, options["points"])) if kind == "Pieces" else SCHEDULES[kind](**options)
        check_number(setting, schedule(1))
    except (TypeError, KeyError, ValueError, ArithmeticError) as error:
        raise ValueError(f"`{setting}` must have the fields of {kind}. Received: {value!r}") from error
    return schedule


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


def description(given: dict[str, Any], runner: "Runner") -> tuple[str, list[str]]:
    """The text of a file for a training: the options that were given, and all settings.

    Left out is a function that has no name to be found by, like a lambda.

    Returns:
        (text, names of the settings that are not in it).
    """
    settings = {**runner.settings, "max_steps": runner.max_steps}
    options = {name: value for name, value in given.items() if name == "learning_rate" or name not in AGENT}
    options = {name: value for name, value in options.items() if name not in ("config", "resume")}
    options |= {"recipe": runner.recipe} | ({} if runner.steps else {"episodes": runner.episodes})
    options |= {name: settings[name] for name in ("num_envs", "max_steps", "shape_reward") if name not in options}
    agent = {name: settings.get(name) for name in AGENT if name != "learning_rate" or "optimizer" not in settings}
    left_out = []
    for table in (options, agent):
        for name, value in table.items():
            if isinstance(value, dict) and "function" in value:
                table[name] = _function_name(value)
                left_out += [name] if table[name] is None else []
    agent |= {name: "none" for name in AGENT if given.get(name, "") is None}  # the recipe may have something there
    lines = [f"# keras_dqn {__version__}", *(f"# not in here, as it has no name: {name}" for name in left_out), ""]
    return "\n".join(lines) + tomli_w.dumps(_without_none({**options, "agent": agent})), left_out


def _function_name(value):
    """A function, as `to_json` has it, by its name, or with its arguments as a table; None without a name."""
    module, _, name = value["function"].rpartition(".")
    *positional, arguments = value.get("arguments", [{}])
    try:
        function_called("function", text := f"{module}:{name}")
    except (ValueError, ImportError):
        return None
    if value["encloses"] or positional:
        return None
    text = next((short for short, long in FUNCTIONS.items() if long == text), text)
    return {"function": text, **arguments} if arguments else text


def _without_none(value):
    """The same without what is None in its tables, which TOML does not have."""
    if isinstance(value, dict):
        return {name: _without_none(one) for name, one in value.items() if one is not None}
    return value


def write(path: Path, given: dict[str, Any], runner: "Runner") -> list[str]:
    """Write such a file, whole or not at all; returns the names of the settings that are not in it."""
    text, left_out = description(given, runner)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return left_out
