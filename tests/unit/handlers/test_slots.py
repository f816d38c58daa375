"""The fast reader of slots reads what sdk/wire.py reads, in the same way, and nothing that it refuses."""

import copy
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.adapters import slots
from sdk import wire
from tests.unit.sdk.test_wire import snapshots

WRONG = st.sampled_from(
    [None, True, False, -1, 1.0, 1.5, 2**53, 2**53 - 1, 0, 10**30, "", "x", "x" * 257, "\ud800", [], {}, [1],
     [31, 1], [1025, 1], [640, 1, 640, 1], [640, 1, 641], [640.0, 1], [640, True], {"a": 1}, {"a": -1},
     {"": 1}, {"x" * 300: 1}]
)  # fmt: skip


def places(value, path=()):
    """Every place in a JSON value, as a path."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def put(value, path, new):
    *way, last = path
    for key in way:
        value = value[key]
    value[last] = new


def same(body: bytes, oldest: int, newest: int) -> bool:
    """Whether both read *body*, and alike; False where the fast one leaves it to the other."""
    answer = slots.read(body)
    if answer is None:
        return False
    told = wire.decode(body)
    assert answer.head == replace(told, slots=())
    merged = wire.merge_slots(slot for slot in told.slots if oldest < slot.t <= newest)
    assert answer.between(oldest, newest) == replace(merged, streams=())
    assert [part.name for part in answer.between(oldest, newest).routes] == [
        part.name for part in merged.routes
    ]
    return True


@given(snapshots(), st.integers(0, 2**40), st.integers(0, 2**40))
def test_what_is_good_is_read_fast_and_alike(snapshot, oldest, newest):
    assert same(wire.encode(snapshot), oldest, newest)
    assert same(wire.encode(snapshot), 0, 2**53)
    for slot in snapshot.slots:
        assert same(wire.encode(snapshot), slot.t, 2**53)
        assert same(wire.encode(snapshot), 0, slot.t)


@given(snapshots(), st.data())
def test_what_is_wrong_in_one_place_is_never_read_otherwise(snapshot, data):
    document = copy.deepcopy(wire.document(snapshot))
    path = data.draw(st.sampled_from([path for path in places(document) if path]))
    put(document, path, data.draw(WRONG))
    same(json.dumps(document).encode(), 0, 2**53)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_noise_is_left_to_the_one_that_has_the_words(noise):
    assert slots.read(noise) is None


GOOD = {
    "schema": "slots/1",
    "service": "s",
    "now_ms": 5,
    "slots": [{"t": 1, "n": 2, "errors": 1, "hist": [640, 2]}],
}
MANY = {f"E{n}": 1 for n in range(1025)}
PART = {"n": 2, "errors": 1, "hist": [640, 2]}


def slot(**more):
    return GOOD | {"slots": [GOOD["slots"][0] | more]}


@pytest.mark.parametrize(
    "document",
    [
        GOOD | {"schema": "slots/2"},
        GOOD | {"now_ms": float("nan")},
        slot(n=0),
        slot(client_errors=2),
        slot(hist=[640]),
        slot(hist=[640, 1, 640, 1]),
        slot(hist=[31, 1]),
        slot(hist=[1025, 1]),
        slot(routes=[PART]),
        slot(routes=[PART | {"route": "a", "errors": 3}]),
        slot(routes=[PART | {"route": "a", "exceptions": MANY}]),
        slot(streams=[PART | {"name": "a", "exceptions": MANY}]),
        slot(dependencies=[PART | {"name": "a", "hist": [640, 1, 640, 1]}]),
        slot(routes=[PART | {"route": f"r{n}"} for n in range(1025)]),
        GOOD | {"slots": GOOD["slots"] * 2},
        GOOD | {"slots": [GOOD["slots"][0] | {"t": n} for n in range(61)]},
        GOOD | {"saturation": [{"name": "db", "used": 1}]},
        GOOD | {"faults": [""]},
    ],
)  # fmt: skip
def test_what_the_format_forbids_is_not_read(document):
    body = json.dumps(document).encode()
    assert slots.read(json.dumps(GOOD).encode())
    assert slots.read(body) is None
    with pytest.raises(wire.Malformed):
        wire.decode(body)


def test_parts_of_one_name_in_one_slot_add_up():
    body = json.dumps(slot(routes=[PART | {"route": "a", "exceptions": {"E": 1}}] * 2)).encode()
    assert same(body, 0, 9)
    [part] = slots.read(body).between(0, 9).routes
    assert (part.n, part.errors, part.hist, part.exceptions) == (4, 2, {640: 4}, {"E": 2})
