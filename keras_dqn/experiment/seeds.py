"""Experiments: one recipe trained from several seeds, in Keras or beside PyTorch, in a folder that can be gone on with.

A single training says little: another seed may take three times as long, or fail. So everything that is said about a
recipe is said over seeds, failures included, and what each seed did stays in the folder:

    settings.json                      what was asked; a folder holds the results of one set of settings
    keras_seed_0.json                  a `Result`, written when that training has ended
    keras_seed_0_weight.h5, …_best.h5  its last weights, and those of its best evaluation
    results.csv, table.md, learning_curves.png

Trainings run here one after the other, or on Ray wherever there is room: the files are the same.
"""

import difflib
import itertools
import json
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from keras_dqn.checks import check_integer
from keras_dqn.core.agent import Agent
from keras_dqn.core.exploration import over_training
from keras_dqn.core.settings import to_json
from keras_dqn.experiment.report import Experiment, Result, Sweep, write_file
from keras_dqn.experiment.tasks import Outcome, run_anywhere
from keras_dqn.ray.cluster import ray_for, versions
from keras_dqn.training.runner import Runner

FRAMEWORKS = ("Keras", "PyTorch")
PACKAGES = "tensorflow", "keras", "gymnasium", "numpy"  # what numbers depend on


def train_seeds(
    game: type[Runner],
    recipe: str | None = None,
    seeds: int = 10,
    seed: int | None = 0,
    folder: str | Path | None = None,
    frameworks: Sequence[str] = ("Keras",),
    evaluate_every: int = 1000,
    progress: bool = True,
    ray: str | None = None,
    sweep: dict[str, list] | None = None,
    **options: Any,
) -> Experiment | Sweep:
    """Train a recipe from several seeds, each with the same budget and from fresh weights.

    It can be interrupted at any time: results of trainings that have ended are kept, and the same call goes on.

    Args:
        game: a `Runner` class: `CartPole`, `MountainCar`, `game_for("Acrobot-v1")`.
        recipe: by name; the game's first if not given.
        seeds: how many.
        seed: the first; the others follow it. A seed covers everything, as that of `Runner` does.
        folder: for the results; by default one in `results/` that is named after game and recipe.
        frameworks: "Keras", "PyTorch" (see `pytorch.one_thread`) or both, in turns, so that a busy minute hits both.
        evaluate_every: as `Runner.train` takes it.
        progress: show a bar over all trainings, and one for each; with `ray` one in all.
        ray: "auto" or the address of a cluster (see `ray.cluster.ray_for`): the trainings are tasks of Ray, in any
            order and with the same results. One that raises is a row of the table, and is tried again by the next call.
        sweep: {setting: [values]}: every combination of them is an experiment in a folder of its own, in `folder`. A
            setting is one of `options`, or "recipe".
        **options: `steps` or `episodes`, by default 200; `stop_score`, which ends a training as in `Runner.train` and
            is the score that solves the game, by default its `solved_score`; and options of `Runner` and its agent.

    Raises:
        ValueError, TypeError: an argument is wrong, a folder holds results of other settings, or a node other versions.
        ImportError: PyTorch or Ray is asked for and not installed.
        ConnectionError: there is no cluster at that address.
    """
    if ray is not None:
        ray_for(ray)
    numbers = range(check_integer("seed", seed, 0), seed + check_integer("seeds", seeds))
    options = {"episodes": 200, "steps": None, "recipe": recipe, **options}
    plans = {  # those of a sweep by their combination of settings; wrong ones raise before any folder is made
        _named(settings): Plan(game, frameworks, evaluate_every, {**options, **settings})
        for settings in _combinations(sweep or {})
    }
    plan = next(iter(plans.values()))
    folder = Path(folder or _usual_folder(plan, frameworks, sweep))
    experiments = {name: Experiment(_claimed(folder / name, one.settings), one.settings) for name, one in plans.items()}
    jobs = [
        Job(plans[name], experiments[name], framework, number, name)
        for number, name, framework in itertools.product(numbers, plans, frameworks)
    ]
    report = experiments[""] if sweep is None else Sweep(folder, experiments)
    _run(jobs, report, progress, ray)
    return report


