from itertools import product

import pytest

from detectors.mode import MAY_EXECUTE, MODES, Mode, mode


def test_every_combination_has_its_mode():
    assert set(MODES) == set(product((True, False), repeat=3))
    assert set(MAY_EXECUTE) == set(Mode)


def test_all_well_is_normal_and_one_failure_of_the_outside_is_degraded():
    assert mode(redis_ok=True, sends_ok=True, polls_ok=True) is Mode.NORMAL
    assert mode(redis_ok=True, sends_ok=False, polls_ok=True) is Mode.DEGRADED
    assert mode(redis_ok=True, sends_ok=True, polls_ok=False) is Mode.DEGRADED


@pytest.mark.parametrize(("sends", "polls"), [*product((True, False), repeat=2)])
def test_without_redis_nothing_executes(sends, polls):
    assert not MAY_EXECUTE[mode(redis_ok=False, sends_ok=sends, polls_ok=polls)]
