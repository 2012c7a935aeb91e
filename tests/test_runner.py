"""The loop, evaluation and the runner, on environments whose every number is known and on the real ones."""

from pathlib import Path

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from keras_dqn import Agent, CartPole, Evaluation, WeightFileError, evaluate, interact, load_weights, save_weights
from keras_dqn.backend import keras
from keras_dqn.core.networks.mlp import mlp
from keras_dqn.environments.vector import make_env, make_vector_env
from keras_dqn.show.plots import mean_interval
from keras_dqn.training.runner import Runner
from tests.environments import Counter


def counting_agent(**options):
    return Agent(2, 2, **{"weight_backup": None, "seed": 0, **options})


def take(loop, steps):
    """What the loop yields until that many environment steps are made."""
    happened = []
    for step in loop:
        happened.append(step)
        if step.steps >= steps:
            return happened


# ---------------------------------------------------------------- the loop


def test_every_transition_is_remembered_as_it_was():
    agent = counting_agent()
    take(interact(agent, Counter((3, -2))), 8)
    stored = agent.memory.contents()
    assert stored.state.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 0], [2, 1], [2, 2]]
    # The final observation is the episode's own, truncated or terminated, never the next one's first.
    assert stored.next_state.tolist() == [[0, 1], [0, 2], [0, 3], [1, 1], [1, 2], [2, 1], [2, 2], [2, 3]]
    assert stored.reward.tolist() == [1, 2, 3, 11, 12, 21, 22, 23]
    # Termination stops the bootstrap, truncation does not.
    np.testing.assert_allclose(stored.discount, [0.95, 0.95, 0, 0.95, 0.95, 0.95, 0.95, 0])


def test_scores_and_lengths_are_right():
    happened = take(interact(counting_agent(), Counter((3, -2, 1))), 9)
    episodes = [episode for step in happened for episode in step.episodes]
    assert [(episode.score, episode.length) for episode in episodes] == [(6, 3), (23, 2), (21, 1), (96, 3)]
    assert [len(step.episodes) for step in happened if step.episodes] == [1, 1, 1, 1]


@pytest.mark.parametrize("num_envs", [2, 3])
def test_many_environments_give_the_transitions_of_each(num_envs):
    lengths = [(3, -2), (1, -1), (-5,)]
    envs = SyncVectorEnv([lambda i=i: Counter(lengths[i]) for i in range(num_envs)])
    agent, rounds, step = counting_agent(memory_size=200), [], envs.step
    envs.step = lambda actions: rounds.append(actions) or step(actions)
    happened = take(interact(agent, envs), 60)
    stored = agent.memory.contents()
    got = sorted(zip(stored.state.tolist(), stored.next_state.tolist(), stored.reward, stored.discount, strict=True))
    expected = []
    for i in range(num_envs):  # each alone, as many rounds, a reset taking a round
        env = Counter(lengths[i])
        state, _ = env.reset()
        over = False
        for _ in rounds:
            if over:
                state, over = env.reset()[0], False
                continue
            next_state, reward, terminated, truncated, _ = env.step(0)
            expected.append((state.tolist(), next_state.tolist(), reward, np.float32(0 if terminated else 0.95)))
            state, over = next_state, terminated or truncated
    assert got == sorted(expected)
    assert happened[-1].steps == len(expected)


def test_the_vectorised_cartpole_counts_as_the_single_one_does():
    envs = make_vector_env("CartPole-v1", 4)
    agent = Agent(4, 2, weight_backup=None, seed=0, memory_size=5000)
    happened = take(interact(agent, envs, seed=0), 1000)
    for step in happened:
        for episode in step.episodes:
            assert episode.score == episode.length  # +1 a step, the rounds that only reset not counted
    assert np.all(agent.memory.contents().reward == 1)


def test_truncation_at_the_time_limit_of_cartpole_bootstraps():
    agent = CartPole(1, weights=None, weight_backup=None, seed=0).agent
    agent.act_batch = lambda states: (states @ [0.0, 0.3, 3.0, 1.0] > 0).astype(int)  # balances
    happened = take(interact(agent, make_env("CartPole-v1"), seed=0), 500)
    assert happened[-1].episodes[0].score == 500
    np.testing.assert_allclose(agent.memory.contents().discount, 0.95)


