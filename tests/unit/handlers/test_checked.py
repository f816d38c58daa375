"""Every night the whole ledger is read again: intact, or sealed with people told."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from zoneinfo import ZoneInfo

import orjson
import pytest

from detectors.policy import Policy
from handlers.checked import Checking, next_night
from handlers.reconciler import Loop
from ledger import events as ev
from ledger.chain import leaf_hash, parse
from ledger.ledger import Refusal
from ledger.store import StoreDown
from ledger.view import epoch_ms
from tests.council_room import BOT, Room

HARARE = ZoneInfo("Africa/Harare")


class Night:
    """A room whose log is read again by one process."""

    def __init__(self, room: Room) -> None:
        self.room, self.store, self.told = room, room.ledger._store, []
        self.checking = Checking(room.ledger, room.rulebook, self.store, "web.1", self.tell)
        self.loop = Loop(room.ledger, (self.checking,), room.clock)

    async def tell(self, text: str) -> None:
        self.told.append(text)

    async def passes(self, hours: float = 24) -> None:
        self.loop.step()
        self.room.clock.advance(hours * 3600)
        self.loop.step()
        await self.loop.settle()

    @property
    def log(self) -> list:
        return self.store._logs["acme"]

    async def checks(self) -> list[ev.LedgerChecked]:
        found = [entry for entry in self.log if entry.event == "LedgerChecked"]
        return [ev.LedgerChecked(**entry.data, reason=entry.reason) for entry in found]


async def a_night() -> Night:
    room = Room()
    for text in (room.charter.text(), Policy().canonical()):
        await room.ledger._store.put_text("acme", sha256(text.encode()).hexdigest(), text)
    await room.open()
    return Night(room)


async def test_an_intact_log_is_said_to_be_with_its_root():
    night = await a_night()
    size = len(night.log)
    await night.passes()
    [said] = await night.checks()
    assert (said.intact, said.checked_seq, said.bad_seq, len(said.root)) == (True, size, 0, 64)
    assert night.told == []
    assert not night.room.ledger.sealed


@pytest.mark.parametrize("text", [None, "[tenant]", ""])
async def test_a_text_that_is_missing_or_another_is_told_and_seals_nothing(text: str | None):
    night = await a_night()
    digest = next(e.data["digest"] for e in night.log if e.event == "CharterAdopted")
    kept = night.store._texts.pop(("acme", digest))
    if text is not None:
        night.store._texts["acme", digest] = text
    await night.passes()
    [said] = await night.checks()
    assert said.intact
    assert f"under {digest[:8]} there is no text" in said.reason
    [told] = night.told
    assert digest[:8] in told
    assert not night.room.ledger.sealed
    night.store._texts["acme", digest] = kept
    await night.passes()
    assert (await night.checks())[-1].reason == f"All {said.checked_seq + 1} entries were read again"
    assert night.told == [told]


async def test_a_night_has_one_check_also_over_a_restart():
    night = await a_night()
    await night.passes()
    again = Night(night.room)
    await again.passes(1)
    assert len(await night.checks()) == 1
    await again.passes()
    assert len(await night.checks()) == 2


async def test_nothing_is_due_before_the_night():
    night = await a_night()
    [work] = night.checking.due(night.room.ledger.view, night.room.now_ms)
    assert datetime.fromtimestamp(work.at_ms / 1000, UTC).hour == 3
    assert 0 < work.at_ms - night.room.now_ms <= 86_400_000


def changed(night: Night, at: int, rechain: bool) -> None:
    """Another hand writes over entry *at*, and, if told to, over all after it."""
    fields = orjson.loads(night.log[at - 1].line) | {"reason": "nothing happened"}
    night.log[at - 1] = parse(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))
    for place in range(at, len(night.log)) if rechain else ():
        prev = leaf_hash(night.log[place - 1].line).hex()
        fields = orjson.loads(night.log[place].line) | {"prev": prev}
        night.log[place] = parse(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))


@pytest.mark.parametrize(("at", "rechain", "bad"), [(1, False, 2), (2, False, 3), (1, True, None)])
async def test_a_log_that_was_written_over_is_sealed_and_people_are_told(at, rechain, bad):
    night = await a_night()
    for _ in range(4):
        await night.room.write(BOT, ev.Started())
    changed(night, at, rechain)
    size = len(night.log)
    await night.passes()
    assert night.room.ledger.sealed
    [told] = night.told
    assert f"Entry {bad or size}:" in told
    assert isinstance(await night.room.ledger.record(BOT, lambda view, now: ev.Started()), Refusal)


async def test_a_log_that_is_shorter_than_it_was_is_not_intact():
    night = await a_night()
    await night.room.write(BOT, ev.Started())
    gone = night.log.pop()
    await night.passes()
    assert f"Entry {gone.seq}: it is not there any more" in night.told[0]


async def test_what_was_found_is_on_record_where_it_still_can_be():
    night = await a_night()
    for _ in range(4):
        await night.room.write(BOT, ev.Started())
    changed(night, 2, rechain=False)
    await night.passes()
    [said] = await night.checks()
    assert (said.intact, said.bad_seq) == (False, 3)


async def test_a_store_that_is_away_is_asked_again_later():
    night = await a_night()
    read = night.store.read

    async def away(*_):
        raise StoreDown

    night.store.read = away
    await night.passes()
    assert not night.room.ledger.sealed
    night.store.read = read
    await night.passes(0.1)
    assert [said.intact for said in await night.checks()] == [True]


@pytest.mark.parametrize(
    ("since", "night"),
    [("2026-06-03T00:59:59Z", "2026-06-03T01:00:00Z"), ("2026-06-03T01:00:00Z", "2026-06-04T01:00:00Z"),
     ("2026-06-03T20:00:00Z", "2026-06-04T01:00:00Z")],
)  # fmt: skip
def test_night_is_three_oclock_where_the_tenant_is(since: str, night: str):
    expected = datetime.fromisoformat(night)
    assert next_night(epoch_ms(datetime.fromisoformat(since)), HARARE) == epoch_ms(expected)
    assert expected.astimezone(HARARE).hour == 3
    assert timedelta(0) < expected - datetime.fromisoformat(since) <= timedelta(days=1)
