"""What cannot be written while a training goes on: a log row, the best weights; and that it is tried again."""

import csv
import errno
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from keras_dqn import CartPole, Checkpoints, load_weights
from keras_dqn.backend import tf
from keras_dqn.core.episode_stats import Episode
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.training import log as training_log
from keras_dqn.training.attempts import Attempts
from keras_dqn.training.best_weights import BestWeights
from keras_dqn.training.history import History
from keras_dqn.training.log import TrainingLog


def rows(path="log/log.csv"):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class Training:
    """Stands for a training of 100 steps a row."""

    def __init__(self, **options):
        Path("log").mkdir()
        self.log, self.steps = TrainingLog("log/log.csv", every=100, **options), 0
        self.log.begin(0, 0.0)
        self.agent = SimpleNamespace(learner=SimpleNamespace(updates=7), exploration_rate=0.5)
        self.history = History([Episode(3.0, 3, 0.5, 0.5, 1.0)])

    def go_on(self, steps=100):
        self.steps += steps
        self.log.hear(self.steps, np.ones(2, np.float32), self.agent, self.history)


# ---------------------------------------------------------------- rows


def test_rows_of_a_folder_that_was_removed_are_written_into_a_new_one(capsys):
    training = Training()
    training.go_on()
    shutil.rmtree("log")
    Path("log").write_text("a file where the folder was")
    training.go_on()
    training.go_on()
    out = capsys.readouterr().out
    assert out.startswith("The log was not written; training goes on and tries again. Received: [Errno ")
    assert out.count("\n") == 1
    Path("log").unlink()
    training.go_on()
    assert [row["steps"] for row in rows()] == ["200", "300", "400"] and capsys.readouterr().out == ""
    shutil.rmtree("log")
    Path("log").touch()
    training.go_on()
    assert "The log was not written" in capsys.readouterr().out, "after a success it is said again"
    Path("log").unlink()
    training.log.write()
    assert [row["steps"] for row in rows()] == ["500"]


def test_a_disk_that_is_full_in_the_middle_of_a_row_leaves_no_half_of_it(capsys):
    training = Training()
    training.go_on()
    before, limits = Path("log/log.csv").read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        training.go_on()
        training.go_on()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Path("log/log.csv").read_bytes() == before and capsys.readouterr().out.count("not written") == 1
    training.go_on()
    assert [row["steps"] for row in rows()] == ["100", "200", "300", "400"]
    assert [row["updates"] for row in rows()] == ["7"] * 4


def test_what_tensorboard_does_not_get_waits_for_itself(monkeypatch, capsys):
    training, write, full = Training(tensorboard="board"), tf.summary.write, True

    def failing(*arguments, **options):
        if full:
            raise tf.errors.ResourceExhaustedError(None, None, "no space")
        return write(*arguments, **options)

    monkeypatch.setattr(tf.summary, "write", failing)
    training.go_on()
    training.go_on()
    out = capsys.readouterr().out
    assert out == "The log for TensorBoard was not written; training goes on and tries again. Received: no space\n"
    assert [row["steps"] for row in rows()] == ["100", "200"]
    full = False
    training.go_on()
    (file,) = Path("board").iterdir()
    events = list(tf.compat.v1.train.summary_iterator(str(file)))
    assert {event.step for event in events if event.summary.value} == {100, 200, 300}
    names = {value.tag for event in events for value in event.summary.value}
    assert "training/epsilon" in names and not {"training/steps", "training/frames"} & names


def test_a_row_that_cannot_be_written_ends_no_training(monkeypatch, capsys):
    monkeypatch.setattr(training_log.TrainingLog.__init__, "__defaults__", (100, None, None))
    runner = CartPole(10**6, steps=450, weights=None, weight_backup=None, seed=0)
    act_batch = runner.agent.act_batch

    def act(*arguments):
        if runner.agent.steps == 150:
            shutil.rmtree("saved")
            Path("saved").touch()
        if runner.agent.steps == 350:
            Path("saved").unlink()
        return act_batch(*arguments)

    runner.agent.act_batch = act
    runner.train(progress=False, checkpoints=Checkpoints("saved", minutes=0))
    assert runner.agent.steps == 450 and Checkpoints("saved").paths()
    out = capsys.readouterr().out
    assert out.count("The log was not written") == 1 and out.count("The checkpoint was not written") == 1
    assert [row["steps"] for row in rows("saved/log.csv")] == ["200", "300", "400"]


def test_attempts_leave_other_errors_alone():
    with pytest.raises(ValueError, match="other"), Attempts("Nothing"):
        raise ValueError("other")


# ---------------------------------------------------------------- the best weights


def weights(path):
    brain = mlp(4, 2)
    load_weights(brain, path)
    return np.concatenate([weight.ravel() for weight in brain.get_weights()])


def test_the_best_weights_wait_for_room_on_the_disk(capsys):
    best, brains = BestWeights("folder/best.h5", score=1.0), [mlp(4, 2, seed=seed) for seed in range(3)]
    best.keep(brains[0], 5.0)
    best.keep(brains[1], 7.0)
    out = capsys.readouterr().out
    assert out.startswith(
        "folder/best.h5 (the best weights) was not written; training goes on and tries again. Received: "
    )
    assert out.count("\n") == 1 and best.score == 1.0, "that of what is in the file"
    with pytest.raises(OSError, match="folder/best.h5"):
        best.finish()
    brains[1].set_weights(brains[2].get_weights())  # training goes on
    Path("folder").mkdir()
    best.try_again()
    expected = np.concatenate([weight.ravel() for weight in mlp(4, 2, seed=1).get_weights()])
    np.testing.assert_array_equal(weights("folder/best.h5"), expected)
    assert best.score == 7.0
    before = Path("folder/best.h5").stat().st_mtime_ns
    best.try_again()
    assert Path("folder/best.h5").stat().st_mtime_ns == before, "nothing waits any more"


@pytest.mark.parametrize("ends", [False, True])
def test_a_full_disk_at_an_evaluation_ends_no_training(ends, monkeypatch, capsys):
    """The weights of the best evaluation are in the file in the end, if there is room then, and the score is theirs."""
    full, scores = True, iter([10.0, 30.0, 20.0, 25.0])
    write = Path.write_bytes

    def write_bytes(path, content):
        if full and "best" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    kept = []

    def evaluation(seed):
        kept.append(runner.agent.learner.read_weights())
        return SimpleNamespace(mean=next(scores))

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    runner = CartPole(10**6, steps=450, weights=None, seed=0)
    monkeypatch.setattr(runner, "evaluate", evaluation)
    act_batch = runner.agent.act_batch

    def act(*arguments):
        nonlocal full
        full = full and (ends or runner.agent.steps < 350)
        return act_batch(*arguments)

    runner.agent.act_batch = act
    options = {"evaluate_every": 100, "checkpoints": "saved"}
    if ends:
        with pytest.raises(OSError, match="No space left"):
            runner.train(progress=False, **options)
    else:
        runner.train(progress=False, **options)
        np.testing.assert_array_equal(weights("cartpole_weight_best.h5"), kept[1])
    assert runner.agent.steps == 450 and runner.best_score == 30 and len(runner.history.evaluations) == 4
    assert capsys.readouterr().out.count("was not written") == 1
    np.testing.assert_array_equal(weights("cartpole_weight.h5"), runner.agent.learner.read_weights())
    state = Path("saved/checkpoint_000001/state.json").read_text()
    assert f'"best_score": {"null" if ends else "30.0"}' in state, "that of the weights in the file"
