"""One desk answers every tap: who may, what happened, or why nothing did."""

import asyncio
from hashlib import sha256

import pytest

from bot.ports import Verb
from ledger import events as ev
from ledger.events import Actor
from ledger.machine import Stage
from ledger.store import MemoryStore, StoreDown
from tests.rooms import charter, tenant


async def test_an_entitled_tap_authorizes_and_is_told_so():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    answer = await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert acme.incident.stage is Stage.AUTHORIZED
    assert answer.text.startswith("Approved 14:00:00")
    assert not answer.alert
    _, authorized = acme.incident.authorization
    assert (authorized.action, authorized.ref.hash) == ("restart_workers", request.hash)
    assert authorized.act.update == "1"


async def test_a_stranger_is_told_so_and_his_tap_is_on_record():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    answer = await acme.taps_on("stranger", Verb.APPROVE, request.hash)
    assert "I do not know you" in answer.text
    assert acme.incident.stage is Stage.VALIDATED
    assert acme.incident.latest(ev.Refused).kind == "stranger"


async def test_who_is_known_but_not_entitled_learns_who_can():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    answer = await acme.taps_on("tariro", Verb.APPROVE, request.hash)
    assert "Rudo or Tendai can" in answer.text
    assert acme.incident.stage is Stage.VALIDATED


async def test_a_forged_button_runs_nothing():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    answer = await acme.taps_on("rudo", Verb.APPROVE, request.hash, genuine=False)
    assert "not one I made" in answer.text
    assert acme.incident.stage is Stage.VALIDATED
    assert acme.incident.latest(ev.Refused).kind == "forged"


async def test_a_second_tap_is_told_who_decided_first():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    first, second = await asyncio.gather(
        acme.taps_on("rudo", Verb.APPROVE, request.hash), acme.taps_on("tendai", Verb.APPROVE, request.hash)
    )
    assert acme.events().count("Authorized") == 1
    assert first.text.startswith("Approved")
    assert second.text.startswith("Rudo was first")


async def test_the_other_theory_is_told_which_one_runs():
    acme = await tenant()
    await acme.opens()
    a, b = acme.option("A", theory="A"), acme.option("B", "switch_payments", "B")
    request = await acme.asks(a, b)
    await acme.taps_on("tendai", Verb.APPROVE, request.hash, "A")
    answer = await acme.taps_on("rudo", Verb.APPROVE, request.hash, "B")
    assert "Tendai trusted theory A" in answer.text
    assert "B was not run" in answer.text


async def test_trusting_a_theory_without_an_action_is_a_denial_with_its_name():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks(acme.option("A", theory="A"), acme.option("B", "", "B"))
    answer = await acme.taps_on("rudo", Verb.APPROVE, request.hash, "B")
    assert acme.incident.stage is Stage.DENIED
    assert acme.incident.latest(ev.Denied).theory == "B"
    assert "runs nothing" in answer.text


async def test_one_person_counts_once_towards_a_quorum_of_two():
    acme = await tenant(charter(approve="2 oncall"))
    await acme.opens()
    request = await acme.asks()
    once = await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    twice = await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert "1 of 2" in once.text
    assert "already" in twice.text
    assert acme.incident.stage is Stage.VALIDATED
    await acme.taps_on("tendai", Verb.APPROVE, request.hash)
    assert acme.incident.stage is Stage.AUTHORIZED
    assert acme.incident.authorization[1].voters == ("rudo", "tendai")


async def test_a_vote_that_is_taken_back_counts_no_more_and_its_card_still_does():
    acme = await tenant(charter(approve="2 oncall"))
    await acme.opens()
    request = await acme.asks()
    await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    answer = await acme.taps_on("rudo", Verb.WITHDRAW, request.hash)
    assert "taken back: 0 of 2" in answer.text
    assert "1 of 2" in (await acme.taps_on("tendai", Verb.APPROVE, request.hash)).text
    assert acme.incident.stage is Stage.VALIDATED
    await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert acme.incident.authorization[1].voters == ("rudo", "tendai")


async def test_what_did_not_begin_yet_is_stopped_by_who_approved_it_and_by_no_other():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert "You stand for nothing" in (await acme.taps_on("tendai", Verb.WITHDRAW, request.hash)).text
    assert acme.incident.stage is Stage.AUTHORIZED
    assert "withdrawn" in (await acme.taps_on("rudo", Verb.WITHDRAW, request.hash)).text
    assert acme.incident.stage is Stage.STOOD_DOWN
    assert acme.incident.latest(ev.StoodDown).why == "withdrawn"


