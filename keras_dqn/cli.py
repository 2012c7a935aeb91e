"""The command line: `keras-dqn COMMAND`, and the one line that it prints where something is wrong.

An option is a field of a dataclass: its type says what is taken, and the class's docstring what it is for. Those of an
agent, of a game and of `train` are the classes that Python users have. Options are checked before TensorFlow is loaded.
"""

import argparse
import inspect
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from keras_dqn import config
from keras_dqn.checks import Fraction, NonNegativeInt, PositiveInt, check_name, members
from keras_dqn.core.settings import ExplorationSettings, LearnerSettings, MemorySettings
from keras_dqn.files.atomic import check_writable, copied_beside
from keras_dqn.games import ANY_RECIPES, GAMES
from keras_dqn.training.settings import GameSettings, TrainSettings
from keras_dqn.version import VERSION

PROGRAM = "keras-dqn"
Given = dict[str, Any]  # {option: value} of those that were typed or stand in the file of --config


OPTIONS = {  # what the command is about, beside the settings: the type of a value, and what it is for
    "game": (str, "one of those below, or an environment of gymnasium, like Acrobot-v1 or my_module:MyGame-v0"),
    "recipe": (str, "settings by name; the game's first one if not given"),
    "seed": (NonNegativeInt, "makes everything repeatable"),
    "atari_game": (str, "with breakout: another game, like pong"),
    "sticky": (Fraction, "with breakout: probability that a frame repeats the action before it"),
    "precision": (str, "with breakout: float32, or mixed_bfloat16, which is faster on some machines"),
    "weights": (str, '"backup" (what a training left here, to play its best), "pretrained", "none", or a file'),
    "episodes": (PositiveInt, "how many to play; if not given 200 to train, 600 to compare, 100 to evaluate"),
    "steps": (PositiveInt, "environment steps to make instead"),
    "seeds": (PositiveInt, "train so many times from fresh weights, with seeds from --seed on"),
    "sweep": (list[str], "with --seeds: values to try, like tau=0.01,0.1; given several times, every combination"),
    "config": (str, "a training in a file, like the one that each leaves beside its weights; what is typed wins"),
    "out": (str, "the file to write: weights (h5), a page (html) or a figure (png, svg, pdf); for seeds a folder"),
    "plot": (str, "write the learning curve (png, svg or pdf)"),
    "history": (str, "write the history: all of it (json), or a row an episode (csv)"),
    "quiet": (bool, "no progress bar"),
    "checkpoints": (str, "write a log and checkpoints into this folder; if not given none, but breakout"),
    "checkpoint_minutes": (float, "between two of them; 5 if not given"),
    "checkpoint_memory": (bool, "save the memory too"),
    "weights_every": (PositiveInt, "keep the weights of every so many steps there, in files of their own"),
    "epsilon": (Fraction, "probability of a random action; 1 is all random, 0 if not given"),
    "video": (str, "the MP4 to write; videos/<game>.mp4 if not given"),
    "inside": (bool, "film beside the game what the network sees, and its Q-values"),
    "max_frames": (PositiveInt, "where the film ends"),
    "files": (list[str], "histories that train --history wrote (json or csv)"),
    "x": (str, 'what scores are drawn over: "episodes", or "steps", which draws scores alone'),
    "solved_score": (float, "draw a line at the score that solves the game"),
    "names": (list[str], "implementations: keras_dqn, sb3-dqn, tianshou, …, or csv"),
    "path": (str, "the checkout of scripts that are no package; of csv, the folder for the files"),
    "probe": (list[str], "run this one alone, like TimeLimit; given several times, these"),
}


# ---------------------------------------------------------------- commands


