"""What breaks around the program, one fault at a time: people are told, and nothing runs that should not."""

import asyncio
import re
import time

import aiohttp
import pytest
from aiohttp import web

from bot.ingress import SECRET_HEADER
from bot.sandbox.chats import Kind
from bot.sandbox.loopback import serve
from bot.sandbox.world import GROUP, RUDO, TENDAI
from tests.stages import (
    ASK_S,
    CARD_S,
    END_S,
    Twin,
    a_scene,
    an_incident,
    breaks,
    frozen,
    hooked,
    tap,
    the_books,
    until,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults")]

LEASE_S = 12.0
POLLS = re.compile(r'countersign_polls_made\{tenant="acme"\} ([\d.]+)')


# --- what arrives -----------------------------------------------------------------------------------------


async def test_an_update_with_a_wrong_secret_is_refused_and_does_nothing():
    async with an_incident() as (scene, books):
        telegram, world = scene.stage.world.telegram, scene.stage.world
        stood = await books.count()
        press = scene.phone("rudo").sees("Approve")
        update = {
            "update_id": 7,
            "callback_query": {
                "id": "7",
                "from": {"id": RUDO, "is_bot": False, "first_name": "Rudo"},
                "message": telegram.chats.message_json(press.message),
                "chat_instance": "7",
                "data": press.data,
            },
        }
        async with aiohttp.ClientSession() as session:
            for headers in ({}, {SECRET_HEADER: "guessed"}, {SECRET_HEADER: ""}):
                url = f"{world.bot_url}/telegram/webhook"
                async with session.post(url, json=update, headers=headers) as answer:
                    assert answer.status == 403
        assert (await scene.phone("rudo").taps("I am on it")).text.startswith("You are on it")
        count = await books.count()
        assert count["Authorized"] == stood["Authorized"] == 0
        await scene.ran_nothing()


async def test_an_update_that_comes_twice_has_one_effect_and_one_answer():
    async with an_incident() as (scene, books):
        telegram = scene.stage.world.telegram
        telegram.delivery.repeat = 1
        answer = await scene.phone("rudo").taps("Approve")
        assert answer.text.startswith("Approved")
        tries = telegram.delivery.tries
        await until(
            lambda: [one.update_id for one in tries].count(tries[-1].update_id) == 2, "it comes again"
        )
        await books.shows("Executed")
        assert len(telegram.answers) == 1
        assert len(await scene.runs()) == 1
        count = await books.balance()
        assert (count["Authorized"], count["Refused"]) == (1, 0)


async def test_a_second_tap_on_adopt_and_a_second_use_of_the_console_code_adopt_once():
    async with a_scene() as scene, the_books(scene) as books:
        rudo = scene.stage.world.phone("rudo").in_private
        code = await scene.stage._console_code()
        await rudo.opens(code)
        await rudo.expects("was used already")
        assert (await books.count())["CharterAdopted"] == 1


# --- the store --------------------------------------------------------------------------------------------


async def test_redis_gone_for_ten_seconds_runs_nothing_and_everything_after():
    async with an_incident() as (scene, books):
        rudo = scene.phone("rudo")
        with frozen(await books.server()):
            gone = time.monotonic()
            answer = await rudo.taps("Approve")
            assert answer.text.startswith("Not run: the ledger cannot be written")
            assert time.monotonic() - gone < 5
            await ready(scene, 503)
            await asyncio.sleep(max(0.0, gone + 10 - time.monotonic()))
            answer = await rudo.taps("Approve")
            assert answer.text.startswith("Not run: the ledger cannot be written")
        await ready(scene, 200)
        assert (await rudo.taps("I am on it")).text.startswith("You are on it")  # taps of a person keep order
        await scene.ran_nothing()
        assert "Authorized" not in await books.count()
        answer = await rudo.taps("Approve")
        assert answer.text.startswith("Approved")
        await rudo.expects("checkout recovered", END_S)
        assert len(await scene.runs()) == 1
        await books.balance()


async def test_status_says_that_the_ledger_is_away():
    async with a_scene() as scene, the_books(scene) as books:
        rudo = scene.stage.world.phone("rudo").in_private
        with frozen(await books.server()):
            await ready(scene, 503)
            await rudo.sends("/status")
            said = await rudo.expects("ledger cannot be reached", 10)
            said.says("Nothing executes")
        await ready(scene, 200)
        rudo.forgets()
        await rudo.sends("/status")
        await rudo.expects("each on disk before it counts", 10)


async def ready(scene, status):
    """Sooner or later /readyz answers with *status*."""
    async with aiohttp.ClientSession() as session:

        async def look():
            async with session.get(f"{scene.stage.world.bot_url}/readyz") as answer:
                return answer.status == status

        await until(look, f"/readyz answers {status}", 20)


# --- the recovery webhook ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("mood", "tries"), [("400", 1), ("302", 1), ("500", 3)])
async def test_a_webhook_that_answers_no_is_a_dead_letter_and_people_are_told(mood, tries):
    async with a_scene() as scene, the_books(scene) as books:
        await scene.stage.world.shop.faults(mood=mood)
        await breaks(scene)
        await scene.phone("rudo").taps("Approve")
        card = await scene.phone("rudo").expects_button("Ask again", END_S)
        card.says(mood)
        hooks = await scene.runs()
        assert [hook["status"] for hook in hooks] == [int(mood)] * tries
        assert len({hook["key"] for hook in hooks}) == 1
        count = await books.balance()
        assert (count["WebhookFailed"], count["Executed"]) == (1, 0)


async def test_a_redirect_to_a_private_address_is_not_followed():
    reached = []

    async def inside(request):
        reached.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", inside)
    private = await serve(app)
    try:
        async with a_scene() as scene, the_books(scene) as books:
            await scene.stage.world.shop.faults(mood=f"to {private.url}/latest/meta-data")
            await breaks(scene)
            await scene.phone("rudo").taps("Approve")
            await books.shows("WebhookFailed")
            await scene.phone("rudo").expects("302", ASK_S)
            assert len(await scene.runs()) == 1
            assert reached == []
            await books.balance()
    finally:
        await private.close()


async def test_a_webhook_that_hangs_leaves_an_unknown_outcome_and_asks_a_person():
    async with an_incident() as (scene, books):
        await scene.stage.world.shop.faults(mood="hang")
        await scene.phone("rudo").taps("Approve")
        await books.shows("OutcomeUnknown", 60)
        await scene.phone("rudo").expects("/outcome", ASK_S)
        hooks = await scene.runs()
        assert len(hooks) == 3
        assert len({hook["key"] for hook in hooks}) == 1
        await books.balance()


# --- the chat ---------------------------------------------------------------------------------------------


async def test_a_chat_that_telegram_floods_does_not_delay_another():
    async with a_scene() as scene:
        telegram = scene.stage.world.telegram
        telegram.flood(GROUP, 20)
        began = time.monotonic()
        await scene.breaks("the database pool is exhausted", db=True)
        rudo = scene.stage.world.phone("rudo").in_private
        await rudo.expects_button("Approve", CARD_S)
        quick = time.monotonic() - began
        assert quick < 18, f"Rudo's own chat waited {quick:.1f} s"
        assert not [h for h in telegram.chats.journal if h.chat_id == GROUP and h.kind is Kind.SENT]
        await scene.phone("tendai").expects_button("Approve", CARD_S)


async def test_a_group_that_became_a_supergroup_gets_its_cards_there_and_its_taps_count():
    async with a_scene() as scene, the_books(scene) as books:
        moved = scene.stage.world.telegram.migrate(GROUP)
        await scene.breaks("the database pool is exhausted", db=True)
        rudo = scene.stage.world.phone("rudo").in_chat(moved.id)
        await rudo.expects_button("Approve", CARD_S + ASK_S)
        assert (await rudo.taps("Approve")).text.startswith("Approved")
        await rudo.expects("ran once", ASK_S)
        await books.balance()


async def test_a_group_that_becomes_a_supergroup_in_an_incident_gets_the_rest_there():
    async with an_incident() as (scene, books):
        moved = scene.stage.world.telegram.migrate(GROUP)
        tendai = scene.stage.world.phone("tendai").in_private
        assert (await tendai.taps("Approve")).text.startswith("Approved")
        await scene.stage.world.phone("rudo").in_chat(moved.id).expects("ran once", ASK_S)
        await books.balance()


async def test_a_person_who_blocked_the_bot_is_on_record_and_others_are_told():
    async with a_scene() as scene, the_books(scene) as books:
        scene.stage.world.telegram.block(TENDAI)
        await breaks(scene)
        failed = await books.shows("PageFailed")
        assert (failed.data["recipient"], failed.data["channel"]) == ("tendai", "telegram")
        paged = {
            tuple(e.data[key] for key in ("recipient", "channel"))
            for e in await books.entries()
            if e.event == "Paged"
        }
        assert {("chat1", "telegram"), ("rudo", "telegram")} <= paged
        assert ("tendai", "telegram") not in paged


async def test_an_answer_longer_than_a_message_comes_in_several_and_whole():
    async with an_incident() as (scene, books):
        rudo = scene.stage.world.phone("rudo").in_private
        telegram = scene.stage.world.telegram
        for _ in range(45):
            tap(scene, "rudo", "I am on it")
        await books.shows("Acknowledged", count=45)
        rudo.forgets()
        await rudo.sends("/audit checkout-1")
        last = (await books.entries())[-1]
        await rudo.expects(f"#{last.seq}", ASK_S)
        assert not [call for call in telegram.calls if "too long" in call.refusal]


# --- processes --------------------------------------------------------------------------------------------


async def test_two_processes_take_taps_at_once_and_execute_once():
    async with an_incident() as (scene, books), Twin(scene.stage) as twin:
        world = scene.stage.world
        rudo, tendai = scene.phone("rudo").sees("Approve"), scene.phone("tendai").sees("Approve")
        mine = rudo.phone.telegram.tap(RUDO, rudo.message, rudo.data)
        world.telegram.delivery.webhook.url = f"{world.bot_url}/telegram/webhook"
        theirs = tendai.phone.telegram.tap(TENDAI, tendai.message, tendai.data)
        answers = [
            await until(lambda query=query: query.answer, "the tap is answered", 10)
            for query in (mine, theirs)
        ]
        assert sorted(answer.text.split()[0] for answer in answers) in (
            ["Approved", "Rudo"],
            ["Approved", "Tendai"],
        )
        await books.shows("Executed")
        assert len(await scene.runs()) == 1
        count = await books.balance()
        assert (count["Authorized"], count["ExecutionStarted"], count["Detected"]) == (1, 1, 1)
        assert twin.said


async def test_another_process_takes_over_within_twelve_seconds_of_kill_9():
    async with a_scene() as scene, Twin(scene.stage) as twin, aiohttp.ClientSession() as session:

        async def watches():
            async with session.get(f"{twin.url}/metrics") as answer:
                return float(POLLS.search(await answer.text())[1]) > 0

        assert not await watches()
        await scene.stage.kill()
        await until(watches, "the twin watches the shop", LEASE_S)
        await breaks(scene)


async def test_sigterm_hands_back_what_is_in_hand_and_the_next_process_finishes_it():
    async with an_incident() as (scene, books):
        shop = scene.stage.world.shop
        await shop.faults(mood="hang")
        await scene.phone("rudo").taps("Approve")
        await hooked(scene)
        began = time.monotonic()
        assert await scene.stage.end() == 0
        assert time.monotonic() - began < 20
        await shop.faults(mood="")
        await scene.stage.start()
        await books.shows("Executed", END_S)
        hooks = await scene.runs()
        assert len({hook["key"] for hook in hooks}) == 1
        count = await books.balance()
        assert (count["Authorized"], count["Executed"]) == (1, 1)
