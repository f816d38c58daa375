"""What stands where: which message in which chat shows an incident, and what it shows. Not in the ledger.

It may be lost: then people get a card a second time, never none. `peek` is what this process knows; `get` is
what is so. One hash a tenant, a field for each incident and chat.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import orjson

from bot.ports import Address
from ledger.redis_store import Commands


@dataclass(frozen=True, slots=True)
class Shown:
    """One card in one chat. *message* is empty where nothing arrived, and *failed* says why not.

    *html* is its text and *digest* the first one's. *keys* tells its live buttons from others; *bared_ms* is
    when they were taken off for the next ones. *unsure*: an edit was begun, and whether it was made is not
    known. *stale* are older messages, id and text, with theirs. *silent*: the first came without sound.
    """

    message: str = ""
    first: str = ""
    revision: int = 0
    sounded: int = 0
    html: str = ""
    digest: str = ""
    keys: str = ""
    unsure: bool = False
    bared_ms: int = 0
    stale: tuple[tuple[str, str], ...] = ()
    failed: str = ""
    silent: bool = False


def name(incident: str, to: Address) -> str:
    """The field of one incident in one chat."""
    return f"{incident}|{to.channel}|{to.to}"


class ShownCards(Protocol):
    def peek(self, tenant: str) -> Mapping[str, Shown]:
        """What this process knows of it; it may be old or empty."""

    async def get(self, tenant: str, field: str) -> Shown | None:
        """What is so. Raises StoreDown."""

    async def put(self, tenant: str, field: str, shown: Shown) -> None:
        """Raises StoreDown."""

    async def keep(self, tenant: str, incidents: Collection[str]) -> None:
        """Forget what is about any other incident. Raises StoreDown."""

    def moved(self, tenant: str) -> Mapping[str, str]:
        """The new ids of chats that moved, as far as this process knows."""

    async def move(self, tenant: str, old: str, new: str) -> None:
        """The chat *old* is *new* from now on. Raises StoreDown."""


class MemoryShown:
    """For tests and the simulator."""

    def __init__(self) -> None:
        self.cards: dict[str, dict[str, Shown]] = {}
        self.chats: dict[str, dict[str, str]] = {}

    def peek(self, tenant: str) -> Mapping[str, Shown]:
        return self.cards.get(tenant, {})

    async def get(self, tenant: str, field: str) -> Shown | None:
        return self.peek(tenant).get(field)

    async def put(self, tenant: str, field: str, shown: Shown) -> None:
        self.cards.setdefault(tenant, {})[field] = shown

    async def keep(self, tenant: str, incidents: Collection[str]) -> None:
        self.cards[tenant] = {f: s for f, s in self.peek(tenant).items() if _incident(f) in incidents}

    def moved(self, tenant: str) -> Mapping[str, str]:
        return self.chats.get(tenant, {})

    async def move(self, tenant: str, old: str, new: str) -> None:
        self.chats.setdefault(tenant, {})[old] = new


class RedisShown:
    """In the hashes `bot:{tenant}:shown` and `bot:{tenant}:moved`, with a copy in memory for `peek`."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands
        self._known = MemoryShown()

    def peek(self, tenant: str) -> Mapping[str, Shown]:
        return self._known.peek(tenant)

    async def refresh(self, tenant: str) -> None:
        """Read which chats moved: once at the start."""
        found: Mapping[bytes, bytes] = await self._redis("HGETALL", f"bot:{{{tenant}}}:moved")
        self._known.chats[tenant] = {old.decode(): new.decode() for old, new in found.items()}

    async def get(self, tenant: str, field: str) -> Shown | None:
        kept: bytes | None = await self._redis("HGET", f"bot:{{{tenant}}}:shown", field)
        if kept is None:
            return None
        shown = _read(kept)
        await self._known.put(tenant, field, shown)
        return shown

    async def put(self, tenant: str, field: str, shown: Shown) -> None:
        await self._redis("HSET", f"bot:{{{tenant}}}:shown", field, orjson.dumps(asdict(shown)))
        await self._known.put(tenant, field, shown)

    async def keep(self, tenant: str, incidents: Collection[str]) -> None:
        fields: list[bytes] = await self._redis("HKEYS", f"bot:{{{tenant}}}:shown")
        gone = [field for field in fields if _incident(field.decode()) not in incidents]
        if gone:
            await self._redis("HDEL", f"bot:{{{tenant}}}:shown", *gone)
        await self._known.keep(tenant, incidents)

    def moved(self, tenant: str) -> Mapping[str, str]:
        return self._known.moved(tenant)

    async def move(self, tenant: str, old: str, new: str) -> None:
        await self._redis("HSET", f"bot:{{{tenant}}}:moved", old, new)
        await self._known.move(tenant, old, new)


def _read(kept: bytes) -> Shown:
    fields = orjson.loads(kept)
    return Shown(**fields | {"stale": tuple((message, html) for message, html in fields["stale"])})


def _incident(field: str) -> str:
    return field.partition("|")[0]
