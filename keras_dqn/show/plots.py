"""Figures: scores, exploration and losses of one training, the scores of many over seeds, and the screens of a game."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import cycle, product
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_dqn.checks import check_integer
from keras_dqn.files.atomic import atomic_write
from keras_dqn.show.notebook import PAPER, display_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID = "#222222", "#dddddd"
FEWEST_FOR_AN_INTERVAL = 5  # seeds: of two or three, Student's t makes an interval wider than any score can be
# The colors of Okabe and Ito, which color-blind readers tell apart, on opaque white: the same in dark surroundings.
_SCORE, _MEAN, _EPSILON, _LOSS, _EACH_LOSS = "#56b4e9", "#0072b2", "#009e73", "#d55e00", "#e69f00"
_EVALUATION = "#cc79a7"
_EVALUATIONS, _STAR = "Greedy evaluations", " (star: solved)"
_CURVES = (_MEAN, _LOSS, _EPSILON, _EVALUATION, _EACH_LOSS, _SCORE)
_PROGRESS = {"episodes": "Episode", "steps": "Environment steps"}  # what runs are drawn over: the label of the axis
_POINTS = 4000  # a line of more is thinned out: the picture has 900 pixels
_FORMATS = (".png", ".svg", ".pdf")
_STYLE = {
    **{"font.size": 12, "text.color": INK, "axes.labelcolor": INK, "axes.axisbelow": True},
    **{"axes.spines.top": False, "axes.spines.right": False},
    **{"legend.frameon": False, "legend.fontsize": 11, "legend.columnspacing": 1.2},
}


# Every figure


def figure_style() -> Any:
    """The one style of all figures, whatever is set around them."""
    from matplotlib import style

    return style.context(["default", _STYLE])


def new_figure(height: float, title: str | None = None) -> "Figure":
    """An empty figure, 6 inches wide: 900 pixels in a file, 600 in a notebook, and still readable on a phone."""
    from matplotlib.figure import Figure

    # Not through pyplot, which keeps every figure in memory and may look for a display.
    figure = Figure(figsize=(6, height), facecolor="white", layout="constrained")
    if title is not None:
        figure.suptitle(title, fontsize=14)
    # A notebook asks this before all else; what pyplot has told it of figures, and their size, depends on imports.
    figure._ipython_display_ = partial(display_figure, figure)
    return figure


def prepare(panel: "Axes", label: str) -> None:
    """Give a panel its y label, a grid behind the curves, and ticks at whole numbers."""
    panel.set_ylabel(label)
    panel.grid(color=GRID)
    panel.tick_params(colors=INK, labelsize=11)  # ticks are made when the figure is drawn, in the style of then
    panel.xaxis.get_major_locator().set_params(integer=True, nbins=6, min_n_ticks=1)


def check_figure_path(path: Path | str) -> Path:
    """Return the path if a figure can have its suffix; else raise a ValueError, before the work and not after."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"A figure is saved as one of {', '.join(_FORMATS)}. Received: {path}")
    return path


def save_figure(figure: "Figure", path: Path | str) -> None:
    """Write a figure to a .png (900 pixels wide), .svg or .pdf file, whole or not at all, in a folder made if missing.

    Raises ValueError for any other suffix.
    """
    path = check_figure_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), **PAPER)


@contextmanager
def _one_panel(height: float, label: str, xlabel: str, title: str | None) -> Iterator["Axes"]:
    """A figure's only panel to draw in, with short numbers along its x axis and a legend of what was drawn."""
    from matplotlib.ticker import EngFormatter

    with figure_style():
        panel = new_figure(height, title).subplots()
        prepare(panel, label)
        yield panel
        panel.set(xlabel=xlabel, xlim=(0, None))
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))  # 50k for 50,000
        _legend(panel)


def _legend(panel):
    # Above the curves: inside, it would hide some of them, and looking for the best place is slow for long runs.
    lengths = sorted(map(len, panel.get_legend_handles_labels()[1]))
    columns = 3 if sum(lengths) < 45 else 2 if sum(lengths[-2:]) < 52 else 1  # what fits beside one another
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns)


