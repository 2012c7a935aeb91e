"""The page in a real Chromium: its physics against gymnasium, its network against Keras, its keys and frames."""

import html
import http.server
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import keras_dqn
from keras_dqn import CartPole, WeightFileError, game_for, weights
from keras_dqn.__main__ import main
from keras_dqn.backend import keras
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.games import PLAYABLE_CARTPOLE
from keras_dqn.playable import page
from keras_dqn.playable.page import play_here

ENVIRONMENTS = {
    "cartpole": "CartPole-v1",
    "playable-cartpole": PLAYABLE_CARTPOLE,
    "mountaincar": "MountainCar-v0",
}
LEFT, NOTHING, RIGHT = 0, 1, 2
WIDGET = "kerasDqn.widget"


@pytest.fixture
def browser(chromium):
    """The browser, for a test that must leave no error in its console and ask the network for nothing."""
    yield chromium
    assert chromium.problems == []
    assert [address for address in chromium.requests if not address.startswith("file:")] == []


def opened(browser, game, agent=None, speed=1.0, **window):
    """Write the page of a game and open it."""
    browser.open(play_here(game, agent, speed=speed).save(Path("page.html").absolute()), **window)
    return browser


def value(browser, expression):
    return browser.run(f"{WIDGET}.{expression}")


# ---------------------------------------------------------------- physics


def random_episode(env, game, random, seed):
    """(first state, actions, states after each, whether the last one is terminal) of random actions."""
    env.reset(seed=seed)
    first, actions, states, terminated, truncated = list(map(float, env.unwrapped.state)), [], [], False, False
    while not terminated and not truncated:
        action = int(random.integers(env.action_space.n))
        if game == "mountaincar" and random.random() < 0.7:  # or no episode would see the flag or the left end
            action = RIGHT if env.unwrapped.state[1] > 0 else LEFT
        _, _, terminated, truncated, _ = env.step(action)
        actions.append(action)
        states.append(list(map(float, env.unwrapped.state)))
    return first, actions, states, terminated


@pytest.mark.parametrize("game", ENVIRONMENTS)
def test_episodes_of_random_actions_are_gymnasiums(browser, game):
    random = np.random.default_rng(0)
    with gymnasium.make(ENVIRONMENTS[game]) as env:
        episodes = [random_episode(env, game, random, seed) for seed in range(30)]
    opened(browser, game)
    followed = browser.run(
        f"""{json.dumps(episodes)}.map(([state, actions]) => actions.map((action) => {{
            const next = kerasDqn.step({game!r}, state, action);
            state = next.state;
            return [...state, next.reward, next.ending !== null];
        }}))"""
    )
    for (_, actions, states, terminated), steps in zip(episodes, followed, strict=True):
        steps = np.array(steps, float)
        np.testing.assert_allclose(steps[:, :-2], states, rtol=1e-9, atol=1e-12)
        assert (steps[:, -2] == (-1 if game == "mountaincar" else 1)).all()
        assert steps[:, -1].tolist() == [0] * (len(actions) - 1) + [terminated]
    assert any(terminated for *_, terminated in episodes)
    if game == "mountaincar":
        assert min(state for _, _, states, _ in episodes for state in states) == [-1.2, 0.0], "the left end was met"


def controlled_episode(env, game):
    """Actions and states of an episode up to the time limit."""
    env.reset(seed=0)
    actions, states, terminated, truncated = [], [list(map(float, env.unwrapped.state))], False, False
    while not truncated:
        position, velocity, *pole = states[-1]
        right = pole and 10 * pole[0] + 3 * pole[1] + 0.3 * position + 0.6 * velocity > 0
        action = NOTHING if not pole else int(right) * int(env.action_space.n - 1)
        _, _, terminated, truncated, _ = env.step(action)
        assert not terminated
        actions.append(action)
        states.append(list(map(float, env.unwrapped.state)))
    return actions, states


