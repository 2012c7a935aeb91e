"""What README and docs/ say is so: commands exist, code runs, links lead somewhere, errors are those of libraries."""

import ast
import json
import re
import shlex
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from keras_dqn.backend import keras
from keras_dqn.cli import TYPES, make_parser
from keras_dqn.config import checked

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
# Whatever is read on the repository's pages: {path: text}.
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "weights/README.md")]
PAGES = {path: path.read_text() for path in [*PAGES, *sorted((REPOSITORY / "docs").glob("*.md"))]}


def commands():
    """Every command line of the pages that starts this package, on one line each."""
    text = re.sub(r" \\\n +", " ", "\n".join(PAGES.values()))
    starts = "(?:python -m keras_dqn|keras-dqn)"
    found = re.findall(rf"^ {{4}}(?:\w+=\S+ )*{starts} (.*)$", text, re.MULTILINE)
    return sorted({*found, *re.findall(rf"`{starts} ([a-z][^`]*)`", text)})


def test_there_are_commands():
    assert len(commands()) > 30


@pytest.mark.parametrize("command", commands())
def test_a_command_is_one_that_the_program_knows(command):
    typed, unknown = make_parser().parse_known_args(shlex.split(command.replace("[", "").replace("]", "")))
    assert not unknown
    checked({name: value for name, value in vars(typed).items() if name != "command"}, TYPES)


def blocks():
    """The blocks of Python in the pages, as (page, text)."""
    found = [
        (path, re.sub(r"^ {4}", "", block, flags=re.MULTILINE))
        for path, text in PAGES.items()
        for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE)
    ]
    return [(path, block) for path, block in found if "keras_dqn import" in block]


def test_there_are_blocks_of_python():
    assert len(blocks()) >= 8


@pytest.mark.parametrize(("path", "block"), blocks(), ids=lambda part: str(part).strip().splitlines()[0][-40:])
def test_a_block_of_python_is_python_and_what_it_imports_is_there(path, block):
    tree = compile(block, path.name, "exec", ast.PyCF_ONLY_AST)
    for line in [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]:
        exec(compile(ast.Module([line], []), path.name, "exec"), {})


