"""`release` and `doctor` against a real Valkey and a Bot API server that holds what it was told."""

import json
import random
from pathlib import Path

import pytest

from bot.doctor import doctor
from bot.release import release
from bot.settings import NAMES, read
from handlers.charter import load
from ledger.clock import WallClock
from ledger.events import Actor, Started
from ledger.keys import seed_of
from ledger.ledger import Ledger
from ledger.outside import NoteFile
from ledger.redis_store import RedisStore, connect
from tests.contract.operator import BASE, TENDAI, a_place
from tests.rooms import tenant

LIMITED = (
    "ACL SETUSER limited on >app ~led:* ~bot:* &led:* -@all +hello +ping +client +fcall +rpush +llen +lindex "
    "+lrange +get +set +publish"
)


@pytest.fixture
async def place():
    async with a_place() as place:
        yield place


@pytest.fixture
async def store(place):
    store = RedisStore(connect(place.valkey.url_of("owner")))
    yield store
    await store.close()


async def adopted(place, store):
    """The charter's file in force, as the console's code would have it, in a signed log."""
    await store.load_functions()
    acme = await tenant(load(place.folder / "charter.toml"), store)
    await acme.room.ledger.close()
    settings = read(place.environment())
    ledger = Ledger(
        "acme",
        store,
        WallClock(),
        random.Random(1),
        signer=seed_of(settings.ledger_key),
        outside=NoteFile(settings.data_dir / "state", "acme"),
    )
    await ledger.record(Actor.orchestrator("bot"), lambda view, now: Started(signer=ledger.notary.key))
    await ledger.close()


def methods(place) -> list[str]:
    return [call.method.lower() for call in place.telegram.calls]


async def test_a_release_says_each_step_and_may_be_repeated(place, store):
    await store._call("FUNCTION", "DELETE", "countersign")
    told = place.environment(REDIS_DEPLOY_URL=place.valkey.url_of("deploy"))
    for _ in range(2):
        place.said.clear()
        assert await release(told, place.say) == 0
        assert place.said[:4] == [
            "Settings: good.",
            "Charter: good, of acme (3 people, 1 service).",
            "Store: the function ledger_append is loaded.",
            "Durability: Each entry is on disk before it counts.",
        ]
        assert f"@countersign_sandbox_bot sends updates to {BASE}/telegram/webhook" in place.said[4]
    assert await store.functions_current()
    assert place.telegram.delivery.webhook.url == f"{BASE}/telegram/webhook"
    menus = [{row["command"] for row in menu} for menu in place.telegram.commands.values()]
    assert len(menus) == 2
    assert all({"approve", "pause", "help"} <= menu for menu in menus)


async def test_every_mistake_is_told_and_nothing_was_touched(place, store):
    place.write_charter("[tenant]", "[tenant]\ncolour = 3")
    wrong = place.environment(ALERT_SECRET="short", PORT="x")
    await store._call("FUNCTION", "DELETE", "countersign")
    assert await release(wrong, place.say) == 1
    assert "ALERT_SECRET" in place.told
    assert "PORT" in place.told
    assert await release(place.environment(), place.say) == 1
    assert "charter.toml: tenant.colour: there is no such key. Remove it" in place.told
    assert methods(place) == []
    assert not await store.functions_current()


async def test_a_deploy_user_loads_what_the_apps_own_user_may_not(place, store):
    await store._call(*LIMITED.split())
    await store._call("FUNCTION", "DELETE", "countersign")
    url = f"unix://limited:app@{place.valkey.socket}"
    assert await release(place.environment(REDIS_URL=url, REDIS_DEPLOY_URL=None), place.say) == 1
    assert "set REDIS_DEPLOY_URL" in place.told
    told = place.environment(REDIS_URL=url, REDIS_DEPLOY_URL=place.valkey.url_of("deploy"))
    assert await release(told, place.say) == 0
    assert "Durability: The server hides its settings" in place.told
    assert await store.functions_current()


async def test_a_server_that_may_lose_entries_is_told_but_does_not_keep_the_release_back(place, store):
    await store._call("CONFIG", "SET", "appendfsync", "everysec")
    assert await release(place.environment(), place.say) == 0
    assert "Durability: The server may lose entries. Nothing executes." in place.told


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"REDIS_URL": "redis://127.0.0.1:9"}, "Redis does not answer"),
        ({"TELEGRAM_WEBHOOK_SECRET": None}, "TELEGRAM_WEBHOOK_SECRET must be set"),
        ({"TELEGRAM_BOT_TOKEN": "1:wrong"}, "Check TELEGRAM_BOT_TOKEN"),
        ({"TELEGRAM_API_BASE": "http://127.0.0.1:9"}, "Release again"),
        ({"CHARTER": "/nowhere/charter.toml"}, "Set CHARTER to a file or folder that exists"),
        ({"POLICY_CLOSE_MS": "never"}, "close_ms"),
    ],
)
async def test_a_step_that_fails_keeps_the_release_back_and_says_what_to_do(place, changes, says):
    assert await release(place.environment(**changes), place.say) == 1
    assert place.said[-1].startswith("NOT released.")
    assert says in place.said[-1]


async def test_what_is_not_set_is_off_and_said(place):
    told = place.environment(REDIS_URL=None, TELEGRAM_BOT_TOKEN=None)
    assert await release(told, place.say) == 0
    assert "the embedded server is used" in place.told
    assert "TELEGRAM_BOT_TOKEN is not set" in place.told
    place.said.clear()
    assert await release(place.environment(PUBLIC_BASE_URL=None), place.say) == 0
    assert "the bot will ask for updates" in place.told
    assert methods(place) == []


