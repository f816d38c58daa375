"""What people type: the same table for every channel, nothing for strangers, and no bare yes."""

import pytest

from bot.adoption import Adoption
from bot.commands import COMMANDS, Commands
from bot.conversation import MemoryConversations
from bot.ports import Answer, Said, Verb
from bot.room import House, Room
from bot.tokens import MemoryCodes
from handlers.charter import Person
from ledger import events as ev
from ledger.chain import Entry
from ledger.events import Act
from ledger.machine import Stage
from tests.rooms import GROUP, IDS, Tenant, charter, evidence, tenant

SECRET = b"s" * 32


class LinkCodes:
    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, str, str]] = {}

    async def issue(self, tenant: str, person: str, channel: str, by: str) -> str:
        self.kept["CODE2345"] = person, channel, by
        return "CODE2345"

    async def redeem(self, tenant: str, code: str) -> tuple[str, str, str] | None:
        return self.kept.pop(code, None)


class Front:
    """The desk for words, for one tenant in memory."""

    def __init__(self, acme: Tenant) -> None:
        self.acme = acme
        self.codes = MemoryCodes(acme.clock)
        self.posted: list[tuple[str, Answer]] = []
        self.commands = Commands(
            House([acme.room]),
            acme.desk,
            Adoption(SECRET, LinkCodes()),
            self.codes,
            MemoryConversations(acme.clock),
            lambda room: ["NORMAL."],
            evidence(self.post),
        )

    async def post(self, room: Room, person: Person, answer: Answer) -> bool:
        self.posted.append((person.id, answer))
        return True

    async def says(
        self, who: str, text: str, *, channel: str = "telegram", private: bool = False, tenant: str = "acme"
    ) -> Answer | None:
        vendor = IDS.get(who, who)
        chat = vendor if private else GROUP
        self.acme.taps += 1
        act = Act(channel=channel, update=str(self.acme.taps), at_ms=self.acme.room.now_ms())
        return await self.commands.said(tenant, Said(channel, vendor, chat, text, act, private))

    async def told(self, who: str, text: str, **more: object) -> str:
        answer = await self.says(who, text, **more)  # type: ignore[arg-type]
        assert answer is not None
        return answer.text

    async def log(self) -> list[Entry]:
        return await self.acme.room.store.read("acme", 0, 1_000)

    async def code(self, recipient: str, option: str = "1") -> str:
        request = self.acme.incident.request
        until_ms = request.event.deadline_ms
        return await self.codes.issue("acme", recipient, request.hash, option, until_ms)


async def front(*, adopted: bool = True) -> Front:
    return Front(await tenant(adopted=adopted))


@pytest.mark.parametrize("name", COMMANDS)
async def test_every_command_answers_with_and_without_an_incident(name: str):
    here = await front()
    assert await here.told("rudo", f"/{name}", private=True)
    await here.acme.opens()
    await here.acme.asks()
    assert await here.told("rudo", f"/{name} checkout-1", private=True)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "start"])
async def test_a_stranger_learns_nothing(name: str):
    here = await front()
    await here.acme.opens()
    answer = await here.told("stranger", f"/{name} checkout-1", private=True)
    assert "checkout" not in answer
    assert "Rudo" not in answer


async def test_a_code_approves_what_it_was_given_for():
    here = await front()
    await here.acme.opens()
    await here.acme.asks(here.acme.option("A", theory="A"), here.acme.option("B", "switch_payments", "B"))
    code = await here.code("chat1", "B")
    assert (await here.told("tendai", f"/approve {code}")).startswith("Approved")
    assert here.acme.incident.authorization[1].action == "switch_payments"


async def test_a_code_of_somebody_else_is_no_code():
    here = await front()
    await here.acme.opens()
    await here.acme.asks()
    code = await here.code("rudo")
    assert "No open request has that code for you" in await here.told("tendai", f"/approve {code}")
    assert here.acme.incident.stage is Stage.VALIDATED


async def test_a_code_is_not_the_right_to_use_it():
    here = await front()
    await here.acme.opens()
    await here.acme.asks()
    code = await here.code("chat1")
    assert "not an approver" in await here.told("tariro", f"/approve {code}")
    assert here.acme.incident.stage is Stage.VALIDATED


async def test_who_guesses_has_five_tries():
    here = await front()
    await here.acme.opens()
    await here.acme.asks()
    code = await here.code("chat1")
    for wrong in range(5):
        await here.told("tendai", f"/approve {(int(code) + wrong + 1) % 10_000:04}")
    await here.told("tendai", f"/approve {code}")
    assert here.acme.incident.stage is Stage.VALIDATED
    assert (await here.told("rudo", f"/approve {code}")).startswith("Approved")


@pytest.mark.parametrize("words", ["yes", "ok", "Yes!", "approve", "RUN", "👍", "/approve", "approved"])
async def test_a_bare_yes_approves_nothing(words: str):
    here = await front()
    await here.acme.opens()
    await here.acme.asks()
    for channel in ("telegram", "whatsapp"):
        who = "tendai" if channel == "telegram" else "+263770000002"
        await here.says(who, words, channel=channel, private=True)
    assert here.acme.incident.stage is Stage.VALIDATED


async def test_that_somebody_said_yes_is_on_record_and_they_are_told_what_would_count():
    here = await front()
    assert await here.told("tendai", "yes", private=True) == "Send status, audit or help."
    await here.acme.opens()
    await here.acme.asks()
    assert "A bare yes approves nothing" in await here.told("tendai", "yes", private=True)
    [refused] = [e for e in await here.log() if e.event == "Refused"]
    assert (refused.data["kind"], refused.data["person"]) == ("bare_yes", "tendai")


