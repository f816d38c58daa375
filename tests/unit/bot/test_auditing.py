"""What people ask of the ledger, and what they get: views, receipts, files, books, reviews, erasures."""

import asyncio
import csv
import json
import re
import subprocess
import sys
import zipfile
from io import BytesIO, StringIO

import pytest
from pypdf import PdfReader

from bot import auditing
from bot.auditing import VIEWS
from bot.auditing_verify import check
from bot.auditing_ways import FILE, Ways
from bot.errands import LATER, Errands
from bot.order import Order
from bot.ports import Said, Verb
from bot.tokens import Passes
from bot.words import units
from ledger import events as ev
from ledger.chain import Frontier, parse, receipt
from ledger.events import Act
from ledger.keys import seed_of
from ledger.note import Checkpoint, Signer, public_key, signed
from tests.rooms import BOT, charter, tenant
from tests.unit.bot.test_commands import Front, front

MOST = 900
SEED = seed_of(b"k" * 32)


async def after_an_approval() -> Front:
    here = await front()
    await here.acme.opens()
    request = await here.acme.asks()
    await here.acme.taps_on("rudo", Verb.APPROVE, request.hash)
    return here


async def entries(here: Front):
    return await here.acme.room.store.read("acme", 0, 10_000)


async def last(here: Front, event: str):
    return next((e for e in reversed(await entries(here)) if e.event == event), None)


async def sign(here: Front, count: int = 0, origin: str = "", key: bytes = SEED) -> None:
    """Name the key in the ledger, and sign its first *count* entries, or all."""
    public = public_key(SEED)
    await here.acme.record(BOT, lambda v, n: ev.Started(version="1", durability="durable", signer=public))
    found = await entries(here)
    tree = Frontier()
    for entry in found[: count or len(found)]:
        tree = tree.append(bytes.fromhex(entry.hash))
    name = origin or f"countersign/acme/{found[0].hash[:16]}"
    here.acme.room.store._notes["acme"] = signed(Checkpoint(name, tree.size, tree.root()), Signer(name, key))


