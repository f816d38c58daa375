"""Break-glass: one person alone where more are needed, everybody told, and a second who signs it off."""

import orjson
import pytest

from bot.glass import DAY_MS, MemoryTold, Reviewing
from bot.ports import Answer, Verb
from bot.state import RedisTold
from bot.stepup import MemoryMarks, StepUp
from handlers import preconditions
from handlers.charter import CharterError, parse
from handlers.ports import PortError
from handlers.preconditions import Case, Seen
from ledger import events as ev
from ledger.audit import audit
from ledger.balance import LAST_MS
from ledger.chain import Head, seal
from ledger.events import Actor
from ledger.ledger import Refusal
from ledger.machine import Stage
from ledger.reconcile import Kind, reconcile
from ledger.report_case import case as case_of
from ledger.report_gather import Scope, gather
from ledger.report_incident import who
from ledger.report_period import period
from ledger.report_words import Times
from ledger.verify import Tampered
from tests.rooms import CHARTER, charter, tenant
from tests.unit.bot.test_commands import Front
from tests.unit.bot.test_totp import RULE, enrols, now
from tests.valkey import a_valkey, connected

WHY = "payments are down and nobody answers"
BREAK = f"/breakglass checkout-1 restart_workers {WHY}"


def rules(glass: str = "1 admin", approve: str = "2 oncall", risk: str = "low", more: str = ""):
    said = CHARTER.replace("{approve}", approve).replace("{risk}", risk)
    return parse(said.replace('id = "acme"\n', f'id = "acme"\nbreak_glass = "{glass}"\n', 1) + more)


async def front(known=None) -> Front:
    acme = await tenant(known or rules())
    await acme.opens()
    await acme.asks(acme.option())
    return Front(acme)


async def breaks(here: Front, who: str = "rudo") -> str:
    await here.told(who, BREAK, private=True)
    return await here.told(who, "BREAK GLASS", private=True)


def case(here: Front, known=None) -> Case:
    view = here.acme.room.ledger.view
    fact, authorized = here.acme.incident.authorization
    return Case(
        view, here.acme.room.now_ms(), here.acme.incident, fact, authorized,
        known or here.acme.room.charter, 60_000, Seen(None, "", has_secret=True),
    )  # fmt: skip


async def test_one_person_approves_alone_after_the_second_look():
    here = await front()
    look = await here.says("rudo", BREAK, private=True)
    assert "http://127.0.0.1:9001/recover/restart_workers" in look.html
    assert "BREAK GLASS" in look.html
    assert here.acme.incident.stage is Stage.VALIDATED
    assert (await here.told("rudo", "break glass", private=True)).startswith("Approved")
    fact, made = here.acme.incident.authorization
    assert (made.break_glass, made.voters, made.decision) == (True, ("rudo",), "break_glass")
    assert (fact.actor.id, len(made.card_digest)) == ("rudo", 64)
    assert preconditions.objection(case(here)) is None


async def test_the_reason_is_a_commitment_and_its_words_lie_beside_the_log():
    here = await front()
    await breaks(here)
    _, made = here.acme.incident.authorization
    assert WHY not in b"".join(entry.line for entry in await here.log()).decode()
    assert await here.acme.room.words(made.words) == WHY


@pytest.mark.parametrize(
    ("who", "text", "private", "said"),
    [
        ("rudo", BREAK, False, "Only in a private chat"),
        ("rudo", "/breakglass checkout-1 restart_workers too short", True, "Say why"),
        ("rudo", "/breakglass checkout-1 restart_workers", True, "Say why"),
        ("rudo", f"/breakglass checkout-1 drop_tables {WHY}", True, "Asked for there: restart_workers"),
        ("rudo", f"/breakglass checkout-9 restart_workers {WHY}", True, "Send me in private"),
        ("tendai", BREAK, True, "may not break the glass"),
        ("tariro", BREAK, True, "may not break the glass"),
    ],
)
async def test_what_is_not_so_breaks_nothing(who, text, private, said):
    here = await front()
    assert said in await here.told(who, text, private=private)
    assert "BREAK GLASS" not in (await here.told(who, "BREAK GLASS", private=True))
    assert here.acme.incident.stage is Stage.VALIDATED


async def test_where_the_charter_says_nothing_nobody_may():
    here = await front(charter(approve="2 oncall"))
    assert "may not break the glass" in await here.told("rudo", BREAK, private=True)
    assert here.acme.incident.latest(ev.Refused).kind == "no_glass"