def train(given: Given) -> None:
    """Train an agent; its weights are saved whatever ends it, Ctrl-C too.

    example:
      keras-dqn train cartpole --recipe fast --evaluate-every 500 --stop-score 490
    """
    from keras_dqn.show import plots

    if "seeds" in given:
        return _experiment("train_seeds", given)
    _check_single(given)
    goes_on = given.get("resume", False)
    weights = None if goes_on else _weights(given, "backup")
    runner = _runner(given, weights, **_some(given, "episodes", "steps", out="weight_backup"))
    agent, backup, began = runner.agent, runner.agent.weight_backup, time.perf_counter()
    started = {} if backup.exists() else {"weights": "none"}  # so that the file does it again
    try:
        runner.train(progress=not given.get("quiet"), checkpoints=_checkpoints(given, runner), **_some(given, *TRAIN))
    except KeyboardInterrupt:
        print(f"Weights: {backup}; --weights backup goes on from them, and --resume from a checkpoint")
        raise
    finally:
        if agent.steps:
            _write("History", given.get("history"), runner.history.save, goes_on)
            config.write(backup.with_suffix(".toml"), started | given, runner)
            print(f"Settings: {backup.with_suffix('.toml')}")
    seconds, episodes = time.perf_counter() - began, len(runner.history)
    print(f"{episodes} episodes, {agent.steps} steps, {agent.learner.updates} updates in {seconds:.1f} s")
    if episodes:
        print(f"Mean score of the last {min(100, episodes)}: {runner.history.mean_score():.1f}")
    print(f"Weights: {backup}")
    if runner.best_score is not None:
        print(f"Best weights: {runner.best_backup}, mean score {runner.best_score:.1f}")
    if "plot" in given:
        figure = plots.learning_curve(runner.history, solved_score=runner.solved_score, title=runner.environment)
        _write("Learning curve", given["plot"], lambda path: plots.save_figure(figure, path), goes_on)


def compare(given: Given) -> None:
    """Train in Keras and in PyTorch from the same seeds and with the same budget; tables and a plot.

    Interrupted, it keeps what has ended, and the same command goes on.

    example:
      keras-dqn compare cartpole --recipe pytorch --seeds 10
    """
    _experiment("compare", given)


def evaluate(given: Given) -> None:
    """Play episodes with fixed seeds without learning; print mean, spread and interval.

    example:
      keras-dqn evaluate cartpole --weights pretrained --episodes 100
    """
    print(_trained_runner(given).evaluate(**_some(given, "episodes", "seed", "epsilon")))


def run(given: Given) -> None:
    """Play one episode without learning, film it, print its score.

    example:
      keras-dqn run cartpole --weights pretrained --video pole.mp4
    """
    runner = _trained_runner(given)
    runner.run(**_some(given, "epsilon", "seed", "video", "inside", "max_frames"))
    if not runner.last_run.paths:
        raise OSError(f"There is no film. Received: {given.get('video', runner.name)}")


def play(given: Given) -> None:
    """Play with the keyboard in a window: a or left arrow, d or right arrow.

    example:
      keras-dqn play cartpole
    """
    from keras_dqn.playable import play

    play(given.get("game"))


def export_html(given: Given) -> None:
    """Write an HTML file to play on, against an agent; any browser opens it.

    example:
      keras-dqn export-html cartpole --weights pretrained --out cartpole.html
    """
    from keras_dqn.playable.page import play_here

    game = given.get("game")
    page = play_here(game, _weights(given, None), **_some(given, "recipe"), **_settings(given))
    print(f"Page: {page.save(given.get('out', f'{game}.html'))}")


def plot(given: Given) -> None:
    """Draw a history that train --history wrote: its learning curve; of several, one figure.

    example:
      keras-dqn plot juvin.json fast.json --x steps --out runs.png
    """
    from keras_dqn.show import plots
    from keras_dqn.training.history import History

    path = plots.check_figure_path(given.get("out", ""))
    histories = {str(Path(file).with_suffix("")): History.load(file) for file in given["files"]}
    if len(histories) == 1 and given.get("x") != "steps":
        ((label, history),) = histories.items()
        figure = plots.learning_curve(history, title=label, **_some(given, "solved_score"))
    else:
        figure = plots.compare_runs(histories, **_some(given, "x", "solved_score"))
    plots.save_figure(figure, path)
    print(f"Figure: {path}")


