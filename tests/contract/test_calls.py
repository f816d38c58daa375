"""A run without an endpoint of its own: GitHub and Heroku, over real HTTP, through the same executor."""

import logging

import pytest

from bot.sandbox.deploys import Deploys, Dispatched
from handlers.adapters.webhook import HttpWebhook
from handlers.calls import Vendors, key_of
from handlers.charter import parse
from handlers.execute import Executor
from ledger import events as ev
from tests.execution_room import BOT, CHARTER, CHECKOUT, POLICY, RUDO, Room

TOKEN = "ghp_the-token-of-acme"
GITHUB = """
[[services.actions]]
id = "roll_back"
title = "Roll back"
github = { repository = "acme/checkout", workflow = "rollback.yml", branch = "main" }
secret_env = "ACME_TOKEN"
approve = "1 oncall"
[[services.actions.parameters]]
id = "steps"
kind = "integer"
least = 1
most = 3
"""
HEROKU = """
[[services.actions]]
id = "bounce"
title = "Restart web.1"
heroku = { app = "acme-checkout", dyno = "web.1" }
secret_env = "ACME_TOKEN"
approve = "1 oncall"
"""
STEPS = (ev.Given(name="steps", value="2"),)


@pytest.fixture
async def vendors():
    deploys = Deploys(TOKEN, TOKEN)
    await deploys.start()
    yield deploys
    await deploys.close()


async def authorized(charter: str, name: str, given: tuple[ev.Given, ...] = (), token: str = TOKEN) -> Room:
    """A room in which exactly this was approved."""
    room = Room(charter=charter)
    room.purse.secrets["ACME_TOKEN"] = token.encode()
    await room.detect()
    action = room.charter.action("checkout", name)
    option = ev.Option(
        key="1", action=name, approve="1 oncall", digest=action.digest("checkout", given), parameters=given
    )
    await room.write(BOT, ev.Proposed(incident_id=CHECKOUT, options=(option,)))
    asked = ev.Validated(incident_id=CHECKOUT, options=(option,), deadline_ms=room.now_ms + 300_000)
    request = await room.write(POLICY, asked)
    chosen = ev.Authorized(
        incident_id=CHECKOUT, option="1", action=name, digest=option.digest, voters=("rudo",),
        ref=ev.Ref(seq=request.seq, hash=request.hash),
    )  # fmt: skip
    await room.write(RUDO, chosen)
    return room


async def ran(room: Room, vendors: Deploys) -> ev.Event:
    """What came of it, run by a process whose vendors are ours."""
    process = await room.process("web.1")
    process.executor = Executor(
        process.ledger, room.book, room.eyes, room.purse, HttpWebhook(), room.clock, "web.1",
        Vendors(vendors.github_url, vendors.heroku_url),
    )  # fmt: skip
    await process.run()
    [outcome] = await room.outcomes()
    return outcome


async def test_a_workflow_is_dispatched_once_on_its_branch_with_the_approved_values(vendors):
    outcome = await ran(await authorized(CHARTER + GITHUB, "roll_back", STEPS), vendors)
    assert (type(outcome), outcome.status) == (ev.Executed, 204)
    assert vendors.dispatched == [Dispatched("rollback.yml", "main", {"steps": "2"})]


async def test_a_dyno_is_restarted(vendors):
    outcome = await ran(await authorized(CHARTER + HEROKU, "bounce"), vendors)
    assert (type(outcome), outcome.status) == (ev.Executed, 202)
    assert vendors.restarted == ["web.1"]


async def test_without_a_name_all_dynos_are_restarted(vendors):
    await ran(await authorized(CHARTER + HEROKU.replace(', dyno = "web.1"', ""), "bounce"), vendors)
    assert vendors.restarted == ["web.1", "web.2", "worker.1"]


@pytest.mark.parametrize(
    ("charter", "name", "given", "status"),
    [
        (GITHUB.replace("acme/checkout", "acme/other"), "roll_back", STEPS, 404),
        (HEROKU.replace("acme-checkout", "acme-other"), "bounce", (), 404),
    ],
)
async def test_what_a_vendor_does_not_know_failed_for_good(vendors, charter, name, given, status):
    outcome = await ran(await authorized(CHARTER + charter, name, given), vendors)
    assert (type(outcome), outcome.status, outcome.attempt) == (ev.WebhookFailed, status, 1)
    assert vendors.dispatched == []


@pytest.mark.parametrize(("charter", "name", "given"), [(GITHUB, "roll_back", STEPS), (HEROKU, "bounce", ())])
async def test_a_wrong_token_fails_and_stands_in_no_log_and_no_entry(vendors, caplog, charter, name, given):
    caplog.set_level(logging.DEBUG)
    room = await authorized(CHARTER + charter, name, given, token="a-token-nobody-may-read")
    outcome = await ran(room, vendors)
    assert (type(outcome), outcome.status) == (ev.WebhookFailed, 401)
    assert "nobody-may-read" not in caplog.text
    assert not any(b"nobody-may-read" in entry.line for entry in await room.store.read("acme", 0, 100))


async def test_a_vendor_that_is_down_is_asked_three_times(vendors):
    vendors.down = 503
    outcome = await ran(await authorized(CHARTER + GITHUB, "roll_back", STEPS), vendors)
    assert (type(outcome), outcome.attempt) == (ev.WebhookFailed, 3)


async def test_a_vendors_address_is_judged_like_any_other(vendors):
    charter = CHARTER.replace('allow_networks = ["127.0.0.0/8"]', "") + HEROKU
    outcome = await ran(await authorized(charter, "bounce"), vendors)
    assert isinstance(outcome, ev.WebhookFailed)
    assert "private network" in outcome.why
    assert vendors.restarted == []


async def test_values_that_were_not_approved_are_never_sent(vendors):
    room = await authorized(CHARTER + GITHUB, "roll_back", STEPS)
    narrower = parse(CHARTER + GITHUB.replace("most = 3", "most = 1"))
    await room.adopt(narrower)
    outcome = await ran(room, vendors)
    assert (type(outcome), outcome.why) == (ev.StoodDown, "charter")
    assert vendors.dispatched == []


@pytest.mark.parametrize("change", [("main", "dev"), ("rollback.yml", "deploy.yml")])
async def test_another_branch_or_workflow_is_another_request(vendors, change):
    room = await authorized(CHARTER + GITHUB, "roll_back", STEPS)
    await room.adopt(parse(CHARTER + GITHUB.replace(*change)))
    outcome = await ran(room, vendors)
    assert (type(outcome), outcome.why) == (ev.StoodDown, "charter")


@pytest.mark.parametrize(
    "secret", [b"", b" ", b"two words", b"line\nbreak", b"\xff\xfe", "schlüssel".encode()]
)
def test_a_token_that_cannot_stand_in_a_header_is_none(secret):
    assert key_of(parse(CHARTER + HEROKU).action("checkout", "bounce"), secret) is None


def test_a_token_is_taken_without_what_a_file_ends_with():
    assert key_of(parse(CHARTER + HEROKU).action("checkout", "bounce"), b"abc\n") == b"abc"
