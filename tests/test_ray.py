"""Ray: a cluster of three nodes on this machine, trainings that go there and come back, and what dies on the way."""

import csv
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.__main__ import table
from keras_dqn import Breakout, CartPole, Checkpoints, game_for, train_seeds
from keras_dqn.experiment.tasks import run_anywhere
from keras_dqn.ray import fleet
from keras_dqn.ray.cluster import Parcel, check_nodes, joined, versions
from keras_dqn.training.callbacks import TrainingCallback
from tests import ray_calls, ray_games

pytestmark = pytest.mark.ray

SMALL = 80_000_000  # bytes of object store, about the least that Ray takes
NODE = {"num_cpus": 1, "object_store_memory": SMALL, "include_dashboard": False}
FEW = {"steps": 150, "evaluate_every": 75, "network": {"hidden": (16,)}, "progress": False}


@pytest.fixture(scope="module", autouse=True)
def private_ray():
    """Ray with a token of its own, and its files in a folder that goes; nothing of it is left in the end."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tempfile.mkdtemp(prefix="kd", dir="/tmp" if os.path.isdir("/tmp") else None)
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # for `tests`, on every node
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        before = set(ray_processes())
        yield Path(folder)
        left = [process for process in ray_processes() if process not in before]
        shutil.rmtree(folder)
        assert not psutil.wait_procs(left, timeout=30)[1], left


@pytest.fixture(scope="module")
def cluster(private_ray):
    """Three nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    for _ in range(2):
        made.add_node(**NODE)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def connected(cluster):
    """Ray connected to that cluster for all tests that follow, so that they share its workers."""
    with joined(cluster.address) as ray:
        yield ray


def ray_processes(name="ray"):
    """Ray's processes that descend from this one and have that in their command line."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            found += [process] * (name in " ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def until(condition, seconds=60):
    """Wait until something is so, for a while."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# ---------------------------------------------------------------- finding and starting it

ALONE = """
import psutil
from keras_dqn.ray.cluster import joined
with joined("auto") as ray:
    print(*(node["ObjectStoreSocketName"].split("/session")[0] for node in ray.nodes()))
    print(*(process.pid for process in psutil.Process().children(recursive=True)))
"""


def test_without_a_cluster_ray_starts_behind_a_token_and_ends(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(tmp_path), "RAY_TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    folder, processes = done.stdout.splitlines()[-2:]
    assert Path(folder).name.startswith("keras_dqn_") and not Path(folder).exists()
    assert len(Path(tmp_path, ".ray", "auth_token").read_text()) >= 32
    until(lambda: not any(psutil.pid_exists(int(process)) for process in processes.split()))


def test_auto_finds_the_cluster_of_this_shell_and_leaves_it_alone(cluster):
    for _ in range(2):
        with joined("auto") as ray:
            assert len(ray.nodes()) == 3 and ray.get_runtime_context().gcs_address == cluster.address
        assert not ray.is_initialized()


def test_no_cluster_at_an_address_is_said_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ConnectionError, match=f"^No cluster of Ray could be joined at {address}. Received: .+"):
        train_seeds(CartPole, ray=address, seeds=1, **FEW)


def test_what_cannot_run_everywhere_is_refused(connected, monkeypatch):
    """What cannot travel, what a node cannot make, and other versions: at once, or on a node that joins later."""
    with pytest.raises(ValueError, match="^What is sent to other machines cannot be packed. Received: TypeError"):
        list(run_anywhere([partial(ray_calls.names_itself, threading.Lock())], "auto", []))
    env = ray_games.Counting()
    env.lock, env.__deepcopy__ = threading.Lock(), None
    with pytest.raises(ValueError, match="can"):
        game_for(lambda: env)(weights=None, weight_backup=None).train(progress=False, actors=1)
    with pytest.raises(ValueError, match="^The node .* cannot make what it is sent: ModuleNotFoundError"):
        check_nodes(connected, Parcel(b"\x80\x04cno_such_module\ngame\n.", versions([])))
    monkeypatch.setattr("keras_dqn.ray.cluster.VERSION", "9.9")
    calls = [partial(ray_calls.names_itself, 1)]
    with pytest.raises(ValueError, match=r"^The node [\d.]+ .* has keras_dqn 0.* must be 9.9 as here$"):
        list(run_anywhere(calls, "auto", []))
    monkeypatch.setattr("keras_dqn.experiment.tasks.check_nodes", lambda *_: None)
    with pytest.raises(ValueError, match="^A node of the cluster cannot be used. Received: .*keras_dqn 0"):
        list(run_anywhere(calls, "auto", []))