def compare(
    game: type[Runner], recipe: str | None = None, seeds: int = 10, episodes: int = 600, **settings: Any
) -> Experiment | Sweep:
    """Train a recipe in Keras and in PyTorch from the same seeds and with the same budget: see `train_seeds`.

    The default budget is that of the PyTorch tutorial.
    """
    return train_seeds(game, recipe, seeds, episodes=episodes, frameworks=FRAMEWORKS, **settings)


class Plan:
    """What all trainings of an experiment have in common; wrong arguments raise when it is made.

    Args:
        game, frameworks, evaluate_every, options: as `train_seeds` has them, the recipe among the options.

    Attributes:
        game: the class of its runners.
        recipe: its name, the game's default if none was given.
        settings: what results depend on but for framework and seed, in the types of JSON.
    """

    def __init__(self, game: type[Runner], frameworks: Sequence[str], evaluate_every: int, options: dict[str, Any]):
        if not (isinstance(game, type) and issubclass(game, Runner)):
            raise ValueError(f"`game` must be a Runner class, like CartPole. Received: {game!r}")
        if not frameworks or not set(frameworks) <= set(FRAMEWORKS):
            raise ValueError(f"`frameworks` must be of {FRAMEWORKS}. Received: {frameworks!r}")
        for name, value in options.items():
            if hasattr(value, "get_config") and not isinstance(value, type):
                raise ValueError(f"`{name}` would go from seed to seed: give what makes one. Received: {value!r}")
        self.game, self.options = game, dict(options)
        self.recipe, self.stop_score = self.options.pop("recipe"), self.options.pop("stop_score", None)
        self.evaluate_every = check_integer("evaluate_every", evaluate_every)
        self.goal = game.solved_score if self.stop_score is None else self.stop_score
        for framework in frameworks:  # now, and not after the first has trained for an hour
            self.recipe = self._runner(_of_framework(framework)[0]).recipe
        settings = {
            "environment": game.environment,
            "recipe": self.recipe,
            "evaluate_every": evaluate_every,
            "stop_score": self.stop_score,
            "goal": self.goal,
            "options": over_training({**game.recipes[self.recipe], **self.options}, self.options["steps"]),
            "versions": versions([*PACKAGES, *["torch"] * ("PyTorch" in frameworks)]),
        }
        self.settings = to_json(settings)

    def train(self, framework: str, seed: int, progress: bool) -> dict[str, bytes]:
        """Train once, with or without a bar; {name: content} of the files that it leaves, that of its `Result` last."""
        name, (agent_class, one_thread) = f"{framework.lower()}_seed_{seed}", _of_framework(framework)
        with one_thread, tempfile.TemporaryDirectory(prefix="keras_dqn_") as folder:
            began, error = time.perf_counter(), None
            runner = self._runner(agent_class, seed, Path(folder, f"{name}_weight.h5"))
            # One that was interrupted begins anew: no checkpoints, though a game may have a folder for them, where the
            # next seed would find those of the one before.
            options = {"checkpoints": False} if hasattr(runner, "checkpoint_folder") else {}
            options |= {"evaluate_every": self.evaluate_every, "stop_score": self.stop_score}
            try:
                runner.train(progress=progress, live=False, **options)
            except FloatingPointError as failure:  # a result, too
                error = str(failure)
            result = Result(framework, seed, **self._measured(runner, time.perf_counter() - began), error=error)
            files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
        return {**files, f"{name}.json": json.dumps(result._asdict()).encode()}

    def _runner(self, agent_class, seed=None, weight_backup=None):
        """A `Runner` with fresh weights."""
        own = {"seed": seed, "weights": None, "weight_backup": weight_backup, "agent_class": agent_class}
        return self.game(recipe=self.recipe, **self.options, **own)

    def _measured(self, runner, seconds):
        """The fields of a `Result` after a training that took so long."""
        history, evaluations = runner.history, runner.history.evaluations
        evaluation_seconds = sum(evaluation.seconds for evaluation in evaluations)
        solved = [one.steps for one in evaluations if self.goal is not None and one.score >= self.goal]
        score = best_score = runner.evaluate(100).mean
        if evaluations:
            runner.agent.load_model(runner.best_backup)
            best_score = runner.evaluate(100).mean
        return {
            "score": score,
            "best_score": best_score,
            "steps": int(runner.agent.steps),
            "steps_to_solve": solved[0] if solved else None,
            "seconds": seconds - evaluation_seconds,
            "evaluation_seconds": evaluation_seconds,
            "evaluations": [[evaluation.steps, evaluation.score] for evaluation in evaluations],
            "scores": history.scores.tolist(),
            "lengths": history.lengths.tolist(),
        }


