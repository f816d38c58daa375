"""Whatever an app answers: figures that can be, or a missed poll that says what is wrong; never a crash.

What is wrong opens an incident by one rule alone: nobody can be asked, or nothing new is told.
"""

import asyncio
import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.policy import Policy
from detectors.verdict import ServiceState, judge
from detectors.window import Missed, Tick
from handlers.adapters import health
from handlers.adapters.health import HttpHealth
from handlers.charter import parse
from handlers.ports import Polled, PortError
from sdk import wire
from tests.rooms import CHARTER as TEXT

NOW_MS = 1_764_000_000_000
SECOND = NOW_MS // 1000
CHARTER = parse(TEXT.replace("{approve}", "1 oncall").replace("{risk}", "low"))


def slot(t: int, **fields: Any) -> dict[str, Any]:
    pay = {"route": "POST /pay", "n": 9, "errors": 1, "hist": [500, 9], "exceptions": {"TimeoutError": 1}}
    call = {"name": "payments", "n": 3, "errors": 0, "hist": [510, 3], "exceptions": {}}
    made = {
        "t": t, "n": 10, "errors": 1, "client_errors": 0, "aborted": 0, "hist": [500, 10], "routes": [pay],
        "dependencies": [call], "streams": [],
    }  # fmt: skip
    return made | fields


def answer(**fields: Any) -> dict[str, Any]:
    made = {
        "schema": wire.SCHEMA, "service": "checkout", "now_ms": NOW_MS, "slot_s": 1, "workers": 2,
        "workers_stale": 0, "inflight": 3, "oldest_ms": 90,
        "saturation": [{"name": "db_pool", "used": 3, "limit": 20}],
        "slots": [slot(SECOND - 3), slot(SECOND - 2)], "faults": [],
    }  # fmt: skip
    return made | fields


class Line(HttpHealth):
    """The adapter as it is, at the end of a line that brings *body*."""

    async def _session(self, charter: Any) -> Any:
        return None


def look(body: bytes, cursor: int = SECOND - 6, now_ms: int = NOW_MS) -> Polled:
    async def get(*_: object) -> bytes:
        return body

    async def poll() -> Polled:
        return await Line({}).poll(CHARTER, CHARTER.services[0], cursor, now_ms)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "_get", get)
        return asyncio.run(poll())


def seen(body: bytes, cursor: int = SECOND - 6, now_ms: int = NOW_MS) -> Tick | Missed:
    """What a poll that brought *body* is for policy."""
    try:
        return look(body, cursor, now_ms).tick
    except PortError as error:
        return Missed(now_ms, str(error))


def rules_after(body: bytes, times: int = 12) -> set[str]:
    """The rules that speak when a healthy service answers *body* from now on."""
    state, spoke = ServiceState.fresh(Policy()), set()
    for poll in range(times):
        at_ms = NOW_MS + 5_000 * poll
        state, verdict = judge(state, seen(body, now_ms=at_ms), Policy(), open_incident=bool(spoke))
        spoke |= {alarm.rule for alarm in verdict.alarms}
    return spoke


def body(**fields: Any) -> bytes:
    return json.dumps(answer(**fields)).encode()


@pytest.mark.parametrize(
    ("hostile", "why"),
    [
        (body().replace(b'"inflight": 3', b'"inflight": NaN'), "not JSON"),
        (body().replace(b'"inflight": 3', b'"inflight": -Infinity'), "not JSON"),
        (body().replace(b'"inflight": 3', b'"inflight": 1e400'), "inflight is not a whole number"),
        (body().replace(b'"inflight": 3', b'"inflight": ' + b"9" * 5_000), "not JSON"),
        (body(inflight=10**30), "inflight is not a whole number"),
        (body(inflight=-1), "inflight is not a whole number"),
        (body(oldest_ms=True), "oldest_ms is not a whole number"),
        (body(now_ms=None), "now_ms is not a whole number"),
        (body(slots=[slot(SECOND - 2, n=-5)]), "n is not a whole number"),
        (body(slots=[slot(SECOND - 2, errors=11)]), "more failures than requests"),
        (body(slots=[slot(SECOND - 2, hist=[500])]), "hist is not a list of pairs"),
        (body(slots=[slot(SECOND - 2, hist=[5, 1])]), "unknown or repeated bucket"),
        (body(slots=[slot(SECOND - 2, hist=[500, 1.5])]), "hist is not a whole number"),
        (body(slots=[slot(SECOND - 2, routes={})]), "routes is not a list"),
        (body(slots=[{"t": SECOND}]), "n is not a whole number"),
        (body(slots=[slot(SECOND - 2)] * 2), "not in the order"),
        (body(slots=[slot(SECOND - i) for i in range(70, 0, -1)]), "more than 60"),
        (body(slots="many"), "slots is not a list"),
        (body(service=""), "service is not text"),
        (body(saturation=[{"name": "x" * 999, "used": 1, "limit": 1}]), "name is not text"),
        (body(schema="slots/9"), "neither slots nor"),
        (b'{"schema": "slots/1", "slots": ' + b"[" * 200_000, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"", "not JSON"),
        (b"[]", "not an object"),
    ],
)
def test_what_cannot_be_is_a_missed_poll_that_says_what_is_wrong(hostile, why):
    found = seen(hostile)
    assert isinstance(found, Missed)
    assert why in found.why
    assert len(found.why) < 300
    assert rules_after(hostile) == {"unreachable"}


