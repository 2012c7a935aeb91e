"""Atari games through ALE's own vector environment, with FIRE pressed where a game waits for it."""

from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv

from keras_dqn.checks import check_fraction, check_name

FRAMES_PER_SECOND = 60  # of the console


class AtariGames(VectorEnv):
    """N games of one kind at once, in NEXT_STEP mode: uint8 observations [N, 4, 84, 84], the newest frame last.

    A step is four emulator frames, the last two of them joined (each pixel the brighter one), grey and made smaller:
    the observations of Mnih et al. 2015. Rewards are the game's own, and only the end of a game ends an episode.

    Many games wait after a lost life until FIRE is pressed, and a policy that never does hangs until it is truncated
    (after 108,000 frames): so after each lost life FIRE is pressed here, whatever the action. The info of a step tells
    what the loop needs to know about that: `life_lost`, [N] bool, and `executed_actions`, [N] int.

    Args:
        game: its name: "breakout".
        num_envs: how many games.
        sticky: probability that the emulator repeats the last action instead, in each frame.
        noop_max: a game begins after a random number of frames without action, at most so many.
        max_frames: after so many a game is truncated; those without action do not count.

    Raises:
        ValueError: ALE has no game of that name; the message has the nearest.
        OSError: its ROM cannot be read.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    frames_per_step = 4
    lost_life_stops = True  # whether the bootstrap stops at a lost life
    _picture = {"stack_num": 4}

    def __init__(
        self, game: str, num_envs: int = 1, sticky: float = 0.0, noop_max: int = 30, max_frames: int = 108_000
    ):
        self.game, self.num_envs = check_game(game), num_envs
        self.sticky, self.noop_max, self.max_frames = check_fraction("sticky", sticky), noop_max, max_frames
        self._games = self.emulator(**self._picture)
        self.single_observation_space = self._games.single_observation_space
        self.single_action_space = self._games.single_action_space
        self.observation_space, self.action_space = self._games.observation_space, self._games.action_space
        meanings = action_meanings(game)
        self._fire = meanings.index("FIRE") if "FIRE" in meanings else None

    def emulator(self, **picture: Any) -> AtariVectorEnv:
        """Games that go exactly as these do, with the same seed and actions, and show another picture."""
        return AtariVectorEnv(
            self.game,
            self.num_envs,
            frameskip=self.frames_per_step,
            repeat_action_probability=self.sticky,
            noop_max=self.noop_max,
            max_num_frames_per_episode=self.max_frames,
            reward_clipping=False,
            **picture,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        states, info = self._games.reset(seed=seed, options=options)
        self._lives = info["lives"].copy()
        self._must_fire, self._over = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        return states, info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._must_fire.any():
            actions = np.where(self._must_fire, self._fire, actions)
        states, rewards, terminated, truncated, info = self._games.step(actions)
        life_lost = info["lives"] < self._lives
        self._lives, self._over = info["lives"].copy(), terminated | truncated
        if self._fire is not None:
            self._must_fire = life_lost & ~self._over
        info["executed_actions"] = actions
        if self.lost_life_stops:
            info["life_lost"] = life_lost
        return states, rewards, terminated, truncated, info

    def close_extras(self, **_: Any) -> None:
        self._games.close()


class AtariScreens(AtariGames):
    """As `AtariGames`, with the screens in colour, two at a time: uint8 [N, 2, 165, 140, 3], every frame a step.

    Nothing is joined or made smaller; the screen is cut to rows 30 to 195 and columns 10 to 150, the field that is
    played on in Breakout. At a game's start both screens are its first, and a lost life is nothing to the bootstrap.
    """

    frames_per_step = 1
    lost_life_stops = False
    _picture = {"stack_num": 2, "grayscale": False, "maxpool": False, "img_height": 210, "img_width": 160}

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        space = self._games.single_observation_space
        shape = cropped(np.empty(space.shape)).shape
        self.single_observation_space = gym.spaces.Box(0, 255, shape, np.uint8)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, self.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        states, info = super().reset(seed=seed, options=options)
        states[:, 0] = states[:, 1]
        return cropped(states), info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        begun = self._over
        states, *rest = super().step(actions)
        states[begun, 0] = states[begun, 1]
        return cropped(states), *rest


def cropped(screens: np.ndarray) -> np.ndarray:
    """The field of Breakout, [..., 165, 140, 3], out of screens [..., 210, 160, 3], as a view."""
    return screens[..., 30:195, 10:150, :]


class AtariGame(gym.Env):
    """One game behind gymnasium's interface; it renders the screen in its colours, each step once.

    The colours come from a second emulator that is given the same seeds and actions, so the agent sees the very
    observations of `AtariGames`, and the film the very game it plays. As in its observations, the screen is the
    brighter of the last two, pixel for pixel: many games draw some objects only every other time.

    Args:
        games: `AtariGames` or `AtariScreens`, of one.
        render_mode: "rgb_array" to render, or None.
    """

    stacks_frames = True

    def __init__(self, games: AtariGames, render_mode: str | None = None):
        self.games, self.render_mode = games, render_mode
        self.observation_space, self.action_space = games.single_observation_space, games.single_action_space
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": FRAMES_PER_SECOND // games.frames_per_step}
        self._screens = None
        if render_mode is not None:
            height, width = _loaded(games.game).getScreenDims()  # 210 and 160 in most
            self._screens = games.emulator(stack_num=1, grayscale=False, img_height=height, img_width=width)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31)) if seed is None else seed  # the same for both
        states, info = self.games.reset(seed=seed)
        if self._screens is not None:
            self._screen = self._screens.reset(seed=seed)[0]
        return states[0], info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        states, rewards, terminated, truncated, info = self.games.step(np.array([action]))
        if self._screens is not None:
            self._screen = self._screens.step(info["executed_actions"])[0]
        return states[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> np.ndarray | None:
        """The screen, uint8 [height, width, 3]; None where nothing is rendered."""
        return None if self._screens is None else self._screen[0, -1]

    def close(self) -> None:
        self.games.close()
        if self._screens is not None:
            self._screens.close()


def check_game(game: str) -> str:
    """Return the name if it is that of one of ALE's games; else raise a ValueError that has the nearest."""
    return check_name(game, ale_py.roms.get_all_rom_ids(), "Atari game")


def action_meanings(game: str) -> list[str]:
    """What each action of a game is: ["NOOP", "FIRE", "RIGHT", "LEFT"] in Breakout."""
    return [action.name for action in _loaded(game).getMinimalActionSet()]


def _loaded(game):
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.loadROM(ale_py.roms.get_rom_path(game))
    return ale
