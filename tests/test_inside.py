"""What is shown of a network's inside, against the network itself."""

import base64
import re
from io import BytesIO
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from matplotlib import image

from keras_dqn import Agent, CartPole, inside, plots
from keras_dqn.show import notebook


@pytest.fixture(scope="module")
def agent():
    return Agent(4, 2, weight_backup=None, seed=0)


@pytest.fixture(scope="module")
def pretrained():
    return CartPole(weights="pretrained", weight_backup=None, seed=0)


@pytest.fixture
def q_values(agent):
    return agent.q_values(np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32))


def test_the_curve_has_a_line_an_action_through_every_q_value(q_values):
    (panel,) = inside.q_curve(q_values, ("left", "right")).axes
    assert [line.get_label() for line in panel.lines] == ["left", "right"]
    for line, values in zip(panel.lines, q_values.T, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(30))
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert panel.get_xlabel() == "Step"


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


def test_the_pretrained_agent_pushes_to_where_the_pole_falls(pretrained):
    figure = inside.policy_map(pretrained.agent, (2, "", -0.2, 0.2), (3, "", -2, 2))
    action = figure.axes[1].images[0].get_array()
    assert action[0, 0] == 0 and action[-1, -1] == 1  # falling to the left, and to the right


def test_the_figures_are_not_blank(agent, q_values):
    figures = [inside.q_curve(q_values), inside.policy_map(agent, (0, "x", -1, 1), (1, "y", -1, 1))]
    for figure in figures:
        plots.save_figure(figure, "figure.png")
        pixels = image.imread("figure.png")
        assert pixels.shape[1] == 900 and pixels[..., :3].std() > 0.05


def test_what_cannot_be_drawn_is_named(agent, q_values):
    for axis in ((4, "x", 0, 1), (-1, "x", 0, 1), (0, "x", 1, 1), (0, "x", 2, 1)):
        with pytest.raises(ValueError, match=r"An axis is \(index from 0 to 3, .* Received: \("):
            inside.policy_map(agent, axis, (1, "y", 0, 1))
    with pytest.raises(ValueError, match=r"`action_names` must be 2 names. Received: \['left'\]"):
        inside.q_curve(q_values, ["left"])
    with pytest.raises(ValueError, match="There is no filmed run to show: call `run\\(\\)` first. Received: None"):
        inside.show_run(None)


# Pictures of a film


def test_the_pictures_of_a_film_have_a_bar_an_action_and_the_best_one_is_dark(pretrained):
    env = inside.InsideView(pretrained.make_env("rgb_array"), pretrained.agent, pretrained.action_names)
    state, _ = env.reset(seed=0)
    seen, most = set(), 0
    for _ in range(20):
        picture = env.render()
        assert picture.shape == (544, 600, 3) and picture.dtype == np.uint8
        np.testing.assert_array_equal(picture[:10, :10], 255)
        dark = (picture[400:] == (0x00, 0x72, 0xB2)).all(-1)  # below the game
        best = int(np.flatnonzero(dark.any(1)).mean() > 64)  # the upper bar is that of the first action
        q_values = pretrained.agent.q_values(state[None])[0]
        most = max(most, np.ptp(q_values))
        assert dark.any(0).sum() == pytest.approx(426 * np.ptp(q_values) / most, abs=2)
        assert best == q_values.argmax()
        seen.add(best)
        state, *_ = env.step(best)
    assert seen == {0, 1}
    assert not np.array_equal(picture[:400], env.render()[:400]), "it follows the game"


def test_beside_a_game_of_frames_are_those_that_the_network_sees():
    class Frames:
        state_shape, action_size = (4, 84, 84), 4

        def q_values(self, states):
            return np.array([[1.0, 2, 3, 4]])

    class Game(gym.Env):
        observation_space, action_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8), gym.spaces.Discrete(4)
        render_mode, stacks_frames = "rgb_array", True

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
    for gray in (40, 90, 140, 190):
        shown = (picture[:400, 305:] == gray).all(-1)
        assert [(shown.sum(axis) > 100).sum() for axis in (0, 1)] == [140, 140], "each as large as the others"


# A run in a notebook


def test_a_run_is_shown_with_its_q_values_and_a_line_that_moves_with_the_film(pretrained, monkeypatch, chromium):
    pretrained.run()
    run = pretrained.last_run
    assert run.q_values.shape == (run.score, 2) and run.action_names == pretrained.action_names
    shown = []
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data["text/html"]))
    inside.show_run(run)
    inside.show_run(run)
    assert base64.b64encode(Path("videos/cartpole.mp4").read_bytes()).decode() in shown[0]
    picture = image.imread(BytesIO(base64.b64decode(re.search(r'image/png;base64,([^"]+)"', shown[0])[1])))
    left, span = map(float, re.search(r"line.style.left = ([\d.]+) \+ ([\d.]+) \*", shown[0]).groups())
    dark = np.flatnonzero((picture[..., :3].sum(-1) < 1).mean(0) > 0.5)  # the panel's left edge is drawn in ink
    assert dark.min() / picture.shape[1] == pytest.approx(left / 100, abs=0.01)
    assert left + span == pytest.approx(97, abs=1)
    Path("notebook.html").write_text(f"<!doctype html><body>{''.join(shown)}</body>")
    chromium.open(Path("notebook.html").absolute())
    chromium.wait("[...document.querySelectorAll('video')].every((film) => film.currentTime > 0)")
    chromium.run(
        "document.querySelectorAll('video').forEach((film, i) => (film.pause(), film.currentTime = 2 + 5 * i))"
    )
    for number, seconds in enumerate((2, 7)):
        place = f"parseFloat(document.querySelectorAll('.now')[{number}].style.left)"
        chromium.wait(f"Math.abs({place} - {left + span * seconds / 10.02}) < 0.1")
    assert chromium.problems == []
