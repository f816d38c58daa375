"""As much of HTTP/1.1 as a load needs, so that what is measured is the program and not who measures it.

`Poster` sends one POST after the other on a connection that it keeps; `Served` answers on one.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.I)
END = b"\r\n\r\n"


class Messages(asyncio.Protocol):
    """Takes what arrives apart into heads and bodies. Each has a Content-Length, or no body."""

    def __init__(self) -> None:
        self.arrived = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.arrived += data
        while (end := self.arrived.find(END)) >= 0:
            head = bytes(self.arrived[: end + 2])
            found = LENGTH.search(head)
            whole = end + len(END) + (int(found[1]) if found else 0)
            if len(self.arrived) < whole:
                return
            body = bytes(self.arrived[end + len(END) : whole])
            del self.arrived[:whole]
            self.take(head, body)

    def take(self, head: bytes, body: bytes) -> None:
        raise NotImplementedError


class Served(Messages):
    """*answer* makes the JSON that answers a path and its body."""

    def __init__(self, answer: Callable[[str, bytes], bytes]) -> None:
        super().__init__()
        self._answer = answer

    def take(self, head: bytes, body: bytes) -> None:
        said = self._answer(head.split(b" ", 2)[1].decode(), body)
        assert self.transport
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(said), said)
        )


class Poster(Messages):
    """Posts what *next* gives until there is no more, and tells *done* each status."""

    def __init__(self, next: Iterator[bytes], done: Callable[[int], None]) -> None:
        super().__init__()
        self._next = next
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.post()

    def post(self) -> None:
        assert self.transport
        if (request := next(self._next, None)) is None:
            self.transport.close()
        else:
            self.transport.write(request)

    def take(self, head: bytes, body: bytes) -> None:
        self._done(int(head.split(b" ", 2)[1]))
        self.post()


def post(url: str, headers: dict[str, str], body: bytes) -> bytes:
    """A POST of JSON as it goes over the wire."""
    parts = urlsplit(url)
    told = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (told | headers).items())
    return f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def post_all(url: str, requests: list[bytes], connections: int) -> list[int]:
    """Post them all at once on so many connections. Returns the status of each, in the order of answers."""
    loop, parts = asyncio.get_running_loop(), urlsplit(url)
    ended, said, left = loop.create_future(), list[int](), iter(requests)

    def done(status: int) -> None:
        said.append(status)
        if len(said) == len(requests):
            ended.set_result(None)

    def poster() -> Poster:
        return Poster(left, done)

    opening = (loop.create_connection(poster, parts.hostname, parts.port) for _ in range(connections))
    await asyncio.gather(*opening)
    await ended
    return said
