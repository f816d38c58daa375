"""The page in a real Chromium, on a laptop and on a phone; and who may not have it."""

import shutil

import aiohttp
import pytest
from playwright.async_api import async_playwright
from telegram import InlineKeyboardButton, InlineKeyboardMarkup
from telegram.ext import ApplicationBuilder, CallbackQueryHandler, CommandHandler

from bot.sandbox.page import Page
from bot.sandbox.world import GROUP, RUDO

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LAPTOP, SMALL = {"width": 1366, "height": 820}, {"width": 390, "height": 844}
BOTH = pytest.mark.parametrize("size", [LAPTOP, SMALL], ids=["laptop", "phone"])
pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture
def rows():
    return []


@pytest.fixture
async def page(world, rows):
    page = Page(world, lambda: rows)
    await page.start()
    yield page
    await page.close()


@pytest.fixture
async def answering(bot):
    async def tapped(update, _):
        query = update.callback_query
        if query.from_user.id == RUDO:
            await query.answer("Approved 03:14:02. Restart is running. #45")
            await query.edit_message_text("checkout recovered")
        else:
            await query.answer("I do not know you. <b>Your tap is on record.</b>", show_alert=True)

    async def status(update, _):
        await update.message.reply_html("<b>1 incident</b> &lt;open&gt;", disable_notification=True)

    application = ApplicationBuilder().bot(bot).build()
    application.add_handlers([CallbackQueryHandler(tapped), CommandHandler("status", status)])
    async with application:
        await application.start()
        await application.updater.start_polling(timeout=1)
        yield application
        await application.updater.stop()
        await application.stop()


@pytest.fixture
async def browser():
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"there is no browser at {CHROMIUM}")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
def size():
    return SMALL


@pytest.fixture
async def view(browser, page, size):
    """The page open at one size; a word on the console is a failure."""
    view = await browser.new_page(viewport=size)
    said = []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.set_default_timeout(8000)
    await view.goto(page.url)
    await view.get_by_role("button", name="Rudo").wait_for()
    yield view
    assert said == []


def keyboard() -> InlineKeyboardMarkup:
    approve = InlineKeyboardButton("Approve: restart", callback_data="v|ap", style="success")
    return InlineKeyboardMarkup(
        [[approve, InlineKeyboardButton("Deny", callback_data="v|no", style="danger")]]
    )


@BOTH
async def test_a_card_rings_is_tapped_answered_and_edited_in_place(view, bot, answering):
    await bot.send_message(
        GROUP, "<b>checkout: 19 % of requests fail.</b>\nE1", "HTML", reply_markup=keyboard()
    )
    await view.locator("#phone.rings").wait_for()
    await view.locator("#banner:visible", has_text="checkout: 19 % of requests fail.").wait_for()
    await view.get_by_role("button", name="Approve: restart").click()
    await view.locator("#toast", has_text="Approved 03:14:02").wait_for()
    await view.locator(".message", has_text="checkout recovered").wait_for()
    assert await view.get_by_role("button", name="Approve: restart").count() == 0
    assert await view.locator(".message").count() == 1


async def test_a_silent_message_does_not_ring(view, bot):
    await bot.send_message(GROUP, "recovered", disable_notification=True)
    await view.locator(".message", has_text="recovered").wait_for()
    assert await view.locator("#phone.rings").count() == 0
    assert await view.locator("#banner:visible").count() == 0


async def test_a_stranger_gets_an_alert_whose_text_is_text(view, bot, answering):
    await bot.send_message(GROUP, "checkout", reply_markup=keyboard())
    await view.get_by_role("button", name="Stranger").click()
    await view.get_by_role("button", name="Deny").click()
    await view.locator("dialog[open]", has_text="I do not know you. <b>Your tap is on record.</b>").wait_for()
    await view.get_by_role("button", name="OK").click()
    await view.locator("dialog[open]").wait_for(state="detached")


async def test_a_command_is_typed_and_answered(view, bot, answering):
    await view.get_by_label("Message", exact=True).fill("/status")
    await view.keyboard.press("Enter")
    await view.locator(".message.bot", has_text="1 incident <open>").wait_for()
    await view.locator(".message.mine", has_text="/status").wait_for()


async def test_a_message_is_answered_by_reply(view, bot, world):
    card = await bot.send_message(GROUP, "Why deny?")
    await view.locator(".bubble", has_text="Why deny?").hover()
    await view.get_by_role("button", name="Reply").click()
    await view.get_by_label("Message", exact=True).fill("it is noise")
    await view.keyboard.press("Enter")
    await view.locator(".message.mine .quote", has_text="Why deny?").wait_for()
    (update,) = await bot.get_updates()
    assert update.message.reply_to_message.message_id == card.message_id