def change(here: Front, seq: int, **fields) -> None:
    """What somebody with the server's password could do to one entry."""
    log = here.acme.room.store._logs["acme"]
    changed = json.loads(log[seq - 1].line) | fields
    log[seq - 1] = parse(
        json.dumps(changed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )


# --- views -----------------------------------------------------------------------------------------------


async def test_a_view_names_a_day_a_person_an_incident_or_says_what_can_be_named():
    here = await after_an_approval()
    assert "Audit of today" in await here.told("rudo", "/audit")
    assert "Authorized rudo" in await here.told("tendai", "/audit checkout-1")
    by_person = await here.told("tendai", "/audit Rudo")
    assert "Authorized rudo" in by_person
    assert "Detected" not in by_person
    assert "0 entries" in await here.told("rudo", "/audit yesterday")
    assert "Detected policy" in await here.told("rudo", "/audit 2026-06-01..2026-06-03")
    wrong = await here.told("rudo", "/audit checkout-99")
    assert "I know no “checkout-99”" in wrong
    for name in VIEWS:
        assert f"/audit {name}" in wrong


async def test_a_view_fits_a_phone_however_much_happened():
    here = await front()
    for _ in range(40):
        await here.acme.opens()
        name = here.acme.room.ledger.view.open()[0].id
        await here.acme.record(
            ev.Actor.engineer("rudo", "telegram"),
            lambda v, n, name=name: ev.Resolved(incident_id=name, reason="<b>& " * 30),
        )
    answer = await here.says("rudo", "/audit")
    assert 700 < units(answer.text) <= MOST + 40
    assert "The newest" in answer.text
    assert "<b>& <b>" not in answer.html


async def test_reading_is_one_entry_for_each_person_scope_and_hour():
    here = await after_an_approval()
    for _ in range(5):
        await here.told("rudo", "/audit")
        await here.told("tendai", "/audit checkout-1")
    read = [e for e in await entries(here) if e.event == "Exported"]
    scopes = {(e.actor["id"], e.data["what"], e.data["scope"]) for e in read}
    assert scopes == {("rudo", "chat", "2026-06-03"), ("tendai", "chat", "checkout-1")}
    assert len(read) == 2
    here.acme.clock.advance(3600)
    await here.told("rudo", "/audit")
    assert len([e for e in await entries(here) if e.event == "Exported"]) == 3


async def test_reading_goes_on_while_the_ledger_takes_no_entry():
    here = await after_an_approval()
    here.acme.room.ledger.sealed = "a person must look."
    assert "Authorized rudo" in await here.told("rudo", "/audit checkout-1")
    assert "Not sent" in await here.told("rudo", "/audit csv", private=True)


# --- verify ----------------------------------------------------------------------------------------------


async def test_verify_says_intact_and_that_nobody_signed():
    here = await after_an_approval()
    told = await here.told("rudo", "/audit verify")
    assert told.startswith("✅ Intact: ")
    assert "No signed note" in told
    assert "Approvals without an outcome yet: 1" in told
    assert units(told) <= MOST


async def test_verify_names_the_key_that_signed_and_how_far():
    here = await after_an_approval()
    await sign(here)
    found = await check(here.acme.room)
    assert (found.intact, found.signed, found.size) == (True, 6, 6)
    assert "Signed up to #6 with key" in found.sentence()


@pytest.mark.parametrize("seq", [1, 2, 3, 4, 5])
async def test_verify_names_the_first_bad_entry(seq: int):
    here = await after_an_approval()
    change(here, seq, reason="something else")
    told = await here.told("rudo", "/audit verify")
    assert "NOT intact" in told
    named = int(re.search(r"first bad entry is #(\d+)", told)[1])
    assert named in {seq, seq + 1}


@pytest.mark.parametrize(
    ("forged", "why"),
    {
        "origin": "of another log",
        "key": "not of the key that the ledger names",
        "size": "covers 99 entries",
        "root": "not that of the first 6",
        "text": "does not hold",
    }.items(),
)
async def test_verify_does_not_take_a_note_that_is_not_this_logs(forged: str, why: str):
    here = await after_an_approval()
    await sign(here, origin="countersign/acme/0" if forged == "origin" else "",
               key=seed_of(b"x" * 32) if forged == "key" else SEED)  # fmt: skip
    notes, name = here.acme.room.store._notes, f"countersign/acme/{(await entries(here))[0].hash[:16]}"
    if forged == "size":
        notes["acme"] = signed(Checkpoint(name, 99, bytes(32)), Signer(name, SEED))
    if forged == "root":
        notes["acme"] = signed(Checkpoint(name, 6, bytes(32)), Signer(name, SEED))
    if forged == "text":
        notes["acme"] = "not a note"
    found = await check(here.acme.room)
    assert not found.intact
    assert why in found.sentence()


# --- receipts --------------------------------------------------------------------------------------------


async def test_a_receipt_is_genuine_and_says_what_who_and_when():
    here = await after_an_approval()
    await sign(here)
    entry = await last(here, "Authorized")
    for form in (
        f"#{entry.seq} · {receipt(entry)}",
        f"{entry.seq}:{receipt(entry).replace('-', '').lower()}",
    ):
        told = await here.told("tendai", f"/audit receipt {form}")
        assert told.startswith("✅ Genuine")
        for words in ("Authorized by Rudo on telegram", "2026-06-03 14:00:00 (Africa/Harare)", "checkout-1: ",
                      "among the 6 entries under the signed checkpoint"):  # fmt: skip
            assert words in told
        assert units(told) <= MOST


async def test_one_letter_changed_is_not_in_this_ledger_and_the_genuine_one_is_not_shown():
    here = await after_an_approval()
    entry = await last(here, "Authorized")
    code = receipt(entry)
    wrong = ("2" if code[0] != "2" else "3") + code[1:]
    told = await here.told("rudo", f"/audit receipt #{entry.seq} · {wrong}")
    assert "Not in this ledger" in told
    assert code not in told
    assert "Authorized" not in told


async def test_a_receipt_beyond_the_end_says_that_entries_were_lost():
    here = await after_an_approval()
    told = await here.told("rudo", f"/audit receipt #99 · {receipt(await last(here, 'Detected'))}")
    assert "no #99 yet" in told
    assert "entries were lost: tell an admin" in told


async def test_a_receipt_of_another_team_is_unknown_here():
    here, beta = await after_an_approval(), await tenant()
    made = await beta.opens(ev.Actor.policy())
    told = await here.told("rudo", f"/audit receipt #{made.seq + 1} · {receipt(made)}")
    assert "Not in this ledger" in told


async def test_words_without_a_receipt_are_told_how_one_looks():
    here = await after_an_approval()
    assert "#42 · 7F3A-91C2-K0PM-XQ4T" in await here.told("rudo", "/audit receipt please")


# --- files -----------------------------------------------------------------------------------------------


async def document(here: Front, text: str):
    answer = await here.says("rudo", text, private=True)
    [found] = answer.documents
    return found


async def test_rows_keep_the_names_and_types_of_the_accounting_ledger():
    here = await after_an_approval()
    rows = [json.loads(line) for line in (await document(here, "/audit jsonl")).content.splitlines()]
    authorized = next(r for r in rows if r["decision"] == "approve")
    names = ["timestamp", "incident_id", "stage", "actor", "decision", "reason", "confidence",
             "policy_version", "tenant_id", "seq", "hash", "actor_id"]  # fmt: skip
    assert list(authorized) == names
    assert (authorized["timestamp"], authorized["actor"], authorized["seq"]) == (1780488000.0, "engineer", 5)
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    table = list(csv.DictReader(StringIO((await document(here, "/audit csv")).content.decode(), newline="")))
    assert [row["hash"] for row in table][: len(rows)] == [row["hash"] for row in rows]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "|x", "%x"])
