"""What games and `train` can be told; every field is a keyword in Python and an option of `keras-dqn train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_dqn.checks import PositiveFloat, PositiveInt, check_fields


@dataclass(frozen=True)
class GameSettings:
    """What a game is told beside the settings of its agent.

    Attributes:
        network: options of `mlp`, like {"hidden": (64, 64), "activation": "tanh"}, or a function that makes it.
        replay_every: learn every so many steps, or after each "episode".
        num_envs: how many environments play at once.
        max_episode_steps: after so many an episode is truncated, instead of where its environment has its time limit.
        shape_reward: rewards to learn from instead of the true ones: a function; typed, "module:name".
    """

    network: Any = None
    replay_every: Any = None
    num_envs: PositiveInt | None = None
    max_episode_steps: PositiveInt | None = None
    shape_reward: Any = None


@dataclass(frozen=True)
class TrainSettings:
    """What happens beside learning: what is shown, evaluated and kept, and where the games are played.

    Attributes:
        verbose: print "Episode i# Score: n" after each episode.
        progress: show a bar with the score, the mean of the last 100 episodes and epsilon.
        live: draw the learning curve as it grows, one figure drawn again in its place; by default in notebooks.
        record_every: film every so many episodes into the folder for films.
        evaluate_every: every so many steps, and after the last, play 100 greedy episodes, and keep the weights that did
            best in a file beside the last ones; see `callbacks.KeepBest`.
        stop_score: end the training once such an evaluation has this mean.
        evaluate_max_episode_steps: after so many steps an episode of such an evaluation is truncated: more than in
            training tell apart weights that all last to its limit.
        checkpoints: the folder for a log and checkpoints, or a `Checkpoints` with its own settings: one every few
            minutes, and one when training ends or is interrupted.
        resume: go on from the newest checkpoint, with new episodes; steps and episodes count what was done before.
        tensorboard: a folder that the numbers of the log go to as well.
        learning_rate: of the optimizer from here on, instead of its own or the checkpoint's: a training that no longer
            gets better often does with less.
        actors: so many actors of Ray play, and this process learns.
        ray: where they play: "auto" for the cluster that this shell belongs to, or else all cores of this machine; or
            its host:port.
        in_order: take what they play in turns, so that a training can be repeated.
        ahead: how many chunks an actor is asked for at most.
    """

    verbose: bool = False
    progress: bool = True
    live: bool | None = None
    record_every: PositiveInt | None = None
    evaluate_every: PositiveInt | None = None
    stop_score: float | None = None
    evaluate_max_episode_steps: PositiveInt | None = None
    checkpoints: Any = None
    resume: bool = False
    tensorboard: str | Path | None = None
    learning_rate: PositiveFloat | None = None
    actors: PositiveInt | None = None
    ray: str | None = None
    in_order: bool = False
    ahead: PositiveInt = 2

    def __post_init__(self):
        check_fields(self)
        for name in ("stop_score", "evaluate_max_episode_steps"):
            if (value := getattr(self, name)) is not None and self.evaluate_every is None:
                raise ValueError(f"`{name}` needs `evaluate_every`. Received: {name}={value!r}")
        if self.resume and self.checkpoints is None:
            raise ValueError(f"`resume` needs `checkpoints`. Received: resume={self.resume!r}")
        for name, usual in (("ray", None), ("in_order", False), ("ahead", 2)):
            if self.actors is None and getattr(self, name) != usual:
                raise ValueError(f"`{name}` needs `actors`. Received: {name}={getattr(self, name)!r}")
        if self.actors is not None and self.record_every is not None:
            raise ValueError(f"`record_every` films an environment that is here. Received: actors={self.actors}")
