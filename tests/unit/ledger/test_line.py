"""A connection that is kept: looked at before each call, and never trusted after one that went wrong."""

import asyncio

import pytest

from ledger.line import Line


class Answered(Exception):
    """The server said no."""


class Wire:
    def __init__(self) -> None:
        self.waits = asyncio.Event()
        self.socket_timeout: float | None = 5.0
        self.closed = self.has_data = False
        self.sent: list[tuple] = []
        self.replies: list[object] = []

    async def can_read(self) -> bool:
        return self.has_data

    async def send_command(self, *command) -> None:
        assert not self.closed
        self.sent.append(command)

    async def read_response(self) -> object:
        reply = self.replies.pop(0) if self.replies else b"OK"
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, asyncio.Future):
            self.waits.set()
            return await reply
        return reply

    async def disconnect(self, nowait: bool = False) -> None:
        self.closed = True


class Wires:
    def __init__(self) -> None:
        self.made: list[Wire] = []
        self.out: set[Wire] = set()

    async def get_connection(self) -> Wire:
        self.made.append(Wire())
        self.out.add(self.made[-1])
        return self.made[-1]

    async def release(self, wire: Wire) -> None:
        assert wire.closed
        assert wire.socket_timeout, "whoever takes it next waits no longer than it is used to"
        self.out.remove(wire)


async def test_calls_go_over_one_connection_with_one_deadline_for_each():
    wires = Wires()
    line = Line(wires, 5.0, Answered)
    assert [await line.call("FCALL", n) for n in range(3)] == [b"OK"] * 3
    [wire] = wires.made
    assert wire.sent == [("FCALL", 0), ("FCALL", 1), ("FCALL", 2)]
    assert wire.socket_timeout is None
    assert not line.busy


async def test_an_answer_that_is_an_error_leaves_the_connection_in_order():
    wires = Wires()
    line = Line(wires, 5.0, Answered)
    await line.call("PING")
    wires.made[0].replies = [Answered()]
    with pytest.raises(Answered):
        await line.call("FCALL")
    assert await line.call("PING") == b"OK"
    assert len(wires.made) == 1


@pytest.mark.parametrize("trouble", [OSError("reset"), ValueError("garbage")], ids=repr)
async def test_after_any_other_trouble_the_connection_is_another(trouble):
    wires = Wires()
    line = Line(wires, 5.0, Answered)
    await line.call("PING")
    wires.made[0].replies = [trouble]
    with pytest.raises(type(trouble)):
        await line.call("FCALL")
    assert wires.made[0].closed
    assert not wires.out
    assert not line.busy
    assert await line.call("PING") == b"OK"
    assert wires.out == {wires.made[1]}


async def test_a_reply_that_does_not_come_is_not_taken_for_the_next():
    wires = Wires()
    line = Line(wires, 0.01, Answered)
    await line.call("PING")
    wires.made[0].replies = [asyncio.get_running_loop().create_future()]
    with pytest.raises(TimeoutError):
        await line.call("FCALL")
    assert wires.made[0].closed


async def test_a_call_that_is_cancelled_leaves_no_reply_behind():
    wires = Wires()
    line = Line(wires, 5.0, Answered)
    await line.call("PING")
    wires.made[0].replies = [asyncio.get_running_loop().create_future()]
    call = asyncio.create_task(line.call("FCALL"))
    await wires.made[0].waits.wait()
    assert line.busy
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert wires.made[0].closed
    assert not line.busy


async def test_a_connection_that_was_closed_or_has_something_to_say_is_not_used():
    wires = Wires()
    line = Line(wires, 5.0, Answered)
    await line.call("PING")
    wires.made[0].has_data = True
    assert await line.call("FCALL") == b"OK"
    assert wires.made[0].sent == [("PING",)]
    assert wires.made[1].sent == [("FCALL",)]