def conformance(given: Given) -> int:
    """Train implementations of deep Q-learning on probes whose values are known exactly; the status is how many fail.

    example:
      keras-dqn conformance sb3-dqn
      keras-dqn conformance cleanrl-pqn --path ../cleanrl --probe TimeLimit
    """
    from keras_dqn.conformance import ADAPTERS, PROBES, print_table

    names, probes = given["names"], given.get("probe", [])
    for name in names:
        check_name(name, ADAPTERS, "implementation")
    for name in probes:
        check_name(name, [probe.__name__ for probe in PROBES], "probe")
    path = Path(given["path"]) if "path" in given else None
    return sum(print_table(name, path, given.get("seed", 0), probes) for name in names)


def _described(settings):
    """{field: (type, what the docstring says of it)} of a class of settings."""
    said = dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", inspect.getdoc(settings) or "", re.MULTILINE))
    return {field.name: (field.type, re.sub(r"\s+", " ", said.get(field.name, ""))) for field in fields(settings)}


AGENT = {"memory": MemorySettings, "learning": LearnerSettings, "exploration": ExplorationSettings}
CLASSES = {"training": TrainSettings, "game": GameSettings, **AGENT}
GROUPS = {"command": OPTIONS, **{title: _described(settings) for title, settings in CLASSES.items()}}
TYPES = {name: kind for one in reversed(GROUPS.values()) for name, (kind, _) in one.items()}  # of two, the first
TRAIN = [name for name in GROUPS["training"] if name not in ("progress", "live", "checkpoints")]
SETTINGS = [name for title in ("game", *AGENT) for name in GROUPS[title] if name != "learning_rate"]
GAME, ATARI = ["game", "recipe", "seed"], ["atari_game", "sticky", "precision"]
CHECKPOINTS = ["checkpoint_minutes", "checkpoint_memory", "weights_every"]
ASKED = ["recipe", "seed", "seeds", "episodes", "steps", "evaluate_every", "stop_score", "ray", "learning_rate"]
SEVERAL = ["game", *ASKED, "out", "quiet", *SETTINGS]  # what trainings from several seeds take
TRAINING = [*SEVERAL, *ATARI, "weights", "config", "sweep", "plot", "history", "checkpoints", *CHECKPOINTS, *TRAIN]
PLAYER = [*GAME, *ATARI, "weights", "network", "epsilon", "max_episode_steps"]
COMMANDS = {  # name: the command, and its options; the first is given by its place
    "train": (train, TRAINING),
    "compare": (compare, SEVERAL),
    "evaluate": (evaluate, [*PLAYER, "episodes"]),
    "run": (run, [*PLAYER, "video", "inside", "max_frames"]),
    "play": (play, ["game"]),
    "export-html": (export_html, ["game", "recipe", "weights", "network", "out"]),
    "plot": (plot, ["files", "out", "x", "solved_score"]),
    "conformance": (conformance, ["names", "path", "seed", "probe"]),
}


# ---------------------------------------------------------------- what commands have in common


def _some(given, *names, **renamed):
    """Those of these options that were given, as keywords."""
    renamed = {**{name: name for name in names}, **renamed}
    return {keyword: given[name] for name, keyword in renamed.items() if name in given}


def _settings(given):
    """What was given of the agent and its environments, as keywords of a `Runner`."""
    return config.keywords(_some(given, *SETTINGS))


def _weights(given, usual):
    """What `Runner` takes as weights: None for --weights none."""
    weights = given.get("weights", usual)
    return None if weights == "none" else weights


def _game_class(name):
    """The class of runners of a game, or of an environment by its id."""
    if name in GAMES:
        return GAMES[name].runner_class()
    from keras_dqn.games.any_game import game_for

    return game_for(name)