@pytest.mark.parametrize("verb", [Verb.NOT_INCIDENT, Verb.RESOLVE])
async def test_who_may_approve_nothing_does_not_close_what_is_asked_either(verb: Verb):
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    assert "not an approver" in (await acme.taps_on("tariro", verb, request.hash)).text
    assert acme.incident.stage is Stage.VALIDATED
    assert acme.incident.latest(ev.Refused).kind == "not_entitled"


async def test_a_late_tap_runs_nothing_and_asks_again():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks(life_ms=60_000)
    acme.clock.advance(60 + 14 * 60)
    answer = await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert answer.text.startswith("Too late by 14 min, nothing was run")
    assert acme.incident.stage is Stage.DETECTED
    assert acme.events()[-2:] == ["Expired", "AskedAgain"]
    assert "Authorized" not in acme.events()


async def test_a_late_tap_of_somebody_not_entitled_does_not_ask_again():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks(life_ms=60_000)
    acme.clock.advance(120)
    await acme.taps_on("tariro", Verb.APPROVE, request.hash)
    assert acme.incident.stage is Stage.EXPIRED


async def test_a_tap_on_the_request_before_the_present_one_counts_for_nothing():
    acme = await tenant()
    await acme.opens()
    old = await acme.asks(life_ms=60_000)
    acme.clock.advance(61)
    await acme.taps_on("rudo", Verb.APPROVE, old.hash)
    await acme.asks()
    answer = await acme.taps_on("rudo", Verb.APPROVE, old.hash)
    assert "older request" in answer.text
    assert acme.incident.stage is Stage.VALIDATED


async def test_deny_after_approve_is_too_late_and_says_what_stops_the_next():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    await acme.taps_on("tendai", Verb.APPROVE, request.hash)
    answer = await acme.taps_on("rudo", Verb.DENY, request.hash)
    assert "approved by Tendai" in answer.text
    assert "/pause" in answer.text


async def test_who_declared_an_incident_does_not_approve_its_action():
    acme = await tenant()
    await acme.opens(Actor.engineer("rudo", "telegram"))
    request = await acme.asks()
    answer = await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert "somebody else must approve" in answer.text
    await acme.taps_on("tendai", Verb.APPROVE, request.hash)
    assert acme.incident.stage is Stage.AUTHORIZED


async def test_a_changed_charter_ends_the_requests_made_under_the_old_one():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    await acme.adopt(charter(approve="2 oncall"))
    answer = await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert "charter changed" in answer.text
    assert acme.incident.stage is Stage.VALIDATED


async def test_high_risk_asks_a_second_tap_in_private():
    acme = await tenant(charter(risk="high"))
    await acme.opens()
    request = await acme.asks()
    answer = await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert "in private" in answer.text
    assert acme.incident.stage is Stage.VALIDATED
    [(to, shown)] = acme.sent
    assert to == "rudo"
    assert "http://127.0.0.1:9001/recover/restart_workers" in shown.html
    assert shown.rows[0][0].verb is Verb.CONFIRM
    await acme.taps_on("rudo", Verb.CONFIRM, request.hash, private=False)
    assert acme.incident.stage is Stage.VALIDATED
    await acme.taps_on("rudo", Verb.CONFIRM, request.hash, private=True)
    assert acme.incident.stage is Stage.AUTHORIZED
    _, authorized = acme.incident.authorization
    assert authorized.card_digest == sha256(shown.html.encode()).hexdigest()


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.ADOPT])
async def test_every_verb_about_an_incident_gets_an_answer_from_everybody(verb: Verb):
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    for who in ("stranger", "tariro", "rudo"):
        answer = await acme.taps_on(who, verb, request.hash)
        assert answer.text
        assert len(answer.text) <= 200


async def test_refusals_of_one_person_stand_once_a_minute():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    for _ in range(5):
        await acme.taps_on("stranger", Verb.APPROVE, request.hash)
    assert acme.events().count("Refused") == 1
    acme.clock.advance(61)
    await acme.taps_on("stranger", Verb.APPROVE, request.hash)
    assert acme.events().count("Refused") == 2


class Asked(MemoryStore):
    """Counts who asks where its end is."""

    heads, is_away = 0, False

    async def head(self, tenant):
        self.heads += 1
        if self.is_away:
            raise StoreDown("it is away")
        return await super().head(tenant)


