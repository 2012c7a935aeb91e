"""Figures: learning curves (score, exploration rate and loss from episode to episode), and the screens of a game."""

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The colours of Okabe and Ito, which colour-blind readers tell apart, on opaque white: the same in dark surroundings.
_SCORE, _MEAN, _EPSILON, _LOSS = "#56b4e9", "#0072b2", "#009e73", "#d55e00"
_INK, _GRID = "#222222", "#dddddd"
_FORMATS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}


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
    was no update. `solved_score` becomes a line. Raises ValueError if there is no episode or the numbers do not match.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    scores, epsilons, losses = (np.asarray(x, np.float64) for x in (history.scores, history.epsilons, history.losses))
    if not len(scores) or not len(scores) == len(epsilons) == len(losses):
        counts = f"{len(scores)} scores, {len(epsilons)} epsilons, {len(losses)} losses"
        raise ValueError(f"A learning curve needs a score, epsilon and loss for each episode. Received: {counts}")
    # Not through pyplot, which keeps every figure in memory and may look for a display; nor in whatever style is set.
    with style.context(["default", {"font.size": 13, "text.color": _INK, "axes.labelcolor": _INK}]):
        figure = Figure(figsize=(6, 7), facecolor="white", layout="constrained")
        panels = figure.subplots(3, sharex=True, height_ratios=(3, 1, 1))
        for panel, label in zip(panels, ("Score (sum of rewards)", "Epsilon", "Loss"), strict=True):
            _prepare(panel, label)
        _draw_scores(panels[0], scores, solved_score, window)
        _draw_epsilons(panels[1], epsilons)
        _draw_losses(panels[2], losses)
        panels[2].set(xlabel="Episode", xlim=(0.5, len(scores) + 0.5))
        figure.align_ylabels()
        figure.suptitle(title or "", fontsize=15)
    # A notebook knows by itself how to show only the figures of pyplot.
    figure._repr_png_ = partial(_png, figure)
    return figure


def screens(original: np.ndarray, cleaned: np.ndarray, title: str | None = None) -> "Figure":
    """Draw a game's screen, uint8 [height, width, 3], and beside it what a network sees of it, one panel an image.

    `cleaned` is [K, height, width] in grey, uint8, the newest last, or [K, height, width, 3] in colour: uint8, or
    floats from -1 to 1 for differences, whose zero is drawn grey. Raises ValueError for other shapes.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    if original.ndim != 3 or original.shape[2] != 3:
        raise ValueError(f"`original` must be [height, width, 3]. Received: shape {original.shape}")
    if cleaned.ndim not in (3, 4) or (cleaned.ndim == 4 and cleaned.shape[3] != 3):
        raise ValueError(f"`cleaned` must be images, [K, height, width] or with 3 colours. Received: {cleaned.shape}")
    if cleaned.dtype.kind == "f":
        cleaned = (cleaned + 1) / 2
    with style.context(["default", {"font.size": 13, "text.color": _INK}]):
        figure = Figure(figsize=(3 * (1 + len(cleaned)), 4.2), facecolor="white", layout="constrained")
        panels = figure.subplots(1, 1 + len(cleaned), squeeze=False)[0]
        for panel, image in zip(panels, [original, *cleaned], strict=True):
            panel.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            panel.axis("off")
        panels[0].set_title("The screen")
        panels[1].set_title("What the network sees", loc="left")
        figure.suptitle(title or "", fontsize=15)
    figure._repr_png_ = partial(_png, figure)
    return figure


def _prepare(panel: "Axes", label: str) -> None:
    panel.set_ylabel(label)
    panel.grid(color=_GRID)
    panel.set_axisbelow(True)
    panel.tick_params(colors=_INK, labelsize=12)
    panel.spines[["top", "right"]].set_visible(False)
    panel.xaxis.get_major_locator().set_params(integer=True, nbins=6, min_n_ticks=1)


def _draw_scores(panel: "Axes", scores: np.ndarray, solved_score: float | None, window: int) -> None:
    _draw_line(panel, scores, color=_SCORE, linewidth=0.8, label="Each episode")
    _draw_line(panel, running_mean(scores, window), color=_MEAN, linewidth=3, label=f"Mean of last {window}")
    if solved_score is not None:
        panel.axhline(solved_score, color=_INK, linewidth=1.5, linestyle="--", label=f"Solved: {solved_score:g}")
    # Above the curves: inside, it would hide some of them, and looking for the best place is slow for long runs.
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=11, columnspacing=1.2)


def _draw_epsilons(panel: "Axes", epsilons: np.ndarray) -> None:
    _draw_line(panel, epsilons, color=_EPSILON, linewidth=2)
    panel.set_ylim(-0.05, 1.05)


def _draw_losses(panel: "Axes", losses: np.ndarray) -> None:
    trained = losses[np.isfinite(losses)]
    if not len(trained):
        panel.set_yticks([])
        panel.text(0.5, 0.5, "no updates", transform=panel.transAxes, ha="center", va="center")
    elif trained.min() > 0 and trained.max() > 100 * trained.min():
        panel.set_yscale("log")
    _draw_line(panel, losses, color=_LOSS, linewidth=1)


def _draw_line(panel: "Axes", values: np.ndarray, **style: Any) -> None:
    episodes, drawn = np.arange(1, len(values) + 1), np.isfinite(values)
    # The line joins episodes across those without a number; the dots show a run too short for a line.
    panel.plot(episodes[drawn], values[drawn], marker="." if drawn.sum() < 30 else "", **style)


def _png(figure: "Figure") -> bytes:
    file = BytesIO()
    _write(figure, file, "png")
    return file.getvalue()


def _write(figure: "Figure", file: BinaryIO | Path, file_format: str) -> None:
    figure.savefig(file, format=file_format, dpi=150, facecolor="white", transparent=False)


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
    from keras_dqn.weights import atomic_write

    path = check_figure_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        _write(figure, Path(temporary), _FORMATS[path.suffix.lower()])
