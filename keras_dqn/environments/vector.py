"""Environments by name, one or many of them, behind the one interface that the loop plays on."""

import difflib
import re
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import FlattenObservation, TimeLimit

MAX_STEPS = 100_000  # of an episode that its environment does not end
OLD_INTERFACE = (
    "The environment has the interface of gym before 0.26: shimmy's GymV26CompatibilityV0 or GymV21CompatibilityV0 "
    "makes one of today's of it (pip install shimmy). Received: "
)


def make_env(environment: str, render_mode: str | None = None, **options: Any) -> gym.Env:
    """gymnasium's environment of that id, made with these options; a state that is one of n becomes n numbers.

    Raises:
        ValueError: it is unknown or needs what is not installed.
    """
    check_known(environment)
    rendering = {} if render_mode is None else {"render_mode": render_mode}  # many own classes do not take that
    try:
        return one_hot(gym.make(environment, **{**options, **rendering}))
    except TypeError as error:
        if not rendering:
            raise
        raise ValueError(f"{environment!r} cannot be rendered, nor filmed. Received: {error}") from error
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"gymnasium cannot make {environment!r}. Received: {error}") from error


def one_hot(env: gym.Env) -> gym.Env:
    """The environment, its states as vectors of zeros and a one where they are one of n (FrozenLake, Taxi)."""
    return FlattenObservation(env) if isinstance(env.observation_space, gym.spaces.Discrete) else env


def check_known(environment: str) -> None:
    """Raise a ValueError that names the nearest known ones unless gymnasium has an environment of that id."""
    is_known = environment in gym.registry
    if is_known and not str(gym.registry[environment].entry_point).startswith("ale_py"):
        return
    game = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", re.sub(r"^ALE/|(NoFrameskip|Deterministic)?-v\d+$", "", environment))
    if game.lower() in _atari_games():
        name = game.lower()
        raise ValueError(
            f"Atari's games are played from pixels by `Breakout(game={name!r})`, or on the command line `breakout "
            f"--game {name}`. Received: {environment!r}"
        )
    if is_known:  # of Atari's games, by their memory
        return
    near = difflib.get_close_matches(environment, gym.registry, n=3, cutoff=0.3)
    raise ValueError(f"There is no environment of that name; the nearest are {near}. Received: {environment!r}")


def _atari_games():
    import ale_py

    return ale_py.roms.get_all_rom_ids()


def make_vector_env(environment: str, num_envs: int, max_steps: int = MAX_STEPS, **options: Any) -> VectorEnv:
    """`num_envs` environments as one: gymnasium's NumPy-vectorised version where there is one, else side by side."""
    check_known(environment)
    spec = gym.spec(environment)
    if spec.vector_entry_point is not None:
        return gym.make_vec(environment, num_envs, "vector_entry_point", **options)
    wrappers = [one_hot]
    if spec.max_episode_steps is None:
        wrappers.append(partial(TimeLimit, max_episode_steps=max_steps))
    return gym.make_vec(environment, num_envs, "sync", wrappers=wrappers, **options)


def make_elsewhere(spec: Any, num_envs: int, max_steps: int = MAX_STEPS, **options: Any) -> VectorEnv:
    """As `make_vector_env`, from gymnasium's spec, where nobody may have registered it: on other machines."""
    gym.registry.setdefault(spec.id, spec)
    return make_vector_env(spec.id, num_envs, max_steps, **options)


def sizes(env: gym.Env) -> tuple[int | tuple[int, ...], int]:
    """State size (or shape of a stack of frames) and number of actions of an environment.

    Raises:
        ValueError: it is none for Q-learning on state vectors; the message names the wrapper that helps.
    """
    states, actions = env.observation_space, env.action_space
    if getattr(env, "stacks_frames", False):  # as `atari.AtariGame` does
        return states.shape, int(actions.n)
    if not isinstance(actions, gym.spaces.Discrete) or actions.start != 0:
        raise ValueError(f"Q-learning needs discrete actions 0, 1, 2, … Received: {_one_line(actions)}")
    if not isinstance(states, gym.spaces.Box) or len(states.shape) != 1:
        helps = "gymnasium.wrappers.FlattenObservation makes one of it"
        if isinstance(states, gym.spaces.Box) and len(states.shape) == 3:
            helps += "; Atari's games are played from their pixels by `Breakout(game=…)`"
        raise ValueError(f"The observation must be a vector of numbers; {helps}. Received: {_one_line(states)}")
    return states.shape[0], int(actions.n)


def _one_line(space):
    """A space as text; NumPy breaks its longer bounds into lines."""
    return " ".join(str(space).split())


_FLAGS = np.array([[False], [True]])  # made once: an array of one flag costs as much as copying a state
_FLAGS.flags.writeable = False
_FLAGS = tuple(_FLAGS)


class OneEnv:
    """A single gymnasium environment behind the vector interface, in NEXT_STEP mode: arrays with a leading axis of 1.

    gymnasium's own SyncVectorEnv would add three times the cost of a CartPole step. Observations are copied, since some
    environments return one array again and again, and have the dtype of the observation space.

    Args:
        env: the environment.
        max_steps: an episode that does not end by itself is truncated after so many; that is warned of once.
    """

    num_envs = 1

    def __init__(self, env: gym.Env, max_steps: int = MAX_STEPS):
        self.env, self.max_steps = env, max_steps
        self._dtype = _dtype(env)
        self._ended = False

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new episode; returns its first state, [1, *state_shape], and info."""
        self._ended, self._steps = False, 0
        state, info = checked_reset(self.env, seed)
        return _as_observed(state, self._dtype)[None], _with_mask(info)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Do the action, [1] int; the step after an episode's end only begins the next one."""
        if self._ended:
            state, info = self.reset()
            return state, np.zeros(1), _FLAGS[False], _FLAGS[False], info
        state, reward, terminated, truncated, info = checked_step(self.env, actions.item())
        self._steps += 1
        if self._steps >= self.max_steps and not terminated:
            truncated = truncated or _limit(self.max_steps)
        self._ended = terminated or truncated
        rewards = np.array([reward], float)
        if rewards.shape != (1,):
            rewards = np.array([as_scalar("reward", reward)], float)
        return (
            _as_observed(state, self._dtype)[None],
            rewards,
            _FLAGS[bool(terminated)],
            _FLAGS[bool(truncated)],
            _with_mask(info),
        )


