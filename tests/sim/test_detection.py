"""A fixed slice of bench/detection.py: what goes wrong is found in time, and healthy hours stay silent.

The whole table is `python -m bench.detection`; here are some of its services and seeds, so that a rule that
breaks is seen at once.
"""

from itertools import islice

import numpy as np
import pytest

from bench.detection import OURS, POLICY, WARM_S, noticed, warm
from bench.peer import Peer
from bench.simulated import touches
from bench.simulated.faults import FAULTS, service_for
from bench.simulated.traffic import Change, Service, Traffic, after, between
from bench.simulated.weather import BY_NAME
from detectors.verdict import ServiceState, judge, should_open
from detectors.window import Missed, Tick, merge
from sdk import histogram

HOURS = 720  # ticks
WITHIN_S = {
    "errors 50 %": 15,
    "errors 5 %": 120,
    "latency × 5": 60,
    "10 % hang": 130,  # of a service where 2 s are usual: five are not five times that
    "traffic to zero": 30,
    "one route of several fails": 60,
    "retry storm": 30,
    "unreachable": 15,
}


def opened(looks):
    """Return when, in hours, a service that nothing is known of would open an incident, and by which rule."""
    state, found = ServiceState.fresh(POLICY), []
    for look in looks:
        state, verdict = judge(state, look.seen, POLICY, open_incident=bool(found))
        if not found and should_open(verdict):
            found.append((round(look.at_s / 3600, 2), verdict.alarms[0].rule))
    return found


@pytest.mark.slow
@pytest.mark.xdist_group("detection")
@pytest.mark.parametrize("seed", [3, 12])
def test_what_goes_wrong_is_found_in_time(seed):
    one = {name: fault for fault in FAULTS if (name := fault.name) in WITHIN_S}
    watched = {}
    for name, within_s in WITHIN_S.items():
        fault = one[name]
        if fault.low not in watched:
            watched[fault.low] = warm(service_for(fault, seed, WARM_S), [seed, 0])
        found = noticed(fault, watched[fault.low], seed)
        assert found.after_s[OURS] <= within_s, name
        assert found.rang, name


@pytest.mark.slow
@pytest.mark.xdist_group("detection")
@pytest.mark.parametrize(
    ("kind", "seed"),
    [("two kinds of requests", 1), ("heavy tail", 0), ("bursts", 0), ("restarts, missed polls", 2)],
)
def test_two_healthy_hours_of_a_new_service_open_nothing(kind, seed):
    assert opened(islice(BY_NAME[kind].day(seed), 2 * HOURS)) == []


def test_the_same_seed_is_the_same_traffic():
    first, again = (list(islice(BY_NAME["bursts"].day(7), 30)) for _ in range(2))
    assert [look.seen for look in first] == [look.seen for look in again]
    assert first[0].seen != next(BY_NAME["bursts"].day(8)).seen


def test_the_counts_of_a_tick_are_those_of_its_requests():
    service = Service(rps=5, failing=0.2, routes=((0.5, 1.0), (0.5, 3.0)))
    for look in Traffic(service, np.random.default_rng(1)).play(100):
        seen = look.seen
        assert isinstance(seen, Tick)
        assert (seen.n, seen.errors) == (len(look.latencies_s), sum(look.failed))
        assert seen.hist == histogram.of(round(s * 1e9) for s in look.latencies_s.tolist())
        assert histogram.merge(*(part.hist for part in seen.routes)) == seen.hist
        assert sum(part.errors for part in seen.routes) == seen.errors


def test_what_hangs_is_in_flight_and_as_old_as_it_is():
    hang = Change(between(50, 60), touch=touches.hanging(1.0))
    looks = list(Traffic(Service(rps=4, changes=(hang,)), np.random.default_rng(2)).play(200))
    ended = sum(look.seen.n for look in looks)
    last = looks[-1].seen
    assert 20 < last.inflight < 60
    assert 139_000 <= last.oldest_ms <= 150_000
    assert 500 < ended < 1_000
    assert looks[9].seen.inflight <= 2


def test_a_block_of_requests_goes_on_in_the_next():
    whole = Traffic(Service(rps=3, median_s=9.0), np.random.default_rng(3))
    looks = list(whole.play(7_300))
    before, behind = looks[719].seen, looks[720].seen
    assert before.inflight > 10
    assert behind.inflight > 10
    assert behind.oldest_ms > 5_000


def test_a_missed_poll_brings_its_requests_with_the_next():
    plain = Traffic(Service(rps=2), np.random.default_rng(4)).play(3_600)
    looks = list(islice(BY_NAME["restarts, missed polls"].day(3), 6 * HOURS))
    missed = [at for at, look in enumerate(looks) if isinstance(look.seen, Missed)]
    assert missed
    assert all(looks[at + 1].seen.span_ms == 10_000 for at in missed)
    assert merge([look.seen for look in plain]).span_ms == 3_600_000


def test_lost_requests_are_gone_and_slower_ones_are_slower():
    changes = (Change(after(300), touch=touches.both(touches.slower(3), touches.lost(0.5))),)
    looks = list(Traffic(Service(rps=20, sigma=0.1, changes=changes), np.random.default_rng(5)).play(600))
    well, sick = merge([look.seen for look in looks[:60]]), merge([look.seen for look in looks[61:]])
    assert 0.4 < sick.n / sick.span_ms / (well.n / well.span_ms) < 0.6
    assert 2.7 < histogram.quantile(sick.hist, 0.5) / histogram.quantile(well.hist, 0.5) < 3.3


def test_the_peer_judges_by_its_own_code_what_its_middleware_would_have_seen():
    peer, answers = Peer(), []
    changes = (Change(after(60), touch=touches.failing(0.5)),)
    for look in Traffic(Service(rps=20, changes=changes), np.random.default_rng(6)).play(120):
        answers.append(peer.see(look))
    assert not any(answer[rule] for answer in answers[2:12] for rule in ("loop", "ungated"))
    # Half of all failing: its score of 67 is "degraded", and its orchestrator waits for "critical".
    assert answers[-1] == {"loop": False, "ungated": False, "status": True}
    assert not any(Peer().see(look._replace(seen=Missed(0, "refused"))).values())