# Figures


def learning_curve(
    history: Any, *, solved_score: float | None = None, window: int = 100, title: str | None = None
) -> "Figure":
    """Draw the score of each episode with its mean over the last `window` episodes, then the epsilon, then the loss.

    `history` has `scores`, `epsilons` and `losses`, one number for each finished episode; the loss is NaN where there
    was no update. Its `evaluations`, where it has some, are a line of their own with a point for each, placed among the
    episodes by the `lengths` of these. `solved_score` becomes a line, and the first evaluation that reaches it a star.
    Raises ValueError if there is no episode.
    """
    scores, losses = np.asarray(history.scores, float), np.asarray(history.losses, float)
    _check_some("episode", scores)
    episodes, trained = np.arange(1, len(scores) + 1), np.isfinite(losses)
    with figure_style():
        figure = new_figure(5.8, title)
        above, middle, below = panels = figure.subplots(3, sharex=True, height_ratios=(3, 1, 1))
        for panel, label in zip(panels, ("Score (sum of rewards)", "Epsilon", "Loss"), strict=True):
            prepare(panel, label)
        _draw(above, episodes, scores, color=_SCORE, linewidth=0.8, label="Each episode")
        _draw(above, episodes, running_mean(scores, window), _MEAN, linewidth=3, label=f"Mean of last {window}")
        _draw_solved(above, solved_score)
        label = _EVALUATIONS + _STAR * (solved_score is not None)
        _draw_evaluations(above, history, "episodes", solved_score, _EVALUATION, label=label)
        _legend(above)
        _draw(middle, episodes, np.asarray(history.epsilons), _EPSILON, linewidth=2)
        middle.set_ylim(-0.05, 1.05)
        _draw(below, episodes[trained], losses[trained], _LOSS, linewidth=1)  # joined across those without a number
        _scale(below, losses[trained])
        if not trained.any():
            below.set_yticks([])
            below.text(0.5, 0.5, "no updates", transform=below.transAxes, ha="center", va="center")
        below.set(xlabel="Episode", xlim=(0.5, len(scores) + 0.5))
        figure.align_ylabels()
    return figure


