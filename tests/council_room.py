"""A tenant in memory with a charter, a clock that stands still and models that say what a test wants."""

import asyncio
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256

from detectors.policy import Policy
from handlers.charter import Charter, parse
from handlers.diagnose import Diagnose
from handlers.expire import Expire
from handlers.ports import Brief, Opinion, Rulebook
from handlers.propose import Propose, Validate
from handlers.reconciler import Loop
from ledger import events as ev
from ledger.chain import Entry
from ledger.clock import ManualClock
from ledger.events import Actor, Cause, Reading, Suspect
from ledger.ledger import Ledger, Refusal
from ledger.machine import Incident, Stage
from ledger.store import MemoryStore
from ledger.view import epoch_ms

START = datetime(2026, 6, 3, 1, 11, 52, tzinfo=UTC)
POLICY = Actor.policy()
BOT = Actor.orchestrator("web.1")
RUDO = Actor.engineer("rudo", "telegram")

CHARTER = """
[tenant]
id = "acme"

[[people]]
id = "rudo"
name = "Rudo"
roles = ["oncall", "dev"]

[[people]]
id = "tendai"
name = "Tendai"
roles = ["oncall"]

[[services]]
id = "checkout"
health_url = "http://127.0.0.1:9000/health/alerts"

[[services.checks]]
id = "slow_log"
title = "DB slow query log"
causes = ["database"]

[[services.actions]]
id = "restart_workers"
title = "Restart checkout workers"
webhook = "http://127.0.0.1:9000/recover/restart_workers"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "1 oncall"
impact = "about 8 s of refused requests"
undo = "none: a restart has nothing to undo"
causes = ["database", "capacity"]
default = true
cooldown = "10m"

[[services.actions]]
id = "use_fallback"
title = "Switch to payments fallback"
webhook = "https://ops.acme.example/fallback"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "1 oncall"
undo = "use_primary"
causes = ["dependency", "network"]
expires = "3m"

[[services.actions]]
id = "use_primary"
title = "Switch back to payments"
webhook = "https://ops.acme.example/primary"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "1 oncall"

[[services.actions]]
id = "roll_back"
title = "Roll checkout back"
webhook = "https://ops.acme.example/rollback"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "2 oncall"
risk = "high"
causes = ["deploy"]
"""

POOL = Suspect(id="E1", kind="gauge", name="db_pool", text="db_pool 20 of 20 in use", lens="A")
TIMEOUTS = Suspect(id="E2", kind="exception", name="POST /pay", text="POST /pay 31 × TimeoutError", lens="B")
COMMIT = Suspect(id="E3", kind="commit", name="a1b2c3d", text="Fix checkout query isolation level", lens="B")
SUSPECTS = (POOL, TIMEOUTS, COMMIT)


def reading(severity: str = "critical", service: str = "checkout") -> Reading:
    return Reading(
        service=service,
        rule="err_crit",
        signal="errors",
        severity=severity,
        headline="19 % of requests fail",
        explanation="36 of 187 requests failed in 10 s.",
    )


def said(
    lens: str,
    cause: Cause = Cause.DATABASE,
    percent: int = 87,
    component: str = "db_pool",
    evidence: tuple[str, ...] = ("E1",),
    outcome: str = "answered",
    number: int = 1,
) -> ev.Diagnosed:
    """What one lens said."""
    return ev.Diagnosed(
        incident_id="checkout-1",
        lens=lens,
        round=number,
        outcome=outcome,
        cause=cause,
        component=component,
        confidence=percent,
        evidence=evidence,
        model=f"model-{lens.lower()}",
    )


def opinion(cause: Cause = Cause.DATABASE, percent: int = 87, why: str = "The pool is full.") -> Opinion:
    return Opinion(
        cause=cause,
        component="db_pool",
        percent=percent,
        evidence=("E1",),
        check="slow_log",
        why=why,
        model="m",
        took_ms=900,
    )


class Scripted:
    """A model that answers when told to: at once with *says*, or with whatever `answer` is set to."""

    def __init__(self, name: str, says: Opinion | Exception | None = None) -> None:
        self.name = name
        self.asked: list[Brief] = []
        self._says = says

    def prompt_digest(self, brief: Brief) -> str:
        return sha256(f"{self.name} {brief}".encode()).hexdigest()

    async def ask(self, brief: Brief) -> Opinion:
        self.asked.append(brief)
        if self._says is None:
            await asyncio.Event().wait()
        if isinstance(self._says, Exception):
            raise self._says
        assert self._says is not None
        return self._says


