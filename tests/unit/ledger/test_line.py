"""A connection that is kept: looked at before each call, and never trusted after one that went wrong."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from ledger.line import Line


class No(Exception):
    """The server refused."""


class Wire:
    """What a pool gives out: a connection as redis.asyncio has it, and the server's end of it."""

    async def open(self, heard: asyncio.Queue) -> "Wire":
        ours, theirs = socket.socketpair()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        self._hears, self.says = await asyncio.open_connection(sock=theirs)
        self._ear = asyncio.create_task(self._hear(heard))
        return self

    async def _hear(self, heard: asyncio.Queue) -> None:
        while said := await self._hears.read(1024):
            heard.put_nowait((self, said))

    async def disconnect(self, nowait: bool = False) -> None:
        self._writer.close()
        if not nowait:
            await self._writer.wait_closed()

    @property
    def is_closed(self) -> bool:
        return self._writer.is_closing()

    async def hang_up(self) -> None:
        """Once this returns, the other end knows."""
        self.says.close()
        await self._writer.wait_closed()

    async def end(self) -> None:
        self._ear.cancel()
        for writer in (self._writer, self.says):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class Wires:
    def __init__(self) -> None:
        self.made: list[Wire] = []
        self.out: set[Wire] = set()
        self.heard: asyncio.Queue[tuple[Wire, bytes]] = asyncio.Queue()

    async def get_connection(self) -> Wire:
        self.made.append(await Wire().open(self.heard))
        self.out.add(self.made[-1])
        return self.made[-1]

    async def release(self, wire: Wire) -> None:
        assert wire.is_closed
        self.out.remove(wire)


@pytest.fixture
async def wires() -> AsyncIterator[Wires]:
    pool = Wires()
    yield pool
    for wire in pool.made:
        await wire.end()


async def begun(line: Line, wires: Wires) -> tuple["asyncio.Task[object]", Wire]:
    """A call that the server has heard and not answered."""
    call = asyncio.create_task(line.call("PING"))
    wire, said = await wires.heard.get()
    assert said == b"*1\r\n$4\r\nPING\r\n"
    return call, wire


async def pinged(line: Line, wires: Wires, reply: bytes = b"+PONG\r\n") -> object:
    call, wire = await begun(line, wires)
    wire.says.write(reply)
    return await call


async def test_calls_go_over_one_connection(wires):
    line = Line(wires, 5.0, No)
    assert [await pinged(line, wires) for _ in range(3)] == [b"PONG"] * 3
    assert len(wires.made) == 1
    assert line._wire._alarm.cancelled(), "or it would end a later call"
    assert not line.busy


async def test_a_command_has_words_and_numbers_and_a_reply_comes_in_any_pieces(wires):
    line = Line(wires, 5.0, No)
    await pinged(line, wires)
    call = asyncio.create_task(line.call("FCALL", 7, b"\xff"))
    _, said = await wires.heard.get()
    assert said == b"*3\r\n$5\r\nFCALL\r\n$1\r\n7\r\n$1\r\n\xff\r\n"
    for byte in b"*2\r\n$-1\r\n*1\r\n$2\r\nOK\r\n":
        line._wire.data_received(bytes([byte]))
    assert await call == [None, [b"OK"]]
    assert not line._wire.is_spoiled


async def test_an_answer_that_is_an_error_leaves_the_connection_in_order(wires):
    line = Line(wires, 5.0, No)
    with pytest.raises(No, match="NOPERM you may not"):
        await pinged(line, wires, b"-NOPERM you may not\r\n")
    assert await pinged(line, wires) == b"PONG"
    assert len(wires.made) == 1


@pytest.mark.parametrize("garbage", [b"?", b"<html>\r\n", b"*x\r\n"], ids=repr)
async def test_after_what_is_no_reply_the_connection_is_another(wires, garbage):
    line = Line(wires, 5.0, No)
    await pinged(line, wires)
    with pytest.raises(ConnectionError):
        await pinged(line, wires, garbage)
    assert wires.made[0].is_closed
    assert not wires.out
    assert not line.busy
    assert await pinged(line, wires) == b"PONG"
    assert wires.out == {wires.made[1]}


async def test_a_call_ends_when_the_server_hangs_up(wires):
    line = Line(wires, 5.0, No)
    call, wire = await begun(line, wires)
    await wire.hang_up()
    with pytest.raises(ConnectionError, match="closed"):
        await call
    assert await pinged(line, wires) == b"PONG"
    assert wires.out == {wires.made[1]}


async def test_a_reply_that_comes_too_late_is_not_taken_for_the_next(wires):
    line = Line(wires, 0.01, No)
    call, _ = await begun(line, wires)
    with pytest.raises(TimeoutError):
        await call
    assert wires.made[0].is_closed
    assert not wires.out


async def test_a_call_that_is_cancelled_leaves_no_reply_behind(wires):
    line = Line(wires, 5.0, No)
    call, _ = await begun(line, wires)
    assert line.busy
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert wires.made[0].is_closed
    assert not line.busy
    assert await pinged(line, wires) == b"PONG"


async def test_a_connection_that_was_closed_is_not_used(wires):
    line = Line(wires, 5.0, No)
    await pinged(line, wires)
    await wires.made[0].hang_up()
    assert await pinged(line, wires) == b"PONG"
    assert wires.out == {wires.made[1]}


@pytest.mark.parametrize("more", [b"", b"+PONG\r\n+NEWS\r\n"], ids=["later", "with the reply"])
async def test_a_connection_that_said_what_nobody_asked_for_is_not_used(wires, more):
    line = Line(wires, 5.0, No)
    await pinged(line, wires, more or b"+PONG\r\n")
    if not more:
        line._wire.data_received(b"+NEWS\r\n")
    assert await pinged(line, wires) == b"PONG"
    assert wires.made[0].is_closed
    assert wires.out == {wires.made[1]}


async def test_who_opened_the_connection_hears_that_it_was_closed(wires):
    line = Line(wires, 5.0, No)
    await pinged(line, wires)
    async with asyncio.timeout(5):
        await wires.made[0].disconnect()
    assert await pinged(line, wires) == b"PONG"


async def test_a_connection_that_is_being_closed_is_not_used(wires):
    line = Line(wires, 5.0, No)
    await pinged(line, wires)
    await wires.made[0].disconnect(nowait=True)
    assert line._wire.is_spoiled
    assert await pinged(line, wires) == b"PONG"
    assert wires.out == {wires.made[1]}
