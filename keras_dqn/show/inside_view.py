"""An environment whose pictures show, beside the game, what the network sees and what it thinks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from keras_dqn.show.plots import figure_style, new_figure

if TYPE_CHECKING:
    from keras_dqn.core.agent import Agent

# The colours of Okabe and Ito in which actions are drawn, in the order of the actions.
_WIDTH = 600  # pixels of a picture with Q-values, which on a phone is shown at 360


_ACTIONS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


class InsideView(gym.Wrapper):
    """An environment whose pictures show the game, beside it the frames that the network sees, and below its Q-values.

    The bars are the Q-values above the lowest of that state, on one scale for the whole film, which ends at the most
    so far: what the actions differ by is often a hundredth of what they are worth, and the number at each bar says
    that. The best one is dark.

    Args:
        env: a `gymnasium.Env` with `render_mode="rgb_array"`. Its states are shown where they are grey frames,
            [K, height, width] uint8; of a vector of numbers there is nothing to look at.
        agent: whose Q-values.
        action_names: what the actions are called; by default their numbers.
    """

    def __init__(self, env: gym.Env, agent: "Agent", action_names: Sequence[str] | None = None):
        super().__init__(env)
        self._agent, self._names = agent, _names(action_names, agent.action_size)
        self._figure, self._scale = None, 1e-6

    @property
    def _frames(self):
        """What the network sees now, if that is frames, [K, height, width]; none of a vector of numbers."""
        return self._state if len(self._agent.state_shape) == 3 else ()

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self._state, info = self.env.reset(**options)
        return self._state, info

    def step(self, action: Any) -> tuple[Any, ...]:
        self._state, *rest = self.env.step(action)
        return self._state, *rest

    def render(self) -> np.ndarray:
        """The picture, uint8 [height, 600, 3]."""
        picture = self.env.render()
        q_values = self._agent.q_values(np.asarray(self._state)[None])[0]
        if self._figure is None:
            with figure_style():
                self._draw(picture)
        canvas = self._figure.canvas
        canvas.restore_region(self._background)
        for image, pixels in zip(self._images, [picture, *self._frames], strict=True):
            image.set_data(pixels)
        above = q_values - q_values.min()
        self._scale = max(self._scale, above.max())
        for bar, number, value, length in zip(self._bars, self._numbers, q_values, above, strict=True):
            bar.set(width=length / self._scale, color=_ACTIONS[0] if value == q_values.max() else _ACTIONS[4])
            number.set(text=f"{value:.2f}", x=length / self._scale + 0.01)
        self._end.set_text(f"+{self._scale:.2g}")
        for artist in [*self._images, *self._bars, *self._numbers, self._end]:
            artist.axes.draw_artist(artist)
        return np.array(canvas.buffer_rgba())[..., :3]

    def _draw(self, picture):
        """Draw once what stays, and keep it as the background of every picture: a whole figure a step is too slow."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        shape, below = picture.shape, 80 + 32 * len(self._names)  # the bars, in pixels, below the game
        scale = min((_WIDTH / 2 if len(self._frames) else _WIDTH) / shape[1], 400 / shape[0])
        width, height = scale * shape[1], scale * shape[0]
        whole = 2 * round((height + below) / 2)
        self._figure = new_figure(height=whole / 100, width=_WIDTH / 100)
        self._figure.set_layout_engine("none")
        self._figure.set_dpi(100)
        canvas = FigureCanvasAgg(self._figure)

        def panel(left, bottom, width, height):
            return self._figure.add_axes((left / _WIDTH, bottom / whole, width / _WIDTH, height / whole))

        left = 0 if len(self._frames) else (_WIDTH - width) / 2
        panels = [panel(left, whole - height, width, height)]
        size = min((_WIDTH - width) / 2 - 10, height / 2 - 25)  # of each frame, two beside and two below one another
        for number in range(len(self._frames)):
            row, column = divmod(number, 2)
            place = (width + 10 + column * (size + 6), whole - (row + 1) * (height / 2) + 2)
            panels.append(panel(*place, size, size))
            before = len(self._frames) - 1 - number
            title = f"{before} step{'s' * (before > 1)} ago" if before else "now"
            panels[-1].set_title(title, fontsize=11, pad=3)
        self._images = [
            panel.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto", animated=True)
            for panel, pixels in zip(panels, [picture, *self._frames], strict=True)
        ]
        for one in panels:
            one.axis("off")
        self._draw_bars(panel(100, 42, _WIDTH - 110, below - 74))
        canvas.draw()
        self._background = canvas.copy_from_bbox(self._figure.bbox)

    def _draw_bars(self, bars):
        """A bar and a number for each action, and a scale below them that says how long the longest bar would be."""
        places = range(len(self._names))
        bars.set(xlim=(0, 1.15), ylim=(len(self._names) - 0.5, -0.5))
        bars.set_title("Q-values; a bar is the part above the lowest one", fontsize=11, loc="left", pad=5)
        bars.set_yticks(places, self._names)
        bars.set_xticks([0, 0.5, 1], ["0", "", ""], fontsize=11)
        bars.grid(axis="x", color="#dddddd")
        bars.set_axisbelow(True)
        bars.spines[["top", "right"]].set_visible(False)
        self._bars = bars.barh(places, [0] * len(self._names), height=0.7, animated=True)
        self._numbers = [bars.text(0, place, "", va="center", animated=True) for place in places]
        under = {"xytext": (0, -6), "textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 11}
        self._end = bars.annotate("", (1, 0), xycoords=("data", "axes fraction"), animated=True, **under)


def _names(names, count):
    names = [f"action {i}" for i in range(count)] if names is None else list(names)
    if len(names) != count:
        raise ValueError(f"`action_names` must be {count} names. Received: {names}")
    return names
