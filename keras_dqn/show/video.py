"""Filming episodes to MP4, and showing an MP4 in a notebook."""

import base64
import contextlib
import html
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import RecordVideo

from keras_dqn.checks import check_above_zero, check_whole

# What every browser plays is H.264 in yuv420p, which needs even sizes; faststart lets it begin before all has arrived.
_MP4 = "-c:v libx264 -pix_fmt yuv420p -vf pad=ceil(iw/2)*2:ceil(ih/2)*2 -movflags +faststart -f mp4"
# 64 colours are enough for these games, and without dithering what stands still costs nothing.
_GIF = "-filter_complex split[a][b];[a]palettegen=max_colors=64[p];[b][p]paletteuse=dither=none -f gif"
_WHITE = (255, 255, 255)
_NEEDS_RENDER = "Filming needs an `env.render()` that returns uint8 RGB images of one size."
_NEEDS_WRITING = (
    "Filming needs a folder that can be written, with space left, and ffmpeg: `pip install imageio-ffmpeg`."
)


class VideoRecorder(RecordVideo):
    """Film the episodes of `env` to MP4 without ever stopping the run that is filmed.

    A film is written when its episode ends; one left unfinished, at the next `reset` or at `close`. Whatever goes wrong
    is reported once, as a RuntimeWarning, and filming stays off from then on. `paths` lists the complete MP4s.

    Args:
        env: a `gymnasium.Env` made with `render_mode="rgb_array"`; ValueError if it is anything else.
        path: the MP4 to write, or a function from the episode number (0, 1, …) to it. Its folder is made when missing.
            With one fixed path each film replaces the one before it.
        episode_trigger: a function from the episode number to whether it is filmed; by default every episode is.
        max_frames: where the film of an episode ends, the frame of `reset` included. Frames wait in memory until they
            are written: 0.7 MB each at 600×400 pixels.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        path: Path | str | Callable[[int], Path | str],
        episode_trigger: Callable[[int], bool] | None = None,
        max_frames: int = 3_000,
    ):
        render_mode = getattr(env, "render_mode", None)
        if not isinstance(env, gymnasium.Env) or render_mode != "rgb_array":
            raise ValueError(f'Filming needs one env with render_mode="rgb_array". Received: {render_mode!r} of {env}')
        if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
            # Else pygame looks for a display and for a sound card, and complains of each that it does not find.
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
            os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
        if max_frames < 1:
            raise ValueError(f"max_frames must be at least 1. Received: {max_frames}")
        self._path = None if callable(path) else _mp4_path(path)
        self._path_of_episode = path if callable(path) else lambda episode: path
        self._broken = False
        self.max_frames = max_frames
        self.paths: list[Path] = []
        # gymnasium keeps the arguments recorded first, to make the same wrapper again from `env.spec`.
        arguments = {"path": path, "episode_trigger": episode_trigger, "max_frames": max_frames}
        RecordConstructorArgs.__init__(self, _disable_deepcopy=True, **arguments)
        # RecordVideo wants a folder, warns that it exists, and last of all imports MoviePy. Neither is used here:
        # MoviePy rounds the last frame of most films away and does not notice a full disk.
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(Exception):
            super().__init__(env, str(Path(__file__).parent), episode_trigger=episode_trigger or (lambda episode: True))

    def step(self, action):
        """Take one step; the film is written here when the step ends the episode."""
        result = super().step(action)
        _, _, terminated, truncated, _ = result
        if self.recording and (terminated or truncated):
            self.stop_recording()
        return result

    def start_recording(self, video_name: str = ""):
        """Begin the film of the current episode; `reset` calls it, and the name it gives is not used."""
        if self._broken:
            return
        if self.recording:
            self.stop_recording()
        with self._never_stopping_the_run(_NEEDS_WRITING):
            self._path = None  # so that the film before is not blamed if this one cannot be named
            self._path = _mp4_path(self._path_of_episode(self.episode_id))
            # Asked again when the film is written; asked here so that nobody films for an hour in vain.
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _ffmpeg()
            self.recording = True

    def stop_recording(self):
        """End the film of the current episode and write it."""
        frames, self.recorded_frames, self.recording = self.recorded_frames, [], False
        with self._never_stopping_the_run(_NEEDS_WRITING):
            if frames:
                write_film(frames, self._path, self.frames_per_sec)
                self.paths = [*dict.fromkeys([*self.paths, self._path])]

    def _capture_frame(self):
        with self._never_stopping_the_run(_NEEDS_RENDER):
            # A copy, because some environments draw into one array for ever.
            frame = np.array(self.env.render(), order="C")
            expected = self.recorded_frames[0].shape if self.recorded_frames else (*frame.shape[:2], 3)
            if frame.dtype != np.uint8 or frame.shape != expected:
                raise ValueError(f"expected a uint8 image of shape {expected}. Received: {frame.dtype} {frame.shape}")
            self.recorded_frames.append(frame)
        if len(self.recorded_frames) >= self.max_frames:
            self.stop_recording()

    @contextlib.contextmanager
    def _never_stopping_the_run(self, remedy: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._broken, self.recording, self.recorded_frames = True, False, []
            film = self._path or f"episode {self.episode_id}"
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"Not filming {film} or anything after it: {reason}. {remedy}", RuntimeWarning, stacklevel=5)

    def __del__(self):
        if getattr(self, "recorded_frames", None):
            warnings.warn(f"close() was not called: {self._path} is not written", ResourceWarning, stacklevel=2)


def _mp4_path(path: Path | str) -> Path:
    if Path(path).suffix.lower() != ".mp4":
        raise ValueError(f"A film is an .mp4 file. Received: {path}")
    return Path(path)


def _ffmpeg() -> str:
    import imageio_ffmpeg

    executable = imageio_ffmpeg.get_ffmpeg_exe()
    if not shutil.which(executable):
        raise FileNotFoundError(f"there is no ffmpeg at {executable}")
    return executable


def write_film(frames: Iterable[np.ndarray], path: Path, frames_per_second: float) -> None:
    """Write uint8 frames [height, width, 3], all of one size, to an H.264 MP4, or to a GIF, whole or not at all.

    The suffix of the path decides. Raises OSError with the words of ffmpeg where it fails.
    """
    from keras_dqn.records.atomic import atomic_write

    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    raw = f"-loglevel error -y -f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {frames_per_second} -i -"
    codec = _GIF if path.suffix.lower() == ".gif" else _MP4
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, tempfile.TemporaryFile() as messages:
        command = [_ffmpeg(), *raw.split(), *codec.split(), f"file:{temporary}"]
        # A process group of its own: Ctrl-C is for Python, which then ends ffmpeg.
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages, process_group=0) as ffmpeg:
            try:
                with contextlib.suppress(BrokenPipeError), ffmpeg.stdin as pipe:  # ffmpeg itself says why it stopped
                    for frame in itertools.chain([first], frames):
                        pipe.write(frame)
                status = ffmpeg.wait()
            except BaseException:
                ffmpeg.kill()
                ffmpeg.wait()  # after Ctrl-C the block's end would not
                raise
        if status or not Path(temporary).stat().st_size:
            messages.seek(0)
            said = " ".join(messages.read().decode(errors="replace").split())
            raise OSError(f"ffmpeg ended with status {status}: {said[-500:]}")


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


def read_frames(path: Path | str) -> tuple[np.ndarray, float]:
    """Return the frames of a video, uint8 [frames, height, width, 3], and how many there are a second.

    Raises FileNotFoundError for a missing file and ValueError for one that ffmpeg cannot read.
    """
    import imageio_ffmpeg

    if not Path(path).exists():
        raise FileNotFoundError(f"There is no such film. Received: {path}")
    try:
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # it leaves a pipe of its own open
            reader = imageio_ffmpeg.read_frames(str(path))
            facts = next(reader)
            width, height = facts["size"]
            frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
            del reader
    except (OSError, RuntimeError, StopIteration, KeyError, IndexError) as error:
        raise ValueError(f"A film must be one that ffmpeg reads. Received: {path}, {error}") from error
    return np.array(frames), float(facts["fps"])


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
    columns = len(films) if columns is None else check_whole("columns", columns)
    columns = 1 if one_after_the_other else min(columns, len(films))
    check_whole("width", width)
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