class Seen:
    """What policy saw last."""

    def __init__(self) -> None:
        self.down: set[str] = set()

    def verdict(self, tenant: str, service: str) -> None:
        return None

    def reachable(self, tenant: str, service: str) -> bool:
        return service not in self.down

    def deploy(self, tenant: str, service: str) -> str:
        return ""


class Room:
    """One tenant with the reconcilers of the council, moved by hand."""

    def __init__(self, models: Mapping[str, Scripted] | None = None, charter: str = CHARTER) -> None:
        self.clock = ManualClock(START)
        self.ledger = Ledger("acme", MemoryStore(), self.clock, random.Random(1))
        self.charter: Charter = parse(charter)
        self.rulebook = Rulebook()
        self.rulebook.add(self.charter, Policy())
        self.watch = Seen()
        self.models = dict(models or {})
        self.propose = Propose(self.ledger, self.rulebook, self.models, "web.1")
        self.loop = Loop(
            self.ledger,
            [
                Diagnose(self.ledger, self.rulebook, self.models, self.clock),
                self.propose,
                Validate(self.ledger, self.rulebook, self.watch),
                Expire(self.ledger),
            ],
            self.clock,
        )

    async def open(
        self, severity: str = "critical", suspects: tuple[Suspect, ...] = SUSPECTS, service: str = "checkout"
    ) -> None:
        adopted = ev.CharterAdopted(
            digest=self.charter.digest(), policy_digest=Policy().digest(), policy_label=Policy().label
        )
        await self.write(RUDO, adopted)
        await self.write(
            POLICY,
            ev.Detected(incident_id=f"{service}-1", reading=reading(severity, service), suspects=suspects),
        )

    async def write(self, actor: Actor, event: ev.Event) -> Entry:
        answer = await self.ledger.record(actor, lambda view, now: event)
        assert isinstance(answer, Entry), answer
        return answer

    async def refused(self, actor: Actor, event: ev.Event) -> Refusal:
        answer = await self.ledger.record(actor, lambda view, now: event)
        assert isinstance(answer, Refusal), answer
        return answer

    async def run(self, seconds: float = 0) -> None:
        """Move the clock, then let the loop work until nothing changes any more."""
        self.clock.advance(seconds)
        head = None
        while head != self.ledger.view.head:
            head = self.ledger.view.head
            self.loop.step()
            for _ in range(50):
                await asyncio.sleep(0)

    async def close(self) -> None:
        """End what is still asking."""
        tasks = list(self.loop._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def approve(self, key: str = "1") -> None:
        """Rudo decides for the option *key*, and it runs."""
        request = self.incident.request
        assert request is not None
        chosen = next(one for one in request.event.options if one.key == key)
        voted = ev.Authorized(
            incident_id=self.incident.id,
            option=key,
            theory=chosen.theory,
            action=chosen.action,
            ref=request.ref,
        )
        entry = await self.write(RUDO, voted)
        ref = ev.Ref(seq=entry.seq, hash=entry.hash)
        started = ev.ExecutionStarted(
            incident_id=self.incident.id, attempt=1, by="web.1", until_ms=self.now_ms + 60_000, ref=ref
        )
        await self.write(BOT, started)
        await self.write(BOT, ev.Executed(incident_id=self.incident.id, attempt=1, status=200, ref=ref))

    async def does_not_help(self) -> None:
        event = ev.NotRecovered(incident_id=self.incident.id, before=reading(), after=reading())
        await self.write(POLICY, event)

    async def ask_again(self) -> None:
        await self.write(RUDO, ev.AskedAgain(incident_id=self.incident.id))

    @property
    def now_ms(self) -> int:
        return epoch_ms(self.clock.now())

    @property
    def incident(self) -> Incident:
        return next(iter(self.ledger.view.incidents.values()))

    @property
    def stage(self) -> Stage:
        return self.incident.stage

    @property
    def request(self) -> ev.Validated:
        assert self.incident.request is not None, self.incident.stage
        event = self.incident.request.event
        assert isinstance(event, ev.Validated)
        return event

    @property
    def withheld(self) -> ev.Withheld:
        assert self.stage is Stage.WITHHELD, self.stage
        event = self.incident.latest(ev.Withheld)
        assert event is not None
        return event

    def outcomes(self) -> dict[str, str]:
        """How each lens's question of the newest round ended."""
        return {lens: one.outcome for lens, one in self.incident.diagnoses().items()}
