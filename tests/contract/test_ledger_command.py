"""`python -m ledger` against a running server and against exports."""

import asyncio
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import pytest

from ledger import events as ev
from ledger.__main__ import main
from ledger.chain import Entry, receipt, seal
from ledger.clock import ManualClock
from ledger.embedded import EmbeddedValkey
from ledger.events import Actor
from ledger.ledger import Ledger
from ledger.redis_store import FUNCTION, RedisStore, connect
from tests.chains import POLICY_TEXT, tell_story
from tests.exports import EVE, OLD, note, vkey

Run = Callable[..., Awaitable[tuple[int, str]]]
LOG = "led:{acme}:log:00000"
INTACT = "INTACT. 9 entries of acme fit together, and so do 0 receipts."


@pytest.fixture
async def valkey() -> AsyncIterator[EmbeddedValkey]:
    with tempfile.TemporaryDirectory(prefix="cs-", dir="/tmp") as folder:
        server = EmbeddedValkey(Path(folder))
        await server.start()
        yield server
        await server.stop()


@pytest.fixture
async def store(valkey: EmbeddedValkey) -> AsyncIterator[RedisStore]:
    store = RedisStore(connect(valkey.url_of("owner")))
    yield store
    await store.close()


@pytest.fixture
async def told(store: RedisStore) -> list[Entry]:
    return await tell_story(store, signer=OLD)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    async def ran(*arguments: object) -> tuple[int, str]:
        code = await asyncio.to_thread(main, [str(argument) for argument in arguments])
        return code, capsys.readouterr().out

    return ran


def place(valkey: EmbeddedValkey) -> Path:
    return valkey.socket.parent


async def test_a_running_store_is_intact(valkey, told, run):
    for where in (("--redis", valkey.url), ("--data-dir", place(valkey))):
        code, said = await run("verify", *where, "--tenant", "acme")
        assert (code, said.splitlines()[0]) == (0, INTACT)
    code, _ = await run(
        "verify", "--redis", valkey.url, "--tenant", "acme", "--receipt", f"5:{receipt(told[4])}"
    )
    assert code == 0


async def test_an_export_is_verified_by_us_and_by_itself(valkey, told, run, tmp_path):
    folder = tmp_path / "acme"
    code, said = await run("export", "--redis", valkey.url, "--tenant", "acme", "--to", folder)
    assert (code, said.splitlines()[0]) == (0, f"9 entries of acme are in {folder}.")
    for path, wanted in ((folder, 0), (folder / "entries-00000.jsonl.gz", 2)):
        assert (await run("verify", path))[0] == wanted
        assert (await run("verify", "--file", path))[0] == wanted
    alone = [sys.executable, "-I", "-S", str(folder / "verify.py"), str(folder)]
    assert await asyncio.to_thread(subprocess.call, alone, stdout=subprocess.DEVNULL) == 0
    says = json.loads((folder / "manifest.json").read_text())
    assert (says["size"], says["head"], says["durability"]) == (9, told[-1].hash, "durable")


async def test_it_runs_as_a_module(valkey, told):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ledger", "verify", "--data-dir", str(place(valkey)), "--tenant", "acme",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert (process.returncode, said[:7]) == (0, b"INTACT.")


async def test_a_folder_whose_server_has_ended_is_verified_too(told, valkey, store, tmp_path):
    await store.close()
    await valkey.stop()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ledger", "verify", "--data-dir", str(place(valkey)), "--tenant", "acme",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert (process.returncode, said[:7]) == (0, b"INTACT.")


def element(entry: Entry, line: bytes | None = None) -> bytes:
    return entry.hash.encode() + b" " + (entry.line if line is None else line)


