"""Other tools' alerts: how each is read, who may send them, and what policy makes of those that fire."""

import contextlib
import hmac
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.adapters.alerts import MOST, Malformed, alerts_of, genuine
from handlers.alerts import SILENT_MS, UNASSIGNED, Alert, Alerts, reading_of_alerts
from handlers.charter import CharterError, parse
from handlers.charter_alerts import Source
from ledger import events as ev
from tests.rooms import CHARTER, charter, tenant
from tests.unit.handlers.test_detect import World

FIXTURES = Path("../shared/fixtures")
NOW_MS = 1_796_000_000_000
ALERTMANAGER = Source(kind="alertmanager", secret="ACME_ALERTS")
SENTRY = Source(kind="sentry", secret="ACME_SENTRY", services={"zulip-integration-testing": "checkout"})
FORM = {"key": "id", "title": "alert.name", "service": "tags.app", "state": "state", "severity": "level"}
JSON = Source(kind="json", secret="ACME_ALERTS", fields=FORM)

recorded = pytest.mark.skipif(not FIXTURES.exists(), reason="real payloads lie in ../shared/fixtures only")


def firing(key="1", service="checkout", status="firing", severity="critical", **rest):
    labels = {"alertname": "HighLatency", "service": service, "severity": severity}
    return {"status": status, "labels": labels, "annotations": {}, "fingerprint": key} | rest


def read(source, body):
    return alerts_of(source, json.dumps(body).encode(), NOW_MS)


@recorded
def test_a_real_message_of_alertmanager_fires_and_resolves():
    (alert,) = alerts_of(ALERTMANAGER, (FIXTURES / "alertmanager/firing_real.json").read_bytes(), NOW_MS)
    assert (alert.key, alert.service, alert.critical, alert.firing) == (
        "a2c32852eb221793",
        "checkout",
        True,
        True,
    )
    assert alert.title == "p95 4.2s on 127.0.0.1:9301"
    assert alert.since_ms == 1_795_248_553_218
    ended = alerts_of(ALERTMANAGER, (FIXTURES / "alertmanager/resolved_real.json").read_bytes(), NOW_MS)
    assert {(one.key, one.firing) for one in ended} >= {("a2c32852eb221793", False)}


@recorded
def test_a_real_message_of_grafana_is_read_by_its_own_labels():
    source = Source(kind="grafana", secret="ACME_G", label="grafana_folder", services={"device": "checkout"})
    (alert,) = alerts_of(source, (FIXTURES / "grafana/alert_v11.json").read_bytes(), NOW_MS)
    assert (alert.title, alert.service, alert.critical) == ("High memory usage", "checkout", False)


@recorded
def test_a_real_issue_of_sentry_is_one_alert_until_it_is_resolved():
    body = json.loads((FIXTURES / "sentry/issue_created.json").read_text())
    (alert,) = read(SENTRY, body)
    assert (alert.key, alert.service, alert.critical) == ("issue-1635244907", "checkout", True)
    assert alert.title == "Exception: Custom exception!"
    (ended,) = read(SENTRY, body | {"action": "resolved"})
    assert (ended.key, ended.firing) == (alert.key, False)
    assert read(SENTRY, body | {"action": "assigned"}) == []
    assert read(SENTRY, {"action": "created", "data": {"comment": "hello"}}) == []


def test_a_metric_alert_of_sentry_rings_when_it_is_critical():
    rule = {"name": "Slow", "projects": ["other", "zulip-integration-testing"]}
    body = {"action": "critical", "data": {"metric_alert": {"id": 7, "title": "", "alert_rule": rule}}}
    (alert,) = read(SENTRY, body)
    assert (alert.key, alert.service, alert.title, alert.critical) == ("metric-7", "checkout", "Slow", True)
    assert read(SENTRY, body | {"action": "warning"})[0].critical is False


