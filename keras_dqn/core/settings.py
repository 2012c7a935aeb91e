"""What an agent can be told, in three small groups; every field is also a keyword of `Agent` and of the games."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from keras_dqn.checks import (
    Fraction,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_fields,
    check_fraction,
    check_integer,
)

# From states, actions, rewards and next states, [N, ...] each, to the rewards that are learned from, [N] float.
ShapeReward = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class MemorySettings:
    """What is remembered, and when there is enough of it to learn from.

    Attributes:
        memory_size: how many transitions the memory holds.
        store_frames: states are stacks of frames, [stack, height, width], of which a step adds one: store each frame
            once (see `FrameMemory`).
        frame_padding: what takes the place of frames before an episode's first, "zero" or "reset"; by default "zero".
        n_step: how many steps a transition spans.
        learning_starts: do not learn before this many steps are remembered.
        wait_for_terminal: do not learn before the first terminal transition; where reaching the end is the goal, there
            is nothing to learn from before.
        prioritized: draw transitions that had large errors more often, and weigh their errors the less
            (see `memory.prioritized.Prioritized`).
        priority_alpha: how much errors matter to that, 0 to 1; by default 0.6.
        priority_beta: how much the weights make up for it, a number from 0 to 1 or a function of the steps made; by
            default from 0.4 to 1 over the training that is asked for, or over 100,000 steps.
        rollout: learn from rollouts of so many steps, over all environments together, instead of from a memory of
            transitions: each is drawn whole and forgotten (see `RolloutMemory`); `sample_batch_size` and `memory_size`
            are then what follows from it.
        epochs: how often a rollout is gone through, in another order each time; by default 2.
        q_lambda: mixes the returns of a rollout, 0 for one-step targets (see `rollout.lambda_return`); by default 0.65.
    """

    memory_size: PositiveInt = 2000
    store_frames: bool = False
    frame_padding: str | None = None
    n_step: PositiveInt = 1
    learning_starts: NonNegativeInt = 0
    wait_for_terminal: bool = False
    prioritized: bool = False
    priority_alpha: Fraction | None = None
    priority_beta: float | Callable[[int], float] | None = None
    rollout: PositiveInt | None = None
    epochs: PositiveInt | None = None
    q_lambda: Fraction | None = None

    def __post_init__(self):
        check_fields(self)
        for name in ("epochs", "q_lambda"):
            if (value := getattr(self, name)) is not None and self.rollout is None:
                raise ValueError(f"`{name}` needs a `rollout`. Received: {name}={value}")
        for name in ("priority_alpha", "priority_beta"):
            if (value := getattr(self, name)) is not None and not self.prioritized:
                raise ValueError(f"`{name}` needs `prioritized=True`. Received: {name}={value}")
        if isinstance(self.priority_beta, int | float):
            check_fraction("priority_beta", self.priority_beta)
        if self.frame_padding is not None and not self.store_frames:
            raise ValueError(f"`frame_padding` needs `store_frames=True`. Received: {self.frame_padding!r}")
        # a memory of frames has slots that hold no step: the frames that games ended with
        room = self.memory_size // 2 if self.store_frames else self.memory_size
        if self.learning_starts > room:
            raise ValueError(
                f"`learning_starts` must be at most {room} with memory_size={self.memory_size}, or nothing would ever "
                f"be learned. Received: {self.learning_starts}"
            )


@dataclass(frozen=True)
class LearnerSettings:
    """How the network learns from what is remembered: a replay is K updates of B transitions.

    Attributes:
        gamma: discount a step.
        sample_batch_size: how many transitions one replay draws from the memory, all different: K times B.
        minibatch_size: B, the transitions a gradient update. Each sees the network as the one before left it.
        target_update: value next states with a target network, which moves to the brain every so many updates; None
            values them with the brain itself.
        tau: how far the target network moves: 1 makes it a copy ("hard"), less moves it that fraction ("soft").
        target_update_episodes: copy the brain to the target network each time so many episodes have ended, instead of
            counting updates with `target_update`.
        double: the brain picks the next action and the target network values it (double DQN).
        objective: what the outputs of the network mean and are moved towards, instead of Q-values with a `loss`: an
            `objectives.Objective` like `C51(0.0, 100.0)`, or a name: "quantile", "munchausen", and, for games that
            declare the range of their rewards, "c51".
        loss: "mse", the mean squared error of the taken actions; "huber"; "fit_mse", the first as Keras's `fit`
            computes it on whole target vectors, divided by the number of actions; or any loss of Keras. By default the
            one that the brain was compiled with, as `fit` computes it, else "fit_mse".
        learning_rate: of Adam; by default 0.001.
        optimizer: a Keras optimizer with its own clipping, its name, or a function that makes one, instead of Adam.
        learning_rate_schedule: the optimizer's learning rate as a function of the steps made, for each replay anew.
        updates_before_xla: where a replay makes one update, a plain graph makes so many of them before XLA compiles the
            function (see `Learner`): a training that is short starts sooner. In PyTorch it makes no difference.
    """

    gamma: Fraction = 0.95
    sample_batch_size: PositiveInt = 32
    minibatch_size: PositiveInt = 1
    target_update: PositiveInt | None = None
    tau: Fraction = 1.0
    target_update_episodes: PositiveInt | None = None
    double: bool = False
    objective: Any = None
    loss: Any = None
    learning_rate: PositiveFloat | None = None
    optimizer: Any = None
    learning_rate_schedule: Callable[[int], float] | None = None
    updates_before_xla: NonNegativeInt = 0

    def __post_init__(self):
        check_fields(self)
        self.minibatches()
        if self.tau == 0:
            raise ValueError(f"`tau` must be above 0 and at most 1. Received: {self.tau!r}")
        if self.target_update_episodes is not None:
            if self.target_update is not None or self.tau != 1:
                raise ValueError(
                    "`target_update_episodes` takes the place of `target_update` and `tau`. "
                    f"Received: target_update={self.target_update}, tau={self.tau}"
                )
        elif self.double and self.target_update is None:
            raise ValueError("`double` needs a target network: give `target_update`. Received: target_update=None")
        elif self.tau != 1 and self.target_update is None:
            raise ValueError(f"`tau` needs a target network: give `target_update`. Received: tau={self.tau}")
        if self.objective is not None and self.loss is not None:
            received = f"objective={self.objective!r}, loss={self.loss!r}"
            raise ValueError(f"`objective` has a loss of its own: give one of the two. Received: {received}")
        if self.learning_rate is not None and self.optimizer is not None:
            received = f"learning_rate={self.learning_rate}, optimizer={self.optimizer!r}"
            raise ValueError(f"`optimizer` has its own learning rate: give one of the two. Received: {received}")

    def minibatches(self, sample_batch_size: int | None = None) -> tuple[int, int]:
        """K and B, the shape of what one replay draws; a ValueError where B does not divide the whole."""
        count, size = self.sample_batch_size, self.minibatch_size
        if sample_batch_size is not None:
            count = check_integer("sample_batch_size", sample_batch_size)
            if count % size:
                raise ValueError(f"`sample_batch_size` must be a multiple of {size}. Received: {count}")
        elif count % size:
            helps = f"give both, like sample_batch_size={size}"
            raise ValueError(f"`minibatch_size` must divide `sample_batch_size` ({count}): {helps}. Received: {size}")
        return count // size, size


@dataclass(frozen=True)
class ExplorationSettings:
    """How often an action is random.

    Attributes:
        exploration: epsilon as a function of the steps made (see `exploration`), instead of the decay by replays.
        exploration_rate: probability of a random action, at first.
        exploration_min: the exploration rate decays while it is above this.
        exploration_decay: factor on the exploration rate after each replay.
        hold_random_actions: the most steps that a random action is held (see `exploration.HeldEpsilonGreedy`).
        mask_actions: heed the `action_mask` that some environments give: no forbidden action is taken, and targets are
            the best of those allowed.
    """

    exploration: Callable[[int], float] | None = None
    exploration_rate: Fraction = 1.0
    exploration_min: Fraction = 0.01
    exploration_decay: Fraction = 0.995
    hold_random_actions: PositiveInt = 1
    mask_actions: bool = True

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Settings:
    """All settings of an agent."""

    memory: MemorySettings = MemorySettings()
    learner: LearnerSettings = LearnerSettings()
    exploration: ExplorationSettings = ExplorationSettings()

    def __post_init__(self):
        if self.memory.rollout is not None:
            self._check_rollout()
        if self.learner.sample_batch_size > self.memory.memory_size:
            raise ValueError(
                f"`sample_batch_size` must fit into the memory ({self.memory.memory_size}). "
                f"Received: {self.learner.sample_batch_size}"
            )

    def _check_rollout(self):
        """Raise a ValueError for what has no place beside lambda-returns, which are finished when they are drawn."""
        learner, memory = self.learner, self.memory
        others = {
            "target_update": learner.target_update,
            "target_update_episodes": learner.target_update_episodes,
            "n_step": None if memory.n_step == 1 else memory.n_step,
            "store_frames": memory.store_frames or None,
            "prioritized": memory.prioritized or None,
        }
        for name, value in others.items():
            if value is not None:
                raise ValueError(f"`{name}` has no place beside the lambda-returns of a rollout. Received: {value!r}")

    def minibatches(self, sample_batch_size: int | None = None) -> tuple[int, int]:
        """K and B, the shape of what one replay draws at a time; a rollout is drawn whole."""
        if sample_batch_size is not None and self.memory.rollout is not None:
            whole = self.memory.rollout
            raise ValueError(f"`sample_batch_size` is the rollout's, {whole}. Received: {sample_batch_size}")
        return self.learner.minibatches(sample_batch_size)

    @classmethod
    def names(cls) -> list[str]:
        """The keywords of all groups."""
        return [field.name for group in cls().groups().values() for field in fields(group)]

    def groups(self) -> dict[str, Any]:
        """The three groups by name."""
        return {group.name: getattr(self, group.name) for group in fields(self)}

    def but(self, **keywords: Any) -> "Settings":
        """These settings with some replaced, by the names of the fields of their groups."""
        check_keywords("Settings", keywords, self.names())
        groups = self.groups()
        if (rollout := keywords.get("rollout", self.memory.rollout)) is not None:
            size = keywords.get("minibatch_size", self.learner.minibatch_size)
            if check_integer("rollout", rollout) % check_integer("minibatch_size", size):
                raise ValueError(f"`minibatch_size` must divide the rollout of {rollout} steps. Received: {size}")
            keywords = {**keywords, "sample_batch_size": rollout, "memory_size": rollout}
        for name, group in groups.items():
            own = {field.name for field in fields(group)} & keywords.keys()
            groups[name] = replace(group, **{key: keywords[key] for key in own})
        return Settings(**groups)

    def flat(self) -> dict[str, Any]:
        """{keyword: value} of all groups."""
        return {field.name: getattr(group, field.name) for group in self.groups().values() for field in fields(group)}


def shown_signature(*functions: Callable[..., Any]) -> inspect.Signature:
    """What `help` and completion show of a class: the arguments of these functions, then every setting of an agent."""
    shown = {}
    for function in functions:
        for one in inspect.signature(function).parameters.values():
            if one.name != "self" and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                kind = one.kind if function is functions[0] else one.KEYWORD_ONLY
                shown.setdefault(one.name, one.replace(kind=kind))
    for name, default in Settings().flat().items():
        shown.setdefault(name, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default))
    return inspect.Signature(sorted(shown.values(), key=lambda one: one.kind))


ELSEWHERE = {  # what other libraries call a setting: the words that say what it is here
    ("lr", "alpha", "step_size"): "`learning_rate`",
    ("epsilon", "eps", "epsilon_start"): "`exploration_rate`",
    ("hidden", "hidden_size", "hidden_layers", "layers", "units"): "`network`, like network=[64, 64]",
    ("model", "q_network", "net"): "`brain`",
    ("batch_size",): "`minibatch_size`, with `sample_batch_size`: minibatch_size=64, sample_batch_size=64",
    ("discount", "discount_factor"): "`gamma`",
    ("capacity", "replay_size", "max_memory", "maxlen"): "`memory_size`",
    ("update_every", "train_freq", "train_every"): "`replay_every`",
    ("max_steps", "time_limit"): "`max_episode_steps`",
}


def check_keywords(asked: str, received: Iterable[str], known: Iterable[str]) -> None:
    """Raise a TypeError that names who was asked and the nearest known name, unless all keywords are known."""
    known = sorted(known)
    for name in received:
        if name not in known:
            near = [f"`{one}`" for one in difflib.get_close_matches(name, known, n=1)]
            meant = [words for names, words in ELSEWHERE.items() if name in names and words.split("`")[1] in known]
            hint = f"the nearest is {[*meant, *near][0]}" if meant or near else f"there are {', '.join(known)}"
            raise TypeError(f"{asked} has no keyword of that name; {hint}. Received: {name}")


def to_json(value: Any) -> Any:
    """A value in the types of JSON, so that two settings can be compared: nothing that matters is left out.

    A schedule or another dataclass becomes its class and fields, an optimizer, or a function that makes one, its class
    and config, another function its name and what it closes over or was given.

    Raises:
        ValueError: it is an object that says nothing of itself.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): to_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
        return {"class": type(value).__name__, **own}
    if isinstance(value, partial):
        return {**to_json(value.func), "arguments": to_json([*value.args, value.keywords])}
    if hasattr(value, "get_config") and not isinstance(value, type):  # an optimizer, or a whole network
        try:
            config = {name: part for name, part in value.get_config().items() if name != "name"}
            return {"class": type(value).__name__, **to_json(config)}
        except (NotImplementedError, ValueError, TypeError):  # networks as people write them have none
            shapes = [tuple(one.shape) for one in getattr(value, "weights", ())]
            return {"class": type(value).__name__, "weights": to_json(shapes)}
    if hasattr(value, "__qualname__"):
        enclosed = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
        return {"function": f"{value.__module__}.{value.__qualname__}", "encloses": to_json(enclosed)}
    raise ValueError(f"Settings are numbers, texts, schedules, optimizers and functions. Received: {value!r}")
