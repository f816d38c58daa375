"""Incidents told fact by fact, under the machine's own rules, and a charter whose people read their cards."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

from handlers.charter import Charter, parse
from ledger import events as ev
from ledger.events import Actor, Cause, Event, Option, Reading, Suspect
from ledger.machine import Fact, Incident, apply
from ledger.view import epoch_ms

START = epoch_ms(datetime(2026, 6, 3, 1, 11, 52, tzinfo=UTC))
"""03:11:52 in Harare."""

POLICY, BOT = Actor.policy(), Actor.orchestrator("bot.1")
RUDO, TENDAI, TARIRO = (Actor.engineer(name, "telegram") for name in ("rudo", "tendai", "tariro"))
MODEL_A, MODEL_B = Actor.model("opus"), Actor.model("sonnet")

CHARTER = """
[tenant]
id = "acme"
timezone = "Africa/Harare"

[[people]]
id = "rudo"
name = "Rudo"
roles = ["oncall", "dev", "admin"]
telegram = 1001
[[people]]
id = "tendai"
name = "Tendai"
roles = ["oncall", "dev"]
telegram = 1002
whatsapp = "+263770000002"
timezone = "Europe/London"
[[people]]
id = "tariro"
name = "Tariro"
roles = ["dev"]
telegram = 1003

[[chats]]
telegram = -100200300

