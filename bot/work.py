"""One tenant's work: its reconcilers and their loop, for whoever holds the lease, and this process's part of
its polls."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bot.adoption import Adoption
from bot.condition import Condition
from bot.glass import Reviewing
from bot.lease import Lease
from bot.notify import Notify
from bot.offbox import OffBox
from bot.outbox import Outbox
from bot.room import Room
from bot.state import RedisStates
from bot.witnessed import Witnessed
from handlers.calls import REAL, Vendors
from handlers.checked import Alarm, Checking
from handlers.crew import Share, Sole
from handlers.detect import Detect
from handlers.diagnose import Diagnose
from handlers.escalate import Escalate
from handlers.execute import Executor
from handlers.expire import Expire
from handlers.lines import Lines
from handlers.poll import Poller
from handlers.ports import Health, Model, Secrets, Webhook
from handlers.propose import Propose, Validate
from handlers.reconciler import Loop, Reconciler
from handlers.verify import Verifier
from handlers.watched import Offset, Watching, nobody
from ledger.clock import Clock


@dataclass(frozen=True, slots=True)
class Tools:
    """What the handlers of every tenant share."""

    clock: Clock
    process: str
    health: Health
    models: Mapping[str, Model]
    webhook: Webhook
    secrets: Secrets
    states: RedisStates
    adoption: Adoption
    outbox: Outbox
    looks: asyncio.Semaphore
    interval_s: float
    copied: Callable[[Room], OffBox | None] = lambda room: None
    """What keeps the copy off the box of a room, where there is one."""
    witnessed: Callable[[Room], Witnessed | None] = lambda room: None
    """Who has the checkpoints of a room cosigned, where there is a witness."""
    offset: Offset = nobody
    vendors: Vendors = REAL
    lines: Callable[[Room], Lines | None] = lambda room: None
    """Who asks how many lines the changes of a room's repositories have, where the process may."""
    reviewing: Callable[[Room], Reviewing | None] = lambda room: None
    """Who reminds the people of a room of a broken glass."""
    alarm: Callable[[Room], Alarm] = lambda room: silence
    """How the people of a room are told, at once, what no card is about."""
    pictured: Callable[[Room, Detect], Reconciler | None] = lambda room, detect: None
    """Who hangs charts under the cards of a room."""
    share: Callable[[str], Share] | None = None
    """This process's part in watching a tenant; without, whoever holds the lease watches all of it."""


async def silence(text: str) -> None:
    """Tells nobody: for tests."""


@dataclass(frozen=True, slots=True)
class Work:
    """A tenant's work in this process: it looks at its share, and reacts only while the lease is ours."""

    room: Room
    condition: Condition
    loop: Loop
    poller: Poller
    lease: Lease

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.lease.run(self.loop.run), name=f"loop:{self.room.tenant}")
            group.create_task(self.poller.run(), name=f"poller:{self.room.tenant}")


def tenant_work(room: Room, tools: Tools, detect: Detect, notify: Notify, lease: Lease) -> Work:
    """Everything that reacts for *room*, on its ledger and under its rules."""
    ledger, rules = room.ledger, room.rulebook
    poller = Poller(
        ledger,
        rules,
        detect,
        tools.health,
        tools.states,
        tools.clock,
        random.Random(),
        tools.interval_s,
        tools.looks,
        tools.share(room.tenant) if tools.share else Sole(lambda: lease.held),
    )
    detect.fresh_ms = round(2 * tools.interval_s * 1000)
    offbox, witness = tools.copied(room), tools.witnessed(room)
    if offbox:
        room.off_box = lambda: offbox.lag().sentence
    reconcilers: tuple[Reconciler, ...] = (
        notify,
        Diagnose(ledger, rules, tools.models, tools.clock),
        Propose(ledger, rules, tools.models, tools.process),
        Validate(ledger, rules, detect),
        Expire(ledger),
        Escalate(ledger, rules),
        Executor(
            ledger, rules, detect, tools.secrets, tools.webhook, tools.clock, tools.process, tools.vendors
        ),
        Verifier(ledger, rules, detect),
        Watching(ledger, rules, poller, tools.process, tools.offset),
        Checking(ledger, rules, room.store, tools.process, tools.alarm(room)),
        *(one for one in (offbox, witness, tools.reviewing(room), tools.lines(room)) if one),
        *(one for one in (tools.pictured(room, detect),) if one),
    )
    condition = Condition(
        room,
        detect,
        poller,
        tools.adoption,
        bool(tools.models),
        tools.outbox,
        offbox=offbox,
        witness=witness,
    )
    return Work(room, condition, Loop(ledger, reconcilers, tools.clock, lambda: lease.held), poller, lease)
