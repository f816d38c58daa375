"""A month of incidents as a ledger holds it, from a seed: legal, or with one thing wrong in one incident."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from detectors.policy import Policy
from handlers.charter import parse
from ledger import events as ev
from ledger.books import SETTLED_MS
from ledger.chain import GENESIS, Entry, seal
from ledger.events import Actor, Event, Reading, Ref
from ledger.machine import TRANSITIONS, Stage
from ledger.reconcile import Kind

MAY_MS = 1_777_593_600_000
DAY_MS = 86_400_000
POLICY, BOT = Actor.policy(), Actor.orchestrator("web.1")
A, B = Actor.model("model-a"), Actor.model("model-b")
RUDO, TENDAI, TARIRO = (Actor.engineer(name, "telegram") for name in ("rudo", "tendai", "tariro"))
RULES = Policy()
SIGNS = frozenset({"checkout", "search"})
"""Services whose app has the SDK and signs receipts."""

CHARTER = parse(
    """
[tenant]
id = "acme"

[[people]]
id = "rudo"
name = "Rudo"
roles = ["oncall", "dev", "admin"]
telegram = 1001

[[people]]
id = "tendai"
name = "Tendai"
roles = ["oncall", "dev"]

[[people]]
id = "tariro"
name = "Tariro"
roles = ["viewer"]
"""
    + "".join(
        f"""
[[services]]
id = "{service}"
health_url = "http://127.0.0.1:9000/health/alerts"

[[services.actions]]
id = "restart"
title = "Restart {service}"
webhook = "http://127.0.0.1:9000/recover/restart"
secret_env = "ACME_RECOVERY"
approve = "1 oncall"

