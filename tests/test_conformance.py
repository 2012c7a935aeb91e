"""The probes: their values are exact, each mistake has its mark, and we pass them all."""

import gymnasium as gym
import numpy as np
import pytest

from keras_dqn.cli import main
from keras_dqn.conformance import ADAPTERS, GAMMA, PROBES, check, mistakes, print_table, quantiles, verdicts
from keras_dqn.conformance.adapters.csv_files import write_transitions
from keras_dqn.conformance.probes import Coins, Delay, Epsilon, InPlace, Masks, Overestimation, TimeLimit

BY_NAME = {probe.__name__: probe for probe in PROBES}
VALUED = [probe for probe in PROBES if probe.greedy_after is None and probe.bound is None]


def answering(values):
    """A function of observations that returns these Q-values."""
    return lambda states: np.array(values, float)


# ---------------------------------------------------------------- the probes


@pytest.mark.parametrize("probe", PROBES)
def test_the_values_that_a_probe_says_are_exact_solve_its_equations(probe):
    solved = mistakes.q_values(probe, mistakes.steps_of(probe))
    np.testing.assert_allclose(solved, probe.exact_values(), atol=1e-9)


@pytest.mark.parametrize("probe", VALUED)
def test_values_do_not_depend_on_the_number_of_steps(probe):
    """What n-step returns of random actions lead to."""
    np.testing.assert_allclose(mistakes.q_values(probe, mistakes.n_steps(probe)), probe.exact_values(), atol=1e-9)


@pytest.mark.parametrize("probe", PROBES)
def test_a_docstring_says_the_mistake_the_exact_values_and_what_it_makes_of_them(probe):
    lines = probe.__doc__.strip().splitlines()
    assert 5 <= len(lines) <= 8
    for start in ("The mistake: ", "Exact: ", "With "):
        assert any(line.strip().startswith(start) for line in lines), start


@pytest.mark.parametrize("probe", PROBES)
def test_an_environment_plays_its_table(probe):
    """Played at random, the mean return of the first actions is that of the table; observations fit the space."""
    env = gym.make(probe.id)
    state, info = env.reset(seed=0)
    env.action_space.seed(0)
    rewards, ends = [], 0
    for _ in range(1000):
        assert env.observation_space.contains(state)
        action = env.action_space.sample(info.get("action_mask"))
        state, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
        if terminated or truncated:
            ends += 1
            state, info = env.reset()
    steps = mistakes.steps_of(probe)
    length = sum(one.weight for one in steps)
    assert 1000 / ends == pytest.approx(length, rel=0.1)
    mean = sum(one.weight * one.reward for one in steps) / length
    spread = np.sqrt(sum(one.weight * one.reward**2 for one in steps) / length)
    assert np.mean(rewards) == pytest.approx(mean, abs=0.15 * spread)


def test_one_array_is_changed_in_place():
    env = gym.make(InPlace.id)
    first, _ = env.reset(seed=0)
    assert env.step(0)[0] is first and first.tolist() == [0, 1]


def test_what_is_forbidden_is_said():
    env = gym.make(Masks.id)
    masks = [env.reset(seed=seed) and env.step(0)[4]["action_mask"].tolist() for seed in range(20)]
    assert [1, 0] in masks and [0, 1] in masks


# ---------------------------------------------------------------- check


@pytest.mark.parametrize("probe", VALUED)
def test_exact_values_pass_and_those_of_each_mistake_name_it(probe):
    assert check(answering(probe.exact_values()), probe).passed
    marks = mistakes.marks_of(probe)
    assert marks
    for mistake, values in marks.items():
        verdict = check(answering(np.nan_to_num(values)), probe)
        assert not verdict.passed
        same = [one for one, others in marks.items() if probe.distance(others, np.nan_to_num(values)) < 1e-6]
        assert verdict.mistake in same and mistake in same, str(verdict)


def test_a_mistake_of_its_own_kind_has_no_name():
    verdict = check(answering([[0.4, 0.4], [-3, -3]]), Delay)
    assert not verdict.passed and verdict.mistake is None
    assert str(verdict).endswith("expected 1.00 in (0, 1) for action 0, received -3.00: no known mistake")


def test_the_marks_that_the_issue_is_about():
    verdict = check(answering([[2.8, 2.8]]), TimeLimit)
    assert str(verdict) == (
        "TimeLimit       expected 5.00 in (1, 0) for action 0, received 2.80: the mark of: "
        "a time limit is taught as the end"
    )


def test_overestimation_is_judged_by_a_bound():
    assert check(answering(np.full((8, 8), 0.25)), Overestimation).passed
    assert check(answering(np.full((8, 8), -2.0)), Overestimation).passed
    assert not check(answering(np.full((8, 8), 0.34)), Overestimation).passed


def actions(falling, after):
    return [0, 1] * 250 + falling + after


@pytest.mark.parametrize(
    ("seen", "mistake"),
    [
        (actions([1] * 62 + [0] * 438, [0] * 1000), "passed"),
        (actions([0, 1] * 250, [0, 1] * 500), "epsilon does not fall"),
        (actions([1] * 62 + [0] * 438, [0] * 900 + [1] * 100), "epsilon stays above 0"),
        (actions([1] * 100 + [0] * 400, [1] * 20 + [0] * 980), "epsilon falls late"),
        (actions([0] * 500, [0] * 1000), "epsilon falls early"),
        (actions([1] * 62 + [0] * 438, []), None),
    ],
)
def test_actions_are_judged_and_forgotten(seen, mistake):
    Epsilon.seen[:] = seen
    verdict = check(answering([[1, -1]]), Epsilon)
    assert verdict.mistake == (None if mistake == "passed" else mistake) and verdict.passed == (mistake == "passed")
    assert not Epsilon.seen


