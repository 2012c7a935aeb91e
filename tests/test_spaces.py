"""Environments of every space: what the agent sees, which network that gets, and which actions the environment does."""

import tomllib
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.wrappers import FrameStackObservation

from keras_dqn import Agent, Checkpoints, brain_from, game_for, inside
from keras_dqn.backend import keras
from keras_dqn.config import keywords, write
from keras_dqn.core.networks.grid import flat_mlp, grid_cnn, network_for
from keras_dqn.core.networks.numpy_forward import NumpyForward, acting_forward, layers_of
from keras_dqn.core.settings import to_json
from keras_dqn.environments.spaces import Adapted, adapted, sizes

FRESH = {"weights": None, "weight_backup": None, "seed": 0}
SMALL = {"recipe": "fast", "memory_size": 300, "sample_batch_size": 16, "minibatch_size": 16}


class Anything(gym.Env):
    """Samples its observations; an episode has nine steps. It refuses actions that its space does not contain."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, observations, actions=None, masked=False):
        self.observation_space, self.action_space = observations, actions or Discrete(2)
        self.render_mode, self.masked, self.done = "rgb_array", masked, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observe(), self.info()

    def step(self, action):
        assert self.action_space.contains(action), repr(action)
        self.steps += 1
        self.done.append(action)
        return self.observe(), float(np.sum(action)), self.steps == 9, False, self.info()

    def observe(self):
        return self.observation_space.sample()

    def info(self):
        return {"action_mask": (np.array([0, 1, 1], np.int8), np.array([1, 0], np.int8))} if self.masked else {}

    def render(self):
        return np.full((40, 40, 3), 200, np.uint8)


def box(*shape, dtype=np.float32):
    return Box(0, 255 if dtype is np.uint8 else 1, shape, dtype)


SENSORS = Dict(place=box(2), gear=Discrete(3), doors=Tuple((MultiBinary(2), MultiDiscrete([2, 2]))))
PARTS = MultiDiscrete([3, 2], start=[-1, 5])


# ---------------------------------------------------------------- states


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (box(3), 3),
        (box(), 1),
        (box(2, 3, 2, 2, dtype=np.int16), (2, 3, 2, 2)),
        (Discrete(4, start=2), 4),
        (MultiDiscrete([3, 4]), 7),
        (MultiBinary((2, 3)), 6),
        (SENSORS, 2 + 3 + 2 + 4),
    ],
)
def test_states_are_arrays_of_the_size_that_the_agent_is_told(space, size):
    env = adapted(Anything(space))
    assert sizes(env) == (size, 2)
    for state in (env.reset(seed=0)[0], env.step(1)[0]):
        assert state.shape == env.observation_space.shape and env.observation_space.contains(state)


def test_the_parts_of_a_dictionary_follow_one_another_as_gymnasium_has_them():
    class Fixed(Anything):
        def observe(self):
            return {"place": np.array([0.5, 1], np.float32), "gear": 2, "doors": (np.array([0, 1]), np.array([1, 0]))}

    state, _ = adapted(Fixed(SENSORS)).reset()
    assert state.tolist() == [0.5, 1, 0, 0, 1, 0, 1, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("space", "function", "options"),
    [
        (box(10, 10, 4, dtype=bool), grid_cnn, {"convolutions": "small", "channels": "last", "hidden": (128,)}),
        (box(5, 35), grid_cnn, {"convolutions": "small", "hidden": (128,)}),
        (box(35, 36, 3), grid_cnn, {"convolutions": "small", "channels": "last", "hidden": (128,)}),
        (
            box(3, 36, 50, dtype=np.uint8),
            grid_cnn,
            {"convolutions": "nature", "channels": "first", "scale": 255, "hidden": (512,)},
        ),
        (box(4, 4, 3), flat_mlp, {"hidden": (24,)}),
        (box(6, 6, 6, 6), flat_mlp, {"hidden": (24,)}),
    ],
)
def test_the_network_follows_the_shape(space, function, options):
    network = network_for(space, {"hidden": (24,)}, keeps_hidden=False)
    assert (network.func, network.keywords) == (function, options)
    model = network(space.shape, 3, seed=1)
    assert model.input_shape[1:] == space.shape and model.output_shape == (None, 3)


def test_a_vector_gets_dense_layers_and_bytes_are_scaled():
    options = {"hidden": (24,)}
    assert network_for(box(3), options, False) is options and network_for(box(3), None, False) is None
    assert network_for(box(3, dtype=np.uint8), options, False) == {"hidden": (24,), "scale": 255}
    assert network_for(box(9, 9), flat_mlp, True) is flat_mlp
    kept = network_for(box(9, 9), {"hidden": (8,), "dueling": True}, keeps_hidden=True)
    assert kept.keywords == {"convolutions": "small", "hidden": (8,), "dueling": True}


@pytest.mark.parametrize(
    ("shape", "options"),
    [((10, 10, 4), {}), ((3, 7, 9), {"channels": "first", "scale": 255, "dueling": True}), ((5, 6), {"noisy": True})],
)
def test_numpy_acts_with_the_numbers_of_keras(shape, options):
    model = grid_cnn(shape, 5, seed=3, **options)
    forward = acting_forward(model)
    forward.refresh(np.concatenate([weight.ravel() for weight in model.get_weights()]))
    states = np.random.default_rng(0).integers(0, 255, (6, *shape[::-1])).astype(np.uint8).T  # not in one piece
    states = np.moveaxis(states, -1, 0)
    np.testing.assert_allclose(forward(states), model.predict(states.astype(np.float32), verbose=0), rtol=1e-4)
    assert forward(states[:1]).shape == (1, 5)


def test_large_convolutions_act_through_keras_and_elsewhere_through_numpy():
    model = grid_cnn((40, 40, 3), 2, seed=0, convolutions="nature", normalization="layer")
    assert acting_forward(grid_cnn((20, 20), 2)) is None and acting_forward(model) is None
    forward = NumpyForward(layers_of(model))
    forward.refresh(np.concatenate([weight.ravel() for weight in model.get_weights()]))
    states = np.random.default_rng(0).random((2, 40, 40, 3), np.float32)
    np.testing.assert_allclose(forward(states), model.predict(states, verbose=0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("padding", "num_envs"), [("reset", 1), ("zero", 2)])
def test_each_frame_of_a_stack_is_stored_once_and_the_stacks_are_those_that_were_seen(padding, num_envs):
    seen = []

    def shape_reward(states, actions, rewards, next_states):
        seen.extend(state.tobytes() for state in states)
        return rewards

    env = FrameStackObservation(Anything(box(8, 9, dtype=np.uint8)), 3, padding_type=padding)
    game = game_for(env)(steps=100, num_envs=num_envs, shape_reward=shape_reward, **SMALL, **FRESH)
    assert game.settings["store_frames"] and game.settings["frame_padding"] == padding
    assert game.settings["network"]["arguments"][0]["channels"] == "first"
    game.train(progress=False)
    drawn = game.agent.memory.sample(4, 8).state.reshape(32, 3, 8, 9)
    assert drawn.dtype == np.uint8 and {state.tobytes() for state in drawn} <= set(seen)
    assert game_for(env)(recipe="parallel", **FRESH).settings["store_frames"] is False
    colors = FrameStackObservation(Anything(box(8, 9, 3, dtype=np.uint8)), 3)
    assert game_for(colors)(store_frames=False, **SMALL, **FRESH).settings["store_frames"] is False


# ---------------------------------------------------------------- actions


def test_the_environment_gets_the_actions_that_its_space_contains():
    below, parts = adapted(Anything(box(3), Discrete(3, start=-1))), adapted(Anything(box(3), PARTS))
    for env, size in ((below, 3), (parts, 6)):
        env.reset()
        for action in range(size):
            env.step(action)
    assert below.unwrapped.done == [-1, 0, 1] and below.action_names == ["-1", "0", "1"]
    assert np.array(parts.unwrapped.done).tolist() == [[-1, 5], [-1, 6], [0, 5], [0, 6], [1, 5], [1, 6]]
    assert parts.action_names[2] == "0, 5"
    plain = Anything(box(3))
    assert adapted(plain) is plain and adapted(Anything(MultiBinary(2))).action_names is None


@pytest.mark.parametrize("num_envs", [1, 2])
def test_masks_of_parts_are_masks_of_combinations(num_envs):
    game = game_for(Anything(box(3), PARTS, masked=True))(steps=60, num_envs=num_envs, **SMALL, **FRESH)
    game.train(progress=False)
    assert set(game.agent.memory.contents().action.tolist()) <= {2, 4}, "the first part not -1, and the second 5"


# ---------------------------------------------------------------- what is no part of the space


@pytest.mark.parametrize("num_envs", [1, 2])
def test_what_is_no_part_of_a_dictionary_is_said_with_space_and_step(num_envs):
    class Wrong(Anything):
        def observe(self):
            return {"gear": 1} if self.steps == 4 else super().observe()

    game = game_for(partial(Wrong, SENSORS))(num_envs=num_envs, **SMALL, **FRESH)
    with pytest.raises(
        ValueError, match=r"space is Dict\(.*Received: \{'gear': 1\}, KeyError.* in step 4 of an"
    ) as said:
        game.train(progress=False)
    assert "\n" not in str(said.value)


def test_a_number_in_an_image_that_is_none_is_said_with_its_place():
    class Wrong(Anything):
        def observe(self):
            image = super().observe()
            image[2, 3, 1] = np.nan if self.steps == 4 else 0
            return image

    with pytest.raises(
        ValueError, match=r"finite numbers. Received: nan at \(2, 3, 1\) of .* shape \(6, 6, 2\)"
    ) as said:
        game_for(partial(Wrong, box(6, 6, 2)))(**SMALL, **FRESH).train(progress=False)
    assert "\n" not in str(said.value)


# ---------------------------------------------------------------- everything around


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A game of a grid and of actions in parts that has trained, with checkpoints."""
    folder = tmp_path_factory.mktemp("grid")
    env = Anything(box(6, 7, 2, dtype=bool), PARTS)
    options = {**SMALL, "weights": None, "seed": 0, "weight_backup": folder / "grid.h5", "video_folder": folder}
    game = game_for(env)(steps=90, **options)
    history = game.train(progress=False, checkpoints=Checkpoints(folder / "saved", memory=True))
    assert len(history.update_losses) > 50 and np.isfinite(history.update_losses).all()
    return game, env, options, folder


