"""What the agent remembers where it learns from rollouts: the newest steps of all environments, each with its return.

A rollout is filled, drawn whole once or several times, and emptied (PQN, Gallici et al. 2025): what is learned from has
just been played, so there is neither a replay memory nor a target network. Its returns are finished when it is drawn,
so a transition's `reward` is the lambda-return and its `discount` 0: the learner has no next state to value.
"""

from collections.abc import Callable

import numpy as np

from keras_dqn.checks import Seed, check_fraction, check_integer
from keras_dqn.core.memory.sampling import check_fits
from keras_dqn.core.transition import StepBatch, Transition


def lambda_return(
    reward: np.ndarray,
    terminal: np.ndarray,
    next_value: np.ndarray,
    next_return: np.ndarray,
    gamma: float,
    q_lambda: float,
) -> np.ndarray:
    """The return of a step from that of the step after it: Peng's Q(lambda) (Daley and Amato 2019, eq. 5).

    Args:
        reward, terminal: [N] float and bool.
        next_value: [N] float, the highest Q-value of the next state.
        next_return: [N] float, the lambda-return of the step made there; `next_value` where none was made.
        gamma, q_lambda: the discount, and how far the step after it is trusted: 0 gives one-step Q-learning, 1 the
            discounted sum of rewards.

    Returns:
        [N] float.
    """
    return reward + gamma * np.where(terminal, 0, (1 - q_lambda) * next_value + q_lambda * next_return)


