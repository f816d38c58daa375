"""The real program with an address of its own: approval by link, and a charter that changes while it runs."""

import html
import re

import aiohttp
import pytest

from bot.sandbox.premises import free_port
from tests.stages import CARD_S, END_S, a_scene, an_incident, breaks, the_books, until

pytestmark = pytest.mark.slow
LINK = re.compile(r"http://127\.0\.0\.1:\d+/action/recover\?token=\S+")
HIDDEN = re.compile(r'name="token" value="([^"]+)"')


async def test_a_person_approves_by_the_link_that_the_bot_gave_in_private():
    port = free_port()
    address = {"PORT": str(port), "PUBLIC_BASE_URL": f"http://127.0.0.1:{port}"}
    async with an_incident(settings=address, risk="high") as (scene, books), aiohttp.ClientSession() as web:
        rudo = scene.stage.world.phone("rudo").in_private
        await rudo.sends("/approve")
        said = await rudo.expects("Each opens a page that shows what would run")
        link = LINK.findall(said.text)[0]
        async with web.get(link) as answer:
            page = await answer.text()
        shown = html.unescape(page)
        for words in (
            "Restart checkout workers",
            "POST http://",
            "about 2 s of refused requests",
            "Open until",
        ):
            assert words in shown
        assert (await books.count())["Authorized"] == 0
        form = {"token": HIDDEN.search(page)[1]}
        async with web.post(f"{address['PUBLIC_BASE_URL']}/action/recover/confirm", data=form) as answer:
            assert (answer.status, "Approved" in await answer.text()) == (200, True)
        await scene.phone("rudo").expects("checkout recovered", END_S)
        await scene.ran_once("restart_workers")
        authorized = await books.shows("Authorized")
        assert (authorized.actor["id"], authorized.actor["via"]) == ("rudo", "link")
        async with web.post(f"{address['PUBLIC_BASE_URL']}/action/recover/confirm", data=form) as answer:
            assert answer.status == 409
            assert "Rudo" in await answer.text()
        assert (await books.balance())["Authorized"] == 1


async def test_a_charter_that_changes_while_it_runs_takes_force_by_an_admins_tap():
    async with a_scene() as scene, the_books(scene) as books:
        rudo = scene.stage.world.phone("rudo").in_private
        scene.stage.write_charter(approve="1 admin")
        question = await rudo.expects_button("Adopt", 15)
        question.says("A changed charter waits", "services: checkout changed")
        assert (await books.count())["CharterAdopted"] == 1
        answer = await rudo.taps("Adopt")
        assert "Charter in force since" in answer.text
        await books.shows("CharterAdopted", count=2)
        await breaks(scene)
        answer = await scene.phone("tendai").taps("Approve", CARD_S)
        assert "You are not an approver of this (admin needed). Rudo can." in answer.text
        await scene.ran_nothing()


async def test_a_mistake_in_the_file_is_told_in_status_and_changes_nothing():
    async with a_scene() as scene, the_books(scene) as books:
        rudo = scene.stage.world.phone("rudo").in_private
        file = scene.stage.folder / "charter.toml"
        file.write_text(file.read_text().replace("[tenant]", "[tenant]\ncolour = 3"))

        await until(
            lambda: any("A charter was not taken" in line for line in scene.stage.said), "the file is read"
        )
        await rudo.sends("/status")
        said = await rudo.expects("The charter's file is wrong; the old one stays in force.")
        said.says("tenant.colour", "there is no such key")
        assert (await books.count())["CharterAdopted"] == 1
