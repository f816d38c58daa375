"""The files that Telegram is sent: which it takes as a photo, which it knows again, and in which words it
refuses the others.

A PNG tells its own size. Other pictures are taken as they are, as long as they begin like one.

Sources: core.telegram.org/bots/api#sendphoto and #inputmedia; words from tdlib/telegram-bot-api `Client.cpp`.
"""

import struct
from dataclasses import replace
from typing import Any

from bot.sandbox.chats import Json, Media, Refused

MOST_FILE_BYTES, MOST_PHOTO_BYTES = 50 * 2**20, 10 * 2**20
MOST_SIDES, MOST_RATIO = 10_000, 20
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
UNTOLD = (1280, 1280)
KINDS = ("photo", "document")
BROKEN = "Bad Request: can't parse InputMedia: "


class Files:
    """Every file that was sent, by the id that sends it again."""

    def __init__(self) -> None:
        self._known: dict[str, Media] = {}

    def sent(self, kind: str, file: Media | None, value: Any) -> Media:
        """What a call sends: the *file* that came with it, or one known by its id; raises Refused."""
        if file is None:
            return self._again(kind, str(value or ""))
        if not file.content:
            raise Refused("Bad Request: file must be non-empty")
        if len(file.content) > MOST_FILE_BYTES:
            raise Refused("Request Entity Too Large", 413)
        size = photo_size(file.content) if kind == "photo" else (0, 0)
        media = replace(file, kind=kind, size=size, unique=f"AQAD{len(self._known):04}")
        self._known[media.id] = media
        return media

    def _again(self, kind: str, value: str) -> Media:
        if not value or "://" in value:  # nothing is fetched here
            raise Refused(f"Bad Request: there is no {kind} in the request")
        known = self._known.get(value)
        if known is None or known.kind != kind:
            raise Refused("Bad Request: wrong file identifier/HTTP URL specified")
        return known


def photo_size(content: bytes) -> tuple[int, int]:
    """Width and height of a photo that Telegram takes; raises Refused for another."""
    if len(content) > MOST_PHOTO_BYTES:
        raise Refused(
            f"Bad Request: file of size {len(content)} bytes is too big for a photo; "
            f"the maximum size is {MOST_PHOTO_BYTES} bytes"
        )
    if content.startswith(JPEG):
        return UNTOLD
    if not content.startswith(PNG) or len(content) < 24:
        raise Refused("Bad Request: IMAGE_PROCESS_FAILED")
    width, height = struct.unpack(">II", content[16:24])
    if width + height > MOST_SIDES or max(width, height) > MOST_RATIO * min(width, height):
        raise Refused("Bad Request: PHOTO_INVALID_DIMENSIONS")
    return width, height


def input_media(told: Any) -> Json:
    """The InputMedia of a call; raises Refused for what cannot be one."""
    if not isinstance(told, dict):
        raise Refused("Bad Request: can't parse input media JSON object")
    if "type" not in told:
        raise Refused(BROKEN + 'can\'t find field "type"')
    if told["type"] not in KINDS:
        raise Refused(BROKEN + f'type "{told["type"]}" is unsupported')
    if not isinstance(told.get("media"), str) or not told["media"]:
        raise Refused(BROKEN + "media not found")
    return told
