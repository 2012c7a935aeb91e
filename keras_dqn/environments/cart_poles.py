"""Episodes of CartPole side by side, stepped as one by gymnasium's NumPy version of it."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from keras_dqn.environments.vector import layers, time_limit

_OF_GYM_MAKE = TimeLimit, OrderEnforcing, PassiveEnvChecker  # the wrappers that the NumPy version can do without
_PHYSICS = (
    *("gravity", "masscart", "masspole", "total_mass", "length", "polemass_length", "force_mag", "tau"),
    *("kinematics_integrator", "theta_threshold_radians", "x_threshold", "_sutton_barto_reward"),
)


class CartPoles:
    """A vector of CartPoles in NEXT_STEP mode that plays what as many single ones would, to the last bit.

    Args:
        env: a single CartPole, which is reset for each of their first states; see `supports`.
        count: how many.
    """

    def __init__(self, env: gym.Env, count: int):
        self._single, self.num_envs = env, count
        self._envs = CartPoleVectorEnv(count, max_episode_steps=time_limit(env))
        for name in _PHYSICS:
            setattr(self._envs, name, getattr(env.unwrapped, name))

    @staticmethod
    def supports(env: gym.Env, max_steps: int) -> bool:
        """Whether an environment is gymnasium's CartPole as `gym.make` makes it, ended by that after `max_steps`."""
        return (
            all(type(layer) in (*_OF_GYM_MAKE, CartPoleEnv) for layer in layers(env))
            and type(env.unwrapped) is CartPoleEnv
            and env.unwrapped.render_mode is None
            and time_limit(env) <= max_steps
        )

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Pole i begins as a single one's reset with seed + i does."""
        _, info = self._envs.reset()
        states = []
        for i in range(self.num_envs):
            self._single.reset(seed=seed + i)
            states.append(self._single.unwrapped.state)
        self._envs.state = np.stack(states, axis=1)  # [4, N] float64
        return self._envs.state.T.astype(np.float32), info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Do the actions, [N] int; what comes after an episode's end begins as it happens."""
        return self._envs.step(actions)

    def close(self) -> None:
        """Close all of them."""
        self._single.close()
        self._envs.close()
