"""Writes `fixtures/`: what `reference` computes, in a form that any language reads.

python -m keras_dqn.conformance.make_fixtures
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_dqn.conformance import reference

FOLDER = Path(__file__).parent / "fixtures"
STATES, HIDDEN, ACTIONS, BATCH, UPDATES, GAMMA = 4, 8, 3, 8, 100, 0.9
ATOMS = np.linspace(-3, 3, 7)
WORDS = {
    "weights": "W1 [4, 8], b1 [8], W2 [8, 8], b2 [8], W3 [8, out], b3 [out]: Dense layers with ReLU, the last without",
    "target_weights": "the target network of the first batch, W1 … b3",
    "batches": "state and next_state [100, 8, 4], action, reward and discount [100, 8]: one batch an update; a "
    "discount of 0 marks the end",
    "outputs": "of the first batch's states, [8, out]; where an action has several, those of action 0 come first",
    "targets": "of the first batch",
    "losses": "of the first batch, one a transition; an update minimizes their mean",
    "gradients": "of that mean, W1 … b3, first batch and `target_weights`",
    "after_1": "W1 … b3 after an update with the first batch, from `weights` as brain and target network",
    "after_100": "the same after 100 updates, one a batch",
    "target_after_100": "the target network then",
}


class Case(NamedTuple):
    """An algorithm that is computed."""

    said: str  # what it is, in words
    objective: Any
    adam: dict[str, Any] = {}
    target: dict[str, Any] = {"every": 10}


DQN = reference.Values()
LEARNERS = {
    "dqn": Case("the mean squared error; the target network is copied after every 10th update", DQN),
    "soft_target": Case(
        "as dqn; the target network moves a tenth of the way after every update", DQN, {}, {"tau": 0.1}
    ),
    "double": Case("as dqn; the brain picks the next action", reference.Values(double=True)),
    "huber": Case("as dqn, with Huber's loss, delta 1", reference.Values("huber")),
    "adam_epsilon_before": Case(
        "as dqn; Adam's epsilon is 1e-3, added before the bias correction as in Keras", DQN, {"epsilon": 1e-3}
    ),
    "adam_epsilon_after": Case(
        "as dqn; Adam's epsilon is 1e-3, added after the bias correction as in PyTorch",
        DQN,
        {"epsilon": 1e-3, "epsilon_after": True},
    ),
    "munchausen": Case(
        "as dqn, Munchausen's with alpha 0.9, temperature 0.03, and the logarithm of the policy, times the "
        "temperature, clipped to -1 … 0",
        reference.Values(munchausen=(0.9, 0.03, -1.0)),
    ),
    "c51": Case(
        "as dqn, but 7 atoms from -3 to 3 and the cross-entropy; targets are probabilities", reference.C51(ATOMS)
    ),
    "qr_dqn": Case(
        "as dqn, but 5 quantiles and their Huber loss, kappa 1: summed over the own, averaged over the target's",
        reference.QuantileRegression(5),
    ),
    "weighted": Case("as dqn, with an importance weight for each loss: `weight` [100, 8]", DQN),
}


def numbers(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Normally distributed numbers that float32 holds exactly."""
    return random.normal(size=shape).astype(np.float32).astype(float)


def network(random: np.random.Generator, outputs: int) -> reference.Weights:
    """Weights of three Dense layers."""
    sizes = [STATES, HIDDEN, HIDDEN, outputs]
    shapes = [shape for i in range(3) for shape in ((sizes[i], sizes[i + 1]), (sizes[i + 1],))]
    return [numbers(random, *shape) / 2 for shape in shapes]


