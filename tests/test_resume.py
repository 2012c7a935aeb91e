"""A training that is killed and goes on against one that never stopped: equal to the last bit."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from keras_dqn import Breakout, CartPole, Checkpoints, MountainCar, game_for
from keras_dqn.core.exploration import Linear
from keras_dqn.core.loop import fresh_position, play
from keras_dqn.core.settings import Settings
from keras_dqn.environments.position import Position, check_position
from keras_dqn.environments.vector import make_env, make_vector_env
from keras_dqn.expected import Unexpected
from tests.test_breakout import tiny_network
from tests.test_pins import ENVIRONMENT
from tests.test_saved_training import seal

GAMES = {"cartpole": CartPole, "mountain_car": MountainCar, "breakout": Breakout}
ROLLOUTS = {  # with schedules that do not depend on the steps asked for
    "recipe": "parallel",
    "network": tiny_network,
    "rollout": 150,  # rounds do not end with it
    "minibatch_size": 50,
    "sticky": 0.25,
    "learning_rate_schedule": Linear(1e-3, 1e-4, 10_000),
    "exploration": Linear(1.0, 0.1, 3000),
}


def made(name, steps, **options):
    """A training that evaluates, learns from n steps or, in Breakout, from rollouts, and holds random actions."""
    own = ROLLOUTS if name == "breakout" else {"recipe": "fast", "memory_size": 1500}
    return GAMES[name](10**6, steps=steps, **{"weights": None, "seed": 3, **own, **options})


def digest(runner):
    """sha256 of all that a training has come to: weights, optimizer, memory, generators, counters and scores."""
    agent, learner = runner.agent, runner.agent.learner
    target = [] if learner.target_brain is None else learner.target_brain.weights
    variables = [*agent.brain.weights, *target, *learner.optimizer.variables]
    arrays = [*map(np.asarray, variables), *agent.memory.snapshot().values(), runner.history.update_losses]
    generators = {**agent.generators, **runner.generators}
    history = [[episode.score, episode.length, repr(episode.loss), episode.epsilon] for episode in runner.history]
    texts = [
        [generators[name].bit_generator.state for name in sorted(generators)],
        {name: value for name, value in agent.counters().items() if name != "waits"},
        bool(agent.counters()["waits"]),
        history,
        [[evaluation.steps, evaluation.score] for evaluation in runner.history.evaluations],
        runner.best_score,
    ]
    whole = hashlib.sha256(json.dumps(texts).encode())
    for array in arrays:
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


TRAINING = """
import sys
from keras_dqn import Checkpoints
from tests.test_resume import made
name, num_envs, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume"
print("ready", flush=True)
saved = Checkpoints("saved", minutes=0.002, memory=True)
every = None if name == "breakout" else 1000  # a hundred games of Breakout take minutes
made(name, 10**6, num_envs=num_envs).train(progress=False, evaluate_every=every, checkpoints=saved, resume=resume)
"""


PROCESS = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[1])}


def newest():
    """The number of the newest checkpoint, 0 for none."""
    return max([int(path.name.removeprefix("checkpoint_")) for path in Checkpoints("saved").paths()], default=0)


def killed(name, num_envs, how, random):
    """Train in another process, and kill it at any instant after some checkpoints."""
    wanted = newest() + random.integers(1, 20)
    command = [sys.executable, "-c", TRAINING, name, str(num_envs), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=PROCESS) as process:
        assert process.stdout.readline() == "ready\n"
        while newest() < wanted and process.poll() is None:
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
    assert newest() >= wanted


@pytest.mark.parametrize(("name", "num_envs"), [("cartpole", 1), ("mountain_car", 1), ("mountain_car", 2)])
def test_a_training_killed_at_a_random_step_goes_on_to_the_last_bit(name, num_envs, capsys):
    random = np.random.default_rng()  # another instant each time: the steps differ anyway
    killed(name, num_envs, "afresh", random)
    killed(name, num_envs, "resume", random)
    resumed = made(name, 2000, num_envs=num_envs)
    state = json.loads((Checkpoints("saved").paths()[0] / "state.json").read_text())
    resumed.steps = state["counters"]["steps"] + 2000
    resumed.train(progress=False, evaluate_every=1000, checkpoints=Checkpoints("saved", memory=True), resume=True)
    assert "The environments go on where they were" in capsys.readouterr().out
    never_stopped = made(name, resumed.steps, num_envs=num_envs, weight_backup="other.h5")
    never_stopped.train(progress=False, evaluate_every=1000)
    assert resumed.agent.learner.updates > 1000
    assert digest(resumed) == digest(never_stopped)


COMPARED = """
import json
from pathlib import Path
from keras_dqn import Checkpoints
from tests.test_resume import digest, made
resumed = made("breakout", 10**6, num_envs=4)
state = json.loads((Checkpoints("saved").paths()[0] / "state.json").read_text())
resumed.steps = state["counters"]["steps"] + 2000
resumed.train(progress=False, checkpoints=Checkpoints("saved", memory=True), resume=True)
never_stopped = made("breakout", resumed.steps, num_envs=4, weight_backup="other.h5")
never_stopped.train(progress=False, checkpoints=Checkpoints("other", memory=True))
assert resumed.agent.learner.updates > 100 and len(resumed.history) > 10
print(digest(resumed), digest(never_stopped))
"""


def test_games_from_pixels_that_are_killed_go_on_to_the_last_bit():
    """In a process of one thread, as the sums of convolutions depend on how they are shared out among several."""
    random = np.random.default_rng()
    killed("breakout", 4, "afresh", random)
    killed("breakout", 4, "resume", random)
    command = [sys.executable, "-c", COMPARED]
    out = subprocess.run(command, env=PROCESS, text=True, check=True, stdout=subprocess.PIPE).stdout
    assert "The environments go on where they were" in out
    resumed, never_stopped = out.splitlines()[-1].split()
    assert resumed == never_stopped


def test_games_that_come_to_something_else_begin_anew(capsys):
    """Another version of ALE may do that, and a checkpoint that somebody has changed."""
    made("breakout", 200, num_envs=2, sticky=0.0).train(progress=False, checkpoints=Checkpoints("saved", memory=True))
    path = Path("saved/checkpoint_000001")
    state = json.loads((path / "state.json").read_text())
    state["position"]["environments"]["seeds"][0] += 1
    (path / "state.json").write_text(json.dumps(state))
    seal(path)
    resumed = made("breakout", 1000, num_envs=2, sticky=0.0)
    resumed.train(progress=False, checkpoints=Checkpoints("saved", memory=True), resume=True)
    said = (
        "The environments begin new episodes after all: played again they come to something else. Received: AtariGames"
    )
    assert said in capsys.readouterr().out
    assert resumed.agent.steps >= 1000 and resumed.agent.learner.updates > 10


def test_a_checkpoint_of_any_step_goes_on_to_the_last_bit():
    """Before anything is learned, at the end of an episode and at an evaluation, and in the middle of an episode."""

    def learning(name, steps, **options):
        return made(name, steps, wait_for_terminal=False, **options)  # learns before it has been at the flag

    never_stopped = learning("mountain_car", 700)
    never_stopped.train(progress=False, evaluate_every=200)
    wanted = digest(never_stopped)
    assert never_stopped.agent.learner.updates > 500
    for name, stop in [("start", 1), ("end", 400), ("later", 533)]:
        first = learning("mountain_car", stop)
        first.train(progress=False, evaluate_every=200, checkpoints=Checkpoints(name, memory=True))
        resumed = learning("mountain_car", 700, seed=99)
        resumed.train(progress=False, evaluate_every=200, checkpoints=Checkpoints(name, memory=True), resume=True)
        assert digest(resumed) == wanted, name


def test_an_episode_that_is_truncated_from_outside_goes_on_towards_that():
    def training(steps):
        return made("mountain_car", steps, wait_for_terminal=False, max_steps=120)

    never_stopped, first, resumed = training(500), training(290), training(500)
    with pytest.warns(RuntimeWarning, match="max_steps=120"):
        never_stopped.train(progress=False)
        first.train(progress=False, checkpoints=Checkpoints("saved", memory=True))
        resumed.train(progress=False, checkpoints=Checkpoints("saved", memory=True), resume=True)
    assert never_stopped.history.lengths.tolist() == [120] * 4 == resumed.history.lengths.tolist()
    assert digest(resumed) == digest(never_stopped)


def test_held_actions_and_pending_steps_are_in_the_checkpoint():
    runner = made("mountain_car", 333)
    runner.train(progress=False, checkpoints=Checkpoints("saved", memory=True))
    state = json.loads(Path("saved/checkpoint_000001/state.json").read_text())
    held = runner.agent.explore
    assert state["held_actions"] == {"left": held._left.tolist(), "action": held._held.tolist()}
    assert 0 <= state["held_actions"]["left"][0] < 40 and len(state["held_actions"]["left"]) == 1
    ((environment, steps),) = state["pending"]
    assert environment == 0 and len(steps) == 2 and [reward for *_, reward in steps] == [-1, -1]
    assert state["position"]["environments"]["elapsed"] == 333 - 200
    assert state["position"]["tally"]["scores"] == [-133]


# ---------------------------------------------------------------- positions


class Random:
    """Acts at random, and neither remembers nor learns."""

    exploration_rate, settings, learner = 1.0, Settings(), SimpleNamespace(sync=lambda: None)

    def __init__(self, action_size, seed):
        self.action_size, self.random = action_size, np.random.default_rng(seed)

    def act_batch(self, states):
        return self.random.integers(self.action_size, size=len(states))

    begin_episodes = remember_batch = lambda self, *arguments, **options: None


ENVIRONMENTS = [("CartPole-v1", 1), ("CartPole-v1", 5), ("MountainCar-v0", 1), ("MountainCar-v0", 3)]


@pytest.mark.parametrize(("name", "num_envs"), ENVIRONMENTS)
def test_loops_go_on_from_every_step(name, num_envs):
    """Those in the middle of an episode, and those right after one; what follows is all the same."""

    def envs():
        return make_vector_env(name, num_envs) if num_envs > 1 else make_env(name)

    def loop(seed, position):
        agent = Random(2, seed)
        return agent, play(agent, envs(), 7, seed=5, position=position, learn=False)

    fresh = fresh_position(envs(), 7)
    position, others = Position(), []
    agent, first = loop(0, position)
    for count, step in enumerate(first):
        if count == 450:
            break
        if count % 83 == 0 or step.episodes:
            saved = json.loads(json.dumps(position.snapshot(), default=np.ndarray.tolist))
            other, second = loop(0, Position(check_position(saved, fresh, "here")))
            other.random.bit_generator.state = agent.random.bit_generator.state
            others.append((second, [count, step.steps]))
        now = [step.steps, [(episode.score, episode.length) for episode in step.episodes], position.states.tolist()]
        for second, (begun, before) in others:
            if begun < count:
                step = next(second)
                episodes = [(episode.score, episode.length) for episode in step.episodes]
                assert [before + step.steps, episodes, second.gi_frame.f_locals["position"].states.tolist()] == now
    assert len(others) > 6


def test_environments_that_do_not_tell_their_state_begin_new_episodes(capsys):
    def runner(steps):
        return game_for("Acrobot-v1")(recipe="fast", steps=steps, weights=None, weight_backup=None, seed=0)

    first = runner(300)
    first.train(progress=False, checkpoints=Checkpoints("saved", memory=True))
    state = json.loads(Path("saved/checkpoint_000001/state.json").read_text())
    assert state["position"] is None and state["counters"]["steps"] == 300
    second = runner(310)
    second.train(progress=False, checkpoints=Checkpoints("saved", memory=True), resume=True)
    assert "The memory goes on with 298 steps\nThe environments begin new episodes\n" in capsys.readouterr().out


class Gravity(gym.Wrapper):
    """A wrapper that may change anything."""


def test_a_wrapper_that_is_not_known_has_no_state():
    assert fresh_position(Gravity(gym.make("CartPole-v1")), 1)["environments"] is None
    assert fresh_position(gym.make("CartPole-v1"), 1)["environments"] is not None


def test_with_other_settings_environments_begin_new_episodes(capsys):
    made("cartpole", 300).train(progress=False, checkpoints=Checkpoints("saved", memory=True))
    made("cartpole", 350, num_envs=2).train(progress=False, checkpoints="saved", resume=True)
    out = capsys.readouterr().out
    assert "`num_envs` was 1 and is 2 now" in out and "The environments begin new episodes" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.update(due=1), "due: expected a whole number from 0 to 0"),
        (lambda p: p.update(states=[[0, 0, 0]]), r"states: expected float32 of shape \(1, 4\)"),
        (lambda p: p.update(states=[[0, 0, 0, "a"]]), "states: expected lists of float"),
        (lambda p: p.update(states=[[0, 0, 0, 1e39]]), "states: expected float32"),
        (lambda p: p.update(done=[0]), "ended: expected lists of bool"),
        (lambda p: p.pop("tally"), "expected environments, states, ended, due, tally"),
        (lambda p: p["tally"].update(lengths=[2.5]), "lengths: expected lists of int"),
        (lambda p: p["tally"].update(updates=[-1]), "updates: expected finite numbers from 0"),
        (lambda p: p["environments"].update(elapsed=-1), "elapsed: expected a whole number"),
        (lambda p: p["environments"].update(env={}), "env: expected physics, generator"),
        (lambda p: p["environments"]["env"]["generator"].update(bit_generator="MT19937"), "state of a generator PCG64"),
        (lambda p: p["environments"]["env"]["physics"].update(state=[1]), r"state: expected float64 of shape \(4,\)"),
        (lambda p: p["environments"]["env"]["physics"].update(state=[[1], 2, 3, 4]), "state: expected lists of float"),
        (lambda p: p["environments"]["env"]["physics"].update(steps_beyond_terminated=True), "a whole number"),
    ],
)
def test_a_position_that_cannot_be_is_refused(change, message):
    fresh = fresh_position(make_env("CartPole-v1"), 1)
    saved = json.loads(json.dumps(fresh, default=np.ndarray.tolist))
    check_position(saved, fresh, "position")
    change(saved)
    with pytest.raises(Unexpected, match=f"^position.*{message}.*Received: "):
        check_position(saved, fresh, "position")
