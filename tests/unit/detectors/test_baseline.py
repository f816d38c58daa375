from detectors.baseline import Baseline, adopt, learn
from detectors.policy import Policy

POLICY = Policy().with_overrides({"baseline_half_life_ms": 3_600_000})


def taught(minutes, n=100, bucket=500, before=None, **kind):
    baseline = before or Baseline()
    for _ in range(minutes * 12):
        baseline = learn(
            baseline,
            span_ms=5_000,
            n=n,
            hist={bucket: n},
            inflight=kind.get("inflight", 2),
            oldest_ms=90,
            policy=POLICY,
        )
    return baseline


def test_it_is_warm_after_half_an_hour_and_enough_requests():
    assert not taught(29).warm
    assert taught(30).warm
    assert not taught(30, n=1).warm
    assert taught(42, n=1).warm


def test_old_minutes_count_less():
    whole = taught(600)
    an_hour = 60 * 12 * 100
    assert an_hour <= sum(whole.hist.values()) <= 2 * an_hour
    assert whole.learned_ms == 600 * 60_000


def test_a_lasting_change_becomes_usual():
    slow = taught(120, bucket=600, before=taught(600))
    assert slow.p95_ns > 5 * taught(600).p95_ns


def test_traffic_is_unknown_for_ten_minutes_and_then_expected_on_the_low_side():
    assert taught(9).expected(60_000) == 0
    assert taught(10).expected(60_000) == 1_200
    fell = taught(60, n=20, before=taught(300))
    assert 200 <= fell.expected(60_000) <= 240


def test_at_most_six_hours_of_minutes_are_kept():
    assert len(taught(400).minutes) == 360


def test_what_is_adopted_is_usual_at_once_unless_it_is_too_little():
    assert adopt({500: 500}, POLICY).warm
    assert not adopt({500: 499}, POLICY).warm
