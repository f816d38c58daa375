"""The rules applied, fact by fact: who may say what, about which entry, how often, and what is unsettled."""

import pytest

from ledger import events as ev
from ledger.events import ENGINEER, MODEL, ORCHESTRATOR, POLICY, Actor, Ref
from ledger.machine import MAY_WRITE, BadReference, Fact, Incident, WrongActor, apply, unsettled

READING = ev.Reading(
    service="checkout", rule="r", signal="errors", severity="critical", headline="h", explanation="e"
)
OPTION = ev.Option(key="1", action="restart")
WHO = {
    POLICY: Actor.policy(),
    MODEL: Actor.model("a"),
    ENGINEER: Actor.engineer("rudo", "telegram"),
    ORCHESTRATOR: Actor.orchestrator("web.1"),
}
DEADLINE_MS = 1_000
NAME = "checkout-1"


class Tale:
    """One incident, told fact by fact at the hour `now_ms`."""

    def __init__(self) -> None:
        self.incident: Incident | None = None
        self.now_ms = 0
        self.says(POLICY, ev.Detected(incident_id=NAME, reading=READING))

    def says(self, who: ev.ActorKind, event: ev.Event) -> Fact:
        seq = len(self.incident.facts) + 1 if self.incident else 1
        fact = Fact(seq, f"{seq:064x}", self.now_ms, WHO[who], event)
        self.incident = apply(self.incident, NAME, fact)
        return fact

    def asks(self) -> Fact:
        self.says(ORCHESTRATOR, ev.Proposed(incident_id=NAME, options=(OPTION,)))
        deadline_ms = self.now_ms + DEADLINE_MS
        return self.says(POLICY, ev.Validated(incident_id=NAME, options=(OPTION,), deadline_ms=deadline_ms))

    def authorizes(self) -> Fact:
        asked = self.asks()
        return self.says(
            ENGINEER, ev.Authorized(incident_id=NAME, option="1", action="restart", ref=asked.ref)
        )

    def starts(self, authorized: Fact, attempt: int) -> Fact:
        return self.says(
            ORCHESTRATOR,
            ev.ExecutionStarted(
                incident_id=NAME, attempt=attempt, by="web.1", until_ms=9, ref=authorized.ref
            ),
        )

    def fails(self, authorized: Fact) -> Fact:
        return self.says(ORCHESTRATOR, ev.WebhookFailed(incident_id=NAME, attempt=1, ref=authorized.ref))


def test_an_opinion_is_a_models_alone_and_a_model_says_nothing_else():
    assert [kind for kind, actors in MAY_WRITE.items() if MODEL in actors] == [ev.Diagnosed]
    assert MAY_WRITE[ev.Diagnosed] == {MODEL}


@pytest.mark.parametrize(
    ("event", "writers"),
    [
        (ev.Authorized, {ENGINEER}),
        (ev.Approved, {ENGINEER}),
        (ev.Denied, {ENGINEER}),
        (ev.CharterAdopted, {ENGINEER}),
        (ev.Linked, {ENGINEER}),
        (ev.Paused, {ENGINEER}),
        (ev.Validated, {POLICY}),
        (ev.Proposed, {ENGINEER, ORCHESTRATOR}),
        (ev.ExecutionStarted, {ORCHESTRATOR}),
        (ev.Executed, {ORCHESTRATOR}),
        (ev.StoodDown, {ENGINEER, POLICY}),
    ],
)
def test_what_decides_and_what_runs_has_its_own_writers(event: type[ev.Event], writers: set):
    assert MAY_WRITE[event] == writers


@pytest.mark.parametrize("who", [POLICY, MODEL, ORCHESTRATOR])
def test_nobody_but_a_person_authorizes(who: ev.ActorKind):
    tale = Tale()
    said = ev.Authorized(incident_id=NAME, option="1", action="restart", ref=tale.asks().ref)
    with pytest.raises(WrongActor):
        tale.says(who, said)
    tale.says(ENGINEER, said)


def test_a_vote_names_the_newest_request_and_one_of_its_options():
    tale = Tale()
    old = tale.asks()
    tale.says(ENGINEER, ev.Denied(incident_id=NAME, ref=old.ref))
    tale.says(ENGINEER, ev.AskedAgain(incident_id=NAME))
    new = tale.asks()
    for ref, option in ((old.ref, "1"), (None, "1"), (Ref(seq=new.seq, hash="0" * 64), "1"), (new.ref, "2")):
        for kind in (ev.Approved, ev.Authorized):
            with pytest.raises(BadReference):
                tale.says(ENGINEER, kind(incident_id=NAME, option=option, action="restart", ref=ref))


def test_a_vote_is_too_late_at_the_deadline_and_a_request_expires_not_before():
    tale = Tale()
    asked = tale.asks()
    tale.now_ms = DEADLINE_MS - 1
    with pytest.raises(BadReference):
        tale.says(POLICY, ev.Expired(incident_id=NAME, ref=asked.ref))
    tale.now_ms = DEADLINE_MS
    for kind in (ev.Approved, ev.Authorized):
        with pytest.raises(BadReference):
            tale.says(ENGINEER, kind(incident_id=NAME, option="1", action="restart", ref=asked.ref))
    tale.says(POLICY, ev.Expired(incident_id=NAME, ref=asked.ref))


@pytest.mark.parametrize("attempt", [2, 3])
def test_tries_begin_with_the_first(attempt: int):
    tale = Tale()
    with pytest.raises(BadReference):
        tale.starts(tale.authorizes(), attempt)


def test_tries_are_counted_one_by_one_and_three_are_the_most():
    tale = Tale()
    authorized = tale.authorizes()
    for number in (1, 2, 3):
        for wrong in {1, 2, 3} - {number}:
            with pytest.raises(BadReference):
                tale.starts(authorized, wrong)
        tale.starts(authorized, number)
    for wrong in (1, 2, 3):
        with pytest.raises(BadReference):
            tale.starts(authorized, wrong)


def test_each_authorization_has_its_own_tries_and_its_own_outcome():
    tale = Tale()
    first = tale.authorizes()
    assert [fact for _, fact in unsettled([tale.incident])] == [first]
    tale.starts(first, 1)
    assert [fact for _, fact in unsettled([tale.incident])] == [first]
    tale.fails(first)
    assert unsettled([tale.incident]) == []
    tale.says(ENGINEER, ev.AskedAgain(incident_id=NAME))
    second = tale.authorizes()
    assert [fact for _, fact in unsettled([tale.incident])] == [second]
    tale.starts(second, 1)
    with pytest.raises(BadReference):
        tale.fails(first)
    tale.fails(second)
    assert unsettled([tale.incident]) == []
