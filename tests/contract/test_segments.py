"""Whoever may do everything on the server takes parts of a log away: each loss is named, and nobody goes on.

After https://github.com/aws/aws-cli/issues/7054, where two adjacent digests could be missing and nobody was
told: what is lost here is found by the end that the note signs, inside the server and outside.
"""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.__main__ import main
from ledger.chain import Entry, leaf_hash
from ledger.clock import WallClock
from ledger.events import Actor, Started, Stopped
from ledger.ledger import Ledger, Refusal
from ledger.outside import NoteFile
from ledger.redis_store import Commands
from tests.appender import KEY
from tests.servers import KINDS, SMALL, Peopled, a_server, shorten_segments

COUNT = 4 * SMALL + 2
BOT = Actor.orchestrator("bot")


@dataclass
class Place:
    """A server with the logs of two tenants, each of four full segments and two entries, signed."""

    server: Peopled
    state: Path
    key: str = ""
    older: str = ""
    """The first note of acme's log."""

    @property
    def owner(self) -> Commands:
        return self.server.as_("owner")

    def ledger(self, tenant: str = "acme", *, outside: bool = False) -> Ledger:
        store = self.server.store(segment=SMALL)
        note = NoteFile(self.state, tenant) if outside else None
        return Ledger(tenant, store, WallClock(), random.Random(1), signer=KEY, outside=note)

    async def tell(self, tenant: str) -> None:
        ledger = self.ledger(tenant, outside=True)
        for number in range(COUNT):
            event = Stopped() if number else Started(signer=ledger.notary.key)
            assert isinstance(await ledger.record(BOT, lambda view, now, event=event: event), Entry)
            self.older = self.older or ledger.notary.note
            self.key = self.key or ledger.notary.vkey
        await ledger.close()

    async def verify(self, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        place = ("--redis", self.server.urls["app"], "--tenant", "acme", "--key", self.key)
        code = await asyncio.to_thread(main, ["verify", *place])
        return code, capsys.readouterr().out

    async def opens(self, *, outside: bool) -> str:
        """Why a process that begins is sealed; it writes nothing then. Nothing if it goes on."""
        ledger = self.ledger(outside=outside)
        before = await self.owner("KEYS", "led:*")
        await ledger.sweep()
        made = await ledger.record(BOT, lambda view, now: Stopped())
        await ledger.close()
        assert isinstance(made, Refusal) is bool(ledger.sealed)
        assert not ledger.sealed or sorted(await self.owner("KEYS", "led:*")) == sorted(before)
        return ledger.sealed


def log(segment: int, tenant: str = "acme") -> str:
    return f"led:{{{tenant}}}:log:{segment:05}"


@pytest.fixture(params=KINDS)
async def place(request, monkeypatch) -> AsyncIterator[Place]:
    shorten_segments(monkeypatch)
    async with AsyncExitStack() as closing:
        server = await closing.enter_async_context(a_server(request.param))
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="cs-", dir="/tmp"))
        place = Place(server, Path(folder))
        await place.tell("acme")
        await place.tell("globex")
        yield place


SIGNED = f"{COUNT}"
ROLLED_BACK = f"says {COUNT}"
HARMS: dict[str, tuple[Sequence[tuple], int, str, str]] = {
    "two adjacent segments": ([("DEL", log(1), log(2))], 2, SIGNED, ROLLED_BACK),
    "the first segment": ([("DEL", log(0))], 2, SIGNED, ROLLED_BACK),
    "the last segment": ([("DEL", log(4))], 2, SIGNED, ROLLED_BACK),
    "all of them": ([("DEL", *map(log, range(5)))], 2, SIGNED, ROLLED_BACK),
    "one emptied": ([("LTRIM", log(2), 1, 0)], 2, SIGNED, ROLLED_BACK),
    "one with an empty element": ([("LSET", log(2), 0, "")], 1, "Entry 7", "element 7"),
    "one shortened": ([("RPOP", log(2))], 2, "ends at entry 8", "says 14"),
    "two swapped": (
        [("RENAME", log(1), log(9)), ("RENAME", log(2), log(1)), ("RENAME", log(9), log(2))],
        1, "Entry 4", "says that it is number 7",
    ),
    "one twice": ([("COPY", log(1), log(2), "REPLACE")], 1, "Entry 7", "says that it is number 4"),
    "one of another tenant": ([("COPY", log(1, "globex"), log(1), "REPLACE")], 1, "Entry 4", "Entry 4: prev"),
    "all of another tenant": (
        [("COPY", log(n, "globex"), log(n), "REPLACE") for n in range(5)],
        1, "Entry 1: it belongs to another tenant", "Entry 1: it belongs to tenant globex",
    ),
    "the last note": ([("DEL", "led:{acme}:ckpt")], 2, "signed 1 to 14", "are not signed"),
    "one of another kind": ([("DEL", log(3)), ("SET", log(3), "x")], 1, "not of the type", "not of the type"),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
async def test_what_was_taken_or_exchanged_is_named_and_no_writer_goes_on(place, capsys, harm):
    commands, code, said, why = HARMS[harm]
    assert (await place.verify(capsys))[0] == 0
    for command in commands:
        await place.owner(*command)
    found, words = await place.verify(capsys)
    assert (found, said in words) == (code, True), words
    for outside in (False, True):
        assert why in await place.opens(outside=outside)


async def test_a_log_cut_to_an_older_signed_state_is_noticed_by_what_lies_outside_and_by_nothing_else(
    place, capsys
):
    """After CVE-2023-31438, where a sealed log could be cut and continued: what was signed then holds."""
    await place.owner("DEL", *map(log, range(1, 5)))
    await place.owner("LTRIM", log(0), 0, 0)
    await place.owner("SET", "led:{acme}:ckpt", place.older)
    assert "rollback detected" in await place.opens(outside=True)
    assert (await place.verify(capsys))[0] == 0
    assert await place.opens(outside=False) == ""
    assert "rollback detected" in await place.opens(outside=True), "also once it was written on"


async def test_the_last_entry_edited_with_its_own_hash_is_not_what_was_signed(place, capsys):
    """After https://github.com/codenotary/immudb/issues/2063: the value is another, and its tree is not."""
    line = (await place.owner("LINDEX", log(4), -1))[65:].replace(b'"reason":""', b'"reason":"no"')
    await place.owner("LSET", log(4), -1, leaf_hash(line).hex().encode() + b" " + line)
    code, words = await place.verify(capsys)
    assert (code, "signed" in words) == (1, True), words
    assert "not the log of its note" in await place.opens(outside=False)
    assert "not the log of the note in" in await place.opens(outside=True)


async def test_an_unsigned_log_of_another_tenant_is_not_taken_either(place):
    unsigned = Ledger("globex", place.server.store(), WallClock(), random.Random(1))
    await place.owner("FLUSHALL")
    assert isinstance(await unsigned.record(BOT, lambda view, now: Stopped()), Entry)
    await place.owner("RENAME", log(0, "globex"), log(0))
    ledger = Ledger("acme", place.server.store(), WallClock(), random.Random(1))
    await ledger.sweep()
    assert "it belongs to tenant globex" in ledger.sealed
