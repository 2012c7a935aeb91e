"""Look inside a network: its Q-values in a film and over an episode, and a map of what it wants to do where."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike

from keras_dqn.show.notebook import data_url, png, show_html, video_html
from keras_dqn.show.plots import GRID, INK, figure_style, new_figure, prepare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from keras_dqn.core.agent import Agent

_ACTIONS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # of Okabe and Ito, one an action
_BEST, _OTHER = _ACTIONS[0], _ACTIONS[4]
_WIDTH = 600  # pixels of a picture with Q-values, which on a phone is shown at 360
_BARS, _ROW, _LONGEST = 100, 32, 426  # where bars begin, how far they are apart, and the longest: all in pixels
_MOST_BARS = 18  # as many as Atari has actions; of more, the best are shown


class Run(NamedTuple):
    """An episode that was played without learning, step by step."""

    score: float  # sum of rewards
    q_values: np.ndarray  # [steps, actions] float32, of the states that were acted in
    paths: list[Path]  # of the films of it
    filmed: int  # steps that are in the film, from the first on
    action_names: Sequence[str] | None = None  # what the actions are called, in their order


class InsideView(gym.ObservationWrapper):
    """An environment whose pictures show the game, beside it the frames that the network sees, and below its Q-values.

    The bars are the Q-values above the lowest of that state, on one scale for the whole film, which ends at the most
    so far: what the actions differ by is often a hundredth of what they are worth, and the number at each bar says
    that. The best one is dark.

    Args:
        env: a `gymnasium.Env` with `render_mode="rgb_array"`. Its states are shown where they are stacks of gray
            frames, [K, height, width] uint8, which Atari's games say by `stacks_frames`.
        agent: whose Q-values.
        action_names: what the actions are called; by default their numbers.
    """

    def __init__(self, env: gym.Env, agent: "Agent", action_names: Sequence[str] | None = None):
        super().__init__(env)
        self._agent, self._names = agent, _names(action_names, agent.action_size)
        self._most = 1e-6  # that an action was better than another so far

    def observation(self, observation: Any) -> Any:
        """Keep the state, which the next picture is of; it is returned as it is."""
        self._state = observation
        return observation

    def render(self) -> np.ndarray:
        """The picture, uint8 [height, 600, 3]."""
        from matplotlib import font_manager
        from PIL import Image, ImageDraw, ImageFont

        game = Image.fromarray(self.env.render())
        frames = self._state if getattr(self.unwrapped, "stacks_frames", False) else ()
        scale = min((_WIDTH / 2 if len(frames) else _WIDTH) / game.width, 400 / game.height)
        width, height = round(scale * game.width), 2 * round(scale * game.height / 2)
        picture = Image.new("RGB", (_WIDTH, height + 80 + _ROW * min(len(self._names), _MOST_BARS)), "white")
        left = 0 if len(frames) else (_WIDTH - width) // 2
        picture.paste(game.resize((width, height), Image.Resampling.NEAREST), (left, 0))
        draw = ImageDraw.Draw(picture)
        draw.font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 16)
        size = min((_WIDTH - width) // 2 - 10, height // 2 - 25)  # of each frame, two beside and two below one another
        for number, frame in enumerate(frames):
            left, top = width + 10 + number % 2 * (size + 6), (number // 2 + 1) * height // 2 - 2 - size
            before = len(frames) - 1 - number
            title = f"{before} step{'s' * (before > 1)} ago" if before else "now"
            draw.text((left + size / 2, top - 5), title, "black", anchor="ms")
            picture.paste(Image.fromarray(frame).resize((size, size), Image.Resampling.NEAREST), (left, top))
        self._draw_bars(draw, height + 32)
        return np.array(picture)

    def _draw_bars(self, draw, top):
        """A bar and a number for each action, and a scale below them that says how long the longest bar would be."""
        q_values = self._agent.q_values(np.asarray(self._state)[None])[0]
        above = q_values - q_values.min()
        self._most = max(self._most, above.max())
        shown = np.sort(np.argsort(-q_values, kind="stable")[:_MOST_BARS])
        bottom, middle, end = top + _ROW * len(shown), _BARS + _LONGEST // 2, _BARS + _LONGEST
        draw.text((_BARS, top - 5), "Q-values; a bar is the part above the lowest one", "black", anchor="ls")
        for x, label in ((_BARS, "0"), (middle, ""), (end, f"+{self._most:.2g}")):
            draw.line([(x, top), (x, bottom)], GRID)
            draw.text((x, bottom + 6), label, "black", anchor="ma")
        for row, action in enumerate(shown):
            value, y = q_values[action], top + _ROW * row + _ROW // 2
            length = round(_LONGEST * above[action] / self._most)
            draw.text((_BARS - 8, y), self._names[action], "black", anchor="rm")
            if length:
                color = _BEST if value == q_values.max() else _OTHER
                draw.rectangle([_BARS, y - 11, _BARS + length, y + 11], color)
            draw.text((_BARS + length + 5, y), f"{value:.2f}", "black", anchor="lm")
        draw.line([(_BARS, top), (_BARS, bottom), (_WIDTH - 10, bottom)], INK)


def q_curve(q_values: np.ndarray, action_names: Sequence[str] | None = None) -> "Figure":
    """Draw the Q-value of each action over the steps of an episode.

    Args:
        q_values: [steps, actions], as `Runner.last_run` has them.
        action_names: what the actions are called; by default their numbers.
    """
    q_values = np.asarray(q_values)
    names = _names(action_names, q_values.shape[1])
    with figure_style():
        figure = new_figure(height=2.8)
        figure.set_layout_engine("none")  # the panel's place must be known to the line that moves over it
        panel = figure.add_axes((0.13, 0.2, 0.84, 0.66))
        prepare(panel, "Q-value")
        for name, color, values in zip(names, np.resize(_ACTIONS, len(names)), q_values.T, strict=True):
            panel.plot(np.arange(len(values)), values, color=color, linewidth=1.8, label=name)
        panel.set(xlabel="Step", xlim=(0, max(len(q_values), 1)))
        panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=min(len(names), 6))
    return figure


def timeline_html(path: str | Path, figure: "Figure") -> str:
    """Return the MP4 of an episode with its `q_curve` below, in which a line moves with the film; both fit a screen."""
    box = figure.axes[0].get_position()  # of the panel within the figure, in fractions
    left, span, top, height = (100 * part for part in (box.x0, box.width, 1 - box.y1, box.height))
    name, image = f"timeline-{secrets.token_hex(4)}", data_url(png(figure), "image/png")
    # Styles stand in the elements: a viewer that removes scripts and style sheets leaves film, figure and sizes.
    return f"""<div id="{name}" style="width:100%;max-width:{_WIDTH}px">
{video_html(path, height=300)}
<div style="position:relative">
<img alt="Q-values over the steps" width="{_WIDTH}" style="width:100%;height:auto" src="{image}">
<div class="now" style="position:absolute;width:2px;background:{INK};left:{left}%;top:{top}%;height:{height}%"></div>
</div>
<script>(() => {{
  const box = document.getElementById("{name}");
  const film = box.querySelector("video"), line = box.querySelector(".now");
  const move = () => {{
    if (film.duration) line.style.left = {left} + {span} * film.currentTime / film.duration + "%";
    requestAnimationFrame(move);
  }};
  move();
}})();</script></div>"""


def show_run(run: Run | None) -> None:
    """Show in a notebook the film of a run, `last_run` of a game, and moving along below it the Q-values of its steps.

    Raises ValueError where nothing was run, or it could not be filmed.
    """
    if run is None or not run.paths:
        raise ValueError(f"There is no filmed run to show: call `run()` first. Received: {run}")
    film, q_values = run.paths[-1], run.q_values[: run.filmed]
    show_html(timeline_html(film, q_curve(q_values, run.action_names)), f"Video: {film}")


def policy_map(
    agent: "Agent",
    x: Sequence[Any],
    y: Sequence[Any],
    state: ArrayLike | None = None,
    action_names: Sequence[str] | None = None,
    points: int = 81,
) -> "Figure":
    """Draw over two state variables the highest Q-value, and below it the action that has it.

    Args:
        agent: its states are vectors; a ValueError where they are not.
        x, y: each (index in the state, its name, lowest, highest).
        state: [state_size], the other variables; by default zeros.
        action_names: what the actions are called; by default their numbers.
        points: how many along each axis.
    """
    from matplotlib.colors import ListedColormap

    names = _names(action_names, agent.action_size)
    if len(agent.state_shape) != 1:
        raise ValueError(f"A policy map is over two numbers of a state that is a vector. Received: {agent.state_shape}")
    size = agent.state_shape[0]
    for index, name, low, high in (x, y):
        if not 0 <= index < size or not low < high:
            received = (index, name, low, high)
            raise ValueError(f"An axis is (index from 0 to {size - 1}, name, lowest, highest). Received: {received}")
    states = np.tile(np.zeros(size) if state is None else state, (points, points, 1))  # rows over y from its lowest
    states[..., x[0]] = np.linspace(*x[2:], points)
    states[..., y[0]] = np.linspace(*y[2:], points)[:, None]
    q_values = agent.q_values(states.reshape(-1, size).astype(np.float32)).reshape(points, points, -1)
    colors = {"cmap": ListedColormap(np.resize(_ACTIONS, len(names))), "vmin": -0.5, "vmax": len(names) - 0.5}
    place = {"origin": "lower", "extent": (*x[2:], *y[2:]), "aspect": "auto"}
    with figure_style():
        figure = new_figure(height=5.8)
        upper, lower = figure.subplots(2, sharex=True)
        for panel, title in ((upper, "Highest Q-value"), (lower, "Action that has it")):
            panel.set_title(title, fontsize=12, loc="left")
            panel.tick_params(colors=INK, labelsize=11)
        image = upper.imshow(q_values.max(-1), cmap="viridis", interpolation="bilinear", **place)
        figure.colorbar(image, ax=upper)
        image = lower.imshow(q_values.argmax(-1), interpolation="nearest", **colors, **place)
        figure.colorbar(image, ax=lower, ticks=range(len(names))).ax.set_yticklabels(names)
        lower.set_xlabel(x[1])
        figure.supylabel(y[1], fontsize=12)  # once: two of them, one above the other, run into each other
    return figure


def _names(names, count):
    names = [f"action {i}" for i in range(count)] if names is None else list(names)
    if len(names) != count:
        raise ValueError(f"`action_names` must be {count} names. Received: {names}")
    return names
