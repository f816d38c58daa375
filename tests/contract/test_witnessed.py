"""The bot asks a real witness over HTTP: what is cosigned, what is not, and what people are told then."""

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from bot.sandbox.loopback import serve
from bot.witnessed import EVERY_MS, Witnessed
from handlers.adapters.witness import HttpWitness
from handlers.ports import PortError
from handlers.reconciler import Loop, Work
from ledger import events as ev
from ledger.note import Signer, Verifier, Witness, origin_of, read_note
from ledger.redis_store import refused
from ledger.store import MemoryStore
from ledger.witness import Watchman
from tests.chains import NOON
from tests.rooms import BOT, Tenant, tenant
from tests.servers import KINDS, a_server

SEED, SECRET = b"s" * 32, b"t" * 32
WITNESS = Witness("witness.example/w1", b"w" * 32)
KEY = Verifier.parse(WITNESS.vkey)
COSIGN = Work("cosign", 0)


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cs-") as made:
        yield Path(made)


@dataclass
class Away:
    """A witness on another machine. It can be away, and it can say anything."""

    watchman: Watchman
    asked: list[str] = field(default_factory=list)
    answer: tuple[int, str] | None = None

    async def take(self, request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        self.asked.append(body.partition("\n")[0])
        if self.answer:
            return web.Response(status=self.answer[0], text=self.answer[1])
        reply = self.watchman.answer(body, int(NOON.timestamp()))
        return web.Response(status=reply.status, text=reply.text, content_type=reply.kind)


@contextlib.asynccontextmanager
async def a_witness(folder: Path, acme: Tenant):
    entries = await acme.room.store.read("acme", 0, 1)
    log = Signer(origin_of("acme", entries[0].hash), SEED)
    away = Away(Watchman(folder, WITNESS, [Verifier.parse(log.vkey)]))
    app = web.Application()
    app.router.add_post("/add-checkpoint", away.take)
    served = await serve(app)
    try:
        yield away, HttpWitness(served.url, SECRET)
    finally:
        await served.close()


async def says(acme: Tenant, count: int) -> None:
    for _ in range(count):
        await acme.record(BOT, lambda view, now: ev.Watched())


async def test_each_checkpoint_is_cosigned_with_the_proof_since_the_last(folder):
    acme = await tenant(signer=SEED)
    async with a_witness(folder, acme) as (away, witness):
        asking = Witnessed(acme.room, witness, KEY)
        for more, told in ((0, "old 0"), (3, "old 1"), (300, "old 4")):
            await says(acme, more)
            await asking.do(COSIGN)
            note = await acme.room.store.cosigned("acme")
            assert KEY.verify(note)
            assert read_note(note)[0].size == acme.room.ledger.view.head.seq
            assert away.asked[-1] == told
    assert asking.seen().sentence == "Witness witness.example/w1: cosigned up to entry 304."


async def test_it_is_asked_once_a_minute_and_what_came_meanwhile_is_in_the_next(folder):
    acme = await tenant(signer=SEED)
    async with a_witness(folder, acme) as (away, witness):
        asking = Witnessed(acme.room, witness, KEY)
        loop = Loop(acme.room.ledger, [asking], acme.clock)
        for _ in range(6):
            await says(acme, 5)
            loop.step()
            await loop.settle()
            acme.clock.advance(EVERY_MS // 1000 // 2)
    assert away.asked == ["old 0", "old 6", "old 16"]
    assert asking.due(acme.room.ledger.view, 0)[0].at_ms > 0


async def test_nothing_is_asked_where_nothing_is_new_or_signed(folder):
    acme, unsigned = await tenant(signer=SEED), await tenant()
    async with a_witness(folder, acme) as (_, witness):
        asking = Witnessed(acme.room, witness, KEY)
        await asking.do(COSIGN)
        assert asking.due(acme.room.ledger.view, 10**15) == []
        assert Witnessed(unsigned.room, witness, KEY).due(unsigned.room.ledger.view, 10**15) == []


async def test_an_outage_is_told_and_nothing_is_lost(folder):
    acme = await tenant(signer=SEED)
    async with a_witness(folder, acme) as (away, witness):
        asking = Witnessed(acme.room, witness, KEY)
        loop = Loop(acme.room.ledger, [asking], acme.clock)
        away.answer = (503, "away\nfor a walk")
        for _ in range(9):
            await says(acme, 2)
            loop.step()
            await loop.settle()
            acme.clock.advance(60)
        told = asking.seen().sentence
        assert told.startswith("⚠️ Witness witness.example/w1: nothing cosigned yet, of 19. It answered 503")
        assert acme.room.ledger.may_act() or not acme.room.ledger.sealed
        away.answer = None
        loop.step()
        await loop.settle()
    assert asking.seen().size == 19
    assert "⚠️" not in asking.seen().sentence


async def test_another_process_goes_on_from_what_was_kept(folder):
    acme = await tenant(signer=SEED)
    async with a_witness(folder, acme) as (away, witness):
        await Witnessed(acme.room, witness, KEY).do(COSIGN)
        await says(acme, 7)
        again = Witnessed(acme.room, witness, KEY)
        await again.refresh()
        assert again.seen().size == 1
        await again.do(COSIGN)
    assert away.asked == ["old 0", "old 1"]


async def test_a_witness_that_remembers_more_or_less_is_followed(folder):
    acme = await tenant(signer=SEED)
    async with a_witness(folder, acme) as (away, witness):
        await Witnessed(acme.room, witness, KEY).do(COSIGN)
        await says(acme, 7)
        await acme.room.store.keep_cosigned("acme", "")
        await Witnessed(acme.room, witness, KEY).do(COSIGN)
    assert away.asked == ["old 0", "old 0", "old 1"]
    assert KEY.verify(await acme.room.store.cosigned("acme"))


async def test_a_witness_that_knows_more_than_there_is_tells_of_a_rollback(folder):
    acme, store = await tenant(signer=SEED), MemoryStore()
    first = await acme.room.store.read("acme", 0, 1)
    await store.append("acme", first, type(first[0].head)(0, "0" * 64), await acme.room.store.note("acme"))
    async with a_witness(folder, acme) as (_, witness):
        await says(acme, 9)
        await Witnessed(acme.room, witness, KEY).do(COSIGN)
        rolled_back = await tenant(store=store, signer=SEED, adopted=False)
        asking = Witnessed(rolled_back.room, witness, KEY)
        with pytest.raises(PortError, match="this ledger has lost some"):
            await asking.do(COSIGN)
    assert await store.cosigned("acme") == ""
    assert "It has cosigned 10 entries of this log, and here are 1" in asking.seen().sentence


async def test_another_past_is_not_cosigned(folder):
    acme = await tenant(signer=SEED)
    first = await acme.room.store.read("acme", 0, 1)
    store = MemoryStore()
    await store.append("acme", first, type(first[0].head)(0, "0" * 64), await acme.room.store.note("acme"))
    other = await tenant(store=store, signer=SEED, adopted=False)
    other.clock.advance(1)
    async with a_witness(folder, acme) as (_, witness):
        await says(acme, 3)
        await Witnessed(acme.room, witness, KEY).do(COSIGN)
        for count, why in ((3, "takes no proof from there"), (2, "422")):
            await says(other, count)
            with pytest.raises(PortError, match=why):
                await Witnessed(other.room, witness, KEY).do(COSIGN)
    assert await store.cosigned("acme") == ""


@pytest.mark.parametrize(
    ("status", "text", "why"),
    [
        (200, "", "no signature of LEDGER_WITNESS_KEY"),
        (200, "nonsense\n", "a line below the gap"),
        (200, "— witness.example/w1 AAAA\n", "cut off"),
        (200, Witness("witness.example/w1", b"x" * 32).sign("another text", 7), "no signature of LEDGER"),
        (200, WITNESS.sign("another text", 7), "no signature of LEDGER"),
        (409, "nonsense", "It answered 409"),
        (409, "99999", "this ledger has lost some"),
        (409, "1\n", "takes no proof from there"),
        (302, "", "It answered 302"),
        (403, "None of the log's keys is known here", "None of the log's keys"),
    ],
)
async def test_what_is_no_cosignature_is_not_kept(folder, status, text, why):
    acme = await tenant(signer=SEED)
    async with a_witness(folder, acme) as (away, witness):
        away.answer = (status, text)
        with pytest.raises(PortError, match=why):
            await Witnessed(acme.room, witness, KEY).do(COSIGN)
    assert await acme.room.store.cosigned("acme") == ""


async def test_nothing_is_posted_in_the_clear_or_into_a_private_network():
    for url in ("http://93.184.216.34", "https://10.1.2.3"):
        with pytest.raises(PortError) as refused:
            await HttpWitness(url, SECRET).add("old 0\n", 0)
        assert refused.value.permanent


@pytest.mark.parametrize("kind", KINDS)
async def test_the_app_keeps_what_was_cosigned_and_the_auditor_reads_it(kind):
    async with a_server(kind) as server:
        app = server.store()
        assert await app.cosigned("acme") == ""
        for note in ("a note", "the next"):
            await app.keep_cosigned("acme", note)
        assert await server.store("auditor").cosigned("acme") == await app.cosigned("acme") == "the next"
        for user in ("auditor", "archiver", "privacy", "deploy"):
            assert await refused(server.as_(user), "SET", "led:{acme}:cosigned", "another")
        assert await refused(server.as_("app"), "DEL", "led:{acme}:cosigned")
        assert await app.cosigned("acme") == "the next"


async def test_only_what_is_new_is_read_for_the_next_proof(folder):
    acme = await tenant(signer=SEED)
    async with a_witness(folder, acme) as (_, witness):
        asking = Witnessed(acme.room, witness, KEY)
        await asking.do(COSIGN)
        await says(acme, 5)
        read, seen = acme.room.store.read, []

        async def watched(name: str, after: int, limit: int):
            seen.append(after)
            return await read(name, after, limit)

        acme.room.store.read = watched
        await asking.do(COSIGN)
    assert seen == [1]


async def test_while_the_note_of_another_process_has_not_come_nothing_is_asked(folder):
    acme = await tenant(signer=SEED)
    async with a_witness(folder, acme) as (away, witness):
        acme.room.ledger.notary.tree = acme.room.ledger.notary.tree.append(b"x" * 32)
        await Witnessed(acme.room, witness, KEY).do(COSIGN)
    assert away.asked == []


async def test_what_others_signed_under_the_answer_is_not_kept(folder):
    acme = await tenant(signer=SEED)
    text = read_note(await acme.room.store.note("acme"))[0].text()
    stranger = Witness("stranger.example", b"x" * 32)
    async with a_witness(folder, acme) as (away, witness):
        away.answer = (200, stranger.sign(text, 7) + WITNESS.sign(text, 7))
        await Witnessed(acme.room, witness, KEY).do(COSIGN)
    names = [one.name for one in read_note(await acme.room.store.cosigned("acme"))[1]]
    assert names[1:] == [WITNESS.name]
