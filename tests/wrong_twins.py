"""Our agent with a mistake, one a function: each names the mistake and lists the probes that it fails."""

import gymnasium as gym
import numpy as np

from keras_dqn import game_for
from keras_dqn.conformance import mistakes
from keras_dqn.conformance.adapters import ours
from keras_dqn.core.memory.n_step import NStep

TWINS = {}  # name: (function from a probe to Q-values, the mistake, the probes that it fails)
N_STEP = {"n_step": 3}
ENDS = "Ends EndOrLimit Delay LastObservation ShortEpisodes Rewards InPlace Float64 Bytes Stack Masks"


def twin(mistake, fails):
    """Registers a twin; `mistake` is what the verdicts say."""

    def register(function):
        TWINS[function.__name__] = function, mistake, fails.split()
        return function

    return register


def train(probe, wrap=lambda env: env, change=lambda agent: None, **settings):
    """Q-values of an agent that was changed, in an environment that was wrapped."""
    game = game_for(lambda: wrap(probe()))(**ours.settings(probe) | settings)
    change(game.agent)
    game.train(progress=False)
    return game.agent.q_values


# ---------------------------------------------------------------- ends


class OtherEnds(gym.Wrapper):
    """An environment that mistakes one end for the other."""

    def __init__(self, env, terminates):
        super().__init__(env)
        self.terminates = terminates

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        over = terminated or truncated
        return observation, reward, over and self.terminates, over and not self.terminates, info


@twin("a time limit is taught as the end", "TimeLimit EndOrLimit LastObservation")
def time_limit_as_end(probe):
    return train(probe, lambda env: OtherEnds(env, terminates=True))


@twin("values are bootstrapped beyond the end", f"{ENDS} Coins")
def end_ignored(probe):
    return train(probe, lambda env: OtherEnds(env, terminates=False))


class FirstForLast(gym.Wrapper):
    """An environment that has been reset when it shows its last observation."""

    began = None

    def reset(self, **options):
        began, self.began = self.began or self.env.reset(**options), None
        return began

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        if truncated:
            self.began = self.env.reset()
            observation = self.began[0]
        return observation, reward, terminated, truncated, info


@twin("the next episode's first observation is taken for the last", "LastObservation")
def first_observation(probe):
    return train(probe, FirstForLast)


class Endless(gym.Wrapper):
    """An environment whose resets are steps like others: an end ends the bootstrap and no more, as a lost life does."""

    over = False

    def step(self, action):
        if self.over:
            self.over = False
            observation, info = self.env.reset()
            return observation, 0.0, False, False, info
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.over = terminated or truncated
        return observation, reward, False, False, info | {"life_lost": np.array([terminated])}


@twin("the step that only resets is learned from", f"TimeLimit {ENDS}")
def reset_steps(probe):
    # Most of its targets are made of two very different steps: smaller updates, and more of them, find their mean.
    return train(probe, Endless, learning_rate=3e-4, steps=4000, memory_size=4000)


# ---------------------------------------------------------------- rewards and returns


@twin("rewards are clipped", "LastObservation ShortEpisodes Rewards Coins")
def clipped_rewards(probe):
    return train(probe, lambda env: gym.wrappers.TransformReward(env, lambda reward: float(np.clip(reward, -1, 1))))


@twin("rewards are discounted once too often", f"TimeLimit {ENDS}")
def discounted_twice(probe):
    return train(probe, lambda env: gym.wrappers.TransformReward(env, lambda reward: 0.8 * reward))


@twin(mistakes.CLIPPED, "Ends Coins")
def huber_loss(probe):
    return train(probe, loss="huber")


class RunOn(NStep):
    """n steps that do not stop where the episode does."""

    def append(self, steps):
        joined = super().append(steps._replace(terminal=np.zeros(1, bool), done=np.zeros(1, bool)))
        over = joined is not None and steps.terminal[0]
        return joined._replace(discount=np.zeros_like(joined.discount)) if over else joined


