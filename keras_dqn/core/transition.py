"""What happened, step by step: the steps that environments make, and the transitions that the agent learns from."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class StepBatch(NamedTuple):
    """One step of N environments as it happened: every field has the leading axis N."""

    state: np.ndarray  # [N, *state_shape], the environment's dtype
    action: np.ndarray  # [N] int, what was done
    reward: np.ndarray  # [N] float, to learn from
    next_state: np.ndarray  # [N, *state_shape], at an episode's end its own last one
    terminal: np.ndarray  # [N] bool, nothing is bootstrapped from `next_state`: a lost life is terminal and not done
    done: np.ndarray  # [N] bool, the episode is over: a time limit is done and not terminal
    env_id: np.ndarray  # [N] int, which environment each row belongs to
    raw_reward: np.ndarray  # [N] float, what the score counts
    action_mask: np.ndarray | None = None  # [N, actions] bool, what may be done in `next_state`; None for everything
    q_values: np.ndarray | None = None  # [N, actions] float32 of `state`, from the pass that chose the actions


class Transition(NamedTuple):
    """One step of experience, or a batch of them: then every field has the same leading axes.

    `discount` takes the place of a `done` flag (as in DeepMind's dqn_zoo): 0 where the episode terminated, gamma
    (gamma^n over n steps) everywhere else, a truncated last step included. A target is then always
    `reward + discount * value`.
    """

    state: np.ndarray  # [..., *state_shape], the environment's dtype
    action: np.ndarray  # [...], int
    reward: np.ndarray  # [...], float32
    discount: np.ndarray  # [...], float32
    next_state: np.ndarray  # [..., *state_shape]
    action_mask: np.ndarray | None = None  # [..., actions] bool, what may be done in `next_state`; None for everything
    weight: np.ndarray | None = None  # [...], float32, how much each error counts; None where all count the same
    rows: np.ndarray | None = None  # [...], int, where the memory keeps it, for `Memory.update_errors`

    def each(self, function: Callable[[Any], Any]) -> "Transition":
        """What a function makes of each field that is there."""
        return Transition(*[None if field is None else function(field) for field in self])
