"""One connection that is kept for appends: to take one out of the pool and give it back costs as much again.

* It serves one call at a time. Who finds it busy takes another way.
* A call has one deadline from its first byte to its last. After whatever went wrong but an answer of the
  server's, the connection is closed: no reply may ever be taken for that of another call.
* Before each call it is looked at. One that the server has closed is replaced, and nothing was sent on it.
"""

import asyncio
from typing import Any, Protocol


class Connection(Protocol):
    """What is asked of a connection of redis.asyncio."""

    socket_timeout: float | None

    async def can_read(self) -> bool:
        """Whether it was closed, or holds what nobody asked for: no call may begin on it then."""

    async def send_command(self, *command: bytes | str | int) -> None: ...

    async def read_response(self) -> Any: ...

    async def disconnect(self, nowait: bool = False) -> None: ...


class Pool(Protocol):
    """What is asked of a pool of redis.asyncio."""

    async def get_connection(self) -> Any: ...

    async def release(self, connection: Any) -> None: ...


class Line:
    """Of *pool*; a call may take *timeout_s*. *answers* are errors that are the reply of the server."""

    def __init__(self, pool: Pool, timeout_s: float | None, answers: type[Exception]) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._answers = answers
        self._kept: Connection | None = None
        self.busy = False

    async def call(self, *command: bytes | str | int) -> Any:
        """The reply to *command*. Raises what redis.asyncio does, and TimeoutError."""
        self.busy = True
        try:
            async with asyncio.timeout(self._timeout_s):
                kept = await self._ready()
                await kept.send_command(*command)
                return await kept.read_response()
        except self._answers:
            raise
        except BaseException:
            await self._part()
            raise
        finally:
            self.busy = False

    async def _ready(self) -> Connection:
        if self._kept is not None and await self._kept.can_read():
            await self._part()
        if self._kept is None:
            self._kept = await self._pool.get_connection()
            self._kept.socket_timeout = None  # one deadline for the whole call is enough, and costs a third
        return self._kept

    async def _part(self) -> None:
        """Close the connection and give it back to the pool, which opens it again when it needs one."""
        if (parted := self._kept) is not None:
            self._kept = None
            parted.socket_timeout = self._timeout_s
            await parted.disconnect(nowait=True)
            await self._pool.release(parted)