async def test_a_yes_is_no_break_glass_and_what_was_looked_at_dies_with_its_request():
    here = await front()
    await here.told("rudo", BREAK, private=True)
    for word in ("yes", "BREAK", "approve"):
        assert "Nothing was run" in await here.told("rudo", word, private=True)
    assert "BREAK GLASS" not in await here.told("rudo", "/cancel", private=True)
    await here.told("rudo", BREAK, private=True)
    here.acme.clock.advance(299)
    await here.told("tendai", "/status", private=True)
    here.acme.clock.advance(2)
    await here.told("rudo", "BREAK GLASS", private=True)
    assert here.acme.incident.authorization is None


async def test_in_the_group_the_words_break_nothing():
    here = await front()
    await here.told("rudo", BREAK, private=True)
    assert "private chat" in await here.told("rudo", "BREAK GLASS")
    assert here.acme.incident.stage is Stage.VALIDATED


async def test_who_proposed_it_by_hand_breaks_no_glass_for_it():
    acme = await tenant(rules())
    await acme.opens(Actor.engineer("rudo", "telegram"))
    await acme.asks(acme.option())
    here = Front(acme)
    assert "somebody else must approve" in await here.told("rudo", BREAK, private=True)


async def test_changed_rules_end_what_was_asked_under_the_old_ones_for_a_broken_glass_too():
    here = await front()
    await here.acme.adopt(rules(approve="2 dev"))
    assert "charter changed" in await here.told("rudo", BREAK, private=True)
    assert here.acme.incident.stage is Stage.VALIDATED


async def test_where_one_approval_is_enough_no_glass_is_broken():
    here = await front(rules(approve="1 oncall"))
    assert "No glass needs breaking" in await here.told("rudo", BREAK, private=True)


async def test_who_voted_already_may_break_the_glass_and_the_books_hold():
    here = await front()
    await here.acme.taps_on("rudo", Verb.APPROVE, here.acme.incident.request.hash)
    assert (await breaks(here)).startswith("Approved")
    assert reported(await here.log(), here.acme.room.charter) == set()


async def test_a_code_is_asked_for_there_too():
    known = rules(risk="high", more=RULE)
    acme = await tenant(known)
    acme.desk.step_up = StepUp(b"s" * 32, MemoryMarks(acme.clock))
    await acme.opens()
    await acme.asks(acme.option())
    here = Front(acme)
    secret = await enrols(here)
    assert "six digits" in await breaks(here)
    assert here.acme.incident.stage is Stage.VALIDATED
    assert (await here.told("rudo", now(here, secret), private=True)).startswith("Approved")
    _, made = here.acme.incident.authorization
    assert made.break_glass
    assert made.stepped_up
    assert reported(await here.log(), known) == set()


async def test_it_stands_down_where_the_charter_lets_nobody_any_more_and_when_it_is_old():
    here = await front()
    await breaks(here)
    assert preconditions.objection(case(here, rules(glass="1 oncall"))) is None
    no_admin = rules().model_copy(update={"people": rules().people[1:]})
    assert preconditions.objection(case(here, no_admin)).why == "charter"
    assert preconditions.objection(case(here, charter(approve="2 oncall"))).why == "charter"
    here.acme.clock.advance(61)
    assert preconditions.objection(case(here)).why == "lapsed"


def reported(entries, known) -> set[str]:
    texts = {known.digest(): known.text()}
    raw = [orjson.loads(entry.line) for entry in entries]
    return {str(one.kind) for one in reconcile(raw, texts).exceptions}


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({}, set()),
        ({"break_glass": False}, {Kind.NOT_ENTITLED}),
    ],
)
async def test_who_may_break_it_is_entitled_in_the_books_and_otherwise_not(change, kinds):
    here = await front()
    request = here.acme.incident.request
    chosen = here.acme.option()
    made = ev.Authorized(
        incident_id="checkout-1", option="1", action=chosen.action, digest=chosen.digest, voters=("rudo",),
        break_glass=True, ref=request.ref,
    ).model_copy(update=change)  # fmt: skip
    await here.acme.record(Actor.engineer("rudo", "telegram"), lambda v, n: made)
    assert reported(await here.log(), here.acme.room.charter) == {str(kind) for kind in kinds}


