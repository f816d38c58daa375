"""The door for other tools' alerts, and its shelf on a real Valkey."""

import hmac
import io
import json
from hashlib import sha256

import pytest

from bot.alerts import MOST_BODY, MOST_KEPT, AlertDoor, Shelf
from handlers.alerts import UNASSIGNED, Alert
from handlers.charter import CharterError, parse
from ledger.store import StoreDown
from tests.doors import Site
from tests.rooms import CHARTER, tenant
from tests.unit.handlers.test_alerts import firing
from tests.valkey import a_valkey, connected

pytestmark = pytest.mark.xdist_group("alerts")
SECRET = "an-0pen-s3same"
TOLD = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
TOLD += """
[[alerts]]
kind = "alertmanager"
secret = "ACME_ALERTS"

[[alerts]]
kind = "sentry"
secret = "ACME_ALERTS"
services = { shop = "checkout" }
"""


class Purse:
    def get(self, name):
        return SECRET.encode() if name == "ACME_ALERTS" else None


@pytest.fixture
async def redis():
    async with a_valkey() as server, connected(server) as commands:
        yield commands


@pytest.fixture
async def acme():
    return await tenant(parse(TOLD))


class Told(Site):
    """The bot's web side, with the door for alerts."""

    def __init__(self, acme, shelf):
        super().__init__(AlertDoor({"acme": acme.room}, Purse(), shelf, acme.clock).routes())

    async def tell(self, body, where="alertmanager/acme", **headers):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = {"Authorization": f"Bearer {SECRET}"} | headers
        return await self.post(f"/alerts/{where}", io.BytesIO(raw), head)


def group(*alerts):
    return {"version": "4", "alerts": list(alerts)}


async def test_an_alert_is_kept_once_and_taken_away_when_it_is_resolved(acme, redis):
    shelf = Shelf(redis)
    async with Told(acme, shelf) as site:
        for _ in range(2):
            assert await site.tell(group(firing("1"), firing("2"))) == (200, '{"alerts": 2}')
        assert set(shelf.of("acme").known) == {"alertmanager:1", "alertmanager:2"}
        await site.tell(group(firing("1", status="resolved"), firing("9", status="resolved")))
    assert set(shelf.of("acme").known) == {"alertmanager:2"}


async def test_another_process_knows_what_this_one_was_told(acme, redis):
    here, there = Shelf(redis), Shelf(redis)
    await there.refresh("acme")
    async with Told(acme, here) as site:
        await site.tell(group(firing("1")))
        await there.refresh("acme")
        assert there.of("acme").known == here.of("acme").known != {}
        await site.tell(group(firing("1", status="resolved")))
    await there.refresh("acme")
    assert there.of("acme").known == {}


async def test_a_service_that_the_charter_does_not_name_is_told_apart(acme, redis):
    shelf = Shelf(redis)
    async with Told(acme, shelf) as site:
        await site.tell(group(firing("1", service="warehouse")))
    assert shelf.of("acme").known["alertmanager:1"].service == UNASSIGNED


async def test_sentry_signs_what_it_sends(acme, redis):
    shelf, body = (
        Shelf(redis),
        {"action": "created", "data": {"issue": {"id": "5", "project": {"slug": "shop"}}}},
    )
    signature = hmac.digest(SECRET.encode(), json.dumps(body).encode(), sha256).hex()
    async with Told(acme, shelf) as site:
        assert (await site.tell(body, "sentry/acme"))[0] == 401
        signed = {"Sentry-Hook-Signature": signature}
        assert await site.tell(body, "sentry/acme", **signed) == (200, '{"alerts": 1}')
    assert shelf.of("acme").known["sentry:issue-5"].service == "checkout"


async def test_who_has_not_the_secret_is_told_the_same_whatever_is_there(acme, redis):
    shelf = Shelf(redis)
    async with Told(acme, shelf) as site:
        answers = {
            await site.tell(group(firing()), Authorization="Bearer guessed"),
            await site.tell(group(firing()), Authorization=""),
            await site.tell(group(firing()), "grafana/acme"),
            await site.tell(group(firing()), "alertmanager/nobody"),
            await site.tell(group(firing()), "nagios/acme"),
            await site.tell(b"no json", Authorization="Bearer guessed"),
        }
    assert answers == {(401, "This has not the secret of a tool that is known here.")}
    assert shelf.of("acme").known == {}


async def test_what_is_no_message_is_refused_with_what_is_wrong(acme, redis):
    async with Told(acme, Shelf(redis)) as site:
        status, said = await site.tell({"alerts": [{"status": "on"}]})
        assert (status, "alerts.0.status" in said) == (400, True)
        assert (await site.tell(b" " * (MOST_BODY + 1)))[0] == 413


async def test_what_cannot_be_kept_is_to_be_sent_again(acme):
    async def away(*command):
        raise StoreDown("it does not answer")

    async with Told(acme, Shelf(away)) as site:
        assert (await site.tell(group(firing())))[0] == 503


async def test_a_flood_leaves_the_first_thousand_and_what_fires_still_can_end(acme, redis):
    shelf = Shelf(redis)
    for part in range(3):
        await shelf.put("acme", [Alert("json", f"{part}-{at}", "checkout", "x") for at in range(500)])
    assert len(shelf.of("acme").known) == MOST_KEPT
    await shelf.put("acme", [Alert("json", "0-0", "checkout", "x", firing=False)])
    assert "json:0-0" not in shelf.of("acme").known


async def test_what_cannot_be_read_any_more_is_passed_over(redis):
    shelf = Shelf(redis)
    await redis("HSET", "bot:{acme}:alerts", "json:1", "no json", "json:2", "[]", "json:3", '{"future":1}')
    await shelf.refresh("acme")
    assert shelf.of("acme").known == {}


def test_a_tools_secret_is_the_tenants_own_and_each_tool_stands_once():
    with pytest.raises(CharterError, match=r"alerts\.alertmanager: the secret OTHER is not this tenant's"):
        parse(TOLD.replace("ACME_ALERTS", "OTHER", 1))
    with pytest.raises(CharterError, match="alerts: 'sentry' stands twice"):
        parse(TOLD.replace('kind = "alertmanager"', 'kind = "sentry"'))


def test_a_service_may_be_watched_by_other_tools_alone():
    alone = '[[services]]\nid = "warehouse"\n'
    assert parse(f"{TOLD}\n{alone}alerts = true\n").service("warehouse").alerts
    with pytest.raises(CharterError, match="alerts = true"):
        parse(f"{TOLD}\n{alone}")
