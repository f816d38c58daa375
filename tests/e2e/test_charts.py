"""The whole program draws: a quiet picture under the card, changed in place until all is over."""

import pytest

from tests.charts import look, says
from tests.stages import CARD_S, END_S, an_incident, answered, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("charts")]

LIMIT = 20_000


def shown_in(telegram, chat):
    """The pictures that stand in *chat*."""
    return [one for one in telegram.chats.chats[chat].messages.values() if one.media]


async def test_the_picture_tells_the_story_to_its_end_and_no_card_waits_for_it():
    async with an_incident() as (scene, books):
        rudo, telegram = scene.phone("rudo"), scene.stage.world.telegram
        first = await rudo.expects_picture("checkout", "opened", within=CARD_S)
        assert len(first.content) <= LIMIT
        rings = rudo.rings

        telegram.hang("editMessageMedia")
        answered(await scene.taps("rudo", "Approve"), "Approved")
        await until(
            lambda: any(call.refusal == "hangs" for call in telegram.calls), "a picture is on its way", END_S
        )
        await rudo.expects("checkout recovered", END_S)
        telegram.unhang()

        last = await rudo.expects_picture("opened", "approved", "ran", "recovered", within=END_S)
        assert len(last.content) <= LIMIT
        assert rudo.rings == rings, "neither the pictures nor the good news made a sound"
        for chat in (chat.id for chat in telegram.chats.seen_by(rudo.user_id)):
            [message] = shown_in(telegram, chat)
            assert message.silent
            assert "checkout" in telegram.chats.chats[chat].messages[message.reply_to].text
            await until(
                lambda chat=chat: "recovered" in shown_in(telegram, chat)[0].text, "it is up to date", END_S
            )
            picture = shown_in(telegram, chat)[0].media.content
            assert says(picture) == shown_in(telegram, chat)[0].text
            assert look(picture).width == 560
        await books.balance()

        private = rudo.in_private.forgets()
        await private.sends("/status checkout")
        (await private.expects("✅ checkout:", END_S)).says("checkout-1 since", "Gauges: db_pool")
        await private.expects_picture("checkout", "recovered", within=END_S)
        whatsapp = scene.stage.world.whatsapp("rudo")
        await whatsapp.sends("status checkout")
        await whatsapp.expects("checkout: p95", END_S)