def _runner(given, weights, **more):
    """The runner that was asked for, with these weights: None, "backup", "pretrained" or a file."""
    more |= _settings(given) | _some(given, "recipe", "seed", "sticky", "precision", atari_game="game")
    return _game_class(given["game"])(weights=weights, **more)


def _trained_runner(given):
    """A runner with the weights that were asked for, or the best that a training left in this folder."""
    weights = _weights(given, "backup")
    runner = _runner(given, None if weights == "backup" else weights)
    if weights != "backup":
        return runner
    for path in (runner.best_backup, runner.agent.weight_backup):
        if path.exists():
            print(f"Weights: {path}")
            return _runner(given, path)
    others = [name for name in runner.recipes if Path(f"{runner.name}_{name}_weight.h5").exists()]
    asked = f"give `recipe` {others[0]}" if others else "give `weights` pretrained, a file, or none"
    raise ValueError(f"The network is untrained, as there is no {path} here: {asked}. Received: backup")


def _experiment(function, given):
    """Train from several seeds and print the tables."""
    for name, value in given.items():
        if name not in (*SEVERAL, "sweep", "config") and value not in ("none", "backup"):  # each starts afresh
            raise ValueError(f"`{name}` is for a single training, without `seeds`. Received: {value}")
    options = _some(given, *ASKED, out="folder") | _settings(given)
    sweep = _sweep(given["sweep"]) if "sweep" in given else None
    from keras_dqn.experiment import seeds  # now that all is checked: TensorFlow comes with it

    train = getattr(seeds, function)
    experiment = train(_game_class(given["game"]), progress=not given.get("quiet"), sweep=sweep, **options)
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


def _checkpoints(given, runner):
    """What --checkpoints and its like ask for; None where there are to be none."""
    from keras_dqn.training.checkpoint import Checkpoints

    folder = given.get("checkpoints", getattr(runner, "checkpoint_folder", None))
    renamed = {"checkpoint_minutes": "minutes", "checkpoint_memory": "memory"}
    return folder and Checkpoints(folder, **_some(given, "weights_every", **renamed))


def _write(what, path, write, goes_on):
    """Write a file that was asked for, and say so; that of another training is kept, not that of one that goes on."""
    if path is not None:
        if not goes_on and (kept := copied_beside(Path(path))):
            print(f"{path} of before is kept as {kept}")
        write(path)
        print(f"{what}: {path}")


# ---------------------------------------------------------------- what is refused before TensorFlow is loaded


def _check_game(given):
    """Refuse a game and a recipe that there are not."""
    game = given.get("game", "none")
    if "-v" not in game and ":" not in game:  # as in the id of an environment
        check_name(game, GAMES, "game")
    if "recipe" in given:
        check_name(given["recipe"], GAMES[game].recipes if game in GAMES else ANY_RECIPES, "recipe")
    if game != "breakout" and (atari := _some(given, *ATARI)):
        raise ValueError(f"`atari_game`, `sticky` and `precision` are for breakout. Received: {atari}")


def _check_single(given):
    """Refuse what a single training cannot do, before hours are spent."""
    folder = given.get("checkpoints", given["game"] == "breakout" or None)  # which has one
    TrainSettings(**_some(given, *TRAIN), checkpoints=folder)
    if "sweep" in given:
        raise ValueError(f"`sweep` needs `seeds`. Received: {' '.join(given['sweep'])}")
    if given.get("resume") and given.get("weights", "none") not in ("backup", "none"):
        raise ValueError(f"`resume` takes the weights from the checkpoint. Received: --weights {given['weights']}")
    for name, value in _some(given, *CHECKPOINTS).items() if folder is None else ():
        raise ValueError(f"`{name}` needs `checkpoints`, a folder. Received: {value}")
    kinds = {"out": [".h5"], "plot": [".png", ".svg", ".pdf"], "history": [".json", ".csv"]}
    for name, path in _some(given, *kinds).items():
        if Path(path).suffix.lower() not in kinds[name]:
            raise ValueError(f"`{name}` must be a file of the kind {' or '.join(kinds[name])}. Received: {path!r}")
        check_writable(path)


