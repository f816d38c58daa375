"""What people get: one card a chat, rung when it must, edited when it may, once in the ledger, never lost."""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from bot.notify import BARE_MS, MemoryShown, Notify
from bot.ports import Address, Card, SendError
from bot.press import Press
from detectors.policy import Policy
from handlers.ports import PortError, Rulebook
from handlers.reconciler import Loop
from ledger import events as ev
from ledger.chain import Entry
from ledger.clock import ManualClock
from ledger.events import Actor
from ledger.ledger import Ledger
from ledger.store import MemoryStore
from ledger.view import epoch_ms
from tests.unit.bot.stories import POLICY, RESTART, RUDO, SICK, SUSPECTS, WELL, charter

BOT = Actor.orchestrator("bot.1")
GROUP = Address("telegram", "-100200300", "chat1")
PRIVATE = Address("telegram", "1001", "rudo", "rudo")
PHONE = Address("whatsapp", "+263770000002", "tendai", "tendai")
NAME = "checkout-1"


@dataclass
class Paper:
    """A channel as the outbox needs it: only whether it edits."""

    name: str
    edits: bool


@dataclass
class Message:
    to: str
    card: Card
    reply_to: str
    silent: bool
    shows: list[Card] = field(default_factory=list)


class Wire:
    """The outbox in memory: what was sent, in order, and what each message shows now."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.fail: dict[str, SendError] = {}
        self.hangs: set[str] = set()
        self.arrives_but_fails = False
        self.edit_arrives_but_fails = False
        self.slow_edits: set[str] = set()
        self.waiting = 0
        self._go = asyncio.Event()

    def release(self) -> None:
        self._go.set()

    async def send(self, channel, tenant, to, card, *, reply_to="", silent=False) -> str:
        await self._meet(to)
        name = str(len(self.messages) + 1)
        self.messages[name] = Message(to.to, card, reply_to, silent, [card])
        self.calls.append(("send", to.to, name))
        if self.arrives_but_fails:
            raise ConnectionAbortedError("the process was killed here")
        return name

    async def edit(self, channel, tenant, to, message, card) -> None:
        await self._meet(to)
        if to.to in self.slow_edits:
            self.waiting += 1
            await self._go.wait()
        if message not in self.messages:
            raise SendError("message to edit not found", gone=True)
        self.messages[message].card = card
        self.messages[message].shows.append(card)
        self.calls.append(("edit", to.to, message))
        if self.edit_arrives_but_fails:
            raise ConnectionAbortedError("the process was killed here")

    async def _meet(self, to: Address) -> None:
        if to.to in self.hangs:
            await asyncio.Event().wait()
        if error := self.fail.get(to.to):
            raise error

    def of(self, to: Address) -> list[Message]:
        return [m for m in self.messages.values() if m.to == to.to]


class House:
    """One tenant with its notifier, on a clock that only the test moves."""

    def __init__(self, *addresses: Address) -> None:
        self.clock = ManualClock(datetime(2026, 6, 3, 1, 11, 52, tzinfo=UTC))
        self.ledger = Ledger("acme", MemoryStore(), self.clock, random.Random(1))
        self.wire, self.shown, self.book = Wire(), MemoryShown(), Rulebook()
        self.addresses = list(addresses or (GROUP,))
        self.reach: dict[str, list[Address]] = {}
        self.book.add(charter(), Policy())
        self.start()

    def start(self) -> None:
        """A new process on the same ledger and the same notes of what was shown."""
        channels = {"telegram": Paper("telegram", True), "whatsapp": Paper("whatsapp", False)}
        self.notify = Notify(
            self.ledger, self.wire, self.shown, self.book, lambda c, v: self.addresses, Press(), channels,
            self.clock, "bot.1", lambda c, v, person: self.reach.get(person, []),
        )  # fmt: skip
        self.loop = Loop(self.ledger, [self.notify], self.clock)

    async def say(self, actor: Actor, event: ev.Event, after_s: float = 2) -> Entry:
        self.clock.advance(after_s)
        entry = await self.ledger.record(actor, lambda v, n: event)
        assert isinstance(entry, Entry), entry
        return entry

    async def adopt(self) -> None:
        rules = ev.CharterAdopted(
            digest=charter().digest(), policy_digest=Policy().digest(), policy_label=Policy().label
        )
        await self.say(RUDO, rules)

    async def detected(self) -> Entry:
        await self.adopt()
        return await self.say(POLICY, ev.Detected(incident_id=NAME, reading=SICK, suspects=SUSPECTS))

    async def validated(self, after_s: float = 2) -> Entry:
        await self.say(BOT, ev.Proposed(incident_id=NAME, options=(RESTART,), verdict="AGREE"), after_s)
        deadline = epoch_ms(self.clock.now()) + 300_000
        request = ev.Validated(incident_id=NAME, options=(RESTART,), verdict="AGREE", deadline_ms=deadline)
        return await self.say(POLICY, request, 0)

    async def authorized(self) -> Entry:
        chosen = ev.Authorized(
            incident_id=NAME, option="1", action="restart_workers", ref=self.incident.request.ref
        )
        return await self.say(RUDO, chosen)

    async def expired(self) -> Entry:
        request = self.incident.last(ev.Validated)
        late_s = (request.event.deadline_ms - epoch_ms(self.clock.now())) / 1000
        return await self.say(POLICY, ev.Expired(incident_id=NAME, ref=request.ref), late_s)

    @property
    def incident(self):
        return self.ledger.view.incidents[NAME]

    @property
    def now_ms(self) -> int:
        return epoch_ms(self.clock.now())

    def due(self):
        return [w for w in self.notify.due(self.ledger.view, self.now_ms) if w.at_ms <= self.now_ms]

    async def work(self) -> None:
        """Do all that is due now, until nothing is."""
        for _ in range(20):
            due = self.due()
            if not due:
                return
            await asyncio.gather(*(self.notify.do(work) for work in due))
        pytest.fail(f"it never ends: {due}")

    async def settle(self) -> None:
        """Work, and let pass the moment in which a card has no buttons."""
        await self.work()
        self.clock.advance(BARE_MS / 1000)
        await self.work()


async def test_an_incident_is_told_at_once_with_sound_and_once_in_the_ledger():
    house = House()
    await house.detected()
    await house.work()
    [message] = house.wire.of(GROUP)
    assert not message.silent
    assert message.card.html.startswith("<b>🔴 checkout: 19 % of requests fail.")
    [(_, paged)] = house.incident.every(ev.Paged)
    assert (paged.recipient, paged.channel, len(paged.card_digest)) == ("chat1", "telegram", 64)
    assert not paged.silent
    assert not house.due()


async def test_without_a_charter_in_force_nobody_is_told():
    house = House()
    await house.say(POLICY, ev.Detected(incident_id=NAME, reading=SICK))
    assert not house.due()


async def test_a_diagnosis_edits_the_card_and_makes_no_sound():
    house = House()
    await house.detected()
    await house.work()
    said = ev.Diagnosed(incident_id=NAME, lens="A", round=1, cause="database", confidence=87)
    await house.say(Actor.model("opus"), said)
    await house.settle()
    [message] = house.wire.of(GROUP)
    assert "One model has answered" in message.card.html


async def test_live_buttons_are_never_edited_into_others():
    house = House()
    await house.detected()
    await house.work()
    await house.validated()
    await house.work()
    [message] = house.wire.of(GROUP)
    assert "Restart workers?" in message.card.html
    assert message.card.rows == ()
    house.clock.advance(BARE_MS / 1000)
    await house.work()
    assert [b.label for b in message.card.rows[0]] == ["✅ Approve: restart workers", "✖ Deny"]
    for before, after in zip(message.shows, message.shows[1:], strict=False):
        assert not before.rows or not after.rows or before.rows == after.rows


async def test_the_moment_without_buttons_is_a_deadline_and_not_a_busy_loop():
    house = House()
    await house.detected()
    await house.work()
    await house.validated()
    await house.work()
    [later] = house.notify.due(house.ledger.view, house.now_ms)
    assert house.now_ms < later.at_ms <= house.now_ms + BARE_MS


async def test_what_rings_takes_over_the_buttons_and_the_old_card_says_that_it_moved_down():
    house = House()
    await house.detected()
    await house.work()
    await house.validated()
    await house.settle()
    await house.expired()
    await house.settle()
    old, new = house.wire.of(GROUP)
    assert not new.silent
    assert new.reply_to == "1"
    assert new.card.html.startswith("<b>⌛ checkout still failing")
    assert new.card.rows
    assert old.card.rows == ()
    assert "Restart workers?" in old.card.html
    assert "moved down" in old.card.html


async def test_an_expiry_is_quiet_where_somebody_is_on_it():
    house = House()
    await house.detected()
    await house.work()
    await house.validated()
    await house.say(RUDO, ev.Acknowledged(incident_id=NAME))
    await house.settle()
    await house.expired()
    await house.settle()
    assert [m.silent for m in house.wire.of(GROUP)] == [False, True]


async def test_a_request_that_was_asked_again_is_a_new_message_without_sound():
    house = House()
    await house.detected()
    await house.work()
    await house.validated()
    await house.settle()
    await house.expired()
    await house.settle()
    await house.say(RUDO, ev.AskedAgain(incident_id=NAME))
    await house.settle()
    await house.validated()
    await house.settle()
    *_, last = house.wire.of(GROUP)
    assert last.silent
    assert last.card.rows[0][0].label == "✅ Approve: restart workers"
    assert [bool(m.card.rows) for m in house.wire.of(GROUP)] == [False, False, True]


async def test_running_edits_and_the_outcome_is_a_new_silent_message():
    house = House()
    await house.detected()
    await house.work()
    await house.validated()
    await house.settle()
    approval = await house.authorized()
    ref = ev.Ref(seq=approval.seq, hash=approval.hash)
    started = ev.ExecutionStarted(
        incident_id=NAME, attempt=1, by="bot.1", until_ms=house.now_ms + 20_000, ref=ref
    )
    await house.say(BOT, started)
    await house.say(BOT, ev.Executed(incident_id=NAME, attempt=1, status=200, took_ms=900, ref=ref))
    await house.settle()
    [card] = house.wire.of(GROUP)
    assert "ran once" in card.card.html
    await house.say(POLICY, ev.Verified(incident_id=NAME, before=SICK, after=WELL, quiet_ms=60_000), 70)
    await house.settle()
    _, outcome = house.wire.of(GROUP)
    assert outcome.silent
    assert "recovered" in outcome.card.html
    assert not house.due()


async def test_an_acknowledgement_edits_nothing():
    house = House()
    await house.detected()
    await house.work()
    calls = len(house.wire.calls)
    await house.say(RUDO, ev.Acknowledged(incident_id=NAME))
    assert not house.due()
    assert len(house.wire.calls) == calls


async def test_a_chat_that_hangs_holds_up_no_other():
    house = House(GROUP, PRIVATE)
    house.wire.hangs.add(GROUP.to)
    await house.detected()
    house.loop.step()
    for _ in range(20):
        await asyncio.sleep(0)
    assert [m.to for m in house.wire.messages.values()] == [PRIVATE.to]
    assert house.wire.of(PRIVATE)[0].card.html.startswith("<b>🔴")
    for task in house.loop._running.values():
        task.cancel()
    await house.loop.settle()


async def test_a_crash_after_the_send_repeats_the_card_and_loses_none():
    house = House()
    await house.detected()
    house.wire.arrives_but_fails = True
    with pytest.raises(ConnectionAbortedError):
        await house.work()
    house.wire.arrives_but_fails = False
    house.start()
    await house.work()
    assert len(house.wire.of(GROUP)) == 2
    assert len(house.incident.every(ev.Paged)) == 1


async def test_a_restart_with_notes_at_hand_sends_nothing_again():
    house = House()
    await house.detected()
    await house.work()
    calls = list(house.wire.calls)
    house.start()
    house.shown.cards = {t: dict(cards) for t, cards in house.shown.cards.items()}
    await house.work()
    assert house.wire.calls == calls


async def test_a_chat_that_takes_no_card_is_in_the_ledger_once_and_tried_again_when_it_rings():
    house = House()
    house.wire.fail[GROUP.to] = SendError("bot was blocked by the user", permanent=True)
    await house.detected()
    await house.work()
    [(_, failed)] = house.incident.every(ev.PageFailed)
    assert (failed.recipient, failed.channel) == ("chat1", "telegram")
    assert "blocked" in failed.why
    await house.validated()
    assert not house.due()
    house.wire.fail.clear()
    await house.expired()
    await house.settle()
    [message] = house.wire.of(GROUP)
    assert "⌛" in message.card.html
    assert len(house.incident.every(ev.Paged)) == 1
    assert len(house.incident.every(ev.PageFailed)) == 1


async def test_a_failure_that_passes_is_tried_again():
    house = House()
    house.wire.fail[GROUP.to] = SendError("502")
    await house.detected()
    with pytest.raises(PortError):
        await house.work()
    assert not house.incident.every(ev.PageFailed)
    house.wire.fail.clear()
    await house.work()
    assert len(house.wire.of(GROUP)) == 1


async def test_a_group_that_became_a_supergroup_is_written_to_at_its_new_id():
    house = House()
    house.wire.fail[GROUP.to] = SendError("migrated", moved_to="-100999", permanent=True)
    await house.detected()
    await house.work()
    [message] = house.wire.messages.values()
    assert message.to == "-100999"
    assert house.shown.moved("acme") == {GROUP.to: "-100999"}
    assert not house.incident.every(ev.PageFailed)


async def test_a_message_that_somebody_deleted_is_sent_again_without_sound():
    house = House()
    await house.detected()
    await house.work()
    del house.wire.messages["1"]
    await house.validated()
    await house.settle()
    [again] = house.wire.of(GROUP)
    assert again.silent
    assert "Restart workers?" in again.card.html


async def test_a_channel_that_cannot_edit_is_told_milestones_alone():
    house = House(PHONE)
    await house.detected()
    await house.work()
    said = ev.Diagnosed(incident_id=NAME, lens="A", round=1, cause="database", confidence=87)
    await house.say(Actor.model("opus"), said)
    assert not house.due()
    await house.validated()
    await house.work()
    await house.authorized()
    assert not house.due()
    assert [m.card.template for m in house.wire.of(PHONE)] == ["cs_opened", "cs_request"]
    assert {kind for kind, _, _ in house.wire.calls} == {"send"}


async def test_a_channel_that_cannot_edit_is_told_of_one_expiry():
    house = House(PHONE)
    await house.detected()
    for _ in range(2):
        await house.work()
        await house.validated()
        await house.work()
        await house.expired()
        await house.work()
        await house.say(RUDO, ev.AskedAgain(incident_id=NAME))
    templates = [m.card.template for m in house.wire.of(PHONE)]
    assert templates == ["cs_opened", "cs_request", "cs_outcome", "cs_request"]


async def test_a_chat_that_joins_late_gets_the_present_card_with_sound():
    house = House()
    await house.detected()
    await house.work()
    await house.validated()
    await house.settle()
    house.addresses.append(PRIVATE)
    await house.settle()
    [message] = house.wire.of(PRIVATE)
    assert not message.silent
    assert "Needs one of: you, Tendai" in message.card.html


async def test_an_incident_that_ended_before_anybody_was_told_is_told_quietly_if_it_is_fresh():
    house = House()
    await house.detected()
    await house.say(POLICY, ev.Recovered(incident_id=NAME, after=WELL), 60)
    await house.work()
    [message] = house.wire.of(GROUP)
    assert message.silent
    old = House()
    await old.detected()
    await old.say(POLICY, ev.Recovered(incident_id=NAME, after=WELL), 60)
    old.clock.advance(700)
    assert not old.due()
    [(_, paged)] = house.incident.every(ev.Paged)
    assert paged.silent


async def test_two_names_for_one_chat_are_one_card():
    house = House(GROUP, Address("telegram", GROUP.to, "chat2"))
    await house.detected()
    await house.work()
    assert len(house.wire.of(GROUP)) == 1


async def test_what_was_shown_of_old_incidents_is_forgotten():
    house = House()
    await house.detected()
    await house.work()
    await house.say(POLICY, ev.Recovered(incident_id=NAME, after=WELL), 60)
    await house.work()
    house.clock.advance(100_000)
    await house.say(POLICY, ev.Detected(incident_id="checkout-2", reading=SICK))
    await house.work()
    assert [field.partition("|")[0] for field in house.shown.peek("acme")] == ["checkout-2"]


async def until(condition) -> None:
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("it did not come")


async def test_what_rings_does_not_wait_behind_an_edit():
    house = House()
    await house.detected()
    await house.work()
    house.wire.slow_edits.add(GROUP.to)
    await house.validated()
    [work] = house.due()
    task = asyncio.create_task(house.notify.do(work))
    await until(lambda: house.wire.waiting)
    approval = await house.authorized()
    ref = ev.Ref(seq=approval.seq, hash=approval.hash)
    await house.say(POLICY, ev.StoodDown(incident_id=NAME, why="paused", ref=ref))
    await until(lambda: len(house.wire.of(GROUP)) == 2)
    house.wire.slow_edits.clear()
    house.wire.release()
    await task
    await house.settle()
    old, new = house.wire.of(GROUP)
    assert "NOT run" in new.card.html
    assert old.card.rows == ()
    assert not any("Approve" in b.label for card in old.shows for row in card.rows for b in row)


async def test_a_crash_in_the_middle_of_an_edit_never_swaps_live_buttons():
    house = House()
    await house.detected()
    await house.work()
    await house.validated()
    await house.work()
    house.clock.advance(BARE_MS / 1000)
    house.wire.edit_arrives_but_fails = True
    with pytest.raises(ConnectionAbortedError):
        await house.work()
    house.wire.edit_arrives_but_fails = False
    house.start()
    await house.settle()
    [message] = house.wire.of(GROUP)
    assert message.card.rows[0][0].label == "✅ Approve: restart workers"
    for before, after in zip(message.shows, message.shows[1:], strict=False):
        assert not before.rows or not after.rows or before.rows == after.rows


async def test_whom_an_escalation_names_is_woken_in_private_and_the_group_is_not():
    house = House(GROUP, PRIVATE)
    house.reach["tendai"] = [Address("telegram", "1002", "tendai", "tendai")]
    await house.detected()
    await house.work()
    await house.validated()
    await house.settle()
    await house.say(POLICY, ev.Escalated(incident_id=NAME, to=("rudo", "tendai")))
    await house.settle()
    assert len(house.wire.of(GROUP)) == 1
    first, woken = house.wire.of(PRIVATE)
    assert not woken.silent
    assert woken.card.rows[0][0].label == "✅ Approve: restart workers"
    assert first.card.rows == ()
    [other] = [m for m in house.wire.messages.values() if m.to == "1002"]
    assert not other.silent
    assert {e.recipient for _, e in house.incident.every(ev.Paged)} == {"chat1", "rudo", "tendai"}


async def test_an_edit_that_changes_nothing_costs_no_call():
    house = House()
    await house.detected()
    await house.work()
    await house.validated()
    await house.settle()
    approval = await house.authorized()
    await house.settle()
    calls = len(house.wire.calls)
    ref = ev.Ref(seq=approval.seq, hash=approval.hash)
    started = ev.ExecutionStarted(
        incident_id=NAME, attempt=1, by="bot.1", until_ms=house.now_ms + 20_000, ref=ref
    )
    await house.say(BOT, started)
    await house.settle()
    assert len(house.wire.calls) == calls
    assert not house.due()


async def test_when_the_first_page_cannot_be_noted_it_is_noted_later_and_sent_once():
    house = House()
    await house.detected()
    house.ledger.sealed = "for a test"
    with pytest.raises(PortError):
        await house.work()
    house.ledger.sealed = ""
    await house.work()
    assert len(house.wire.of(GROUP)) == 1
    assert len(house.incident.every(ev.Paged)) == 1
