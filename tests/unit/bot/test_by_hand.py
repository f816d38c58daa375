"""What a person begins by hand takes the road of all others, and is approved by somebody else."""

import pytest

from bot.answer import Verb
from bot.draft import proposer
from handlers.charter import parse
from handlers.diagnose import Diagnose
from handlers.manual import dead
from handlers.propose import Propose, Validate
from ledger import events as ev
from ledger.events import Actor
from ledger.machine import Stage
from ledger.view import fold
from tests.rooms import BOT, CHARTER, tenant
from tests.unit.bot.test_commands import Front

PARAMETERS = """
[[services.actions]]
id = "scale"
title = "Scale workers"
webhook = "http://127.0.0.1:9001/recover/scale"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "1 oncall"

[[services.actions.parameters]]
id = "count"
kind = "integer"
least = 1
most = 20
"""


RESTLESS = PARAMETERS.replace('approve = "1 oncall"', 'approve = "1 oncall"\ncooldown = "1s"')


class Eyes:
    def reachable(self, tenant: str, service: str) -> bool:
        return True


async def front(approve: str = "1 oncall", more: str = PARAMETERS) -> Front:
    rules = CHARTER.replace("{approve}", approve).replace("{risk}", "low")
    return Front(await tenant(parse(rules + more)))


async def settle(here: Front) -> None:
    """Let policy look at what is there."""
    room = here.acme.room
    for one in (
        Propose(room.ledger, room.rulebook, (), "bot.1"),
        Validate(room.ledger, room.rulebook, Eyes()),
    ):
        for work in one.due(room.ledger.view, room.now_ms()):
            await one.do(work)


async def test_a_run_by_hand_is_a_request_that_somebody_else_approves():
    here = await front()
    said = await here.told("rudo", "/run checkout scale count=3")
    assert said.startswith("checkout-1: proposed. Policy looks, then others are asked; you do not approve")
    assert here.acme.events() == ["Detected", "Proposed"]
    assert here.acme.incident.last(ev.Proposed).actor.id == "rudo"
    await settle(here)
    request = here.acme.incident.request
    [option] = request.event.options
    assert [(one.name, one.value) for one in option.parameters] == [("count", "3")]
    refused = await here.acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert "somebody else must approve" in refused.text
    assert here.acme.incident.stage is Stage.VALIDATED
    assert (await here.acme.taps_on("tendai", Verb.APPROVE, request.hash)).text.startswith("Approved")
    assert here.acme.incident.stage is Stage.AUTHORIZED


@pytest.mark.parametrize(
    ("who", "words", "answer"),
    [
        ("tariro", "checkout scale count=3", "only an admin, or who may approve"),
        ("rudo", "", "/run checkout scale count=…: Scale workers"),
        ("rudo", "shop scale", "Send /run SERVICE ACTION"),
        ("rudo", "checkout delete", "/run checkout restart_workers: Restart workers"),
        ("rudo", "checkout scale", "count is missing"),
        ("rudo", "checkout scale count=21", "a whole number from 1 to 20"),
        ("rudo", "checkout scale count=3 count", "no name=value"),
        ("rudo", "checkout scale count=3 user=root", "no parameter user"),
    ],
)
async def test_what_is_not_whole_asks_nothing_and_says_what_is_missing(who, words, answer):
    here = await front()
    assert answer in await here.told(who, f"/run {words}")
    assert here.acme.room.ledger.view.incidents == {}


async def test_who_would_have_to_approve_it_himself_is_told_before_anything_is_opened():
    here = await front("1 admin")
    assert "it needs 1 admin, and who proposes does not" in await here.told(
        "rudo", "/run checkout restart_workers"
    )
    assert here.acme.room.ledger.view.incidents == {}
    assert "proposed" in await here.told("rudo", "/run checkout scale count=1")


async def test_nothing_comes_in_the_way_of_a_request_that_people_look_at():
    here = await front()
    await here.acme.opens()
    await here.acme.asks()
    said = await here.told("rudo", "/run checkout restart_workers")
    assert (
        said
        == "Nothing was asked: checkout-1 is asking or running something already. Deny that first, or wait."
    )
    assert here.acme.events() == ["Detected", "Proposed", "Validated"]


async def test_in_an_open_incident_that_nobody_answered_it_is_asked_anew():
    here = await front()
    await here.acme.opens()
    request = await here.acme.asks(life_ms=60_000)
    here.acme.clock.advance(60)
    ref = ev.Ref(seq=request.seq, hash=request.hash)
    await here.acme.record(Actor.policy(), lambda v, n: ev.Expired(incident_id="checkout-1", ref=ref))
    await here.told("tendai", "/run checkout restart_workers")
    assert here.acme.events()[-3:] == ["Expired", "AskedAgain", "Proposed"]


