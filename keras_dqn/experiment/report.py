"""What trainings from several seeds came to: a `Result` each, and over all of them tables, a figure and a CSV file."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_dqn.files.atomic import atomic_write
from keras_dqn.show import plots
from keras_dqn.training.evaluate import FEWEST_FOR_AN_INTERVAL, interval_or_range

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Result(NamedTuple):
    """What one training came to; of one that raised on Ray the framework, seed and error alone."""

    framework: str  # "Keras" or "PyTorch"
    seed: int
    score: float = math.nan  # mean of 100 greedy episodes with the last weights; these (seeds 0 to 99) chose nothing
    best_score: float = math.nan  # the same with the weights of its best evaluation; the last ones where none was made
    steps: int = 0  # environment steps
    steps_to_solve: int | None = None  # before the first evaluation that reached the goal; None where none did
    seconds: float = 0.0  # from making the agent to its last step, compilation included, evaluations not
    evaluation_seconds: float = 0.0  # the evaluations during training took
    evaluations: Sequence = ()  # [steps, mean score of 100 greedy episodes] each
    scores: Sequence = ()  # of the episodes played in training, exploration and all
    lengths: Sequence = ()  # of the same, steps
    error: str | None = None  # why training broke off: a number was not finite, or, on Ray, whatever it raised

    episodes = property(lambda self: len(self.scores))
    steps_per_second = property(lambda self: self.steps / self.seconds if self.seconds else math.nan)
    came_to_something = property(lambda self: not math.isnan(self.score))  # False where it raised


CSV_COLUMNS = ["framework", "seed", "score", "best_score", "steps_to_solve", "steps", "episodes", "seconds"]
CSV_COLUMNS += ["steps_per_second", "evaluation_seconds", "error"]
SWEEP_COLUMNS = ["score", "score of the best weights", "failures", "steps to solve, median", "steps to solve, worst"]


class Report:
    """What an `Experiment` and a `Sweep` have in common; a notebook shows tables and figure."""

    folder: Path  # where results are kept
    title: str | None = None  # of the figure

    def figure(self) -> "Figure":
        """Score over environment steps: mean and 95 % interval over seeds, each seed behind it; see `learning_curves`.

        The scores are those of the greedy evaluations and not of the episodes played in training: they are made after
        the same numbers of steps for all seeds, without exploration, and solving the game is one of them at the goal.
        Where a training ended before others, its last score goes on, as its weights do. One that raised is left out.
        """
        made = {}  # name: for each of its seeds the steps and scores of its evaluations, or of the one after training
        for name, results in self.parts().items():
            if seeds := [one.evaluations or [[one.steps, one.score]] for one in results if one.came_to_something]:
                made[name] = [np.transpose(evaluations) for evaluations in seeds]
        steps = np.unique(np.concatenate([at for seeds in made.values() for at, _ in seeds]))
        curves = {
            name: (steps, [scores[np.searchsorted(at, steps, side="right").clip(1) - 1] for at, scores in seeds])
            for name, seeds in made.items()
        }
        return plots.learning_curves(curves, solved_score=self.goal, title=self.title)

    def save(self) -> None:
        """Write results.csv, table.md and learning_curves.png into the folder."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.rows())
        write_text(self.folder / "results.csv", text.getvalue())
        write_text(self.folder / "table.md", str(self))
        if any(result.came_to_something for result in self.results):
            plots.save_figure(self.figure(), self.folder / "learning_curves.png")

    def __str__(self):
        named = [(name, result) for name, results in self.parts().items() for result in results]
        errors = [f"{name}, seed {result.seed}: {result.error}" for name, result in named if result.error]
        return "\n\n".join([*self.texts(), *errors]) + "\n"

    def _ipython_display_(self):
        from IPython.display import Markdown, display

        display(Markdown(str(self)), self.figure())