def test_a_training_on_a_grid_goes_on_from_its_checkpoint(trained):
    game, env, options, folder = trained
    again = game_for(env)(steps=120, **options | {"weight_backup": folder / "again.h5"})
    again.train(progress=False, checkpoints=Checkpoints(folder / "saved", memory=True), resume=True)
    assert again.agent.learner.updates > game.agent.learner.updates


def test_the_settings_file_and_the_weights_tell_the_network(trained):
    game, env, options, folder = trained
    assert "grid_cnn" in repr(game) and "'channels': 'last'" in repr(game)
    write(folder / "grid.toml", {}, game)
    assert '"keras_dqn.core.networks.grid:grid_cnn"' in (folder / "grid.toml").read_text()
    table = tomllib.loads((folder / "grid.toml").read_text())["agent"]
    network = keywords({"network": table["network"]})["network"]
    assert to_json(network) == game.settings["network"]
    brain = brain_from(folder / "grid.h5")
    state, _ = adapted(env).reset(seed=4)
    expected = game.agent.q_values(state[None])
    np.testing.assert_allclose(
        game_for(env)(**options | {"weights": folder / "grid.h5"}).agent.q_values(state[None]), expected
    )
    np.testing.assert_allclose(keras.ops.convert_to_numpy(brain(state[None].astype(np.float32))), expected, rtol=1e-4)


