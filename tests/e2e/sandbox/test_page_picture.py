"""A chart on the phone's page: it is seen, says what it shows, and changes in place."""

import pytest
from telegram import InputMediaPhoto

from bot.plot import draw
from bot.sandbox.world import GROUP
from tests.charts import chart
from tests.e2e.sandbox.test_page import browser, page, rows, size, view

__all__ = ["browser", "page", "rows", "size", "view"]

pytestmark = pytest.mark.xdist_group("browser")


async def test_a_picture_is_seen_says_what_it_shows_and_changes_in_place(view, bot):
    sent = await bot.send_photo(GROUP, draw(chart(marks=())), "checkout is well", disable_notification=True)
    first = view.get_by_alt_text("checkout is well")
    await first.wait_for()
    await view.wait_for_function("document.querySelector('.bubble img').naturalWidth === 560")
    assert await view.locator("#phone.rings").count() == 0
    before = await first.get_attribute("src")

    media = InputMediaPhoto(draw(chart()), "checkout is sick")
    await bot.edit_message_media(media, GROUP, sent.message_id)
    second = view.get_by_alt_text("checkout is sick")
    await second.wait_for()
    assert await second.get_attribute("src") != before
    await view.wait_for_function("document.querySelector('.bubble img').naturalHeight === 497")
    assert await view.locator(".message").count() == 1
