"""What a checkpoint asks an agent, beside its weights and its memory."""

import numpy as np

from keras_dqn.core.counting import Every


class Resumable:
    """How far an `Agent` is, to be saved and restored."""

    @property
    def generators(self) -> dict[str, np.random.Generator]:
        """The agent's own `np.random.Generator`s, by name."""
        return {"exploration": self.policy.random, "memory": self.memory.random}

    @property
    def memory_bytes(self) -> int:
        """How many bytes the memory takes once it is full."""
        return self.memory.bytes_needed(self.memory.capacity, self.state_shape)

    def counters(self) -> dict:
        """How far learning and exploration are, in plain numbers."""
        return {
            "steps": self.steps,
            "episodes": self.episodes,
            "updates": self.learner.updates,
            "exploration_rate": self.exploration_rate,
            "settled": self.epsilon_schedule.held_at_minimum,
            "waits": self._awaits_first_terminal,
        }

    def restore_counters(self, counters: dict) -> None:
        """Go on from there; nothing is changed where one is missing."""
        names = ("steps", "episodes", "updates", "waits", "exploration_rate")
        steps, episodes, updates, waits, rate = (counters[name] for name in names)
        self.steps, self.episodes, self._awaits_first_terminal, self.learner.updates = steps, episodes, waits, updates
        self.epsilon_schedule.value, self.epsilon_schedule.held_at_minimum = rate, bool(counters.get("settled"))
        if self._copies_due is not None:
            self._copies_due = Every(self._copies_due.n, episodes)
