"""What may take longer than a person waits in a chat: answered at once where it is quick, else in private.

An inbox gives an update ten seconds. So whoever asked gets the answer within four, or is told that it comes;
then it comes when it is done. An errand ends with its process: whoever asked asks again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bot.order import Order
from bot.ports import Answer
from bot.room import Room
from handlers.charter import Person
from ledger.store import StoreDown

log = logging.getLogger(__name__)

SOON_S = 4.0
LATER = "This takes a while. It comes to you in private as soon as it is done."
AWAY = Answer("The ledger cannot be read now. Ask again in a minute.")
FAILED = Answer("That did not work, and the reason is in my log. Ask again; if it stays so, tell an admin.")

type Post = Callable[[Room, Person, Answer], Awaitable[bool]]


class Errands:
    """*post* sends something to a person in private and says whether it could."""

    def __init__(self, post: Post, soon_s: float = SOON_S) -> None:
        self._post = post
        self._soon_s = soon_s
        self._running: set[asyncio.Task[Any]] = set()

    async def do(self, order: Order, work: Coroutine[Any, Any, Answer]) -> Answer:
        """The answer that *work* comes to, or that it comes later."""
        task = self._start(_answered(work))
        done, _ = await asyncio.wait([task], timeout=self._soon_s)
        if done:
            return task.result()
        self._start(self._later(order, task))
        return Answer(LATER)

    async def close(self) -> None:
        """Give up what is not done."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _later(self, order: Order, task: asyncio.Task[Answer]) -> None:
        if not await self._post(order.room, order.person, await task):
            log.warning("What %s asked for could not be sent.", order.person.id)


async def _answered(work: Coroutine[Any, Any, Answer]) -> Answer:
    """The outermost frame of an errand: nobody else is there to hear what it raises."""
    try:
        return await work
    except StoreDown:
        return AWAY
    except Exception:
        log.exception("An errand failed.")
        return FAILED
