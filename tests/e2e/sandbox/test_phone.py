"""The sentences that plays are written in: what comes true, and what is said when it does not."""

import asyncio

import pytest
from telegram import InlineKeyboardButton, InlineKeyboardMarkup
from telegram.ext import ApplicationBuilder, CallbackQueryHandler

from bot.sandbox.phone import Unmet
from bot.sandbox.world import GROUP, RUDO, STRANGER


def keyboard(*labels: str) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup([[InlineKeyboardButton(x, callback_data=f"v|{x}") for x in labels]])


@pytest.fixture
async def answering(bot):
    """A bot that approves what Rudo taps and refuses the rest."""

    async def tapped(update, _):
        query = update.callback_query
        known = query.from_user.id == RUDO
        await query.answer("Approved" if known else "I do not know you.", show_alert=not known)
        if known:
            await query.edit_message_text("checkout recovered")

    application = ApplicationBuilder().bot(bot).build()
    application.add_handler(CallbackQueryHandler(tapped))
    async with application:
        await application.start()
        await application.updater.start_polling(timeout=1)
        yield application
        await application.updater.stop()
        await application.stop()


async def test_a_card_is_read_tapped_and_answered(world, bot, answering):
    rudo = world.phone("rudo")
    await bot.send_message(GROUP, "checkout is failing", reply_markup=keyboard("Approve: restart", "Deny"))
    card = (await rudo.expects_card("checkout")).says("failing").offers("Approve", "Deny")
    answer = await rudo.taps("approve")
    assert (answer.text, answer.alert) == ("Approved", False)
    await card.becomes("recovered")
    card.offers_nothing().does_not_say("failing")
    assert rudo.answers == [answer]


async def test_a_stranger_is_told_that_nobody_knows_them(world, bot, answering):
    await bot.send_message(GROUP, "checkout is failing", reply_markup=keyboard("Approve"))
    answer = await world.phone("stranger").taps("Approve")
    assert (answer.text, answer.alert, answer.user_id) == ("I do not know you.", True, STRANGER)


async def test_a_button_that_is_gone_can_still_be_pressed(world, bot, answering):
    await bot.send_message(GROUP, "checkout", reply_markup=keyboard("Approve"))
    rudo = world.phone("rudo")
    await rudo.expects_card("checkout")
    old = rudo.sees("Approve")
    await rudo.taps("Approve")
    await rudo.expects("recovered")
    assert (await old.again()).text == "Approved"


async def test_what_does_not_come_is_told_with_what_was_there(world, bot):
    await bot.send_message(GROUP, "checkout is failing", reply_markup=keyboard("Deny"))
    rudo = world.phone("rudo")
    with pytest.raises(Unmet, match=r"rudo did not see 'recovered', but:\ncheckout is failing\n   Deny"):
        await rudo.expects("recovered", within=0.05)
    with pytest.raises(Unmet, match="a button 'Approve'"):
        await rudo.taps("Approve", within=0.05)
    with pytest.raises(Unmet, match="was not answered"):
        await rudo.presses(rudo.sees("Deny").message, "v|Deny", within=0.05)


async def test_who_forgets_expects_only_what_is_new(world, bot):
    first = await bot.send_message(GROUP, "1 incident is open")
    rudo = world.phone("rudo")
    await rudo.expects("open")
    rudo.forgets()
    with pytest.raises(Unmet):
        await rudo.expects("open", within=0.05)
    await bot.edit_message_text("2 incidents are open", GROUP, first.message_id)
    (await rudo.expects("open")).says("2 incidents")
    assert rudo.history() == ["1 incident is open", "2 incidents are open"]
    rudo.never_read("3 incidents")


async def test_a_phone_rings_for_a_new_message_and_not_for_a_silent_one_or_an_edit(world, bot):
    rudo, private = world.phone("rudo"), world.phone("rudo").in_private
    sent = await bot.send_message(GROUP, "failing")
    await bot.send_message(RUDO, "quiet", disable_notification=True)
    await bot.edit_message_text("still failing", GROUP, sent.message_id)
    assert (rudo.rings, private.rings) == (1, 0)


async def test_a_private_chat_is_not_seen_by_others(world, bot):
    await bot.send_message(RUDO, "for Rudo alone")
    await world.phone("rudo").in_private.expects("for Rudo alone")
    world.phone("tendai").never_read("for Rudo alone")
    world.phone("rudo").in_chat(GROUP).never_read("for Rudo alone")


async def test_words_go_where_the_phone_looks(world, bot):
    card = await bot.send_message(GROUP, "why deny?")
    rudo = world.phone("rudo")
    await rudo.sends("/status")
    await rudo.in_chat(GROUP).sends("/status")
    await rudo.sends("because", reply_to=await rudo.expects("why deny?"))
    await rudo.opens("code7")
    seen = [u.message for u in await bot.get_updates()]
    assert [(m.chat.id, m.text) for m in seen] == [
        (RUDO, "/status"),
        (GROUP, "/status"),
        (GROUP, "because"),
        (RUDO, "/start code7"),
    ]
    assert seen[2].reply_to_message.message_id == card.message_id


async def test_an_expectation_is_met_the_moment_it_comes_true(world, bot):
    rudo = world.phone("rudo")
    waiting = asyncio.create_task(rudo.expects_card("checkout", within=10))
    await bot.send_message(GROUP, "checkout without buttons")
    await bot.send_message(GROUP, "checkout", reply_markup=keyboard("Approve"))
    (await waiting).offers("Approve")


async def test_whatsapp_shows_only_what_arrived(world):
    rudo = world.whatsapp("rudo")
    twilio = world.twilio
    lost = twilio._keep(f"whatsapp:{twilio.sender}", f"whatsapp:{rudo.number}", "free text")
    await twilio._travel(lost)
    rudo.never_read("free text")
    twilio.open_window(rudo.number)
    await twilio._travel(
        twilio._keep(f"whatsapp:{twilio.sender}", f"whatsapp:{rudo.number}", "in the window")
    )
    card = await rudo.expects("in the window")
    await rudo.sends("RUN", reply_to=card)
    assert [t.reply_to for t in twilio.texts.values() if t.inbound] == [card.key[0]]
