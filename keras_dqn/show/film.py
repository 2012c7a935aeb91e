"""Films: episodes recorded to MP4, frame by frame, each whole or not there at all."""

import contextlib
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.wrappers import RecordVideo

from keras_dqn.checks import check_integer
from keras_dqn.files.atomic import atomic_write

# What every browser plays is H.264 in yuv420p, which needs even sizes; faststart lets it begin before all has arrived.
_MP4 = ["-pix_fmt", "yuv420p", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-movflags", "+faststart"]


class VideoRecorder(RecordVideo):
    """Film the episodes of `env` to MP4 without ever stopping the run that is filmed.

    A frame goes to ffmpeg as soon as it is drawn, and a film is complete at the next `reset` or at `close`. Whatever
    goes wrong is reported once, as a RuntimeWarning, and filming stays off from then on. `paths` lists complete films.

    Args:
        env: a `gymnasium.Env` made with `render_mode="rgb_array"`; ValueError if it is anything else.
        path: the MP4 to write, or a function from the episode number (0, 1, …) to it. Its folder is made when missing.
            With one fixed path each film replaces the one before it.
        episode_trigger: a function from the episode number to whether it is filmed; by default every episode is.
        max_frames: where the film of an episode ends, the frame of `reset` included.
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
            # Else pygame looks for a display and a sound card, and complains about each that it does not find.
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
            os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
        self.max_frames = check_integer("max_frames", max_frames)
        self.paths: list[Path] = []
        fixed = None if callable(path) else _mp4_path(path)
        self._path_of_episode = path if fixed is None else lambda episode: fixed
        self._film = contextlib.ExitStack()  # the film under way, if there is one
        # RecordVideo wants a folder, warns that it exists, and last of all imports MoviePy. Without MoviePy or ffmpeg
        # the first film says so.
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(Exception):
            super().__init__(env, tempfile.gettempdir(), episode_trigger=episode_trigger or (lambda episode: True))

    def start_recording(self, video_name: str = "") -> None:
        """Begin the film of the current episode; `reset` calls it, and the name it gives is not used."""
        self._path, self._frames, self.recording = None, 0, True
        with self._never_stopping_the_run():
            self._path = _mp4_path(self._path_of_episode(self.episode_id))

    def stop_recording(self) -> None:
        """Complete the film of the current episode."""
        self.recording = False
        with self._never_stopping_the_run():
            self._film.close()
            if self._frames:
                self.paths = [*dict.fromkeys([*self.paths, self._path])]

    def _capture_frame(self):
        with self._never_stopping_the_run():
            frame = np.asarray(self.env.render())
            if not self._frames:
                self._add = self._film.enter_context(new_film(self._path, frame.shape, self.frames_per_sec))
            self._add(frame)
            self._frames += 1
        if self.recording and self._frames == self.max_frames:
            self.stop_recording()

    @contextlib.contextmanager
    def _never_stopping_the_run(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            with contextlib.suppress(Exception):  # which is that error again; nothing stays of the film
                self._film.__exit__(type(error), error, error.__traceback__)
            self.recording, self.episode_trigger = False, None
            film = self._path or f"episode {self.episode_id}"
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:400]
            needs = "images from `env.render()`, a folder that can be written, with space left, and MoviePy with ffmpeg"
            said = f"Not filming {film} or anything after it: {reason}. Filming needs {needs}."
            warnings.warn(said, RuntimeWarning, stacklevel=5)


def _mp4_path(path: Path | str) -> Path:
    if Path(path).suffix.lower() != ".mp4":
        raise ValueError(f"A film is an .mp4 file. Received: {path}")
    return Path(path)


@contextlib.contextmanager
def new_film(path: Path, shape: tuple[int, ...], frames_per_second: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that adds a frame, uint8 [height, width, 3]; the MP4 is there when the block has ended well.

    Raises OSError with the words of ffmpeg where it fails, and ValueError for a frame of another shape.
    """
    import imageio_ffmpeg
    from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter

    if shape[2:] != (3,):
        raise ValueError(f"A frame must be [height, width, 3]. Received: {shape}")
    frames, (height, width, _) = 0, shape

    def add(frame: np.ndarray) -> None:
        nonlocal frames
        if frame.dtype != np.uint8 or frame.shape != shape:
            raise ValueError(f"A frame must be uint8 {shape}. Received: {frame.dtype} {frame.shape}")
        frames += 1  # before it is whole: a frame that Ctrl-C cuts off is missed below
        writer.write_frame(frame)

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        with _hidden_from_ctrl_c():
            writer = FFMPEG_VideoWriter(str(temporary), (width, height), frames_per_second, ffmpeg_params=_MP4)
        ffmpeg = writer.proc
        try:
            yield add
            _, said = ffmpeg.communicate()
        except BaseException:
            ffmpeg.kill()
            ffmpeg.communicate()
            raise
        if ffmpeg.returncode:
            raise OSError(f"ffmpeg ended with status {ffmpeg.returncode}: {said.decode(errors='replace')}")
        with _hidden_from_ctrl_c():
            whole, _ = imageio_ffmpeg.count_frames_and_secs(temporary)
        if whole != frames:
            raise OSError(f"ffmpeg wrote {whole} of {frames} frames")


@contextlib.contextmanager
def _hidden_from_ctrl_c():
    """What is started in here goes on at Ctrl-C, which a terminal sends to every process and is meant for Python."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
