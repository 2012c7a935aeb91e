"""The probes: each is made for one mistake, and says what the values are, and what that mistake makes of them.

Values are for discount 0.8. `A` and `B` are the observations (1, 0) and (0, 1).
"""

import gymnasium as gym
import numpy as np

from keras_dqn.conformance.probe import GAMMA, TERMINATED, TRUNCATED, Outcome, Probe, always

A, B = (1, 0), (0, 1)


class TimeLimit(Probe):
    """One state, reward 1 for ever, cut off after five steps.

    The mistake: a time limit is taught as the end, as if there were no more reward to come.
    Exact: 1 / (1 - 0.8) = 5, whatever the limit.
    With the mistake every fifth step is worth 1 alone: 1 / (1 - 0.8 · 0.8) = 2.78.
    """

    moves = {f"A{t}": always(Outcome(1, f"A{t + 1}")) for t in range(4)} | {"A4": always(Outcome(1, "A5", TRUNCATED))}
    start = {"A0": 1.0}
    observations = {f"A{t}": A for t in range(6)}
    exact = {A: [5, 5]}


class Ends(Probe):
    """The same state and reward, but each step is the last one with probability 1/5.

    The mistake: values are bootstrapped beyond the end.
    Exact: 1 / (1 - 0.8 · 0.8) = 2.78.
    With the mistake it is 5. A Huber loss clips the error of the rare ends: 0.8 (1 - 0.2 Q) = 0.2 gives 3.75, a number
    between mean and median; a documented choice of the papers, and still not the expected return.
    """

    moves = {"A": always(Outcome(1, "A", None, 0.8), Outcome(1, "A", TERMINATED, 0.2))}
    exact = {A: [1 / (1 - 0.8 * GAMMA)] * 2}
    tolerance = 0.08
    steps = memory = 2500
    update_every, learning_rate = 1, 1e-3


class EndOrLimit(Probe):
    """Action 0 terminates and action 1 truncates, from the same state, with the same reward and the same last state.

    The mistake: one flag, `done`, for both.
    Exact: 1 for the end; for the limit 1 + 0.8 · 5 = 5, since the best that follows is the limit again.
    With the mistake both are worth 1, or both 5.
    """

    moves = {"A": [[Outcome(1, "A", TERMINATED)], [Outcome(1, "A", TRUNCATED)]]}
    exact = {A: [1, 5]}


class Delay(Probe):
    """Action 1 brings reward 1, one step later; action 0 ends the episode.

    The mistake: a wrong power of the discount.
    Exact: 0 and 0.8 in A, 1 in B.
    With the mistake: 1 in A where nothing is discounted, 0.64 where it is once too often.
    """

    moves = {"A": [[Outcome(0, "A", TERMINATED)], [Outcome(0, "B")]], "B": always(Outcome(1, "B", TERMINATED))}
    exact = {A: [0, GAMMA], B: [1, 1]}


class LastObservation(Probe):
    """From A the episode is truncated in B, and B is worth 5; four of five episodes begin in A.

    The mistake: after an automatic reset, the next episode's first observation is taken for this one's last.
    Exact: 0.8 · 5 = 4 in A.
    With the mistake A leads to A with probability 4/5: Q = 0.8 (0.8 Q + 0.2 · 5) = 2.22.
    """

    start = {"A": 0.8, "B": 0.2}
    moves = {"A": always(Outcome(0, "B", TRUNCATED)), "B": always(Outcome(5, "B", TERMINATED))}
    exact = {A: [4, 4], B: [5, 5]}
    steps = memory = 2000


class ShortEpisodes(Probe):
    """Episodes of a single step, reward 1 in A and 3 in B.

    The mistake: returns of n steps run on into the next episode, or the last n - 1 steps of an episode are dropped.
    Exact: 1 and 3.
    With n = 3 and the first mistake, 1 + (0.8 + 0.64) · 2 = 3.88 and 5.88; with the second, nothing is learned.
    """

    start = {"A": 0.5, "B": 0.5}
    moves = {"A": always(Outcome(1, "A", TERMINATED)), "B": always(Outcome(3, "B", TERMINATED))}
    exact = {A: [1, 1], B: [3, 3]}


