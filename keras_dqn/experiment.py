"""Experiments: one recipe trained from several seeds, in Keras or beside PyTorch, in a folder that can be gone on with.

A single training says little: another seed may take three times as long, or fail. So everything that is said about a
recipe is said over seeds, failures included, and what each seed did stays in the folder:

    settings.json                      what was asked; a folder holds the results of one set of settings
    keras_seed_0.json                  a `Result`, written when that training has ended
    keras_seed_0_weight.h5, …_best.h5  its last weights, and those of its best evaluation
    results.csv, table.md, learning_curves.png
"""

import csv
import io
import json
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
from tqdm.auto import tqdm

from keras_dqn import __version__, plots
from keras_dqn.agent import Agent
from keras_dqn.backend import keras, tf
from keras_dqn.checks import check_whole
from keras_dqn.evaluation import mean_interval
from keras_dqn.exploration import OverTraining, over_training
from keras_dqn.runner import Runner
from keras_dqn.weights import atomic_write

FRAMEWORKS = ("Keras", "PyTorch")


class Result(NamedTuple):
    """What one training came to."""

    framework: str  # "Keras" or "PyTorch"
    seed: int
    score: float  # mean of 100 greedy episodes with the last weights; these episodes (seeds 0 to 99) chose nothing
    best_score: float  # the same with the weights of its best evaluation; the last ones where none was made
    steps: int  # environment steps
    steps_to_solve: int | None  # before the first evaluation that reached the goal; None where none did
    seconds: float  # from making the agent to its last step, compilation included, evaluations not
    evaluation_seconds: float  # the evaluations during training took
    evaluations: list  # [steps, mean score of 100 greedy episodes] each
    scores: list  # of the episodes played in training, exploration and all
    lengths: list  # of the same, steps
    error: str | None  # why training broke off, if a number was not finite

    episodes = property(lambda self: len(self.scores))
    steps_per_second = property(lambda self: self.steps / self.seconds)


def train_seeds(
    game,
    recipe=None,
    seeds=10,
    seed=0,
    folder=None,
    frameworks=("Keras",),
    episodes=200,
    steps=None,
    evaluate_every=1000,
    stop_score=None,
    progress=True,
    **options,
):
    """Train a recipe from several seeds, each with the same budget and from fresh weights.

    It can be interrupted at any time: results of trainings that have ended are kept, and the same call goes on.

    Args:
        game: a `Runner` class: `CartPole`, `MountainCar`, `game_for("Acrobot-v1")`.
        recipe: by name; the game's first if not given.
        seeds: how many.
        seed: the first; the others follow it. A seed covers everything, as that of `Runner` does.
        folder: for the results; by default one in `results/` that is named after game and recipe.
        frameworks: "Keras", "PyTorch" or both, which then take turns, so that a busy minute hits both. PyTorch runs on
            one thread, for the reason that `pytorch.one_thread` gives.
        episodes, steps: the budget of each training, as `Runner` takes it.
        evaluate_every, stop_score: as `Runner.train` takes them. A seed has solved the game at the first evaluation
            that has a mean of `stop_score`, or if that is not given, of the game's `solved_score`.
        progress: show a bar over all trainings, and one for each.
        **options: of the `Agent` and the `Runner`, instead of the recipe's.

    Returns:
        An `Experiment`.

    Raises:
        ValueError: an argument is out of range, or the folder holds results of other settings.
        ImportError: PyTorch is asked for and not installed.
    """
    check_whole("seeds", seeds)
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"`seed` must be a whole number, 0 or more. Received: {seed!r}")
    plan = [(framework, number) for number in range(seed, seed + seeds) for framework in frameworks]
    options = {"episodes": episodes, "steps": steps, **options}
    training = _Training(game, recipe, frameworks, evaluate_every, stop_score, options)
    if folder is None:
        folder = Path("results", f"{game.name}_{training.recipe}" + "_comparison" * (len(frameworks) > 1))
    experiment = Experiment(_claimed(Path(folder), training.settings), training.settings)
    _run(plan, training, experiment, progress)
    return experiment