@pytest.mark.parametrize(("name", "file"), [("Corridor", "Corridor-v0"), ("Courier", "Courier")])
def test_an_environment_of_ones_own_learns_as_the_guide_says(name, file, tmp_path, capsys):
    (block,) = [block for _, block in blocks() if f"class {name}" in block]
    exec(compile(block, "guide.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert re.search(r"^mean -1\d\.\d\d, .*, 10 episodes", printed, re.MULTILINE), printed
    assert (tmp_path / f"{file}_fast_weight.h5").exists()


def test_the_snake_of_the_guide_sees_a_grid_and_is_filmed(tmp_path):
    (block,) = [block for _, block in blocks() if "class Snake" in block]
    assert "steps=40_000" in block  # whose score the guide has; a test has no minute for it
    names = {"__name__": "__main__"}
    exec(compile(block.replace("steps=40_000", "steps=600"), "guide.md", "exec"), names)
    assert "grid_cnn" in repr(names["snake"]) and (tmp_path / "videos" / "Snake.mp4").exists()
    assert names["snake"].evaluate(20, epsilon=1.0).mean < 0


def test_the_six_lines_solve_cartpole_as_the_readme_says(tmp_path, capsys):
    (block,) = [block for path, block in blocks() if path.parent == REPOSITORY and "cartpole.evaluate(100)" in block]
    assert len(block.strip().splitlines()) == 6
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert float(re.search(r"^mean (\S+), std .*, 100 episodes$", printed, re.MULTILINE)[1]) >= 475, printed
    assert (tmp_path / "videos" / "cartpole.mp4").exists()


# ---------------------------------------------------------------- the pages themselves


def test_the_readme_is_short():
    assert len(README.encode()) <= 8 * 1024


def headings(text):
    """The names under which headings can be linked to."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall("^#+ (.*)$", text, re.M)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(path):
    for target, _, place in re.findall(r"\]\(((?!https?:)[^)#]+)(#([^)]*))?\)", PAGES[path]):
        file = (path.parent / target).resolve()
        assert file.exists() and file.is_relative_to(REPOSITORY), target
        assert not place or place in headings(file.read_text()), place


@pytest.mark.parametrize("notebook", sorted((REPOSITORY / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_opens_in_colab_from_the_readme(notebook):
    assert README.count(f"blob/main/notebooks/{notebook.name})") == 1
    title = json.loads(notebook.read_text())["cells"][0]["source"]
    minutes = re.search(r"About (\d+) minutes", "".join(title))[1]
    (row,) = [line for line in README.splitlines() if notebook.name in line]
    assert f", {minutes} minutes |" in row


def test_every_page_of_docs_can_be_reached_from_the_readme():
    for path in PAGES:
        if path.parent.name == "docs":
            assert f"(docs/{path.name}" in README


# ---------------------------------------------------------------- errors, by their text


TROUBLESHOOTING = PAGES[REPOSITORY / "docs" / "troubleshooting.md"]


def cartpole(**options):
    return gym.make("CartPole-v1", **options)


def old_step():
    env = cartpole()
    env.reset()
    _state, _reward, _done, _info = env.step(0)


def model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(24), keras.layers.Dense(2)])


def load_an_old_file(folder):
    network = model()
    network.compile("adam", "mse")
    network.save(folder / "old.h5")
    keras.models.load_model(folder / "old.h5")


def load_another_network(folder):
    model().save(folder / "two.h5")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).load_weights(folder / "two.h5")


ERRORS = {
    "too many values to unpack (expected 4)": lambda _: old_step(),
    "setting an array element with a sequence. The requested array has an inhomogeneous shape": lambda _: np.reshape(
        cartpole().reset(), [1, 4]
    ),
    "'TimeLimit' object has no attribute 'seed'": lambda _: cartpole().seed(0),
    "module 'numpy' has no attribute 'bool8'": lambda _: np.bool8,
    "module 'gymnasium.wrappers' has no attribute 'Monitor'": lambda _: gym.wrappers.Monitor,
    "Render mode is None, which is incompatible with RecordVideo": lambda folder: gym.wrappers.RecordVideo(
        cartpole(), str(folder / "films")
    ),
    "Argument(s) not recognized: {'lr': 0.001}": lambda _: keras.optimizers.Adam(lr=0.001),
    "No module named 'keras.optimizers.adam_v2'": lambda _: __import__("keras.optimizers.adam_v2"),
    "The filename must end in .weights.h5": lambda folder: model().save_weights(folder / "w.h5"),
    "Could not deserialize 'keras.metrics.mse' because it is not a KerasSaveable subclass": load_an_old_file,
    "Layer count mismatch when loading weights from file": load_another_network,
    "No module named 'moviepy.editor'": lambda _: __import__("moviepy.editor"),
}


@pytest.mark.parametrize("text", ERRORS)
def test_what_libraries_say_today_is_what_the_readme_explains(text, tmp_path):
    assert text in TROUBLESHOOTING
    with pytest.raises(Exception) as raised:
        ERRORS[text](tmp_path)
    said = str(raised.value).replace("`", "")
    assert text in said


def test_a_namespace_that_nobody_registered():
    with pytest.raises(gym.error.NamespaceNotFound, match="Namespace NOSUCH not found"):
        gym.make("NOSUCH/Breakout-v5")
    assert "NamespaceNotFound: Namespace ALE not found" in TROUBLESHOOTING


def test_the_commonest_errors_are_among_those_that_are_explained():
    table = README[README.index("## The commonest errors") : README.index("[Troubleshooting]")]
    errors = re.findall("^[|] `(.*?)` [|]", table, re.MULTILINE)
    assert len(errors) == 5
    for error in errors:
        assert error in TROUBLESHOOTING
