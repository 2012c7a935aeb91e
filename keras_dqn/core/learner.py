"""How the network learns: K gradient updates of B transitions each.

Every recipe is a choice of K, B and when: `Learner.update` makes K gradient updates of B transitions each, one after
the other, in a single compiled call. The notebook's per-sample replay is K=32, B=1 once an episode; the PyTorch
tutorial's is K=1, B=128 every step.
"""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from keras_dqn.backend import BACKEND, keras
from keras_dqn.checks import Seed
from keras_dqn.core.loss import NEVER, MinibatchLoss, TargetNetwork
from keras_dqn.core.networks.layers import is_noisy
from keras_dqn.core.networks.mlp import built, default_brain
from keras_dqn.core.networks.numpy_forward import acting_forward
from keras_dqn.core.objectives.c51 import C51
from keras_dqn.core.objectives.munchausen import Munchausen
from keras_dqn.core.objectives.objective import Objective
from keras_dqn.core.objectives.quantile import Quantile
from keras_dqn.core.objectives.value import Value
from keras_dqn.core.settings import LearnerSettings
from keras_dqn.core.transition import Transition
from keras_dqn.files.weights import load_weights, save_weights

if BACKEND == "tensorflow":
    from keras_dqn.core.backends.tensorflow import Updates
elif BACKEND == "jax":
    from keras_dqn.core.backends.jax import Updates
else:
    from keras_dqn.core.backends.torch import Updates


class Update(NamedTuple):
    """What K updates came to, each before it was made."""

    losses: np.ndarray  # [K] float32
    errors: Any  # [K, B] float32, the loss of each transition: an array, or a tensor that `np.asarray` makes one of


class AnyLearner(Protocol):
    """What the agent needs of a learner: `Learner`, `literal.LiteralLearner` and `pytorch.TorchLearner`."""

    updates: int  # how many gradient updates have been made
    learning_rate: float  # the optimizer's; a new one counts from the next update on
    weights_assigned: bool  # whether somebody else may have assigned weights since the learner acted last

    def update(self, batches: Transition) -> Update:
        """Make K gradient updates from arrays [K, B, ...], one after the other."""

    def q_values(self, states: np.ndarray, noise: np.random.Generator | None = None) -> np.ndarray:
        """Q-values, [N, actions] float32, of states [N, *state_shape]; a noisy network draws its noise from `noise`."""

    def read_weights(self) -> np.ndarray:
        """All weights as one vector, [parameters] float32, in the order of Keras."""

    def copy_to_target(self) -> None:
        """Make the target network equal to the brain."""

    def keras_model(self) -> "keras.Model":
        """A Keras model with the weights as they are now, for the .h5 files."""

    def remarks(self) -> list[str]:
        """What there is to say of a training, in lines of text."""

    def end_training(self) -> None:
        """Give the network the weights that a training ends with."""

    def save_weights(self, path: str | Path, statistics: np.ndarray | None = None) -> None:
        """Write the weights to an .h5 file, whole or not at all, and with them statistics of observations."""

    def load_weights(self, path: str | Path) -> None:
        """Take weights from an .h5 file; on any error everything is as it was."""


