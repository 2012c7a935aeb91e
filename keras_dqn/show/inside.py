"""Look inside a network: its Q-values in a film and over an episode, and a map of what it wants to do where."""

import base64
import itertools
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from keras_dqn.show.inside_view import _ACTIONS, _names
from keras_dqn.show.inside_view import InsideView as InsideView
from keras_dqn.show.plots import INK, figure_style, new_figure, png, prepare
from keras_dqn.show.video import show_html, video_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from keras_dqn.core.agent import Agent
    from keras_dqn.training.runner import Runner

# Styles stand in the elements: a viewer that removes scripts and style sheets leaves film, figure and sizes.
_TIMELINE = """<div id="{name}" style="width:100%;max-width:{width}px">
{film}
<div style="position:relative">
<img alt="Q-values over the steps" width="{width}" style="width:100%;height:auto" src="data:image/png;base64,{image}">
<div class="now" style="position:absolute;width:2px;background:{ink};left:{left}%;top:{top}%;height:{height}%"></div>
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


def q_curve(q_values: np.ndarray, action_names: Sequence[str] | None = None) -> "Figure":
    """Draw the Q-value of each action over the steps of an episode.

    Args:
        q_values: [steps, actions], as `Runner.last_run` has them.
        action_names: what the actions are called; by default their numbers.

    Returns:
        A matplotlib `Figure`.
    """
    q_values = np.asarray(q_values)
    names = _names(action_names, q_values.shape[1])
    with figure_style():
        figure = new_figure(height=2.8)
        figure.set_layout_engine("none")  # the panel's place must be known to the line that moves over it
        panel = figure.add_axes((0.13, 0.2, 0.84, 0.66))
        prepare(panel, "Q-value")
        for name, color, values in zip(names, itertools.cycle(_ACTIONS), q_values.T, strict=False):
            panel.plot(np.arange(len(values)), values, color=color, linewidth=1.8, label=name)
        panel.set(xlabel="TrainStep", xlim=(0, max(len(q_values), 1)))
        panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=min(len(names), 6), frameon=False, fontsize=11)
    return figure


def timeline_html(path: str | Path, figure: "Figure", width: int = 600) -> str:
    """Return a film with the figure of its Q-values below it and a line in it that moves with the film.

    Film and figure together are low enough to be seen at once.

    Args:
        path: the MP4 of the episode.
        figure: of `q_curve`, for the same episode.
        width: of the figure, in pixels at most; less where the page is narrower.
    """
    box = figure.axes[0].get_position()  # of the panel within the figure, in fractions
    return _TIMELINE.format(
        name=f"timeline-{secrets.token_hex(4)}",
        width=int(width),
        film=video_html(path, height=300),
        image=base64.b64encode(png(figure)).decode("ascii"),
        left=100 * box.x0,
        span=100 * box.width,
        top=100 * (1 - box.y1),
        height=100 * box.height,
        ink=INK,
    )


def show_run(runner: "Runner") -> None:
    """Show in a notebook the film of the runner's last `run` and, moving along below it, the Q-values of its steps.

    Raises ValueError where nothing was run, or it could not be filmed.
    """
    run = runner.last_run
    if run is None or not run.paths:
        raise ValueError(f"There is no filmed run to show: call `run()` first. Received: {run}")
    film, q_values = run.paths[-1], run.q_values[: run.filmed]
    show_html(timeline_html(film, q_curve(q_values, runner.action_names)), f"Video: {film}")


def policy_map(
    agent: "Agent",
    x: Sequence[Any],
    y: Sequence[Any],
    state: ArrayLike | None = None,
    action_names: Sequence[str] | None = None,
    points: int = 81,
) -> "Figure":
    """Draw over two state variables how much the agent expects, and which action it would take.

    Args:
        agent: its states are vectors.
        x, y: each (index in the state, its name, lowest, highest).
        state: [state_size], the other variables; by default zeros.
        action_names: what the actions are called; by default their numbers.
        points: how many along each axis.

    Returns:
        A matplotlib `Figure` of two panels: the highest Q-value, and the action that has it.
    """
    from matplotlib.colors import BoundaryNorm, ListedColormap

    names = _names(action_names, agent.action_size)
    q_values = _grid(agent, x, y, state, points)
    colors = ListedColormap(list(itertools.islice(itertools.cycle(_ACTIONS), len(names))))
    norm = BoundaryNorm(np.arange(len(names) + 1) - 0.5, colors.N)
    place = {"origin": "lower", "extent": (*x[2:], *y[2:]), "aspect": "auto"}
    with figure_style():
        figure = new_figure(height=5.8)
        upper, lower = figure.subplots(2, sharex=True)
        for panel, title in ((upper, "Highest Q-value"), (lower, "Action that has it")):
            prepare(panel, "")
            panel.set_title(title, fontsize=12, loc="left")
            panel.grid(visible=False)
            panel.xaxis.get_major_locator().set_params(integer=False)
        image = upper.imshow(q_values.max(-1), cmap="viridis", interpolation="bilinear", **place)
        figure.colorbar(image, ax=upper)
        image = lower.imshow(q_values.argmax(-1), cmap=colors, norm=norm, interpolation="nearest", **place)
        bar = figure.colorbar(image, ax=lower, ticks=range(len(names)))
        bar.ax.set_yticklabels(names)
        lower.set_xlabel(x[1])
        figure.supylabel(y[1], fontsize=12)  # once: two of them, one above the other, run into each other
    return figure


def _grid(agent, x, y, state, points):
    """Q-values [points, points, actions], rows over y from its lowest, columns over x."""
    size = agent.state_shape[0] if len(agent.state_shape) == 1 else 0
    for index, name, low, high in (x, y):
        if not 0 <= index < size or not low < high:
            received = (index, name, low, high)
            raise ValueError(f"An axis is (index from 0 to {size - 1}, name, lowest, highest). Received: {received}")
    base = np.zeros(size, np.float32) if state is None else np.asarray(state, np.float32)
    states = np.broadcast_to(base, (points, points, size)).copy()
    states[..., x[0]] = np.linspace(*x[2:], points)
    states[..., y[0]] = np.linspace(*y[2:], points)[:, None]
    return agent.q_values(states.reshape(-1, size)).reshape(points, points, -1)
