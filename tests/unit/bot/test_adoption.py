"""How a charter comes into force: the console's code once, then an admin's tap, and never a file alone."""

import hashlib
from dataclasses import dataclass, field

import pytest

from bot.adoption import Adoption, changes
from bot.commands import Commands
from bot.conversation import MemoryConversations
from bot.ports import Said, Tap, Verb
from bot.room import House
from bot.roster import console_code
from bot.tokens import MemoryCodes
from handlers.charter import parse
from ledger.events import Act
from tests.rooms import CHARTER, IDS, Tenant, charter, evidence, tenant

SECRET = b"a secret of the operator, 32 bytes or more"
CODE = console_code(SECRET, "acme")
FIRST = """
[tenant]
id = "acme"
[[people]]
id = "me"
name = "Me"
roles = ["oncall", "admin"]
[[services]]
id = "checkout"
health_url = "https://checkout.example.com/health/alerts"
"""


@dataclass
class MemoryLinkCodes:
    """Link codes of a test: the code is a hash of what it is for."""

    kept: dict = field(default_factory=dict)

    async def issue(self, tenant, person, channel, by):
        code = hashlib.sha256(f"{tenant}{person}{channel}{len(self.kept)}".encode()).hexdigest()[:8].upper()
        self.kept[tenant, code] = (person, channel, by)
        return code

    async def redeem(self, tenant, code):
        return self.kept.pop((tenant, code), None)


@dataclass
class Chat:
    """Words and taps of people, through the same door as production's."""

    acme: Tenant
    adoption: Adoption
    commands: Commands

    async def says(self, who, text, *, private=True, tenant="acme", channel="telegram"):
        vendor_id = IDS.get(who, who)
        said = Said(channel, vendor_id, vendor_id, text, Act(channel=channel), private=private)
        return (await self.commands.said(tenant, said)).text

    async def adopts(self, who, digest, **more):
        tap = Tap("telegram", IDS[who], IDS[who], Verb.ADOPT, digest[:16], Act(channel="telegram"), **more)
        return (await self.commands.tapped("acme", tap)).text

    @property
    def rules(self):
        return self.acme.room.ledger.view.rules

    def proposes(self, rules):
        self.acme.room.proposed, self.acme.room.proposed_policy = rules, rules.effective_policy()


async def a_chat(rules=None, *, adopted=False):
    acme = await tenant(rules, adopted=adopted)
    adoption = Adoption(SECRET, MemoryLinkCodes())
    talks, codes = MemoryConversations(acme.clock), MemoryCodes(acme.clock)
    return Chat(
        acme,
        adoption,
        Commands(
            House([acme.room]),
            acme.desk,
            adoption,
            codes,
            talks,
            condition=lambda room: [],
            evidence=evidence(),
        ),
    )


async def test_the_first_who_opens_the_link_becomes_the_admin():
    chat = await a_chat(parse(FIRST))
    said = await chat.says("4242", f"/start {CODE}", tenant="")
    assert "Charter in force since" in said
    assert "Watching checkout." in said
    assert chat.rules.charter == chat.acme.room.proposed.digest()
    assert chat.acme.room.who("telegram", "4242").id == "me"
    entries = await chat.acme.room.store.read("acme", 0, 10)
    assert [(entry.event, entry.actor["id"]) for entry in entries] == [
        ("Linked", "me"),
        ("CharterAdopted", "me"),
    ]
    assert b"4242" not in b"".join(entry.line for entry in entries)
    assert entries[-1].data["by_console"] is True


async def test_who_comes_second_with_the_consoles_code_changes_nothing():
    chat = await a_chat(parse(FIRST))
    await chat.says("4242", f"/start {CODE}", tenant="")
    before = chat.acme.room.ledger.view.head
    assert "was used already" in await chat.says("666", f"/start {CODE}", tenant="")
    assert chat.acme.room.who("telegram", "666") is None
    assert chat.acme.room.ledger.view.head == before


async def test_the_consoles_code_counts_in_private_alone_and_only_as_it_is():
    chat = await a_chat(parse(FIRST))
    assert "in a private chat" in await chat.says("4242", f"/start {CODE}", private=False, tenant="")
    assert "not valid here" in await chat.says("4242", f"/start {CODE[:-1]}A", tenant="")
    assert "not valid here" in await chat.says(
        "4242", f"/start {console_code(SECRET, 'umbrella')}", tenant=""
    )
    assert not chat.rules.charter