def learner(name: str) -> dict[str, np.ndarray]:
    """All arrays of one of `LEARNERS`."""
    _, objective, adam, target = LEARNERS[name]
    random = np.random.default_rng(0)
    batches = {
        "state": numbers(random, UPDATES, BATCH, STATES),
        "action": random.integers(0, ACTIONS, (UPDATES, BATCH)),
        "reward": numbers(random, UPDATES, BATCH),
        "discount": np.float32(GAMMA).astype(float) * (random.random((UPDATES, BATCH)) > 0.2),
        "next_state": numbers(random, UPDATES, BATCH, STATES),
    }
    if name == "weighted":
        batches["weight"] = random.random((UPDATES, BATCH)).astype(np.float32).astype(float)
    weights, other = network(random, objective.outputs * ACTIONS), network(random, objective.outputs * ACTIONS)
    each = [{key: value[i] for key, value in batches.items()} for i in range(UPDATES)]
    outputs, targets, losses, gradients = reference.gradients_of(objective, weights, other, each[0])
    after_1, _ = reference.train(objective, weights, each[:1], reference.Adam(1e-2, **adam), **target)
    after_100, target_after = reference.train(objective, weights, each, reference.Adam(1e-2, **adam), **target)
    lists = {
        "weights": weights, "target_weights": other, "gradients": gradients, "after_1": after_1,
        "after_100": after_100, "target_after_100": target_after,
    }  # fmt: skip
    named = [f"{layer}{number}" for number in (1, 2, 3) for layer in "Wb"]
    flat = {f"{key}.{name}": one for key, ones in lists.items() for name, one in zip(named, ones, strict=True)}
    return batches | {"outputs": outputs, "targets": targets, "losses": losses} | flat


def sequences() -> Iterator[tuple[str, dict[str, np.ndarray], dict[str, str]]]:
    """The fixtures that need no network: name, arrays and words."""
    random = np.random.default_rng(1)
    steps = {"reward": numbers(random, 40), "terminated": random.random(40) < 0.1}
    steps["truncated"] = (random.random(40) < 0.1) & ~steps["terminated"]
    flags = "reward, terminated, truncated [40]: one sequence of steps; an episode ends on either flag"
    sequence = steps["reward"], steps["terminated"], steps["truncated"]
    made = {f"n_{n}": reference.n_step(*sequence, n, GAMMA) for n in (1, 3, 5)}
    rows = "[steps, 3]: sum of rewards, discount, and the step whose next state is bootstrapped from; gamma 0.9"
    yield "n_step", steps | made, {"steps": flags, "n_1, n_3, n_5": rows}
    values = numbers(random, 40)
    returns = {f"lambda_{q}": reference.lambda_returns(*sequence, values, GAMMA, q) for q in (0.0, 0.65, 1.0)}
    said = "[40], gamma 0.9; the last step and truncated ones bootstrap from their own next state"
    words = {"steps": flags, "next_value": "[40], the value of each step's own next state", "lambda_…": said}
    yield "lambda_returns", steps | {"next_value": values} | returns, words
    priorities, drawn = random.random(16).astype(np.float32).astype(float), random.integers(0, 16, 8)
    probabilities, weights = reference.prioritized(priorities, 0.6, 0.4, drawn)
    words = {
        "priorities": "[16], alpha 0.6",
        "probabilities": "[16], of being drawn",
        "drawn": "[8] rows",
        "weights": "[8], beta 0.4, divided by the largest of them",
    }
    arrays = {"priorities": priorities, "probabilities": probabilities, "drawn": drawn, "weights": weights}
    yield "prioritized", arrays, words


def fixtures() -> Iterator[tuple[str, dict[str, np.ndarray], dict[str, str]]]:
    """All: name, arrays, and what each is in words."""
    for name, case in LEARNERS.items():
        said = f"{case.said}; Adam 0.01, beta 0.9 and 0.999, epsilon 1e-7 unless said otherwise"
        yield name, learner(name), {"algorithm": said} | WORDS
    yield from sequences()


def main(folder: Path = FOLDER) -> None:
    """Write them: an .npz each, and a .json beside it."""
    for name, arrays, words in fixtures():
        np.savez_compressed(folder / f"{name}.npz", **arrays)
        (folder / f"{name}.json").write_text(json.dumps(words, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
