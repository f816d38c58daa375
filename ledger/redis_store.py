"""The Redis adapter of the ledger's store, and the one FUNCTION that appends.

* `led:{acme}:log:00000` is a LIST of `"<64 hex leaf hash> <canonical json>"`, 65,536 entries a segment. A
  LIST, not a STREAM: a client that is allowed only XADD can still truncate with MAXLEN.
* `led:{acme}:ckpt` is the latest signed checkpoint, `led:{acme}:ckpts` (a LIST) those of the rotations of the
  key, `led:{acme}:cosigned` the newest that a witness signed too: whoever reads one verifies it.
  `led:{acme}:texts` charter and policy texts by digest, `led:{acme}:vault` what people typed, by commitment.
  One hash tag a tenant, so that one node has all of it.
* `ledger_append` compares length and head, then pushes all entries and sets the checkpoint, or returns what
  was missed. Hashing is done here: Lua has no SHA-256. All checks come before the first write.
* One call, one try: an append is never sent again by itself. Who gets StoreDown reads first.
* Where the server has replicas, an append counts once one of them has it (`WAIT 1`). Who has seen a replica
  goes on asking for one: a master that has lost them may be the wrong half of a split.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from ledger.archive import Archive
from ledger.chain import GENESIS, BrokenChain, Entry, Head, Malformed, parse
from ledger.line import Line
from ledger.store import (
    MOST_MISSED,
    Conflict,
    Durability,
    Refused,
    Sealed,
    StoreDown,
    check_batch,
    check_chain,
    element_of,
)

SEGMENT = 65_536
CHANNEL = "led:changes"
LIBRARY = "countersign"
OLDEST_SERVER = 7
REPLICA_MS = 500
DURABLE_SETTINGS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
FUNCTION = """#!lua name=countersign
-- KEYS: checkpoint, segment of the expected entry, segments to write to
-- ARGV: "seq hash size missed channel tenant" (those expected, a segment, at most), note, elements
local FIXED = 2
local TOLD = '^(%d+) (%x+) (%d+) (%d+) (%S+) (%S+)$'

