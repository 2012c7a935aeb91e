"""The command line: its commands, their options, and what a command that fails says."""

import argparse
import sys

import keras_dqn
from keras_dqn.commands.options import add_game
from keras_dqn.commands.others import bench, evaluate, export_html, film, play, plot, run
from keras_dqn.commands.train import add_records, add_training, compare, train
from keras_dqn.games import IN_A_WINDOW, ON_A_PAGE


def main(arguments=None):
    """Run one command; returns its exit status: 0, 2 after an error that was explained, 130 after Ctrl-C or SIGTERM."""
    options = make_parser().parse_args(arguments)
    try:
        options.command(options)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"keras_dqn: error: {error}", file=sys.stderr)
        return 2
    return 0


def make_parser():
    parser = argparse.ArgumentParser("python -m keras_dqn", description="Deep Q-learning in Keras.")
    parser.add_argument("--version", action="version", version=keras_dqn.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function, text, game=True, weights=True):
        subparser = commands.add_parser(
            function.__name__.replace("_", "-"),
            help=text,
            description=text,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        subparser.set_defaults(command=function)
        if game:
            add_game(subparser)
        if game and weights:
            subparser.add_argument(
                "--weights",
                default="backup",
                help="start from: 'backup' (what an earlier training left in this folder, if anything), 'pretrained', "
                "'none', or an .h5 file",
            )
            subparser.add_argument("--game", dest="atari_game", help="with breakout: another Atari game, like pong")
            subparser.add_argument(
                "--sticky", type=float, help="with breakout: probability that a frame repeats the action before it"
            )
        return subparser

    subparser = command(train, "Train an agent; its weights are saved whatever ends it, Ctrl-C too.")
    add_training(subparser, episodes=200)
    subparser.add_argument(
        "--seeds", type=int, metavar="N", help="train N times from fresh weights, with seeds from --seed on, into --out"
    )
    subparser.add_argument(
        "--out",
        metavar="FILE",
        help="the .h5 file for the weights (default: named after game and recipe); with --seeds, the folder for "
        "tables, plot and weights (default: one in results/)",
    )
    subparser.add_argument("--record-every", type=int, metavar="N", help="film every N-th episode into videos/")
    subparser.add_argument("--plot", metavar="FILE", help="write the learning curve (png, svg or pdf)")
    subparser.add_argument(
        "--history", metavar="FILE", help="write the history: all of it (json), or a row an episode (csv)"
    )
    subparser.add_argument("--verbose", action="store_true", help="print the score of each episode")
    add_records(subparser)

    subparser = command(
        compare,
        "Train in Keras and in PyTorch from the same seeds and with the same budget; tables and a plot. Interrupted, "
        "it keeps what has ended, and the same command goes on.",
        weights=False,
    )
    add_training(subparser, episodes=600)
    subparser.add_argument("--seeds", type=int, default=10, metavar="N", help="how many seeds, from --seed on")
    subparser.add_argument("--out", metavar="FOLDER", help="for tables, plot and weights (default: one in results/)")

    subparser = command(
        plot, "Draw a history that train --history wrote: its learning curve; of several, one figure.", game=False
    )
    subparser.add_argument("files", nargs="+", metavar="FILE", help="a history (json or csv)")
    subparser.add_argument("--out", metavar="FIGURE", required=True, help="the png, svg or pdf to write")
    subparser.add_argument(
        "--x", choices=("episodes", "steps"), default="episodes", help="what scores are drawn over; steps: scores alone"
    )
    subparser.add_argument(
        "--solved-score", type=float, metavar="SCORE", help="draw a line at the score that solves it"
    )

    subparser = command(run, "Play one episode without learning, film it, print its score.")
    subparser.add_argument("--epsilon", type=float, default=0.0, help="probability of a random action; 1 is all random")
    subparser.add_argument("--video", metavar="FILE", help="the MP4 to write (default: videos/<game>.mp4)")
    subparser.add_argument(
        "--inside", action="store_true", help="film beside the game what the network sees, and its Q-values"
    )
    subparser.add_argument("--max-frames", type=int, default=3000, metavar="N", help="where the film ends")

    subparser = command(film, "Join films into one MP4 or GIF, each below its caption.", game=False)
    subparser.add_argument(
        "--compare",
        nargs="+",
        required=True,
        metavar="FILM",
        help="an MP4, or CAPTION=MP4; else its name is the caption",
    )
    subparser.add_argument("--out", metavar="FILE", required=True, help="the .mp4 or .gif to write")
    subparser.add_argument("--columns", type=int, metavar="N", help="how many beside one another; all if not given")
    subparser.add_argument("--one-after-the-other", action="store_true", help="in time, instead of side by side")
    subparser.add_argument("--width", type=int, default=640, metavar="PIXELS", help="of the whole picture")
    subparser.add_argument("--start", type=float, default=0.0, metavar="SECONDS", help="where each film begins")
    subparser.add_argument("--seconds", type=float, help="how long the whole is; as long as the films if not given")
    subparser.add_argument("--frames-per-second", type=float, metavar="N", help="those of the first film if not given")

    subparser = command(evaluate, "Play episodes with fixed seeds without learning; print mean, spread and interval.")
    subparser.add_argument("--episodes", "--games", type=int, default=100, help="episode i is reset with seed + i")
    subparser.add_argument("--epsilon", type=float, default=0.0, help="probability of a random action")

    subparser = command(play, "Play with the keyboard in a window: a or left arrow, d or right arrow.", game=False)
    subparser.add_argument("game", choices=IN_A_WINDOW, help="the game")

    subparser = command(
        export_html, "Write an HTML file to play on, against an agent; any browser opens it.", game=False
    )
    subparser.add_argument("game", help=" or ".join(ON_A_PAGE))
    subparser.add_argument(
        "--weights", default="none", help="the agent's: 'pretrained', an .h5 file, or 'none' to play alone"
    )
    subparser.add_argument(
        "--recipe", help="the one whose network the weights are of; the game's first one if not given"
    )
    subparser.add_argument("--out", metavar="FILE", required=True, help="the .html file to write")

    subparser = command(bench, "Measure speed and memory on this machine.", game=False)
    subparser.add_argument("game", nargs="?", choices=["breakout"], help="measure the training of Breakout instead")
    subparser.add_argument("--repeats", type=int, default=5, help="runs of each measurement; the median is shown")
    return parser
