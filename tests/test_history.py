"""Histories in files."""

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from keras_dqn.core.counting import Episode
from keras_dqn.training.history import Evaluated, History

FIELDS = "score,length,loss,epsilon,time\n"
EPISODES = [
    Episode(21.0, 21, float("nan"), 1.0, 0.1),
    Episode(-1 / 3, 1, 0.1 + 0.2, 5e-324, 1e300),
    Episode(1e-17, 10**9, 2.0, 0.995, 1234.5678901234567),
]


@pytest.fixture
def history():
    history = History(EPISODES)
    history.evaluations.append(Evaluated(1000, 1 / 3, 0.7))
    # Losses of all sizes: their bits, and not the decimals that are shown, must come back.
    bits = np.random.default_rng(0).integers(0, 0x7F000000, 10_000, dtype=np.uint32)
    history.add_losses(np.append(bits.view(np.float32), np.float32([0, 1e-45, 0.1])))
    return history


def exact(history):
    """All that is in a history; NaN, which equals nothing, as a text."""
    episodes = [["nan" if math.isnan(value) else value for value in episode] for episode in history]
    return episodes, [*map(type, [*history, *history[0]])], history.evaluations, history.update_losses.tobytes()


def test_all_of_it_comes_back_from_json(history):
    history.save("history.json")
    again = History.load("history.json")
    assert exact(again) == exact(history) and isinstance(again, History)
    assert isinstance(again.evaluations[0], Evaluated)
    again.save("again.json")
    assert Path("again.json").read_bytes() == Path("history.json").read_bytes()


def test_the_json_is_one_that_anything_reads(history):
    history.save("history.json")

    def not_json(text):
        raise AssertionError(f"{text} is none of JSON's words")

    content = json.loads(Path("history.json").read_text(), parse_constant=not_json)
    assert content["episodes"][0] == {"score": 21.0, "length": 21, "loss": None, "epsilon": 1.0, "time": 0.1}
    assert content["evaluations"] == [{"steps": 1000, "score": 1 / 3, "seconds": 0.7}]
    assert content["update_losses"][-1] == float(np.float32(0.1))


def test_episodes_come_back_from_csv_and_nothing_else(history):
    history.save("history.csv")
    again = History.load("history.csv")
    assert exact(again)[:2] == exact(history)[:2]
    assert again.evaluations == [] and len(again.update_losses) == 0
    with open("history.csv", newline="") as file:
        header, first, *rest = csv.reader(file)
    assert header == list(Episode._fields) and first == ["21.0", "21", "nan", "1.0", "0.1"] and len(rest) == 2


@pytest.mark.parametrize("name", ["a.json", "a.csv", "A.JSON"])
def test_numbers_of_numpy_and_a_history_of_nothing(name, tmp_path):
    row = Episode(np.float32(0.1), np.int64(3), np.float64("nan"), np.float32(1), 2)
    path = tmp_path / "new" / "folder" / name
    History([row]).save(str(path))
    assert exact(History.load(path))[0] == [[float(np.float32(0.1)), 3, "nan", 1.0, 2.0]]
    History().save(path)
    assert History.load(path) == [] and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_an_older_file_survives_a_failure(history, name, monkeypatch):
    history.save(name)
    before = Path(name).read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    history.append(EPISODES[0])
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        history.save(name)
    history.evaluations.append(Evaluated(1, float("nan"), 0.0))
    if name == "a.json":  # which knows no such number; the other has no evaluations
        with pytest.raises(ValueError, match="not JSON compliant"):
            history.save(name)
    assert Path(name).read_bytes() == before and [str(path) for path in Path().iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.txt", "a", "a.json.gz"])
def test_another_suffix_is_refused_naming_those_there_are(history, name):
    for refusing in (history.save, History.load):
        with pytest.raises(ValueError, match=rf"one of \.json, \.csv\. Received: {name}$"):
            refusing(name)
    assert list(Path().iterdir()) == []


def test_a_file_that_is_not_there_and_a_folder():
    with pytest.raises(FileNotFoundError, match="No such file or directory: 'no/a.csv'$"):
        History.load("no/a.csv")
    Path("a.json").mkdir()
    with pytest.raises(IsADirectoryError, match="a.json"):
        History.load("a.json")


def changed(**values):
    """The text of a JSON file with other values."""
    return json.dumps({"episodes": [], "evaluations": [], "update_losses": []} | values)


EPISODE = {"score": 1.0, "length": 2, "loss": None, "epsilon": 1.0, "time": 3.0}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "the columns None, not score, length, loss, epsilon, time"),
        ("a.csv", "score,length\n1,2\n", r"the columns \['score', 'length'\], not score, "),
        ("a.csv", FIELDS + "1,2,3,4,5\n1,2,3\n", "could not convert string to float: ''"),
        ("a.csv", FIELDS + "1,2,3,4,5,6\n", "keywords must be strings"),
        ("a.csv", FIELDS + "1,2,3,4,five\n", "could not convert string to float: 'five'"),
        ("a.csv", FIELDS + "1,2.5,3,4,5\n", "invalid literal for int"),
        ("a.csv", FIELDS + "9" * 200_000 + "\n", "field larger than"),
        ("a.json", "", "Expecting value"),
        ("a.json", changed(episodes=[EPISODE])[:-9], "Unterminated"),
        ("a.json", "[" * 100_000, "recursion"),
        ("a.json", "[]", "list indices"),
        ("a.json", '{"episodes": []}', "'evaluations'"),
        ("a.json", changed(episodes=None), "not iterable"),
        ("a.json", changed(episodes=[[1, 2, 3, 4, 5]]), "must be a mapping"),
        ("a.json", changed(evaluations=[EPISODE]), "unexpected keyword argument"),
        ("a.json", changed(episodes=[EPISODE | {"length": None}]), "NaN to integer"),
        ("a.json", changed(episodes=[EPISODE | {"score": []}]), "float"),
        ("a.json", changed(episodes=[EPISODE | {"length": "1" * 400 + ".5"}]), "invalid literal for int"),
        ("a.json", changed(update_losses=["x"]), "must be real number"),
        ("a.json", changed(update_losses=[None]), "must be real number"),
        ("a.json", changed(update_losses=1.0), "not iterable"),
    ],
)
def test_a_file_of_something_else_is_refused(name, text, message):
    Path(name).write_text(text)
    with pytest.raises(ValueError, match=f"^{name}: cannot be read as a history. Received: .*{message}"):
        History.load(name)


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_bytes_that_are_no_text_are_refused(name):
    Path(name).write_bytes(b"\x89PNG\xff")
    with pytest.raises(ValueError, match=f"^{name}: cannot be read as a history. Received: 'utf-8' codec"):
        History.load(name)
