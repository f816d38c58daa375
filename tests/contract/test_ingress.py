"""What reached us is stored before it is acknowledged, and is handled whatever dies in between."""

import asyncio
import signal
import sys
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bot.ingress import (
    AT_ONCE,
    BAD,
    DELIVERIES,
    GROUP,
    IN_HAND,
    MOST_BODY,
    PUT,
    SECRET_HEADER,
    UPDATES,
    Inbox,
    TelegramDoor,
)
from bot.ports import SendError
from ledger.clock import ManualClock
from ledger.store import StoreDown
from tests.valkey import a_valkey, connected

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECRET = "s3cret-of-the-webhook"


@pytest.fixture
async def valkey():
    async with a_valkey() as server:
        yield server


@pytest.fixture
async def redis(valkey):
    async with connected(valkey) as redis:
        yield redis


class Hands:
    """A receiver that notes what it was handed; `failing` are ids that it cannot do."""

    def __init__(self, failing=(), hold=()):
        self.done: list[str] = []
        self.seen: list[tuple[str, int]] = []
        self.given_up: list[str] = []
        self.failing, self.hold = set(failing), dict(hold)
        self.changed = asyncio.Condition()

    async def handle(self, arrived):
        await self._note(self.seen, (arrived.id, arrived.deliveries))
        if arrived.id in self.hold:
            await self.hold[arrived.id].wait()
        if arrived.id in self.failing:
            raise RuntimeError("cannot")
        await self._note(self.done, arrived.id)

    async def give_up(self, arrived):
        await self._note(self.given_up, arrived.id)

    async def _note(self, where, what):
        async with self.changed:
            where.append(what)
            self.changed.notify_all()

    async def until(self, true):
        async with self.changed, asyncio.timeout(20):
            await self.changed.wait_for(true)


@asynccontextmanager
async def running(inbox, hands):
    task = asyncio.create_task(inbox.run({"telegram": hands}))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def put(inbox, *ids, order=""):
    for id in ids:
        assert await inbox.put("telegram", id, b'{"update_id":1}', {"order": order})


async def test_what_was_put_is_handled_once_and_leaves_the_stream(redis):
    inbox, hands = Inbox(redis, "a"), Hands()
    await put(inbox, "1", "2", "3")
    assert await inbox.waiting() == 3
    async with running(inbox, hands):
        await hands.until(lambda: len(hands.done) == 3)
    assert sorted(hands.done) == ["1", "2", "3"]
    assert await inbox.waiting() == 0


async def test_the_same_id_again_is_no_news_even_after_it_was_handled(redis):
    inbox, hands = Inbox(redis, "a"), Hands()
    assert await inbox.put("telegram", "7", b"{}", {})
    assert not await inbox.put("telegram", "7", b"{}", {})
    async with running(inbox, hands):
        await hands.until(lambda: hands.done == ["7"])
    assert not await inbox.put("telegram", "7", b"{}", {})
    assert await inbox.put("twilio", "7", b"{}", {})


async def test_many_at_once_are_stored_in_few_steps_and_each_is_told_whether_it_was_news(redis):
    steps = []

    async def counted(*command):
        steps.append(command[1])
        return await redis(*command)

    inbox = Inbox(counted, "a")
    await put(inbox, "7")
    asked = [str(n) for n in range(300)] + ["5"]
    raw = {id: b'{"update_id":%d}' % n for n, id in enumerate(asked)}
    news = await asyncio.gather(*(inbox.put("telegram", id, raw[id], {"order": id}) for id in asked))
    assert [id for id, is_new in zip(asked, news, strict=True) if not is_new] == ["7", "5"]
    assert steps.count(PUT) <= 4
    stored = [fields for _, fields in await redis("XRANGE", UPDATES, "-", "+")]
    assert [fields[b"id"].decode() for fields in stored] == ["7", *(id for id in asked[:-1] if id != "7")]
    assert all(fields[b"raw"] == raw[fields[b"id"].decode()] for fields in stored[1:])


async def test_what_is_long_does_not_go_with_others(redis):
    sizes = []

    async def measured(*command):
        sizes.append(sum(len(part) for part in command if isinstance(part, bytes)))
        return await redis(*command)

    inbox = Inbox(measured, "a")
    long = b" " * (MOST_BODY - 1)
    await asyncio.gather(*(inbox.put("telegram", str(n), long, {}) for n in range(3)))
    assert max(sizes) < 2 * len(long)
    assert await inbox.waiting() == 3


