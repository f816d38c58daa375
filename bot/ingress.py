"""What arrives from vendors: stored durably before it is acknowledged, handled at least once, then removed.

1. `put` stores an update and remembers its id in one step, on disk before the vendor is told 200. The same
   id again is no news. What comes while others are being stored goes with the next, in one step as well.
2. A consumer group hands it to one process. When that one dies, another takes it over after 15 s.
3. What has been handled leaves the stream. What fails is tried five times, then its sender is told, and it
   is parked in `bot:{updates}:bad`: a bad update is answered and recorded, never retried for ever.
4. Updates of one chat, and taps of one person, are handled in the order in which they came.
5. While Redis is away a tap is answered at once, "not run", and that holds: should it have been stored after
   all, it is dropped. So is /status, from memory. Another message is refused, and its vendor sends it again.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import batched
from typing import Any, Protocol

import orjson
from aiohttp import web

from bot.ports import SendError
from bot.together import Together
from handlers.headers import same
from ledger.clock import Clock
from ledger.events import Act
from ledger.redis_store import Commands
from ledger.store import StoreDown
from ledger.view import epoch_ms

log = logging.getLogger(__name__)

UPDATES = "bot:{updates}"
BAD = "bot:{updates}:bad"
GROUP = "bot"
REMEMBERED_S = 48 * 3600
IDLE_S = 15.0
DELIVERIES = 5
AT_ONCE = 32
IN_HAND = 128
GRACE_S = 5.0
BODY_S = 10.0
PUT_S = 1.2
PUT_AGAIN_S = 0.05
BLOCK_MS = 1_000
DEAD_MS = 3_600_000
MOST_PARKED = 1_000
MOST_REMEMBERED = 4_096
MOST_BODY = 2**20
MOST_TOGETHER = 2**18
"""Bytes of updates that are stored in one step; a longer one goes alone."""
MOST_REMOVED = 512
ASKS_STATUS = re.compile(r"/status(@\w+)?\s*$")
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105  the header's name, not a secret

PUT = """
local stored, fields = {}, 8
for n = 2, #KEYS do
  local from = 2 + (n - 2) * fields
  if redis.call('SET', KEYS[n], '1', 'NX', 'EX', ARGV[1]) then
    redis.call('XADD', KEYS[1], '*', unpack(ARGV, from, from + fields - 1))
    stored[n - 1] = 1
  else
    stored[n - 1] = 0
  end
end
return stored
"""
TAKE_OVER = """
local taken = {}
for _, late in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4])) do
  local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], late[1])[1]
  if entry then table.insert(taken, {entry[1], entry[2], late[4] + 1}) end
end
return taken
"""
FORGET_THE_DEAD = """
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local one = {}
  for i = 1, #flat, 2 do one[flat[i]] = flat[i + 1] end
  if one.pending == 0 and one.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], one.name)
  end
end
"""
REMOVE = """
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
"""
PARK = """
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', unpack(ARGV, 4))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[2])
"""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One update as it was stored: *raw* is exactly what came, *meta* what we noted beside it.

    `meta["order"]` names the queue whose updates are handled one after the other. *deliveries* counts from 1.
    """

    kind: str
    id: str
    raw: bytes
    meta: Mapping[str, str]
    entry: str = ""
    deliveries: int = 1


class Receiver(Protocol):
    """Who handles updates of one kind."""

    async def handle(self, arrived: Arrived) -> None:
        """Do what it asks; safe to be run again. Whatever it raises means: not done, ask again later."""

    async def give_up(self, arrived: Arrived) -> None:
        """Tell its sender that it could not be handled and will not be tried again."""


