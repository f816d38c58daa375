"""The door for pushes, and its shelf on a real Valkey: who may push, what is kept, and what is made of it."""

import asyncio
import gzip
import io
import random

import pytest

from bot import ingress, pushes
from bot.doctor import _answers, _secret_names
from bot.pushes import PushDoor, RedisShelf
from detectors.window import Tick
from handlers.adapters.pushed import SILENCE_MS, Pushed
from handlers.charter import CharterError, parse
from handlers.detect import Detect
from handlers.poll import Poller
from handlers.ports import PortError
from ledger.store import StoreDown
from ledger.view import epoch_ms
from sdk.parcel import pack, unpack
from sdk.together import KEEP_S
from tests.crews import KeptStates
from tests.doors import Site
from tests.rooms import CHARTER, tenant
from tests.shelves import MemoryShelf
from tests.unit.sdk.test_together import SECOND_NS, Clocks, count, word_of
from tests.valkey import a_valkey, connected

pytestmark = pytest.mark.xdist_group("pushes")
TOKEN = "an-0pen-s3same"
POLLED = 'health_url = "http://127.0.0.1:9000/health/alerts"'
PUSHING = (
    CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low").replace(POLLED, 'push = "ACME_PUSH"')
)
PUSHING = "\n".join(line for line in PUSHING.splitlines() if not line.startswith("token_env"))


class Purse:
    def __init__(self, token=TOKEN):
        self.token = token

    def get(self, name):
        return self.token.encode() if name == "ACME_PUSH" and self.token else None


class Nobody:
    """The Health of services that are asked: here there is none."""

    async def poll(self, charter, service, cursor, now_ms):
        raise AssertionError("a service that pushes was asked")


class Away:
    """A shelf whose store is away."""

    async def put(self, *what):
        raise StoreDown("it does not answer")

    async def read(self, *what):
        raise StoreDown("it does not answer")


@pytest.fixture
async def redis():
    async with a_valkey() as server, connected(server) as commands:
        yield commands


@pytest.fixture
async def acme():
    return await tenant(parse(PUSHING))


class Told(Site):
    """The bot's web side, with a door for pushes."""

    def __init__(self, acme, shelf, purse=None):
        super().__init__(PushDoor({"acme": acme.room}, purse or Purse(), shelf, acme.clock).routes())

    async def push(self, body, token=TOKEN, where="acme/checkout", **headers):
        head = {"Authorization": f"Bearer {token}", **headers}
        return await self.post(f"/ingest/{where}", body, head)