class Rewards(Probe):
    """Episodes of a single step, reward 10 in A and 0.5 in B.

    The mistake: rewards are clipped though nobody asked for it, as Atari's games have it.
    Exact: 10 and 0.5.
    With the mistake: 1 and 0.5, or where signs are taken, 1 and 1.
    """

    start = {"A": 0.5, "B": 0.5}
    moves = {"A": always(Outcome(10, "A", TERMINATED)), "B": always(Outcome(0.5, "B", TERMINATED))}
    exact = {A: [10, 10], B: [0.5, 0.5]}


class InPlace(Probe):
    """From A to B, and with reward 1 to the end, which looks like A; `step` returns one array, changed in place.

    The mistake: observations are kept without a copy, so a stored state turns into the one that followed.
    Exact: 0.8 and 1.
    With the mistake B leads to B without reward, and A ends with reward 1: 1 and 0.
    """

    moves = {"A": always(Outcome(0, "B")), "B": always(Outcome(1, "A", TERMINATED))}
    exact = {A: [GAMMA, GAMMA], B: [1, 1]}
    marks = {"stored observations change with the environment's array": {A: [1, 1], B: [0, 0]}}

    def __init__(self):
        self.array = np.zeros(2, np.float32)

    def observe(self) -> np.ndarray:
        self.array[:] = self.observations[self.state]
        return self.array


class Float64(Probe):
    """Observations in float64 that differ after the decimal point alone: reward 1 in (0.2, 0.8), -1 in (0.8, 0.2).

    The mistake: the memory has the dtype of frames, or of whole numbers, and cuts them off.
    Exact: 1 and -1.
    With the mistake both states are (0, 0), and their values the mean, 0.
    """

    observation_space = gym.spaces.Box(0, 1, (2,), np.float64)
    start = {"A": 0.5, "B": 0.5}
    observations = {"A": (0.2, 0.8), "B": (0.8, 0.2)}
    moves = {"A": always(Outcome(1, "A", TERMINATED)), "B": always(Outcome(-1, "B", TERMINATED))}
    exact = {(0.2, 0.8): [1, 1], (0.8, 0.2): [-1, -1]}
    marks = {"observations are cut to whole numbers": {state: [0, 0] for state in exact}}


class Bytes(Probe):
    """Observations in uint8: reward 1 in (3, 0) and -1 in (0, 3).

    The mistake: bytes are divided by 255 as whole numbers, or taken for one another.
    Exact: 1 and -1.
    With the mistake both states are (0, 0), and their values the mean, 0.
    """

    observation_space = gym.spaces.Box(0, 255, (2,), np.uint8)
    start = {"A": 0.5, "B": 0.5}
    observations = {"A": (3, 0), "B": (0, 3)}
    moves = Float64.moves
    exact = {(3, 0): [1, 1], (0, 3): [-1, -1]}
    marks = {"observations are cut to whole numbers": {state: [0, 0] for state in exact}}


class Stack(Probe):
    """Observations are stacks of two frames, (older, newest), and 0 stands for the frame before an episode's first.

    The mistake: a memory that keeps each frame once takes the last frame of the episode before into the first stack.
    Exact: from (0, 1) with reward 1 to (1, 2), then to (2, 1), and with reward -1 to the end: 0.36, -0.8 and -1.
    With the mistake (0, 1) becomes (2, 1), since every episode ends with frame 2; 1 and -1 make 0, there and in (1, 2).
    """

    start = {"one": 1.0}
    observations = {"one": (0, 1), "two": (1, 2), "three": (2, 1)}
    moves = {
        "one": always(Outcome(1, "two")),
        "two": always(Outcome(0, "three")),
        "three": always(Outcome(-1, "two", TERMINATED)),
    }
    exact = {(0, 1): [1 - GAMMA**2] * 2, (1, 2): [-GAMMA, -GAMMA], (2, 1): [-1, -1]}
    marks = {"a stack reaches into the episode before": {(0, 1): [np.nan] * 2, (1, 2): [0, 0], (2, 1): [0, 0]}}


