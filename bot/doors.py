"""A door for what others send about one tenant: it knows the tenant's charter, and a secret for every caller.

Whoever knocks for a tenant or tool that is unknown is checked like anyone else, against a secret that nobody
has: the answer and the time it takes tell nothing of who lives here.
"""

from collections.abc import Mapping
from secrets import token_bytes
from typing import ClassVar

from aiohttp import web

from bot.app import Route
from bot.room import Room
from handlers.charter import Charter
from handlers.ports import Secrets
from ledger.clock import Clock
from ledger.view import epoch_ms

NOBODYS = token_bytes(32)


class Door[Kept]:
    """*rooms* are the tenants', *shelf* is where what comes in is kept."""

    path: ClassVar[str]

    def __init__(self, rooms: Mapping[str, Room], secrets: Secrets, shelf: Kept, clock: Clock) -> None:
        self._rooms = rooms
        self._secrets = secrets
        self._shelf = shelf
        self._clock = clock

    def routes(self) -> list[Route]:
        return [Route("POST", self.path, self.take)]

    async def take(self, request: web.Request) -> web.Response:
        """Answer what stands at `path`."""
        raise NotImplementedError

    def _charter(self, tenant: str) -> Charter | None:
        room = self._rooms.get(tenant)
        return room.charter if room else None

    def _secret(self, name: str | None) -> bytes:
        return (self._secrets.get(name) if name else None) or NOBODYS

    def _now_ms(self) -> int:
        return epoch_ms(self._clock.now())