# ---------------------------------------------------------------- calls that end, raise and die


def test_calls_run_on_all_nodes_and_one_that_raises_is_an_outcome(connected):
    calls = [partial(ray_calls.names_itself, number) for number in range(6)]
    outcomes = dict(run_anywhere([*calls, ray_calls.raises], "auto", []))
    assert outcomes.pop(6).error.startswith("ValueError: a game that is broken (ray_calls.py, line ")
    assert sorted(outcomes) == list(range(6))
    assert all(outcome.value[0] == number and outcome.error is None for number, outcome in outcomes.items())
    assert all(outcome.node.startswith("on ") for outcome in outcomes.values())
    assert os.getpid() not in {outcome.value[1] for outcome in outcomes.values()}
    assert len({outcome.value[2] for outcome in outcomes.values()}) > 1


def test_a_worker_that_is_killed_is_tried_again_three_times(connected, tmp_path):
    calls = [partial(ray_calls.dies, tmp_path / "three", 3), partial(ray_calls.dies, tmp_path / "four", 4)]
    outcomes = dict(run_anywhere(calls, "auto", []))
    assert outcomes[0].value == 4
    assert outcomes[1].value is None and outcomes[1].error == "WorkerCrashedError, 4 times"
    assert (tmp_path / "four").read_text() == "xxxx"


def test_a_node_that_goes_is_done_without(connected, cluster, tmp_path):
    head = cluster.head_node.node_id
    calls = [partial(ray_calls.stays, tmp_path, head, number) for number in range(4)]

    def kill_what_waits():
        until(lambda: any(begun.read_text() for begun in tmp_path.glob("begun_*")))
        for node in list(cluster.worker_nodes):
            cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill_what_waits, daemon=True)
    killer.start()
    outcomes = dict(run_anywhere(calls, "auto", []))
    killer.join(60)
    for _ in range(2):
        cluster.add_node(**NODE)
    assert sorted(outcomes) == [0, 1, 2, 3] and {outcome.value for outcome in outcomes.values()} == {head}


# ---------------------------------------------------------------- trainings


def numbers(results):
    """Results without what the clock says."""
    return [result._replace(seconds=0, evaluation_seconds=0, settings="") for result in results]


def test_seeds_come_to_what_they_come_to_one_by_one(connected, tmp_path, capsys):
    """Of three one raises at first; the next call trains it alone; then everything is as without Ray."""
    game = ray_calls.make_faulty(tmp_path / "mended")
    there = train_seeds(game, "fast", seeds=3, folder="there", ray="auto", **FEW)
    error = "RuntimeError: the screen went dark (ray_calls.py, line "
    assert str(there).splitlines()[-1].startswith(f"Keras, seed 1: {error}") and "| 3 of 3 |" in str(there)
    assert not list(Path("there").glob("*seed_1*"))
    written = {path: path.stat().st_mtime_ns for path in Path("there").glob("keras_seed_*")}
    assert len(written) == 6

    (tmp_path / "mended").touch()
    there = train_seeds(game, "fast", seeds=3, folder="there", ray="auto", **{**FEW, "progress": True})
    assert re.search(r"cartpole: 100%.* 3/3 .*Keras, seed 1 ended on \S", capsys.readouterr().err)
    assert all(path.stat().st_mtime_ns == then for path, then in written.items())
    here = train_seeds(CartPole, "fast", seeds=3, folder="here", **FEW)
    assert numbers(there.results) == numbers(here.results)
    assert len({tuple(one.scores) for one in here.results}) == 3
    files = sorted(path.name for path in Path("here").iterdir())
    assert sorted(path.name for path in Path("there").iterdir()) == files and "keras_seed_1_weight_best.h5" in files
    for name in files:
        if name.endswith(".h5") or name == "settings.json":
            assert Path("here", name).read_bytes() == Path("there", name).read_bytes()

    swept = train_seeds(CartPole, "fast", seeds=1, sweep={"tau": [0.5, 0.25]}, ray="auto", folder="swept", **FEW)
    assert json.loads(Path("swept/tau=0.25/settings.json").read_text())["options"]["tau"] == 0.25
    single = train_seeds(CartPole, "fast", seeds=1, tau=0.25, folder="single", **FEW)
    assert numbers(swept.experiments["tau=0.25"].results) == numbers(single.results)


