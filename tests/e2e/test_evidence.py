"""What the ledger proves, asked by phone: receipts, files, books; and what others learn of it, nothing."""

import asyncio
import csv
import gzip
import json
import re
import subprocess
import sys
import zipfile
from contextlib import asynccontextmanager
from io import BytesIO, StringIO

import aiohttp
import pytest

from bot.offbox import sink_key
from bot.receipts import LETTERS, read
from bot.sandbox.loopback import serve
from bot.sandbox.premises import free_port
from ledger.chain import receipt_of
from ledger.clock import WallClock
from ledger.commands.keep import Keeper, application
from ledger.commands.witness import application as witnessing
from ledger.note import Verifier, Witness, origin_of, vkey
from ledger.witness import Watchman
from tests.stages import END_S, ROOT, a_scene, an_incident, short_folder, the_books, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("evidence")]
TOKEN = re.compile(r"token=([^\s\"&]+)")


async def alone(*words):
    """A script that came out of the house, run without it: its exit code, and what it said."""
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-I", "-S", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


def with_one_letter_changed(text):
    at = len(text) - 1
    return text[:at] + next(letter for letter in LETTERS if letter != text[at])


async def test_what_happened_is_proved_by_phone_after_the_incident(tmp_path):
    port = free_port()
    address = {"PORT": str(port), "PUBLIC_BASE_URL": f"http://127.0.0.1:{port}"}
    async with an_incident(settings=address) as (scene, books), aiohttp.ClientSession() as web:
        phone = scene.phone("rudo")
        await phone.taps("Approve")
        card = await phone.expects("checkout recovered", END_S)
        approval, outcome = read(card.text)
        rudo = scene.stage.world.phone("rudo").in_private

        await rudo.forgets().sends(f"/audit receipt {approval.text}")
        (await rudo.expects("✅ Genuine")).says("Authorized by Rudo", f"#{approval.seq}", "checkout-1")
        await rudo.forgets().sends(f"/audit receipt {card.text}")
        (await rudo.expects("✅ Genuine")).says("Authorized", "Verified", f"#{outcome.seq}")
        await rudo.forgets().sends(f"/audit receipt {with_one_letter_changed(approval.text)}")
        (await rudo.expects("Not in this ledger")).does_not_say(approval.text.partition(" · ")[2])
        await rudo.forgets().sends(f"/audit receipt #{approval.seq} · {receipt_of('5a' * 32)}")
        (await rudo.expects("it is another team's")).does_not_say("Authorized")

        await rudo.forgets().sends("/audit verify")
        await rudo.expects("✅ Intact")
        await rudo.forgets().sends("/reconcile")
        (await rudo.expects("The books balance, no exceptions.")).says(
            "1 authorized: 1 executed", "Difference 0"
        )
        await rudo.forgets().sends("/audit today")
        assert len((await rudo.expects("Audit of")).text) <= 1000

        await rudo.forgets().sends("/audit export")
        export = await rudo.expects_file(".zip")
        zipfile.ZipFile(BytesIO(export.content)).extractall(tmp_path / "export")
        [folder] = (tmp_path / "export").iterdir()
        code, said = await alone(folder / "verify.py", folder, "--receipt", approval.text)
        assert (code, "INTACT." in said) == (0, True), said
        await rudo.forgets().sends(f"/audit proof #{approval.seq}")
        proved = await rudo.expects_file(f"proof-{approval.seq}.zip")
        zipfile.ZipFile(BytesIO(proved.content)).extractall(tmp_path)
        proof = tmp_path / f"countersign-acme-proof-{approval.seq}"
        file = proof / f"entry-{approval.seq}.tlog-proof"
        given = (file, "--key", folder / "keys.txt", "--receipt", approval.text)
        code, said = await alone(proof / "proof.py", *given)
        assert (code, f"INTACT. Entry {approval.seq} of acme" in said) == (0, True), said
        await rudo.sends("/audit csv checkout-1")
        table = await rudo.expects_file(".csv")
        rows = list(csv.DictReader(StringIO(table.content.decode(), newline="")))
        assert {row["incident_id"] for row in rows} == {"checkout-1"}
        await rudo.sends("/audit pdf checkout-1")
        assert (await rudo.expects_file(".pdf", 30)).content.startswith(b"%PDF-")

        await rudo.forgets().sends("/audit web")
        link = re.search(r"http://\S+", (await rudo.expects("yours alone, for 30 minutes")).text)[0]
        async with web.get(link) as answer:
            assert "checkout-1" not in await answer.text()
        async with web.post(link.partition("?")[0], data={"token": TOKEN.search(link)[1]}) as answer:
            page = await answer.text()
        assert "Intact" in page
        assert "Authorized" in page

        stranger = scene.stage.world.phone("stranger").in_private
        await stranger.opens()
        for text in (
            f"/audit receipt {approval.text}",
            "/audit export",
            "/reconcile",
            "/access review",
            "/erase rudo",
        ):
            await stranger.forgets().sends(text)
            (await stranger.expects("I do not know you")).does_not_say("checkout", "Rudo")
        taken = [e.data["what"] for e in await books.entries() if e.event == "Exported"]
        assert sorted(what for what in taken if what != "chat") == ["csv", "export", "pdf", "proof", "web"]


