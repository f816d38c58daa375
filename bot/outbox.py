"""What we say, in the order in which people need it and no faster than a vendor takes it.

1. Answers to taps and decisions never queue. Pages go before edits, and of several edits of one message only
   the latest is made.
2. Each chat has its own pace: one message a second after a burst of three; in a group 20 a minute, five of
   them kept for pages.
   All chats together: 30 a second. What goes at once is counted too.
3. "Retry after" holds up its own chat alone.
4. Pictures are not queued: one goes when its chat is at peace, beside the queue, and holds up nothing.
5. What may have been sent is not sent again by itself: whoever asked is told `unknown`. An edit may be.
6. It lives in memory. What is still due after a restart is due in the ledger.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial

from bot.ports import Address, Answer, Card, Channel, Gallery, Picture, SendError
from ledger.clock import Clock

log = logging.getLogger(__name__)

TRIES = 5
FIRST_PAUSE_S = 0.5
ALL_A_SECOND = 30
CHAT_BURST = 3
"""So many may go to a chat at once; Telegram bears short bursts above its one a second."""
GROUP_A_MINUTE = 20
KEPT_FOR_PAGES = 5
PEACE_S = 0.5
"""So often a picture looks whether its chat is at peace: nothing waits there, and a whole burst may go."""
SOON_S = 0.001


class Lane(IntEnum):
    """The smaller goes first."""

    PAGE = 1
    EDIT = 2


type Act = Callable[[], Awaitable[str]]


class Bucket:
    """*capacity* tokens, refilled over *seconds*. It may go below nothing: what went at once is counted."""

    def __init__(self, capacity: float, seconds: float) -> None:
        self._capacity = capacity
        self._rate = capacity / seconds
        self._left = capacity
        self._at = 0.0

    def wait(self, now: float, keep: float = 0) -> float:
        """Seconds until one can be taken that leaves *keep*."""
        self._refill(now)
        return max(0.0, (1 + keep - self._left) / self._rate)

    def rest(self, now: float) -> float:
        """Seconds until it is full."""
        self._refill(now)
        return (self._capacity - self._left) / self._rate

    def take(self, now: float) -> None:
        self._refill(now)
        self._left -= 1

    def _refill(self, now: float) -> None:
        self._left = min(self._capacity, self._left + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)


@dataclass(slots=True, eq=False)
class _Job:
    """Something to be sent, and who waits for it."""

    lane: Lane
    act: Act
    message: str
    again: bool
    waiting: list["asyncio.Future[str]"]
    tries: int = 0

    def wanted(self) -> bool:
        return any(not one.done() for one in self.waiting)

    def settle(self, result: str | Exception) -> None:
        for one in self.waiting:
            if one.done():
                continue
            if isinstance(result, Exception):
                one.set_exception(result)
            else:
                one.set_result(result)


@dataclass(slots=True)
class _Chat:
    """One chat's queue and pace."""

    second: Bucket
    minute: Bucket | None = None
    not_before: float = 0.0
    jobs: list[_Job] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    worker: asyncio.Task[None] | None = None

    def next(self) -> _Job | None:
        """The first of the smallest lane, without those for whom nobody waits any more."""
        self.jobs = [job for job in self.jobs if job.wanted()]
        return min(self.jobs, key=lambda job: job.lane, default=None)

    def waits_for(self, message: str) -> _Job | None:
        """The edit of *message* that is not made yet."""
        return next((job for job in self.jobs if message and job.message == message), None)

    def put_back(self, job: _Job) -> None:
        """To be tried again, unless a later edit of the same message has come meanwhile."""
        later = self.waits_for(job.message)
        if later:
            later.waiting += job.waiting
        else:
            self.jobs.insert(0, job)

    def wait(self, job: _Job, now: float) -> float:
        keep = KEPT_FOR_PAGES if job.lane is Lane.EDIT else 0
        minute = self.minute.wait(now, keep) if self.minute else 0.0
        return max(self.not_before - now, self.second.wait(now), minute)

    def in_peace_s(self, now: float) -> float:
        """Seconds until a picture may be tried."""
        if self.jobs:
            return PEACE_S
        minute = self.minute.wait(now, 2 * KEPT_FOR_PAGES) if self.minute else 0.0
        return max(self.not_before - now, self.second.rest(now), minute)

    def take(self, now: float) -> None:
        self.second.take(now)
        if self.minute:
            self.minute.take(now)