async def test_no_cell_is_a_formula(cell: str):
    here = await front()
    await here.acme.record(BOT, lambda v, n: ev.Started(decision=cell, reason=f'{cell},"x"\nnext'))
    text = (await document(here, "/audit csv")).content.decode()
    row = next(r for r in csv.DictReader(StringIO(text, newline="")) if cell in r["decision"])
    assert (row["decision"], row["reason"]) == (f"'{cell}", f'\'{cell},"x"\nnext')


async def test_a_file_of_a_period_or_an_incident_has_its_entries_alone():
    here = await after_an_approval()
    here.acme.clock.advance(3 * 86_400)
    await here.acme.record(BOT, lambda v, n: ev.Watched())
    rows = [
        json.loads(line) for line in (await document(here, "/audit jsonl 2026-06-03")).content.splitlines()
    ]
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]
    rows = [
        json.loads(line) for line in (await document(here, "/audit jsonl checkout-1")).content.splitlines()
    ]
    assert {row["incident_id"] for row in rows} == {"checkout-1"}


async def test_each_file_is_an_entry_and_carries_its_receipt():
    here = await after_an_approval()
    for _ in range(2):
        found = await document(here, "/audit csv 2026-06-03")
    made = [e for e in await entries(here) if e.event == "Exported"]
    assert [(e.actor["id"], e.data["what"], e.data["scope"]) for e in made] == [
        ("rudo", "csv", "2026-06-03")
    ] * 2
    assert f"#{made[-1].seq} · {receipt(made[-1])}" in found.caption


async def test_an_export_unpacks_and_its_own_verifier_says_that_nobody_signed_it(tmp_path):
    here = await after_an_approval()
    found = await document(here, "/audit export")
    zipfile.ZipFile(BytesIO(found.content)).extractall(tmp_path)
    [folder] = tmp_path.iterdir()
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-I", "-S", folder / "verify.py", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "6 entries of acme fit together. No trusted key signed 1 to 6." in ran.stdout, ran.stdout
    assert "verify.py" in found.caption


@pytest.mark.parametrize("scope", ["checkout-1", "2026-06-03", ""])
async def test_the_auditors_page_comes_as_a_pdf_of_an_incident_or_a_period(scope: str):
    here = await after_an_approval()
    found = await document(here, f"/audit pdf {scope}")
    assert found.content.startswith(b"%PDF-")
    text = "".join(page.extract_text() for page in PdfReader(BytesIO(found.content)).pages)
    assert "Rudo" in text
    assert scope in text
    assert "checkout-1" in text


