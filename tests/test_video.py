"""Films, decoded and counted, and what a notebook shows of them, in a real Chromium."""

import base64
import gc
import os
import re
import subprocess
import sys
import tracemalloc
import types
import warnings
from io import BytesIO
from pathlib import Path

import gymnasium
import imageio_ffmpeg
import moviepy.video.io.ffmpeg_writer
import numpy as np
import pytest
from matplotlib import image

from keras_dqn import CartPole, compare_videos, show_animation, show_video
from keras_dqn.show import notebook
from keras_dqn.show.film import VideoRecorder
from keras_dqn.show.notebook import in_notebook, video_html
from tests.films import GRAY_PER_STEP, Screen, decode, grays, play

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
REPOSITORY = Path(__file__).parents[1]


def run_ffmpeg_as(script, folder, monkeypatch):
    """Put a shell script in the place of ffmpeg."""
    executable = folder / "ffmpeg"
    executable.write_text(f"#!/bin/sh\n{script}\n")
    executable.chmod(0o755)
    monkeypatch.setattr(moviepy.video.io.ffmpeg_writer, "FFMPEG_BINARY", str(executable))


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
    env.close()
    assert env.paths == [path] and [file.name for file in path.parent.iterdir()] == [path.name]
    frames, facts = decode(path)
    assert (facts["size"], facts["fps"], facts["codec"]) == ((600, 400), 50, "h264")
    assert facts["pix_fmt"].startswith("yuv420p") and path.stat().st_size < 100_000
    assert len(frames) == steps + 1
    assert frames[0].std() > 10, "a cart on a white ground, not a blank"
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 100, "the pole has fallen"
    assert capfd.readouterr().out == "" and caught == []


@pytest.mark.parametrize("length", [1, 2, 7, 50, 61])
def test_each_frame_is_filmed_once_and_in_order_and_odd_sizes_are_filled_up(tmp_path, length):
    env = VideoRecorder(Screen(steps=100, size=(33, 51)), tmp_path / "a.mp4")
    play(env, length - 1)
    env.close()
    frames, facts = decode(tmp_path / "a.mp4")
    assert (facts["size"], facts["fps"]) == ((52, 34), 20)
    np.testing.assert_allclose(frames[:, :32, :48].mean((1, 2, 3)), GRAY_PER_STEP * np.arange(length), atol=3)


def test_an_unfinished_episode_is_complete_at_the_next_reset_and_at_close(tmp_path):
    env = VideoRecorder(Screen(), lambda episode: tmp_path / f"{episode}.mp4")
    play(env, steps=2)
    assert env.paths == [] and not (tmp_path / "0.mp4").exists()
    play(env, steps=3)
    assert env.paths == [tmp_path / "0.mp4"]
    env.close()
    assert env.paths == [tmp_path / "0.mp4", tmp_path / "1.mp4"]
    assert [len(grays(path)) for path in env.paths] == [3, 4]
    assert env.unwrapped.closed


def test_max_frames_ends_the_film_but_not_the_episode(tmp_path):
    env = VideoRecorder(Screen(steps=9), lambda episode: tmp_path / f"{episode}.mp4", max_frames=4)
    assert [play(env), play(env)] == [9, 9]
    assert env.paths == [tmp_path / "0.mp4", tmp_path / "1.mp4"]
    assert grays(tmp_path / "0.mp4") == pytest.approx(GRAY_PER_STEP * np.arange(4), abs=3)
    assert len(grays(tmp_path / "1.mp4")) == 4


def test_the_trigger_chooses_episodes_and_a_function_names_them(tmp_path):
    env = VideoRecorder(Screen(), lambda episode: str(tmp_path / f"{episode}.mp4"), lambda episode: episode % 2 == 1)
    for _ in range(4):
        play(env)
    env.close()
    assert env.paths == sorted(tmp_path.iterdir()) == [tmp_path / "1.mp4", tmp_path / "3.mp4"]


def test_with_one_path_the_last_film_stays_and_the_older_one_until_then(tmp_path):
    env = VideoRecorder(Screen(steps=3), tmp_path / "a.mp4")
    play(env)
    env.unwrapped.steps = 5
    play(env)
    assert len(grays(tmp_path / "a.mp4")) == 4, "the new one is not whole yet"
    env.close()
    assert env.paths == [tmp_path / "a.mp4"] and len(grays(tmp_path / "a.mp4")) == 6


