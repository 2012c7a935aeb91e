"""Ctrl-C and SIGTERM: they wait for the end of a step, and leave all of it saved; the second does not wait."""

import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from keras_dqn import CartPole, Checkpoints, load_weights
from keras_dqn.backend import keras
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.training.training import held_interruptions


@pytest.fixture(autouse=True)
def usual_handlers():
    """Those of a script in the foreground: where tests run in a shell's background, SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def cartpole(episodes=10**6, **options):
    return CartPole(episodes, **{"weights": None, "seed": 0, "memory_size": 300, **options})


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


@pytest.mark.parametrize("checkpoints", [None, "saved"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_step(number, checkpoints, capsys):
    runner, before = cartpole(), signal.getsignal(number)
    raising(runner, number, 5)
    with pytest.raises(KeyboardInterrupt):
        runner.train(progress=False, checkpoints=checkpoints)
    assert signal.getsignal(number) is before
    brain, history = mlp(4, 2), runner.history
    load_weights(brain, "cartpole_weight.h5")
    assert (brain.get_weights()[0] == runner.agent.brain.get_weights()[0]).all()
    assert len(history) == 5 and len({len(history.scores), len(history.times), len(history.losses)}) == 1
    said = f"Interrupted after 5 episodes and {history.lengths.sum()} steps; weights: cartpole_weight.h5\n"
    assert capsys.readouterr().out == said
    if checkpoints is not None:
        second = cartpole(weight_backup=None)
        Checkpoints(checkpoints).restore(second)
        assert second.agent.learner.updates == runner.agent.learner.updates > 0


def test_a_second_signal_does_not_wait_and_one_while_all_is_saved_is_not_lost():
    with held_interruptions() as raise_held:
        raise_held()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            raise_held()
        raise_held()
    with pytest.raises(KeyboardInterrupt), held_interruptions():
        signal.raise_signal(signal.SIGTERM)
    runner = cartpole(3)
    save = runner.agent.save_model
    runner.agent.save_model = lambda: (signal.raise_signal(signal.SIGINT), save())
    with pytest.raises(KeyboardInterrupt):
        runner.train(progress=False)
    load_weights(mlp(4, 2), "cartpole_weight.h5")


def test_somebodys_own_handler_stays_and_so_does_one_that_is_ignored():
    received = []
    for number, handler in [(signal.SIGTERM, lambda *_: received.append(1)), (signal.SIGINT, signal.SIG_IGN)]:
        before = signal.signal(number, handler)
        try:
            runner = cartpole(5, weight_backup=None)
            raising(runner, number, 1)
            assert len(runner.train(progress=False)) == 5 and signal.getsignal(number) is handler
        finally:
            signal.signal(number, before)
    assert received == [1]


def test_a_training_outside_of_the_main_thread_is_no_matter():
    runner = cartpole(3, weight_backup=None)
    thread = threading.Thread(target=lambda: runner.train(progress=False, checkpoints="saved"))
    thread.start()
    thread.join(timeout=60)
    assert len(runner.history) == 3 and Checkpoints("saved").paths()


def test_a_callback_that_fails_at_the_start_leaves_nothing_locked():
    class Fails(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise RuntimeError("no")

    runner, before = cartpole(3), signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError):
        runner.train(Fails(), progress=False, checkpoints="saved")
    assert signal.getsignal(signal.SIGINT) is before
    assert len(runner.train(progress=False, checkpoints="saved")) == 3


COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from keras_dqn.__main__ import main
sys.exit(main(["train", "cartpole", "--episodes", "1000000", "--verbose", "--quiet", "--seed", "0"]))
"""


def test_an_interrupted_command_leaves_its_weights_and_says_so():
    """At any instant; that of the first replay, when all is compiled, among them."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", COMMAND], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        episodes = np.random.default_rng().integers(1, 40)
        while not process.stdout.readline().startswith(f"Episode {episodes}#") and process.poll() is None:
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == "Interrupted.\n"
    load_weights(mlp(4, 2), "cartpole_weight.h5")