def exact_quantiles(count):
    """Those of `Coins`, [2, 2, count]."""
    return np.array(
        [
            [quantiles(sorted(coin), [coin[value] for value in sorted(coin)], count) for coin in row]
            for row in Coins.distributions.values()
        ]
    )


def test_distributions_are_judged_where_there_are_some():
    exact = exact_quantiles(100)
    assert check(answering(exact), Coins).passed
    assert check(answering(exact[..., ::-1]), Coins).passed  # in any order
    only_means = np.repeat(Coins.exact_values()[..., None], 100, axis=-1)
    verdict = check(answering(only_means), Coins)
    assert not verdict.passed and verdict.mistake == "only the mean is learned"
    assert check(answering(Coins.exact_values()), Coins).passed  # of values alone nothing more is asked
    wide = Coins.exact_values()[..., None] + 3 * (exact - exact.mean(-1, keepdims=True))
    assert not check(answering(wide), Coins).passed


def test_quantiles_of_probabilities():
    assert quantiles([0, 1, 5], [0.5, 0.25, 0.25], 8).tolist() == [0, 0, 0, 0, 1, 1, 5, 5]


@pytest.mark.parametrize("values", [[[1.0]], [[np.nan, 0.0]], [[1.0, 2.0], [3.0, 4.0]]])
def test_what_are_no_q_values_is_refused(values):
    with pytest.raises(ValueError, match="TimeLimit asks for finite Q-values of the shape"):
        check(answering(values), TimeLimit)


# ---------------------------------------------------------------- implementations


@pytest.mark.parametrize("name", BY_NAME)
def test_we_pass(name):
    (verdict,) = verdicts("keras_dqn", probes=[name])
    assert verdict.passed, str(verdict)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(BY_NAME) - {"Overestimation"}))
def test_we_pass_with_returns_of_three_steps(name):
    (verdict,) = verdicts("keras_dqn-3-steps", probes=[name])
    assert verdict.passed, str(verdict)


def test_the_command_says_what_fails_and_how_many(capsys):
    assert main(["conformance", "keras_dqn", "--probe", "ShortEpisodes"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("keras_dqn: keras_dqn ") and printed[1:] == ["ShortEpisodes   passed", "0 of 1 fail"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no_such"], "There is no implementation of that name"),
        (["keras_dqn", "--probe", "Timelimit"], "TimeLimit"),
        (["cleanrl-pqn"], "needs --path, a checkout of github.com/vwxyzjn/cleanrl"),
    ],
)
def test_what_the_command_refuses(arguments, said, capsys):
    assert main(["conformance", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_documented_deviation_is_told_and_is_no_failure(capsys, tmp_path, monkeypatch):
    """A file of Q-values as an implementation in another language would write it, with the values of a Huber loss."""
    monkeypatch.setitem(ADAPTERS["csv"].documented, "Coins", "a Huber loss")
    (tmp_path / "Coins.q.csv").write_text("1,0,0,0.27\n0,1,0.33,0.33\n")
    (tmp_path / "TimeLimit.q.csv").write_text("1,0,2.78,2.78\n")
    assert print_table("csv", tmp_path, probes=["Coins", "TimeLimit"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("the mark of: a time limit is taught as the end")
    assert lines[2].endswith(f"the mark of: {mistakes.CLIPPED}; documented: a Huber loss")
    assert lines[-1] == "1 of 2 fail"


# ---------------------------------------------------------------- other languages


def test_transitions_are_written_as_they_happened(tmp_path):
    write_transitions(BY_NAME["LastObservation"], tmp_path / "steps.csv")
    rows = np.genfromtxt(tmp_path / "steps.csv", delimiter=",", names=True)
    names = "state_0 state_1 action reward next_state_0 next_state_1 terminated truncated"
    assert rows.dtype.names == tuple(names.split()) and len(rows) == BY_NAME["LastObservation"].steps
    from_a = rows["state_0"] == 1
    assert rows["truncated"][from_a].all() and (rows["next_state_1"][from_a] == 1).all()
    assert rows["terminated"][~from_a].all() and (rows["reward"][~from_a] == 5).all()


def test_q_learning_of_the_written_transitions_passes(tmp_path):
    """As another language would: a table, learned from the file alone."""
    with pytest.raises(FileNotFoundError, match=r"Learn from .*Delay.csv and write"):
        list(verdicts("csv", tmp_path, probes=["Delay"]))
    rows = np.loadtxt(tmp_path / "Delay.csv", delimiter=",", skiprows=1)
    table = {}
    for _ in range(20):
        for *state, action, reward, next_a, next_b, terminated, _truncated in rows.tolist():
            following = table.setdefault((next_a, next_b), [0.0, 0.0])
            target = reward + (0.0 if terminated else GAMMA * max(following))
            own = table.setdefault(tuple(state), [0.0, 0.0])
            own[int(action)] += 0.5 * (target - own[int(action)])
    text = "\n".join(",".join(map(str, [*state, *values])) for state, values in table.items())
    (tmp_path / "Delay.q.csv").write_text(text)
    (verdict,) = verdicts("csv", tmp_path, probes=["Delay"])
    assert verdict.passed
