"""The promises as properties of the tables: nothing here knows any code path, only the rules."""

from collections.abc import Iterable

import pytest

from ledger import events as ev
from ledger.events import ENGINEER, EVENTS, MODEL, POLICY
from ledger.machine import (
    CLOSED,
    MAY_WRITE,
    OPEN,
    OUTCOMES,
    REFERS,
    TENANT_FACTS,
    TRANSITIONS,
    Stage,
)

S = Stage
EDGES = [(source, event, to) for source, row in TRANSITIONS.items() for event, to in row.items()]


def reachable(
    start: Stage | None, *, without: Iterable[Stage] = (), by: set[str] | None = None
) -> set[Stage]:
    """The stages that can be reached from *start* not passing *without*, over edges that *by* may write."""
    barred, seen, todo = set(without), set(), [start]
    while todo:
        for event, to in TRANSITIONS[todo.pop()].items():
            if to not in seen | barred and (by is None or MAY_WRITE[event] & by):
                seen.add(to)
                todo.append(to)
    return seen


def test_nothing_executes_unless_a_person_authorized_it():
    assert S.EXECUTING in reachable(None)
    assert not {S.EXECUTING, S.EXECUTED} & reachable(None, without={S.AUTHORIZED})
    into = {event for source, event, to in EDGES if to is S.AUTHORIZED and source is not to}
    assert into
    assert {actor for event in into for actor in MAY_WRITE[event]} == {ENGINEER}


def test_what_a_model_may_write_moves_nothing():
    written = [(source, event, to) for source, event, to in EDGES if MODEL in MAY_WRITE[event]]
    assert written
    assert all(source is to for source, _, to in written)


def test_with_no_model_every_stage_is_still_reachable():
    assert reachable(None, by={"policy", "engineer", "orchestrator"}) == set(Stage)


def test_every_path_out_of_authorized_meets_exactly_one_outcome():
    """Walk from AUTHORIZED, counting outcomes, until the incident closes or is authorized again."""
    todo: list[tuple[Stage, int]] = [(S.AUTHORIZED, 0)]
    seen: set[tuple[Stage, int]] = set()
    while todo:
        stage, outcomes = todo.pop()
        for event, to in TRANSITIONS[stage].items():
            count = outcomes + (event in OUTCOMES)
            assert count <= 1, f"{event.__name__} is a second outcome in {stage}"
            if to in CLOSED or (to is S.AUTHORIZED and stage is not S.AUTHORIZED):
                assert count == 1, f"{event.__name__} leads from {stage} to {to} without an outcome"
            elif (to, count) not in seen:
                seen.add((to, count))
                todo.append((to, count))
    assert set(OUTCOMES) <= {e for s in (S.AUTHORIZED, S.EXECUTING) for e in TRANSITIONS[s]}


@pytest.mark.parametrize("stage", sorted(OPEN))
def test_every_open_incident_can_close(stage: Stage):
    assert CLOSED & reachable(stage)


def test_only_starting_again_and_reopening_repeat_without_a_person():
    """Every cycle of edges that machines alone may write goes through ExecutionStarted or Reopened."""
    graph = {
        source: {
            to
            for event, to in row.items()
            if MAY_WRITE[event] - {ENGINEER}
            and event not in {ev.ExecutionStarted, ev.Reopened}
            and to is not source
        }
        for source, row in TRANSITIONS.items()
    }

    def in_cycle(start: Stage) -> bool:
        seen, todo = set(), list(graph[start])
        while todo:
            stage = todo.pop()
            if stage is start:
                return True
            if stage not in seen:
                seen.add(stage)
                todo += graph[stage]
        return False

    assert not [stage for stage in Stage if in_cycle(stage)]
    repeats = {
        event
        for source, event, to in EDGES
        if source is to and event in {k for r in TRANSITIONS.values() for k in r}
    }
    moving = repeats & (OUTCOMES | {ev.Authorized, ev.ExecutionStarted, ev.Proposed, ev.Validated})
    assert moving == {ev.ExecutionStarted}


def test_policy_does_not_close_what_a_person_has_in_hand():
    for stage in (S.AUTHORIZED, S.EXECUTING, S.EXECUTED):
        assert ev.Recovered not in TRANSITIONS[stage]
    for stage in (S.AUTHORIZED, S.EXECUTING):
        assert ev.Resolved not in TRANSITIONS[stage]


def test_every_fact_has_its_writers_and_its_place():
    assert set(EVENTS.values()) == set(MAY_WRITE)
    placed = {event for _, event, _ in EDGES} | TENANT_FACTS
    assert placed == set(EVENTS.values())


def test_every_outcome_and_every_vote_names_what_it_is_about():
    assert set(REFERS) >= {*OUTCOMES, ev.Authorized, ev.Approved, ev.Denied, ev.ExecutionStarted}
    assert all(REFERS[event] is ev.Authorized for event in OUTCOMES)


def test_only_policy_opens_reopens_and_closes_besides_people():
    for event in (ev.Reopened, ev.Recovered, ev.Verified, ev.Expired):
        assert MAY_WRITE[event] == {POLICY}
    assert MAY_WRITE[ev.Resolved] == {ENGINEER}
    assert MAY_WRITE[ev.Detected] == {POLICY, ENGINEER}
