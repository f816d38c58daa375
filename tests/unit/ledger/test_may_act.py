"""On what a process may act: a ledger that it can reach, that keeps what it takes, and that is its own."""

import asyncio

import pytest

from ledger import events as ev
from ledger.chain import Head
from ledger.ledger import Ledger, Refusal
from ledger.store import Durability, MemoryStore, StoreDown
from tests.unit.ledger.test_ledger import POLICY, READING, detect, new_ledger, to_validated


class Changing(MemoryStore):
    """A store that can be away, slow, or another one than it was."""

    kept = Durability.DURABLE
    says: Head | None = None
    is_away = False

    def __init__(self) -> None:
        super().__init__()
        self.began, self.through = asyncio.Event(), asyncio.Event()
        self.through.set()

    async def durability(self):
        if self.is_away:
            raise StoreDown("it is away")
        return self.kept

    async def head(self, tenant):
        return self.says or await super().head(tenant)

    async def append(self, tenant, entries, expected, note=""):
        self.began.set()
        await self.through.wait()
        return await super().append(tenant, entries, expected, note)


async def swept(store: Changing) -> Ledger:
    ledger = new_ledger(store)
    await to_validated(ledger)
    await ledger.sweep()
    assert ledger.may_act()
    return ledger


@pytest.mark.parametrize("kept", Durability)
async def test_it_acts_where_what_is_appended_outlives_the_server_and_nowhere_else(kept: Durability):
    store = Changing()
    ledger = await swept(store)
    store.kept = kept
    await ledger.sweep()
    assert ledger.may_act() is kept.may_execute


async def test_it_acts_on_nothing_while_the_ledger_is_away_and_again_when_it_is_back():
    store = Changing()
    ledger = await swept(store)
    for store.is_away in (True, False):
        await ledger.sweep()
        assert ledger.may_act() is not store.is_away


async def test_it_acts_on_nothing_that_somebody_called_not_its_own():
    ledger = await swept(Changing())
    ledger.distrust("its tail is not ours")
    assert not ledger.may_act()
    await ledger.sweep()
    assert not ledger.may_act()


@pytest.mark.parametrize("seq", [0, 1, 2, 3])
async def test_a_log_that_is_shorter_or_another_than_it_was_is_sealed(seq: int):
    store = Changing()
    ledger = await swept(store)
    store.says = Head(seq, "f" * 64)
    await ledger.sweep()
    assert f"it had 3 entries, and has {seq} others now" in ledger.sealed
    assert not ledger.may_act()
    made = await ledger.record(POLICY, detect)
    assert isinstance(made, Refusal)
    assert made.kind == "sealed"


async def test_a_log_that_another_process_went_on_with_is_not_sealed():
    store = Changing()
    ledger, other = await swept(store), new_ledger(store)
    await other.record(POLICY, lambda v, n: ev.Recovered(incident_id="checkout-1", after=READING))
    await ledger.sweep()
    assert (ledger.sealed, ledger.view.head) == ("", other.view.head)
    assert ledger.may_act()


async def test_who_waits_for_a_ledger_that_is_away_is_told_so_and_not_that_it_is_slow(monkeypatch):
    store = Changing()
    ledger = await swept(store)
    monkeypatch.setattr("ledger.ledger.PATIENCE_S", 0.02)
    store.through.clear()
    store.began.clear()
    recovered = ev.Recovered(incident_id="checkout-1", after=READING)
    in_flight = asyncio.create_task(ledger.record(POLICY, lambda v, n: recovered))
    await store.began.wait()
    waiting = asyncio.create_task(ledger.record(POLICY, detect))
    store.is_away = True
    await ledger.sweep()
    assert ((await in_flight).kind, (await waiting).kind) == ("busy", "ledger_away")
    store.through.set()
    await ledger.close()
    assert ledger.view.head.seq == 4, "what was on its way stands"