def test_replays_once_an_episode_or_every_n_steps():
    for replay_every, expected in [("episode", [3, 5, 8, 10]), (4, [4, 8]), (1, list(range(1, 11))), (3, [3, 6, 9])]:
        agent, replays = counting_agent(), []
        agent.replay = lambda agent=agent, replays=replays: replays.append(len(agent.memory))
        take(interact(agent, Counter((3, -2)), replay_every), 10)
        assert replays == expected
    agent = counting_agent()
    agent.replay = None  # would raise
    take(interact(agent, Counter(), learn=False), 10)


def test_replays_several_times_where_many_environments_earn_it():
    agent, replays = counting_agent(), []
    agent.replay = lambda: replays.append(len(agent.memory))
    envs = SyncVectorEnv([lambda: Counter((-50,)) for _ in range(6)])
    take(interact(agent, envs, replay_every=4), 12)
    assert replays == [6, 12, 12]


def test_losses_belong_to_the_episode_they_were_made_in():
    agent, losses = counting_agent(), iter([[1, 3], [10], None, [5]])

    def replay():
        loss = next(losses)
        return None if loss is None else np.array(loss, np.float32)

    agent.replay = replay
    happened = take(interact(agent, Counter((2,))), 8)
    episodes = [episode for step in happened for episode in step.episodes]
    np.testing.assert_equal([episode.loss for episode in episodes], [2, 10, np.nan, 5])


def test_a_learning_rate_that_follows_a_schedule_is_not_changed():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9)
    cartpole = CartPole(1, weights=None, weight_backup=None, optimizer=lambda: keras.optimizers.Adam(schedule))
    with pytest.raises(ValueError, match="`learning_rate` follows the schedule of the optimizer. Received: 0.5"):
        cartpole.train(progress=False, learning_rate=0.5)


def test_refuses_vector_environments_it_would_misread():
    same_step = SyncVectorEnv([Counter], autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="NEXT_STEP. Received: AutoresetMode.SAME_STEP"):
        next(interact(counting_agent(), same_step))
    with pytest.raises(ValueError, match="`replay_every`.* Received: 0"):
        next(interact(counting_agent(), Counter(), replay_every=0))


class Broken(Counter):
    """Gives a state or reward that is no number after five steps."""

    def __init__(self, state=1.0, reward=1.0):
        super().__init__((100,))
        self.trouble = state, reward

    def step(self, action):
        state, reward, *rest = super().step(action)
        factors = self.trouble if self.steps == 5 else (1, 1)
        with np.errstate(invalid="ignore"):  # 0 times infinity is meant
            return (state * np.float32(factors[0]), reward * factors[1], *rest)


@pytest.mark.parametrize("trouble", [{"state": np.nan}, {"state": np.inf}, {"reward": np.nan}, {"reward": -np.inf}])
def test_a_number_that_is_none_is_found_before_it_is_stored(trouble):
    agent = counting_agent()
    with pytest.raises(ValueError, match=r"(`next_state` must hold|`reward` must be) finite.* Received: "):
        take(interact(agent, Broken(**trouble)), 10)
    assert len(agent.memory) == 4


# ---------------------------------------------------------------- evaluation


def test_evaluation_plays_each_seed_once_and_changes_nothing():
    agent, made = counting_agent(), []

    def make():
        made.append(Counter((2, 99)))
        return made[-1]

    result = evaluate(agent, make, episodes=3, seed=7)
    assert [env.seeds for env in made] == [[7], [8], [9]]
    assert result.scores.tolist() == [3, 3, 3] and result.lengths.tolist() == [2, 2, 2]
    assert len(agent.memory) == 0


