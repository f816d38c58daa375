"""A start reads a long log in its own way, and makes of it what the fold makes, entry by entry."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import events as ev
from ledger.chain import Entry, Frontier, leaf_hash
from ledger.events import Actor, Ref
from ledger.recall import Recall
from ledger.state import dump
from ledger.store import Sealed, element_of
from ledger.view import DAY_MS, View, epoch_ms, event_of, fold
from tests.months import Month
from tests.unit.ledger.test_audit import START, candidate, refusal, stage_after, write

TRIES = 150
LEGAL = Month(11).incidents(40).lines


def recalled(entries: list[Entry]) -> Recall:
    recall = Recall("acme")
    for entry in entries:
        recall.take(element_of(entry))
    return recall


def state(view: View) -> bytes:
    return b"".join(dump(view))


def any_log(seed: int, tries: int) -> list[Entry]:
    """A few incidents from their beginning to their end, and then whatever the rules allow."""
    entries = Month(seed).incidents(5).lines
    dice, view, now_ms = random.Random(seed), fold("acme", entries), DAY_MS
    for _ in range(tries):
        now_ms += 40_000_000 if dice.random() < 0.02 else dice.choice((1, 500, 3_000))
        actor, event = candidate(dice, view, epoch_ms(START) + now_ms)
        entry = write(view, actor, event, now_ms, stage_after(view, event))
        if refusal(view, entry) is None:
            entries.append(entry)
    return entries


@pytest.mark.parametrize("count", [0, 1, 40, len(LEGAL)])
def test_what_is_recalled_is_what_is_folded(count: int):
    entries = LEGAL[:count]
    recall, view = recalled(entries), fold("acme", entries)
    assert recall.view() == view
    assert state(recall.view()) == state(view)
    assert recall.tree == Frontier().extend(leaf_hash(entry.line) for entry in entries)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_the_rules_allow_is_recalled_as_it_is_folded(seed: int):
    entries = any_log(seed, TRIES)
    view = fold("acme", entries)
    recall = recalled(entries)
    assert recall.view() == view
    assert state(recall.view()) == state(view)
    assert recall.signers == view.signers


def test_random_logs_have_every_kind_of_fact_that_a_view_counts():
    told = {entry.event for seed in range(30) for entry in any_log(seed, TRIES)}
    assert told >= {
        "CharterAdopted", "PolicyAdopted", "Linked", "Unlinked", "Started", "KeyRotated", "Paused", "Resumed",
        "OncallOverridden", "MaintenanceDeclared", "Detected", "Diagnosed", "Authorized", "ExecutionStarted",
        "Reopened", "Resolved", "Refused", "Feedback",
    }  # fmt: skip


def test_random_logs_call_something_the_new_normal():
    assert any(fold("acme", any_log(seed, TRIES)).normals for seed in range(30))


def test_who_broke_the_glass_is_known_until_another_signs_it_off():
    at = next(at for at, entry in enumerate(LEGAL) if entry.event == "Authorized")
    entries, view = LEGAL[:at], fold("acme", LEGAL[:at])
    now_ms = epoch_ms(LEGAL[at].at) - epoch_ms(START)
    broken = event_of(LEGAL[at]).model_copy(update={"break_glass": True, "voters": ()})
    for who, event, waits in (("x", broken, True), ("y", None, False)):
        event = event or ev.Reviewed(incident_id=broken.incident_id, ref=Ref(seq=at + 1, hash=view.head.hash))
        entry = write(view, Actor.engineer(who, "telegram"), event, now_ms, stage_after(view, event))
        view.absorb(entry)
        entries.append(entry)
        recall = recalled(entries)
        assert bool(recall.view().unreviewed) is waits
        assert recall.view() == view
        assert state(recall.view()) == state(view)


@given(st.integers(1, len(LEGAL) - 1))
@settings(max_examples=10, deadline=None)
def test_what_follows_is_absorbed_as_if_all_had_been_folded(at: int):
    view = recalled(LEGAL[:at]).view()
    for entry in LEGAL[at:]:
        view.absorb(entry)
    assert state(view) == state(fold("acme", LEGAL))


def test_what_was_said_is_read_when_it_is_asked_for_and_once():
    view, slowly = recalled(LEGAL).view(), fold("acme", LEGAL)
    for name, incident in slowly.incidents.items():
        facts = view.incidents[name].facts
        assert [(f.seq, f.hash, f.at_ms, f.actor, f.event) for f in facts] == [
            (f.seq, f.hash, f.at_ms, f.actor, f.event) for f in incident.facts
        ]
        assert all(fact.event is fact.event for fact in facts)


def changed(element: bytes, at: int) -> bytes:
    return element[:at] + bytes([element[at] ^ 1]) + element[at + 1 :]


@given(st.integers(0, 200), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_an_element_that_was_changed_is_named(at: int, place: int):
    recall = recalled(LEGAL[:at])
    element = element_of(LEGAL[at])
    with pytest.raises(Sealed, match=f"element {at + 1} "):
        recall.take(changed(element, place % len(element)))


def test_what_another_tenant_wrote_or_another_place_holds_is_named():
    other = Recall("globex")
    with pytest.raises(Sealed, match="belongs to tenant acme"):
        other.take(element_of(LEGAL[0]))
    with pytest.raises(Sealed, match="number 3"):
        recalled(LEGAL[:1]).take(element_of(LEGAL[2]))
    with pytest.raises(Sealed, match="does not have the hash"):
        recalled([]).take(element_of(replace(LEGAL[0], hash="0" * 64)))
