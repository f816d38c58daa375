"""The writer: one call for many taps, conflicts decided again, lost replies found."""

import asyncio
import random
import threading
from datetime import UTC, datetime

import pytest

from ledger import events as ev
from ledger.chain import Entry
from ledger.clock import ManualClock
from ledger.events import Actor, Reading
from ledger.ledger import BUSY, CROWD, Ledger, Refusal
from ledger.machine import Stage
from ledger.store import MemoryStore, StoreDown
from ledger.view import View, epoch_ms, fold

POLICY = Actor.policy()
BOT = Actor.orchestrator("bot.1")
RUDO = Actor.engineer("rudo", "telegram")
LONG_S = 20
READING = Reading(
    service="checkout", rule="err_crit", signal="errors", severity="critical", headline="h", explanation="e"
)


def new_ledger(store: MemoryStore, clock: ManualClock | None = None) -> Ledger:
    return Ledger("acme", store, clock or ManualClock(datetime(2026, 6, 3, tzinfo=UTC)), random.Random(1))


def detect(view: View, now: datetime) -> ev.Event | Refusal:
    if view.open_for("checkout"):
        return Refusal("open", "already open")
    return ev.Detected(incident_id=view.next_incident_id("checkout"), reading=READING)


OPTION = ev.Option(key="1", action="restart_workers", title="Restart", approve="1 oncall")


async def to_validated(ledger: Ledger, life_ms: int = 300_000) -> Entry:
    await ledger.record(POLICY, detect)
    await ledger.record(BOT, lambda v, n: ev.Proposed(incident_id="checkout-1", options=(OPTION,)))
    entry = await ledger.record(
        POLICY,
        lambda v, n: ev.Validated(
            incident_id="checkout-1", options=(OPTION,), deadline_ms=epoch_ms(n) + life_ms
        ),
    )
    assert isinstance(entry, Entry)
    return entry


def authorize(view: View, now: datetime) -> ev.Event | Refusal:
    request = view.incidents["checkout-1"].request
    if request is None:
        return Refusal("decided", "somebody was first")
    return ev.Authorized(incident_id="checkout-1", option="1", action="restart_workers", ref=request.ref)


async def test_256_simultaneous_taps_are_one_call_and_one_authorization():
    ledger = new_ledger(MemoryStore())
    await to_validated(ledger)
    before = ledger.calls
    answers = await asyncio.gather(*(ledger.record(RUDO, authorize) for _ in range(256)))
    assert ledger.calls == before + 1
    assert sum(isinstance(a, Entry) for a in answers) == 1
    assert {a.kind for a in answers if isinstance(a, Refusal)} == {"decided"}


def say(view: View, now: datetime) -> ev.Event:
    return ev.Started(version="0.1.0")


class Slow(MemoryStore):
    """Appends after a turn of the loop or two, as a server does."""

    async def append(self, *args):
        for _ in range(3):
            await asyncio.sleep(0)
        return await super().append(*args)


@pytest.mark.parametrize("clients", [1, 2, 8, 64])
async def test_those_who_are_answered_together_go_together_again(clients: int):
    ledger = new_ledger(Slow())

    async def client(offset: int) -> None:
        for _ in range(offset):
            await asyncio.sleep(0)
        for _ in range(50):
            assert isinstance(await ledger.record(BOT, say), Entry)

    await asyncio.gather(*map(client, range(clients)))
    assert ledger.view.head.seq == 50 * clients
    assert ledger.calls <= 50 + clients + 1, "once all have met, each call takes all of them"