def test_evaluation_is_repeatable_and_draws_nothing_from_the_agent():
    agent, same = (Agent(4, 2, weight_backup=None, seed=0) for _ in range(2))
    results = [evaluate(agent, lambda: make_env("CartPole-v1"), 5, epsilon=0.5).scores.tolist() for _ in range(2)]
    assert results[0] == results[1]
    assert [agent.act(np.zeros(4)) for _ in range(30)] == [same.act(np.zeros(4)) for _ in range(30)]


def test_evaluation_equals_single_episodes():
    agent = Agent(4, 2, weight_backup=None, seed=3)
    together = evaluate(agent, lambda: make_env("CartPole-v1"), episodes=4, seed=50).scores
    for seed, score in zip(range(50, 54), together, strict=True):
        env = make_env("CartPole-v1")
        state, _ = env.reset(seed=seed)
        total, over = 0, False
        while not over:
            state, reward, terminated, truncated, _ = env.step(agent.act(state, epsilon=0))
            total, over = total + reward, terminated or truncated
        assert total == score


def test_statistics():
    result = Evaluation(np.array([1.0, 2.0, 3.0, 6.0]), np.ones(4, int))
    assert (result.mean, result.min, result.max) == (3, 1, 6)
    assert result.std == pytest.approx(np.sqrt(14 / 3))
    # t of 3 degrees of freedom at 97.5 %: 3.182446
    half = 3.182446 * np.sqrt(14 / 3) / 2
    assert result.interval == pytest.approx((3 - half, 3 + half))
    assert str(result) == repr(result) == "mean 3.00, std 2.16, min 1, max 6, 4 episodes", "no interval of so few"
    assert mean_interval([5.0, 5.0]) == (5, 5)
    assert np.isnan(mean_interval([5.0])).all()


# ---------------------------------------------------------------- the runner


def test_the_four_lines_of_the_notebook(capsys):
    cartpole = CartPole(12, seed=0)
    history = cartpole.train(verbose=True)
    score = cartpole.run(0.0)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Backup weights for model not found"
    assert out[1:13] == [f"Episode {i}# Score: {episode.score:g}" for i, episode in enumerate(history)]
    assert out[13:] == [f"Cumulative reward: {score:g}", "Video: videos/cartpole.mp4"]
    assert len(history) == len(history.scores) == 12
    assert np.all(history.scores == history.lengths)
    assert np.all(np.diff(history.times) > 0)
    assert history.epsilons[0] == 1.0 and history.epsilons[-1] < 1.0
    again = CartPole(12)
    np.testing.assert_array_equal(again.agent.learner.read_weights(), cartpole.agent.learner.read_weights())


def test_the_bar_shows_score_mean_and_epsilon(capsys):
    CartPole(3, seed=0, weights=None).train()
    bar = capsys.readouterr().err
    assert "3/3" in bar and "score=" in bar and "mean of 3=" in bar and "epsilon=" in bar
    CartPole(steps=100, seed=0, weights=None).train()
    assert "100/100" in capsys.readouterr().err, "the steps of the last episode too, which is not over"


def fast(steps=60, **options):
    """A training that is over at once: nothing of it is compiled."""
    return CartPole(10**6, recipe="fast", steps=steps, **{"weights": None, "seed": 0, "memory_size": 200, **options})


def test_same_seed_same_bits():
    def bits(seed):
        cartpole = fast(200, weight_backup=None, seed=seed)
        history = cartpole.train(progress=False)
        return history.scores.tolist(), cartpole.agent.learner.read_weights().tobytes()

    assert bits(1) == bits(1)
    assert bits(1) != bits(2)


def test_training_again_explores_again():
    cartpole = CartPole(10, weights=None, seed=0)
    cartpole.train(progress=False)
    assert cartpole.agent.exploration_rate < 1
    assert cartpole.train(progress=False).epsilons[0] == 1.0


def test_several_environments_train_too():
    history = CartPole(20, weights=None, seed=0, num_envs=8).train(progress=False)
    assert len(history) == 20 and np.all(history.scores == history.lengths)


