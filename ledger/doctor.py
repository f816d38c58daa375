"""Whether a server is fit to keep a ledger: what is asked of it, what was found, and what to do.

1. Nothing is harmed by being examined: what would change a log is tried on one that does not exist, and what
   cannot be tried so is asked of the server (ACL DRYRUN), or else said to be unknown.
2. Each finding that is not so has its remedy.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from ledger import acl
from ledger.note import BadNote, read_note
from ledger.outside import Outside
from ledger.redis_store import DURABLE_SETTINGS, Commands, RedisStore, refused
from ledger.store import Durability, Sealed, StoreDown

Findings = AsyncIterator["Finding"]
NOBODYS = "led:{countersign.doctor}:log:00000"
"""No tenant's log: it does not exist, and nothing here makes it."""
HARMLESS: tuple[tuple[str, ...], ...] = (
    ("DEL", NOBODYS),
    ("UNLINK", NOBODYS),
    ("LSET", NOBODYS, "0", "x"),
    ("LTRIM", NOBODYS, "0", "-1"),
    ("LREM", NOBODYS, "0", "x"),
    ("LPOP", NOBODYS),
    ("RPOP", NOBODYS),
    ("LINSERT", NOBODYS, "BEFORE", "x", "x"),
    ("LMOVE", NOBODYS, NOBODYS, "LEFT", "RIGHT"),
    ("RENAME", NOBODYS, NOBODYS),
    ("COPY", NOBODYS, NOBODYS, "REPLACE"),
    ("MOVE", NOBODYS, "1"),
    ("EXPIRE", NOBODYS, "1"),
    ("GETDEL", NOBODYS),
    ("GETEX", NOBODYS, "EX", "1"),
    ("SET", NOBODYS, "x", "XX"),
    ("SORT", NOBODYS, "STORE", NOBODYS),
    ("RESTORE", NOBODYS, "0", "x"),
    ("XADD", NOBODYS, "NOMKSTREAM", "*", "x", "x"),
    ("EVAL", "return 1", "1", NOBODYS),
    ("FUNCTION", "LOAD", "not a function"),
)
DEADLY: tuple[tuple[str, ...], ...] = (
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", "0", "1"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "NO", "ONE"),
    ("DEBUG", "RELOAD"),
    ("MIGRATE", "127.0.0.1", "1", NOBODYS, "0", "1"),
    ("CONFIG", "SET", "appendonly", "no"),
    ("FUNCTION", "FLUSH"),
    ("ACL", "SETUSER", "default", "on"),
)
PAIRS, SCRATCH = 20, "bot:doctor"
LYING_MS = 20
"""A disk that is written once a second cannot confirm twenty writes, one after another, this fast each."""


@dataclass(frozen=True, slots=True)
class Finding:
    """*well* is None where the server does not let us see."""

    well: bool | None
    sentence: str


async def examine(store: RedisStore, deploy: Commands | None = None) -> Findings:
    """What is found of the server behind *store*, whose user is the app's; *deploy* may ask what that may do.

    Raises StoreDown if it does not answer.
    """
    yield await _version(store)
    settings = await store.settings()
    for name, wanted in DURABLE_SETTINGS.items():
        yield _setting(name, wanted, settings.get(name))
    yield await _function(store)
    durability = await store.durability()
    yield Finding(
        None if durability is Durability.UNVERIFIED else durability.may_execute, durability.sentence
    )
    yield await _append_only(store)
    yield await _forbidden(store, deploy or store.commands)
    yield await _read_again(deploy or store.commands)
    yield await _password_shown(store)
    if settings.get("appendfsync") != "always":
        yield await _waitaof(store.commands, settings.get("appendfsync"))


async def examine_log(store: RedisStore, tenant: str, outside: Outside | None) -> Findings:
    """What is found of one tenant's log, and of the note about it *outside* the server."""
    try:
        head = await store.head(tenant)
    except Sealed as sealed:
        yield Finding(False, f"The log of {tenant} is sealed: {sealed.reason} Run `python -m ledger verify`.")
        return
    yield Finding(True, f"The log of {tenant} is a list of {head.seq} entries.")
    if head.seq:
        note = await store.note(tenant)
        yield _signed(tenant, note, head.seq)
        yield await _outside(tenant, note, outside)


def _signed(tenant: str, note: str, size: int) -> Finding:
    if not note:
        return Finding(
            None, f"The log of {tenant} is chained but not signed. Set LEDGER_KEY: `python -m ledger keygen`."
        )
    try:
        signed = read_note(note)[0].size
    except BadNote as bad:
        return Finding(False, f"The note of {tenant} is none of ours: {bad}. Run `python -m ledger verify`.")
    if signed < size:
        return Finding(
            False, f"The note of {tenant} signs {signed} of {size} entries. Run `python -m ledger verify`."
        )
    return Finding(
        True, f"The log of {tenant} is signed to entry {signed}; `python -m ledger verify` checks it."
    )


async def _outside(tenant: str, note: str, outside: Outside | None) -> Finding:
    """Whether a rolled-back log would be noticed."""
    if outside is None:
        return Finding(
            None,
            f"Whether a note of {tenant} is kept outside the server was not looked for. Say where: --state.",
        )
    kept = await asyncio.to_thread(outside.read)
    if not kept:
        return Finding(
            None, f"No note of {tenant} in {outside.where}, so a rolled-back log would not be noticed here."
        )
    try:
        before = read_note(kept)[0]
        now = read_note(note)[0]
    except BadNote as bad:
        return Finding(
            False, f"A note of {tenant} cannot be read ({bad}). Compare {outside.where} with a copy."
        )
    if before.origin != now.origin or before.size > now.size:
        return Finding(
            False,
            f"{outside.where} saw {before.size} entries of {before.origin}, the server has {now.size} of "
            f"{now.origin}. Somebody put back an older log: restore the newest copy.",
        )
    return Finding(True, f"A note of {tenant} outside the server knows entry {before.size}.")


