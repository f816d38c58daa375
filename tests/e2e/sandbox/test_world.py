"""The world: where it may start, what it tells the bot, and which charter it hands out."""

import stat

import pytest

from bot.sandbox.world import HEALTH, NUMBERS, PRODUCTION, RECOVERY, NotHere, World, check_place, keys_in
from handlers.charter import parse


def test_it_does_not_start_on_a_dyno():
    with pytest.raises(NotHere, match="dyno"):
        check_place({"DYNO": "web.1"})


@pytest.mark.parametrize("name", PRODUCTION)
def test_it_does_not_start_beside_production_settings(name):
    with pytest.raises(NotHere, match=name):
        check_place({name: "set"})


def test_it_starts_beside_a_real_telegram_token_or_model_key():
    check_place({"TELEGRAM_BOT_TOKEN": "1:a", "ANTHROPIC_API_KEY": "sk", "PATH": "/bin", "REDIS_URL": ""})


def test_its_keys_are_made_once_and_are_nobody_elses(folder):
    first = keys_in(folder)
    assert keys_in(folder) == first
    assert stat.S_IMODE((folder / "sandbox-keys.json").stat().st_mode) == 0o600
    assert min(map(len, first.values())) >= 32
    assert len(set(first.values())) == len(first)


async def test_every_address_that_the_bot_is_told_is_on_loopback(world):
    env = world.env()
    addresses = {name: value for name, value in env.items() if "://" in value}
    assert len(addresses) == 6
    assert all(value.startswith("http://127.0.0.1:") for value in addresses.values())


async def test_a_real_vendor_takes_the_place_of_ours(folder):
    real = {"TELEGRAM_BOT_TOKEN": "1:real", "ANTHROPIC_API_KEY": "sk-real"}
    async with World(folder, real, shop=False) as world:
        env = world.env()
    assert env["TELEGRAM_BOT_TOKEN"] == "1:real"
    assert env["ANTHROPIC_API_KEY"] == "sk-real"
    assert env.keys().isdisjoint({"TELEGRAM_API_BASE", "ANTHROPIC_BASE_URL"})


async def test_its_charter_is_one_that_the_bot_adopts(world):
    charter = parse(world.charter_toml(), forbidden_secrets=set(world.env()) - {HEALTH, RECOVERY})
    checkout = charter.service("checkout")
    assert [(a.id, a.default, [str(c) for c in a.causes]) for a in checkout.actions] == [
        ("restart_workers", True, ["database", "capacity"]),
        ("switch_payments", False, ["dependency", "network"]),
    ]
    assert [(p.id, p.telegram, p.whatsapp) for p in charter.people] == [
        ("rudo", 1001, NUMBERS["rudo"]),
        ("tendai", 1002, NUMBERS["tendai"]),
    ]
    assert checkout.health_url == world.shop.health_url


async def test_its_charter_can_be_bent(world):
    text = world.charter_toml(
        approve="2 oncall", risk="high", expires="10s", webhook="http://127.0.0.1:9/x", telegram={"rudo": 7}
    )
    charter = parse(text)
    (restart, _) = charter.service("checkout").actions
    assert (restart.approve, restart.risk, restart.expires, restart.webhook) == (
        "2 oncall",
        "high",
        10_000,
        "http://127.0.0.1:9/x",
    )
    assert [p.telegram for p in charter.people] == [7, None]
