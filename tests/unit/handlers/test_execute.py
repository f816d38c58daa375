"""What a person authorized runs once, if it still may; each answer of the webhook has one meaning."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.charter import parse
from handlers.outcome import Ran, Tried, outcome, tried
from handlers.ports import PortError, Reply
from handlers.receipts import Asked
from handlers.reconciler import Loop
from ledger import events as ev
from ledger.events import Actor, Ref
from ledger.store import Durability, MemoryStore
from sdk import receipt, signature
from tests.execution_room import CHARTER, CHECKOUT, POLICY, READING, RUDO, SECRET, Room, well

ONCE = CHARTER.replace("idempotent = true", "idempotent = false")
TIMEOUT = PortError("127.0.0.1 gave no answer within 10 s.", unknown=True)
UNREACHABLE = PortError("127.0.0.1 could not be reached.")


async def authorized(answers=(), *, charter: str = CHARTER) -> Room:
    room = Room(answers, charter=charter)
    await room.detect()
    await room.authorize()
    return room


async def only_outcome(room: Room) -> ev.Event:
    [event] = await room.outcomes()
    return event


# --- the request --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("known", "said"), [(True, ""), (False, ". How checkout is, was not known")])
async def test_what_runs_while_nobody_knows_how_the_service_is_says_so(known, said):
    room = await authorized()
    process = await room.process("web.1")
    room.eyes.now = room.eyes.now if known else None
    await process.run()
    assert len(room.receiver.calls) == 1
    started = process.incident.latest(ev.ExecutionStarted)
    assert started.reason == f"Try 1 of restart_workers{said}"


async def test_the_webhook_is_told_who_approved_what_and_under_which_entry():
    room = await authorized()
    await (await room.process("web.1")).run()
    [call] = room.receiver.calls
    log = await room.store.read("acme", 0, 100)
    entry = next(e for e in log if e.event == "Authorized")
    assert call.idempotency_key == entry.hash
    assert json.loads(call.body) == {
        "tenant": "acme",
        "incident": CHECKOUT,
        "service": "checkout",
        "action": "restart_workers",
        "cause": "unknown",
        "authorization": {"seq": entry.seq, "hash": entry.hash},
        "approved_by": ["rudo"],
        "approved_at_ms": room.now_ms,
    }
    assert call.secret == signature.key_of(SECRET.decode())
    assert call.allow_networks == ("127.0.0.0/8",)
    assert call.timestamp == room.now_ms // 1000


async def test_each_try_is_the_same_request_with_the_same_key():
    room = await authorized([500, 503, 200])
    await (await room.process("web.1")).run()
    assert len({(c.body, c.idempotency_key, c.message_id) for c in room.receiver.calls}) == 1
    assert [c.headers["countersign-attempt"] for c in room.receiver.calls] == ["1", "2", "3"]
    assert [c.timestamp - room.receiver.calls[0].timestamp for c in room.receiver.calls] == [0, 2, 6]


async def test_the_start_is_on_record_with_who_runs_it_and_until_when():
    room = await authorized()
    process = await room.process("web.1")
    await process.run()
    started = process.incident.latest(ev.ExecutionStarted)
    assert (started.attempt, started.by, started.until_ms - room.now_ms) == (1, "web.1", 12_000)
    assert started.digest == room.charter.services[0].actions[0].digest("checkout")


async def test_under_the_loop_the_tries_come_after_two_and_four_seconds():
    room = await authorized([500, 503, 200])
    process = await room.process("web.1")
    loop, began_ms = Loop(process.ledger, [process.executor], room.clock), room.now_ms
    while not await room.outcomes():
        next_ms = loop.step()
        await loop.settle()
        room.clock.advance(max(0, min(next_ms, loop.step()) - room.now_ms) / 1000)
        await loop.settle()
    assert [c.timestamp * 1000 - began_ms for c in room.receiver.calls] == [0, 2_000, 6_000]


# --- what an answer means -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_2xx_is_success(status: int):
    room = await authorized([status])
    await (await room.process("web.1")).run()
    event = await only_outcome(room)
    assert isinstance(event, ev.Executed)
    assert (event.status, event.attempt, event.took_ms, event.receipt) == (status, 1, 40, "none")


@pytest.mark.parametrize("status", [100, 301, 302, 307, 400, 401, 403, 404, 409, 410, 413, 422])
async def test_a_redirect_or_a_refusal_is_final(status: int):
    room = await authorized([status])
    await (await room.process("web.1")).run()
    event = await only_outcome(room)
    assert isinstance(event, ev.WebhookFailed)
    assert (event.status, event.attempt) == (status, 1)
    assert len(room.receiver.calls) == 1


@pytest.mark.parametrize("answer", [408, 425, 429, 500, 503, UNREACHABLE])
async def test_three_tries_that_are_known_to_have_failed_are_a_dead_letter(answer: int | PortError):
    room = await authorized([answer] * 3, charter=ONCE)
    await (await room.process("web.1")).run()
    event = await only_outcome(room)
    assert isinstance(event, ev.WebhookFailed)
    assert event.attempt == len(room.receiver.calls) == 3


@pytest.mark.parametrize("answer", [TIMEOUT, 502, 504])
async def test_where_nobody_knows_whether_it_ran_another_action_is_not_sent_again(answer: int | PortError):
    room = await authorized([answer], charter=ONCE)
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.OutcomeUnknown)
    assert len(room.receiver.calls) == 1


@pytest.mark.parametrize("answer", [TIMEOUT, 502, 504])
async def test_an_idempotent_action_is_asked_for_again_until_somebody_knows(answer: int | PortError):
    room = await authorized([answer, answer, 200])
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.Executed)


async def test_three_answers_that_leave_it_open_leave_it_unknown():
    room = await authorized([TIMEOUT] * 3)
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.OutcomeUnknown)
    assert len(room.receiver.calls) == 3


async def test_an_address_that_may_not_be_called_is_not_tried_twice():
    room = await authorized([PortError("10.0.0.1 is private.", permanent=True)])
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.WebhookFailed)


async def test_409_to_a_second_try_means_that_the_first_is_still_running():
    room = await authorized([TIMEOUT, 409, 200])
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.Executed)


KEY = "f" * 64
ASKED = Asked("restart_workers", KEY, receipt.key("s3cret"))


def answered(status: int, body: object, attempt: int = 1) -> Tried:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return tried(attempt, ASKED, Reply(status, raw, 5))


def signed(result="ok", key=KEY, app="s3cret", counter=7, action="restart_workers"):
    return {"receipt": receipt.issue(receipt.key(app), action, key, result, counter, 1_764_000_000_000)}


def test_the_apps_own_receipt_is_compared_and_its_count_kept():
    found = answered(200, signed())
    assert (found.ran, found.receipt, found.heard.counter) == (Ran.YES, "matches", 7)


@pytest.mark.parametrize(
    "body",
    [
        signed(key="e" * 64),
        signed(action="rollback"),
        signed(app="another", key="e" * 64),
        signed(app="another", result="failed"),
        signed(counter=2**60),
        signed(result="failed"),
        {"receipt": {**signed()["receipt"], "counter": 8}},
        {"receipt": "yes"},
        {"receipt": {"counter": 1}},
        {"receipt": {**signed()["receipt"], "at_ms": "soon"}},
        {"receipt": {**signed(app="another")["receipt"], "key_id": receipt.key_id(receipt.key("s3cret"))}},
        {"receipt": {**signed(app="another")["receipt"], "key_id": "<b>"}},
        {"receipt": {**signed(app="another")["receipt"], "signature": "v1,x"}},
    ],
)
def test_a_receipt_that_is_for_something_else_differs_and_the_run_still_counts(body: object):
    found = answered(200, body)
    assert (found.ran, found.receipt) == (Ran.YES, "differs")


def test_a_receipt_with_a_secret_of_the_apps_own_is_unchecked_and_kept_whole():
    told = signed(app="another")["receipt"]
    found = answered(200, {"receipt": told})
    event = outcome(found, "checkout-1", Ref(seq=1, hash=KEY), idempotent=True)
    assert isinstance(event, ev.Executed)
    assert (event.receipt, event.receipt_counter, event.receipt_at_ms) == ("unchecked", 7, told["at_ms"])
    assert (event.receipt_key_id, event.receipt_signature) == (told["key_id"], told["signature"])
    assert receipt.key_id(receipt.key("another")) == told["key_id"]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b"\xff\xfe", b"[" * 60_000, b"{}", b"1e999"]
)
def test_an_answer_without_a_receipt_has_none(body: bytes):
    found = answered(200, body)
    assert (found.ran, found.receipt, found.heard.counter) == (Ran.YES, "none", 0)


def test_the_app_says_that_it_failed_and_asking_again_would_get_the_same_receipt():
    found = answered(500, signed("failed"))
    assert (found.ran, found.final) == (Ran.NO, True)


def test_the_app_says_that_it_does_not_know():
    found = answered(500, signed("unknown"))
    assert (found.ran, found.final) == (Ran.PERHAPS, True)


def test_nobody_but_the_app_can_end_the_tries_with_a_receipt():
    assert not answered(500, signed("failed", app="another")).final


@given(status=st.integers(100, 599), body=st.binary(max_size=200), attempt=st.integers(1, 3))
def test_every_answer_has_a_meaning_and_only_2xx_is_success(status: int, body: bytes, attempt: int):
    found = tried(attempt, ASKED, Reply(status, body, 1))
    assert (found.ran is Ran.YES) == (200 <= status < 300)
    event = outcome(found, CHECKOUT, Ref(seq=1, hash=KEY), idempotent=True, stop="")
    assert event is not None or (attempt < 3 and not found.final)
    if attempt == 3:
        assert event is not None


# --- preconditions ------------------------------------------------------------------------------------


async def stood_down(room: Room) -> ev.StoodDown:
    await (await room.process("web.1")).run()
    assert room.receiver.calls == []
    event = await only_outcome(room)
    assert isinstance(event, ev.StoodDown)
    assert event.reason.startswith("Not run: ")
    return event


async def test_a_service_that_recovered_is_left_alone():
    room = await authorized()
    room.eyes.now = well(20_000)
    event = await stood_down(room)
    assert event.why == "recovered"
    assert event.reason == "Not run: checkout recovered 20 s ago."


async def test_a_service_that_only_just_stopped_alarming_has_not_recovered_yet():
    room = await authorized()
    room.eyes.now = well(4_000)
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.Executed)


async def test_what_a_person_declared_runs_though_policy_sees_nothing():
    room = Room()
    await room.detect(Actor.engineer("tendai", "telegram"))
    await room.authorize()
    room.eyes.now = well(600_000)
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.Executed)


async def test_before_the_first_poll_nobody_says_that_it_recovered():
    room = await authorized()
    room.eyes.now = None
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.Executed)


@pytest.mark.parametrize(("age_s", "runs"), [(60, True), (60.001, False)])
async def test_an_authorization_lapses_after_a_minute(age_s: float, runs: bool):
    room = await authorized()
    room.clock.advance(age_s)
    await (await room.process("web.1")).run()
    event = await only_outcome(room)
    assert isinstance(event, ev.Executed) is runs
    assert runs or event.why == "lapsed"


async def test_paused_means_that_nothing_runs():
    room = await authorized()
    await room.write(RUDO, ev.Paused())
    assert (await stood_down(room)).why == "paused"


async def test_a_pause_that_this_process_has_not_read_yet_still_stops_it():
    room = await authorized()
    process = await room.process("web.1")
    await room.write(RUDO, ev.Paused())
    await process.executor.do(process.due()[0])
    assert room.receiver.calls == []
    assert (await stood_down(room)).why == "paused"


async def test_nothing_runs_in_maintenance():
    room = await authorized()
    await room.write(RUDO, ev.MaintenanceDeclared(service="checkout", until_ms=room.now_ms + 60_000))
    assert (await stood_down(room)).why == "maintenance"


async def test_another_services_maintenance_is_no_reason():
    room = await authorized()
    await room.write(RUDO, ev.MaintenanceDeclared(service="shop", until_ms=room.now_ms + 60_000))
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.Executed)


async def test_a_deploy_in_between_means_that_people_look_again():
    room = await authorized()
    room.eyes.live = "77aa01bffff"
    event = await stood_down(room)
    assert event.why == "deploy"
    assert "77aa01b after" in event.reason


async def test_a_request_made_after_the_deploy_is_about_the_new_deploy():
    room = Room()
    await room.detect()
    await room.authorize(deploy="77aa01b")
    room.eyes.live = "77aa01b"
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.Executed)


@pytest.mark.parametrize("asked", ["again", "after a run that did not help"])
async def test_a_new_request_is_not_held_to_the_deploy_of_an_old_reading(asked: str):
    room = await authorized([400 if asked == "again" else 200, 200])
    await (await room.process("web.1")).run()
    if asked == "again":
        await room.write(RUDO, ev.AskedAgain(incident_id=CHECKOUT))
    else:
        await room.write(POLICY, ev.NotRecovered(incident_id=CHECKOUT, before=READING, after=READING))
    await room.authorize()
    room.eyes.live = "77aa01b"
    await (await room.process("web.1")).run()
    assert isinstance((await room.outcomes())[-1], ev.Executed)


async def test_where_nobody_knows_the_deploy_it_has_not_changed():
    room = await authorized()
    room.eyes.live = ""
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.Executed)


OTHERS = {
    "another address": ("9000/recover", "9001/recover"),
    "another name": ('"restart_workers"', '"restart_all"'),
    "a higher quorum": ('"1 oncall"', '"2 oncall"'),
    "another role": ('"1 oncall"', '"1 admin"'),
    "nobody": ('"1 oncall"', '""'),
    "a person who left the rota": ('roles = ["oncall", "dev"]', 'roles = ["dev"]'),
    "a person who left": ('id = "rudo"', 'id = "someone"'),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
async def test_a_charter_that_would_not_allow_it_now_does_not_run_it(change: tuple[str, str]):
    room = await authorized()
    await room.adopt(parse(CHARTER.replace(*change)))
    assert (await stood_down(room)).why == "charter"


async def test_a_charter_that_still_allows_it_runs_it():
    room = await authorized()
    await room.adopt(parse(CHARTER.replace('name = "Tariro"', 'name = "Tari"')))
    await (await room.process("web.1")).run()
    assert isinstance(await only_outcome(room), ev.Executed)


async def test_a_charter_whose_text_is_not_known_runs_nothing():
    room = await authorized()
    await room.write(RUDO, ev.CharterAdopted(digest="0" * 64, policy_digest="", policy_label="x"))
    assert (await stood_down(room)).why == "charter"


@pytest.mark.parametrize("secret", [None, b"", b"whsec_not base64"])
async def test_a_webhook_without_a_usable_secret_is_not_called(secret: bytes | None):
    room = await authorized()
    room.purse.secrets = {"ACME_CHECKOUT_RECOVERY": secret} if secret is not None else {}
    event = await stood_down(room)
    assert event.why == "charter"
    assert "ACME_CHECKOUT_RECOVERY" in event.reason


@pytest.mark.parametrize("voters", [("tariro",), ("rudo2",), ()])
async def test_every_voter_must_still_be_entitled(voters: tuple[str, ...]):
    room = Room()
    await room.detect()
    await room.authorize(*voters)
    if voters:
        assert (await stood_down(room)).why == "charter"
    else:  # nobody is named: the person who tapped counts
        await (await room.process("web.1")).run()
        assert isinstance(await only_outcome(room), ev.Executed)


@pytest.mark.parametrize(("answer", "kind"), [(500, ev.WebhookFailed), (TIMEOUT, ev.OutcomeUnknown)])
async def test_pause_stops_the_tries_that_are_left(answer: int | PortError, kind: type[ev.Event]):
    room = await authorized([answer])
    process = await room.process("web.1")
    await process.step()
    await room.write(RUDO, ev.Paused())
    await process.run()
    event = await only_outcome(room)
    assert isinstance(event, kind)
    assert "Countersign is paused." in event.reason
    assert len(room.receiver.calls) == 1


async def test_a_try_that_failed_is_not_repeated_once_the_service_recovered():
    room = await authorized([500])
    process = await room.process("web.1")
    await process.step()
    room.eyes.now = well(20_000)
    await process.run()
    assert isinstance(await only_outcome(room), ev.WebhookFailed)
    assert len(room.receiver.calls) == 1


async def test_a_try_that_may_have_run_is_asked_after_though_the_service_recovered():
    room = await authorized([TIMEOUT])
    process = await room.process("web.1")
    await process.step()
    room.eyes.now = well(20_000)
    await process.run()
    assert isinstance(await only_outcome(room), ev.Executed)


async def test_a_try_cut_off_long_ago_is_not_repeated():
    room = await authorized([TIMEOUT])
    await (await room.process("web.1")).step()
    room.clock.advance(3600)
    await (await room.process("web.2")).run()
    assert isinstance(await only_outcome(room), ev.OutcomeUnknown)
    assert len(room.receiver.calls) == 1


# --- no ledger, no act --------------------------------------------------------------------------------


async def test_nothing_is_sent_while_the_ledger_is_away_and_it_runs_when_it_is_back():
    room = await authorized()
    process = await room.process("web.1")
    process.disk.away = True
    with pytest.raises(PortError):
        await process.executor.do(process.due()[0])
    assert room.receiver.calls == []
    assert process.due()[0].at_ms > room.now_ms, "nothing is due while the ledger is away"
    room.clock.advance(10)
    process.disk.away = False
    await process.ledger.sweep()
    await process.run()
    assert isinstance(await only_outcome(room), ev.Executed)


async def test_a_ledger_that_may_lose_entries_runs_nothing():
    room = Room()
    room.store = room.receiver.store = MemoryStore(Durability.NOT_DURABLE)
    await room.detect()
    await room.authorize()
    process = await room.process("web.1")
    await process.run()
    assert room.receiver.calls == []
    event = await only_outcome(room)
    assert isinstance(event, ev.StoodDown)
    assert event.why == "lapsed"


async def test_a_ledger_that_is_lost_between_the_start_and_the_call_sends_nothing():
    room = await authorized()
    process = await room.process("web.1")
    append = process.disk.append

    async def append_then_lose(*args):
        answer = await append(*args)
        process.ledger.durability = Durability.UNVERIFIED
        return answer

    process.disk.append = append_then_lose
    await process.executor.do(process.due()[0])
    assert room.receiver.calls == []
    assert await room.told() == ["Authorized", "ExecutionStarted"]
    del process.disk.append
    await process.ledger.sweep()
    await process.run()
    assert isinstance(await only_outcome(room), ev.Executed)


async def test_a_sealed_ledger_runs_nothing():
    room = await authorized()
    process = await room.process("web.1")
    process.ledger.sealed = "it has no entry 5"
    with pytest.raises(PortError):
        await process.executor.do(process.due()[0])
    assert room.receiver.calls == []


async def busy(process, room: Room) -> asyncio.Event:
    """Let the append of the start hang until the returned event is set, and the ledger say busy."""
    append, release = process.disk.append, asyncio.Event()

    async def slow(*args):
        await release.wait()
        return await append(*args)

    process.disk.append = slow
    with pytest.raises(PortError):
        await process.executor.do(process.due()[0])
    process.disk.append = append
    return release


async def test_a_busy_ledger_sends_nothing_and_a_start_that_stands_later_is_known_to_be_unsent(monkeypatch):
    monkeypatch.setattr("ledger.ledger.PATIENCE_S", 0.02)
    room = await authorized(charter=ONCE)
    process = await room.process("web.1")
    release = await busy(process, room)
    assert room.receiver.calls == []
    release.set()
    await process.ledger.close()
    assert await room.told() == ["Authorized", "ExecutionStarted"]
    assert process.due()[0].at_ms - room.now_ms == 2_000
    await process.run()
    event = await only_outcome(room)
    assert isinstance(event, ev.Executed)
    assert event.attempt == 2


async def test_what_a_busy_process_did_not_send_says_nothing_of_anothers_try(monkeypatch):
    monkeypatch.setattr("ledger.ledger.PATIENCE_S", 0.02)
    room = await authorized(charter=ONCE)
    process, other = await room.process("web.1"), await room.process("web.2")
    release = await busy(process, room)
    answer = room.receiver.hold()
    asked = asyncio.create_task(other.executor.do(other.due()[0]))
    await room.receiver.called(1)
    release.set()
    await process.ledger.close()
    await process.ledger.catch_up()
    assert process.due()[0].at_ms - room.now_ms == 12_000
    answer.set()
    await asked
    assert await room.told() == ["Authorized", "ExecutionStarted", "Executed"]


async def test_another_process_takes_over_after_until_and_not_before_even_when_it_is_woken():
    room = await authorized()
    process, other = await room.process("web.1"), await room.process("web.2")
    answer = room.receiver.hold()
    asked = asyncio.create_task(process.executor.do(process.due()[0]))
    await room.receiver.called(1)
    await other.ledger.catch_up()
    [work] = other.due()
    assert work.at_ms - room.now_ms == 12_000
    await other.executor.do(work)
    assert await room.told() == ["Authorized", "ExecutionStarted"]
    answer.set()
    await asked
    assert await room.told() == ["Authorized", "ExecutionStarted", "Executed"]


async def test_a_start_that_stood_too_late_is_not_followed_by_a_call():
    room = await authorized()
    process = await room.process("web.1")
    append = process.disk.append

    async def slow(*args):
        answer = await append(*args)
        room.clock.advance(3)
        return answer

    process.disk.append = slow
    await process.executor.do(process.due()[0])
    assert room.receiver.calls == []


async def test_an_outcome_that_cannot_be_appended_is_appended_later_and_not_run_again():
    room = await authorized()
    process = await room.process("web.1")
    answer = room.receiver.hold()
    asked = asyncio.create_task(process.executor.do(process.due()[0]))
    await room.receiver.called(1)
    process.disk.away = True
    answer.set()
    with pytest.raises(PortError):
        await asked
    process.disk.away = False
    await process.run()
    assert len(room.receiver.calls) == 1
    event = await only_outcome(room)
    assert isinstance(event, ev.Executed)
    assert event.attempt == 1


async def test_an_incident_that_was_authorized_twice_runs_twice_under_two_keys():
    room = await authorized([400, 200])
    process = await room.process("web.1")
    await process.run()
    await room.write(RUDO, ev.AskedAgain(incident_id=CHECKOUT))
    await room.authorize(deploy="a1b2c3d")
    await process.run()
    assert len({call.idempotency_key for call in room.receiver.calls}) == 2
    assert [type(event).__name__ for event in await room.outcomes()] == ["WebhookFailed", "Executed"]


async def test_nothing_is_due_for_an_incident_that_nobody_authorized():
    room = Room()
    await room.detect()
    process = await room.process("web.1")
    assert process.due() == []
    await room.request()
    await process.ledger.catch_up()
    assert process.due() == []


async def test_no_word_of_an_answer_reaches_the_ledger():
    room = await authorized([400])
    secret = SECRET.decode()

    async def echo(call):
        return Reply(400, f"{secret} {call.body!r} <script>".encode(), 3)

    process = await room.process("web.1")
    process.executor._webhook.post = echo
    await process.run()
    log = b"".join(entry.line for entry in await room.store.read("acme", 0, 100))
    assert b"whsec_" not in log
    assert b"script" not in log
