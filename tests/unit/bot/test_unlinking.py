"""An account stops speaking for somebody: they say so, an admin does, or the charter names them no more."""

import asyncio

from bot.state import RedisLinks
from handlers.charter import parse
from ledger.chain import receipt
from tests.rooms import CHARTER
from tests.unit.bot.test_adoption import CODE, Chat, a_chat
from tests.valkey import a_valkey, connected

OLIVIA = """
[[people]]
id = "olivia"
name = "Olivia"
roles = ["oncall"]
"""
RULES = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")


async def with_olivia() -> Chat:
    """Olivia is linked on both channels; Rudo, whom the charter names by id, is admin."""
    chat = await a_chat(parse(RULES + OLIVIA))
    await chat.says("rudo", f"/start {CODE}", tenant="")
    for channel, vendor_id in (("telegram", "7777"), ("whatsapp", "+263770000007")):
        code = (await chat.says("rudo", f"/link olivia {channel}")).split()[-1]
        await chat.says(vendor_id, f"/link {code}", channel=channel)
    assert chat.acme.room.who("telegram", "7777").id == "olivia"
    assert chat.acme.room.who("whatsapp", "+263770000007").id == "olivia"
    return chat


async def unlinked(chat: Chat) -> list:
    entries = await chat.acme.room.store.read("acme", 0, 100)
    return [entry for entry in entries if entry.event == "Unlinked"]


def kept(chat: Chat) -> dict:
    return dict(chat.acme.room.roster._links.all("acme"))


async def test_a_person_unlinks_the_account_they_write_from_and_no_other():
    chat = await with_olivia()
    said = await chat.says("7777", "/unlink")
    [entry] = await unlinked(chat)
    assert "Unlinked: Olivia on telegram." in said
    assert f"#{entry.seq} · {receipt(entry)}" in said
    assert (entry.actor["id"], entry.data["person"], entry.data["channel"]) == (
        "olivia",
        "olivia",
        "telegram",
    )
    assert chat.acme.room.who("telegram", "7777") is None
    assert chat.acme.room.who("whatsapp", "+263770000007").id == "olivia"
    assert list(kept(chat)) == ["whatsapp:+263770000007"]
    assert "I do not know you" in await chat.says("7777", "/status")


async def test_an_admin_unlinks_every_account_of_a_person():
    chat = await with_olivia()
    assert "Unlinked: Olivia on telegram, whatsapp." in await chat.says("rudo", "/unlink olivia")
    assert {(e.actor["id"], e.data["channel"]) for e in await unlinked(chat)} == {
        ("rudo", "telegram"),
        ("rudo", "whatsapp"),
    }
    assert kept(chat) == {}
    assert chat.acme.room.private(chat.acme.room.people.person("olivia")) == []


async def test_nobody_else_unlinks_a_person():
    chat = await with_olivia()
    for who in ("tendai", "7777"):
        assert "Only an admin can unlink others" in await chat.says(who, "/unlink Olivia")
    assert "I do not know you" in await chat.says("stranger", "/unlink olivia")
    assert await unlinked(chat) == []


async def test_what_is_no_link_is_said_and_changes_nothing():
    chat = await with_olivia()
    assert "On telegram the charter itself names them" in await chat.says("rudo", "/unlink")
    assert "I know no such person" in await chat.says("rudo", "/unlink nobody")
    await chat.says("rudo", "/unlink olivia")
    assert "No account of Olivia is linked" in await chat.says("rudo", "/unlink olivia")
    assert len(await unlinked(chat)) == 2


async def test_whom_a_new_charter_does_not_name_is_unlinked_and_does_not_come_back_with_the_name():
    chat = await with_olivia()
    chat.proposes(parse(RULES))
    assert "in force" in await chat.adopts("rudo", chat.acme.room.proposed.digest())
    made = await unlinked(chat)
    assert {(e.actor["id"], e.data["person"], e.data["channel"]) for e in made} == {
        ("rudo", "olivia", "telegram"),
        ("rudo", "olivia", "whatsapp"),
    }
    assert kept(chat) == {}
    chat.proposes(parse(RULES + OLIVIA))
    await chat.adopts("rudo", chat.acme.room.proposed.digest())
    assert chat.acme.room.who("telegram", "7777") is None
    assert len(await unlinked(chat)) == 2


async def test_a_charter_that_goes_on_naming_somebody_leaves_their_links():
    chat = await with_olivia()
    chat.proposes(parse(RULES + OLIVIA + "\n[policy]\nclose_ms = 90000\n"))
    await chat.adopts("rudo", chat.acme.room.proposed.digest())
    assert await unlinked(chat) == []
    assert chat.acme.room.who("telegram", "7777").id == "olivia"


async def test_an_id_that_was_dropped_is_gone_from_redis_too():
    async with a_valkey() as server, connected(server) as call:
        links = RedisLinks(call)
        await links.put("acme", "telegram:7777", "olivia")
        await links.drop("acme", "telegram:7777")
        again = RedisLinks(call)
        await again.refresh("acme")
        assert (dict(links.all("acme")), dict(again.all("acme"))) == ({}, {})


async def test_two_who_unlink_at_the_same_moment_leave_one_entry_a_channel():
    chat = await with_olivia()
    said = await asyncio.gather(chat.says("rudo", "/unlink olivia"), chat.says("rudo", "/unlink olivia"))
    assert len(await unlinked(chat)) == 2
    assert sorted("Unlinked" in one for one in said)[-1]
