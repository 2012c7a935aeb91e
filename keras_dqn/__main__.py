"""The command line: train, compare, plot, run, film, evaluate, play, export-html, bench."""

import argparse
import sys
import time
from pathlib import Path

import keras_dqn

# name on the command line: runner
GAMES = {"cartpole": "CartPole", "mountaincar": "MountainCar", "breakout": "Breakout"}


def main(arguments=None):
    """Run one command; returns its exit status: 0, 2 after an error that was explained, 130 after Ctrl-C or SIGTERM."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"keras_dqn: error: {error}", file=sys.stderr)
        return 2
    return 0


def train(options):
    """Learn, save the weights, say what was reached."""
    if options.seeds is not None:
        _train_seeds(options)
        return
    if options.plot is not None:
        keras_dqn.weights.check_writable(keras_dqn.plots.check_figure_path(options.plot))
    if options.history is not None:
        keras_dqn.weights.check_writable(keras_dqn.history.check_history_path(options.history))
    settings = {"weight_backup": options.out, "memory_size": options.memory_size, "replay_every": options.replay_every}
    settings = {name: value for name, value in settings.items() if value is not None}
    runner = _runner(options, episodes=options.episodes, steps=options.steps, **settings)
    began = time.perf_counter()
    try:
        history = runner.train(
            verbose=options.verbose,
            progress=not options.quiet,
            record_every=options.record_every,
            evaluate_every=options.evaluate_every,
            stop_score=options.stop_score,
            checkpoints=_checkpoints(options, runner),
            resume=options.resume,
            tensorboard=options.tensorboard,
            learning_rate=options.learning_rate,
        )
    finally:  # as the weights, whatever ends it; but nothing that it made, nothing that is replaced
        if options.history is not None and runner.agent.steps:
            runner.history.save(options.history)
            print(f"History: {options.history}")
    print(
        f"{len(history)} episodes, {runner.agent.steps} steps, {runner.agent.learner.updates} updates "
        f"in {time.perf_counter() - began:.1f} s; mean score of the last {min(100, len(history))}: "
        f"{history.mean_score():.1f}"
    )
    print(f"Weights: {runner.agent.weight_backup}")
    if runner.best_score is not None:
        print(f"Best weights: {runner.best_backup}, mean score {runner.best_score:.1f}")
    if options.plot is not None:
        keras_dqn.plots.save_figure(
            keras_dqn.plots.learning_curve(history, solved_score=runner.solved_score, title=runner.environment),
            options.plot,
        )
        print(f"Learning curve: {options.plot}")


def _train_seeds(options):
    """Train from several seeds."""
    names = ["plot", "history", "record_every", "verbose", "memory_size", "precision", "replay_every", "sticky"]
    names += ["learning_rate", "checkpoints", "checkpoint_memory", "weights_every", "resume", "tensorboard"]
    single = {name: getattr(options, name) for name in names}
    single["game"] = options.atari_game
    single["weights"] = None if options.weights in ("backup", "none") else options.weights
    for name, value in single.items():
        if value is not None and value is not False:
            raise ValueError(
                f"`{_option(name)}` is for a single training; with --seeds each starts afresh. Received: {value}"
            )
    _experiment(keras_dqn.train_seeds, options)


def compare(options):
    """Train in Keras and in PyTorch from the same seeds."""
    _experiment(keras_dqn.compare, options)


def _experiment(function, options):
    """Train from several seeds and print the tables."""
    given = {"evaluate_every": options.evaluate_every, "stop_score": options.stop_score, "folder": options.out}
    experiment = function(
        _game(options),
        options.recipe,
        seeds=options.seeds,
        seed=options.seed or 0,
        episodes=options.episodes,
        steps=options.steps,
        progress=not options.quiet,
        **{name: value for name, value in given.items() if value is not None},
    )
    print(experiment)
    print(f"Results: {experiment.folder}")


def _checkpoints(options, runner):
    """What --checkpoints and its like ask for; None where there are to be none."""
    folder = options.checkpoints or getattr(runner, "checkpoint_folder", None)
    if folder is not None:
        minutes, memory, weights_every = options.checkpoint_minutes, options.checkpoint_memory, options.weights_every
        return keras_dqn.Checkpoints(folder, minutes, memory, weights_every)
    for name in ("checkpoint_memory", "weights_every"):
        if getattr(options, name):
            raise ValueError(f"{_option(name)} needs --checkpoints FOLDER. Received: {options.game}")
    return None


def plot(options):
    """Draw one saved history, or several in one figure."""
    path = keras_dqn.plots.check_figure_path(options.out)
    histories = {label: keras_dqn.History.load(file) for label, file in _labels(options.files).items()}
    if len(histories) == 1 and options.x == "episodes":
        ((label, history),) = histories.items()
        figure = keras_dqn.plots.learning_curve(history, solved_score=options.solved_score, title=label)
    else:
        figure = keras_dqn.plots.compare_runs(histories, x=options.x, solved_score=options.solved_score)
    keras_dqn.plots.save_figure(figure, path)
    print(f"Figure: {path}")


def _labels(files):
    """{label: file}: their names without suffix, or where two have the same, the files as they were given."""
    by_stem = {Path(file).stem: file for file in files}
    labels = by_stem if len(by_stem) == len(files) else {file: file for file in files}
    if len(labels) < len(files):
        raise ValueError(f"Each history is drawn once. Received: {' '.join(files)}")
    return labels


def run(options):
    """Play one episode and film it."""
    _runner(options).run(
        options.epsilon, options.seed, options.video, inside=options.inside, max_frames=options.max_frames
    )


def film(options):
    """Join films into one."""
    films = dict(text.rsplit("=", 1) if "=" in text else (Path(text).stem, text) for text in options.compare)
    if len(films) < len(options.compare):
        raise ValueError(f"Each film needs a caption of its own, as in before=a.mp4. Received: {options.compare}")
    names = ("columns", "one_after_the_other", "width", "start", "seconds", "frames_per_second")
    print(f"Film: {keras_dqn.video.join_videos(films, options.out, **{name: vars(options)[name] for name in names})}")


def evaluate(options):
    """Play many episodes without learning and print their statistics."""
    print(_runner(options).evaluate(options.episodes, seed=options.seed or 0, epsilon=options.epsilon))


def play(options):
    """Play with the keyboard in a window."""
    keras_dqn.playable.play(options.game)


def export_html(options):
    """Write a page to play on, with or without an agent."""
    weights = None if options.weights == "none" else options.weights
    keras_dqn.page.write_page(options.game, options.out, weights, options.recipe)
    print(f"Page: {options.out}")


def bench(options):
    """Measure speed and memory."""
    keras_dqn.bench.main(options.repeats, keras_dqn.bench.BREAKOUT if options.game == "breakout" else None)


def _option(name):
    """How an option is typed."""
    return f"--{name.replace('_', '-')}"


def _runner(options, **settings):
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
    return _game(options)(recipe=options.recipe, weights=weights, seed=options.seed, **atari, **settings)


def _game(options):
    """The class of runners of what `game` or --env names."""
    return keras_dqn.game_for(options.env) if options.env is not None else getattr(keras_dqn, GAMES[options.game])


def _parser():
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
            _add_game(subparser)
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
    _add_training(subparser, episodes=200)
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
    _add_records(subparser)

    subparser = command(
        compare,
        "Train in Keras and in PyTorch from the same seeds and with the same budget; tables and a plot. Interrupted, "
        "it keeps what has ended, and the same command goes on.",
        weights=False,
    )
    _add_training(subparser, episodes=600)
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
    subparser.add_argument("game", choices=("cartpole", "mountaincar"), help="the game")

    subparser = command(
        export_html, "Write an HTML file to play on, against an agent; any browser opens it.", game=False
    )
    subparser.add_argument("game", help="cartpole, playable-cartpole or mountaincar")
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


def _add_game(subparser):
    """The arguments that say what is played."""
    group = subparser.add_mutually_exclusive_group(required=True)
    group.add_argument("game", nargs="?", choices=GAMES, help="the game")
    group.add_argument(
        "--env",
        metavar="ID",
        help="instead: any gymnasium environment with a vector of numbers as observation and discrete actions, like "
        "Acrobot-v1, or module:MyGame-v0 to import its module first",
    )
    subparser.add_argument("--recipe", help="settings by name; the game's first one if not given")
    subparser.add_argument("--seed", type=_seed, help="makes everything repeatable")


def _add_training(subparser, episodes):
    """The arguments of a training, single or one of several."""
    budget = subparser.add_mutually_exclusive_group()
    budget.add_argument("--episodes", type=int, default=episodes, help="episodes to play")
    budget.add_argument("--steps", type=int, help="environment steps to make instead")
    subparser.add_argument(
        "--evaluate-every",
        type=int,
        metavar="N",
        help="evaluate every N steps and keep the best weights apart (1000 where there are several seeds)",
    )
    subparser.add_argument("--stop-score", type=float, metavar="SCORE", help="end when an evaluation has this mean")
    subparser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_records(subparser):
    """The arguments of what a long training leaves behind, and of its memory."""
    subparser.add_argument(
        "--precision", help="with breakout: mixed_bfloat16 instead of float32, faster on some machines"
    )
    subparser.add_argument("--memory-size", type=int, metavar="STEPS", help="instead of the recipe's")
    subparser.add_argument("--replay-every", type=int, metavar="STEPS", help="instead of the recipe's")
    subparser.add_argument("--learning-rate", type=float, help="instead of the recipe's, or of the checkpoint's")
    subparser.add_argument(
        "--checkpoints",
        metavar="FOLDER",
        help="write a log and checkpoints there, two of which are kept (default: none; breakout: <game>_checkpoints)",
    )
    subparser.add_argument("--checkpoint-minutes", type=float, default=5.0, metavar="M", help="between two of them")
    subparser.add_argument("--checkpoint-memory", action="store_true", help="save the memory too; its size is said")
    subparser.add_argument(
        "--weights-every", type=int, metavar="N", help="keep the weights of every N steps there, in files of their own"
    )
    subparser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    subparser.add_argument("--tensorboard", metavar="FOLDER", help="write the log for TensorBoard as well")


def _seed(text):
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"a seed is 0 or more, received {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
