"""Keras's own callbacks in a training, callbacks of the user's, and the order in which ours hear of a step."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_dqn import CartPole, Checkpoints
from keras_dqn.backend import keras
from keras_dqn.training.callbacks import KeepBest, TrainingCallback

LOGS = {
    *("score", "length", "mean_score", "evaluation_score", "epsilon", "loss", "learning_rate"),
    *("steps", "frames", "episodes", "updates", "steps_per_second", "seconds"),
}


def cartpole(episodes=12, **options):
    return CartPole(episodes, **{"weights": None, "weight_backup": None, "seed": 0, **options})


class Heard(keras.callbacks.Callback):
    """Writes down what it hears."""

    def __init__(self):
        super().__init__()
        self.begun, self.ended, self.batches, self.order = [], [], [], []

    def on_train_begin(self, logs=None):
        self.order.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append((epoch, dict(logs)))

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append((batch, logs["loss"]))

    def on_train_end(self, logs=None):
        self.order.append("end")


def test_an_epoch_is_an_episode_and_a_batch_a_replay():
    heard, game = Heard(), cartpole()
    history = game.train([heard], progress=False)
    assert heard.order == ["begin", "end"] and heard.model is game.agent.brain
    assert [epoch for epoch, _ in heard.ended] == list(range(12)) and heard.begun[:12] == list(range(12))
    logs = [logs for _, logs in heard.ended]
    assert all(one.keys() == LOGS for one in logs)
    assert [one["score"] for one in logs] == history.scores.tolist()
    assert [one["length"] for one in logs] == history.lengths.tolist()
    assert [one["steps"] for one in logs] == np.cumsum(history.lengths).tolist()
    assert logs[-1]["mean_score"] == history.mean_score() and logs[-1]["updates"] == 32 * len(heard.batches)
    assert logs[-1]["learning_rate"] == 0.001 and logs[-1]["epsilon"] == game.agent.exploration_rate
    assert [batch for batch, _ in heard.batches] == list(range(len(heard.batches)))
    np.testing.assert_allclose(
        [loss for _, loss in heard.batches], history.update_losses.reshape(-1, 32).mean(-1), 1e-5
    )


@pytest.mark.parametrize(
    ("steps", "num_envs", "ends"),
    [(300, 1, range(30, 301, 30)), (25, 1, [*range(3, 25, 3), 25]), (7, 1, range(1, 8)), (30, 4, None)],
)
def test_where_steps_are_counted_an_epoch_is_a_tenth_of_them(steps, num_envs, ends):
    """And the last ends with the training."""
    heard, game = Heard(), cartpole(steps=steps, num_envs=num_envs, weight_backup="w.h5")
    game.train([heard], progress=False, evaluate_every=None if steps < 300 else 150)
    epochs, logs = zip(*heard.ended, strict=True)
    assert list(epochs) == heard.begun[: len(epochs)] == list(range(len(epochs)))
    assert logs[-1]["steps"] == game.agent.steps >= steps
    if ends is not None:
        assert [one["steps"] for one in logs] == list(ends)
    scores = [one["evaluation_score"] for one in logs]
    assert np.isnan(scores[:4]).all() and np.isnan(scores).all() == (steps < 300), "there from the first row on"
    size = logs[0]["steps"] if num_envs == 1 else 3
    assert heard.params == {"epochs": -(-steps // size), "steps": None, "verbose": 0}


def test_an_epoch_has_10_000_steps_at_most():
    heard, game = Heard(), cartpole(steps=10**6)
    game.train([heard, Stop()], progress=False)
    assert heard.params["epochs"] == 100 and [logs["steps"] for _, logs in heard.ended] == [1]


class Stop(TrainingCallback):
    """Ends a training with its first step."""

    def on_step(self, step):
        self.training.stop()


def test_a_callback_of_the_users_ends_the_training():
    class Enough(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            self.model.stop_training = logs["steps"] > 100

    game = cartpole(1000)
    history = game.train(Enough(), progress=False, verbose=True)  # one, without a list
    assert 100 < history.lengths.sum() < 700 and len(history) < 50
    game.episodes, heard = 3, Heard()
    assert len(game.train((one for one in [heard]), progress=False, verbose=True)) == 3, "the next is not stopped"
    assert heard.params == {"epochs": 3, "steps": None, "verbose": 1}


def test_weights_that_a_callback_assigns_are_acted_on():
    class Assign(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights([weight * 0 for weight in self.model.get_weights()])

    game = cartpole(1, exploration_rate=0.0)
    game.train(Assign(), progress=False)
    assert not game.agent.learner.q_values(np.ones((1, 4), np.float32)).any()


def test_csv_logger_and_lambda_callback():
    seen = []
    logger = keras.callbacks.CSVLogger("log.csv")
    later = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    history = cartpole().train([logger, later], progress=False)
    with open("log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == history.scores.tolist() and seen == list(range(12))


def test_early_stopping_with_the_weights_of_the_best_epoch():
    stopping = keras.callbacks.EarlyStopping("score", mode="max", patience=3, restore_best_weights=True)
    game = cartpole(500, weight_backup="w.h5")
    history = game.train([stopping], progress=False)
    assert len(history) == stopping.best_epoch + 1 + 3 == stopping.stopped_epoch + 1 < 500
    for kept, now in zip(stopping.best_weights, game.agent.brain.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)
    again = CartPole(weight_backup="w.h5").agent.learner.read_weights()
    np.testing.assert_array_equal(again, game.agent.learner.read_weights())


def test_reduce_lr_on_plateau_lowers_the_rate_of_a_running_training():
    heard, game = Heard(), cartpole(30)
    plateau = keras.callbacks.ReduceLROnPlateau("score", mode="max", factor=0.5, patience=2, min_delta=1000)
    game.train([plateau, heard], progress=False)
    rates = [logs["learning_rate"] for _, logs in heard.ended]
    assert rates[0] == pytest.approx(0.001) and rates[-1] < 1e-4 and game.agent.learning_rate < 1e-4
    frozen = cartpole(12)
    frozen.train([keras.callbacks.LearningRateScheduler(lambda epoch, rate: 1e-12)], progress=False)
    other = cartpole(12)
    start = other.agent.learner.read_weights()
    assert np.abs(frozen.agent.learner.read_weights() - start).max() < 1e-6, "the compiled update uses that rate"


def test_model_checkpoint():
    keep = keras.callbacks.ModelCheckpoint(
        "best_{epoch:02d}.weights.h5", "score", mode="max", save_best_only=True, save_weights_only=True
    )
    game = cartpole()
    history = game.train([keep], progress=False)
    best = int(np.argmax(history.scores)) + 1
    CartPole(weights=f"best_{best:02d}.weights.h5", weight_backup=None)


def test_tensorboard_where_it_is_installed(tmp_path):
    cartpole(4).train([keras.callbacks.TensorBoard(tmp_path / "board", write_graph=False)], progress=False)
    assert list((tmp_path / "board").rglob("events.out.tfevents.*"))


def test_that_tensorboard_is_missing_is_found_before_training(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    game = cartpole(4)
    with pytest.raises(ImportError, match="tensorboard"):
        game.train(progress=False, tensorboard="board")
    assert len(game.agent.memory) == 0


def test_what_is_no_callback_is_refused():
    with pytest.raises(ValueError, match="`callbacks` must be keras.callbacks.Callback objects. Received: 'csv'"):
        cartpole().train(["csv"])
    with pytest.raises(
        TypeError, match=r"CartPole.train has no keyword .* nearest is `evaluate_every`. Received: evalute"
    ):
        cartpole().train(evalute_every=3)


def test_the_order_in_which_they_hear_of_a_step():
    """An evaluation is part of the checkpoint of the same step."""
    order = []

    class Watch(TrainingCallback):
        def on_step(self, step):
            if self.training.steps == 20:
                state = [evaluation.steps for evaluation in self.training.history.evaluations]
                order.append(("user", state))

    game = cartpole(steps=20, weight_backup="w.h5")
    game.train([Watch()], progress=False, evaluate_every=10, checkpoints=Checkpoints("saved", minutes=0))
    assert order == [("user", [10, 20])]
    resumed = cartpole(steps=30, weight_backup="w.h5")
    resumed.train(progress=False, evaluate_every=10, checkpoints="saved", resume=True)
    assert [evaluation.steps for evaluation in resumed.history.evaluations] == [10, 20, 30]


def test_batches_that_no_callback_hears_of_are_not_called(monkeypatch):
    calls = []

    class Spy(keras.callbacks.CallbackList):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                calls.append(name)
            return super().__getattribute__(name)

    class Counts(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            calls.append("end")

    monkeypatch.setattr(keras.callbacks, "CallbackList", Spy)
    game = cartpole()
    game.train([Counts()], progress=False)
    assert {*calls} == {"on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end", "end"}
    game.train([Heard()], progress=False)
    assert {"on_epoch_begin", "on_epoch_end", "on_train_batch_begin", "on_train_batch_end"} <= {*calls}


def test_keeping_the_best_is_a_callback_too():
    game = cartpole(20, weight_backup="w.h5")
    game.train(KeepBest(100), progress=False)
    assert Path("w_best.h5").exists() and game.best_score == max(one.score for one in game.history.evaluations)
    with pytest.raises(ValueError, match="`evaluate_every`.* Received: 0"):
        KeepBest(0)


class StopsAt(keras.callbacks.Callback):
    """Ends the training with the epoch of that number, as `EarlyStopping` does."""

    def __init__(self, epoch):
        super().__init__()
        self.last = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == self.last


@pytest.mark.parametrize(
    ("budget", "callbacks", "evaluated"),
    [
        ({"steps": 40}, [], [25, 40]),
        ({"steps": 50}, [], [25, 50]),
        ({"steps": 10}, [], [10]),
        ({"episodes": 2}, [], None),
        ({"steps": 40}, [StopsAt(2)], [12]),
    ],
)
def test_the_last_step_is_evaluated_whatever_ends_the_training(budget, callbacks, evaluated):
    game = CartPole(**budget, seed=0, weights=None, weight_backup="w.h5", max_episode_steps=30)
    game.train(callbacks, progress=False, evaluate_every=25)
    steps = [one.steps for one in game.history.evaluations]
    assert steps[-1] == game.agent.steps and len({*steps}) == len(steps)
    assert steps == (evaluated or steps) and game.best_score is not None and Path("w_best.h5").exists()
