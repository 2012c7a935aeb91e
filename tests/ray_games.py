"""Environments for the tests of actors: what each step was can be read off its states; some have a fault."""

import time
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv


class Counting(gym.Env):
    """A state is (the number of the episode, how many steps it has had, a second number); an episode has 5 to 15 steps,
    as its number says. One number of a float32 alone would be drawn twice now and then.

    Args:
        fault: a folder; the first environment that comes to its 40th step there raises, or hangs, once.
        hangs: whether it hangs.
        always: whether every environment does so, at its 10th step.
    """

    observation_space = gym.spaces.Box(0, 2**24, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, fault=None, hangs=False, always=False):
        self.fault, self.hangs, self.always, self.made = fault, hangs, always, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        (self.number, self.second), self.steps = self.np_random.integers(2**24, size=2).tolist(), 0
        return self._state(), {}

    def step(self, action):
        self.made += 1
        if self.fault is not None and self.made == (10 if self.always else 40) and self._first():
            if self.hangs:
                time.sleep(600)
            raise RuntimeError("the joystick broke")
        self.steps += 1
        return self._state(), 1.0, self.steps == length(self.number), False, {}

    def _first(self):
        marker = Path(self.fault, "had_it")
        if marker.exists() and not self.always:
            return False
        marker.touch()
        return True

    def _state(self):
        return np.array([self.number, self.steps, self.second], np.float32)


def length(number):
    """How many steps the episode of that number has."""
    return 5 + int(number) % 11


class Wide(Counting):
    """The same in states of 20 kB: so many chunks of it fill the store of a node."""

    observation_space = gym.spaces.Box(0, 2**24, (5_000,), np.float32)

    def _state(self):
        return np.resize(super()._state(), 5_000)


gym.register("Counting-v0", Counting)
gym.register("Wide-v0", Wide)


class Stacks(VectorEnv):
    """Games whose states are stacks of three small frames, of which each step adds one: (game, episode, step, 0)."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    single_action_space = gym.spaces.Discrete(3)

    def __init__(self, num_envs):
        self.num_envs = num_envs

    def reset(self, *, seed=None, options=None):
        self.random = np.random.default_rng(seed)
        self.states = np.zeros((self.num_envs, 3, 2, 2), np.uint8)
        self.episodes, self.steps = np.zeros(self.num_envs, int), np.zeros(self.num_envs, int)
        self.over = np.zeros(self.num_envs, bool)
        for game in range(self.num_envs):
            self._show(game)
        return self.states.copy(), {}

    def step(self, actions):
        rewards = np.where(self.over, 0, actions + self.steps / 8)
        terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        for game in range(self.num_envs):
            if self.over[game]:
                self.states[game], self.steps[game] = 0, 0
                self.episodes[game] += 1
            else:
                self.steps[game] += 1
                ends = self.random.random() < 0.25
                terminated[game], truncated[game] = ends and actions[game] > 0, ends and actions[game] == 0
            self._show(game)
        self.over = terminated | truncated
        lost = ~self.over & (self.steps % 4 == 3)
        return self.states.copy(), rewards, terminated, truncated, {"life_lost": lost, "executed_actions": actions}

    def _show(self, game):
        self.states[game, :-1] = self.states[game, 1:]
        self.states[game, -1] = np.array([[game, self.episodes[game]], [self.steps[game], 7]]) % 256


class Odd:
    """Acts by the sum of a state; in place of a network.

    Args:
        actions: how many there are.
    """

    def __init__(self, actions):
        self.actions = actions

    def refresh(self, flat_weights):
        self.shift = flat_weights[0]

    def __call__(self, states, noise=None):
        sums = states.reshape(len(states), -1).sum(-1) + self.shift
        return np.stack([np.sin(sums + action) for action in range(self.actions)], -1).astype(np.float32)
