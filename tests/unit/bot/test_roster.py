"""Who somebody is, by the charter that is in force at that moment."""

from bot.roster import MemoryLinks, Roster
from handlers.charter import parse
from ledger.view import View
from tests.rooms import CHARTER, IDS

WRITTEN = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")


async def test_an_id_counts_as_long_as_the_charter_that_is_asked_names_it():
    roster, view = Roster("acme", "salt", MemoryLinks()), View("acme")
    before, after = parse(WRITTEN), parse(WRITTEN.replace(IDS["rudo"], "4242"))
    for charter, known, unknown in ((before, IDS["rudo"], "4242"), (after, "4242", IDS["rudo"])) * 2:
        assert roster.who(view, charter, "telegram", known).id == "rudo"
        assert roster.who(view, charter, "telegram", unknown) is None


async def test_an_id_is_of_its_own_channel_and_nobody_has_an_empty_one():
    roster, view, charter = Roster("acme", "salt", MemoryLinks()), View("acme"), parse(WRITTEN)
    assert roster.who(view, charter, "whatsapp", IDS["rudo"]) is None
    assert roster.who(view, charter, "slack", IDS["rudo"]) is None
    assert roster.who(view, charter, "telegram", "") is None
