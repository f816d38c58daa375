"""What we remember about WhatsApp, in Redis: who may be written to, what we sent, what became of it.

1. The 24 hours belong to a number, not to a tenant: whoever writes, writes to our one sender.
2. What a message of ours offers is kept for 35 days, so that an old button or a swipe still finds its
   request. Whether it still counts is the ledger's.
3. A message only moves on: queued, sent, delivered, read. Failed and undelivered are its end. Callbacks come
   in any order, and before our own call has returned.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from bot.channels.whatsapp_contents import Offer
from bot.ports import Verb
from ledger.clock import Clock
from ledger.redis_store import Commands
from ledger.view import epoch_ms

WINDOW_MS = 24 * 3_600_000 - 60_000
"""A minute less than WhatsApp gives: a message must arrive inside."""
KEPT_S = 35 * 86_400
RANKS = {
    "accepted": 1, "scheduled": 1, "queued": 1, "sending": 1, "sent": 2, "delivered": 3, "read": 4,
    "undelivered": 5, "failed": 5, "canceled": 5,
}  # fmt: skip
FAILED = frozenset({"failed", "undelivered", "canceled"})

MOVE = """
if tonumber(redis.call('HGET', KEYS[1], 'rank') or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'rank', ARGV[1], 'status', ARGV[2], 'error', ARGV[3], 'at_ms', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
"""
FIRST = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then return 1 end
return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of ours that somebody may answer: whose it is, what it is about, what it offers."""

    tenant: str
    number: str
    incident: str = ""
    recipient: str = ""
    offers: tuple[Offer, ...] = ()
    codes: tuple[str, ...] = ()


class Book:
    """Everything of it that all processes share. Each call raises StoreDown where Redis does not answer."""

    def __init__(self, commands: Commands, clock: Clock) -> None:
        self._redis = commands
        self._clock = clock

    # who may be written to

    async def heard(self, number: str, at_ms: int) -> None:
        """*number* wrote at that time. Whoever's 24 hours are over is forgotten."""
        await self._redis("ZADD", "bot:{wa}:heard", "GT", at_ms, number)
        await self._redis("ZREMRANGEBYSCORE", "bot:{wa}:heard", "-inf", self._now_ms() - WINDOW_MS)

    async def may_write(self, number: str) -> bool:
        """Whether *number* wrote within its 24 hours, so that anything may be sent to it."""
        at_ms = await self._redis("ZSCORE", "bot:{wa}:heard", number)
        return at_ms is not None and float(at_ms) + WINDOW_MS > self._now_ms()

    async def shut(self, number: str) -> None:
        """WhatsApp says that the 24 hours of *number* are over."""
        await self._redis("ZREM", "bot:{wa}:heard", number)

    async def stop(self, number: str) -> None:
        """*number* wants no more messages."""
        await self._redis("SADD", "bot:{wa}:stopped", number)

    async def resume(self, number: str) -> bool:
        """*number* wants them again; whether it had stopped them."""
        return bool(await self._redis("SREM", "bot:{wa}:stopped", number))

    async def stopped(self, number: str) -> bool:
        return bool(await self._redis("SISMEMBER", "bot:{wa}:stopped", number))

    async def first(self, what: str, sid: str, seconds: int) -> bool:
        """Whether *sid* is the first for *what* in so many seconds; asked again for it, it still is."""
        return bool(await self._redis("EVAL", FIRST, 1, f"bot:{{wa}}:first:{what}", sid, seconds))

    # what we sent

    async def keep(self, sid: str, sent: Sent) -> None:
        """Remember a message, and that it is the newest card of its number."""
        await self._redis("SET", f"bot:{{wa}}:sent:{sid}", orjson.dumps(asdict(sent)), "EX", KEPT_S)
        if sent.incident:
            await self._redis("SET", f"bot:{{wa}}:last:{sent.number}", sid, "EX", KEPT_S)

    async def sent(self, sid: str, number: str) -> Sent | None:
        """The message *sid*, where it is ours and went to *number*."""
        kept: bytes | None = await self._redis("GET", f"bot:{{wa}}:sent:{sid}") if sid else None
        found = _read(orjson.loads(kept)) if kept else None
        return found if found and found.number == number else None

    async def newest(self, number: str) -> Sent | None:
        """The newest card that went to *number*."""
        sid: bytes | None = await self._redis("GET", f"bot:{{wa}}:last:{number}")
        return await self.sent(sid.decode(), number) if sid else None

    async def move(self, sid: str, status: str, error: str) -> bool:
        """A message has reached *status*; whether that was news."""
        about = (RANKS.get(status, 0), status, error, self._now_ms(), KEPT_S)
        return bool(await self._redis("EVAL", MOVE, 1, f"bot:{{wa}}:state:{sid}", *about))

    async def state(self, sid: str) -> tuple[str, str]:
        """How far a message has come, and the error that ended it; empty where nothing is known."""
        status, error = await self._redis("HMGET", f"bot:{{wa}}:state:{sid}", "status", "error")
        return (status or b"").decode(), (error or b"").decode()

    # contents

    async def content(self, digest: str) -> str:
        """The sid of a content by what it says; empty where none was made."""
        kept: bytes | None = await self._redis("HGET", "bot:{wa}:contents", digest)
        return kept.decode() if kept else ""

    async def keep_content(self, digest: str, sid: str) -> None:
        await self._redis("HSET", "bot:{wa}:contents", digest, sid)

    async def forget_contents(self) -> None:
        """One of them is not there any more: all are looked up again."""
        await self._redis("DEL", "bot:{wa}:contents")

    def _now_ms(self) -> int:
        return epoch_ms(self._clock.now())


def _read(kept: dict[str, Any]) -> Sent:
    return Sent(**kept | {"offers": tuple(_offers(kept["offers"])), "codes": tuple(kept["codes"])})


def _offers(kept: Iterable[dict[str, str]]) -> Iterable[Offer]:
    return (Offer(one["title"], Verb(one["verb"]), one["anchor"], one["option"]) for one in kept)