async def test_foreign_markup_is_shown_and_never_run(view, bot):
    await bot.send_message(GROUP, "<img src=x onerror=alert(1)> & <b>bold</b>")
    await view.locator(".bubble", has_text="<img src=x onerror=alert(1)> & <b>bold</b>").wait_for()
    assert await view.locator(".bubble img").count() == 0


async def test_whatsapp_has_its_own_window_and_quick_replies(view, world):
    twilio, number = world.twilio, world.whatsapp("rudo").number
    await view.get_by_role("button", name="WhatsApp").click()
    await view.get_by_text("24 h window closed").wait_for()
    await view.get_by_role("button", name="Open it").click()
    await view.get_by_text("24 h window open").wait_for()
    await twilio._travel(twilio._keep(f"whatsapp:{twilio.sender}", f"whatsapp:{number}", "Approval needed."))
    await view.locator(".message", has_text="Approval needed.").wait_for()
    await view.get_by_role("button", name="status").click()
    await view.locator(".message.mine", has_text="status").wait_for()


async def test_the_ledger_grows(view, rows, world):
    await open_pane(view, "Ledger")
    await view.get_by_text("Nothing has happened yet.").wait_for()
    rows.append(
        {
            "seq": 41,
            "stage": "AUTHORIZED",
            "event": "Authorized",
            "actor": "engineer",
            "reason": "<i>pool</i> exhausted",
            "receipt": "#41 · 7F3A-91C2-K0PM-XQ4T",
        }
    )
    row = view.locator("#ledger li")
    await row.wait_for()
    assert "<i>pool</i> exhausted" in await row.inner_text()
    assert "7F3A-91C2-K0PM-XQ4T" in await row.inner_text()


@BOTH
async def test_nothing_is_wider_than_the_screen(view, bot):
    await bot.send_message(GROUP, "x" * 600, reply_markup=keyboard())
    await view.locator(".message").wait_for()
    for pane in ("Shop", "Ledger", "Phone"):
        await open_pane(view, pane)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await view.evaluate(wide) == 0
    composer = await view.get_by_label("Message", exact=True).bounding_box()
    assert composer["y"] + composer["height"] <= view.viewport_size["height"]


async def open_pane(view, name: str) -> None:
    """On a small screen one pane is seen at a time."""
    tab = view.locator(".tabs").get_by_role("button", name=name)
    if await tab.is_visible():
        await tab.click()


async def test_models_and_a_flood_are_set_from_the_page(view, world):
    await open_pane(view, "Shop")
    await view.get_by_label("The two models").select_option("overloaded")
    await world.models.bell.until(lambda: world.models.scripts, 5)
    assert world.models.scripts["*"].behaviour == "overloaded"
    await view.get_by_role("button", name="flood").click()
    await view.locator("#toast:visible, #toast:not([hidden])").wait_for(state="attached")
    assert GROUP in world.telegram._flooded


async def test_a_foreign_host_or_a_missing_key_gets_nothing(page, world):
    base = page.url.split("?")[0]
    async with aiohttp.ClientSession() as session:
        for path, headers, status in [
            (f"?key={page.key}", {"Host": "evil.example"}, 403),
            (f"?key={page.key}", {"Host": "127.0.0.1.evil.example"}, 403),
            (f"?key={page.key}", {"Host": "localhost:1"}, 200),
            ("", {}, 403),
            ("?key=wrong", {}, 403),
            ("events?who=rudo", {}, 403),
            (f"events?who=nobody&key={page.key}", {}, 404),
            ("page.js", {}, 200),
            ("page.js", {"Host": "evil.example"}, 403),
        ]:
            async with session.get(base + path, headers=headers) as answer:
                assert answer.status == status, path
        async with session.post(base + "do", json={"verb": "models", "script": "hang"}) as answer:
            assert answer.status == 403
    assert world.models.scripts == {}


async def test_a_deed_that_cannot_be_done_says_why(page):
    headers = {"X-Page-Key": page.key}
    order = {"verb": "quick_reply", "who": "rudo", "message": "SM0", "title": "Approve"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(page.url.split("?")[0] + "do", json=order) as answer:
            assert (answer.status, await answer.json()) == (409, {"error": "'SM0'"})
        async with session.post(page.url.split("?")[0] + "do", json={"verb": "fly"}) as answer:
            assert answer.status == 404
        async with session.post(page.url.split("?")[0] + "do", json={"verb": "faults", "db": True}) as answer:
            assert (await answer.json())["error"] == "The shop was not started."
