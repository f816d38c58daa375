"""Where apps push that nobody can reach: the door, and the shelf on which pushes are kept.

1. `POST /ingest/{tenant}/{service}` wants the token that the charter's `push` names, compared in constant
   time. An unknown tenant, an unknown service and a wrong token get one answer.
2. 200 means: kept. What is no push is refused with what is wrong with it; what cannot be kept now with 503.
3. A second of a worker is written once, whatever comes later; the newest number tells the present. So what
   comes twice, late, or out of order changes nothing. What a worker said ends two minutes after its last.
"""

import asyncio
import logging
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from bot.doors import Door
from bot.ingress import whole_body
from handlers.adapters.pushed import Kept, Shelf
from handlers.headers import bears
from ledger.redis_store import Commands
from ledger.store import StoreDown
from sdk import parcel, wire
from sdk.together import Word
from sdk.word import read_head, read_second, word_of

log = logging.getLogger(__name__)

MOST_BODY = 2**20
MOST_WORKERS = 64
FORGET_MS = 120_000
REMEMBERED_MS = 7 * 86_400_000
AGAIN = {"Retry-After": "2"}

PUT = """
local worker, number, oldest, through, now = ARGV[1], tonumber(ARGV[2]), ARGV[4], ARGV[5], tonumber(ARGV[6])
local others, seen = 0, redis.call('HGETALL', KEYS[1])
for i = 1, #seen, 2 do
  if seen[i] ~= worker then
    if now - tonumber(seen[i + 1]) > tonumber(ARGV[7]) then redis.call('HDEL', KEYS[1], seen[i])
    else others = others + 1 end
  end
end
if others >= tonumber(ARGV[8]) then return 0 end
local before = redis.call('HMGET', KEYS[2], 'number', 'oldest', 'through')
if before[1] and number <= tonumber(before[1]) then
  oldest, through = before[2], before[3]
else
  redis.call('HSET', KEYS[2], 'number', ARGV[2], 'head', ARGV[3], 'oldest', oldest, 'through', through)
  for _, t in ipairs(redis.call('HKEYS', KEYS[2])) do
    local at = tonumber(t)
    if at and (at < tonumber(oldest) or at > tonumber(through)) then redis.call('HDEL', KEYS[2], t) end
  end
  redis.call('HSET', KEYS[1], worker, ARGV[6])
  redis.call('SET', KEYS[3], ARGV[6], 'PX', ARGV[9])
end
for i = 10, #ARGV, 2 do
  local at = tonumber(ARGV[i])
  if at >= tonumber(oldest) and at <= tonumber(through) then
    redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
return 1
"""


class RedisShelf:
    """`pushed.Shelf` in `bot:{tenant}:pushed:<service>`: its workers, a hash for each, the last arrival."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands

    async def put(self, tenant: str, service: str, parcel: parcel.Parcel, now_ms: int) -> bool:
        key = _key(tenant, service)
        lines = [part for t, line in parcel.lines.items() for part in (t, zlib.compress(line, 1))]
        told = (parcel.worker, parcel.number, parcel.head, parcel.oldest, parcel.word.through, now_ms)
        bounds = (FORGET_MS, MOST_WORKERS, REMEMBERED_MS)
        keys = (key, f"{key}:{parcel.worker}", f"{key}#last")
        return bool(await self._redis("EVAL", PUT, 3, *keys, *told, *bounds, *lines))

    async def read(self, tenant: str, service: str, known: Mapping[str, Word], now_ms: int) -> Kept:
        key = _key(tenant, service)
        last = await self._redis("GET", f"{key}#last")
        arrived: Mapping[bytes, bytes] = await self._redis("HGETALL", key)
        words: dict[str, Word] = {}
        for name, at_ms in arrived.items():
            worker = name.decode()
            if now_ms - int(at_ms) <= FORGET_MS:
                word = await self._word(f"{key}:{worker}", known.get(worker))
                words |= {worker: word} if word else {}
        return Kept(words, int(last or 0))

    async def _word(self, key: str, known: Word | None) -> Word | None:
        head: bytes | None = await self._redis("HGET", key, "head")
        if head is None:
            return None
        fields: Sequence[bytes] = await self._redis("HKEYS", key)
        index = sorted(int(field) for field in fields if field.isdigit())
        had = {} if known is None else known.seconds
        missing = [t for t in index if t not in had]
        lines: Sequence[bytes | None] = await self._redis("HMGET", key, *missing) if missing else ()
        return await asyncio.to_thread(_read, head, index, had, dict(zip(missing, lines, strict=True)))


def _read(
    head: bytes, index: Sequence[int], had: Mapping[int, Any], lines: Mapping[int, bytes | None]
) -> Word:
    """The word of what was checked when it came."""
    new = {t: read_second(t, zlib.decompress(line)) for t, line in lines.items() if line}
    return word_of(
        read_head(head), {t: had[t] if t in had else new[t] for t in index if t in had or t in new}
    )


def _key(tenant: str, service: str) -> str:
    return f"bot:{{{tenant}}}:pushed:{service}"


class PushDoor(Door[Shelf]):
    """Takes pushes in."""

    path = "/ingest/{tenant}/{service}"

    async def take(self, request: web.Request) -> web.Response:
        """`POST /ingest/{tenant}/{service}`."""
        tenant, service = request.match_info["tenant"], request.match_info["service"]
        if not self._is_entitled(tenant, service, request.headers.get("Authorization", "")):
            raise web.HTTPUnauthorized(text="This is not the token of a service that pushes here.")
        found = await self._parcel(request)
        try:
            kept = await self._shelf.put(tenant, service, found, self._now_ms())
        except StoreDown as down:
            log.warning("A push of %s could not be kept: %s", service, down)
            raise web.HTTPServiceUnavailable(text="It cannot be kept now.", headers=AGAIN) from None
        if not kept:
            text = f"More than {MOST_WORKERS} workers push for {service}."
            raise web.HTTPTooManyRequests(text=text, headers=AGAIN)
        return web.json_response({"number": found.number})

    async def _parcel(self, request: web.Request) -> parcel.Parcel:
        raw = await whole_body(request, MOST_BODY)
        try:
            return await asyncio.to_thread(parcel.unpack, raw)
        except wire.Malformed as malformed:
            raise web.HTTPBadRequest(text=f"This is no push: {malformed}.") from None

    def _is_entitled(self, tenant: str, service: str, authorization: str) -> bool:
        """Whether it is the service's token."""
        charter = self._charter(tenant)
        found = charter.service(service) if charter else None
        return bears(authorization, self._secret(found.push if found else None))