def compare(game, recipe=None, seeds=10, episodes=600, **settings):
    """Train a recipe in Keras and in PyTorch from the same seeds and with the same budget: see `train_seeds`.

    The default budget is that of the PyTorch tutorial.
    """
    return train_seeds(game, recipe, seeds, episodes=episodes, frameworks=FRAMEWORKS, **settings)


def _run(plan, training, experiment, progress):
    """Train what the folder has no result of, [(framework, seed)], and leave all results in the experiment."""
    folder, name = experiment.folder, training.game.name
    done = sum(_file(folder, *one).exists() for one in plan)
    bar = tqdm(total=len(plan), initial=done, unit="training", desc=name, disable=not progress)
    try:
        for framework, seed in plan:
            path = _file(folder, framework, seed)
            if not path.exists():
                bar.set_description(f"{name}, seed {seed}, {framework}")
                _write(path, json.dumps(training.run(framework, seed, folder, progress)._asdict()))
                bar.update()
            experiment.results.append(_read(path))
    except KeyboardInterrupt:
        done = f"{len(experiment.results)} of {len(plan)} trainings are kept in {folder}"
        print(f"{done}; the same call goes on from there")
        raise
    finally:
        bar.close()
        if experiment.results:
            experiment.save()


class _Training:
    """What all trainings of an experiment have in common; wrong arguments raise when it is made.

    Attributes:
        recipe: its name, the game's default if none was given.
        settings: what results depend on but for framework and seed, in the types of JSON.
    """

    def __init__(self, game, recipe, frameworks, evaluate_every, stop_score, options):
        if not (isinstance(game, type) and issubclass(game, Runner)):
            raise ValueError(f"`game` must be a Runner class, like CartPole. Received: {game!r}")
        if not frameworks or not set(frameworks) <= set(FRAMEWORKS):
            raise ValueError(f"`frameworks` must be of {FRAMEWORKS}. Received: {frameworks!r}")
        self.game, self.recipe, self.options = game, recipe, options
        self.evaluate_every, self.stop_score = check_whole("evaluate_every", evaluate_every), stop_score
        self.goal = game.solved_score if stop_score is None else stop_score
        for framework in frameworks:  # now, and not after the first has trained for an hour
            self.recipe = self._runner(framework, None, None).recipe
        settings = {
            "environment": game.environment,
            "recipe": self.recipe,
            "evaluate_every": evaluate_every,
            "stop_score": stop_score,
            "goal": self.goal,
            "options": over_training({**game.recipes[self.recipe], **options}, options.get("steps")),
            "versions": _versions(frameworks),
        }
        self.settings = json.loads(json.dumps(settings, default=_described))

    def _runner(self, framework, seed, weight_backup):
        """A `Runner` with fresh weights."""
        agent_class = Agent
        if framework == "PyTorch":
            from keras_dqn.pytorch import TorchAgent as agent_class
        settings = {"seed": seed, "weights": None, "weight_backup": weight_backup, "agent_class": agent_class}
        return self.game(recipe=self.recipe, **self.options, **settings)

    def run(self, framework, seed, folder, progress):
        """Train once; the `Result`."""
        with _threads(framework):
            began = time.perf_counter()
            runner = self._runner(framework, seed, _file(folder, framework, seed, "_weight.h5"))
            for path in (runner.agent.weight_backup, runner.best_backup):
                path.unlink(missing_ok=True)  # of a training that was interrupted
            error = None
            try:
                runner.train(
                    progress=progress, live=False, evaluate_every=self.evaluate_every, stop_score=self.stop_score
                )
            except FloatingPointError as failure:  # a result, too
                error = str(failure)
            seconds = time.perf_counter() - began
            return self._result(framework, seed, runner, seconds, error)

    def _result(self, framework, seed, runner, seconds, error):
        history, steps = runner.history, int(runner.agent.steps)
        evaluation_seconds = sum(evaluation.seconds for evaluation in history.evaluations)
        score = best_score = runner.evaluate(100).mean
        if history.evaluations:
            runner.agent.load_model(runner.best_backup)
            best_score = runner.evaluate(100).mean
        return Result(
            framework=framework,
            seed=seed,
            score=score,
            best_score=best_score,
            steps=steps,
            steps_to_solve=_steps_to_solve(history.evaluations, self.goal),
            seconds=seconds - evaluation_seconds,
            evaluation_seconds=evaluation_seconds,
            evaluations=[[evaluation.steps, evaluation.score] for evaluation in history.evaluations],
            scores=history.scores.tolist(),
            lengths=history.lengths.tolist(),
            error=error,
        )


