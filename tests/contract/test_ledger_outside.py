"""`python -m ledger keep|witness|archive|erase` as an operator calls them."""

import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

from handlers.adapters.sink import HttpSink
from ledger import events as ev
from ledger.__main__ import main
from ledger.chain import Entry
from ledger.clock import WallClock
from ledger.embedded import EmbeddedValkey
from ledger.events import Actor
from ledger.ledger import Ledger
from ledger.note import Signer, Verifier
from ledger.offbox import Batch
from ledger.redis_store import RedisStore, connect
from tests.chains import chain


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cs-") as made:
        yield Path(made)


def started(*given: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "ledger", *map(str, given)], stdout=subprocess.PIPE, text=True, bufsize=1
    )


def ended(process: subprocess.Popen) -> int:
    process.send_signal(signal.SIGTERM)
    with process.stdout:
        return process.wait(10)


def test_a_keeper_takes_what_is_posted_and_has_it_after_it_ended(folder):
    (folder / "secret").write_text("whsec_c2VjcmV0")
    keeper = started("keep", "--port", 0, "--folder", folder / "copies", "--secret-file", folder / "secret")
    url = keeper.stdout.readline().split()[-1]
    entries, now_s = chain(5), int(WallClock().now().timestamp())
    told = asyncio.run(HttpSink(url, b"secret").send(Batch("acme", entries), now_s))
    assert told.size == 5
    with urllib.request.urlopen(url) as answer:  # noqa: S310  the keeper on loopback
        assert answer.read() == b'{"acme": {"size": 5, "signed": 0}}'
    assert ended(keeper) == 0
    assert (folder / "copies" / "acme.jsonl").read_bytes().splitlines() == [one.line for one in entries]


@pytest.mark.slow
@pytest.mark.xdist_group("outside")
def test_a_witness_says_its_key_and_only_one_runs_in_a_folder(folder):
    (folder / "key").write_text("k" * 40)
    (folder / "logs").write_text(Signer("countersign/acme/0123456789abcdef", b"s" * 32).vkey + "\n")
    given = ["witness", "--port", 0, "--folder", folder / "w", "--key-file", folder / "key"]
    given += ["--name", "witness.example/w1", "--logs", folder / "logs"]
    first = started(*given)
    assert Verifier.parse(first.stdout.readline()).name == "witness.example/w1"
    assert "Witnessing 1 logs, at http://127.0.0.1:" in first.stdout.readline()
    second = started(*given)
    with second.stdout:
        assert f"Another witness runs in {folder / 'w'}" in second.stdout.read()
    assert second.wait(10) == 3
    assert ended(first) == 0


async def a_ledger(folder: Path) -> str:
    """A short one, with one secret; its commitment."""
    valkey = EmbeddedValkey(folder)
    await valkey.start()
    store = RedisStore(connect(valkey.url))
    try:
        await store.put_secret_value("acme", "c" * 64, "salt:what Rudo typed")
        ledger = Ledger("acme", store, WallClock(), random.Random(1))
        said = ev.Paused(words="c" * 64)
        assert isinstance(await ledger.record(Actor.engineer("rudo", "x"), lambda view, now: said), Entry)
        await ledger.close()
    finally:
        await store.close()
        await valkey.stop()
    return "c" * 64


@pytest.mark.slow
@pytest.mark.xdist_group("outside")
def test_an_operator_erases_and_archives_by_flags_alone(folder, capsys):
    asyncio.run(a_ledger(folder))
    where = ["--data-dir", str(folder), "--tenant", "acme"]
    assert main(["erase", *where, "--by", "tendai", "rudo"]) == 0
    assert "1 values of rudo are gone from the vault; the log says so." in capsys.readouterr().out
    assert main(["erase", *where, "--by", "tendai", "rudo"]) == 0
    assert "0 values of rudo are gone" in capsys.readouterr().out
    assert main(["archive", *where, "--keep-days", "0"]) == 0
    assert "0 segments of 65536 entries were archived now, 0 in all" in capsys.readouterr().out
    assert main(["verify", *where]) in {0, 2}
