"""Whether a server is fit to keep a ledger: what is asked of it, what was found, and what to do."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from ledger.redis_store import DURABLE_SETTINGS, RedisStore
from ledger.store import Durability, StoreDown


@dataclass(frozen=True, slots=True)
class Finding:
    """*well* is None where the server does not let us see."""

    well: bool | None
    sentence: str


async def examine(store: RedisStore) -> AsyncIterator[Finding]:
    """What is found of the server behind *store*. Raises StoreDown if it does not answer."""
    yield await _version(store)
    settings = await store.settings()
    for name, wanted in DURABLE_SETTINGS.items():
        yield _setting(name, wanted, settings.get(name))
    yield await _function(store)
    durability = await store.durability()
    yield Finding(
        None if durability is Durability.UNVERIFIED else durability.may_execute, durability.sentence
    )


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
