"""Every notebook is executed whole, as by a reader who presses "Run all"; its saved outputs are checked as well.

`make test` executes cartpole.ipynb alone; `make notebooks` executes all of them.

    python tests/test_notebooks.py [NAME …]

executes the notebooks again, or only those named (`play`), and saves them with fresh outputs. Outputs differ each time
where a notebook sets no seed.
"""

import ast
import base64
import html
import itertools
import json
import os
import re
import sys
import tempfile
import tomllib
import types
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import imageio_ffmpeg
import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from matplotlib import font_manager, image  # noqa: F401 — font_manager writes its cache, and a warning with it, here
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
CARTPOLE, PLAY = (path for path in NOTEBOOKS if path.stem in ("cartpole", "play"))  # the same objects: executed once
EXECUTED = [pytest.param(path, marks=[] if path == CARTPOLE else pytest.mark.notebooks) for path in NOTEBOOKS]
MAX_BYTES = 2_000_000
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
VIDEO = re.compile(r'<video [^>]*>\s*<source src="data:video/mp4;base64,([^"]*)"')
PROGRESS_BAR = re.compile(r"\s*(\S.*)?\d+%\|.*")
# A path from the root, in its POSIX and Windows forms, but neither part of an address nor of a fraction.
ABSOLUTE_PATH = re.compile(r"(?<![\w<:./~-])/[\w.-]+/[\w.-]+|\b[A-Za-z]:\\\\?\w")


class Contents(NamedTuple):
    """What a notebook must show."""

    films: int
    animations: int
    figures: int
    texts: tuple  # regular expressions, each found in what the cells print or return


CONTENTS = {
    "breakout.ipynb": Contents(
        films=3,
        animations=0,
        figures=3,
        texts=(
            r"Cumulative reward: \d+\n",
            r"<History of \d+ episodes, mean score of the last \d+: \d+\.\d>",
            r"The film shows the first 399 of [\d,]+ steps",
            r"mean \d+\.\d\d, std .*, 10 episodes",
        ),
    ),
    "cartpole.ipynb": Contents(
        films=7,
        animations=0,
        figures=2,
        texts=(
            r"Backup weights for model not found",
            r"<History of 200 episodes, mean score of the last 100: \d+\.\d>",
            r"Cumulative reward: \d+\n",
            r"mean \d+\.\d\d, std .*, 20 episodes",
            r"fast mean 10000\.00, std 0\.00, min 10000, .*, 20 episodes",
            r"pretrained +falling to the left",
        ),
    ),
    "compare_pytorch.ipynb": Contents(
        films=0,
        animations=0,
        figures=1,
        texts=(
            r"torch 2\.\d+",
            r"layer1\.weight +\(128, 4\)",
            r"largest difference of weights: 0\.00",
            r"\| steps per second \|",
            r"largest difference of Q-values: \S+",
        ),
    ),
    "mountain_car.ipynb": Contents(
        films=3,
        animations=0,
        figures=3,
        texts=(
            r"Cumulative reward: -200\n",
            r"<History of \d+ episodes, mean score of the last \d+: -\d+\.\d>",
            r"mean -\d+\.\d\d, std .*, 100 episodes",
            r"at rest in the valley +left +-\d",
        ),
    ),
    "play.ipynb": Contents(
        films=1,
        animations=0,
        figures=2,
        texts=(
            r"0\.20 s late: mean score +\d+\.\d\n",
            r"<History of \d+ episodes, mean score of the last \d+: \d+\.\d>",
            r"Cumulative reward: \d+\n",
            r"cartpole_to_play\.html: \d+ kB",
            r"<Page of [\d,]+ characters>",
        ),
    ),
}


class Executed(NamedTuple):
    """A notebook after execution, and the folder it was executed in."""

    path: Path
    notebook: nbformat.NotebookNode
    folder: Path


