"""The auditor's web page: opened once by its own person, read in pages, taken out with an entry each time."""

import html
import json
import re
import zipfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bot.app import application
from bot.auditing_verify import Checks
from bot.auditing_ways import FILE, FILE_PATH, PAGE, PAGE_PATH, Ways
from bot.auditor import Auditor
from bot.ports import Verb
from bot.tokens import Passes, Tokens
from ledger import events as ev
from tests.rooms import BOT, Tenant, tenant

SECRET = b"a secret of the operator, 32 bytes or more"
NASTY = '"><script>alert(1)</script>'


@dataclass
class Browser:
    acme: Tenant
    passes: Passes
    client: TestClient

    def token(
        self, who: str = "rudo", audience: str = PAGE, what: str = "web", scope: str = "all", of="acme"
    ):
        return self.passes.mint(audience, of, who, what, scope, 300)

    async def gets(self, path: str, **query: str):
        async with self.client.get(path, params=query) as response:
            return response.status, html.unescape(await response.text()), response.headers

    async def posts(self, path: str, **fields: str):
        async with self.client.post(path, data=fields) as response:
            return response.status, await response.read(), response.headers

    async def opened(self, **about: str) -> str:
        token = self.token(**about)
        assert (await self.posts(PAGE_PATH, token=token))[0] == 200
        return token

    async def exported(self) -> list[tuple[str, str, str]]:
        entries = await self.acme.room.store.read("acme", 0, 10_000)
        return [(e.actor["id"], e.data["what"], e.data["scope"]) for e in entries if e.event == "Exported"]


@asynccontextmanager
async def browser():
    acme = await tenant()
    passes = Passes(SECRET, acme.clock)
    await acme.opens()
    request = await acme.asks()
    await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    routes = Auditor({"acme": acme.room}, passes, Checks()).routes()
    async with TestClient(TestServer(application([], routes))) as client:
        yield Browser(acme, passes, client)


async def test_what_a_messenger_fetches_shows_nothing_and_is_no_entry():
    async with browser() as rudo:
        page, file = rudo.token(), rudo.token(audience=FILE, what="csv")
        for path, token in ((PAGE_PATH, page), (FILE_PATH, file)):
            for _ in range(3):
                status, text, _ = await rudo.gets(path, token=token)
                assert (status, "checkout-1" in text, "<button" in text) == (200, False, True)
            async with rudo.client.head(path, params={"token": token}) as response:
                assert response.status == 200
        assert await rudo.exported() == []


async def test_the_press_is_one_entry_a_link_and_shows_the_rows():
    async with browser() as rudo:
        token = rudo.token()
        for _ in range(3):
            status, page, headers = await rudo.posts(PAGE_PATH, token=token)
            assert status == 200
        text = html.unescape(page.decode())
        for words in ("Intact: ", "Authorized", "checkout-1", "Restart workers", "Africa/Harare"):
            assert words in text
        assert await rudo.exported() == [("rudo", "web", "all")]
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "script" not in text.lower()
        assert "default-src 'none'" in headers["Content-Security-Policy"]


async def test_rows_come_fifty_at_a_time_and_a_growing_log_does_not_shift_them():
    async with browser() as rudo:
        for _ in range(120):
            await rudo.acme.record(BOT, lambda v, n: ev.Watched())
        token, seen, before = await rudo.opened(), [], ""
        while True:
            _, text, _ = await rudo.gets(PAGE_PATH, token=token, before=before)
            rows = [int(n) for n in re.findall(r"<tr><td>(\d+)</td>", text)]
            assert rows == sorted(rows, reverse=True)
            seen += rows
            older = re.search(r"before=(\d+)", text)
            if not older:
                break
            before = older[1]
            await rudo.acme.record(BOT, lambda v, n: ev.Watched())
        assert seen == list(range(126, 0, -1))


async def test_the_filter_takes_an_incident_a_person_or_a_day_and_says_so_when_it_cannot():
    async with browser() as rudo:
        token = await rudo.opened()
        _, text, _ = await rudo.gets(PAGE_PATH, token=token, of="checkout-1")
        assert "Detected" in text
        assert "CharterAdopted" not in text
        _, text, _ = await rudo.gets(PAGE_PATH, token=token, of="rudo")
        assert "Authorized" in text
        assert "Detected" not in text
        _, text, _ = await rudo.gets(PAGE_PATH, token=token, of="2020-01-01")
        assert "No entry" in text
        _, text, _ = await rudo.gets(PAGE_PATH, token=token, of="nobody", before="x")
        assert "I know no “nobody”" in text


