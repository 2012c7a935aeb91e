"""The commands that train: once, from several seeds, beside PyTorch; and the arguments of a training."""

import argparse
import ast
import inspect
import math
import time

import keras_dqn
from keras_dqn.commands.config import agent_settings, description, function_called, write
from keras_dqn.commands.options import (
    above_zero,
    check_game,
    check_out,
    finite,
    game_class,
    make_runner,
    not_negative,
    whole,
)


def train(options: argparse.Namespace) -> None:
    """Learn, save the weights, say what was reached."""
    if options.seeds is not None:
        _train_seeds(options)
        return
    if options.sweep is not None:
        raise ValueError(f"--sweep needs --seeds. Received: --sweep {' --sweep '.join(options.sweep)}")
    _check_single(options)
    check_game(options)
    settings = {"weight_backup": options.out, "memory_size": options.memory_size, "replay_every": options.replay_every}
    settings = {name: value for name, value in settings.items() if value is not None}
    settings = {**agent_settings(options.agent, options.config), **_runner_settings(options), **settings}
    weights = None if options.weights == "none" or options.resume else options.weights
    runner = make_runner(options, weights, **_budget(options), **settings)
    described, left_out = description(options, runner)  # before anything of it changes
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
            actors=options.actors,
            ray=options.ray,
            in_order=options.in_order,
            **({} if options.ahead is None else {"ahead": options.ahead}),
        )
    finally:  # as the weights, whatever ends it; but nothing that it made, nothing that is replaced
        if options.history is not None and runner.agent.steps:
            runner.history.save(options.history)
            print(f"History: {options.history}")
    print(_summary(runner, options.stop_score, time.perf_counter() - began))
    print(f"Weights: {runner.agent.weight_backup}")
    file = runner.agent.weight_backup.with_suffix(".toml")
    write(file, described)
    print(f"Settings: {file}" + (f", but for {', '.join(left_out)}, which has no name" if left_out else ""))
    if runner.best_score is not None:
        print(f"Best weights: {runner.best_backup}, mean score {runner.best_score:.1f}")
    if options.plot is not None:
        keras_dqn.plots.save_figure(
            keras_dqn.plots.learning_curve(history, solved_score=runner.solved_score, title=runner.environment),
            options.plot,
        )
        print(f"Learning curve: {options.plot}")


def _summary(runner, stop_score, seconds):
    """One line on what a training did."""
    history = runner.history
    text = f"{len(history)} episodes, {runner.agent.steps} steps, {runner.agent.learner.updates} updates "
    text += f"in {seconds:.1f} s"
    best = max((evaluation.score for evaluation in history.evaluations), default=-math.inf)
    if stop_score is not None and best >= stop_score:  # that is what it came to, and not its episodes of exploration
        return text
    return f"{text}; mean score of the last {min(100, len(history))}: {history.mean_score():.1f}"


def _check_single(options):
    """Refuse what a single training cannot do, before TensorFlow is loaded and hours are spent."""
    for name in ("ray", "in_order", "ahead"):
        if options.actors is None and getattr(options, name) not in (None, False):
            needs = "--seeds or --actors" if name == "ray" else "--actors"
            raise ValueError(f"{typed(name)} needs {needs}. Received: {options.game or options.env}")
    if options.actors is not None and options.record_every is not None:
        raise ValueError(f"--record-every films a game that is here. Received: --actors {options.actors}")
    if options.stop_score is not None and options.evaluate_every is None:
        raise ValueError(f"--stop-score needs --evaluate-every. Received: --stop-score {options.stop_score:g}")
    if options.resume and options.weights not in ("backup", "none"):
        raise ValueError(f"--resume takes the weights from the checkpoint. Received: --weights {options.weights}")
    if options.checkpoints is None and options.game != "breakout":  # which has a folder of its own
        for name in ("checkpoint_minutes", "checkpoint_memory", "weights_every", "resume", "tensorboard"):
            if getattr(options, name) not in (None, False):
                raise ValueError(f"{typed(name)} needs --checkpoints FOLDER. Received: {options.game or options.env}")
    check_out(options.out, "--out", [".h5"])
    check_out(options.plot, "--plot", [".png", ".svg", ".pdf"])
    check_out(options.history, "--history", [".json", ".csv"])