@pytest.mark.parametrize("game", ENVIRONMENTS)
def test_every_step_up_to_the_time_limit_is_gymnasiums(browser, game):
    with gymnasium.make(ENVIRONMENTS[game]) as env:
        actions, states = controlled_episode(env, game)
    opened(browser, game)
    # Each step from gymnasium's state: over 500 steps a falling pole would make a pole's length of the last digit.
    followed, endings, score = browser.run(
        f"""(() => {{
            const episode = new kerasDqn.Episode(kerasDqn.GAMES[{game!r}]), followed = [], endings = [];
            const actions = {actions}, states = {json.dumps(states)};
            actions.forEach((action, i) => {{
                episode.state = states[i];
                episode.step(action);
                followed.push(episode.state);
                endings.push(episode.ending);
            }});
            return [followed, endings, episode.score];
        }})()"""
    )
    np.testing.assert_allclose(followed, states[1:], rtol=1e-12, atol=1e-15)
    assert endings == [None] * (len(actions) - 1) + ["time limit"]
    assert score == (-200 if game == "mountaincar" else len(actions))
    assert len(actions) == {"cartpole": 500, "playable-cartpole": 1000, "mountaincar": 200}[game]


def test_an_ending_has_a_reason(browser):
    opened(browser, "cartpole")
    for game, state, action, ending in (
        ("cartpole", [2.39, 1.0, 0.0, 0.0], 1, "left the track"),
        ("cartpole", [-2.39, -1.0, 0.0, 0.0], 0, "left the track"),
        ("cartpole", [0.0, 0.0, 0.2, 1.0], 1, "fell"),
        ("cartpole", [0.0, 0.0, -0.2, -1.0], 0, "fell"),
        ("playable-cartpole", [0.0, 0.0, 0.2, 1.0], 1, None),
        ("playable-cartpole", [0.0, 0.0, 1.04, 1.0], 1, "fell"),
        ("mountaincar", [0.49, 0.05], 1, "flag"),
    ):
        with gymnasium.make(ENVIRONMENTS[game]) as env:
            env.reset()
            env.unwrapped.state = np.array(state)
            assert env.step(action)[2] is (ending is not None)
        assert browser.run(f"kerasDqn.step({game!r}, {state}, {action}).ending") == ending


def test_episodes_begin_where_gymnasiums_do(browser):
    opened(browser, "cartpole")
    for game in ENVIRONMENTS:
        reset = f"kerasDqn.GAMES[{game!r}].reset(Math.random)"
        states = np.array(browser.run(f"Array.from({{length: 400}}, () => {reset})"))
        low, high = ([-0.6, 0], [-0.4, 0]) if game == "mountaincar" else ([-0.05] * 4, [0.05] * 4)
        assert (states >= low).all() and (states <= high).all()
        np.testing.assert_allclose(states.min(0), low, atol=0.01)
        np.testing.assert_allclose(states.max(0), high, atol=0.01)


# ---------------------------------------------------------------- the network


def differently_weighted(brain, random):
    """The brain with every weight random, biases too."""
    brain.set_weights([random.normal(0, 0.5, weight.shape) for weight in brain.get_weights()])
    return brain


NETWORKS = {
    "24-24": lambda: mlp(4, 2),
    "128-128 scaled": lambda: mlp(4, 2, (128, 128), center=(0.1, 0, 0, -1), scale=(4.8, 5.0, 0.42, 5.0)),
    "scaled by one number": lambda: keras.Sequential(
        [keras.Input((4,)), keras.layers.Rescaling(0.5, 0.1), keras.layers.Dense(2)]
    ),
    "dueling": lambda: mlp(4, 2, (64, 64), dueling=True),
    "one layer": lambda: mlp(4, 2, ()),
    "no bias": lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, use_bias=False)]),
    **{name: (lambda name=name: mlp(4, 2, activation=name)) for name in ("tanh", "sigmoid", "elu")},
}


def assert_same_q_values(browser, brain, states):
    states = states.astype(np.float32)
    expected = brain(states).numpy()
    received = browser.run(f"{states.tolist()}.map((state) => {WIDGET}.network.qValues(state))")
    assert np.shape(received) == expected.shape
    assert (np.abs(received - expected) <= 1e-5 * np.maximum(1, np.abs(expected))).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_q_values_are_those_of_keras(browser, name):
    random = np.random.default_rng(1)
    brain = differently_weighted(NETWORKS[name](), random)
    opened(browser, CartPole(weights=None, brain=brain))
    assert_same_q_values(browser, brain, random.normal(0, 1, (200, 4)))


def test_observations_are_float32_as_gymnasiums(browser):
    opened(browser, "cartpole", "pretrained")
    state = [0.1 + 1e-9, 0.2, 0.03, 0.4]
    rounded = np.array(state, np.float32).tolist()
    assert value(browser, f"network.qValues({state})") == value(browser, f"network.qValues({rounded})")


