"""Pushes what a worker counted to the bot, for an app that nobody can reach.

Every two seconds a thread posts the present and the closed seconds that have not been acknowledged. What
fails is posted again, after a pause that grows to five seconds; the queue is the last minute itself, and what
falls out of it is counted as *lost*. A refusal is told once in the log and in the health answer, and asked
about again every fifteen seconds. Nothing of this is on the path of a request.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import random
import socket
import ssl
import threading
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from .parcel import pack
from .together import Word
from .word import split
from .worker import Speaker, Worker, until_next_second

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
LONGEST_S = 10.0
LONGEST_PAUSE_S = 5.0
REFUSED_PAUSE_S = 15.0
MOST_LINES = 1024 * 1024
MOST_ANSWER = 4096


@dataclass(frozen=True)
class Target:
    """Where pushes go, and the token that opens it."""

    host: str
    port: int | None
    path: str
    tls: bool
    token: str = field(repr=False)

    @classmethod
    def parse(cls, url: str, token: str | None) -> Target:
        """Return what ``https://bot/ingest/<tenant>/<service>`` says. Raises ValueError with a sentence."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as e:
            raise ValueError(
                f"push_url is no address ({e}): write https://bot/ingest/<tenant>/<service>"
            ) from e
        if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
            raise ValueError("push_url is no address: write https://bot/ingest/<tenant>/<service>")
        if parts.scheme == "http" and not _is_here(host):
            raise ValueError("push_url would send its token in clear text: write https://")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError(
                "push_token is missing, or is no token: give the one that the charter's push names"
            )
        return cls(host, port, parts.path or "/", parts.scheme == "https", token)

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection that is opened by its first request."""
        if self.tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT_S, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Pusher(Speaker):
    """Posts one worker's word to *target*. *trouble* says why the last push did not arrive, or nothing."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.trouble = ""
        self.lost = 0

    def begin(self, worker: Worker) -> None:
        self._worker = worker
        self._number = self._failures = 0
        self._waiting: set[int] = set()
        self._arrived: set[int] = set()
        self._connection = self._target.connect()
        self._jitter = random.Random(worker.name)
        super().begin(worker)

    def say(self, word: Word) -> float:
        """Post what has not arrived; return in how many seconds to go on."""
        self._note(word)
        waiting = {t: word.seconds[t] for t in self._waiting}
        for seconds in split(waiting, MOST_LINES):
            self._number += 1
            body = pack(self._worker.name, self._number, word, seconds)
            try:
                status = self._post(body)
            except (OSError, http.client.HTTPException) as e:
                return self._failed(f"the bot could not be reached ({type(e).__name__})", LONGEST_PAUSE_S)
            if status >= 500 or status in {408, 429}:
                return self._failed(f"the bot answered {status}", LONGEST_PAUSE_S)
            if status >= 300:
                return self._failed(f"the bot refuses what is pushed: it answered {status}", REFUSED_PAUSE_S)
            self._arrived |= seconds.keys()
            self._waiting -= seconds.keys()
        self._failures, self.trouble = 0, ""
        return until_next_second() + 1

    def close(self, worker: Worker) -> None:
        super().close(worker)
        self._connection.close()

    def _note(self, word: Word) -> None:
        """Queue the seconds that are new; count those that left the minute without having arrived."""
        self.lost += len(self._waiting - word.seconds.keys())
        self._arrived &= word.seconds.keys()
        self._waiting = word.seconds.keys() - self._arrived

    def _post(self, body: bytes) -> int:
        """Return what the bot answered. A kept connection may have been closed meanwhile: then on another."""
        kept = self._connection.sock is not None
        try:
            return self._once(body)
        except ConnectionError:
            if not kept:
                raise
            return self._once(body)

    def _once(self, body: bytes) -> int:
        connection = self._connection
        headers = {"Authorization": f"Bearer {self._target.token}", "Content-Type": "application/gzip"}
        late = threading.Timer(
            LONGEST_S, _cut, [connection]
        )  # an answer that drips in is never late by itself
        late.start()
        try:
            connection.request("POST", self._target.path, body, headers)
            answer = connection.getresponse()
            answer.read(MOST_ANSWER)
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        finally:
            late.cancel()
        if not answer.isclosed():
            connection.close()
        return answer.status

    def _failed(self, why: str, longest_s: float) -> float:
        if not self.trouble:
            log.warning("what was counted is not with the bot: %s", why)
        self.trouble = why
        self._failures += 1
        pause: float = min(longest_s, 0.5 * 2.0 ** min(self._failures, 6))
        return pause * self._jitter.uniform(0.5, 1.0)


def _cut(connection: http.client.HTTPConnection) -> None:
    """End what a connection is waiting for."""
    with contextlib.suppress(OSError, AttributeError):  # it has been closed in the meantime
        connection.sock.shutdown(socket.SHUT_RDWR)
