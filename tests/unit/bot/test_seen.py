"""The entry that a tap makes names the card that the person had before them."""

from hashlib import sha256

import pytest

from bot.answer import Desk
from bot.ports import Tap, Verb
from bot.seen import card_of
from bot.shown import MemoryShown, Shown
from ledger.events import Act
from ledger.store import StoreDown
from tests.rooms import IDS, tenant

CHAT = "-100200300"
OLD, NEW = "<b>19 % of requests fail</b>", "<b>22 % of requests fail</b>"


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


async def authorized(shown: Shown | None, message: str = "7", chat: str = CHAT, cards=None):
    """What stands in the ledger after Rudo's tap on *message*, where *shown* stands in the chat."""
    acme, cards = await tenant(), cards or MemoryShown()
    if shown:
        await cards.put("acme", f"checkout-1|telegram|{CHAT}", shown)
    await acme.opens()
    request = await acme.asks()
    desk = Desk({"acme": acme.room}, "bot.1", acme.desk._post, acme.desk._audit, card_of(cards))
    act = Act(channel="telegram", update="1", message=message)
    await desk.tapped("acme", Tap("telegram", IDS["rudo"], chat, Verb.APPROVE, request.hash, act, "1"))
    _, event = acme.incident.authorization
    return event


async def test_the_card_that_was_tapped_is_named_by_what_it_says_now():
    event = await authorized(Shown(message="7", html=NEW, digest=digest(OLD)))
    assert event.card_digest == digest(NEW)


async def test_a_tap_on_an_older_card_names_that_one():
    event = await authorized(Shown(message="9", html=NEW, stale=(("7", OLD),)))
    assert event.card_digest == digest(OLD)


@pytest.mark.parametrize(
    ("shown", "message", "chat"),
    [
        (None, "7", CHAT),
        (Shown(message="7", html=NEW, unsure=True), "7", CHAT),
        (Shown(message="7", html=NEW), "8", CHAT),
        (Shown(message="", html=NEW), "", CHAT),
        (Shown(message="7", html=NEW), "7", "1001"),
    ],
)
async def test_where_nobody_knows_what_was_seen_none_is_named(shown, message, chat):
    assert (await authorized(shown, message, chat)).card_digest == ""


class Away(MemoryShown):
    async def get(self, tenant, field):
        raise StoreDown


async def test_a_tap_counts_also_where_the_cards_cannot_be_asked_for():
    event = await authorized(None, cards=Away())
    assert (event.action, event.card_digest) == ("restart_workers", "")
