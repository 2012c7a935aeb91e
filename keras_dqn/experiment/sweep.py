"""Several settings, each from several seeds: an experiment for every combination, and one table over all."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_dqn.experiment.report import Experiment, csv_text, curves_over_steps, markdown, summarised
from keras_dqn.experiment.results import Result, _write
from keras_dqn.show import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["score", "score of the best weights", "failures", "steps to solve, median", "steps to solve, worst"]


class Sweep:
    """Experiments over settings, as a table and a figure; a notebook shows both.

    Attributes:
        folder: where they are kept, each in a folder of its own.
        experiments: {combination: its `Experiment`}: "learning_rate=0.001,tau=0.01".
    """

    def __init__(self, folder: Path, experiments: dict[str, Experiment]):
        self.folder, self.experiments = folder, experiments

    @property
    def results(self) -> list[Result]:
        """Of all experiments, one after the other."""
        return [result for experiment in self.experiments.values() for result in experiment.results]

    def table(self) -> str:
        """A Markdown table with a row for each combination and framework."""
        rows = []
        for (combination, framework), (results, goal) in self._parts().items():
            summary = summarised(results, goal)
            rows.append([combination, framework, len(results), *(summary[name] for name in COLUMNS)])
        return markdown(["settings", "framework", "seeds", *COLUMNS], rows)

    def figure(self) -> "Figure":
        """Score over environment steps, a curve for each combination and framework; see `Experiment.figure`."""
        curves = curves_over_steps({_named(*names): results for names, (results, _) in self._parts().items()})
        goals = {goal for _, goal in self._parts().values()}
        return plots.learning_curves(curves, solved_score=goals.pop() if len(goals) == 1 else None)

    def save(self) -> None:
        """Write table.md, results.csv and learning_curves.png into the folder, and the same of each experiment."""
        for experiment in self.experiments.values():
            if experiment.results:
                experiment.save()
        _write(self.folder / "table.md", str(self))
        _write(self.folder / "results.csv", csv_text(self._rows()))
        if any(result.came_to_something for result in self.results):
            plots.save_figure(self.figure(), self.folder / "learning_curves.png")

    def _parts(self):
        """{(combination, framework): (results, goal)}."""
        return {
            (combination, framework): (results, experiment.settings["goal"])
            for combination, experiment in self.experiments.items()
            for framework, results in experiment.by_framework().items()
        }

    def _rows(self):
        """Those of all experiments, each with its combination before it, under one line of names."""
        named = [(combination, experiment.rows()) for combination, experiment in self.experiments.items()]
        return [["settings", *named[0][1][0]], *([one, *row] for one, (_, *rows) in named for row in rows)]

    def __str__(self):
        errors = [
            f"{combination}, {result.framework}, seed {result.seed}: {result.error}"
            for combination, experiment in self.experiments.items()
            for result in experiment.results
            if result.error
        ]
        return "\n\n".join([self.table(), *errors]) + "\n"

    def _ipython_display_(self):
        from IPython.display import Markdown, display

        display(Markdown(str(self)), self.figure())


def _named(combination, framework):
    return f"{combination}, {framework}"


def combinations(sweep: dict[str, list]) -> Iterator[dict[str, Any]]:
    """A generator of {setting: value}, every combination of {setting: [values]}; of no settings one that is empty.

    Raises:
        ValueError: a setting has no values, or one of them twice.
    """
    for name, values in sweep.items():
        if not isinstance(values, list | tuple) or not values or len({str(value) for value in values}) < len(values):
            raise ValueError(f"`sweep` must have a list of different values for {name}. Received: {values!r}")
    for values in itertools.product(*sweep.values()):
        yield dict(zip(sweep, values, strict=True))


def folder_of(settings: dict[str, Any]) -> str:
    """The name of a combination and of its folder: "learning_rate=0.001,tau=0.01"."""
    return ",".join(re.sub(r"[^\w.=+-]+", "_", f"{name}={value}") for name, value in settings.items())