def test_a_million_routes_are_refused_without_being_read():
    hostile = answer(slots=[slot(SECOND - 2, routes=[slot(0)["routes"][0]] * 1_000_000)])
    tracemalloc.start()
    try:
        began = time.thread_time()
        with pytest.raises(wire.Malformed, match="routes has more than 1024 items"):
            wire.parse(hostile)
        assert time.thread_time() - began < 1
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_as_many_routes_as_fit_into_an_answer_are_refused_in_time():
    routes = [{"route": f"{i}", "n": 1, "errors": 0, "hist": [], "exceptions": {}} for i in range(50_000)]
    hostile = body(slots=[slot(SECOND - 2, routes=routes)])
    assert 2_000_000 < len(hostile) < health.MOST_BYTES
    began = time.thread_time()
    found = seen(hostile)
    assert time.thread_time() - began < 5
    assert isinstance(found, Missed)
    assert "routes has more than 1024 items" in found.why


def test_seconds_that_are_yet_to_come_are_not_counted_and_wake_nobody_but_by_the_rule_for_old_answers():
    future = body(slots=[slot(SECOND + 50_000), slot(SECOND + 50_001)])
    found = seen(future)
    assert isinstance(found, Tick)
    assert found.n == 0
    assert rules_after(future) <= {"stale"}


def test_an_app_that_lives_in_the_far_future_is_watched_on():
    state, spoke = ServiceState.fresh(Policy()), []
    cursor = 0
    for poll in range(40):
        far = (1 << 52) + 5_000 * poll if 10 <= poll < 20 else NOW_MS + 5_000 * poll
        second = far // 1000
        told = answer(now_ms=far, slots=[slot(second - 4 + i, errors=0, routes=[]) for i in range(3)])
        polled = look(json.dumps(told).encode(), cursor, NOW_MS + 5_000 * poll)
        cursor = polled.cursor
        state, verdict = judge(state, polled.tick, Policy(), open_incident=False)
        spoke += verdict.alarms
    assert spoke == []
    assert "The app's clock was set back" in verdict.caveats[0]


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6),
        st.sampled_from([-1, 1 << 53, 10**40, SECOND * 5, NOW_MS]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@st.composite
def mutated(draw):
    """A good answer of which one to three fields, anywhere, are missing or something else."""
    made = json.loads(json.dumps(answer()))
    for _ in range(draw(st.integers(1, 3))):
        at: Any = made
        while True:
            key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if not (isinstance(at[key], dict | list) and at[key] and draw(st.booleans())):
                break
            at = at[key]
        if isinstance(at, dict) and draw(st.booleans()):
            del at[key]
        else:
            at[key] = draw(values)
        if not made:
            break
    return made


@settings(max_examples=150, deadline=None)
@given(mutated(), st.integers(0, SECOND + 100))
def test_a_mutated_answer_is_figures_that_can_be_or_a_missed_poll(made, cursor):
    found = seen(json.dumps(made).encode(), cursor)
    if isinstance(found, Tick):
        assert 0 <= found.errors <= found.n
        assert 0 <= found.span_ms <= 60_000
        assert all(type(count) is int and count >= 0 for count in found.hist.values())
        assert len(found.routes) <= wire.MAX_PARTS * wire.MAX_SLOTS
    state, _ = judge(ServiceState.fresh(Policy()), found, Policy(), open_incident=False)
    assert ServiceState.load(json.loads(json.dumps(state.dump()))) == state


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_missed_poll(noise):
    assert isinstance(seen(noise), Missed)