async def test_what_the_deploy_button_sets_is_released(place, monkeypatch):
    """app.json's own values, with a token and an address typed in, in a checkout without anything else."""
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    app = json.loads((root / "app.json").read_text())
    assert app["env"].keys() <= NAMES
    assert app["addons"] == [{"plan": "heroku-redis:premium-0", "as": "REDIS"}]
    made = {name: "x" * 64 for name, row in app["env"].items() if row.get("generator") == "secret"}
    assert {"ALERT_SECRET", "LEDGER_KEY", "TELEGRAM_WEBHOOK_SECRET"} <= made.keys()
    given = made | {name: row["value"] for name, row in app["env"].items() if "value" in row}
    told = place.environment() | given | {"DYNO": "release.1"}
    del told["ACME_CHECKOUT_RECOVERY"], told["DATA_DIR"]
    assert await release(told, place.say) == 0, place.told
    assert "Charter: good, of home" in place.told
    assert (root / "Procfile").read_text() == "release: python -m bot release\nweb: python -m bot\n"


# --- doctor ---------------------------------------------------------------------------------------------


async def test_where_all_is_well_the_doctor_says_so(place, store):
    await adopted(place, store)
    await release(place.environment(), place.say)
    place.telegram.chats.chats[TENDAI].opened = True
    place.said.clear()
    assert await doctor(place.environment(), place.say) == 0, place.told
    assert all(line.startswith("well ") for line in place.said)
    for says in (
        "The settings are good",
        "charter of acme is good",
        "The secret ACME_CHECKOUT_RECOVERY is set",
        "appendfsync is always",
        "The function ledger_append is ours",
        "This clock and that of Redis agree",
        "the charter's file is in force",
        "Rudo has opened the bot",
        "@countersign_sandbox_bot",
        f"Updates come to {BASE}/telegram/webhook",
        "checkout answers: 50 requests",
    ):
        assert says in place.told


async def test_the_doctor_names_who_has_not_opened_the_bot(place, store):
    await adopted(place, store)
    await release(place.environment(), place.say)
    assert await doctor(place.environment(), place.say) == 1
    assert (
        "NOT SO  Tendai has not opened the bot, so it may not write. Let them send it /start." in place.told
    )
    assert "well    Rudo has opened the bot." in place.told


async def test_the_doctor_examines_without_changing_the_ledger_or_telegram(place, store):
    await adopted(place, store)
    before = await store.head("acme")
    await doctor(place.environment(), place.say)
    assert await store.head("acme") == before
    assert set(methods(place)) == {"getme", "getwebhookinfo", "getchat"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ALERT_SECRET": "short"}, "ALERT_SECRET needs 32 bytes"),
        ({"CHARTER": "/nowhere"}, "Set CHARTER to a file or folder that exists"),
        ({"ACME_CHECKOUT_RECOVERY": None}, "The secret ACME_CHECKOUT_RECOVERY, which the charter names"),
        ({"REDIS_URL": "redis://127.0.0.1:9"}, "Redis does not answer"),
        ({"TELEGRAM_BOT_TOKEN": "1:wrong"}, "Copy TELEGRAM_BOT_TOKEN from @BotFather again"),
        ({"PUBLIC_BASE_URL": "https://moved.example"}, "not to https://moved.example/telegram/webhook"),
    ],
)  # fmt: skip
async def test_the_doctor_names_what_is_not_so_and_the_remedy(place, store, changes, says):
    await adopted(place, store)
    place.telegram.chats.chats[TENDAI].opened = True
    await release(place.environment(), place.say)
    assert await doctor(place.environment(**changes), place.say) == 1
    assert [line for line in place.said if line.startswith("NOT SO") and says in line]


async def test_the_doctor_finds_a_sick_server_an_open_charter_and_an_app_that_is_away(place, store):
    await store.load_functions()
    await store._call("CONFIG", "SET", "appendfsync", "no")
    await place.app.close()
    assert await doctor(place.environment(), place.say) == 1
    for says in (
        "Set it: CONFIG SET appendfsync always",
        "no charter adopted",
        "checkout could not be reached",
    ):
        assert [line for line in place.said if line.startswith("NOT SO") and says in line], says


async def test_a_changed_file_that_waits_for_adoption_is_named(place, store):
    await adopted(place, store)
    place.write_charter("Rudo", "Rudolf")
    await doctor(place.environment(), place.say)
    assert "the charter's file waits for an admin's Adopt in chat" in place.told


async def test_who_is_on_call_without_an_account_is_named(place, store):
    place.write_charter("telegram = 1001\n", "")
    await adopted(place, store)
    await doctor(place.environment(), place.say)
    assert "Rudo is on call and has no account. An admin sends /link rudo." in place.told


async def test_what_cannot_be_seen_is_unknown_and_not_well(place, store):
    await adopted(place, store)
    assert await doctor(place.environment(TELEGRAM_BOT_TOKEN=None), place.say) == 2
    assert "unknown Telegram is off: TELEGRAM_BOT_TOKEN is not set." in place.told


async def test_the_doctor_finds_a_ledger_that_somebody_cut(place, store):
    await adopted(place, store)
    await store._call("LSET", "led:{acme}:log:00000", "0", "not an entry")
    assert await doctor(place.environment(), place.say) == 1
    assert [line for line in place.said if line.startswith("NOT SO") and "sealed" in line]