[[services.actions]]
id = "rollback"
title = "Roll {service} back"
webhook = "http://127.0.0.1:9000/recover/rollback"
secret_env = "ACME_RECOVERY"
approve = "2 dev"
"""
        for service in ("checkout", "search", "mail")
    )
)
TEXTS = {CHARTER.digest(): CHARTER.text(), RULES.digest(): RULES.canonical()}


def act(number: int) -> ev.Act:
    return ev.Act(channel="telegram", update=str(number), message="7", digest="d" * 64, at_ms=1)


def reading(service: str) -> Reading:
    return Reading(
        service=service, rule="err_crit", signal="errors", severity="critical", headline="19 % fail",
        explanation="36 of 187 requests failed in 10 s.", n=187, failed=36, window_ms=10_000,
    )  # fmt: skip


class Month:
    """A log that grows by incidents. What *wrong* names is done to one of them, in the middle."""

    def __init__(self, seed: int, wrong: Kind | None = None, at: int = 20) -> None:
        self.dice = random.Random(seed)
        self.lines: list[Entry] = []
        self.now_ms = MAY_MS
        self.wrong, self.wrong_at = wrong, at
        self.is_wrong = False
        self.label = "none"
        self.stages: dict[str, Stage] = {}
        self.numbers: dict[str, int] = {}
        self.counters: dict[str, int] = {}
        self.made = 0
        self.authorized = ""
        self.head = GENESIS

    def plants(self, kind: Kind) -> bool:
        """Whether this is the moment for what is wrong."""
        if self.is_wrong or kind is not self.wrong or self.made < self.wrong_at:
            return False
        self.is_wrong = True
        return True

    def say(self, actor: Actor, event: Event, after_ms: int = 1_000) -> Ref:
        self.now_ms += after_ms
        name = event.incident_id
        if name:
            stage = self.stages.get(name)
            self.stages[name] = TRANSITIONS[stage].get(type(event), stage)
        entry = seal(
            self.head,
            ts=datetime.fromtimestamp(self.now_ms / 1000, UTC),
            tenant_id="acme",
            incident_id=name or None,
            event=type(event).__name__,
            stage=self.stages[name].value if name else None,
            actor={"kind": actor.kind.value, "id": actor.id, "via": actor.via},
            decision=event.decision or "said",
            reason=event.reason or "because it is so",
            confidence=event.confidence,
            policy_version="2026.1+00000000" if self.plants(Kind.POLICY) else self.label,
            ref=event.ref.model_dump() if event.ref else None,
            data=event.data(),
        )
        self.lines.append(entry)
        self.head = entry.head
        return Ref(seq=entry.seq, hash=entry.hash)

    def adopt(self) -> None:
        self.say(BOT, ev.Started(version="0.1.0", durability="durable"))
        for who in (RUDO, TENDAI):
            self.say(who, ev.Linked(person=who.id, channel="telegram", identity=f"{who.id:0<64}"[:64]))
        adopted = ev.CharterAdopted(
            digest=CHARTER.digest(), policy_digest=RULES.digest(), policy_label=RULES.label
        )
        self.say(RUDO, adopted)
        self.label = RULES.label

    def incidents(self, count: int) -> "Month":
        if self.label == "none":
            self.adopt()
        for _ in range(count):
            self.incident()
            self.made += 1
            self.now_ms += self.dice.randrange(DAY_MS // 200)
        self.say(BOT, ev.Watched(due=720, made=719, missed=1), SETTLED_MS)
        assert self.wrong is None or self.is_wrong or self.made <= self.wrong_at
        return self

    def incident(self) -> None:
        service = self.dice.choice(("checkout", "search", "mail"))
        self.numbers[service] = number = self.numbers.get(service, 0) + 1
        name = f"{service}-{number}"
        by_hand = self.dice.random() < 0.1
        self.say(TARIRO if by_hand else POLICY, ev.Detected(incident_id=name, reading=reading(service)))
        own = self.dice.random() < 0.1 or by_hand
        unheard = self.plants(Kind.NEVER_PAGED)
        if not unheard:
            for channel in ("telegram", "whatsapp"):
                self.say(
                    BOT, ev.Paged(incident_id=name, recipient="rudo", channel=channel, card_digest="c" * 64)
                )
        for lens, model in (("A", A), ("B", B)):
            self.say(model, self.opinion(name, lens))
        if self.dice.random() < 0.15 and not unheard:
            self.say(POLICY, ev.Recovered(incident_id=name, after=reading(service)))
            return
        for _ in range(self.dice.choice((1, 1, 1, 2))):
            if not self.round(name, service, by_a_viewer=own):
                return
            self.say(RUDO, ev.AskedAgain(incident_id=name, act=act(self.now_ms)))
        self.say(TENDAI, ev.Resolved(incident_id=name, act=act(self.now_ms)))

    @staticmethod
    def opinion(name: str, lens: str) -> ev.Diagnosed:
        return ev.Diagnosed(
            incident_id=name, lens=lens, round=1, cause=ev.Cause.DATABASE, component="db", evidence=("E1",),
            why="The pool is exhausted.", confidence=80, model="model-a", prompt_digest="p" * 64,
            evidence_digest="e" * 64,
        )  # fmt: skip

    def round(self, name: str, service: str, *, by_a_viewer: bool) -> bool:
        """One request and what became of it. Whether it can be asked again."""
        action = CHARTER.action(service, self.dice.choice(("restart", "rollback")))
        option = ev.Option(
            key="1",
            action=action.id,
            title=action.title,
            approve=action.approve,
            digest=action.digest(service),
        )
        own = self.plants(Kind.OWN_PROPOSAL)
        who = RUDO if own else TARIRO if by_a_viewer else BOT
        self.say(who, ev.Proposed(incident_id=name, options=(option,)))
        asked = self.say(
            POLICY,
            ev.Validated(
                incident_id=name, options=(option,), deadline_ms=self.now_ms + 300_000,
                charter_digest=CHARTER.digest(),
            ),
        )  # fmt: skip
        match self.dice.randrange(8):
            case 0:
                self.say(POLICY, ev.Expired(incident_id=name, ref=asked), 300_000)
                return True
            case 1:
                self.say(TENDAI, ev.Denied(incident_id=name, ref=asked, act=act(self.now_ms)))
                return True
            case _:
                return self.run(name, service, option, self.authorize(name, option, asked))

    def authorize(self, name: str, option: ev.Option, asked: Ref) -> Ref:
        voters = ("rudo",)
        if option.approve == "2 dev":
            self.say(TENDAI, ev.Approved(incident_id=name, option="1", ref=asked, act=act(self.now_ms)))
            voters = ("rudo", "tendai")
        who = RUDO
        if option.approve == "1 oncall" and self.plants(Kind.NOT_ENTITLED):
            who, voters = TARIRO, ("tariro",)
        if self.plants(Kind.TWICE):
            voters = (*voters, "rudo")
        self.authorized = "0" * 64 if self.plants(Kind.DIGEST) else option.digest
        authorized = ev.Authorized(
            incident_id=name, option="1", action=option.action, voters=voters, ref=asked,
            digest=self.authorized, act=act(self.now_ms),
        )  # fmt: skip
        return self.say(who, authorized)

    def run(self, name: str, service: str, option: ev.Option, authorized: Ref) -> bool:
        if self.plants(Kind.NO_OUTCOME):
            return False
        if self.dice.random() < 0.15:
            self.say(POLICY, ev.StoodDown(incident_id=name, why="recovered", ref=authorized))
            return True
        tries = self.dice.choice((1, 1, 1, 2))
        for attempt in range(1, tries + 1):
            self.start(name, option, authorized, attempt)
        match self.dice.randrange(6):
            case 0:
                self.say(BOT, ev.WebhookFailed(incident_id=name, attempt=tries, status=500, ref=authorized))
                return True
            case 1:
                self.say(BOT, ev.OutcomeUnknown(incident_id=name, attempt=tries, ref=authorized))
                return True
            case _:
                self.executed(name, service, tries, authorized)
                return False

    def start(self, name: str, option: ev.Option, authorized: Ref, attempt: int) -> None:
        started = ev.ExecutionStarted(
            incident_id=name, attempt=attempt, by="web.1", until_ms=self.now_ms + 13_000, ref=authorized,
            digest=self.authorized,
        )  # fmt: skip
        self.say(BOT, started)

    def executed(self, name: str, service: str, tries: int, authorized: Ref) -> None:
        receipt, counter = "none", 0
        if service in SIGNS:
            self.counters[service] = self.counters.get(service, 0) + self.dice.choice((1, 1, 2))
            receipt, counter = "matches", self.counters[service]
            if counter > 5 and self.plants(Kind.RECEIPT):
                counter = 3
        ref = Ref(seq=1, hash="0" * 64) if self.plants(Kind.UNAUTHORIZED) else authorized
        ended = ev.Executed(
            incident_id=name, attempt=tries, status=200, took_ms=40, body_digest="b" * 64, receipt=receipt,
            receipt_counter=counter, ref=ref,
        )  # fmt: skip
        if ref is authorized:
            self.say(BOT, ended)
        else:
            self.say(BOT, ended.model_copy(update={"receipt": "none", "receipt_counter": 0}))
            self.say(BOT, ended.model_copy(update={"ref": authorized}))
        if self.plants(Kind.TWO_OUTCOMES):
            self.say(BOT, ev.WebhookFailed(incident_id=name, attempt=tries, ref=authorized))
        measured = reading(service)
        self.say(POLICY, ev.Verified(incident_id=name, before=measured, after=measured))

    def raw(self) -> Iterator[dict[str, Any]]:
        for entry in self.lines:
            yield orjson.loads(entry.line)
