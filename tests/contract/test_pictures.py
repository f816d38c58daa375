"""Pictures on Telegram: what its server takes and refuses, and how our channel shows one and changes it."""

import io
import json
from pathlib import Path

import aiohttp
import pytest
from PIL import Image
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, InputFile, InputMediaDocument
from telegram import InputMediaPhoto as Photo
from telegram.error import BadRequest

from bot.channels.telegram import TelegramChannel
from bot.plot import draw
from bot.ports import Address, Gallery, Picture, SendError
from bot.sandbox.chats import User
from bot.sandbox.telegram import Telegram
from bot.tokens import Tokens
from ledger.clock import WallClock
from tests.charts import chart

pytestmark = pytest.mark.filterwarnings("ignore::telegram.warnings.PTBDeprecationWarning")

TOKEN = "100200:sandbox"
RUDO, GROUP = 1001, -100200300
TO_GROUP = Address("telegram", str(GROUP), "chat1")
SCHEMA = Path(__file__).parents[3] / "shared" / "specs" / "telegram_api_10.1.json"
ONE, OTHER = (Picture(draw(chart(marks=())), words) for words in ("checkout is well.", "checkout is sick."))


def png(width, height):
    out = io.BytesIO()
    Image.new("1", (width, height)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
async def server():
    telegram = Telegram(TOKEN)
    telegram.chats.add_person(User(RUDO, "Rudo", "rudo"))
    telegram.chats.add_group(GROUP, "acme on-call", {RUDO}, topics={7})
    await telegram.start()
    yield telegram
    await telegram.close()


@pytest.fixture
async def bot(server):
    async with Bot(TOKEN, base_url=f"{server.url}/bot") as bot:
        yield bot


@pytest.fixture
def channel(bot):
    return TelegramChannel(bot, Tokens(b"a secret of the operator, 32 bytes or more", WallClock()))


def stands(server, message):
    return server.chats.chats[GROUP].messages[int(message)]


# Telegram


@pytest.mark.skipif(not SCHEMA.exists(), reason="the published Bot API schema is not beside this repository")
async def test_a_photo_is_one_of_the_published_schema_and_tells_its_size(server, bot):
    sent = await bot.send_photo(GROUP, InputFile(ONE.png, "chart.png"), caption="well")
    [size] = server.chats.message_json(stands(server, sent.message_id))["photo"]
    fields = {f["name"]: f for f in json.loads(SCHEMA.read_text())["types"]["PhotoSize"]["fields"]}
    assert size.keys() <= fields.keys()
    assert {name for name, field in fields.items() if field["required"]} <= size.keys()
    assert (size["width"], size["height"], size["file_size"]) == (560, 407, len(ONE.png))


@pytest.mark.parametrize(
    ("photo", "says"),
    [
        (png(9_000, 1_001), "Photo_invalid_dimensions"),
        (png(2_100, 100), "Photo_invalid_dimensions"),
        (b"not a picture", "Image_process_failed"),
        (b"", "File must be non-empty"),
        ("photo-AQAD9999", "Wrong file identifier"),
    ],
)
async def test_what_is_no_photo_is_refused(bot, photo, says):
    with pytest.raises(BadRequest, match=says):
        await bot.send_photo(GROUP, InputFile(photo, "x.png") if isinstance(photo, bytes) else photo)


async def test_a_photo_is_sent_again_by_its_id(server, bot):
    first = await bot.send_photo(GROUP, InputFile(ONE.png, "chart.png"))
    again = await bot.send_photo(RUDO, first.photo[0].file_id)
    assert server.chats.chats[RUDO].messages[again.message_id].media.content == ONE.png


async def test_a_text_becomes_a_picture_and_never_a_text_again(server, bot):
    card = await bot.send_message(GROUP, "card")
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Approve", callback_data="v")]])
    about = {"chat_id": GROUP, "message_id": card.message_id}
    with pytest.raises(BadRequest, match="There is no caption in the message to edit"):
        await bot.edit_message_caption(caption="x", **about)
    changed = await bot.edit_message_media(Photo(ONE.png, caption="<b>card</b>", parse_mode="HTML"), **about)
    assert (changed.caption, changed.text) == ("card", None)
    await bot.edit_message_caption(caption="card, voted", reply_markup=keyboard, **about)
    assert stands(server, card.message_id).buttons()
    with pytest.raises(BadRequest, match="There is no text in the message to edit"):
        await bot.edit_message_text("card", **about)
    assert not server.chats.journal[-1].rings


async def test_an_edit_that_changes_nothing_is_told_and_another_upload_is_a_change(bot):
    sent = await bot.send_photo(GROUP, InputFile(ONE.png, "chart.png"), caption="well")
    about = {"chat_id": GROUP, "message_id": sent.message_id}
    with pytest.raises(BadRequest, match="Message is not modified"):
        await bot.edit_message_media(Photo(sent.photo[0].file_id, caption="well"), **about)
    await bot.edit_message_media(Photo(ONE.png, caption="well"), **about)


async def test_media_edits_are_refused_as_telegram_does(server, bot):
    sent = await bot.send_photo(GROUP, InputFile(ONE.png, "chart.png"))
    about = {"chat_id": GROUP, "message_id": sent.message_id}
    with pytest.raises(BadRequest, match="caption is too long"):
        await bot.edit_message_media(Photo(ONE.png, caption="x" * 1025), **about)
    with pytest.raises(BadRequest, match="Message to edit not found"):
        await bot.edit_message_media(Photo(ONE.png), chat_id=GROUP, message_id=999_999)
    with pytest.raises(BadRequest, match="Image_process_failed"):
        await bot.edit_message_media(Photo(b"no picture"), **about)
    await bot.edit_message_media(InputMediaDocument(b"PK", filename="x.zip"), **about)
    assert stands(server, sent.message_id).media.kind == "document"


@pytest.mark.parametrize(
    ("media", "says"),
    [
        (None, "can't parse input media JSON object"),
        ("no object", "can't parse input media JSON object"),
        ({"media": "x"}, "can't parse InputMedia: can't find field \"type\""),
        ({"type": "sticker", "media": "x"}, 'can\'t parse InputMedia: type "sticker" is unsupported'),
        ({"type": "photo"}, "can't parse InputMedia: media not found"),
        ({"type": "photo", "media": "attach://nothing"}, "there is no photo in the request"),
    ],
)
async def test_what_is_no_input_media_is_refused(server, media, says):
    about = {"chat_id": GROUP, "message_id": 1, "media": json.dumps(media)}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/bot{TOKEN}/editMessageMedia", json=about) as answer,
    ):
        assert (await answer.json())["description"] == f"Bad Request: {says}"


