"""What the measurements share: clocks, medians of ratios, and training loops whose compilation is over."""

import statistics
import time
from collections import deque
from itertools import islice

from keras_dqn import interact

median = statistics.median


def seconds(function, clock=time.perf_counter):
    """Seconds that a call takes, on the wall."""
    started = clock()
    function()
    return clock() - started


def cpu_seconds(function):
    """Seconds that a call takes, of the processor: of all threads of this process."""
    return seconds(function, time.process_time)


def ratio(first, second):
    """The median of the ratios of what was measured in turns."""
    return median(a / b for a, b in zip(first, second, strict=True))


def learning(runner, envs=None):
    """The loop of a runner, its first update made."""
    loop = interact(
        runner.agent, envs or runner.make_env(), runner.replay_every, seed=0, shape_reward=runner.shape_reward
    )
    next(step for step in loop if step.losses is not None)
    return loop


def go_on(iterator, count):
    """Take so many of it."""
    deque(islice(iterator, count), maxlen=0)


def steps_a_second(loop, steps):
    """Environment steps a second of a loop that has begun, over so many."""
    first, started = next(loop).steps, time.perf_counter()
    last = next(step.steps for step in loop if step.steps >= first + steps)
    return (last - first) / (time.perf_counter() - started)
