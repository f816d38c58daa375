import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk import histogram, wire
from sdk.wire import Gauge, Malformed, Part, Slot, Snapshot

number = st.integers(0, 2**53 - 1)
name = st.text(min_size=1, max_size=20)
hist = st.dictionaries(st.sampled_from(histogram.BUCKETS), st.integers(1, 1000), max_size=8)
calls = st.builds(
    lambda name, hist, share, exceptions: Part(
        name, sum(hist.values()), int(sum(hist.values()) * share), hist, exceptions
    ),
    name,
    hist,
    st.floats(0, 1),
    st.just({}),
)
routes = st.builds(
    lambda part, exceptions: Part(part.name, part.n, part.errors, part.hist, exceptions),
    calls,
    st.dictionaries(name, number, max_size=3),
)


@st.composite
def snapshots(draw):
    slots = tuple(
        Slot(
            t,
            n=draw(st.integers(30, 100)),
            errors=draw(st.integers(0, 10)),
            client_errors=draw(st.integers(0, 10)),
            aborted=draw(st.integers(0, 10)),
            hist=draw(hist),
            routes=tuple(draw(st.lists(routes, max_size=3))),
            dependencies=tuple(draw(st.lists(calls, max_size=2))),
            streams=tuple(draw(st.lists(calls, max_size=2))),
        )
        for t in sorted(draw(st.sets(st.integers(1, 2**40), max_size=3)))
    )
    return Snapshot(
        draw(name),
        draw(number),
        slots,
        inflight=draw(number),
        oldest_ms=draw(number),
        saturation=tuple(draw(st.lists(st.builds(Gauge, name, number, number), max_size=2))),
        faults=tuple(draw(st.lists(name, max_size=2))),
    )


@given(snapshots())
def test_what_is_encoded_is_decoded_unchanged(snapshot):
    assert wire.decode(wire.encode(snapshot)) == snapshot


def test_the_wire_has_the_keys_that_the_poller_was_promised():
    snapshot = Snapshot(
        "checkout",
        1764000000123,
        (
            Slot(
                1764000000, 12, 3, 1, 0, {300: 12},
                (Part("POST /pay", 5, 3, {300: 5}, {"TimeoutError": 3}),),
                (Part("payments-api", 5, 0, {300: 5}),),
                (Part("WEBSOCKET /chat", 1, 0, {310: 1}),),
            ),
        ),
        inflight=14,
        oldest_ms=8123,
        saturation=(Gauge("db_pool", 20, 20),),
    )  # fmt: skip
    assert json.loads(wire.encode(snapshot)) == {
        "schema": "slots/1",
        "service": "checkout",
        "now_ms": 1764000000123,
        "slot_s": 1,
        "workers": 1,
        "workers_stale": 0,
        "inflight": 14,
        "oldest_ms": 8123,
        "saturation": [{"name": "db_pool", "used": 20, "limit": 20}],
        "slots": [
            {
                "t": 1764000000,
                "n": 12,
                "errors": 3,
                "client_errors": 1,
                "aborted": 0,
                "hist": [300, 12],
                "routes": [
                    {
                        "route": "POST /pay",
                        "n": 5,
                        "errors": 3,
                        "hist": [300, 5],
                        "exceptions": {"TimeoutError": 3},
                    }
                ],
                "dependencies": [
                    {"name": "payments-api", "n": 5, "errors": 0, "hist": [300, 5], "exceptions": {}}
                ],
                "streams": [
                    {"name": "WEBSOCKET /chat", "n": 1, "errors": 0, "hist": [310, 1], "exceptions": {}}
                ],
            }
        ],
        "faults": [],
    }


GOOD = {
    "schema": "slots/1",
    "service": "checkout",
    "now_ms": 1,
    "slots": [{"t": 1, "n": 1, "errors": 1, "hist": [300, 1], "routes": [], "dependencies": []}],
}


def test_optional_fields_have_defaults_and_unknown_ones_are_ignored():
    snapshot = wire.parse({**GOOD, "from_a_later_version": [1, 2]})
    assert (snapshot.workers, snapshot.inflight, snapshot.slots[0].hist) == (1, 0, {300: 1})


def slot(**changes):
    return {"slots": [{**GOOD["slots"][0], **changes}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "slots/2"}, "schema"),
        ({"service": ""}, "service"),
        ({"service": "x" * 257}, "service"),
        ({"now_ms": float("nan")}, "now_ms"),
        ({"now_ms": True}, "now_ms"),
        ({"inflight": -1}, "inflight"),
        ({"oldest_ms": 2**53}, "oldest_ms"),
        ({"slots": {}}, "slots"),
        ({"slots": [{}] * 61}, "more than 60"),
        ({"slots": GOOD["slots"] * 2}, "order"),
        (slot(hist=[300]), "pairs"),
        (slot(hist=[31, 1]), "bucket"),
        (slot(hist=[300, 1, 300, 1]), "bucket"),
        (slot(hist=[300, -1]), "hist"),
        (slot(hist=[[], 1]), "bucket"),
        (slot(errors=2), "more failures than requests"),
        (slot(routes=[{"route": "GET /", "n": 0, "errors": 1, "hist": []}]), "more errors"),
        (slot(routes=[{"route": "GET /", "n": 1, "errors": 0, "hist": [], "exceptions": []}]), "exceptions"),
        (slot(dependencies=["x"]), "name"),
        ({"saturation": [{"name": "p", "used": 0.5, "limit": 1}]}, "used"),
        ({"faults": [""]}, "name"),
    ],
)
def test_anything_else_is_refused_and_the_field_is_named(change, said):
    with pytest.raises(Malformed, match=said):
        wire.parse({**GOOD, **change})


@pytest.mark.parametrize("raw", [b"<html>", b"", b"[]", b"null", b"\xff", b"[" * 100_000, b"NaN"])
def test_what_is_not_our_json_is_malformed_and_nothing_else(raw):
    with pytest.raises(Malformed):
        wire.decode(raw)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(name, c)))
def test_no_json_value_makes_the_parser_fail_in_another_way(value):
    with pytest.raises(Malformed):
        wire.parse({**GOOD, "slots": [{**GOOD["slots"][0], "routes": [value]}]})


@given(snapshots())
def test_merging_slots_is_addition(snapshot):
    merged = wire.merge_slots(snapshot.slots)
    assert merged.n == sum(s.n for s in snapshot.slots)
    assert merged.hist == histogram.merge(*(s.hist for s in snapshot.slots))
    by_name = {p.name: p for p in merged.routes}
    for name in {p.name for s in snapshot.slots for p in s.routes}:
        same = [p for s in snapshot.slots for p in s.routes if p.name == name]
        assert by_name[name].n == sum(p.n for p in same)
        assert by_name[name].hist == histogram.merge(*(p.hist for p in same))
        assert sum(by_name[name].exceptions.values()) == sum(sum(p.exceptions.values()) for p in same)
