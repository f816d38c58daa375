"""The whole life of requests, in any order that hypothesis thinks of, on the real store.

Two processes of acme and one of beta share a Valkey. People ask, vote, deny and take back; rules change; the
store goes away; executors die at any step. After each step the log is read again as a stranger to the program
would read it, and every promise of the README holds in it.
"""

import asyncio
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bot.ports import Answer, Verb
from detectors.policy import Policy
from handlers.charter import Charter
from handlers.expire import Expire
from handlers.ports import PortError
from ledger import events as ev
from ledger.chain import Entry
from ledger.clock import ManualClock
from ledger.embedded import EmbeddedValkey
from ledger.events import Act, Actor
from ledger.ledger import Refusal
from ledger.machine import ASKABLE, CLOSED, Stage, unsettled
from ledger.redis_store import RedisStore, connect
from ledger.store import StoreDown
from ledger.view import epoch_ms, fold
from tests.execution_room import Disk, Eyes, Life, Process, Purse, Receiver
from tests.rooms import NOON, POLICY, READING, Tenant, charter, tenant
from tests.sim.read import Read

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("request-life")]

EXAMPLES, STEPS = 45, 30
PEOPLE = st.sampled_from(["rudo", "tendai", "rudo", "tendai", "tariro", "stranger"])
NTH = st.sampled_from([0, 0, 0, 1, 2])
ANSWERS = st.lists(
    st.sampled_from([200, 500, 404, PortError("cut", unknown=True), PortError("refused")]), max_size=3
)
BETA = (('"acme"', '"beta"'), ("ACME_", "BETA_"), ("-100200300", "-100200400"), ("1001", "2001"))
RULES = {approve: charter(approve) for approve in ("1 oncall", "2 oncall", "1 admin")}
RUDO = Actor.engineer("rudo", "telegram")
POLICIES = (Policy(), Policy().with_overrides({"close_ms": 90_000}))


def beta() -> Charter:
    found = charter()
    text = found.model_dump_json()
    for old, new in BETA:
        text = text.replace(old, new)
    return Charter.model_validate_json(text)


@dataclass
class Place:
    """What `Process` needs of the room it stands in."""

    clock: ManualClock
    store: RedisStore
    receiver: Receiver
    book: object
    eyes: Eyes = field(default_factory=Eyes)
    purse: Purse = field(default_factory=Purse)

    @property
    def now_ms(self) -> int:
        return epoch_ms(self.clock.now())


# --- what can happen ------------------------------------------------------------------------------------