class Learner:
    """Updates a Keras model from minibatches of transitions, K of them in one compiled call.

    Args:
        brain: the Keras model to train, states [B, ...] to outputs [B, actions].
        optimizer: a Keras optimizer with its own clipping; it is built here if it is not.
        objective: what the outputs mean and what they are moved towards; or the name of a loss of `Value`.
        target_update: every how many updates the target network moves to the brain; None for no target network, so
            that next states are valued with the brain as it is at that update.
        tau: how far it moves: 1 copies the brain ("hard"), less moves that fraction of the way ("soft").
        double: whether the brain picks the next action and the target network values it.
        bootstraps: False where every discount is known to be 0: a rollout's rewards are whole returns.
        jit_compile: whether to compile with XLA; by default where there is no convolution, which XLA slows on a CPU.
        updates_before_xla: so many updates, one a call, are made by a plain graph before XLA compiles: it is ready in a
            tenth of the time, and an update costs a fifth more. By count, not clock: the two round differently.

    Attributes:
        target: the `TargetNetwork`, or None.
        weights_assigned: set it where weights may have been assigned to the brain from outside, by a callback for
            example: the learner then takes them over before it acts.
    """

    def __init__(
        self,
        brain: "keras.Model",
        optimizer: "keras.optimizers.Optimizer",
        objective: Objective | str = "mse",
        target_update: int | None = None,
        tau: float = 1.0,
        double: bool = False,
        bootstraps: bool = True,
        jit_compile: bool | None = None,
        updates_before_xla: int = 0,
    ):
        self.objective = (objective if isinstance(objective, Objective) else Value(objective)).for_learner()
        self._check(target_update, double, bootstraps)
        self.brain, self.optimizer = brain, optimizer
        self.is_noisy = is_noisy(brain)
        self.target = None if target_update is None else TargetNetwork(brain, target_update, tau)
        self.double, self.bootstraps, self.updates_before_xla = double, bootstraps, updates_before_xla
        self.jit_compile = not _has_convolution(brain) if jit_compile is None else jit_compile
        self._updates = 0
        self._compile()

    def _check(self, target_update, double, bootstraps):
        """Raise a ValueError for what has no meaning beside the objective, or without a target network."""
        if double and self.objective.no_double:
            raise ValueError(f"`double` has no meaning here. {self.objective.no_double} Received: {self.objective}")
        if not bootstraps and self.objective.no_returns:
            raise ValueError(f"`rollout` has no meaning here. {self.objective.no_returns} Received: {self.objective}")
        if double and target_update is None:
            raise ValueError(
                "`double` needs a target network: without one, both networks are the same. Received: target_update=None"
            )
        if target_update is not None and not bootstraps:
            raise ValueError(
                f"A target network values next states; without `bootstraps` nobody asks. Received: {target_update=}"
            )

    def _compile(self):
        """Make what is compiled for brain, optimizer and objective as they are."""
        if not self.optimizer.built:
            self.optimizer.build(self.brain.trainable_variables)
        loss = MinibatchLoss(self.brain, self.objective, self.target, self.double, self.bootstraps)
        self._compiled = Updates(loss, self.optimizer, self.jit_compile)
        self._compiled.set_count(self._updates)
        # At the size of small Dense networks a call of the model costs a hundred times its arithmetic.
        self._numpy_forward = acting_forward(self.brain, self.objective.q_layers())
        self.weights_assigned = True

    def __repr__(self):
        target = "" if self.target is None else f", target_update={self.target.every}, tau={self.target.tau}"
        return (
            f"Learner(objective={self.objective!r}, optimizer={type(self.optimizer).__name__}, "
            f"learning_rate={self.learning_rate:g}{target}, double={self.double}, updates={self.updates})"
        )

    @property
    def updates(self) -> int:
        """How many gradient updates have been made."""
        return self._updates

    @updates.setter
    def updates(self, count: int):
        self._compiled.set_count(count)
        self._updates = count

    @property
    def learning_rate(self) -> float:
        """The optimizer's. A new one counts from the next update on."""
        return float(str(np.float32(self.optimizer.learning_rate)))  # 0.001, and not what float32 makes of it

    @learning_rate.setter
    def learning_rate(self, rate: float):
        if isinstance(self.optimizer.get_config()["learning_rate"], dict):
            raise ValueError(f"`learning_rate` follows the schedule of the optimizer. Received: {rate!r}")
        self.optimizer.learning_rate = rate

    @property
    def traces(self) -> int:
        """How often the update was traced: once for every layout of minibatches, and once more where XLA takes over."""
        return self._compiled.traces

    def update(self, batches: Transition) -> Update:
        """Make K gradient updates from a `Transition` of arrays [K, B, ...], each from the weights that the one before
        left.

        Raises:
            FloatingPointError: a loss or gradient is not finite; that update and those after it were not made.
        """
        plainly = self.jit_compile and len(batches.reward) == 1 and self._updates < self.updates_before_xla
        losses, errors, made, flat_weights = self._compiled(batches, plainly)
        self._updates += made
        if self._numpy_forward is not None:
            self._numpy_forward.refresh(flat_weights)
        if made < len(losses):
            raise FloatingPointError(
                f"The loss or a gradient of update {made + 1} of {len(losses)} is not finite; neither it nor those "
                f"after it were made. Received: a loss of {losses[made]}"
            )
        return Update(losses, errors)

    def q_values(self, states: np.ndarray, noise: np.random.Generator | None = None) -> np.ndarray:
        """The brain's Q-values, [N, actions] float32, of states [N, *state_shape].

        They are of the newest weights; of those that somebody else assigned once `weights_assigned` is set.

        Args:
            noise: a network with `NoisyDense` draws noise from it, once for all states; None for none, which is what a
                greedy policy acts with.
        """
        noise = noise if self.is_noisy else None
        if self._numpy_forward is None:
            return self._compiled.q_values(states, None if noise is None else int(noise.integers(2**31)))
        if self.weights_assigned:
            self._numpy_forward.refresh(self.read_weights())
            self.weights_assigned = False
        return self._numpy_forward(states, noise)

    def keras_model(self) -> "keras.Model":
        """A Keras model with the weights as they are now: the brain."""
        return self.brain

    def remarks(self) -> list[str]:
        """What the objective has to say of a training, in lines of text."""
        return self.objective.remarks()

    def end_training(self) -> None:
        """Give the brain the averages of its weights where the optimizer keeps such (`use_ema`), as `fit` does."""
        self.optimizer.finalize_variable_values(self.brain.trainable_variables)
        self.weights_assigned = True

    def save_weights(self, path: str | Path, statistics: np.ndarray | None = None) -> None:
        """Write the brain's weights to an .h5 file, whole or not at all; see `weights.save_weights`."""
        save_weights(self.brain, path, statistics)

    def load_weights(self, path: str | Path) -> None:
        """Take the weights of brain and target network from an .h5 file of any Keras.

        Raises:
            WeightFileError: the file is not whole or not this network's; nothing is changed.
        """
        load_weights(self.brain, path)
        self.copy_to_target()
        self.weights_assigned = True

    def read_weights(self) -> np.ndarray:
        """All of the brain's weights as one vector, float32 [parameters], in the order of `brain.weights`."""
        return self._compiled.read_weights()

    def copy_to_target(self) -> None:
        """Make the target network equal to the brain, as it is at construction."""
        if self.target is not None:
            self.target.copy()

    @property
    def variables(self) -> dict[str, list]:
        """All that updates change: the variables of "brain", "target" and "optimizer"."""
        target = [] if self.target is None else self.target.variables
        return {"brain": self.brain.weights, "target": target, "optimizer": self.optimizer.variables}

    def snapshot(self) -> dict[str, list[np.ndarray]]:
        """Copies of all that updates change, for `restore`: the arrays of `variables`."""
        return {name: [np.asarray(one).copy() for one in variables] for name, variables in self.variables.items()}

    def restore(self, snapshot: dict[str, list[np.ndarray]]) -> None:
        """Go on from what `snapshot` gave."""
        for name, variables in self.variables.items():
            for variable, array in zip(variables, snapshot[name], strict=True):
                variable.assign(array)
        self.weights_assigned = True

    def __getstate__(self):
        left_out = "_compiled", "_numpy_forward", "brain", "optimizer", "target"
        state = {name: value for name, value in self.__dict__.items() if name not in left_out}
        return {**state, "brain": self.brain, "target": self.target, "snapshot": self.snapshot()}

    def __setstate__(self, state):
        snapshot = state.pop("snapshot")
        self.__dict__.update(state)
        self.optimizer = self.brain.optimizer
        self._compile()
        self.restore(snapshot)