def test_frames_do_not_wait_in_memory(tmp_path):
    env = VideoRecorder(Screen(steps=300, size=(240, 320)), tmp_path / "a.mp4")
    env.reset()
    tracemalloc.start()
    play(env)
    env.close()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * 240 * 320 * 3, "all would take 300 of them"


def test_filming_needs_neither_a_display_nor_a_sound_card(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        monkeypatch.delenv(name, raising=False)
    VideoRecorder(Screen(), tmp_path / "a.mp4")
    assert (os.environ["SDL_VIDEODRIVER"], os.environ["SDL_AUDIODRIVER"]) == ("dummy", "dummy")


# Failures: each breaks something before the first episode, or at its third step


def folder_is_a_file(folder, screen, monkeypatch):
    (folder / "videos").write_text("in the way")


def no_ffmpeg(folder, screen, monkeypatch):
    monkeypatch.setattr(moviepy.video.io.ffmpeg_writer, "FFMPEG_BINARY", str(folder / "nowhere"))


def no_moviepy(folder, screen, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "moviepy"]:
        monkeypatch.setitem(sys.modules, name, None)


def ffmpeg_refuses(folder, screen, monkeypatch):
    screen.screen = np.zeros((240, 320, 3), np.uint8)  # more than a pipe holds
    run_ffmpeg_as("echo this codec is unknown >&2; exit 8", folder, monkeypatch)


def ffmpeg_writes_nothing(folder, screen, monkeypatch):
    run_ffmpeg_as("exec cat >/dev/null", folder, monkeypatch)


def ffmpeg_loses_frames(folder, screen, monkeypatch):
    run_ffmpeg_as(f'head -c {3 * 48 * 64 * 3} | "{FFMPEG}" "$@"; exec cat >/dev/null', folder, monkeypatch)


def disk_is_full(folder, screen, monkeypatch):
    screen.noise = np.random.default_rng(0)  # so that the film does not fit into the blocks that are allowed
    run_ffmpeg_as(f'trap "" XFSZ; ulimit -f 8; exec "{FFMPEG}" "$@"', folder, monkeypatch)


def render_raises(folder, screen, monkeypatch):
    screen.at_step_3 = lambda: (_ for _ in ()).throw(OSError(5, "the window is gone"))


def render_changes_size(folder, screen, monkeypatch):
    screen.at_step_3 = lambda: setattr(screen, "screen", np.zeros((2, 2, 3), np.uint8))


def render_gives_no_image(folder, screen, monkeypatch):
    screen.render = lambda: None


class BreakableScreen(Screen):
    """A screen of noise, if any, that calls `at_step_3` before it renders that step."""

    noise = None

    def at_step_3(self):
        pass

    def render(self):
        if self.step_number == 3:
            self.at_step_3()
        frame = super().render()
        return frame if self.noise is None else self.noise.integers(0, 256, frame.shape, np.uint8)


FAILURES = {
    folder_is_a_file: "FileExistsError: .*Filming needs images .* a folder that can be written",
    no_ffmpeg: "No such file .*nowhere.* MoviePy with ffmpeg",
    no_moviepy: "ModuleNotFoundError: .*moviepy.* MoviePy with ffmpeg",
    ffmpeg_refuses: "this codec is unknown",
    ffmpeg_writes_nothing: "RuntimeError: ",
    ffmpeg_loses_frames: "OSError: ffmpeg wrote 3 of 7 frames",
    disk_is_full: "OSError: .*File too large.*with space left",
    render_raises: r"OSError: \[Errno 5\] the window is gone",
    render_changes_size: r"\(48, 64, 3\). Received: uint8 \(2, 2, 3\)",
    render_gives_no_image: r"A frame must be \[height, width, 3\]. Received: \(\)",
}


@pytest.mark.parametrize("broken", FAILURES, ids=lambda broken: broken.__name__)
def test_what_goes_wrong_is_one_warning_and_the_episodes_go_on(tmp_path, monkeypatch, caught, broken):
    screen, path = BreakableScreen(), tmp_path / "videos" / "a.mp4"
    if broken is not folder_is_a_file:
        path.parent.mkdir()
        path.write_bytes(b"older film")
    broken(tmp_path, screen, monkeypatch)
    env = VideoRecorder(screen, path)
    assert [play(env) for _ in range(3)] == [6, 6, 6]
    env.close()
    assert [warning.category for warning in caught] == [RuntimeWarning]
    said = str(caught[0].message)
    assert said.startswith(f"Not filming {path} or anything after it: ") and "\n" not in said
    assert re.search(FAILURES[broken], said)
    assert env.paths == []
    if broken is not folder_is_a_file:
        assert path.read_bytes() == b"older film" and list(path.parent.iterdir()) == [path], "nothing unfinished"


def test_a_full_disk_ends_no_training(tmp_path, monkeypatch, caught):
    run_ffmpeg_as(f'ulimit -f 1; exec "{FFMPEG}" "$@"', tmp_path, monkeypatch)
    cartpole = CartPole(3, weights=None, seed=0, weight_backup=None)
    cartpole.train(record_every=1, progress=False)
    assert len(cartpole.history) == 3
    assert len([one for one in caught if "Not filming" in str(one.message)]) == 1
    assert list(Path("videos").iterdir()) == []


def test_a_name_that_cannot_be_had_is_a_failure_like_the_others(tmp_path, caught):
    env = VideoRecorder(Screen(), lambda episode: {0: tmp_path / "0.mp4"}[episode])
    assert [play(env) for _ in range(3)] == [6, 6, 6]
    assert len(caught) == 1
    assert str(caught[0].message).startswith("Not filming episode 1 or anything after it: KeyError: 1.")
    assert env.paths == [tmp_path / "0.mp4"]


def test_every_recorder_reports_its_own_failure(tmp_path, monkeypatch):
    """A notebook cell that is run again must not fail in silence because Python has shown the same words before."""
    no_ffmpeg(tmp_path, None, monkeypatch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            play(VideoRecorder(Screen(), tmp_path / "a.mp4"))
    assert len(caught) == 2


def test_ctrl_c_while_rendering_passes_through_and_what_was_filmed_is_kept(tmp_path):
    screen = BreakableScreen()
    screen.at_step_3 = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    env = VideoRecorder(screen, tmp_path / "a.mp4")
    with pytest.raises(KeyboardInterrupt):
        play(env)
    env.close()
    assert len(grays(tmp_path / "a.mp4")) == 3


def test_ctrl_c_while_a_film_is_completed_passes_through_and_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"older film")
    script = f'echo $$ >"{tmp_path}/pid"; cat >/dev/null; kill -INT $PPID; exec sleep 60'
    run_ffmpeg_as(script, tmp_path, monkeypatch)
    env = VideoRecorder(Screen(), tmp_path / "a.mp4")
    play(env)
    with pytest.raises(KeyboardInterrupt):
        env.close()
    assert (tmp_path / "a.mp4").read_bytes() == b"older film"
    assert {file.name for file in tmp_path.iterdir()} == {"a.mp4", "ffmpeg", "pid"}
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_ctrl_c_is_not_for_ffmpeg(tmp_path, monkeypatch, caught):
    """A terminal sends it to every process; ffmpeg would end the film there."""
    run_ffmpeg_as(f'kill -INT $$; exec "{FFMPEG}" "$@"', tmp_path, monkeypatch)
    env = VideoRecorder(Screen(), tmp_path / "a.mp4")
    play(env)
    env.close()
    assert len(grays(tmp_path / "a.mp4")) == 7 and caught == []


def test_a_recorder_dropped_without_close_leaves_nothing(tmp_path):
    env = VideoRecorder(Screen(), tmp_path / "a.mp4")
    play(env, steps=2)
    assert len(list(tmp_path.iterdir())) == 1, "the film under way"
    del env
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("render_mode", [None, "human", "ansi", "rgb_array_list"])
def test_an_environment_without_images_is_refused(tmp_path, render_mode):
    screen = Screen()
    screen.render_mode = render_mode
    with pytest.raises(ValueError, match=f"rgb_array.*Received: {render_mode!r} of .*Screen"):
        VideoRecorder(screen, tmp_path / "a.mp4")


def test_several_environments_a_wrong_suffix_or_length_are_refused(tmp_path):
    envs = gymnasium.make_vec("CartPole-v1", num_envs=2, render_mode="rgb_array")
    with pytest.raises(ValueError, match="one env"):
        VideoRecorder(envs, tmp_path / "a.mp4")
    envs.close()
    with pytest.raises(ValueError, match=r"an \.mp4 file\. Received: .*a\.gif"):
        VideoRecorder(Screen(), tmp_path / "a.gif")
    with pytest.raises(ValueError, match=r"`max_frames` must be a whole number, 1 or more\. Received: 0"):
        VideoRecorder(Screen(), tmp_path / "a.mp4", max_frames=0)


# Showing


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed as in a notebook."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    return shown


@pytest.fixture
def gray_film(tmp_path):
    env = VideoRecorder(Screen(steps=10), tmp_path / "film.mp4")
    play(env)
    env.close()
    return tmp_path / "film.mp4"


def test_a_notebook_is_what_has_a_kernel(monkeypatch):
    for shell, expected in ((types.SimpleNamespace(kernel=1), True), (types.SimpleNamespace(), False), (None, False)):
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert in_notebook() is expected
    monkeypatch.delitem(sys.modules, "IPython")
    assert in_notebook() is False and "IPython" not in sys.modules


def test_the_html_holds_the_exact_bytes_and_plays_by_itself(tmp_path):
    content = bytes(range(256)) * 5
    (tmp_path / "a&b.mp4").write_bytes(content)
    markup = video_html(tmp_path / "a&b.mp4", height=321)
    assert '<video autoplay muted loop playsinline controls width="482" ' in markup and "width:482px" in markup
    assert base64.b64decode(re.search(r'video/mp4;base64,([^"]*)" type="video/mp4">', markup)[1]) == content
    assert re.search("<figcaption[^>]*>(.*)</figcaption>", markup)[1].endswith("a&amp;b.mp4")
    assert ">Before &amp; after</figcaption>" in video_html(tmp_path / "a&b.mp4", caption="Before & after")


def test_where_a_film_may_not_play_a_still_picture_from_its_middle_takes_its_place(gray_film):
    markup = video_html(gray_film, height=300)
    poster, instead = re.search('poster="([^"]*)"', markup)[1], re.search(r'<img src="([^"]*)" width="400"', markup)[1]
    assert poster == instead and markup.index("<img") < markup.index("</video>"), "also where the whole tag is removed"
    still = image.imread(BytesIO(base64.b64decode(poster.partition("base64,")[2])), "jpeg")
    assert still.shape == (48, 64, 3)
    assert still.mean() == pytest.approx(5 * GRAY_PER_STEP, abs=GRAY_PER_STEP + 3)
    assert 'width="400"' in markup and "aspect-ratio:64/48" in markup and "width:400px;max-width:100%" in markup


@pytest.mark.parametrize("show", [show_video, show_animation, lambda path: compare_videos({"a": path})])
def test_a_missing_or_empty_film_is_named(tmp_path, show):
    with pytest.raises(FileNotFoundError, match=r"missing\.mp4"):
        show(tmp_path / "missing.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"Received: .*empty\.mp4"):
        show(tmp_path / "empty.mp4")


def test_outside_a_notebook_the_paths_are_printed_and_inside_the_films_displayed(monkeypatch, capsys, displayed):
    films = {"before": "x.mp4", "after": "y.mp4"}
    for path in films.values():
        Path(path).write_bytes(b"film")
    show_video("x.mp4", height=200)
    compare_videos(films, height=200)
    assert displayed[0] == {"text/html": video_html("x.mp4", 200), "text/plain": "Video: x.mp4"}
    assert all(video_html(path, 200, caption) in displayed[1]["text/html"] for caption, path in films.items())
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(notebook, "in_notebook", lambda: False)
    show_video("x.mp4")
    compare_videos(films)
    assert capsys.readouterr().out == "Video: x.mp4\nVideo, before: x.mp4\nVideo, after: y.mp4\n"
    assert len(displayed) == 2


def test_films_to_compare_are_all_there_in_their_order_with_their_captions(tmp_path, displayed):
    captions = {"before": b"first film", "after < 200 & more": b"second film", 3: b"third film"}
    for content in captions.values():
        (tmp_path / f"{content.decode()}.mp4").write_bytes(content)
    compare_videos({caption: tmp_path / f"{content.decode()}.mp4" for caption, content in captions.items()})
    markup = displayed[0]["text/html"]
    assert re.findall("<figcaption[^>]*>(.*?)</figcaption>", markup) == ["before", "after &lt; 200 &amp; more", "3"]
    held = [base64.b64decode(found, validate=True) for found in re.findall('video/mp4;base64,([^"]*)"', markup)]
    assert held == list(captions.values())
    for films in ({}, ["a.mp4"], "a.mp4", None):
        with pytest.raises(ValueError, match=r"Films to compare are .* Received: ") as caught:
            compare_videos(films)
        assert str(caught.value).endswith(f"Received: {films!r}")


def in_boxes(chromium, displayed, width, dark=False):
    """Play the two films of this repository in a window; (left, top, right, bottom) of each, in CSS pixels."""
    films = REPOSITORY / "videos"
    compare_videos({"before": films / "cartpole_random.mp4", "after": films / "cartpole_pretrained.mp4"})
    markup = displayed[-1]["text/html"]
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


def test_films_play_side_by_side_and_on_a_phone_below_one_another(chromium, displayed):
    shades = []
    for dark in (False, True):
        before, after = in_boxes(chromium, displayed, 1000, dark)
        assert before[1] == after[1] and before[2] < after[0]
        assert [(right - left, bottom - top) for left, top, right, bottom in (before, after)] == [(450, 300)] * 2
        color = chromium.run("getComputedStyle(document.querySelector('figcaption')).color")
        shades.append([int(part) for part in re.findall(r"\d+", color)[:3]])
    assert max(shades[0]) < 60 and min(shades[1]) > 200, "captions take the color of the page"
    before, after = in_boxes(chromium, displayed, 390)
    assert before[0] == after[0] and before[3] < after[1]
    for left, top, right, bottom in (before, after):
        assert right - left == pytest.approx(1.5 * (bottom - top), abs=1), "no edges left and right, or above and below"


def test_buttons_go_through_an_animation_frame_by_frame(chromium, gray_film, displayed):
    show_animation(gray_film)
    Path("notebook.html").write_text(f"<!doctype html><body>{displayed[0]['text/html']}</body>")
    chromium.open(Path("notebook.html").absolute())
    chromium.wait("(window.film = document.querySelector('video')).currentTime > 0")
    chromium.run("film.pause(), film.currentTime = 0.21")  # of 20 a second, number 4
    brightness = """(() => { const copy = new OffscreenCanvas(1, 1).getContext('2d');
        copy.drawImage(film, 0, 0, 1, 1); return copy.getImageData(0, 0, 1, 1).data[0]; })()"""
    numbers = []
    for button in ("last", "last", "first", "first", "first"):
        chromium.click(f"document.querySelector('button:{button}-of-type')")
        chromium.wait("!film.seeking && film.readyState > 1")
        numbers.append(round(chromium.run(brightness) / GRAY_PER_STEP))
    assert numbers == [5, 6, 5, 4, 3] and chromium.run("film.paused")
    assert chromium.problems == []


# Several films as one


def test_films_are_joined_below_their_captions_and_the_shorter_one_begins_again(tmp_path):
    for name, steps, size in (("short", 5, (48, 64)), ("long", 10, (48, 48))):
        env = VideoRecorder(Screen(steps=steps, size=size), tmp_path / f"{name}.mp4")
        play(env)
        env.close()
    for out in ("both.gif", "both.mp4"):
        command = ["tools/join_films.py", tmp_path / out, f"it's: 5%={tmp_path}/short.mp4", f"={tmp_path}/long.mp4"]
        subprocess.run([sys.executable, *command, "--width", "280"], check=True, cwd=REPOSITORY, timeout=60)
        frames, facts = decode(tmp_path / out)
        assert facts["fps"] == 20 and frames.shape == (11, 28 + 120, 280, 3)
        assert frames[0, :28, :160].min() < 100 and frames[0, :28, 165:].min() > 200, "one caption is empty"
        left, right = frames[:, 40:, 10:150].mean((1, 2, 3)), frames[:, 40:, 170:270].mean((1, 2, 3))
        np.testing.assert_allclose(left, np.arange(11) % 6 * GRAY_PER_STEP, atol=4)
        np.testing.assert_allclose(right, np.arange(11) * GRAY_PER_STEP, atol=4)


def test_importing_the_modules_is_light():
    heavy = {"tensorflow", "keras", "moviepy", "imageio_ffmpeg", "matplotlib", "pygame", "IPython"}
    program = "import sys, keras_dqn.show.film, keras_dqn.show.plots, keras_dqn.show.inside\n"
    program += f"print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