def execute(path, folder):
    """Execute a notebook in `folder` and return it with its outputs; a cell that fails raises CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    search_path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    # A profile of whoever runs this could change what is shown.
    environment = {**os.environ, "PYTHONPATH": search_path, "IPYTHONDIR": str(folder / ".ipython")}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False)
    client.execute(cwd=str(folder), env=environment)
    return notebook


def settle(notebook):
    """Make a notebook that was executed fit to be kept: no widgets, no traces of machine and time.

    A widget lives as long as its kernel; what a file shows without one is the bar as it first appeared, at 0 %. So the
    bar is kept as text, as it was at the end.
    """
    widgets = notebook.metadata.pop("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            view = output.get("data", {}).pop(WIDGET_VIEW, None)
            if view is not None:
                output["data"]["text/plain"] = bar_as_text(widgets, view["model_id"])
    return notebook


def bar_as_text(widgets, model_id):
    """What a progress bar of tqdm says: "cartpole: 100%|██████████| 200/200 [00:04<00:00, 45.2episode/s]"."""
    parts = []
    for child in widgets[model_id]["state"]["children"]:
        state = widgets[child.removeprefix("IPY_MODEL_")]["state"]
        if "max" in state:
            parts.append(f"|{'█' * round(10 * state['value'] / state['max']):10}|")
        else:
            parts.append(html.unescape(state["value"]).replace("\xa0", " "))
    return "".join(parts)


@pytest.fixture(scope="module", params=EXECUTED, ids=lambda path: path.stem)
def executed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.stem)
    return Executed(request.param, execute(request.param, folder), folder)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def saved(request):
    return Executed(request.param, nbformat.read(request.param, as_version=4), None)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def printed(notebook, stream="stdout"):
    """All that cells wrote to a stream; for stdout also the text forms of what they returned and showed."""
    texts = []
    for output in outputs(notebook):
        if output.output_type == "stream" and output.name == stream:
            texts.append(output.text)
        elif output.output_type in ("execute_result", "display_data") and stream == "stdout":
            texts += [output.data.get(kind, "") + "\n" for kind in ("text/plain", "text/markdown")]
    return "".join(texts)


def films(notebook):
    """The MP4s embedded in the outputs, as bytes."""
    markup = "".join(output.data.get("text/html", "") for output in outputs(notebook) if "data" in output)
    found = VIDEO.findall(markup)
    assert len(found) == markup.count("<video"), "a <video> without an MP4 in it"
    return [base64.b64decode(film, validate=True) for film in found]


def animations(notebook):
    """The frames of each animation in the outputs, as arrays: matplotlib's jshtml holds them as JPEGs."""
    markup = [output.data.get("text/html", "") for output in outputs(notebook) if "data" in output]
    frames = [re.findall(r'"data:image/jpeg;base64,([^"]+)"', text) for text in markup if "animation" in text]
    encoded = [[BytesIO(base64.b64decode(frame.replace("\\\n", ""))) for frame in film] for film in frames]
    return [[image.imread(frame, "jpeg") for frame in film] for film in encoded]


def figures(notebook):
    """The figures in the outputs, as arrays [height, width, channels] of floats from 0 to 1."""
    encoded = [output.data["image/png"] for output in outputs(notebook) if "image/png" in output.get("data", {})]
    return [image.imread(BytesIO(base64.b64decode(figure))) for figure in encoded]


def count_frames(film, folder):
    """Decode an MP4 from bytes and count its frames; asserts that none is blank and that they move."""
    path = folder / "film.mp4"
    path.write_bytes(film)
    frames = imageio_ffmpeg.read_frames(path)
    next(frames)  # the properties of the film
    count, first = 0, None
    for frame in frames:
        pixels = np.frombuffer(frame, np.uint8)
        first = pixels if first is None else first
        assert pixels.min() < 100 and pixels.max() > 150, f"frame {count} is blank"
        count += 1
    assert not np.array_equal(first, pixels), "nothing moves"
    return count