# ---------------------------------------------------------------- actors


def counting(fault=None, name="Counting-v0", **options):
    """A runner of `ray_games.Counting` that learns next to nothing, fast."""
    game = game_for(f"tests.ray_games:{name}", **({} if fault is None else {"fault": str(fault), **options}))
    settings = {"network": {"hidden": (4,)}, "weights": None, "weight_backup": None, "memory_size": 200_000}
    return partial(game, recipe="juvin", seed=1, **settings)


class Do(TrainingCallback):
    """Calls a function of the training after each step."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_step(self, step):
        self.function(self.training)


def check_counts(runner):
    """Every transition is there once and whole, and no episode is longer or shorter than it is."""
    memory = runner.agent.memory
    held = memory.snapshot()
    states, following = (held[name][: len(memory), :3] for name in ("state", "next_state"))
    assert np.array_equal(following, states + np.float32([0, 1, 0]))
    assert len({tuple(state) for state in states.tolist()}) == len(states) == runner.agent.steps
    for number, second in np.unique(states[:, [0, 2]], axis=0):
        steps = np.sort(states[(states[:, 0] == number) & (states[:, 2] == second), 1])
        assert np.array_equal(steps, np.arange(len(steps))) and len(steps) <= ray_games.length(number)
    assert all(5 <= episode.score == episode.length <= 15 for episode in runner.history)


def test_actors_in_order_can_be_repeated_and_more_of_them_than_cpus_are_said(connected, capsys):
    trained = []
    for _ in range(2):
        cartpole = CartPole(recipe="parallel", steps=800, seed=3, weights=None, weight_backup=None)
        cartpole.train(progress=False, actors=4, in_order=True)
        trained.append((cartpole.history.scores.tolist(), cartpole.agent.learner.read_weights()))
        assert cartpole.agent.steps >= 800 and cartpole.agent.learner.updates == 3 * 16
    assert trained[0][0] == trained[1][0] and np.array_equal(trained[0][1], trained[1][1])
    assert capsys.readouterr().out.count("4 actors share 3 CPUs of the cluster\n") == 2


def test_actors_act_with_noise_on_distributions_and_fill_a_prioritized_memory(connected):
    game = CartPole(recipe="rainbow", steps=400, num_envs=2, weights=None, weight_backup=None, seed=0)
    game.train(progress=False, actors=1, in_order=True)
    priorities = game.agent.memory.sampler.tree.values[: len(game.agent.memory)]
    assert game.agent.learner.updates > 100 and len(set(priorities.tolist())) > 50
    assert 0 < np.mean(game.agent.memory.contents().action) < 1  # epsilon is 0


def test_ten_actors_killed_in_a_row_cost_nothing_but_what_they_were_at(connected, capsys, monkeypatch):
    monkeypatch.setattr(fleet, "LIVES", 11)  # one that is slow to start may be killed before its first chunk
    killed, runner = [], counting()(steps=4000)

    def kill(training):
        if len(killed) < 10 and training.steps >= 200 * (len(killed) + 1) and (there := ray_processes("ray::_Actor")):
            os.kill(there[0].pid, signal.SIGKILL)
            killed.append(there[0].pid)

    runner.train([Do(kill)], progress=False, actors=2, checkpoints="log")
    fleet_lost = capsys.readouterr().out.count("was lost (ActorDiedError); another begins in its place\n")
    assert len(set(killed)) == 10 and 5 <= fleet_lost <= 10  # some had yet to be replaced, or had just been
    check_counts(runner)
    assert len(runner.history) > 200
    with open("log/log.csv") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert [row["steps"] // 400 for row in rows] == list(range(1, 11)) and 0 < rows[-1]["lost"] <= fleet_lost
    assert all(0 <= row["actors"] <= 2 and row["weights_age"] >= 0 for row in rows)
    assert all(row["steps_per_second"] > 0 for row in rows) and rows[-1]["bytes"] > rows[0]["bytes"] > 0
    assert rows[-1]["updates"] > 0


PARALLEL = {"rollout": 128, "replay_every": 128, "minibatch_size": 32}
NATURE = {"memory_size": 2000, "learning_starts": 100}


@pytest.mark.parametrize(
    ("recipe", "settings", "first", "steps_an_update"),
    [
        ("parallel", PARALLEL, (0, 0), 128 / 2 / 4),
        ("nature", NATURE, (100, 100 + 4 * 3 + 8), 4),  # returns over three steps
    ],
)
def test_breakout_learns_from_actors_as_often_as_the_recipe_says(
    recipe, settings, first, steps_an_update, connected, monkeypatch
):
    monkeypatch.setattr(fleet, "MOST_ROUNDS", 32)  # chunks so short that steps of both actors come in
    breakout = Breakout(recipe=recipe, steps=256, num_envs=4, weights=None, weight_backup=None, seed=0, **settings)
    breakout.train(progress=False, actors=2)
    agent = breakout.agent
    assert 256 <= agent.steps < 256 + 4
    most, least = ((agent.steps - steps) / steps_an_update for steps in first)
    assert least <= agent.learner.updates <= most


def test_what_loses_actors_all_the_time_solves_its_game(connected):
    """Within the steps that the recipe takes in this process."""
    killed = []
    cartpole = CartPole(recipe="parallel", steps=100_000, seed=0, weights=None)

    def kill(training):
        if training.steps >= 1000 * (len(killed) + 1) and (there := ray_processes("ray::_Actor")):
            there[len(killed) % len(there)].kill()
            killed.append(training.steps)

    cartpole.train([Do(kill)], progress=False, actors=2, evaluate_every=8000, stop_score=475)
    assert len(killed) >= 3 and cartpole.history.evaluations[-1].score >= 475


def test_a_node_that_goes_takes_its_actor_and_another_brings_one(connected, cluster):
    runner, events = counting()(steps=200_000), []

    def change(training):
        if not events and training.steps > 300 and training.env.alive == 3:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            events.append(training.steps)
        if len(events) == 1 and training.env.lost and training.steps > events[0] + 2000:
            cluster.add_node(**NODE)
            events.append(training.steps)
        if len(events) == 2 and training.env.alive == 3:
            training.stop()

    runner.train([Do(change)], progress=False, actors=3)
    assert len(events) == 2 and runner.agent.steps < 200_000
    check_counts(runner)


@pytest.mark.parametrize(("hangs", "said"), [(False, "raised RuntimeError: the joystick broke"), (True, "was silent")])
def test_an_actor_that_raises_or_hangs_is_replaced(hangs, said, connected, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fleet, "PATIENCE", 3.0)

    def go_on_until_it_is_replaced(training):
        if training.env.lost and training.steps >= 2000:
            training.stop()

    runner = counting(tmp_path, hangs=hangs)(steps=200_000)
    runner.train([Do(go_on_until_it_is_replaced)], progress=False, actors=2)
    assert said in capsys.readouterr().out and runner.agent.steps < 200_000
    check_counts(runner)


def test_an_actor_that_always_raises_ends_the_training_with_its_error(connected, tmp_path):
    runner = counting(tmp_path, always=True)(steps=2000)
    message = "^Actor 0 cannot play, 3 times in a row. Received: it raised RuntimeError: the joystick broke"
    with pytest.raises(RuntimeError, match=message):
        runner.train(progress=False, actors=1)
    assert runner.agent.steps == 0


def size(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it was read back meanwhile
        return 0


def test_a_full_store_costs_nothing_but_time(connected, private_ray, capfd):
    """The learner takes nothing for so long that chunks of 10 MB no longer fit, here or on the nodes of the actors."""
    runner, spilled = counting(name="Wide-v0")(steps=4000, num_envs=48, memory_size=5000), []

    def wait(training):
        if not spilled and training.steps >= 1000:
            until(lambda: sum(map(size, private_ray.rglob("ray_spilled_objects_*/*"))) >= SMALL)
            spilled.append(training.steps)

    runner.train([Do(wait)], progress=False, actors=3, ahead=12)
    assert spilled
    check_counts(runner)
    assert "lost" not in capfd.readouterr().out


def test_without_room_for_new_weights_actors_go_on_with_the_last_ones(connected, monkeypatch, capsys):
    from ray.exceptions import ObjectStoreFullError

    put, steps, refused = connected.put, [], []

    def full(thing):
        if isinstance(thing, np.ndarray) and 400 < len(steps) < 600:
            refused.append(thing)
            raise ObjectStoreFullError("no room")
        return put(thing)

    monkeypatch.setattr(connected, "put", full)
    runner = counting()(steps=1200)
    runner.train([Do(lambda training: steps.append(training.steps))], progress=False, actors=2)
    line = "There is no room for new weights (ObjectStoreFullError); the actors go on with the last ones\n"
    assert capsys.readouterr().out.count(line) == len(refused) > 0
    check_counts(runner)


LEARNER = """
import sys
from keras_dqn import Checkpoints
from tests.test_ray import counting
runner = counting()(steps=10**6, weight_backup="killed.h5")
runner.train(progress=False, actors=1, ray=sys.argv[1], checkpoints=Checkpoints("kept", minutes=0.0, memory=True))
"""


def test_a_learner_that_is_killed_goes_on_from_its_checkpoint(connected, cluster, tmp_path):
    learner = subprocess.Popen([sys.executable, "-c", LEARNER, cluster.address])
    kept = tmp_path / "kept"
    try:
        until(lambda: any(int(re.search(r"\d+", path.name)[0]) > 40 for path in kept.glob("checkpoint_*")), 120)
    finally:
        learner.kill()
    assert learner.wait(60) == -signal.SIGKILL
    runner, began = counting()(steps=10**6), []

    def stop(training):
        began.append(training.steps)
        if training.steps > began[0] + 1000:
            training.stop()

    runner.train([Do(stop)], progress=False, actors=1, checkpoints=Checkpoints(kept, memory=True), resume=True)
    assert began[0] > 32 and runner.agent.steps > began[0] + 1000
    check_counts(runner)


def test_the_benchmarks_measure_what_actors_and_sweeps_cost(connected, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.ray.sweep_seconds", lambda workers, *_: 20.0 / workers)  # in a Ray of its own
    sizes = {"one_actor": {"steps": 64}, "intake": {"counts": [2], "span": 1.0, "memory_size": 2000}}
    table("ray", 1, **sizes)
    rows = dict(re.findall(r"^\| (.*) \| (.*) \|$", capsys.readouterr().out, re.MULTILINE))
    assert re.fullmatch(r"[\d.]+ ms, read in [\d.]+ ms", rows["weights of 6.8 MB laid out for all"])
    for name in "8 games of Breakout here, nothing learned", "the same on one actor":
        assert int(re.fullmatch(r"([\d,]+) steps/s", rows[name])[1].replace(",", "")) > 0
    taken = re.fullmatch(
        r"([\d,]+) steps/s, \d+% of what they could send, (\d+) MB/s; [\d.]+ µs of this process each, "
        r"so at most [\d,]+ steps/s",
        rows["steps taken in from 2 actors of 8 games that sleep"],
    )
    assert 0 < int(taken[1].replace(",", "")) <= 2100 and 0 <= int(taken[2]) <= 16  # a frame is 7,056 bytes
    assert rows["on 2 workers"] == "10.0 s, 100% of ideal"
