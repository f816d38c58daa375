"""`python -m ledger prove` and `replay` on a running server, and what others make of what they write."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ledger import proof
from ledger.__main__ import main
from ledger.chain import Entry, receipt
from ledger.clock import ManualClock
from ledger.events import Actor, Watched
from ledger.export import export
from ledger.ledger import Ledger
from ledger.note import origin_of, public_key, vkey
from ledger.redis_store import RedisStore
from ledger.state import dump
from ledger.view import fold
from tests.chains import tell_story
from tests.servers import Peopled, a_server

SEED = b"s" * 32


@pytest.fixture
async def server():
    async with a_server("valkey") as server:
        yield server


@pytest.fixture
async def store(server: Peopled) -> RedisStore:
    return server.store()


@pytest.fixture
async def told(store: RedisStore) -> list[Entry]:
    return await tell_story(store, signer=SEED)


@pytest.fixture
def run(capsys):
    async def ran(*arguments: object) -> tuple[int, str]:
        code = await asyncio.to_thread(main, [str(argument) for argument in arguments])
        return code, capsys.readouterr().out

    return ran


def at(server: Peopled, user: str = "app") -> tuple[str, ...]:
    return "--redis", server.urls[user], "--tenant", "acme"


async def test_a_proof_is_made_by_an_auditor_and_checked_by_anybody(server, told, run, tmp_path):
    file, key = tmp_path / "entry-6.tlog-proof", vkey(origin_of("acme", told[0].hash), public_key(SEED))
    code, said = await run("prove", 6, *at(server, "auditor"), "--to", file)
    assert (code, said.splitlines()[-1]) == (0, f"python3 -I -S proof.py {file} --key {key}")
    good = ("--key", key, "--receipt", f"6:{receipt(told[5])}")
    code, said = await run("prove", "--check", file, *good)
    assert (code, said.splitlines()[:2]) == (
        0,
        ["INTACT. Entry 6 of acme is one of 9.", told[5].line.decode()],
    )
    alone = [sys.executable, "-I", "-S", str(Path(proof.__file__)), str(file), *good]
    assert await asyncio.to_thread(subprocess.call, alone, stdout=subprocess.DEVNULL) == 0
    file.write_text(file.read_text().replace("index 5", "index 4"))
    assert (await run("prove", "--check", file, *good))[0] == 3
    file.write_text("nothing")
    assert (await run("prove", "--check", file, *good))[0] == 3
    assert (await run("prove", "--check", tmp_path / "nowhere", *good))[0] == 3


async def test_without_a_file_it_is_written_out(server, told, run):
    code, said = await run("prove", 1, *at(server))
    assert (code, said.splitlines()[0]) == (0, proof.HEAD)
    assert (await run("prove", 10, *at(server)))[0] == 1
    assert (await run("prove", *at(server)))[0] == 3
    assert (await run("prove", 1))[0] == 3


async def test_a_proof_of_a_log_that_was_changed_names_the_entry(server, store, told, run):
    other = told[2].hash.encode() + b" " + told[2].line
    await server.as_("owner")("LSET", "led:{acme}:log:00000", 4, other)
    code, said = await run("prove", 3, *at(server))
    assert (code, said.startswith("TAMPERED.")) == (1, True)


async def test_an_export_is_replayed_and_compared_with_the_live_ledger(server, store, told, run, tmp_path):
    await export(store, "acme", tmp_path / "acme")
    key = ("--key", vkey(origin_of("acme", told[0].hash), public_key(SEED)))
    code, said = await run("replay", tmp_path / "acme", *at(server), *key, "--to", tmp_path / "state")
    assert (code, "The same, byte for byte, as the live ledger" in said) == (0, True), said
    assert (tmp_path / "state").read_bytes() == b"".join(dump(fold("acme", told)))
    ledger = Ledger("acme", store, ManualClock(told[-1].at), random.Random(1), signer=SEED)
    assert isinstance(await ledger.record(Actor.orchestrator("b"), lambda view, now: Watched()), Entry)
    assert (await run("replay", tmp_path / "acme", *at(server), *key))[0] == 0


async def test_a_live_ledger_that_tells_another_story_is_not_the_same(server, run, tmp_path):
    first = server.store()
    await tell_story(first)
    lines = tmp_path / "acme.jsonl"
    entries = await first.read("acme", 0, 7)
    lines.write_bytes(b"".join(entry.line + b"\n" for entry in entries))
    await server.as_("owner")("DEL", "led:{acme}:log:00000")
    await tell_story(first, signer=SEED)
    code, said = await run("replay", lines, *at(server))
    assert (code, "NOT THE SAME. Line 1 of the state" in said) == (1, True)


async def test_what_nobody_signed_is_replayed_and_said_to_be_unsigned(server, run, tmp_path):
    entries = await tell_story(server.store())
    (tmp_path / "acme.jsonl").write_bytes(b"".join(entry.line + b"\n" for entry in entries))
    code, said = await run("replay", tmp_path / "acme.jsonl")
    assert (code, said.splitlines()[0].partition(":")[0]) == (2, "1 incidents from 8 entries")
    assert "INCOMPLETE." in said
