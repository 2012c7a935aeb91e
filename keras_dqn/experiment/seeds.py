"""Experiments: one recipe trained from several seeds, in Keras or beside PyTorch, in a folder that can be gone on with.

A single training says little: another seed may take three times as long, or fail. So everything that is said about a
recipe is said over seeds, failures included, and what each seed did stays in the folder:

    settings.json                      what was asked; a folder holds the results of one set of settings
    keras_seed_0.json                  a `Result`, written when that training has ended
    keras_seed_0_weight.h5, …_best.h5  its last weights, and those of its best evaluation
    results.csv, table.md, learning_curves.png

Trainings run here one after the other, or on Ray wherever there is room: the files are the same.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from tqdm.auto import tqdm

from keras_dqn import __version__
from keras_dqn.backend import keras, tf
from keras_dqn.checks import check_integer
from keras_dqn.core.agent import Agent
from keras_dqn.core.exploration import over_training
from keras_dqn.core.settings import to_json
from keras_dqn.experiment.report import Experiment
from keras_dqn.experiment.results import Result, _claimed, _file, _read, _steps_to_solve, _write, raised
from keras_dqn.experiment.sweep import Sweep, combinations, folder_of
from keras_dqn.files.atomic import atomic_write
from keras_dqn.training.callbacks import TrainingCallback
from keras_dqn.training.renamed import found
from keras_dqn.training.runner import Runner

FRAMEWORKS = ("Keras", "PyTorch")
TOLD_EVERY = 1.0  # seconds


def train_seeds(
    game: "type[Runner]",
    recipe: str | None = None,
    seeds: int = 10,
    seed: int | None = 0,
    folder: str | Path | None = None,
    frameworks: Sequence[str] = ("Keras",),
    episodes: int = 200,
    steps: int | None = None,
    evaluate_every: int = 1000,
    stop_score: float | None = None,
    progress: bool = True,
    ray: str | None = None,
    sweep: dict[str, list] | None = None,
    **options: Any,
) -> Experiment:
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
        progress: show a bar over all trainings, and one for each; with `ray` one in all.
        ray: "auto" or the address of a cluster: the trainings are tasks of Ray, in any order and with the same results
            and files; see `ray.cluster.check_address`. One that raises is a row of the table, and is tried again by the
            next call; one whose machine dies is tried three times more, on others.
        sweep: {setting: [values]}: every combination of them is an experiment in a folder of its own, in `folder`. A
            setting is one of `options`, or "recipe".
        **options: of the `Agent` and the `Runner`, instead of the recipe's.

    Returns:
        An `Experiment`; with `sweep` a `Sweep` of them.

    Raises:
        ValueError: an argument is out of range, a folder holds results of other settings, or a node other versions.
        ImportError: PyTorch or Ray is asked for and not installed.
        ConnectionError: there is no cluster at that address.
    """
    if ray is not None:
        _check_ray(ray)
    options = {"episodes": episodes, "steps": steps, **options}
    numbers = _numbers(seeds, seed)
    trainings = _trainings(game, recipe, sweep, frameworks, evaluate_every, stop_score, options)
    whole, experiments = _experiments(game, trainings, frameworks, folder, sweep)
    jobs = [
        _Job(trainings[name], experiment, framework, number, name)
        for number in numbers
        for name, experiment in experiments.items()
        for framework in frameworks
    ]
    _run(jobs, whole, game.name, progress, ray)
    return whole


def compare(
    game: "type[Runner]", recipe: str | None = None, seeds: int = 10, episodes: int = 600, **settings: Any
) -> Experiment:
    """Train a recipe in Keras and in PyTorch from the same seeds and with the same budget: see `train_seeds`.

    The default budget is that of the PyTorch tutorial.
    """
    return train_seeds(game, recipe, seeds, episodes=episodes, frameworks=FRAMEWORKS, **settings)


def _numbers(seeds, seed):
    """The seeds, checked: so many, from the first on."""
    check_integer("seeds", seeds)
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"`seed` must be a whole number, 0 or more. Received: {seed!r}")
    return range(seed, seed + seeds)


def _trainings(game, recipe, sweep, frameworks, evaluate_every, stop_score, options):
    """{combination of settings: its `_Training`}, all of them checked."""
    for name in ("record_every", "live"):
        if name in options:
            raise ValueError(f"`{name}` is for a single training. Received: {name}={options[name]!r}")
    trainings = {}
    for settings in combinations(sweep or {}):
        own = {**options, **settings}
        its_recipe = own.pop("recipe", recipe)
        trainings[folder_of(settings)] = _Training(game, its_recipe, frameworks, evaluate_every, stop_score, own)
    return trainings


def _experiments(game, trainings, frameworks, folder, sweep):
    """What is returned in the end, and {combination: its `Experiment`}, in a folder that is made or fits."""
    if folder is None:
        recipe = next(iter(trainings.values())).recipe
        of_recipe = "" if "recipe" in (sweep or {}) else f"_{recipe}"
        ending = "_comparison" * (len(frameworks) > 1) + "_sweep" * (sweep is not None)
        folder = found(Path("results", f"{game.name}{of_recipe}{ending}"), recipe)
    folder, experiments = Path(folder), {}
    for name, training in trainings.items():
        experiments[name] = Experiment(_claimed(folder / name, training.settings), training.settings)
    return Sweep(folder, experiments) if sweep is not None else experiments[""], experiments