async def _version(store: RedisStore) -> Finding:
    try:
        version = await store.check_version()
    except StoreDown as down:
        return Finding(False, str(down))
    return Finding(True, f"The server is version {version}.")


def _setting(name: str, wanted: str, found: str | None) -> Finding:
    if found is None:
        return Finding(None, f"The server does not show {name}; it must be {wanted}.")
    if found != wanted:
        return Finding(False, f"{name} is {found}. Set it: CONFIG SET {name} {wanted}")
    return Finding(True, f"{name} is {found}.")


async def _function(store: RedisStore) -> Finding:
    try:
        current = await store.functions_current()
    except StoreDown as down:
        return Finding(None, f"The server does not show its functions ({down}).")
    if current:
        return Finding(True, "The function ledger_append is ours.")
    return Finding(False, "The function ledger_append is missing or another. Run `python -m bot release`.")


async def _append_only(store: RedisStore) -> Finding:
    """What this user may do to a log, found out on one that is not there."""
    call = store.commands
    try:
        if await call("LLEN", NOBODYS):
            return Finding(None, f"There is a key {NOBODYS}, so nothing was tried on it. Delete it.")
    except StoreDown as down:
        return Finding(None, f"This user may not even read a log, so it is not the app's ({down}).")
    allowed = [_name(words) for words in HARMLESS if not await refused(call, *words)]
    if allowed:
        return Finding(
            False,
            f"This user may change a log: {', '.join(allowed)} are not refused. `python -m ledger acl` "
            "prints users that may not; give the app's to REDIS_URL.",
        )
    return Finding(True, f"{len(HARMLESS)} commands that would change a log were sent and refused.")


async def _forbidden(store: RedisStore, asks: Commands) -> Finding:
    """What would do harm if it were tried: the server says whether it would."""
    dangers = ", ".join(map(_name, DEADLY))
    try:
        user = (await store.commands("ACL", "WHOAMI")).decode()
        answers = [(words, await asks("ACL", "DRYRUN", user, *words)) for words in DEADLY]
    except StoreDown as down:
        return Finding(
            None,
            f"Whether {dangers} are refused was not tried, and not told ({down}). Ask as a user who may: "
            "--deploy, or REDIS_DEPLOY_URL.",
        )
    allowed = [_name(words) for words, answer in answers if answer == b"OK"]
    if allowed:
        return Finding(
            False,
            f"The user {user} may {', '.join(allowed)}. `python -m ledger acl` prints one that may not.",
        )
    return Finding(True, f"The server says that the user {user} may not {dangers}.")


async def _read_again(asks: Commands) -> Finding:
    """Whether a restart keeps all batches: `default`, as whom a server reads its own log, must have rights.

    https://github.com/redis/redis/issues/14541, https://github.com/valkey-io/valkey/issues/3983
    """
    try:
        answer = await asks("ACL", "DRYRUN", "default", "RPUSH", NOBODYS, "x")
    except StoreDown as down:
        return Finding(
            None,
            f"Whether the server may read its own log again was not told ({down}). Its user default must "
            "have all rights, though it may be off. Ask as a user who may: --deploy, or REDIS_DEPLOY_URL.",
        )
    if answer == b"OK":
        return Finding(
            True, "The user default, as whom the server reads its log again, has the rights for it."
        )
    return Finding(
        False,
        "The user default may not write, and many servers read their own log as that user: after a "
        f"restart the ledger would be gone. Nobody need be able to enter as it: ACL SETUSER {acl.DEFAULT}",
    )


async def _password_shown(store: RedisStore) -> Finding:
    """CONFIG GET tells how durable the server is, and every password that stands in its settings."""
    try:
        shown = await store.commands("CONFIG", "GET", "requirepass", "masterauth")
    except StoreDown:
        return Finding(True, "This user is not shown the server's passwords.")
    if any(bytes(value) for value in shown[1::2]):
        return Finding(
            False,
            "This user can read requirepass or masterauth, and with it be who may do more. Give that one a "
            "password by ACL SETUSER instead, and take it out of the settings: CONFIG SET requirepass ''.",
        )
    return Finding(True, "No password stands in the server's settings.")


async def _waitaof(call: Commands, appendfsync: str | None) -> Finding:
    """Whether the server says that a write is on disk before it can be.

    Valkey does, and Redis before https://github.com/redis/redis/pull/13793.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        for pair in range(PAIRS):
            await call("SET", SCRATCH, pair)
            if not (await call("WAITAOF", 1, 0, 1000))[0] or (clock() - began) * 1000 > PAIRS * LYING_MS:
                return Finding(True, "WAITAOF waits for the disk. The ledger does not rely on it.")
        took_ms = (clock() - began) * 1000
    except StoreDown as down:
        return Finding(None, f"WAITAOF could not be tried ({down}). The ledger does not rely on it.")
    finally:
        with suppress(StoreDown):
            await call("DEL", SCRATCH)
    told = f"WAITAOF called {PAIRS} writes safe within {took_ms:.0f} ms"
    if appendfsync is None:
        return Finding(
            None, f"{told}. Where the server writes at once that is true, and it does not show that."
        )
    return Finding(
        False,
        f"{told} under appendfsync {appendfsync}: it does not tell the truth. Only appendfsync always does.",
    )


def _name(words: tuple[str, ...]) -> str:
    return " ".join(words[:2]) if words[0] in {"FUNCTION", "CONFIG", "ACL"} else words[0]
