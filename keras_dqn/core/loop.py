"""The loop: an agent plays in N environments, remembers and learns; the only training loop that there is."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from keras_dqn.checks import check_integer
from keras_dqn.core.agent import Agent
from keras_dqn.core.counting import EpisodeStats, Every
from keras_dqn.core.settings import ShapeReward
from keras_dqn.core.transition import StepBatch
from keras_dqn.environments.vector import MAX_STEPS, as_vector


class TrainStep(NamedTuple):
    """What happened in one step of the training loop."""

    steps: int  # environment steps so far, over all environments
    episodes: list | tuple  # the `Episode`s that ended with it, mostly none
    losses: np.ndarray | None  # of the updates made after it; None where none were made


def collect(
    act: Callable[..., np.ndarray],
    envs: Any,
    seed: int | None = None,
    shape_reward: ShapeReward | None = None,
    masked: bool = True,
) -> Iterator[StepBatch]:
    """Play without end: a generator of `StepBatch`es, for learning, evaluation and films alike.

    Args:
        act: a function from states, [N, *state_shape], to actions, [N] int; where the environments give masks, they
            are its keyword `action_mask`, [N, actions] bool.
        envs: a vector of environments in NEXT_STEP mode, as gymnasium has it (see `environments.as_vector`): the step
            after an episode's end only resets that environment, and is no step of it. Three entries of the info
            count, where there are such: `executed_actions`, [N] int, what was done instead of the actions; `life_lost`,
            [N] bool, where nothing is bootstrapped though the episode goes on; and `action_mask`, [N, actions].
        seed: of the first reset.
        shape_reward: a `ShapeReward`: what to learn from instead; scores stay those of the true rewards.
        masked: whether masks are heeded.
    """
    states, info = envs.reset(seed=seed)
    env_ids, active_envs = np.arange(envs.num_envs), None  # those that do more than reset; None for all
    masked = masked and "action_mask" in info
    mask = _mask_of(info) if masked else None
    while True:
        actions = act(states) if mask is None else act(states, action_mask=mask)
        next_states, raw_rewards, terminated, truncated, info = envs.step(actions)
        actions, terminal, rewards = info.get("executed_actions", actions), terminated, raw_rewards
        if "life_lost" in info:
            terminal = terminated | info["life_lost"]
        if shape_reward is not None:
            rewards = np.asarray(shape_reward(states, actions, raw_rewards, next_states), float)
        done, mask = terminated | truncated, _mask_of(info) if masked else None
        steps = StepBatch(states, actions, rewards, next_states, terminal, done, env_ids, raw_rewards, mask)
        if active_envs is None:
            yield steps
        elif len(active_envs):
            yield StepBatch(*[None if field is None else field[active_envs] for field in steps])
        active_envs = np.flatnonzero(~done) if np.count_nonzero(done) else None
        states = next_states


def _mask_of(info):
    """The action masks of an info, [N, actions] bool; where nothing is allowed, as in a terminal state, all is."""
    if "action_mask" not in info:
        raise ValueError(f"`action_mask` must be in the info of `step` as in that of `reset`. Received: {list(info)}")
    mask = np.asarray(info["action_mask"], bool)
    return mask | ~mask.any(-1, keepdims=True)


def interact(
    agent: Agent,
    env: gym.Env | VectorEnv,
    replay_every: str | int = "episode",
    seed: int | None = None,
    learn: bool = True,
    shape_reward: ShapeReward | None = None,
    max_steps: int = MAX_STEPS,
) -> Iterator[TrainStep]:
    """Play and learn without end: a generator of `TrainStep`s, which others listen to. This is the only training loop.

    Args:
        agent: acts, remembers and replays.
        env: a gymnasium environment, or a vector of them in NEXT_STEP mode; or a `ray.fleet.Fleet`, whose actors step.
        replay_every: "episode" replays once at each episode's end; a number, once every so many environment steps.
        seed, shape_reward: as `collect` has them.
        learn: False leaves `agent.replay` out, which measures the loop alone.
        max_steps: after so many an episode of a single environment is truncated, if it does not end by itself.
    """
    envs, masked = as_vector(env, max_steps), agent.settings.exploration.mask_actions
    period, by_episode, stats = replay_period(replay_every), replay_every == "episode", EpisodeStats(envs.num_envs)
    agent.begin_episodes()
    replays_due = Every(period)
    if hasattr(envs, "collected"):  # the actors of a fleet do that
        envs.reset(seed=seed)
        collected = envs.collected(agent, shape_reward, partial(stats.end, epsilon=0.0))
    else:
        collected = collect(agent.act_batch, envs, seed, shape_reward, masked)
    for steps in collected:
        epsilon, losses = agent.epsilon, None
        agent.remember_batch(steps)
        ends = stats.add(steps)
        for _ in range(replays_due(stats.episodes if by_episode else stats.steps)):
            if learn and (new := agent.replay()) is not None:
                stats.add_losses(new)
                losses = new if losses is None else np.concatenate([losses, new])
        episodes = stats.end(steps.env_id[steps.done], epsilon) if ends else ()
        yield TrainStep(stats.steps, episodes, losses)


def replay_period(replay_every: str | int) -> int:
    """After how many episodes, or environment steps, a replay is due; a ValueError for what is no such number."""
    return 1 if replay_every == "episode" else check_integer("replay_every", replay_every)
