"""Filming episodes to MP4, and showing an MP4 in a notebook."""

import base64
import contextlib
import html
import itertools
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_dqn.checks import check_above_zero, check_integer
from keras_dqn.show.film import VideoRecorder as VideoRecorder
from keras_dqn.show.film import _ffmpeg
from keras_dqn.show.film import read_frames as read_frames
from keras_dqn.show.film import write_film as write_film

_WHITE = (255, 255, 255)


def in_notebook() -> bool:
    """Whether this is a Jupyter or Colab kernel, where HTML can be shown."""
    # Looked up, not imported: a kernel has IPython loaded, and a script should not pay for it.
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    classes = type(get_shell()).__mro__
    return any(c.__name__ == "ZMQInteractiveShell" or c.__module__.startswith("google.colab") for c in classes)


def still(path: Path | str) -> tuple[bytes, int, int] | None:
    """A frame from the middle of a film, as (JPEG, width, height); None of a file that ffmpeg cannot read."""
    film = ["-i", f"file:{path}"]
    try:
        facts = subprocess.run([_ffmpeg(), *film], capture_output=True).stderr.decode(errors="replace")
        length = re.search(r"Duration: (\d+):(\d+):(\d+\.\d+)", facts)
        size = re.search(r"Video: .*?, (\d+)x(\d+)", facts)
        if not length or not size:
            return None
        hours, minutes, seconds = map(float, length.groups())
        middle = ["-loglevel", "error", "-ss", f"{(60 * (60 * hours + minutes) + seconds) / 2:.2f}"]
        jpeg = ["-frames:v", "1", "-c:v", "mjpeg", "-q:v", "5", "-f", "image2pipe", "-"]
        picture = subprocess.run([_ffmpeg(), *middle, *film, *jpeg], capture_output=True).stdout
    except (OSError, ImportError, RuntimeError):  # the film can be shown all the same
        return None
    return (picture, *map(int, size.groups())) if picture else None


def video_html(path: Path | str, height: int = 400, caption: str | None = None) -> str:
    """Return a `<video>` that holds the MP4 itself and plays it over and over, never wider than the page.

    It is `height` pixels high, less where the page is too narrow for that. Below it is the caption, by default the
    film's path. A notebook that is only opened, not run, shows a still picture in the place of the film.

    Raises FileNotFoundError for a missing file and ValueError for an empty one.
    """
    film = Path(path).read_bytes()
    if not film:
        raise ValueError(f"A film to show must not be empty. Received: {path}")
    caption = html.escape(str(path) if caption is None else caption)
    source = f'<source src="{_data(film, "video/mp4")}" type="video/mp4">'
    poster, picture, style, frame = "", "", f"height:{height}px;max-width:100%", "margin:0"
    if (found := still(path)) is not None:
        jpeg, film_width, film_height = found
        width, image = round(height * film_width / film_height), _data(jpeg, "image/jpeg")
        # The ratio is said, so that the place is kept while the film loads; a viewer that removes the styles of a
        # notebook which it does not trust leaves the width.
        style = f"width:100%;height:auto;aspect-ratio:{film_width}/{film_height}"
        frame = f"margin:0;width:{width}px;max-width:100%"
        poster = f'width="{width}" poster="{image}" '
        picture = f'<img src="{image}" width="{width}" alt="A still picture of {caption}">'
    attributes = f'autoplay muted loop playsinline controls {poster}style="display:block;{style}"'
    below = f'<figcaption style="font-size:90%;opacity:0.75">{caption}</figcaption>'
    return f'<figure style="{frame}"><video {attributes}>{source}{picture}</video>{below}</figure>'


