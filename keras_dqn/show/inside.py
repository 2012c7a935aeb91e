"""Look inside a network: its Q-values in a film and over an episode, and a map of what it wants to do where."""

import base64
import itertools
import secrets

import gymnasium as gym
import numpy as np

from keras_dqn.show.plots import INK, figure_style, new_figure, png, prepare
from keras_dqn.show.video import show_html, video_html

# The colours of Okabe and Ito in which actions are drawn, in the order of the actions.
_WIDTH = 600  # pixels of a picture with Q-values, which on a phone is shown at 360
_ACTIONS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


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


def q_curve(q_values, action_names=None):
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
        panel.set(xlabel="Step", xlim=(0, max(len(q_values), 1)))
        panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=min(len(names), 6), frameon=False, fontsize=11)
    return figure


def timeline_html(path, figure, width=600):
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


def show_run(runner):
    """Show in a notebook the film of the runner's last `run` and, moving along below it, the Q-values of its steps.

    Raises ValueError where nothing was run, or it could not be filmed.
    """
    run = runner.last_run
    if run is None or not run.paths:
        raise ValueError(f"There is no filmed run to show: call `run()` first. Received: {run}")
    film, q_values = run.paths[-1], run.q_values[: run.filmed]
    show_html(timeline_html(film, q_curve(q_values, runner.action_names)), f"Video: {film}")


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

    def __init__(self, env, agent, action_names=None):
        super().__init__(env)
        self._agent, self._names = agent, _names(action_names, agent.action_size)
        self._figure, self._scale = None, 1e-6

    @property
    def _frames(self):
        """What the network sees now, if that is frames, [K, height, width]; none of a vector of numbers."""
        return self._state if len(self._agent.state_shape) == 3 else ()

    def reset(self, **options):
        self._state, info = self.env.reset(**options)
        return self._state, info

    def step(self, action):
        self._state, *rest = self.env.step(action)
        return self._state, *rest

    def render(self):
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


def policy_map(agent, x, y, state=None, action_names=None, points=81):
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


def _names(names, count):
    names = [f"action {i}" for i in range(count)] if names is None else list(names)
    if len(names) != count:
        raise ValueError(f"`action_names` must be {count} names. Received: {names}")
    return names
