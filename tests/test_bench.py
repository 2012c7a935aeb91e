"""That the benchmark measures what it says; how fast anything is, is for `python -m keras_dqn bench` to tell."""

import re
from pathlib import Path

from keras_dqn import bench
from keras_dqn.experiment import peers
from keras_dqn.pytorch.tutorial import seconds_a_step


def test_a_measurement_is_a_row_of_the_table(capsys):
    bench.main(repeats=1, measurements=[bench.updates, bench.fast_recipe])
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Python 3\.\S+, TensorFlow .*, \d+ CPU cores; medians of 1 runs", lines[0])
    assert lines[2:4] == ["| measured | result |", "| --- | --- |"]
    names = [re.fullmatch(r"\| (.*) \| [\d,]+ (/s|steps/s) \|", line)[1] for line in lines[4:]]
    assert len(names) == 7
    assert names[2] == "updates of 64 transitions, 64-64, K=128 a call"


def test_what_is_around_learning_is_measured_in_cpu_time():
    rows = dict([*bench.first_update(1), *bench.evaluation(1), *bench.cleanrl_settings(1, steps=100)])
    assert len(rows) == 6
    for name, result in rows.items():
        number, unit = re.fullmatch(r"(\d+\.?\d*) (CPU s|CPU µs a step)", result).groups()
        assert (unit == "CPU s") == ("evaluation" in name or "first" in name)
        assert float(number) > 0


def test_the_memory_of_frames_is_held_against_its_formula():
    (stored, grown), (_, formula) = bench.frame_memory(repeats=1, steps=8000)
    assert re.fullmatch(r"the process grows with 7,9\d\d stored steps by", stored)
    assert re.fullmatch(r"0\.0[5-9] GB", grown) and re.match(r"0\.06 GB; the process grows by \d\.\d\d times", formula)


def test_the_time_of_a_breakout_training_is_shared_out():
    rows = list(bench.breakout(repeats=1, replays=2, num_envs=8, rollout=128, replay_every=128))
    for recipe, (speed, *shares, kept) in (("nature", rows[:6]), ("parallel", rows[6:12])):
        assert speed[0] == f"Breakout `{recipe}`, float32"
        assert re.fullmatch(r"[\d,]+ steps/s, \d+ updates/s", speed[1])
        assert [name for name, _ in shares] == [
            f"share of {part}" for part in ("emulation", "acting", "sampling", "updating")
        ]
        percent = [int(share.removesuffix("%")) for _, share in [*shares, kept]]
        assert sum(percent[:4]) <= 102 and max(percent[:4]) == percent[3], "each rounded, updating is the most"
        assert percent[4] > 0
    assert re.fullmatch(r"\d+\.\d times the steps/s", rows[12][1])


def test_the_tutorials_loop_runs():
    assert 0 < seconds_a_step(1, steps=3) < 10


def test_ours_is_measured_until_it_is_solved_and_leaves_nothing_behind(capsys):
    steps, seconds, score = peers._ours_solved(0)
    assert steps % 500 == 0 and 0 < steps < peers.LAST_STEP and seconds > 0 and score >= 475
    assert capsys.readouterr().out == "" and not list(Path.cwd().iterdir())


def test_peers_that_are_not_installed_are_named_with_what_installs_them(monkeypatch):
    monkeypatch.setattr(peers, "_has", lambda package: False)
    monkeypatch.setattr(peers, "_ours_solved", lambda seed: (1000 * (1 + seed), 2.0, 480.0))
    assert list(peers.to_solved(3)) == [
        ("CartPole to 475, `fast`", "2,000 steps, 2.0 CPU s; 3 of 3 reached it"),
        ("the same, Stable-Baselines3 with its zoo's settings", "not measured: pip install stable-baselines3 torch"),
    ]
    (ours, measured), (theirs, missing) = peers.tutorial(1, steps=2)
    assert ours == "CartPole `pytorch`, ours" and re.fullmatch(r"[\d,]+ CPU µs a step", measured)
    assert theirs.startswith("the same") and missing == "not measured: pip install stable-baselines3 torch"


def test_stable_baselines_is_measured():
    rows = list(peers.zoo_settings(1, steps=256))
    assert len(rows) == 2
    assert all(re.fullmatch(r"[\d,]+ CPU µs a step", result) for _, result in rows)
