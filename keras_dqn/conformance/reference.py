"""One update of each algorithm in NumPy and float64, to be read beside its paper; it shares nothing with the rest.

A network is a list of weights and biases, W1 [in, out], b1 [out], W2, …, with ReLUs between. A batch is a dict of
arrays: `state` and `next_state` [B, S], `action` [B], `reward` and `discount` [B] (0 where the episode terminated, else
gamma to the number of steps), and `weight` [B] where errors are weighted.
"""

from collections.abc import Callable

import numpy as np

Weights = list[np.ndarray]
Batch = dict[str, np.ndarray]


def forward(weights: Weights, states: np.ndarray) -> list[np.ndarray]:
    """What goes into each layer, and at the end the outputs [B, out]."""
    values = [states.astype(float)]
    for layer, (kernel, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        sums = values[-1] @ kernel + bias
        values.append(sums if 2 * layer + 2 == len(weights) else np.maximum(sums, 0))
    return values


def backward(weights: Weights, values: list[np.ndarray], gradient: np.ndarray) -> Weights:
    """The gradients of all weights from that of the outputs, [B, out]."""
    gradients: Weights = []
    for layer in reversed(range(len(weights) // 2)):
        gradients[:0] = [values[layer].T @ gradient, gradient.sum(0)]
        gradient = (gradient @ weights[2 * layer].T) * (values[layer] > 0)
    return gradients


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def huber(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Huber's loss with delta 1, and its derivative."""
    clipped = np.clip(errors, -1, 1)
    return clipped * (errors - clipped / 2), clipped


# ---------------------------------------------------------------- objectives: from outputs to losses and gradients


class Values:
    """Q-learning of values (Mnih et al. 2015), double (van Hasselt et al. 2016), Munchausen (Vieillard et al. 2020).

    Args:
        loss: "mse" or "huber".
        munchausen: None, or alpha, temperature and the lowest log-policy: (0.9, 0.03, -1).
    """

    outputs = 1  # for each action

    def __init__(self, loss: str = "mse", double: bool = False, munchausen: tuple[float, float, float] | None = None):
        self.loss, self.double, self.munchausen = loss, double, munchausen

    def targets(self, batch: Batch, network: Callable, online: Callable) -> np.ndarray:
        """[B], from the target network and the online one, functions of states to outputs."""
        next_q = network(batch["next_state"])
        if self.munchausen is None:
            best = (online(batch["next_state"]) if self.double else next_q).argmax(1)
            return batch["reward"] + batch["discount"] * next_q[np.arange(len(best)), best]
        alpha, temperature, lowest = self.munchausen
        policy, log_policy = (f(next_q / temperature) for f in (softmax, log_softmax))
        soft_value = (policy * (next_q - temperature * log_policy)).sum(1)
        own = temperature * log_softmax(network(batch["state"]) / temperature)
        bonus = alpha * np.clip(own[np.arange(len(own)), batch["action"]], lowest, 0)
        return batch["reward"] + bonus + batch["discount"] * soft_value

    def losses(self, targets: np.ndarray, outputs: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The loss of each transition, [B], and its derivative with respect to its own outputs, [B, A]."""
        rows = np.arange(len(actions))
        errors = outputs[rows, actions] - targets
        losses, slopes = (errors**2, 2 * errors) if self.loss == "mse" else huber(errors)
        gradient = np.zeros_like(outputs)
        gradient[rows, actions] = slopes
        return losses, gradient


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


class C51:
    """Categorical Q-learning (Bellemare et al. 2017): outputs are logits of `atoms`, [B, A · n] as [B, A, n]."""

    def __init__(self, atoms: np.ndarray):
        self.atoms, self.outputs = atoms, len(atoms)

    def targets(self, batch: Batch, network: Callable, online: Callable) -> np.ndarray:
        """Probabilities [B, n]: those of the best next action, moved, and shared out among the nearest atoms."""
        probabilities = softmax(by_action(network(batch["next_state"]), self.outputs))
        best = (probabilities * self.atoms).sum(-1).argmax(1)
        moved = batch["reward"][:, None] + batch["discount"][:, None] * self.atoms
        spacing = self.atoms[1] - self.atoms[0]
        apart = np.abs(np.clip(moved, self.atoms[0], self.atoms[-1])[:, None, :] - self.atoms[:, None]) / spacing
        shares = np.clip(1 - apart, 0, 1)  # [B, to, from]
        return (shares * probabilities[np.arange(len(best)), best][:, None, :]).sum(-1)

    def losses(self, targets: np.ndarray, outputs: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cross-entropies, [B], and their derivatives."""
        logits, rows = by_action(outputs, self.outputs), np.arange(len(actions))
        own = logits[rows, actions]
        gradient = np.zeros_like(logits)
        gradient[rows, actions] = softmax(own) - targets
        return -(targets * log_softmax(own)).sum(-1), gradient.reshape(outputs.shape)


class QuantileRegression:
    """QR-DQN (Dabney et al. 2018), kappa 1: outputs are quantiles [B, A · n] as [B, A, n]."""

    def __init__(self, quantiles: int):
        self.outputs, self.levels = quantiles, (np.arange(quantiles) + 0.5) / quantiles

    def targets(self, batch: Batch, network: Callable, online: Callable) -> np.ndarray:
        """The quantiles of the next action with the highest mean, [B, n]."""
        quantiles = by_action(network(batch["next_state"]), self.outputs)
        best = quantiles.mean(-1).argmax(1)
        return batch["reward"][:, None] + batch["discount"][:, None] * quantiles[np.arange(len(best)), best]

    def losses(self, targets: np.ndarray, outputs: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sum over own quantiles of the mean over the target's, [B], and its derivatives."""
        quantiles, rows = by_action(outputs, self.outputs), np.arange(len(actions))
        errors = targets[:, None, :] - quantiles[rows, actions][:, :, None]  # [B, own, target]
        losses, slopes = huber(errors)
        sides = np.abs(self.levels[:, None] - (errors < 0))
        gradient = np.zeros_like(quantiles)
        gradient[rows, actions] = -(sides * slopes).mean(-1)
        return (sides * losses).mean(-1).sum(-1), gradient.reshape(outputs.shape)


Objective = Values | C51 | QuantileRegression


def by_action(outputs: np.ndarray, size: int) -> np.ndarray:
    """[B, A · n] as [B, A, n]."""
    return outputs.reshape(len(outputs), -1, size)


# ---------------------------------------------------------------- updates


class Adam:
    """Kingma and Ba (2015); epsilon is added before the bias correction (Keras) or after it (PyTorch)."""

    def __init__(self, rate: float = 1e-3, epsilon: float = 1e-7, epsilon_after: bool = False):
        self.rate, self.epsilon, self.epsilon_after, self.step = rate, epsilon, epsilon_after, 0
        self.means: Weights = []
        self.squares: Weights = []

    def __call__(self, weights: Weights, gradients: Weights) -> Weights:
        """The weights after an update."""
        if self.step == 0:
            self.means, self.squares = [0 * one for one in weights], [0 * one for one in weights]
        self.step += 1
        self.means = [0.9 * old + 0.1 * new for old, new in zip(self.means, gradients, strict=True)]
        self.squares = [0.999 * old + 0.001 * new**2 for old, new in zip(self.squares, gradients, strict=True)]
        first, second = 1 - 0.9**self.step, np.sqrt(1 - 0.999**self.step)
        epsilon = self.epsilon * second if self.epsilon_after else self.epsilon
        moves = [m / (np.sqrt(s) + epsilon) for m, s in zip(self.means, self.squares, strict=True)]
        return [one - self.rate * second / first * move for one, move in zip(weights, moves, strict=True)]


def gradients_of(objective: Objective, weights: Weights, target: Weights, batch: Batch) -> tuple:
    """Outputs [B, out], targets, losses [B], and the gradients of their weighted mean."""
    targets = objective.targets(batch, lambda s: forward(target, s)[-1], lambda s: forward(weights, s)[-1])
    values = forward(weights, batch["state"])
    losses, slopes = objective.losses(targets, values[-1], batch["action"])
    importance = batch.get("weight", np.ones(len(losses)))
    return values[-1], targets, losses, backward(weights, values, slopes * importance[:, None] / len(losses))


def train(
    objective: Objective, weights: Weights, batches: list[Batch], adam: Adam, every: int = 1, tau: float = 1.0
) -> tuple:
    """Weights and target network after an update a batch; every so many the target moves by tau towards them."""
    target = list(weights)
    for update, batch in enumerate(batches, 1):
        weights = adam(weights, gradients_of(objective, weights, target, batch)[-1])
        if update % every == 0:
            target = [old + tau * (new - old) for old, new in zip(target, weights, strict=True)]
    return weights, target


# ---------------------------------------------------------------- returns and priorities


def n_step(rewards: np.ndarray, terminated: np.ndarray, truncated: np.ndarray, n: int, gamma: float) -> np.ndarray:
    """For each step of a sequence: sum of rewards, discount, and the step whose next state is bootstrapped from.

    A step whose n steps are not complete at the end of the sequence is left out.
    """
    rows = []
    for start in range(len(rewards)):
        total, discount = 0.0, 1.0
        for step in range(start, min(start + n, len(rewards))):
            total, discount = total + discount * rewards[step], discount * gamma
            if terminated[step] or truncated[step] or step == start + n - 1:
                rows.append((total, 0.0 if terminated[step] else discount, step))
                break
    return np.array(rows)


def lambda_returns(
    rewards: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    next_values: np.ndarray,
    gamma: float,
    q_lambda: float,
) -> np.ndarray:
    """Peng's Q(lambda) of a sequence of steps (Daley and Amato 2019); `next_values` are of each step's next state."""
    returns, after = np.zeros(len(rewards)), 0.0
    for step in reversed(range(len(rewards))):
        cut = truncated[step] or step == len(rewards) - 1
        mixed = next_values[step] if cut else (1 - q_lambda) * next_values[step] + q_lambda * after
        returns[step] = after = rewards[step] + (0.0 if terminated[step] else gamma * mixed)
    return returns


def prioritized(priorities: np.ndarray, alpha: float, beta: float, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of all rows, and the weights of those drawn, divided by the largest (Schaul et al. 2016)."""
    probabilities = priorities**alpha / (priorities**alpha).sum()
    weights = (len(priorities) * probabilities[drawn]) ** -beta
    return probabilities, weights / weights.max()