class App:
    """One worker of the app, by the clock of the bot."""

    def __init__(self, acme, worker="host-1"):
        self.clocks = Clocks(epoch_ms(acme.clock.now()) // 1000)
        self._acme, self.worker, self.number = acme, worker, 0
        self.window = self.clocks.window()

    def second(self, n=1, *, failed=False):
        """Count *n* requests; then a second is over, here and at the bot."""
        for _ in range(n):
            count(self.window, self.clocks, "GET /", 1_000_000, "OSError" if failed else "")
        self.clocks.forward(SECOND_NS)
        self._acme.clock.advance(1)

    def parcel(self):
        self.number += 1
        word = word_of(self.window, self.clocks)
        return pack(self.worker, self.number, word, word.seconds)


def seen(acme, shelf):
    return Pushed(shelf, Nobody()), acme.room.charter, acme.room.charter.service("checkout")


async def test_what_is_pushed_is_counted_once_however_often_it_comes(acme, redis):
    shelf = RedisShelf(redis)
    app = App(acme)
    health, charter, service = seen(acme, shelf)
    async with Told(acme, shelf) as site:
        app.second(3)
        first = app.parcel()
        app.second(2, failed=True)
        for body in (app.parcel(), first, first):
            assert (await site.push(body))[0] == 200
    polled = await health.poll(charter, service, 0, epoch_ms(acme.clock.now()))
    assert (polled.tick.n, polled.tick.errors) == (5, 2)
    again = await health.poll(charter, service, polled.cursor, epoch_ms(acme.clock.now()))
    assert (again.tick.n, again.tick.span_ms, again.cursor) == (0, 0, polled.cursor)


async def test_the_shelf_on_redis_keeps_what_the_one_in_memory_keeps(acme, redis):
    shelf, model, dice = RedisShelf(redis), MemoryShelf(), random.Random(7)
    apps = [App(acme, f"host-{n}") for n in range(2)]
    sent = []
    for _ in range(KEEP_S + 15):
        for app in apps:
            count(app.window, app.clocks, dice.choice(["GET /a", "GET /b"]), dice.randrange(32, 2**30), "")
        acme.clock.advance(1)
        for app in apps:
            app.clocks.forward(SECOND_NS)
            sent.append(app.parcel())
        for raw in [sent[-1], sent[-2], dice.choice(sent)]:
            now_ms = epoch_ms(acme.clock.now())
            assert await shelf.put("acme", "checkout", unpack(raw), now_ms)
            model.keep(unpack(raw), now_ms)
    kept = await shelf.read("acme", "checkout", {}, epoch_ms(acme.clock.now()))
    assert kept.words.keys() == model.words().keys()
    for worker, word in model.words().items():
        told = kept.words[worker]
        assert (told.present, told.through) == (word.present, word.through)
        assert {t: one.slot() for t, one in told.seconds.items()} == {
            t: one.slot() for t, one in word.seconds.items()
        }
        assert 40 < len(word.seconds) <= KEEP_S


async def test_what_was_said_of_a_second_first_stands(acme, redis):
    shelf, first, other = RedisShelf(redis), App(acme), App(acme)
    other.clocks.wall = first.clocks.wall
    first.second(1)
    other.second(7)
    other.number = 1
    for app in (first, other):
        await shelf.put("acme", "checkout", unpack(app.parcel()), epoch_ms(acme.clock.now()))
    kept = await shelf.read("acme", "checkout", {}, epoch_ms(acme.clock.now()))
    assert sum(one.slot().n for one in kept.words["host-1"].seconds.values()) == 1


async def test_a_second_that_is_known_is_not_read_again(acme, redis):
    shelf, app = RedisShelf(redis), App(acme)
    for _ in range(2):
        app.second()
        await shelf.put("acme", "checkout", unpack(app.parcel()), epoch_ms(acme.clock.now()))
        first = (await shelf.read("acme", "checkout", {}, epoch_ms(acme.clock.now()))).words
    again = (await shelf.read("acme", "checkout", first, epoch_ms(acme.clock.now()))).words
    t = min(first["host-1"].seconds)
    assert again["host-1"].seconds[t] is first["host-1"].seconds[t]


@pytest.mark.parametrize(
    ("token", "where"),
    [("guess", "acme/checkout"), (TOKEN, "acme/other"), (TOKEN, "other/checkout"), ("", "acme/checkout")],
)
async def test_who_has_not_the_services_token_gets_one_answer_whatever_is_wrong(acme, token, where):
    async with Told(acme, MemoryShelf()) as site:
        app = App(acme)
        assert await site.push(app.parcel(), token, where) == (
            401,
            "This is not the token of a service that pushes here.",
        )


@pytest.mark.parametrize("given", ["", "Bearer ", "Bearer None", "Bearer \udcff"])
async def test_a_token_that_is_not_set_opens_nothing(acme, given):
    door = PushDoor({"acme": acme.room}, Purse(""), MemoryShelf(), acme.clock)
    assert not door._is_entitled("acme", "checkout", given)


async def test_a_service_that_is_asked_cannot_be_pushed_for():
    asked = await tenant()
    async with Told(asked, MemoryShelf()) as site:
        assert (await site.push(App(asked).parcel()))[0] == 401


async def test_what_is_no_push_is_refused_with_what_is_wrong(acme):
    bomb = gzip.compress(b"\0" * (64 * 1024 * 1024))
    async with Told(acme, MemoryShelf()) as site:
        assert await site.push(b"{}") == (
            400,
            "This is no push: index is not a list of at most 61 seconds.",
        )
        status, why = await site.push(bomb)
        assert (status, "longer than" in why) == (400, True)
        assert (await site.push(io.BytesIO(b" " * (pushes.MOST_BODY + 1))))[0] == 413
        assert (await site.push(bomb, **{"Content-Encoding": "gzip"}))[0] in {400, 413}
        assert (await site.push(App(acme).parcel()))[0] == 200


async def test_who_sends_a_byte_now_and_then_does_not_keep_the_door_open(acme, monkeypatch):
    monkeypatch.setattr(ingress, "BODY_S", 0.1)
    never = asyncio.Event()

    async def body():
        yield b"{"
        await never.wait()

    async with Told(acme, MemoryShelf()) as site:
        assert (await site.push(body()))[0] == 408


async def test_what_cannot_be_kept_now_is_asked_for_again(acme):
    async with Told(acme, Away()) as site:
        assert (await site.push(App(acme).parcel()))[0] == 503


async def test_one_worker_too_many_is_refused_and_let_in_when_another_is_gone(acme, redis, monkeypatch):
    monkeypatch.setattr(pushes, "MOST_WORKERS", 2)
    apps = [App(acme, f"host-{n}") for n in range(3)]
    async with Told(acme, RedisShelf(redis)) as site:
        assert [(await site.push(app.parcel()))[0] for app in apps] == [200, 200, 429]
        assert (await site.push(apps[0].parcel()))[0] == 200
        acme.clock.advance(pushes.FORGET_MS / 1000 + 1)
        assert (await site.push(apps[2].parcel()))[0] == 200


async def test_silence_is_no_answer_with_a_sentence_and_a_push_ends_it(acme, redis):
    shelf = RedisShelf(redis)
    health, charter, service = seen(acme, shelf)

    async def poll():
        return await health.poll(charter, service, 0, epoch_ms(acme.clock.now()))

    assert (await poll()).tick.span_ms == 0
    acme.clock.advance(SILENCE_MS / 1000 + 1)
    with pytest.raises(PortError, match="no push has come yet"):
        await poll()
    app = App(acme)
    app.second()
    await shelf.put("acme", "checkout", unpack(app.parcel()), epoch_ms(acme.clock.now()))
    assert (await poll()).tick.n == 1
    for seconds, said in ((12, "no push for 12 s"), (588, "no push for 10 min"), (9000, "no push for 2 h")):
        acme.clock.advance(seconds)
        with pytest.raises(PortError, match=said):
            await poll()


async def test_an_old_push_that_comes_late_is_no_sign_of_life(acme, redis):
    shelf, app = RedisShelf(redis), App(acme)
    health, charter, service = seen(acme, shelf)
    app.second()
    first = app.parcel()
    await shelf.put("acme", "checkout", unpack(app.parcel()), epoch_ms(acme.clock.now()))
    await health.poll(charter, service, 0, epoch_ms(acme.clock.now()))
    acme.clock.advance(SILENCE_MS / 1000 + 1)
    await shelf.put("acme", "checkout", unpack(first), epoch_ms(acme.clock.now()))
    with pytest.raises(PortError, match="no push for 11 s"):
        await health.poll(charter, service, 0, epoch_ms(acme.clock.now()))


async def test_time_in_which_nothing_could_be_kept_is_not_silence(acme, redis):
    shelf, app = RedisShelf(redis), App(acme)
    health, charter, service = seen(acme, shelf)
    app.second()
    await shelf.put("acme", "checkout", unpack(app.parcel()), epoch_ms(acme.clock.now()))
    assert (await health.poll(charter, service, 0, epoch_ms(acme.clock.now()))).tick.n == 1
    health._shelf = Away()
    with pytest.raises(StoreDown):
        await health.poll(charter, service, 0, epoch_ms(acme.clock.now()))
    acme.clock.advance(60)
    health._shelf = shelf
    assert isinstance((await health.poll(charter, service, 0, epoch_ms(acme.clock.now()))).tick, Tick)
    acme.clock.advance(SILENCE_MS / 1000 + 1)
    with pytest.raises(PortError, match="no push for 71 s"):
        await health.poll(charter, service, 0, epoch_ms(acme.clock.now()))


async def test_a_store_that_is_away_is_no_missed_look(acme):
    detect = Detect(acme.room.ledger, acme.room.rulebook)
    health, charter, service = seen(acme, Away())
    poller = Poller(
        acme.room.ledger, acme.room.rulebook, detect, health, KeptStates(), acme.clock, random.Random(1)
    )
    assert not await poller._looked(charter, service)
    assert detect.seen == {}


async def test_silence_opens_an_incident_by_the_rule_for_what_does_not_answer(acme):
    detect = Detect(acme.room.ledger, acme.room.rulebook)
    health, charter, service = seen(acme, MemoryShelf())
    poller = Poller(
        acme.room.ledger, acme.room.rulebook, detect, health, KeptStates(), acme.clock, random.Random(1)
    )
    await poller.look(charter, service)
    for _ in range(4):
        acme.clock.advance(SILENCE_MS / 1000 + 1)
        await poller.look(charter, service)
    opened = acme.room.ledger.view.open_for("checkout")
    assert opened.reading.signal == "unreachable"
    assert "no push has come yet" in opened.reading.explanation


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f'{POLLED}\npush = "ACME_PUSH"', "both asked at health_url and pushes"),
        ("", "names neither health_url nor push"),
        ('push = "ACME_PUSH"\ntoken_env = "ACME_HEALTH"', "Remove token_env"),
        ('push = "OTHER_PUSH"', "not this tenant's"),
        ('push = "s3cret"', "has a form that it may not have"),
    ],
)
def test_the_charters_check_explains_what_is_wrong_with_a_push(line, why):
    with pytest.raises(CharterError, match=why):
        parse(PUSHING.replace('push = "ACME_PUSH"', line))


def test_a_charter_that_pushes_names_its_secret_and_keeps_it_out_of_its_text():
    charter = parse(PUSHING)
    assert "ACME_PUSH" in charter.service("checkout").secrets
    assert TOKEN not in charter.text()
    assert "push" not in parse(
        CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    ).text().split('"')


async def test_the_doctor_asks_for_the_pushs_token_and_not_for_an_address(acme):
    charter = acme.room.charter
    assert "ACME_PUSH" in _secret_names(charter)
    found = await _answers(Nobody(), charter, charter.service("checkout"))
    assert found.well
    assert "/ingest/acme/checkout" in found.sentence
