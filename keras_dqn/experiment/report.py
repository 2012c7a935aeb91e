"""What the seeds of an experiment came to together: tables, a figure, and how it was measured."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_dqn.experiment.results import Result, _evaluations, _scores_at, _write
from keras_dqn.show import plots
from keras_dqn.training.evaluation import FEWEST_FOR_AN_INTERVAL, interval_or_range

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Experiment:
    """Results over seeds, as tables and as a figure; a notebook shows both.

    Attributes:
        folder: where they are kept.
        settings: what was asked, a dict.
        results: a `Result` for each training, in the order of the seeds.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder, self.settings, self.results = folder, settings, []

    def by_framework(self) -> dict[str, list[Result]]:
        """{framework: its results}, in the order in which they took turns."""
        names = dict.fromkeys(result.framework for result in self.results)
        return {name: [result for result in self.results if result.framework == name] for name in names}

    def summary(self) -> str:
        """A Markdown table of what the seeds of each framework came to together."""
        columns = [summarised(results, self.settings["goal"]) for results in self.by_framework().values()]
        rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
        return markdown(["", *self.by_framework()], rows)

    def table(self) -> str:
        """A Markdown table with a row for each training, failures included."""
        header = ["framework", "seed", "score", "best weights", "steps to solve"]
        header += ["steps", "episodes", "seconds", "steps/s"]
        rows = [
            [
                result.framework,
                result.seed,
                _number(result.score),
                _number(result.best_score),
                _solved_after(result.steps_to_solve, self.settings["goal"]),
                f"{result.steps:,}",
                result.episodes,
                f"{result.seconds:.1f}",
                _number(result.steps_per_second, 0),
            ]
            for result in self.results
        ]
        return markdown(header, rows)

    def protocol(self) -> str:
        """How it was measured, in words."""
        settings, options, goal = self.settings, self.settings["options"], self.settings["goal"]
        budget = f"{options['steps']:,} steps" if options["steps"] else f"{options['episodes']:,} episodes"
        solved = "No score counts as solved"
        if goal is not None:
            solved = f"A seed has solved the game at the first with a mean of {goal:g}"
        threads = "; PyTorch on one thread" if "PyTorch" in self.by_framework() else ""
        versions = ", ".join(f"{package} {number}" for package, number in settings["versions"].items())
        return (
            f"{settings['environment']}, recipe `{settings['recipe']}`, at most {budget} a seed. Every "
            f"{settings['evaluate_every']:,} steps an evaluation of 100 greedy episodes decides which weights are "
            f"best. {solved}. Scores are means of 100 other greedy episodes, which chose nothing; in brackets the 95 % "
            "interval over seeds, of fewer than five the lowest and the highest. Seconds are "
            "those of making the agent, compiling and training, without evaluations"
            f"{threads}. {versions}."
        )

    def figure(self) -> "Figure":
        """Score over environment steps: mean and 95 % interval over seeds, each seed behind it; see `learning_curves`.

        The scores are those of the greedy evaluations and not of the episodes played in training: they are made after
        the same numbers of steps for all seeds, without exploration, and solving the game is one of them at the goal.
        Where a training ended before others, its last score goes on, as its weights do.
        """
        curves = curves_over_steps(self.by_framework())
        title = f"{self.settings['environment']}, recipe {self.settings['recipe']}"
        return plots.learning_curves(curves, solved_score=self.settings["goal"], title=title)

    def save(self) -> None:
        """Write results.csv, table.md and learning_curves.png into the folder."""
        _write(self.folder / "results.csv", csv_text(self.rows()))
        _write(self.folder / "table.md", str(self))
        if any(result.came_to_something for result in self.results):
            plots.save_figure(self.figure(), self.folder / "learning_curves.png")

    def rows(self) -> list[list[Any]]:
        """The rows of results.csv, the names of the columns first."""
        columns = ["framework", "seed", "score", "best_score", "steps_to_solve", "steps", "episodes", "seconds"]
        columns += ["steps_per_second", "evaluation_seconds", "error"]
        return [columns, *([getattr(result, column) for column in columns] for result in self.results)]

    def __str__(self):
        errors = [f"{result.framework}, seed {result.seed}: {result.error}" for result in self.results if result.error]
        return "\n\n".join([self.summary(), self.protocol(), self.table(), *errors]) + "\n"

    def _ipython_display_(self):
        from IPython.display import Markdown, display

        display(Markdown(str(self)), self.figure())


def curves_over_steps(results: dict[str, list[Result]]) -> dict[str, Any]:
    """{name: (steps, [scores of a seed])} of {name: results}; those that raised are left out."""
    named = {name: [_evaluations(one) for one in those if one.came_to_something] for name, those in results.items()}
    made = {name: seeds for name, seeds in named.items() if seeds}
    steps = np.unique([step for seeds in made.values() for evaluations in seeds for step, _ in evaluations])
    return {name: (steps, [_scores_at(steps, seed) for seed in seeds]) for name, seeds in made.items()}


def summarised(results: list[Result], goal: float | None) -> dict[str, Any]:
    """{what: text} of the results of one framework; one that raised has not solved it, and counts nowhere else."""
    solved = [np.inf if result.steps_to_solve is None else result.steps_to_solve for result in results]
    failures = "–" if goal is None else f"{np.count_nonzero(np.isinf(solved))} of {len(results)}"
    results = [result for result in results if result.came_to_something]
    return {
        "score": _mean([result.score for result in results]),
        "score of the best weights": _mean([result.best_score for result in results]),
        "failures": failures,
        "steps to solve, median": _solved_after(np.median(solved), goal),
        "steps to solve, worst": _solved_after(np.max(solved), goal),
        "seconds, median": _number(np.median([result.seconds for result in results] or np.nan)),
        "steps per second": _mean([result.steps_per_second for result in results], digits=0),
    }


def _mean(values, digits=1):
    """The mean of the values, and where there are several how far they spread."""
    if not values:
        return "–"
    low, high = (f"{end:,.{digits}f}" for end in interval_or_range(values))
    spread = f" ({low} to {high})" if len(values) >= FEWEST_FOR_AN_INTERVAL else f" (min {low}, max {high})"
    return f"{np.mean(values):,.{digits}f}{spread * (len(values) > 1)}"


def _number(value, digits=1):
    return "–" if np.isnan(value) else f"{value:,.0f}" if digits == 0 else f"{value:.{digits}f}"


def _solved_after(steps, goal):
    if goal is None:
        return "–"
    return "not solved" if steps is None or np.isinf(steps) else f"{steps:,.0f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
