"""The benchmarks measure what they say, in small; how fast anything is, is for `python -m benchmarks` to tell."""

import re
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.__main__ import table

pytestmark = pytest.mark.peers  # those of Ray are in test_ray.py

BREAKOUT = {"replays": 2, "num_envs": 8, "rollout": 128, "replay_every": 128}
SIZES = {
    "small": {
        "replays": {"samples": 1},
        "recipe_as_written": {"episodes": 2, "sample_batch_size": 1},
        "loops": {"steps": 400},
        "cleanrl_settings": {"steps": 100},
        "pytorch_recipe": {"steps": 20},
        "memory_growth": {"replays": 40},
    },
    "breakout": {
        "recipes": BREAKOUT,
        "recipes_in_bfloat16": {**BREAKOUT, "replays": 1},
        "frame_memory": {"steps": 8000},
    },
    "peers": {"zoo_settings": {"steps": 256}, "tutorial": {"steps": 20}},
}
RESULT = re.compile(
    r"[\d,]+\.?\d* (GB|ms|s|min|times|/s|CPU s|CPU µs a step|times the steps/s)"
    r"|\d\.\d\d|\d+%|(\d+\.\d, ){4}\d+\.\d MiB|[\d.]+ GB; the process grows by \d\.\d\d times that"
    r"|[\d,]+ steps/s(, \d+ updates/s|; ours is \d+\.\d\d times that)?"
    r"|[\d,]+ steps, [\d.]+ CPU s; 1 of 1 reached it"
)


@pytest.mark.parametrize(("part", "count"), [("small", 33), ("breakout", 28), ("peers", 6)])
def test_every_measurement_is_a_row_of_the_table(part, count, capsys):
    table(part, 1, **SIZES[part])
    header, _, *lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Python 3\.\S+, tensorflow .*, \d+ CPU cores; medians of 1 runs", header)
    assert lines[:2] == ["| measured | result |", "| --- | --- |"] and len(lines) == 2 + count
    rows = [re.fullmatch(r"\| (.*) \| (.*) \|", line).groups() for line in lines[2:]]
    assert [row for row in rows if not RESULT.fullmatch(row[1])] == []
    assert list(Path().iterdir()) == []
    if part == "breakout":
        shares = [int(result.removesuffix("%")) for name, result in rows if name.startswith("share of")]
        assert all(sum(shares[i : i + 4]) <= 102 for i in (0, 4, 8, 12))
        stored, _ = rows[-2]
        assert re.fullmatch(r"the process grows with 7,9\d\d stored steps by", stored)


def test_peers_that_are_not_installed_are_named_with_what_installs_them(monkeypatch):
    monkeypatch.setattr(peers, "has", lambda package: False)
    monkeypatch.setattr(peers, "ours_solved", lambda seed: (1000 * (1 + seed), 2.0, 480.0))
    assert list(peers.to_solved(3)) == [
        ("CartPole to 475, `fast`", "2,000 steps, 2.0 CPU s; 3 of 3 reached it"),
        ("the same, Stable-Baselines3 with its zoo's settings", "not measured: pip install stable-baselines3 torch"),
    ]
