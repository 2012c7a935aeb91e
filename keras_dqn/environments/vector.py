"""Environments by name, one or many of them, behind the one interface that the loop plays on."""

import difflib

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv


def make_env(environment, render_mode=None):
    """gymnasium's environment of that id; a ValueError where it is unknown or needs what is not installed."""
    check_known(environment)
    rendering = {} if render_mode is None else {"render_mode": render_mode}  # many own classes do not take that
    try:
        return gym.make(environment, **rendering)
    except TypeError as error:
        if not rendering:
            raise
        raise ValueError(f"{environment!r} cannot be rendered, nor filmed. Received: {error}") from error
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"gymnasium cannot make {environment!r}. Received: {error}") from error


def check_known(environment):
    """Raise a ValueError that names the nearest known ones unless gymnasium has an environment of that id."""
    if environment not in gym.registry:
        near = difflib.get_close_matches(environment, gym.registry, n=3, cutoff=0.3)
        raise ValueError(f"There is no environment of that name; the nearest are {near}. Received: {environment!r}")


def make_vector_env(environment, num_envs):
    """`num_envs` environments as one: gymnasium's NumPy-vectorised version where there is one, else side by side."""
    vectorised = gym.spec(environment).vector_entry_point is not None
    return gym.make_vec(environment, num_envs, "vector_entry_point" if vectorised else "sync")


def sizes(env):
    """State size (or shape of a stack of frames) and number of actions of an environment.

    Raises:
        ValueError: it is none for Q-learning on state vectors.
    """
    states, actions = env.observation_space, env.action_space
    if getattr(env, "stacks_frames", False):  # as `atari.AtariGame` does
        return states.shape, int(actions.n)
    if not isinstance(actions, gym.spaces.Discrete) or actions.start != 0:
        raise ValueError(f"Q-learning needs discrete actions 0, 1, 2, … Received: {_one_line(actions)}")
    if not isinstance(states, gym.spaces.Box) or len(states.shape) != 1:
        raise ValueError(f"The observation must be a vector of numbers. Received: {_one_line(states)}")
    return states.shape[0], int(actions.n)


def _one_line(space):
    """A space as text; NumPy breaks its longer bounds into lines."""
    return " ".join(str(space).split())


_FLAGS = np.array([[False], [True]])  # made once: an array of one flag costs as much as copying a state
_FLAGS.flags.writeable = False
_FLAGS = tuple(_FLAGS)


class OneEnv:
    """A single gymnasium environment behind the vector interface, in NEXT_STEP mode: arrays with a leading axis of 1.

    gymnasium's own SyncVectorEnv would add three times the cost of a CartPole step.
    """

    num_envs = 1

    def __init__(self, env):
        self.env = env
        self._ended = False

    def reset(self, seed=None):
        self._ended = False
        state, info = self.env.reset(seed=seed)
        return np.asarray(state)[None], info

    def step(self, actions):
        if self._ended:
            state, info = self.reset()
            return state, np.zeros(1), _FLAGS[False], _FLAGS[False], info
        state, reward, terminated, truncated, info = self.env.step(actions.item())
        self._ended = terminated or truncated
        rewards = np.array([reward], float)
        return np.asarray(state)[None], rewards, _FLAGS[bool(terminated)], _FLAGS[bool(truncated)], info


class OneEpisodeEach:
    """Some environments that play one episode each, behind the vector interface: whose episode has ended rests.

    Args:
        envs: single gymnasium environments, of the same spaces.
    """

    def __init__(self, envs):
        self.envs, self.num_envs = envs, len(envs)

    def reset(self, seed=None):
        """Environment i begins with seed + i."""
        self._playing = list(range(self.num_envs))
        seeds = [None if seed is None else seed + i for i in self._playing]
        self._states = np.stack([env.reset(seed=one)[0] for env, one in zip(self.envs, seeds, strict=True)])
        self._ended, self._truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        return self._states, {}

    def step(self, actions):
        states, rewards = self._states.copy(), np.zeros(self.num_envs)
        actions = actions.tolist()
        for i in self._playing:
            states[i], rewards[i], self._ended[i], self._truncated[i], _ = self.envs[i].step(actions[i])
        self._playing = [i for i in self._playing if not (self._ended[i] or self._truncated[i])]
        self._states = states
        return states, rewards, self._ended.copy(), self._truncated.copy(), {}

    def close(self):
        for env in self.envs:
            env.close()


def as_vector(env):
    """A vector of environments in NEXT_STEP mode: `env` itself if it is one, or a vector of that single one."""
    if not isinstance(env, VectorEnv):
        return OneEnv(env)
    mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.NEXT_STEP:
        raise ValueError(f"A vector environment must have autoreset mode NEXT_STEP. Received: {mode}")
    return env
