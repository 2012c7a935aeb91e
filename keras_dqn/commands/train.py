"""The commands that train: once, from several seeds, beside PyTorch; and the arguments of a training."""

import time

import keras_dqn
from keras_dqn.commands.options import game_class, make_runner, typed
from keras_dqn.records.atomic import check_writable


def train(options):
    """Learn, save the weights, say what was reached."""
    if options.seeds is not None:
        _train_seeds(options)
        return
    if options.plot is not None:
        check_writable(keras_dqn.plots.check_figure_path(options.plot))
    if options.history is not None:
        check_writable(keras_dqn.history.check_history_path(options.history))
    settings = {"weight_backup": options.out, "memory_size": options.memory_size, "replay_every": options.replay_every}
    settings = {name: value for name, value in settings.items() if value is not None}
    runner = make_runner(options, episodes=options.episodes, steps=options.steps, **settings)
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
                f"`{typed(name)}` is for a single training; with --seeds each starts afresh. Received: {value}"
            )
    _experiment(keras_dqn.train_seeds, options)


def compare(options):
    """Train in Keras and in PyTorch from the same seeds."""
    _experiment(keras_dqn.compare, options)


def _experiment(function, options):
    """Train from several seeds and print the tables."""
    given = {"evaluate_every": options.evaluate_every, "stop_score": options.stop_score, "folder": options.out}
    experiment = function(
        game_class(options),
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
            raise ValueError(f"{typed(name)} needs --checkpoints FOLDER. Received: {options.game}")
    return None


def add_training(subparser, episodes):
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


def add_records(subparser):
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