async def test_the_raw_bytes_and_the_notes_come_out_as_they_went_in(redis):
    got = []

    class Keeps(Hands):
        async def handle(self, arrived):
            got.append(arrived)
            await super().handle(arrived)

    inbox, hands = Inbox(redis, "a"), Keeps()
    raw = b'{"update_id": 9, "odd": "\xff\x00\n"}'
    await inbox.put("telegram", "9", raw, {"digest": "d", "order": "chat:1"})
    async with running(inbox, hands):
        await hands.until(lambda: hands.done)
    assert (got[0].raw, got[0].meta["digest"], got[0].deliveries) == (raw, "d", 1)


async def test_what_a_dead_process_took_is_taken_over(redis):
    dead, alive, hands = Inbox(redis, "dead", idle_s=0.6), Inbox(redis, "alive", idle_s=0.6), Hands()
    await put(dead, "1")
    await dead._make_group()
    assert [a.id for a in await dead._new(4)] == ["1"]
    async with running(alive, hands):
        await hands.until(lambda: hands.done == ["1"])
    assert hands.seen == [("1", 2)]
    assert await alive.waiting() == 0


async def test_a_living_process_keeps_what_it_took(redis):
    busy, other = Inbox(redis, "busy"), Inbox(redis, "other")
    await put(busy, "1")
    await busy._make_group()
    await busy._new(4)
    assert await other._late() == []


async def test_a_bad_update_is_tried_five_times_then_told_and_parked(redis):
    inbox, hands = Inbox(redis, "a", idle_s=0.15), Hands(failing={"bad"})
    await put(inbox, "bad", "good")
    async with running(inbox, hands):
        await hands.until(lambda: hands.given_up)
    assert [n for id, n in hands.seen if id == "bad"] == list(range(1, DELIVERIES + 1))
    assert hands.done == ["good"]
    assert (await inbox.waiting(), await inbox.parked()) == (0, 1)
    ((_, fields),) = await redis("XRANGE", BAD, "-", "+")
    assert fields[b"why"] == b"failed 5 times"
    assert fields[b"raw"] == b'{"update_id":1}'


async def test_a_kind_that_nobody_handles_is_parked(redis):
    inbox = Inbox(redis, "a")
    await inbox.put("pigeon", "1", b"{}", {})
    hands = Hands()
    await put(inbox, "2")
    async with running(inbox, hands):
        await hands.until(lambda: hands.done == ["2"])
    assert await inbox.parked() == 1


async def test_a_slow_chat_holds_up_itself_alone(redis):
    gate = asyncio.Event()
    inbox, hands = Inbox(redis, "a"), Hands(hold={"slow": gate})
    await put(inbox, "slow", "after", order="chat:1")
    await put(inbox, "elsewhere", order="chat:2")
    async with running(inbox, hands):
        await hands.until(lambda: hands.done == ["elsewhere"])
        assert [id for id, _ in hands.seen] == ["slow", "elsewhere"]
        gate.set()
        await hands.until(lambda: len(hands.done) == 3)
    assert hands.done == ["elsewhere", "slow", "after"]


async def test_no_more_is_taken_in_hand_than_can_be_and_what_waits_comes_after(redis):
    go, ids = asyncio.Event(), [str(n) for n in range(IN_HAND + 40)]
    inbox, hands = Inbox(redis, "a"), Hands(hold=dict.fromkeys(ids, go))
    await asyncio.gather(*(put(inbox, id) for id in ids))
    async with running(inbox, hands):
        await hands.until(lambda: len(hands.seen) == AT_ONCE)
        taken = (await redis("XPENDING", UPDATES, GROUP))["pending"]
        assert AT_ONCE <= taken <= IN_HAND
        go.set()
        await hands.until(lambda: len(hands.done) == len(ids))
    assert sorted(hands.done) == sorted(ids)


