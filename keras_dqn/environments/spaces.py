"""Spaces as Q-learning takes them: whatever an environment's own are, states are arrays and actions 0, 1, 2, …"""

from functools import reduce
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

FEWEST_CELLS = 5  # along the shorter side of what is a grid or an image
MOST_ACTIONS = 1_000
FLATTENED = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


def adapted(env: gym.Env) -> gym.Env:
    """The environment itself if its states are arrays and its actions 0, 1, 2, …; else `Adapted`."""
    states, actions = env.observation_space, env.action_space
    for space in (states, actions):
        if not isinstance(space, gym.Space):
            kind = f"{type(space).__module__}.{type(space).__name__}"
            raise ValueError(f"Spaces must be gymnasium's: `from gymnasium import spaces`. Received: {kind}")
    plain = isinstance(actions, spaces.Discrete) and actions.start == 0
    return env if plain and isinstance(states, spaces.Box) and states.shape else Adapted(env)


class Adapted(gym.Wrapper):
    """An environment whose states are arrays and whose actions are 0 to n - 1, whatever its own spaces are.

    States that are no arrays are flattened by gymnasium: one of n becomes n numbers, one of them 1, and the parts of a
    Dict or Tuple follow one another. A `MultiDiscrete` action has a number for each combination of its parts; a tuple
    of masks, one a part, becomes one of combinations. The environment gets the actions that its own space contains.

    Args:
        env: the environment.

    Raises:
        ValueError: Q-learning does not take such spaces; the message names the wrapper that helps.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self._own, self._actions = env.observation_space, _all_actions(env.action_space)
        self._flattens = not isinstance(self._own, spaces.Box) or not self._own.shape
        if self._flattens:
            _check_parts(self._own, self._own)
            self.observation_space = spaces.flatten_space(self._own)
        self.action_space = spaces.Discrete(len(self._actions))
        names = [", ".join(map(str, np.ravel(action))) for action in self._actions]
        self.action_names = None if names[0] == "0" else names  # where they are not their numbers

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._steps = 0
        began = self.env.reset(seed=seed) if options is None else self.env.reset(seed=seed, options=options)
        return self._adapted(*began) if isinstance(began, tuple) and len(began) == 2 else began  # `OneEnv` says so

    def step(self, action: int) -> tuple[Any, ...]:
        self._steps += 1
        state, *rest, info = self.env.step(self._actions[action])
        state, info = self._adapted(state, info)
        return state, *rest, info

    def _adapted(self, state, info):
        if self._flattens:
            try:
                state = spaces.flatten(self._own, state)
            except Exception as error:  # of whatever kind: what gymnasium makes of what is no part of the space
                raise ValueError(_does_not_fit(self._own, self._steps, f"{state!r}, {error!r}")) from error
        check_shape(state, self.observation_space.shape, self._own, self._steps)
        if isinstance(info.get("action_mask"), tuple) and isinstance(self.env.action_space, spaces.MultiDiscrete):
            info = {**info, "action_mask": reduce(np.logical_and.outer, info["action_mask"]).ravel()}
        return state, info


def sizes(env: gym.Env) -> tuple[int | tuple[int, ...], int]:
    """State size, or the shape of a state that is no vector, and number of actions of an adapted environment."""
    shape = env.observation_space.shape
    return shape[0] if len(shape) == 1 else shape, int(env.action_space.n)


def frame_padding(env: gym.Env) -> str | None:
    """What fills the first stacks of a `FrameStackObservation` of uint8 frames, "reset" or "zero"; None without one."""
    space, padding = env.observation_space, "padding_type"
    if space.dtype != np.uint8 or not env.has_wrapper_attr(padding) or len(space.shape) < 3:
        return None
    return padding if (padding := env.get_wrapper_attr(padding)) in ("reset", "zero") else None


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether the channels of an image of three axes are the first of them, told by the smaller end."""
    return shape[0] < shape[-1]


def shorter_side(shape: tuple[int, ...]) -> int:
    """Cells along the shorter side of a grid or image, its channels left out; 0 for other than two or three axes."""
    if len(shape) == 3:
        shape = shape[1:] if channels_first(shape) else shape[:-1]
    return min(shape) if len(shape) == 2 else 0


def check_shape(state: Any, shape: tuple[int, ...], space: gym.Space, step: int) -> None:
    """Raise a ValueError that names the space and the step of the episode, unless a state has that shape."""
    if np.shape(state) != shape:
        raise ValueError(_does_not_fit(space, step, f"an observation of shape {np.shape(state)}"))


def _does_not_fit(space, step, received):
    return f"The observation space is {_one_line(space)}. Received: {received}, in step {step} of an episode"


def _all_actions(space):
    """The actions that a space contains, in order."""
    if isinstance(space, spaces.Discrete):
        return range(int(space.start), int(space.start + space.n))
    of_box = isinstance(space, spaces.Box)
    helps = "DiscretizeAction(env, bins=5)" if of_box else "TransformAction(env, function, spaces.Discrete(n))"
    helps = f"gymnasium.wrappers.{helps} makes them"
    if isinstance(space, spaces.MultiDiscrete):
        count = np.prod(space.nvec, dtype=float)
        if count <= MOST_ACTIONS:
            parts = np.unravel_index(np.arange(int(count)), space.nvec.ravel())
            return list((np.stack(parts, 1).reshape(-1, *space.shape) + space.start).astype(space.dtype))
        helps = f"gymnasium.wrappers.TransformAction makes fewer of {count:,.0f} combinations, {MOST_ACTIONS:,} at most"
    raise ValueError(f"Q-learning needs discrete actions 0, 1, 2, …; {helps}. Received: {_one_line(space)}")


def _check_parts(space, part):
    """Raise a ValueError unless a part of a space, or all of it, is flattened to numbers that mean something."""
    if isinstance(part, spaces.Dict | spaces.Tuple):
        for inner in part.values() if isinstance(part, spaces.Dict) else part:
            _check_parts(space, inner)
        return
    helps = "gymnasium.wrappers.TransformObservation makes numbers of it, FilterObservation leaves a part of a Dict out"
    if isinstance(part, spaces.Box) and shorter_side(part.shape) >= FEWEST_CELLS:
        helps = "an image must be all of it: TransformObservation, or minigrid.wrappers.ImgObsWrapper, makes it so"
    elif isinstance(part, FLATTENED | spaces.Box):
        return
    raise ValueError(f"The observation must be arrays and numbers; {helps}. Received: {_one_line(space)}")


def _one_line(space):
    """A space as text; NumPy breaks its longer bounds into lines."""
    return " ".join(str(space).split())