class Experiment:
    """Results over seeds, as tables and as a figure; a notebook shows both.

    Attributes:
        folder: where they are kept.
        settings: what was asked, a dict.
        results: a `Result` for each training, in the order of the seeds.
    """

    def __init__(self, folder, settings):
        self.folder, self.settings, self.results = folder, settings, []

    def by_framework(self):
        """{framework: its results}, in the order in which they took turns."""
        names = dict.fromkeys(result.framework for result in self.results)
        return {name: [result for result in self.results if result.framework == name] for name in names}

    def summary(self):
        """A Markdown table of what the seeds of each framework came to together."""
        columns = [_summarised(results, self.settings["goal"]) for results in self.by_framework().values()]
        rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
        return _markdown(["", *self.by_framework()], rows)

    def table(self):
        """A Markdown table with a row for each training, failures included."""
        header = ["framework", "seed", "score", "best weights", "steps to solve"]
        header += ["steps", "episodes", "seconds", "steps/s"]
        rows = [
            [
                result.framework,
                result.seed,
                f"{result.score:.1f}",
                f"{result.best_score:.1f}",
                _solved_after(result.steps_to_solve, self.settings["goal"]),
                f"{result.steps:,}",
                result.episodes,
                f"{result.seconds:.1f}",
                f"{result.steps_per_second:,.0f}",
            ]
            for result in self.results
        ]
        return _markdown(header, rows)

    def protocol(self):
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
            "interval over seeds. Seconds are those of making the agent, compiling and training, without evaluations"
            f"{threads}. {versions}."
        )

    def figure(self):
        """Score over environment steps: mean and 95 % interval over seeds, each seed behind it; see `learning_curves`.

        The scores are those of the greedy evaluations and not of the episodes played in training: they are made after
        the same numbers of steps for all seeds, without exploration, and solving the game is one of them at the goal.
        Where a training ended before others, its last score goes on, as its weights do.
        """
        made = {name: [_evaluations(result) for result in results] for name, results in self.by_framework().items()}
        steps = np.unique([step for seeds in made.values() for evaluations in seeds for step, _ in evaluations])
        curves = {name: (steps, [_scores_at(steps, seed) for seed in seeds]) for name, seeds in made.items()}
        title = f"{self.settings['environment']}, recipe {self.settings['recipe']}"
        return plots.learning_curves(curves, solved_score=self.settings["goal"], title=title)

    def save(self):
        """Write results.csv, table.md and learning_curves.png into the folder."""
        _write(self.folder / "results.csv", self._csv())
        _write(self.folder / "table.md", str(self))
        plots.save_figure(self.figure(), self.folder / "learning_curves.png")

    def _csv(self):
        columns = ["framework", "seed", "score", "best_score", "steps_to_solve", "steps", "episodes", "seconds"]
        columns += ["steps_per_second", "evaluation_seconds", "error"]
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows([getattr(result, column) for column in columns] for result in self.results)
        return text.getvalue()

    def __str__(self):
        errors = [f"{result.framework}, seed {result.seed}: {result.error}" for result in self.results if result.error]
        return "\n\n".join([self.summary(), self.protocol(), self.table(), *errors]) + "\n"

    def _ipython_display_(self):
        from IPython.display import Markdown, display

        display(Markdown(str(self)), self.figure())


