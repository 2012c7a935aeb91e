import math
import os
import subprocess
import sys
import threading
import warnings
from collections import deque

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from keras_dqn.playable.cartpole import PlayableCartPole
from keras_dqn.playable.window import play

ID = "keras_dqn/PlayableCartPole-v0"
LEFT, NOTHING, RIGHT = 0, 1, 2
POLE = (202, 152, 101)  # the colors of the frame
POST = (200, 60, 60)


@pytest.fixture
def window(monkeypatch):
    """A display that nobody sees, where `play` finds one."""
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    pygame.quit()  # an earlier test may have opened another
    # A window that nothing closes would hang the tests.
    watchdog = threading.Timer(10, lambda: pygame.event.post(pygame.event.Event(pygame.QUIT)))
    watchdog.start()
    yield pygame
    watchdog.cancel()
    pygame.quit()


@pytest.fixture
def unseen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def python(code, *options, **environment):
    """Run code in a fresh interpreter; `environment` changes its variables, None removes one."""
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=60)


def lagrange(state, force, half_length):
    """One Euler step of a uniform rod of 0.1 kg on a cart of 1 kg, from its two equations of motion, unsolved.

    The rod's centre is at (x + l sin, l cos), and its moment of inertia about it is m l² / 3.
    """
    _, velocity, angle, spin = state
    cart, rod, gravity, seconds = 1.0, 0.1, 9.8, 0.02
    coupling = rod * half_length * math.cos(angle)
    mass_matrix = [[cart + rod, coupling], [coupling, rod * half_length**2 * 4 / 3]]
    forces = [force + rod * half_length * spin**2 * math.sin(angle), rod * gravity * half_length * math.sin(angle)]
    acceleration, angular = np.linalg.solve(mass_matrix, forces)
    return np.array([velocity, acceleration, spin, angular]) * seconds + state


def late_rule(env, seed, delay=10):
    """Steps that a simple rule lasts whose actions come `delay` steps late."""
    state, _ = env.reset(seed=seed)
    waiting = deque([NOTHING] * delay)
    for step in range(1, 1001):
        lean = np.dot(state, (0.06, 0.1, 1.0, 0.6))
        waiting.append(LEFT if lean < -0.2 else RIGHT if lean > 0.2 else NOTHING)
        state, _, terminated, truncated, _ = env.step(waiting.popleft())
        if terminated or truncated:
            return step


def test_passes_the_checker_of_gymnasium_without_a_warning(unseen):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(ID, render_mode="rgb_array")
        check_env(env.unwrapped)
        env.close()


def test_is_registered_under_its_id():
    env = gymnasium.make(ID)
    assert type(env.unwrapped) is PlayableCartPole
    assert env.action_space == gymnasium.spaces.Discrete(3)
    assert env.spec.max_episode_steps == 1000
    state, _ = env.reset(seed=0)
    assert state.dtype == np.float32 and env.step(np.int64(1))[0].dtype == np.float32


def test_sizes_follow_from_length_and_angle():
    env = PlayableCartPole()
    assert (env.length, env.polemass_length) == (1.5, pytest.approx(0.15))
    assert env.theta_threshold_radians == pytest.approx(math.radians(60))
    high = env.observation_space.high
    np.testing.assert_allclose(high[[0, 2]], [4.8, math.radians(120)], rtol=1e-6)
    assert np.isfinite(high).all() and high[[1, 3]].min() > 1e38
    np.testing.assert_array_equal(env.observation_space.low, -high)
    assert PlayableCartPole(half_length=2.0, failure_angle=45).observation_space.high[2] == np.float32(math.pi / 2)