async def test_files_do_not_go_to_a_group_nor_to_who_has_no_role_for_them():
    async with an_incident() as (scene, books):
        group = scene.stage.world.phone("rudo").in_chat(the_group(scene))
        await group.forgets().sends("/audit export")
        await group.expects("private chat alone")
        tendai = scene.stage.world.phone("tendai").in_private
        await tendai.sends("/audit export")
        await tendai.expects("role admin or auditor")
        assert (await books.count())["Exported"] == 0


async def test_two_admins_erase_by_phone_what_one_of_them_typed_and_every_proof_still_holds():
    words = "ask Chipo in 14 Samora Machel Avenue"
    async with a_scene() as scene, the_books(scene) as books:
        rudo, tendai = (scene.stage.world.phone(who).in_private for who in ("rudo", "tendai"))
        await with_a_second_admin(scene, rudo)
        await rudo.forgets().sends(f"/pause {words}")
        await books.shows("Paused")
        assert [value.partition(b":")[2] for value in (await books.vault()).values()] == [words.encode()]
        await until(lambda: words.encode() in in_files(scene.stage.folder), "the words are on the disk", 1)
        await rudo.forgets().sends("/erase rudo")
        asked = await rudo.expects("once another admin (Tendai)")
        code = asked.text.splitlines()[1]
        await rudo.forgets().sends(code)
        await rudo.expects("another admin must send the code. Nothing was erased")
        assert len(await books.vault()) == 1
        await tendai.forgets().sends(code)
        (await tendai.expects("1 values of rudo left the vault")).says("writes its file anew, without them")
        made = await books.shows("Erased")
        assert (made.actor["id"], made.data["asked_by"], made.data["subject"]) == ("tendai", "rudo", "rudo")
        assert await books.vault() == {}
        await until(lambda: words.encode() not in in_files(scene.stage.folder), "the words leave the disk")
        assert words.encode() not in await books.everything()
        await rudo.forgets().sends("/audit verify")
        await rudo.expects("✅ Intact")


async def test_in_whatsapp_a_file_is_a_link_that_gives_it_once_its_page_was_pressed():
    async with an_incident() as (scene, books), aiohttp.ClientSession() as web:
        rudo = scene.stage.world.whatsapp("rudo")
        await rudo.forgets().sends("audit csv checkout-1")
        said = await rudo.expects("yours alone, for five minutes")
        link = re.search(r"http://\S+", said.text)[0]
        assert (await books.count())["Exported"] == 0
        async with web.get(link) as answer:
            assert "checkout-1" in await answer.text()
        assert (await books.count())["Exported"] == 0
        form = {"token": TOKEN.search(link)[1]}
        async with web.post(link.partition("?")[0], data=form) as answer:
            assert answer.headers["content-disposition"].endswith('checkout-1.csv"')
            rows = list(csv.DictReader(StringIO(await answer.text(), newline="")))
        assert {row["incident_id"] for row in rows} == {"checkout-1"}
        made = await books.shows("Exported")
        assert (made.actor["id"], made.data["what"], made.data["scope"]) == ("rudo", "csv", "checkout-1")
        async with web.post(link.partition("?")[0], data={"token": form["token"][:-2] + "xx"}) as answer:
            assert answer.status == 403


