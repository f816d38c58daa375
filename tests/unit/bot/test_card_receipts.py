"""Every message that reports a fact of consequence carries its receipt, in every channel and language."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import gsm7
from bot.answer import receipted
from bot.letters import TEMPLATES
from bot.ports import Answer, Verb
from bot.receipts import read, stamp
from bot.rings import Milestone, milestone
from bot.words import units
from handlers.charter import Tenant
from ledger import events as ev
from ledger.machine import Stage
from tests.rooms import tenant
from tests.unit.bot.stories import MOMENTS, charter
from tests.unit.bot.test_cards import CODES, NOTES, Reader, render

LANGUAGES = get_args(Tenant.model_fields["language"].annotation)
REPORTS = {
    Stage.DETECTED: (ev.Detected, ev.Reopened, ev.AskedAgain),
    Stage.PROPOSED: (ev.Detected, ev.Reopened, ev.AskedAgain),
    Stage.WITHHELD: (ev.Withheld,),
    Stage.VALIDATED: (ev.Validated,),
    Stage.AUTHORIZED: (ev.Authorized,),
    Stage.EXECUTING: (ev.Authorized,),
    Stage.EXECUTED: (ev.Authorized,),
    Stage.DENIED: (ev.Denied,),
    Stage.EXPIRED: (ev.Expired,),
    Stage.STOOD_DOWN: (ev.StoodDown,),
    Stage.WEBHOOK_FAILED: (ev.WebhookFailed,),
    Stage.UNKNOWN: (ev.OutcomeUnknown,),
    Stage.NOT_RECOVERED: (ev.NotRecovered,),
    Stage.INCONCLUSIVE: (ev.Inconclusive,),
    Stage.RECOVERED: (ev.Recovered,),
    Stage.RESOLVED: (ev.Verified, ev.Resolved),
}
"""The entry that a card of each stage reports. None is left out."""

OUTCOMES = {
    Stage.STOOD_DOWN, Stage.WEBHOOK_FAILED, Stage.UNKNOWN, Stage.NOT_RECOVERED, Stage.INCONCLUSIVE,
}  # fmt: skip
SMS_WITHOUT = {Milestone.NONE, Milestone.OPENED, Milestone.REQUEST}
"""In one segment a request needs its room for what runs, its code and its time."""


def of(name: str, language: str = "en"):
    story = MOMENTS[name]
    reader = replace(Reader.of(charter(), "rudo"), language=language)
    card = render(story.incident, charter(), reader, story.at_ms, approval_code=CODES, notes=NOTES)
    return story.incident, card


def stands_in(text: str, fact) -> bool:
    return any((one.seq, one.start) == (fact.seq, fact.hash[:20]) for one in read(text))


def reported(incident):
    return incident.last(*REPORTS[incident.stage])


def test_no_stage_is_left_out():
    assert set(REPORTS) == set(Stage)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", MOMENTS)
def test_every_card_carries_the_receipt_of_what_it_reports(name: str, language: str):
    incident, card = of(name, language)
    fact = reported(incident)
    if stage_follows_a_failure(incident):
        fact = incident.last(ev.NotRecovered)
    assert stands_in(card.plain, fact), card.plain
    known = {(fact.seq, fact.hash[:20]) for fact in incident.facts}
    assert {(one.seq, one.start) for one in read(card.plain)} <= known


def stage_follows_a_failure(incident) -> bool:
    """While the next request is made, the card still tells of what did not help."""
    failed, asked = incident.last(ev.NotRecovered), incident.last(ev.Detected, ev.Reopened, ev.AskedAgain)
    return incident.stage in {Stage.DETECTED, Stage.PROPOSED} and bool(failed) and failed.seq > asked.seq


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", MOMENTS)
def test_an_outcome_carries_the_approvals_receipt_too(name: str, language: str):
    incident, card = of(name, language)
    verified = incident.stage is Stage.RESOLVED and incident.latest(ev.Verified)
    if incident.stage in OUTCOMES or verified:
        assert stands_in(card.plain, incident.authorization[0]), card.plain


@pytest.mark.parametrize("name", [n for n, s in MOMENTS.items() if s.incident.stage is Stage.VALIDATED])
def test_a_card_that_follows_an_outcome_keeps_its_receipt(name: str):
    incident, card = of(name)
    failed = incident.last(ev.NotRecovered)
    if failed:
        assert stands_in(card.plain, failed), card.plain


@pytest.mark.parametrize("name", MOMENTS)
def test_every_whatsapp_letter_and_each_outcome_by_sms_carries_its_receipt(name: str):
    incident, card = of(name)
    seq, kind = milestone(incident)
    if not card.template:
        assert kind is Milestone.NONE
        return
    fact = next(fact for fact in incident.facts if fact.seq == seq)
    assert any(stands_in(variable, fact) for variable in card.variables), card.variables
    assert len(card.variables) == len(TEMPLATES[card.template].samples)
    if kind not in SMS_WITHOUT:
        assert stands_in(card.sms, fact), card.sms
    assert gsm7.septets(card.sms) <= gsm7.SEGMENT


@pytest.mark.parametrize("verb", [Verb.APPROVE, Verb.DENY, Verb.ACK, Verb.RESOLVE, Verb.NOT_INCIDENT])
async def test_a_taps_answer_carries_the_receipt_of_what_it_made(verb: Verb):
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    answer = await acme.taps_on("rudo", verb, request.hash)
    [made] = await acme.room.store.read("acme", acme.room.ledger.view.head.seq - 1, 1)
    assert stands_in(answer.text, made)
    assert units(answer.text) <= 200


@given(st.text(max_size=400), st.integers(1, 10**12))
def test_a_long_answer_gives_way_to_its_receipt(text: str, seq: int):
    digest = "7f" * 32
    told = receipted(Answer(text, ref=ev.Ref(seq=seq, hash=digest)))
    assert units(told.text) <= 200
    assert told.text.endswith(stamp(seq, digest))
    assert receipted(Answer(text)).text == text
