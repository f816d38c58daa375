"""Once an hour somebody says that the control was on, and restarts never say it twice."""

import asyncio
import random

from handlers.detect import Detect
from handlers.poll import Poller
from handlers.reconciler import Loop
from handlers.watched import HOUR_MS, Watching
from ledger import events as ev
from ledger.ledger import Ledger
from tests.council_room import RUDO, Room


async def ahead() -> tuple[int, str]:
    return 40, "the Redis server"


class Post:
    """One process that watches the room's one service."""

    def __init__(self, room: Room, process: str = "web.1", ledger: Ledger | None = None) -> None:
        self.room = room
        self.ledger = ledger or room.ledger
        self.poller = Poller(
            self.ledger,
            room.rulebook,
            Detect(self.ledger, room.rulebook),
            None,
            None,
            room.clock,
            random.Random(1),
        )
        self.poller.began_ms = room.now_ms
        self.watching = Watching(self.ledger, room.rulebook, self.poller, process, ahead)
        self.loop = Loop(self.ledger, (self.watching,), room.clock)

    async def pass_(self, seconds: float) -> None:
        self.loop.step()
        self.room.clock.advance(seconds)
        self.loop.step()
        await self.loop.settle()


async def a_post() -> Post:
    room = Room()
    await room.open()
    return Post(room)


async def reports(room: Room) -> list[ev.Watched]:
    entries = await room.ledger._store.read("acme", 0, 1_000)
    return [ev.Watched(**entry.data, reason=entry.reason) for entry in entries if entry.event == "Watched"]


async def test_an_hour_is_reported_when_it_is_over_and_not_before():
    post = await a_post()
    began_ms = post.room.now_ms
    await post.pass_(3599.9)
    assert await reports(post.room) == []
    post.poller.made += 700
    await post.pass_(0.1)
    [said] = await reports(post.room)
    assert (said.due, said.made, said.missed) == (720, 700, 20)
    assert (said.since_ms, said.clock_offset_ms, said.clock) == (began_ms, 40, "the Redis server")
    assert said.reason == "700 looks made, 20 of 720 missed"


async def test_each_hour_counts_its_own_looks():
    post = await a_post()
    for made in (720, 10, 730):
        post.loop.step()
        post.poller.made += made
        await post.pass_(3600)
    assert [(said.made, said.missed) for said in await reports(post.room)] == [(720, 0), (10, 710), (730, 0)]


async def test_another_process_takes_over_where_the_last_report_ended():
    post = await a_post()
    await post.pass_(3600)
    other = Post(post.room, "web.2")
    other.poller.began_ms -= 1_000_000
    await other.pass_(3599)
    assert len(await reports(post.room)) == 1
    await other.pass_(1)
    first, second = await reports(post.room)
    assert second.since_ms == first.since_ms + HOUR_MS


async def test_what_nobody_watched_stands_in_no_report():
    post = await a_post()
    await post.pass_(3600)
    post.room.clock.advance(7200)
    later = Post(post.room)
    await later.pass_(3600)
    said = (await reports(post.room))[-1]
    assert (said.since_ms, said.due) == (later.poller.began_ms, 720)


async def test_two_processes_at_once_report_one_hour_once():
    post = await a_post()
    other = Post(post.room, "web.2")
    for one in (post, other):
        one.loop.step()
    post.room.clock.advance(3600)
    for one in (post, other):
        one.loop.step()
    for one in (post, other):
        await one.loop.settle()
    assert len(await reports(post.room)) == 1


async def test_two_processes_that_each_have_their_own_view_report_one_hour_once():
    post = await a_post()
    room = post.room
    theirs = Ledger("acme", room.ledger._store, room.clock, random.Random(2))
    await theirs.sweep()
    assert theirs.view.head == room.ledger.view.head
    other = Post(room, "web.2", theirs)
    for one in (post, other):
        one.loop.step()
    room.clock.advance(3600)
    for one in (post, other):
        one.loop.step()
    await asyncio.gather(post.loop.settle(), other.loop.settle())
    assert len(await reports(room)) == 1
    await asyncio.gather(room.ledger.hint(), theirs.hint())
    hour_ms = room.now_ms + HOUR_MS
    assert {work.at_ms for one in (post, other) for work in one.watching.due(one.ledger.view, 0)} == {hour_ms}


async def test_before_anybody_looks_nothing_is_reported():
    post = await a_post()
    post.poller.began_ms = 0
    assert post.watching.due(post.room.ledger.view, post.room.now_ms) == ()
    await post.room.write(RUDO, ev.Paused())
    assert await reports(post.room) == []