def check_contents(path, notebook, folder):
    """Assert that the outputs are what `CONTENTS` says, without errors and without noise."""
    expected = CONTENTS[path.name]
    assert [output.output_type for output in outputs(notebook) if output.output_type == "error"] == []
    said = re.split(r"[\r\n]+", printed(notebook, "stderr"))
    assert [line for line in said if line.strip() and not PROGRESS_BAR.fullmatch(line)] == []
    for text in expected.texts:
        assert re.search(text, printed(notebook)), text
    frames = [count_frames(film, folder) for film in films(notebook)]
    assert len(frames) == expected.films
    assert min(frames, default=6) > 5
    markup = "".join(output.data.get("text/html", "") for output in outputs(notebook) if "data" in output)
    stills = re.findall(r'<video [^>]*poster="data:image/jpeg;base64,[^"]+"', markup)
    assert len(stills) == expected.films, "where films do not play, pictures are seen"
    moving = animations(notebook)
    assert len(moving) == expected.animations
    for film in moving:
        assert len(film) > 5 and film[0].std() > 5
        assert not np.array_equal(film[0], film[-1]), "nothing moves"
    drawn = figures(notebook)
    assert len(drawn) == expected.figures
    for output in outputs(notebook):
        if "image/png" in output.get("data", {}):
            width = image.imread(BytesIO(base64.b64decode(output.data["image/png"]))).shape[1]
            assert output.metadata.get("image/png", {}).get("width", width) <= 620, "wider than a page"
    for figure in drawn:
        assert figure.shape[0] > 300 and figure.shape[1] > 300
        assert figure[..., :3].std() > 0.05, "a blank figure"


def test_every_notebook_is_known():
    assert [path.name for path in NOTEBOOKS] == sorted(CONTENTS)


def test_a_notebook_runs_whole_and_shows_what_it_should(executed, tmp_path):
    check_contents(executed.path, executed.notebook, tmp_path)


def test_a_notebook_leaves_its_files_where_it_runs(executed):
    films = executed.folder.glob("videos/*.mp4")
    assert bool(list(films)) == bool(CONTENTS[executed.path.name].films), "films lie in the working folder"
    assert not list(REPOSITORY.glob("notebooks/videos")), "and not beside the notebook"


def test_the_saved_outputs_show_what_they_should(saved, tmp_path):
    check_contents(saved.path, saved.notebook, tmp_path)


def test_the_saved_notebook_is_valid_and_small(saved):
    nbformat.validate(saved.notebook)
    assert (saved.notebook.nbformat, saved.notebook.nbformat_minor) == (4, 5)
    assert saved.path.stat().st_size < MAX_BYTES
    assert len({cell.id for cell in saved.notebook.cells}) == len(saved.notebook.cells)


