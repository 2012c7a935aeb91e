"""The command line: `keras-dqn COMMAND`, and the one line that it prints where something is wrong.

An option is a field of a dataclass: its type says what is taken, and the class's docstring what it is for. Those of an
agent, of a game and of `train` are the classes that Python users have. Options are checked before TensorFlow is loaded.
"""

import argparse
import inspect
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

from keras_dqn import config
from keras_dqn.checks import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt, check_name, members
from keras_dqn.core.settings import ExplorationSettings, LearnerSettings, MemorySettings
from keras_dqn.files.atomic import check_writable, copied_beside
from keras_dqn.games import ANY_RECIPES, GAMES, IN_A_WINDOW, ON_A_PAGE, WITH_A_RUNNER
from keras_dqn.training.settings import GameSettings, TrainSettings
from keras_dqn.version import __version__

PROGRAM = "keras-dqn"


@dataclass
class Options:
    """What the command is about.

    Attributes:
        env: instead of a game: any gymnasium environment with a vector of numbers as observation and discrete actions,
            like Acrobot-v1, or module:MyGame-v0 to import its module first.
        recipe: settings by name; the game's first one if not given.
        seed: makes everything repeatable.
        atari_game: with breakout: another game, like pong.
        sticky: with breakout: probability that a frame repeats the action before it.
        precision: with breakout: float32, or mixed_bfloat16, which is faster on some machines.
        weights: "backup" (what a training left in this folder, if anything; to play, its best), "pretrained", "none",
            or a weight file (.h5, .keras), which may bring its network.
        episodes: how many to play; if not given 200 in training, 600 in a comparison, 100 in an evaluation.
        steps: environment steps to make instead.
        seeds: train so many times from fresh weights, with seeds from --seed on.
        sweep: with --seeds: try these values of a setting, like learning_rate=1e-4,3e-4, or recipe=...; given several
            times, every combination.
        config: a training in a file (toml), like the one that is left beside the weights of each; what is typed wins.
        out: the file to write: weights (.h5), if not given named after game and recipe, a page (.html), or a figure
            (png, svg, pdf); with several seeds the folder for tables, plot and weights, if not given one in results/.
        plot: write the learning curve (png, svg or pdf).
        history: write the history: all of it (json), or a row an episode (csv).
        quiet: no progress bar.
        checkpoints: write a log and checkpoints into this folder; if not given none, but breakout.
        checkpoint_minutes: between two of them; 5 if not given.
        checkpoint_memory: save the memory too.
        weights_every: keep the weights of every so many steps there, in files of their own.
        epsilon: probability of a random action; 1 is all random, 0 if not given.
        video: the MP4 to write; videos/<game>.mp4 if not given.
        inside: film beside the game what the network sees, and its Q-values.
        max_frames: where the film ends.
        x: what scores are drawn over: "episodes", or "steps", which draws scores alone.
        solved_score: draw a line at the score that solves the game.
    """

    env: str
    recipe: str
    seed: NonNegativeInt
    atari_game: str
    sticky: Fraction
    precision: str
    weights: str
    episodes: PositiveInt
    steps: PositiveInt
    seeds: PositiveInt
    sweep: list[str]
    config: str
    out: str
    plot: str
    history: str
    quiet: bool
    checkpoints: str
    checkpoint_minutes: NonNegativeFloat
    checkpoint_memory: bool
    weights_every: PositiveInt
    epsilon: Fraction
    video: str
    inside: bool
    max_frames: PositiveInt
    x: str
    solved_score: float


# ---------------------------------------------------------------- commands


def train(options: SimpleNamespace) -> None:
    """Train an agent; its weights are saved whatever ends it, Ctrl-C too.

    example:
      keras-dqn train cartpole --recipe fast --evaluate-every 500 --stop-score 490
    """
    from keras_dqn.show import plots

    _check_game(options)
    if options.seeds is not None:
        _check_several(options)
        return _experiment("train_seeds", options)
    told = _given(options, *TRAIN)
    _check_single(options, told)
    weights = None if options.weights == "none" or options.resume else options.weights or "backup"
    runner = _runner(options, weights, **_given(options, "episodes", "steps", out="weight_backup"))
    began = time.perf_counter()
    try:
        runner.train(progress=not options.quiet, checkpoints=_checkpoints(options, runner), **told)
    finally:  # as the weights, whatever ends it; but nothing that it made, nothing that is replaced
        if options.history is not None and runner.agent.steps:
            _keep_what_was_there(options.history, options)
            runner.history.save(options.history)
            print(f"History: {options.history}")
    print(_summary(runner, options.stop_score, time.perf_counter() - began))
    print(f"Weights: {runner.agent.weight_backup}")
    file = runner.agent.weight_backup.with_suffix(".toml")
    left_out = config.write(file, options.given, runner)
    print(f"Settings: {file}" + (f", but for {', '.join(left_out)}, which has no name" if left_out else ""))
    if runner.best_score is not None:
        print(f"Best weights: {runner.best_backup}, mean score {runner.best_score:.1f}")
    if options.plot is not None:
        shown = {"solved_score": runner.solved_score, "title": runner.environment}
        _keep_what_was_there(options.plot, options)
        plots.save_figure(plots.learning_curve(runner.history, **shown), options.plot)
        print(f"Learning curve: {options.plot}")


