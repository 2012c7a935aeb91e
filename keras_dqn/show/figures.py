"""What all figures have in common: their style and size, how a notebook shows them, and the files they are saved to."""

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK, _GRID = "#222222", "#dddddd"


_FORMATS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}


def figure_style() -> Any:
    """The one style of all figures, whatever is set around them."""
    from matplotlib import style

    return style.context(["default", {"font.size": 12, "text.color": INK, "axes.labelcolor": INK}])


def new_figure(height: float, width: float = 6) -> "Figure":
    """An empty figure; 6 inches are 900 pixels in a file, 600 in a notebook, and still readable on a phone."""
    from matplotlib.figure import Figure

    # Not through pyplot, which keeps every figure in memory and may look for a display.
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    # A notebook asks this before all else; what pyplot has told it of figures, and their size, depends on imports.
    figure._ipython_display_ = partial(_display, figure)
    return figure


def notebook_picture(figure: "Figure") -> tuple[dict, dict]:
    """What a notebook shows of a figure, (data, metadata) by MIME type: 100 pixels an inch, drawn sharper than that."""
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    data = {"image/png": png(figure), "text/plain": repr(figure)}
    return data, {"image/png": {"width": width, "height": height}}


def _display(figure: "Figure") -> None:
    from IPython.display import display

    data, metadata = notebook_picture(figure)
    display(data, metadata=metadata, raw=True)


def _short_numbers() -> Any:
    """A formatter of the numbers at an axis: 50k for 50,000."""
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


def prepare(panel: "Axes", label: str) -> None:
    panel.set_ylabel(label)
    panel.grid(color=_GRID)
    panel.set_axisbelow(True)
    panel.tick_params(colors=INK, labelsize=11)
    panel.spines[["top", "right"]].set_visible(False)
    panel.xaxis.get_major_locator().set_params(integer=True, nbins=6, min_n_ticks=1)


def _legend(panel: "Axes") -> None:
    # Above the curves: inside, it would hide some of them, and looking for the best place is slow for long runs.
    lengths = sorted(map(len, panel.get_legend_handles_labels()[1]))
    columns = 3 if sum(lengths) < 45 else 2 if sum(lengths[-2:]) < 52 else 1  # what fits beside one another
    panel.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns, frameon=False, fontsize=11, columnspacing=1.2
    )


def png(figure: "Figure") -> bytes:
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
    from keras_dqn.files.atomic import atomic_write

    path = check_figure_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        _write(figure, Path(temporary), _FORMATS[path.suffix.lower()])