[[services]]
id = "checkout"
health_url = "http://127.0.0.1:9000/health/alerts"
[[services.checks]]
id = "slow_log"
title = "DB slow query log"
[[services.checks]]
id = "payments_times"
title = "payments-api response times"
[[services.actions]]
id = "restart_workers"
title = "Restart checkout workers"
webhook = "https://ops.acme.example/restart"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "1 oncall"
impact = "about 8 s of refused requests"
causes = ["database", "capacity"]
default = true
[[services.actions]]
id = "fallback"
title = "Switch to payments fallback"
webhook = "https://ops.acme.example/fallback"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "1 oncall"
causes = ["network"]
[[services.actions]]
id = "roll_back"
title = "Roll checkout back to 9f8e7d6"
webhook = "https://ops.acme.example/rollback"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "2 dev or 1 admin"
risk = "high"
impact = "drops a1b2c3d for everyone"
causes = ["deploy"]
"""


def charter() -> Charter:
    return parse(CHARTER)


def option(action: str = "restart_workers", key: str = "1", **fields) -> Option:
    found = charter().action("checkout", action)
    if found is None:
        return Option(key=key, **fields)
    given = {
        "title": found.title,
        "request": found.request,
        "risk": found.risk,
        "impact": found.impact,
        "approve": found.approve,
    }
    return Option(key=key, action=action, **(given | fields))


RESTART = option(cause=Cause.DATABASE, confidence=87, theory="AB")
RESTART_A = option(key="A", theory="A", cause=Cause.DATABASE, confidence=82)
FALLBACK_B = option("fallback", "B", theory="B", cause=Cause.NETWORK, confidence=76)
LOOK_B = option("", "B", theory="B", cause=Cause.NETWORK, confidence=76)
ROLL_BACK = option("roll_back", cause=Cause.DEPLOY)

SUSPECTS = (
    Suspect(id="E1", kind="gauge", name="db_pool", text="db_pool 20 of 20 in use", since_ms=START - 22_000),
    Suspect(
        id="E2",
        kind="exception",
        name="TimeoutError",
        text="POST /pay 31 × TimeoutError",
        since_ms=START - 42_000,
    ),
    Suspect(
        id="E3",
        kind="commit",
        name="a1b2c3d",
        text="“Fix checkout query isolation level” (John, +12/−3) ⚠️ database files",
        since_ms=START - 192_000,
    ),
)


def reading(**fields) -> Reading:
    given = {
        "service": "checkout",
        "rule": "err_crit",
        "signal": "errors",
        "severity": "critical",
        "headline": "19 % of requests fail",
        "explanation": "36 of 187 requests failed in 10 s (19.3 %, 99 % interval 13–27 %). "
        "Normal is at most 2 %. Evidence 22.0 of 16.0.",
        "score": 23,
        "trend": "falling",
        "since_ms": START - 12_000,
        "n": 187,
        "failed": 36,
        "window_ms": 10_000,
        "p50_ms": 240,
        "p95_ms": 2_800,
        "error_permille": 193,
    }
    return Reading(**(given | fields))


SICK = reading()
WELL = reading(
    headline="", explanation="", score=97, trend="rising", n=1_204, failed=2, window_ms=60_000, p95_ms=190,
    error_permille=2,
)  # fmt: skip
STILL_SICK = reading(score=25, n=1_680, failed=304, window_ms=90_000, p95_ms=2_700, error_permille=181)
MILD = reading(severity="warning", headline="1.4 % of requests fail", score=60, failed=3, error_permille=14)


@dataclass
class Story:
    """An incident that grows. Each fact comes *after_s* seconds after the one before."""

    at_ms: int = START
    seq: int = 37
    incident: Incident | None = field(default=None)
    name: str = "checkout-3"

    def say(self, actor: Actor, event: Event, after_s: float = 1) -> "Story":
        if self.incident is not None:
            self.at_ms += round(after_s * 1000)
        self.seq += 1
        fact = Fact(self.seq, sha256(str(self.seq).encode()).hexdigest(), self.at_ms, actor, event)
        self.incident = apply(self.incident, self.name, fact)
        return self

    def ref(self, kind: type[Event]):
        fact = self.incident.last(kind)
        assert fact is not None
        return fact.ref

    # --- what happens, one verb each

    def detected(self, what: Reading = SICK, suspects=SUSPECTS, by: Actor = POLICY) -> "Story":
        return self.say(by, ev.Detected(reading=what, suspects=suspects))

    def diagnosed(
        self, lens: str, cause: Cause | None, percent: int = 87, after_s: float = 3, **fields
    ) -> "Story":
        if cause is None:
            event = ev.Diagnosed(lens=lens, round=1, outcome="timeout", **fields)
        else:
            event = ev.Diagnosed(lens=lens, round=1, cause=cause, confidence=percent, **fields)
        return self.say(MODEL_A if lens == "A" else MODEL_B, event, after_s)

    def agreed(self) -> "Story":
        why = "connection pool exhausted, 20 of 20 in use, released late after query timeouts"
        self.diagnosed("A", Cause.DATABASE, 87, component="db_pool", evidence=("E1", "E3"), why=why)
        return self.diagnosed(
            "B", Cause.DATABASE, 88, component="db_pool", evidence=("E1",), why="pool is full"
        )

    def disagreed(self) -> "Story":
        why = "connection pool exhausted, 20 of 20 in use"
        self.diagnosed("A", Cause.DATABASE, 82, evidence=("E1", "E3"), why=why, check="slow_log")
        return self.diagnosed(
            "B",
            Cause.NETWORK,
            76,
            evidence=("E2",),
            why="payments-api slow, p95 4.9 s",
            check="payments_times",
        )

    def silent(self) -> "Story":
        return self.diagnosed("A", None, after_s=12).diagnosed("B", None, after_s=0)

    def asked(self, *options: Option, verdict: str = "AGREE", held=(), life_s: int = 300) -> "Story":
        options = options or (RESTART,)
        self.say(BOT, ev.Proposed(options=options, verdict=verdict), 0.1)
        deadline = self.at_ms + 100 + life_s * 1000
        return self.say(
            POLICY, ev.Validated(options=options, verdict=verdict, held=held, deadline_ms=deadline), 0.1
        )

    def approved(self, by: Actor = RUDO, key: str = "1", after_s: float = 30) -> "Story":
        return self.say(by, ev.Approved(option=key, ref=self.ref(ev.Validated)), after_s)

    def authorized(
        self, by: Actor = RUDO, chosen: Option = RESTART, voters=(), after_s: float = 120
    ) -> "Story":
        event = ev.Authorized(
            option=chosen.key, theory=chosen.theory, cause=chosen.cause, action=chosen.action,
            voters=voters or (by.id,), ref=self.ref(ev.Validated),
        )  # fmt: skip
        return self.say(by, event, after_s)

    def started(self, attempt: int = 1) -> "Story":
        ref = self.ref(ev.Authorized)
        return self.say(
            BOT, ev.ExecutionStarted(attempt=attempt, by="bot.1", until_ms=self.at_ms + 20_000, ref=ref), 0.01
        )

    def executed(self, **fields) -> "Story":
        given = {"attempt": 1, "status": 200, "took_ms": 1_100, "receipt": "matches"} | fields
        return self.say(BOT, ev.Executed(ref=self.ref(ev.Authorized), **given), 1.1)

    def verified(self, before: Reading = SICK, after: Reading = WELL) -> "Story":
        return self.say(POLICY, ev.Verified(before=before, after=after, quiet_ms=60_000), 75)

    def not_recovered(self) -> "Story":
        return self.say(POLICY, ev.NotRecovered(before=SICK, after=STILL_SICK), 90)

    def expired(self) -> "Story":
        request = self.incident.latest(ev.Validated)
        after_s = (request.deadline_ms - self.at_ms) / 1000
        return self.say(POLICY, ev.Expired(ref=self.ref(ev.Validated)), after_s)

    def acknowledged(self, by: Actor = RUDO) -> "Story":
        return self.say(by, ev.Acknowledged(until_ms=self.at_ms + 600_000), 20)

    def asked_again(self, by: Actor = RUDO) -> "Story":
        return self.say(by, ev.AskedAgain(), 60)


def told() -> Story:
    return Story().detected()


MOMENTS: dict[str, Story] = {
    "opened": told(),
    "deciding": told().diagnosed("A", Cause.DATABASE, why="pool is full", evidence=("E1",)),
    "proposed": told().agreed().say(BOT, ev.Proposed(options=(RESTART,), verdict="AGREE")),
    "consensus": told().agreed().asked(),
    "partial": told()
    .diagnosed("A", Cause.DATABASE, 87, component="db_pool", evidence=("E1",), why="pool is exhausted")
    .diagnosed("B", Cause.DATABASE, 61, component="orders", evidence=("E2",), why="orders table is locked")
    .asked(option(cause=Cause.DATABASE, confidence=61, theory="AB"), verdict="PARTIAL"),
    "single": told()
    .diagnosed("A", Cause.DATABASE, 87, evidence=("E1",), why="pool is exhausted, 20 of 20 in use")
    .diagnosed("B", None, after_s=9)
    .asked(option(cause=Cause.DATABASE, confidence=87, theory="A"), verdict="SINGLE"),
    "dissent": told().disagreed().asked(RESTART_A, FALLBACK_B, verdict="DISSENT"),
    "dissent, one action": told()
    .disagreed()
    .asked(RESTART_A, option(key="B", theory="B", cause=Cause.CAPACITY, confidence=76), verdict="DISSENT"),
    "dissent, one runs nothing": told().disagreed().asked(RESTART_A, LOOK_B, verdict="DISSENT"),
    "models down": told().silent().asked(option(), verdict="NONE"),
    "no confident diagnosis": told()
    .diagnosed("A", Cause.DATABASE, 40)
    .diagnosed("B", Cause.NETWORK, 35)
    .asked(option(), verdict="NONE"),
    "no action named": told()
    .agreed()
    .asked(option("", cause=Cause.DATABASE, confidence=87, theory="AB"), verdict="AGREE"),
    "two are needed": told().agreed().asked(ROLL_BACK.model_copy(update={"approve": "2 dev"})),
    "one of two voted": told()
    .agreed()
    .asked(ROLL_BACK.model_copy(update={"approve": "2 dev"}))
    .approved(TENDAI),
    "withheld": told()
    .agreed()
    .say(BOT, ev.Proposed(options=(RESTART,), verdict="AGREE"))
    .say(
        POLICY,
        ev.Withheld(
            held=(
                ev.Held(
                    action="restart_workers",
                    title="Restart checkout workers",
                    why="it ran 4 min ago, cooldown is 10 min",
                    until_ms=START + 400_000,
                ),
            ),
            until_ms=START + 400_000,
        ),
    ),
    "authorized": told().agreed().asked().authorized(),
    "executing": told().agreed().asked().authorized().started().started(2),
    "executed": told().agreed().asked().authorized().started().executed(),
    "verified": told().disagreed().asked(RESTART_A, FALLBACK_B, verdict="DISSENT")
    .authorized(chosen=RESTART_A).started().executed().verified(),
    "recovered": told().agreed().asked().say(POLICY, ev.Recovered(after=WELL), 80),
    "recovered after it ran": told().agreed().asked().authorized().started().executed()
    .say(POLICY, ev.Inconclusive(before=SICK, after=WELL.model_copy(update={"n": 0})), 90)
    .say(POLICY, ev.Recovered(after=WELL), 80),
    "not recovered": told().disagreed().asked(RESTART_A, FALLBACK_B, verdict="DISSENT")
    .authorized(chosen=RESTART_A).started().executed().not_recovered(),
    "not recovered, new request": told().disagreed().asked(RESTART_A, FALLBACK_B, verdict="DISSENT")
    .authorized(chosen=RESTART_A).started().executed().not_recovered()
    .asked(
        ROLL_BACK.model_copy(update={"approve": "2 dev"}),
        verdict="NONE",
        held=(ev.Held(action="restart_workers", title="Restart checkout workers", why="cooldown of 10 min",
                      until_ms=START + 720_000),),
    ),
    "inconclusive": told().agreed().asked().authorized().started().executed()
    .say(POLICY, ev.Inconclusive(before=SICK, after=WELL.model_copy(update={"n": 0})), 90),
    "expired": told().agreed().asked().say(POLICY, ev.Escalated(to=("tendai",)), 180).expired(),
    "expired, acknowledged": told().agreed().asked().acknowledged().expired(),
    "asked again": told().agreed().asked().expired().asked_again(),
    "asked again, new request": told().agreed().asked().expired().asked_again().asked(),
    "reopened": told().agreed().asked().say(POLICY, ev.Recovered(after=WELL), 80)
    .say(POLICY, ev.Reopened(reading=SICK, suspects=SUSPECTS), 120),
    "flapping": told().say(POLICY, ev.Recovered(after=WELL), 80)
    .say(POLICY, ev.Reopened(reading=SICK), 120)
    .say(POLICY, ev.Recovered(after=WELL), 80)
    .say(POLICY, ev.Reopened(reading=SICK, quiet_ms=300_000), 120),
    "worsened": Story().detected(MILD).agreed().asked()
    .say(POLICY, ev.Worsened(reading=SICK, suspects=SUSPECTS), 10),
    "fails anew": told().agreed().asked()
    .say(POLICY, ev.Worsened(reading=SICK, suspects=SUSPECTS, kinds=("<OperationalError>",)), 10),
    "declared": Story().detected(
        reading(headline="card payments are declined", explanation="", n=0, failed=0, error_permille=0,
                signal=""), suspects=(), by=RUDO,
    ),
}  # fmt: skip


def _with(story: Story, kind: type[Event], actor: Actor, after_s: float, of: type[Event], **fields) -> Story:
    return story.say(actor, kind(ref=story.ref(of), **fields), after_s)


def _authorized() -> Story:
    return told().agreed().asked().authorized()


MOMENTS["webhook failed"] = _with(
    _authorized().started().started(2).started(3), ev.WebhookFailed, BOT, 4, ev.Authorized,
    attempt=3, status=500, why="upstream is gone",
)  # fmt: skip
MOMENTS["webhook did not answer"] = _with(
    _authorized().started(), ev.WebhookFailed, BOT, 10, ev.Authorized, attempt=1, why="connection refused"
)
MOMENTS["outcome unknown"] = _with(
    _authorized().started(), ev.OutcomeUnknown, BOT, 10, ev.Authorized,
    attempt=1, why="cut off after 10 s, and the action is not idempotent",
)  # fmt: skip
MOMENTS["stood down"] = _with(_authorized(), ev.StoodDown, POLICY, 1, ev.Authorized, why="recovered")
MOMENTS["stood down by a deploy"] = _with(
    _authorized(), ev.StoodDown, POLICY, 1, ev.Authorized,
    why="deploy", reason="deploy changed to 77aa01b after you were asked. Look again, then tap",
)  # fmt: skip
SLOW = SICK.model_copy(
    update={"rule": "lat_crit", "signal": "latency", "headline": "62 % of requests are slow"}
)
MOMENTS["recovered, slow"] = Story().detected(SLOW).agreed().asked().say(POLICY, ev.Recovered(after=WELL), 80)
MOMENTS["recovered, a new normal"] = (
    Story().detected(SLOW).agreed().asked().say(TENDAI, ev.Feedback(kind="new_normal"), 20)
    .say(POLICY, ev.Recovered(after=WELL), 80)
)  # fmt: skip
MOMENTS["closed, slow"] = Story().detected(SLOW).agreed().asked().say(RUDO, ev.Resolved(kind="resolved"), 60)
MOMENTS["not an incident, slow"] = (
    Story().detected(SLOW).agreed().asked().say(RUDO, ev.Resolved(kind="not_an_incident"), 60)
)
MOMENTS["expired, slow"] = Story().detected(SLOW).agreed().asked().expired()
MOMENTS["denied"] = _with(told().agreed().asked(), ev.Denied, TENDAI, 60, ev.Validated)
MOMENTS["denied, theory B"] = _with(
    told().disagreed().asked(RESTART_A, LOOK_B, verdict="DISSENT"),
    ev.Denied,
    RUDO,
    60,
    ev.Validated,
    theory="B",
)
MOMENTS["closed"] = told().agreed().asked().say(RUDO, ev.Resolved(kind="resolved"), 60)
MOMENTS["not an incident"] = told().agreed().asked().say(TENDAI, ev.Resolved(kind="not_an_incident"), 60)
