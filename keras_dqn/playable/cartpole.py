"""CartPole made slow enough for a human."""

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from keras_dqn.games import PLAYABLE_CARTPOLE


class PlayableCartPole(CartPoleEnv):
    """CartPole with a third action, no force, and a longer pole that may lean further; the physics are gymnasium's.

    Observation and reward are CartPole's. Actions: 0 pushes left, 1 not at all, 2 right. An episode ends when the cart
    is over 2.4 m from the middle or the pole leans over `failure_angle`, and after 1,000 steps (20 s) if
    `gymnasium.make` made it. A simple rule that acts 0.2 s late, as people do, holds this pole for 20 s, and CartPole's
    own for 1 s.

    Args:
        render_mode: None or "rgb_array" (uint8 [400, 600, 3]); for "human", `gymnasium.make` opens a window.
        half_length: half the pole's length in metres, above 0; CartPole's is 0.5.
        failure_angle: in degrees from upright, above 0 and at most 90; CartPole's is 12.

    Raises ValueError for a length or an angle out of range, and in `step` for an action that is not 0, 1 or 2.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}

    def __init__(self, render_mode: str | None = None, half_length: float = 1.5, failure_angle: float = 60.0):
        if not (0 < half_length < math.inf and 0 < failure_angle <= 90):
            raise ValueError(f"half_length or failure_angle is out of range. Received: {half_length}, {failure_angle}")
        super().__init__(render_mode=render_mode)
        self._push = self.force_mag
        self.length = half_length
        self.polemass_length = self.masspole * half_length
        self.theta_threshold_radians = failure_angle * 2 * math.pi / 360  # as CartPole has it, to the bit
        self.action_space = gymnasium.spaces.Discrete(3)
        # Twice the thresholds, as in CartPole; but gymnasium's own checker warns of its infinite bounds of velocity.
        most = np.finfo(np.float32).max
        high = np.array([2 * self.x_threshold, most, 2 * self.theta_threshold_radians, most], np.float32)
        self.observation_space = gymnasium.spaces.Box(-high, high)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one step of 0.02 s with action 0, 1 or 2; returns what `gymnasium.Env.step` does."""
        if not self.action_space.contains(action):
            raise ValueError(f"The action must be 0 (left), 1 (no force) or 2 (right). Received: {action!r}")
        # CartPole's action 1 is a push by `force_mag`, whatever its sign: negative is left and 0 is no force.
        self.force_mag = self._push * (int(action) - 1)
        return super().step(1)

    def render(self) -> np.ndarray | None:
        """Draw the whole pole, wherever it and the cart are, and a red post at either end of the track."""
        track = self.x_threshold  # where CartPole's screen ends, which would cut off the pole
        self.x_threshold = width = track + 2 * self.length
        try:
            frame = super().render()
        finally:
            self.x_threshold = track
        for end in (-track, track) if frame is not None else ():
            column = round(self.screen_width / 2 * (1 + end / width))
            frame[-130:-100, column - 1 : column + 2] = 200, 60, 60  # on the track, 100 pixels above the lower edge
        return frame


if PLAYABLE_CARTPOLE not in gymnasium.registry:  # a notebook may load this again
    gymnasium.register(PLAYABLE_CARTPOLE, f"{__name__}:PlayableCartPole", max_episode_steps=1000)