def test_an_agent_of_three_actions_for_the_cart_pole_to_play(browser):
    game = game_for(ENVIRONMENTS["playable-cartpole"])(weights=None, recipe="fast", seed=0)
    opened(browser, game)
    assert_same_q_values(browser, game.agent.brain, np.random.default_rng(3).normal(0, 1, (50, 4)))
    browser.click("document.querySelector('[data-player=agent]')")
    browser.wait(f"{WIDGET}.episode.steps > 5")
    weights.save_weights(game.agent.brain, "fast.h5")
    assert play_here("playable-cartpole", weights="fast.h5", recipe="fast").html == play_here(game).html


def test_the_weights_are_those_of_the_moment():
    game = CartPole(weights=None, seed=0)
    before = play_here(game).html
    assert play_here(game).html == before
    differently_weighted(game.agent.brain, np.random.default_rng(0))
    assert play_here(game).html != before


# ---------------------------------------------------------------- playing


def test_the_agent_plays_and_its_score_stands_beside_the_humans(browser):
    opened(browser, "cartpole", "pretrained", speed=20)
    browser.key("keyDown", "d")
    assert browser.wait(f"{WIDGET}.phase === 'over'")
    browser.key("keyUp", "d")
    human = value(browser, "episode.score")
    message = browser.run("document.querySelector('.message').textContent")
    assert re.fullmatch(rf"Episode over: score {human} \((fell|left the track)\)", message)
    browser.click("document.querySelector('[data-player=agent]')")
    browser.wait(f"{WIDGET}.player === 'agent' && {WIDGET}.phase === 'over'")
    assert value(browser, "episode.score") >= 475
    best = "[...document.querySelectorAll('.best output')].map((output) => Number(output.textContent))"
    assert browser.run(best) == [human, value(browser, "episode.score")]
    assert browser.run("document.querySelector('.message').textContent").endswith("(time limit)")


def test_the_car_drives_to_the_flag(browser):
    opened(browser, "mountaincar", "pretrained", speed=20)
    browser.click("document.querySelector('[data-player=agent]')")
    browser.wait(f"{WIDGET}.phase === 'over'")
    assert value(browser, "episode.score") > -140
    text = browser.run("document.querySelector('.message').textContent")
    assert re.fullmatch(r"Episode over: score −\d+ \(flag\)", text)


def test_the_clock_is_that_of_the_environment(browser):
    for game, environment in ENVIRONMENTS.items():
        rate = gymnasium.spec(environment).make().metadata["render_fps"]
        for speed in (0.5, 1):
            opened(browser, game, speed=speed)
            seconds = browser.run(  # as if the screen showed 60 frames a second, whatever it does here
                f"""(() => {{
                    const widget = {WIDGET};
                    widget.go();
                    let time = widget.shownAt, frames = 0;
                    for (; widget.episode.steps < 12; frames++) widget.frame(time += 1000 / 60);
                    return frames / 60;
                }})()"""
            )
            assert seconds * speed == pytest.approx(12 / rate, abs=0.02)


def test_a_key_moves_the_cart_until_it_is_released_and_two_are_as_good_as_none(browser):
    opened(browser, "playable-cartpole")
    chosen = "game.actions[kerasDqn.widget.humanAction()]"
    for key, name in (("a", "Left"), ("D", "Right"), ("ArrowLeft", "Left"), ("ArrowRight", "Right")):
        browser.key("keyDown", key)
        browser.wait(f"{WIDGET}.game.actions[{WIDGET}.action] === '{name}'")
        browser.key("keyUp", key)
        assert value(browser, chosen) == "Nothing"
    for key in ("ArrowLeft", "d"):
        browser.key("keyDown", key)
    assert value(browser, chosen) == "Nothing"
    browser.key("keyUp", "ArrowLeft")
    assert value(browser, chosen) == "Right"
    browser.key("keyUp", "d")


def test_where_every_step_pushes_left_and_right_alternate(browser):
    opened(browser, "cartpole")
    step = f"(() => {{ {WIDGET}.step(); return {WIDGET}.action; }})()"
    assert browser.run(f"Array.from({{length: 6}}, () => {step})") == [0, 1, 0, 1, 0, 1]
    value(browser, "steering.hold('key', 'right')")
    assert browser.run(f"Array.from({{length: 4}}, () => {step})") == [1, 1, 1, 1]
    assert "alternate" in browser.run("document.querySelector('.hint').textContent")