def _keep_what_was_there(path, options):
    """Keep a file of another training that this one replaces; one that goes on replaces its own."""
    if not options.resume and (kept := copied_beside(Path(path))):
        print(f"{path} of before is kept as {kept}")


def compare(options: SimpleNamespace) -> None:
    """Train in Keras and in PyTorch from the same seeds and with the same budget; tables and a plot.

    Interrupted, it keeps what has ended, and the same command goes on.

    example:
      keras-dqn compare cartpole --recipe pytorch --seeds 10
    """
    _check_game(options)
    _experiment("compare", options)


def evaluate(options: SimpleNamespace) -> None:
    """Play episodes with fixed seeds without learning; print mean, spread and interval.

    example:
      keras-dqn evaluate cartpole --weights pretrained --episodes 100
    """
    _check_game(options)
    print(_trained_runner(options, refuse=True).evaluate(**_given(options, "episodes", "seed", "epsilon")))


def run(options: SimpleNamespace) -> None:
    """Play one episode without learning, film it, print its score.

    example:
      keras-dqn run cartpole --weights pretrained --video pole.mp4
    """
    _check_game(options)
    if options.video is not None:
        _check_suffix("video", options.video, ".mp4")
    runner = _trained_runner(options, refuse=False)
    runner.run(**_given(options, "epsilon", "seed", "video", "inside", "max_frames"))
    if not runner.last_run.paths:
        raise OSError(f"There is no film. Received: {options.video or runner.name}")


def play(options: SimpleNamespace) -> None:
    """Play with the keyboard in a window: a or left arrow, d or right arrow.

    example:
      keras-dqn play cartpole
    """
    from keras_dqn.playable import play

    play(options.game)


def export_html(options: SimpleNamespace) -> None:
    """Write an HTML file to play on, against an agent; any browser opens it.

    example:
      keras-dqn export-html cartpole --weights pretrained --out cartpole.html
    """
    from keras_dqn.playable.page import write_page

    _check_weights(options.weights)
    _check_suffix("out", options.out or "", ".html")
    check_writable(options.out)
    weights = None if options.weights == "none" else options.weights
    write_page(options.game, options.out, weights, options.recipe, **_settings(options))
    print(f"Page: {options.out}")


def plot(options: SimpleNamespace) -> None:
    """Draw a history that train --history wrote: its learning curve; of several, one figure.

    example:
      keras-dqn plot juvin.json fast.json --x steps --out runs.png
    """
    from keras_dqn.show import plots
    from keras_dqn.training.history import History

    check_name(options.x or "episodes", ("episodes", "steps"), "kind of x")
    path = plots.check_figure_path(options.out or "")
    by_stem = {Path(file).stem: file for file in options.files}
    files = by_stem if len(by_stem) == len(options.files) else {file: file for file in options.files}
    if len(files) < len(options.files):
        raise ValueError(f"Each history is drawn once. Received: {' '.join(options.files)}")
    histories = {label: History.load(file) for label, file in files.items()}
    if len(histories) == 1 and options.x != "steps":
        ((label, history),) = histories.items()
        figure = plots.learning_curve(history, title=label, **_given(options, "solved_score"))
    else:
        figure = plots.compare_runs(histories, **_given(options, "x", "solved_score"))
    plots.save_figure(figure, path)
    print(f"Figure: {path}")


