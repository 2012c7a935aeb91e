"""Films as files: episodes recorded to MP4, pictures written to MP4 or GIF, and read back."""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import RecordVideo

# What every browser plays is H.264 in yuv420p, which needs even sizes; faststart lets it begin before all has arrived.
_MP4 = "-c:v libx264 -pix_fmt yuv420p -vf pad=ceil(iw/2)*2:ceil(ih/2)*2 -movflags +faststart -f mp4"


# 64 colours are enough for these games, and without dithering what stands still costs nothing.
_GIF = "-filter_complex split[a][b];[a]palettegen=max_colors=64[p];[b][p]paletteuse=dither=none -f gif"


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

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one step; the film is written here when the step ends the episode."""
        result = super().step(action)
        _, _, terminated, truncated, _ = result
        if self.recording and (terminated or truncated):
            self.stop_recording()
        return result

    def start_recording(self, video_name: str = "") -> None:
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

    def stop_recording(self) -> None:
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
    from keras_dqn.files.atomic import atomic_write

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