class Experiment(Report):
    """Results over seeds, as tables and as a figure.

    Attributes:
        folder: where they are kept.
        settings: what was asked, a dict.
        results: a `Result` for each training, in the order of the seeds.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder, self.settings, self.results = folder, settings, []
        self.goal, self.title = settings["goal"], f"{settings['environment']}, recipe {settings['recipe']}"

    def parts(self) -> dict[str, list[Result]]:
        """{framework: its results}, in the order in which they took turns."""
        names = dict.fromkeys(result.framework for result in self.results)
        return {name: [result for result in self.results if result.framework == name] for name in names}

    def texts(self) -> list[str]:
        """The summary, how it was measured, and the table, in Markdown."""
        return [self.summary(), self.protocol(), self.table()]

    def summary(self) -> str:
        """A Markdown table of what the seeds of each framework came to together."""
        columns = [summarized(results, self.goal) for results in self.parts().values()]
        rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
        return markdown(["", *self.parts()], rows)

    def table(self) -> str:
        """A Markdown table with a row for each training, failures included."""
        header = ["framework", "seed", "score", "best weights", "steps to solve"]
        rows = [
            [
                result.framework,
                result.seed,
                _number(result.score),
                _number(result.best_score),
                _solved_after(result.steps_to_solve, self.goal),
                f"{result.steps:,}",
                result.episodes,
                f"{result.seconds:.1f}",
                _number(result.steps_per_second, 0),
            ]
            for result in self.results
        ]
        return markdown([*header, "steps", "episodes", "seconds", "steps/s"], rows)

    def protocol(self) -> str:
        """How it was measured, in words."""
        settings, options = self.settings, self.settings["options"]
        budget = f"{options['steps']:,} steps" if options["steps"] else f"{options['episodes']:,} episodes"
        solved = "No score counts as solved"
        if self.goal is not None:
            solved = f"A seed has solved the game at the first with a mean of {self.goal:g}"
        threads = "; PyTorch on one thread" if "PyTorch" in self.parts() else ""
        versions = ", ".join(f"{package} {number}" for package, number in settings["versions"].items())
        return (
            f"{settings['environment']}, recipe `{settings['recipe']}`, at most {budget} a seed. Every "
            f"{settings['evaluate_every']:,} steps an evaluation of 100 greedy episodes decides which weights are "
            f"best. {solved}. Scores are means of 100 other greedy episodes, which chose nothing; in brackets the 95 % "
            "interval over seeds, of fewer than five the lowest and the highest. Seconds are "
            "those of making the agent, compiling and training, without evaluations"
            f"{threads}. {versions}."
        )

    def rows(self) -> list[list[Any]]:
        """The rows of results.csv, the names of the columns first."""
        return [CSV_COLUMNS, *([getattr(result, column) for column in CSV_COLUMNS] for result in self.results)]


class Sweep(Report):
    """Experiments over settings, as a table and a figure.

    Attributes:
        folder: where they are kept, each in a folder of its own.
        experiments: {combination: its `Experiment`}: "learning_rate=0.001,tau=0.01".
    """

    def __init__(self, folder: Path, experiments: dict[str, Experiment]):
        self.folder, self.experiments = folder, experiments
        goals = {experiment.goal for experiment in experiments.values()}
        self.goal = goals.pop() if len(goals) == 1 else None

    @property
    def results(self) -> list[Result]:
        """Of all experiments, one after the other."""
        return [result for experiment in self.experiments.values() for result in experiment.results]

    def parts(self) -> dict[str, list[Result]]:
        """{"combination, framework": its results}."""
        return {
            f"{combination}, {framework}": results
            for combination, experiment in self.experiments.items()
            for framework, results in experiment.parts().items()
        }

    def texts(self) -> list[str]:
        """The table."""
        return [self.table()]

    def table(self) -> str:
        """A Markdown table with a row for each combination and framework."""
        rows = []
        for combination, experiment in self.experiments.items():
            for framework, results in experiment.parts().items():
                summary = summarized(results, experiment.goal)
                rows.append([combination, framework, len(results), *(summary[name] for name in SWEEP_COLUMNS)])
        return markdown(["settings", "framework", "seeds", *SWEEP_COLUMNS], rows)

    def rows(self) -> list[list[Any]]:
        """The rows of results.csv: those of all experiments, each with its combination before it."""
        named = [(name, row) for name, experiment in self.experiments.items() for row in experiment.rows()[1:]]
        return [["settings", *CSV_COLUMNS], *([name, *row] for name, row in named)]

    def save(self) -> None:
        """Write the files of the sweep, and those of each experiment."""
        for experiment in self.experiments.values():
            if experiment.results:
                experiment.save()
        super().save()


def summarized(results: list[Result], goal: float | None) -> dict[str, str]:
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


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