def _data(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def show_video(path: Path | str, height: int = 400) -> None:
    """Show an MP4 in a notebook, `height` pixels high; elsewhere print where it is. Raises as `video_html` does."""
    show_html(video_html(path, height), f"Video: {path}")


def comparison_html(films: Mapping[str, Path | str], height: int = 300) -> str:
    """Return films side by side, each below its caption; where the page is too narrow for that, below one another.

    Args:
        films: caption: the MP4.
        height: of each film; see `video_html`.

    Raises as `video_html` does, and ValueError where there is no film or they are not a mapping.
    """
    if not isinstance(films, Mapping) or not films:
        raise ValueError(f'Films to compare are {{"before": "a.mp4", "after": "b.mp4"}}. Received: {films!r}')
    # The captions take the colour of the notebook, light or dark.
    figures = "".join(
        f'<div style="max-width:100%"><div style="font-weight:600;padding-bottom:4px">'
        f"{html.escape(str(caption))}</div>{video_html(path, height)}</div>"
        for caption, path in films.items()
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{figures}</div>'


def compare_videos(films: Mapping[str, Path | str], height: int = 300) -> None:
    """Show films side by side in one cell of a notebook; elsewhere print where they are.

    Example:
        compare_videos({"before": "videos/cartpole_random.mp4", "after": "videos/cartpole.mp4"})

    Arguments and errors are those of `comparison_html`.
    """
    content = comparison_html(films, height)
    show_html(content, "\n".join(f"Video, {caption}: {path}" for caption, path in films.items()))


def join_videos(
    films: Mapping[str, Path | str],
    path: Path | str,
    *,
    columns: int | None = None,
    one_after_the_other: bool = False,
    width: int = 640,
    start: float = 0.0,
    seconds: float | None = None,
    frames_per_second: float | None = None,
) -> Path:
    """Write several films as one MP4 or GIF, each below its caption.

    Side by side, those that end sooner begin again until the longest has ended. MoviePy, 1.0.3 or newer, reads them.

    Args:
        films: caption: the film. An empty caption takes no room.
        path: the .mp4 or .gif to write.
        columns: how many are beside one another before a new row begins; by default all.
        one_after_the_other: in time, instead of side by side.
        width: of the picture, in pixels; each row is that wide.
        start: where each film begins, in seconds.
        seconds: where the joint film ends; by default with the last of its films.
        frames_per_second: of it; by default those of the first film.

    Returns:
        The path.

    Raises ValueError for what is no film, and for a number out of its range, OSError if the file cannot be written.

    Example:
        join_videos({"before": "videos/cartpole_random.mp4", "after": "videos/cartpole.mp4"}, "both.gif")
    """
    path = Path(path)
    if path.suffix.lower() not in (".mp4", ".gif"):
        raise ValueError(f"Joined films are an .mp4 or a .gif. Received: {path}")
    if not isinstance(films, Mapping) or not films:
        raise ValueError(f'Films to join are {{"before": "a.mp4", "after": "b.mp4"}}. Received: {films!r}')
    columns = len(films) if columns is None else check_integer("columns", columns)
    columns = 1 if one_after_the_other else min(columns, len(films))
    check_integer("width", width)
    for name, value in (("start", start or 1), ("seconds", seconds), ("frames_per_second", frames_per_second)):
        if value is not None:
            check_above_zero(name, value)
    moviepy = _moviepy()
    with contextlib.ExitStack() as opened:
        clips = [opened.enter_context(_clip(moviepy, film, start)) for film in films.values()]
        length = seconds or (sum if one_after_the_other else max)(clip.duration - start for clip in clips)
        rate = frames_per_second or clips[0].fps
        groups = [slice(i, i + columns) for i in range(0, len(clips), columns)]
        rows = [_row(moviepy, list(films)[some], clips[some], width, start, length) for some in groups]
        if one_after_the_other:
            shown = [clip.duration - start for clip in clips]
            parts = [moviepy.VideoClip(row.get_frame, duration=one) for row, one in zip(rows, shown, strict=True)]
            joined = moviepy.concatenate_videoclips(parts, method="compose", bg_color=_WHITE)
        else:
            joined = moviepy.clips_array([[row] for row in rows], bg_color=_WHITE)
        times = np.arange(max(round(min(length, joined.duration) * rate), 1)) / rate
        write_film((np.ascontiguousarray(joined.get_frame(time), np.uint8) for time in times), path, rate)
    return path


def _moviepy() -> Any:
    """MoviePy's functions, which moved from one module to another with its version 2."""
    try:
        import moviepy

        if not hasattr(moviepy, "VideoFileClip"):
            with warnings.catch_warnings(action="ignore"):  # of its own old regular expressions
                import moviepy.editor as moviepy
    except ImportError as error:
        raise ImportError(f"Joining films needs MoviePy: `pip install moviepy`. Received: {error}") from error
    return moviepy


@contextlib.contextmanager
def _clip(moviepy: Any, path: Path | str, start: float) -> Iterator[Any]:
    """MoviePy's film of that path, open; a ValueError if it is none or ends before."""
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no such film. Received: {path}")
    try:
        clip = moviepy.VideoFileClip(str(path), audio=False)
    except (OSError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"A film must be one that ffmpeg reads. Received: {path}, {error}") from error
    with contextlib.closing(clip):
        if clip.duration <= start:
            raise ValueError(f"{path} ends at {clip.duration:g} s. Received: start={start:g}")
        yield clip


def _row(moviepy: Any, captions: list, clips: list, width: int, start: float, seconds: float) -> Any:
    """Films of one height beside one another, each below its caption and begun again when it ends, as one of MoviePy's.

    Together they are `width` pixels wide.
    """
    from PIL import Image

    ratios = [clip.size[0] / clip.size[1] for clip in clips]
    height = round(width / sum(ratios))
    edges = np.round(np.cumsum([0, *ratios]) / sum(ratios) * width).astype(int)

    def tile(clip, caption, size):
        above = _caption(str(caption), size[0]) if any(map(str, captions)) else np.empty((0, size[0], 3), np.uint8)

        def frame(time):
            place = start + (time + 1e-6) % (clip.duration - start)
            picture = Image.fromarray(clip.get_frame(min(place, clip.duration - 1 / clip.fps)))
            return np.concatenate([above, np.asarray(picture.resize(size, Image.Resampling.BICUBIC))])

        return moviepy.VideoClip(frame, duration=seconds)

    sizes = [(int(right - left), height) for left, right in itertools.pairwise(edges)]
    return moviepy.clips_array([[tile(*one) for one in zip(clips, captions, sizes, strict=True)]])


def _caption(text: str, width: int) -> np.ndarray:
    """A strip of white with a line of text in its middle, small enough to fit, uint8 [height, width, 3]."""
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (width, 28), "white")
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 17)
    font = font.font_variant(size=max(min(17, 17 * (width - 8) / font.getlength(text or " ")), 6))
    ImageDraw.Draw(strip).text((width / 2, 14), text, "#222222", font, anchor="mm")
    return np.asarray(strip)