async def test_the_auditors_page_says_how_the_copy_off_the_box_stands():
    here = await after_an_approval()
    here.acme.room.off_box = lambda: "Off the box: every entry is copied."
    found = await document(here, "/audit pdf")
    text = " ".join(page.extract_text() for page in PdfReader(BytesIO(found.content)).pages)
    assert "every entry is copied" in " ".join(text.split())


async def test_there_is_no_page_about_a_person_and_it_says_about_what_there_is():
    here = await after_an_approval()
    assert "/audit pdf checkout-3" in await here.told("rudo", "/audit pdf tendai", private=True)


@pytest.mark.parametrize("name", ["csv", "jsonl", "pdf", "export", "web"])
async def test_files_go_to_admins_and_auditors_in_private_alone(name: str):
    here = await after_an_approval()
    assert "private chat alone" in await here.told("rudo", f"/audit {name}")
    assert "role admin or auditor" in await here.told("tendai", f"/audit {name}", private=True)
    assert await last(here, "Exported") is None


async def with_auditors(base: str = "") -> Front:
    rules = charter()
    people = tuple(replace_person(p, roles=(*p.roles, "auditor")) for p in rules.people)
    here = Front(await tenant(rules.model_copy(update={"people": people})))
    if base:
        here.commands._evidence.auditing._ways = Ways(Passes(b"s" * 32, here.acme.clock), base)
    return here


async def test_on_whatsapp_a_file_is_a_link_to_a_page_and_nothing_is_taken_out_yet():
    here = await with_auditors("https://bot.example")
    told = await here.told("+263770000002", "/audit csv 2026-06-03", channel="whatsapp", private=True)
    assert "yours alone, for five minutes" in told
    token = re.search(r"https://bot.example/audit/file\?token=(\S+)", told)[1]
    link = Passes(b"s" * 32, here.acme.clock).read(FILE, token)
    assert (link.tenant, link.person, link.what, link.scope) == ("acme", "tendai", "csv", "2026-06-03")
    assert await last(here, "Exported") is None


@pytest.mark.parametrize("base", ["https://bot.example", ""])
async def test_a_file_too_long_for_telegram_is_a_link_or_is_said_to_be_had_on_the_server(
    monkeypatch, base: str
):
    monkeypatch.setattr(auditing, "MOST_DOCUMENT", 100)
    here = await with_auditors(base)
    answer = await here.says("rudo", "/audit csv", private=True)
    assert answer.documents == ()
    assert ("https://bot.example/audit/file" if base else "PUBLIC_BASE_URL") in answer.text


async def test_on_whatsapp_a_file_is_said_to_be_had_elsewhere():
    here = await with_auditors()
    told = await here.told("+263770000002", "/audit csv", channel="whatsapp", private=True)
    assert "cannot send files on WhatsApp" in told


def replace_person(person, **fields):
    return person.model_copy(update=fields)


# --- errands ---------------------------------------------------------------------------------------------


async def test_what_takes_long_is_said_to_come_and_comes_in_private():
    here = await after_an_approval()
    posted, release = asyncio.Event(), asyncio.Event()

    async def post(room, person, answer):
        here.posted.append((person.id, answer))
        posted.set()
        return True

    async def work():
        await release.wait()
        return await here.says("rudo", "/help")

    errands = Errands(post, soon_s=0.01)
    said = Said("telegram", "1001", "1001", "/audit verify", Act(channel="telegram"), private=True)
    order = Order(here.acme.room, here.acme.room.people.person("rudo"), said, "")
    assert (await errands.do(order, work())).text == LATER
    release.set()
    await posted.wait()
    assert here.posted[0][0] == "rudo"
    await errands.close()


# --- reconcile -------------------------------------------------------------------------------------------


async def test_reconcile_says_whether_the_books_balance_and_stands_in_the_ledger():
    here = await after_an_approval()
    told = await here.told("rudo", "/reconcile today", private=True)
    assert "1 authorized" in told
    made = await last(here, "Reconciled")
    assert f"#{made.seq} · {receipt(made)}" in told
    assert made.data["digest"]
    assert units(told) <= MOST