def test_pause_and_restart(browser):
    opened(browser, "mountaincar")
    browser.key("keyDown", " ")  # starts
    browser.key("keyUp", " ")
    browser.wait(f"{WIDGET}.episode.steps > 3")
    browser.click("document.querySelector('.pause')")
    steps = value(browser, "episode.steps")
    assert browser.run(f"new Promise((done) => setTimeout(() => done({WIDGET}.episode.steps), 200))") == steps
    assert browser.run("document.querySelector('.message').textContent") == "Paused"
    browser.key("keyDown", "p")
    browser.key("keyUp", "p")
    browser.wait(f"{WIDGET}.episode.steps > {steps}")
    browser.click("document.querySelector('.restart')")
    assert (value(browser, "episode.steps"), value(browser, "phase")) == (0, "ready")
    browser.click("document.querySelector('.go')")
    browser.wait(f"{WIDGET}.episode.steps > 0")
    browser.key("keyDown", "r")
    browser.key("keyUp", "r")
    assert (value(browser, "episode.steps"), value(browser, "phase")) == (0, "ready")


def test_a_best_score_in_slow_motion_is_called_so(browser):
    opened(browser, "cartpole")
    speeds = []
    for _ in range(4):
        browser.click("document.querySelector('.speed')")
        speeds.append(browser.run("document.querySelector('.speed').textContent"))
    assert speeds == ["Speed ½×", "Speed ¼×", "Speed 2×", "Speed 1×"]
    browser.click("document.querySelector('.speed')")
    value(browser, f"episode.state = {[2.39, 3, 0, 0]}")
    browser.click("document.querySelector('.go')")
    browser.wait(f"{WIDGET}.phase === 'over'")
    assert browser.run("document.querySelector('.best').innerText").endswith("at ½× speed")


@pytest.mark.parametrize(("side", "sign"), [("left", -1), ("right", 1)])
def test_a_finger_on_a_button_drives(browser, side, sign):
    opened(browser, "playable-cartpole", width=360, height=740, touch=True)
    button = browser.point(f"document.querySelector('.steer[data-side={side}]')")
    browser.touch("touchStart", button)
    browser.wait(f"{sign} * {WIDGET}.episode.state[0] > 0.1")
    assert browser.run(f"document.querySelector('.steer[data-side={side}]').classList.contains('held')")
    browser.touch("touchEnd")
    assert value(browser, "game.actions[kerasDqn.widget.humanAction()]") == "Nothing"
    assert browser.run("document.querySelectorAll('.held').length") == 0


def beside_the_pole(browser, side):
    """A place on the canvas 60 pixels left (-1) or right (1) of where the cart stands, at half the pole's height."""
    x, y = browser.point("document.querySelector('canvas')")
    return x + 60 * side, y


@pytest.mark.parametrize(("game", "side"), [("cartpole", -1), ("playable-cartpole", 1)])
def test_the_mouse_pushes_the_pole_away(browser, game, side):
    opened(browser, game)
    value(browser, "episode.state = [0, 0, 0, 0]")
    value(browser, "go()")
    place = beside_the_pole(browser, side)
    browser.mouse("mousePressed", *place)
    browser.mouse("mouseReleased", *place)
    assert -side * browser.wait(f"Math.abs({WIDGET}.episode.state[2]) > 0.02 && {WIDGET}.episode.state[2]") > 0
    browser.wait(f"{WIDGET}.finger === null || {WIDGET}.phase === 'over'")


def test_a_click_before_the_start_or_at_the_car_pushes_nothing(browser):
    opened(browser, "playable-cartpole")
    browser.click("document.querySelector('canvas')")
    assert value(browser, "finger") is None
    assert "gent" not in browser.run("document.body.innerText"), "without an agent nothing speaks of one"
    opened(browser, "mountaincar")
    value(browser, "go()")
    browser.click("document.querySelector('canvas')")
    assert value(browser, "finger") is None