class _Job(NamedTuple):
    """One training of those that were asked for."""

    training: "_Training"
    experiment: Experiment
    framework: str
    seed: int
    combination: str  # of settings; "" where there is one

    @property
    def path(self):
        """The file of its result, which is there once it has ended."""
        return _file(self.experiment.folder, self.framework, self.seed)

    @property
    def name(self):
        """What the bar calls it."""
        return ", ".join(filter(None, [f"seed {self.seed}", self.framework, self.combination]))


def _run(jobs, whole, name, progress, ray):
    """Train what no result is there of, and leave all results in the experiments."""
    results = {job: _read(job.path) for job in jobs if job.path.exists()}
    waiting = [job for job in jobs if job not in results]
    try:
        if ray is None:
            _one_by_one(waiting, results, name, progress)
        elif waiting:
            _anywhere(waiting, results, name, progress, ray)
    except KeyboardInterrupt:
        done = f"{len(results)} of {len(jobs)} trainings are kept in {whole.folder}"
        print(f"{done}; the same call goes on from there")
        raise
    finally:
        for job in jobs:
            if job in results:
                job.experiment.results.append(results[job])
        if results:
            whole.save()


def _one_by_one(jobs, results, name, progress):
    """Train here, one after the other: {job: its `Result`} grows."""
    bar = tqdm(total=len(results) + len(jobs), initial=len(results), unit="training", desc=name, disable=not progress)
    with closing(bar):
        for job in jobs:
            bar.set_description(f"{name}, {job.name}")
            result = job.training.run(job.framework, job.seed, job.experiment.folder, progress)
            _write(job.path, json.dumps(result._asdict()))
            results[job] = _read(job.path)
            bar.update()


def _anywhere(jobs, results, name, progress, address):
    """Train on a cluster; as a training ends its files are written here, that of its result last."""
    from keras_dqn.ray.sweeps import PACKAGES, run_anywhere

    calls = {job.name: partial(_away, job.training, job.framework, job.seed) for job in jobs}
    packages = [*PACKAGES, *(["torch"] if any(job.framework == "PyTorch" for job in jobs) else [])]
    with closing(run_anywhere(calls, address, packages, name, progress)) as outcomes:
        for i, outcome in outcomes:
            job = jobs[i]
            if outcome.error is not None:
                results[job] = raised(job.framework, job.seed, outcome.error)
                continue
            for file, content in outcome.value.items():
                with atomic_write(job.experiment.folder / file) as temporary:
                    temporary.write_bytes(content)
            results[job] = _read(job.path)


def _away(training, framework, seed, tell):
    """Train once, on whatever machine this is: {name: content} of the files that it leaves, that of its result last."""
    with tempfile.TemporaryDirectory(prefix="keras_dqn_") as folder:
        folder = Path(folder)
        result = training.run(framework, seed, folder, False, [_Telling(tell)])
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return {**files, _file(folder, framework, seed).name: json.dumps(result._asdict()).encode()}


class _Telling(TrainingCallback):
    """Tells now and then which fraction of the training is done.

    Args:
        tell: a function of that fraction.
    """

    def __init__(self, tell):
        super().__init__()
        self._tell, self._next = tell, 0.0

    def on_step(self, step):
        if (now := time.monotonic()) >= self._next:
            self._next, training = now + TOLD_EVERY, self.training
            episodes = len(training.history) / training.runner.episodes
            self._tell(training.steps / training.runner.steps if training.runner.steps else episodes)


def _check_ray(address):
    """Refuse before anything is made an address that is none, and Ray that is not there."""
    from keras_dqn.ray.cluster import check_address, check_installed

    check_address(address)
    check_installed()


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
        for value in options.values():
            if hasattr(value, "get_config") and not isinstance(value, type):
                raise ValueError(
                    "The options of an experiment are numbers, texts, schedules and functions, as no object may go "
                    f"from seed to seed. Received: {value!r}"
                )
        self.game, self.recipe, self.options = game, recipe, options
        self.evaluate_every, self.stop_score = check_integer("evaluate_every", evaluate_every), stop_score
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
        self.settings = to_json(settings)

    def _runner(self, framework, seed, weight_backup):
        """A `Runner` with fresh weights."""
        agent_class = Agent
        if framework == "PyTorch":
            from keras_dqn.pytorch.agent import TorchAgent as agent_class
        settings = {"seed": seed, "weights": None, "weight_backup": weight_backup, "agent_class": agent_class}
        return self.game(recipe=self.recipe, **self.options, **settings)

    def run(self, framework, seed, folder, progress, callbacks=()):
        """Train once; the `Result`."""
        with _threads(framework):
            began = time.perf_counter()
            runner = self._runner(framework, seed, _file(folder, framework, seed, "_weight.h5"))
            for path in (runner.agent.weight_backup, runner.best_backup):
                path.unlink(missing_ok=True)  # of a training that was interrupted
            error = None
            # What has ended is kept, and one that was interrupted begins anew: no checkpoints, though a game may have
            # a folder for them, where the next seed would find those of the one before.
            unkept = {"checkpoints": False} if hasattr(runner, "checkpoint_folder") else {}
            options = {"evaluate_every": self.evaluate_every, "stop_score": self.stop_score, **unkept}
            try:
                runner.train(callbacks=callbacks, progress=progress, live=False, **options)
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
    from keras_dqn.pytorch.optimizer import one_thread

    return one_thread()