class Hanging(MemoryStore):
    """Never answers an append."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def append(self, *args):
        self.asked.set()
        await asyncio.get_running_loop().create_future()


async def test_who_has_waited_long_enough_is_told_whether_it_may_still_count(monkeypatch):
    monkeypatch.setattr("ledger.ledger.PATIENCE_S", 0.02)
    store = Hanging()
    ledger = new_ledger(store)
    first = asyncio.create_task(ledger.record(BOT, say))
    await store.asked.wait()
    answers = [await first, *await asyncio.gather(*(ledger.record(BOT, say) for _ in range(3)))]
    assert [a.kind for a in answers] == ["busy"] * 4
    assert answers[0] == BUSY, "it is on its way"
    assert {a.why for a in answers[1:]} == {"The ledger is slow; nothing was recorded."}
    again = await asyncio.gather(ledger.record(BOT, say), ledger.record(BOT, say))
    assert [a.kind for a in again] == ["busy"] * 2, "and the alarm is set anew"
    ledger._writer.cancel()
    await asyncio.wait({ledger._writer})
    await ledger.close()


async def test_who_gives_up_waiting_takes_nobody_along():
    ledger = new_ledger(Slow())
    asked = [asyncio.create_task(ledger.record(BOT, say)) for _ in range(3)]
    await asyncio.sleep(0)
    asked[1].cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(a).__name__ for a in answers] == ["Entry", "CancelledError", "Entry"]
    assert ledger.view.head.seq == 3, "what was asked is recorded all the same"


async def test_two_writers_on_one_tenant_open_one_incident():
    store = MemoryStore()
    one, two = new_ledger(store), new_ledger(store)
    answers = await asyncio.gather(one.record(POLICY, detect), two.record(POLICY, detect))
    assert sorted(type(a).__name__ for a in answers) == ["Entry", "Refusal"]
    assert one.view.head == two.view.head


async def test_a_refusal_is_about_the_present_and_not_about_a_stale_view():
    store = MemoryStore()
    one, two = new_ledger(store), new_ledger(store)
    await to_validated(one)
    await two.catch_up()
    await one.record(RUDO, authorize)
    answer = await two.record(RUDO, authorize)
    assert isinstance(answer, Refusal)
    assert two.view.incidents["checkout-1"].stage is Stage.AUTHORIZED


async def test_an_illegal_decision_rejects_only_itself():
    ledger = new_ledger(MemoryStore())
    bad, good = await asyncio.gather(
        ledger.record(POLICY, lambda v, n: ev.Expired(incident_id="nothing-1")),
        ledger.record(POLICY, detect),
    )
    assert isinstance(bad, Refusal)
    assert bad.kind == "illegal"
    assert isinstance(good, Entry)


async def test_a_mistake_in_one_decision_is_its_callers_and_ends_nobody_elses_wait():
    ledger = new_ledger(MemoryStore())

    def broken(view: View, now: datetime) -> ev.Event | Refusal:
        raise ZeroDivisionError

    asked = (ledger.record(BOT, broken), ledger.record(POLICY, detect), ledger.record(BOT, broken))
    first, entry, third = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, ZeroDivisionError)
    assert isinstance(third, ZeroDivisionError)
    assert isinstance(entry, Entry)
    with pytest.raises(ZeroDivisionError):
        await ledger.record(BOT, broken)
    assert (await ledger.record(POLICY, detect)).kind == "open"


async def test_a_model_cannot_authorize():
    ledger = new_ledger(MemoryStore())
    await to_validated(ledger)
    answer = await ledger.record(Actor.model("claude"), authorize)
    assert isinstance(answer, Refusal)
    assert ledger.view.incidents["checkout-1"].stage is Stage.VALIDATED


@pytest.mark.parametrize(("late_s", "authorized"), [(-1, True), (0, False), (1, False)])
async def test_a_tap_and_the_deadline_cannot_both_win(late_s: int, authorized: bool):
    clock = ManualClock(datetime(2026, 6, 3, tzinfo=UTC))
    ledger = new_ledger(MemoryStore(), clock)
    await to_validated(ledger, 60_000)
    clock.advance(60 + late_s)
    tapped = await ledger.record(RUDO, authorize)

    def expire(view: View, now: datetime) -> ev.Event | Refusal:
        request = view.incidents["checkout-1"].last(ev.Validated)
        return ev.Expired(incident_id="checkout-1", ref=request.ref if request else None)

    expired = await ledger.record(POLICY, expire)
    assert isinstance(tapped, Entry) is authorized
    assert isinstance(expired, Entry) is not authorized


class Crowded(MemoryStore):
    """Before each append of ours, somebody else appends as long as *others* are left."""

    def __init__(self, others: int) -> None:
        super().__init__()
        self._others, self._left = new_ledger(self), others

    async def append(self, tenant, entries, expected, note=""):
        if self._left and entries[0].actor["id"] == RUDO.id:
            self._left -= 1
            assert isinstance(await self._others.record(BOT, lambda v, n: ev.Stopped()), Entry)
        return await super().append(tenant, entries, expected, note)


class Dice(random.Random):
    thrown = 0

    def uniform(self, a: float, b: float) -> float:
        self.thrown += 1
        return 0.0


@pytest.mark.parametrize(("others", "waits"), [(0, 0), (1, 0), (CROWD, 0), (CROWD + 3, 3)])
async def test_who_comes_second_goes_again_at_once_and_waits_only_in_a_crowd(others, waits):
    dice = Dice()
    ledger = Ledger("acme", Crowded(others), ManualClock(datetime(2026, 6, 3, tzinfo=UTC)), dice)
    entry = await ledger.record(RUDO, lambda v, n: ev.Paused())
    assert isinstance(entry, Entry)
    assert entry.seq == others + 1
    assert (ledger.calls, dice.thrown) == (others + 1, waits)


class LosesReplies(MemoryStore):
    """Carries the append out and then loses the answer."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    async def append(self, *args):
        answer = await super().append(*args)
        if self.left:
            self.left -= 1
            raise StoreDown("the connection broke")
        return answer