def test_the_bars_are_named_by_action_and_follow_the_agent(browser):
    opened(browser, "mountaincar", "pretrained")
    rows = "[...document.querySelectorAll('.bar')].map((row) => row.innerText.split('\\n').filter(Boolean))"
    before = browser.run(rows)
    assert [name for name, _ in before] == ["Left", "Nothing", "Right"]
    expected = value(browser, "network.qValues(kerasDqn.widget.episode.state)")
    shown = [float(number.replace("−", "-")) for _, number in before]
    np.testing.assert_allclose(shown, expected, atol=0.006)
    assert browser.run("document.querySelector('.bar.chosen').innerText").startswith(before[int(np.argmax(shown))][0])
    widths = "[...document.querySelectorAll('.bar i')].map((bar) => bar.getBoundingClientRect().width)"
    assert np.argmax(browser.run(widths)) == np.argmax(expected)
    browser.click("document.querySelector('[data-player=agent]')")
    browser.wait(f"{WIDGET}.episode.steps > 20")
    assert browser.run(rows) != before


# ---------------------------------------------------------------- what is seen


# Of a copy of the canvas, [4 × pixels] bytes: reading the canvas itself would slow it down, and Chromium says so.
PIXELS = f"""(() => {{
    const {{canvas}} = {WIDGET}, copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
    copy.drawImage(canvas, 0, 0);
    return copy.getImageData(0, 0, canvas.width, canvas.height).data;
}})()"""


@pytest.mark.parametrize("game", ENVIRONMENTS)
def test_the_picture_is_not_blank_and_fits_a_phone(browser, game):
    opened(browser, game, None if game == "playable-cartpole" else "pretrained", width=360, height=740, touch=True)
    assert browser.run("document.documentElement.scrollWidth") == 360
    assert browser.run(f"new Set(new Uint32Array({PIXELS}.buffer)).size") > 100
    small = "[...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.offsetHeight < 40).length"
    assert browser.run(small) == 0, "every button is large enough for a finger"


def brightness(browser):
    """Mean of the canvas's red, green and blue, and the page's background."""
    return browser.run(
        f"""(() => {{
            const light = {PIXELS}.filter((_, i) => i % 4 < 3);
            const background = getComputedStyle(document.body).backgroundColor.match(/\\d+/g);
            return [light.reduce((sum, part) => sum + part, 0) / light.length, Number(background[0])];
        }})()"""
    )


def test_the_page_follows_the_color_scheme(browser):
    opened(browser, "cartpole")
    assert min(brightness(browser)) > 180
    browser.color_scheme("dark")
    browser.wait(f"{WIDGET}.colours.skyTop === '#0f1b2b'")
    assert max(brightness(browser)) < 90
    browser.color_scheme("light")
    browser.wait(f"{WIDGET}.colours.skyTop !== '#0f1b2b'")
    assert min(brightness(browser)) > 180


# ---------------------------------------------------------------- in a notebook


def notebook(browser, *pages, **window):
    """Open a page that holds others as a notebook's output cells do, and counts the keys that reach it."""
    cells = "".join(f"<div class='output'>{shown._repr_html_()}</div>" for shown in pages)
    Path("notebook.html").write_text(
        "<!doctype html><meta charset='utf-8'><script>let keys = 0; addEventListener('keydown', () => keys += 1);"
        f"</script><body style='height: 3000px'>{cells}</body>"
    )
    browser.open(Path("notebook.html").absolute(), **window)
    for number in range(len(pages)):
        browser.wait(f"!!frames[{number}].kerasDqn")
    return [f"frames[{number}].kerasDqn.widget" for number in range(len(pages))]


def test_two_games_in_a_notebook_do_not_meet(browser):
    agent = play_here("cartpole", weights="pretrained", speed=20)
    first, second, third = notebook(browser, play_here("playable-cartpole"), play_here("mountaincar"), agent)
    browser.click(f"{first}.find('.go')")
    browser.key("keyDown", "ArrowRight")
    browser.wait(f"{first}.episode.state[0] > 0.1")
    assert browser.run(f"[{second}.phase, {second}.steering.direction, {second}.episode.steps]") == ["ready", 0, 0]
    browser.click(f"{third}.find('[data-player=agent]')")
    browser.wait(f"{third}.phase === 'over'")
    assert browser.run(f"{third}.episode.score") >= 475
    assert browser.run(f"{first}.steering.direction") == 0, "a key is let go when the keyboard goes elsewhere"
    browser.key("keyUp", "ArrowRight")
    browser.click(f"{second}.find('.go')")
    browser.key("keyDown", "a")
    browser.wait(f"{second}.game.actions[{second}.action] === 'Left'")
    browser.key("keyUp", "a")
    assert browser.run(f"{first}.phase") in ("paused", "over"), "it has lost the keyboard"
    assert browser.run("keys") == 0, "no key was for the notebook's shortcuts"