def _train_seeds(options):
    """Train from several seeds."""
    names = ["plot", "history", "record_every", "verbose", "memory_size", "precision", "replay_every", "sticky"]
    names += [
        "actors",
        "in_order",
        "ahead",
        "learning_rate",
        "checkpoints",
        "checkpoint_minutes",
        "checkpoint_memory",
        "weights_every",
        "resume",
    ]
    single = {name: getattr(options, name) for name in [*names, "tensorboard"]}
    single["game"] = options.atari_game
    single["weights"] = None if options.weights in ("backup", "none") else options.weights
    for name, value in single.items():
        if value is not None and value is not False:
            raise ValueError(
                f"{typed(name)} is for a single training; with --seeds each starts afresh. Received: {value}"
            )
    check_game(options)
    _experiment("train_seeds", options)


def compare(options: argparse.Namespace) -> None:
    """Train in Keras and in PyTorch from the same seeds."""
    check_game(options)
    _experiment("compare", options)


def _experiment(function, options):
    """Train from several seeds and print the tables."""
    given = {"evaluate_every": options.evaluate_every, "stop_score": options.stop_score, "folder": options.out}
    given |= {"ray": options.ray, "sweep": _sweep(options)}
    experiment = getattr(keras_dqn, function)(
        game_class(options),
        options.recipe,
        seeds=options.seeds,
        seed=options.seed or 0,
        progress=not options.quiet,
        **_budget(options),
        **_runner_settings(options),
        **agent_settings(getattr(options, "agent", {}), getattr(options, "config", None)),
        **{name: value for name, value in given.items() if value is not None},
    )
    print(experiment)
    print(f"Results: {experiment.folder}")


def _sweep(options):
    """--sweep NAME=VALUE,VALUE as {name: [values]}; None where there is none."""
    if getattr(options, "sweep", None) is None:
        return None
    sweep = {}
    for text in options.sweep:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier() or name in sweep:
            raise ValueError(f"--sweep must be NAME=VALUE,VALUE, each name once. Received: {text}")
        sweep[name] = [_value(value.strip()) for value in values.split(",")]
    return sweep


def _value(text):
    """A number, True, False or None where the text is one; else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _budget(options):
    """How long to train, as `Runner` takes it."""
    return {"episodes": options.episodes or options.default_episodes, "steps": options.steps}


def _runner_settings(options):
    """The settings of a training that are not its agent's, as far as they are given."""
    given = {name: getattr(options, name, None) for name in ("num_envs", "max_steps", "shape_reward")}
    given = {name: value for name, value in given.items() if value is not None}
    if "shape_reward" in given:
        given["shape_reward"] = function = function_called("shape_reward", given["shape_reward"], "--shape-reward")
        try:
            inspect.signature(function).bind(*("states", "actions", "rewards", "next_states"))
        except TypeError as error:
            words = "--shape-reward must take states, actions, rewards and next_states"
            raise ValueError(f"{words}. Received: {error}") from error
    return given


def _checkpoints(options, runner):
    """What --checkpoints and its like ask for; None where there are to be none."""
    folder = options.checkpoints or getattr(runner, "checkpoint_folder", None)
    if folder is None:
        return None
    minutes = {} if options.checkpoint_minutes is None else {"minutes": options.checkpoint_minutes}
    memory, weights_every = options.checkpoint_memory, options.weights_every
    return keras_dqn.Checkpoints(folder, memory=memory, weights_every=weights_every, **minutes)


def add_training(parser: argparse.ArgumentParser, episodes: int) -> argparse._ArgumentGroup:
    """The arguments of a training, single or one of several; returns their group."""
    group = parser.add_argument_group("the training")
    budget = group.add_mutually_exclusive_group()
    budget.add_argument("--episodes", type=whole, metavar="N", help=f"episodes to play; {episodes} if not given")
    parser.set_defaults(default_episodes=episodes)
    budget.add_argument("--steps", type=whole, metavar="N", help="environment steps to make instead")
    group.add_argument(
        "--evaluate-every",
        type=whole,
        metavar="N",
        help="evaluate every N steps and keep the best weights apart (1000 where there are several seeds)",
    )
    group.add_argument("--stop-score", type=finite, metavar="SCORE", help="end when an evaluation has this mean")
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    return group


