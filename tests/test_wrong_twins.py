"""Each mistake is found by the probes that it shows in, by no others, and by its name."""

import pytest

from keras_dqn.conformance import PROBES, check
from tests.wrong_twins import TWINS

pytestmark = pytest.mark.long

BY_CHANCE = {  # the probes that a twin may fail or pass, or get another name in: its values are near others, or noisy
    "clipped_rewards": {"Coins"},  # nearly as with a Huber loss
    "discounted_twice": {"Coins"},
    "end_ignored": {"Overestimation"},
    "last_steps_dropped": {"Epsilon"},  # an untrained network prefers one action or the other
    "n_steps_run_on": {"Float64", "Bytes", "Overestimation"},  # other episodes' rewards, 0 on average
    "reset_steps": {"Coins", "Epsilon"},  # which counts them as steps
}
UNLEARNED = {"last_steps_dropped"}  # mostly nothing is learned, so the values are any


CASES = [(name, probe) for name in TWINS for probe in PROBES if probe.__name__ not in BY_CHANCE.get(name, ())]


@pytest.mark.parametrize(("name", "probe"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_a_twin_fails_the_probes_that_it_lists_and_is_named(name, probe):
    twin, mistake, fails = TWINS[name]
    probe.seen.clear()
    verdict = check(twin(probe), probe)
    assert verdict.passed == (probe.__name__ not in fails), str(verdict)
    if not verdict.passed and name not in UNLEARNED:
        assert verdict.mistake == mistake, str(verdict)