async def test_a_lost_reply_is_found_by_our_own_hash_and_written_once():
    store = LosesReplies(1)
    ledger = new_ledger(store)
    entry = await ledger.record(POLICY, detect)
    assert isinstance(entry, Entry)
    assert [e.hash for e in await store.read("acme", 0, 10)] == [entry.hash]


class Away(MemoryStore):
    async def append(self, *args):
        raise StoreDown("gone")

    async def read(self, *args):
        raise StoreDown("gone")


async def test_a_lost_reply_where_another_was_faster_is_decided_again():
    class Deaf(MemoryStore):
        """The first reply is lost, and it was a conflict: another writer stands there."""

        first = True

        async def append(self, tenant, entries, expected, note=""):
            if not self.first:
                return await super().append(tenant, entries, expected, note)
            self.first = False
            other = new_ledger(MemoryStore())
            theirs = await other.record(BOT, lambda v, n: ev.Started(version="theirs"))
            await super().append(tenant, [theirs], expected)
            raise StoreDown

    store = Deaf()
    ledger = new_ledger(store)
    made = await ledger.record(BOT, lambda v, n: ev.Started(version="ours"))
    assert isinstance(made, Entry)
    stored = await store.read("acme", 0, 10)
    assert [entry.data["version"] for entry in stored] == ["theirs", "ours"]
    assert made == stored[1]
    assert ledger.view == fold("acme", stored)


async def test_without_a_store_the_caller_is_told_that_nothing_runs():
    ledger = new_ledger(Away())
    answer = await ledger.record(POLICY, detect)
    assert isinstance(answer, Refusal)
    assert answer.kind == "ledger_away"
    assert not ledger.may_act()


async def test_the_fold_of_the_log_is_the_writers_own_view():
    store = MemoryStore()
    ledger = new_ledger(store)
    await to_validated(ledger)
    await ledger.record(RUDO, authorize)
    again = fold("acme", await store.read("acme", 0, 100))
    assert again.incidents == ledger.view.incidents
    assert again.head == ledger.view.head


class SlowShelf:
    """Keeps notes; the first takes until it may end."""

    where = "the shelf"

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.kept: list[str] = []

    def read(self) -> str:
        return ""

    def keep(self, note: str) -> None:
        if not self.kept:
            self.begun.set()
            assert self.may_end.wait(LONG_S)
        self.kept.append(note)


async def test_once_a_ledger_is_closed_the_newest_note_is_kept_and_nobody_writes_any_more(monkeypatch):
    monkeypatch.setattr("ledger.ledger.OUTSIDE_S", 3600.0)
    shelf, clock = SlowShelf(), ManualClock(datetime(2026, 6, 3, tzinfo=UTC))
    ledger = Ledger("acme", MemoryStore(), clock, random.Random(1), signer=b"s" * 32, outside=shelf)
    await ledger.record(BOT, lambda v, n: ev.Stopped())
    await asyncio.to_thread(shelf.begun.wait, LONG_S)
    await ledger.record(BOT, lambda v, n: ev.Stopped())
    closing = asyncio.create_task(ledger.close())
    await asyncio.wait({closing}, timeout=0.05)
    assert not closing.done(), "somebody still writes"
    shelf.may_end.set()
    async with asyncio.timeout(LONG_S):
        await closing
    assert shelf.kept[-1] == ledger.notary.note
    assert len(shelf.kept) == 2
