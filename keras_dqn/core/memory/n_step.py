"""From single steps to n-step transitions: rewards summed, the bootstrap n steps later."""

from collections import deque

import numpy as np

from keras_dqn.core.transition import StepBatch, Transition


class NStep:
    """Joins successive steps of each environment to n-step transitions (Sutton 1988; Mnih et al. 2016).

    A transition's reward is `r1 + gamma r2 + … + gamma^(n-1) rn`, its next state the one after n steps, its discount
    gamma^n. At an episode's end the steps that are left make shorter ones, which end in the episode's last observation:
    with discount 0 where it terminated, gamma^k where it was truncated.

    Args:
        n: steps a transition spans at most.
        gamma: discount a step.
    """

    def __init__(self, n: int, gamma: float):
        self.n = n
        self.gamma = gamma
        self._pending = {}  # environment: deque of (state, action, reward), the oldest first

    def clear(self, environments: np.ndarray | None = None) -> None:
        """Forget the steps that are pending: the episodes that they are of are closed; those of some, or of all."""
        for environment in list(self._pending) if environments is None else environments:
            self._pending.pop(int(environment), None)

    def append(self, steps: StepBatch) -> Transition | None:
        """Take `StepBatch`, and return the transitions that they complete; None where nothing is complete."""
        complete = []
        rows = zip(
            steps.env_id.tolist(),
            steps.state,
            steps.action,
            steps.reward,
            steps.next_state,
            steps.terminal,
            steps.done,
            steps.env_id if steps.action_mask is None else steps.action_mask,
            strict=True,
        )
        for environment, state, action, reward, next_state, terminal, done, action_mask in rows:
            pending = self._pending.setdefault(environment, deque())
            pending.append((state, action, float(reward)))
            if terminal or done:
                while pending:
                    complete.append(self._oldest(pending, next_state, terminal, action_mask))
            elif len(pending) == self.n:
                complete.append(self._oldest(pending, next_state, terminal, action_mask))
        if not complete:
            return None
        states, actions, rewards, discounts, next_states, action_mask = zip(*complete, strict=True)
        return Transition(
            np.stack(states),
            np.array(actions),
            np.array(rewards, np.float32),
            np.array(discounts, np.float32),
            np.stack(next_states),
            None if steps.action_mask is None else np.stack(action_mask),
        )

    def _oldest(self, pending, next_state, terminal, action_mask):
        """The transition from the oldest pending step to `next_state`; that step is pending no longer."""
        total, discount = 0.0, 1.0
        for _, _, reward in pending:
            total += discount * reward
            discount *= self.gamma
        state, action, _ = pending.popleft()
        return state, action, total, 0.0 if terminal else discount, next_state, action_mask
