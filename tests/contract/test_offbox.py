"""The copy off the box: a real sender, a real keeper, and everything that comes between them."""

import contextlib
import json
import tempfile
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web

from bot.offbox import OffBox
from bot.sandbox.loopback import serve
from handlers.adapters.sink import HttpSink, Told
from handlers.ports import PortError
from handlers.reconciler import Loop, Work
from ledger import events as ev
from ledger.chain import GENESIS, Entry, Frontier
from ledger.clock import ManualClock
from ledger.commands.keep import Keeper, application
from ledger.keep import Copy, Damaged, NotNext
from ledger.note import Checkpoint, Signer, Verifier, signed
from ledger.offbox import BadBatch, Batch, read_batch
from ledger.rotation import rotate
from tests.chains import NOON, chain
from tests.rooms import BOT, Tenant, tenant

SECRET, SEED = b"the secret of the copy", b"s" * 32
COPY = Work("copy", 0)


def note_of(entries: list[Entry], seed: bytes = SEED, owner: str = "acme") -> str:
    origin = f"countersign/{owner}/{entries[0].hash[:16]}"
    tree = reduce(Frontier.append, (bytes.fromhex(entry.hash) for entry in entries), Frontier())
    return signed(Checkpoint(origin, tree.size, tree.root()), Signer(origin, seed))


def vkey_of(entries: list[Entry], seed: bytes = SEED) -> str:
    return Signer(f"countersign/acme/{entries[0].hash[:16]}", seed).vkey


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cs-") as made:
        yield Path(made)


class MemoryCursor:
    """A cursor that can fail after the answer came: the sender was killed in between."""

    size, dies = 0, False

    async def load(self, tenant: str) -> int:
        return self.size

    async def save(self, tenant: str, size: int) -> None:
        if self.dies:
            raise KeyboardInterrupt
        self.size = size


@dataclass
class Other:
    """Another machine. It can be away, and it can say anything."""

    keeper: Keeper
    posts: list[str] = field(default_factory=list)
    answer: tuple[int, str] | None = None

    async def take(self, request: web.Request) -> web.Response:
        self.posts.append(request.headers["countersign-first"])
        if self.answer:
            return web.Response(status=self.answer[0], text=self.answer[1])
        return await self.keeper.take(request)


@contextlib.asynccontextmanager
async def machine(folder: Path, keys: list[str] = ()):
    other = Other(Keeper(folder, SECRET, ManualClock(NOON), [Verifier.parse(key) for key in keys]))
    await other.keeper.open_all()
    app = web.Application(client_max_size=2**23)
    app.router.add_post("/", other.take)
    served = await serve(app)
    try:
        yield other, f"{served.url}/"
    finally:
        await served.close()


async def says(acme: Tenant, count: int) -> None:
    for _ in range(count):
        await acme.record(BOT, lambda view, now: ev.Watched())


def lines(folder: Path, owner: str = "acme") -> list[dict]:
    return [json.loads(line) for line in (folder / f"{owner}.jsonl").read_bytes().splitlines()]


async def test_what_the_ledger_has_is_on_the_other_machine_line_by_line(folder):
    acme = await tenant()
    await says(acme, 600)
    async with machine(folder) as (other, url):
        sink = OffBox(acme.room, HttpSink(url, SECRET), MemoryCursor())
        assert [work.key for work in sink.due(acme.room.ledger.view, 0)] == ["copy"]
        await sink.do(COPY)
        assert sink.due(acme.room.ledger.view, 0) == []
    kept = (folder / "acme.jsonl").read_bytes().splitlines()
    assert kept == [entry.line for entry in await acme.room.store.read("acme", 0, 1000)]
    assert other.posts == ["1", "257", "513"]
    assert sink.lag().sentence == "Off the box: every entry is copied."


async def test_the_note_travels_with_the_batch_that_reaches_it_and_is_checked(folder):
    acme = await tenant()
    await says(acme, 3)
    entries = await acme.room.store.read("acme", 0, 9)

    async def note(name: str) -> str:
        return note_of(entries[:3])

    acme.room.store.note = note
    async with machine(folder, [vkey_of(entries)]) as (other, url):
        await OffBox(acme.room, HttpSink(url, SECRET), MemoryCursor()).do(COPY)
    assert other.posts == ["1", "4"]
    assert (folder / "acme.note").read_text() == note_of(entries[:3])
    assert len(lines(folder)) == 4


