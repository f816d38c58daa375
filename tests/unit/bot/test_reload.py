"""A charter's file is followed while the program runs; what it says takes force by an admin's tap alone."""

import asyncio
import os
from dataclasses import dataclass, field

import pytest

from bot.adoption import Adoption
from bot.reload import AGAIN_MS, LOOK_S, Reload
from bot.room import Room
from bot.state import RedisAsked
from handlers.charter import parse
from ledger.store import StoreDown
from tests.rooms import CHARTER, tenant
from tests.valkey import a_valkey, connected

SECRET = b"a secret of the operator, 32 bytes or more"
OTHER = '[tenant]\nid = "umbrella"\n[[people]]\nid = "ada"\nname = "Ada"\nroles = ["admin"]\n'


class MemoryAsked:
    def __init__(self):
        self.kept = {}
        self.away = False

    async def first(self, tenant, what):
        if self.away:
            raise StoreDown("Redis does not answer.")
        before, self.kept[tenant] = self.kept.get(tenant), what
        return before != what

    async def forget(self, tenant):
        self.kept.pop(tenant, None)


@dataclass
class Condition:
    room: Room
    charter_mistake: str = ""


@dataclass
class Follower:
    """A process that follows *path*. `told` holds who was asked what; `reachable` whether that arrives."""

    acme: object
    reload: Reload
    told: list = field(default_factory=list)
    reachable: bool = True

    @property
    def room(self):
        return self.acme.room

    @property
    def mistake(self):
        return self.reload.conditions["acme"].charter_mistake

    async def tick(self):
        self.reload.look()
        for condition in self.reload.conditions.values():
            await self.reload.ask(condition.room)


def text(approve="1 oncall"):
    return CHARTER.replace("{approve}", approve).replace("{risk}", "low")


def write(file, content):
    """A changed file always has another time: the clock of a file system may be coarse."""
    stood = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(content)
    os.utime(file, ns=(stood + 10**9, stood + 10**9))


async def until(true):
    for _ in range(1_000):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("It did not become true.")


async def follows(path, asked=None, others=(), *, adopted=True):
    acme = await tenant(adopted=adopted)
    made = Follower(acme, None)

    async def post(room, person, answer):
        made.told.append((person.id, answer))
        return made.reachable

    adoption = Adoption(SECRET, None)
    conditions = {room.tenant: Condition(room) for room in (acme.room, *others)}
    made.reload = Reload(path, {}, conditions, adoption, asked or MemoryAsked(), post, acme.clock)
    return made


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "charter.toml"
    write(file, text())
    return file


async def test_a_file_as_it_was_adopted_asks_nobody(file):
    bot = await follows(file)
    await bot.tick()
    await bot.tick()
    assert bot.told == []


async def test_a_changed_file_is_proposed_and_the_admins_are_asked_once(file):
    bot = await follows(file)
    await bot.tick()
    before = bot.room.ledger.view.rules
    write(file, text("1 dev"))
    for _ in range(3):
        await bot.tick()
    assert bot.room.proposed.service("checkout").actions[0].approve == "1 dev"
    assert bot.room.ledger.view.rules == before
    [(who, question)] = bot.told
    assert who == "rudo"
    assert "services: checkout changed" in question.text
    assert question.rows[0][0].anchor == bot.room.proposed.digest()


async def test_what_waits_already_when_the_program_starts_is_asked_once_by_all_processes(file):
    asked = MemoryAsked()
    write(file, text("1 dev"))
    one, two = await follows(file, asked), await follows(file, asked)
    for bot in (one, two, one, two):
        await bot.tick()
    assert len(one.told) + len(two.told) == 1


async def test_another_change_is_another_question_and_the_same_one_again_after_it(file):
    bot = await follows(file)
    for approve in ("1 dev", "2 dev", "1 dev"):
        write(file, text(approve))
        await bot.tick()
    assert [question.rows[0][0].anchor == bot.room.proposed.digest() for _, question in bot.told] == [
        True,
        False,
        True,
    ]


async def test_before_the_first_adoption_nobody_is_asked(file):
    bot = await follows(file, adopted=False)
    write(file, text("1 dev"))
    await bot.tick()
    assert bot.told == []


