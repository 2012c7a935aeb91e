"""Environments by name, one or many of them, behind the one interface that the loop plays on."""

import re
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import TimeLimit

from keras_dqn.checks import check_name
from keras_dqn.environments.spaces import Adapted, adapted, check_shape

MAX_STEPS = 100_000  # of an episode that its environment does not end
INTERFACE = (
    "`reset(seed=None, options=None)` of an environment must return state, info (a dict), `step` five values: state, "
    "reward, terminated, truncated, info; docs/troubleshooting.md has a wrapper for older ones. Received: "
)


def make_env(environment: str, render_mode: str | None = None, **options: Any) -> gym.Env:
    """gymnasium's environment of that id, made with these options, and `adapted`.

    Raises:
        ValueError: it is unknown, needs what is not installed, or has spaces that Q-learning does not take.
    """
    check_known(environment)
    rendering = {} if render_mode is None else {"render_mode": render_mode}  # many own classes do not take that
    try:
        return adapted(gym.make(environment, **{**options, **rendering}))
    except TypeError as error:
        if not rendering:
            raise
        raise ValueError(f"{environment!r} cannot be rendered, nor filmed. Received: {error}") from error
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"gymnasium cannot make {environment!r}. Received: {error}") from error


def make_vector_env(environment: str | EnvSpec, num_envs: int, **options: Any) -> VectorEnv:
    """`num_envs` environments as one: gymnasium's NumPy-vectorised version where there is one, else side by side.

    Args:
        environment: gymnasium's id; or its spec, where nobody may have registered it: on other machines.
        **options: of `gymnasium.make_vec`; without a time limit, an episode is truncated after 100,000 steps.
    """
    if isinstance(environment, str):
        check_known(environment)
        environment = gym.spec(environment)
    if environment.vector_entry_point is not None:
        return gym.make_vec(environment, num_envs, "vector_entry_point", **options)
    options = {"max_episode_steps": environment.max_episode_steps or MAX_STEPS, **options}
    return gym.make_vec(environment, num_envs, "sync", wrappers=[Adapted], **options)


def limited(env: gym.Env, max_episode_steps: int | None) -> gym.Env:
    """The environment with that time limit, in the place of its own if it has one; None changes nothing."""
    if max_episode_steps is None:
        return env
    limits = [layer for layer in layers(env) if isinstance(layer, TimeLimit)]
    for layer in limits:
        layer._max_episode_steps = max_episode_steps
    return env if limits else TimeLimit(env, max_episode_steps)


def time_limit(env: gym.Env) -> float:
    """Steps after which the wrappers truncate an episode; infinite where none does."""
    return min((layer._max_episode_steps for layer in layers(env) if isinstance(layer, TimeLimit)), default=np.inf)


def check_known(environment: str) -> None:
    """Raise a ValueError unless gymnasium has an environment of that id; of Atari's games it has those by memory."""
    spec = gym.registry.get(environment)
    if spec is not None and not str(spec.entry_point).startswith("ale_py"):
        return
    from ale_py.roms import get_all_rom_ids

    words = re.sub(r"^ALE/|(NoFrameskip|Deterministic)?-v\d+$", "", environment)
    game = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", words).lower()
    if game in get_all_rom_ids():
        raise ValueError(
            f"Atari's games are played from pixels by `Breakout(game={game!r})`, or on the command line `breakout "
            f"--game {game}`. Received: {environment!r}"
        )
    check_name(environment, gym.registry, "environment")


# ---------------------------------------------------------------- the interface of vectors