async def test_a_day_without_the_other_machine_is_caught_up_in_order(folder):
    acme = await tenant()
    async with machine(folder) as (other, url):
        sink = OffBox(acme.room, HttpSink(url, SECRET), MemoryCursor())
        loop = Loop(acme.room.ledger, [sink], acme.clock)
        other.answer = (503, "away\n")
        for _ in range(24):
            await says(acme, 20)
            loop.step()
            await loop.settle()
            acme.clock.advance(3600)
        lag = sink.lag()
        assert (lag.entries, lag.seconds) == (481, 86_400)
        assert "behind for 86400 s. It answered 503" in lag.sentence
        other.answer = None
        other.keeper._clock.advance(86_400)
        loop.step()
        await loop.settle()
    assert [line["seq"] for line in lines(folder)] == list(range(1, 482))
    assert sink.lag().entries == 0


async def test_a_sender_killed_before_it_wrote_down_the_answer_sends_the_same_again(folder):
    acme = await tenant()
    await says(acme, 5)
    cursor = MemoryCursor()
    async with machine(folder) as (other, url):
        cursor.dies = True
        with pytest.raises(KeyboardInterrupt):
            await OffBox(acme.room, HttpSink(url, SECRET), cursor).do(COPY)
        cursor.dies = False
        await says(acme, 5)
        await OffBox(acme.room, HttpSink(url, SECRET), cursor).do(COPY)
    assert other.posts == ["1", "1"]
    assert [line["seq"] for line in lines(folder)] == list(range(1, 12))


async def test_a_machine_that_has_fewer_or_more_is_followed(folder):
    acme = await tenant()
    await says(acme, 9)
    for had, cursor in ((0, 7), (8, 2)):
        (folder / "acme.jsonl").unlink(missing_ok=True)
        known = MemoryCursor()
        known.size = cursor
        if had:
            entries = await acme.room.store.read("acme", 0, had)
            Copy(folder, "acme").take(Batch("acme", entries))
        async with machine(folder) as (_, url):
            await OffBox(acme.room, HttpSink(url, SECRET), known).do(COPY)
        assert [line["seq"] for line in lines(folder)] == list(range(1, 11))
        assert known.size == 10


async def test_a_copy_of_another_past_is_never_written_over(folder):
    acme = await tenant()
    await says(acme, 3)
    Copy(folder, "acme").take(Batch("acme", chain(2)))
    before = (folder / "acme.jsonl").read_bytes()
    async with machine(folder) as (_, url):
        with pytest.raises(PortError, match="takes no more"):
            await OffBox(acme.room, HttpSink(url, SECRET), MemoryCursor()).do(COPY)
    assert (folder / "acme.jsonl").read_bytes() == before


async def test_a_copy_that_has_more_than_the_ledger_tells_of_a_ledger_that_lost_entries(folder):
    acme = await tenant()
    await says(acme, 4)
    Copy(folder, "acme").take(Batch("acme", await acme.room.store.read("acme", 0, 9)))
    rolled_back = await tenant()
    cursor = MemoryCursor()
    async with machine(folder) as (_, url):
        sink = OffBox(rolled_back.room, HttpSink(url, SECRET), cursor)
        rolled_back.clock.advance(60)
        await says(rolled_back, 1)
        assert rolled_back.room.ledger.view.head.seq == 2
        with pytest.raises(PortError, match="this ledger has lost some"):
            await sink.do(COPY)


async def test_a_receiver_that_talks_nonsense_never_moves_the_cursor():
    acme = await tenant()
    await says(acme, 3)

    @dataclass
    class Says:
        told: Told

        async def send(self, *given):
            return self.told

    for told in (Told(99, "more"), Told(0, "no"), Told(2, "again and again")):
        cursor = MemoryCursor()
        with pytest.raises(PortError):
            await OffBox(acme.room, Says(told), cursor).do(COPY)
        assert cursor.size in {0, 2}


@pytest.mark.parametrize(
    ("status", "text"), [(500, "oh"), (409, "nonsense"), (409, "-1"), (409, "007"), (302, ""), (401, "no")]
)
async def test_any_other_answer_is_a_failure_that_is_tried_again(folder, status, text):
    acme = await tenant()
    async with machine(folder) as (other, url):
        other.answer = (status, text)
        with pytest.raises(PortError, match=str(status)):
            await OffBox(acme.room, HttpSink(url, SECRET), MemoryCursor()).do(COPY)
    assert not (folder / "acme.jsonl").exists()