def test_weights_of_a_training_before_are_not_lost(capsys):
    fast(200).train(progress=False, evaluate_every=150)
    before, best = (Path(f"cartpole_fast_weight{name}.h5").read_bytes() for name in ("", "_best"))
    cartpole = fast(200, seed=1)
    cartpole.train(progress=False)
    out = capsys.readouterr().out
    assert out == "The weights in cartpole_fast_weight.h5 are kept as cartpole_fast_weight_before.h5\n"
    cartpole.train(progress=False, evaluate_every=150)  # what it replaces is its own, but for the best
    out = capsys.readouterr().out
    assert out == "The weights in cartpole_fast_weight_best.h5 are kept as cartpole_fast_weight_best_before.h5\n"
    cartpole.train(progress=False, evaluate_every=150)
    assert capsys.readouterr().out == ""
    second = Path("cartpole_fast_weight.h5").read_bytes()
    fast(200, weights="backup", seed=2).train(progress=False)  # begins with it and, as the notebook does, explores anew
    assert "are kept as cartpole_fast_weight_before_2.h5" in capsys.readouterr().out
    for name, content in [("_before", before), ("_best_before", best), ("_before_2", second)]:
        assert Path(f"cartpole_fast_weight{name}.h5").read_bytes() == content
    Path("cartpole_fast_weight.h5").write_bytes(before)
    fast(200, seed=2).train(progress=False)
    assert "kept as" not in capsys.readouterr().out, "the same bytes are there"


def test_films_every_nth_episode():
    CartPole(5, weights=None, seed=0).train(progress=False, record_every=2)
    names = sorted(path.name for path in Path("videos").iterdir())
    assert names == [f"cartpole_episode_{i}.mp4" for i in (0, 2, 4)]


def test_a_broken_recorder_does_not_stop_training():
    with open("videos", "w") as file:
        file.write("a file where the folder should be")
    with pytest.warns(RuntimeWarning) as warned:
        history = CartPole(5, weights=None, seed=0).train(progress=False, record_every=1)
    assert len(history) == 5
    assert len([w for w in warned if "Not filming" in str(w.message)]) == 1


def test_run_goes_on_without_a_film(capsys):
    with open("videos", "w") as file:
        file.write("")
    with pytest.warns(RuntimeWarning, match="Not filming"):
        score = CartPole(1, weights=None, seed=0).run(1.0)
    assert capsys.readouterr().out == f"Cumulative reward: {score:g}\n"


