"""What the commands' options have in common: the game, its recipe and seed, and the runner that they ask for."""

import argparse

import keras_dqn
from keras_dqn.games import GAMES, WITH_A_RUNNER


def typed(name):
    """How an option is typed."""
    return f"--{name.replace('_', '-')}"


def make_runner(options, **settings):
    weights = None if options.weights == "none" else options.weights
    if getattr(options, "resume", False):
        if weights not in ("backup", None):
            raise ValueError(f"--resume takes the weights from the checkpoint. Received: --weights {weights}")
        weights = None
    atari = {"game": options.atari_game, "sticky": options.sticky, "precision": getattr(options, "precision", None)}
    atari = {name: value for name, value in atari.items() if value is not None}
    if atari and options.game != "breakout":
        raise ValueError(
            f"--game, --sticky and --precision are for breakout. Received: {options.game or options.env} {atari}"
        )
    return game_class(options)(recipe=options.recipe, weights=weights, seed=options.seed, **atari, **settings)


def game_class(options):
    """The class of runners of what `game` or --env names."""
    return keras_dqn.game_for(options.env) if options.env is not None else GAMES[options.game].runner_class()


def add_game(subparser):
    """The arguments that say what is played."""
    group = subparser.add_mutually_exclusive_group(required=True)
    group.add_argument("game", nargs="?", choices=WITH_A_RUNNER, help="the game")
    group.add_argument(
        "--env",
        metavar="ID",
        help="instead: any gymnasium environment with a vector of numbers as observation and discrete actions, like "
        "Acrobot-v1, or module:MyGame-v0 to import its module first",
    )
    subparser.add_argument("--recipe", help="settings by name; the game's first one if not given")
    subparser.add_argument("--seed", type=_seed, help="makes everything repeatable")


def _seed(text):
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"a seed is 0 or more, received {text}")
    return value