def test_any_json_is_read_by_the_form_that_the_charter_gives():
    body = {
        "id": 5,
        "alert": {"name": "Disk full"},
        "tags": {"app": "checkout"},
        "level": "page",
        "state": "on",
    }
    (alert,) = read(JSON, body)
    assert alert == Alert("json", "5", "checkout", "Disk full", True, True, NOW_MS, NOW_MS)
    assert read(JSON, body | {"state": "Resolved"})[0].firing is False
    with pytest.raises(Malformed, match="id: is empty"):
        read(JSON, body | {"id": None})


def test_a_service_that_nobody_names_is_told_apart_and_not_lost():
    for name in ("", "../etc", "Checkout\n", "x" * 99):
        (alert,) = read(ALERTMANAGER, {"alerts": [firing(service=name)]})
        assert alert.service == UNASSIGNED


def test_a_time_that_is_missing_or_ahead_is_now():
    for said in (None, "2199-01-01T00:00:00Z"):
        (alert,) = read(ALERTMANAGER, {"alerts": [firing(startsAt=said)]})
        assert alert.since_ms == NOW_MS
    (alert,) = read(ALERTMANAGER, {"alerts": [firing(startsAt="0001-01-01T00:00:00Z")]})
    assert alert.since_ms == 0


@pytest.mark.parametrize("source", [ALERTMANAGER, SENTRY, JSON], ids=lambda source: source.kind)
@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"null", b"\xff", b"{" * 100_000, b'{"alerts":[{}]}', b"[" * 100_000]
)
def test_what_no_tool_sends_is_refused_with_the_reason(source, raw):
    with pytest.raises(Malformed, match=r"."):
        alerts_of(source, raw, NOW_MS)


def test_more_alerts_than_a_group_has_are_refused():
    with pytest.raises(Malformed, match="alerts"):
        read(ALERTMANAGER, {"alerts": [firing(str(at)) for at in range(MOST + 1)]})


