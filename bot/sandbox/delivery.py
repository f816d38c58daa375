"""How updates reach a bot: by its webhook until it says 2xx, or by getUpdates until it confirms an offset.

As tdlib/telegram-bot-api does it:

1. Updates of one queue go one after the other, queues side by side. The queue of a message is its chat,
   that of a tap is the person.
2. Anything but 2xx is tried again: at once, then with doubling pauses (here short ones). A tap is kept for
   `TAP_LIVES` seconds, anything else for a day.
3. A 2xx whose body is JSON with a `method` is carried out like a call.
4. Of two callers of getUpdates the older one is ended, with 409; under a webhook any is.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import orjson

from bot.sandbox.chats import Json, Refused
from bot.sandbox.loopback import Bell, epoch, first_id, is_loopback

TAP_LIVES = 150.0
MESSAGE_LIVES = 86_400.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
TRY_LASTS = aiohttp.ClientTimeout(total=10)
SECRET = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105  the header's name, not a secret
UNDER_WEBHOOK = (
    "Conflict: can't use getUpdates method while webhook is active; "
    "use deleteWebhook to delete the webhook first"
)
OTHER_POLLER = (
    "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
)


@dataclass(frozen=True, slots=True)
class Update:
    id: int
    queue: int
    dies: float
    body: Json

    @property
    def kind(self) -> str:
        return next(key for key in self.body if key != "update_id")


@dataclass(slots=True)
class Webhook:
    url: str = ""
    secret: str = ""
    allowed: list[str] = field(default_factory=list)
    last_error: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Try:
    """One POST to the webhook; `status` is 0 when nothing came back."""

    at: float
    update_id: int
    status: int


class Delivery:
    """The queue of updates that the bot has not yet taken."""

    def __init__(self, carry_out: Callable[[Json], Awaitable[None]]) -> None:
        self._carry_out = carry_out
        self._queues: dict[int, deque[Update]] = {}
        self._workers: dict[int, asyncio.Task[None]] = {}
        self._last_id = first_id()
        self._poller: asyncio.Event | None = None
        self._session: aiohttp.ClientSession | None = None
        self.webhook = Webhook()
        self.bell = Bell()
        self.tries: list[Try] = []
        self.drop = 0
        """How many of the next updates are lost on their way, for good."""
        self.repeat = 0
        """How many of the next updates come twice, as when the bot's answer was lost."""

    def put(self, queue: int, kind: str, content: Json) -> int:
        """Queues an update and returns its id."""
        self._last_id += 1
        if self.drop:
            self.drop -= 1
            return self._last_id
        if self.webhook.allowed and kind not in self.webhook.allowed:
            return self._last_id
        lives = TAP_LIVES if kind == "callback_query" else MESSAGE_LIVES
        update = Update(
            self._last_id, queue, time.monotonic() + lives, {"update_id": self._last_id, kind: content}
        )
        self._queues.setdefault(queue, deque()).append(update)
        self.bell.ring()
        self._work()
        return update.id

    def pending(self) -> list[Update]:
        now = time.monotonic()
        return sorted((u for q in self._queues.values() for u in q if u.dies > now), key=lambda u: u.id)

    # the webhook

    async def set_webhook(self, url: str, secret: str, allowed: list[str], *, drop_pending: bool) -> None:
        """Raises Refused for an address that is not on loopback: nothing leaves this machine."""
        if url and not is_loopback(url):
            raise Refused("Bad Request: bad webhook: the sandbox delivers to 127.0.0.1 alone")
        await self._stop()
        if drop_pending:
            self._queues.clear()
        self.webhook = Webhook(url, secret, allowed)
        if url:
            self._end_poller()
        self._work()

    def info(self) -> Json:
        body: Json = {
            "url": self.webhook.url,
            "has_custom_certificate": False,
            "pending_update_count": len(self.pending()),
        }
        if self.webhook.url:
            body |= {"max_connections": 40, "ip_address": "127.0.0.1"}
        if self.webhook.allowed:
            body["allowed_updates"] = self.webhook.allowed
        if self.webhook.last_error:
            body["last_error_date"], body["last_error_message"] = self.webhook.last_error
        return body

    def _work(self) -> None:
        if not self.webhook.url:
            return
        for queue, updates in self._queues.items():
            if updates and (queue not in self._workers or self._workers[queue].done()):
                self._workers[queue] = asyncio.create_task(self._deliver(updates))

    async def _deliver(self, updates: deque[Update]) -> None:
        while updates:
            await self._until_taken(updates[0])
            updates.popleft()
            self.bell.ring()

    async def _until_taken(self, update: Update) -> None:
        pause = 0.0
        while time.monotonic() < update.dies and not await self._post(update):
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, pause * 2))

    async def _post(self, update: Update) -> bool:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TRY_LASTS)
        headers = {SECRET: self.webhook.secret} if self.webhook.secret else {}
        status, body = 0, b""
        try:
            async with self._session.post(self.webhook.url, json=update.body, headers=headers) as answer:
                status, body = answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.webhook.last_error = (epoch(), f"Connection failed: {error}")
        self.tries.append(Try(time.monotonic(), update.id, status))
        self.bell.ring()
        return await self._taken(status, body)

    async def _taken(self, status: int, body: bytes) -> bool:
        if not 200 <= status < 300:
            if status:
                self.webhook.last_error = (epoch(), f"Wrong response from the webhook: {status}")
            return False
        if self.repeat:
            self.repeat -= 1
            return False
        await self._reply_call(body)
        return True

    async def _reply_call(self, body: bytes) -> None:
        if not body.startswith(b"{"):
            return
        call = orjson.loads(body)
        if "method" in call:
            await self._carry_out(call)

    # getUpdates

    async def get_updates(self, offset: int, limit: int, wait_s: float) -> list[Json]:
        """The oldest updates from *offset* on, waiting *wait_s* for the first; confirms what is before."""
        if self.webhook.url:
            raise Refused(UNDER_WEBHOOK, 409)
        self._end_poller()
        ended = self._poller = asyncio.Event()
        if offset < 0:
            offset = min((update.id for update in self.pending()[offset:]), default=0)
        self._confirm(offset)
        try:
            await self.bell.until(lambda: ended.is_set() or self.pending(), wait_s)
        finally:
            if self._poller is ended:
                self._poller = None
        if ended.is_set():
            raise Refused(OTHER_POLLER, 409)
        return [update.body for update in self.pending() if update.id >= offset][:limit]

    def _end_poller(self) -> None:
        if self._poller:
            self._poller.set()
            self.bell.ring()

    def _confirm(self, offset: int) -> None:
        for queue, updates in self._queues.items():
            self._queues[queue] = deque(u for u in updates if u.id >= offset)

    async def _stop(self) -> None:
        workers = list(self._workers.values())
        self._workers.clear()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def close(self) -> None:
        await self._stop()
        self._end_poller()
        if self._session:
            await self._session.close()
