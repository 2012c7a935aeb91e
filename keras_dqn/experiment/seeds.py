"""Experiments: one recipe trained from several seeds, in Keras or beside PyTorch, in a folder that can be gone on with.

A single training says little: another seed may take three times as long, or fail. So everything that is said about a
recipe is said over seeds, failures included, and what each seed did stays in the folder:

    settings.json                      what was asked; a folder holds the results of one set of settings
    keras_seed_0.json                  a `Result`, written when that training has ended
    keras_seed_0_weight.h5, …_best.h5  its last weights, and those of its best evaluation
    results.csv, table.md, learning_curves.png
"""

import json
import time
from contextlib import nullcontext
from pathlib import Path

import gymnasium
import numpy as np
from tqdm.auto import tqdm

from keras_dqn import __version__
from keras_dqn.agent import Agent
from keras_dqn.agent.settings import described
from keras_dqn.backend import keras, tf
from keras_dqn.checks import check_whole
from keras_dqn.experiment.report import Experiment
from keras_dqn.experiment.results import Result, _claimed, _file, _read, _steps_to_solve, _write
from keras_dqn.exploration import over_training
from keras_dqn.records.renamed import found
from keras_dqn.runner.runner import Runner

FRAMEWORKS = ("Keras", "PyTorch")


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
        folder = found(folder, training.recipe)
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
        for value in options.values():
            if hasattr(value, "get_config") and not isinstance(value, type):
                raise ValueError(
                    "The options of an experiment are numbers, texts, schedules and functions, as no object may go "
                    f"from seed to seed. Received: {value!r}"
                )
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
        self.settings = described(settings)

    def _runner(self, framework, seed, weight_backup):
        """A `Runner` with fresh weights."""
        agent_class = Agent
        if framework == "PyTorch":
            from keras_dqn.pytorch.agent import TorchAgent as agent_class
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
            # What has ended is kept, and one that was interrupted begins anew: no checkpoints, though a game may have
            # a folder for them, where the next seed would find those of the one before.
            unkept = {"checkpoints": False} if hasattr(runner, "checkpoint_folder") else {}
            options = {"evaluate_every": self.evaluate_every, "stop_score": self.stop_score, **unkept}
            try:
                runner.train(progress=progress, live=False, **options)
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