@pytest.mark.parametrize("half_length", [0.5, 1.5, 2.0])
def test_physics_are_those_of_a_rod_on_a_cart(half_length):
    env = PlayableCartPole(half_length=half_length)
    generator = np.random.default_rng(3)
    for _ in range(20):
        env.reset(seed=int(generator.integers(1000)))
        expected = env.state = generator.uniform((-1, -2, -0.9, -2), (1, 2, 0.9, 2))
        for action in generator.integers(3, size=20):
            expected = lagrange(expected, {LEFT: -10, NOTHING: 0, RIGHT: 10}[int(action)], half_length)
            state, _, terminated, _, _ = env.step(action)
            np.testing.assert_allclose(env.state, expected, rtol=1e-9, atol=1e-9)
            np.testing.assert_array_equal(state, env.state.astype(np.float32))
            if terminated:
                break


def test_pushes_equal_those_of_cartpole_step_for_step():
    ours = PlayableCartPole(half_length=0.5, failure_angle=12)
    theirs = gymnasium.make("CartPole-v1").unwrapped
    pushes = np.random.default_rng(0)
    for seed in range(30):
        np.testing.assert_array_equal(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
        terminated = False
        while not terminated:
            push = int(pushes.integers(2))
            state, reward, terminated, truncated, _ = ours.step(RIGHT if push else LEFT)
            expected = theirs.step(push)
            np.testing.assert_array_equal(ours.state, theirs.state)  # float64, the same bits
            np.testing.assert_array_equal(state, expected[0])
            assert (reward, terminated, truncated) == expected[1:4]


def test_nothing_equals_cartpole_without_force():
    ours = PlayableCartPole(half_length=0.5, failure_angle=12)
    theirs = gymnasium.make("CartPole-v1").unwrapped
    theirs.force_mag = 0.0
    for seed in range(5):
        ours.reset(seed=seed), theirs.reset(seed=seed)
        terminated = False
        while not terminated:
            terminated = ours.step(NOTHING)[2]
            assert terminated == theirs.step(seed % 2)[2]
            np.testing.assert_array_equal(ours.state, theirs.state)


@pytest.mark.parametrize("side", [-1, 1])
def test_ends_where_the_pole_leans_over_the_angle_or_the_cart_leaves(side):
    env = PlayableCartPole()
    for state, ends in [
        ((0, 0, math.radians(59.9), 0), False),
        ((0, 0, math.radians(60.1), 0), True),
        ((2.39, 0, 0, 0), False),
        ((2.41, 0, 0, 0), True),
    ]:
        env.reset(seed=0)
        env.state = side * np.array(state, float)
        observation, reward, terminated, truncated, _ = env.step(NOTHING)
        assert (reward, terminated, truncated) == (1.0, ends, False)
        assert observation in env.observation_space


def test_is_truncated_after_1000_steps_and_not_before():
    env = gymnasium.make(ID)
    env.reset(seed=0)
    for step in range(1, 1001):
        env.unwrapped.state = np.zeros(4)  # upright without force: it stays
        _, _, terminated, truncated, _ = env.step(NOTHING)
        assert not terminated and truncated == (step == 1000)


def test_can_be_held_by_who_reacts_late_as_cartpole_cannot():
    playable_lengths = [late_rule(gymnasium.make(ID), seed) for seed in range(3)]
    cartpole_lengths = [late_rule(PlayableCartPole(half_length=0.5, failure_angle=12), seed) for seed in range(3)]
    assert min(playable_lengths) == 1000
    assert max(cartpole_lengths) < 60


def test_refuses_an_unknown_action_and_leaves_the_state():
    env = PlayableCartPole()
    env.reset(seed=0)
    before = env.state.copy()
    for action in (-1, 3, 0.5, "a", None, np.array([1])):
        with pytest.raises(ValueError, match=r"0 \(left\), 1 \(no force\) or 2 \(right\).*Received: "):
            env.step(action)
    np.testing.assert_array_equal(env.state, before)
    assert env.step(np.uint8(0))[0][1] < 0, "0 - 1 would be 255 in uint8"


def test_refuses_an_unknown_action_under_O():
    code = f"import gymnasium, keras_dqn.playable\nenv = gymnasium.make('{ID}')\nenv.reset()\nenv.step(3)"
    done = python(code, "-O")
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("ValueError: The action must be 0")


def test_refuses_impossible_poles():
    for wrong in (0, -1.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"out of range. Received: {wrong}, 60"):
            PlayableCartPole(half_length=wrong)
    for wrong in (0, -12, 90.1, math.nan):
        with pytest.raises(ValueError, match=f"out of range. Received: 1.5, {wrong}"):
            PlayableCartPole(failure_angle=wrong)


@pytest.mark.parametrize("sizes", [{}, {"half_length": 3.0, "failure_angle": 12}, {"failure_angle": 90}])
@pytest.mark.parametrize("side", [-1, 0, 1])
def test_the_whole_pole_is_on_the_screen(unseen, sizes, side):
    env = PlayableCartPole("rgb_array", **sizes)
    env.reset(seed=0)
    for lean in (0, 0.5, 1):
        env.state = np.array([side * 2.4, 0, (side or 1) * lean * env.theta_threshold_radians, 0])
        frame = env.render()
        assert frame.shape == (400, 600, 3) and frame.dtype == np.uint8
        rows, columns = np.nonzero((frame == POLE).all(-1))
        assert rows.min() > 0 and rows.max() < 399 and columns.min() > 0 and columns.max() < 599
        # As long as the scale says: nothing of it is cut off or hidden, but for the 10 pixels about the axle.
        length = 600 * env.length / (env.x_threshold + 2 * env.length)
        assert np.hypot(np.ptp(rows), np.ptp(columns)) == pytest.approx(length, abs=12)
    assert env.x_threshold == 2.4
    env.close()


def test_posts_stand_where_the_middle_of_the_cart_ends_the_episode(unseen):
    env = PlayableCartPole("rgb_array")
    env.reset(seed=0)
    for x in (-2.4, 2.4):
        env.state = np.array([x, 0, 0, 0])
        frame = env.render()
        posts = np.unique(np.nonzero((frame == POST).all(-1))[1])
        cart = np.nonzero((frame[310] == 0).all(-1))[0].mean()  # under the track, where only the cart is
        assert len(posts) == 6
        assert min(abs(posts - cart)) < 1.5
    env.close()


# A display that is not there, one that cannot be reached, and what filming without a display leaves behind.
@pytest.mark.parametrize(
    "display, driver, named", [(None, None, "None"), ("", "dummy", "''"), (":983", "x11", "':983'")]
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_without_a_display_says_so_before_anything_opens(display, driver, named):
    code = """if True:
        import gymnasium, sys
        from keras_dqn.playable.window import play
        gymnasium.make = None
        try:
            play()
        except OSError as error:
            print(error)
        assert "gymnasium.utils.play" not in sys.modules
    """
    done = python(code, DISPLAY=display, WAYLAND_DISPLAY=None, SDL_VIDEODRIVER=driver, PYGAME_HIDE_SUPPORT_PROMPT="1")
    assert done.returncode == 0, done.stderr
    (said,) = done.stdout.splitlines()
    assert "names none that can be reached: play on a computer with a desktop" in said
    assert said.endswith(f"Received: {{'DISPLAY': {named}, 'WAYLAND_DISPLAY': None}}")


class Player:
    """A callback of `play` that presses keys: `script` says which events to post after which step."""

    def __init__(self, pygame, script, last):
        self.pygame, self.script, self.last, self.actions, self.rewards = pygame, script, last, [], []

    def __call__(self, before, after, action, reward, terminated, truncated, info):
        self.actions.append(action)
        self.rewards.append(reward)
        for kind, key in self.script.get(len(self.actions), ()):
            self.pygame.event.post(self.pygame.event.Event(kind, key=key))
        if len(self.actions) == self.last:
            self.pygame.event.post(self.pygame.event.Event(self.pygame.KEYDOWN, key=self.pygame.K_ESCAPE))


@pytest.fixture
def no_waiting(monkeypatch):
    """Let the window run as fast as it can."""
    monkeypatch.setitem(PlayableCartPole.metadata, "render_fps", 10_000)
    monkeypatch.setitem(gymnasium.make("MountainCar-v0").unwrapped.metadata, "render_fps", 10_000)


@pytest.mark.parametrize("game", ["cartpole", "mountaincar"])
def test_keys_become_actions(window, no_waiting, capsys, game):
    down, up = window.KEYDOWN, window.KEYUP
    script = {
        2: [(down, window.K_a)],
        4: [(up, window.K_a), (down, window.K_d)],
        6: [(up, window.K_d), (down, window.K_LEFT)],
        8: [(up, window.K_LEFT), (down, window.K_RIGHT)],
        10: [(down, window.K_a)],  # two at once
        12: [(up, window.K_a), (up, window.K_RIGHT), (down, window.K_x)],
    }
    player = Player(window, script, last=14)
    assert play(game, player) == []
    assert player.actions == [1, 1, 0, 0, 2, 2, 0, 0, 2, 2, 1, 1, 1, 1]
    assert "Score" not in capsys.readouterr().out  # no episode had ended


def test_prints_and_returns_the_score_of_each_episode(window, no_waiting, capsys):
    ends = []
    player = Player(window, {1: [(window.KEYDOWN, window.K_d)]}, last=150)

    def callback(*step):
        player(*step)
        if step[4] or step[5]:
            ends.append(len(player.actions))

    scores = play(callback=callback)
    assert len(ends) >= 2  # always pushed to the right, the cart soon leaves the track
    assert scores == np.diff([0, *ends]).tolist()
    printed = [line for line in capsys.readouterr().out.splitlines() if "Score" in line]
    assert printed == [f"Episode {i}# Score: {score:g}" for i, score in enumerate(scores)]


def test_mountaincar_scores_its_200_steps_and_other_games_are_refused(window, no_waiting, capsys):
    with pytest.raises(ValueError, match="The games to play are cartpole, mountaincar. Received: 'pong'"):
        play("pong")
    assert play("mountaincar", Player(window, {}, last=210)) == [-200]
    assert "Episode 0# Score: -200\n" in capsys.readouterr().out


def test_closing_the_window_or_an_error_ends_it_and_closes_the_environment(window, no_waiting, monkeypatch):
    closed = []
    monkeypatch.setattr(PlayableCartPole, "close", lambda env: closed.append(env))
    assert play(callback=lambda *step: window.event.post(window.event.Event(window.QUIT))) == []
    with pytest.raises(KeyboardInterrupt):
        play(callback=lambda *step: (_ for _ in ()).throw(KeyboardInterrupt))
    assert len(closed) == 2


def test_runs_in_real_time(window):
    ticks = []
    player = Player(window, {}, last=26)
    play(callback=lambda *step: (ticks.append(window.time.get_ticks()), player(*step)))
    assert ticks[-1] - ticks[0] >= 25 * 18  # milliseconds: 50 steps a second


def test_imports_are_lazy_and_figures_stay_where_they_were():
    code = """if True:
        import sys
        import keras_dqn.playable
        heavy = {"tensorflow", "keras", "torch", "pygame", "matplotlib", "gymnasium.utils.play"} & set(sys.modules)
        assert not heavy, heavy
        import matplotlib
        matplotlib.use("svg")
        import pygame
        escape = lambda *step: pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE))
        keras_dqn.playable.play(callback=escape)
        assert matplotlib.get_backend() == "svg", matplotlib.get_backend()
        assert not {"tensorflow", "keras"} & set(sys.modules)
    """
    done = python(code, DISPLAY=":0", SDL_VIDEODRIVER="dummy")
    assert done.returncode == 0, done.stderr
