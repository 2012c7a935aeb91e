"""Figures: scores, exploration and losses of one training, the scores of many over seeds, and the screens of a game."""

from collections.abc import Mapping
from itertools import cycle, product
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_dqn.show.figures import INK, _legend, _short_numbers, prepare
from keras_dqn.show.figures import check_figure_path as check_figure_path
from keras_dqn.show.figures import figure_style as figure_style
from keras_dqn.show.figures import new_figure as new_figure
from keras_dqn.show.figures import notebook_picture as notebook_picture
from keras_dqn.show.figures import png as png
from keras_dqn.show.figures import save_figure as save_figure
from keras_dqn.training.evaluation import FEWEST_FOR_AN_INTERVAL, interval_or_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The colours of Okabe and Ito, which colour-blind readers tell apart, on opaque white: the same in dark surroundings.
_SCORE, _MEAN, _EPSILON, _LOSS, _EACH_LOSS = "#56b4e9", "#0072b2", "#009e73", "#d55e00", "#e69f00"
_EVALUATION = "#cc79a7"
_CURVES = (_MEAN, _LOSS, _EPSILON, _EVALUATION, _EACH_LOSS, _SCORE)
_PROGRESS = {"episodes": "Episode", "steps": "Environment steps"}  # what runs are drawn over: the label of the axis
_POINTS = 4000  # a line of more is thinned out: the picture has 900 pixels


def running_mean(values: Any, window: int) -> np.ndarray:
    """Return for each of the values [N] the mean of the last `window` up to it, or of all so far if they are fewer."""
    if window < 1:
        raise ValueError(f"window must be at least 1 episode. Received: {window}")
    values = np.asarray(values, dtype=np.float64)
    sums = np.cumsum(values)
    sums[window:] -= sums[:-window]
    return sums / np.minimum(np.arange(1, len(values) + 1), window)


def learning_curve(
    history: Any, *, solved_score: float | None = None, window: int = 100, title: str | None = None
) -> "Figure":
    """Draw the score of each episode with its mean over the last `window` episodes, then the epsilon, then the loss.

    `history` has `scores`, `epsilons` and `losses`, one number for each finished episode; the loss is NaN where there
    was no update. Its `evaluations`, where it has some, are a line of their own with a point for each, placed among the
    episodes by the `lengths` of these. `solved_score` becomes a line, and the first evaluation that reaches it a star.
    Raises ValueError if there is no episode or the numbers do not match.
    """
    scores, epsilons, losses = (np.asarray(x, np.float64) for x in (history.scores, history.epsilons, history.losses))
    if not len(scores) or not len(scores) == len(epsilons) == len(losses):
        counts = f"{len(scores)} scores, {len(epsilons)} epsilons, {len(losses)} losses"
        raise ValueError(f"A learning curve needs a score, epsilon and loss for each episode. Received: {counts}")
    with figure_style():
        figure = new_figure(height=5.8)
        panels = figure.subplots(3, sharex=True, height_ratios=(3, 1, 1))
        for panel, label in zip(panels, ("Score (sum of rewards)", "Epsilon", "Loss"), strict=True):
            prepare(panel, label)
        _draw_scores(panels[0], scores, _evaluations(history, "episodes"), solved_score, window)
        _draw_epsilons(panels[1], epsilons)
        _draw_losses(panels[2], losses)
        panels[2].set(xlabel="Episode", xlim=(0.5, len(scores) + 0.5))
        figure.align_ylabels()
        figure.suptitle(title or "", fontsize=14)
    return figure


