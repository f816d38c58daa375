"""Reads the health address of a monitored app: one pooled client a tenant, two seconds, four megabytes.

Our SDK answers slots, which add up exactly. What another tool answers, `alertengine` makes into a tick.
Whatever else comes back (an error page, a huge body, NaN) is a missed poll with its reason, never a guess.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp

from detectors.window import Tick
from handlers.adapters import alertengine, slots
from handlers.adapters.addresses import Addresses
from handlers.charter import Charter, Service
from handlers.ports import Polled, PortError, Secrets
from handlers.turns import Turns
from sdk import wire

TIMEOUT_S = 2.0
MOST_BYTES = 4 * 1024 * 1024
FIRST_SLOTS = 5
"""How many seconds of its past a service is asked for when we meet it."""
FAR_S = 10
"""An answer that ends up to so long before the one before is of a worker that knows less, and is no news."""


class HttpHealth:
    """`handlers.ports.Health` over HTTP."""

    def __init__(self, secrets: Secrets, connections: int = 64) -> None:
        self._secrets = secrets
        self._connections = connections
        self._sessions: dict[str, tuple[tuple[str, ...], aiohttp.ClientSession]] = {}
        self._rivals = alertengine.Memory()
        self._turns = Turns()

    async def close(self) -> None:
        for _, session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def poll(self, charter: Charter, service: Service, cursor: int, now_ms: int) -> Polled:
        """What ended since *cursor*. Raises PortError with the reason in a few words."""
        session = await self._session(charter)
        headers = self._headers(service)
        await self._turns.mine()  # many begin, and many answers arrive, at once: others go in between
        body = await _get(session, _asking(service.health_url, cursor), headers)
        await self._turns.mine()
        if read := slots.read(body):
            window = _window(read.head.now_ms, cursor)
            return _polled(read.head, read.between(window.oldest, window.newest), window, now_ms)
        answer = _object(body)
        if answer.get("schema") == wire.SCHEMA:
            return _from_slots(answer, cursor, now_ms)
        counter = _object(await _get(session, alertengine.counter_url(service.health_url), headers))
        key = f"{charter.tenant.id}/{service.id}"
        return Polled(self._rivals.tick(key, answer, counter, now_ms), now_ms // 1000)

    def _headers(self, service: Service) -> dict[str, str]:
        token = self._secrets.get(service.token_env) if service.token_env else None
        return {"Authorization": f"Bearer {token.decode()}"} if token else {}

    async def _session(self, charter: Charter) -> aiohttp.ClientSession:
        """The tenant's own client: a kept connection is not judged again, so tenants never share one."""
        name, networks = charter.tenant.id, charter.tenant.allow_networks
        kept = self._sessions.get(name)
        if kept and kept[0] == networks:
            return kept[1]
        if kept:
            await kept[1].close()
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=Addresses(networks), limit=self._connections, use_dns_cache=False
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        self._sessions[name] = networks, session
        return session


def _asking(url: str, cursor: int) -> str:
    """The address at which *url* answers what ended since *cursor*, in slots."""
    asked = url.partition("#")[0]
    return f"{asked}{'&' if '?' in asked else '?'}format=slots&since={cursor}"


async def _get(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> bytes:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            async with session.get(url, headers=headers, allow_redirects=False) as response:
                if response.status != 200:
                    raise PortError(f"answered {response.status}", status=response.status)
                return await _capped(response)
    except TimeoutError:
        raise PortError(f"gave no answer within {TIMEOUT_S:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise PortError(f"could not be reached ({type(error).__name__})") from None


async def _capped(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            raise PortError(f"answered more than {MOST_BYTES // 1024 // 1024} MB")
    return bytes(body)


def _object(body: bytes) -> dict[str, object]:
    try:
        parsed: object = json.loads(body, parse_constant=_no_such_number)
    except (ValueError, RecursionError):
        raise PortError("answered something that is not JSON") from None
    if not isinstance(parsed, dict):
        raise PortError("answered JSON that is not an object")
    return parsed


def _no_such_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _from_slots(answer: Mapping[str, object], cursor: int, now_ms: int) -> Polled:
    try:
        snapshot = wire.parse(answer)
    except wire.Malformed as malformed:
        raise PortError(f"answered slots that are none: {malformed}") from None
    return tick_of(snapshot, cursor, now_ms)


def tick_of(snapshot: wire.Snapshot, cursor: int, now_ms: int) -> Polled:
    """What ended after *cursor* by the app's own clock, and where that goes on."""
    window = _window(snapshot.now_ms, cursor)
    counted = (slot for slot in snapshot.slots if window.oldest < slot.t <= window.newest)
    return _polled(snapshot, wire.merge_slots(counted), window, now_ms)


class _Window(NamedTuple):
    """The app's second after which slots count, the newest that is over, and where the next poll goes on."""

    oldest: int
    newest: int
    cursor: int


def _window(app_ms: int, cursor: int) -> _Window:
    newest = app_ms // 1000 - 1
    if cursor - newest > FAR_S:  # the app's clock was set back: go on from here, and count nothing twice
        return _Window(newest, newest, newest)
    oldest = max(cursor, newest - (wire.MAX_SLOTS if cursor else FIRST_SLOTS))
    return _Window(oldest, newest, max(newest, cursor))


def _polled(snapshot: wire.Snapshot, merged: wire.Slot, window: _Window, now_ms: int) -> Polled:
    tick = Tick(
        at_ms=now_ms,
        span_ms=max(0, window.newest - window.oldest) * 1000,
        n=merged.n,
        errors=merged.errors,
        client_errors=merged.client_errors,
        aborted=merged.aborted,
        hist=merged.hist,
        inflight=snapshot.inflight,
        oldest_ms=snapshot.oldest_ms,
        routes=merged.routes,
        dependencies=merged.dependencies,
        gauges=snapshot.saturation,
        app_ms=snapshot.now_ms,
        workers=snapshot.workers,
        workers_stale=snapshot.workers_stale,
    )
    return Polled(tick, window.cursor)
