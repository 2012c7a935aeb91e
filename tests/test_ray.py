"""Ray: a cluster of three nodes on this machine, trainings that go there and come back, and what dies on the way."""

import csv
import importlib.util
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

import keras_dqn
from keras_dqn import Breakout, CartPole, Checkpoints, game_for, train_seeds
from keras_dqn.__main__ import main
from keras_dqn.experiment import bench_ray
from keras_dqn.ray import fleet
from keras_dqn.ray.cluster import check_nodes, joined, versions
from keras_dqn.ray.sweeps import run_anywhere
from keras_dqn.training.callbacks import TrainingCallback
from keras_dqn.training.remote import ActorsLog
from tests import ray_calls, ray_games

SMALL = 80_000_000  # bytes of object store, about the least that Ray takes
LOCALLY = {"steps": 150, "evaluate_every": 75, "network": {"hidden": (16,)}, "progress": False}


@pytest.fixture(scope="module", autouse=True)
def private_ray():
    """Ray with a token of its own, and its files in a folder that goes."""
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

    node = {"num_cpus": 1, "object_store_memory": SMALL, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    for _ in range(2):
        made.add_node(**node)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def connected(cluster):
    """Ray connected to that cluster for all tests that follow, so that they share its workers."""
    with joined(cluster.address) as ray:
        yield ray


def ray_processes():
    """Ray's processes that descend from this one."""
    return [one for one in psutil.Process().children(recursive=True) if "ray" in " ".join(cmdline(one))]


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def numbers(result):
    """A `Result` without what the clock says."""
    return result._replace(seconds=0, evaluation_seconds=0)


# ---------------------------------------------------------------- finding and starting it


def test_without_a_cluster_ray_starts_for_this_machine_alone_and_ends(private_ray):
    before = psutil.Process().children(recursive=True)
    with joined("auto") as ray:
        folders = {Path(node["ObjectStoreSocketName"]).parents[2] for node in ray.nodes()}
        processes = [one for one in psutil.Process().children(recursive=True) if one not in before]
        listening = {
            connection.laddr.ip
            for process in processes
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert sum(node["Resources"]["CPU"] for node in ray.nodes()) >= 1
    assert listening and listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert not psutil.wait_procs(processes, timeout=30)[1]
    (folder,) = folders
    assert folder.name.startswith("keras_dqn_") and not folder.exists()


def test_auto_finds_the_cluster_of_this_shell_and_leaves_it_alone(cluster):
    for _ in range(2):
        with joined("auto") as ray:
            assert len(ray.nodes()) == 3 and ray.get_runtime_context().gcs_address == cluster.address
        assert not ray.is_initialized()


# ---------------------------------------------------------------- what is refused


def test_ray_that_is_not_installed_is_said(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    assert main(["train", "cartpole", "--seeds", "2", "--ray", "auto"]) == 2
    assert capsys.readouterr().err.endswith("needs Ray: pip install 'keras_dqn[ray]'. Received: no module named ray\n")
    assert not Path("results").exists()


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_no_cluster_at_an_address_is_said_at_once(answer, monkeypatch):
    """Nobody, somebody else, and somebody who hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if answer is None:
            server.close()
        else:
            threading.Thread(target=lambda: server.accept()[0].sendall(answer), daemon=True).start()
        with pytest.raises(ConnectionError, match=f"^No cluster of Ray could be joined at {address}. Received: .+"):
            train_seeds(CartPole, ray=address, seeds=1, **LOCALLY)


@pytest.mark.parametrize("address", ["here", "ray://head:10001", "head:port", 6379, ""])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ValueError, match='^`ray` must be "auto" or the host:port .*Received: '):
        train_seeds(CartPole, ray=address, seeds=1)
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"record_every": 5}, "^`record_every` is for a single training. Received: record_every=5$"),
        ({"live": True}, "^`live` is for a single training. Received: live=True$"),
        ({"sweep": {"gamma": []}}, "^`sweep` must have a list of different values for gamma. Received: \\[\\]$"),
        ({"sweep": {"gamma": [0.9, 0.9]}}, "different values for gamma"),
        ({"sweep": {"gamma": 0.9}}, "a list of different values for gamma. Received: 0.9$"),
    ],
)
def test_what_no_sweep_can_do_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        train_seeds(CartPole, seeds=1, **options)
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep", "gamma=0.9"], "--sweep needs --seeds. Received: --sweep gamma=0.9"),
        (["--seeds", "1", "--sweep", "gamma"], "--sweep must be NAME=VALUE,VALUE, each name once. Received: gamma"),
        (["--seeds", "1", "--sweep", "gamma=1", "--sweep", "gamma=1"], "each name once. Received: gamma=1"),
        (["--ray", "auto"], "--ray needs --seeds or --actors. Received: cartpole"),
        (["--in-order"], "--in-order needs --actors. Received: cartpole"),
        (["--actors", "2", "--record-every", "2"], "--record-every films a game that is here. Received: --actors 2"),
        (["--actors", "2", "--seeds", "2"], "--actors is for a single training"),
        (["--seeds", "1", "--record-every", "2"], "--record-every is for a single training"),
    ],
)
def test_the_command_refuses_in_one_line(arguments, message, capsys):
    assert main(["train", "cartpole", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_what_cannot_travel_is_refused(connected):
    with pytest.raises(ValueError, match="^What runs elsewhere must be able to travel there. Received: TypeError"):
        list(run_anywhere({"one": partial(ray_calls.names_itself, threading.Lock())}, "auto", progress=False))


def test_a_node_with_other_versions_is_named(connected, monkeypatch):
    monkeypatch.setattr(keras_dqn, "__version__", "9.9")
    with pytest.raises(ValueError, match=r"^The node [\d.]+ .* has keras_dqn 0.* must be 9.9 as here$"):
        list(run_anywhere({"one": partial(ray_calls.names_itself, 1)}, "auto", progress=False))


def test_a_node_that_lacks_a_module_is_named(connected, monkeypatch):
    no_such_module = b"\x80\x04cno_such_module\ngame\n."
    with pytest.raises(ValueError, match="^The node .* cannot make what it is sent: ModuleNotFoundError"):
        check_nodes(connected, no_such_module, versions([]))


def test_a_node_that_joined_later_with_other_versions_ends_it(connected, monkeypatch):
    monkeypatch.setattr(keras_dqn, "__version__", "9.9")
    monkeypatch.setattr("keras_dqn.ray.sweeps.check_nodes", lambda *_: None)
    with pytest.raises(ValueError, match="^A node of the cluster cannot be used. Received: .*keras_dqn 0"):
        list(run_anywhere({"one": partial(ray_calls.names_itself, 1)}, "auto", progress=False))


# ---------------------------------------------------------------- calls that end, raise and die


def test_calls_run_on_all_nodes_and_a_bar_says_where(connected, capsys):
    calls = {f"call {number}": partial(ray_calls.names_itself, number) for number in range(6)}
    outcomes = dict(run_anywhere(calls, "auto", name="calls"))
    assert sorted(outcomes) == list(range(6))
    assert all(outcome.value[0] == number and outcome.error is None for number, outcome in outcomes.items())
    assert os.getpid() not in {outcome.value[1] for outcome in outcomes.values()}
    assert len({outcome.value[2] for outcome in outcomes.values()}) > 1
    err = capsys.readouterr().err
    assert "calls: 100%" in err and "6 of 6 ended" in err


def test_a_call_that_raises_is_an_outcome_and_the_others_go_on(connected):
    calls = {"good": partial(ray_calls.names_itself, 1), "bad": ray_calls.raises}
    outcomes = dict(run_anywhere(calls, "auto", progress=False))
    assert outcomes[0].value[0] == 1
    assert outcomes[1].error.startswith("ValueError: a game that is broken (ray_calls.py, line ")


def test_a_worker_that_is_killed_is_tried_again_three_times(connected, tmp_path):
    calls = {
        "lives in the end": partial(ray_calls.dies, tmp_path / "three", 3),
        "never": partial(ray_calls.dies, tmp_path / "four", 4),
    }
    outcomes = dict(run_anywhere(calls, "auto", progress=False))
    assert outcomes[0].value == 4
    assert outcomes[1].value is None and outcomes[1].error == "WorkerCrashedError, 4 times"
    assert (tmp_path / "four").read_text() == "xxxx"


def test_a_node_that_goes_is_done_without(connected, cluster, tmp_path):
    head = cluster.head_node.node_id
    calls = {f"call {number}": partial(ray_calls.stays, tmp_path, head, number) for number in range(4)}

    def kill_what_waits():
        while not (begun := list(tmp_path.glob("begun_*"))) or not begun[0].read_text():
            time.sleep(0.1)
        for node in list(cluster.worker_nodes):
            cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill_what_waits)
    killer.start()
    outcomes = dict(run_anywhere(calls, "auto", progress=False))
    killer.join()
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=SMALL, include_dashboard=False)
    assert sorted(outcomes) == [0, 1, 2, 3] and {outcome.value for outcome in outcomes.values()} == {head}


# ---------------------------------------------------------------- trainings


def test_seeds_come_to_what_they_come_to_one_by_one(connected, tmp_path, capsys):
    """Of three one raises at first; the next call trains it alone; then everything is as without Ray."""
    game = ray_calls.make_faulty(tmp_path / "mended")
    there = train_seeds(game, "fast", seeds=3, folder="there", ray="auto", **LOCALLY)
    lines = str(there).splitlines()
    error = "RuntimeError: the screen went dark (ray_calls.py, line "
    assert lines[-1].startswith(f"Keras, seed 1: {error}") and "| Keras | 1 | – | – | not solved | 0 | 0 |" in str(
        there
    )
    assert "| failures | 3 of 3 |" in there.summary()
    assert not list(Path("there").glob("*seed_1*"))
    written = {path: path.stat().st_mtime_ns for path in Path("there").glob("keras_seed_*")}
    assert len(written) == 6

    (tmp_path / "mended").touch()
    there = train_seeds(game, "fast", seeds=3, folder="there", ray="auto", **LOCALLY)
    assert all(path.stat().st_mtime_ns == then for path, then in written.items())
    here = train_seeds(CartPole, "fast", seeds=3, folder="here", **LOCALLY)
    assert [numbers(one) for one in there.results] == [numbers(one) for one in here.results]
    assert len({tuple(one.scores) for one in here.results}) == 3
    files = sorted(path.name for path in Path("here").iterdir())
    assert sorted(path.name for path in Path("there").iterdir()) == files and "keras_seed_1_weight_best.h5" in files
    for name in files:
        if name.endswith(".h5") or name == "settings.json":
            assert Path("here", name).read_bytes() == Path("there", name).read_bytes()


def test_a_sweep_is_an_experiment_for_every_combination(connected, capsys):
    arguments = ["train", "cartpole", "--recipe", "fast", "--seeds", "1", "--steps", "60", "--evaluate-every", "60"]
    sweep = ["--sweep", "tau=0.5,0.25", "--ray", "auto", "--out", "swept"]
    assert main([*arguments, *sweep]) == 0
    out, err = capsys.readouterr()
    assert "2 of 2 ended" in err and out.endswith("Results: swept\n")
    for tau in "0.5", "0.25":
        assert f"| tau={tau} | Keras | 1 |" in out
        assert f'"tau": {tau}' in Path("swept", f"tau={tau}", "settings.json").read_text()
    single = train_seeds(CartPole, "fast", seeds=1, steps=60, evaluate_every=60, tau=0.25, progress=False, folder="one")
    swept = result_in("swept/tau=0.25")
    assert numbers(single.results[0]) == numbers(swept)
    rows = Path("swept/results.csv").read_text().splitlines()
    assert rows[0].startswith("settings,framework,seed,score") and [row.split(",")[0] for row in rows[1:]] == [
        "tau=0.5",
        "tau=0.25",
    ]
    assert Path("swept/learning_curves.png").read_bytes().startswith(b"\x89PNG")


def result_in(folder):
    from keras_dqn.experiment.results import _read

    return _read(Path(folder, "keras_seed_0.json"))


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


def actors_of(cluster):
    """The processes of actors on all nodes."""
    return [one for one in psutil.Process().children(recursive=True) if "ray::_Actor" in " ".join(cmdline(one))]


def test_actors_in_order_can_be_repeated_and_more_of_them_than_cpus_are_said(connected, capsys):
    """With nothing to wait for; the numbers of the log are there."""
    trained = []
    for folder in "one", "two":
        cartpole = CartPole(recipe="parallel", steps=800, seed=3, weights=None, weight_backup=None)
        cartpole.train(progress=False, actors=4, in_order=True, checkpoints=folder)
        trained.append((cartpole.history.scores.tolist(), cartpole.agent.learner.read_weights()))
        assert cartpole.agent.steps >= 800 and cartpole.agent.learner.updates == 3 * 16
    assert trained[0][0] == trained[1][0] and np.array_equal(trained[0][1], trained[1][1])
    assert capsys.readouterr().out.count("4 actors share 3 CPUs of the cluster\n") == 2


def test_ten_actors_killed_in_a_row_cost_nothing_but_what_they_were_at(connected, cluster, capsys, monkeypatch):
    monkeypatch.setattr(ActorsLog.__init__, "__defaults__", (500,))
    killed, runner = [], counting()(steps=4000)

    def kill(training):
        if len(killed) < 10 and training.steps >= 200 * (len(killed) + 1) and (there := actors_of(cluster)):
            os.kill(there[0].pid, signal.SIGKILL)
            killed.append(there[0].pid)

    runner.train([Do(kill)], progress=False, actors=2, checkpoints="log")
    fleet_lost = capsys.readouterr().out.count("was lost (ActorDiedError); another begins in its place\n")
    assert len(set(killed)) == 10 and 5 <= fleet_lost <= 10  # some had yet to be replaced, or had just been
    check_counts(runner)
    assert len(runner.history) > 200
    with open("log/actors.csv") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert [row["steps"] // 500 for row in rows] == list(range(1, 9)) and 0 < rows[-1]["lost"] <= fleet_lost
    assert all(0 <= row["actors"] <= 2 and row["weights_age"] >= 0 for row in rows)
    assert all(row["steps_per_second"] > 0 and row["bytes_per_second"] > 0 for row in rows)
    assert sum(row["updates_per_second"] for row in rows) > 0


@pytest.mark.parametrize(
    ("recipe", "settings", "first", "steps_an_update"),
    [
        ("parallel", {"rollout": 128, "replay_every": 128, "minibatch_size": 32}, (0, 0), 128 / 2 / 4),
        (
            "nature",
            {"memory_size": 2000, "learning_starts": 100},
            (100, 100 + 4 * 3 + 8),
            4,
        ),  # returns over three steps
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


def test_what_loses_actors_all_the_time_solves_its_game(connected, cluster):
    """Within the steps that the recipe takes in this process."""
    killed = []
    cartpole = CartPole(recipe="parallel", steps=100_000, seed=0, weights=None)

    def kill(training):
        if training.steps >= 1000 * (len(killed) + 1) and (there := actors_of(cluster)):
            there[len(killed) % len(there)].kill()
            killed.append(training.steps)

    cartpole.train([Do(kill)], progress=False, actors=2, evaluate_every=8000, stop_score=475)
    assert len(killed) >= 3 and cartpole.history.evaluations[-1].score >= 475


def test_a_node_that_goes_takes_its_actor_and_another_brings_one(connected, cluster, capsys):
    runner, events = counting()(steps=200_000), []

    def change(training):
        if not events and training.steps > 300 and training.env.alive == 3:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            events.append(training.steps)
        if len(events) == 1 and training.env.lost and training.steps > events[0] + 2000:
            cluster.add_node(num_cpus=1, object_store_memory=SMALL, include_dashboard=False)
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
    assert said in capsys.readouterr().out
    assert runner.agent.steps < 200_000
    check_counts(runner)


def test_an_actor_that_always_raises_ends_the_training_with_its_error(connected, tmp_path, capsys):
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
        if spilled or training.steps < 1000:
            return
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and sum(spilled) < SMALL:
            time.sleep(0.1)
            spilled[:] = map(size, private_ray.rglob("ray_spilled_objects_*/*"))

    runner.train([Do(wait)], progress=False, actors=3, ahead=12)
    assert sum(spilled) >= SMALL
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
    while learner.poll() is None and not any(int(path.name[-6:]) > 40 for path in kept.glob("checkpoint_??????")):
        time.sleep(0.1)
    learner.kill()
    assert learner.wait() == -signal.SIGKILL
    runner = counting()(steps=10**6)
    began = []

    def stop(training):
        began.append(training.steps)
        if training.steps > began[0] + 1000:
            training.stop()

    runner.train([Do(stop)], progress=False, actors=1, checkpoints=Checkpoints(kept, memory=True), resume=True)
    assert began[0] > 32 and runner.agent.steps > began[0] + 1000
    check_counts(runner)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"actors": 0}, "^`actors` must be a whole number, 1 or more. Received: 0$"),
        ({"actors": 1, "ahead": 0}, "^`ahead` must be a whole number"),
        ({"actors": 1, "record_every": 5}, "^`record_every` films an environment that is here. Received: actors=1$"),
        ({"ray": "auto"}, "^`ray` and `in_order` need `actors`. Received: ray='auto'"),
        ({"in_order": True}, "need `actors`"),
        ({"actors": 1, "ray": "nowhere"}, '^`ray` must be "auto" or'),
    ],
)
def test_what_actors_cannot_do_is_refused(options, message):
    runner = CartPole(weights=None)
    with pytest.raises(ValueError, match=message):
        runner.train(progress=False, **options)
    assert list(Path().iterdir()) == []


def test_an_environment_that_cannot_travel_is_refused(connected):
    env = ray_games.Counting()
    env.lock = threading.Lock()
    env.__deepcopy__ = None
    runner = game_for(lambda: env)
    with pytest.raises(ValueError, match="can"):
        runner(weights=None, weight_backup=None).train(progress=False, actors=1)


def test_the_benchmark_says_what_one_learner_takes_in(connected):
    ((name, result),) = bench_ray.intake(repeats=1, counts=(2,), seconds=1.0, memory_size=2000)
    assert name == "steps taken in from 2 actors of 8 games that sleep"
    found = re.fullmatch(
        r"([\d,]+) steps/s, \d+% of what they could send, (\d+) MB/s; [\d.]+ µs of this process each, "
        r"so at most [\d,]+ steps/s",
        result,
    )
    assert 0 < int(found[1].replace(",", "")) <= 2100 and 0 <= int(found[2]) <= 16  # a frame is 7,056 bytes


def test_the_benchmark_plays_breakout_here_and_on_an_actor(connected):
    rows = [*bench_ray.broadcast(1), *bench_ray.one_actor(repeats=1, steps=64)]
    assert re.fullmatch(r"[\d.]+ ms, read in [\d.]+ ms", rows[0][1])
    assert all(int(re.fullmatch(r"([\d,]+) steps/s", rate)[1].replace(",", "")) > 0 for _, rate in rows[1:])
    assert len(rows) == 3
