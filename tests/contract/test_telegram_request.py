"""What goes over the wire to the Bot API is what python-telegram-bot was told."""

from contextlib import asynccontextmanager

from aiohttp import web
from telegram import Bot, InputFile

from bot.channels.telegram import AiohttpRequest
from bot.sandbox.loopback import serve

MESSAGE = {"message_id": 7, "date": 1, "chat": {"id": -5, "type": "group", "title": "acme"}}


@asynccontextmanager
async def asked(result):
    """A bot, and what it asked: the method, the kind of the body and its fields."""
    found = []

    async def take(request):
        fields = {name: _read(one) for name, one in (await request.post()).items()}
        found.append((request.path.rpartition("/")[2], request.content_type, fields))
        return web.json_response({"ok": True, "result": result})

    app = web.Application()
    app.router.add_post("/bot1:x/{method}", take)
    served, request = await serve(app), AiohttpRequest()
    try:
        yield Bot("1:x", f"{served.url}/bot", request=request, get_updates_request=request), found
    finally:
        await request.shutdown()
        await served.close()


async def test_words_go_as_a_form_whatever_is_in_them():
    text = "Rudo & Tendai = 100 % sure?\nRestart + undo ✅ äöü"
    async with asked(True) as (bot, found):
        assert await bot.answer_callback_query("7", text, show_alert=True)
    fields = {"callback_query_id": "7", "text": text, "show_alert": "true"}
    assert found == [("answerCallbackQuery", "application/x-www-form-urlencoded", fields)]


async def test_a_file_goes_whole_beside_its_words():
    async with asked(MESSAGE) as (bot, found):
        await bot.send_document(-5, InputFile(b"\x00\xff" * 300, "log.gz"), caption="a & b")
    [(method, kind, fields)] = found
    assert (method, kind) == ("sendDocument", "multipart/form-data")
    assert (fields["caption"], fields["chat_id"]) == ("a & b", "-5")
    assert ("log.gz", b"\x00\xff" * 300) in fields.values()


def _read(field):
    return (field.filename, field.file.read()) if isinstance(field, web.FileField) else field
