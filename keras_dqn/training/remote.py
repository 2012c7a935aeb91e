"""A training whose games are played by actors on Ray: what they are sent, and what is written down of them."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from keras_dqn.environments.vector import make_elsewhere
from keras_dqn.ray.fleet import Fleet
from keras_dqn.ray.forward import forward_of
from keras_dqn.training.callbacks import TrainingCallback
from keras_dqn.training.log import LOG_EVERY, TrainingLog

if TYPE_CHECKING:
    from keras_dqn.core.loop import TrainStep
    from keras_dqn.training.runner import Runner


def fleet_of(runner: "Runner", actors: int, ray: str | None = None, in_order: bool = False, ahead: int = 2) -> Fleet:
    """The actors that play a runner's games; see `Fleet`, whose errors it raises.

    Training is then not the same from run to run, and never to the last bit what it is without actors.

    Args:
        actors: how many; together they play as many games as the runner has environments, or one each.
        ray: where they are: "auto", by default, or the address of a cluster; see `ray.cluster.check_address`.
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
    return partial(make_elsewhere, spec, max_steps=runner.max_steps, **runner.environment_options)


class ActorsLog(TrainingLog):
    """Appends a row every so many steps of how the actors do: `actors.csv`, beside the log of the training.

    The columns: `steps`, `updates`, `actors` (alive), `lost` (so far), `weights_age` (updates between the weights that
    acted and those that learn, of the newest chunk), and since the row before `steps_per_second` and
    `bytes_per_second` that came in, and `updates_per_second`; `seconds` of training.

    Args:
        fleet: the `Fleet`.
        path: of the file.
        every: steps from row to row.
    """

    def __init__(self, fleet: Fleet, path: str | Path, every: int = LOG_EVERY):
        super().__init__(path, every)
        self._fleet = fleet

    def begin(self, steps: int, seconds: float) -> None:
        super().begin(steps, seconds)
        self._before = 0, 0, None, seconds  # steps, bytes, updates and seconds; nobody has said how many updates

    def _columns(self):
        rates = ["steps_per_second", "bytes_per_second", "updates_per_second", "seconds"]
        return ["steps", "updates", "actors", "lost", "weights_age", *rates]

    def _row(self, steps, agent, history):
        fleet, updates, seconds = self._fleet, agent.learner.updates, self.seconds
        now = fleet.totals["steps"], fleet.totals["bytes"], updates, seconds
        before = [new if old is None else old for new, old in zip(now, self._before, strict=True)]
        passed = max(seconds - before[3], 1e-9)
        rates = [float(f"{(new - old) / passed:.6g}") for new, old in zip(now[:3], before[:3], strict=True)]
        self._before = now
        row = steps, updates, fleet.alive, fleet.lost, fleet.age, *rates, round(seconds, 3)
        return dict(zip(self._columns(), row, strict=True))


class WatchActors(TrainingCallback):
    """Writes the `ActorsLog` of a training.

    Args:
        log: it.
        seconds: of training before this part of it.
    """

    def __init__(self, log: ActorsLog, seconds: float):
        super().__init__()
        self._log, self._seconds = log, seconds

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._log.begin(self.training.steps, self._seconds)

    def on_step(self, step: "TrainStep") -> None:
        self._log.hear(self.training.steps, None, self.training.agent, None)

    def close(self, error: type | None) -> None:
        self._log.write()