@pytest.mark.parametrize("url", ["http://93.184.216.34/", "https://10.1.2.3/", "ftp://127.0.0.1/"])
async def test_nothing_is_posted_in_the_clear_or_into_a_private_network(url):
    with pytest.raises(PortError) as refused:
        await HttpSink(url, SECRET).send(Batch("acme", chain(1)), 0)
    assert refused.value.permanent


async def test_a_batch_under_another_secret_or_an_old_one_is_refused(folder):
    async with machine(folder) as (_, url):
        for secret, at_s in ((b"another", NOON.timestamp()), (SECRET, NOON.timestamp() - 301)):
            with pytest.raises(PortError, match="401"):
                await HttpSink(url, secret).send(Batch("acme", chain(1)), int(at_s))
    assert list(folder.iterdir()) == []


async def test_rotations_travel_and_are_followed_across_restarts_by_who_knows_the_first_key(folder):
    seeds = [bytes([n]) * 32 for n in (1, 2, 3)]
    acme = await tenant(signer=seeds[0])
    first = vkey_of(await acme.room.store.read("acme", 0, 1), seeds[0])
    for old, new in pairwise(seeds):
        await says(acme, 3)
        await rotate(acme.room.store, acme.clock, "acme", old, new)
        acme = await tenant(store=acme.room.store, signer=new, adopted=False)
        await says(acme, 300)
    cursor = MemoryCursor()
    async with machine(folder, [first]) as (other, url):
        await OffBox(acme.room, HttpSink(url, SECRET), cursor).do(COPY)
        assert other.posts == ["1", "6", "262", "310", "566"]
    notes = [file.read_text() for file in sorted((folder / "acme.rotations").iterdir())]
    assert notes == await acme.room.store.kept_notes("acme")
    await says(acme, 1)
    async with machine(folder, [first]) as (_, url):
        await OffBox(acme.room, HttpSink(url, SECRET), cursor).do(COPY)
    assert (folder / "acme.note").read_text() == await acme.room.store.note("acme")


async def test_after_a_rotation_the_old_key_counts_no_more(folder):
    old, new = b"o" * 32, b"n" * 32
    acme = await tenant(signer=old)
    await rotate(acme.room.store, acme.clock, "acme", old, new)
    entries = await acme.room.store.read("acme", 0, 9)
    known = Verifier.parse(vkey_of(entries, old))
    copy = Copy(folder, "acme", [known])
    copy.take(Batch("acme", entries, await acme.room.store.note("acme")))
    acme = await tenant(store=acme.room.store, signer=new, adopted=False)
    await says(acme, 1)
    longer = await acme.room.store.read("acme", 0, 9)
    for opened in (copy, Copy(folder, "acme", [known])):
        with pytest.raises(BadBatch, match="None of the keys that count here"):
            opened.take(Batch("acme", longer, note_of(longer, old)))
    assert copy.take(Batch("acme", longer, note_of(longer, new))) == 3


@pytest.mark.parametrize("which", ["alone", "forged"])
def test_a_key_that_nobody_handed_over_to_is_not_followed(folder, which):
    seeds = {"alone": (SEED,), "forged": (b"x" * 32,)}[which]
    first = chain(1)[0]
    said = {"old": vkey_of([first]), "new": vkey_of([first], b"x" * 32), "key_id": ""}
    entries = [first, *chain(1, first.head, event="KeyRotated", data=said)]
    copy = Copy(folder, "acme", [Verifier.parse(vkey_of(entries))])
    with contextlib.suppress(BadBatch):
        copy.take(Batch("acme", entries, note_of(entries, *seeds)))
    entries += chain(1, entries[-1].head)
    with pytest.raises(BadBatch, match="None of the keys that count here"):
        copy.take(Batch("acme", entries, note_of(entries, b"x" * 32)))


def test_a_rotation_that_the_known_key_did_not_sign_is_not_learned_from_the_folder_either(folder):
    first, stranger = chain(1)[0], b"x" * 32
    said = {"old": vkey_of([first]), "new": vkey_of([first], stranger), "key_id": ""}
    entries = [first, *chain(1, first.head, event="KeyRotated", data=said)]
    Copy(folder, "acme").take(Batch("acme", entries))
    (folder / "acme.rotations").mkdir()
    (folder / "acme.rotations" / f"{2:016}.note").write_text(note_of(entries, stranger))
    opened = Copy(folder, "acme", [Verifier.parse(vkey_of([first]))])
    entries += chain(1, entries[-1].head)
    with pytest.raises(BadBatch, match="None of the keys that count here"):
        opened.take(Batch("acme", entries, note_of(entries, stranger)))


