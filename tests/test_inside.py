"""What is shown of a network's inside, against the network itself."""

import base64
import re
from io import BytesIO

import gymnasium as gym
import numpy as np
import pytest
from matplotlib import image

from keras_dqn import Agent, CartPole, inside, plots


@pytest.fixture
def agent():
    return Agent(4, 2, weight_backup=None, seed=0)


@pytest.fixture
def q_values(agent):
    return agent.q_values(np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32))


def test_the_curve_has_a_line_an_action_through_every_q_value(q_values):
    (panel,) = inside.q_curve(q_values, ("left", "right")).axes
    assert [line.get_label() for line in panel.lines] == ["left", "right"]
    for line, values in zip(panel.lines, q_values.T, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(30))
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert panel.get_xlabel() == "TrainStep"


def test_the_map_shows_the_networks_own_values_at_the_right_places(agent):
    x, y = (2, "Angle", -0.2, 0.2), (3, "Turn", -2.0, 2.0)
    figure = inside.policy_map(agent, x, y, state=[0.5, -1, 9, 9], action_names=("left", "right"), points=11)
    highest, action = figure.axes[0].images[0], figure.axes[1].images[0]
    for column, row in ((0, 0), (10, 0), (0, 10), (3, 7)):
        state = np.array([0.5, -1, -0.2 + 0.04 * column, -2 + 0.4 * row], np.float32)
        q_values = agent.q_values(state[None])[0]
        assert highest.get_array()[row, column] == pytest.approx(q_values.max(), rel=1e-4)
        assert action.get_array()[row, column] == q_values.argmax()
    for shown in (highest, action):
        assert (shown.origin, shown.get_extent()) == ("lower", [-0.2, 0.2, -2.0, 2.0])


def test_the_pretrained_agent_pushes_to_where_the_pole_falls():
    figure = inside.policy_map(CartPole(weights="pretrained").agent, (2, "", -0.2, 0.2), (3, "", -2, 2))
    action = figure.axes[1].images[0].get_array()
    assert action[0, 0] == 0 and action[-1, -1] == 1  # falling to the left, and to the right


def test_the_figures_are_not_blank(agent, q_values, tmp_path):
    figures = [inside.q_curve(q_values), inside.policy_map(agent, (0, "x", -1, 1), (1, "y", -1, 1))]
    for figure in figures:
        plots.save_figure(figure, tmp_path / "figure.png")
        pixels = image.imread(tmp_path / "figure.png")
        assert pixels.shape[1] == 900 and pixels[..., :3].std() > 0.05


def test_the_timeline_holds_film_and_figure_and_lays_its_line_over_the_panel(q_values, tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"film")
    figure = inside.q_curve(q_values)
    first, second = (inside.timeline_html(tmp_path / "film.mp4", figure) for _ in range(2))
    assert f"base64,{base64.b64encode(b'film').decode()}" in first
    picture = image.imread(BytesIO(base64.b64decode(re.search(r'image/png;base64,([^"]+)"', first)[1])))
    left, span = map(float, re.search(r"line.style.left = ([\d.]+) \+ ([\d.]+) \*", first).groups())
    dark = np.flatnonzero((picture[..., :3].sum(-1) < 1).mean(0) > 0.5)  # the panel's left edge is drawn in ink
    assert dark.min() / picture.shape[1] == pytest.approx(left / 100, abs=0.01)
    assert left + span == pytest.approx(97, abs=1)
    ids = [re.search(r'<div id="([^"]+)"', text)[1] for text in (first, second)]
    assert ids[0] != ids[1], "two on one page"


def test_the_pictures_of_a_film_have_a_bar_an_action_and_the_best_one_is_dark():
    cartpole = CartPole(weights="pretrained", weight_backup=None)
    env = inside.InsideView(cartpole.make_env("rgb_array"), cartpole.agent, cartpole.action_names)
    state, _ = env.reset(seed=0)
    seen = set()
    for _ in range(20):
        picture = env.render()
        assert picture.shape == (544, 600, 3) and picture.dtype == np.uint8
        np.testing.assert_array_equal(picture[:10, :10], 255)
        dark = (picture[400:] == (0x00, 0x72, 0xB2)).all(-1).any(1)  # [rows], below the game
        best = int(np.flatnonzero(dark).mean() > 67)  # the upper bar is that of the first action
        assert best == cartpole.agent.act(state, 0)
        seen.add(best)
        state, *_ = env.step(best)
    assert seen == {0, 1}
    assert not np.array_equal(picture[:400], env.render()[:400]), "it follows the game"
    assert env._end.get_text() == f"+{env._scale:.2g}", "the scale says where it ends"


def test_beside_a_game_of_frames_are_those_that_the_network_sees():
    class Frames:
        state_shape, action_size = (4, 84, 84), 4

        def q_values(self, states):
            return np.array([[1.0, 2, 3, 4]])

    class Game(gym.Env):
        observation_space, action_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8), gym.spaces.Discrete(4)
        render_mode = "rgb_array"

        def reset(self, **options):
            return np.arange(40, 240, 50, np.uint8)[:, None, None].repeat(84, 1).repeat(84, 2), {}

        def render(self):
            return np.full((210, 160, 3), (0, 255, 0), np.uint8)

    env = inside.InsideView(Game(), Frames())
    env.reset()
    picture = env.render()
    assert picture.shape[1] == 600 and picture.shape[0] <= 620, "as wide as a notebook shows it, and a screen high"
    green = (picture == (0, 255, 0)).all(-1)
    assert 290 <= green.any(0).sum() <= 305 and green[:, 310:].sum() == 0
    for grey in (40, 90, 140, 190):
        shown = (np.abs(picture[:400, 305:].astype(int) - grey) <= 2).all(-1)
        sides = [(shown.sum(axis) > 100).sum() for axis in (0, 1)]
        assert sides == pytest.approx([140, 140], abs=5), "each as large as the others"


@pytest.mark.parametrize("axis", [(4, "x", 0, 1), (-1, "x", 0, 1), (0, "x", 1, 1), (0, "x", 2, 1)])
def test_an_axis_that_is_none_is_named(agent, axis):
    with pytest.raises(ValueError, match=r"An axis is \(index from 0 to 3, .* Received: \("):
        inside.policy_map(agent, axis, (1, "y", 0, 1))


def test_every_action_has_a_name(q_values):
    with pytest.raises(ValueError, match=r"`action_names` must be 2 names. Received: \['left'\]"):
        inside.q_curve(q_values, ["left"])


def test_a_run_is_shown_with_the_values_it_was_played_by(monkeypatch):
    cartpole = CartPole(weights="pretrained", seed=0)
    with pytest.raises(ValueError, match="There is no filmed run to show: call `run\\(\\)` first. Received: None"):
        inside.show_run(cartpole)
    cartpole.run()
    assert cartpole.last_run.q_values.shape == (cartpole.last_run.score, 2)
    shown = []
    monkeypatch.setattr("keras_dqn.show.video.in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data["text/html"]))
    inside.show_run(cartpole)
    assert len(shown) == 1 and "data:video/mp4" in shown[0] and "data:image/png" in shown[0]