async def test_a_command_of_a_stranger_in_the_teams_chat_is_on_record_as_a_tap_is():
    here = await front()
    for text in ("/pause", "/resolve checkout-1", "/approve 4812"):
        assert "I do not know you" in await here.told("stranger", text)
    assert [e.data["kind"] for e in await here.log() if e.event == "Refused"] == ["stranger"]


async def test_who_may_approve_nothing_does_not_end_a_pause():
    here = await front()
    await here.told("tariro", "/pause")
    assert "Only an approver or an admin" in await here.told("tariro", "/resume")
    assert here.acme.room.ledger.view.paused
    await here.told("tendai", "/resume")
    assert not here.acme.room.ledger.view.paused


@pytest.mark.parametrize("named", ["search-1", "checkout-2", "../../etc", "<b>checkout</b>"])
async def test_another_incident_than_was_named_is_never_meant(named: str):
    here = await front()
    await here.acme.opens()
    assert "Which incident" in await here.told("rudo", f"/resolve {named} done")
    assert here.acme.incident.is_open
    await here.told("rudo", "/resolve it was a load test")
    assert not here.acme.incident.is_open


async def test_a_vote_is_taken_back_by_command():
    here = Front(await tenant(charter("2 oncall")))
    await here.acme.opens()
    request = await here.acme.asks()
    await here.acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert "taken back: 0 of 2" in await here.told("rudo", "/withdraw")
    assert "You stand for nothing" in await here.told("rudo", "/withdraw")


async def test_words_with_a_code_deny_and_the_reason_lies_in_the_vault_alone():
    here = await front()
    await here.acme.opens()
    await here.acme.asks()
    code = await here.code("tendai")
    await here.told("+263770000002", f"NO {code} my mother's shop is down", channel="whatsapp", private=True)
    assert here.acme.incident.stage is Stage.DENIED
    denied = here.acme.incident.latest(ev.Denied)
    assert await here.acme.room.words(denied.words) == "my mother's shop is down"
    entries = await here.acme.room.store.read("acme", 0, 100)
    assert not any(b"mother" in entry.line for entry in entries)


async def test_after_deny_the_next_words_are_the_reason():
    here = await front()
    await here.acme.opens()
    request = await here.acme.asks()
    answer = await here.commands.tapped("acme", here.acme.tap("rudo", Verb.DENY, request.hash))
    assert "Why?" in answer.html
    assert "Noted" in await here.told("rudo", "we are moving the database", private=True)
    noted = here.acme.incident.latest(ev.Noted)
    assert await here.acme.room.words(noted.words) == "we are moving the database"


async def test_pause_stops_what_comes_next_and_resume_ends_it():
    here = await front()
    assert "Nothing executes until /resume" in await here.told("rudo", "/pause a migration")
    assert here.acme.room.ledger.view.is_paused(here.acme.room.now_ms())
    assert "already" in await here.told("tendai", "/pause")
    await here.told("tendai", "/resume")
    assert not here.acme.room.ledger.view.is_paused(here.acme.room.now_ms())


async def test_an_admin_links_a_person_by_a_code_that_works_once():
    here = await front()
    assert "Only an admin" in await here.told("tendai", "/link rudo whatsapp")
    assert "/link CODE2345" in await here.told("rudo", "/link tariro whatsapp")
    assert "private chat" in await here.told("+26377", "/link CODE2345", channel="whatsapp", tenant="")
    told = await here.told("+26377", "link CODE2345", channel="whatsapp", private=True, tenant="")
    assert told.startswith("You are Tariro")
    assert here.acme.room.who("whatsapp", "+26377").id == "tariro"
    assert "not valid" in await here.told(
        "+26388", "link CODE2345", channel="whatsapp", private=True, tenant=""
    )
    entries = await here.acme.room.store.read("acme", 0, 100)
    assert not any(b"+26377" in entry.line for entry in entries)


async def test_a_link_that_the_ledger_does_not_know_counts_for_nothing():
    here = await front()
    person = here.acme.room.people.person("tendai")
    await here.acme.room.roster.link(person, "telegram", "6666")
    assert here.acme.room.who("telegram", "6666") is None


async def test_audit_shows_rows_with_receipts_and_says_that_the_chain_verifies():
    here = await front()
    await here.acme.opens()
    request = await here.acme.asks()
    await here.acme.taps_on("rudo", Verb.APPROVE, request.hash)
    told = await here.told("rudo", "/audit checkout-1")
    assert "Authorized rudo: Restart workers" in told
    assert "Chain verifies" in told
    assert "Policy 2026.1+" in told


@pytest.mark.parametrize("which", [0, 1, -1])
async def test_audit_says_so_when_an_entry_is_gone(which: int):
    here = await front()
    await here.acme.opens()
    await here.acme.asks()
    del here.acme.room.store._logs["acme"][which]
    assert "The chain is broken" in await here.told("rudo", "/audit checkout-1")


async def test_outcome_is_reported_by_a_person_in_their_own_words():
    here = await front()
    await here.acme.opens()
    assert "Send /outcome" in await here.told("rudo", "/outcome checkout-1 maybe")
    assert "On record" in await here.told("rudo", "/outcome checkout-1 did_not_run I looked")
    assert here.acme.incident.latest(ev.OutcomeReported).outcome == "did_not_run"