async def test_the_end_waits_for_what_is_in_hand(redis):
    gate = asyncio.Event()
    inbox, hands = Inbox(redis, "a"), Hands(hold={"1": gate})
    await put(inbox, "1")
    async with running(inbox, hands) as task:
        await hands.until(lambda: hands.seen)
        task.cancel()
        gate.set()
    assert hands.done == ["1"]
    assert await inbox.waiting() == 0


async def test_reading_goes_on_after_the_server_was_killed(valkey, redis):
    inbox, hands = Inbox(redis, "a", idle_s=0.6), Hands()
    await put(inbox, "1")
    async with running(inbox, hands):
        await hands.until(lambda: hands.done == ["1"])
        valkey._process.send_signal(signal.SIGKILL)
        await stored(inbox, "2")
        await hands.until(lambda: "2" in hands.done)


async def stored(inbox, id):
    async with asyncio.timeout(20):
        while True:
            with suppress(StoreDown):
                await inbox.put("telegram", id, b"{}", {})
                return
            await asyncio.sleep(0.05)


async def test_what_is_remembered_ends_after_two_days(redis):
    await put(Inbox(redis, "a"), "1")
    assert 47 * 3600 < await redis("TTL", f"{UPDATES}:seen:telegram:1") <= 48 * 3600


# --- the door ---------------------------------------------------------------------------------------------


class Refusals:
    """Answers taps directly, as the Telegram adapter does; `broken` when Telegram is away as well."""

    def __init__(self):
        self.told: list[str] = []
        self.broken = False

    async def __call__(self, query):
        if self.broken:
            raise SendError("away")
        self.told.append(query)


def tap(id=1, person=1001, query="q1"):
    return {"update_id": id, "callback_query": {"id": query, "from": {"id": person}, "data": "x"}}


def message(id=1):
    return {"update_id": id, "message": {"chat": {"id": -5}, "text": "/status"}}


@asynccontextmanager
async def door(inbox, secret=SECRET, status=None):
    refusals = Refusals()
    app = web.Application()
    made = TelegramDoor(inbox, ManualClock(NOON), secret, refusals, status)
    app.router.add_post("/telegram/webhook", made.webhook)
    async with TestClient(TestServer(app)) as client:

        async def post(update, secret=SECRET):
            raw = update if isinstance(update, bytes) else orjson.dumps(update)
            headers = {} if secret is None else {SECRET_HEADER: secret}
            async with client.post("/telegram/webhook", data=BytesIO(raw), headers=headers) as answer:
                return answer.status

        yield post, refusals


async def test_200_is_said_when_the_update_is_stored(redis):
    inbox = Inbox(redis, "a")
    async with door(inbox) as (post, _):
        assert await post(message(41)) == 200
        assert await post(message(41)) == 200
    ((_, fields),) = await redis("XRANGE", UPDATES, "-", "+")
    meta = orjson.loads(fields[b"meta"])
    assert meta["digest"] == sha256(orjson.dumps(message(41))).hexdigest()
    assert meta["at_ms"] == str(int(NOON.timestamp() * 1000))
    assert (fields[b"id"], meta["order"]) == (b"41", "chat:-5")


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET[:-1], SECRET + "x", "s3crét"])
async def test_a_wrong_secret_is_refused_and_nothing_is_stored(redis, secret):
    inbox = Inbox(redis, "a")
    async with door(inbox) as (post, _):
        assert await post(message(), secret) == 403
    assert await inbox.waiting() == 0


@pytest.mark.parametrize("given", [None, "", "x"])
async def test_without_a_configured_secret_nothing_is_taken(redis, given):
    async with door(Inbox(redis, "a"), secret="") as (post, _):
        assert await post(message(), given) == 503


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'{"update_id":"1"}', b'{"message":{}}', b"\xff"])
async def test_what_is_no_update_is_refused(redis, raw):
    async with door(Inbox(redis, "a")) as (post, _):
        assert await post(raw) == 400


async def test_a_body_over_one_mebibyte_is_refused(redis):
    async with door(Inbox(redis, "a")) as (post, _):
        assert await post(b" " * (MOST_BODY - 15) + b'{"update_id":1}') == 200
        assert await post(b" " * (MOST_BODY - 14) + b'{"update_id":2}') == 413


async def away(*_):
    raise StoreDown("Redis does not answer")


async def hangs(*_):
    await asyncio.Event().wait()