local function append(keys, args)
  local seq, hash, size, most, channel, tenant = string.match(args[1], TOLD)
  seq, size = tonumber(seq), tonumber(size)
  local at = seq % size
  local length = redis.call('LLEN', keys[3])
  if length > at then
    local missed = redis.call('LRANGE', keys[3], at, at + tonumber(most) - 1)
    return {'CONFLICT', missed, redis.call('GET', keys[1]) or ''}
  end
  if length < at or (at == 0 and seq > 0 and redis.call('LLEN', keys[2]) ~= size) then
    return {'SEALED', 'it is shorter than the ' .. seq .. ' entries that it had.'}
  end
  if seq > 0 and string.sub(redis.call('LINDEX', keys[2], -1), 1, 65) ~= hash .. ' ' then
    return {'SEALED', 'its entry ' .. seq .. ' is not the one that was there.'}
  end
  for later = 4, #keys do
    if redis.call('LLEN', keys[later]) ~= 0 then
      return {'SEALED', 'there is a segment beyond its end.'}
    end
  end
  local from, segment = FIXED + 1, 3
  while from <= #args do
    local count = math.min(size - at, #args - from + 1, 512)
    redis.call('RPUSH', keys[segment], unpack(args, from, from + count - 1))
    from, at = from + count, at + count
    if at == size then at, segment = 0, segment + 1 end
  end
  if args[2] ~= '' then redis.call('SET', keys[1], args[2]) end
  redis.pcall('PUBLISH', channel, tenant)
  return {'OK'}
end

redis.register_function('ledger_append', append)
"""

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def connect(
    url: str, *, tls_verify: str = "full", timeout_s: float = 5.0, connections: int = 16
) -> redis.Redis:
    """A client of *url* that waits for a free connection, and sends each command once.

    *tls_verify* is for `rediss://`: `full`, `none`, or `ca:<path>` of the authority to trust.
    """
    pool = redis.BlockingConnectionPool.from_url(
        url,
        protocol=2,
        max_connections=connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        **(_tls(tls_verify) if url.startswith("rediss:") else {}),
    )
    return redis.Redis.from_pool(pool)


type Commands = Callable[..., Awaitable[Any]]
"""Sends one command and returns the server's reply, which redis-py does not type. Raises StoreDown."""


def commands(client: redis.Redis) -> Commands:
    """What the store sends its commands with; also for keys that are no ledger's, the bot's own (`bot:*`)."""
    execute: Commands = client.execute_command

    async def call(*command: bytes | str | int) -> Any:
        with _translated():
            return await execute(*command)

    return call


def _tls(verify: str) -> dict[str, str | bool]:
    match verify.partition(":"):
        case ("full", "", ""):
            return {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        case ("none", "", ""):
            return {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
        case ("ca", ":", path):
            return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": path}
    raise ValueError(f"REDIS_TLS_VERIFY is full, none or ca:<path>, not {verify!r}.")


class RedisStore:
    """The store of `ledger.store` on Redis ≥ 7 or Valkey. *segment* is entries a LIST, and never changes.

    *archive* is the folder from which segments that have left the server are read.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        declared: bool = False,
        segment: int = SEGMENT,
        archive: Path | None = None,
    ) -> None:
        self._redis = client
        self._call = commands(client)
        pool = client.connection_pool
        self._line = Line(pool, pool.connection_kwargs["socket_timeout"], ResponseError)
        self._declared = declared
        self._size = segment
        self._archive = Archive(archive) if archive else None
        self._full: dict[str, int] = {}
        self._replicated: bool | None = None
        self._doubts = self._settled = 0

    @property
    def segment(self) -> int:
        """How many entries a segment has."""
        return self._size

    @property
    def commands(self) -> Commands:
        """What it sends its commands with, for whoever examines the server."""
        return self._call

    async def close(self) -> None:
        await self._redis.aclose()

    async def append(
        self, tenant: str, entries: Sequence[Entry], expected: Head, note: str = ""
    ) -> Conflict | None:
        check_batch(tenant, entries, expected)
        keys = self._append_keys(tenant, expected.seq, len(entries))
        if expected == GENESIS and await self.archived(tenant):
            return Conflict(await self.read(tenant, 0, MOST_MISSED))
        told = f"{expected.seq} {expected.hash} {self._size} {MOST_MISSED} {CHANNEL} {tenant}"
        answer = await self._confirmed(
            "FCALL", "ledger_append", len(keys), *keys, told, note, *map(element_of, entries)
        )
        match answer:
            case [b"OK"]:
                return None
            case [b"CONFLICT", [*elements], signed]:
                return Conflict(_chained(expected, elements), _note(signed))
            case [b"SEALED", reason]:
                if (expected.seq - 1) // self._size < await self.archived(tenant):
                    return await self._missed_long_ago(tenant, expected, Sealed(reason.decode()))
                raise Sealed(reason.decode())
        raise StoreDown(f"ledger_append answered {answer!r:.80}.")

    async def _missed_long_ago(self, tenant: str, expected: Head, sealed: Sealed) -> Conflict:
        """What follows *expected* where it was archived meanwhile. Raises *sealed* if nothing does."""
        missed = await self.read(tenant, expected.seq, MOST_MISSED)
        if not missed or missed[0].prev != expected.hash:
            raise sealed
        return Conflict(missed)

    async def read(self, tenant: str, after: int, limit: int) -> list[Entry]:
        elements = await self.elements(tenant, after, limit)
        if not elements:
            return []
        first = _entry(elements[0], after + 1)
        return [first, *_chained(first.head, elements[1:])]

    async def elements(self, tenant: str, after: int, limit: int) -> list[bytes]:
        await self._settle()
        found: list[bytes] = []
        while len(found) < limit:
            segment, at = divmod(after + len(found), self._size)
            to = min(at + limit - len(found), self._size) - 1
            part = await self._part(tenant, segment, at, to)
            found += part
            if len(part) <= to - at:
                break
        return found

    async def _part(self, tenant: str, segment: int, at: int, to: int) -> list[bytes]:
        """What a segment has from *at* to *to*, archived or not. Raises Sealed if it is missing."""
        part: list[bytes] = await self._call("LRANGE", _log(tenant, segment), at, to)
        if part or segment >= await self.archived(tenant):
            return part
        if self._archive is None:
            raise Sealed(
                f"its entries up to {(segment + 1) * self._size} were archived. Name the archive's folder: "
                "--archive, or DATA_DIR/archive for the program."
            )
        return (await self._archive.elements(tenant, segment, self._size))[at : to + 1]

    async def archived(self, tenant: str) -> int:
        """How many whole segments have left the server."""
        said = await self._call("GET", _key(tenant, "archived")) or b"0"
        if not said.isdigit():
            raise Sealed("what says how many of its segments were archived is no number.")
        return int(said)

    async def set_archived(self, tenant: str, segments: int) -> None:
        """From now on the first *segments* are read from the archive. For the archiver."""
        await self._call("SET", _key(tenant, "archived"), segments)

    async def drop_segment(self, tenant: str, segment: int) -> None:
        """Take an archived segment away. For the archiver. Raises ValueError for any other."""
        if segment >= await self.archived(tenant):
            raise ValueError(f"Segment {segment} of {tenant} was not archived.")
        await self._call("DEL", _log(tenant, segment))

    async def head(self, tenant: str) -> Head:
        await self._settle()
        segment = max(self._full.get(tenant, 0), await self.archived(tenant))
        while (length := await self._call("LLEN", _log(tenant, segment))) == self._size:
            segment += 1
            self._full[tenant] = segment
        if length > self._size:
            raise Sealed(f"segment {segment} has {length} entries, at most {self._size} are ours.")
        holder = segment if length else segment - 1
        if holder < 0:
            return GENESIS
        tail = await self._call("LINDEX", _log(tenant, holder), -1)
        if tail is None:
            raise Sealed(f"segment {holder} has gone.")
        return self._placed(_entry(tail), holder).head

    def _placed(self, entry: Entry, segment: int) -> Entry:
        if (entry.seq - 1) // self._size != segment:
            raise Sealed(f"entry {entry.seq} stands in segment {segment}.")
        return entry

    async def note(self, tenant: str) -> str:
        return _note(await self._call("GET", _key(tenant, "ckpt")))

    async def keep_note(self, tenant: str, note: str) -> None:
        await self._confirmed("RPUSH", _key(tenant, "ckpts"), note)

    async def kept_notes(self, tenant: str) -> list[str]:
        return list(map(_note, await self._call("LRANGE", _key(tenant, "ckpts"), 0, -1)))

    async def keep_cosigned(self, tenant: str, note: str) -> None:
        await self._call("SET", _key(tenant, "cosigned"), note)

    async def cosigned(self, tenant: str) -> str:
        return _note(await self._call("GET", _key(tenant, "cosigned")))

    async def _confirmed(self, *command: bytes | str | int) -> Any:
        """As `_call`; where there are replicas, the reply counts once one of them has caught up."""
        if self._replicated is None:
            await self._look_for_replicas()
        if not self._replicated:
            with _translated():
                return await (self._call if self._line.busy else self._line.call)(*command)
        try:
            return await self._waited(command)
        except StoreDown:
            self._doubts += 1
            raise

    async def _settle(self) -> None:
        """Before anything is read: it may be an append of ours that no replica has confirmed.

        Replication is in order, so a message that a replica has stands for all that went before it.
        """
        if self._settled < (doubts := self._doubts):
            await self._confirmed("PUBLISH", CHANNEL, "")
            self._settled = max(self._settled, doubts)

    async def _waited(self, command: tuple[bytes | str | int, ...]) -> Any:
        """The reply to *command*, once a replica has all that this connection wrote. Raises StoreDown."""
        with _translated():
            async with self._redis.pipeline(transaction=False) as pipeline:
                send: Callable[..., object] = pipeline.execute_command
                send(*command)
                send("WAIT", 1, REPLICA_MS)
                reply, replicas = await pipeline.execute(raise_on_error=False)
            for answer in (reply, replicas):
                if isinstance(answer, RedisError):
                    raise answer
        if not replicas:
            raise StoreDown(f"No replica confirmed within {REPLICA_MS} ms.")
        return reply

    async def _look_for_replicas(self) -> None:
        try:
            role = await self._call("ROLE")
        except Refused:
            role = []
        self._replicated = bool(self._replicated) or (role[:1] == [b"master"] and bool(role[2]))

    async def durability(self) -> Durability:
        await self._look_for_replicas()
        settings = await self.settings()
        if settings.keys() < DURABLE_SETTINGS.keys():
            return Durability.DECLARED if self._declared else Durability.UNVERIFIED
        return Durability.DURABLE if settings == DURABLE_SETTINGS else Durability.NOT_DURABLE

    async def settings(self) -> dict[str, str]:
        """The server's settings that `DURABLE_SETTINGS` names, or as many as it lets us see."""
        try:
            return _pairs(await self._call("CONFIG", "GET", *DURABLE_SETTINGS))
        except Refused:
            return {}

    async def load_functions(self) -> None:
        """Load the FUNCTION if the server has another or none. For the deploy user; safe to repeat.

        Raises StoreDown for a server older than Redis 7.
        """
        await self.check_version()
        if not await self.functions_current():
            await self._call("FUNCTION", "LOAD", "REPLACE", FUNCTION)

    async def functions_current(self) -> bool:
        """Whether the server's FUNCTION is exactly ours."""
        listed = await self._call("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY, "WITHCODE")
        return any(_pairs(library).get("library_code") == FUNCTION for library in listed)

    async def check_version(self) -> str:
        """The server's version. Raises StoreDown, with a sentence, if it is older than Redis 7."""
        version = await self._version()
        if int(version.split(".")[0].split()[0]) < OLDEST_SERVER:
            raise StoreDown(
                f"The server is Redis {version}; the ledger needs Redis 7 or Valkey, for FUNCTIONs that "
                f"survive a restart. Point REDIS_URL at a newer one, or unset it to use the embedded Valkey."
            )
        return version

    async def _version(self) -> str:
        try:
            return _pairs(await self._call("HELLO"))["version"]
        except Refused as refused:
            if "unknown command" in str(refused):
                return "5 or older"
            raise

    async def put_text(self, tenant: str, digest: str, text: str) -> None:
        await self._call("HSETNX", _key(tenant, "texts"), digest, text)

    async def get_text(self, tenant: str, digest: str) -> str | None:
        return _text(await self._call("HGET", _key(tenant, "texts"), digest))

    async def put_secret_value(self, tenant: str, commitment: str, value: str) -> None:
        await self._call("HSETNX", _key(tenant, "vault"), commitment, value)

    async def get_secret_value(self, tenant: str, commitment: str) -> str | None:
        return _text(await self._call("HGET", _key(tenant, "vault"), commitment))

    async def erase_secret_values(self, tenant: str, commitments: Collection[str]) -> int:
        if not commitments:
            return 0
        return int(await self._call("HDEL", _key(tenant, "vault"), *commitments))

    async def write_anew(self) -> bool:
        """Have the server write its file anew, without what was erased. False where it does not let us."""
        try:
            await self._call("BGREWRITEAOF")
        except Refused:
            return False
        return True

    async def changes(self) -> AsyncIterator[str]:
        listener: Any = self._redis.pubsub()
        try:
            with _translated():
                await listener.subscribe(CHANNEL)
            while True:
                with _translated():
                    heard = await listener.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if heard is not None and heard["data"]:
                    yield heard["data"].decode()
        finally:
            await listener.aclose()

    def _append_keys(self, tenant: str, seq: int, count: int) -> list[str]:
        expected = max(seq - 1, 0) // self._size
        written = range(seq // self._size, (seq + count - 1) // self._size + 1)
        return [_key(tenant, "ckpt"), _log(tenant, expected), *(_log(tenant, segment) for segment in written)]


async def refused(call: Commands, *command: bytes | str | int) -> bool:
    """Whether the server refuses *command* for want of rights. It is sent: choose one that does no harm."""
    try:
        await call(*command)
    except Refused as answer:
        return isinstance(answer.__cause__, NoPermissionError)
    return False


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            raise Sealed("one of its keys is not of the type that we wrote.") from error
        raise Refused(_advice(f"Redis refused: {error}")) from error
    except (RedisError, OSError) as error:
        raise StoreDown(_advice(f"Redis does not answer: {error}")) from error


def _advice(error: str) -> str:
    if "Function not found" in error:
        return "Redis has no function ledger_append. Run `python -m bot release` once."
    if "CERTIFICATE_VERIFY_FAILED" in error:
        return (
            "The certificate of Redis is signed by nobody that this machine trusts. Best: name it, "
            "REDIS_TLS_VERIFY=ca:<path>. Where the provider signs its own, as Heroku does, "
            "REDIS_TLS_VERIFY=none still encrypts, but does not notice somebody else in its place."
        )
    return error


@lru_cache(maxsize=1024)
def _key(tenant: str, name: str) -> str:
    if not _TENANT.fullmatch(tenant):
        raise ValueError(f"{tenant!r} cannot be the name of a tenant.")
    return f"led:{{{tenant}}}:{name}"


def _log(tenant: str, segment: int) -> str:
    return _key(tenant, f"log:{segment:05}")


def _entry(element: bytes, seq: int | None = None) -> Entry:
    """The entry in *element*. Raises Sealed if it is none, says another hash, or is not number *seq*."""
    where = "an element" if seq is None else f"element {seq}"
    try:
        entry = parse(element[65:])
    except Malformed as error:
        raise Sealed(f"{where} is not an entry ({error.reason}).") from error
    if element[:65] != entry.hash.encode() + b" ":
        raise Sealed(f"{where} does not have the hash that it says.")
    if seq not in {None, entry.seq}:
        raise Sealed(f"{where} says that it is number {entry.seq}.")
    return entry


def _chained(head: Head, elements: Sequence[bytes]) -> list[Entry]:
    entries = [_entry(element, seq) for seq, element in enumerate(elements, head.seq + 1)]
    try:
        check_chain(head, entries)
    except BrokenChain as error:
        raise Sealed(f"{error}") from error
    return entries


def _pairs(answer: object) -> dict[str, str]:
    """The texts in a map of the server's, which RESP2 sends as a flat list."""
    match answer:
        case dict():
            items = list(answer.items())
        case list():
            items = list(zip(answer[::2], answer[1::2], strict=False))
        case _:
            items = []
    return {name.decode(): value.decode() for name, value in items if isinstance(value, bytes)}


def _note(value: bytes | None) -> str:
    """A note as text. What is no UTF-8 is no note of ours, and is shown to whoever reads notes."""
    return (value or b"").decode(errors="replace")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
