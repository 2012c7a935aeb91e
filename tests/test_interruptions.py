"""SIGTERM, which saves as Ctrl-C does, and the lock that two trainings meet at."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from keras_dqn import CartPole, CheckpointError, Checkpoints, load_weights
from keras_dqn.__main__ import main
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.training.checkpointing import Records
from keras_dqn.training.folder_lock import FolderLock
from keras_dqn.training.interruptions import Interruptions, Terminated


def cartpole(steps=None, **options):
    return CartPole(10**6, steps=steps, **{"weights": None, "seed": 0, "memory_size": 300, **options})


def raising(runner, number, replays):
    """Make the runner's agent raise a signal in the middle of a step, after so many replays."""
    replay, count = runner.agent.replay, 0

    def replay_and_raise():
        nonlocal count
        count += 1
        if count == replays:
            signal.raise_signal(number)
        return replay()

    runner.agent.replay = replay_and_raise


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize("checkpoints", [None, "saved"])
def test_sigterm_saves_as_ctrl_c_does(checkpoints):
    runner, before = cartpole(), signal.getsignal(signal.SIGTERM)
    raising(runner, signal.SIGTERM, 5)
    with pytest.raises(Terminated):
        runner.train(progress=False, checkpoints=checkpoints)
    assert signal.getsignal(signal.SIGTERM) is before is signal.SIG_DFL
    brain = mlp(4, 2)
    load_weights(brain, "cartpole_weight.h5")
    assert (brain.get_weights()[0] == runner.agent.brain.get_weights()[0]).all()
    assert len(runner.history) == 5 - (checkpoints is None), "with checkpoints, the end of the step is waited for"
    if checkpoints is not None:
        second = cartpole(weight_backup=None)
        Records(second, checkpoints, resume=True)
        assert second.agent.learner.updates == runner.agent.learner.updates > 0


TERMINATED = """
import sys
from keras_dqn.__main__ import main
sys.exit(main(["train", "cartpole", "--episodes", "1000000", "--verbose", "--quiet", "--seed", "0"]))
"""


def test_a_terminated_command_leaves_its_weights_and_says_so():
    command = [sys.executable, "-u", "-c", TERMINATED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("Episode 20#"):
                break
        process.terminate()
        _, err = process.communicate()
    assert process.returncode == 130 and err == "Interrupted.\n"
    load_weights(mlp(4, 2), "cartpole_weight.h5")


def test_somebodys_own_handler_of_sigterm_stays():
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        runner = cartpole(200)
        raising(runner, signal.SIGTERM, 1)
        runner.train(progress=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM] and runner.agent.steps == 200


def test_two_that_are_held_do_not_wait():
    with Interruptions(hold=True) as interruptions:
        interruptions.raise_held()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            interruptions.raise_held()


def test_a_training_outside_of_the_main_thread_is_no_matter():
    runner = cartpole(60, weight_backup=None)
    thread = threading.Thread(target=lambda: runner.train(progress=False, checkpoints="saved"))
    thread.start()
    thread.join()
    assert runner.agent.steps == 60 and Checkpoints("saved").paths()


# ---------------------------------------------------------------- the lock

HOLDER = """
import sys
from keras_dqn.training.folder_lock import FolderLock
lock = FolderLock("saved")
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder():
    """Another process that holds the lock of the folder "saved"."""
    Path("saved").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER], text=True, env=environment, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_training_in_the_folder_is_told_of_the_first(holder, capsys):
    for options in ({}, {"resume": True}):
        runner = cartpole(100, weight_backup=None)
        with pytest.raises(CheckpointError, match=f"saved: another training .* process {holder.pid} on .*, since 20"):
            runner.train(progress=False, checkpoints="saved", **options)
        assert runner.agent.steps == 0 and [path.name for path in Path("saved").iterdir()] == ["training.lock"]
    assert main(("train", "cartpole", "--checkpoints", "saved", "--quiet")) == 2
    assert f"process {holder.pid} on" in (err := capsys.readouterr().err) and err.count("\n") == 1
    holder.kill()
    holder.wait()
    assert Path("saved/training.lock").exists(), "left behind, it locks nothing"
    cartpole(100, weight_backup=None).train(progress=False, checkpoints="saved")
    assert not Path("saved/training.lock").exists() and Checkpoints("saved").paths()


def test_a_training_that_fails_gives_the_folder_back():
    runner = cartpole(100, weight_backup=None)
    runner.agent.replay = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        runner.train(progress=False, checkpoints="saved")
    assert list(Path("saved").glob("training.lock")) == []
    cartpole(100, weight_backup=None).train(progress=False, checkpoints="saved")


def test_while_it_trains_the_lock_names_this_process():
    runner, seen = cartpole(100, weight_backup=None), []
    act_batch = runner.agent.act_batch

    def act(*arguments):
        if not seen:
            seen.append(json.loads(Path("saved/training.lock").read_text()))
            with pytest.raises(BlockingIOError, match=f"It is in use by process {os.getpid()} on "):
                FolderLock("saved").acquire()
        return act_batch(*arguments)

    runner.agent.act_batch = act
    runner.train(progress=False, checkpoints="saved")
    assert seen[0]["process"] == os.getpid()


@pytest.mark.parametrize("content", ["", "not JSON", "[]", '{"process": "x", "host": 1, "since": 2}'])
def test_whatever_the_lock_file_says_it_locks(holder, content):
    Path("saved/training.lock").write_text(content)
    with pytest.raises(CheckpointError, match="It is in use by another process"):
        Checkpoints("saved").claim()


def test_a_lock_that_was_removed_does_not_let_two_in():
    Path("saved").mkdir()
    first, second = FolderLock("saved"), FolderLock("saved")
    first.acquire()
    Path("saved/training.lock").unlink()
    second.acquire()
    first.release()
    assert second.path.exists() and second.held and not first.held
    with pytest.raises(BlockingIOError):
        first.acquire()
    second.release()
    assert not second.path.exists()
