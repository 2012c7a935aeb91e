import base64
import gc
import os
import re
import shutil
import subprocess
import sys
import types
import warnings
from io import BytesIO
from pathlib import Path

import gymnasium
import imageio_ffmpeg
import numpy as np
import pytest
from matplotlib import image as plt_image

from keras_dqn import video
from keras_dqn.show.video import VideoRecorder, compare_videos, comparison_html, in_notebook, show_video, video_html

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
GREY_PER_STEP = 10


class Screen(gymnasium.Env):
    """Renders step after step in a brighter grey, always into the same array, and ends after `steps`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    render_mode = "rgb_array"
    observation_space = gymnasium.spaces.Discrete(1)
    action_space = gymnasium.spaces.Discrete(1)

    def __init__(self, steps=6, size=(48, 64), ends_by="terminated"):
        self.steps, self.ends_by, self.closed = steps, ends_by, False
        self.screen = np.zeros((*size, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        self.step_number = 0
        return 0, {}

    def step(self, action):
        self.step_number += 1
        done = self.step_number == self.steps
        return 0, 1.0, done and self.ends_by == "terminated", done and self.ends_by == "truncated", {}

    def render(self):
        self.screen[:] = GREY_PER_STEP * self.step_number
        return self.screen

    def close(self):
        self.closed = True


def play(env, steps=10_000):
    """Play one episode, or its first steps, and return how many steps it took."""
    env.reset(seed=0)
    for step in range(1, steps + 1):
        _, _, terminated, truncated, _ = env.step(0)
        if terminated or truncated:
            return step
    return steps


def decode(path):
    """Return the frames of an MP4 as uint8 [frames, height, width, 3]."""
    height, width = facts(path)["size"][::-1]
    command = [FFMPEG, "-loglevel", "error", "-i", str(path), "-fps_mode", "passthrough"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def facts(path):
    said = subprocess.run([FFMPEG, "-i", str(path)], capture_output=True, text=True).stderr
    stream = next(line for line in said.splitlines() if "Video:" in line)
    width, height = re.search(r", (\d+)x(\d+)", stream).groups()
    frames_per_second = float(re.search(r"([\d.]+) fps", stream).group(1))
    return {"stream": stream, "size": (int(width), int(height)), "fps": frames_per_second}


def greys(path):
    return decode(path).mean(axis=(1, 2, 3))


def run_ffmpeg_as(script, folder, monkeypatch):
    """Put a shell script in the place of ffmpeg."""
    executable = folder / "ffmpeg"
    executable.write_text(f"#!/bin/sh\n{script}\n")
    executable.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(executable))


@pytest.fixture
def caught():
    """Every warning of the test, repeated ones included."""
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        yield recorded


# Films


def test_a_cartpole_episode_becomes_an_h264_film_of_every_frame(tmp_path, capfd, caught):
    path = tmp_path / "videos" / "cartpole_random.mp4"
    env = VideoRecorder(gymnasium.make("CartPole-v1", render_mode="rgb_array"), path)
    steps = play(env)
    assert env.paths == [path], "written when the episode ends, before the next reset or close"
    assert path.stat().st_size < 300_000
    assert facts(path)["size"] == (600, 400)
    assert facts(path)["fps"] == 50
    assert "h264" in facts(path)["stream"]
    assert "yuv420p" in facts(path)["stream"]
    frames = decode(path)
    assert len(frames) == steps + 1
    assert frames[0].std() > 10, "a cart on a white ground, not a blank"
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 100, "the pole has fallen"
    env.close()
    assert capfd.readouterr().out == ""
    assert caught == []


@pytest.mark.parametrize("ends_by", ["terminated", "truncated"])
def test_each_frame_is_filmed_once_and_in_order(tmp_path, ends_by):
    env = VideoRecorder(Screen(steps=12, ends_by=ends_by), tmp_path / "a.mp4")
    play(env)
    assert greys(tmp_path / "a.mp4") == pytest.approx(GREY_PER_STEP * np.arange(13), abs=3)
    assert facts(tmp_path / "a.mp4")["fps"] == 20


def test_five_hundred_frames_of_cartpole_stay_small(tmp_path):
    env = VideoRecorder(gymnasium.make("CartPole-v1", render_mode="rgb_array"), tmp_path / "long.mp4")
    observation, _ = env.reset(seed=0)
    done, steps = False, 0
    while not done:
        position, speed, angle, turning = observation
        action = int(angle + 0.5 * turning + 0.1 * position + 0.3 * speed > 0)
        observation, _, terminated, truncated, _ = env.step(action)
        done, steps = terminated or truncated, steps + 1
    assert steps == 500
    assert len(decode(tmp_path / "long.mp4")) == 501
    assert (tmp_path / "long.mp4").stat().st_size < 300_000


def test_odd_sizes_are_filled_up_to_even_ones(tmp_path):
    play(VideoRecorder(Screen(size=(33, 51)), tmp_path / "odd.mp4"))
    assert facts(tmp_path / "odd.mp4")["size"] == (52, 34)
    assert decode(tmp_path / "odd.mp4")[6, :32, :48].mean() == pytest.approx(60, abs=3)


def test_an_unfinished_episode_is_written_at_the_next_reset_and_at_close(tmp_path):
    env = VideoRecorder(Screen(), lambda episode: tmp_path / f"{episode}.mp4")
    play(env, steps=2)
    assert env.paths == []
    play(env, steps=3)
    assert env.paths == [tmp_path / "0.mp4"]
    env.close()
    assert env.paths == [tmp_path / "0.mp4", tmp_path / "1.mp4"]
    assert [len(decode(path)) for path in env.paths] == [3, 4]
    assert env.unwrapped.closed


def test_max_frames_ends_the_film_but_not_the_episode(tmp_path):
    env = VideoRecorder(Screen(steps=9), lambda episode: tmp_path / f"{episode}.mp4", max_frames=4)
    assert play(env) == 9
    assert greys(tmp_path / "0.mp4") == pytest.approx([0, 10, 20, 30], abs=3)
    play(env)
    assert len(decode(tmp_path / "1.mp4")) == 4


def test_no_frame_is_kept_once_the_film_is_written(tmp_path):
    env = VideoRecorder(Screen(), tmp_path / "a.mp4")
    play(env, steps=5)
    assert len(env.recorded_frames) == 6
    env.step(0)
    assert env.recorded_frames == []


def test_the_trigger_chooses_episodes_and_a_function_names_them(tmp_path):
    env = VideoRecorder(Screen(), lambda episode: str(tmp_path / f"{episode}.mp4"), lambda episode: episode % 2 == 1)
    for _ in range(4):
        play(env)
    env.close()
    assert env.paths == [tmp_path / "1.mp4", tmp_path / "3.mp4"]
    assert sorted(tmp_path.iterdir()) == env.paths


def test_with_one_path_the_last_film_stays(tmp_path):
    screen = Screen(steps=3)
    env = VideoRecorder(screen, tmp_path / "a.mp4")
    play(env)
    screen.steps = 5
    play(env)
    assert env.paths == [tmp_path / "a.mp4"]
    assert len(decode(tmp_path / "a.mp4")) == 6


def test_a_reader_sees_the_older_film_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path, seen = tmp_path / "a.mp4", tmp_path / "seen"
    path.write_bytes(b"older film")
    run_ffmpeg_as(f'"{FFMPEG}" "$@"; cp "{path}" "{seen}"', tmp_path, monkeypatch)
    play(VideoRecorder(Screen(), path))
    assert seen.read_bytes() == b"older film"
    assert len(decode(path)) == 7


def test_the_folder_is_made_again_when_it_vanishes_in_the_middle(tmp_path, caught):
    path = tmp_path / "videos" / "a.mp4"
    env = VideoRecorder(Screen(), path)
    play(env, steps=3)
    shutil.rmtree(path.parent)
    env.close()
    assert len(decode(path)) == 4
    assert caught == []


def test_moviepy_is_not_needed(tmp_path, monkeypatch, caught):
    monkeypatch.setitem(sys.modules, "moviepy", None)
    env = VideoRecorder(Screen(), tmp_path / "a.mp4")
    play(env)
    assert len(decode(tmp_path / "a.mp4")) == 7
    assert caught == []


def test_the_wrapper_can_be_made_again_from_its_spec(tmp_path):
    env = VideoRecorder(gymnasium.make("CartPole-v1", render_mode="rgb_array"), tmp_path / "a.mp4", max_frames=5)
    again = gymnasium.make(env.spec)
    play(again)
    assert again.paths == [tmp_path / "a.mp4"]
    assert len(decode(tmp_path / "a.mp4")) == 5


# Failures


def folder_is_a_file(folder, screen, monkeypatch):
    (folder / "videos").write_text("in the way")


def folder_becomes_a_file(folder, screen, monkeypatch):
    def render(step):
        if step == 3:
            (folder / "videos").rmdir()
            (folder / "videos").write_text("in the way")

    screen.on_render = render


def no_ffmpeg(folder, screen, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(folder / "nowhere"))


def no_imageio_ffmpeg(folder, screen, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


def ffmpeg_goes_in_the_middle(folder, screen, monkeypatch):
    run_ffmpeg_as("exit 0", folder, monkeypatch)

    def render(step):
        if step == 3:
            (folder / "ffmpeg").unlink()

    screen.on_render = render


def ffmpeg_refuses(folder, screen, monkeypatch):
    run_ffmpeg_as("echo this codec is unknown >&2; exit 8", folder, monkeypatch)


def ffmpeg_writes_nothing(folder, screen, monkeypatch):
    run_ffmpeg_as("exec cat >/dev/null", folder, monkeypatch)


def disk_is_full_for_ffmpeg(folder, screen, monkeypatch):
    screen.noise = np.random.default_rng(0)  # so that the film does not fit into the one block that is allowed
    run_ffmpeg_as(f'ulimit -f 1; exec "{FFMPEG}" "$@"', folder, monkeypatch)


def disk_is_full_for_python(folder, screen, monkeypatch):
    def no_space(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras_dqn.files.atomic.atomic_write", no_space)


def render_raises(folder, screen, monkeypatch):
    def render(step):
        if step == 3:
            raise RuntimeError("the window is gone")

    screen.on_render = render


def render_changes_size(folder, screen, monkeypatch):
    def render(step):
        if step == 3:
            screen.screen = np.zeros((2, 2, 3), np.uint8)

    screen.on_render = render


def render_gives_no_image(folder, screen, monkeypatch):
    screen.render = lambda: None


class BreakableScreen(Screen):
    """A screen of 64 by 48 pixels of noise, if any, that tells `on_render` which step it renders."""

    noise = None

    def on_render(self, step):
        pass

    def render(self):
        self.on_render(self.step_number)
        frame = super().render()
        return frame if self.noise is None else self.noise.integers(0, 256, frame.shape, np.uint8)


FAILURES = {
    folder_is_a_file: "pip install imageio-ffmpeg",
    folder_becomes_a_file: "a folder that can be written",
    no_ffmpeg: "no ffmpeg at .*nowhere.*pip install imageio-ffmpeg",
    no_imageio_ffmpeg: "ModuleNotFoundError: .*imageio_ffmpeg.*pip install imageio-ffmpeg",
    ffmpeg_goes_in_the_middle: "no ffmpeg at .*pip install imageio-ffmpeg",
    ffmpeg_refuses: "status 8: this codec is unknown",
    ffmpeg_writes_nothing: "OSError: ffmpeg ended with status 0",
    disk_is_full_for_ffmpeg: "OSError: ffmpeg ended with status .*with space left",
    disk_is_full_for_python: "No space left on device.*with space left",
    render_raises: "RuntimeError: the window is gone.*env.render",
    render_changes_size: r"\(48, 64, 3\). Received: uint8 \(2, 2, 3\).*env.render",
    render_gives_no_image: r"Received: object \(\).*env.render",
}


@pytest.mark.parametrize("broken", FAILURES, ids=lambda broken: broken.__name__)
def test_a_broken_recorder_says_so_once_and_lets_the_episodes_go_on(tmp_path, monkeypatch, caught, broken):
    screen = BreakableScreen()
    broken(tmp_path, screen, monkeypatch)
    path = tmp_path / "videos" / "a.mp4"
    env = VideoRecorder(screen, path)
    assert [play(env) for _ in range(3)] == [6, 6, 6]
    env.close()
    assert [warning.category for warning in caught] == [RuntimeWarning]
    assert str(path) in str(caught[0].message)
    assert re.search(FAILURES[broken], str(caught[0].message))
    assert env.paths == []
    assert env.recorded_frames == []
    left = {file.name for file in tmp_path.rglob("*")}
    assert left <= {"videos", "ffmpeg"}, "no unfinished file"


@pytest.mark.parametrize("broken", [ffmpeg_refuses, disk_is_full_for_ffmpeg, disk_is_full_for_python, render_raises])
def test_an_older_film_survives_a_failure(tmp_path, monkeypatch, caught, broken):
    path = tmp_path / "videos" / "a.mp4"
    path.parent.mkdir()
    path.write_bytes(b"older film")
    screen = BreakableScreen()
    broken(tmp_path, screen, monkeypatch)
    play(VideoRecorder(screen, path))
    assert len(caught) == 1
    assert path.read_bytes() == b"older film"
    assert list(path.parent.iterdir()) == [path]


def test_a_name_that_cannot_be_had_is_a_failure_like_the_others(tmp_path, caught):
    env = VideoRecorder(Screen(), lambda episode: {0: tmp_path / "0.mp4"}[episode])
    assert [play(env) for _ in range(3)] == [6, 6, 6]
    assert len(caught) == 1
    assert str(caught[0].message).startswith("Not filming episode 1 or anything after it: KeyError: 1.")
    assert env.paths == [tmp_path / "0.mp4"]


def test_every_recorder_reports_its_own_failure(tmp_path, monkeypatch):
    """A notebook cell that is run again must not fail in silence because Python has shown the same words before."""
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            play(VideoRecorder(Screen(), tmp_path / "a.mp4"))
    assert len(caught) == 2


def test_ctrl_c_while_rendering_passes_through(tmp_path):
    screen = BreakableScreen()

    def render(step):
        if step == 2:
            raise KeyboardInterrupt

    screen.on_render = render
    env = VideoRecorder(screen, tmp_path / "a.mp4")
    with pytest.raises(KeyboardInterrupt):
        play(env)
    env.close()
    assert len(decode(tmp_path / "a.mp4")) == 2, "what was filmed before it is kept"


def test_ctrl_c_while_writing_passes_through_and_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"older film")
    # A byte to read says that Python is writing: before it Ctrl-C may meet Popen itself, and ffmpeg gets no input.
    script = f'echo $$ >"{tmp_path}/pid"; head -c 1 >/dev/null; kill -INT $PPID; exec sleep 60'
    run_ffmpeg_as(script, tmp_path, monkeypatch)
    env = VideoRecorder(Screen(size=(480, 640)), tmp_path / "a.mp4")
    with pytest.raises(KeyboardInterrupt):
        play(env)
    env.close()
    assert (tmp_path / "a.mp4").read_bytes() == b"older film"
    assert {file.name for file in tmp_path.iterdir()} == {"a.mp4", "ffmpeg", "pid"}
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_ctrl_c_is_not_for_ffmpeg(tmp_path, monkeypatch, caught):
    """A terminal sends it to a whole process group; ffmpeg leads one of its own, or the script ends with 9."""
    run_ffmpeg_as(f'kill -0 -$$ || exit 9; exec "{FFMPEG}" "$@"', tmp_path, monkeypatch)
    play(VideoRecorder(Screen(), tmp_path / "a.mp4"))
    assert len(decode(tmp_path / "a.mp4")) == 7
    assert caught == []


def test_a_recorder_dropped_without_close_is_a_resource_warning(tmp_path, caught):
    env = VideoRecorder(Screen(), tmp_path / "a.mp4")
    play(env, steps=2)
    del env
    gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert str(tmp_path / "a.mp4") in str(caught[0].message)


@pytest.mark.parametrize("render_mode", [None, "human", "ansi", "rgb_array_list"])
def test_an_environment_without_images_is_refused(tmp_path, render_mode):
    screen = Screen()
    screen.render_mode = render_mode
    with pytest.raises(ValueError, match=f"rgb_array.*Received: {render_mode!r} of .*Screen"):
        VideoRecorder(screen, tmp_path / "a.mp4")


def test_a_vector_environment_is_refused(tmp_path):
    envs = gymnasium.make_vec("CartPole-v1", num_envs=2, render_mode="rgb_array")
    with pytest.raises(ValueError, match="one env"):
        VideoRecorder(envs, tmp_path / "a.mp4")
    envs.close()


def test_a_wrong_suffix_or_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"an \.mp4 file\. Received: .*a\.gif"):
        VideoRecorder(Screen(), tmp_path / "a.gif")
    with pytest.raises(ValueError, match=r"max_frames must be at least 1\. Received: 0"):
        VideoRecorder(Screen(), tmp_path / "a.mp4", max_frames=0)


# Showing


def shell_named(name, module="somewhere"):
    return type(name, (), {"__module__": module})()


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        (shell_named("ZMQInteractiveShell", "ipykernel.zmqshell"), True),
        (shell_named("Shell", "google.colab._shell"), True),
        (shell_named("TerminalInteractiveShell", "IPython.terminal.interactiveshell"), False),
        (None, False),
    ],
)
def test_in_notebook_knows_the_shells(monkeypatch, shell, expected):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert in_notebook() is expected


def test_without_ipython_there_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert in_notebook() is False
    assert "IPython" not in sys.modules


def test_the_html_holds_the_exact_bytes_and_plays_by_itself(tmp_path):
    film = bytes(range(256)) * 5
    (tmp_path / "a&b.mp4").write_bytes(film)
    markup = video_html(tmp_path / "a&b.mp4", height=321)
    assert re.search(
        r"<video autoplay muted loop playsinline controls style=\"[^\"]*height:321px;max-width:100%\">", markup
    )
    assert base64.b64decode(re.search(r"video/mp4;base64,([^\"]*)\"", markup).group(1), validate=True) == film
    assert 'type="video/mp4">' in markup
    assert re.search("<figcaption[^>]*>(.*)</figcaption>", markup)[1].endswith("a&amp;b.mp4")
    assert ">Before &amp; after</figcaption>" in video_html(tmp_path / "a&b.mp4", caption="Before & after")
    assert "height:400px" in video_html(tmp_path / "a&b.mp4")


def pictures(markup):
    """The JPEGs in HTML, as arrays."""
    found = re.findall(r'data:image/jpeg;base64,([^"]*)"', markup)
    return [plt_image.imread(BytesIO(base64.b64decode(picture)), "jpeg") for picture in found]


def test_where_a_film_may_not_play_a_still_picture_from_its_middle_takes_its_place(tmp_path):
    recorder = VideoRecorder(Screen(steps=10), tmp_path / "film.mp4")
    play(recorder)
    markup = video_html(tmp_path / "film.mp4", height=300)
    poster, instead = re.search('poster="([^"]*)"', markup)[1], re.search(r'<img src="([^"]*)" width="400"', markup)[1]
    assert poster == instead and markup.index("<img") < markup.index("</video>"), "also where the whole tag is removed"
    (still, _) = pictures(markup)
    assert still.shape == (48, 64, 3)
    assert still.mean() == pytest.approx(5 * GREY_PER_STEP, abs=GREY_PER_STEP + 3)
    assert 'width="400"' in markup and "aspect-ratio:64/48" in markup and "width:400px;max-width:100%" in markup


@pytest.mark.parametrize("show", [video_html, show_video])
def test_a_missing_or_empty_film_is_named(tmp_path, show):
    with pytest.raises(FileNotFoundError, match=r"missing\.mp4"):
        show(tmp_path / "missing.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"Received: .*empty\.mp4"):
        show(tmp_path / "empty.mp4")


def test_outside_a_notebook_the_path_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("videos").mkdir()
    Path("videos/x.mp4").write_bytes(b"film")
    show_video("videos/x.mp4")
    assert capsys.readouterr().out == "Video: videos/x.mp4\n"


def test_in_a_notebook_the_film_is_displayed(tmp_path, monkeypatch, capsys):
    import IPython.display

    displayed = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: displayed.append(data))
    monkeypatch.setattr(video, "in_notebook", lambda: True)
    (tmp_path / "a.mp4").write_bytes(b"film")
    show_video(tmp_path / "a.mp4", height=200)
    html = video_html(tmp_path / "a.mp4", height=200)
    assert displayed == [{"text/html": html, "text/plain": f"Video: {tmp_path / 'a.mp4'}"}]
    assert capsys.readouterr().out == ""


def test_films_to_compare_are_all_there_in_their_order_with_their_captions(tmp_path):
    captions = {"before": b"first film", "after < 200 & more": b"second film", 3: b"third film"}
    for content in captions.values():
        (tmp_path / f"{content.decode()}.mp4").write_bytes(content)
    films = {caption: tmp_path / f"{content.decode()}.mp4" for caption, content in captions.items()}
    markup = comparison_html(films, height=123)
    captions_shown = re.findall('<div style="font-weight[^>]*>(.*?)</div>', markup)
    assert captions_shown == ["before", "after &lt; 200 &amp; more", "3"]
    held = [base64.b64decode(film, validate=True) for film in re.findall('video/mp4;base64,([^"]*)"', markup)]
    assert held == list(captions.values())
    assert markup.count("<video autoplay muted loop playsinline controls ") == 3
    assert markup.count("123px") == 3 and comparison_html(films).count("300px") == 3


@pytest.mark.parametrize("make", [comparison_html, compare_videos])
def test_films_to_compare_that_are_none_are_named(tmp_path, make):
    (tmp_path / "a.mp4").write_bytes(b"film")
    with pytest.raises(FileNotFoundError, match=r"missing\.mp4"):
        make({"before": tmp_path / "a.mp4", "after": tmp_path / "missing.mp4"})
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"Received: .*empty\.mp4"):
        make({"before": tmp_path / "a.mp4", "after": tmp_path / "empty.mp4"})
    for films in ({}, [tmp_path / "a.mp4"], str(tmp_path / "a.mp4"), None):
        with pytest.raises(ValueError, match=r"Films to compare are .* Received: ") as caught:
            make(films)
        assert str(caught.value).endswith(f"Received: {films!r}")


def test_a_comparison_is_one_output_of_a_notebook_and_elsewhere_says_where_the_films_are(monkeypatch, capsys):
    Path("videos").mkdir()
    films = {"before": "videos/x.mp4", "after": "videos/y.mp4"}
    for path in films.values():
        Path(path).write_bytes(b"film")
    compare_videos(films)
    assert capsys.readouterr().out == "Video, before: videos/x.mp4\nVideo, after: videos/y.mp4\n"
    displayed = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: displayed.append(data["text/html"]))
    monkeypatch.setattr(video, "in_notebook", lambda: True)
    compare_videos(films, height=200)
    assert displayed == [comparison_html(films, height=200)]
    assert capsys.readouterr().out == ""


def in_boxes(chromium, width, dark=False):
    """Play the two films of this repository in a window; (left, top, right, bottom) of each, in CSS pixels."""
    films = Path(video.__file__).parents[2] / "videos"
    markup = comparison_html({"before": films / "cartpole_random.mp4", "after": films / "cartpole_pretrained.mp4"})
    page = f"<!doctype html><style>:root {{ color-scheme: light dark }}</style><body>{markup}</body>"
    Path("notebook.html").write_text(page)
    chromium.open(Path("notebook.html").absolute(), width=width, dark=dark)
    chromium.wait("[...document.querySelectorAll('video')].every((film) => film.currentTime > 0 && !film.paused)")
    assert chromium.run("document.documentElement.scrollWidth") == width, "nothing sticks out"
    assert chromium.problems == []
    return chromium.run(
        "[...document.querySelectorAll('video')].map((film) => film.getBoundingClientRect())"
        ".map(({left, top, right, bottom}) => [left, top, right, bottom])"
    )


def test_films_play_side_by_side_and_on_a_phone_below_one_another(chromium):
    before, after = in_boxes(chromium, 1000)
    assert before[1] == after[1] and before[2] < after[0]
    assert [(right - left, bottom - top) for left, top, right, bottom in (before, after)] == [(450, 300)] * 2
    before, after = in_boxes(chromium, 390)
    assert before[0] == after[0] and before[3] < after[1]
    for left, top, right, bottom in (before, after):
        assert right - left == pytest.approx(1.5 * (bottom - top), abs=1), "no edges left and right, or above and below"


def test_captions_take_the_colour_of_the_page(chromium):
    shades = []
    for dark in (False, True):
        in_boxes(chromium, 1000, dark)
        color = chromium.run("getComputedStyle(document.querySelector('figcaption, div > div > div')).color")
        shades.append([int(part) for part in re.findall(r"\d+", color)[:3]])
    assert max(shades[0]) < 60 and min(shades[1]) > 200


def test_the_frames_of_a_film_can_be_read(tmp_path):
    recorder = VideoRecorder(Screen(steps=4), tmp_path / "film.mp4")
    play(recorder, 4)
    recorder.close()
    frames, frames_per_second = video.read_frames(tmp_path / "film.mp4")
    assert frames.shape == (5, 48, 64, 3) and frames.dtype == np.uint8
    assert frames_per_second == 20
    np.testing.assert_allclose(frames.mean((1, 2, 3)), np.arange(5) * GREY_PER_STEP, atol=2)


def test_an_animation_holds_every_frame(tmp_path, monkeypatch):
    recorder = VideoRecorder(Screen(steps=4), tmp_path / "film.mp4")
    play(recorder, 4)
    recorder.close()
    content = video.animation_html(tmp_path / "film.mp4", width=100)
    still, *images = [
        base64.b64decode(text.replace("\\\n", "")) for text in re.findall(r'data:image/jpeg;base64,([^"]+)"', content)
    ]
    assert re.search(r'<img src="data:image/jpeg;base64,[^"]*" width="100" alt="[^"]*" id="_anim_img', content)
    assert plt_image.imread(BytesIO(still), "jpeg").shape == (48, 64, 3), "what is seen where scripts are removed"
    assert len(images) == 5 and all(image.startswith(b"\xff\xd8") for image in images)
    greys = [plt_image.imread(BytesIO(image), "jpeg").mean() for image in images]
    np.testing.assert_allclose(greys, np.arange(5) * GREY_PER_STEP, atol=3)
    shown = []
    monkeypatch.setattr(video, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data["text/html"]))
    video.show_animation(tmp_path / "film.mp4", width=100)
    assert len(shown) == 1 and shown[0].count("data:image/jpeg") == 6


# Several films as one


@pytest.fixture
def two_films(tmp_path):
    """A film of 6 frames, 64 by 48, and one of 11 frames, 48 by 48, at 20 frames a second."""
    for name, steps, size in (("short", 5, (48, 64)), ("long", 10, (48, 48))):
        recorder = VideoRecorder(Screen(steps=steps, size=size), tmp_path / f"{name}.mp4")
        play(recorder)
    return {"short": tmp_path / "short.mp4", "": tmp_path / "long.mp4"}


def test_films_side_by_side_repeat_the_shorter_one_below_their_captions(two_films, tmp_path):
    assert video.join_videos(two_films, tmp_path / "both.mp4", width=280) == tmp_path / "both.mp4"
    frames, frames_per_second = video.read_frames(tmp_path / "both.mp4")
    assert frames_per_second == 20 and frames.shape == (11, 28 + 120, 280, 3)
    assert frames[0, :28, :160].min() < 100 and frames[0, :28, 160:].min() > 200, "one caption is empty"
    left, right = frames[:, 40:, 10:150].mean((1, 2, 3)), frames[:, 40:, 170:270].mean((1, 2, 3))
    np.testing.assert_allclose(left, np.arange(11) % 6 * GREY_PER_STEP, atol=4)
    np.testing.assert_allclose(right, np.arange(11) * GREY_PER_STEP, atol=4)


def test_films_one_after_the_other_and_in_rows(two_films, tmp_path):
    video.join_videos(two_films, tmp_path / "after.mp4", one_after_the_other=True, width=64)
    frames, _ = video.read_frames(tmp_path / "after.mp4")
    assert len(frames) == 17
    greys = [frame[30:70, 20:40].mean() for frame in frames]
    np.testing.assert_allclose(greys, [*range(0, 60, 10), *range(0, 110, 10)], atol=4)
    films = {"a": two_films["short"], "b": two_films["short"], "c": two_films[""]}
    video.join_videos(films, tmp_path / "rows.mp4", columns=2, width=128, seconds=0.2, frames_per_second=10)
    frames, frames_per_second = video.read_frames(tmp_path / "rows.mp4")
    assert frames_per_second == 10 and frames.shape == (2, 28 + 48 + 28 + 128, 128, 3)


def test_a_joint_gif_begins_where_it_is_told_to(two_films, tmp_path):
    video.join_videos({"": two_films["short"]}, tmp_path / "one.gif", width=64, start=0.1, seconds=0.2)
    assert (tmp_path / "one.gif").read_bytes().startswith(b"GIF89a")
    frames, _ = video.read_frames(tmp_path / "one.gif")
    np.testing.assert_allclose(frames.mean((1, 2, 3)), [20, 30, 40, 50], atol=4)
    assert sorted(tmp_path.iterdir()) == sorted([*two_films.values(), tmp_path / "one.gif"])


@pytest.mark.parametrize(
    ("films", "path", "options", "message"),
    [
        ({}, "a.mp4", {}, "Films to join are .* Received: {}"),
        (["short.mp4"], "a.mp4", {}, "Films to join are .* Received: "),
        ({"a": "short.mp4"}, "a.png", {}, "an .mp4 or a .gif. Received: a.png"),
        ({"a": "short.mp4"}, "a.mp4", {"columns": 0}, "`columns` must be .* Received: 0"),
        ({"a": "short.mp4"}, "a.mp4", {"start": 9}, "short.mp4 ends at 0.3 s. Received: start=9"),
        ({"a": "short.mp4"}, "a.mp4", {"start": -1}, "`start` must be above 0. Received: -1"),
        ({"a": "short.mp4"}, "a.mp4", {"seconds": 0}, "`seconds` must be above 0. Received: 0"),
        ({"a": "no_film.mp4"}, "a.mp4", {}, "A film must be one that ffmpeg reads. Received: no_film.mp4"),
        ({"a": "missing.mp4"}, "a.mp4", {}, "There is no such film. Received: missing.mp4"),
    ],
)
def test_what_cannot_be_joined_is_named_and_leaves_nothing(two_films, tmp_path, films, path, options, message):
    (tmp_path / "no_film.mp4").write_bytes(b"no film")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        video.join_videos(films, path, **options)
    assert not list(tmp_path.glob("a.*"))


def test_without_moviepy_joining_says_what_to_install(two_films, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy", None)
    with pytest.raises(ImportError, match="Joining films needs MoviePy: `pip install moviepy`. Received: "):
        video.join_videos(two_films, tmp_path / "both.mp4")


def test_filming_needs_neither_a_display_nor_a_sound_card(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        monkeypatch.delenv(name, raising=False)
    VideoRecorder(Screen(), tmp_path / "a.mp4")
    assert (os.environ["SDL_VIDEODRIVER"], os.environ["SDL_AUDIODRIVER"]) == ("dummy", "dummy")


@pytest.mark.parametrize("content", [None, b"", b"no film"])
def test_a_film_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((FileNotFoundError, ValueError), match="Received: .*film.mp4"):
        video.show_animation(path)


@pytest.mark.parametrize("module", ["video", "plots"])
def test_importing_the_module_alone_is_light(module):
    """Loaded from its file, so that what the package itself imports does not count."""
    heavy = "tensorflow keras moviepy imageio imageio_ffmpeg matplotlib pygame IPython"
    program = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("alone", {str(Path(video.__file__).with_name(module + ".py"))!r})
loaded = importlib.util.module_from_spec(spec)
spec.loader.exec_module(loaded)
print(loaded.__doc__ is not None, [name for name in {heavy!r}.split() if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["True", "[]\n"]
