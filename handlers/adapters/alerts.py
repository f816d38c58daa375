"""How other tools tell of alerts: Alertmanager 4 and Grafana, Sentry, and any JSON that a charter describes.

Each authenticates in its own way: a bearer token; Sentry signs the body with its client secret.
"""

import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from handlers.alerts import UNASSIGNED, Alert
from handlers.charter_alerts import Source
from handlers.headers import bears, same
from handlers.sanitise import clean

MOST = 500  # alerts of one message; Alertmanager sends a group at once
TITLE, KEY = 120, 200

Text = Annotated[str, Field(max_length=2_000)]


class Malformed(Exception):
    """It is no message of the tool that the address names. The message says where."""


class _Alert(BaseModel):
    status: Literal["firing", "resolved"]
    labels: dict[str, Text] = {}
    annotations: dict[str, Text] = {}
    startsAt: datetime | None = None  # noqa: N815  its name on the wire
    fingerprint: str = Field(min_length=1, max_length=KEY)


class _Group(BaseModel):
    alerts: list[_Alert] = Field(max_length=MOST)


class _Project(BaseModel):
    slug: Text = ""


class _Issue(BaseModel):
    id: str = Field(min_length=1, max_length=KEY)
    title: Text = ""
    level: Text = ""
    project: _Project = _Project()
    firstSeen: datetime | None = None  # noqa: N815  as above


class _Rule(BaseModel):
    name: Text = ""
    projects: list[Text] = []


class _Metric(BaseModel):
    id: str | int
    title: Text = ""
    alert_rule: _Rule = _Rule()


class _SentryData(BaseModel):
    issue: _Issue | None = None
    metric_alert: _Metric | None = None


class _Sentry(BaseModel):
    action: str
    data: _SentryData = _SentryData()


def genuine(source: Source, secret: bytes, raw: bytes, headers: Mapping[str, str]) -> bool:
    """Whether who sent *raw* has the secret."""
    if source.kind == "sentry":
        expected = hmac.digest(secret, raw, sha256).hex().encode()
        return same(headers.get("Sentry-Hook-Signature", ""), expected)
    return bears(headers.get("Authorization", ""), secret)


def alerts_of(source: Source, raw: bytes, now_ms: int) -> Sequence[Alert]:
    """The alerts that a message of *source* tells of; none where it is about others. Raises Malformed."""
    try:
        return READ[source.kind](source, raw, now_ms)
    except ValidationError as mistakes:
        first = mistakes.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise Malformed(f"{where}: {first['msg']}") from None
    except RecursionError:
        raise Malformed("the body is nested too deeply") from None


def _grouped(source: Source, raw: bytes, now_ms: int) -> list[Alert]:
    return [_alert(source, one, now_ms) for one in _Group.model_validate_json(raw).alerts]


def _alert(source: Source, one: _Alert, now_ms: int) -> Alert:
    named = one.labels.get("alertname", "")
    said = one.annotations.get("summary") or one.annotations.get("description") or named
    return Alert(
        source.kind,
        one.fingerprint,
        source.service_of(one.labels.get(source.label, "")) or UNASSIGNED,
        clean(said or "an alert without a name", TITLE),
        one.labels.get("severity", "").lower() in source.critical,
        one.status == "firing",
        _since(one.startsAt, now_ms),
        now_ms,
    )


def _sentry(source: Source, raw: bytes, now_ms: int) -> list[Alert]:
    hook = _Sentry.model_validate_json(raw)
    if issue := hook.data.issue:
        service = source.service_of(issue.project.slug) or UNASSIGNED
        severe, title, key = issue.level.lower() in source.critical, issue.title, f"issue-{issue.id}"
        firing, since = hook.action in {"created", "unresolved"}, issue.firstSeen
        ended = hook.action in {"resolved", "archived", "ignored"}
    elif metric := hook.data.metric_alert:
        projects = sorted(metric.alert_rule.projects, key=lambda name: name not in source.services)
        service = next(filter(None, map(source.service_of, projects)), UNASSIGNED)
        severe, title = hook.action == "critical", metric.title or metric.alert_rule.name
        firing, since, key = hook.action in {"critical", "warning"}, None, f"metric-{metric.id}"
        ended = hook.action == "resolved"
    else:
        return []
    alert = Alert(
        source.kind, key, service, clean(title or "an issue without a title", TITLE), severe, firing,
        _since(since, now_ms), now_ms,
    )  # fmt: skip
    return [alert] if firing or ended else []


def _json(source: Source, raw: bytes, now_ms: int) -> list[Alert]:
    body: Any = TypeAdapter(dict[str, Any]).validate_json(raw)
    found = {name: _at(body, path) for name, path in source.fields.items()}
    if not found["key"]:
        raise Malformed(f"{source.fields['key']}: is empty, and it tells one alert from another")
    return [
        Alert(
            source.kind,
            found["key"][:KEY],
            source.service_of(found.get("service", "")) or UNASSIGNED,
            clean(found["title"] or "an alert without a title", TITLE),
            found.get("severity", "").lower() in source.critical,
            found.get("state", "").lower() not in source.resolved,
            now_ms,
            now_ms,
        )
    ]


READ: Mapping[str, Callable[[Source, bytes, int], list[Alert]]] = {
    "alertmanager": _grouped,
    "grafana": _grouped,
    "sentry": _sentry,
    "json": _json,
}


def _at(body: Any, path: str) -> str:
    """What stands at a dotted *path*, as text; empty where nothing does."""
    for part in path.split("."):
        body = body.get(part) if isinstance(body, dict) else None
    if isinstance(body, str):
        return body
    return "" if body is None or isinstance(body, dict | list) else json.dumps(body)


def _since(said: datetime | None, now_ms: int) -> int:
    """When it began; now where nobody says so or the time is from the future."""
    if said is None:
        return now_ms
    aware = said if said.tzinfo else said.replace(tzinfo=UTC)
    return min(now_ms, max(0, int(aware.timestamp() * 1000)))