def test_the_best_weights_are_kept_apart(monkeypatch):
    kept = []

    def fake_evaluation(self, seed, **_):
        assert seed == 1_000_000
        kept.append(self.agent.learner.read_weights())
        score = [10.0, 30.0, 20.0][min(len(kept), 3) - 1]
        return Evaluation(np.full(2, score), np.ones(2, int))

    monkeypatch.setattr(Runner, "evaluate", fake_evaluation)
    cartpole = CartPole(30, weights=None, seed=0)
    history = cartpole.train(progress=False, evaluate_every=100)
    assert len(kept) == -(-history.lengths.sum() // 100) > 2  # the last step's too
    assert cartpole.best_score == 30
    best, last = mlp(4, 2), mlp(4, 2)
    load_weights(best, "cartpole_weight_best.h5")
    load_weights(last, "cartpole_weight.h5")
    np.testing.assert_array_equal(np.concatenate([w.ravel() for w in best.get_weights()]), kept[1])
    last_weights = np.concatenate([w.ravel() for w in last.get_weights()])
    np.testing.assert_array_equal(last_weights, cartpole.agent.learner.read_weights())
    assert not np.array_equal(last_weights, kept[1])


def test_training_ends_when_an_evaluation_is_good_enough():
    history = CartPole(500, weights=None, seed=0).train(progress=False, evaluate_every=300, stop_score=1)
    assert 0 < history.lengths.sum() <= 300


def test_the_history_has_every_loss_and_every_evaluation():
    history = CartPole(20, weights=None, seed=0).train(progress=False, evaluate_every=150)
    assert history.update_losses.dtype == np.float32 and len(history.update_losses) == 20 * 32
    last = history.update_losses[-32:]  # of the replay at the last episode's end
    assert history.losses[-1] == pytest.approx(last.mean())
    steps = [evaluation.steps for evaluation in history.evaluations]
    assert steps == [*range(150, history.lengths.sum(), 150), history.lengths.sum()]
    assert all(evaluation.score > 0 and evaluation.seconds > 0 for evaluation in history.evaluations)


def test_steps_may_be_counted_instead_of_episodes(capsys):
    cartpole = CartPole(1, weights=None, seed=0, steps=250)
    history = cartpole.train()
    assert cartpole.agent.steps == 250 and 250 - 50 < history.lengths.sum() <= 250 and len(history) > 1
    assert "/250 " in capsys.readouterr().err
    cartpole = CartPole(weights=None, seed=0, steps=50, num_envs=8)
    cartpole.train(progress=False)
    assert 50 <= cartpole.agent.steps < 58


def test_a_number_that_is_none_still_leaves_weights_and_history(monkeypatch):
    cartpole = CartPole(20, weights=None, seed=0)
    update = cartpole.agent.learner.update

    def breaks(batches):
        if cartpole.agent.learner.updates >= 64:
            batches.reward[:] = np.nan
        return update(batches)

    cartpole.agent.learner.update = breaks
    with pytest.raises(FloatingPointError):
        cartpole.train(progress=False)
    assert len(cartpole.history) > 0
    brain = mlp(4, 2)
    load_weights(brain, "cartpole_weight.h5")  # finite, or this would raise
    np.testing.assert_array_equal(brain.get_weights()[0], cartpole.agent.brain.get_weights()[0])


# ---------------------------------------------------------------- what it refuses


class Continuous(Runner):
    name, environment, recipes = "pendulum", "Pendulum-v1", {"juvin": {}}


class Unknown(Runner):
    name, environment, recipes = "cartpole", "CartPole-v99x", {"juvin": {}}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CartPole(0), "`episodes`.* Received: 0"),
        (lambda: CartPole(2.5), "`episodes`.* Received: 2.5"),
        (lambda: CartPole(recipe="juvain"), r"`recipe` must be one of \['juvin'.*\]. Received: 'juvain'"),
        (lambda: CartPole(steps=0), "`steps`.* Received: 0"),
        (lambda: CartPole(num_envs=0), "`num_envs`.* Received: 0"),
        (lambda: CartPole(seed=-3), "`seed`.* Received: -3"),
        (lambda: CartPole(1).run(epsilon=2), "`epsilon`.* Received: 2"),
        (lambda: CartPole(1).evaluate(0), "`episodes`.* Received: 0"),
        (lambda: CartPole(1).train(record_every=0), "`record_every`.* Received: 0"),
        (lambda: CartPole(1).train(evaluate_every=0), "`evaluate_every`.* Received: 0"),
        (lambda: CartPole(1).train(stop_score=500), "`stop_score` needs `evaluate_every`. Received: stop_score=500"),
        (lambda: CartPole(1, num_envs=2).train(record_every=1), "`record_every`.* Received: num_envs=2"),
        (lambda: Continuous(), r"discrete actions.* Received: Box"),
        (lambda: Unknown(), "nearest is CartPole-v1. Received: CartPole-v99x"),
    ],
)
def test_refuses_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unwritable_backup_is_found_before_training():
    cartpole = CartPole(5, weight_backup="no/such/folder/w.h5", weights=None)
    with pytest.raises(FileNotFoundError, match="no/such/folder/w.h5"):
        cartpole.train()
    assert len(cartpole.agent.memory) == 0


@pytest.mark.parametrize("weights", ["missing.h5", ".", "text.h5"])
def test_weights_that_are_none_are_named(weights):
    with open("text.h5", "w") as file:
        file.write("not HDF5")
    with pytest.raises(WeightFileError, match=weights):
        CartPole(weights=weights)


def test_weights_of_another_network_are_refused():
    save_weights(mlp(4, 2, (24, 25)), "other.h5")
    with pytest.raises(WeightFileError, match=r"other.h5.*shape \(24, 24\).* Received: \(24, 25\)"):
        CartPole(weights="other.h5", network={"hidden": (24, 24)})  # what was asked for, and not what the file brings