async def test_nobody_breaks_it_whom_the_charter_then_in_force_did_not_let():
    here = await front(charter(approve="2 oncall"))
    request, chosen = here.acme.incident.request, here.acme.option()
    made = ev.Authorized(
        incident_id="checkout-1", option="1", action=chosen.action, digest=chosen.digest, voters=("rudo",),
        break_glass=True, ref=request.ref,
    )  # fmt: skip
    await here.acme.record(Actor.engineer("rudo", "telegram"), lambda v, n: made)
    assert reported(await here.log(), here.acme.room.charter) == {str(Kind.NOT_ENTITLED)}


async def test_what_nobody_may_approve_is_approved_by_no_broken_glass():
    here = await front(rules(approve=""))
    assert "may not break the glass" in await here.told("rudo", BREAK, private=True)
    request, chosen = here.acme.incident.request, here.acme.option()
    made = ev.Authorized(
        incident_id="checkout-1", option="1", action=chosen.action, digest=chosen.digest, voters=("rudo",),
        break_glass=True, ref=request.ref,
    )  # fmt: skip
    await here.acme.record(Actor.engineer("rudo", "telegram"), lambda v, n: made)
    assert reported(await here.log(), here.acme.room.charter) == {str(Kind.NOT_ENTITLED)}


async def test_an_authorization_without_its_code_is_an_exception_in_the_books():
    known = rules(approve="1 oncall", risk="high", more=RULE)
    here = await front(known)
    request, chosen = here.acme.incident.request, here.acme.option()
    made = ev.Authorized(
        incident_id="checkout-1", option="1", action=chosen.action, digest=chosen.digest, voters=("rudo",),
        ref=request.ref,
    )  # fmt: skip
    await here.acme.record(Actor.engineer("rudo", "telegram"), lambda v, n: made)
    assert reported(await here.log(), known) == {str(Kind.NOT_ENTITLED)}


# --- signing off ----------------------------------------------------------------------------------------


async def test_a_second_person_signs_it_off_and_who_broke_it_does_not():
    here = await front()
    await breaks(here)
    assert "checkout-1: Rudo, Break-glass: Restart workers" in await here.told("tendai", "/review")
    assert "You broke this glass yourself" in await here.told("rudo", "/review checkout-1")
    assert "Signing off is for" in await here.told("tariro", "/review checkout-1")
    assert "checkout-1" in here.acme.room.ledger.view.unreviewed
    before = here.acme.incident.stage
    assert "signed off by you" in await here.told("tendai", "/review checkout-1 looked at it, was right")
    assert here.acme.incident.stage is before
    assert not here.acme.room.ledger.view.unreviewed
    signed = here.acme.incident.last(ev.Reviewed)
    assert (signed.actor.id, signed.event.ref) == ("tendai", here.acme.incident.authorization[0].ref)
    assert "Nothing of that incident waits" in await here.told("tendai", "/review checkout-1")
    assert "No broken glass waits" in await here.told("tendai", "/review")
    audit([entry.line for entry in await here.log()], "acme")


@pytest.mark.parametrize("what", ["own", "twice", "another", "none"])
async def test_the_rules_take_no_other_signature(what):
    here = await front()
    await breaks(here)
    ref = here.acme.incident.authorization[0].ref
    wrong = here.acme.incident.last(ev.Validated).ref if what == "another" else ref
    who = "rudo" if what == "own" else "tendai"
    if what == "twice":
        await here.told("tendai", "/review checkout-1")
    made = await here.acme.room.ledger.record(
        Actor.engineer(who, "telegram"),
        lambda v, n: ev.Reviewed(incident_id="checkout-1", ref=None if what == "none" else wrong),
    )
    assert isinstance(made, Refusal)
    assert made.kind == "illegal"


@pytest.mark.parametrize(
    ("who", "broken", "why"),
    [
        ("tendai", True, ""),
        ("rudo", True, "who broke the glass does not sign it off"),
        ("tendai", False, "it signs off no break-glass"),
    ],
)
async def test_a_log_with_a_signature_that_may_not_stand_is_found_out(who, broken, why):
    here = await front(None if broken else rules(approve="1 oncall"))
    if broken:
        await breaks(here)
    else:
        await here.acme.taps_on("rudo", Verb.APPROVE, here.acme.incident.request.hash)
    entries = await here.log()
    last = entries[-1]
    said = seal(
        Head(last.seq, last.hash), ts=here.acme.clock.now(), tenant_id="acme", incident_id="checkout-1",
        event="Reviewed", stage="AUTHORIZED", actor={"kind": "engineer", "id": who, "via": "telegram"},
        decision="", reason="", confidence=None, policy_version=last.policy_version,
        ref={"seq": last.seq, "hash": last.hash}, data=ev.Reviewed().data(),
    )  # fmt: skip
    lines = [entry.line for entry in (*entries, said)]
    if not why:
        audit(lines, "acme")
        return
    with pytest.raises(Tampered, match=why):
        audit(lines, "acme")