async def test_the_same_message_handled_twice_asks_once():
    here = await front()
    await here.told("rudo", "/run checkout scale count=3")
    here.acme.taps -= 1
    assert "proposed" in await here.told("rudo", "/run checkout scale count=3")
    assert here.acme.events() == ["Detected", "Proposed"]
    assert list(here.acme.room.ledger.view.incidents) == ["checkout-1"]


async def test_a_message_that_comes_again_when_all_is_over_opens_nothing():
    here = await front()
    await here.told("rudo", "/run checkout scale count=3")
    await here.told("rudo", "/resolve checkout-1")
    here.acme.taps -= 2
    assert "proposed" in await here.told("rudo", "/run checkout scale count=3")
    assert list(here.acme.room.ledger.view.incidents) == ["checkout-1"]


async def test_values_that_the_charter_no_longer_allows_are_held_back():
    here = await front()
    await here.told("rudo", "/run checkout scale count=15")
    rules = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    await here.acme.adopt(parse(rules + PARAMETERS.replace("most = 20", "most = 10")))
    await settle(here)
    assert here.acme.incident.stage is Stage.WITHHELD


async def expires(here: Front) -> None:
    """Nobody answers the request in time, and somebody asks again."""
    request = here.acme.incident.request
    here.acme.clock.advance(300)
    lapsed = ev.Expired(incident_id="checkout-1", ref=request.ref)
    await here.acme.record(Actor.policy(), lambda v, n: lapsed)
    await here.told("tendai", "/ask checkout-1")
    await settle(here)


async def test_asking_again_renews_what_the_person_proposed_and_they_still_do_not_approve_it():
    here = await front()
    await here.told("rudo", "/run checkout scale count=3")
    await settle(here)
    for _ in range(2):
        await expires(here)
        request = here.acme.incident.request
        [option] = request.event.options
        assert (option.action, option.parameters) == ("scale", (ev.Given(name="count", value="3"),))
    assert "somebody else" in (await here.acme.taps_on("rudo", Verb.APPROVE, request.hash)).text
    assert proposer(here.acme.incident, option) == "rudo"
    assert (await here.acme.taps_on("tendai", Verb.APPROVE, request.hash)).text.startswith("Approved")


async def test_what_somebody_denied_in_policys_own_incident_is_policys_to_ask_again():
    here = await front()
    await here.acme.opens()
    await here.told("rudo", "/run checkout scale count=3")
    await settle(here)
    await here.acme.taps_on("tendai", Verb.DENY, here.acme.incident.request.hash)
    await here.told("tendai", "/ask checkout-1")
    await settle(here)
    [option] = here.acme.incident.request.event.options
    assert (option.action, proposer(here.acme.incident, option)) == ("restart_workers", "")


async def test_in_maintenance_a_run_by_hand_is_held_back_and_says_why():
    here = await front()
    await here.told("rudo", "/maintenance checkout until 2h moving house")
    await here.told("rudo", "/run checkout scale count=3")
    await settle(here)
    assert here.acme.incident.latest(ev.Withheld).held[0].why == "checkout is in maintenance"


async def test_no_model_is_asked_about_a_run_by_hand_and_both_are_about_what_is_declared():
    here = await front()
    room = here.acme.room
    diagnose = Diagnose(room.ledger, room.rulebook, {"A": object(), "B": object()}, room.clock)
    await here.told("rudo", "/run checkout scale count=3")
    assert diagnose.due(room.ledger.view, room.now_ms()) == []
    other = await front()
    await other.told("rudo", "/declare checkout carts are empty")
    room = other.acme.room
    diagnose = Diagnose(room.ledger, room.rulebook, {"A": object(), "B": object()}, room.clock)
    assert len(diagnose.due(room.ledger.view, room.now_ms())) == 2


async def test_an_incident_is_declared_by_hand_and_its_words_lie_in_the_vault():
    here = await front()
    said = await here.told("tendai", "/declare checkout carts are empty since lunch")
    assert said.startswith("checkout-1 is open. People are told now.")
    opened = here.acme.incident.opened
    assert (opened.origin, here.acme.incident.facts[0].actor.id) == ("declared", "tendai")
    assert await here.acme.room.words(opened.words) == "carts are empty since lunch"
    entries = await here.acme.room.store.read("acme", 0, 100)
    assert not any(b"lunch" in entry.line for entry in entries)
    assert "checkout-1 is open already" in await here.told("rudo", "/declare checkout it is down")


@pytest.mark.parametrize(
    ("who", "words", "answer"),
    [
        ("tariro", "checkout it is down", "Only an admin"),
        ("rudo", "shop it is down", "no such service; there are checkout"),
        ("rudo", "checkout", "What do you see?"),
    ],
)
async def test_a_declaration_that_is_not_whole_opens_nothing(who, words, answer):
    here = await front()
    assert answer in await here.told(who, f"/declare {words}")
    assert here.acme.room.ledger.view.incidents == {}


