"""An environment whose frames are known, and the frames of a film as they are decoded."""

import warnings

import gymnasium
import imageio_ffmpeg
import numpy as np

GRAY_PER_STEP = 4


class Screen(gymnasium.Env):
    """Renders step after step in a brighter gray, always into the same array, and ends after `steps`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    render_mode = "rgb_array"
    observation_space = gymnasium.spaces.Discrete(1)
    action_space = gymnasium.spaces.Discrete(1)

    def __init__(self, steps=6, size=(48, 64)):
        self.steps, self.closed = steps, False
        self.screen = np.zeros((*size, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        self.step_number = 0
        return 0, {}

    def step(self, action):
        self.step_number += 1
        return 0, 1.0, self.step_number == self.steps, False, {}

    def render(self):
        self.screen[:] = GRAY_PER_STEP * self.step_number % 256
        return self.screen

    def close(self):
        self.closed = True


def play(env, steps=10_000):
    """Play one episode, or its first steps, and return how many steps it took."""
    env.reset(seed=0)
    for step in range(1, steps + 1):
        _, _, terminated, truncated, _ = env.step(0)
        if terminated or truncated:
            return step
    return steps


def decode(path):
    """The frames of a film, uint8 [frames, height, width, 3], and what ffmpeg says about it."""
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # imageio leaves a pipe open
        facts, *frames = imageio_ffmpeg.read_frames(str(path))
    width, height = facts["size"]
    return np.array([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in frames]), facts


def grays(path):
    """The mean brightness of each frame of a film."""
    return decode(path)[0].mean(axis=(1, 2, 3))