async def test_a_mistake_is_told_and_the_old_charter_stays(file):
    bot = await follows(file)
    await bot.tick()
    stood = bot.room.proposed
    write(file, text().replace("[tenant]", "[tenant]\ncolour = 3"))
    await bot.tick()
    assert "tenant.colour" in bot.mistake
    assert "Remove it" in bot.mistake
    assert bot.room.proposed is stood
    assert bot.told == []
    write(file, text())
    await bot.tick()
    assert bot.mistake == ""


async def test_a_file_that_is_gone_is_a_mistake(file):
    bot = await follows(file)
    await bot.tick()
    file.unlink()
    await bot.tick()
    assert "cannot be read" in bot.mistake


async def test_a_bad_override_of_policy_is_a_mistake(file):
    bot = await follows(file)
    await bot.tick()
    write(file, text() + '\n[policy]\nclose_ms = "never"\n')
    await bot.tick()
    assert "policy.close_ms" in bot.mistake


async def test_one_tenants_mistake_is_nothing_to_another(tmp_path):
    umbrella = (await tenant(parse(OTHER))).room
    write(tmp_path / "acme.toml", text())
    write(tmp_path / "umbrella.toml", OTHER)
    bot = await follows(tmp_path, others=[umbrella])
    await bot.tick()
    write(tmp_path / "umbrella.toml", "[tenant")
    write(tmp_path / "acme.toml", text("1 dev"))
    await bot.tick()
    assert bot.mistake == ""
    assert "is not TOML" in bot.reload.conditions["umbrella"].charter_mistake
    assert bot.room.proposed.service("checkout").actions[0].approve == "1 dev"


async def test_a_file_cannot_take_over_another_tenant_or_its_chat(tmp_path):
    umbrella = (await tenant(parse(OTHER))).room
    write(tmp_path / "acme.toml", text())
    write(tmp_path / "umbrella.toml", OTHER)
    bot = await follows(tmp_path, others=[umbrella])
    await bot.tick()
    stood = bot.room.proposed
    for hostile, says in [
        (text().replace('"acme"', '"umbrella"').replace("ACME_", "UMBRELLA_"), None),
        (OTHER + "[[chats]]\ntelegram = -100200300\n", "is already acme's"),
        (text(), "tenant.id"),
    ]:
        write(tmp_path / "umbrella.toml", hostile)
        await bot.tick()
        assert bot.room.proposed is stood
        if says:
            assert says in bot.reload.conditions["umbrella"].charter_mistake


async def test_who_cannot_be_reached_is_asked_again_a_minute_later(file):
    bot = await follows(file)
    bot.reachable = False
    write(file, text("1 dev"))
    await bot.tick()
    await bot.tick()
    assert len(bot.told) == 1
    bot.reachable = True
    bot.acme.clock.advance(AGAIN_MS / 1000)
    await bot.tick()
    await bot.tick()
    assert len(bot.told) == 2


async def test_while_redis_is_away_nobody_is_asked_and_it_is_not_forgotten(file):
    asked = MemoryAsked()
    bot = await follows(file, asked)
    asked.away = True
    write(file, text("1 dev"))
    await bot.tick()
    assert bot.told == []
    asked.away = False
    await bot.tick()
    assert len(bot.told) == 1


async def test_the_file_is_looked_at_every_five_seconds(file):
    bot = await follows(file)
    task = asyncio.create_task(bot.reload.run())
    try:
        await until(bot.acme.clock.next_wake)
        write(file, text("1 dev"))
        bot.acme.clock.advance(LOOK_S)
        await until(lambda: bot.told)
    finally:
        task.cancel()
    assert bot.told[0][0] == "rudo"


async def test_what_was_asked_is_known_to_every_process():
    async with a_valkey() as server, connected(server) as redis:
        one, two = RedisAsked(redis), RedisAsked(redis)
        assert await one.first("acme", "a")
        assert not await two.first("acme", "a")
        assert await two.first("umbrella", "a")
        assert await two.first("acme", "b")
        await one.forget("acme")
        assert await two.first("acme", "b")