async def test_a_tap_on_what_is_over_is_refused_without_asking_the_store_and_stands_once():
    store = Asked()
    acme = await tenant(store=store)
    await acme.opens()
    request = await acme.asks()
    await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    store.heads = acme.room.ledger.calls = 0
    for verb in (Verb.APPROVE, Verb.APPROVE, Verb.CONFIRM):
        assert (await acme.taps_on("tendai", verb, request.hash)).text.startswith("Rudo was first")
    assert "Too late to deny" in (await acme.taps_on("tendai", Verb.DENY, request.hash)).text
    assert (store.heads, acme.room.ledger.calls) == (0, 1)
    assert acme.events().count("Refused") == 1


async def test_after_a_refusal_nothing_is_due_that_was_not_due_before():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    before = acme.room.ledger.view.head.seq
    for who, anchor in (("stranger", request.hash), ("stranger", "0" * 16), ("tariro", request.hash)):
        await acme.taps_on(who, Verb.APPROVE, anchor)
    view = acme.room.ledger.view
    assert (view.head.seq, view.touched_since(before)) == (before + 2, set())
    await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert acme.room.ledger.view.touched_since(before) == {"checkout-1"}


async def test_while_the_ledger_is_away_or_sealed_a_tap_on_what_is_over_is_told_that():
    store = Asked()
    acme = await tenant(store=store)
    await acme.opens()
    request = await acme.asks()
    await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    store.is_away = True
    await acme.room.ledger.sweep()
    assert "cannot be written" in (await acme.taps_on("tendai", Verb.APPROVE, request.hash)).text
    acme.room.ledger.distrust("its end is not the one that it was")
    assert "sealed" in (await acme.taps_on("tendai", Verb.APPROVE, request.hash)).text


async def test_not_an_incident_closes_and_runs_nothing():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    await acme.taps_on("tendai", Verb.NOT_INCIDENT, request.hash)
    assert acme.incident.stage is Stage.RESOLVED
    assert acme.incident.latest(ev.Resolved).kind == "not_an_incident"
    answer = await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert "closed by Tendai" in answer.text


@pytest.mark.parametrize("verb", [Verb.APPROVE, Verb.DENY, Verb.ACK, Verb.ESCALATE, Verb.NOT_INCIDENT])
async def test_a_tap_that_comes_again_after_a_crash_counts_once_and_is_answered_alike(verb):
    acme = await tenant(charter(approve="2 oncall"))
    await acme.opens()
    request = await acme.asks()
    tap = acme.tap("rudo", verb, request.hash, "1")
    first = await acme.desk.tapped("acme", tap)
    stood = acme.events()
    acme.clock.advance(20)
    again = await acme.desk.tapped("acme", tap)
    assert (again.text, again.ref) == (first.text, first.ref)
    assert acme.events() == stood


async def test_a_late_tap_that_comes_again_asks_once():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks(life_ms=1_000)
    acme.clock.advance(5)
    tap = acme.tap("rudo", Verb.APPROVE, request.hash, "1")
    assert (await acme.desk.tapped("acme", tap)).text.startswith("Too late")
    assert (await acme.desk.tapped("acme", tap)).text.startswith("Asked again")
    assert acme.events().count("AskedAgain") == 1


async def test_a_refusal_that_the_ledger_did_not_take_is_recorded_the_next_time():
    class Shaky(MemoryStore):
        away = False

        async def append(self, tenant, entries, expected, note=""):
            if self.away:
                raise StoreDown
            return await super().append(tenant, entries, expected, note)

        async def read(self, tenant, after, limit):
            if self.away:
                raise StoreDown
            return await super().read(tenant, after, limit)

    store = Shaky()
    acme = await tenant(store=store)
    await acme.opens()
    request = await acme.asks()
    store.away = True
    assert await acme.taps_on("stranger", Verb.APPROVE, request.hash)
    store.away = False
    for _ in range(2):
        await acme.taps_on("stranger", Verb.APPROVE, request.hash)
    assert acme.events().count("Refused") == 1


@pytest.mark.parametrize("who", ["tariro", "stranger"])
async def test_who_could_not_approve_does_not_deny_either(who: str):
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    await acme.taps_on(who, Verb.DENY, request.hash)
    assert acme.incident.stage is Stage.VALIDATED
    assert acme.incident.latest(ev.Refused) is not None
