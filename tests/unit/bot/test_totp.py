"""A second factor: the RFC's own codes, each once, for who enrolled."""

import base64
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import votes
from bot.ports import Verb
from bot.stepup import LOCK_S, MemoryMarks, RedisMarks, StepUp
from bot.totp import STEP_MS, address, code, step_of
from handlers.charter import CharterError, parse
from ledger import events as ev
from ledger.clock import ManualClock
from ledger.events import Act, Actor
from ledger.ledger import Refusal
from ledger.machine import Stage
from tests.rooms import CHARTER, NOON, charter, tenant
from tests.unit.bot.test_commands import Front
from tests.unit.bot.test_pages import browser
from tests.valkey import a_valkey, connected

SECRET = b"s" * 32
RFC = b"12345678901234567890"
RULE = '\n[[rules]]\nrisk = "high"\ntotp = true\n'


def asking(approve: str = "1 oncall"):
    return parse(CHARTER.replace("{approve}", approve).replace("{risk}", "high") + RULE)


async def front(approve: str = "1 oncall", *, secret: bytes = SECRET) -> Front:
    """A house with the switch on, and a request in it."""
    acme = await tenant(asking(approve))
    acme.desk.step_up = StepUp(secret, MemoryMarks(acme.clock))
    here = Front(acme)
    await acme.opens()
    await acme.asks(acme.option())
    return here


async def enrols(here: Front, who: str = "rudo") -> bytes:
    answer = await here.says(who, "/totp", private=True)
    [secret] = parse_qs(urlsplit(answer.html.partition("<code>")[2].replace("&amp;", "&")).query)["secret"]
    return base64.b32decode(secret)


