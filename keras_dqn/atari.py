"""Atari games through ALE's own vector environment, with FIRE pressed where a game waits for it."""

import difflib

import ale_py
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv

FRAME_SKIP = 4  # emulator frames a step
FIRE = "FIRE"


class AtariGames(VectorEnv):
    """N games of one kind at once, in NEXT_STEP mode: uint8 observations [N, 4, 84, 84], the newest frame last.

    Rewards are the game's own, and only the end of a game ends an episode. Many games wait after a lost life until
    FIRE is pressed, and a policy that never does hangs until it is truncated: so after each lost life FIRE is pressed
    here, whatever the action. The info of a step tells what the loop needs to know about that: `life_lost`, [N] bool,
    and `executed_actions`, [N] int.

    Args:
        game: its name: "breakout".
        num_envs: how many games.
        sticky: probability that the emulator repeats the last action instead.

    Raises:
        ValueError: ALE has no game of that name; the message lists the nearest.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, game, num_envs=1, sticky=0.0):
        check_game(game)
        self.game, self.num_envs = game, num_envs
        self._games = AtariVectorEnv(
            game, num_envs, frameskip=FRAME_SKIP, repeat_action_probability=sticky, reward_clipping=False
        )
        self.single_observation_space = self._games.single_observation_space
        self.single_action_space = self._games.single_action_space
        self.observation_space, self.action_space = self._games.observation_space, self._games.action_space
        meanings = action_meanings(game)
        self._fire = meanings.index(FIRE) if FIRE in meanings else None

    def reset(self, *, seed=None, options=None):
        states, info = self._games.reset(seed=seed, options=options)
        self._lives = info["lives"].copy()
        self._must_fire = np.zeros(self.num_envs, bool)
        return states, info

    def step(self, actions):
        if self._must_fire.any():
            actions = np.where(self._must_fire, self._fire, actions)
        states, rewards, terminated, truncated, info = self._games.step(actions)
        life_lost = info["lives"] < self._lives
        self._lives = info["lives"].copy()
        if self._fire is not None:
            self._must_fire = life_lost & ~terminated & ~truncated
        info |= {"life_lost": life_lost, "executed_actions": actions}
        return states, rewards, terminated, truncated, info

    def close_extras(self, **_):
        self._games.close()


def check_game(game):
    """Return the name if it is one of ALE's games; else raise a ValueError that names the nearest ones."""
    known = ale_py.roms.get_all_rom_ids()
    if game not in known:
        near = difflib.get_close_matches(str(game), known, n=3, cutoff=0.3)
        raise ValueError(f"ALE has no game of that name; the nearest are {near}. Received: {game!r}")
    return game


def action_meanings(game):
    """What each action of a game is: ["NOOP", "FIRE", "RIGHT", "LEFT"] in Breakout."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.loadROM(ale_py.roms.get_rom_path(check_game(game)))
    return [action.name for action in ale.getMinimalActionSet()]
