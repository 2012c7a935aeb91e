"""Breakout and other Atari games: on the real emulator, with networks small enough to run in a second."""

import re
from pathlib import Path

import numpy as np
import pytest

from keras_dqn import WeightFileError, interact, load_weights, plots, save_weights
from keras_dqn.backend import keras
from keras_dqn.core.agent import Agent
from keras_dqn.core.networks.atari import difference_cnn, nature_cnn
from keras_dqn.core.networks.layers import ScaledFrames, ScreenDifference
from keras_dqn.core.transition import Transition
from keras_dqn.environments.atari import AtariGame, AtariGames, AtariScreens, action_meanings, cropped
from keras_dqn.games.breakout import HACKATHON2018, Breakout, clipped
from keras_dqn.training.evaluate import evaluate_together
from tests.environments import Counter
from tests.films import decode


def tiny_network(state_shape, action_size, seed=None):
    """Stacks of frames to Q-values, in a thousandth of the time."""
    layers, seed = keras.layers, int(seed.generate_state(1)[0])
    return keras.Sequential(
        [
            keras.Input(state_shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Permute((2, 3, 1)),
            layers.AveragePooling2D(12),
            layers.Flatten(),
            layers.Dense(action_size, kernel_initializer=keras.initializers.GlorotUniform(seed=seed)),
        ]
    )


TINY = {"network": tiny_network, "memory_size": 2000, "learning_starts": 100, "num_envs": 2, "seed": 0}


def tiny(episodes=2, **options):
    """A Breakout whose training takes seconds."""
    return Breakout(episodes, **{"weights": None, **TINY, **options})


def after(env, actions, seed=0):
    """What an environment returned for each of these actions, [N] each: a list of step results."""
    env.reset(seed=seed)
    return [env.step(action) for action in actions]


# ---------------------------------------------------------------- the games


def test_the_agent_sees_the_game_that_is_filmed():
    """Two emulators in step: the grey observation is the colour screen, made grey and averaged over areas."""
    game = AtariGame(AtariGames("breakout", 1), "rgb_array")
    many = AtariGames("breakout", 1)
    state, _ = game.reset(seed=3)
    np.testing.assert_array_equal(state, many.reset(seed=3)[0][0])
    random = np.random.default_rng(0)
    for _ in range(200):
        grey = np.rint(game.render().astype(float) @ [0.299, 0.587, 0.114])
        shrunk = areas(210) @ grey @ areas(160).T
        np.testing.assert_allclose(state[-1], shrunk, atol=0.5 + 1e-9)  # rounded
        action = random.integers(4)
        state, reward, terminated, truncated, info = game.step(action)
        states, rewards, ends, _, _ = many.step(np.array([action]))
        np.testing.assert_array_equal(state, states[0])
        assert (reward, terminated) == (rewards[0], ends[0])
        assert truncated is False and terminated in (True, False) and "life_lost" in info
    game.close()
    many.close()


def areas(pixels):
    """The matrix that averages so many pixels to 84, each by the share of it that a new one covers."""
    new, old = np.mgrid[:84, :pixels]
    size = pixels / 84
    return np.clip(np.minimum((new + 1) * size, old + 1) - np.maximum(new * size, old), 0, None) / size


def test_observations_stay_what_they_were():
    games = AtariGames("breakout", 2)
    states, _ = games.reset(seed=0)
    before = states.copy()
    for _ in range(20):
        games.step(np.array([1, 2]))
    np.testing.assert_array_equal(states, before)
    games.close()


def test_fire_is_pressed_after_each_lost_life():
    games = AtariGames("breakout", 1)
    fire = action_meanings("breakout").index("FIRE")
    games.reset(seed=0)
    lives, pressed, lost = 5, [], []
    for _ in range(400):  # NOOP never starts a ball: without FIRE the first life would last for ever
        _, _, terminated, _, info = games.step(np.array([0]))
        pressed.append(info["executed_actions"][0] == fire)
        lost.append(info["life_lost"][0])
        assert info["life_lost"][0] == (info["lives"][0] < lives)
        lives = info["lives"][0]
        if terminated[0]:
            break
    assert terminated[0] and sum(lost) == 5
    assert pressed[1:] == lost[:-1]  # the step after, and no other
    games.close()


def test_screens_are_the_field_in_colour_and_begin_with_no_difference():
    games = AtariScreens("breakout", 1, noop_max=0)
    whole = games.emulator(grayscale=False, maxpool=False, stack_num=1, img_height=210, img_width=160)
    states, info = games.reset(seed=0)
    screens, _ = whole.reset(seed=0)
    assert states.shape == (1, *games.single_observation_space.shape) == (1, 2, 165, 140, 3)
    np.testing.assert_array_equal(states[0, 0], states[0, 1])
    lives, ends = 5, 0
    for _ in range(1500):
        before = states
        states, _, terminated, _, info = games.step(np.array([0]))
        screens, *_ = whole.step(info["executed_actions"])
        np.testing.assert_array_equal(states[:, 1], cropped(screens)[:, 0])
        np.testing.assert_array_equal(states[0, 0], states[0, 1] if ends else before[0, 1])
        assert "life_lost" not in info  # the notebook knows no lives
        lives, ends = info["lives"][0], ends + terminated[0]
        if ends == 1 and not terminated[0]:
            break
    assert ends == 1 and lives == 5  # all lives were played, and the next game has begun
    games.close()
    whole.close()


def test_refuses_games_that_ale_has_not(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="nearest is breakout. Received: brekout"):
        Breakout(game="brekout")
    with pytest.raises(ValueError, match="`sticky`.* Received: 2"):
        Breakout(sticky=2)
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(OSError, match="breakout.bin"):
        Breakout()
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the networks


def test_the_network_of_the_paper():
    network = nature_cnn((4, 84, 84), 4, seed=0)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["ScaledFrames", *["Conv2D"] * 3, "Flatten", *["Dense"] * 2]
    shapes = [layer.output.shape[1:] for layer in network.layers]
    assert shapes == [(84, 84, 4), (20, 20, 32), (9, 9, 64), (7, 7, 64), (3136,), (512,), (4,)]
    convolutions = network.layers[1:4]
    assert [(c.kernel_size[0], c.strides[0]) for c in convolutions] == [(8, 4), (4, 2), (3, 1)]
    *hidden, last = [layer.activation for layer in [*convolutions, *network.layers[5:]]]
    assert hidden == [keras.activations.relu] * 4 and last == keras.activations.linear


def test_frames_are_scaled_and_their_channels_last():
    frames = np.random.default_rng(0).integers(256, size=(3, 4, 5, 6), dtype=np.uint8)
    np.testing.assert_allclose(ScaledFrames()(frames), frames.transpose(0, 2, 3, 1) / 255, rtol=1e-6)
    assert ScaledFrames(dtype="mixed_bfloat16")(frames).dtype == "bfloat16"
    assert ScaledFrames().compute_output_shape((None, 4, 5, 6)) == (None, 5, 6, 4)


def test_the_network_of_2018_has_1120_numbers_before_its_head():
    network = difference_cnn((2, 165, 140, 3), 4, seed=0)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["ScreenDifference", *["Conv2D", "BatchNormalization", "Activation"] * 4, "Flatten", "Dense"]
    convolutions = network.layers[1::3][:4]
    assert [c.filters for c in convolutions] == [16, 32, 32, 32]
    assert {(c.kernel_size, c.strides, c.padding) for c in convolutions} == {((5, 5), (2, 2), "valid")}
    assert network.layers[-1].kernel.shape == (1120, 4) and network.layers[-1].activation is keras.activations.linear


def test_a_screen_difference_is_signed_and_scaled():
    screens = np.zeros((1, 2, 1, 2, 3), np.uint8)
    screens[0, 0, 0, 0], screens[0, 1, 0, 1] = 255, 51
    np.testing.assert_allclose(ScreenDifference()(screens), [[[[-1] * 3, [0.2] * 3]]], rtol=1e-6)


@pytest.mark.parametrize(("make", "shape"), [(nature_cnn, (4, 84, 84)), (difference_cnn, (2, 70, 70, 3))])
def test_weights_go_round_and_others_are_refused(make, shape):
    network, other = make(shape, 4, seed=0), make(shape, 4, seed=1)
    for weight in network.weights:  # moving statistics that are not those of a new network
        weight.assign(weight + 0.125)
    save_weights(network, "network.h5")
    load_weights(other, "network.h5")
    for one, two in zip(network.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    before = other.get_weights()
    save_weights(make(shape, 6), "six_actions.h5")
    with pytest.raises(WeightFileError, match=r"six_actions.h5"):
        load_weights(other, "six_actions.h5")
    for one, two in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_weights_for_other_frames_stacks_or_recipes_are_refused():
    save_weights(nature_cnn((4, 84, 84), 4), "stacks_of_four.h5")
    for network in [nature_cnn((3, 84, 84), 4), nature_cnn((4, 96, 96), 4), difference_cnn((2, 165, 140, 3), 4)]:
        with pytest.raises(WeightFileError, match=r"stacks_of_four.h5.* Received: "):
            load_weights(network, "stacks_of_four.h5")
    with pytest.raises(WeightFileError, match="stacks_of_four.h5"):
        Breakout(recipe="hackathon2018", weights="stacks_of_four.h5")


def random_batch(shape, size=8):
    random = np.random.default_rng(0)
    states = random.integers(0, 256, (2, 1, size, *shape), dtype=np.uint8)
    numbers = random.random((1, size), np.float32)
    return Transition(states[0], random.integers(0, 4, (1, size)), numbers, numbers / 2, states[1])


def test_batch_normalization_learns_from_the_batch_and_judges_by_its_statistics():
    shape = (2, 70, 70, 3)
    options = {**HACKATHON2018, "sample_batch_size": 8, "minibatch_size": 8}
    options.pop("replay_every")
    agent = Agent(shape, 4, weight_backup=None, seed=0, **options)
    learner, batch = agent.learner, random_batch(shape)
    statistics, target = agent.brain.layers[2].moving_mean, learner.target
    target_before = [variable.numpy() for variable in target.variables]
    states = batch.state[0]
    next_q = agent.brain(batch.next_state[0], training=False).numpy()  # the target network is equal to it
    q = agent.brain(states, training=True).numpy()[np.arange(8), batch.action[0]]
    error = np.abs(batch.reward[0] + batch.discount[0] * next_q.max(-1) - q)
    before = statistics.numpy()  # that call moved them already
    losses = learner.update(batch).losses
    wanted = np.where(error < 1, error**2 / 2, error - 0.5).mean()
    np.testing.assert_allclose(losses, [wanted], rtol=1e-4)  # training mode in the loss, inference in the target
    after = statistics.numpy()
    assert not np.array_equal(before, after)
    for one, two in zip(target_before, target.variables, strict=True):
        np.testing.assert_array_equal(one, two)  # statistics of its own
    values = agent.q_values(states)
    np.testing.assert_allclose(values, agent.brain(states, training=False), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(after, statistics)  # acting moves them not
    np.testing.assert_allclose(agent.q_values(states[:1]), values[:1], rtol=1e-4, atol=1e-4)  # alone or in a batch
    learner.copy_to_target()
    for one, two in zip(agent.brain.weights, target.variables, strict=True):
        np.testing.assert_array_equal(one, two)


# ---------------------------------------------------------------- the recipes


def test_the_recipe_of_2018_is_the_notebooks():
    breakout = Breakout(recipe="hackathon2018", seed=0)
    agent, optimizer = breakout.agent, breakout.agent.brain.optimizer
    assert (agent.memory.capacity, agent.memory.padding) == (10_000, "reset")
    assert (agent.sample_batch_size, agent.minibatch_size, breakout.replay_every, agent.gamma) == (128, 128, 1, 0.999)
    assert (type(optimizer).__name__, optimizer.clipvalue) == ("RMSprop", 1)
    assert float(optimizer.learning_rate) == pytest.approx(0.01)
    assert (
        repr(agent.learner.objective) == "Value(loss='huber')"
        and breakout.shape_reward is None
        and breakout.num_envs == 1
    )
    assert [agent.settings.exploration.exploration(steps) for steps in (0, 200)] == pytest.approx(
        [0.9, 0.05 + 0.85 / np.e]
    )
    assert breakout.agent.weight_backup.name == "breakout_hackathon2018_weight.h5"
    assert agent.state_shape == (2, 165, 140, 3)


def test_the_recipe_of_2018_runs_on_the_real_thing():
    small = {"sample_batch_size": 4, "minibatch_size": 4, "replay_every": 25, "memory_size": 600}
    breakout = Breakout(1, recipe="hackathon2018", weights=None, seed=0, **small)
    history = breakout.train(progress=False)
    assert history.lengths[0] > 300 and np.isfinite(history.losses[0]) and history.scores[0] >= 0
    stored = breakout.agent.memory.sample(50)
    assert stored.state.shape == (50, 2, 165, 140, 3) and stored.state.dtype == np.uint8


def test_nature_learns_from_clipped_rewards_and_reports_true_scores():
    assert clipped(None, None, np.array([7.0, 0.0, -3.0]), None).tolist() == [1, 0, -1]
    breakout = tiny(4, weight_backup="w.h5", recipe="nature")
    assert breakout.agent.state_shape == (4, 84, 84) and breakout.shape_reward is clipped
    history = breakout.train(progress=False, checkpoints=False)
    assert len(history) == 4 and history.scores.sum() > 0
    assert breakout.agent.learner.updates > 0 and not Path("breakout_checkpoints").exists()
    rewards = np.unique(breakout.agent.memory.sample(500).reward).tolist()
    assert {round(reward, 4) for reward in rewards} <= {0, 1, 0.99, 0.9801}  # at most one brick in three steps
    load_weights(tiny_network((4, 84, 84), 4, np.random.SeedSequence(0)), "w.h5")


def test_what_is_remembered_is_what_the_games_showed():
    """Sampled stacks are observations of the emulator itself, and lost lives stop the bootstrap."""
    breakout = tiny(num_envs=2, n_step=1)
    games, agent, seen = breakout.make_envs(2), breakout.agent, {}
    step = games.step

    def watched(actions):
        result = step(actions)
        seen.update(
            (state.tobytes(), bool(lost)) for state, lost in zip(result[0], result[4]["life_lost"], strict=True)
        )
        return result

    games.step = watched
    for happened in interact(agent, games, 8, seed=0, learn=False, shape_reward=clipped):
        if happened.steps > 700:
            break
    batch = agent.memory.sample(300)
    ends = 0
    for next_state, discount in zip(batch.next_state, batch.discount, strict=True):
        assert next_state.tobytes() in seen
        ends += discount == 0
        assert (discount == 0) == seen[next_state.tobytes()]  # the last life, too, is a lost one
    assert ends > 0
    games.close()


def test_another_game_has_files_of_its_own():
    pong = Breakout(1, game="pong", weights=None, **TINY)
    assert pong.agent.weight_backup.name == "pong_weight.h5" and pong.action_size == 6
    assert Breakout(recipe="hackathon2018", game="pong").agent.weight_backup.name == "pong_hackathon2018_weight.h5"


# ---------------------------------------------------------------- the target model every so many episodes


def test_the_target_model_is_copied_every_so_many_episodes():
    agent = Agent(2, 2, weight_backup=None, seed=0, target_update_episodes=3, double=True)
    brain, target = agent.learner.brain, agent.learner.target
    copies, episodes = [], 0
    for happened in interact(agent, Counter((2, -2)), 1, learn=False):
        brain.layers[0].bias.assign_add(np.ones(24))  # as if it had learned
        episodes += len(happened.episodes)
        copies.append(bool(np.all(target.variables[1] == brain.layers[0].bias - 1)))
        if episodes == 7:
            break
    assert np.flatnonzero(copies).tolist() == [0, 5, 11]  # as constructed, and at the ends of the third and the sixth
    assert agent.episodes == 7


@pytest.mark.parametrize("options", [{"target_update": 5}, {"tau": 0.5}])
def test_episodes_and_updates_are_not_both_counted(options):
    with pytest.raises(ValueError, match=r"takes the place of `target_update` and `tau`. Received: "):
        Agent(2, 2, weight_backup=None, target_update_episodes=3, **options)
    with pytest.raises(ValueError, match="`target_update_episodes`.* Received: 0"):
        Agent(2, 2, weight_backup=None, target_update_episodes=0)


# ---------------------------------------------------------------- evaluation, film and figure


def test_only_the_first_game_after_a_reset_counts():
    class Games:
        """Environment i plays games of i + 2 steps; the first scores 10 a step, those after it 1000."""

        def __init__(self, num_envs):
            self.num_envs = num_envs
            made.append(self)

        def reset(self, *, seed=None):
            seeds.append(seed)
            self.steps, self.later = np.zeros(self.num_envs, int), np.zeros(self.num_envs, bool)
            return self.states(), {}

        def states(self):
            return np.stack([self.steps, self.steps], 1).astype(np.float32)

        def step(self, actions):
            self.steps += 1
            rewards = np.where(self.later, 1000.0, 10.0)
            ends = self.steps == np.arange(self.num_envs) + 2
            self.steps[ends], self.later[ends] = 0, True
            return self.states(), rewards, ends, np.zeros(self.num_envs, bool), {}

        def close(self):
            closed.append(self)

    made, closed, seeds = [], [], []
    agent = Agent(2, 2, weight_backup=None, seed=0)
    result = evaluate_together(agent, Games, episodes=7, seed=5, at_once=4)
    assert result.scores.tolist() == [20, 30, 40, 50, 20, 30, 40] and result.lengths.tolist() == [2, 3, 4, 5, 2, 3, 4]
    assert seeds == [5, 9] and closed == made and len(made) == 1
    with pytest.raises(ValueError, match="`episodes`.* Received: 0"):
        evaluate_together(agent, Games, 0)


def test_evaluation_is_of_whole_games_and_repeatable():
    breakout = tiny()
    result = breakout.evaluate(3, seed=1, epsilon=1.0)
    again = breakout.evaluate(3, seed=1, epsilon=1.0)
    assert result.scores.tolist() == again.scores.tolist() and len(result.scores) == 3
    assert result.lengths.min() > 100  # five lives
    assert len(breakout.agent.memory) == 0


def test_a_film_shows_the_game_and_its_score_is_printed(capsys):
    breakout = tiny()
    score = breakout.random_episode(seed=1)
    out = capsys.readouterr().out
    assert f"Cumulative reward: {score:g}" in out and "videos/breakout_random.mp4" in out
    with open("videos/breakout_random.mp4", "rb") as film:
        assert film.read(8)[4:] == b"ftyp"


def test_a_film_shows_what_the_network_sees_and_what_it_thinks_as_far_as_it_is_told_to(capsys):
    breakout = tiny()
    breakout.run(1.0, seed=1, inside=True, max_frames=30)
    assert re.search(r"The film shows the first 29 of [1-9]\d\d steps", capsys.readouterr().out)
    assert breakout.last_run.filmed == 29 and len(breakout.last_run.q_values) > 100
    frames, _ = decode("videos/breakout.mp4")
    assert frames.shape == (30, 602, 600, 3)
    game, stack, bars = frames[:, :390, :295], frames[:, :395, 305:], frames[:, 425:560, 95:]
    assert np.ptp(game.astype(int), axis=-1).max() > 50, "the game in colour"
    assert np.ptp(stack.astype(int), axis=-1).max() < 30, "the stack in grey"
    later = stack[-1].astype(int)
    rows, columns = (slice(60, 190), slice(256, 388)), (slice(8, 142), slice(154, 288))
    quarters = [later[some, others] for some in rows for others in columns]
    assert all(quarter.std() > 20 for quarter in quarters), "all four frames"
    blue = (bars[..., 2].astype(int) - bars[..., 0] > 60).any(axis=2)  # [frames, rows]: where a bar is
    assert blue.any(axis=1).all(), "a bar in each picture"


def test_the_screens_side_by_side():
    for recipe, panels in [("nature", 5), ("hackathon2018", 2)]:
        figure = Breakout(recipe=recipe, weights=None, seed=0).screens(seed=0)
        assert len(figure.axes) == panels
        image = figure.axes[0].images[0].get_array()
        assert image.shape == (210, 160, 3) and len(np.unique(image.reshape(-1, 3), axis=0)) > 5  # colours
        plots.save_figure(figure, f"{recipe}.png")