def _of_framework(name):
    """The class of its agents, and a context for a training."""
    if name == "Keras":
        return Agent, nullcontext()
    from keras_dqn.pytorch import TorchAgent, one_thread

    return TorchAgent, one_thread()


class Job(NamedTuple):
    """One training of those that were asked for."""

    plan: Plan
    experiment: Experiment
    framework: str
    seed: int
    combination: str  # of settings; "" where there is one

    @property
    def path(self) -> Path:
        """The file of its result, which is there once it has ended."""
        return self.experiment.folder / f"{self.framework.lower()}_seed_{self.seed}.json"

    def result(self) -> Result:
        """Read that file; a ValueError names it where it holds something else."""
        try:
            return Result(**json.loads(self.path.read_text(encoding="utf-8")))._replace(settings=self.combination)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.path}: expected the result of a training; remove it. Received: {error}") from error

    def keep(self, outcome: Outcome) -> Result:
        """Write the files that it has left, that of its result last."""
        if outcome.error is not None:
            return Result(self.framework, self.seed, error=outcome.error, settings=self.combination)
        for name, content in outcome.value.items():
            write_file(self.experiment.folder / name, content)
        return self.result()


def _run(jobs, report, progress, ray):
    """Train what no result is there of, and leave all results in the experiments."""
    results = {job: job.result() for job in jobs if job.path.exists()}
    waiting, plan = [job for job in jobs if job not in results], jobs[0].plan
    shown = progress and ray is None  # each training has a bar of its own
    calls = [partial(job.plan.train, job.framework, job.seed, shown) for job in waiting]
    if ray is None:
        outcomes = ((i, Outcome(call())) for i, call in enumerate(calls))
    else:
        outcomes = run_anywhere(calls, ray, ["ray", *plan.settings["versions"]])
    bar = tqdm(total=len(jobs), initial=len(results), unit="training", desc=plan.game.name, disable=not progress)
    try:
        with bar, closing(outcomes):
            for i, outcome in outcomes:
                result = results[waiting[i]] = waiting[i].keep(outcome)
                bar.set_postfix_str(f"{result.name}, seed {result.seed} ended {outcome.node}")
                bar.update()
    except KeyboardInterrupt:
        print(f"{len(results)} of {len(jobs)} trainings are kept in {report.folder}; the same call goes on from there")
        raise
    finally:
        for job in jobs:
            if job in results:
                job.experiment.results.append(results[job])
        if results:
            report.save()


# ---------------------------------------------------------------- settings and files


def _combinations(sweep):
    """{setting: value} for every combination of {setting: [values]}; of no settings one that is empty."""
    for name, values in sweep.items():
        if not isinstance(values, list | tuple) or not values or len({str(value) for value in values}) < len(values):
            raise ValueError(f"`sweep` must have a list of different values for {name}. Received: {values!r}")
    return [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]


def _named(settings):
    """The name of a combination and of its folder: "learning_rate=0.001,tau=0.01"."""
    return ",".join(re.sub(r"[^\w.=+-]+", "_", f"{name}={value}") for name, value in settings.items())


def _usual_folder(plan, frameworks, sweep):
    of_recipe = "" if "recipe" in (sweep or {}) else f"_{plan.recipe}"
    return f"results/{plan.game.name}{of_recipe}{'_comparison' * (len(frameworks) > 1)}{'_sweep' * (sweep is not None)}"


def _claimed(folder, settings):
    """The folder, with the settings written into it, or seen to be those that are there."""
    path, text = folder / "settings.json", json.dumps(settings, indent=1)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_file(path, text)
    there = path.read_text(encoding="utf-8")
    if there != text:
        lines = difflib.ndiff(there.splitlines(), text.splitlines())
        differ = ", ".join(f"{line[0]}{line[1:].strip(' ,')}" for line in lines if line[0] in "+-")
        raise ValueError(f"{folder} holds results of other settings: give another folder. Received: {differ}")
    return folder
