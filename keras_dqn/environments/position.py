"""Where the loop of a training is: what it needs, beside its agent, to go on as if it had never stopped."""

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, RecordVideo, TimeLimit

from keras_dqn.environments.vector import OneEnv
from keras_dqn.expected import Array, Flag, GeneratorState, Number, Optional, check

if TYPE_CHECKING:
    from keras_dqn.core.episode_stats import EpisodeStats

_PHYSICS = {  # what a step changes, beside the generator; of these very classes, as a subclass may have more of it
    CartPoleEnv: ("state", "steps_beyond_terminated"),
    MountainCarEnv: ("state",),
    CartPoleVectorEnv: ("state", "steps"),
}
_STATELESS = OrderEnforcing, PassiveEnvChecker, RecordVideo  # wrappers that change nothing of what is played
_WHOLE = Number(int, 0, 2**62)


class Position:
    """Where a loop is after a step: `play` begins there, and notes it down after each step.

    Args:
        saved: what `check_position` gave; None for a loop that begins with a reset.

    Attributes:
        envs: the vector of environments that is played on; None before the loop begins.
        states: [N, *state_shape], the observations that are acted on next.
        ended: [N] bool, the environments whose next step only resets.
        info: what came with them.
        due: how many steps, or episodes, count for the next replay already.
        tally: the loop's own account of the episodes under way, an `agent.tally.Tally`.
    """

    def __init__(self, saved: dict[str, Any] | None = None):
        self.saved = saved
        self.envs = self.states = self.done = self.stats = None
        self.due, self.info = 0, {}

    def begin(self, envs: Any, stats: "EpisodeStats | None", seed: int | None = None) -> None:
        """Reset the environments, or put them where they were.

        Args:
            envs: of the kind and the number that the saved ones were.
            tally: of episodes that begin now.
            seed: of the reset.
        """
        self.envs, self.stats = envs, stats
        self.states, self.info = envs.reset(seed=seed)
        self.done, self.due = np.zeros(envs.num_envs, bool), 0
        if self.saved is not None:
            states, done, due = (self.saved[name] for name in ("states", "done", "due"))
            try:
                _put(envs, self.saved["environments"], done, states)
            except ValueError as error:
                print(f"The environments begin new episodes after all: {error}")
                self.saved = None
                self.states, self.info = envs.reset(seed=seed)
                return
            self.states, self.done, self.due = states, done, due
            stats.go_on_with(self.saved["tally"])
            if isinstance(envs, OneEnv):
                envs._steps = int(self.saved["tally"]["lengths"][0])

    def snapshot(self) -> dict[str, Any] | None:
        """All of it, as dicts and lists of arrays and numbers; None where the loop has not begun.

        "environments" is None where one is of a kind that does not tell its state: then nobody can go on from there.
        """
        if self.envs is None:
            return None
        return {
            "environments": _state(self.envs),
            "states": np.array(self.states),
            "done": np.array(self.done),
            "due": int(self.due),
            "tally": self.stats.episodes_under_way(),
        }


def check_position(value: Any, fresh: dict[str, Any], place: object) -> dict[str, Any]:
    """A position out of JSON, as `Position` takes it.

    Args:
        value: what `snapshot` gave, its arrays as lists.
        fresh: what `snapshot` gives of the same environments right after a reset: it has the types, shapes and dtypes
            that are expected. Its "due" is the most that can be due.
        place: where it stands, for the message.

    Raises:
        Unexpected: it is of other environments, or cannot be.
    """
    return check(value, {**description(fresh), "due": Number(int, 0, fresh["due"])}, place)


def description(value: Any) -> Any:
    """What is expected of something like `value`; an array without items may have any number of them."""
    if isinstance(value, dict):
        generator = GeneratorState(np.random.default_rng(0))  # gymnasium has no other kind
        return {name: generator if name == "generator" else description(part) for name, part in value.items()}
    if isinstance(value, list):
        return tuple(map(description, value))
    if isinstance(value, np.ndarray):
        shape = (None,) if value.shape == (0,) else value.shape
        return Array(shape, value.dtype, *([0] if value.dtype.kind == "i" else []))
    return Optional(_WHOLE) if value is None else Flag() if isinstance(value, bool) else _WHOLE


def _plain(value):
    """An attribute as a copy that nobody changes: None, an int or an array."""
    return value if value is None or isinstance(value, int) else np.array(value)


def _state(env):
    """What an environment, or a vector of them, needs to go on; None where it is of a kind that does not tell."""
    if type(env) in _PHYSICS:
        physics = {name: _plain(getattr(env, name)) for name in _PHYSICS[type(env)]}
        return {"physics": physics, "generator": env.np_random.bit_generator.state}
    if hasattr(env, "tell_position"):
        return env.tell_position()
    if isinstance(env, (OneEnv, *_STATELESS)):
        return _state(env.env)
    if type(env) is TimeLimit:
        state = _state(env.env)
        return None if state is None else {"elapsed": int(env._elapsed_steps), "env": state}
    if type(env) is SyncVectorEnv:
        states = [_state(part) for part in env.envs]
        return None if None in states else {"envs": states}
    return None


def _put(env, state, done, states):
    """Put an environment that has been reset into a state that `_state` gave.

    Args:
        ended: [N] bool, the environments whose next step only resets: they have to know it too.
        states: [N, *state_shape], what was observed last.

    Raises:
        ValueError: an environment that plays again what it had played comes to something else.
    """
    if hasattr(env, "put_back"):
        if not all(map(np.array_equal, env.put_back(state), (states, done))):
            raise ValueError(f"played again they come to something else. Received: {type(env).__name__}")
    elif type(env) in _PHYSICS:
        for name, value in state["physics"].items():
            setattr(env, name, np.array(value) if isinstance(value, np.ndarray) else value)
        env.np_random.bit_generator.state = state["generator"]
        if type(env) is CartPoleVectorEnv:
            env.prev_done = np.array(done)
    elif type(env) is TimeLimit:
        env._elapsed_steps = state["elapsed"]
        _put(env.env, state["env"], done, states)
    elif type(env) is SyncVectorEnv:
        env._autoreset_envs = np.array(done)
        for part, its_state in zip(env.envs, state["envs"], strict=True):
            _put(part, its_state, done, states)
    else:
        if isinstance(env, OneEnv):
            env._ended = bool(done[0])
        _put(env.env, state, done, states)