# our channel


def test_telegram_is_a_gallery(channel):
    assert isinstance(channel, Gallery)


async def test_a_picture_comes_without_a_sound_as_a_reply_with_its_sentence(server, channel, bot):
    card = await bot.send_message(GROUP, "card")
    shown = stands(server, await channel.show(TO_GROUP, ONE, reply_to=str(card.message_id)))
    assert (shown.media.content, shown.text) == (ONE.png, ONE.alt)
    assert (shown.silent, shown.reply_to) == (True, card.message_id)
    assert shown.media.type == "image/png"


async def test_it_is_changed_in_place_and_the_same_again_is_no_error(server, channel):
    message = await channel.show(TO_GROUP, ONE)
    rung = [h for h in server.chats.journal if h.rings]
    assert await channel.show(TO_GROUP, OTHER, message=message) == message
    assert await channel.show(TO_GROUP, OTHER, message=message) == message
    assert (stands(server, message).text, stands(server, message).media.content) == (OTHER.alt, OTHER.png)
    assert [h for h in server.chats.journal if h.rings] == rung == []


async def test_a_sentence_that_is_too_long_is_cut(server, channel):
    message = await channel.show(TO_GROUP, Picture(ONE.png, "😀" * 2_000))
    assert len(stands(server, message).text.encode("utf-16-le")) // 2 <= 1024


async def test_it_goes_into_its_topic_and_without_one_that_is_gone(server, channel):
    for topic, wanted in ((7, 7), (8, None)):
        there = Address("telegram", str(GROUP), "chat1", topic=topic)
        assert stands(server, await channel.show(there, ONE)).thread == wanted


async def test_what_telegram_says_becomes_what_the_outbox_understands(server, channel):
    message = await channel.show(TO_GROUP, ONE)
    del server.chats.chats[GROUP].messages[int(message)]
    with pytest.raises(SendError) as gone:
        await channel.show(TO_GROUP, OTHER, message=message)
    assert gone.value.gone
    with pytest.raises(SendError) as refused:
        await channel.show(TO_GROUP, Picture(b"no picture", "x"))
    assert refused.value.permanent
    server.flood(GROUP, 7)
    with pytest.raises(SendError) as flooded:
        await channel.show(TO_GROUP, ONE)
    assert flooded.value.retry_after_s >= 6
