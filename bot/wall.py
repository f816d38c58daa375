"""Which message in which chat shows an incident's chart, and up to which fact. Not in the ledger.

It may be lost: then a picture comes a second time. `peek` is what this process knows; `get` is what is so.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import orjson

from ledger.redis_store import Commands


@dataclass(frozen=True, slots=True)
class Hung:
    """One picture. *message* is empty where none arrived; *seq* is the newest fact that was tried."""

    message: str = ""
    seq: int = 0


class Wall(Protocol):
    def peek(self, tenant: str) -> Mapping[str, Hung]:
        """What this process knows of it; it may be old or empty."""

    async def get(self, tenant: str, field: str) -> Hung:
        """What is so. Raises StoreDown."""

    async def put(self, tenant: str, field: str, hung: Hung) -> None:
        """Raises StoreDown."""

    async def keep(self, tenant: str, incidents: Collection[str]) -> None:
        """Forget what is about any other incident. Raises StoreDown."""


class MemoryWall:
    """For tests and the simulator."""

    def __init__(self) -> None:
        self._hung: dict[str, dict[str, Hung]] = {}

    def peek(self, tenant: str) -> Mapping[str, Hung]:
        return self._hung.get(tenant, {})

    async def get(self, tenant: str, field: str) -> Hung:
        return self.peek(tenant).get(field, Hung())

    async def put(self, tenant: str, field: str, hung: Hung) -> None:
        self._hung.setdefault(tenant, {})[field] = hung

    async def keep(self, tenant: str, incidents: Collection[str]) -> None:
        kept = {field: hung for field, hung in self.peek(tenant).items() if _incident(field) in incidents}
        self._hung[tenant] = kept


class RedisWall:
    """In the hash `bot:{tenant}:pictures`, with a copy in memory for `peek`."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands
        self._known = MemoryWall()

    def peek(self, tenant: str) -> Mapping[str, Hung]:
        return self._known.peek(tenant)

    async def get(self, tenant: str, field: str) -> Hung:
        kept: bytes | None = await self._redis("HGET", f"bot:{{{tenant}}}:pictures", field)
        hung = Hung(**orjson.loads(kept)) if kept else Hung()
        await self._known.put(tenant, field, hung)
        return hung

    async def put(self, tenant: str, field: str, hung: Hung) -> None:
        told = {"message": hung.message, "seq": hung.seq}
        await self._redis("HSET", f"bot:{{{tenant}}}:pictures", field, orjson.dumps(told))
        await self._known.put(tenant, field, hung)

    async def keep(self, tenant: str, incidents: Collection[str]) -> None:
        fields: list[bytes] = await self._redis("HKEYS", f"bot:{{{tenant}}}:pictures")
        gone = [field for field in fields if _incident(field.decode()) not in incidents]
        if gone:
            await self._redis("HDEL", f"bot:{{{tenant}}}:pictures", *gone)
        await self._known.keep(tenant, incidents)


def _incident(field: str) -> str:
    return field.partition("|")[0]