async def test_reconcile_sends_the_whole_text_where_there_are_exceptions():
    here = await after_an_approval()
    here.acme.clock.advance(86_400)
    answer = await here.says("rudo", "/reconcile", private=True)
    assert answer.text.startswith("⚠️")
    [found] = answer.documents
    assert b"TRIAL BALANCE" in found.content
    made = await last(here, "Reconciled")
    assert made.data["exceptions"] > 0
    in_group = await here.says("rudo", "/reconcile")
    assert in_group.documents == ()
    assert "private chat" in in_group.text


async def test_reconcile_of_what_is_no_period_says_what_is():
    here = await front()
    assert "2026-11-01..2026-11-20" in await here.told("rudo", "/reconcile soon")


# --- access and erasure ----------------------------------------------------------------------------------


async def test_an_access_review_lists_people_and_is_confirmed_by_the_code_under_it():
    here = await front()
    told = await here.told("rudo", "/access review", private=True)
    for words in (
        "Rudo (rudo): oncall, dev, admin",
        "telegram by charter · whatsapp by charter",
        "no act yet",
    ):
        assert words in told
    code = re.search(r"/access confirm ([0-9A-F]{8})", told)[1]
    assert "not of the list as it is now" in await here.told("rudo", "/access confirm 00000000", private=True)
    assert "you reviewed 3 people" in await here.told("rudo", f"/access confirm {code.lower()}", private=True)
    made = await last(here, "AccessReviewed")
    assert (made.actor["id"], made.data["people"]) == ("rudo", 3)
    assert f"by rudo, #{made.seq}" in await here.told("rudo", "/access review", private=True)


async def test_a_code_does_not_confirm_a_list_that_changed_since():
    here = await front()
    code = re.search(r"confirm ([0-9A-F]{8})", await here.told("rudo", "/access review", private=True))[1]
    await here.told("rudo", "/link tariro whatsapp")
    await here.told("+26377", "link CODE2345", channel="whatsapp", private=True, tenant="")
    assert "not of the list" in await here.told("rudo", f"/access confirm {code}", private=True)
    assert "whatsapp since 2026-06-03 14:00, code from rudo" in await here.told(
        "rudo", "/access review", private=True
    )
    assert await last(here, "AccessReviewed") is None


async def test_access_is_for_admins_and_auditors():
    here = await front()
    assert "admin or auditor" in await here.told("tendai", "/access review", private=True)
    assert "not for a group" in await here.told("rudo", "/access review")


async def two_admins() -> Front:
    rules = charter()
    people = tuple(
        replace_person(p, roles=(*p.roles, "admin")) if p.id == "tendai" else p for p in rules.people
    )
    return Front(await tenant(rules.model_copy(update={"people": people})))


async def test_two_admins_erase_what_a_person_typed_and_the_chain_still_verifies():
    here = await two_admins()
    await here.told("tariro", "/pause my mother's shop")
    words = (await last(here, "Paused")).data["words"]
    assert await here.acme.room.words(words) == "my mother's shop"
    asked = await here.told("rudo", "/erase tariro", private=True)
    assert "Nothing is erased yet" in asked
    command = re.search(r"/erase tariro \w+", asked)[0]
    assert "another admin" in await here.told("rudo", command, private=True)
    assert "Only admins" in await here.told("tariro", command, private=True)
    assert await here.acme.room.words(words) == "my mother's shop"
    assert "1 values of tariro left the vault" in await here.told("tendai", command, private=True)
    assert await here.acme.room.words(words) == ""
    made = await last(here, "Erased")
    assert (made.actor["id"], made.data["asked_by"], made.data["subject"]) == ("tendai", "rudo", "tariro")
    assert "✅ Intact" in await here.told("rudo", "/audit verify")


async def test_a_code_erases_nobody_else_and_not_for_ever():
    here = await two_admins()
    code = re.search(r"/erase tariro (\w+)", await here.told("rudo", "/erase tariro", private=True))[1]
    assert "not for this" in await here.told("tendai", f"/erase rudo {code}", private=True)
    here.acme.clock.advance(7_201)
    assert "not for this" in await here.told("tendai", f"/erase tariro {code}", private=True)
    assert await last(here, "Erased") is None


async def test_one_admin_alone_erases_nothing():
    here = await front()
    assert "the charter names only you" in await here.told("rudo", "/erase tendai", private=True)
