"""The tables of docs/results.md are those of the raw results, and nothing else."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLES = runpy.run_path(str(ROOT / "tools" / "tables.py"))
FILES = sorted((ROOT / "docs" / "results").glob("*.csv"))
RAW = """game,recipe,seed,steps_to_solve,best_score,most_steps,commit,versions
CartPole-v1,c51,0,3000,500.0,30000,abc,keras-3
CartPole-v1,c51,1,,12.0,30000,abc,keras-3
CartPole-v1,c51,2,1000,500.0,30000,abc,keras-3
MountainCar-v0,rainbow,0,,-200.0,40000,abc,keras-3
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_page_has_the_table_of_each_file(path):
    assert TABLES["table"](path) in (ROOT / "docs" / "results.md").read_text()


def test_failures_stay_in_the_table(tmp_path):
    assert FILES
    path = tmp_path / "raw.csv"
    path.write_text(RAW)
    first, second = TABLES["table"](path).splitlines()[2:]
    assert first == "| CartPole `c51` | 2 of 3 | 9% to 99% | 3,000, –, 1,000 | 3,000 | not reached |"
    assert second == "| MountainCar `rainbow` | 0 of 1 | 0% to 98% | – | not reached | not reached |"