@dataclass(slots=True)
class _Hand:
    """What this process is working on: tasks, and the last one of each queue."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    last: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    less: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, order: str, task: asyncio.Task[None]) -> None:
        self.tasks.add(task)
        self.last[order] = task
        task.add_done_callback(lambda done: self._remove(order, done))

    def _remove(self, order: str, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.less.set()
        if self.last.get(order) is task:
            del self.last[order]

    async def until_free(self, most: int) -> None:
        """Where there are *most*, wait until half of them are done, so that many are read at once."""
        if len(self.tasks) >= most:
            while len(self.tasks) > most // 2:
                self.less.clear()
                await self.less.wait()


class Inbox:
    """The durable inbox on Redis. *consumer* is this process's name and is never used by another."""

    def __init__(
        self, commands: Commands, consumer: str, *, idle_s: float = IDLE_S, put_s: float = PUT_S
    ) -> None:
        self._redis = commands
        self._consumer = consumer
        self._idle_s = idle_s
        self._handle_s = idle_s * 2 / 3
        self._put_s = put_s
        self._disowned: dict[tuple[str, str], None] = {}
        self._begun: dict[tuple[str, str], None] = {}
        self._free = asyncio.Semaphore(AT_ONCE)
        self._puts = Together(self._put, MOST_TOGETHER, _weight)
        self._removals = Together(self._remove, MOST_REMOVED, lambda entry: 1)

    async def put(self, kind: str, id: str, raw: bytes, meta: Mapping[str, str]) -> bool:
        """Store an update; False if it is here already. Raises StoreDown, then it may be stored or not.

        A server that is just being started again is waited for: a tap need not be lost to that.
        """
        arrived = Arrived(kind, id, raw, meta)
        why = "it does not answer"
        try:
            async with asyncio.timeout(self._put_s):
                while True:
                    try:
                        return await self._puts.ask(arrived)
                    except StoreDown as down:
                        why = str(down)
                    await asyncio.sleep(PUT_AGAIN_S)
        except TimeoutError:
            raise StoreDown(f"Redis did not store an update within {self._put_s} s: {why}") from None

    async def _put(self, updates: Sequence[Arrived]) -> list[bool]:
        seen = [f"{UPDATES}:seen:{one.kind}:{one.id}" for one in updates]
        fields = [part for one in updates for part in _fields(one)]
        ask = (PUT, 1 + len(seen), UPDATES, *seen, REMEMBERED_S, *fields)
        return [bool(stored) for stored in await self._redis("EVAL", *ask)]

    def disown(self, kind: str, id: str) -> bool:
        """This update is answered as not run: should it be in the stream, it is dropped.

        False where it is being handled here already, so that this would not be true.
        """
        if (kind, id) in self._begun:
            return False
        _remember(self._disowned, (kind, id))
        return True

    def own(self, kind: str, id: str) -> None:
        """Take `disown` back."""
        self._disowned.pop((kind, id), None)

    async def run(self, receivers: Mapping[str, Receiver]) -> None:
        """Hand updates to *receivers*, by kind, until cancelled; then finish what is in hand within 5 s."""
        hand = _Hand()
        try:
            while True:
                try:
                    await self._read(receivers, hand)
                except StoreDown as error:
                    log.warning("The inbox cannot be read: %s", error)
                    await asyncio.sleep(1)
        finally:
            await self._finish(hand)

    async def parked(self) -> int:
        """How many updates were given up."""
        return int(await self._redis("XLEN", BAD))

    async def waiting(self) -> int:
        """How many updates are stored and not yet handled."""
        return int(await self._redis("XLEN", UPDATES))

    async def _read(self, receivers: Mapping[str, Receiver], hand: _Hand) -> None:
        await self._make_group()
        sweep_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await hand.until_free(IN_HAND)
            if loop.time() >= sweep_at:
                self._start(await self._late(), receivers, hand)
                sweep_at = loop.time() + self._idle_s / 3
            self._start(await self._new(IN_HAND - len(hand.tasks)), receivers, hand)

    async def _make_group(self) -> None:
        try:
            await self._redis("XGROUP", "CREATE", UPDATES, GROUP, "0", "MKSTREAM")
        except StoreDown as error:
            if "BUSYGROUP" not in str(error):
                raise
        await self._redis("EVAL", FORGET_THE_DEAD, 1, UPDATES, GROUP, DEAD_MS)

    async def _new(self, count: int) -> list[Arrived]:
        if count <= 0:
            return []
        block = min(BLOCK_MS, int(self._idle_s * 1000 / 3))
        ask = ("GROUP", GROUP, self._consumer, "COUNT", count, "BLOCK", block, "STREAMS", UPDATES, ">")
        streams: Sequence[Any] = await self._redis("XREADGROUP", *ask) or ()
        return [_arrived(entry, fields, 1) for _, entries in streams for entry, fields in entries if fields]

    async def _late(self) -> list[Arrived]:
        """What somebody took and did not finish, this process included. It is ours now."""
        idle_ms = int(self._idle_s * 1000)
        taken: Sequence[Any] = await self._redis(
            "EVAL", TAKE_OVER, 1, UPDATES, GROUP, self._consumer, idle_ms, IN_HAND
        )
        return [_arrived(entry, dict(batched(flat, 2)), count) for entry, flat, count in taken if flat]

    def _start(self, arrived: Sequence[Arrived], receivers: Mapping[str, Receiver], hand: _Hand) -> None:
        for one in arrived:
            order = f"{one.kind}:{one.meta.get('order') or one.id}"
            work = self._one(one, receivers.get(one.kind), hand.last.get(order))
            hand.add(order, asyncio.create_task(work, name=f"update-{order}"))

    async def _one(
        self, arrived: Arrived, receiver: Receiver | None, before: asyncio.Task[None] | None
    ) -> None:
        taken_at = asyncio.get_running_loop().time()
        if before is not None:
            await asyncio.wait([before])
        async with self._free:
            if asyncio.get_running_loop().time() - taken_at > self._idle_s - self._handle_s:
                return  # it waited so long that another may take it over: it comes again
            await self._settle(arrived, receiver)

    async def _settle(self, arrived: Arrived, receiver: Receiver | None) -> None:
        """The outermost loop around one update: what goes wrong here must not stop the others."""
        try:
            async with asyncio.timeout(self._handle_s):
                if (arrived.kind, arrived.id) in self._disowned:
                    await self._removals.ask(arrived.entry)
                elif receiver is None:
                    await self._park(arrived, "nobody handles this kind")
                elif arrived.deliveries > DELIVERIES:
                    await self._give_up(arrived, receiver)
                else:
                    _remember(self._begun, (arrived.kind, arrived.id))
                    await receiver.handle(arrived)
                    await self._removals.ask(arrived.entry)
        except Exception:
            log.exception(
                "%s update %s failed, try %d of %d.", arrived.kind, arrived.id, arrived.deliveries, DELIVERIES
            )

    async def _give_up(self, arrived: Arrived, receiver: Receiver) -> None:
        await self._park(arrived, f"failed {DELIVERIES} times")
        await receiver.give_up(arrived)

    async def _remove(self, entries: Sequence[str]) -> Sequence[str]:
        await self._redis("EVAL", REMOVE, 1, UPDATES, GROUP, *entries)
        return entries

    async def _park(self, arrived: Arrived, why: str) -> None:
        fields = ("kind", arrived.kind, "id", arrived.id, "raw", arrived.raw, "why", why)
        await self._redis("EVAL", PARK, 2, UPDATES, BAD, GROUP, arrived.entry, MOST_PARKED, *fields)

    async def _finish(self, hand: _Hand) -> None:
        if hand.tasks:
            await asyncio.wait(hand.tasks, timeout=GRACE_S)
        for task in hand.tasks:
            task.cancel()
        await asyncio.gather(*hand.tasks, return_exceptions=True)