def now(here: Front, secret: bytes, drift: int = 0) -> str:
    return code(secret, here.acme.room.now_ms() // STEP_MS + drift)


async def second_tap(here: Front, who: str = "rudo"):
    tap = here.acme.tap(who, Verb.CONFIRM, here.acme.incident.request.hash, "1", private=True)
    return await here.commands.tapped("acme", tap)


@pytest.mark.parametrize(
    ("second", "digits"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_the_codes_are_those_of_the_rfc(second, digits):
    assert code(RFC, second // 30, digits=8) == digits


@pytest.mark.parametrize(
    ("count", "digits"), [*enumerate(["755224", "287082", "359152", "969429", "338314", "254676"])]
)
def test_six_digits_are_those_of_the_rfc_before(count, digits):
    assert code(RFC, count) == digits


@given(st.integers(3, 2**40), st.integers(-3, 3))
def test_one_step_of_drift_counts_and_no_more(step, drift):
    found = step_of(RFC, code(RFC, step + drift), step * STEP_MS)
    near = {code(RFC, step + one) for one in (-1, 0, 1)}
    assert (found is not None) == (code(RFC, step + drift) in near)


@pytest.mark.parametrize("digits", ["", "12345", "１２３４５６", "abcdef", "12345678"])
def test_what_is_no_code_is_wrong(digits):
    assert step_of(RFC, digits, 0) is None


def test_the_address_is_what_an_app_reads():
    found = urlsplit(address(RFC, "Countersign acme", "rudo"))
    assert (found.scheme, found.netloc, found.path) == ("otpauth", "totp", "/Countersign%20acme:rudo")
    said = parse_qs(found.query)
    assert base64.b32decode(said["secret"][0]) == RFC
    assert (said["issuer"], said["digits"], said["period"]) == (["Countersign acme"], ["6"], ["30"])


async def test_a_second_tap_asks_for_the_code_and_the_code_authorizes():
    here = await front()
    secret = await enrols(here)
    asked = await second_tap(here)
    assert "six digits" in asked.text
    assert here.acme.incident.stage is Stage.VALIDATED
    assert (await here.told("rudo", now(here, secret), private=True)).startswith("Approved")
    _, authorized = here.acme.incident.authorization
    assert authorized.stepped_up
    assert len(authorized.card_digest) == 64


async def test_the_command_takes_the_digits_as_well():
    here = await front()
    secret = await enrols(here)
    assert "Nobody asked" in await here.told("rudo", f"/code {now(here, secret)}", private=True)
    await second_tap(here)
    spaced = f"{now(here, secret)[:3]} {now(here, secret)[3:]}"
    assert (await here.told("rudo", f"/code {spaced}", private=True)).startswith("Approved")


async def test_without_a_second_factor_nothing_is_approved():
    here = await front()
    assert "Send me /totp" in (await second_tap(here)).text
    assert here.acme.incident.stage is Stage.VALIDATED
    assert here.acme.incident.latest(ev.Refused).kind == "no_totp"


async def test_no_vote_counts_without_a_code_whatever_the_desk_forgets():
    here = await front()
    room, request = here.acme.room, here.acme.incident.request
    vote = votes.approve(
        room.rulebook, room.people.person("rudo"), "checkout-1", request.hash, "1", Act(channel="telegram")
    )
    made = await room.ledger.record(Actor.engineer("rudo", "telegram"), vote)
    assert (type(made), made.kind) == (Refusal, "totp")
    assert here.acme.incident.stage is Stage.VALIDATED


async def test_each_of_two_gives_a_code_and_each_code_counts_once():
    here = await front("2 oncall")
    mine, theirs = await enrols(here), await enrols(here, "tendai")
    assert mine != theirs
    await second_tap(here)
    assert "1 of 2" in await here.told("rudo", now(here, mine), private=True)
    await second_tap(here, "tendai")
    assert "not the code" in await here.told("tendai", now(here, mine), private=True)
    assert (await here.told("tendai", now(here, theirs), private=True)).startswith("Approved")
    assert here.acme.incident.latest(ev.Approved).stepped_up


async def test_a_used_code_approves_nothing_more():
    here = await front("2 oncall")
    secret = await enrols(here)
    await second_tap(here)
    digits = now(here, secret)
    await here.told("rudo", digits, private=True)
    await here.acme.taps_on("rudo", Verb.WITHDRAW, here.acme.incident.request.hash)
    await second_tap(here)
    assert "was used" in await here.told("rudo", digits, private=True)
    assert not here.acme.incident.votes()["1"]
    here.acme.clock.advance(30)
    assert "1 of 2" in await here.told("rudo", now(here, secret), private=True)


async def test_five_wrong_codes_lock_for_a_while_and_are_on_record():
    here = await front()
    secret = await enrols(here)
    wrong = next(
        d
        for d in ("000000", "000001", "000002", "000003")
        if step_of(secret, d, here.acme.room.now_ms()) is None
    )
    await second_tap(here)
    for _ in range(5):
        assert "not the code" in await here.told("rudo", wrong, private=True)
    assert "Too many" in await here.told("rudo", now(here, secret), private=True)
    assert here.acme.incident.stage is Stage.VALIDATED
    assert [one.kind for _, one in here.acme.incident.every(ev.Refused)] == ["wrong_totp", "locked_totp"]
    here.acme.clock.advance(LOCK_S + 1)
    await here.acme.taps_on("rudo", Verb.ASK_AGAIN, here.acme.incident.facts[0].hash)
    assert (
        await here.acme.desk.step_up.judge(
            here.acme.room, here.acme.room.people.person("rudo"), now(here, secret), "by"
        )
        == ""
    )


class NoLocks(MemoryMarks):
    """Another process sets the lock a moment too late."""

    async def get(self, tenant, name):
        return "" if name.startswith("lock:") else await super().get(tenant, name)


@pytest.mark.parametrize(("wrong_before", "says"), [(4, ""), (5, "wrong_totp")])
async def test_the_fifth_try_of_a_minute_may_be_right_and_the_sixth_never(wrong_before, says):
    here = await front()
    room = here.acme.room
    rudo, desk = room.people.person("rudo"), here.acme.desk
    desk.step_up = StepUp(SECRET, NoLocks(here.acme.clock))
    secret = await enrols(here)
    for n in range(wrong_before):
        assert await desk.step_up.judge(room, rudo, "no code", f"wrong {n}") == "wrong_totp"
    assert await desk.step_up.judge(room, rudo, now(here, secret), "right") == says


async def test_a_code_stays_used_as_long_as_it_would_be_right():
    here = await front()
    room, secret = here.acme.room, await enrols(here)
    rudo, judge = room.people.person("rudo"), here.acme.desk.step_up.judge
    here.acme.clock.advance(30 - room.now_ms() % STEP_MS / 1000)
    ahead = now(here, secret, drift=1)
    assert await judge(room, rudo, ahead, "first") == ""
    here.acme.clock.advance(89)
    assert await judge(room, rudo, ahead, "second") == "used_totp"
    assert await judge(room, rudo, ahead, "first") == "", "the same act again means the same"


async def test_digits_in_the_group_approve_nothing():
    here = await front()
    secret = await enrols(here)
    await second_tap(here)
    assert "private chat" in await here.told("rudo", now(here, secret))
    assert here.acme.incident.stage is Stage.VALIDATED


async def test_who_may_not_approve_spends_no_code():
    here = await front()
    secret = await enrols(here, "tariro")
    assert "not an approver" in (await second_tap(here, "tariro")).text
    judged = here.acme.desk.step_up.judge
    assert await judged(here.acme.room, here.acme.room.people.person("tariro"), now(here, secret), "by") == ""


async def test_the_secret_is_shown_once_and_stands_nowhere():
    here = await front()
    secret = await enrols(here)
    again = await here.told("rudo", "/totp", private=True)
    assert "otpauth" not in again
    assert "enrolled" in again
    shown = base64.b32encode(secret).decode()
    lines = b"".join(entry.line for entry in await here.log()).decode()
    assert shown not in lines
    assert secret.hex() not in lines
    assert "not for a group" in await here.told("tendai", "/totp")


async def test_the_same_number_gives_each_person_and_team_and_key_another_secret():
    acme, beta = (
        await tenant(),
        await tenant(
            parse(
                CHARTER.replace('id = "acme"', 'id = "beta"', 1)
                .replace("ACME_", "BETA_")
                .replace("{approve}", "1 oncall")
                .replace("{risk}", "low")
            )
        ),
    )
    people, one, other = acme.room.people.people, step_up(SECRET), step_up(b"t" * 32)
    made = {one.secret(acme.room, person, "7") for person in people}
    made |= {one.secret(beta.room, people[0], "7"), other.secret(acme.room, people[0], "7")}
    made.add(one.secret(acme.room, people[0], "8"))
    assert len(made) == len(people) + 3
    assert {len(secret) for secret in made} == {20}


def step_up(secret: bytes) -> StepUp:
    return StepUp(secret, MemoryMarks(ManualClock(NOON)))


async def test_a_new_alert_secret_ends_every_enrolment_and_people_enrol_anew():
    here = await front()
    old = await enrols(here)
    here.acme.desk.step_up = StepUp(b"t" * 32, MemoryMarks(here.acme.clock))
    assert "Send me /totp" in (await second_tap(here)).text
    assert await enrols(here) != old


async def test_another_admin_takes_an_enrolment_back_and_nobody_their_own():
    here = await front()
    first = await enrols(here, "tendai")
    await enrols(here)
    for who, whose in (("tendai", "rudo"), ("rudo", "rudo"), ("tendai", "tendai")):
        assert "Only another admin" in await here.told(who, f"/totp reset {whose}", private=True)
    await here.told("rudo", "/unlink rudo", private=True)
    assert ("rudo", "totp") in here.acme.room.ledger.view.links
    assert "taken back" in await here.told("rudo", "/totp reset tendai", private=True)
    assert await enrols(here, "tendai") != first


async def test_who_has_a_second_factor_stands_in_the_review_of_access():
    here = await front()
    assert "second factor" not in await here.told("rudo", "/access review", private=True)
    await enrols(here, "tendai")
    assert "second factor since 2026-06-03" in await here.told("rudo", "/access review", private=True)


async def test_a_reason_on_whatsapp_may_begin_with_the_word_code():
    here = await front("2 oncall")
    for words in ("code is broken, do not", "review it first"):
        said = await here.says("+263770000002", words, channel="whatsapp", private=True)
        assert "Nobody asked" not in said.text
        assert "broken glass" not in said.text


async def test_the_approval_page_asks_for_the_digits():
    async with browser(asking()) as rudo:
        step_up = rudo.acme.desk.step_up = StepUp(SECRET, MemoryMarks(rudo.acme.clock))
        secret = await enrols(Front(rudo.acme))
        await rudo.acme.opens()
        token = rudo.link("rudo", await rudo.acme.asks())
        assert 'name="code"' in (await rudo.looks(token))[1]
        status, page = await rudo.confirms(token)
        assert (status, "six digits" in page) == (409, True)
        digits = code(secret, rudo.acme.room.now_ms() // STEP_MS)
        async with rudo.client.post("/action/recover/confirm", data={"token": token, "code": digits}) as sent:
            assert sent.status == 200
        assert rudo.acme.incident.authorization[1].stepped_up
        assert step_up.enrolled(rudo.acme.room, rudo.acme.room.people.person("rudo")) == secret


async def test_without_the_switch_nothing_asks():
    acme = await tenant(charter(risk="high"))
    await acme.opens()
    request = await acme.asks()
    await acme.taps_on("rudo", Verb.CONFIRM, request.hash, private=True)
    assert not acme.incident.authorization[1].stepped_up


def test_a_charter_that_does_not_use_it_keeps_its_text():
    ruled = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "high")
    assert "totp" not in charter(risk="high").text()
    assert "totp" not in parse(ruled + '\n[[rules]]\nrisk = "high"\nper_hour = 1\n').text()
    assert asking().action("checkout", "restart_workers").totp
    assert not asking().action("checkout", "switch_payments").totp


def test_a_code_for_low_risk_is_a_mistake_that_says_the_remedy():
    with pytest.raises(CharterError, match='Write risk = "high"'):
        parse(
            CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low") + "\n[[rules]]\ntotp = true\n"
        )


async def obeys(marks):
    """What every keeper of marks does."""
    assert await marks.get("acme", "used") == ""
    assert await marks.mark("acme", "used", "a", 60) == "a"
    assert await marks.mark("acme", "used", "b", 60) == "a"
    assert await marks.get("beta", "used") == ""
    assert [await marks.count("acme", "tries", 60) for _ in range(3)] == [1, 2, 3]


async def test_marks_in_memory_are_the_first_ones_and_are_forgotten():
    acme = await tenant()
    marks = MemoryMarks(acme.clock)
    await obeys(marks)
    acme.clock.advance(61)
    assert await marks.mark("acme", "used", "b", 60) == "b"


async def test_marks_on_redis_are_the_first_ones_and_are_forgotten():
    async with a_valkey() as server, connected(server) as redis:
        await obeys(RedisMarks(redis))
        for name in ("used", "tries"):
            assert 0 < await redis("TTL", f"bot:{{acme}}:totp:{name}") <= 60
