"""Real processes on a real Valkey share the services: one is killed, one is paused, and all is looked at."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from bot.board import KEPT_MS, RedisBoard
from handlers.crew import Crew, Said
from tests.crew_process import SERVICES
from tests.servers import KINDS, a_server
from tests.valkey import a_valkey, connected

pytestmark = [pytest.mark.xdist_group("crew"), pytest.mark.timeout(180)]


class Process:
    """One of the crew, and all that it has said: when, which word, about what."""

    def __init__(self, name: str, child: asyncio.subprocess.Process) -> None:
        self.name, self.child = name, child
        self.said: list[tuple[float, str, str]] = []
        self.news = asyncio.Event()
        self.reading = asyncio.create_task(self.read())

    async def read(self) -> None:
        async for line in self.child.stdout:
            at, word, *about = line.decode().split()
            self.said.append((float(at), word, *about, "")[:3])
            self.news.set()

    async def until(self, good: Callable[[], bool]) -> None:
        """Wait until *good* is true after something that it said."""
        async with asyncio.timeout(60):
            while not good():
                self.news.clear()
                await self.news.wait()

    def looked(self, since: float, until: float = float("inf")) -> set[str]:
        return {about for at, word, about in self.said if word == "look" and since <= at < until}

    def first_look(self, service: str, since: float) -> float:
        return min(at for at, word, about in self.said if (word, about) == ("look", service) and at >= since)

    def words(self, since: float) -> list[str]:
        return [word for at, word, _ in self.said if at >= since]

    def members(self) -> str:
        return next((about for _, word, about in reversed(self.said) if word == "beat"), "")

    def send(self, number: signal.Signals) -> float:
        os.kill(self.child.pid, number)
        return time.monotonic()

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            self.child.kill()
        await self.child.wait()
        await self.reading


@asynccontextmanager
async def processes() -> AsyncIterator[Callable]:
    """What starts a process by its name. All end with the test."""
    running: list[Process] = []
    async with a_valkey() as server:

        async def start(name: str) -> Process:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.crew_process", server.url, name, stdout=asyncio.subprocess.PIPE
            )
            running.append(Process(name, child))
            return running[-1]

        try:
            yield start
        finally:
            for one in running:
                await one.end()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it stops and kills processes by signal")
async def test_one_is_killed_and_one_is_paused_and_every_service_is_looked_at_in_time():
    async with processes() as start:
        one, two = await start("a"), await start("b")
        for process in (one, two):
            await process.until(lambda process=process: process.members() == "a,b")
        shared = time.monotonic() + 4  # the share of who came last has moved by then
        for process in (one, two):
            await process.until(lambda process=process: process.said[-1][0] > shared + 3)
        ours, theirs = one.looked(shared, shared + 3), two.looked(shared, shared + 3)
        assert ours
        assert theirs
        assert not ours & theirs
        assert len(ours | theirs) == SERVICES

        killed = one.send(signal.SIGKILL)
        await two.until(lambda: ours <= two.looked(killed))
        assert max(two.first_look(service, killed) for service in ours) - killed <= 10

        three = await start("c")
        await three.until(lambda: three.members() == "b,c")
        await three.until(lambda: len(three.looked(0)) > 0)
        await two.until(lambda: "act" in two.words(killed))  # the lease of who was killed is taken over

        paused = two.send(signal.SIGSTOP)
        await three.until(lambda: three.said[-1][0] > paused + 12)
        assert len(three.looked(paused + 10)) == SERVICES
        assert "act" in three.words(paused)
        resumed = two.send(signal.SIGCONT)
        await two.until(lambda: "beat" in two.words(resumed))
        words = two.words(resumed)
        assert not {"look", "saw"} & set(words[: words.index("beat")])
        await two.until(lambda: two.said[-1][0] > resumed + 5)
        assert "act" not in two.words(resumed)
        settled = resumed + 5
        for process in (two, three):
            await process.until(lambda process=process: process.said[-1][0] > settled + 3)
        ours, theirs = two.looked(settled, settled + 3), three.looked(settled, settled + 3)
        assert not ours & theirs
        assert len(ours | theirs) == SERVICES


async def test_the_board_on_redis_keeps_what_is_new_and_forgets_by_itself():
    async with a_valkey() as server, connected(server) as redis:
        board = RedisBoard(redis)
        [first] = await board.post("acme", "a", b"\xff\x00{", "", 4)
        assert (first.by, first.text) == ("a", b"\xff\x00{")
        for n in range(6):
            await board.post("acme", "b", b"%d" % n, first.id, 4)
        found = await board.post("acme", "a", b"last", "", 4)
        assert [one.text for one in found] == [b"3", b"4", b"5", b"last"]
        assert [one.text for one in await board.post("acme", "a", b"more", found[-1].id, 4)] == [b"more"]
        assert 0 < await redis("PTTL", "bot:{acme}:crew") <= KEPT_MS
        assert await redis("EXISTS", "bot:{other}:crew") == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_who_has_the_rights_of_the_app_may_post(kind):
    async with a_server(kind) as server:
        crew = Crew(RedisBoard(server.as_("app")), "acme", "a")
        for _ in range(2):
            await crew.beat(Said())
        assert (crew.members, crew.holds()) == (("a",), True)


async def test_two_crews_on_redis_find_each_other_and_one_that_leaves_is_gone_at_once():
    async with a_valkey() as server, connected(server) as redis:
        one, two = (Crew(RedisBoard(redis), "acme", name) for name in ("a", "b"))
        await one.beat(Said())
        assert one.alone
        await two.beat(Said())
        await one.beat(Said())
        assert one.members == two.members == ("a", "b")
        await one.leave()
        assert not one.holds()
        assert not one.owns("checkout")
        await two.beat(Said())
        assert two.members == ("b",)
        assert two.owns("checkout")