class Masks(Probe):
    """In B either action 0 (-0.5) or action 1 (1) is allowed, by chance; `info["action_mask"]` says which.

    The mistake: targets, or the policy, look at forbidden actions.
    Exact: -0.5 and 1 in B; 0.8 (-0.5 + 1) / 2 = 0.2 in A.
    With the mistake in the targets A is worth 0.8 · 1. Who takes what is forbidden loses 4: -2.25 and -1.5 in B, and
    -1.2 in A.
    """

    observations = {"A": A, "left": B, "right": B}
    allowed = {"left": [0], "right": [1]}
    moves = {
        "A": always(Outcome(0, "left", None, 0.5), Outcome(0, "right", None, 0.5)),
        "left": [[Outcome(-0.5, "left", TERMINATED)], [Outcome(-4, "left", TERMINATED)]],
        "right": [[Outcome(-4, "right", TERMINATED)], [Outcome(1, "right", TERMINATED)]],
    }
    exact = {A: [0.2, 0.2], B: [-0.5, 1]}
    marks = {
        "targets look at forbidden actions": {A: [0.8, 0.8], B: [-0.5, 1]},
        "forbidden actions are taken": {A: [-1.2, -1.2], B: [-2.25, -1.5]},
    }
    tolerance = 0.15
    learning_rate = 1e-3


class Overestimation(Probe):
    """Eight states like A, each before one like B, where eight actions bring 1 or -1 by chance: none is better.

    The mistake: the network that picks the best action also values it, so that luck is taken for merit.
    Exact: 0. Judged is the mean of A's values alone, by a bound of 0.28: the memory holds 800 steps and the target
    network is 1,000 behind, so double DQN's two networks know different coins, but for a few, and get 0 to 0.2.
    With the mistake it is 0.34 to 0.54. DQN is that way by design, and double DQN is not.
    """

    observation_space = gym.spaces.Box(0, 1, (16,), np.float32)
    action_space = gym.spaces.Discrete(8)
    observations = {f"{'AB'[i // 8]}{i % 8}": tuple(np.eye(16, dtype=int)[i].tolist()) for i in range(16)}
    start = {f"A{i}": 1 / 8 for i in range(8)}
    moves = {f"A{i}": [[Outcome(0, f"B{i}")]] * 8 for i in range(8)} | {
        f"B{i}": [[Outcome(reward, f"B{i}", TERMINATED, 0.5) for reward in (1, -1)]] * 8 for i in range(8)
    }
    exact = {tuple(np.eye(16, dtype=int)[i].tolist()): [0] * 8 for i in range(8)}
    bound = 0.28
    steps, memory, target_every = 3000, 800, 1000
    update_every = 1


class Epsilon(Probe):
    """Action 0 brings 1 and action 1 takes 1; epsilon is to fall in a straight line from 1 to 0 over half of the steps.

    The mistake: epsilon falls late, or to some other number, or not at all.
    Exact: from step 500 to step 1,000 it falls from 1/2 to 0, so one action of eight is 1; after that none is. These
    actions are judged, not those before, since the better one has to be learned first.
    With the mistake half of them stay 1 (frozen), or some after step 1,000 (late, or a minimum above 0).
    """

    moves = {"A": [[Outcome(1, "A", TERMINATED)], [Outcome(-1, "A", TERMINATED)]]}
    exact = {A: [1, -1]}
    steps = memory = 2000
    greedy_after = 1000


class Coins(Probe):
    """B brings 4 with probability 1/4, else 0; in A action 0 is a coin of 1 and -1, and action 1 leads to B.

    The mistake: distributions shift, are not discounted, or collapse; a mean of something else is learned.
    Exact: means 0 and 0.8 in A, 1 in B; and where there are distributions, these very coins, discounted.
    With a Huber loss B is worth 0.33: 0.25 · 1 = 0.75 Q. A distribution of the mean alone is 1.5 off in B.
    QR-DQN's quantiles are 0.33 off by design, as its loss is Huber's too: up to 0.7 passes.
    """

    start = {"A": 0.5, "B": 0.5}
    moves = {
        "A": [[Outcome(1, "A", TERMINATED, 0.5), Outcome(-1, "A", TERMINATED, 0.5)], [Outcome(0, "B")]],
        "B": always(Outcome(4, "B", TERMINATED, 0.25), Outcome(0, "B", TERMINATED, 0.75)),
    }
    exact = {A: [0, GAMMA], B: [1, 1]}
    distributions = {  # {observation: for each action {return: probability}}
        A: [{1: 0.5, -1: 0.5}, {4 * GAMMA: 0.25, 0: 0.75}],
        B: [{4: 0.25, 0: 0.75}] * 2,
    }
    tolerance = 0.3
    steps = memory = 2500
    update_every, learning_rate = 1, 1e-3


PROBES = [
    TimeLimit, Ends, EndOrLimit, Delay, LastObservation, ShortEpisodes, Rewards,
    InPlace, Float64, Bytes, Stack, Masks, Overestimation, Epsilon, Coins,
]  # fmt: skip