# ---------------------------------------------------------------- from what is typed to a command

METAVARS, ACTIONS = {int: "N", float: "X", str: "TEXT"}, {bool: argparse.BooleanOptionalAction, list: "append"}
SPELLED = {
    "game": ["GAME"],
    "files": ["FILES"],
    "names": ["NAMES"],
    "atari_game": ["--game"],
    "episodes": ["--episodes", "--games"],
}
RECIPES = [f"{name}: {', '.join(game.recipes)}" for name, game in GAMES.items()]
EPILOG = "\n  ".join(["games and their recipes:", *RECIPES])
EPILOG += """\n\nvalues are written as in Python, and "none" ends what a recipe has:
  --network '{"hidden": (64, 64), "dueling": True}' --optimizer '{"class": "Adam", "clipvalue": 1.0}'
  --exploration '{"class": "Linear", "start": 1.0, "end": 0.05, "steps_to_end": 3000}'"""


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
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command", prog=PROGRAM)
    for name, (command, (positional, *options)) in COMMANDS.items():
        text = inspect.getdoc(command) or ""
        one = commands.add_parser(
            name,
            usage=f"{PROGRAM} {name} {positional.upper()} [OPTION ...]",
            help=text.partition("\n")[0],
            description=text,
            epilog=EPILOG if "recipe" in options else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        one.add_argument(positional, nargs="?" if positional == "game" else "+", help=OPTIONS[positional][1])
        left = set(options)
        for title, group in GROUPS.items():
            section = one.add_argument_group(title)
            for option in [option for option in group if option in left]:
                _add_option(section, option, *group[option])
            left -= group.keys()
    return parser


def _add_option(section, name, kind, text):
    kind = members(kind)[0]
    kind = getattr(kind, "__origin__", kind)
    how = {"action": ACTIONS[kind]} if kind in ACTIONS else {"metavar": METAVARS.get(kind, "VALUE")}
    section.add_argument(*_flags(name), dest=name, help=text.replace("`", "").replace("%", "%%"), **how)


def parse(arguments: Sequence[str]) -> tuple[Callable[[Given], int | None], Given]:
    """The command of a line, and its options, checked, typed or in a file.

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
    command, names = COMMANDS[vars(typed).pop("command")]
    if unknown:
        if any(unknown[0] in _flags(name) for name in TRAINING):
            raise ValueError(f"That is an option of train alone; weights bring what they need. Received: {unknown[0]}")
        check_name(unknown[0], [flag for name in names for flag in _flags(name)], "argument")
    given = config.checked(vars(typed), TYPES)
    if "config" in given:
        given = {**_of_file(given), **given}
    if {"episodes", "steps"} <= given.keys():
        raise ValueError("`steps` takes the place of `episodes`. Received: both")
    if "recipe" in names:
        _check_game(given)
    return command, given


def _of_file(typed):
    """What the file of --config says, but for what is typed instead."""
    file = config.read(typed["config"], {name: TYPES[name] for name in TRAINING if name not in ("config", "resume")})
    replaced = {"network"} if "precision" in typed else set()
    if {"episodes", "steps"} & typed.keys():
        replaced |= {"episodes", "steps"}
    if any(file.get(name, typed[name]) != typed[name] for name in ("game", "recipe") if name in typed):
        replaced |= {*SETTINGS, "learning_rate"} - {"max_episode_steps"}
    return {name: value for name, value in file.items() if name not in replaced}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    It is 0, of `conformance` how many probes fail, 2 after an error that was explained, 130 after Ctrl-C or SIGTERM,
    141 where nobody reads on.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # where they are ASCII
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(" ".join(str(message).split()), file=sys.stderr)
            try:
                command, given = parse(sys.argv[1:] if arguments is None else arguments)
                return command(given) or 0
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