# --- what the keeper takes --------------------------------------------------------------------------------


def test_an_entry_of_one_tenant_is_not_taken_for_another(folder):
    entries = chain(2)
    with pytest.raises(BadBatch, match="belongs to tenant acme, not to globex"):
        read_batch(Batch("globex", entries).headers(), Batch("globex", entries).body())
    with pytest.raises(BadBatch, match="not of globex"):
        Copy(folder, "globex").take(Batch("acme", entries))


@pytest.mark.parametrize(
    "body",
    [b"", b"\n", b"{}\n", chain(1)[0].line, chain(3)[0].line + b"\n" + chain(3)[2].line + b"\n", b"\xff\n"],
)
def test_what_is_no_batch_is_refused(body):
    with pytest.raises(BadBatch):
        read_batch(Batch("acme", chain(1)).headers(), body)


@pytest.mark.parametrize("name", ["", "../acme", "a/b", ".hidden", "x" * 65])
def test_a_name_that_could_leave_the_folder_is_refused(name):
    with pytest.raises(BadBatch):
        read_batch(Batch(name, chain(1)).headers(), Batch(name, chain(1)).body())


def test_a_gap_an_older_batch_and_a_fork(folder):
    entries, copy = chain(9), Copy(folder, "acme")
    assert copy.take(Batch("acme", entries[:4])) == 4
    with pytest.raises(NotNext) as gap:
        copy.take(Batch("acme", entries[5:]))
    assert gap.value.size == 4
    assert copy.take(Batch("acme", entries[:2])) == 4
    assert copy.take(Batch("acme", entries[2:6])) == 6
    fork = chain(3, entries[3].head, reason="another")
    with pytest.raises(NotNext, match="Entry 5 is not the one"):
        copy.take(Batch("acme", fork))
    assert (folder / "acme.jsonl").read_bytes() == b"".join(e.line + b"\n" for e in entries[:6])


@pytest.mark.parametrize("which", ["root", "origin", "tenant", "key", "size", "text"])
def test_a_note_that_does_not_belong_is_refused_and_nothing_is_kept(folder, which):
    entries, other = chain(3), chain(3, reason="another")
    wrong = {
        "root": note_of(entries[:1] + other[1:]),
        "origin": note_of(other),
        "tenant": note_of(entries, owner="globex"),
        "key": note_of(entries, b"x" * 32),
        "size": note_of(entries[:2]),
        "text": "no note",
    }[which]
    copy = Copy(folder, "acme", [Verifier.parse(vkey_of(entries))])
    with pytest.raises(BadBatch):
        copy.take(Batch("acme", entries, wrong))
    assert (copy.size, copy.note) == (0, "")
    assert copy.take(Batch("acme", entries, note_of(entries))) == 3


def test_a_line_that_a_crash_cut_off_goes_and_comes_again(folder):
    entries = chain(4)
    Copy(folder, "acme").take(Batch("acme", entries))
    whole = (folder / "acme.jsonl").read_bytes()
    for cut in (1, 40, len(entries[3].line)):
        (folder / "acme.jsonl").write_bytes(whole[:-cut])
        again = Copy(folder, "acme")
        assert again.size == 3
        assert again.take(Batch("acme", entries)) == 4
        assert (folder / "acme.jsonl").read_bytes() == whole


def test_a_file_that_somebody_changed_is_named_and_not_continued(folder):
    Copy(folder, "acme").take(Batch("acme", chain(3)))
    file = folder / "acme.jsonl"
    file.write_bytes(file.read_bytes().replace(b"rudo", b"anna", 1))
    with pytest.raises(Damaged, match="line 2"):
        Copy(folder, "acme")


async def test_the_keeper_says_what_it_keeps(folder):
    entries = chain(3)
    copy = Copy(folder, "acme")
    copy.take(Batch("acme", entries[:2], note_of(entries[:2])))
    copy.take(Batch("acme", entries[2:]))
    keeper = Keeper(folder, SECRET, ManualClock(NOON))
    await keeper.open_all()
    assert json.loads((await keeper.told(None)).text) == {"acme": {"size": 3, "signed": 2}}
    assert application(keeper) is not None
    assert copy.head != GENESIS