# ---------------------------------------------------------------- what the tables say


def _summarised(results, goal):
    """{what: text} of the results of one framework."""
    solved = [np.inf if result.steps_to_solve is None else result.steps_to_solve for result in results]
    failures = "–" if goal is None else f"{np.count_nonzero(np.isinf(solved))} of {len(results)}"
    return {
        "score": _mean([result.score for result in results]),
        "score of the best weights": _mean([result.best_score for result in results]),
        "failures": failures,
        "steps to solve, median": _solved_after(np.median(solved), goal),
        "steps to solve, worst": _solved_after(np.max(solved), goal),
        "seconds, median": f"{np.median([result.seconds for result in results]):.1f}",
        "steps per second": _mean([result.steps_per_second for result in results], digits=0),
    }


def _mean(values, digits=1):
    """The mean of the values, and where there are several its 95 % interval."""
    low, high = mean_interval(values)
    interval = "" if np.isnan(low) else f" ({low:,.{digits}f} to {high:,.{digits}f})"
    return f"{np.mean(values):,.{digits}f}{interval}"


def _solved_after(steps, goal):
    if goal is None:
        return "–"
    return "not solved" if steps is None or np.isinf(steps) else f"{steps:,.0f}"


def _markdown(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


# ---------------------------------------------------------------- curves


def _steps_to_solve(evaluations, goal):
    reached = [evaluation.steps for evaluation in evaluations if goal is not None and evaluation.score >= goal]
    return reached[0] if reached else None


def _evaluations(result):
    """[[steps, score], ...]; where training ended before the first evaluation, the one after it."""
    return result.evaluations or [[result.steps, result.score]]


def _scores_at(steps, evaluations):
    """The score of the last evaluation made by each of the steps, [N]; after the end of training it stays."""
    made, scores = np.transpose(evaluations)
    return scores[np.searchsorted(made, steps, side="right").clip(1) - 1]


# ---------------------------------------------------------------- files and surroundings


def _file(folder, framework, seed, end=".json"):
    return folder / f"{framework.lower()}_seed_{seed}{end}"


def _write(path, text):
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _read(path):
    try:
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected the result of a training; remove it. Received: {error}") from error


def _claimed(folder, settings):
    """The folder, with the settings written into it, or seen to be those that are there."""
    path = folder / "settings.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, json.dumps(settings, indent=1))
        return folder
    try:
        there = _flat(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: expected the settings of an experiment. Received: {error}") from error
    asked = _flat(settings)
    for name in asked | there:
        if there.get(name) != asked.get(name):
            raise ValueError(
                f"{folder} holds results of other settings, {name} {there.get(name)!r}: give another folder. "
                f"Received: {name} {asked.get(name)!r}"
            )
    return folder


def _flat(settings):
    """The settings with those of nested dicts beside the others."""
    flat = {}
    for name, value in settings.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _described(value):
    """What JSON has no type for: an array as a list, a function as its name and what it closes over."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, OverTraining):
        return str(value)
    if isinstance(value, partial):
        return [_described(value.func), value.keywords]
    if not hasattr(value, "__qualname__"):
        raise ValueError(
            "The options of an experiment are numbers, texts and functions, as no object may go from seed to seed. "
            f"Received: {value!r}"
        )
    enclosed = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    return [f"{value.__module__}.{value.__qualname__}", *enclosed]


def _versions(frameworks):
    modules = [tf, keras, gymnasium, np]
    if "PyTorch" in frameworks:
        import torch

        modules.append(torch)
    return {"keras_dqn": __version__, **{module.__name__: str(module.__version__) for module in modules}}


def _threads(framework):
    """The surroundings in which an agent of the framework trains."""
    if framework != "PyTorch":
        return nullcontext()
    from keras_dqn.pytorch import one_thread

    return one_thread()
