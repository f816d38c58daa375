"""Who is woken, who takes over, and what is left alone: typed in chat, kept in the ledger."""

import pytest

from bot.ports import Answer, Verb
from handlers.charter import parse
from ledger import events as ev
from tests.rooms import CHARTER, tenant
from tests.unit.bot.test_commands import Front

ROTA = """
[rota]
people = ["rudo", "tendai"]
starts = 2026-06-01T08:00:00
every = "7d"
"""


async def front(more: str = ROTA) -> Front:
    rules = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    return Front(await tenant(parse(rules + more)))


def paged(here: Front) -> list[str]:
    return [one.person for one in here.acme.room.addresses() if one.person]


async def test_oncall_says_who_it_is_now_and_who_is_next():
    here = await front()
    said = await here.told("tendai", "/oncall")
    assert said.startswith("Rudo is on call until Mon 2026-06-08 08:00. Then you.")
    assert (await here.told("rudo", "/oncall")).startswith("You are on call until")
    assert set(paged(here)) == {"rudo"}


async def test_without_a_rota_all_are_on_call():
    here = await front("")
    assert (await here.told("rudo", "/oncall")).startswith("There is no rota: Rudo and Tendai are on call")
    assert set(paged(here)) == {"rudo", "tendai"}


async def test_who_takes_over_is_woken_instead_and_it_is_an_entry():
    here = await front()
    said = await here.told("tendai", "/oncall override tendai until 18:00 Rudo sleeps")
    assert said.startswith("You are on call until 18:00. What opens now wakes you. #")
    assert set(paged(here)) == {"tendai"}
    taken = here.acme.room.ledger.view.overridden
    assert await here.acme.room.words(taken.words) == "Rudo sleeps"
    assert (await here.told("rudo", "/oncall")).startswith(
        "Tendai is on call until 18:00, instead of you. Then you."
    )
    here.acme.clock.advance(4 * 3600)
    assert set(paged(here)) == {"rudo"}


async def test_it_can_be_given_back():
    here = await front()
    assert "nobody has taken over" in await here.told("rudo", "/oncall override off")
    await here.told("rudo", "/oncall override tendai until 18:00")
    assert (await here.told("tendai", "/oncall override off")).startswith("The rota holds again")
    assert set(paged(here)) == {"rudo"}


@pytest.mark.parametrize(
    ("who", "words", "answer"),
    [
        ("tariro", "tendai until 18:00", "Only an admin"),
        ("rudo", "nobody until 18:00", "no such person"),
        ("rudo", "tariro until 18:00", "has not the role oncall"),
        ("rudo", "tendai", "Until when?"),
        ("rudo", "tendai until 2026-06-02 08:00", "over already"),
        ("rudo", "", "no such person"),
    ],
)
async def test_who_may_not_or_does_not_say_enough_changes_nothing(who, words, answer):
    here = await front()
    assert answer in await here.told(who, f"/oncall override {words}")
    assert here.acme.room.ledger.view.overridden is None


async def test_maintenance_is_an_entry_with_a_reason_and_holds_back_what_would_run():
    here = await front()
    said = await here.told("tendai", "/maintenance checkout until 2h moving the database")
    assert said.startswith("checkout is in maintenance until 16:00: nothing runs on it")
    view = here.acme.room.ledger.view
    assert view.in_maintenance("checkout", here.acme.room.now_ms())
    assert (await here.told("rudo", "/maintenance")).startswith("checkout is in maintenance until 16:00.")
    entries = await here.acme.room.store.read("acme", 0, 100)
    assert entries[-1].event == "MaintenanceDeclared"
    assert not any(b"moving the database" in entry.line for entry in entries)
    assert (await here.told("rudo", "/maintenance checkout off")).startswith(
        "The maintenance of checkout is over"
    )
    assert "nobody declared" in await here.told("rudo", "/maintenance checkout off")


@pytest.mark.parametrize(
    ("who", "words", "answer"),
    [
        ("tariro", "checkout until 2h x", "Only an admin"),
        ("rudo", "shop until 2h x", "no service shop"),
        ("rudo", "checkout until 2h", "Why?"),
        ("rudo", "checkout", "Until when?"),
        ("rudo", "checkout until 99d x", "more than a month"),
    ],
)
async def test_a_maintenance_that_is_not_whole_is_none(who, words, answer):
    here = await front()
    assert answer in await here.told(who, f"/maintenance {words}")
    assert here.acme.room.ledger.view.maintenance == {}


async def test_before_a_charter_is_in_force_there_is_nothing_to_say():
    here = Front(await tenant(adopted=False))
    for words in ("/oncall", "/maintenance"):
        answer = await here.says("rudo", words, private=True)
        assert isinstance(answer, Answer)
        assert "No charter is in force" in answer.text


async def test_who_took_over_stands_in_the_ledger_under_their_name():
    here = await front()
    await here.told("rudo", "/oncall override tendai until 18:00")
    [entry] = [e for e in await here.acme.room.store.read("acme", 0, 100) if e.event == "OncallOverridden"]
    assert (entry.actor["kind"], entry.actor["id"]) == ("engineer", "rudo")
    assert ev.EVENTS["OncallOverridden"].model_validate(entry.data).person == "tendai"


async def test_a_pause_can_end_by_itself_and_its_reason_lies_in_the_vault():
    here = await front()
    assert (await here.told("rudo", "/pause until 2h a migration")).startswith(
        "Paused. Nothing executes until 16:00 or /resume."
    )
    room = here.acme.room
    assert await room.words(room.ledger.view.paused.words) == "a migration"
    here.acme.clock.advance(7199)
    assert room.ledger.view.is_paused(room.now_ms())
    here.acme.clock.advance(1)
    assert not room.ledger.view.is_paused(room.now_ms())
    assert "Not paused. That is more than a month away" in await here.told("rudo", "/pause until 99d")
    assert not room.ledger.view.is_paused(room.now_ms())


async def test_run_with_a_code_stays_an_approval_where_bare_words_are_commands():
    here = await front()
    await here.acme.opens()
    await here.acme.asks()
    code = await here.code("tendai")
    said = await here.told("+263770000002", f"RUN {code}", channel="whatsapp", private=True)
    assert said.startswith("Approved")


@pytest.mark.parametrize(
    ("more", "woken"), [(ROTA, {"rudo": "tendai", "tendai": "rudo"}), ("", {"rudo": "tendai"})]
)
async def test_waking_the_next_wakes_who_follows_on_the_rota(more, woken):
    for who, whom in woken.items():
        here = await front(more)
        opened = await here.acme.opens()
        await here.acme.taps_on(who, Verb.ESCALATE, opened.hash)
        assert here.acme.incident.latest(ev.Escalated).to == (whom,)
