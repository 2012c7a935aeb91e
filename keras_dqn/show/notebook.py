"""What is shown in a notebook's cell: figures, and films that play in it."""

import base64
import html
import sys
import warnings
from collections.abc import Mapping
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = {"dpi": 150, "facecolor": "white", "transparent": False}  # of every figure

# One frame back or on, the film standing still in the middle of a frame.
_STEP = """<button onclick="const film = this.closest('figure').querySelector('video'); film.pause();
film.currentTime = (Math.floor(film.currentTime * {rate:g}) + {by} + 0.5) / {rate:g}">{label}</button>"""


def in_notebook() -> bool:
    """Whether this is a Jupyter or Colab kernel, where HTML can be shown."""
    # Looked up, not imported: a kernel has IPython loaded, and a script should not pay for it.
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def show_html(content: str, text: str) -> None:
    """Show HTML in a notebook; elsewhere print the text."""
    if in_notebook():
        from IPython.display import display

        display({"text/html": content, "text/plain": text}, raw=True)
    else:
        print(text)


# Figures


def png(figure: "Figure") -> bytes:
    """The figure as a PNG of 150 pixels an inch."""
    file = BytesIO()
    figure.savefig(file, format="png", **PAPER)
    return file.getvalue()


def notebook_picture(figure: "Figure") -> tuple[dict, dict]:
    """What a notebook shows of a figure, (data, metadata) by MIME type: 100 pixels an inch, drawn sharper than that."""
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    data = {"image/png": png(figure), "text/plain": repr(figure)}
    return data, {"image/png": {"width": width, "height": height}}


def display_figure(figure: "Figure") -> None:
    """Show a figure in a notebook."""
    from IPython.display import display

    data, metadata = notebook_picture(figure)
    display(data, metadata=metadata, raw=True)


# Films


def still(path: Path | str) -> tuple[bytes, int, int, float] | None:
    """A typical frame of a film's first hundred, as (JPEG, width, height, frames a second); None if there is none."""
    with warnings.catch_warnings():  # imageio_ffmpeg leaves pipes open, and forks, which JAX warns of
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        try:
            import imageio_ffmpeg
            from PIL import Image

            with closing(imageio_ffmpeg.read_frames(str(path), output_params=["-vf", "thumbnail"])) as reader:
                facts, frame = next(reader), next(reader)
            file = BytesIO()
            Image.frombytes("RGB", facts["size"], frame).save(file, "jpeg")
            return file.getvalue(), *facts["size"], facts["fps"]
        except Exception:  # whatever is wrong, the film can be shown all the same
            return None


def video_html(path: Path | str, height: int = 400, caption: str | None = None, frame_by_frame: bool = False) -> str:
    """Return a `<video>` that holds the MP4 itself and plays it over and over, never wider than the page.

    It is `height` pixels high, less where the page is too narrow for that. Below it is the caption, by default the
    film's path, and with `frame_by_frame` two buttons. A notebook that is only opened, not run, shows a still picture.
    Raises FileNotFoundError for a missing file and ValueError for an empty one.
    """
    film = Path(path).read_bytes()
    if not film:
        raise ValueError(f"A film to show must not be empty. Received: {path}")
    caption = html.escape(str(path) if caption is None else caption)
    jpeg, film_width, film_height, rate = still(path) or (b"", 3, 2, 50)
    width, image = round(height * film_width / film_height), data_url(jpeg, "image/jpeg")
    steps = ((-1, "‹ frame"), (1, "frame ›")) if frame_by_frame else ()
    buttons = "".join(f"{_STEP.format(rate=rate, by=by, label=label)} " for by, label in steps)
    # The ratio is said, so that the place is kept while the film loads; a viewer that removes the styles of a notebook
    # which it does not trust leaves the width.
    return f"""<figure style="margin:0;width:{width}px;max-width:100%">
<video autoplay muted loop playsinline controls width="{width}" poster="{image}"
style="display:block;width:100%;height:auto;aspect-ratio:{film_width}/{film_height}">
<source src="{data_url(film, "video/mp4")}" type="video/mp4">
<img src="{image}" width="{width}" alt="A still picture of {caption}"></video>
<figcaption style="font-size:90%;opacity:0.75">{buttons}{caption}</figcaption></figure>"""


def data_url(content: bytes, mime: str) -> str:
    """The content itself as an address, for a page that is a single file."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def show_video(path: Path | str, height: int = 400) -> None:
    """Show an MP4 in a notebook, `height` pixels high; elsewhere print where it is. Raises as `video_html` does."""
    show_html(video_html(path, height), f"Video: {path}")


def show_animation(path: Path | str, height: int = 400) -> None:
    """Show an MP4 as `show_video` does, with buttons to go through it frame by frame."""
    show_html(video_html(path, height, frame_by_frame=True), f"Video: {path}")


def compare_videos(films: Mapping[str, Path | str], height: int = 300) -> None:
    """Show films, {caption: MP4}, side by side in a notebook, on a phone one below the other; elsewhere print paths.

    Raises as `video_html` does, and ValueError where there is no film or they are not a mapping.
    """
    if not isinstance(films, Mapping) or not films:
        raise ValueError(f'Films to compare are {{"before": "a.mp4", "after": "b.mp4"}}. Received: {films!r}')
    figures = "".join(video_html(path, height, str(caption)) for caption, path in films.items())
    content = f'<div style="display:flex;flex-wrap:wrap;gap:12px">{figures}</div>'
    show_html(content, "\n".join(f"Video, {caption}: {path}" for caption, path in films.items()))
