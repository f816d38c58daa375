"""As much of a Redis client as the workers of an app need to meet: RESP 2, pipelined, on one connection.

No command waits longer than its deadline, whatever the server does: connecting, TLS, and an answer that
drips in count together. Anything that goes wrong raises OSError and ends the connection; the next call opens
a new one. Docs: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

DEADLINE_S = 0.5
MOST_BYTES = 16 * 1024 * 1024
MOST_ITEMS = 100_000
PORT = 6379

Reply = bytes | int | list["Reply"] | None
Command = Sequence[object]
"""Bytes as they are; anything else as its text."""


class Refused(OSError):
    """The server answered with an error; the message is its own."""


class Garbled(OSError):
    """What answered does not speak RESP, or says more than anyone may."""


@dataclass(frozen=True)
class Address:
    """Where a server is and who we are there, from a URL as redis-py reads it."""

    host: str = ""
    port: int = PORT
    path: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    tls: bool = False
    verify: bool = True
    ca: str | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Return what ``redis://``, ``rediss://`` or ``unix://`` says. Raises ValueError with a sentence."""
        try:
            parts = urlsplit(url)
            port = parts.port or PORT
        except ValueError as e:
            raise _no_address(str(e)) from None
        asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        local = parts.scheme == "unix"
        db = asked.get("db", "0") if local else parts.path.strip("/") or asked.get("db", "0")
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise _no_address("it begins with something else")
        if not (db.isascii() and db.isdigit()):
            raise _no_address("its database is no number")
        if not (parts.path if local else parts.hostname):
            raise _no_address("it names no server")
        return cls(
            host=parts.hostname or "",
            port=port,
            path=unquote(parts.path) if local else "",
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            db=int(db),
            tls=parts.scheme == "rediss",
            verify=asked.get("ssl_cert_reqs", "required") != "none",
            ca=asked.get("ssl_ca_certs"),
        )

    @property
    def greeting(self) -> list[Command]:
        """What is said first on a new connection."""
        said: list[Command] = []
        if self.password:
            said.append(("AUTH", self.user, self.password) if self.user else ("AUTH", self.password))
        if self.db:
            said.append(("SELECT", self.db))
        return said


class Client:
    """One connection, for one thread at a time."""

    def __init__(self, address: Address, deadline_s: float = DEADLINE_S) -> None:
        self._address, self._deadline_s = address, deadline_s
        self._socket: socket.socket | None = None
        self._until = 0.0
        self._buffer = b""

    def __call__(self, *commands: Command) -> list[Reply]:
        """Return the answers to *commands*, sent at once. Raises OSError."""
        self._until = time.monotonic() + self._deadline_s
        try:
            if self._socket is None:
                self._connect()
            return self._exchange(commands)
        except OSError:
            self.close()
            raise
        except (ValueError, RecursionError) as e:
            self.close()
            raise Garbled(f"the server does not speak Redis's protocol ({e})") from None

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def _connect(self) -> None:
        a = self._address
        if a.path:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(self._left())
            self._socket.connect(a.path)
        else:
            self._socket = socket.create_connection((a.host, a.port), self._left())
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if a.tls:
            context = ssl.create_default_context(cafile=a.ca)
            if not a.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._socket.settimeout(self._left())
            self._socket = context.wrap_socket(self._socket, server_hostname=a.host)
        self._exchange(a.greeting)

    def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        if not commands or self._socket is None:
            return []
        self._socket.settimeout(self._left())
        self._socket.sendall(b"".join(map(packed, commands)))
        replies = [self._reply() for _ in commands]
        refusal = next((one for one in replies if isinstance(one, Refused)), None)
        if refusal is not None:
            raise refusal
        return replies  # type: ignore[return-value]

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"Redis did not answer within {self._deadline_s:g} s")
        return left

    def _reply(self, depth: int = 0) -> Reply | Refused:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Refused(rest[:200].decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = _size(rest, MOST_BYTES)
            return None if size < 0 else self._take(size + 2)[:-2]
        if kind == b"*" and depth < 3:
            size = _size(rest, MOST_ITEMS)
            return None if size < 0 else [self._item(depth + 1) for _ in range(size)]
        raise Garbled(f"the server does not speak Redis's protocol: it said {line[:40]!r}")

    def _item(self, depth: int) -> Reply:
        found = self._reply(depth)
        if isinstance(found, Refused):
            raise found
        return found

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > 4096:
                raise Garbled("the server does not speak Redis's protocol: its line does not end")
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _take(self, size: int) -> bytes:
        parts, missing = [self._buffer[:size]], size - len(self._buffer)
        self._buffer = self._buffer[size:]
        while missing > 0:
            self._more()
            parts.append(self._buffer[:missing])
            self._buffer, missing = self._buffer[missing:], missing - len(self._buffer)
        return b"".join(parts)

    def _more(self) -> None:
        if self._socket is None:
            raise ConnectionResetError("the connection to Redis is closed")
        self._socket.settimeout(self._left())
        found = self._socket.recv(65536)
        if not found:
            raise ConnectionResetError("Redis closed the connection")
        self._buffer += found


def _no_address(why: str) -> ValueError:
    return ValueError(
        f"redis_url is no address ({why}): write redis://host:6379/0, or rediss:// or unix:///path"
    )


def packed(command: Command) -> bytes:
    """Return a command as it goes over the wire."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _size(text: bytes, most: int) -> int:
    size = int(text)
    if size > most:
        raise Garbled(f"the server wants to say {size} at once, more than {most}")
    return size