AGENT = (MemorySettings, LearnerSettings, ExplorationSettings)
GROUPS = (Options, TrainSettings, GameSettings, *AGENT)
TYPES = {field.name: field.type for one in reversed(GROUPS) for field in fields(one)}  # of an option in two, the first
TYPES |= {"game": str, "files": list[str]}
TRAIN = [field.name for field in fields(TrainSettings) if field.name not in ("progress", "live", "checkpoints")]
SETTINGS = [field.name for one in (GameSettings, *AGENT) for field in fields(one) if field.name != "learning_rate"]
GAME, ATARI = ["game", "env", "recipe", "seed"], ["atari_game", "sticky", "precision"]
CHECKPOINTS = ["checkpoints", "checkpoint_minutes", "checkpoint_memory", "weights_every"]
SEVERAL = ["episodes", "steps", "seeds", "out", "quiet", "evaluate_every", "stop_score", "ray", *SETTINGS]
TRAINING = [*SEVERAL, "weights", "config", "sweep", "plot", "history", *CHECKPOINTS, *TRAIN]
PLAYER = [*GAME, *ATARI, "weights", "network", "epsilon"]
COMMANDS = {  # name: the command, what it is for, and its options
    "train": (train, WITH_A_RUNNER, [*GAME, *ATARI, *TRAINING]),
    "compare": (compare, WITH_A_RUNNER, [*GAME, *SEVERAL]),
    "evaluate": (evaluate, WITH_A_RUNNER, [*PLAYER, "episodes"]),
    "run": (run, WITH_A_RUNNER, [*PLAYER, "video", "inside", "max_frames"]),
    "play": (play, IN_A_WINDOW, ["game"]),
    "export-html": (export_html, ON_A_PAGE, ["game", "recipe", "weights", "network", "out"]),
    "plot": (plot, ["histories, json or csv"], ["files", "out", "x", "solved_score"]),
}


# ---------------------------------------------------------------- what commands have in common


def _given(options, *names, **renamed):
    """Those of these options that were given, as keywords."""
    renamed = {**{name: name for name in names}, **renamed}
    return {keyword: options.given[name] for name, keyword in renamed.items() if name in options.given}


def _settings(options):
    """What was given of the agent and its environments, as keywords of a `Runner`."""
    return config.keywords(_given(options, *SETTINGS))


def _game_class(options):
    """The class of runners of what was named."""
    if options.game is not None:
        return GAMES[options.game].runner_class()
    from keras_dqn.games.any_game import game_for

    return game_for(options.env)


def _runner(options, weights, **more):
    """The runner that was asked for, with these weights: None, "backup", "pretrained" or a file."""
    more |= _settings(options) | _given(options, "recipe", "seed", "sticky", "precision", atari_game="game")
    return _game_class(options)(weights=weights, **more)


def _trained_runner(options, refuse):
    """A runner to play with, and a word about its weights: the best that a training left here, unless others are asked.

    Without any, evaluating refuses unless --weights none asks for that, and running says so.
    """
    if options.weights not in (None, "backup", "none"):
        return _runner(options, options.weights)
    runner = _runner(options, None)
    files = [] if options.weights == "none" else [runner.best_backup, runner.agent.weight_backup]
    for path in files:
        if path.exists():
            print(f"Weights: {path}")
            return _runner(options, path)
    looked = f", as there is no {files[1]} here" if files else ""
    if files and refuse:
        asked = "give `weights` pretrained, a file, or none"
        raise ValueError(f"The network is untrained{looked}: {asked}. Received: backup")
    if options.epsilon != 1:
        print(f"The network is untrained{looked}", file=sys.stderr)
    return runner


def _experiment(function, options):
    """Train from several seeds and print the tables."""
    given = _given(options, "recipe", "seeds", "seed", "episodes", "steps", "evaluate_every", "stop_score", "ray")
    given |= _given(options, "learning_rate", out="folder") | _settings(options)
    sweep = _sweep(options.given.get("sweep", ())) or None
    from keras_dqn.experiment import seeds  # now that all is checked: TensorFlow comes with it

    train = getattr(seeds, function)
    experiment = train(_game_class(options), progress=not options.quiet, sweep=sweep, **given)
    print(experiment)
    print(f"Results: {experiment.folder}")


def _sweep(texts):
    """NAME=VALUE,VALUE as {name: [values]}."""
    sweep = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = check_name(name.strip().replace("-", "_"), ["recipe", "learning_rate", *SETTINGS], "setting")
        if not equals or name in sweep:
            raise ValueError(f"`sweep` must be NAME=VALUE,VALUE, each name once. Received: {text}")
        sweep[name] = [config.keywords(config.checked({name: one}, TYPES))[name] for one in values.split(",")]
    return sweep


def _checkpoints(options, runner):
    """What --checkpoints and its like ask for; None where there are to be none."""
    from keras_dqn.training.checkpoint import Checkpoints

    folder = options.checkpoints or getattr(runner, "checkpoint_folder", None)
    renamed = {"checkpoint_minutes": "minutes", "checkpoint_memory": "memory"}
    return folder and Checkpoints(folder, **_given(options, "weights_every", **renamed))


