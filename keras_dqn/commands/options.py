"""What the commands have in common: types of options, the game, its weights, and checks that need no TensorFlow."""

import argparse
import ast
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from keras_dqn.files.atomic import check_writable
from keras_dqn.games import ANY_RECIPES, GAMES, WITH_A_RUNNER
from keras_dqn.training.renamed import found, name_now

if TYPE_CHECKING:
    from keras_dqn.training.runner import Runner

RECIPES = "; ".join([*(f"{name}: {', '.join(GAMES[name].recipes)}" for name in WITH_A_RUNNER)])


class UsageError(ValueError):
    """Arguments that are not what a command takes."""


class Help(argparse.RawDescriptionHelpFormatter):
    """Help that names a default where there is one, and leaves examples as they are."""

    def _get_help_string(self, action):
        says_nothing = action.default in (None, False, argparse.SUPPRESS) or not action.option_strings
        return action.help if says_nothing else f"{action.help} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """A parser that raises a `UsageError`, of one line where a value is wrong, else with a line of usage below."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, formatter_class=Help, **options)

    def error(self, message: str) -> NoReturn:
        if said := re.fullmatch(r"argument (--[\w-]+)\S*: (must .*)", message):
            raise UsageError(f"{said[1]} {said[2]}")
        raise UsageError(f"{message}\nusage: {self.usage}; see {self.prog} --help")

    def refuse(self, unknown: Iterable[str]) -> None:
        """Raise a `UsageError` for arguments that there are not, with the nearest that there are."""
        flags = [flag for action in self._actions for flag in action.option_strings]
        near = difflib.get_close_matches(unknown[0], flags, n=1)
        hint = f"; the nearest is {near[0]}" if near else ""
        self.error(f"there is no argument of that name{hint}. Received: {' '.join(unknown)}")

    def spoken(self, message: str) -> str:
        """An error of the library with its keywords, like `stop_score`, as the options that they are here."""
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        options = {flag[2:].replace("-", "_"): flag for flag in flags}
        return re.sub(r"`(\w+)`", lambda found: options.get(found[1], found[0]), message)


# ---------------------------------------------------------------- types of values


def _number(kind, words, accepts):
    """A type for argparse: what is no such number is refused with these words."""

    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"must be {words}. Received: {text}")
        return value

    return read


whole = _number(int, "a whole number, 1 or more", lambda value: value >= 1)
seed = _number(int, "a whole number, 0 or more", lambda value: value >= 0)
above_zero = _number(float, "a number above 0", lambda value: 0 < value < float("inf"))
not_negative = _number(float, "a number, 0 or more", lambda value: 0 <= value < float("inf"))
fraction = _number(float, "a number from 0 to 1", lambda value: 0 <= value <= 1)
finite = _number(float, "a number", lambda value: abs(value) < float("inf"))


def network(text: str) -> dict[str, Any]:
    """A type for argparse: options of a network, as they are written in Python."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'must be options, like {{"hidden": (64, 64)}}. Received: {text}')
    try:
        return check_network(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be options of a network: {error}") from error


def check_network(options: dict[str, Any]) -> dict[str, Any]:
    """Options of `networks.mlp`, if that is what they are; else a ValueError that names the nearest, or the wrong."""
    for name, value in options.items():
        if name not in NETWORK:
            near = difflib.get_close_matches(str(name), NETWORK, n=1)
            hint = f"the nearest is {near[0]}" if near else f"there are {', '.join(NETWORK)}"
            raise ValueError(f"there is no option of that name; {hint}. Received: {name}")
        if not NETWORK[name](value):
            raise ValueError(f"{name} has another value. Received: {value!r}")
    return options


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_number_or_list(value):
    return _is_number(value) or (isinstance(value, list | tuple) and all(map(_is_number, value)))


NETWORK = {  # what `networks.mlp` takes, and of what kind
    "hidden": lambda value: isinstance(value, list | tuple) and all(type(one) is int and one > 0 for one in value),
    "activation": lambda value: isinstance(value, str),
    "dueling": lambda value: isinstance(value, bool),
    "center": _is_number_or_list,
    "scale": _is_number_or_list,
    "initializer": lambda value: isinstance(value, str),
    "normalization": lambda value: isinstance(value, str),
}


# ---------------------------------------------------------------- the game


def add_game(parser: argparse.ArgumentParser, weights: bool = True) -> argparse._ArgumentGroup:
    """The arguments that say what is played, and from which weights; returns their group."""
    group = parser.add_argument_group("what is played")
    game = group.add_mutually_exclusive_group()
    game.add_argument("game", nargs="?", choices=WITH_A_RUNNER, help="the game")
    game.add_argument(
        "--env",
        metavar="ID",
        help="instead: any gymnasium environment with a vector of numbers as observation and discrete actions, like "
        "Acrobot-v1, or module:MyGame-v0 to import its module first",
    )
    group.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"settings by name, the first one if not given. {RECIPES}; with --env: {', '.join(ANY_RECIPES)}",
    )
    group.add_argument("--seed", type=seed, metavar="N", help="makes everything repeatable")
    if weights:
        group.add_argument("--game", dest="atari_game", metavar="NAME", help="with breakout: another game, like pong")
        group.add_argument(
            "--sticky",
            type=fraction,
            metavar="P",
            help="with breakout: probability that a frame repeats the action before it",
        )
    return group


def check_game(options: argparse.Namespace) -> None:
    """Refuse a game, a recipe and weights that there are not."""
    if options.game is None and options.env is None:
        raise UsageError(f"give a game, one of {', '.join(WITH_A_RUNNER)}, or --env\n{usage(options)}")
    recipes = ANY_RECIPES if options.game is None else GAMES[options.game].recipes
    options.recipe = name_now(options.recipe, recipes)
    if options.recipe is not None and options.recipe not in recipes:
        raise ValueError(f"--recipe must be one of {', '.join(recipes)}. Received: {options.recipe}")
    if options.env is not None and ":" not in options.env:
        from keras_dqn.environments.vector import check_known

        check_known(options.env)
    atari = {name: value for name, value in atari_options(options).items() if value is not None}
    if atari and options.game != "breakout":
        raise ValueError(
            f"--game, --sticky and --precision are for breakout. Received: {options.game or options.env} {atari}"
        )
    if options.game == "breakout":
        from keras_dqn.environments.atari import check_game

        check_game(options.atari_game or "breakout")
    check_weights(getattr(options, "weights", None))
    if getattr(options, "weights", None) == "pretrained" and options.game is None:
        raise ValueError(f"--weights pretrained are there for {', '.join(WITH_A_RUNNER)}. Received: {options.env!r}")


def atari_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options that only Atari's games have."""
    return {"game": getattr(options, "atari_game", None)} | {
        name: getattr(options, name, None) for name in ("sticky", "precision")
    }