def _has_convolution(model):
    return any("Conv" in type(layer).__name__ or _has_convolution(layer) for layer in getattr(model, "layers", []))


OBJECTIVES = {"c51": C51, "munchausen": Munchausen, "quantile": Quantile, "value": Value}


def named(name: Any) -> Objective:
    """The objective of a name, with the defaults of its paper; a ValueError where there is none."""
    if not isinstance(name, str) or name not in OBJECTIVES:
        raise ValueError(f"`objective` must be one of {list(OBJECTIVES)}, or an `Objective`. Received: {name!r}")
    if name == "c51":
        raise ValueError(
            "C51 needs the lowest and the highest return, which follow from the rewards and gamma: "
            "`objective=C51(0.0, 100.0)` for rewards from 0 to 1 and gamma 0.99. Received: 'c51'"
        )
    return OBJECTIVES[name]()


def make_learner(
    brain: "keras.Model | None",
    network: Any,
    state_shape: tuple[int, ...],
    action_size: int,
    settings: LearnerSettings,
    seed: Seed,
    bootstraps: bool = True,
    n_step: int = 1,
) -> Learner:
    """The `Learner` of a brain, the caller's own or a default one, with its optimizer and its target network.

    Args:
        brain: a Keras model, or None.
        network: what `networks.mlp.default_brain` makes a brain of where there is none.
        settings: `objective` decides what is learned, then `loss`, then the loss that the brain was compiled with.
        seed: of the initial weights.
        bootstraps: as `Learner` has it.
        n_step: how many steps a transition spans at most.

    Raises:
        ValueError: the brain does not map [B, *state_shape] to what the objective needs, or a setting has no meaning
            beside it.
    """
    objective = settings.objective if isinstance(settings.objective, Objective | None) else named(settings.objective)
    if objective is not None and n_step > 1 and objective.no_n_step:
        raise ValueError(f"`n_step` has no meaning here. {objective.no_n_step} Received: {n_step}, {objective}")
    if brain is None:
        outputs = (action_size, objective.atoms) if objective is not None and objective.atoms else action_size
        brain = default_brain(network, state_shape, outputs, seed)
    if objective is None:
        compiled = getattr(brain, "loss", None) if settings.loss is None else None
        objective = Value(compiled or "mse", as_fit=True) if settings.loss is None else Value(settings.loss)
    brain = built(brain, state_shape, action_size, objective, settings.optimizer, settings.learning_rate)
    target_update = NEVER if settings.target_update_episodes is not None else settings.target_update
    return Learner(
        brain,
        brain.optimizer,
        objective,
        target_update,
        settings.tau,
        settings.double,
        bootstraps,
        updates_before_xla=settings.updates_before_xla,
    )