def _summary(runner, stop_score, seconds):
    """One line on what a training did."""
    history = runner.history
    text = f"{len(history)} episodes, {runner.agent.steps} steps, {runner.agent.learner.updates} updates "
    text += f"in {seconds:.1f} s"
    best = max((evaluation.score for evaluation in history.evaluations), default=-math.inf)
    if stop_score is not None and best >= stop_score:  # that is what it came to, and not its episodes of exploration
        return text
    return f"{text}; mean score of the last {min(100, len(history))}: {history.mean_score():.1f}"


# ---------------------------------------------------------------- what is refused


def _check_game(options):
    """Refuse an environment, a recipe and weights that there are not."""
    if options.game is None and ":" not in options.env:
        from keras_dqn.environments.vector import check_known

        check_known(options.env)
    if options.recipe is not None:
        check_name(options.recipe, GAMES[options.game].recipes if options.game else ANY_RECIPES, "recipe")
    if options.game == "breakout":
        from keras_dqn.environments.atari import check_game

        check_game(options.given.get("atari_game", "breakout"))
        check_name(options.given.get("precision", "float32"), ("float32", "mixed_bfloat16"), "precision")
    elif atari := _given(options, *ATARI):
        raise ValueError(f"`atari_game`, `sticky` and `precision` are for breakout. Received: {atari}")
    _check_weights(options.given.get("weights"))


def _check_weights(weights):
    """Refuse --weights that no file can be read from."""
    if weights not in (None, "backup", "pretrained", "none") and not Path(weights).is_file():
        what = "a folder" if Path(weights).is_dir() else "no such file"
        raise ValueError(f"`weights` must be 'pretrained', 'none' or a weight file. Received: {what}, {weights}")


def _check_single(options, told):
    """Refuse what a single training cannot do, before hours are spent."""
    folder = options.checkpoints or options.game == "breakout" or None  # which has one
    TrainSettings(**told, checkpoints=folder)
    if options.sweep is not None:
        raise ValueError(f"`sweep` needs `seeds`. Received: {' '.join(options.sweep)}")
    if options.resume and options.weights not in (None, "backup", "none"):
        raise ValueError(f"`resume` takes the weights from the checkpoint. Received: --weights {options.weights}")
    for name, value in _given(options, *CHECKPOINTS).items() if folder is None else ():
        raise ValueError(f"`{name}` needs `checkpoints`, a folder. Received: {value}")
    for name, suffixes in (("out", [".h5"]), ("plot", [".png", ".svg", ".pdf"]), ("history", [".json", ".csv"])):
        if name in options.given:
            _check_suffix(name, options.given[name], *suffixes)
            check_writable(options.given[name])


def _check_several(options):
    """Refuse what trainings from several seeds cannot do."""
    for name, value in options.given.items():
        known = name in (*GAME, *SEVERAL, "sweep", "config", "learning_rate")
        if not known and (name, value) not in (("weights", "none"), ("weights", "backup")):
            raise ValueError(f"`{name}` is for a single training; with --seeds each starts afresh. Received: {value}")


def _check_suffix(name, path, *suffixes):
    """Refuse a file of another kind."""
    if Path(path).suffix.lower() not in suffixes:
        raise ValueError(f"`{name}` must be a file of the kind {' or '.join(suffixes)}. Received: {path!r}")


# ---------------------------------------------------------------- from what is typed to a command

SPELLED = {"game": ["GAME"], "atari_game": ["--game"], "episodes": ["--episodes", "--games"]}
RECIPES = {**{name: GAMES[name].recipes for name in WITH_A_RUNNER}, "--env": ANY_RECIPES}
EPILOG = "\n  ".join(["recipes:", *(f"{name}: {', '.join(recipes)}" for name, recipes in RECIPES.items())])
EPILOG += """\n\nvalues are written as in Python, and "none" ends what a recipe has:
  --network '{"hidden": (64, 64), "dueling": True}' --optimizer '{"class": "Adam", "clipvalue": 1.0}'
  --exploration '{"class": "Linear", "start": 1.0, "end": 0.05, "steps_to_end": 3000}'"""
INSTEAD = {"game": "env", "env": "game", "episodes": "steps", "steps": "episodes"}  # one takes the place of the other


