"""One connection that is kept for appends, and spoken on directly: a client in between costs as much again.

* redis.asyncio opens it, as its user and through its TLS. From then on its bytes come and go here.
* It serves one call at a time. Who finds it busy takes another way.
* A call has one deadline from its first byte to its last. After whatever went wrong but an answer of the
  server's, the connection is closed: no reply may ever be taken for that of another call.
* Before each call it is looked at. One that the server has closed is replaced, and nothing was sent on it.
"""

import asyncio
from typing import Any, Protocol

from hiredis import Reader, pack_command


class Connection(Protocol):
    """What is asked of a connection of redis.asyncio."""

    _writer: asyncio.StreamWriter

    async def disconnect(self, nowait: bool = False) -> None: ...


class Pool(Protocol):
    """What is asked of a pool of redis.asyncio."""

    async def get_connection(self) -> Any: ...

    async def release(self, connection: Any) -> None: ...


class Line:
    """Of *pool*; a call may take *timeout_s*. What the server refuses is raised as *refused*."""

    def __init__(self, pool: Pool, timeout_s: float, refused: type[Exception]) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._refused = refused
        self._wire: _Wire | None = None
        self.busy = False

    async def call(self, *command: bytes | str | int) -> Any:
        """The reply to *command*. Raises OSError, and what redis.asyncio does to connect."""
        self.busy = True
        try:
            packed = pack_command(command)  # type: ignore[arg-type]  # its stub says: a tuple of one
            return await (await self._ready()).ask(packed, self._timeout_s)
        except self._refused:
            raise
        except BaseException:
            await self._part()
            raise
        finally:
            self.busy = False

    async def _ready(self) -> "_Wire":
        if self._wire is not None and self._wire.is_spoiled:
            await self._part()
        if self._wire is None:
            self._wire = _Wire(await self._pool.get_connection(), self._refused)
        return self._wire

    async def _part(self) -> None:
        """Close the connection and give it back to the pool, which opens it again when it needs one."""
        if (parted := self._wire) is not None:
            self._wire = None
            await parted.connection.disconnect(nowait=True)
            await self._pool.release(parted.connection)


class _Wire(asyncio.Protocol):
    """Reads what comes on *connection*, in place of the client that opened it. Replies are of RESP 2."""

    def __init__(self, connection: Connection, refused: type[Exception]) -> None:
        self.connection = connection
        self._spoke_unasked = False
        self._asked: asyncio.Future[Any] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(protocolError=ConnectionError, replyError=refused)
        transport = connection._writer.transport  # noqa: SLF001  there is no other way to its bytes
        self._before = transport.get_protocol()
        transport.set_protocol(self)
        self._transport = transport

    @property
    def is_spoiled(self) -> bool:
        """Whether no call may begin on it: it was closed, or has said what nobody asked for."""
        return self._spoke_unasked or self._transport.is_closing()

    def ask(self, command: bytes, timeout_s: float) -> "asyncio.Future[Any]":
        self._asked = self._loop.create_future()
        self._alarm = self._loop.call_later(timeout_s, self._end_patience)
        self._transport.write(command)
        return self._asked

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self._answer(reply)

    def _end_patience(self) -> None:
        self._answer(TimeoutError("it is too slow"))

    def connection_lost(self, error: Exception | None) -> None:
        self._answer(error or ConnectionResetError("the server has closed the connection"))
        self._before.connection_lost(error)

    def _answer(self, reply: object) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        asked, self._asked = self._asked, None
        if asked is None or asked.done():
            self._spoke_unasked = True
        elif isinstance(reply, Exception):
            asked.set_exception(reply)
        else:
            asked.set_result(reply)
