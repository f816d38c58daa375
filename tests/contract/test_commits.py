"""GitHub's door and its shelf on a real Valkey: who may tell, what is kept, what an incident says of it."""

import hmac
import io
import json
from hashlib import sha256

import pytest

from bot.commits import MOST_BODY, MOST_KEPT, CommitDoor, Shelf
from handlers.changes import Change
from handlers.charter import CharterError, parse
from ledger.store import StoreDown
from ledger.view import epoch_ms
from tests.doors import Site
from tests.rooms import CHARTER, tenant
from tests.unit.handlers.test_changes import commit, deployed, push
from tests.unit.handlers.test_detect import World
from tests.valkey import a_valkey, connected

pytestmark = pytest.mark.xdist_group("commits")
SECRET = b"an-0pen-s3same"
TOLD = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
TOLD = TOLD.replace('id = "acme"\n', 'id = "acme"\ngithub = "ACME_GITHUB"\n', 1)
TOLD = TOLD.replace('id = "checkout"\n', 'id = "checkout"\nrepository = "acme/checkout"\n', 1)


class Purse:
    def get(self, name):
        return SECRET if name == "ACME_GITHUB" else None


@pytest.fixture
async def redis():
    async with a_valkey() as server, connected(server) as commands:
        yield commands


@pytest.fixture
async def acme():
    return await tenant(parse(TOLD))


class Told(Site):
    """The bot's web side, with GitHub's door."""

    def __init__(self, acme, shelf):
        super().__init__(CommitDoor({"acme": acme.room}, Purse(), shelf, acme.clock).routes())

    async def tell(self, payload, kind="push", delivery="1", secret=SECRET, where="acme", **headers):
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        head = {
            "X-GitHub-Event": kind,
            "X-GitHub-Delivery": delivery,
            "X-Hub-Signature-256": "sha256=" + hmac.digest(secret, raw, sha256).hex(),
            "Content-Type": "application/json",
        }
        return await self.post(f"/commits/webhook/{where}", io.BytesIO(raw), head | headers)


async def test_a_push_is_kept_once_however_often_it_is_delivered(acme, redis):
    shelf = Shelf(redis)
    async with Told(acme, shelf) as site:
        assert await site.tell(push(commit(1), commit(2))) == (200, '{"kept": 2}')
        assert await site.tell(push(commit(1), commit(2))) == (200, '{"kept": 0}')
        assert await site.tell(push(commit(3)), delivery="2") == (200, '{"kept": 1}')
    assert [int(one.sha, 16) for one in shelf.of("acme").known] == [3, 2, 1]


async def test_another_process_reads_what_this_one_kept(acme, redis):
    here, there = Shelf(redis), Shelf(redis)
    assert there.of("acme").known == ()
    async with Told(acme, here) as site:
        await site.tell(push(commit(1, modified=["db/pool.py"])))
    await there.refresh("acme")
    assert there.of("acme").known == here.of("acme").known
    assert there.of("acme").known[0].kinds == ("database",)


async def test_a_deploy_is_told_with_the_words_of_its_push(acme, redis):
    shelf = Shelf(redis)
    async with Told(acme, shelf) as site:
        await site.tell(push(commit(1, "Raise the pool")))
        await site.tell(deployed(), "deployment_status", "2")
    newest = shelf.of("acme").known[0]
    assert (newest.live, newest.title) == (True, "Raise the pool")
    assert shelf.of("acme").live("acme/checkout") == f"{1:040x}"


async def test_who_has_not_the_tenants_secret_is_told_the_same_whatever_is_there(acme, redis):
    shelf = Shelf(redis)
    async with Told(acme, shelf) as site:
        answers = {
            await site.tell(push(commit()), secret=b"guessed"),
            await site.tell(push(commit()), where="nobody"),
            await site.tell(push(commit()), where="nobody", secret=b""),
            await site.tell(push(commit()), **{"X-Hub-Signature-256": ""}),
            await site.tell(b"no json", secret=b"guessed"),
        }
    assert answers == {(401, "This is not signed with the secret of a tenant here.")}
    assert shelf.of("acme").known == ()


async def test_a_bad_delivery_is_answered_with_what_is_wrong(acme, redis):
    async with Told(acme, Shelf(redis)) as site:
        status, said = await site.tell(b'{"ref": 1}')
        assert (status, "This is no push of GitHub's: ref" in said) == (400, True)
        assert (await site.tell(push(commit()), **{"Content-Type": "application/x-www-form-urlencoded"}))[
            0
        ] == 415
        assert (await site.tell(push(commit()), delivery=""))[0] == 400
        assert (await site.tell(b" " * (MOST_BODY + 1)))[0] == 413
        assert await site.tell({"zen": "Keep it logically awesome."}, "ping", "9") == (200, '{"kept": 0}')


async def test_a_delivery_that_cannot_be_kept_is_to_be_sent_again(acme):
    async def away(*command):
        raise StoreDown("it does not answer")

    async with Told(acme, Shelf(away)) as site:
        assert (await site.tell(push(commit())))[0] == 503
        assert (await site.tell({"zen": "x"}, "ping"))[0] == 200


async def test_the_newest_two_hundred_are_kept(acme, redis):
    shelf = Shelf(redis)
    for number in range(30):
        many = [Change("acme/checkout", f"{number * 20 + at:040x}", 1) for at in range(20)]
        await shelf.put("acme", str(number), many)
    assert len(shelf.of("acme").known) == MOST_KEPT
    assert int(shelf.of("acme").known[0].sha, 16) == 29 * 20


async def test_what_cannot_be_read_any_more_is_passed_over(redis):
    shelf = Shelf(redis)
    await shelf.put("acme", "1", [Change("acme/checkout", "a" * 40, 1)])
    for line in ("no json", "[]", '{"kinds":[],"future":1}'):
        await redis("LPUSH", "bot:{acme}:changes", line)
    await shelf.refresh("acme")
    assert [one.sha for one in shelf.of("acme").known] == ["a" * 40]


async def test_an_incident_names_the_commit_that_came_before_it(acme):
    here = World(acme)
    await here.goes(60)
    now_ms = epoch_ms(acme.clock.now())
    near = Change(
        "acme/checkout", "c0ffee" + "0" * 34, now_ms - 240_000, title="Raise the pool", author="rudo-m"
    )
    here.detect.changes.known = [near]
    await here.goes(60, share=0.5)
    suspect = next(one for one in acme.incident.suspects if one.kind == "commit")
    assert (suspect.name, suspect.text, suspect.since_ms) == ("c0ffee000000", near.text, near.at_ms)
    assert suspect.lens == "B"
    assert acme.incident.opened.reading.deploy == near.sha
    assert here.detect.deploy("acme", "checkout") == near.sha


def test_the_secret_is_the_tenants_own():
    with pytest.raises(CharterError, match=r"tenant\.github: the secret OTHER_GITHUB is not this tenant's"):
        parse(TOLD.replace("ACME_GITHUB", "OTHER_GITHUB"))