def losses(history: Any, *, window: int | None = None, title: str | None = None) -> "Figure":
    """Draw the loss of each update with its mean over the last `window` updates; by default 1 % of them, 100 at least.

    `history` has `update_losses`, or is itself a list of losses, one for each update. Where there are many, the line of
    each update goes through the lowest and the highest of every few, so that no peak is lost. The axis is logarithmic
    where the losses span more than two decades. Raises ValueError if there is none.
    """
    values = np.asarray(getattr(history, "update_losses", history), np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"A curve of losses needs the loss of at least one update. Received: shape {values.shape}")
    window = max(100, len(values) // 100) if window is None else window
    means = running_mean(values, window)
    with figure_style():
        figure = new_figure(height=4.5)
        panel = figure.subplots()
        prepare(panel, "Loss")
        _scale(panel, values)
        _draw_at(panel, *_thinned(values), color=_EACH_LOSS, linewidth=0.8, label="Each update")
        _draw_at(panel, *_thinned(means), color=_LOSS, linewidth=3, label=f"Mean of last {window}")
        panel.set(xlabel="Update", xlim=(0.5, len(values) + 0.5))
        panel.xaxis.set_major_formatter(_short_numbers())
        _legend(panel)
        figure.suptitle(title or "", fontsize=14)
    return figure


def learning_curves(
    curves: Mapping[str, tuple[Any, Any]], *, solved_score: float | None = None, title: str | None = None
) -> "Figure":
    """Draw for each label the mean over seeds, and each seed as a thin line behind it.

    The shade is the 95 % interval of the mean; for fewer than five seeds it goes from the lowest to the highest.
    `curves` has for each label the environment steps [points] and the scores [seeds, points] of the evaluations made
    after them. `solved_score` becomes a line. Raises ValueError if there is no curve or the numbers do not match.
    """
    arrays = {label: (np.asarray(steps), np.asarray(scores, float)) for label, (steps, scores) in curves.items()}
    for label, (steps, scores) in arrays.items():
        if scores.ndim != 2 or not scores.size or scores.shape[1:] != steps.shape:
            shapes = f"steps {steps.shape} and scores {scores.shape} of {label!r}"
            raise ValueError(f"A curve needs steps [points] and scores [seeds, points]. Received: {shapes}")
    if not arrays:
        raise ValueError("There must be at least one curve to draw. Received: none")
    with figure_style():
        figure = new_figure(height=5)
        panel = figure.subplots()
        prepare(panel, "Mean score of greedy episodes")
        for (label, (steps, scores)), color in zip(arrays.items(), cycle(_CURVES), strict=False):
            _draw_seeds(panel, steps, scores, label, color)
        shown = np.concatenate([scores.ravel() for _, scores in arrays.values()])
        if solved_score is not None:
            _draw_solved(panel, solved_score)
            shown = np.append(shown, solved_score)
        # The interval of five seeds may be several times as wide as all there is to see; it is cut off.
        margin = 0.05 * np.ptp(shown) or 1
        panel.set_ylim(shown.min() - margin, shown.max() + margin)
        panel.set(xlabel="Environment steps", xlim=(0, None))
        panel.xaxis.set_major_formatter(_short_numbers())
        _legend(panel)
        figure.suptitle(title or "", fontsize=14)
    return figure


def compare_runs(
    runs: Mapping[str, Any],
    *,
    x: str = "episodes",
    solved_score: float | None = None,
    window: int = 100,
    title: str | None = None,
) -> "Figure":
    """Draw for each label a thin line, the score of each episode, and a thick one, its mean over the last `window`.

    Where a run has `evaluations`, they are a line with a point for each in the same colour, and where `solved_score`
    is given, the first one that reaches it is a star.
    `runs` has for each label a `History`, or anything with `scores` and `lengths`, one number for each finished
    episode. They are drawn over `x`: "episodes", or "steps" of the environment, the sum of the lengths up to the
    episode's end. `solved_score` becomes a line. Raises ValueError if there is no run, one without an episode, or
    another `x`.
    """
    if x not in _PROGRESS:
        raise ValueError(f"`x` must be one of {list(_PROGRESS)}. Received: {x!r}")
    arrays = {label: (np.asarray(run.scores, float), np.asarray(run.lengths)) for label, run in runs.items()}
    evaluations = [_evaluations(run, x) for run in runs.values()]
    for label, (scores, lengths) in arrays.items():
        if not len(scores) or len(scores) != len(lengths):
            counts = f"{len(scores)} scores and {len(lengths)} lengths of {label!r}"
            raise ValueError(f"A run needs the score and length of each episode, one at least. Received: {counts}")
    if not arrays:
        raise ValueError("There must be at least one run to draw. Received: none")
    with figure_style():
        names = [fill(label, 50) for label in arrays]
        figure = new_figure(height=4.5 + 0.25 * len("\n".join(names).splitlines()))  # the legend takes its part
        panel = figure.subplots()
        prepare(panel, f"Score (thick: mean of last {window})")
        styles = cycle(product(("-", "--", ":"), _CURVES))  # no two of many runs look alike
        for run, made, name, (dashes, color) in zip(arrays.values(), evaluations, names, styles, strict=False):
            _draw_run(panel, *run, x, window, color=color, linestyle=dashes, label=name)
            _draw_evaluations(panel, *made, solved_score, color=color)
        if any(len(steps) for steps, _ in evaluations):
            label = "Greedy evaluations" + " (star: solved)" * (solved_score is not None)
            panel.plot([], [], color=INK, marker="o", markersize=4, linewidth=1, label=label)
        if solved_score is not None:
            _draw_solved(panel, solved_score)
        panel.set(xlabel=_PROGRESS[x], xlim=(0, None))
        panel.xaxis.set_major_formatter(_short_numbers())
        _legend(panel)
        figure.suptitle(title or "", fontsize=14)
    return figure


def screens(original: np.ndarray, cleaned: np.ndarray, title: str | None = None) -> "Figure":
    """Draw a game's screen, uint8 [height, width, 3], and beside it what a network sees of it, one panel an image.

    `cleaned` is [K, height, width] in grey, uint8, the newest last, or [K, height, width, 3] in colour: uint8, or
    floats from -1 to 1 for differences, whose zero is drawn grey. Raises ValueError for other shapes.
    """
    if original.ndim != 3 or original.shape[2] != 3:
        raise ValueError(f"`original` must be [height, width, 3]. Received: shape {original.shape}")
    if cleaned.ndim not in (3, 4) or (cleaned.ndim == 4 and cleaned.shape[3] != 3):
        raise ValueError(f"`cleaned` must be images, [K, height, width] or with 3 colours. Received: {cleaned.shape}")
    if cleaned.dtype.kind == "f":
        cleaned = (cleaned + 1) / 2
    with figure_style():
        figure = new_figure(height=4.2)
        rows = 1 if len(cleaned) == 1 else 2
        columns = -(-len(cleaned) // rows)
        grid = figure.add_gridspec(rows, 1 + columns, width_ratios=[1.15 * rows] + [1] * columns)
        panels = [figure.add_subplot(grid[:, 0])]
        panels += [figure.add_subplot(grid[divmod(i, columns)[0], 1 + i % columns]) for i in range(len(cleaned))]
        for panel, image in zip(panels, [original, *cleaned], strict=True):
            panel.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            panel.axis("off")
        panels[0].set_title("The screen", fontsize=12)
        panels[1].set_title("What the network sees", fontsize=12, loc="left")
        figure.suptitle(title or "", fontsize=14)
    return figure


def _evaluations(history: Any, x: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the evaluations of a history stand on the axis `x`, and their scores, [evaluations] each."""
    made = getattr(history, "evaluations", [])
    steps, scores = (np.array([getattr(one, name) for one in made], float) for name in ("steps", "score"))
    if x == "steps" or not len(steps):
        return steps, scores
    ends = np.cumsum(history.lengths)  # in steps of all environments, as far as their episodes have ended
    return np.interp(steps, np.append(0, ends), np.arange(len(ends) + 1)), scores


def _draw_scores(
    panel: "Axes",
    scores: np.ndarray,
    evaluations: tuple[np.ndarray, np.ndarray],
    solved_score: float | None,
    window: int,
) -> None:
    _draw_line(panel, scores, color=_SCORE, linewidth=0.8, label="Each episode")
    _draw_line(panel, running_mean(scores, window), color=_MEAN, linewidth=3, label=f"Mean of last {window}")
    label = "Greedy evaluations"
    if solved_score is not None:
        _draw_solved(panel, solved_score)
        label += " (star: solved)" * bool((evaluations[1] >= solved_score).any())
    _draw_evaluations(panel, *evaluations, solved_score, color=_EVALUATION, label=label)
    _legend(panel)


def _draw_evaluations(
    panel: "Axes", places: np.ndarray, scores: np.ndarray, solved_score: float | None, **style: Any
) -> None:
    """A point for each evaluation, [evaluations], above all other lines, and a star at the first that solved it."""
    if not len(places):
        return
    edge = {"markeredgecolor": "white", "zorder": 4, "clip_on": False}
    size = 6 if len(places) < 100 else 3
    panel.plot(places, scores, marker="o", markersize=size, linewidth=1.5, markeredgewidth=0.5, **edge, **style)
    solved = np.flatnonzero(scores >= solved_score) if solved_score is not None else []
    if len(solved):
        first = solved[0]
        panel.plot(places[first], scores[first], marker="*", markersize=17, linestyle="", **edge, color=style["color"])


def _draw_seeds(panel: "Axes", steps: np.ndarray, scores: np.ndarray, label: str, color: str) -> None:
    for seed in scores:
        _draw_at(panel, steps, seed, color=color, linewidth=0.7, alpha=0.35)
    low, high = np.transpose([interval_or_range(column) for column in scores.T])
    panel.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    few = ", min and max" * (len(scores) < FEWEST_FOR_AN_INTERVAL)
    seeds = "1 seed" if len(scores) == 1 else f"mean{few} of {len(scores)} seeds"
    _draw_at(panel, steps, scores.mean(0), color=color, linewidth=3, label=f"{label}, {seeds}")


def _draw_run(panel: "Axes", scores: np.ndarray, lengths: np.ndarray, x: str, window: int, **style: Any) -> None:
    places = np.cumsum(lengths) if x == "steps" else np.arange(1, len(scores) + 1)
    numbers, shown = _thinned(scores)
    _draw_at(panel, places[numbers - 1], shown, color=style["color"], linewidth=0.9, alpha=0.45)
    numbers, shown = _thinned(running_mean(scores, window))
    _draw_at(panel, places[numbers - 1], shown, linewidth=3, zorder=3, **style)  # above the thin lines of all runs


def _draw_solved(panel: "Axes", solved_score: float) -> None:
    panel.axhline(solved_score, color=INK, linewidth=1.5, linestyle="--", label=f"Solved: {solved_score:g}")


def _draw_epsilons(panel: "Axes", epsilons: np.ndarray) -> None:
    _draw_line(panel, epsilons, color=_EPSILON, linewidth=2)
    panel.set_ylim(-0.05, 1.05)


def _draw_losses(panel: "Axes", losses: np.ndarray) -> None:
    trained = losses[np.isfinite(losses)]
    if not len(trained):
        panel.set_yticks([])
        panel.text(0.5, 0.5, "no updates", transform=panel.transAxes, ha="center", va="center")
    else:
        _scale(panel, trained)
    _draw_line(panel, losses, color=_LOSS, linewidth=1)


def _scale(panel: "Axes", losses: np.ndarray) -> None:
    if losses.min() > 0 and losses.max() > 100 * losses.min():
        panel.set_yscale("log")


def _draw_line(panel: "Axes", values: np.ndarray, **style: Any) -> None:
    episodes, drawn = np.arange(1, len(values) + 1), np.isfinite(values)
    _draw_at(panel, episodes[drawn], values[drawn], **style)  # joins episodes across those without a number


def _draw_at(panel: "Axes", places: np.ndarray, values: np.ndarray, **style: Any) -> None:
    # The dots show a run too short for a line.
    panel.plot(places, values, marker="." if len(values) < 30 else "", **style)


def _thinned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the values, from 1, and the values; of many only the lowest and the highest of every few."""
    numbers = np.arange(1, len(values) + 1)
    if len(values) <= _POINTS:
        return numbers, values
    kept = []
    for few in np.array_split(numbers - 1, _POINTS // 2):
        kept += sorted({few[values[few].argmin()], few[values[few].argmax()]})
    return numbers[kept], values[kept]