def losses(history: Any, *, window: int | None = None, title: str | None = None) -> "Figure":
    """Draw the loss of each update with its mean over the last `window` updates; by default 1 % of them, 100 at least.

    `history` has `update_losses`, or is itself a list of losses, one for each update. Where there are many, the line of
    each update goes through the lowest and the highest of every few, so that no peak is lost. The axis is logarithmic
    where the losses span more than two decades. Raises ValueError if there is none.
    """
    values = np.asarray(getattr(history, "update_losses", history), float)
    _check_some("update", values)
    window = max(100, len(values) // 100) if window is None else window
    updates, means = np.arange(1, len(values) + 1), running_mean(values, window)
    with _one_panel(4.5, "Loss", "Update", title) as panel:
        _scale(panel, values)
        _draw(panel, updates, values, _EACH_LOSS, linewidth=0.8, label="Each update")
        _draw(panel, updates, means, _LOSS, linewidth=3, label=f"Mean of last {window}")
    return panel.figure


def learning_curves(
    curves: Mapping[str, tuple[Any, Any]], *, solved_score: float | None = None, title: str | None = None
) -> "Figure":
    """Draw for each label the mean over seeds, and each seed as a thin line behind it.

    The shade is the 95 % interval of the mean; for fewer than five seeds it goes from the lowest to the highest.
    `curves` has for each label the environment steps [points] and the scores [seeds, points] of the evaluations made
    after them. `solved_score` becomes a line. Raises ValueError if there is no curve, or one without a point.
    """
    _check_some("curve", curves)
    arrays = {label: (np.asarray(steps), np.asarray(scores, float)) for label, (steps, scores) in curves.items()}
    for steps, scores in arrays.values():
        _check_some("evaluation of each seed", scores.ravel() if scores.shape[1:] == steps.shape else ())
    with _one_panel(5, "Mean score of greedy episodes", "Environment steps", title) as panel:
        for (label, (steps, scores)), color in zip(arrays.items(), cycle(_CURVES), strict=False):
            _draw_seeds(panel, steps, scores, label, color)
        _draw_solved(panel, solved_score)
        shown = [*(scores.ravel() for _, scores in arrays.values()), [] if solved_score is None else [solved_score]]
        low, high = np.min(np.concatenate(shown)), np.max(np.concatenate(shown))
        # The interval of five seeds may be several times as wide as all there is to see; it is cut off.
        margin = 0.05 * (high - low) or 1
        panel.set_ylim(low - margin, high + margin)
    return panel.figure


def compare_runs(
    runs: Mapping[str, Any],
    *,
    x: str = "episodes",
    solved_score: float | None = None,
    window: int = 100,
    title: str | None = None,
) -> "Figure":
    """Draw for each label a thin line, the score of each episode, and a thick one, its mean over the last `window`.

    Where a run has `evaluations`, they are a line with a point for each in the same color, and where `solved_score`
    is given, the first one that reaches it is a star.
    `runs` has for each label a `History`, or anything with `scores` and `lengths`, one number for each finished
    episode. They are drawn over `x`: "episodes", or "steps" of the environment, the sum of the lengths up to the
    episode's end. `solved_score` becomes a line. Raises ValueError if there is no run, one without an episode, or
    another `x`.
    """
    if x not in _PROGRESS:
        raise ValueError(f"`x` must be one of {list(_PROGRESS)}. Received: {x!r}")
    _check_some("run", runs)
    for label, run in runs.items():
        _check_some(f"episode of {label!r}", run.scores)
    names = [fill(label, 50) for label in runs]
    height = 4.5 + 0.25 * len("\n".join(names).splitlines())  # the legend takes its part
    with _one_panel(height, f"Score (thick: mean of last {window})", _PROGRESS[x], title) as panel:
        styles = cycle(product(("-", "--", ":"), _CURVES))  # no two of many runs look alike
        for run, name, (dashes, color) in zip(runs.values(), names, styles, strict=False):
            scores = np.asarray(run.scores, float)
            places = np.cumsum(run.lengths) if x == "steps" else np.arange(1, len(scores) + 1)
            means = running_mean(scores, window)
            _draw(panel, places, scores, color, linewidth=0.9, alpha=0.45)
            # above the thin lines of all runs
            _draw(panel, places, means, color, linestyle=dashes, linewidth=3, zorder=3, label=name)
            _draw_evaluations(panel, run, x, solved_score, color)
        if any(getattr(run, "evaluations", []) for run in runs.values()):
            label = _EVALUATIONS + _STAR * (solved_score is not None)
            panel.plot([], [], color=INK, marker="o", markersize=4, linewidth=1, label=label)
        _draw_solved(panel, solved_score)
    return panel.figure


def screens(original: np.ndarray, cleaned: np.ndarray, title: str | None = None) -> "Figure":
    """Draw a game's screen, uint8 [height, width, 3], and beside it what a network sees of it, one panel an image.

    `cleaned` is [K, height, width] in gray, uint8, the newest last, or [K, height, width, 3] in color: uint8, or
    floats from -1 to 1 for differences, whose zero is drawn gray.
    """
    if cleaned.dtype.kind == "f":
        cleaned = (cleaned + 1) / 2
    rows = 1 if len(cleaned) == 1 else 2
    columns = -(-len(cleaned) // rows)
    with figure_style():
        figure = new_figure(4.2, title)
        grid = figure.add_gridspec(rows, 1 + columns, width_ratios=[1.15 * rows] + [1] * columns)
        panels = [figure.add_subplot(grid[:, 0])]
        panels += [figure.add_subplot(grid[i // columns, 1 + i % columns]) for i in range(len(cleaned))]
        for panel, image in zip(panels, [original, *cleaned], strict=True):
            panel.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            panel.axis("off")
        panels[0].set_title("The screen", fontsize=12)
        panels[1].set_title("What the network sees", fontsize=12, loc="left")
    return figure


# Their parts


def _check_some(what, things):
    if not len(things):
        raise ValueError(f"There must be at least one {what} to draw. Received: none")


def running_mean(values: Any, window: int) -> np.ndarray:
    """Return for each of the values [N] the mean of the last `window` up to it, or of all so far if they are fewer."""
    sums, window = np.cumsum(values, dtype=float), check_integer("window", window)
    sums[window:] -= sums[:-window]
    return sums / np.minimum(np.arange(1, len(sums) + 1), window)


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % confidence interval of the mean of [n, ...] values by Student's t: (low, high); NaN for fewer than two."""
    from scipy import stats  # half a second to import, and only statistics need it

    values, count = np.asarray(values, float), len(values)
    mean = values.mean(0)
    half_width = stats.t.ppf(0.975, count - 1) * stats.sem(values) if count > 1 else np.full_like(mean, np.nan)
    return mean - half_width, mean + half_width


def interval_or_range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far [n, ...] values spread: the interval of their mean, of fewer than five the lowest and the highest."""
    if len(values) >= FEWEST_FOR_AN_INTERVAL:
        return mean_interval(values)
    return np.min(values, 0), np.max(values, 0)


def _draw(panel, places, values, color, **style):
    """A line; of many values it goes through the lowest and the highest of every few."""
    if len(values) > _POINTS:
        parts = np.array_split(np.arange(len(values)), _POINTS // 2)
        kept = np.unique([part[[values[part].argmin(), values[part].argmax()]] for part in parts])
        places, values = places[kept], values[kept]
    # The dots show a run too short for a line.
    panel.plot(places, values, color=color, marker="." if len(values) < 30 else "", **style)


def _draw_seeds(panel, steps, scores, label, color):
    """A thin line for each seed, scores [seeds, points], the shade, and a thick line for the mean."""
    for seed in scores:
        _draw(panel, steps, seed, color, linewidth=0.7, alpha=0.35)
    count, mean = len(scores), scores.mean(0)
    low, high = interval_or_range(scores)
    few = "" if count >= FEWEST_FOR_AN_INTERVAL else ", min and max"
    panel.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    seeds = "1 seed" if count == 1 else f"mean{few} of {count} seeds"
    _draw(panel, steps, mean, color, linewidth=3, label=f"{label}, {seeds}")


def _draw_evaluations(panel, history, x, solved_score, color, **style):
    """A point for each evaluation, above all other lines, and a star at the first that solved it."""
    if not (evaluations := getattr(history, "evaluations", [])):
        return
    places, scores = np.array([(one.steps, one.score) for one in evaluations], float).T
    if x == "episodes":
        ends = np.cumsum([0, *history.lengths])  # in steps of all environments, as far as their episodes have ended
        places = np.interp(places, ends, np.arange(len(ends)))
    edge = {"color": color, "markeredgecolor": "white", "zorder": 4, "clip_on": False}
    size = 6 if len(places) < 100 else 3
    panel.plot(places, scores, marker="o", markersize=size, linewidth=1.5, markeredgewidth=0.5, **edge, **style)
    if solved_score is not None and (scores >= solved_score).any():
        first = np.argmax(scores >= solved_score)
        panel.plot(places[first], scores[first], marker="*", markersize=17, linestyle="", **edge)


def _draw_solved(panel, solved_score):
    if solved_score is not None:
        panel.axhline(solved_score, color=INK, linewidth=1.5, linestyle="--", label=f"Solved: {solved_score:g}")


def _scale(panel, losses):
    if len(losses) and losses.min() > 0 and losses.max() > 100 * losses.min():
        panel.set_yscale("log")
