"""A training in a file: options of `train` under their names, the agent's settings in a table of their own.

    game = "cartpole"
    recipe = "fast"
    evaluate_every = 500

    [agent]
    gamma = 0.99
    network = {hidden = [64, 64]}
    exploration = {schedule = "Linear", start = 1.0, end = 0.05, steps_to_end = 3000}
    optimizer = {class = "Adam", learning_rate = 0.0005, clipvalue = 1.0}

`keras-dqn train --config FILE` reads it, and a training that has ended leaves one beside its weights, with every
setting. The file is read as data: a schedule, an optimizer and a network are names and numbers. A network that a
function makes is `{function = "nature_cnn", normalization = "layer"}`; a function of one's own, like that of
`shape_reward`, goes by "module:name", and its module is imported.
"""

import argparse
import difflib
import importlib
import inspect
import json
import tomllib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_dqn import __version__
from keras_dqn.commands.options import UsageError, check_network
from keras_dqn.files.atomic import atomic_write

if TYPE_CHECKING:
    from keras_dqn.training.runner import Runner

INSTEAD = {"game": "env", "env": "game", "episodes": "steps", "steps": "episodes"}  # one takes the place of the other
SCHEDULES = {"exploration", "learning_rate_schedule"}
OF_THE_RECIPE = {"num_envs", "shape_reward"}  # options that another recipe has its own of
FUNCTIONS = {  # by names of their own, for each setting
    "network": {
        "nature_cnn": "keras_dqn.core.networks.atari:nature_cnn",
        "difference_cnn": "keras_dqn.core.networks.atari:difference_cnn",
    },
    "shape_reward": {"clipped": "keras_dqn.games.breakout:clipped"},
}
NOT_IN_FILES = {"help", "config", "resume"}  # they say what to do with a file or with a training that is there


def read(path: str | Path, parser: argparse.ArgumentParser) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a file says: ({option of the parser: value}, the table of the agent).

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML, there is no option of such a name, or its value is not one that the option takes.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # UnicodeDecodeError, too
        raise ValueError(f"{path}: expected TOML. Received: {error}") from error
    table = content.pop("agent", {})
    if not isinstance(table, dict):
        raise ValueError(f"{path}: [agent] must be a table. Received: {table!r}")
    actions = {action.dest: action for action in parser._actions if action.dest not in NOT_IN_FILES}
    check_names(path, content, actions)
    arguments = [argument for name, value in content.items() for argument in _typed(path, actions[name], value)]
    try:
        options = parser.parse_args(arguments)
    except UsageError as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from error
    return {name: getattr(options, name) for name in content}, table


def _typed(path, action, value):
    """An option as it is typed on the command line, where its value is checked."""
    if isinstance(value, bool):
        if action.nargs != 0:
            raise ValueError(f"{path}: {action.dest} is not true or false. Received: {value}")
        return action.option_strings[:1] if value else []
    if action.nargs == 0 or not isinstance(value, str | int | float):
        kind = "true or false" if action.nargs == 0 else "a text or a number"
        raise ValueError(f"{path}: {action.dest} must be {kind}. Received: {value!r}")
    return [f"{action.option_strings[0]}={value}"] if action.option_strings else [str(value)]


