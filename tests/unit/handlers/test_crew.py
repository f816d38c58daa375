"""Several processes share the services of a tenant: all are looked at, whoever comes, goes or sleeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.verdict import ServiceState, judge
from detectors.window import Missed
from handlers.crew import BEAT_S, LEASE_S, Crew, Post, Said, Word, owner
from handlers.network import NETWORK
from handlers.ports import PortError
from ledger.clock import ManualClock
from ledger.store import StoreDown
from ledger.view import epoch_ms
from tests.crews import MemoryBoard, a_fleet
from tests.rooms import NOON

NAMES = st.lists(st.text("abcdef0123456789.", min_size=1, max_size=12), min_size=1, max_size=8, unique=True)
SERVICES = [f"s{n}" for n in range(60)]


@given(NAMES, st.data())
def test_who_goes_moves_its_own_share_and_no_other(members, data):
    gone = data.draw(st.sampled_from(members))
    left = [one for one in members if one != gone]
    before = {service: owner(service, members) for service in SERVICES}
    if left:
        after = {service: owner(service, left) for service in SERVICES}
        assert {service for service in SERVICES if before[service] != after[service]} == {
            service for service in SERVICES if before[service] == gone
        }


@given(NAMES, st.randoms())
def test_all_agree_on_who_looks_at_what_in_whatever_order_they_know_each_other(members, chance):
    other = chance.sample(members, len(members))
    assert [owner(service, members) for service in SERVICES] == [
        owner(service, other) for service in SERVICES
    ]
    assert {owner(service, members) for service in SERVICES} <= set(members)


def test_the_shares_are_about_equal():
    members = ["web.1", "web.2", "web.3", "web.4"]
    shares = [owner(f"service-{n}", members) for n in range(4000)]
    assert all(900 <= shares.count(one) <= 1100 for one in members)


async def test_two_share_all_services_and_no_service_is_looked_at_twice():
    fleet = await a_fleet(20)
    await fleet.start("a", "b")
    await fleet.passes(10)
    since = fleet.now
    await fleet.passes(20)
    shares = fleet.services.since(since)
    assert shares.keys() == {"a", "b"}
    assert not shares["a"] & shares["b"]
    assert len(shares["a"] | shares["b"]) == 21
    await fleet.end()


async def test_the_share_of_who_was_killed_is_looked_at_by_the_other_within_ten_seconds():
    fleet = await a_fleet(20)
    await fleet.start("a", "b")
    await fleet.passes(30)
    theirs = fleet.services.since(fleet.now - 10)["a"]
    await fleet.kill("a")
    since = fleet.now
    await fleet.passes(10)
    assert theirs <= fleet.services.since(since)["b"]
    await fleet.passes(10)
    assert len(fleet.services.since(fleet.now - 6)["b"]) == 21
    await fleet.start("c")
    await fleet.passes(10)
    shares = fleet.services.since(fleet.now - 6)
    assert not shares["b"] & shares["c"]
    assert len(shares["b"] | shares["c"]) == 21
    await fleet.end()


async def test_who_leaves_in_good_order_is_followed_within_four_seconds_and_its_states_are_kept():
    fleet = await a_fleet(20)
    await fleet.start("a", "b")
    await fleet.passes(30)
    theirs = fleet.services.since(fleet.now - 10)["a"]
    await fleet.processes.pop("a").stop()
    assert theirs <= fleet.states.texts.keys()
    since = fleet.now
    await fleet.passes(4)
    assert theirs <= fleet.services.since(since)["b"]
    await fleet.end()


async def test_who_comes_loads_what_the_one_before_had_learned_to_the_last_look():
    fleet = await a_fleet(20)
    await fleet.start("a")
    await fleet.passes(30)
    await fleet.start("b")
    await fleet.passes(5)
    one, two = (fleet.processes[name].detect.seen for name in ("a", "b"))
    assert two.keys()
    assert not one.keys() & two.keys()
    for name in two:
        last = max(at for at, process, service in fleet.services.looks if (process, service) == ("a", name))
        done = [what for what, service in fleet.states.done if service == name]
        assert done[-2:] == ["save", "load"]
        assert last in [sample.at_ms / 1000 for sample in two[name].state.recent]
    await fleet.end()


async def test_who_comes_is_told_all_that_the_others_know():
    fleet = await a_fleet(20)
    await fleet.start("a", "b")
    await fleet.passes(20)
    await fleet.start("c")
    await fleet.passes(3.2)
    theirs = {name for one in ("a", "b") for name in fleet.processes[one].detect.seen}
    assert len(theirs) > 10
    assert all(fleet.processes["c"].detect.verdict("acme", name) for name in theirs)
    await fleet.end()


async def test_a_restart_while_the_network_is_gone_does_not_say_that_it_is_back():
    fleet = await a_fleet(5)
    await fleet.start("a")
    await fleet.passes(10)
    fleet.services.down = {"checkout", *(f"s{n}" for n in range(5))}
    await fleet.passes(10)
    await fleet.processes.pop("a").stop()
    await fleet.start("b")
    await fleet.passes(10)
    ledger = fleet.acme.room.ledger
    await ledger.sweep()
    assert [(one.service, len(one.facts)) for one in ledger.view.open()] == [(NETWORK, 1)]
    await fleet.end()


async def test_a_process_that_slept_looks_at_nothing_until_it_has_read_what_it_missed():
    fleet = await a_fleet(10)
    await fleet.start("a", "b")
    await fleet.passes(20)
    sleeper, asleep = fleet.processes["a"], MemoryBoard(fleet.clock, away=True)
    sleeper.crew.board = asleep  # it neither tells nor hears: as good as asleep, but its tasks go on
    await fleet.passes(LEASE_S)
    since = fleet.now
    await fleet.passes(12)
    assert "a" not in fleet.services.since(since)
    assert len(fleet.services.since(since)["b"]) == 11
    assert sleeper.detect.seen == {}
    sleeper.crew.board = fleet.board
    await fleet.passes(10)
    shares = fleet.services.since(fleet.now - 6)
    assert shares["a"]
    assert not shares["a"] & shares["b"]
    await fleet.end()


async def test_what_a_look_brings_after_a_sleep_of_twelve_seconds_counts_for_nothing():
    fleet = await a_fleet(0)
    await fleet.start("a")
    await fleet.passes(7)
    process = fleet.processes["a"]
    before, made = process.detect.seen["checkout"], process.poller.made
    charter = fleet.acme.room.people
    real = process.poller.health.poll

    async def slept(*asked):
        fleet.clock._now = fleet.clock.now().fromtimestamp(fleet.now + 12, fleet.clock.now().tzinfo)
        return await real(*asked)

    process.poller.health.poll = slept
    assert not await process.poller.look(charter, charter.service("checkout"))
    assert (process.detect.seen["checkout"], process.poller.made) == (before, made)
    await fleet.end()


async def test_while_the_board_is_away_for_longer_than_a_lease_nobody_looks_and_then_all_do_again():
    fleet = await a_fleet(5)
    await fleet.start("a", "b")
    await fleet.passes(20)
    fleet.board.away = True
    await fleet.passes(LEASE_S + 1)
    since = fleet.now
    await fleet.passes(10)
    assert fleet.services.since(since) == {}
    fleet.board.away = False
    await fleet.passes(9)
    shares = fleet.services.since(since)
    assert len(shares["a"] | shares["b"]) == 6
    await fleet.end()


@pytest.mark.parametrize("step_s", [-7200, 7200])
async def test_a_wall_clock_that_is_set_moves_no_share(step_s):
    clock = ManualClock(NOON)
    board, ticking = MemoryBoard(clock), [0.0]
    crews = [Crew(board, "acme", name, monotonic=lambda: ticking[0]) for name in ("a", "b")]
    for turn in range(20):
        clock.advance(BEAT_S + (step_s if turn == 10 else 0))
        ticking[0] += BEAT_S
        for one in crews:
            await one.beat(Said())
            assert one.holds()
        if turn:
            assert crews[0].members == crews[1].members == ("a", "b")


async def test_a_lease_ends_for_its_holder_before_it_ends_for_the_others():
    ticking, board = [0.0], MemoryBoard(ManualClock(NOON))
    mine, theirs = (Crew(board, "acme", name, monotonic=lambda: ticking[0]) for name in ("a", "b"))
    for one in (mine, theirs, mine):
        await one.beat(Said())
        ticking[0] += 0.1
    last = ticking[0] - 0.1
    while "a" in theirs.members:
        ticking[0] += 0.1
        await theirs.beat(Said())
    assert not mine.holds()
    assert last + LEASE_S <= ticking[0] <= last + LEASE_S + 0.3


async def test_a_board_that_begins_anew_is_read_from_its_beginning():
    clock = ManualClock(NOON)
    board = MemoryBoard(clock)
    one, other = (Crew(board, "acme", name, monotonic=lambda: 0.0) for name in ("a", "b"))
    for _ in range(9):
        await one.beat(Said())
    one.board = other.board = MemoryBoard(clock)
    await other.beat(Said())
    for _ in range(3):
        await one.beat(Said())
    assert one.members == ("a", "b")


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b'{"words":[{"service":1}]}', b'{"made":"x"}', b"\xff"])
async def test_a_beat_that_cannot_be_read_is_a_beat_all_the_same(text):
    board = MemoryBoard(ManualClock(NOON))
    crew = Crew(board, "acme", "a", monotonic=lambda: 0.0)
    board.posts.append(Post("z", epoch_ms(NOON), text, "0"))
    [heard] = await crew.beat(Said())
    assert (heard.by, heard.said, crew.members) == ("z", Said(), ("a", "z"))


async def test_a_word_of_a_verdict_comes_over_the_board_as_it_was():
    policy = (await a_fleet(0)).acme.room.proposed_policy
    state = ServiceState.fresh(policy)
    for second in range(5):
        state, verdict = judge(state, Missed(second * 1000, "refused"), policy, open_incident=False)
    assert verdict.alarms
    board = MemoryBoard(ManualClock(NOON))
    one, other = (Crew(board, "acme", name, monotonic=lambda: 0.0) for name in ("a", "b"))
    said = Said(7, words=(Word("checkout", 40, 5, verdict),))
    await one.beat(said)
    [heard] = await other.beat(Said())
    assert heard.said == said


async def test_each_process_knows_what_the_others_saw_and_for_ten_seconds_only():
    fleet = await a_fleet(20)
    await fleet.start("a", "b")
    await fleet.passes(20)
    one, other = (fleet.processes[name].detect for name in ("a", "b"))
    theirs = sorted(other.seen)
    assert theirs
    assert all(name not in one.seen for name in theirs)
    assert all(one.verdict("acme", name).healthy and one.reachable("acme", name) for name in theirs)
    fleet.services.down = set(theirs[:1])
    await fleet.passes(7)
    assert not one.reachable("acme", theirs[0])
    assert [alarm.rule for alarm in one.verdict("acme", theirs[0]).alarms] == ["unreachable"]
    await fleet.kill("b")
    fleet.processes["a"].poller.share.owns = lambda service: service in one.seen  # nobody takes over
    await fleet.passes(12)
    assert all(one.verdict("acme", name) is None for name in theirs)
    assert one.reachable("acme", theirs[0])
    assert one.latest(theirs[0]).missed
    await fleet.end()


async def test_what_a_process_gave_up_it_knows_until_the_other_tells():
    fleet = await a_fleet(20)
    await fleet.start("a")
    await fleet.passes(20)
    one = fleet.processes["a"].detect
    names = sorted(one.seen)
    await fleet.start("b")
    for _ in range(80):
        await fleet.passes(0.1)
        assert all(one.verdict("acme", name) for name in names)
    assert len(one.seen) < 21
    await fleet.end()


async def test_when_most_services_of_all_processes_are_silent_that_is_one_card_about_the_network():
    fleet = await a_fleet(20)
    await fleet.start("a", "b")
    await fleet.passes(20)
    fleet.services.down = {"checkout", *(f"s{n}" for n in range(20))}
    await fleet.passes(20)
    ledger = fleet.acme.room.ledger
    await ledger.sweep()
    assert [one.service for one in ledger.view.open()] == [NETWORK]
    assert "services do not answer" in ledger.view.open()[0].reading.headline
    fleet.services.down = set()
    await fleet.passes(20)
    await ledger.sweep()
    assert ledger.view.open() == []
    assert list(ledger.view.incidents) == [f"{NETWORK}-1"]
    await fleet.end()


async def test_when_one_process_alone_has_lost_its_network_the_others_do_not_say_that_it_is_back():
    fleet = await a_fleet(20)
    await fleet.start("a", "b")
    await fleet.passes(20)

    async def cut_off(*asked):
        raise PortError("refused")

    fewest = min(fleet.processes.values(), key=lambda process: len(process.detect.seen))
    assert 3 <= len(fewest.detect.seen) <= 10
    fewest.poller.health.poll = cut_off
    await fleet.passes(30)
    ledger = fleet.acme.room.ledger
    await ledger.sweep()
    assert list(ledger.view.incidents) == [f"{NETWORK}-1"]
    assert len(ledger.view.incidents[f"{NETWORK}-1"].facts) == 1
    await fleet.end()


async def test_the_looks_of_all_processes_are_counted():
    fleet = await a_fleet(20)
    await fleet.start("a", "b")
    await fleet.passes(10)
    before = [one.poller.made_by_all for one in fleet.processes.values()]
    since = len(fleet.services.looks)
    await fleet.passes(60)
    made = len(fleet.services.looks) - since
    for one, was in zip(fleet.processes.values(), before, strict=True):
        assert abs(one.poller.made_by_all - was - made) <= 21
    await fleet.end()


async def test_a_board_that_is_away_is_said_by_its_own_error():
    crew = Crew(MemoryBoard(ManualClock(NOON), away=True), "acme", "a", monotonic=lambda: 0.0)
    with pytest.raises(StoreDown):
        await crew.beat(Said())
    assert not crew.holds()