def animation_html(path: Path | str, width: int = 400) -> str:
    """Return the frames of an MP4 as matplotlib's animation, `width` pixels wide, with buttons for single frames.

    A notebook that is only opened, not run, shows a still picture in its place.

    Raises as `read_frames` does.
    """
    from matplotlib import rc_context
    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure

    frames, frames_per_second = read_frames(path)
    height = width * frames.shape[1] / frames.shape[2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)  # not pyplot's: that would show it a second time
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set_axis_off()
    image = panel.imshow(frames[0], aspect="auto")

    def draw(number):
        image.set_data(frames[number])
        return [image]

    # JPEG is a third of the size of PNG here; and beyond its limit, in MB, matplotlib would leave frames out.
    with rc_context({"animation.frame_format": "jpeg", "animation.embed_limit": 100}):
        animation = FuncAnimation(figure, draw, frames=len(frames))
        content = animation.to_jshtml(fps=frames_per_second, default_mode="loop")
    picture = f'<img src="{_data(still(path)[0], "image/jpeg")}" width="{width}" alt="A still picture of {path}" id="'
    return content.replace('<img id="', picture, 1)


def show_animation(path: Path | str, width: int = 400) -> None:
    """Show an MP4 in a notebook frame by frame; elsewhere print where it is. Raises as `animation_html` does."""
    show_html(animation_html(path, width), f"Video: {path}")


def show_html(content: str, text: str) -> None:
    """Show in a notebook the HTML that was made of films; elsewhere print the text, which says where they are."""
    if in_notebook():
        from IPython.display import display

        display({"text/html": content, "text/plain": text}, raw=True)
    else:
        print(text)
