"""The bot's own state on Redis (`bot:*`): what may be lost or erased without a fact being lost.

Each class is the Redis adapter of one small port; the port's owner says what it means.
"""

import base64
import hmac
import json
import secrets
from collections.abc import Mapping
from hashlib import sha256

from handlers.charter import Charter
from handlers.shadow import KEPT_MS
from ledger.redis_store import Commands

LINK_CODE_MS = 600_000


def _texts(reply: Mapping[bytes, bytes]) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in reply.items()}


class RedisLinks:
    """`roster.Links`: vendor ids by code, in `bot:{tenant}:links`, read once and again with each sweep."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands
        self._found: dict[str, dict[str, str]] = {}

    def all(self, tenant: str) -> Mapping[str, str]:
        return self._found.get(tenant, {})

    async def refresh(self, tenant: str) -> None:
        self._found[tenant] = _texts(await self._redis("HGETALL", f"bot:{{{tenant}}}:links"))

    async def put(self, tenant: str, identity: str, person: str) -> None:
        await self._redis("HSET", f"bot:{{{tenant}}}:links", identity, person)
        self._found.setdefault(tenant, {})[identity] = person

    async def drop(self, tenant: str, identity: str) -> None:
        await self._redis("HDEL", f"bot:{{{tenant}}}:links", identity)
        self._found.get(tenant, {}).pop(identity, None)


class RedisStates:
    """`detect.States`: what detection has folded, a text a service, in `bot:{tenant}:states`."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands

    async def load(self, tenant: str, service: str) -> str | None:
        kept: bytes | None = await self._redis("HGET", f"bot:{{{tenant}}}:states", service)
        return kept.decode() if kept is not None else None

    async def save(self, tenant: str, states: Mapping[str, str]) -> None:
        flat = [part for pair in states.items() for part in pair]
        await self._redis("HSET", f"bot:{{{tenant}}}:states", *flat)


class RedisShadows:
    """`shadow.Shelf`: what rules in shadow would have said, a text a service, in `bot:{tenant}:shadow`.

    It goes when nobody wrote to it for as long as an episode is kept.
    """

    def __init__(self, commands: Commands) -> None:
        self._redis = commands

    @staticmethod
    def _key(tenant: str) -> str:
        return f"bot:{{{tenant}}}:shadow"

    async def all(self, tenant: str) -> Mapping[str, str]:
        return _texts(await self._redis("HGETALL", self._key(tenant)))

    async def load(self, tenant: str, service: str) -> str | None:
        kept: bytes | None = await self._redis("HGET", self._key(tenant), service)
        return kept.decode() if kept is not None else None

    async def save(self, tenant: str, service: str, text: str) -> None:
        await self._redis("HSET", self._key(tenant), service, text)
        await self._redis("PEXPIRE", self._key(tenant), KEPT_MS)


class RedisLinkCodes:
    """`adoption.LinkCodes`: hashed, ten minutes, one use."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands

    @staticmethod
    def _key(tenant: str, code: str) -> str:
        return f"bot:{{{tenant}}}:link:{sha256(code.encode()).hexdigest()}"

    async def issue(self, tenant: str, person: str, channel: str, by: str) -> str:
        code = base64.b32encode(secrets.token_bytes(5)).decode()
        await self._redis(
            "SET", self._key(tenant, code), json.dumps([person, channel, by]), "PX", LINK_CODE_MS
        )
        return code

    async def redeem(self, tenant: str, code: str) -> tuple[str, str, str] | None:
        kept = await self._redis("GETDEL", self._key(tenant, code))
        if kept is None:
            return None
        person, channel, by = json.loads(kept)
        return person, channel, by


class RedisAsked:
    """`reload.Asked`: what a tenant's admins were last asked to adopt, in `bot:{tenant}:asked`."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands

    async def first(self, tenant: str, what: str) -> bool:
        before: bytes | None = await self._redis("GETSET", f"bot:{{{tenant}}}:asked", what)
        return before is None or before.decode() != what

    async def forget(self, tenant: str) -> None:
        await self._redis("DEL", f"bot:{{{tenant}}}:asked")


class RedisTold:
    """`glass.Told`: when people were last told of each broken glass, in `bot:{tenant}:glass`."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands

    async def last(self, tenant: str, hash: str) -> int:
        return int(await self._redis("HGET", f"bot:{{{tenant}}}:glass", hash) or 0)

    async def tell(self, tenant: str, hash: str, at_ms: int) -> None:
        await self._redis("HSET", f"bot:{{{tenant}}}:glass", hash, at_ms)


class RedisCharters:
    """The charters that were adopted, contacts included, so that the one in force outlives its file."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands

    async def keep(self, charter: Charter) -> None:
        key = f"bot:{{{charter.tenant.id}}}:charters"
        await self._redis("HSETNX", key, charter.digest(), charter.model_dump_json())

    async def find(self, tenant: str, digest: str) -> Charter | None:
        kept = await self._redis("HGET", f"bot:{{{tenant}}}:charters", digest)
        return Charter.model_validate_json(kept) if kept else None


async def salt(commands: Commands, tenant: str) -> str:
    """What makes the commitments to this tenant's identities unreadable: made once."""
    key = f"bot:{{{tenant}}}:salt"
    await commands("SET", key, secrets.token_hex(16), "NX")
    kept: bytes = await commands("GET", key)
    return kept.decode()


class EnvironmentSecrets:
    """`ports.Secrets`: the secrets that charters name, from the process's environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def get(self, name: str) -> bytes | None:
        value = self._environment.get(name)
        return value.encode() if value else None


def same(given: str, wanted: str) -> bool:
    """Whether two secrets are equal, in constant time."""
    return hmac.compare_digest(given.encode(), wanted.encode())
