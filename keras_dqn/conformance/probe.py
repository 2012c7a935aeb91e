"""What all probes have in common: a table of outcomes, played as a gymnasium environment, and its exact answers."""

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

GAMMA = 0.8  # the discount that every exact value is for
TERMINATED, TRUNCATED = "terminated", "truncated"


class Outcome(NamedTuple):
    """What may follow an action."""

    reward: float
    next_state: str
    end: str | None = None  # how the episode ends with it: `TERMINATED`, `TRUNCATED`, or not
    probability: float = 1.0


def always(*outcomes: Outcome) -> list[list[Outcome]]:
    """The outcomes of two actions that are the same."""
    return [list(outcomes)] * 2


class Probe(gym.Env):
    """An environment with so few states that its Q-values are known exactly.

    It can be trained with any policy that tries all actions: what follows a state's first action depends on no later
    one, so n-step returns are exact too. Train with discount `GAMMA` for `steps` steps, all actions at random unless
    `greedy_after` says otherwise.

    Attributes:
        id: gymnasium's.
        start: {state: probability} of an episode's first state.
        moves: {state: outcomes of each action}.
        observations: {state: what the agent sees of it}; two states may look the same.
        allowed: {state: the actions that its mask allows}; where a state is missing, all are.
        exact: {observation: the Q-value of each action}.
        marks: {mistake: the Q-values it leads to}, beside the mistakes that every probe is checked for (`mistakes`).
        bound: None, or what the mean of the Q-values must not exceed, which is then all that is judged.
        distributions: {observation: for each action {return: its probability}}, where these are judged too.
        tolerance: the largest error of a Q-value, as a part of the largest exact one.
        steps, memory, target_every: how many steps to train on and to remember, and after how many to copy the weights
            to a target network.
        update_every, learning_rate: after how many steps there should be an update of 32 transitions, and Adam's rate.
        greedy_after: None, or how many steps epsilon takes to fall from 1 to 0 in a straight line.
        seen: the actions of all environments of this class since it was last judged.
    """

    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    start: dict[str, float] = {"A": 1.0}
    moves: dict[str, list[list[Outcome]]]
    observations: dict[str, tuple] = {"A": (1, 0), "B": (0, 1)}
    allowed: dict[str, list[int]] = {}
    exact: dict[tuple, list[float]]
    marks: dict[str, dict[tuple, list[float]]] = {}
    bound: float | None = None
    distributions: dict[tuple, list[dict[float, float]]] = {}
    tolerance = 0.1
    steps, memory, target_every = 1200, 1200, 20
    update_every, learning_rate = 2, 2e-3
    greedy_after: int | None = None
    seen: list[int]

    def __init_subclass__(cls):
        cls.seen, cls.id = [], f"keras_dqn/Probe{cls.__name__}-v0"

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = str(self.np_random.choice(list(self.start), p=list(self.start.values())))
        return self.observe(), self.info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.seen.append(int(action))
        outcomes = self.moves[self.state][int(action)]
        chosen = outcomes[self.np_random.choice(len(outcomes), p=[one.probability for one in outcomes])]
        self.state = chosen.next_state
        ends = chosen.end == TERMINATED, chosen.end == TRUNCATED
        return self.observe(), float(chosen.reward), *ends, self.info()

    @classmethod
    @classmethod
    def actions_in(cls, state: str) -> list[int]:
        """The actions that may be taken in a state."""
        return cls.allowed.get(state, list(range(int(cls.action_space.n))))

    def observe(self) -> np.ndarray:
        """What the agent sees."""
        return np.array(self.observations[self.state], self.observation_space.dtype)

    def info(self) -> dict[str, Any]:
        """The action mask, where there is one."""
        if not self.allowed:
            return {}
        return {"action_mask": np.isin(np.arange(self.action_space.n), self.actions_in(self.state)).astype(np.int8)}

    @classmethod
    def states(cls) -> np.ndarray:
        """The observations that are judged, [N, *shape], in the order of `exact`."""
        return np.array(list(cls.exact), cls.observation_space.dtype)

    @classmethod
    def exact_values(cls) -> np.ndarray:
        """Their exact Q-values, [N, actions]."""
        return np.array(list(cls.exact.values()), float)

    @classmethod
    def distance(cls, values: np.ndarray, others: np.ndarray | None = None) -> float:
        """The largest difference from the exact Q-values, or others, as a part of the largest exact one."""
        exact = cls.exact_values()
        others = exact if others is None else others
        unlearned = np.isnan(values)  # is about 0 where nothing is learned, else anything
        apart = np.where(unlearned, np.abs(others) * unlearned.all(), np.abs(others - values))
        return float(apart.max() / np.abs(exact).max())