# --- telling and reminding ------------------------------------------------------------------------------


class Ears:
    """Hears what is posted; *deaf* nobody can be reached."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.deaf = False

    async def post(self, room, person, answer: Answer) -> bool:
        if not self.deaf:
            self.heard.append((person.id, answer.text))
        return not self.deaf

    @property
    def who(self) -> list[str]:
        return [who for who, _ in self.heard]


async def looks(one: Reviewing, here: Front) -> None:
    view, now_ms = here.acme.room.ledger.view, here.acme.room.now_ms()
    for work in one.due(view, now_ms):
        if work.at_ms <= now_ms:
            await one.do(work)


async def test_everybody_else_is_told_at_once_and_admins_once_a_day_until_it_is_signed_off():
    here, ears, told = await front(), Ears(), MemoryTold()
    one = Reviewing(here.acme.room, told, ears.post)
    await looks(one, here)
    assert ears.heard == []
    await breaks(here)
    await looks(one, here)
    assert ears.who == ["tendai", "tariro"]
    assert all(WHY in text and "/review checkout-1" in text for _, text in ears.heard)
    for _ in range(3):
        await looks(one, here)
        await looks(Reviewing(here.acme.room, told, ears.post), here)
        here.acme.clock.advance(DAY_MS // 4_000)
    assert len(ears.heard) == 2
    for day in range(2):
        here.acme.clock.advance(DAY_MS // 1_000)
        await looks(Reviewing(here.acme.room, told, ears.post), here)
        await looks(one, here)
        await looks(one, here)
        assert ears.who[2:] == ["rudo"] * (day + 1)
    assert "Nobody has signed it off" in ears.heard[-1][1]
    await here.told("tendai", "/review checkout-1")
    here.acme.clock.advance(DAY_MS // 1_000)
    await looks(one, here)
    assert len(ears.heard) == 4


async def test_who_cannot_be_told_now_is_told_later():
    here, ears = await front(), Ears()
    one = Reviewing(here.acme.room, MemoryTold(), ears.post)
    await breaks(here)
    ears.deaf = True
    with pytest.raises(PortError, match="Nobody could be told"):
        await looks(one, here)
    ears.deaf = False
    await looks(one, here)
    assert ears.who == ["tendai", "tariro"]


async def test_when_people_were_told_outlives_the_process():
    async with a_valkey() as server, connected(server) as redis:
        assert await RedisTold(redis).last("acme", "h") == 0
        await RedisTold(redis).tell("acme", "h", 7)
        assert (await RedisTold(redis).last("acme", "h"), await RedisTold(redis).last("beta", "h")) == (7, 0)


# --- the charter and the auditor's page -----------------------------------------------------------------


@pytest.mark.parametrize("text", ["2 admin", "1 dev", "1 admin or 1 viewer", "anybody"])
def test_a_glass_for_others_than_one_admin_or_oncall_is_a_mistake(text):
    with pytest.raises(CharterError, match="break_glass"):
        rules(glass=text)


def test_a_charter_without_it_keeps_its_text():
    assert "break_glass" not in charter().text()
    assert "break_glass" in rules().text()


async def test_the_auditors_page_counts_them_and_says_who_signed_off():
    here = await front()
    await breaks(here)
    assert await page(here) == (1, 1, "signed off by NOBODY yet")
    await here.told("tendai", "/review checkout-1")
    assert await page(here) == (1, 0, "signed off by Tendai (tendai) (#6)")


async def page(here: Front) -> tuple[int, int, str]:
    """How many broke the glass, how many of them nobody signed off, and what one incident says of it."""
    entries, known = await here.log(), here.acme.room.charter
    scope = Scope(from_ms=0, to_ms=LAST_MS)
    found = gather(lambda: entries, scope)
    [incident], texts = found.incidents, {known.digest(): known.text()}
    whole, lines = period(found, scope), who(case_of(incident, found, texts), Times("UTC"), {}).lines
    said = " ".join(next(one.items for one in lines if one.label == "Why it was met"))
    assert 'met by break-glass alone: break_glass = "1 admin"' in said
    return whole.glass, whole.unreviewed, said[said.index("signed off by") :]