def test_a_grid_is_acted_in_remembered_and_filmed(trained, capsys):
    game, env, *_ = trained
    state, _ = adapted(env).reset(seed=5)
    before = len(game.agent.memory)
    assert game.agent.act(state, 0.0) == game.agent.q_values(state[None]).argmax()
    game.agent.remember(state, 3, 1.0, state, done=True)
    assert len(game.agent.memory) > before
    game.run(inside=True, show=lambda path: None)
    assert game.last_run.q_values.shape == (9, 6) and game.last_run.paths and game.last_run.action_names[0] == "-1, 5"
    with pytest.raises(ValueError, match=r"A policy map .* a vector. Received: \(6, 7, 2\)"):
        inside.policy_map(game.agent, (0, "x", 0, 1), (1, "y", 0, 1))


def test_of_many_actions_the_best_have_bars():
    class Values:
        state_shape, action_size = (3,), 100

        def q_values(self, states):
            return np.arange(100, dtype=np.float32)[None]

    env = inside.InsideView(adapted(Anything(box(3), MultiDiscrete([10, 10]))), Values())
    env.reset()
    assert env.render().shape[0] < 1200


@pytest.mark.parametrize("recipe", ["parallel", "rainbow"])
def test_other_recipes_see_a_grid_and_several_environments(recipe):
    options = {"steps": 256} if recipe == "parallel" else {"steps": 60, "objective": "quantile", **SMALL}
    game = game_for(Anything(box(3, 6, 6, dtype=np.uint8), PARTS))(
        **{**FRESH, **options, "recipe": recipe, "num_envs": 2}
    )
    history = game.train(progress=False)
    assert len(history.update_losses) and np.isfinite(history.update_losses).all()
    assert len(game.evaluate(3).scores) == 3
    assert isinstance(game.make_env(), Adapted) and isinstance(game.agent, Agent)