async def test_a_ledger_that_was_lost_is_made_again_from_the_copy_off_the_box_and_goes_on():
    with short_folder() as elsewhere:
        async with a_scene() as scene, a_keeper(elsewhere, scene) as url:
            stage, copy, var = scene.stage, elsewhere / "acme.jsonl", elsewhere / "var"
            await stage.end()
            stage._settings |= {"LEDGER_SINK_URL": url}
            await stage.start()
            await until((elsewhere / "acme.note").exists, "the copy has a signed note")
            await stage.end()
            (elsewhere / "ledger.key").write_text(stage.world.keys["LEDGER_KEY"])
            given = (copy, "--data-dir", var, "--key-file", elsewhere / "ledger.key", "--signed-part")
            code, said = await ledger("restore", *given)
            assert (code, "RESTORED." in said, "is missing: name its file" in said) == (0, True, True), said
            size, restored = int(re.search(r"RESTORED. (\d+)", said)[1]), copy.read_bytes().splitlines()
            stage._settings |= {"DATA_DIR": str(var)}
            await stage.start()
            rudo = stage.world.phone("rudo").in_private
            await rudo.forgets().sends("/audit verify")
            await rudo.expects("✅ Intact")
            await stage.end()
            code, said = await ledger("verify", "--data-dir", var, "--tenant", "acme")
            assert (code, "INTACT." in said) == (0, True), said
            code, said = await ledger(
                "export", "--data-dir", var, "--tenant", "acme", "--to", elsewhere / "out"
            )
            lines = gzip.decompress((elsewhere / "out" / "entries-00000.jsonl.gz").read_bytes()).splitlines()
            assert lines[:size] == restored[:size]
            assert [json.loads(line)["event"] for line in lines[size:]].count("Started") == 1


async def test_the_program_has_a_witness_sign_its_log_and_says_how_far_it_is():
    with short_folder() as elsewhere:
        async with a_scene() as scene, the_books(scene) as books:
            stage, witness = scene.stage, Witness("witness.example/w1", b"w" * 32)
            first, *_ = await books.entries()
            key = vkey(origin_of("acme", first.hash), first.data["signer"])
            watchman = Watchman(elsewhere, witness, [Verifier.parse(key)])
            served = await serve(witnessing(watchman, WallClock()))
            try:
                await stage.end()
                told = {"LEDGER_WITNESS_URL": served.url, "LEDGER_WITNESS_KEY": witness.vkey}
                stage._settings |= told
                await stage.start()
                await until(lambda: any(elsewhere.glob("*.note")), "the witness has signed")
                rudo = stage.world.phone("rudo").in_private
                await rudo.forgets().sends("/status")
                await rudo.expects("Witness witness.example/w1: cosigned up to entry")
                await stage.end()
            finally:
                await served.close()
            out = elsewhere / "out"
            await ledger("export", "--data-dir", stage.folder, "--tenant", "acme", "--to", out)
        code, said = await alone(out / "verify.py", out, "--key", key, "--witness", witness.vkey)
        assert (code, f"by {witness.vkey}" in said) == (0, True), said


@asynccontextmanager
async def a_keeper(folder, scene):
    """The copy off the box of *scene*, in *folder*; where batches go."""
    secret = sink_key(scene.stage.world.keys["ALERT_SECRET"].encode())
    served = await serve(application(Keeper(folder, secret, WallClock())))
    try:
        yield f"{served.url}/"
    finally:
        await served.close()


async def ledger(*words):
    """`python -m ledger` beside the program: its exit code, and what it said."""
    given = [sys.executable, "-m", "ledger", *map(str, words)]
    ran = await asyncio.to_thread(
        subprocess.run, given, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


async def with_a_second_admin(scene, rudo):
    """Tendai becomes one, by a charter that Rudo adopts."""
    file = scene.stage.folder / "charter.toml"
    text = file.read_text()
    file.write_text(text.replace('roles = ["oncall"]', 'roles = ["oncall", "admin"]'))
    await rudo.taps("Adopt", 30)


def in_files(folder):
    """All that the server has on disk."""
    return b"".join(path.read_bytes() for path in folder.rglob("*.aof") if path.is_file())


def the_group(scene):
    return next(chat for chat in scene.stage.world.telegram.chats.chats if chat < 0)
