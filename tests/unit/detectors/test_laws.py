from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.policy import Policy
from detectors.verdict import ServiceState, judge, should_open, suspects
from detectors.window import Gauge, Missed, Part, Tick

POLICY = Policy()
number = st.integers(0, 5_000)
hist = st.dictionaries(st.integers(32, 1_024), number, max_size=4)
parts = st.lists(
    st.builds(Part, st.text(max_size=9), number, number, hist, st.dictionaries(st.text(max_size=4), number)),
    max_size=3,
)
ticks = st.builds(
    Tick,
    at_ms=st.integers(0, 10_000_000),
    span_ms=st.sampled_from([0, 1_000, 5_000, 60_000]),
    n=number,
    errors=number,
    client_errors=number,
    aborted=number,
    hist=hist,
    inflight=number,
    oldest_ms=st.integers(0, 10**8),
    routes=parts.map(tuple),
    dependencies=parts.map(tuple),
    gauges=st.lists(st.builds(Gauge, st.text(max_size=4), number, number), max_size=2).map(tuple),
)
seen = st.one_of(ticks, ticks, ticks, st.builds(Missed, st.integers(0, 10_000_000), st.text(max_size=200)))
polls = st.lists(st.tuples(seen, st.integers(1, 4)), max_size=12)


def watched(polls):
    state, verdicts = ServiceState.fresh(POLICY), []
    for one, times in polls:
        for _ in range(times):
            state, verdict = judge(state, one, POLICY, open_incident=bool(verdicts and verdicts[-1].alarms))
            verdicts.append(verdict)
    return state, verdicts


@settings(max_examples=60, deadline=None)
@given(polls)
def test_whatever_an_app_reports_the_verdict_is_sound(polls):
    state, verdicts = watched(polls)
    for verdict in verdicts:
        assert 0 <= verdict.score <= 100
        assert should_open(verdict) is (not verdict.healthy)
        assert len({alarm.signal for alarm in verdict.alarms}) == len(verdict.alarms)
        for alarm in verdict.alarms:
            assert alarm.evidence_cn >= alarm.threshold_cn
            assert alarm.window_ms == max(alarm.window_ms, 0)
            assert (alarm.headline + alarm.explanation).isprintable()
            assert len(alarm.headline) < 160
    if verdicts:
        assert len(suspects(state, verdicts[-1])) <= 12


@settings(max_examples=60, deadline=None)
@given(polls)
def test_a_state_that_was_stored_and_loaded_is_the_same_state(polls):
    state, _ = watched(polls)
    assert ServiceState.load(state.dump()) == state


@settings(max_examples=30, deadline=None)
@given(st.lists(ticks.map(lambda tick: replace(tick, n=0, gauges=())), max_size=8))
def test_a_service_without_a_single_request_has_no_errors_and_no_latency(idle):
    _, verdicts = watched([(tick, 1) for tick in idle])
    assert not {alarm.signal for verdict in verdicts for alarm in verdict.alarms} & {
        "errors",
        "latency",
        "traffic",
    }