def _fields(one: Arrived) -> tuple[str | bytes, ...]:
    """How it is stored: as many fields as PUT takes for each."""
    return ("kind", one.kind, "id", one.id, "raw", one.raw, "meta", orjson.dumps(dict(one.meta)))


def _remember(newest: dict[tuple[str, str], None], one: tuple[str, str]) -> None:
    newest[one] = None
    if len(newest) > MOST_REMEMBERED:
        del newest[next(iter(newest))]


def _weight(one: Arrived) -> int:
    return 512 + len(one.raw)


def _arrived(entry: bytes, fields: Mapping[bytes, bytes], deliveries: int) -> Arrived:
    kind, id = fields[b"kind"].decode(), fields[b"id"].decode()
    return Arrived(kind, id, fields[b"raw"], orjson.loads(fields[b"meta"]), entry.decode(), deliveries)


type TurnedAway = Callable[[str, Act], Awaitable[None]]
"""Puts on record that what came was not from whom it says: a word for the kind, and what came."""


async def unseen(kind: str, act: Act) -> None:
    """Where nobody keeps a record."""


# --- Telegram's door --------------------------------------------------------------------------------------


class TelegramDoor:
    """Takes Telegram's updates into the inbox, from its webhook or from a poller.

    When Redis is away *not_run* answers a tap, by its query id, and *status* a /status. Each raises SendError
    where it could not.
    """

    kind = "telegram"

    def __init__(
        self,
        inbox: Inbox,
        clock: Clock,
        secret: str,
        not_run: Callable[[str], Awaitable[None]],
        status: Callable[[Arrived], Awaitable[None]] | None = None,
        turned_away: TurnedAway = unseen,
    ) -> None:
        self._inbox = inbox
        self._clock = clock
        self._secret = secret.encode()
        self._not_run = not_run
        self._status = status
        self._turned_away = turned_away

    async def webhook(self, request: web.Request) -> web.Response:
        """`POST /telegram/webhook`. 200 means: durably stored, or answered as not run."""
        if not self._secret:
            raise web.HTTPServiceUnavailable(text="TELEGRAM_WEBHOOK_SECRET is not set.")
        if not same(request.headers.get(SECRET_HEADER, ""), self._secret):
            await self._turned_away("forged_update", Act(channel=self.kind, at_ms=self._now_ms()))
            raise web.HTTPForbidden(text="This is not Telegram's secret.")
        try:
            taken = await self.take(await body(request, MOST_BODY))
        except ValueError:
            raise web.HTTPBadRequest(text="This is not an update.") from None
        if not taken:
            raise web.HTTPServiceUnavailable(text="Redis is away.", headers={"Retry-After": "5"})
        return web.Response()

    async def take(self, raw: bytes) -> bool:
        """Whether the update is dealt with; if not, it must come again. Raises ValueError if it is none."""
        match orjson.loads(raw):
            case {"update_id": int(number)} as update:
                id = str(number)
            case _:
                raise ValueError("an update is an object with an update_id")
        meta = {
            "digest": sha256(raw).hexdigest(),
            "at_ms": str(self._now_ms()),
            "order": _order(update),
        }
        try:
            await self._inbox.put(self.kind, id, raw, meta)
        except StoreDown as error:
            log.warning("Update %s was not stored: %s", id, error)
            return await self._answer_directly(Arrived(self.kind, id, raw, meta), update)
        return True

    def _now_ms(self) -> int:
        return epoch_ms(self._clock.now())

    async def _answer_directly(self, arrived: Arrived, update: Mapping[str, Any]) -> bool:
        """Whether what may have been stored is dealt with: it is being handled here already, or was answered
        without Redis, and then is not handled any more."""
        match update:
            case {"callback_query": {"id": str(query)}}:
                answer = partial(self._not_run, query)
            case {"message": {"text": str(text)}} if self._status and ASKS_STATUS.match(text):
                answer = partial(self._status, arrived)
            case _:
                return False
        if not self._inbox.disown(self.kind, arrived.id):
            return True
        try:
            await answer()
        except (SendError, StoreDown):
            self._inbox.own(self.kind, arrived.id)
            return False
        return True


def _order(update: Mapping[str, Any]) -> str:
    """As Telegram itself queues: the taps of a person, the messages of a chat."""
    match update:
        case {"callback_query": {"from": {"id": int(person)}}}:
            return f"tap:{person}"
        case {"message": {"chat": {"id": int(chat)}}}:
            return f"chat:{chat}"
    return ""


async def whole_body(request: web.Request, most: int) -> bytes:
    """The body of *request*, which arrives within BODY_S. Raises the HTTP error that says what is wrong."""
    try:
        async with asyncio.timeout(BODY_S):
            return await body(request, most)
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"It did not arrive within {BODY_S:g} s.") from None


async def body(request: web.Request, most: int) -> bytes:
    """The body of *request*. Raises HTTPRequestEntityTooLarge as soon as it is longer than *most* bytes."""
    read = bytearray()
    async for chunk in request.content.iter_any():
        read += chunk
        if len(read) > most:
            raise web.HTTPRequestEntityTooLarge(most, len(read))
    return bytes(read)
