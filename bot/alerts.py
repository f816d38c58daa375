"""Where other tools post their alerts: the door, and the shelf on which those that fire are kept.

1. `POST /alerts/{source}/{tenant}` wants what the charter's `alerts` name: the bearer token, or Sentry's
   signature. Unknown tenants and sources and wrong secrets get one answer.
2. 200 means: kept. What cannot be kept now is refused with 503, and the sender tries again.
3. An alert is one field by source and key: what comes twice changes nothing, and resolved takes it away.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from secrets import token_bytes

from aiohttp import web

from bot.doors import Door
from bot.ingress import whole_body
from handlers.adapters.alerts import Malformed, alerts_of, genuine
from handlers.alerts import SILENT_MS, UNASSIGNED, Alert, Alerts
from handlers.charter import Charter
from handlers.charter_alerts import Source
from ledger.redis_store import Commands
from ledger.store import StoreDown

MOST_BODY = 2**20
MOST_KEPT = 1_000
AGAIN = {"Retry-After": "2"}

PUT = """
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i])
  elseif redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 or redis.call('HLEN', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[1])
return redis.call('HLEN', KEYS[1])
"""


class Shelf:
    """The alerts of each tenant that fire: in the hash `bot:{tenant}:alerts`, and in memory."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands
        self._kept: dict[str, Alerts] = {}
        self._version: dict[str, bytes | None] = {}

    def of(self, tenant: str) -> Alerts:
        """What fires now. The same object is brought up to date by `refresh`."""
        return self._kept.setdefault(tenant, Alerts())

    async def refresh(self, tenant: str) -> None:
        """Read again, if anything changed. Raises StoreDown."""
        version = await self._redis("GET", f"{_key(tenant)}:version")
        if version == self._version.get(tenant, b""):
            return
        kept: Mapping[bytes, bytes] = await self._redis("HGETALL", _key(tenant))
        self.of(tenant).known = {
            name.decode(): alert for name, line in kept.items() if (alert := _read(line))
        }
        self._version[tenant] = version

    async def put(self, tenant: str, alerts: Sequence[Alert]) -> None:
        """Keep those that fire and drop those that do not. Raises StoreDown."""
        fields = [
            part
            for alert in alerts
            for part in (f"{alert.source}:{alert.key}", json.dumps(asdict(alert)) if alert.firing else "")
        ]
        keys = (_key(tenant), f"{_key(tenant)}:version")
        await self._redis("EVAL", PUT, 2, *keys, SILENT_MS, MOST_KEPT, token_bytes(8).hex(), *fields)
        await self.refresh(tenant)


def _read(line: bytes) -> Alert | None:
    """An alert as it was kept; None for one of another version."""
    try:
        return Alert(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _key(tenant: str) -> str:
    return f"bot:{{{tenant}}}:alerts"


class AlertDoor(Door[Shelf]):
    """Takes alerts in."""

    path = "/alerts/{source}/{tenant}"

    async def take(self, request: web.Request) -> web.Response:
        """`POST /alerts/{source}/{tenant}`."""
        tenant, kind = request.match_info["tenant"], request.match_info["source"]
        charter, source, secret = self._known(tenant, kind)
        raw = await whole_body(request, MOST_BODY)
        if not genuine(source, secret, raw, request.headers):
            raise web.HTTPUnauthorized(text="This has not the secret of a tool that is known here.")
        alerts = await asyncio.to_thread(self._alerts, charter, source, raw)
        try:
            await self._shelf.put(tenant, alerts)
        except StoreDown:
            raise web.HTTPServiceUnavailable(text="It cannot be kept now.", headers=AGAIN) from None
        return web.json_response({"alerts": len(alerts)})

    def _known(self, tenant: str, kind: str) -> tuple[Charter | None, Source, bytes]:
        """The tool that the tenant's charter names, and its secret; for any other one that nobody has."""
        charter = self._charter(tenant)
        source = charter.alerting(kind) if charter else None
        return charter, source or NO_SOURCE, self._secret(source.secret if source else None)

    def _alerts(self, charter: Charter | None, source: Source, raw: bytes) -> list[Alert]:
        try:
            found = alerts_of(source, raw, self._now_ms())
        except Malformed as malformed:
            raise web.HTTPBadRequest(text=f"This is no message of {source.kind}: {malformed}.") from None
        named = {service.id for service in charter.services} if charter else set()
        return [one if one.service in named else replace(one, service=UNASSIGNED) for one in found]


NO_SOURCE = Source(kind="alertmanager", secret="NOBODYS")  # noqa: S106  a name