@pytest.mark.parametrize("redis_is", [away, hangs])
async def test_while_redis_is_away_a_tap_is_answered_and_a_message_is_sent_again(redis_is):
    async with door(Inbox(redis_is, "a", put_s=0.05)) as (post, refusals):
        assert await post(tap(query="q9")) == 200
        assert refusals.told == ["q9"]
        assert await post(message()) == 503
        refusals.broken = True
        assert await post(tap(2, query="q10")) == 503


@pytest.mark.parametrize(
    ("text", "answered"),
    [("/status", True), ("/status@acme_bot ", True), ("/statuses", False), ("/approve 4812", False)],
)
async def test_while_redis_is_away_status_alone_is_answered_from_memory(text, answered):
    asked, broken = [], [SendError("Telegram is away"), StoreDown("it needed Redis")]

    async def status(arrived):
        if broken:
            raise broken.pop()
        asked.append(arrived)

    update = {"update_id": 9, "message": {"chat": {"id": -5}, "text": text}}
    async with door(Inbox(away, "a"), status=status) as (post, _):
        assert [await post(update) for _ in range(3)] == [503, 503, 200 if answered else 503]
    assert [(one.id, one.raw) for one in asked] == ([("9", orjson.dumps(update))] if answered else [])


async def test_a_tap_that_was_answered_as_not_run_is_dropped_even_if_it_was_stored(redis):
    async def stored_but_silent(*command):
        await redis(*command)
        raise StoreDown("the reply was lost")

    broken = Inbox(stored_but_silent, "a")
    async with door(broken) as (post, refusals):
        assert await post(tap(1)) == 200
        refusals.broken = True
        assert await post(tap(2, person=7)) == 503
    assert await Inbox(redis, "b").waiting() == 2
    broken._redis, hands = redis, Hands()
    async with running(broken, hands):
        await hands.until(lambda: hands.done == ["2"])
    assert hands.seen == [("2", 1)]
    assert await broken.waiting() == 0


async def test_a_tap_that_is_being_handled_is_not_answered_as_not_run(redis):
    began = asyncio.Event()

    class Began(Hands):
        async def handle(self, arrived):
            began.set()
            await super().handle(arrived)

    async def stored_and_late(*command):
        answer = await redis(*command)
        if command[1] == PUT:
            await began.wait()
            raise StoreDown("the reply came too late")
        return answer

    inbox, hands = Inbox(stored_and_late, "a"), Began()
    async with running(inbox, hands), door(inbox) as (post, refusals):
        assert await post(tap(1)) == 200
        await hands.until(lambda: hands.done == ["1"])
    assert refusals.told == []


async def test_taps_of_one_person_queue_apart_from_their_messages(redis):
    async with door(Inbox(redis, "a")) as (post, _):
        assert await post(tap(1, person=1001)) == 200
        assert await post({"update_id": 2, "channel_post": {}}) == 200
    orders = [orjson.loads(f[b"meta"])["order"] for _, f in await redis("XRANGE", UPDATES, "-", "+")]
    assert orders == ["tap:1001", ""]


# --- kill -9 ----------------------------------------------------------------------------------------------

DIES = """
import asyncio, os, signal, sys
from bot.ingress import Inbox
from ledger.redis_store import commands, connect

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Dies:
    async def handle(self, arrived):
        die()

async def main():
    inbox = Inbox(commands(connect(sys.argv[1])), "victim")
    await inbox.put("telegram", "1", b"{}", {})
    if sys.argv[2] == "stored":
        die()
    await inbox.run({"telegram": Dies()})

asyncio.run(main())
"""


@pytest.mark.parametrize(("when", "delivery"), [("stored", 1), ("handled", 2)])
async def test_kill_9_loses_no_update(valkey, redis, when, delivery):
    root = Path(__file__).parents[2]
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIES, valkey.url, when, cwd=root, env={"PYTHONPATH": str(root)}
    )
    assert await victim.wait() == -signal.SIGKILL
    inbox, hands = Inbox(redis, "heir", idle_s=0.6), Hands()
    async with running(inbox, hands):
        await hands.until(lambda: hands.done)
    assert hands.seen == [("1", delivery)]
    assert not await inbox.put("telegram", "1", b"{}", {})
