"""The command line: its commands, their options, and what a command that fails says."""

import argparse
import os
import sys
from collections.abc import Sequence

import keras_dqn
from keras_dqn.commands import config
from keras_dqn.commands.options import (
    Parser,
    UsageError,
    above_zero,
    add_game,
    add_network,
    fraction,
    not_negative,
    whole,
)
from keras_dqn.commands.others import bench, evaluate, export_html, film, play, plot, run
from keras_dqn.commands.train import add_actors, add_records, add_seeds, add_training, compare, train
from keras_dqn.games import IN_A_WINDOW, ON_A_PAGE

PROGRAM = "keras-dqn"


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Run one command; returns its exit status.

    It is 0, 2 after an error that was explained, 130 after Ctrl-C or SIGTERM, 141 where nobody reads on.
    """
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read what is printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(arguments):
    whole_parser, message = make_parser(), None
    parser = whole_parser
    try:
        options, unknown = parser.parse_known_args(arguments)
        parser = options.parser
        if unknown:
            parser.refuse(unknown)
        if getattr(options, "config", None) is not None:
            options = config.completed(options, lambda: whole_parser.parse_args(arguments))
        options.command(options)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except UsageError as error:
        message = str(error)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        message = parser.spoken(str(error))
    if message is None:
        return 0
    print(f"keras_dqn: error: {message}", file=sys.stderr)
    return 2


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each has `command`, the function that runs it, and its `parser` among its options."""
    parser = Parser(PROGRAM, description="Deep Q-learning in Keras.", usage=f"{PROGRAM} COMMAND [OPTION …]")
    parser.add_argument("--version", action="version", version=keras_dqn.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", prog=PROGRAM)

    def command(function, arguments, text, example):
        """The parser of one command."""
        name = function.__name__.replace("_", "-")
        subparser = commands.add_parser(
            name,
            help=text,
            description=text,
            usage=f"{PROGRAM} {name} {arguments}[OPTION …]",
            epilog=f"example:\n  {PROGRAM} {name} {example}",
        )
        subparser.set_defaults(command=function, parser=subparser)
        return subparser

    _add_trainings(command)
    _add_players(command)
    _add_pictures(command)
    subparser = command(bench, "[breakout | ray | peers] ", "Measure speed and memory on this machine.", "--repeats 3")
    subparser.add_argument(
        "what",
        nargs="?",
        choices=["breakout", "ray", "peers"],
        help="measure the training of Breakout instead; or Ray; or Stable-Baselines3 and the PyTorch tutorial, if they "
        "are installed, beside ours",
    )
    subparser.add_argument(
        "--repeats", type=whole, default=5, metavar="N", help="runs of each measurement; the median is shown"
    )
    return parser


def _add_trainings(command):
    subparser = command(
        train,
        "GAME ",
        "Train an agent; its weights are saved whatever ends it, Ctrl-C too.",
        "cartpole --recipe fast --evaluate-every 500 --stop-score 490",
    )
    group = add_game(subparser)
    group.add_argument(
        "--weights",
        default="backup",
        metavar="FILE",
        help="start from: 'backup' (what an earlier training left in this folder, if anything), 'pretrained', 'none', "
        "or a weight file (.h5, .keras), which may bring its network",
    )
    group.add_argument(
        "--config",
        metavar="FILE",
        help="a training in a file (toml), like the one that is left beside the weights of each; what is typed wins",
    )
    subparser.set_defaults(agent={})
    add_training(subparser, episodes=200)
    add_records(subparser)
    add_actors(subparser)

    subparser = command(
        compare,
        "GAME ",
        "Train in Keras and in PyTorch from the same seeds and with the same budget; tables and a plot. Interrupted, "
        "it keeps what has ended, and the same command goes on.",
        "cartpole --recipe pytorch --seeds 10",
    )
    add_game(subparser, weights=False)
    group = add_training(subparser, episodes=600)
    group.add_argument("--seeds", type=whole, default=10, metavar="N", help="how many seeds, from --seed on")
    group.add_argument("--out", metavar="FOLDER", help="for tables, plot and weights; one in results/ if not given")
    add_seeds(group)


def _add_players(command):
    subparser = command(
        run,
        "GAME ",
        "Play one episode without learning, film it, print its score.",
        "cartpole --weights pretrained --video pole.mp4",
    )
    _add_weights_to_play(subparser)
    group = subparser.add_argument_group("the film")
    group.add_argument("--video", metavar="FILE", help="the MP4 to write; videos/<game>.mp4 if not given")
    group.add_argument(
        "--inside", action="store_true", help="film beside the game what the network sees, and its Q-values"
    )
    group.add_argument("--max-frames", type=whole, default=3000, metavar="N", help="where the film ends")

    subparser = command(
        evaluate,
        "GAME ",
        "Play episodes with fixed seeds without learning; print mean, spread and interval.",
        "cartpole --weights pretrained --episodes 100",
    )
    group = _add_weights_to_play(subparser)
    group.add_argument(
        "--episodes", "--games", type=whole, default=100, metavar="N", help="episode i is reset with seed + i"
    )

    subparser = command(
        play, "GAME ", "Play with the keyboard in a window: a or left arrow, d or right arrow.", "cartpole"
    )
    subparser.add_argument("game", choices=IN_A_WINDOW, help="the game")

    subparser = command(
        export_html,
        "GAME --out FILE ",
        "Write an HTML file to play on, against an agent; any browser opens it.",
        "cartpole --weights pretrained --out cartpole.html",
    )
    subparser.add_argument("game", help=" or ".join(ON_A_PAGE))
    subparser.add_argument(
        "--weights", default="none", metavar="FILE", help="the agent's: 'pretrained', a weight file, or 'none'"
    )
    subparser.add_argument(
        "--recipe", metavar="NAME", help="the one whose network the weights are of; the game's first one if not given"
    )
    add_network(subparser)
    subparser.add_argument("--out", metavar="FILE", required=True, help="the .html file to write")


def _add_weights_to_play(subparser):
    group = add_game(subparser)
    group.add_argument(
        "--weights",
        default="backup",
        metavar="FILE",
        help="'backup' (what a training left in this folder, its best weights if it kept any), 'pretrained', 'none', "
        "or a weight file (.h5, .keras), which may bring its network",
    )
    add_network(group)
    group.add_argument(
        "--epsilon", type=fraction, default=0.0, metavar="P", help="probability of a random action; 1 is all random"
    )
    return group


def _add_pictures(command):
    subparser = command(
        plot,
        "FILE … --out FIGURE ",
        "Draw a history that train --history wrote: its learning curve; of several, one figure.",
        "juvin.json fast.json --x steps --out runs.png",
    )
    subparser.add_argument("files", nargs="+", metavar="FILE", help="a history (json or csv)")
    subparser.add_argument("--out", metavar="FIGURE", required=True, help="the png, svg or pdf to write")
    subparser.add_argument(
        "--x", choices=("episodes", "steps"), default="episodes", help="what scores are drawn over; steps: scores alone"
    )
    subparser.add_argument(
        "--solved-score", type=float, metavar="SCORE", help="draw a line at the score that solves it"
    )

    subparser = command(
        film,
        "--compare FILM … --out FILE ",
        "Join films into one MP4 or GIF, each below its caption.",
        "--compare random=a.mp4 trained=b.mp4 --out both.gif",
    )
    subparser.add_argument(
        "--compare",
        nargs="+",
        required=True,
        metavar="FILM",
        help="an MP4, or CAPTION=MP4; else its name is the caption",
    )
    subparser.add_argument("--out", metavar="FILE", required=True, help="the .mp4 or .gif to write")
    subparser.add_argument("--columns", type=whole, metavar="N", help="how many beside one another; all if not given")
    subparser.add_argument("--one-after-the-other", action="store_true", help="in time, instead of side by side")
    subparser.add_argument("--width", type=whole, default=640, metavar="PIXELS", help="of the whole picture")
    subparser.add_argument("--start", type=not_negative, default=0.0, metavar="SECONDS", help="where each film begins")
    subparser.add_argument(
        "--seconds", type=above_zero, metavar="N", help="how long the whole is; as long as the films if not given"
    )
    subparser.add_argument(
        "--frames-per-second", type=above_zero, metavar="N", help="those of the first film if not given"
    )