async def test_who_declared_it_does_not_approve_what_policy_then_asks():
    here = await front()
    await here.told("tendai", "/declare checkout carts are empty")
    await settle(here)
    request = here.acme.incident.request
    assert "somebody else" in (await here.acme.taps_on("tendai", Verb.APPROVE, request.hash)).text
    assert (await here.acme.taps_on("rudo", Verb.APPROVE, request.hash)).text.startswith("Approved")


# --- dead letters --------------------------------------------------------------------------------------


async def failed(here: Front, kind: type[ev.Event] = ev.WebhookFailed) -> ev.Ref:
    """A run of scale count=3 that failed for good; its outcome."""
    await here.told("rudo", "/run checkout scale count=3")
    await settle(here)
    name = here.acme.room.ledger.view.open()[0].id
    incident = here.acme.room.ledger.view.incidents[name]
    await here.acme.taps_on("tendai", Verb.APPROVE, incident.request.hash)
    given = here.acme.room.ledger.view.incidents[name].authorization[0].ref
    started = ev.ExecutionStarted(incident_id=name, attempt=1, by="bot.1", until_ms=0, ref=given)
    await here.acme.record(BOT, lambda v, n: started)
    why = "It answered 500." if kind is ev.WebhookFailed else "Nobody heard the answer"
    made = await here.acme.record(BOT, lambda v, n: kind(incident_id=name, attempt=1, why=why, ref=given))
    return ev.Ref(seq=made.seq, hash=made.hash)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(ev.WebhookFailed, "failed. It answered 500."), (ev.OutcomeUnknown, "nobody knows whether it ran.")],
)
async def test_what_failed_for_good_is_listed_and_replayed_as_a_new_request(kind, words):
    here = await front()
    assert await here.told("rudo", "/dlq") == "Nothing failed for good. The queue is empty."
    letter = await failed(here, kind)
    listed = await here.told("rudo", "/dlq")
    assert listed.startswith(f"#{letter.seq} Wed 14:00 checkout-1: Scale workers with count=3: {words}")
    assert "no such dead letter" in await here.told("tendai", "/dlq replay 1")
    refused = await here.told("tendai", f"/dlq replay #{letter.seq}")
    assert refused == "Nothing was asked: it needs 1 oncall, and who proposes does not approve."
    assert here.acme.incident.stage in {Stage.WEBHOOK_FAILED, Stage.UNKNOWN}
    here.acme.clock.advance(600)
    assert "proposed" in await here.told("rudo", f"/dlq replay #{letter.seq}")
    await settle(here)
    request = here.acme.incident.request
    assert request.event.options[0].parameters == (ev.Given(name="count", value="3"),)
    assert here.acme.events().count("Authorized") == 1
    assert "somebody else" in (await here.acme.taps_on("rudo", Verb.APPROVE, request.hash)).text


async def test_a_replay_that_was_authorized_takes_the_letter_out():
    here = await front(
        more=PARAMETERS.replace('approve = "1 oncall"', 'approve = "1 oncall"\ncooldown = "1s"')
    )
    letter = await failed(here)
    here.acme.clock.advance(2)
    await here.told("rudo", f"/dlq replay {letter.seq}")
    await settle(here)
    assert str(letter.seq) in await here.told("rudo", "/dlq")
    await here.acme.taps_on("tendai", Verb.APPROVE, here.acme.incident.request.hash)
    assert await here.told("rudo", "/dlq") == "Nothing failed for good. The queue is empty."


async def test_what_a_person_found_out_takes_the_letter_out():
    here = await front()
    await failed(here, ev.OutcomeUnknown)
    await here.told("rudo", "/outcome checkout-1 did_not_run I looked")
    assert await here.told("rudo", "/dlq") == "Nothing failed for good. The queue is empty."


async def test_a_letter_of_an_incident_that_is_over_opens_a_new_one():
    here = await front(
        more=PARAMETERS.replace('approve = "1 oncall"', 'approve = "1 oncall"\ncooldown = "1s"')
    )
    letter = await failed(here)
    await here.told("rudo", "/resolve checkout-1")
    here.acme.clock.advance(2)
    assert "checkout-2: proposed" in await here.told("tendai", f"/dlq replay {letter.seq}")


async def test_a_letter_whose_action_the_charter_no_longer_names_is_not_replayed():
    here = await front()
    letter = await failed(here)
    rules = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    await here.acme.adopt(parse(rules))
    assert "names no scale of checkout" in await here.told("rudo", f"/dlq replay {letter.seq}")
    assert here.acme.incident.stage is Stage.WEBHOOK_FAILED


async def test_a_process_that_begins_anew_knows_the_same_letters():
    here = await front()
    await failed(here, ev.OutcomeUnknown)
    room = here.acme.room
    [letter] = dead(room.ledger.view)
    assert dead(fold("acme", await room.store.read("acme", 0, 1_000))) == [letter]
    assert (letter.unknown, letter.action, letter.given[0].value) == (True, "scale", "3")