def check_weights(weights: str | Path | None) -> None:
    """Refuse --weights that no file can be read from."""
    if weights is None or weights in ("backup", "pretrained", "none"):
        return
    path = Path(weights)
    if not path.is_file():
        received = "a folder" if path.is_dir() else "no such file"
        raise ValueError(f"--weights must be 'pretrained', 'none' or a weight file. Received: {received}, {weights}")


def check_out(path: Path | None, name: str, suffixes: Sequence[str]) -> None:
    """Refuse a file to write that has another suffix, or that cannot be written."""
    if path is None:
        return
    check_suffix(path, name, suffixes)
    check_writable(path)


def check_suffix(path: Path | None, name: str, suffixes: Sequence[str]) -> None:
    """Refuse a file of another kind."""
    if path is not None and Path(path).suffix.lower() not in suffixes:
        raise ValueError(f"{name} must be a file of the kind {' or '.join(suffixes)}. Received: {path}")


def add_network(parser: argparse._ActionsContainer) -> None:
    """The option for weights whose file does not tell their network."""
    parser.add_argument(
        "--network",
        type=network,
        metavar="OPTIONS",
        help="of the network that the weights are of, where neither file nor recipe tell: "
        '\'{"hidden": (64, 64), "activation": "tanh"}\'',
    )


def usage(options: argparse.Namespace) -> str:
    """The line of usage of a command."""
    return f"usage: {options.parser.usage}; see {options.parser.prog} --help"


def game_class(options: argparse.Namespace) -> "type[Runner]":
    """The class of runners of what `game` or --env names."""
    if options.env is None:
        return GAMES[options.game].runner_class()
    from keras_dqn.games.any_game import game_for

    return game_for(options.env)


def make_runner(options: argparse.Namespace, weights: str | Path | None, **settings: Any) -> "Runner":
    """The runner that the options ask for, with these weights: None, "backup", "pretrained" or a file."""
    atari = {name: value for name, value in atari_options(options).items() if value is not None}
    return game_class(options)(recipe=options.recipe, weights=weights, seed=options.seed, **atari, **settings)


def trained_runner(options: argparse.Namespace, refuse: bool = False) -> "Runner":
    """A runner to play with, and a word about its weights: the best that a training left here, unless others are asked.

    Args:
        refuse: raise a ValueError where there are none, unless --weights none asks for that, instead of playing on and
            saying so on stderr.
    """
    settings = {} if options.network is None else {"network": options.network}
    if options.weights not in ("backup", "none"):
        return make_runner(options, options.weights, **settings)
    runner = make_runner(options, None, **settings)
    files = [] if options.weights == "none" else [runner.best_backup, runner.agent.weight_backup]
    for path in (found(file, runner.recipe) for file in files):
        if path.exists():
            print(f"Weights: {path}")
            return make_runner(options, path, **settings)
    looked = f", as there is no {files[1]} here" if files else ""
    if files and refuse:
        raise ValueError(
            f"The network is untrained{looked}: give --weights pretrained, a file, or none. Received: --weights backup"
        )
    if options.epsilon < 1:
        print(f"The network is untrained{looked}", file=sys.stderr)
    return runner
