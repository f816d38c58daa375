"""The present: a draft of it is its own, and what becomes of it is what a fold from the first entry says."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.chain import Entry
from ledger.state import dump
from ledger.view import REMEMBERED, View, fold
from tests.months import Month

ENTRIES = Month(3).incidents(25).lines


def state(view: View) -> bytes:
    return b"".join(dump(view))


def in_batches(entries: list[Entry], cuts: list[int]) -> View:
    view = View("acme")
    for since, until in pairwise([0, *cuts, len(entries)]):
        draft = view.fork()
        for entry in entries[since:until]:
            draft.absorb(entry)
        draft.succeed(view)
        view = draft
    return view


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(1, len(ENTRIES) - 1), max_size=12))
def test_batch_after_batch_gives_what_one_fold_gives(cuts: set[int]):
    view = in_batches(ENTRIES, sorted(cuts))
    assert view == fold("acme", ENTRIES)
    assert state(view) == state(fold("acme", ENTRIES))


@pytest.mark.parametrize("cuts", [[], [1030], [90, 1000, 1030]], ids=repr)
def test_of_a_long_log_the_newest_are_remembered_however_they_came(cuts: list[int]):
    entries = Month(4).incidents(90).lines
    assert len(entries) > REMEMBERED
    view = in_batches(entries, cuts)
    assert len(view.touched) == REMEMBERED
    assert state(view) == state(fold("acme", entries))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 200), st.integers(1, 40))
def test_a_draft_that_is_thrown_away_leaves_no_trace(at: int, more: int):
    view = fold("acme", ENTRIES[:at])
    before = state(view)
    draft = view.fork()
    for entry in ENTRIES[at : at + more]:
        draft.absorb(entry)
    assert state(draft)[: len(before)] != before
    assert state(view) == before


def test_a_draft_sees_what_it_was_forked_from():
    view = fold("acme", ENTRIES[:200])
    draft = view.fork()
    assert dict(draft.incidents) == view.incidents
    assert draft.open() == view.open()
    assert all(draft.anchored(anchor) is view.anchored(anchor) for anchor in view.anchors)
    assert draft.touched_since(199) is None, "what was touched before is not known to it: it may be all"


def test_a_draft_does_not_copy_what_grows_with_the_log():
    view = fold("acme", ENTRIES[:200])
    draft = view.fork()
    shared = (draft.incidents, draft.anchors, draft.acts)
    assert all(
        one.maps[1] is kept
        for one, kept in zip(shared, (view.incidents, view.anchors, view.acts), strict=True)
    )
    draft.absorb(ENTRIES[200])
    draft.succeed(view)
    assert draft.incidents is view.incidents, "and so it does not grow by a layer with each batch"