def test_keys_do_not_scroll_the_notebook(browser):
    (game,) = notebook(browser, play_here("mountaincar"), height=500)
    browser.click(f"{game}.find('h1')")
    before = browser.run("scrollY")
    for key in ("ArrowDown", "ArrowUp", "ArrowLeft", " ", "ArrowDown"):
        browser.key("keyDown", key)
        browser.key("keyUp", key)
    assert browser.run("new Promise((done) => setTimeout(() => done(scrollY), 300))") == before
    assert browser.run(f"{game}.phase") != "ready"


@pytest.mark.parametrize("width", [360, 900])
def test_the_frame_is_as_high_as_the_page(browser, width):
    (game,) = notebook(browser, play_here("mountaincar", weights="pretrained"), width=width)
    heights = "[document.querySelector('iframe').clientHeight, frames[0].document.documentElement.scrollHeight]"
    assert browser.wait(f"(([outer, inner]) => outer === inner && outer !== 720)({heights})")
    assert browser.run(f"{game}.root.scrollWidth <= {game}.root.clientWidth")


def test_a_viewer_that_removes_frames_leaves_a_sentence():
    shown = play_here("cartpole")._repr_html_()
    assert shown.startswith("<iframe ") and shown.endswith("</iframe>")
    assert re.sub(r"<[^>]*>", "", shown).endswith("run this cell, or trust the notebook.")
    assert html.unescape(re.search('srcdoc="([^"]*)"', shown)[1]) == play_here("cartpole").html


def test_a_notebook_shows_the_page_as_a_result():
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(keras_dqn.play_here("playable-cartpole"))
    assert data["text/html"].startswith("<iframe ")


# ---------------------------------------------------------------- bad input


def network_with(layer):
    return keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)])


def test_a_layer_that_the_page_cannot_run_is_named():
    def relu(x):
        return x

    for layer in (
        keras.layers.LayerNormalization(name="odd"),
        keras.layers.Dense(8, "gelu", name="odd"),
        keras.layers.Dense(8, relu, name="odd"),
        keras.layers.Dense(8, dtype="mixed_bfloat16", name="odd"),
    ):
        game = CartPole(weights=None, brain=network_with(layer))
        with pytest.raises(
            ValueError, match=rf"The page runs .* Received: Sequential of .*{type(layer).__name__} 'odd'"
        ):
            play_here(game)


def test_a_model_that_is_no_sequential_is_named():
    inputs = keras.Input((4,))
    brain = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match=r"keras.Sequential of .* Received: Functional of "):
        play_here(CartPole(weights=None, brain=brain))


def test_weights_of_another_environment_are_refused():
    with pytest.raises(WeightFileError, match=r"shape \(4, 24\).*Received: \(2, 128\)|Received: "):
        play_here("cartpole", weights=weights.pretrained("mountain_car"))
    with pytest.raises(WeightFileError, match="4 inputs and 2 actions; .* has 4 and 3. Received: Dense 24 relu"):
        play_here("playable-cartpole", weights=weights.pretrained("cartpole"))
    with pytest.raises(ValueError, match="weights but .*'cartpole'.* Received: 'keras_dqn_PlayableCartPole-v0'"):
        play_here("playable-cartpole", weights="pretrained")


class Acrobot(CartPole):
    environment = "Acrobot-v1"


def test_arguments_that_are_none():
    for arguments, message in (
        ({"game": "pong"}, "The games of a page are cartpole, playable-cartpole, mountaincar. Received: 'pong'"),
        ({"game": None}, "Received: None"),
        ({"game": "cartpole", "speed": 0}, "`speed` must be a number above 0. Received: 0"),
        ({"game": "cartpole", "speed": "2"}, "`speed` must be a number above 0. Received: '2'"),
        ({"game": "cartpole", "speed": float("nan")}, "`speed` must be a number above 0. Received: nan"),
        ({"game": "cartpole", "recipe": "fast"}, "Received: {'recipe': 'fast'}"),
        ({"game": "cartpole", "weights": "pretrained", "recipe": "x"}, "`recipe` must be one of"),
    ):
        with pytest.raises(ValueError, match="Received: ") as caught:
            play_here(**arguments)
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_game_of_another_environment_or_with_two_agents_is_refused():
    with pytest.raises(ValueError, match=r"CartPole-v1, .*MountainCar-v0\. Received: 'Acrobot-v1'"):
        play_here(Acrobot(weights=None))
    with pytest.raises(ValueError, match="Received: {'weights': 'pretrained'}"):
        play_here(CartPole(weights=None), weights="pretrained")


