"""What a run came to, by the numbers: after the service settled, and never from silence."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.policy import Policy
from handlers.ports import PortError
from handlers.readings import reading_before, reading_of
from handlers.verify import STABILISE_MS, Effect, Patience, Seen, Verifier, bound_ms, effect
from ledger import events as ev
from ledger.events import Actor, Reading
from ledger.machine import Fact, Stage
from tests.execution_room import ALARM, BOT, CHARTER, CHECKOUT, NOTHING, POLICY, READING, SICK, Room, well

SILENT = replace(well(120_000), measured=NOTHING)


class Watched:
    """A room in which the action has just run, and the verifier that looks at it."""

    def __init__(self, room: Room) -> None:
        self.room = room

    async def start(self, policy: Policy, opened_by: Actor) -> "Watched":
        room = self.room
        room.policy = policy
        await room.detect(opened_by)
        entry = await room.authorize()
        ref = ev.Ref(seq=entry.seq, hash=entry.hash)
        started = ev.ExecutionStarted(incident_id=CHECKOUT, attempt=1, by="web.1", until_ms=0, ref=ref)
        await room.write(BOT, started)
        await room.write(BOT, ev.Executed(incident_id=CHECKOUT, attempt=1, status=200, ref=ref))
        self.process = await room.process("web.1")
        self.verifier = Verifier(self.process.ledger, room.book, room.eyes)
        self.ran_ms = room.now_ms
        return self

    def due_in(self) -> list[int]:
        """In how many ms something is due."""
        return [
            w.at_ms - self.room.now_ms for w in self.verifier.due(self.process.ledger.view, self.room.now_ms)
        ]

    async def after(self, seconds: float, verdict=None, *, reachable: bool = True) -> ev.Event | None:
        """What is on record at *seconds* after the run, when policy sees *verdict* then."""
        room = self.room
        room.eyes.now, room.eyes.answers = verdict, reachable
        room.clock.advance(seconds - (room.now_ms - self.ran_ms) / 1000)
        for work in self.verifier.due(self.process.ledger.view, room.now_ms):
            if work.at_ms <= room.now_ms:
                await self.verifier.do(work)
        fact = self.process.incident.last(ev.Verified, ev.NotRecovered, ev.Inconclusive)
        return fact.event if fact else None


async def watched(policy: Policy | None = None, opened_by: Actor = POLICY) -> Watched:
    return await Watched(Room()).start(policy or Policy(), opened_by)


async def test_a_minute_of_quiet_after_it_settled_is_verified_with_before_and_after():
    seen = await watched()
    event = await seen.after(70, well(62_000))
    assert isinstance(event, ev.Verified)
    assert (event.before, event.quiet_ms) == (READING, 62_000)
    assert (event.after.n, event.after.p95_ms, event.after.score) == (1204, 190, 97)
    assert event.reason == "Recovered: 0 of 1204 failed in 60 s; closed after 62 s quiet."
    assert seen.process.incident.stage is Stage.RESOLVED


@pytest.mark.parametrize("seconds", [0, 5, 10, 40, 69.9])
async def test_quiet_from_before_it_settled_proves_nothing(seconds: float):
    assert await (await watched()).after(seconds, well(600_000)) is None


async def slow_action() -> Watched:
    """An action that takes two minutes to settle, and ten more to help."""
    said = 'cooldown = "0s"\nsettle = "2m"\nwithin = "10m"'
    return await Watched(Room(charter=CHARTER.replace('cooldown = "0s"', said))).start(Policy(), POLICY)


async def test_an_action_that_takes_long_to_settle_is_judged_after_its_own_time():
    seen = await slow_action()
    assert await seen.after(179.9, well(600_000)) is None
    assert isinstance(await seen.after(180, well(600_000)), ev.Verified)


async def test_an_action_that_helps_late_has_not_failed_before_its_own_time():
    seen = await slow_action()
    assert await seen.after(719.9, SICK) is None
    assert isinstance(await seen.after(720, SICK), ev.NotRecovered)


async def test_a_run_that_is_to_help_at_once_still_has_a_minute_and_a_half():
    assert bound_ms(Policy(), Patience(within_ms=1_000)) == bound_ms(Policy())


async def test_quiet_that_has_not_lasted_long_enough_is_waited_for():
    seen = await watched()
    assert await seen.after(100, well(59_999)) is None
    assert await seen.after(101, well(60_000)) is not None


async def test_what_still_alarms_after_a_minute_and_a_half_has_not_recovered():
    seen = await watched()
    assert await seen.after(99.9, SICK) is None
    event = await seen.after(100, SICK)
    assert isinstance(event, ev.NotRecovered)
    assert event.reason == "36 of 187 requests failed in 10 s."
    assert (event.before, event.after.error_permille) == (READING, 192)
    assert seen.process.incident.stage is Stage.NOT_RECOVERED


async def test_what_comes_back_while_its_quiet_is_counted_has_not_recovered():
    seen = await watched()
    assert await seen.after(101, well(20_000)) is None
    assert isinstance(await seen.after(106, SICK), ev.NotRecovered)


@pytest.mark.parametrize("verdict", [SILENT, None])
async def test_without_requests_nobody_can_say_whether_it_helped(verdict):
    seen = await watched()
    assert await seen.after(80, verdict) is None
    event = await seen.after(100, verdict)
    assert isinstance(event, ev.Inconclusive)
    assert event.after.n == 0
    assert seen.process.incident.stage is Stage.INCONCLUSIVE


async def test_old_good_numbers_of_a_service_that_stopped_answering_prove_nothing():
    seen = await watched()
    assert await seen.after(189.9, well(90_000), reachable=False) is None
    assert isinstance(await seen.after(190, well(90_000), reachable=False), ev.Inconclusive)


async def test_a_single_poll_that_failed_is_waited_out():
    seen = await watched()
    assert await seen.after(100, well(90_000), reachable=False) is None
    assert isinstance(await seen.after(101, well(90_000)), ev.Verified)


async def test_a_service_that_policy_calls_unreachable_has_not_recovered():
    gone = replace(SICK, alarms=(replace(ALARM, rule="unreachable", signal="unreachable"),))
    assert isinstance(await (await watched()).after(100, gone, reachable=False), ev.NotRecovered)


async def test_what_a_person_declared_is_verified_by_the_same_quiet():
    seen = await watched(opened_by=Actor.engineer("tendai", "telegram"))
    assert isinstance(await seen.after(70, well(600_000)), ev.Verified)


async def test_a_short_policy_makes_for_a_short_wait():
    seen = await watched(Policy().with_overrides({"close_ms": 4_000}))
    assert await seen.after(15.9, SICK) is None
    assert isinstance(await seen.after(16, SICK), ev.NotRecovered)


async def test_it_comes_back_when_something_can_be_said_and_not_sooner():
    seen = await watched()
    assert seen.due_in() == [70_000]
    seen.room.clock.advance(70)
    assert seen.due_in() == [30_000]
    seen.room.eyes.now = well(60_000)
    assert seen.due_in() == [0]


async def test_it_is_said_once():
    seen = await watched()
    await seen.after(70, well(62_000))
    assert seen.due_in() == []


async def test_two_processes_say_it_once():
    seen = await watched()
    other = await seen.room.process("web.2")
    second = Verifier(other.ledger, seen.room.book, seen.room.eyes)
    seen.room.clock.advance(70)
    seen.room.eyes.now = well(62_000)
    [work] = second.due(other.ledger.view, seen.room.now_ms)
    await seen.verifier.do(work)
    await second.do(work)
    log = await seen.room.store.read("acme", 0, 100)
    assert [entry.event for entry in log].count("Verified") == 1


async def test_nothing_is_said_while_the_ledger_is_away():
    seen = await watched()
    seen.room.clock.advance(70)
    seen.room.eyes.now = well(62_000)
    [work] = seen.verifier.due(seen.process.ledger.view, seen.room.now_ms)
    seen.process.disk.away = True
    with pytest.raises(PortError):
        await seen.verifier.do(work)
    seen.process.disk.away = False
    assert isinstance(await seen.after(71, well(62_000)), ev.Verified)


async def test_the_reading_before_is_the_one_that_stood_when_it_was_authorized():
    room = Room()
    await room.detect()
    worse = READING.model_copy(update={"error_permille": 400})
    await room.write(POLICY, ev.Worsened(incident_id=CHECKOUT, reading=worse))
    entry = await room.authorize()
    later = READING.model_copy(update={"error_permille": 900})
    await room.write(POLICY, ev.Worsened(incident_id=CHECKOUT, reading=later))
    incident = (await room.process("web.1")).incident
    assert reading_before(incident, entry.seq) == worse
    assert reading_before(incident, 0) == READING


def test_a_reading_holds_the_worst_alarm_and_its_figures():
    reading = reading_of("checkout", SICK, "a1b2c3d")
    assert (reading.rule, reading.signal, reading.severity) == ("err_crit", "errors", "critical")
    assert (reading.n, reading.failed, reading.evidence_cn, reading.threshold_cn) == (187, 36, 2200, 1600)
    assert reading.deploy == "a1b2c3d"


def test_a_reading_of_nothing_says_so():
    reading = reading_of("checkout", None)
    assert isinstance(reading, Reading)
    assert (reading.severity, reading.headline, reading.n) == ("none", "not measured", 0)


VERDICTS = st.sampled_from([None, SICK, SILENT, well(0), well(59_999), well(60_000), well(10**7)])
RUN = Fact(9, "f" * 64, 1_000_000, BOT, ev.Executed(incident_id=CHECKOUT, attempt=1, status=200))


@given(wait_ms=st.integers(0, 10**6), verdict=VERDICTS, reachable=st.booleans())
def test_nothing_is_said_before_it_settled_and_silence_is_never_success(wait_ms, verdict, reachable):
    policy = Policy()
    found = effect(RUN, RUN.at_ms + wait_ms, Seen(verdict, reachable, ""), policy)
    if wait_ms < STABILISE_MS + policy.close_ms:
        assert found is None
    if found is Effect.VERIFIED:
        assert reachable
        assert verdict.healthy
        assert verdict.numbers.n > 0
    if wait_ms >= STABILISE_MS + 2 * bound_ms(policy):
        waits = verdict is not None and reachable and verdict.healthy and verdict.numbers.n > 0
        assert found is not None or waits
