"""A window to play CartPole or MountainCar in, with the keyboard."""

import contextlib
import os
import sys
from collections.abc import Callable
from unittest import mock

import gymnasium
from gymnasium.wrappers import RecordEpisodeStatistics

from keras_dqn.games import IN_A_WINDOW


def play(game: str = "cartpole", callback: Callable[..., None] | None = None) -> list[float]:
    """Play with the keyboard in a window, in real time, until Escape is pressed or the window closed.

    "a" or left arrow: left, "d" or right arrow: right, no key or two: nothing. Prints the score as each episode ends.

    Args:
        game: "cartpole" (`PlayableCartPole`) or "mountaincar" (MountainCar-v0).
        callback: as in `gymnasium.utils.play.play`, which calls it after each step.

    Returns the scores of the episodes that ended. Raises ValueError for an unknown game and OSError without a display.
    """
    if game not in IN_A_WINDOW:
        raise ValueError(f"The games to play are {', '.join(IN_A_WINDOW)}. Received: {game!r}")
    _check_display()
    import matplotlib
    import pygame

    # gymnasium's module would turn every figure of this process into a window of Tk, a notebook's too.
    with mock.patch.object(matplotlib, "use"):
        from gymnasium.utils.play import play as play_in_window

    keys = {"a": 0, (pygame.K_LEFT,): 0, "d": 2, (pygame.K_RIGHT,): 2}
    scores = []

    def after_step(*step):
        if (ended := step[-1].get("episode")) is not None:
            print(f"Episode {len(scores)}# Score: {ended['r']:g}", flush=True)
            scores.append(float(ended["r"]))
        if callback is not None:
            callback(*step)

    print("a or left arrow: left, d or right arrow: right, Escape: end")
    env = RecordEpisodeStatistics(gymnasium.make(IN_A_WINDOW[game], render_mode="rgb_array"))
    with contextlib.closing(env):
        play_in_window(env, callback=after_step, keys_to_action=keys, noop=1)
    return scores


def _check_display():
    displays, driver = {name: os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")}, None
    if sys.platform != "linux" or any(displays.values()):
        import pygame

        with contextlib.suppress(pygame.error):
            pygame.display.init()
            driver = pygame.display.get_driver()
    if driver in (None, "offscreen"):  # what SDL quietly falls back to: the game would run for ever, seen by nobody
        raise OSError(
            "A window needs a display, and DISPLAY names none that can be reached: play on a computer with a desktop, "
            f"or over ssh -X. Received: {displays}"
        )