# ---------------------------------------------------------------- the command and the file


def test_the_command_writes_one_file_that_plays(browser, capsys):
    agent = CartPole(recipe="fast", weights=None, seed=0).agent
    weights.save_weights(agent.brain, "fast.h5")
    command = ["export-html", "cartpole", "--weights", "fast.h5", "--recipe", "fast", "--out", "page.html"]
    assert main(command) == 0
    assert capsys.readouterr().out == "Page: page.html\n"
    assert {file.name for file in Path.cwd().iterdir()} == {"fast.h5", "page.html"}
    browser.open(Path("page.html").absolute())
    assert_same_q_values(browser, agent.brain, np.random.default_rng(0).normal(0, 1, (20, 4)))
    assert main(["export-html", "mountaincar", "--out", "page.html"]) == 0
    browser.open(Path("page.html").absolute())
    assert value(browser, "network") is None


def test_an_error_leaves_an_older_page():
    Path("page.html").write_text("older")
    with pytest.raises(WeightFileError):
        play_here("mountaincar", weights=weights.pretrained("cartpole")).save("page.html")
    with pytest.raises(OSError, match="no/folder/page.html"):
        play_here("mountaincar").save("no/folder/page.html")
    assert [file.read_text() for file in Path.cwd().iterdir()] == ["older"]


def test_the_page_is_whole_in_itself():
    """No address of anything, no name for the whole page (`id`), and every part of web/ is in it."""
    content = play_here("cartpole", weights="pretrained").html
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(| id=|<link|src=", content)
    for file in (Path(page.__file__).parent / "web").iterdir():
        if file.name != "page.html":
            assert file.read_text("utf-8") in content


# ---------------------------------------------------------------- what the page may do


@pytest.fixture
def server():
    """(address of a server on this machine, the paths that it was asked for)."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_the_page_runs_its_own_script_and_style_and_nothing_else(chromium, server):
    """What is put into the page neither runs, nor is drawn, nor reaches the network; without its policy it all does."""
    address, asked = server
    path = play_here("cartpole").save(Path("page.html").absolute())
    free = Path("free.html").absolute()
    free.write_text(re.sub("<meta http-equiv=.*>", "", path.read_text("utf-8")), "utf-8")
    for page_path, action_mask in [(path, False), (free, True)]:
        chromium.open(page_path)
        assert value(chromium, "game.title") and chromium.problems == [], "its own script runs"
        chromium.run(
            f"""new Promise((done) => {{
                const add = (name, text) =>
                    document.body.appendChild(Object.assign(document.createElement(name), {{textContent: text}}));
                add("script", "window.injected = true");
                add("style", "h1 {{ letter-spacing: 77px }}");
                add("p", "").outerHTML = '<p id="inline" style="letter-spacing: 88px" onclick="clicked = true">p</p>';
                document.getElementById("inline").click();
                const picture = add("img", "");
                picture.onerror = done;
                picture.src = "{address}/picture";
            }})"""
        )
        chromium.run(f"fetch('{address}/data', {{mode: 'no-cors'}}).catch(() => 0).then(() => 0)")
        assert chromium.run("[typeof injected, typeof clicked]") == (["boolean"] if action_mask else ["undefined"]) * 2
        for element, spacing in [("h1", "77px"), ("#inline", "88px")]:
            drawn = chromium.run(f"getComputedStyle(document.querySelector('{element}')).letterSpacing")
            assert (drawn == spacing) == action_mask
        assert sorted(asked) == (["/data", "/picture"] if action_mask else [])


def test_a_page_without_an_agent_needs_no_tensorflow():
    code = "import sys; from keras_dqn.cli import main\n"
    code += "main(['export-html', 'cartpole', '--weights', 'none', '--out', 'page.html'])\n"
    code += "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "<title>CartPole-v1 to play</title>" in Path("page.html").read_text("utf-8")