class Outbox:
    """The one way out, for every channel. A call returns when the vendor has taken it; raises SendError."""

    def __init__(self, clock: Clock, burst: int = CHAT_BURST) -> None:
        self._clock = clock
        self._burst = burst
        self._chats: dict[tuple[str, str], _Chat] = {}
        self._all = Bucket(ALL_A_SECOND, 1)
        self._at_once: set[asyncio.Task[str]] = set()
        self.failing = False
        """Whether the last try of any message failed, and not because of that message."""

    async def send(
        self,
        channel: Channel,
        tenant: str,
        to: Address,
        card: Card,
        *,
        reply_to: str = "",
        silent: bool = False,
    ) -> str:
        """A new message, in the lane of pages; returns its id."""

        async def act() -> str:
            return await channel.send(tenant, to, card, reply_to=reply_to, silent=silent)

        return await self._queue(to, Lane.PAGE, act)

    async def edit(self, channel: Channel, tenant: str, to: Address, message: str, card: Card) -> None:
        """Make *message* show *card*. A later edit of it that comes while this waits takes its place."""

        async def act() -> str:
            await channel.edit(tenant, to, message, card)
            return message

        await self._queue(to, Lane.EDIT, act, message)

    async def retire(self, channel: Channel, tenant: str, to: Address, message: str) -> None:
        """Take the buttons from *message*. Takes the place of an edit of it that waits, and the reverse."""

        async def act() -> str:
            await channel.retire(tenant, to, message)
            return message

        await self._queue(to, Lane.EDIT, act, message)

    async def say(
        self, channel: Channel, tenant: str, to: Address, answer: Answer, *, reply_to: str = ""
    ) -> str:
        """An answer: at once, whatever waits. It goes on when its caller does not wait any longer.

        Its words go first, then each file by itself: what was taken is not sent again because a later one
        was not.
        """
        task = asyncio.create_task(
            self._answer(channel, tenant, to, answer, reply_to), name=f"say-{to.channel}"
        )
        self._at_once.add(task)
        task.add_done_callback(self._said)
        return await asyncio.shield(task)

    async def _answer(self, channel: Channel, tenant: str, to: Address, answer: Answer, reply_to: str) -> str:
        chat, sent = self._chat(to), ""
        if answer.html or answer.text or answer.rows:
            sent = await self._now(chat, lambda: channel.say(tenant, to, answer, reply_to=reply_to))
        for document in answer.documents:
            hand = partial(channel.hand, tenant, to, document, reply_to=reply_to)
            sent = await self._now(chat, hand)
        if answer.picture:
            await self._illustrate(channel, tenant, to, answer.picture, reply_to)
        return sent

    async def _illustrate(
        self, channel: Channel, tenant: str, to: Address, picture: Picture, reply_to: str
    ) -> None:
        """The picture of an answer, or its sentence. It may fail: the answer has arrived."""
        said = Answer(picture.alt)
        try:
            if isinstance(channel, Gallery):
                await self._now(self._chat(to), partial(channel.show, to, picture, reply_to=reply_to))
            else:
                await self._now(self._chat(to), lambda: channel.say(tenant, to, said, reply_to=reply_to))
        except SendError as error:
            log.warning("A picture was not shown to %s: %s", to.recipient or to.to, error)

    async def peace(self, to: Address) -> None:
        """Return once nothing is to be said there, and enough may be said soon."""
        chat = self._chat(to)
        while (wait := max(chat.in_peace_s(self._now_s()), self._all.wait(self._now_s()))) > SOON_S:
            await self._clock.sleep(wait)

    async def show(
        self, gallery: Gallery, to: Address, picture: Picture, *, reply_to: str = "", message: str = ""
    ) -> str:
        """Show *picture*, in *message* where there is one, once nothing else is to be said in that chat.

        One try; returns the message's id. Raises SendError.
        """
        await self.peace(to)
        chat = self._chat(to)
        self._take(chat)
        try:
            return await gallery.show(to, picture, reply_to=reply_to, message=message)
        except SendError as error:
            if error.retry_after_s > 0:
                self._hold(chat, error.retry_after_s, error)
            raise

    async def close(self) -> None:
        """Give up what waits. Its callers are told."""
        tasks = [*self._at_once, *(chat.worker for chat in self._chats.values() if chat.worker)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for chat in self._chats.values():
            for job in chat.jobs:
                job.settle(SendError("The process ends."))

    def waiting(self) -> int:
        """How many messages and edits are queued."""
        return sum(len(chat.jobs) for chat in self._chats.values())

    # one chat

    def _chat(self, to: Address) -> _Chat:
        key = (to.channel, to.to)
        if key not in self._chats:
            group = to.channel == "telegram" and to.to.startswith("-")
            minute = Bucket(GROUP_A_MINUTE, 60) if group else None
            self._chats[key] = _Chat(Bucket(self._burst, self._burst), minute)
        return self._chats[key]

    async def _queue(self, to: Address, lane: Lane, act: Act, message: str = "") -> str:
        chat = self._chat(to)
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        same = chat.waits_for(message)
        if same:
            same.act = act
            same.waiting.append(waiting)
        else:
            chat.jobs.append(_Job(lane, act, message, lane is Lane.EDIT, [waiting]))
        chat.changed.set()
        if chat.worker is None or chat.worker.done():
            chat.worker = asyncio.create_task(self._work(chat), name=f"outbox-{to.channel}")
        return await waiting

    async def _work(self, chat: _Chat) -> None:
        while job := chat.next():
            chat.changed.clear()
            wait = max(chat.wait(job, self._now_s()), self._all.wait(self._now_s()))
            if wait > SOON_S:
                await self._until_changed(chat, wait)
                continue
            chat.jobs.remove(job)
            if not await self._try(chat, job):
                chat.put_back(job)

    async def _try(self, chat: _Chat, job: _Job) -> bool:
        """Whether the job is settled; if not, it is to be tried again once the chat may be written to."""
        self._take(chat)
        job.tries += 1
        try:
            job.settle(await job.act())
            self.failing = False
        except SendError as error:
            self._weigh(error)
            pause = _pause(error, job.tries, again=job.again)
            if pause is None:
                job.settle(error)
                return True
            self._hold(chat, pause, error)
            job.tries -= error.retry_after_s > 0
            return False
        except Exception as error:  # noqa: BLE001  a mistake of ours: it belongs to whoever asked
            job.settle(error)
        return True

    async def _now(self, chat: _Chat, act: Act) -> str:
        tries = 0
        while True:
            wait = chat.not_before - self._now_s()
            if wait > 0:
                await self._clock.sleep(wait)
                continue
            self._take(chat)
            tries += 1
            try:
                said = await act()
            except SendError as error:
                self._weigh(error)
                pause = _pause(error, tries, again=False)
                if pause is None:
                    raise
                self._hold(chat, pause, error)
                tries -= error.retry_after_s > 0
            else:
                self.failing = False
                return said

    def _weigh(self, error: SendError) -> None:
        about_this_one = error.permanent or error.gone or error.moved_to or error.retry_after_s
        self.failing = self.failing if about_this_one else True

    def _said(self, task: asyncio.Task[str]) -> None:
        self._at_once.discard(task)
        if not task.cancelled() and task.exception():
            log.warning("An answer was not sent: %s", task.exception())

    def _take(self, chat: _Chat) -> None:
        chat.take(self._now_s())
        self._all.take(self._now_s())

    def _hold(self, chat: _Chat, pause: float, error: SendError) -> None:
        log.info("A chat is held for %.1f s: %s", pause, error)
        chat.not_before = max(chat.not_before, self._now_s() + pause)

    async def _until_changed(self, chat: _Chat, wait: float) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(wait))
        changed = asyncio.ensure_future(chat.changed.wait())
        try:
            await asyncio.wait({sleep, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            changed.cancel()

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _pause(error: SendError, tries: int, *, again: bool) -> float | None:
    """How long to wait before the next try, or None where there is none."""
    if error.retry_after_s > 0:
        return error.retry_after_s
    final = error.permanent or error.gone or error.moved_to or (error.unknown and not again)
    if final or tries >= TRIES:
        return None
    return FIRST_PAUSE_S * float(2 ** (tries - 1))