class Parser(argparse.ArgumentParser):
    """A parser that raises a ValueError."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _flags(name):
    """How an option is typed."""
    return SPELLED.get(name, [f"--{name.replace('_', '-')}"])


def make_parser() -> Parser:
    """The parser of all commands; what is not given it leaves out, and what is given it leaves as it is typed."""
    parser = Parser(PROGRAM, description="Deep Q-learning in Keras.", usage=f"{PROGRAM} COMMAND [OPTION ...]")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command", prog=PROGRAM)
    for name, (command, known, names) in COMMANDS.items():
        positional, text = names[0], inspect.getdoc(command) or ""
        one = commands.add_parser(
            name,
            usage=f"{PROGRAM} {name} {positional.upper()} [OPTION ...]",
            help=text.partition("\n")[0],
            description=text,
            epilog=EPILOG if "recipe" in names else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        many = {"nargs": "?" if positional == "game" else "+", "default": argparse.SUPPRESS}
        one.add_argument(positional, help=", ".join(known), **many)
        left = names[1:]
        for group in GROUPS:
            left = _add_options(one, group, left)
    return parser


def _add_options(parser, group, names):
    """Give a parser those of these options that a class has, with what its docstring says of them; the names left."""
    text = inspect.getdoc(group) or ""
    section = parser.add_argument_group(text.partition(".\n")[0])
    said = dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE))
    for field in fields(group):
        if field.name in names:
            kind = getattr(members(field.type)[0], "__origin__", members(field.type)[0])
            actions = {bool: argparse.BooleanOptionalAction, list: "append"}
            how = (
                {"action": actions[kind]}
                if kind in actions
                else {"metavar": {int: "N", float: "X", str: "TEXT"}.get(kind, "VALUE")}
            )
            text = " ".join(said.get(field.name, "").split()).replace("`", "").replace("%", "%%")
            section.add_argument(*_flags(field.name), dest=field.name, default=argparse.SUPPRESS, help=text, **how)
    return [name for name in names if name not in [field.name for field in fields(group)]]


def parse(arguments: Sequence[str]) -> SimpleNamespace:
    """The options of a line, checked: the `command`, what is `given`, typed or in a file, and each option by its name.

    What is typed wins over the file, also over the option that it excludes; another game or recipe over the settings of
    the agent, and --precision over its network, which has one.

    Raises:
        ValueError: there is no such option, or it does not take such a value.
        OSError: the file cannot be read.
    """
    if arguments and not arguments[0].startswith("-"):
        check_name(arguments[0], COMMANDS, "command")
    try:
        typed, unknown = make_parser().parse_known_args(arguments)
    except ValueError as error:
        raise ValueError(f"{error}. Received: {' '.join(arguments)}") from error
    command, known, names = COMMANDS[vars(typed).pop("command")]
    if unknown:
        check_name(unknown[0], [flag for name in names for flag in _flags(name)], "argument")
    given = config.checked(vars(typed), TYPES)
    if "config" in given:
        given = {**_of_file(given, names), **given}
    for name, other in INSTEAD.items():
        if name in given and other in given:
            raise ValueError(f"`{name}` takes the place of `{other}`. Received: both")
    if "game" in names and "env" not in given:
        check_name(given.get("game", "none"), known, "game")
    return SimpleNamespace(command=command, given=given, **{name: given.get(name) for name in names})


def _of_file(typed, names):
    """What the file of --config says, but for what is typed instead."""
    file = config.read(typed["config"], {name: TYPES[name] for name in names if name not in ("config", "resume")})
    of_file = {name: file.get(name, file.get(INSTEAD.get(name))) for name in ("game", "env", "recipe") if name in typed}
    renewed = any(value not in (None, typed[name]) for name, value in of_file.items())
    replaced = {*SETTINGS, "learning_rate"} - {"max_steps"} if renewed else set()
    replaced |= {INSTEAD[name] for name in INSTEAD if name in typed} | ({"network"} if "precision" in typed else set())
    return {name: value for name, value in file.items() if name not in replaced}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    It is 0, 2 after an error that was explained, 130 after Ctrl-C or SIGTERM, 141 where nobody reads on.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # where they are ASCII
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(" ".join(str(message).split()), file=sys.stderr)
            try:
                options = parse(sys.argv[1:] if arguments is None else arguments)
                options.command(options)
            finally:
                sys.stdout.flush()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read what is printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        message = " ".join(str(error).splitlines())
        message = re.sub(r"`(\w+)`", lambda word: _flags(word[1])[0] if word[1] in TYPES else word[0], message)
        print(f"keras_dqn: error: {message}", file=sys.stderr)
        return 2
    return 0