class OneEpisodeEach:
    """Some environments that play one episode each, behind the vector interface: whose episode has ended rests.

    Args:
        envs: single gymnasium environments, of the same spaces.
        max_steps: as `OneEnv` has it.
    """

    def __init__(self, envs: list, max_steps: int = MAX_STEPS):
        self.envs, self.num_envs, self.max_steps = envs, len(envs), max_steps
        self._dtype = _dtype(envs[0])

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Environment i begins with seed + i."""
        self._playing, self._steps = list(range(self.num_envs)), 0
        seeds = [None if seed is None else seed + i for i in self._playing]
        begins = [checked_reset(env, one) for env, one in zip(self.envs, seeds, strict=True)]
        self._states = np.array([state for state, _ in begins], self._dtype)
        self._masks = np.array([info["action_mask"] for _, info in begins], bool) if _has_mask(begins[0][1]) else None
        self._terminated, self._truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        return self._states, self._info()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Do the actions, [N] int, of those whose episode goes on; of the others nothing changes."""
        states, rewards, actions = self._states.copy(), np.zeros(self.num_envs), actions.tolist()
        self._steps += 1
        for i in self._playing:
            states[i], reward, self._terminated[i], self._truncated[i], info = checked_step(self.envs[i], actions[i])
            rewards[i] = reward if isinstance(reward, float) else as_scalar("reward", reward)
            if self._masks is not None:
                self._masks[i] = info["action_mask"]
        if self._steps >= self.max_steps:
            self._truncated[self._playing] = ~self._terminated[self._playing]
            if self._truncated[self._playing].any():
                _limit(self.max_steps)
        self._playing = [i for i in self._playing if not (self._terminated[i] or self._truncated[i])]
        self._states = states
        return states, rewards, self._terminated.copy(), self._truncated.copy(), self._info()

    def close(self) -> None:
        """Close them all."""
        for env in self.envs:
            env.close()

    def _info(self):
        return {} if self._masks is None else {"action_mask": self._masks.copy()}


def as_vector(env: gym.Env | VectorEnv, max_steps: int = MAX_STEPS) -> OneEnv | VectorEnv:
    """A vector of environments in NEXT_STEP mode: `env` itself if it is one, or a vector of that single one.

    Args:
        max_steps: of a single environment, as `OneEnv` has it.
    """
    if not isinstance(env, VectorEnv):
        return OneEnv(env, max_steps)
    mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.NEXT_STEP:
        raise ValueError(f"A vector environment must have autoreset mode NEXT_STEP. Received: {mode}")
    return env


def layers(env: gym.Env) -> Iterator[gym.Env]:
    """The wrappers around an environment, from the outermost on, and then itself."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def checked_reset(env: gym.Env, seed: int | None) -> tuple[Any, dict[str, Any]]:
    """What `env.reset(seed=seed)` returns, a state and info; a ValueError where it has the interface of old."""
    try:
        began = env.reset(seed=seed)
    except TypeError as error:
        if "'seed'" not in str(error):
            raise
        raise ValueError(f"{OLD_INTERFACE}{error}") from error
    if not (isinstance(began, tuple) and len(began) == 2 and isinstance(began[1], dict)):
        raise ValueError(f"{OLD_INTERFACE}{type(began).__name__} from `reset`, not a state and a dict")
    return began


def checked_step(env: gym.Env, action: Any) -> tuple[Any, ...]:
    """What `env.step(action)` returns: five values; a ValueError where it has the interface of old."""
    made = env.step(action)
    if len(made) != 5:
        raise ValueError(f"{OLD_INTERFACE}{len(made)} values from `step`, not 5")
    return made


def as_scalar(name: str, value: Any) -> float:
    """A number, or an array of one, as a float; a ValueError that names it for anything else."""
    try:
        (number,) = np.asarray(value, float).ravel().tolist()
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be one number. Received: {value!r}") from error
    return number


def _as_observed(state, dtype):
    """A copy of an observation, in the dtype of its space; a ValueError where its numbers do not fit into that."""
    observed = np.array(state)
    if dtype is None or observed.dtype == dtype:
        return observed
    with np.errstate(invalid="ignore"):
        cast = observed.astype(dtype)
    if np.dtype(dtype).kind in "iub" and not np.array_equal(cast, observed):
        raise ValueError(f"The observation space has the dtype {np.dtype(dtype)}. Received: {observed.dtype}, {state}")
    return cast


def _dtype(env):
    """The dtype of an environment's observations, where it says so."""
    return getattr(getattr(env, "observation_space", None), "dtype", None)


def _has_mask(info):
    return "action_mask" in info


def _with_mask(info):
    """The info of one environment, its action mask, if there is one, with the leading axis of 1."""
    return {**info, "action_mask": np.array(info["action_mask"], bool)[None]} if "action_mask" in info else info


def _limit(max_steps):
    """Say that an episode was ended from outside."""
    warnings.warn(
        f"An episode that did not end was truncated after max_steps={max_steps} steps", RuntimeWarning, stacklevel=3
    )
    return True
