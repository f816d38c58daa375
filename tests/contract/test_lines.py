"""How many lines a change has: asked of GitHub by whoever may, kept for every process, shown on the card."""

from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from bot.commits import Shelf
from bot.sandbox.deploys import Committed, Deploys
from handlers.adapters.commits import MOST_BYTES, HttpCommits
from handlers.changes import Change
from handlers.charter import parse
from handlers.lines import REST_MS, SUSPECT_MS, Lines
from handlers.ports import PortError
from ledger.store import StoreDown
from ledger.view import epoch_ms
from tests.contract.test_commits import TOLD
from tests.rooms import tenant
from tests.valkey import a_valkey, connected

pytestmark = pytest.mark.xdist_group("commits")
SHA, OTHER = "a1b2c3d".ljust(40, "0"), "b2".ljust(40, "0")
FIX = Committed("Fix checkout query isolation level\n\nLong story", "john", 12, 3, ("db/pool.py", "app.py"))


@pytest.fixture
async def redis():
    async with a_valkey() as server, connected(server) as commands:
        yield commands


@pytest.fixture
async def acme():
    return await tenant(parse(TOLD))


@asynccontextmanager
async def github():
    server = Deploys("ghp_ours", "")
    server.commits[SHA] = FIX
    await server.start()
    try:
        yield server
    finally:
        await server.close()


def change(acme, sha=SHA, ago_ms=0, **rest):
    return Change("acme/checkout", sha, epoch_ms(acme.clock.now()) - ago_ms, **rest)


def lines_of(acme, shelf, server, token="ghp_ours"):  # noqa: S107  a sandbox's
    commits = HttpCommits(server.github_url, token)
    return Lines("acme", acme.room.rulebook, shelf, commits, acme.clock)


async def due(lines, acme):
    return lines.due(acme.room.ledger.view, epoch_ms(acme.clock.now()))


async def test_the_lines_of_a_push_are_learned_once_and_every_process_knows_them(acme, redis):
    here, there = Shelf(redis), Shelf(redis)
    await here.put("acme", "1", [change(acme, title="Fix it", author="rudo", files=1, kinds=("database",))])
    await there.refresh("acme")
    async with github() as server:
        lines = lines_of(acme, here, server)
        (work,) = await due(lines, acme)
        await lines.do(work)
        assert await due(lines, acme) == []
    await there.refresh("acme")
    (known,) = there.of("acme").known
    assert known.text == "Fix it · rudo · 1 file: database · +12 −3"


async def test_a_deploy_that_no_push_told_of_gets_its_words_from_github(acme, redis):
    shelf = Shelf(redis)
    await shelf.put("acme", "1", [change(acme, live=True)])
    async with github() as server:
        lines = lines_of(acme, shelf, server)
        await lines.do((await due(lines, acme))[0])
    (known,) = shelf.of("acme").known
    assert known.text == "Fix checkout query isolation level · john · 2 files: code, database · +12 −3"
    assert known.live


async def test_what_was_told_last_stays_last_however_late_its_lines_come(acme, redis):
    shelf = Shelf(redis)
    await shelf.put("acme", "1", [change(acme, live=True, ago_ms=60_000)])
    await shelf.put("acme", "2", [change(acme, OTHER, live=True)])
    async with github() as server:
        server.commits[OTHER] = FIX
        lines = lines_of(acme, shelf, server)
        for work in reversed(await due(lines, acme)):
            await lines.do(work)
    assert [one.sha for one in shelf.of("acme").known] == [OTHER, SHA]
    assert shelf.of("acme").live("acme/checkout") == OTHER


async def test_a_commit_that_github_does_not_know_is_asked_for_once(acme, redis):
    shelf = Shelf(redis)
    await shelf.put("acme", "1", [change(acme, OTHER)])
    async with github() as server:
        lines = lines_of(acme, shelf, server)
        with pytest.raises(PortError, match="GitHub answered 422"):
            await lines.do((await due(lines, acme))[0])
    assert await due(lines, acme) == []


@pytest.mark.parametrize("status", [401, 403, 429])
async def test_a_refused_token_or_a_limit_rests_a_quarter_of_an_hour(acme, redis, status):
    shelf = Shelf(redis)
    await shelf.put("acme", "1", [change(acme)])
    async with github() as server:
        server.down = status
        lines = lines_of(acme, shelf, server)
        with pytest.raises(PortError, match=str(status)):
            await lines.do((await due(lines, acme))[0])
    (work,) = await due(lines, acme)
    assert work.at_ms == epoch_ms(acme.clock.now()) + REST_MS


async def test_an_outage_of_github_is_tried_again(acme, redis):
    shelf = Shelf(redis)
    await shelf.put("acme", "1", [change(acme)])
    async with github() as server:
        server.down = 502
        lines = lines_of(acme, shelf, server)
        with pytest.raises(PortError):
            await lines.do((await due(lines, acme))[0])
        server.down = 0
        await lines.do((await due(lines, acme))[0])
    assert shelf.of("acme").known[0].added == 12


async def test_when_what_was_learned_cannot_be_kept_it_is_due_again(acme, redis):
    class Away(Shelf):
        async def put(self, tenant, delivery, changes):
            raise StoreDown("Redis is away.")

    await Shelf(redis).put("acme", "1", [change(acme)])
    shelf = Away(redis)
    await shelf.refresh("acme")
    async with github() as server:
        lines = lines_of(acme, shelf, server)
        with pytest.raises(PortError, match="Redis is away"):
            await lines.do((await due(lines, acme))[0])
    assert len(await due(lines, acme)) == 1


async def test_only_what_may_be_suspect_and_is_the_charters_is_asked_for(acme, redis):
    shelf = Shelf(redis)
    old = change(acme, ago_ms=SUSPECT_MS)
    foreign = Change("other/thing", OTHER, epoch_ms(acme.clock.now()))
    await shelf.put("acme", "1", [foreign, old])
    lines = Lines("acme", acme.room.rulebook, shelf, HttpCommits("http://127.0.0.1:9", "t"), acme.clock)
    assert await due(lines, acme) == []


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{}", "no commit"),
        (b'{"commit": {}, "stats": {"additions": -1, "deletions": 0}}', "no commit"),
        (b"<html>", "no commit"),
        (b" " * (MOST_BYTES + 1), "too long"),
    ],
)
async def test_an_answer_that_is_no_commit_is_refused_for_good(acme, body, why):
    async def answer(request):
        return web.Response(body=body)

    runner = web.AppRunner(web.Application())
    runner.app.router.add_get("/repos/{owner}/{name}/commits/{sha}", answer)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        commits = HttpCommits(f"http://127.0.0.1:{runner.addresses[0][1]}", "t")
        with pytest.raises(PortError, match=why) as refused:
            await commits.told(change(acme))
        assert refused.value.permanent
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("name", ["../..", "a/..", "./b", "a/b/c", "a b/c", ""])
async def test_a_repository_that_would_lead_elsewhere_is_never_asked_for(acme, name):
    with pytest.raises(PortError, match="no name of a repository"):
        await HttpCommits("http://127.0.0.1:9", "t").told(Change(name, SHA, 0))
