"""One entry proved in a chat, and an export that brings the rows of a period along."""

import asyncio
import csv
import subprocess
import sys
import zipfile
from io import BytesIO, StringIO

import pytest

from bot.auditing_verify import Checks
from bot.auditor import Auditor, Visit
from bot.tokens import Pass, Passes
from ledger import events as ev
from ledger.chain import receipt
from ledger.note import public_key
from tests.rooms import BOT, tenant
from tests.unit.bot.test_commands import Front

SEED = b"s" * 32


async def a_front() -> Front:
    here = Front(await tenant(signer=SEED))
    await here.acme.record(BOT, lambda view, now: ev.Started(signer=public_key(SEED)))
    await here.acme.opens()
    return here


async def unpacked(here: Front, text: str, folder) -> str:
    """What is in the zip, in *folder*; its caption."""
    [found] = (await here.says("rudo", text, private=True)).documents
    zipfile.ZipFile(BytesIO(found.content)).extractall(folder)
    return found.caption


async def runs(*arguments: object) -> tuple[int, str]:
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-I", "-S", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


async def last(here: Front):
    return (await here.acme.room.store.read("acme", 0, 1000))[-1]


@pytest.mark.parametrize("words", ["#3", "3"])
async def test_a_proof_unpacks_and_shows_its_entry_with_what_came_along(tmp_path, words):
    here = await a_front()
    caption = await unpacked(here, f"/audit proof {words}", tmp_path)
    made, (entry,) = await last(here), await here.acme.room.store.read("acme", 2, 1)
    [folder] = tmp_path.iterdir()
    given = (folder / "entry-3.tlog-proof", "--key", folder / "keys.txt", "--receipt", f"3:{receipt(entry)}")
    code, said = await runs(folder / "proof.py", *given)
    assert (code, "INTACT. Entry 3 of acme is one of 4." in said) == (0, True), said
    assert "proof.py entry-3.tlog-proof" in caption
    assert f"#{made.seq} · {receipt(made)}" in caption
    taken = (made.event, made.data["what"], made.data["scope"], made.data["first_seq"], made.data["last_seq"])
    assert taken == ("Exported", "proof", "#3", 3, 3)


@pytest.mark.parametrize("words", ["", "#0", "99", "#99", "checkout-1", "#x", "-1"])
async def test_what_is_no_entry_cannot_be_proved_and_nothing_leaves(words):
    here = await a_front()
    answer = await here.says("rudo", f"/audit proof {words}", private=True)
    assert answer.documents == ()
    assert "an entry such as #42" in answer.text or "/audit proof #42" in answer.text
    assert (await last(here)).event == "Detected"


async def test_where_nobody_signed_it_says_so():
    here = Front(await tenant())
    assert "set LEDGER_KEY" in await here.told("rudo", "/audit proof 1", private=True)


async def test_a_proof_goes_to_admins_and_auditors_in_private_alone():
    here = await a_front()
    assert "private chat alone" in await here.told("rudo", "/audit proof 1")
    assert "role admin or auditor" in await here.told("tendai", "/audit proof 1", private=True)


async def test_one_entry_is_shown_by_its_number():
    here = await a_front()
    assert "Detected policy" in await here.told("rudo", "/audit #3")


async def test_an_export_of_a_period_is_the_whole_log_and_the_rows_of_the_period(tmp_path):
    here = await a_front()
    here.acme.clock.advance(3 * 86_400)
    await here.acme.record(BOT, lambda view, now: ev.Watched())
    caption = await unpacked(here, "/audit export 2026-06-03", tmp_path)
    folder, table = sorted(tmp_path.iterdir(), key=lambda path: path.is_file())
    code, said = await runs(folder / "verify.py", folder)
    assert (code, "INTACT. 5 entries of acme fit together" in said) == (0, True), said
    rows = list(csv.DictReader(StringIO(table.read_text(), newline="")))
    entries = await here.acme.room.store.read("acme", 0, 3)
    assert [(row["seq"], row["hash"]) for row in rows] == [(str(e.seq), e.hash) for e in entries]
    assert "beside it the rows of 2026-06-03" in caption
    made = await last(here)
    assert (made.data["scope"], made.data["first_seq"], made.data["last_seq"]) == ("2026-06-03", 1, 4)


async def test_an_export_of_all_is_the_log_alone(tmp_path):
    here = await a_front()
    caption = await unpacked(here, "/audit export", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["countersign-acme-export"]
    assert "beside it" not in caption


async def test_the_page_of_a_link_offers_a_proof_of_one_entry_alone():
    here = await a_front()
    passes = Passes(SEED, here.acme.clock)
    auditor = Auditor({"acme": here.acme.room}, passes, Checks())
    link = Pass("acme", "rudo", "web", "all", "1", 0)
    visit = Visit("token", link, here.acme.room, here.acme.room.people.person("rudo"))
    for of, offered in (("#3", True), ("", False), ("checkout-1", False)):
        assert ("proof" in (await auditor._sheet(visit, {"of": of})).files) is offered