class RequestLife(RuleBasedStateMachine):
    server: EmbeddedValkey
    loop: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Answer] = []
        self.updates = 0
        self.requests: list[str] = []
        self.deaths = self.changes = 0
        self.do(self._begin())

    @initialize(approve=st.sampled_from(["2 oncall", "2 oncall", "1 oncall"]), two=st.booleans())
    def a_request_waits(self, approve: str, two: bool):
        self.do(self._adopt(RULES[approve], POLICIES[0]))
        for _ in range(2):
            self.policy_moves_on(life_ms=60_000, two=two, helped=False)

    def do(self, work):
        return self.loop.run(work)

    async def _begin(self) -> None:
        self.client = connect(self.server.url_of("owner"))
        await self.client.execute_command("FLUSHALL")
        self.store, self.clock = RedisStore(self.client), ManualClock(NOON)
        self.disk = Disk(self.store, Life())
        self.acme = await tenant(RULES["1 oncall"], self.disk, clock=self.clock)
        self.twin = await tenant(RULES["1 oncall"], self.disk, clock=self.clock, adopted=False)
        self.twin.room.rulebook = self.acme.room.rulebook
        self.beta = await tenant(beta(), self.disk, clock=self.clock)
        for rules in RULES.values():
            for policy in POLICIES:
                self.acme.room.rulebook.add(rules, policy)
        self.place = Place(self.clock, self.store, Receiver(self.store), self.acme.room.rulebook)

    @property
    def incident(self):
        view = self.acme.room.ledger.view
        return view.newest_for("checkout")

    @property
    def stage(self) -> Stage | None:
        return self.incident.stage if self.incident else None

    # policy

    @precondition(lambda self: not self.waits_for_people)
    @rule(life_ms=st.sampled_from([5_000, 60_000]), two=st.booleans(), helped=st.booleans())
    def policy_moves_on(self, life_ms: int, two: bool, helped: bool):
        """It opens, also while paused; it asks; and says whether what ran has helped."""
        match self.stage:
            case stage if stage is None or stage in CLOSED:
                self.do(self.acme.opens())
            case Stage.DETECTED | Stage.NOT_RECOVERED:
                options = [self.acme.option("A", theory="A"), self.acme.option("B", "switch_payments", "B")]
                made = self.acme.asks(*(options if two else options[:1]), life_ms=life_ms)
                self.requests.append(self.do(made).hash)
            case Stage.EXECUTED:
                kind = ev.Verified if helped else ev.NotRecovered
                event = kind(incident_id=self.incident.id, before=READING, after=READING)
                self.do(self.acme.record(POLICY, lambda v, n: event))

    @property
    def waits_for_people(self) -> bool:
        return self.stage not in {None, *CLOSED, Stage.DETECTED, Stage.NOT_RECOVERED, Stage.EXECUTED}

    @precondition(lambda self: self.stage is Stage.VALIDATED)
    @rule()
    def the_clock_expires_what_is_over(self):
        async def work():
            expire = Expire(self.twin.room.ledger)
            await self.twin.room.ledger.hint()
            for due in expire.due(self.twin.room.ledger.view, self.place.now_ms):
                if due.at_ms <= self.place.now_ms:
                    await expire.do(due)
            await self.acme.room.ledger.hint()

        self.do(work())

    @precondition(lambda self: self.stage is Stage.VALIDATED)
    @rule(say=st.sampled_from(["Authorized", "Approved", "Diagnosed", "Recovered"]))
    def a_model_says(self, say: str):
        request = self.incident.request.ref
        event = {
            "Authorized": ev.Authorized(option="A", action="restart_workers", ref=request),
            "Approved": ev.Approved(option="A", ref=request),
            "Diagnosed": ev.Diagnosed(lens="A", round=1, why="approved"),
            "Recovered": ev.Recovered(after=READING),
        }[say].model_copy(update={"incident_id": self.incident.id})
        made = self.do(self.acme.room.ledger.record(Actor.model("claude"), lambda v, n: event))
        assert say == "Diagnosed" or isinstance(made, Refusal)

    # people

    @precondition(lambda self: self.requests)
    @rule(who=PEOPLE, option=st.sampled_from("AAB"), nth=NTH, twin=st.booleans())
    def somebody_votes(self, who: str, option: str, nth: int, twin: bool):
        self._taps(self.twin if twin else self.acme, who, Verb.APPROVE, nth, option)

    @precondition(lambda self: self.stage is Stage.VALIDATED)
    @rule(who=st.sampled_from(["rudo", "tendai"]), private=st.booleans())
    def an_approver_votes(self, who: str, private: bool):
        self._taps(self.acme, who, Verb.APPROVE, 0, private=private)

    @precondition(lambda self: self.requests)
    @rule(who=PEOPLE, nth=NTH, verb=st.sampled_from([Verb.DENY, Verb.WITHDRAW, Verb.ASK_AGAIN, Verb.ACK]))
    def somebody_answers_otherwise(self, who: str, nth: int, verb: Verb):
        self._taps(self.twin, who, verb, nth)

    @precondition(lambda self: self.stage is Stage.VALIDATED)
    @rule(who=st.sampled_from(["rudo", "tendai"]))
    def an_approver_takes_it_back(self, who: str):
        self._taps(self.twin, who, Verb.WITHDRAW, 0)

    @precondition(lambda self: self.stage in ASKABLE)
    @rule(who=st.sampled_from(["rudo", "tendai"]))
    def an_approver_asks_again(self, who: str):
        self._taps(self.acme, who, Verb.ASK_AGAIN, 0)

    @precondition(lambda self: self.requests)
    @rule(who=PEOPLE, nth=NTH)
    def two_tap_at_once(self, who: str, nth: int):
        """In two processes, on the same request."""

        async def both():
            here, there = self._tap(self.acme, who, nth), self._tap(self.twin, "rudo", nth)
            at_once = self.acme.desk.tapped("acme", here), self.twin.desk.tapped("acme", there)
            self.told += await asyncio.gather(*at_once)
            await self.acme.room.ledger.hint()

        self.do(both())

    @precondition(lambda self: self.requests)
    @rule(who=PEOPLE, nth=NTH, how=st.sampled_from(["forged", "beta"]))
    def a_button_that_is_not_ours_is_tapped(self, who: str, nth: int, how: str):
        """It moves nothing. From beta's chat it does not even come here."""
        before = [entry.event for entry in self.do(self.log())]
        where = self.beta if how == "beta" else self.twin
        self._taps(where, who, Verb.APPROVE, nth, genuine=how == "beta")
        new = [entry.event for entry in self.do(self.log())][len(before) :]
        assert set(new) <= (set() if how == "beta" else {"Refused"})

    def _taps(self, where: Tenant, who: str, verb: Verb, nth: int, option: str = "A", **more) -> None:
        tap = self._tap(where, who, nth, verb, option, **more)
        self.told.append(self.do(where.desk.tapped(where.room.tenant, tap)))
        self.do(self.acme.room.ledger.hint())

    def _tap(self, where: Tenant, who: str, nth: int, verb: Verb = Verb.APPROVE, option: str = "A", **more):
        self.updates += 1
        anchor = self.requests[-1 - nth % len(self.requests)]
        act = Act(channel="telegram", update=f"u{self.updates}")
        return replace(where.tap(who, verb, anchor, option, **more), act=act)

    # rules

    @precondition(lambda self: self.changes < len(self.requests))
    @rule(change=st.sampled_from(["pause", "resume", *sorted(RULES), *sorted(RULES), "policy", "usual"]))
    def an_admin_changes_what_is_in_force(self, change: str):
        self.changes += 1
        rules = RULES.get(change, RULES["2 oncall"])
        match change:
            case "pause":
                self.do(self.acme.record(RUDO, lambda v, n: ev.Paused()))
            case "resume":
                self.do(self.acme.record(RUDO, lambda v, n: ev.Resumed()))
            case _:
                self.do(self._adopt(rules, POLICIES[change == "policy"]))

    async def _adopt(self, rules: Charter, policy: Policy) -> None:
        event = ev.CharterAdopted(
            digest=rules.digest(), policy_digest=policy.digest(), policy_label=policy.label
        )
        await self.acme.record(RUDO, lambda v, n: event)

    # the world

    @rule(seconds=st.sampled_from([1, 10, 70]))
    def time_passes(self, seconds: int):
        self.clock.advance(seconds)

    @precondition(lambda self: self.requests)
    @rule(who=PEOPLE)
    def somebody_taps_while_the_store_is_away(self, who: str):
        """Nobody is told that anything stands, nothing is called, and afterwards nothing stands."""
        before, calls = self.do(self.log()), len(self.place.receiver.calls)
        self.disk.away = True
        try:
            self._taps(self.acme, who, Verb.APPROVE, 0)
            self.do(self._execute("web.away", -1, []))
        finally:
            self.disk.away = False
        assert self.told[-1].ref is None
        assert (self.do(self.log()), len(self.place.receiver.calls)) == (before, calls)
        for room in (self.acme.room, self.twin.room):
            self.do(room.ledger.sweep())

    @precondition(lambda self: self.stage in {Stage.AUTHORIZED, Stage.EXECUTING})
    @rule(ends_at=st.integers(-1, 9), answers=ANSWERS)
    def an_executor_runs_and_may_die(self, ends_at: int, answers: list):
        self.deaths += 1
        self.do(self._execute(f"web.{self.deaths}", ends_at, answers))

    async def _execute(self, name: str, ends_at: int, answers: list) -> None:
        self.place.receiver.answers = list(answers)
        process = Process(self.place, name, Life(ends_at))
        process.disk.away = self.disk.away
        with suppress(StoreDown):
            await process.ledger.catch_up()
            await process.ledger.sweep()
            await process.run()
        await self.acme.room.ledger.hint()

    # what holds

    async def log(self) -> list[Entry]:
        return await self.store.read("acme", 0, 10_000)

    @invariant()
    def every_promise_holds_in_the_log(self):
        log = self.do(self.log())
        reading = Read({rules.digest(): rules for rules in RULES.values()})
        for entry in log:
            reading.take(entry)
        keys = Counter(call.idempotency_key for call in self.place.receiver.calls)
        assert set(keys) <= set(reading.authorized)
        tries = Counter(
            (call.idempotency_key, call.headers["countersign-attempt"]) for call in self.place.receiver.calls
        )
        assert all(times == 1 for times in tries.values())
        fold("acme", log)

    @invariant()
    def every_tap_was_answered_and_what_it_was_told_stands(self):
        if not self.told:
            return
        hashes = {entry.seq: entry.hash for entry in self.do(self.log())}
        for answer in self.told:
            assert answer.text.strip()
            assert len(answer.text) <= 200
            assert answer.ref is None or hashes[answer.ref.seq] == answer.ref.hash

    def teardown(self) -> None:
        if self.stage in {Stage.AUTHORIZED, Stage.EXECUTING}:
            self.do(self._execute("web.last", -1, []))
        log = self.do(self.log())
        assert unsettled(fold("acme", log).incidents.values()) == []
        self.every_promise_holds_in_the_log()
        for room in (self.acme.room, self.twin.room, self.beta.room):
            self.do(room.ledger.close())
        self.do(self.store.close())


def test_whatever_is_done_to_requests_every_promise_is_kept():
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="vk") as folder, asyncio.Runner() as runner:
        server = EmbeddedValkey(Path(folder))
        runner.run(server.start())
        try:
            runner.run(_load(server))
            made = type("OnValkey", (RequestLife,), {"server": server, "loop": runner})
            run_state_machine_as_test(
                made,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    derandomize=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(server.stop())


async def _load(server: EmbeddedValkey) -> None:
    store = RedisStore(connect(server.url_of("deploy")))
    await store.load_functions()
    await store.close()