@pytest.mark.parametrize(
    ("tamper", "first_bad"),
    [
        (lambda told: ("LSET", LOG, 5, element(told[5], told[5].line.replace(b"rudo", b"eve!"))), 6),
        (lambda told: ("LSET", LOG, 4, b"0" * 64 + b" " + told[4].line), 5),
        (lambda told: ("LSET", LOG, 2, b""), 3),
        (lambda told: ("LPOP", LOG), 1),
        (lambda told: ("RPUSH", LOG, b"garbage"), 10),
        (lambda told: ("RPUSH", LOG, element(told[7])), 10),
        (lambda told: ("LREM", LOG, 1, element(told[3])), 4),
    ],
    ids=["edited", "hash beside it", "emptied", "first gone", "garbage", "twice", "removed"],
)
async def test_what_was_changed_in_the_store_is_named(valkey, store, told, run, tamper, first_bad):
    await store._call(*tamper(told))
    code, said = await run("verify", "--redis", valkey.url, "--tenant", "acme")
    assert code == 1
    assert said.startswith(f"TAMPERED. Entry {first_bad}: ")


def forbidden(told: list[Entry], **changed: object) -> Entry:
    """An entry that is sealed as it should be and breaks a rule."""
    fields = {
        "ts": told[-1].at, "tenant_id": "acme", "incident_id": "checkout-2", "event": "Noted", "stage": None,
        "actor": {"kind": "engineer", "id": "rudo", "via": "telegram"}, "decision": "", "reason": "",
        "confidence": None, "policy_version": "2026.1", "ref": None, "data": {"words": ""},
    }  # fmt: skip
    return seal(told[-1].head, **(fields | changed))


READING = {"service": "s", "rule": "r", "signal": "s", "severity": "s", "headline": "h", "explanation": "e"}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, "Noted cannot follow nothing"),
        ({"event": "Invented"}, "does not know"),
        ({"event": "Detected"}, "reading"),
        ({"incident_id": "checkout-1", "event": "Denied", "data": {}}, "cannot follow"),
        ({"event": "Detected", "stage": "RESOLVED", "data": {"reading": READING}}, "the stage is RESOLVED"),
        (
            {
                "event": "Detected",
                "stage": "DETECTED",
                "data": {"reading": READING},
                "actor": {"kind": "model", "id": "claude", "via": ""},
            },
            "model may not write Detected",
        ),
        (
            {"incident_id": None, "event": "Resumed", "actor": {"kind": "model", "id": "c", "via": ""}},
            "may not write",
        ),
    ],
)
async def test_what_is_well_sealed_and_against_the_rules_is_named(valkey, store, told, run, changed, why):
    assert await store.append("acme", [forbidden(told, **changed)], told[-1].head) is None
    code, said = await run("verify", "--redis", valkey.url, "--tenant", "acme")
    assert code == 1
    assert said.startswith("TAMPERED. Entry 10: it ")
    assert why in said


@pytest.mark.parametrize("long", [-1, 2**20], ids=["by two processes", "by one"])
async def test_of_two_bad_entries_of_a_file_the_first_is_named_whoever_finds_it(
    told, run, tmp_path, monkeypatch, long
):
    monkeypatch.setattr("ledger.commands.verify.LONG", long)
    path = tmp_path / "log.jsonl"
    against_the_rules = forbidden(told).line
    for bad in ([], [against_the_rules], [against_the_rules, b"garbage"]):
        path.write_bytes(b"".join(line + b"\n" for line in [*(entry.line for entry in told), *bad]))
        code, said = await run("verify", path)
        assert (code, "Entry 10: it breaks a rule: Noted cannot follow" in said) == (
            (1, True) if bad else (2, False)
        )


async def test_a_text_that_is_gone_or_another_is_seen(valkey, store, told, run):
    digest = sha256(POLICY_TEXT.encode()).hexdigest()
    await store._call("HSET", "led:{acme}:texts", digest, "another policy")
    assert (await run("verify", "--redis", valkey.url, "--tenant", "acme"))[0] == 1
    await store._call("HDEL", "led:{acme}:texts", digest)
    assert (await run("verify", "--redis", valkey.url, "--tenant", "acme"))[0] == 2


