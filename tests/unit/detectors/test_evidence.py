import math

from hypothesis import given
from hypothesis import strategies as st

from detectors.evidence import NONE, Z99, bernoulli, poisson_drop, wilson

counts = st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def run(pairs, cap=22.0):
    test = NONE
    for step, (k, n) in enumerate(pairs, start=1):
        test = bernoulli(test, k, n, p0=0.02, p1=0.1, cap=cap, at_ms=step * 5_000, span_ms=5_000)
    return test


@given(st.lists(counts))
def test_evidence_is_never_negative_and_never_above_its_cap(pairs):
    assert 0 <= run(pairs).nats <= 22


@given(st.lists(counts))
def test_uncapped_evidence_is_what_its_counts_say(pairs):
    test = run(pairs, cap=math.inf)
    said = test.k * math.log(5) + (test.n - test.k) * math.log(0.9 / 0.98)
    assert math.isclose(test.nats, said, abs_tol=1e-6)


@given(st.lists(counts))
def test_the_run_counts_no_more_than_was_seen(pairs):
    test = run(pairs)
    assert test.k <= sum(k for k, _ in pairs)
    assert test.k <= test.n <= sum(n for _, n in pairs)


def test_ten_failures_in_a_row_reach_the_threshold_and_nine_do_not():
    assert run([(1, 1)] * 9).nats < 16 <= run([(1, 1)] * 10).nats


def test_a_tick_without_requests_changes_nothing():
    test = run([(5, 10)])
    assert bernoulli(test, 0, 0, p0=0.02, p1=0.1, cap=22, at_ms=99_000, span_ms=5_000) is test


def test_usual_traffic_is_no_evidence_of_a_drop_and_silence_is():
    test = poisson_drop(NONE, 100, 100.0, factor=0.4, cap=22, at_ms=5_000, span_ms=5_000)
    assert test is NONE
    test = poisson_drop(NONE, 0, 30.0, factor=0.4, cap=22, at_ms=5_000, span_ms=5_000)
    assert (test.nats, test.n, test.expected, test.since_ms) == (18.0, 0, 30.0, 0)


@given(counts)
def test_the_interval_holds_the_observed_share(pair):
    k, n = pair
    low, high = wilson(k, n)
    assert 0 <= low <= high <= 1
    if n:
        assert low - 1e-12 <= k / n <= high + 1e-12


@given(counts.filter(lambda pair: pair[1] > 0))
def test_each_end_of_the_interval_is_the_share_that_99_percent_barely_does_not_exclude(pair):
    k, n = pair
    for end in wilson(k, n):
        assert math.isclose(abs(k / n - end), Z99 * math.sqrt(end * (1 - end) / n), abs_tol=1e-6)


def test_the_interval_of_ten_in_a_hundred():
    low, high = wilson(10, 100)
    assert (round(low, 3), round(high, 3)) == (0.046, 0.204)