def test_every_cell_was_executed_in_order(saved):
    counts = [cell.execution_count for cell in code_cells(saved.notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_the_saved_notebook_holds_no_trace_of_a_machine(saved):
    assert printed(saved.notebook, "stderr") == ""
    assert saved.notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    shown_in_colab = [cell.metadata for cell in saved.notebook.cells if cell.metadata]
    assert shown_in_colab == [{"cellView": "form"}], "the install cell is a title and a button there"
    shown = json.dumps([saved.notebook.metadata, outputs(saved.notebook)])
    shown = re.sub(r"[A-Za-z0-9+/=\\n]{200,}", "", shown)  # films and figures
    assert ABSOLUTE_PATH.findall(shown) == []
    assert WIDGET_VIEW not in shown, "a widget without its kernel"


@pytest.mark.parametrize(
    ("text", "is_path"),
    [
        ("in /tmp/x.mp4", True),
        ('"/home/me"', True),
        (r"C:\\Users", True),
        ("videos/cartpole.mp4", False),
        ("https://github.com/keras-dqn/keras_dqn", False),
        ("200/200 [00:04<00:00, 45episode/s]</video>", False),
    ],
)
def test_what_counts_as_an_absolute_path(text, is_path):
    assert bool(ABSOLUTE_PATH.search(text)) == is_path


# ------------------------------------------------------------------------------------------------ cartpole.ipynb


@pytest.mark.parametrize("executed", [CARTPOLE], ids=["cartpole"], indirect=True)
def test_each_film_is_as_long_as_its_score(executed, tmp_path):
    scores = [int(score) for score in re.findall(r"Cumulative reward: (\d+)\n", printed(executed.notebook))]
    random, trained, pretrained, *compared, timeline = films(executed.notebook)
    assert compared == [random, trained, pretrained], "side by side are the films of the cells before"
    # A point a step, and the frame before the first step.
    lengths = [count_frames(film, tmp_path) for film in (random, trained, pretrained, timeline)]
    assert lengths == [score + 1 for score in scores]
    assert (executed.folder / "cartpole_weight.h5").exists()


@pytest.mark.parametrize("executed", [CARTPOLE], ids=["cartpole"], indirect=True)
def test_the_pretrained_agent_does_what_the_text_says(executed):
    text = printed(executed.notebook)
    assert float(re.search(r"^mean (\S+), std .*, 20 episodes", text, re.MULTILINE)[1]) >= 475
    assert 500 < float(re.search(r"^juvin mean .* max (\S+),", text, re.MULTILINE)[1]) < 1000, "it falls later"
    q_values = {
        state: (float(left), float(right))
        for state, left, right in re.findall(r"pretrained +(\S.*\S) +left +(\S+) +right +(\S+)", text)
    }
    left, right = q_values["falling to the left"]
    assert left > right
    left, right = q_values["falling to the right"]
    assert right > left
    left, right = q_values["upright"]
    assert abs(left - right) < 0.1 * abs(left)


def test_all_notebooks_begin_with_the_same_cell():
    cells = {code_cells(nbformat.read(path, as_version=4))[0].source for path in NOTEBOOKS}
    assert len(cells) == 1


def test_the_lines_that_every_reader_starts_from_stand_as_they_are():
    lines = [line for cell in code_cells(nbformat.read(CARTPOLE, as_version=4)) for line in cell.source.splitlines()]
    wanted = [
        "from keras_dqn import Agent, CartPole",
        "cartpole = CartPole(200)",
        "cartpole.train()",
        "cartpole.run(0.0)",
    ]
    assert [line for line in lines if line in wanted] == wanted


def test_the_exercises_are_code_that_runs():
    from keras_dqn import CartPole

    notebook = nbformat.read(CARTPOLE, as_version=4)
    text = next(cell.source for cell in notebook.cells if cell.id == "exercises")
    exercises = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(exercises) == 3
    for exercise in exercises:
        ast.parse(exercise)
        agent = re.search(r"CartPole\(.*\)", exercise)[0]
        assert isinstance(eval(agent, {"CartPole": CartPole}), CartPole)


# ---------------------------------------------------------------------------------------------------- play.ipynb


def pages(notebook):
    """What is played in each page of the outputs: (name of the game, widths of the agent's layers or None)."""
    shown = [output.data.get("text/html", "") for output in outputs(notebook) if "data" in output]
    found = [html.unescape(page) for text in shown for page in re.findall(r'<iframe srcdoc="([^"]*)"', text)]
    games = [re.search(r'<main class="widget" data-game="([^"]*)"', page)[1] for page in found]
    agents = [json.loads(re.search(r'class="agent">(.*?)</script>', page)[1]) for page in found]
    sizes = [agent and [layer["outputs"] for layer in agent["layers"] if "outputs" in layer] for agent in agents]
    return list(zip(games, sizes, strict=True))


@pytest.mark.notebooks
@pytest.mark.parametrize("executed", [PLAY], ids=["play"], indirect=True)
def test_every_game_is_there_alone_and_against_agents(executed):
    assert (
        pages(executed.notebook)
        == pages(nbformat.read(PLAY, as_version=4))
        == [
            ("cartpole", None),
            ("playable-cartpole", None),
            ("mountaincar", None),
            ("cartpole", [24, 24, 2]),
            ("mountaincar", [128, 128, 3]),
            ("cartpole", [128, 128, 2]),
        ]
    )
    assert (executed.folder / "cartpole_to_play.html").read_text("utf-8").startswith("<!doctype html>")


def test_what_the_text_says_of_a_delay_is_what_the_saved_figure_shows():
    text = printed(nbformat.read(PLAY, as_version=4))
    scores = {
        float(seconds): float(score) for seconds, score in re.findall(r"(0\.\d\d) s late: mean score +(\S+)", text)
    }
    assert len(scores) == 11
    assert all(scores[seconds] == 500 for seconds in (0, 0.02, 0.04, 0.06)), "no handicap at all"
    assert scores[0.1] < 100, "falls soon"
    assert max(scores[seconds] for seconds in scores if seconds > 0.11) < 23, "sooner than random pushes"


def test_the_exercises_of_play_are_code_that_runs(monkeypatch):
    """As far as it goes without training."""
    from keras_dqn import CartPole, play_here
    from keras_dqn.playable.page import Page
    from keras_dqn.training.runner import Runner

    monkeypatch.setattr(Runner, "train", lambda self: None)
    text = next(cell.source for cell in nbformat.read(PLAY, as_version=4).cells if cell.id == "exercises")
    exercises = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(exercises) == 4
    for exercise in exercises:
        *lines, shown = ast.parse(exercise).body
        names = {"CartPole": CartPole, "play_here": play_here}
        exec(compile(ast.Module(lines, []), "exercise", "exec"), names)
        assert isinstance(eval(compile(ast.Expression(shown.value), "exercise", "eval"), names), Page)
    assert "gravity = 9.8" in play_here("cartpole").html, "what the reader is told to find"


# ------------------------------------------------------------------------------- the first cells of every notebook

ADDRESS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_opens_this_notebook_in_colab_and_says_how_long_it_takes(path):
    title = nbformat.read(path, as_version=4).cells[0].source
    place = ADDRESS.removeprefix("https://github.com/")
    badge = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    assert f"{badge}(https://colab.research.google.com/github/{place}/blob/main/notebooks/{path.name})" in title
    assert re.search(r"^About \d minutes\. You will ", title, re.MULTILINE)


def test_nothing_is_shown_twice_in_a_row():
    for path in NOTEBOOKS:
        cells = [cell.source for cell in code_cells(nbformat.read(path, as_version=4))]
        for before, after in itertools.pairwise(cells):
            assert not (".train(" in before and "learning_curve(" in after), "training shows it as it grows"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Run the first code cell in a folder; returns the arguments given to `%pip`."""

    def run(folder, installed=()):
        lines = []
        shell = types.SimpleNamespace(run_line_magic=lambda name, line: lines.append((name, line)))
        names = {"get_ipython": lambda: shell}
        code = TransformerManager().transform_cell(code_cells(nbformat.read(CARTPOLE, as_version=4))[0].source)
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(folder)
        there = [types.SimpleNamespace(name=name) for name in installed]
        monkeypatch.setattr("importlib.metadata.distributions", lambda: there)
        exec(code, names)
        return [f"%{name} {line.format(**names)}" for name, line in lines]  # as IPython puts variables in

    return run


def test_what_is_installed_is_left_alone(install, tmp_path):
    assert install(tmp_path, installed=["numpy", "keras_dqn"]) == []


@pytest.mark.parametrize(("folder", "source"), [("checkout", "."), ("checkout/notebooks", "..")])
def test_in_a_checkout_the_checkout_is_installed(install, tmp_path, folder, source):
    (tmp_path / "checkout" / "keras_dqn").mkdir(parents=True)
    (tmp_path / "checkout" / "keras_dqn" / "__init__.py").touch()
    assert install(tmp_path / folder) == [f"%pip install -q {source}"]


@pytest.mark.parametrize("clone", [False, True])
def test_elsewhere_the_repository_is_installed(install, tmp_path, clone):
    if clone:  # a folder of that name is not the package
        (tmp_path / "keras_dqn" / "keras_dqn").mkdir(parents=True)
    assert install(tmp_path, installed=["numpy"]) == [f"%pip install -q git+{ADDRESS}"]


def test_the_title_of_the_install_cell_is_the_line_that_it_runs_in_colab(install, tmp_path):
    title = code_cells(nbformat.read(CARTPOLE, as_version=4))[0].source.splitlines()[0]
    assert [title.removeprefix("# @title Install: ")] == install(tmp_path)


if __name__ == "__main__":
    by_name = {path.stem: path for path in NOTEBOOKS}
    if unknown := set(sys.argv[1:]) - set(by_name):
        sys.exit(f"The notebooks are {', '.join(by_name)}. Received: {', '.join(sorted(unknown))}")
    for notebook_path in map(by_name.get, sys.argv[1:] or by_name):
        with tempfile.TemporaryDirectory() as working_folder:
            finished = settle(execute(notebook_path, Path(working_folder)))
        nbformat.write(finished, notebook_path)
        print(f"{notebook_path.name}: {notebook_path.stat().st_size / 1000:.0f} kB")
