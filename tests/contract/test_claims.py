"""Many processes want the same at once, on real servers: one gets it, and each other is told."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import batched, chain

import pytest

from ledger import events as ev
from ledger.chain import Entry
from ledger.clock import WallClock
from ledger.events import Actor, Event
from ledger.ledger import Decide, Ledger, Refusal
from ledger.machine import Stage
from ledger.view import View, epoch_ms
from tests.appender import KEY, RUDO
from tests.chains import OPTION, READING
from tests.servers import KINDS, Peopled, a_server

BOT, POLICY = Actor.orchestrator("bot.1"), Actor.policy()
INCIDENTS, AT_ONCE = 200, 10
CLAIMED = Refusal("claimed", "Another process runs it.")
DECIDED = Refusal("decided", "Somebody was first.")


@pytest.fixture(params=KINDS)
async def server(request) -> AsyncIterator[Peopled]:
    async with a_server(request.param) as server:
        yield server


def a_ledger(server: Peopled, seed: int = 0) -> Ledger:
    ledger = Ledger("acme", server.store(), WallClock(), random.Random(seed), signer=KEY)
    server.stack.push_async_callback(ledger.close)
    return ledger


async def asked(server: Peopled, names: list[str]) -> Ledger:
    """A person can decide on each of these incidents now."""
    ledger = a_ledger(server)
    deadline = epoch_ms(ledger.now()) + 3_600_000
    for actor, kind, said in (
        (POLICY, ev.Detected, {"reading": READING}),
        (BOT, ev.Proposed, {"options": (OPTION,)}),
        (POLICY, ev.Validated, {"options": (OPTION,), "deadline_ms": deadline}),
    ):
        events = [kind(incident_id=name, **said) for name in names]
        await asyncio.gather(*(record(ledger, actor, event) for event in events))
    return ledger


async def record(ledger: Ledger, actor: Actor, event: Event) -> None:
    made = await ledger.record(actor, lambda view, now: event)
    assert isinstance(made, Entry), made


def approving(name: str) -> Decide:
    def decide(view: View, now: datetime) -> Event | Refusal:
        if (request := view.incidents[name].request) is None:
            return DECIDED
        return ev.Authorized(incident_id=name, option="1", action="restart_workers", ref=request.ref)

    return decide


def claiming(name: str, by: str) -> Decide:
    def decide(view: View, now: datetime) -> Event | Refusal:
        incident = view.incidents[name]
        if incident.stage is not Stage.AUTHORIZED:
            return CLAIMED
        yes, _ = incident.authorization
        return ev.ExecutionStarted(
            incident_id=name, attempt=1, by=by, until_ms=epoch_ms(now) + 60_000, ref=yes.ref
        )

    return decide


async def told(ledger: Ledger, actor: Actor, decide: Decide) -> Entry | Refusal:
    """The answer, once there is one. Who was told that the ledger is slow looks again, and finds perhaps that
    it counted: he is refused like anybody else then."""
    while isinstance(made := await ledger.record(actor, decide), Refusal) and made.kind == "busy":
        pass
    return made


async def test_of_fifty_taps_in_five_processes_one_authorizes_and_each_other_is_told(server):
    await asked(server, ["checkout-1"])
    processes = [a_ledger(server, seed) for seed in range(5)]
    answers = await asyncio.gather(
        *(told(processes[tap % 5], RUDO, approving("checkout-1")) for tap in range(50))
    )
    (yes,) = [entry for entry in await everything(server) if entry.event == "Authorized"]
    assert {answer for answer in answers if isinstance(answer, Entry)} <= {yes}
    assert {answer for answer in answers if isinstance(answer, Refusal)} == {DECIDED}


async def test_of_eight_processes_one_begins_each_execution(server):
    """Each of them wants each of two hundred, in an order of its own."""
    names = [f"checkout-{number}" for number in range(1, INCIDENTS + 1)]
    people = await asked(server, names)
    await asyncio.gather(*(told(people, RUDO, approving(name)) for name in names))

    async def work(number: int) -> list[Entry | Refusal]:
        ledger, order = a_ledger(server, number), random.Random(number).sample(names, INCIDENTS)
        actor, answers = Actor.orchestrator(f"bot.{number}"), []
        for few in batched(order, AT_ONCE):
            claims = (told(ledger, actor, claiming(name, actor.id)) for name in few)
            answers += await asyncio.gather(*claims)
        return answers

    answers = list(chain(*await asyncio.gather(*map(work, range(8)))))
    begun = {one.incident_id: one for one in await everything(server) if one.event == "ExecutionStarted"}
    assert len(begun) == INCIDENTS
    assert {answer for answer in answers if isinstance(answer, Entry)} <= set(begun.values())
    assert {answer for answer in answers if isinstance(answer, Refusal)} == {CLAIMED}
    assert Counter(one.event for one in await everything(server))["ExecutionStarted"] == INCIDENTS


async def everything(server: Peopled) -> list[Entry]:
    return await server.store().read("acme", 0, 10_000)
