"""Where GitHub tells of pushes and deploys: the door, and the shelf on which changes are kept.

1. `POST /commits/webhook/{tenant}` wants a signature over the raw body, by the secret that the charter's
   `tenant.github` names. An unknown tenant, one without a secret and a wrong signature get one answer.
2. 200 means: kept, or nothing that changes what runs. The same delivery again is no news. What cannot be kept
   now is refused with 503; GitHub then shows it as failed, and it can be sent again from there.
3. The newest 200 changes of a tenant are kept. They are no facts of the ledger: an incident's entry carries
   those that are suspect.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from aiohttp import web

from bot.doors import Door
from bot.ingress import whole_body
from handlers.adapters.github import Malformed, changes_of, genuine
from handlers.changes import Change, Changes, merged
from ledger.redis_store import Commands
from ledger.store import StoreDown

MOST_BODY = 2**21
MOST_KEPT = 200
DELIVERY_S = 3 * 86_400

PUT = """
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[1]) then return 0 end
for i = #ARGV, 3, -1 do redis.call('LPUSH', KEYS[1], ARGV[i]) end
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[2]) - 1)
return 1
"""


class Shelf:
    """The changes of each tenant, in the list `bot:{tenant}:changes`, newest first, and in memory."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands
        self._kept: dict[str, Changes] = {}
        self._newest: dict[str, bytes | None] = {}

    def of(self, tenant: str) -> Changes:
        """What is known now. The same object is brought up to date by `refresh`."""
        return self._kept.setdefault(tenant, Changes())

    async def refresh(self, tenant: str) -> None:
        """Read again, if there is something new. Raises StoreDown."""
        newest = await self._redis("LINDEX", _key(tenant), 0)
        if newest is None or newest == self._newest.get(tenant):
            return
        lines: Sequence[bytes] = await self._redis("LRANGE", _key(tenant), 0, MOST_KEPT - 1)
        self.of(tenant).known = _latest(change for line in lines if (change := _read(line)))
        self._newest[tenant] = newest

    async def put(self, tenant: str, delivery: str, changes: Sequence[Change]) -> bool:
        """Keep *changes*, newest first; False where *delivery* came before. Raises StoreDown."""
        await self.refresh(tenant)
        known = self.of(tenant).known
        lines = [json.dumps(asdict(merged(known, change))) for change in changes]
        keys = (_key(tenant), f"{_key(tenant)}:{delivery}")
        new = await self._redis("EVAL", PUT, 2, *keys, DELIVERY_S, MOST_KEPT, *lines)
        await self.refresh(tenant)
        return bool(new)


def _latest(newest_first: Iterable[Change]) -> list[Change]:
    """Each change once, where it was told first, as it was told last: with its lines, if they are known."""
    known: dict[tuple[str, str, bool, int], Change] = {}
    for one in reversed([*newest_first]):
        known[one.repository, one.sha, one.live, one.at_ms] = one
    return [*reversed(known.values())]


def _read(line: bytes) -> Change | None:
    """A change as it was kept; None for one of another version."""
    try:
        kept = json.loads(line)
        return Change(**{**kept, "kinds": tuple(kept["kinds"])})
    except (ValueError, TypeError, KeyError):
        return None


def _key(tenant: str) -> str:
    return f"bot:{{{tenant}}}:changes"


class CommitDoor(Door[Shelf]):
    """Takes deliveries in."""

    path = "/commits/webhook/{tenant}"

    async def take(self, request: web.Request) -> web.Response:
        """`POST /commits/webhook/{tenant}`."""
        tenant = request.match_info["tenant"]
        raw = await self._body(request)
        charter = self._charter(tenant)
        secret = self._secret(charter.tenant.github if charter else None)
        if not genuine(secret, raw, request.headers.get("X-Hub-Signature-256", "")):
            raise web.HTTPUnauthorized(text="This is not signed with the secret of a tenant here.")
        delivery = request.headers.get("X-GitHub-Delivery", "")
        if not 0 < len(delivery) <= 100:
            raise web.HTTPBadRequest(text="The header X-GitHub-Delivery is missing.")
        return web.json_response({"kept": await self._keep(tenant, delivery, self._changes(request, raw))})

    async def _keep(self, tenant: str, delivery: str, changes: Sequence[Change]) -> int:
        if not changes:
            return 0
        try:
            return len(changes) if await self._shelf.put(tenant, delivery, changes) else 0
        except StoreDown:
            raise web.HTTPServiceUnavailable(text="It cannot be kept now. Send it again.") from None

    def _changes(self, request: web.Request, raw: bytes) -> Sequence[Change]:
        kind = request.headers.get("X-GitHub-Event", "")
        try:
            return changes_of(kind, raw, self._now_ms())
        except Malformed as malformed:
            raise web.HTTPBadRequest(text=f"This is no {kind} of GitHub's: {malformed}") from None

    async def _body(self, request: web.Request) -> bytes:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="Set the webhook's content type to application/json.")
        return await whole_body(request, MOST_BODY)