async def test_what_people_wrote_is_text_on_the_page():
    async with browser() as rudo:
        await rudo.acme.record(BOT, lambda v, n: ev.Started(decision=NASTY, reason=NASTY))
        async with rudo.client.get(PAGE_PATH, params={"token": await rudo.opened(), "of": NASTY}) as response:
            raw = await response.text()
        assert "<script" not in raw
        assert "&lt;script&gt;" in raw


async def test_a_broken_chain_stands_on_top():
    async with browser() as rudo:
        token = await rudo.opened()
        del rudo.acme.room.store._logs["acme"][2]
        _, text, _ = await rudo.gets(PAGE_PATH, token=token)
        assert "NOT intact" in text
        assert 'class="state bad"' in text


@pytest.mark.parametrize("what", ["csv", "jsonl", "export", "pdf"])
async def test_a_file_from_the_page_and_from_its_own_link_is_an_entry_each(what: str):
    async with browser() as rudo:
        status, content, headers = await rudo.posts(
            FILE_PATH, token=await rudo.opened(), what=what, of="checkout-1" if what != "export" else "all"
        )
        assert (status, "attachment" in headers["Content-Disposition"]) == (200, True)
        if what == "jsonl":
            assert {json.loads(line)["incident_id"] for line in content.splitlines()} == {"checkout-1"}
        if what == "export":
            assert any(name.endswith("verify.py") for name in zipfile.ZipFile(BytesIO(content)).namelist())
        if what == "pdf":
            assert content.startswith(b"%PDF-")
        link = rudo.token(audience=FILE, what=what, scope="checkout-1")
        for _ in range(2):
            assert (await rudo.posts(FILE_PATH, token=link))[0] == 200
        assert [made[1] for made in await rudo.exported()] == ["web", what, what]
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("who", ["tendai", "tariro", "nobody"])
async def test_a_link_is_nothing_for_who_is_no_admin_or_auditor_any_more(who: str):
    async with browser() as rudo:
        status, text, _ = await rudo.gets(PAGE_PATH, token=rudo.token(who))
        assert (status, "checkout" in text) == (403, False)
        assert (await rudo.posts(FILE_PATH, token=rudo.token(who, audience=FILE, what="csv")))[0] == 403


async def test_a_link_ends_and_is_of_one_kind_and_one_team():
    async with browser() as rudo:
        page, file = await rudo.opened(), rudo.token(audience=FILE, what="csv")
        action = Tokens(SECRET, rudo.acme.clock).mint_link("acme", "rudo", Verb.APPROVE, "1", "7f" * 32)
        for path, token in (
            (PAGE_PATH, file), (FILE_PATH, page), (PAGE_PATH, action), (PAGE_PATH, page[:-3]),
            (PAGE_PATH, ""), (PAGE_PATH, "x" * 5_000), (PAGE_PATH, rudo.token(of="umbrella")),
        ):  # fmt: skip
            assert (await rudo.gets(path, token=token))[0] == 403
            assert (await rudo.posts(path, token=token))[0] == 403
        rudo.acme.clock.advance(301)
        status, text, _ = await rudo.gets(PAGE_PATH, token=page)
        assert (status, "good for a few minutes" in text) == (403, True)


async def test_a_page_that_nobody_opened_gives_no_file():
    async with browser() as rudo:
        assert (await rudo.posts(FILE_PATH, token=rudo.token(), what="csv", of="all"))[0] == 403
        opened = await rudo.opened()
        assert (await rudo.posts(FILE_PATH, token=opened, what="keys", of="all"))[0] == 403
        assert (await rudo.posts(FILE_PATH, token=opened, what="csv", of="nobody"))[0] == 403


async def test_without_its_entry_nothing_is_opened_or_taken():
    async with browser() as rudo:
        rudo.acme.room.ledger.sealed = "a person must look."
        assert (await rudo.posts(PAGE_PATH, token=rudo.token()))[0] == 503
        assert (await rudo.posts(FILE_PATH, token=rudo.token(audience=FILE, what="csv")))[0] == 503


async def test_ways_are_addresses_of_these_pages():
    async with browser() as rudo:
        ways, person = Ways(rudo.passes, ""), rudo.acme.room.people.person("rudo")
        for url in (
            ways.page(rudo.acme.room, person, "all"),
            ways.file(rudo.acme.room, person, "csv", "all"),
        ):
            async with rudo.client.get(url) as response:
                assert response.status == 200