@recorded
@given(st.data())
def test_a_damaged_message_is_read_or_refused_and_nothing_else(data):
    raw = bytearray((FIXTURES / "alertmanager/firing_real.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed):
        assert all(0 <= one.since_ms <= NOW_MS for one in alerts_of(ALERTMANAGER, bytes(raw), NOW_MS))


def test_only_who_has_the_secret_is_genuine():
    raw, secret = b"{}", b"an-0pen-s3same"
    assert genuine(ALERTMANAGER, secret, raw, {"Authorization": "Bearer an-0pen-s3same"})
    for wrong in ("", "Bearer ", "Bearer an-0pen-s3samE", "bearer an-0pen-s3same", "ü"):
        assert not genuine(ALERTMANAGER, secret, raw, {"Authorization": wrong})
    signature = hmac.digest(secret, raw, sha256).hex()
    assert genuine(SENTRY, secret, raw, {"Sentry-Hook-Signature": signature})
    assert not genuine(SENTRY, secret, b"{ }", {"Sentry-Hook-Signature": signature})
    assert not genuine(SENTRY, secret, raw, {"Authorization": "Bearer an-0pen-s3same"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('kind = "json"', "does not say where key and title stand"),
        ('kind = "json"\nfields = { key = "a", titel = "b" }', "is no part of an alert"),
        ('kind = "grafana"\nfields = { key = "a" }', "whose form is known"),
        ('kind = "nagios"', "alertmanager"),
    ],
)
def test_a_mistake_about_alerts_names_its_remedy(line, said):
    text = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    with pytest.raises(CharterError, match=said):
        parse(f'{text}\n[[alerts]]\n{line}\nsecret = "ACME_ALERTS"\n')


# --- what policy makes of them --------------------------------------------------------------------------


class Told(World):
    """A world in which other tools tell of *alerts*."""

    def tells(self, *alerts: Alert) -> None:
        now_ms = self.acme.room.now_ms()
        self.detect.alerts.known = {one.key: replace(one, heard_ms=now_ms) for one in alerts}

    async def hears(self) -> None:
        self.acme.clock.advance(1)
        await self.detect.hear()


async def told() -> Told:
    return Told(await tenant(charter()))


def alert(here: Told, key="1", service="checkout", critical=True) -> Alert:
    return Alert("grafana", key, service, f"Disk {key} is full", critical, True, here.acme.room.now_ms())


async def test_an_alert_opens_an_incident_and_its_end_closes_it():
    here = await told()
    here.tells(alert(here))
    await here.hears()
    await here.hears()
    assert here.events == ["Detected"]
    reading = here.acme.incident.opened.reading
    assert (reading.rule, reading.severity) == ("alert_grafana", "critical")
    assert reading.headline == "grafana says: Disk 1 is full"
    here.tells()
    await here.hears()
    assert here.events == ["Detected", "Recovered"]


async def test_a_storm_is_one_card():
    here = await told()
    here.tells(*(alert(here, str(key), critical=key == 70) for key in range(100)))
    await here.hears()
    assert here.events == ["Detected"]
    reading = here.acme.incident.opened.reading
    assert reading.headline == "grafana says: Disk 70 is full and 99 more"
    assert reading.explanation.startswith("100 alerts fire: Disk 70 is full; Disk 0 is full; ")


async def test_a_warning_that_becomes_critical_is_worse_and_not_the_other_way():
    here = await told()
    here.tells(alert(here, critical=False))
    await here.hears()
    here.tells(alert(here, critical=False), alert(here, "2"))
    await here.hears()
    here.tells(alert(here, critical=False))
    await here.hears()
    assert here.events == ["Detected", "Worsened"]


async def test_what_we_measure_does_not_close_what_another_tool_says_fires():
    here = await told()
    await here.goes(60)
    here.tells(alert(here))
    await here.hears()
    await here.goes(120)
    assert here.events == ["Detected"]
    here.tells()
    await here.hears()
    assert here.events == ["Detected", "Recovered"]


async def test_an_alert_about_what_we_found_ourselves_adds_nothing_and_keeps_it_open():
    here = await told()
    await here.goes(60)
    await here.goes(60, share=0.5)
    here.tells(alert(here))
    await here.hears()
    await here.goes(120)
    assert here.events == ["Detected"]
    here.tells()
    await here.hears()
    await here.goes(1)
    assert here.events == ["Detected", "Recovered"]


async def test_while_we_measure_that_it_is_sick_the_end_of_an_alert_closes_nothing():
    here = await told()
    here.tells(alert(here))
    await here.hears()
    await here.goes(60)
    await here.goes(30, share=0.5)
    here.tells()
    await here.hears()
    assert here.events[-1] != "Recovered"


async def test_an_alert_that_fires_again_soon_opens_the_same_incident_again():
    here = await told()
    here.tells(alert(here))
    await here.hears()
    here.tells()
    await here.hears()
    here.tells(alert(here, "2"))
    await here.hears()
    assert here.events == ["Detected", "Recovered", "Reopened"]


async def test_an_alert_of_which_nobody_spoke_for_a_day_is_over():
    here = await told()
    here.tells(alert(here))
    await here.hears()
    here.acme.clock.advance(SILENT_MS / 1000)
    await here.hears()
    assert here.events == ["Detected", "Recovered"]


async def test_alerts_about_no_service_of_the_charter_are_one_incident_without_actions():
    here = await told()
    here.tells(alert(here, "1", UNASSIGNED), alert(here, "2", UNASSIGNED))
    await here.hears()
    (incident,) = here.acme.room.ledger.view.incidents.values()
    assert incident.service == UNASSIGNED
    assert isinstance(incident.opened, ev.Detected)


def test_with_nothing_that_fires_there_is_no_signal():
    assert reading_of_alerts("checkout", []).signal == ""
    assert Alerts().of("checkout", NOW_MS) == []
