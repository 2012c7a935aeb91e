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
from keras_dqn.show.plots import FEWEST_FOR_AN_INTERVAL, interval_or_range

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
    settings: str = ""  # of a sweep: "learning_rate=0.001,tau=0.01"

    episodes = property(lambda self: len(self.scores))
    steps_per_second = property(lambda self: self.steps / self.seconds if self.seconds else math.nan)
    name = property(lambda self: ", ".join(filter(None, [self.settings, self.framework])))
    ended = property(lambda self: not math.isnan(self.score))  # False where it raised


COLUMNS = ["framework", "seed", "score", "best_score", "steps_to_solve", "steps", "episodes", "seconds"]
COLUMNS += ["steps_per_second"]
CSV_COLUMNS = ["settings", *COLUMNS, "evaluation_seconds", "error"]
SUMMARY = ["seeds", "score", "best score", "failures", "steps to solve, median", "worst", "seconds, median"]
SUMMARY += ["steps per second"]


class Experiment:
    """Trainings from several seeds, as tables, a figure and a CSV file; a notebook shows tables and figure.

    Attributes:
        folder: where they are kept.
        settings: what was asked, a dict.
        results: a `Result` for each training, in the order of the seeds.
        goal: the mean score that counts as solved; None where none does.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder, self.settings, self.results = folder, settings, []
        self.goal, self.title = settings["goal"], f"{settings['environment']}, recipe {settings['recipe']}"

    def parts(self) -> dict[str, list[Result]]:
        """{framework: its results}, in the order in which they took turns; of a sweep those of each combination."""
        names = dict.fromkeys(result.name for result in self.results)
        return {name: [result for result in self.results if result.name == name] for name in names}

    def summary(self) -> str:
        """A Markdown table of what the seeds of each part came to together."""
        return markdown(["", *SUMMARY], [[name, *summed_up(some, self.goal)] for name, some in self.parts().items()])

    def table(self) -> str:
        """A Markdown table with a row for each training, failures included."""
        header = [column.replace("_", " ") for column in COLUMNS]
        return markdown(header, [[written(getattr(one, column)) for column in COLUMNS] for one in self.results])

    def protocol(self) -> str:
        """How it was measured, in words."""
        settings, options = self.settings, self.settings["options"]
        budget = f"{options['steps']:,} steps" if options["steps"] else f"{options['episodes']:,} episodes"
        solved = "no score counts as solved" if self.goal is None else f"a mean of {self.goal:g} is solved"
        threads = "; PyTorch on one thread" if "PyTorch" in self.parts() else ""
        versions = ", ".join(f"{package} {number}" for package, number in settings["versions"].items())
        return (
            f"{settings['environment']}, recipe `{settings['recipe']}`, at most {budget} a seed. Every "
            f"{settings['evaluate_every']:,} steps an evaluation of 100 greedy episodes decides on the best weights; "
            f"{solved}. Scores are means of 100 other greedy episodes, which chose nothing; in brackets the 95 % "
            "interval over seeds, of fewer than five the lowest and the highest. Seconds are of making the agent, "
            f"compiling and training, without evaluations{threads}. {versions}."
        )

    def texts(self) -> list[str]:
        """The summary, how it was measured, and the table."""
        return [self.summary(), self.protocol(), self.table()]

    def figure(self) -> "Figure":
        """Score over environment steps: mean and 95 % interval over seeds, each seed behind it; see `learning_curves`.

        The scores are those of the greedy evaluations and not of the episodes played in training: they are made after
        the same numbers of steps for all seeds, without exploration, and solving the game is one of them at the goal.
        Where a training ended before others, its last score goes on, as its weights do. One that raised is left out.
        """
        made = {}  # name: for each of its seeds the steps and scores of its evaluations, or of the one after training
        for name, results in self.parts().items():
            if seeds := [one.evaluations or [[one.steps, one.score]] for one in results if one.ended]:
                made[name] = [np.transpose(evaluations) for evaluations in seeds]
        steps = np.unique(np.concatenate([at for seeds in made.values() for at, _ in seeds]))
        curves = {
            name: (steps, [scores[np.searchsorted(at, steps, side="right").clip(1) - 1] for at, scores in seeds])
            for name, seeds in made.items()
        }
        return plots.learning_curves(curves, solved_score=self.goal, title=self.title)

    def save(self) -> None:
        """Write results.csv, table.md and learning_curves.png into the folder."""
        rows = [CSV_COLUMNS, *([getattr(result, column) for column in CSV_COLUMNS] for result in self.results)]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_file(self.folder / "results.csv", text.getvalue())
        write_file(self.folder / "table.md", str(self))
        if any(result.ended for result in self.results):
            plots.save_figure(self.figure(), self.folder / "learning_curves.png")

    def __str__(self):
        errors = [f"{result.name}, seed {result.seed}: {result.error}" for result in self.results if result.error]
        return "\n\n".join([*self.texts(), *errors]) + "\n"

    def _ipython_display_(self):
        from IPython.display import Markdown, display

        display(Markdown(str(self)), self.figure())


class Sweep(Experiment):
    """An experiment for every combination of settings, each in a folder of its own, and all of them together.

    Attributes:
        experiments: {combination: its `Experiment`}: "learning_rate=0.001,tau=0.01".
    """

    title = None

    def __init__(self, folder: Path, experiments: dict[str, Experiment]):
        self.folder, self.experiments = folder, experiments
        goals = {experiment.goal for experiment in experiments.values()}
        self.goal = goals.pop() if len(goals) == 1 else None

    @property
    def results(self) -> list[Result]:
        """Of all experiments, one after the other."""
        return [result for experiment in self.experiments.values() for result in experiment.results]

    def texts(self) -> list[str]:
        """The summary."""
        return [self.summary()]

    def save(self) -> None:
        """Write the files of the sweep, and those of each experiment."""
        for experiment in self.experiments.values():
            if experiment.results:
                experiment.save()
        super().save()


def summed_up(results: list[Result], goal: float | None) -> list[str]:
    """The texts of `SUMMARY` of some results; one that raised has not solved it, and counts nowhere else."""
    solved = [math.inf if result.steps_to_solve is None else result.steps_to_solve for result in results]
    failures, median, worst = f"{solved.count(math.inf)} of {len(results)}", np.median(solved), max(solved)
    ended = [result for result in results if result.ended]
    return [
        str(len(results)),
        mean([result.score for result in ended]),
        mean([result.best_score for result in ended]),
        *(["–"] * 3 if goal is None else [failures, written(median, 0), written(worst, 0)]),
        written(np.median([result.seconds for result in ended] or np.nan)),
        mean([result.steps_per_second for result in ended], digits=0),
    ]


def mean(values: list[float], digits: int = 1) -> str:
    """The mean of the values, and where there are several how far they spread."""
    if len(values) < 2:
        return written(values[0] if values else None, digits)
    low, high = (f"{end:,.{digits}f}" for end in interval_or_range(values))
    spread = f"({low} to {high})" if len(values) >= FEWEST_FOR_AN_INTERVAL else f"(min {low}, max {high})"
    return f"{np.mean(values):,.{digits}f} {spread}"


def written(value: Any, digits: int = 1) -> str:
    """A value as the tables have it; infinite are steps to solve where nothing was solved."""
    if not isinstance(value, float):
        return "–" if value is None else f"{value:,}" if isinstance(value, int) else value
    return "–" if math.isnan(value) else "not solved" if math.isinf(value) else f"{value:,.{digits}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