async def test_an_admin_whom_the_charter_names_by_number_is_not_replaced_by_a_stranger():
    chat = await a_chat()
    assert "names no admin for this account" in await chat.says("666", f"/start {CODE}", tenant="")
    assert "names no admin for this account" in await chat.says("tendai", f"/start {CODE}")
    assert not chat.rules.charter
    assert "Charter in force" in await chat.says("rudo", f"/start {CODE}")


async def test_a_file_alone_changes_nothing_and_an_admins_tap_adopts_it():
    chat = await a_chat(adopted=True)
    old, new = chat.rules.charter, charter(approve="1 dev")
    chat.proposes(new)
    assert chat.adoption.pending(chat.acme.room)
    question = chat.adoption.question(chat.acme.room)
    assert "services: checkout changed" in question.text
    assert question.rows[0][0].anchor == new.digest()
    assert chat.rules.charter == old
    said = await chat.adopts("rudo", new.digest())
    assert "Charter in force since" in said
    assert chat.rules.charter == new.digest()
    assert not chat.adoption.pending(chat.acme.room)
    [*_, entry] = await chat.acme.room.store.read("acme", 0, 10)
    assert entry.reason == "Changed charter, by its only admin"
    assert entry.data["changed"] == ["services: checkout changed"]


@pytest.mark.parametrize("who", ["tendai", "tariro", "stranger"])
async def test_only_an_admin_of_the_charter_in_force_adopts(who):
    chat = await a_chat(adopted=True)
    old, new = chat.rules.charter, charter(approve="1 dev")
    chat.proposes(new)
    assert "Only an admin" in await chat.adopts(who, new.digest())
    assert chat.rules.charter == old


async def test_an_admin_made_so_by_the_file_alone_cannot_adopt_it():
    chat = await a_chat(adopted=True)
    old = chat.rules.charter
    new = parse(
        CHARTER.replace('["oncall"]', '["oncall", "admin"]')
        .replace("{approve}", "1 oncall")
        .replace("{risk}", "low")
    )
    chat.proposes(new)
    assert "Only an admin of the charter in force" in await chat.adopts("tendai", new.digest())
    assert chat.rules.charter == old


async def test_a_forged_adopt_and_one_for_an_older_file_change_nothing():
    chat = await a_chat(adopted=True)
    old, seen, now = chat.rules.charter, charter(approve="1 dev"), charter(approve="2 dev")
    chat.proposes(now)
    assert "file has changed since" in await chat.adopts("rudo", seen.digest())
    assert "Only an admin" in await chat.adopts("rudo", now.digest(), genuine=False)
    assert chat.rules.charter == old


async def test_a_link_code_is_for_one_person_one_channel_and_one_use():
    chat = await a_chat(adopted=True)
    assert "Only an admin" in await chat.says("tendai", "/link tariro")
    code = (await chat.says("rudo", "/link tendai whatsapp")).rpartition(" ")[2]
    assert "not valid here" in await chat.says("7777", f"/link {code}", tenant="")
    code = (await chat.says("rudo", "/link tendai")).rpartition(" ")[2]
    assert "You are Tendai now" in await chat.says("7777", f"/link {code}", tenant="")
    assert chat.acme.room.who("telegram", "7777").id == "tendai"
    assert "not valid here" in await chat.says("8888", f"/link {code}", tenant="")
    linked = [e for e in await chat.acme.room.store.read("acme", 0, 10) if e.event == "Linked"]
    assert [(e.actor["id"], e.data["issued_by"]) for e in linked] == [("tendai", "rudo")]


def test_what_differs_is_told_without_contacts():
    before = charter()
    text = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    after = parse(text.replace("telegram = 1002", "telegram = 2002").replace("-100200300", "-100200301"))
    assert changes(before, after) == ["chats changed", "people: tendai changed"]
    assert changes(before, before) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[rota]\npeople = ["me"]\nstarts = 2026-06-01T08:00:00\n', "rota changed"),
        ('[[rules]]\nrisk = "high"\napprove = "1 admin"\n', "rules changed"),
        ('[[escalation]]\nafter = "2m"\nto = ["me"]\n', "escalation changed"),
        ('[[maintenance]]\nbegins = "02:00"\nends = "03:00"\n', "maintenance changed"),
    ],
)
def test_what_an_admin_is_asked_to_adopt_names_every_part_that_differs(more, said):
    assert changes(parse(FIRST), parse(FIRST + more)) == [said]