def add_actors(parser: argparse.ArgumentParser) -> None:
    """The arguments of a training whose games are played elsewhere."""
    group = parser.add_argument_group("games played on Ray")
    group.add_argument("--actors", type=whole, metavar="N", help="N actors play, this process learns; where: --ray")
    group.add_argument(
        "--in-order", action="store_true", help="take what they play in turns, so that it can be repeated"
    )
    group.add_argument(
        "--ahead", type=whole, metavar="N", help="chunks that an actor is asked for at most; 2 if not given"
    )


def add_seeds(group: argparse._ArgumentGroup) -> None:
    """The argument of trainings from several seeds that says where they run."""
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run seeds or actors on a cluster of Ray: 'auto' for the one that this shell belongs to, or else all "
        "cores of this machine; or its host:port",
    )


def add_records(parser: argparse.ArgumentParser) -> None:
    """The arguments of a training that `train` alone has: settings, results, and what a long one leaves behind."""
    _add_settings(parser)
    _add_results(parser)
    _add_checkpoints(parser)


def _add_settings(parser):
    group = parser.add_argument_group("settings, instead of the recipe's")
    group.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16"),
        help="with breakout: mixed_bfloat16 is faster on some machines",
    )
    group.add_argument("--memory-size", type=whole, metavar="STEPS", help="how many transitions are remembered")
    group.add_argument("--replay-every", type=whole, metavar="STEPS", help="how often it learns")
    group.add_argument("--num-envs", type=whole, metavar="N", help="how many environments play at once")
    group.add_argument("--max-steps", type=whole, metavar="STEPS", help="where an episode without an end is cut off")
    group.add_argument(
        "--shape-reward",
        metavar="NAME",
        help="rewards to learn from instead of the true ones: clipped, or module:function, which is imported",
    )
    group.add_argument("--learning-rate", type=above_zero, metavar="RATE", help="of the checkpoint's, too")


def _add_results(parser):
    group = parser.add_argument_group("results")
    group.add_argument(
        "--seeds",
        type=whole,
        metavar="N",
        help="train N times from fresh weights, with seeds from --seed on, into --out",
    )
    group.add_argument(
        "--sweep",
        action="append",
        metavar="NAME=VALUE,…",
        help="with --seeds: try these values of a setting, like learning_rate=1e-4,3e-4, or recipe=…; given several "
        "times, every combination",
    )
    add_seeds(group)
    group.add_argument(
        "--out",
        metavar="FILE",
        help="the .h5 file for the weights, else named after game and recipe; with --seeds, the folder for tables, "
        "plot and weights, else one in results/",
    )
    group.add_argument("--record-every", type=whole, metavar="N", help="film every N-th episode into videos/")
    group.add_argument("--plot", metavar="FILE", help="write the learning curve (png, svg or pdf)")
    group.add_argument(
        "--history", metavar="FILE", help="write the history: all of it (json), or a row an episode (csv)"
    )
    group.add_argument("--verbose", action="store_true", help="print the score of each episode")


def _add_checkpoints(parser):
    group = parser.add_argument_group("checkpoints, for long trainings")
    group.add_argument(
        "--checkpoints",
        metavar="FOLDER",
        help="write a log and checkpoints there, two of which are kept; none if not given, but breakout: "
        "<game>_checkpoints",
    )
    group.add_argument(
        "--checkpoint-minutes", type=not_negative, metavar="M", help="between two of them; 5 if not given"
    )
    group.add_argument(
        "--checkpoint-memory",
        action="store_true",
        help="save the memory too; its size is said",
    )
    group.add_argument(
        "--weights-every",
        type=whole,
        metavar="N",
        help="keep the weights of every N steps there, in files of their own",
    )
    group.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    group.add_argument("--tensorboard", metavar="FOLDER", help="write the log for TensorBoard as well")


def typed(name: str) -> str:
    """How an option is typed."""
    return f"--{name.replace('_', '-')}"
