"""The PyTorch version learns what the Keras version learns, from the same draws, and exchanges weights with it."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import torch

import keras_dqn
from keras_dqn import Agent, WeightFileError, compare, interact, load_weights, train_seeds
from keras_dqn.__main__ import main
from keras_dqn.backend import keras
from keras_dqn.core.learner import Learner
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.objectives.value import Value
from keras_dqn.core.settings import LearnerSettings
from keras_dqn.core.transition import Transition
from keras_dqn.environments.vector import make_env
from keras_dqn.experiment.seeds import Plan
from keras_dqn.files.weights import pretrained
from keras_dqn.games.cartpole import CartPole
from keras_dqn.pytorch import QNetwork, TorchAgent, TorchLearner, aligned_optimizer, from_state_dict, to_state_dict
from keras_dqn.training.evaluate import evaluate
from tests.environments import Counter

pytestmark = pytest.mark.torch

torch.set_num_threads(1)  # two that wait for each other on busy cores take a hundred times as long

NETWORKS = [
    {"hidden": ()},
    {"hidden": (64, 64), "dueling": True},
    {"center": [1.0, 0.0, 0.0, -1.0], "scale": [2.0, 1.0, 0.5, 1.0], "dueling": True},
]


def make_agent(**options):
    return TorchAgent(4, 2, **{"weight_backup": None, "seed": 0, **options})


def minibatches(count, size=16, seed=0):
    random = np.random.default_rng(seed)
    states, next_states = random.normal(size=(2, count, size, 4)).astype(np.float32)
    rewards = random.normal(size=(count, size)).astype(np.float32)
    discounts = np.where(random.random((count, size)) < 0.1, 0, 0.95).astype(np.float32)
    return Transition(states, random.integers(2, size=(count, size)), rewards, discounts, next_states)


def same_network(seed=0, **options):
    """A Keras and a torch network with the same weights."""
    brain, torch_brain = mlp(4, 2, seed=seed, **options), QNetwork(4, 2, **options)
    torch_brain.load_state_dict(to_state_dict(brain))
    return brain, torch_brain


def learners(optimizer, network=None, loss="mse", **options):
    """A Keras and a torch learner with the same weights, in brain and target model, and the same settings."""
    brain, torch_brain = same_network(**(network or {}))
    clipping = {name: getattr(optimizer, name) for name in ("clipnorm", "clipvalue", "global_clipnorm")}
    aligned = aligned_optimizer(optimizer, torch_brain.parameters())
    return (
        Learner(brain, optimizer, Value(loss.removeprefix("fit_"), as_fit=loss == "fit_mse"), **options),
        TorchLearner(torch_brain, aligned, LearnerSettings(loss=loss, **options), clipping),
    )


TOLERANCE = 1e-5  # of nine weights in ten after 100 updates
AT_A_KINK = 2e-3  # of the others


def assert_alike(pair, updates=100, steps=0.01):
    """The same losses and, in the end, weights.

    The arithmetic is the same but for the order of float32 sums, 1e-7 relative an operation; after 100 updates that is
    about 1e-6. It becomes more where a hidden unit is so close to zero that relu lets one side through and not the
    other: the weights of that unit then differ by an update or two (of Adam, the learning rate each), and no others by
    as much. A wrong formula ends apart by what the weights have moved, `steps` or more, everywhere.
    """
    ours, torchs = pair
    start = ours.read_weights()
    np.testing.assert_array_equal(torchs.read_weights(), start)
    batches = minibatches(updates)
    for theirs, expected in zip(torchs.update(batches), ours.update(batches), strict=True):  # losses and errors
        np.testing.assert_allclose(theirs, np.asarray(expected), rtol=1e-3, atol=1e-4)
    assert_close(torchs.read_weights(), ours.read_weights())
    assert np.abs(ours.read_weights() - start).max() > steps
    if ours.target is not None:
        arrays = from_state_dict(torchs.target_brain.state_dict(), ours.brain)
        expected = map(np.asarray, ours.target.variables)
        assert_close(*(np.concatenate([array.ravel() for array in each]) for each in (arrays, expected)))
    assert ours.updates == torchs.updates == updates


def assert_close(weights, expected):
    difference = np.abs(weights - expected)
    assert np.quantile(difference, 0.9) < TOLERANCE
    assert difference.max() < AT_A_KINK


HARD = {"target_update": 10, "double": True}
SOFT = {"target_update": 1, "tau": 0.05, "double": True}


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (keras.optimizers.SGD(0.01, momentum=0.9), {"loss": "fit_mse", **HARD}),
        (keras.optimizers.SGD(0.01, momentum=0.9), {"loss": "huber"}),
        (keras.optimizers.Adam(0.001), {"loss": "mse", **SOFT}),
        (keras.optimizers.Adam(0.001), {"loss": "huber", **HARD}),
        (keras.optimizers.AdamW(0.001, amsgrad=True, clipvalue=100), {"loss": "mse"}),
        (keras.optimizers.AdamW(0.001, amsgrad=True, clipvalue=100), {"loss": "huber", **SOFT}),
        (keras.optimizers.AdamW(0.001, weight_decay=1.0), {}),
        (keras.optimizers.Adam(0.001, weight_decay=1.0), {}),  # decoupled in Keras
        *((keras.optimizers.Adam(0.001), {"network": network}) for network in NETWORKS),
        *(
            (keras.optimizers.SGD(0.1, **clipping), {})
            for clipping in ({"clipnorm": 0.05}, {"clipvalue": 0.01}, {"global_clipnorm": 0.05})
        ),
    ],
)
def test_learns_what_the_keras_version_learns(optimizer, options):
    assert_alike(learners(optimizer, **options))


def test_an_epsilon_that_matters_shows_that_it_is_aligned():
    pair = learners(keras.optimizers.Adam(0.001, epsilon=0.1))
    plain = QNetwork(4, 2)
    plain.load_state_dict(pair[1].brain.state_dict())
    plain = TorchLearner(plain, torch.optim.Adam(plain.parameters(), 0.001, eps=0.1), LearnerSettings(loss="mse"))
    plain.update(minibatches(100))
    assert_alike(pair, steps=0.003)
    with pytest.raises(AssertionError):  # the same number without the alignment
        assert_close(plain.read_weights(), pair[0].read_weights())


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.RMSprop(),
        keras.optimizers.Adam(use_ema=True),
        keras.optimizers.SGD(weight_decay=0.1),
        keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)),
    ],
)
def test_an_optimizer_that_cannot_be_aligned_is_refused(optimizer):
    with pytest.raises(ValueError, match=r"`optimizer` must be a plain Keras SGD, Adam or AdamW. Received: "):
        aligned_optimizer(optimizer, QNetwork(4, 2).parameters())


# ---------------------------------------------------------------- updates


def test_k_updates_in_one_call_are_those_of_k_calls():
    batches = minibatches(6)
    once, one_by_one = (learners(keras.optimizers.Adam(), target_update=4)[1] for _ in range(2))
    losses, errors = once.update(batches)
    assert losses.shape == (6,) and losses.dtype == np.float32 and errors.shape == (6, 16)
    for k in range(6):
        assert one_by_one.update(batches.each(lambda field, k=k: field[k : k + 1])).losses[0] == losses[k]
    np.testing.assert_array_equal(once.read_weights(), one_by_one.read_weights())


@pytest.mark.parametrize("trouble", [np.nan, np.inf, 1e30])  # the square of the last is infinite, its gradient is not
def test_nothing_not_finite_reaches_the_weights(trouble):
    learner = learners(keras.optimizers.Adam(clipvalue=1.0), target_update=1)[1]
    learner.update(minibatches(1))
    before, state = learner.read_weights(), learner.optimizer.state_dict()["state"]
    moments = [state[i]["exp_avg"].clone() for i in state]
    bad = minibatches(2)
    bad.reward[0, 3] = trouble
    with pytest.raises(FloatingPointError, match=r"update 1 of 2 is not finite.* Received: a loss of (nan|inf)"):
        learner.update(bad)
    np.testing.assert_array_equal(learner.read_weights(), before)
    for old, new in zip(moments, learner.optimizer.state_dict()["state"].values(), strict=True):
        assert torch.equal(old, new["exp_avg"])
    assert learner.updates == 1
    learner.update(minibatches(1))
    assert learner.updates == 2


class Root(torch.autograd.Function):
    """The identity, with an infinite gradient."""

    @staticmethod
    def forward(context, values):
        return values.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * float("inf")


def test_a_gradient_that_is_not_finite_under_a_finite_loss_is_found():
    class Brain(QNetwork):
        def forward(self, states):
            return Root.apply(super().forward(states))

    brain = Brain(4, 2)
    learner = TorchLearner(brain, torch.optim.SGD(brain.parameters()), LearnerSettings(), {"clipvalue": 1.0})
    before = learner.read_weights()
    with pytest.raises(FloatingPointError, match=r"update 1 of 1 is not finite"):
        learner.update(minibatches(1))
    np.testing.assert_array_equal(learner.read_weights(), before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_agent(loss="mae"), r"`loss` must be one of .* Received: 'mae'"),
        (
            lambda: make_agent(brain=torch.nn.Sequential(QNetwork(4, 2), torch.nn.Dropout())),
            r"`brain` must be the same in training and evaluation. Received: Dropout",
        ),
        (
            lambda: make_agent(network={"activation": "tanh"}),
            r"`network` must have {'activation': 'relu', .* Received: {'activation': 'tanh', ",
        ),
        (lambda: make_agent(brain=mlp(4, 2)), r"`brain` must be a torch.nn.Module. Received: <Sequential"),
        (lambda: make_agent(brain=QNetwork(4, 3)), r"`brain` must return \[1, 2\] for one state. Received: \(1, 3\)"),
    ],
)
def test_refuses_options_that_make_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- the agent


def test_the_same_seed_gives_the_same_exploration_and_sampling_and_no_draw_of_others():
    global_draws = torch.random.get_rng_state()
    agents = [Agent(2, 2, weight_backup=None, seed=7), TorchAgent(2, 2, weight_backup=None, seed=7)]
    assert torch.equal(torch.random.get_rng_state(), global_draws)
    for agent in agents:
        loop = interact(agent, Counter(), seed=0, learn=False)
        next(step for step in loop if step.steps >= 200)  # epsilon is 1: every action is a draw
    contents = [agent.memory.contents() for agent in agents]
    samples = [agent.memory.sample(1, 64) for agent in agents]
    for first, second in zip((*contents[0], *samples[0]), (*contents[1], *samples[1]), strict=True):
        np.testing.assert_array_equal(first, second)


def test_with_the_same_weights_and_seed_both_agents_play_the_same_game():
    options = {"weight_backup": None, "seed": 3, "minibatch_size": 8, "target_update": 4, "exploration_decay": 0.9}
    agent = Agent(4, 2, optimizer=keras.optimizers.Adam(0.001), **options)
    brain = QNetwork(4, 2)
    brain.load_state_dict(to_state_dict(agent.brain))
    torch_agent = TorchAgent(4, 2, brain=brain, optimizer=keras.optimizers.Adam(0.001), **options)
    for each in agent, torch_agent:
        loop = interact(each, make_env("CartPole-v1"), seed=0)
        next(step for step in loop if step.steps >= 200)  # longer, and rounding would one day tip an action
    assert agent.learner.updates == torch_agent.learner.updates > 5
    for first, second in zip(agent.memory.contents(), torch_agent.memory.contents(), strict=True):
        np.testing.assert_array_equal(first, second)
    assert_close(torch_agent.learner.read_weights(), agent.learner.read_weights())


def test_the_initial_weights_are_torchs_own_and_the_seeds():
    first, again, other = (make_agent(seed=seed).learner.read_weights() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    brain = make_agent(network={"hidden": (400, 400)}).brain
    for parameter in brain.layer2.parameters():  # biases too
        assert 0.045 < parameter.abs().max() <= 1 / np.sqrt(400)


@pytest.mark.parametrize(
    "options",
    [
        {"torch_optimizer": lambda parameters: torch.optim.RMSprop(parameters), "clipping": {"clipvalue": 100}},
        {"network": {"hidden": (16,), "dueling": True}, "target_update": 1, "tau": 0.1, "double": True, "n_step": 3},
        {"loss": "huber", "minibatch_size": 32, "hold_random_actions": 4},
        # of the recipes that torch has the parts for
        *({**CartPole.recipes[recipe], "memory_size": 1000} for recipe in ("juvin", "pytorch", "fast")),
    ],
)
def test_trains_in_the_same_loop(options):
    options = dict(options)
    replay_every = options.pop("replay_every", "episode")
    agent = make_agent(**options)
    start = agent.learner.read_weights()
    losses = [step.losses for step in itertools.islice(interact(agent, make_env("CartPole-v1"), replay_every, 0), 300)]
    losses = np.concatenate([each for each in losses if each is not None])
    assert len(losses) == agent.learner.updates > 0 and np.isfinite(losses).all()
    assert not np.array_equal(agent.learner.read_weights(), start)
    assert agent.act(np.zeros(4), epsilon=0) == agent.q_values(np.zeros((1, 4)))[0].argmax()


def test_the_clipping_of_a_keras_optimizer_goes_with_it():
    assert make_agent(optimizer=keras.optimizers.Adam(clipvalue=100)).learner.clipping == {"clipvalue": 100}
    assert make_agent().learner.clipping == {}


def test_the_pretrained_weights_balance_the_pole_in_torch():
    agent, ours = make_agent(), Agent(4, 2, weight_backup=None)
    for each in agent, ours:
        each.load_model(pretrained("cartpole"))
    assert agent.exploration_rate == agent.exploration_min
    states = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    np.testing.assert_allclose(agent.q_values(states), ours.q_values(states), rtol=1e-5, atol=1e-4)
    assert evaluate(agent, lambda: make_env("CartPole-v1"), episodes=5).mean > 475


def test_the_runner_trains_it_at_the_rate_asked_for_and_keeps_its_best_weights():
    cartpole = CartPole(recipe="pytorch", agent_class=TorchAgent, steps=300, weights=None, seed=0)
    assert isinstance(cartpole.agent, TorchAgent)
    history = cartpole.train(progress=False, evaluate_every=150)
    assert len(history.update_losses) == 300 - 127 == cartpole.agent.learner.updates
    best = CartPole(recipe="pytorch", weights=cartpole.best_backup)  # Keras reads them
    assert best.evaluate(100, seed=1_000_000).mean == pytest.approx(cartpole.best_score)
    first = cartpole.agent.learner.read_weights()
    cartpole.train(progress=False, learning_rate=1e-9)
    assert cartpole.agent.learner.updates > 173 and cartpole.agent.learner.learning_rate == 1e-9
    np.testing.assert_allclose(cartpole.agent.learner.read_weights(), first, atol=1e-6, rtol=0)


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("network", NETWORKS)
def test_weights_go_there_and_back(network, capsys):
    brain, torch_brain = same_network(**network)
    states = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(torch_brain(torch.from_numpy(states)), brain(states), rtol=1e-5, atol=1e-5)
    back = from_state_dict(torch_brain.state_dict(), brain)
    for array, expected in zip(back, brain.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert list(to_state_dict(brain)) == list(torch_brain.state_dict())

    agent = TorchAgent(4, 2, network=network, seed=1, target_update=1)
    agent.save_model()
    again = TorchAgent(4, 2, network=network, seed=2, target_update=1)
    assert capsys.readouterr().out.endswith("Found saved weights, loaded into model\n")
    for reader in again, Agent(4, 2, network=network):
        np.testing.assert_array_equal(reader.learner.read_weights(), agent.learner.read_weights())
    ours, targets = again.brain.state_dict(), again.learner.target_brain.state_dict()
    assert all(torch.equal(ours[name], targets[name]) for name in ours)


def test_a_tutorials_network_takes_the_state_dict_and_gives_its_own():
    class DQN(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer1 = torch.nn.Linear(4, 128)
            self.layer2 = torch.nn.Linear(128, 128)
            self.layer3 = torch.nn.Linear(128, 2)

        def forward(self, x):
            return self.layer3(torch.relu(self.layer2(torch.relu(self.layer1(x)))))

    brain = mlp(4, 2, hidden=(128, 128))
    tutorials = DQN()
    tutorials.load_state_dict(to_state_dict(brain))
    TorchAgent(4, 2, brain=tutorials, weight_backup="tutorial.h5").save_model()
    again = mlp(4, 2, hidden=(128, 128))
    load_weights(again, "tutorial.h5")
    for array, expected in zip(again.get_weights(), brain.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_weights_of_another_network_are_refused():
    agent = TorchAgent(4, 2)
    agent.save_model()
    with pytest.raises(WeightFileError, match=r"shape \(4, 16\).* Received: .4, 24"):
        TorchAgent(4, 2, network={"hidden": (16, 24)})
    names_its_layers = torch.nn.Sequential(torch.nn.Linear(4, 2))
    message = r"'layer1.weight': expected tensors \['layer1.weight', .* Received: \['0.weight', '0.bias'\]"
    with pytest.raises(ValueError, match=message):
        TorchAgent(4, 2, brain=names_its_layers)  # before training, since its weights could not be saved after it
    make_agent(brain=names_its_layers).act(np.zeros(4))

    model = mlp(4, 2)
    good = to_state_dict(model)
    kernel = good["layer2.weight"]
    for changed, message in (
        ({"layer2.weight": torch.zeros(24, 23)}, r"'layer2.weight': .* shape \(24, 24\). Received: \(24, 23\)"),
        ({"layer2.weight": kernel.int()}, r"'layer2.weight': expected finite floats .* Received: .*torch.int32"),
        ({"layer2.weight": kernel * torch.nan}, r"'layer2.weight': expected finite floats .* Received: .*nan"),
        ({"layer4.bias": torch.zeros(2)}, r"'layer4.bias': expected tensors .* Received: .*'layer4.bias'"),
    ):
        with pytest.raises(ValueError, match=f"(?s){message}"):
            from_state_dict({**good, **changed}, model)
    del good["layer2.weight"]
    with pytest.raises(ValueError, match=r"'layer2.weight': expected tensors .* Received: \['layer1.weight', "):
        from_state_dict(good, model)
    with pytest.raises(ValueError, match=r"'layer1.weight': expected kernels .* Received: \(3, 3, 1, 8\)"):
        to_state_dict([np.zeros((3, 3, 1, 8)), np.zeros(8)])


# ---------------------------------------------------------------- experiments with both


COMPARE = ["compare", "cartpole", "--recipe", "pytorch", "--seeds", "2", "--steps", "300", "--evaluate-every", "150"]


def test_compare_trains_both_in_turns_and_leaves_tables_plot_and_weights(capsys, monkeypatch):
    assert main(COMPARE) == 0
    out, err = capsys.readouterr()
    assert (
        "cartpole: 100%" in err and "PyTorch, seed 1 ended" in err and "4/4" in err and "training" in err
    )  # a bar, with time left
    folder = Path("results/cartpole_pytorch_comparison")
    assert out.endswith(f"Results: {folder}\n") and (folder / "table.md").read_text() in out
    assert "\n| Keras | 2 | " in out and "\n| PyTorch | 2 | " in out and out.count("| 2 of 2 |") == 2
    assert "PyTorch on one thread. " in out and f"tensorflow {tf.__version__}, " in out
    assert f"keras_dqn {keras_dqn.__version__}." in out
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    in_turns = [("Keras", "0"), ("PyTorch", "0"), ("Keras", "1"), ("PyTorch", "1")]
    assert [(row["framework"], row["seed"]) for row in rows] == in_turns
    assert all(row["steps"] == "300" and float(row["steps_per_second"]) > 0 for row in rows)
    assert (folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    for framework in "keras", "pytorch":
        for end in "", "_best":
            load_weights(mlp(4, 2, (128, 128)), folder / f"{framework}_seed_1_weight{end}.h5")
        done = json.loads((folder / f"{framework}_seed_1.json").read_text())
        assert [steps for steps, _ in done["evaluations"]] == [150, 300] and done["evaluation_seconds"] > 0
        assert sum(done["lengths"]) <= 300 and done["scores"] == done["lengths"]

    monkeypatch.setattr(Plan, "train", None)  # would raise
    assert main(COMPARE) == 0
    assert capsys.readouterr().out == out
    with pytest.raises(ValueError, match='other settings: .* Received: .*-"torch": "2'):
        train_seeds(CartPole, "pytorch", seeds=1, episodes=600, steps=300, evaluate_every=150, folder=folder)


def test_torch_runs_on_one_thread_and_gets_its_own_back(monkeypatch):
    threads = []
    monkeypatch.setattr(CartPole, "train", lambda self, **_: threads.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        compare(CartPole, seeds=1, progress=False)
        assert threads == [3, 1] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"objective": "quantile"}, "objective"),
        ({"prioritized": True}, "prioritized"),
        ({"network": {"noisy": True}}, "noisy"),
    ],
)
def test_what_of_the_family_is_not_here_is_refused_by_name(options, name):
    with pytest.raises(ValueError, match=f"`{name}`.*for Keras"):
        TorchAgent(4, 2, None, **options)
    with pytest.raises(ValueError, match="`(objective|noisy|prioritized)`.*for Keras"):
        CartPole(recipe="rainbow", agent_class=TorchAgent, weights=None)
