"""The same seconds of a service, looked at in other ways: often, seldom, late, counted by one or by eight."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.policy import Policy
from detectors.verdict import ServiceState, judge
from detectors.window import Gauge, Missed
from handlers.adapters.health import tick_of
from sdk import histogram, wire
from tests.unit.detectors.conftest import START

FAST, SLOW = histogram.index(80_000_000), histogram.index(5_000_000_000)
WELL_S, SICK_S, AGAIN_S = 660, 120, 150
FAULTS = ("none", "half fail", "all fail", "slow", "gone")


def seconds(seed: int, fault: str) -> list[wire.Slot]:
    """Well, sick, and well again: a slot a second at 20 rps, empty seconds left out as an app does."""
    chance, found = random.Random(f"{seed}/{fault}"), []
    for second in range(WELL_S + SICK_S + AGAIN_S):
        sick = WELL_S <= second < WELL_S + SICK_S
        n = 0 if sick and fault == "gone" else chance.randint(17, 23)
        share = {"half fail": 0.5, "all fail": 1.0}.get(fault, 0.0) if sick else 0.001
        errors = sum(chance.random() < share for _ in range(n))
        hist = {SLOW: n} if sick and fault == "slow" else {FAST: n}
        if n:
            found.append(wire.Slot(START // 1000 + second, n, errors, 0, 0, hist, (part(n, errors),)))
    return found


def part(n: int, errors: int) -> wire.Part:
    return wire.Part("POST /pay", n, errors, {FAST: n}, {"TimeoutError": errors} if errors else {})


class Looked:
    """One service, looked at by a schedule: when policy says what of it."""

    def __init__(self, slots: list[wire.Slot]) -> None:
        self.slots, self.cursor = slots, START // 1000 - 1
        self.state, self.open = ServiceState.fresh(Policy()), False
        self.said: list[tuple[int, str, str]] = []

    def look(self, at_s: int) -> None:
        now_ms = START + at_s * 1000
        newest = [slot for slot in self.slots if self.cursor < slot.t < now_ms // 1000]
        self.see(wire.Snapshot("checkout", now_ms, tuple(newest), saturation=(Gauge("db_pool", 3, 20),)))

    def see(self, snapshot: wire.Snapshot) -> None:
        polled = tick_of(snapshot, self.cursor, snapshot.now_ms)
        self.cursor = polled.cursor
        self.state, verdict = judge(self.state, polled.tick, Policy(), open_incident=self.open)
        if not self.open and verdict.alarms:
            worst = verdict.alarms[0]
            self.said.append((snapshot.now_ms, worst.rule, worst.severity))
            self.open = True
        self.open = self.open and not (verdict.healthy and verdict.quiet_ms >= 60_000)
        self.verdict = verdict


def looked(slots: list[wire.Slot], at: list[int]) -> Looked:
    service = Looked(slots)
    for second in at:
        service.look(second)
    return service


def each(step: int) -> list[int]:
    return list(range(step, WELL_S + SICK_S + AGAIN_S + 1, step))


def late(chance: random.Random) -> list[int]:
    """Each five seconds, but now and then a poll comes late and brings fifteen."""
    found, at = [], 0
    while at < WELL_S + SICK_S + AGAIN_S:
        at += chance.choice([5, 5, 5, 6, 15])
        found.append(at)
    return found


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("seed", range(2))
def test_the_verdict_does_not_depend_on_when_we_look(fault, seed):
    slots = seconds(seed, fault)
    ways = [looked(slots, at) for at in (each(1), each(5), late(random.Random(seed)))]
    rules = {tuple((rule, severity) for _, rule, severity in way.said) for way in ways}
    assert len(rules) == 1
    assert (not rules.pop()) is (fault == "none")
    if fault != "none":
        opened = [way.said[0][0] for way in ways]
        assert max(opened) - min(opened) <= 20_000
        assert min(opened) > START + WELL_S * 1000
        assert not any(way.open for way in ways)


def split(slot: wire.Slot, workers: int, chance: random.Random) -> list[wire.Slot]:
    """The requests of one second dealt out to workers."""
    [bucket] = slot.hist
    deals = [[0, 0] for _ in range(workers)]
    for number in range(slot.n):
        deal = chance.choice(deals)
        deal[0] += 1
        deal[1] += number < slot.errors
    return [wire.Slot(slot.t, n, errors, 0, 0, {bucket: n}, (part(n, errors),)) for n, errors in deals if n]


@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_verdict_does_not_depend_on_how_many_workers_counted(fault, workers):
    chance, slots = random.Random(workers), seconds(7, fault)
    whole, dealt = Looked(slots), Looked([])
    shares = {slot.t: split(slot, workers, chance) for slot in slots}
    for at_s in each(5):
        whole.look(at_s)
        now_ms = START + at_s * 1000
        merged = [wire.merge_slots(shares[t]) for t in range(dealt.cursor + 1, now_ms // 1000) if t in shares]
        dealt.see(wire.Snapshot("checkout", now_ms, tuple(merged), saturation=(Gauge("db_pool", 3, 20),)))
        assert dealt.verdict == whole.verdict
    assert dealt.state == whole.state


def test_a_state_of_the_version_before_is_taken_up():
    """What stood in a store before there were budgets, hours and clocks: written then, read now."""
    old = json.loads((Path(__file__).parent / "state_2026_1.json").read_text())
    state = ServiceState.load(old)
    assert state.tests["err_crit"].k == old["tests"]["err_crit"]["k"] > 0
    assert (state.burn.minutes, state.step) == ((), None)
    at_ms = state.at_ms
    opened = True
    for tick in range(1, 40):
        slot = wire.Slot((at_ms // 1000) + 5 * tick - 1, 100, 0, 0, 0, {FAST: 100})
        snapshot = wire.Snapshot("checkout", at_ms + 5_000 * tick, (slot,))
        seen = tick_of(snapshot, at_ms // 1000 + 5 * tick - 6, snapshot.now_ms).tick
        state, verdict = judge(state, seen, Policy(), open_incident=opened)
    assert verdict.healthy
    assert verdict.quiet_ms >= 60_000
    assert verdict.numbers.n == 1_200
    assert ServiceState.load(state.dump()) == state


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=20))
def test_misses_in_between_lose_nothing_that_the_app_remembers(pattern):
    slots = seconds(1, "none")
    service, at_s, due = Looked(slots), 10, 0
    for pause_s, answered in [(0, True), *pattern, (0, True)]:
        at_s += pause_s
        if answered:
            before, _ = service.cursor, service.look(at_s)
            newest = START // 1000 + at_s - 1
            due += sum(slot.n for slot in slots if max(before, newest - wire.MAX_SLOTS) < slot.t <= newest)
        else:
            missed = Missed(START + at_s * 1000, "refused")
            service.state, _ = judge(service.state, missed, Policy(), open_incident=False)
    burn = service.state.burn
    assert sum(cell.n for cell in (*burn.minutes, burn.running)) == due
