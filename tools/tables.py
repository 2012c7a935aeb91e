"""The tables of docs/results.md that are made from raw results, a row for each seed, in docs/results/.

python tools/tables.py                                  prints each table, as the page must have it
python tools/tables.py add FOLDER docs/results/X.csv    appends the seeds of `train --seeds`, from its folder
"""

import csv
import json
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from statistics import median

from scipy.stats import binomtest

RAW = Path(__file__).parents[1] / "docs" / "results"
COLUMNS = "game", "recipe", "seed", "steps_to_solve", "best_score", "most_steps", "commit", "versions"


def add(folder, path):
    """Append a row for each seed of an experiment to a file of raw results."""
    settings = json.loads((folder / "settings.json").read_text())
    versions = " ".join(f"{name}-{version}" for name, version in settings["versions"].items())
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=RAW.parent, capture_output=True, text=True
    ).stdout
    own = {"game": settings["environment"], "recipe": settings["recipe"], "most_steps": settings["options"]["steps"]}
    new = not path.exists()
    with open(folder / "results.csv", newline="") as source, open(path, "a", newline="") as target:
        writer = csv.DictWriter(target, COLUMNS, extrasaction="ignore", lineterminator="\n")
        if new:
            writer.writeheader()
        for row in csv.DictReader(source):
            writer.writerow({**row, **own, "commit": commit.strip(), "versions": versions})


def table(path):
    """The table of a file of raw results: how many seeds solved the game, and after how many steps."""
    lines = ["| recipe | solved | 95 % interval | steps to solve, by seed | median | worst |", "| --- " * 6 + "|"]
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for (game, recipe), seeds in groupby(rows, lambda row: (row["game"], row["recipe"])):
        steps = [int(row["steps_to_solve"]) if row["steps_to_solve"] else None for row in seeds]
        solved = [one for one in steps if one is not None]
        low, high = binomtest(len(solved), len(steps)).proportion_ci(method="exact")
        said = ", ".join("–" if one is None else f"{one:,}" for one in steps)
        middle = median(float("inf") if one is None else one for one in steps)
        worst = f"{max(solved):,}" if len(solved) == len(steps) else "not reached"
        middle = "not reached" if middle == float("inf") else f"{middle:,.0f}"
        interval = f"{low:.0%} to {high:.0%}"
        name = f"{game.removesuffix('-v1').removesuffix('-v0')} `{recipe}`"
        lines.append(f"| {name} | {len(solved)} of {len(steps)} | {interval} | {said} | {middle} | {worst} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["add"]:
        add(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        for path in sorted(RAW.glob("*.csv")):
            print(f"{path.name}\n\n{table(path)}\n")
