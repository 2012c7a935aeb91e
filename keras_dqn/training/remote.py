"""A training whose games are played by actors on Ray: what they are sent, and what is written down of them."""

import csv
import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
from tqdm.auto import tqdm

from keras_dqn.core.counting import Every
from keras_dqn.core.loop import TrainStep
from keras_dqn.environments.vector import make_vector_env
from keras_dqn.ray.actors import forward_of
from keras_dqn.ray.fleet import Fleet
from keras_dqn.training.callbacks import TrainingCallback

COLUMNS = ["steps", "updates", "actors", "lost", "weights_age"]
COLUMNS += [f"{counted}_per_second" for counted in ("steps", "bytes", "updates")]


def fleet_of(runner: Any, actors: int, ray: str | None = None, in_order: bool = False, ahead: int = 2) -> Fleet:
    """The actors that play a runner's games; see `Fleet`, whose errors it raises.

    Training is then not the same from run to run, and never to the last bit what it is without actors.

    Args:
        runner: the `Runner`.
        actors: how many; together they play as many games as the runner has environments, or one each.
        ray: where they are: "auto", by default, or the address of a cluster; see `ray.cluster.ray_for`.
        in_order: take what they play in turns, so that a training can be repeated; the slowest then sets the pace.
        ahead: how many chunks an actor is asked for at most; with 1 it waits until its last was learned from.
    """
    agent, exploration = runner.agent, runner.agent.settings.exploration
    return Fleet(
        _envs(runner),
        forward_of(agent.learner.keras_model()),
        runner.num_envs,
        actors,
        "auto" if ray is None else ray,
        agent.settings.memory.rollout,
        in_order,
        ahead,
        action_size=agent.action_size,
        hold=exploration.hold_random_actions,
        masked=exploration.mask_actions,
        stack=agent.state_shape[0] if len(agent.state_shape) > 1 else None,
    )


def _envs(runner):
    """A function of their number that makes several environments, on whatever machine it is sent to."""
    if hasattr(runner, "envs_elsewhere"):
        return runner.envs_elsewhere()
    spec = gym.spec(runner.environment)
    return partial(make_vector_env, spec, max_steps=runner.max_steps, **runner.environment_options)


class ActorsLog(TrainingCallback):
    """Appends a row every so many steps of how the actors do: `actors.csv`, beside the log of the training.

    A row that cannot be written, on a full disk, is left out; one line says so.

    Args:
        fleet: the `Fleet`.
        path: of the file.
        every: steps from row to row.
    """

    def __init__(self, fleet: Fleet, path: str | Path, every: int = 10_000):
        super().__init__()
        self._fleet, self._path, self._every, self._failed = fleet, Path(path), every, False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._due, self._before = Every(self._every, self.training.steps), self._counted()

    def on_step(self, step: TrainStep) -> None:
        if self._due(self.training.steps):
            now, fleet = self._counted(), self._fleet
            *counts, seconds = (new - old for new, old in zip(now, self._before, strict=True))
            rates = [f"{count / max(seconds, 1e-9):.6g}" for count in counts]
            self._before = now
            self._append([self.training.steps, now[2], fleet.alive, fleet.lost, fleet.age, *rates])

    def _counted(self):
        """Steps and bytes that came in, updates that were made, and when."""
        return self._fleet.steps, self._fleet.bytes, self.training.agent.learner.updates, time.perf_counter()

    def _append(self, row):
        try:
            with open(self._path, "a", newline="") as file:
                csv.writer(file).writerows([row] if file.tell() else [COLUMNS, row])
        except OSError as error:
            if not self._failed:
                tqdm.write(f"{self._path}: rows cannot be written. Received: {error}")
            self._failed = True
