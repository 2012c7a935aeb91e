"""The PyTorch version learns what the Keras version learns, from the same draws, and exchanges weights with it."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from keras_dqn import Agent, WeightFileError, load_weights, play
from keras_dqn.backend import keras
from keras_dqn.core.learner import Learner
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.core.transition import Transition
from keras_dqn.files.weights import pretrained
from keras_dqn.games.cartpole import CartPole
from keras_dqn.pytorch.agent import TorchAgent
from keras_dqn.pytorch.learner import TorchLearner
from keras_dqn.pytorch.network import QNetwork, from_state_dict, to_state_dict
from keras_dqn.pytorch.optimizer import aligned_optimizer
from keras_dqn.training.runner import evaluate, make_env
from tests.environments import Counter

torch.set_num_threads(1)  # two that wait for each other on busy cores take a hundred times as long

NETWORKS = [
    {},
    {"hidden": ()},
    {"hidden": (64, 64), "dueling": True},
    {"center": [1.0, 0.0, 0.0, -1.0], "scale": [2.0, 1.0, 0.5, 1.0], "dueling": True},
]


def make_agent(**options):
    return TorchAgent(4, 2, **{"weight_backup": None, "seed": 0, **options})


def minibatches(count, size=16, seed=0):
    random = np.random.default_rng(seed)
    states, next_states = random.normal(size=(2, count, size, 4)).astype(np.float32)
    return Transition(
        states,
        random.integers(2, size=(count, size)),
        random.normal(size=(count, size)).astype(np.float32),
        np.where(random.random((count, size)) < 0.1, 0, 0.95).astype(np.float32),
        next_states,
    )


def same_network(seed=0, **options):
    """A Keras and a torch network with the same weights."""
    brain, torch_brain = mlp(4, 2, seed=seed, **options), QNetwork(4, 2, **options)
    torch_brain.load_state_dict(to_state_dict(brain))
    return brain, torch_brain


def learners(optimizer, network=None, target=False, **options):
    """A Keras and a torch learner with the same weights, in brain and target model, and the same settings."""
    brain, torch_brain = same_network(**(network or {}))
    targets = [None, None]
    if target:
        targets = keras.models.clone_model(brain), QNetwork(4, 2, **(network or {})).requires_grad_(False)
    clipping = {name: getattr(optimizer, name) for name in ("clipnorm", "clipvalue", "global_clipnorm")}
    aligned = aligned_optimizer(optimizer, torch_brain.parameters())
    return (
        Learner(
            brain, optimizer, target_brain=targets[0], jit_compile=False, **options
        ),  # compiles in a third of the time
        TorchLearner(torch_brain, aligned, target_brain=targets[1], clipping=clipping, **options),
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
    np.testing.assert_allclose(torchs.update(batches), ours.update(batches), rtol=1e-3, atol=1e-4)
    compare(torchs.read_weights(), ours.read_weights())
    assert np.abs(ours.read_weights() - start).max() > steps
    if ours.target_brain is not None:
        arrays = from_state_dict(torchs.target_brain.state_dict(), ours.target_brain)
        compare(
            *(np.concatenate([array.ravel() for array in each]) for each in (arrays, ours.target_brain.get_weights()))
        )
    assert ours.updates == torchs.updates == updates


def compare(weights, expected):
    difference = np.abs(weights - expected)
    assert np.quantile(difference, 0.9) < TOLERANCE
    assert difference.max() < AT_A_KINK


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.001),
    "adamw_amsgrad": lambda: keras.optimizers.AdamW(0.001, amsgrad=True, clipvalue=100),
}
TARGETS = {
    "no_target": {},
    "double_hard_target": {"target": True, "target_update": 10, "double": True},
    "double_soft_target": {"target": True, "target_update": 1, "tau": 0.05, "double": True},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("loss", ["fit_mse", "mse", "huber"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_learns_what_the_keras_version_learns(optimizer, loss, target):
    assert_alike(learners(OPTIMIZERS[optimizer](), loss=loss, **TARGETS[target]))


@pytest.mark.parametrize("network", NETWORKS)
def test_so_does_every_network(network):
    assert_alike(learners(keras.optimizers.Adam(0.001), network))


@pytest.mark.parametrize("clipping", [{"clipnorm": 0.05}, {"clipvalue": 0.01}, {"global_clipnorm": 0.05}])
def test_so_it_does_with_clipping(clipping):
    assert_alike(learners(keras.optimizers.SGD(0.1, **clipping)))


def test_an_epsilon_that_matters_shows_that_it_is_aligned():
    pair = learners(keras.optimizers.Adam(0.001, epsilon=0.1))
    plain = QNetwork(4, 2)
    plain.load_state_dict(pair[1].brain.state_dict())
    plain = TorchLearner(plain, torch.optim.Adam(plain.parameters(), 0.001, eps=0.1))
    plain.update(minibatches(100))
    assert_alike(pair, steps=0.003)
    with pytest.raises(AssertionError):  # the same number without the alignment
        compare(plain.read_weights(), pair[0].read_weights())


def test_weight_decay_is_that_of_keras():
    assert_alike(learners(keras.optimizers.AdamW(0.001, weight_decay=1.0)))
    assert_alike(learners(keras.optimizers.Adam(0.001, weight_decay=1.0)))


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
    once, one_by_one = (learners(keras.optimizers.Adam(), target=True, target_update=4)[1] for _ in range(2))
    losses = once.update(batches)
    assert losses.shape == (6,) and losses.dtype == np.float32
    for k in range(6):
        assert one_by_one.update(Transition(*(field[k : k + 1] for field in batches)))[0] == losses[k]
    np.testing.assert_array_equal(once.read_weights(), one_by_one.read_weights())


@pytest.mark.parametrize("trouble", [np.nan, np.inf, 1e30])  # the square of the last is infinite, its gradient is not
def test_nothing_not_finite_reaches_the_weights(trouble):
    learner = learners(keras.optimizers.Adam(clipvalue=1.0), target=True, target_update=1)[1]
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


def test_a_gradient_that_is_not_finite_under_a_finite_loss_is_found():
    class Root(torch.autograd.Function):
        @staticmethod
        def forward(context, values):
            return values.clone()

        @staticmethod
        def backward(context, gradient):
            return gradient * float("inf")

    class Brain(QNetwork):
        def forward(self, states):
            return Root.apply(super().forward(states))

    brain = Brain(4, 2)
    learner = TorchLearner(brain, torch.optim.SGD(brain.parameters()), clipping={"clipvalue": 1.0})
    before = learner.read_weights()
    with pytest.raises(FloatingPointError, match=r"update 1 of 1 is not finite"):
        learner.update(minibatches(1))
    np.testing.assert_array_equal(learner.read_weights(), before)


def test_refuses_options_that_make_no_sense():
    brain = QNetwork(4, 2)
    optimizer = torch.optim.Adam(brain.parameters())
    with pytest.raises(ValueError, match=r"`loss` must be one of \['fit_mse', 'huber', 'mse'\]. Received: 'mae'"):
        TorchLearner(brain, optimizer, loss="mae")
    with pytest.raises(ValueError, match=r"`double` needs a target model. Received: "):
        TorchLearner(brain, optimizer, double=True)
    with pytest.raises(ValueError, match=r"`brain` must be the same in training and evaluation. Received: Dropout"):
        TorchLearner(torch.nn.Sequential(brain, torch.nn.Dropout()), optimizer)
    with pytest.raises(ValueError, match=r"`activation` must be 'relu' .* Received: 'tanh', 'torch'"):
        make_agent(network={"activation": "tanh"})
    with pytest.raises(ValueError, match=r"`brain` must be a torch.nn.Module. Received: <Sequential"):
        make_agent(brain=mlp(4, 2))
    with pytest.raises(ValueError, match=r"`brain` must return \[1, 2\] for one state. Received: \(1, 3\)"):
        make_agent(brain=QNetwork(4, 3))


# ---------------------------------------------------------------- the agent


def test_the_same_seed_gives_the_same_exploration_and_sampling_and_no_draw_of_others():
    global_draws = torch.random.get_rng_state()
    agents = [Agent(2, 2, weight_backup=None, seed=7), TorchAgent(2, 2, weight_backup=None, seed=7)]
    assert torch.equal(torch.random.get_rng_state(), global_draws)
    for agent in agents:
        loop = play(agent, Counter(), seed=0, learn=False)
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
        loop = play(each, make_env("CartPole-v1"), seed=0)
        next(step for step in loop if step.steps >= 200)  # longer, and rounding would one day tip an action
    assert agent.learner.updates == torch_agent.learner.updates > 5
    for first, second in zip(agent.memory.contents(), torch_agent.memory.contents(), strict=True):
        np.testing.assert_array_equal(first, second)
    compare(torch_agent.learner.read_weights(), agent.learner.read_weights())


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
        {},
        {"torch_optimizer": lambda parameters: torch.optim.RMSprop(parameters), "clipping": {"clipvalue": 100}},
        {"optimizer": lambda: keras.optimizers.AdamW(1e-4, amsgrad=True, clipvalue=100)},
        {"network": {"hidden": (16,), "dueling": True}, "target_update": 1, "tau": 0.1, "double": True, "n_step": 3},
        {"loss": "huber", "minibatch_size": 32, "hold_random_actions": 4},
    ],
)
def test_trains_in_the_same_loop(options):
    agent = make_agent(**options)
    start = agent.learner.read_weights()
    losses = [step.losses for step in itertools.islice(play(agent, make_env("CartPole-v1"), seed=0), 300)]
    losses = np.concatenate([each for each in losses if each is not None])
    assert len(losses) == agent.learner.updates > 0 and np.isfinite(losses).all()
    assert not np.array_equal(agent.learner.read_weights(), start)
    assert agent.act(np.zeros(4), epsilon=0) == agent.q_values(np.zeros((1, 4)))[0].argmax()


def test_the_clipping_of_a_keras_optimizer_goes_with_it():
    assert make_agent(optimizer=keras.optimizers.Adam(clipvalue=100)).learner.clipping == {"clipvalue": 100}
    assert make_agent().learner.clipping == {}


@pytest.mark.parametrize("recipe", [recipe for recipe in CartPole.recipes if recipe != "parallel"])
def test_takes_the_options_of_every_recipe(recipe):
    """Of all but the one whose network is normalized, which `QNetwork` refuses."""
    options = {**CartPole.recipes[recipe], "memory_size": 1000}
    replay_every = options.pop("replay_every", "episode")
    agent = make_agent(**options)
    next(step for step in play(agent, make_env("CartPole-v1"), replay_every, seed=0) if step.steps >= 200)
    assert agent.learner.updates > 50


def test_the_pretrained_weights_balance_the_pole_in_torch():
    agent = make_agent()
    agent.load_model(pretrained("cartpole"))
    assert agent.exploration_rate == agent.exploration_min
    ours = Agent(4, 2, weight_backup=None)
    ours.load_model(pretrained("cartpole"))
    states = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    np.testing.assert_allclose(agent.q_values(states), ours.q_values(states), rtol=1e-5, atol=1e-4)
    assert evaluate(agent, lambda: make_env("CartPole-v1"), episodes=5).mean > 475


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("network", NETWORKS)
def test_weights_go_there_and_back(network):
    brain, torch_brain = same_network(**network)
    states = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(torch_brain(torch.from_numpy(states)), brain(states), rtol=1e-5, atol=1e-5)
    back = from_state_dict(torch_brain.state_dict(), brain)
    for array, expected in zip(back, brain.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert list(to_state_dict(brain)) == list(torch_brain.state_dict())


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
    agent = TorchAgent(4, 2, brain=tutorials, weight_backup="tutorial.h5")
    agent.save_model()
    again = mlp(4, 2, hidden=(128, 128))
    load_weights(again, "tutorial.h5")
    for array, expected in zip(again.get_weights(), brain.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_backup_is_read_by_keras_and_by_torch(network, capsys):
    agent = TorchAgent(4, 2, network=network, seed=1, target_update=1)
    agent.save_model()
    again = TorchAgent(4, 2, network=network, seed=2, target_update=1)
    assert capsys.readouterr().out.endswith("Found saved weights, loaded into model\n")
    for reader in again, Agent(4, 2, network=network):
        np.testing.assert_array_equal(reader.learner.read_weights(), agent.learner.read_weights())
    state_dicts = again.brain.state_dict(), again.learner.target_brain.state_dict()
    assert all(torch.equal(state_dicts[0][name], state_dicts[1][name]) for name in state_dicts[0])


def test_a_backup_of_another_network_is_refused():
    agent = TorchAgent(4, 2)
    agent.save_model()
    before = agent.learner.read_weights()
    with pytest.raises(WeightFileError, match=r"shape \(4, 16\).* Received: \(4, 24\)"):
        TorchAgent(4, 2, network={"hidden": (16, 24)})
    np.testing.assert_array_equal(agent.learner.read_weights(), before)
    names_its_layers = torch.nn.Sequential(torch.nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"'0.bias' is unexpected: expected \['layer1.weight', .* Received: "):
        TorchAgent(4, 2, brain=names_its_layers)  # before training, since its weights could not be saved after it
    make_agent(brain=names_its_layers).act(np.zeros(4))


def test_a_state_dict_of_another_network_is_refused():
    model = mlp(4, 2)
    good = to_state_dict(model)
    kernel = good["layer2.weight"]
    for changed, message in (
        ({"layer2.weight": torch.zeros(24, 23)}, r"'layer2.weight': .* shape \(24, 24\). Received: \(24, 23\)"),
        ({"layer2.weight": kernel.int()}, r"'layer2.weight': expected finite floats .* Received: .*torch.int32"),
        ({"layer2.weight": kernel * torch.nan}, r"'layer2.weight': expected finite floats .* Received: .*nan"),
        ({"layer4.bias": torch.zeros(2)}, r"'layer4.bias' is unexpected: expected .* Received: .*'layer4.bias'"),
    ):
        with pytest.raises(ValueError, match=f"(?s){message}"):
            from_state_dict({**good, **changed}, model)
    del good["layer2.weight"]
    with pytest.raises(ValueError, match=r"'layer2.weight' is missing: expected .* Received: \['layer1.weight', "):
        from_state_dict(good, model)
    with pytest.raises(ValueError, match=r"'layer1.weight': expected kernels .* Received: \(3, 3, 1, 8\)"):
        to_state_dict([np.zeros((3, 3, 1, 8)), np.zeros(8)])


def test_the_runner_trains_it_and_keeps_its_best_weights():
    cartpole = CartPole(recipe="pytorch", agent_class=TorchAgent, steps=300, weights=None, seed=0)
    assert isinstance(cartpole.agent, TorchAgent)
    history = cartpole.train(progress=False, evaluate_every=150)
    assert len(history.update_losses) == 300 - 127 == cartpole.agent.learner.updates
    best = CartPole(recipe="pytorch", weights=cartpole.best_backup)  # Keras reads them
    assert best.evaluate(100, seed=1_000_000).mean == pytest.approx(cartpole.best_score)


def test_it_learns_at_the_rate_asked_for():
    cartpole = CartPole(recipe="pytorch", agent_class=TorchAgent, steps=200, weights=None, seed=0)
    first = [parameter.detach().clone() for parameter in cartpole.agent.brain.parameters()]
    cartpole.train(progress=False, learning_rate=1e-9)
    assert cartpole.agent.learner.updates and cartpole.agent.learner.learning_rate == 1e-9
    for before, after in zip(first, cartpole.agent.brain.parameters(), strict=True):
        torch.testing.assert_close(after.detach(), before, atol=1e-6, rtol=0)


# ---------------------------------------------------------------- without torch


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_a_missing_torch_is_reported():
    result = run_python("import sys; sys.modules['torch'] = None; import keras_dqn.pytorch")
    *_, message = result.stderr.strip().splitlines()
    expected = "ImportError: keras_dqn.pytorch needs PyTorch: pip install torch. Received: "
    assert message.startswith(expected)


def test_nothing_else_imports_torch():
    code = """
import pathlib, sys, keras_dqn
sys.modules['torch'] = None
package = pathlib.Path(keras_dqn.__file__).parent
for file in package.rglob('*.py'):
    parts = file.relative_to(package).with_suffix('').parts
    if 'pytorch' not in parts and parts[-1] not in ('__init__', '__main__'):
        __import__('.'.join(['keras_dqn', *parts]))
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr
