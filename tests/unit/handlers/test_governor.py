"""Runs keep their distance: a cooldown for each action, a cap for any hour, a rate for all of a tenant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.charter import parse
from handlers.governor import HOUR_MS, ran, too_fast
from ledger import events as ev
from ledger.view import Run, View
from tests.execution_room import CHARTER as RESTLESS
from tests.execution_room import Room

MINUTE = 60_000
CHARTER = RESTLESS.replace('cooldown = "0s"\n', "")
NOW = 100 * HOUR_MS


def rules(action: str = 'cooldown = "1s"', limits: str = ""):
    return parse(f"{CHARTER}{action}\n{limits}")


def seen(*minutes_ago: float, action: str = "restart_workers", service: str = "checkout") -> View:
    view = View("acme")
    view.runs = tuple(Run("checkout-1", service, action, NOW - round(m * MINUTE)) for m in minutes_ago)
    return view


def closed(view: View, charter=None):
    charter = charter or rules()
    return too_fast(charter.action("checkout", "restart_workers"), "checkout", charter, view, NOW)


def test_an_action_rests_after_each_run():
    found = closed(seen(9.9), rules('cooldown = "10m"'))
    assert (found.why, found.until_ms) == ("it ran less than 10 min ago", NOW + round(0.1 * MINUTE))
    assert closed(seen(10), rules('cooldown = "10m"')) is None


@pytest.mark.parametrize("other", [{"action": "fallback"}, {"service": "basket"}])
def test_another_action_or_service_has_its_own_rest(other):
    assert closed(seen(1, **other), rules('cooldown = "10m"')) is None


def test_a_cap_holds_for_any_hour_and_not_for_the_clocks():
    charter = rules('cooldown = "1s"\nper_hour = 3')
    assert closed(seen(59, 30), charter) is None
    found = closed(seen(59, 30, 1), charter)
    assert found.why == "it ran 3 times within an hour, and the charter allows no more"
    assert found.until_ms == NOW + MINUTE
    assert closed(seen(60, 30, 1), charter) is None


def test_where_the_cap_was_lowered_one_is_free_when_so_many_are_older_than_an_hour():
    charter = rules('cooldown = "1s"\nper_hour = 2')
    assert closed(seen(59, 30, 20, 1), charter).until_ms == NOW + 40 * MINUTE


def test_all_actions_together_have_a_rate():
    charter = rules(limits="[limits]\nruns_per_hour = 2")
    view = seen(50, action="fallback", service="basket")
    view.runs += seen(20, action="other", service="pay").runs
    assert closed(view, charter).why.startswith("2 actions ran within an hour")
    assert closed(view, rules()) is None


def test_what_holds_longest_is_said():
    charter = rules('cooldown = "10m"\nper_hour = 2')
    assert closed(seen(5, 4), charter).until_ms == NOW + 55 * MINUTE


@given(st.lists(st.integers(0, 240), max_size=12), st.integers(1, 4))
def test_whatever_ran_no_hour_holds_more_than_the_cap_if_everybody_waits(minutes, cap):
    charter = rules(f'cooldown = "1s"\nper_hour = {cap}')
    action, made = charter.action("checkout", "restart_workers"), []
    for minute in sorted(minutes):
        view, now = View("acme"), minute * MINUTE + 1
        view.runs = tuple(Run("checkout-1", "checkout", "restart_workers", at) for at in made)
        if too_fast(action, "checkout", charter, view, now) is None:
            made.append(now)
    assert all(sum(at - HOUR_MS < other <= at for other in made) <= cap for at in made)


def test_the_runs_of_the_last_hour_are_counted_by_action():
    view = seen(61, 60, 59, 1)
    view.runs += seen(2, action="fallback").runs + seen(1, service="basket").runs
    assert ran(view, "checkout", NOW) == {"restart_workers": 2, "fallback": 1}


async def test_what_ran_since_people_were_asked_stands_the_run_down_and_says_why():
    room = Room(charter=CHARTER + 'cooldown = "10m"\n')
    await room.detect()
    await room.authorize()
    process = await room.process("web.1")
    process.ledger.view.runs = (Run("checkout-0", "checkout", "restart_workers", room.now_ms - MINUTE),)
    await process.run()
    stood = process.incident.latest(ev.StoodDown)
    assert (stood.why, stood.reason) == ("governor", "Not run: It ran less than 10 min ago.")
    assert room.receiver.calls == []


async def test_a_later_try_of_the_same_run_is_not_held_back_by_the_first():
    room = Room([503, 200], charter=CHARTER + 'cooldown = "10m"\nper_hour = 1\n')
    await room.detect()
    await room.authorize()
    await (await room.process("web.1")).run()
    assert len(room.receiver.calls) == 2
    assert "Executed" in await room.told()