def check_names(path: str | Path, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise a ValueError for the first name that is not known, with the nearest that is."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"the nearest is {near[0]}" if near else f"there are {', '.join(sorted(known))}"
            raise ValueError(f"{path}: there is no setting of that name; {hint}. Received: {name}")


def completed(options: argparse.Namespace, parse: Callable[..., argparse.Namespace]) -> argparse.Namespace:
    """The options of a command line with those of its --config behind them.

    What is typed wins, also over the option that it excludes; another game or recipe over the agent's settings, and
    --precision over its network, which has one.

    Args:
        options: as they were parsed.
        parse: a function that parses them again.
    """
    values, table = read(options.config, options.parser)
    kept = {name: value for name, value in values.items() if getattr(options, INSTEAD.get(name, ""), None) is None}
    renewed = any(getattr(options, name) is not None for name in ("game", "env", "recipe"))
    if renewed:
        kept, table = {name: value for name, value in kept.items() if name not in OF_THE_RECIPE}, {}
    if options.precision is not None:
        table.pop("network", None)
    options.parser.set_defaults(**kept, agent=table)
    return parse()


def agent_settings(table: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The table of the agent as keywords of a `Runner`.

    Raises:
        ValueError: there is no setting of such a name, or its value says nothing.
    """
    check_names(path, table, _agent_names())
    settings = {name: value for name, value in table.items() if name != "optimizer"}
    for name in SCHEDULES & table.keys():
        settings[name] = _schedule(name, table[name], path)
    if "network" in table:
        settings["network"] = _network(table["network"], path)
    if "optimizer" in table:
        settings["optimizer"] = _optimizer(table["optimizer"], path)
    return settings


def _network(value, path):
    if not isinstance(value, dict):
        raise ValueError(f"{path}: network must be options. Received: {value!r}")
    if "function" not in value:
        try:
            return check_network(value)
        except ValueError as error:
            raise ValueError(f"{path}: network: {error}") from error
    arguments = {name: one for name, one in value.items() if name != "function"}
    function = function_called("network", value["function"], f"{path}: network")
    try:
        inspect.signature(function).bind(None, None, seed=None, **arguments)
    except TypeError as error:
        raise ValueError(f"{path}: network must be what {value['function']} takes. Received: {error}") from error
    return partial(function, **arguments) if arguments else function


def function_called(setting: str, name: str, place: str) -> Callable[..., Any]:
    """The function of a name, one of a setting's `FUNCTIONS` or "module:name"; importing its module executes that.

    Raises:
        ValueError: there is none.
        ImportError: there is no such module, or it cannot be imported.
    """
    known = FUNCTIONS[setting]
    module, _, attribute = known.get(name, name).partition(":") if isinstance(name, str) else ("", "", "")
    if not module or not attribute.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"{place} must be a function: {', '.join(known)}, or module:name. Received: {name!r}")
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        raise
    except Exception as error:  # it runs, and may raise anything
        raise ImportError(f"The module {module!r} cannot be imported. Received: {error!r}") from error
    if not callable(function):
        raise ValueError(f"{place} must be a function: there is no {attribute} in {module}. Received: {name!r}")
    return function


def _schedule(setting, value, path):
    from keras_dqn import exploration

    known = {"Linear", "Exponential", "Blocks", "Pieces", "OverTraining"}
    name, values = _named(value, "schedule", known, f"{path}: {setting}")
    try:
        if name == "Pieces":
            return exploration.Pieces(*(tuple(point) for point in values.pop("points")), **values)
        return getattr(exploration, name)(**values)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: {setting} must have the fields of {name}. Received: {value!r}") from error


def _optimizer(value, path):
    from keras_dqn.backend import keras

    known = {name for name, one in vars(keras.optimizers).items() if isinstance(one, type)} - {"Optimizer"}
    name, values = _named(value, "class", known, f"{path}: optimizer")
    try:
        _made(name, values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: optimizer must be one of Keras's. Received: {value!r}: {error}") from error
    return partial(_made, name, values)


def _made(name, values):
    from keras_dqn.backend import keras

    return getattr(keras.optimizers, name)(**values)


def _named(value, key, known, place):
    """The name under the key, which must be known, and the other values."""
    values = dict(value) if isinstance(value, dict) else {}
    name = values.pop(key, None)
    if name not in known:
        raise ValueError(f"{place} must have as {key} one of {', '.join(sorted(known))}. Received: {value!r}")
    return name, values


# ---------------------------------------------------------------- writing


def description(options: argparse.Namespace, runner: "Runner") -> tuple[str, list[str]]:
    """The text of the file that describes a training, the options and every setting; and what had to be left out.

    Left out is a function that has no name to be found by, like a lambda.

    Returns:
        (text, names of the settings that are not in it).
    """
    names = {action.dest for action in options.parser._actions} - NOT_IN_FILES - {"memory_size", "replay_every"}
    given = {name: value for name, value in vars(options).items() if value is not None and value is not False}
    asked = {name: value for name, value in given.items() if name in names}
    asked |= {"recipe": runner.recipe} | ({} if options.steps else {"episodes": runner.episodes})
    of_runner = {name: runner.settings.get(name) for name in OF_THE_RECIPE} | {"max_steps": runner.max_steps}
    asked |= {name: value for name, value in of_runner.items() if value is not None and name not in asked}
    agent = {name: runner.settings[name] for name in _agent_names() if runner.settings.get(name) is not None}
    if "optimizer" in agent:
        agent.pop("learning_rate", None)  # it has one
    for name in SCHEDULES & agent.keys():
        if "class" in agent[name]:
            agent[name] = {"schedule": agent[name]["class"], **agent[name]}
            del agent[name]["class"]
    left_out = []
    for table in (asked, agent):
        for name, value in [*table.items()]:
            if isinstance(value, dict) and "function" in value:
                table[name] = _named_function(name, value, bare=table is asked)
                if table[name] is None:
                    left_out.append(name)
                    del table[name]
    said = [f"# not in here, as it has no name: {name}" for name in left_out]
    lines = [f"# keras_dqn {__version__}", *said, *_lines(asked), "", "[agent]", *_lines(agent), ""]
    return "\n".join(lines), left_out


def _named_function(setting, value, bare):
    """A function, as `described` has it, by its name: a text, or with its arguments a table; None without a name."""
    from keras_dqn.core.settings import described

    module, _, name = value["function"].rpartition(".")
    text = f"{module}:{name}"
    *positional, arguments = value.get("arguments", [{}])
    try:
        plain = described(function_called(setting, text, "")) == {"function": value["function"], "encloses": []}
    except (ValueError, ImportError):
        return None
    if not plain or value["encloses"] or positional or (bare and arguments):
        return None
    text = next((short for short, long in FUNCTIONS[setting].items() if long == text), text)
    return text if bare else {"function": text, **arguments}


def write(path: str | Path, text: str) -> None:
    """Write it, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _agent_names():
    from keras_dqn.core.settings import Settings

    return [*Settings.names(), "network", "replay_every"]


def _lines(values):
    return [f"{name} = {_toml(value)}" for name, value in values.items()]


def _toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items() if one is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
