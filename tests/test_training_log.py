"""The log beside checkpoints and TensorBoard's: a row an epoch, none twice, and a full disk ends no training."""

import csv
import errno
import resource
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_dqn import CartPole, load_weights
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.training.callbacks import TrainingLog, attempt
from tests.test_breakout import tiny

COLUMNS = ["epoch", "episodes", "epsilon", "evaluation_score", "frames", "learning_rate", "length", "loss"]
COLUMNS += ["mean_score", "score", "seconds", "steps", "steps_per_second", "updates"]


def cartpole(steps, **options):
    return CartPole(5, **{"steps": steps, "weights": None, "weight_backup": None, "seed": 0, **options})


def rows(path="saved/log.csv"):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_an_epoch_and_none_twice():
    cartpole(200).train(progress=False, checkpoints="saved")
    assert [float(row["steps"]) for row in rows()] == list(range(20, 201, 20)) and list(rows()[0]) == COLUMNS
    with open("saved/log.csv", "a") as file:  # later than the checkpoint, and one that a kill cut off
        file.write("10,9,9,9,9,9,9,9,9,9,9,220.0,9,9\n11,9,9")
    history = cartpole(400).train(progress=False, checkpoints="saved", resume=True)
    again = rows()
    assert [float(row["steps"]) for row in again] == [*range(20, 201, 20), *range(240, 401, 40)]
    assert "9" not in (again[10]["updates"], again[10]["episodes"])
    assert float(again[-1]["episodes"]) == len(history) and float(again[-1]["mean_score"]) == history.mean_score()
    seconds = [float(row["seconds"]) for row in again]
    assert seconds == sorted(seconds)
    assert "nan" == again[0]["evaluation_score"] == again[0]["loss"] != again[-1]["loss"]


def test_frames_are_counted_and_tensorboard_gets_the_same_by_steps():
    tiny(steps=40).train(progress=False, tensorboard="board")
    logged = rows("breakout_checkpoints/log.csv")
    assert [(float(row["steps"]), float(row["frames"])) for row in logged[:2]] == [(4, 16), (8, 32)]
    (file,) = Path("board/train").iterdir()
    values = {}
    for event in tf.compat.v1.train.summary_iterator(str(file)):
        for value in event.summary.value:
            values[value.tag.removeprefix("epoch_"), event.step] = float(tf.make_ndarray(value.tensor))
    for row in logged:
        for name in row.keys() - {"epoch"}:
            np.testing.assert_allclose(values[name, int(float(row["steps"]))], float(row[name]), rtol=1e-5)
    cartpole(10).train(progress=False, tensorboard="without_checkpoints")
    assert len(list(Path("without_checkpoints/train").iterdir())) == 1


def test_rows_wait_for_room_on_the_disk():
    log, logs = TrainingLog("log.csv"), {"steps": 1, "score": 2.5}
    log.on_train_begin()
    log.on_epoch_end(0, logs)
    before, limits = Path("log.csv").read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 3, limits[1]))
    try:
        with pytest.warns(RuntimeWarning, match=r"The log was not written; .* Received: \[Errno 27\]"):
            log.on_epoch_end(1, logs)
            log.on_epoch_end(2, logs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.on_epoch_end(3, logs)
    log.on_train_end()
    assert [row["epoch"] for row in rows("log.csv")] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("full", ["best", "board"])
def test_a_full_disk_ends_no_training(full, monkeypatch):
    runner, options = cartpole(60, weight_backup="w.h5"), {"evaluate_every": 30}
    if full == "best":
        save = runner.agent.save_model

        def save_model(path=None):
            if path is not None and runner.agent.steps == 30:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            save(path)

        runner.agent.save_model = save_model
    else:

        def scalar(*arguments, **options):
            raise tf.errors.ResourceExhaustedError(None, None, "no space")

        monkeypatch.setattr(tf.summary, "scalar", scalar)
        options["tensorboard"] = "board"
    what = {"best": r"w_best.h5 \(the best weights\)", "board": "The log for TensorBoard"}[full]
    with pytest.warns(RuntimeWarning, match=f"^{what} was not written; training goes on and tries again. Received: "):
        runner.train(progress=False, **options)
    assert runner.agent.steps == 60 and [one.steps for one in runner.history.evaluations] == [30, 60]
    if full == "best":
        assert runner.best_score == runner.history.evaluations[1].score, "that of the weights in the file"
        load_weights(mlp(4, 2), "w_best.h5")


def test_other_errors_are_raised_and_the_same_failure_is_said_once(recwarn):
    warnings.simplefilter("default")
    for _ in range(3):
        with attempt("Nothing"):
            raise OSError("full")
    assert [str(one.message) for one in recwarn] == [
        "Nothing was not written; training goes on and tries again. Received: full"
    ]
    with pytest.raises(ValueError, match="other"), attempt("Nothing"):
        raise ValueError("other")