class RolloutMemory:
    """The newest `capacity` steps of N environments, drawn whole with their lambda-returns and then forgotten.

    An episode's end cuts the chain of returns: a terminated step is worth its reward alone, a truncated one bootstraps
    from its own last state, as every step does that nothing follows in the rollout. A terminal step within an episode
    (a lost life) is worth its reward alone too, and the steps before it know of nothing beyond it.

    Args:
        capacity: how many steps a rollout has, over all environments together.
        q_values: a function of states [N, *state_shape] to Q-values [N, actions], for those that the agent has not
            acted in.
        gamma: discount a step.
        q_lambda: see `lambda_return`.
        epochs: how often a rollout is drawn before it is forgotten.
        seed: of the order that steps are drawn in; an int, a `np.random.SeedSequence`, or None for fresh entropy.

    Raises:
        ValueError: an argument is out of range.
    """

    bootstraps = False  # every discount is 0

    def __init__(
        self,
        capacity: int,
        q_values: Callable[[np.ndarray], np.ndarray],
        gamma: float = 0.99,
        q_lambda: float = 0.65,
        epochs: int = 1,
        seed: Seed = None,
    ):
        self.capacity = check_integer("rollout", capacity)
        self.q_values = q_values
        self.gamma, self.q_lambda = check_fraction("gamma", gamma), check_fraction("q_lambda", q_lambda)
        self.epochs = check_integer("epochs", epochs)
        self.random = np.random.default_rng(seed)
        self._arrays = None  # by name, [capacity + N, ...], from the first steps on
        self._expected = None  # N, where the first steps are of fewer
        self.begin_episodes()

    def __len__(self) -> int:
        """The number of steps stored; up to one an environment more than `capacity`, which the next rollout gets."""
        return self._size

    def remember(self, steps: StepBatch) -> None:
        """Store a step of each of N environments, `StepBatch`; the first call has all environments there are.

        Raises:
            ValueError: the rollout is full and was not drawn; nothing is stored then.
        """
        if self._size >= self.capacity:
            raise ValueError(
                f"The rollout holds its {self.capacity} steps and must be drawn first: learn every {self.capacity} "
                f"steps (`replay_every`). Received: {len(steps.action)} steps more"
            )
        if self._arrays is None:
            if self.capacity < (count := self._expected or len(steps.action)):
                raise ValueError(
                    f"`rollout` must be a step of each of the {count} environments at least. Received: {self.capacity}"
                )
            self._allocate(steps)
        rows = slice(self._size, self._size + len(steps.action))
        for name in ("state", "action", "reward", "terminal", "done", "env_id"):
            self._arrays[name][rows] = getattr(steps, name)
        known = steps.q_values is not None
        self._arrays["value"][rows] = steps.q_values.max(-1) if known else self._values(steps.state)
        if (steps.done & ~steps.terminal).any():
            self._arrays["last_value"][rows] = self._values(steps.next_state)
        self._starts.append(self._size)
        self._size = rows.stop
        whole = len(steps.action) == self._environments  # nearly always
        before = [] if whole else [one for one in self._newest if not np.isin(one[0], steps.env_id).all()]
        self._newest = [*before, (steps.env_id, steps.next_state)]

    def expect(self, environments: int) -> None:
        """Make room for so many environments: the first steps will be of some of them alone."""
        if self._arrays is not None and environments != self._environments:
            self._arrays = None
            self.begin_episodes()
        self._expected = environments

    def begin_episodes(self, environments: np.ndarray | None = None) -> None:
        """Forget a rollout that is not full: nothing will follow its episodes, and it is soon made anew.

        Args:
            environments: of these alone the episodes are closed, and their steps stay: each is worth what it came to,
                and beyond it the value of the last state.
        """
        if environments is not None:
            self._close(environments)
            return
        self._size, self._starts = 0, []
        self._newest = []  # (environments, their next states) of the last steps, and of older ones that reach further
        self._returns, self._drawn = None, 0  # of the rollout that is being drawn, and how often it was

    def ready(self, shape: tuple[int, ...] | None = None) -> bool:
        """Whether the rollout is full."""
        return self._size >= self.capacity

    def sample(self, *shape: int) -> Transition:
        """Draw the whole rollout in a random order; the last time, empty it.

        Args:
            *shape: (K, B), K minibatches of B steps, together the rollout's.

        Returns:
            A `Transition` of arrays [K, B, ...]: `reward` is the lambda-return, `discount` 0; `next_state` is `state`
            again, since nobody looks at it.

        Raises:
            ValueError: the rollout is not full, or is of another size.
        """
        if not self.ready() or int(np.prod(shape)) != self.capacity:
            raise ValueError(
                f"A rollout is drawn whole, {self.capacity} steps, {self._size} of which are there. Received: {shape}"
            )
        if self._returns is None:  # those of all epochs are of the weights that acted
            self._returns = self.lambda_returns()
        order = self.random.permutation(self.capacity).reshape(shape)
        states, actions, returns = self._arrays["state"][order], self._arrays["action"][order], self._returns[order]
        self._drawn += 1
        if self._drawn == self.epochs:
            self._carry_over()
        return Transition(states, actions, returns, np.zeros(shape, np.float32), states)

    def after_steps(self, steps: int) -> None:
        """A rollout is drawn the same at any time."""

    def update_errors(self, rows: np.ndarray | None, errors: np.ndarray) -> None:
        """A rollout is drawn whole: nobody is preferred for an error."""

    def lambda_returns(self) -> np.ndarray:
        """The lambda-returns of the rollout's steps, float32 [capacity], from the last to the first."""
        arrays, returns = self._arrays, np.zeros(self._size, np.float32)
        value_after, return_after = np.zeros(self._environments), np.zeros(self._environments)  # by environment
        for environments, states in self._newest:
            value_after[environments] = return_after[environments] = self._values(states)
        after = slice(self.capacity, self._size)  # the next rollout's: their state's value is what is bootstrapped from
        beyond = arrays["env_id"][after]
        value_after[beyond] = return_after[beyond] = arrays["value"][after]
        ends = [*self._starts[1:], self.capacity]
        for start, end in zip(reversed(self._starts), reversed(ends), strict=True):
            rows = slice(start, end)
            environments, done, own = arrays["env_id"][rows], arrays["done"][rows], arrays["last_value"][rows]
            next_value = np.where(done, own, value_after[environments])
            next_return = np.where(done, own, return_after[environments])
            returns[rows] = return_after[environments] = lambda_return(
                arrays["reward"][rows], arrays["terminal"][rows], next_value, next_return, self.gamma, self.q_lambda
            )
            value_after[environments] = arrays["value"][rows]
        return returns[: self.capacity]

    def _close(self, environments):
        """End the last step of each of these as if it were truncated."""
        states = {number: state for those, states in self._newest for number, state in zip(those, states, strict=True)}
        for number in environments:
            rows = np.flatnonzero(self._arrays["env_id"][: self._size] == number) if self._size else []
            if len(rows) and not self._arrays["done"][rows[-1]]:
                self._arrays["done"][rows[-1]] = True
                self._arrays["last_value"][rows[-1]] = self._values(states[number][None])[0]

    def _carry_over(self):
        """Empty the rollout; steps beyond its capacity begin the next."""
        beyond = slice(self.capacity, self._size)
        self._size -= self.capacity
        for array in self._arrays.values():
            array[: self._size] = array[beyond]
        self._starts = [0] if self._size else []
        self._returns, self._drawn = None, 0

    def _allocate(self, steps):
        self._environments = self._expected or len(steps.action)
        rows = self.capacity + self._environments
        kinds = {"reward": np.float32, "value": np.float32, "last_value": np.float32, "terminal": bool, "done": bool}
        self._arrays = {name: np.zeros(rows, kind) for name, kind in kinds.items()}
        for name in ("state", "action", "env_id"):
            first = np.asarray(getattr(steps, name))
            self._arrays[name] = np.zeros((rows, *first.shape[1:]), first.dtype)

    def _values(self, states):
        """The highest Q-value of each state, [k]: with as many rows as environments, so that one shape is compiled."""
        missing = max(self._environments - len(states), 0)
        padded = np.concatenate([states, np.repeat(states[:1], missing, axis=0)]) if missing else states
        return self.q_values(padded)[: len(states)].max(-1)

    @staticmethod
    def bytes_needed(capacity: int, state_shape: tuple[int, ...]) -> int:
        """How many bytes the arrays take, for states of frames as bytes, or of float32."""
        return capacity * (int(np.prod(state_shape)) * (1 if len(state_shape) > 1 else 4) + 8 + 8 + 4 * 3 + 2)

    def check_fits(self, state_shape: tuple[int, ...]) -> None:
        """Raise a ValueError unless nine tenths of the free memory hold the rollout."""
        check_fits(self.capacity, self.bytes_needed(1, state_shape))

    def snapshot(self) -> dict[str, np.ndarray]:
        """Nothing: a training that goes on begins with new episodes, and soon has a whole rollout of them."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray], state_shape: tuple[int, ...]) -> None:
        """Begin a new rollout."""
        self.begin_episodes()
