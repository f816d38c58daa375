"""What people say of a verdict: by button or in words, once each, by who may, and what the answer says."""

import pytest

from bot.feedback import HOW, WORDS
from bot.ports import Verb
from ledger import events as ev
from ledger.events import Actor
from ledger.machine import Stage
from tests.rooms import POLICY, READING, Tenant, tenant
from tests.unit.bot.test_commands import Front, front

SLOW = READING.model_copy(
    update={"rule": "lat_crit", "signal": "latency", "headline": "62 % of requests are slow"}
)


async def detected(acme: Tenant, reading: ev.Reading = READING) -> str:
    made = await acme.record(
        POLICY, lambda v, n: ev.Detected(incident_id=v.next_incident_id("checkout"), reading=reading)
    )
    return made.hash


async def recovered(acme: Tenant, name: str = "checkout-1") -> None:
    await acme.record(POLICY, lambda v, n: ev.Recovered(incident_id=name, after=READING))


async def closed(acme: Tenant, name: str = "checkout-1") -> None:
    """Rudo closes it, whatever it does."""
    await acme.record(Actor.engineer("rudo", "telegram"), lambda v, n: ev.Resolved(incident_id=name))


def said(acme: Tenant) -> list[tuple[str, str]]:
    return [(fact.actor.id, event.kind) for fact, event in acme.incident.every(ev.Feedback)]


async def test_not_an_incident_of_one_that_is_over_is_an_opinion_and_changes_nothing_else():
    acme = await tenant()
    opened = await detected(acme)
    await recovered(acme)
    answer = await acme.taps_on("tendai", Verb.NOT_INCIDENT, opened, "")
    assert "Noted: not an incident" in answer.text
    assert answer.ref is not None
    assert said(acme) == [("tendai", "not_incident")]
    assert acme.incident.stage is Stage.RECOVERED


async def test_not_an_incident_of_an_open_one_closes_it_and_is_one_entry_also_when_tapped_twice():
    acme = await tenant()
    opened = await detected(acme)
    first = await acme.taps_on("tendai", Verb.NOT_INCIDENT, opened, "")
    assert "Closed as not an incident" in first.text
    second = await acme.taps_on("tendai", Verb.NOT_INCIDENT, opened, "")
    assert "You said that already" in second.text
    assert acme.events() == ["Detected", "Resolved"]


async def test_a_second_tap_is_answered_and_makes_no_second_entry():
    acme = await tenant()
    opened = await detected(acme)
    await recovered(acme)
    await acme.taps_on("tendai", Verb.NOT_INCIDENT, opened, "")
    assert "You said that already" in (await acme.taps_on("tendai", Verb.NOT_INCIDENT, opened, "")).text
    assert acme.events() == ["Detected", "Recovered", "Feedback"]


async def test_another_person_has_an_opinion_of_their_own():
    acme = await tenant()
    opened = await detected(acme)
    await recovered(acme)
    for who in ("tendai", "rudo"):
        await acme.taps_on(who, Verb.NOT_INCIDENT, opened, "")
    assert said(acme) == [("tendai", "not_incident"), ("rudo", "not_incident")]


async def test_it_may_be_said_again_when_it_came_back():
    acme = await tenant()
    opened = await detected(acme)
    await acme.taps_on("tendai", Verb.NOT_INCIDENT, opened, "")
    await acme.record(POLICY, lambda v, n: ev.Reopened(incident_id="checkout-1", reading=READING))
    await recovered(acme)
    assert "Noted" in (await acme.taps_on("tendai", Verb.NOT_INCIDENT, opened, "")).text


async def test_who_says_that_the_cause_was_right_may_still_change_their_mind():
    acme = await tenant()
    opened = await detected(acme)
    for verb in (Verb.CAUSE_RIGHT, Verb.CAUSE_WRONG, Verb.CAUSE_WRONG, Verb.CAUSE_RIGHT):
        await acme.taps_on("tendai", verb, opened, "")
    assert [kind for _, kind in said(acme)] == ["cause_right", "cause_wrong", "cause_right"]