async def test_a_signature_that_is_another_or_gone_is_seen_on_the_server_too(valkey, store, told, run):
    where = ("--redis", valkey.url, "--tenant", "acme")
    lines = [entry.line for entry in told]
    for signed, wanted in (
        (note(lines, EVE), (2, "No trusted key signed 1 to 9.")),
        (note(lines[:5], OLD), (2, "No trusted key signed 6 to 9.")),
        (note([*lines[:8], b"x"], OLD), (1, "its first 9 entries are not those that were signed")),
        (note(lines, OLD).replace(b"= \n", b"A \n")[:-3] + b"=\n", (1, "")),
        (note(lines, OLD), (0, f"Signed up to entry 9 by {vkey(lines, OLD)}")),
    ):
        await store._call("SET", "led:{acme}:ckpt", signed)
        code, said = await run("verify", *where)
        assert (code, wanted[1] in said) == (wanted[0], True), said
    assert (await run("verify", *where, "--key", vkey(lines, OLD)))[0] == 0
    assert (await run("verify", *where, "--key", vkey(lines, EVE)))[0] == 2
    await store._call("DEL", "led:{acme}:ckpt")
    assert (await run("verify", *where))[0] == 2


async def test_it_says_intact_while_writers_append(valkey, store, told, run):
    ledger = Ledger("acme", store, ManualClock(told[-1].at), random.Random(1), signer=OLD)
    await ledger.catch_up()

    async def write():
        while True:
            watched = ev.Watched(due=1, made=1)
            assert isinstance(
                await ledger.record(Actor.orchestrator("bot.1"), lambda *_, seen=watched: seen), Entry
            )

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        for _ in range(5):
            code, said = await run("verify", "--redis", valkey.url, "--tenant", "acme")
            assert code == 0, said
        writing.cancel()
    await ledger.close()
    assert (await store.head("acme")).seq > 9


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",),
        ("verify", "--redis", "unix:///nowhere/at/all", "--tenant", "acme"),
        ("verify", "--redis", "redis://127.0.0.1:1", "--tenant", "acme"),
        ("verify", "--data-dir", "/nowhere/at/all", "--tenant", "acme"),
        ("verify", "--data-dir", "/nowhere/at/all"),
        ("verify", "/nowhere/at/all"),
        ("doctor", "--data-dir", "/nowhere/at/all"),
        ("export", "--redis", "redis://127.0.0.1:1", "--tenant", "acme", "--to", "/tmp/never"),
    ],
)
async def test_where_nothing_is_nothing_can_be_read(run, arguments):
    code, said = await run(*arguments)
    assert (code, said[:11]) == (3, "UNREADABLE.")


async def test_an_empty_log_is_incomplete_and_cannot_be_exported(valkey, store, run, tmp_path):
    assert (await run("verify", "--redis", valkey.url, "--tenant", "acme"))[0] == 2
    code, said = await run("export", "--redis", valkey.url, "--tenant", "acme", "--to", tmp_path / "x")
    assert (code, said) == (1, "The tenant acme has no entry.\n")


async def test_a_sealed_store_is_not_exported(valkey, store, told, run, tmp_path):
    await store._call("RPUSH", LOG, b"garbage")
    code, said = await run("export", "--redis", valkey.url, "--tenant", "acme", "--to", tmp_path / "x")
    assert code == 1
    assert said.startswith("TAMPERED. ")
    assert not (tmp_path / "x").exists()


async def test_the_doctor_finds_a_fit_server_well(valkey, store, run):
    code, said = await run("doctor", "--redis", valkey.url, "--deploy", valkey.url_of("deploy"))
    assert code == 0
    assert all(line.startswith("well ") for line in said.splitlines())
    assert "appendfsync is always." in said


async def test_the_doctor_names_what_is_not_so_and_what_to_do(valkey, store, run):
    await store._call("CONFIG", "SET", "appendfsync", "everysec")
    await store._call("FUNCTION", "LOAD", "REPLACE", FUNCTION + "-- changed")
    code, said = await run("doctor", "--redis", valkey.url)
    assert code == 1
    assert "NOT SO  appendfsync is everysec. Set it: CONFIG SET appendfsync always" in said
    assert "NOT SO  The function ledger_append is missing or another. Run `python -m bot release`." in said


async def test_the_doctor_says_what_it_cannot_see(valkey, store, run):
    await store._call(
        "ACL", "SETUSER", "hidden", "on", ">h", "~led:*", "-@all", "+hello", "+client", "+fcall"
    )
    code, said = await run("doctor", "--redis", f"unix://hidden:h@{valkey.socket}")
    assert code == 2
    assert "unknown The server does not show appendfsync; it must be always." in said
    assert "LEDGER_DURABILITY=declared" in said
