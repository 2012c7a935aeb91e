"""The commands that do not train: plot, run, film, evaluate, play, export-html, bench."""

import argparse
import sys
import warnings
from pathlib import Path

import keras_dqn
from keras_dqn.commands.options import check_game, check_suffix, check_weights, trained_runner
from keras_dqn.files.atomic import check_writable
from keras_dqn.games import ON_A_PAGE


def plot(options: argparse.Namespace) -> None:
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


def run(options: argparse.Namespace) -> None:
    """Play one episode and film it."""
    check_game(options)
    check_suffix(options.video, "--video", [".mp4"])
    runner = trained_runner(options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        runner.run(options.epsilon, options.seed, options.video, inside=options.inside, max_frames=options.max_frames)
    for warning in said:
        if runner.last_run.paths:
            print(" ".join(str(warning.message).split()), file=sys.stderr)
    if not runner.last_run.paths:
        reason = " ".join(" ".join(str(warning.message) for warning in said).split())
        raise OSError(f"There is no film. Received: {reason}")


def film(options: argparse.Namespace) -> None:
    """Join films into one."""
    films = dict(text.rsplit("=", 1) if "=" in text else (Path(text).stem, text) for text in options.compare)
    if len(films) < len(options.compare):
        raise ValueError(f"Each film needs a caption of its own, as in before=a.mp4. Received: {options.compare}")
    names = ("columns", "one_after_the_other", "width", "start", "seconds", "frames_per_second")
    print(f"Film: {keras_dqn.video.join_videos(films, options.out, **{name: vars(options)[name] for name in names})}")


def evaluate(options: argparse.Namespace) -> None:
    """Play many episodes without learning and print their statistics."""
    check_game(options)
    runner = trained_runner(options, refuse=True)
    print(runner.evaluate(options.episodes, seed=options.seed or 0, epsilon=options.epsilon))


def play(options: argparse.Namespace) -> None:
    """Play with the keyboard in a window."""
    keras_dqn.playable.play(options.game)


def export_html(options: argparse.Namespace) -> None:
    """Write a page to play on, with or without an agent."""
    if options.game not in ON_A_PAGE:
        raise ValueError(f"The games of a page are {', '.join(ON_A_PAGE)}. Received: {options.game!r}")
    check_weights(options.weights)
    check_writable(options.out)
    weights = None if options.weights == "none" else options.weights
    keras_dqn.page.write_page(options.game, options.out, weights, options.recipe, network=options.network)
    print(f"Page: {options.out}")


def bench(options: argparse.Namespace) -> None:
    """Measure speed and memory."""
    if options.what == "ray":
        from keras_dqn.experiment.bench_ray import RAY as measurements
        from keras_dqn.ray.cluster import check_installed

        check_installed()
    elif options.what == "peers":
        from keras_dqn.experiment.peers import PEERS as measurements
    else:
        measurements = keras_dqn.bench.BREAKOUT if options.what == "breakout" else None
    keras_dqn.bench.main(options.repeats, measurements)
