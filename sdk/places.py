"""Where an app tells what it counted, as its one line of set-up says: where workers meet, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .files import Files, common_folder
from .push import Pusher, Target
from .redis import Redis
from .resp import Address, Client
from .sharing import Place, is_one_of_many

Share = bool | str | Path | None


def place(service: str, share: Share, redis_url: str | None) -> Callable[[str], Place] | None:
    """Return what opens the place for a worker of that name, or None where there is but one worker.

    Raises ValueError, with a sentence, for a *redis_url* that is none; touches nothing.
    """
    if redis_url:
        address = Address.parse(redis_url)
        return lambda worker: Redis(Client(address), service, worker)
    if isinstance(share, str | Path):
        return lambda worker: Files(Path(share), worker)
    if share or (share is None and is_one_of_many()):
        return lambda worker: Files(common_folder(service), worker)
    return None


def pusher(push_url: str | None, push_token: str | None) -> Pusher | None:
    """Return what pushes to *push_url*, or None. Raises ValueError, with a sentence; touches nothing."""
    if push_url:
        return Pusher(Target.parse(push_url, push_token))
    if push_token:
        raise ValueError("push_token is given without push_url: write https://bot/ingest/<tenant>/<service>")
    return None
