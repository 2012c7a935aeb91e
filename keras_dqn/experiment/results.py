"""What one training of an experiment came to, and the files that keep it."""

import json
import math
from typing import NamedTuple

import numpy as np

from keras_dqn.files.atomic import atomic_write
from keras_dqn.training.renamed import same_recipe


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
    error: str | None  # why training broke off: a number was not finite, or, on Ray, whatever it raised

    episodes = property(lambda self: len(self.scores))
    steps_per_second = property(lambda self: self.steps / self.seconds if self.seconds else math.nan)
    came_to_something = property(lambda self: not math.isnan(self.score))  # False where it raised


def raised(framework: str, seed: int, error: str) -> Result:
    """The `Result` of a training that raised, or whose machines died: its error, and no numbers."""
    return Result(framework, seed, math.nan, math.nan, 0, None, 0.0, 0.0, [], [], [], error)


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
    if same_recipe(there.get("recipe"), asked["recipe"]):
        there["recipe"] = asked["recipe"]
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