def as_vector(env: gym.Env | VectorEnv, max_steps: int = MAX_STEPS) -> "OneEnv | VectorEnv":
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
        self._space = getattr(env, "observation_space", None)
        dtype = getattr(self._space, "dtype", None)
        self._dtype, self._shape = None if dtype is None else np.dtype(dtype), getattr(self._space, "shape", None)
        self.ended = False

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new episode; returns its first state, [1, *state_shape], and info."""
        self.ended, self._steps = False, 0
        try:
            began = self.env.reset(seed=seed)
        except TypeError as error:
            if "'seed'" not in str(error):
                raise
            raise ValueError(f"{INTERFACE}{error}") from error
        return self._observed(*_returned(began, "reset", 2))

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Do the action, [1] int; the step after an episode's end only begins the next one."""
        if self.ended:
            state, info = self.reset()
            return state, np.zeros(1), _FLAGS[False], _FLAGS[False], info
        made = _returned(self.env.step(actions.item()), "step", 5)
        state, reward, terminated, truncated, info = made
        self._steps += 1
        if self._steps >= self.max_steps and not (terminated or truncated):
            truncated = True
            said = f"An episode that did not end was truncated after max_steps={self.max_steps} steps"
            warnings.warn(said, RuntimeWarning, stacklevel=2)
        self.ended = terminated or truncated
        rewards = np.array([reward], float)
        if rewards.shape != (1,):
            rewards = np.array([as_scalar("reward", reward)])
        state, info = self._observed(state, info)
        return state, rewards, _FLAGS[bool(terminated)], _FLAGS[bool(truncated)], info

    def _observed(self, state, info):
        """A copy of the state in the dtype of its space, and the info, its mask too with the leading axis of 1."""
        states = np.array(state)[None]
        if self._shape is not None and states.shape[1:] != self._shape:
            check_shape(state, self._shape, self._space, self._steps)
        if self._dtype is not None and states.dtype != self._dtype:
            received = states
            with np.errstate(invalid="ignore"):
                states = received.astype(self._dtype)
            if self._dtype.kind in "iub" and not np.array_equal(states, received):
                said = f"The observation space has the dtype {self._dtype}. Received: {received.dtype}, {state}"
                raise ValueError(said)
        if "action_mask" in info:
            info = {**info, "action_mask": np.array(info["action_mask"], bool)[None]}
        return states, info


def _returned(values, function, count):
    """What `reset` or `step` returned, if that is so many values with a dict at the end."""
    several = isinstance(values, tuple | list)
    if several and len(values) == count and isinstance(values[-1], dict):
        return values
    kinds = ", ".join(type(value).__name__ for value in (values if several else [values]))
    raise ValueError(f"{INTERFACE}{kinds} from `{function}`")


class OneEpisodeEach:
    """Some environments that play one episode each, behind the vector interface: whose episode has ended rests.

    Args:
        envs: single gymnasium environments, of the same spaces.
        max_steps: as `OneEnv` has it.
    """

    def __init__(self, envs: list, max_steps: int = MAX_STEPS):
        self._envs, self.num_envs = [OneEnv(env, max_steps) for env in envs], len(envs)

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Environment i begins with seed + i."""
        seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        begun = [env.reset(seed) for env, seed in zip(self._envs, seeds, strict=True)]
        self._last = [(state, np.zeros(1), _FLAGS[False], _FLAGS[False], info) for state, info in begun]
        states, *_, info = self._together()
        return states, info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Do the actions, [N] int, of those whose episode goes on; the others' last step is there again."""
        for i, env in enumerate(self._envs):
            if not env.ended:
                self._last[i] = env.step(actions[i : i + 1])
        return self._together()

    def close(self) -> None:
        """Close them all."""
        for one in self._envs:
            one.env.close()

    def _together(self):
        *fields, infos = zip(*self._last, strict=True)
        masks = [info["action_mask"] for info in infos] if "action_mask" in infos[0] else None
        return *map(np.concatenate, fields), {} if masks is None else {"action_mask": np.concatenate(masks)}


def layers(env: gym.Env) -> Iterator[gym.Env]:
    """The wrappers around an environment, from the outermost on, and then itself."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def as_scalar(name: str, value: Any) -> float:
    """A number, or an array of one, as a float; a ValueError that names it for anything else."""
    try:
        (number,) = np.asarray(value, float).ravel().tolist()
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be one number. Received: {value!r}") from error
    return number