async def test_a_new_normal_is_recorded_and_leaves_an_open_incident_to_policy():
    acme = await tenant()
    opened = await detected(acme, SLOW)
    answer = await acme.taps_on("tendai", Verb.NEW_NORMAL, opened, "")
    assert "new normal" in answer.text
    assert "closes by itself" in answer.text
    assert said(acme) == [("tendai", "new_normal")]
    assert acme.incident.stage is Stage.DETECTED


async def test_a_new_normal_is_refused_where_nothing_is_learned():
    acme = await tenant()
    opened = await detected(acme)
    answer = await acme.taps_on("tendai", Verb.NEW_NORMAL, opened, "")
    assert "not errors" in answer.text
    assert said(acme) == []
    assert acme.incident.latest(ev.Refused).kind == "not_learned"


async def test_a_new_normal_is_not_said_of_what_policy_saw_recover():
    acme = await tenant()
    opened = await detected(acme, SLOW)
    await recovered(acme)
    answer = await acme.taps_on("tendai", Verb.NEW_NORMAL, opened, "")
    assert "the old normal" in answer.text
    assert said(acme) == []


async def test_a_new_normal_is_said_of_what_a_person_closed():
    acme = await tenant()
    opened = await detected(acme, SLOW)
    await acme.taps_on("tendai", Verb.NOT_INCIDENT, opened, "")
    answer = await acme.taps_on("tendai", Verb.NEW_NORMAL, opened, "")
    assert answer.text.startswith("Noted: this is the new normal.")
    assert said(acme) == [("tendai", "new_normal")]


async def test_a_new_normal_is_said_of_the_newest_incident():
    acme = await tenant()
    opened = await detected(acme, SLOW)
    await recovered(acme)
    await detected(acme, SLOW)
    answer = await acme.taps_on("tendai", Verb.NEW_NORMAL, opened, "")
    assert "checkout-2" in answer.text
    assert said(acme) == []


@pytest.mark.parametrize("verb", [Verb.NOT_INCIDENT, Verb.NEW_NORMAL])
async def test_who_may_not_close_it_does_not_say_it_either(verb: Verb):
    acme = await tenant()
    opened = await detected(acme, SLOW)
    await recovered(acme)
    assert "not an approver" in (await acme.taps_on("tariro", verb, opened, "")).text
    assert said(acme) == []
    assert acme.incident.latest(ev.Refused).kind == "not_entitled"


@pytest.mark.parametrize("verb", WORDS.values())
async def test_a_stranger_says_nothing(verb: Verb):
    acme = await tenant()
    opened = await detected(acme, SLOW)
    assert "I do not know you" in (await acme.taps_on("stranger", verb, opened, "")).text
    assert acme.events() == ["Detected", "Refused"]


@pytest.mark.parametrize("verb", WORDS.values())
async def test_an_opinion_that_comes_again_after_a_crash_counts_once_and_is_answered_alike(verb: Verb):
    acme = await tenant()
    opened = await detected(acme, SLOW)
    await closed(acme)
    tap = acme.tap("tendai", verb, opened)
    first = await acme.desk.tapped("acme", tap)
    assert await acme.desk.tapped("acme", tap) == first
    assert acme.events().count("Feedback") == 1


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("not", "not_incident"),
        ("not an incident", "not_incident"),
        ("NORMAL", "new_normal"),
        ("right", "cause_right"),
        ("wrong", "cause_wrong"),
    ],
)
async def test_a_word_says_what_the_button_says(word: str, kind: str):
    here: Front = await front()
    await detected(here.acme, SLOW)
    await closed(here.acme)
    assert "Noted" in await here.told("tendai", f"/feedback checkout-1 {word}")
    assert said(here.acme) == [("tendai", kind)]


async def test_whatsapp_knows_the_bare_word():
    here = await front()
    await detected(here.acme, SLOW)
    await closed(here.acme)
    told = await here.told("+263770000002", "feedback checkout-1 normal", channel="whatsapp", private=True)
    assert "new normal" in told


@pytest.mark.parametrize("words", ["", "checkout-1", "checkout-9 not", "checkout-1 perhaps", "not"])
async def test_other_words_are_told_how(words: str):
    here = await front()
    await detected(here.acme)
    assert await here.told("rudo", f"/feedback {words}") == HOW
    assert said(here.acme) == []