class PlainGamma(NStep):
    """n steps whose bootstrap is discounted once."""

    def append(self, steps):
        joined = super().append(steps)
        return joined and joined._replace(discount=np.where(joined.discount > 0, self.gamma, 0).astype(np.float32))


class WithoutTail(NStep):
    """n steps without those that an episode's end cuts short."""

    def append(self, steps):
        waiting = len(self._pending.get(0, ()))
        joined = super().append(steps)
        if joined is not None and steps.done[0]:
            return joined.each(lambda field: field[:1]) if waiting + 1 == self.n else None
        return joined


def with_returns(kind):
    def change(agent):
        agent.memory.n_step = kind(3, agent.settings.learner.gamma)

    return change


@twin(
    "n steps run on over the episode's end (n = 3)",
    "Ends EndOrLimit Delay LastObservation ShortEpisodes Rewards InPlace Stack Masks Coins",
)
def n_steps_run_on(probe):
    return train(probe, change=with_returns(RunOn), **N_STEP)


@twin("n steps are bootstrapped with gamma, not gamma to the n (n = 3)", "TimeLimit Ends")
def gamma_not_to_the_n(probe):
    return train(probe, change=with_returns(PlainGamma), **N_STEP)


@twin("the last n - 1 steps of an episode are dropped (n = 3)", f"{ENDS} Coins")
def last_steps_dropped(probe):
    return train(probe, change=with_returns(WithoutTail), **N_STEP)


# ---------------------------------------------------------------- observations


class SameArray(gym.Wrapper):
    """Notes whether the environment shows one array again and again."""

    last, same = None, False

    def step(self, action):
        observation, *others = self.env.step(action)
        self.same, self.last = observation is self.last, observation
        return observation, *others


@twin("stored observations change with the environment's array", "InPlace")
def arrays_kept(probe):
    env = SameArray(probe())

    def change(agent):
        remember = agent.remember_batch
        agent.remember_batch = lambda steps: remember(steps._replace(state=steps.next_state) if env.same else steps)

    return train(probe, lambda _: env, change)


@twin("observations are cut to whole numbers", "Float64 Bytes")
def cut_observations(probe):
    def cut(states):
        return states // 255 if states.dtype == np.uint8 else np.trunc(states)

    q_values = train(probe, lambda env: gym.wrappers.TransformObservation(env, cut, env.observation_space))
    return lambda states: q_values(cut(states))


class Leaking(gym.Wrapper):
    """A stack of frames whose first one is the last of the episode before."""

    frame = 0

    def reset(self, **options):
        observation, info = self.env.reset(**options)
        observation[0] = self.frame
        return observation, info

    def step(self, action):
        observation, *others = self.env.step(action)
        self.frame = observation[1]
        return observation, *others


@twin("a stack reaches into the episode before", "Stack")
def stack_leaks(probe):
    return train(probe, Leaking if probe.__name__ == "Stack" else lambda env: env)


# ---------------------------------------------------------------- actions


@twin("targets look at forbidden actions", "Masks")
def unmasked_targets(probe):
    def change(agent):
        remember = agent.remember_batch
        agent.remember_batch = lambda steps: remember(steps._replace(action_mask=None))

    return train(probe, change=change)


@twin("forbidden actions are taken", "Masks")
def masks_ignored(probe):
    return train(probe, mask_actions=False)


@twin("the network that picks an action also values it (no double DQN)", "Overestimation")
def plain_dqn(probe):
    return train(probe, double=False)


@twin("epsilon does not fall", "Epsilon")
def epsilon_frozen(probe):
    return train(probe, exploration=lambda _: 1.0)


def falling(probe, late=0, end=0.0):
    """Epsilon from 1 to an end, too late."""
    return (lambda _: 1.0) if probe.greedy_after is None else lambda step: max(1 - (step - late) / 1000, end)


@twin("epsilon stays above 0", "Epsilon")
def epsilon_stays(probe):
    return train(probe, exploration=falling(probe, end=0.1))


@twin("epsilon falls late", "Epsilon")
def epsilon_late(probe):
    return train(probe, exploration=lambda step: min(falling(probe, late=200)(step), 1.0))
