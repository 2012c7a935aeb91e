"""Any environment whose states are numbers, or made of such, and whose actions are discrete."""

import copy
import importlib
import re
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import SyncVectorEnv, VectorEnv

from keras_dqn.core.exploration import Linear
from keras_dqn.environments.spaces import Adapted, adapted
from keras_dqn.environments.vector import check_known, layers, limited
from keras_dqn.games.recipes import FAST, PARALLEL, family
from keras_dqn.training.runner import Runner

_FAST = {**FAST, "exploration": Linear(1.0, 0.05, 10_000)}  # of the games that have one, not tuned to this


class AnyGame(Runner):
    """The runner of an environment that keras_dqn has no settings for; `game_for` makes one."""

    pretrained_recipe = "juvin"
    recipes = {
        "juvin": {},  # the Agent's own defaults
        "fast": _FAST,
        "parallel": PARALLEL,
        **family(_FAST, "c51"),
    }


class OwnGame(AnyGame):
    """The runner of an environment that is there as an object, or as a function that makes one.

    It trains in that very environment, and evaluates and films in copies of it as it is then: what a wrapper has
    learned of it, like the scale of `NormalizeObservation`, is part of them, and changes no further in them.
    """

    source = None  # the environment, or what makes one

    @cached_property
    def _own(self):
        env = self.source if isinstance(self.source, gym.Env) else type(self).source()
        if not isinstance(env, gym.Env):
            raise ValueError(f"The function must make a gymnasium environment. Received: {env!r}")
        return adapted(limited(env, self.max_episode_steps))

    @property
    def normalizer(self) -> Any:
        """The running mean and variance of `NormalizeObservation`, where the environment has that wrapper."""
        return next((layer.obs_rms for layer in _learning(self._own) if hasattr(layer, "obs_rms")), None)

    def make_env(self, render_mode: str | None = None) -> gym.Env:
        """A copy of the environment."""
        if isinstance(self.source, gym.Env) or _learning(self._own):
            env = _copy(self._own)
        else:  # another is made, which needs no copy of locks, files and sockets
            env = adapted(type(self).source())
        for layer in _learning(env):
            layer.update_running_mean = False
        if render_mode is not None and env.render_mode != render_mode:
            if render_mode not in env.metadata.get("render_modes", []):
                raise ValueError(f"{self.environment!r} cannot be rendered, nor filmed. Received: {env.metadata}")
            env.unwrapped.render_mode = render_mode
        return env

    def make_envs(self, num_envs: int) -> VectorEnv:
        """Copies of the environment, as one."""
        return self.envs_elsewhere(f"{num_envs=}")(num_envs)

    def envs_elsewhere(self, asked: str = "actors") -> Callable[[int], VectorEnv]:
        """A function of their number that makes copies of the environment, on whatever machine it is sent to."""
        for layer in _learning(self._own):
            name = type(layer).__name__
            raise ValueError(f"Each of several environments would have a {name} of its own. Received: {asked}")
        return partial(_copies, self._own)

    def training_env(self) -> gym.Env | VectorEnv:
        """The environment itself, which stays open, or copies of it."""
        return _Open(self._own) if self.num_envs == 1 else super().training_env()


def _learning(env):
    """The wrappers of an environment that learn something of it."""
    return [layer for layer in layers(env) if hasattr(layer, "update_running_mean")]


def _copy(env):
    try:
        return copy.deepcopy(env)
    except Exception as error:  # whatever its author keeps in it
        raise ValueError(f"The environment cannot be copied to evaluate in. Received: {error!r}") from error


def _copies(env, num_envs):
    env = env if isinstance(env, Adapted) else Adapted(env)
    return SyncVectorEnv([partial(_copy, env) for _ in range(num_envs)])


class _Open(gym.Wrapper):
    """An environment that its owner closes."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=seed)  # many take no options, and nobody here gives any

    def close(self):
        pass


def game_for(environment: Any, **options: Any) -> type[Runner]:
    """The `Runner` class for an environment.

    Its files are named after the environment, and it counts as solved at gymnasium's `reward_threshold`, if it has one.

    Args:
        environment: gymnasium's id, like "Acrobot-v1"; "module:MyGame-v0" imports the module that registers it first.
            Or an environment, with its wrappers; or a class or function that makes one.
        **options: of `gymnasium.make`, with an id: `game_for("FrozenLake-v1", is_slippery=False)`.

    Raises:
        ValueError: there is no environment of that id; the message names the nearest.
        ImportError: there is no such module, or it cannot be imported.

    Example:
        acrobot = game_for("Acrobot-v1")(300, recipe="fast")
        acrobot.train()
    """
    if isinstance(environment, str):
        module, _, environment = environment.rpartition(":")
        if module:
            _import(module)
        check_known(environment)
        return _game(AnyGame, gym.spec(environment), environment, environment_options=options)
    if options or isinstance(environment, VectorEnv) or not (isinstance(environment, gym.Env) or callable(environment)):
        received = f"{environment!r}" + (f" with {options}" if options else "")
        raise ValueError(f"A game is for an id, one environment, or a function that makes one. Received: {received}")
    if not isinstance(environment, gym.Env):
        name = getattr(environment, "__name__", type(environment).__name__)
        return _game(OwnGame, None, name, source=staticmethod(environment))
    spec = environment.spec
    name = type(environment.unwrapped).__name__ if spec is None else spec.id
    return _game(OwnGame, spec, name, source=environment)


def _import(module):
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # it runs, and may raise anything
        raise ImportError(f"The module {module!r} cannot be imported. Received: {error!r}") from error


def _game(base, spec, environment, **members):
    """A class of runners that is named after its environment."""
    name = re.sub(r"[^\w.-]+", "_", environment)  # "ALE/Pong-v5" is no file name
    threshold = None if spec is None else spec.reward_threshold
    return type(name, (base,), {"name": name, "environment": environment, "solved_score": threshold, **members})
