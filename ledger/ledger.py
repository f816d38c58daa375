"""One tenant's ledger as the program uses it: a folded view of the present, and one way to change it.

`record(actor, decide)` appends what *decide* makes of the present. Behind it stands one writer:

1. Decisions queue while the last append is in flight; what has queued goes together in the next, and with it
   what those say at once who have just been answered. Where the last was one alone, nobody waits for others.
2. The writer runs them in order, each on the view plus the entries pending before it.
3. One compare-and-append takes the batch. When it is durable every caller is answered, refusals too.
4. On Conflict it absorbs what it missed, and runs all decisions again at once: the present moved. To wait
   would leave the log to who need not absorb first, again and again. Only in a crowd it waits a jitter.
5. A reply lost on the way: catch up. Our own hash in place means it succeeded.

Each batch goes with the note that signs the log as it is then; what is absorbed has one (`ledger.notary`).
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import ValidationError

from ledger.ahead import ahead
from ledger.audit import unhurried
from ledger.chain import GENESIS, BrokenChain, Entry, Head, Malformed, seal
from ledger.clock import Clock
from ledger.events import Actor, Event
from ledger.machine import TRANSITIONS, Illegal
from ledger.notary import LOOK, Notary
from ledger.outside import Outside
from ledger.recall import Recall
from ledger.store import MOST_MISSED, Conflict, Durability, Refused, Sealed, Store, StoreDown
from ledger.view import UnknownEvent, View, epoch_ms

log = logging.getLogger(__name__)

BATCH = 256
PATIENCE_S = 2.0
PAGE = 1000
OUTSIDE_S = 1.0
CROWD, JITTER_S = 32, 0.01
NOTHING_OUTSIDE = (
    "When this process began there was no note of the ledger outside of its store, so a rollback before that "
    "was not noticed here. Keep DATA_DIR, or a copy off the box (LEDGER_SINK_URL)."
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was appended, and why. `kind` is a word for programs, `why` a sentence for a person."""

    kind: str
    why: str = ""


MISTAKEN = Refusal("mistaken", "It could not be decided; nothing was recorded.")
BUSY = Refusal("busy", "The ledger is slow. Whether this counted shows on the card.")
UNSIGNED = Refusal(
    "unsigned", "This log is signed, and this process has no key to sign with. Give it the log's LEDGER_KEY."
)
AWAY = Refusal("ledger_away", "The ledger cannot be written. Nothing runs until it can. Retry in a minute.")

Decide = Callable[[View, datetime], Event | Refusal]


@dataclass(slots=True, eq=False)
class _Asked:
    actor: Actor
    decide: Decide
    answer: "asyncio.Future[Entry | Refusal]"
    until_s: float
    """On the loop's clock."""


@dataclass(slots=True)
class _Draft:
    """One run of all queued decisions over one present."""

    view: View
    entries: list[Entry] = field(default_factory=list)
    answers: list[Entry | Refusal] = field(default_factory=list)


class Ledger:
    """The ledger of one tenant in this process. `view` is the present as last seen; never change it.

    *signer* is the seed that signs: without one, a signed log can be read and not written. *successor* signs
    beside it the entry that rotates the key. *outside* keeps the newest note where whoever changes the store
    does not reach it.
    """

    def __init__(
        self,
        tenant: str,
        store: Store,
        clock: Clock,
        jitter: random.Random,
        *,
        signer: bytes | None = None,
        successor: bytes | None = None,
        outside: Outside | None = None,
    ) -> None:
        self.tenant = tenant
        self.view = View(tenant)
        self.sealed = ""
        self.away_since_ms = 0
        self.durability = Durability.UNVERIFIED
        self.calls = 0
        self.notary = Notary(tenant, signer, successor)
        self._outside_trouble = self._unkept = ""
        self._outside = outside
        self._keeper: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._begun = False
        self._alone = False
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._queue: list[_Asked] = []
        self._unanswered: deque[_Asked] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        self._catching_up = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call *listener* after each change of the view. A hint: it may be called once for many entries."""
        self._listeners.append(listener)

    def now(self) -> datetime:
        return self._clock.now()

    async def record(self, actor: Actor, decide: Decide) -> Entry | Refusal:
        """Append what *decide* makes of the present, once it is durable, or say why nothing was appended.

        *decide(view, now)* is pure and may be run again: the present moves.
        """
        if self.sealed:
            return Refusal(
                "sealed", f"The ledger is sealed: {self.sealed} Nothing runs until a person looks."
            )
        loop = asyncio.get_running_loop()
        asked = _Asked(actor, decide, loop.create_future(), loop.time() + PATIENCE_S)
        self._queue.append(asked)
        self._expect_answer(asked, loop)
        if self._is_idle:
            self._writer = asyncio.Task(
                self._write(), loop=loop, name=f"ledger:{self.tenant}", eager_start=self._alone
            )
        return await asked.answer

    def _expect_answer(self, asked: _Asked, loop: asyncio.AbstractEventLoop) -> None:
        """One alarm serves all: who asked first has waited longest."""
        while self._unanswered and self._unanswered[0].answer.done():
            self._unanswered.popleft()
        self._unanswered.append(asked)
        if self._alarm is None:
            self._alarm = loop.call_at(asked.until_s, self._end_patience, loop)

    def _end_patience(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer who has waited long enough."""
        while self._unanswered:
            asked = self._unanswered[0]
            if not asked.answer.done() and asked.until_s > loop.time():
                break
            self._unanswered.popleft()
            self._give_up(asked)
        oldest = self._unanswered[0] if self._unanswered else None
        self._alarm = loop.call_at(oldest.until_s, self._end_patience, loop) if oldest else None

    def _give_up(self, asked: _Asked) -> None:
        """Its caller has waited long enough."""
        if asked.answer.done():
            return
        if asked not in self._queue:
            asked.answer.set_result(BUSY)
            return
        self._queue.remove(asked)
        slow = Refusal("busy", "The ledger is slow; nothing was recorded.")
        asked.answer.set_result(AWAY if self.away_since_ms else slow)

    async def catch_up(self) -> None:
        """Absorb all that stands in the store. Raises StoreDown, and Sealed if it makes no sense."""
        try:
            async with self._catching_up:
                await self._catch_up()
        except Sealed as broken:
            self._seal(broken.reason)
            raise

    async def hint(self) -> None:
        """Somebody may have appended. Never raises: the next sweep looks anyway."""
        with contextlib.suppress(StoreDown, Sealed):
            if self._is_idle:
                await self.catch_up()

    async def sweep(self) -> None:
        """What is done once a second, so that no wake-up is needed for correctness."""
        try:
            self.durability = await self._store.durability()
            await self._look_at_head()
            self._reached()
        except StoreDown as down:
            self._lost(down)
        except Sealed as broken:
            self._seal(broken.reason)

    async def _look_at_head(self) -> None:
        known = self.view.head
        head = await self._store.head(self.tenant)
        if head.seq <= known.seq and head != known:
            raise Sealed(f"it had {known.seq} entries, and has {head.seq} others now. {LOOK}.")
        if not self._begun or (head != self.view.head and self._is_idle):
            await self.catch_up()

    def may_act(self) -> bool:
        """Whether what is appended here is durable, so that something may run on it."""
        return (
            not self.sealed
            and not self.away_since_ms
            and self.durability
            in {
                Durability.DURABLE,
                Durability.DECLARED,
            }
        )

    def caveats(self) -> list[str]:
        """What somebody who relies on the signatures should know, a sentence each."""
        if self.view.head.seq and not self.notary.note:
            return ["The ledger is not signed."]
        return [trouble for trouble in (self._outside_trouble, self._unkept) if trouble]

    async def close(self) -> None:
        """Wait for what is queued; then no more is written."""
        if self._writer and not self._writer.done():
            await asyncio.wait({self._writer}, timeout=PATIENCE_S)
        if self._alarm:
            self._alarm.cancel()
        self._closing.set()
        if self._keeper:
            await asyncio.wait({self._keeper})  # cancelled, it would leave a thread that still writes

    @property
    def _is_idle(self) -> bool:
        return self._writer is None or self._writer.done()

    async def _write(self) -> None:
        while self._queue:
            asked, self._queue[:] = self._queue[:BATCH], self._queue[BATCH:]
            self._alone = len(asked) == 1
            try:
                answers: list[Entry | Refusal] = await self._append(asked)
            except StoreDown as down:
                self._lost(down)
                answers = [AWAY] * len(asked)
            except Sealed as broken:
                self._seal(broken.reason)
                answers = [Refusal("sealed", f"The ledger is sealed: {self.sealed}")] * len(asked)
            for one, answer in zip(asked, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)
            if self._queue:
                await asyncio.sleep(0)  # so that who was just answered can ask again, and go with the rest

    async def _append(self, asked: list[_Asked]) -> list[Entry | Refusal]:
        lost = 0
        while True:
            if not self._begun:
                await self.catch_up()
            draft = self._draft(asked)
            before = self.view.head
            if not draft.entries:
                if await self._store.head(self.tenant) == before:
                    return draft.answers
                await self.catch_up()
                continue
            if not self.notary.may_sign:
                return [UNSIGNED if isinstance(one, Entry) else one for one in draft.answers]
            signed = self.notary.sign(draft.entries)
            if await self._stands(draft, before, signed.note):
                draft.view.succeed(self.view)
                self.view = draft.view
                self.notary.appended(signed, draft.entries[0])
                self._keep_outside()
                self._reached()
                self._tell()
                return draft.answers
            lost += 1
            if lost > CROWD:
                await asyncio.sleep(self._jitter.uniform(0, JITTER_S))

    async def _stands(self, draft: _Draft, expected: Head, note: str) -> bool:
        """Append the draft. False on Conflict; what was missed is absorbed then."""
        self.calls += 1
        try:
            conflict = await self._store.append(self.tenant, draft.entries, expected, note)
        except StoreDown as down:
            stands = await self._stands_after_all(draft, expected)
            if not stands and isinstance(down, Refused):
                raise
            return stands
        if conflict is None:
            return True
        await self._absorb_missed(conflict)
        return False

    async def _stands_after_all(self, draft: _Draft, expected: Head) -> bool:
        """The reply was lost. Raises StoreDown when the store still cannot be asked."""
        found = await self._store.read(self.tenant, expected.seq, 1)
        if found and found[0].hash == draft.entries[0].hash:
            return True
        await self.catch_up()
        return False

    async def _absorb_missed(self, conflict: Conflict) -> None:
        self._take(conflict.missed, conflict.note or await self._store.note(self.tenant))
        if self.notary.pending or len(conflict.missed) == MOST_MISSED:
            return await self.catch_up()
        self.notary.settle(self.view.signers)
        self._tell()
        return None

    def _draft(self, asked: list[_Asked]) -> _Draft:
        draft = _Draft(self.view.fork())
        now = self._clock.now()
        for one in asked:
            draft.answers.append(self._try(draft, one, now))
        return draft

    def _try(self, draft: _Draft, one: _Asked, now: datetime) -> Entry | Refusal:
        try:
            made = one.decide(draft.view, now)
        except Exception as error:  # noqa: BLE001  a mistake is its caller's, and ends nobody else's wait
            if not one.answer.done():
                one.answer.set_exception(error)
            return MISTAKEN
        if isinstance(made, Refusal):
            return made
        try:
            entry = self._seal_event(draft.view, one.actor, made, now)
            draft.view.absorb(entry, made)
        except (Illegal, Malformed) as illegal:
            return Refusal("illegal", str(illegal))
        draft.entries.append(entry)
        return entry

    def _seal_event(self, view: View, actor: Actor, event: Event, now: datetime) -> Entry:
        return seal(
            view.head,
            ts=now,
            tenant_id=self.tenant,
            incident_id=event.incident_id or None,
            event=type(event).__name__,
            stage=_stage_after(view, event) or None,
            actor={"kind": actor.kind.value, "id": actor.id, "via": actor.via},
            decision=event.decision,
            reason=event.reason,
            confidence=event.confidence,
            policy_version=view.rules.label,
            ref={"seq": event.ref.seq, "hash": event.ref.hash} if event.ref else None,
            data=event.data(),
        )

    async def _catch_up(self) -> None:
        before = self.view.head
        if not self._begun:
            await self._look_at_notes()
            if before == GENESIS:
                await self._recall()
        while page := await self._store.read(self.tenant, self.view.head.seq, PAGE):
            known = self.notary.covers(page[-1].seq)
            self._take(page, "" if known else await self._store.note(self.tenant))
        self.notary.settle(self.view.signers)
        self._begun = True
        if before != self.view.head:
            self._keep_outside()
            self._tell()

    async def _recall(self) -> None:
        """Fold all that stands there now, faster than entry by entry."""
        recall = Recall(self.tenant)
        try:
            with unhurried():
                async with contextlib.aclosing(ahead(self._elements)) as pages:
                    async for page in pages:
                        await self._take_page(recall, page)
        finally:
            self.view = recall.view()

    async def _elements(self, after: int) -> list[bytes]:
        return await self._store.elements(self.tenant, after, PAGE)

    async def _take_page(self, recall: Recall, page: Sequence[bytes]) -> None:
        if not self.notary.covers(recall.tree.size + len(page)):
            self.notary.expect(await self._store.note(self.tenant), recall.signers)
        for part in self.notary.parts(page):
            for element in part:
                recall.take(element)
            self.notary.reach(recall.tree, recall.first, recall.signers)

    async def _look_at_notes(self) -> None:
        """Both are older than the entries that are read after them, so those go at least as far."""
        if self._outside:
            found = await self._read_outside()
            self.notary.expect(found, self.view.signers, self._outside.where)
            if not found and not self._outside_trouble and (await self._store.head(self.tenant)).seq:
                self._outside_trouble = NOTHING_OUTSIDE
        self.notary.expect(await self._store.note(self.tenant), self.view.signers)

    async def _read_outside(self) -> str:
        if self._outside is None:
            return ""
        try:
            return await asyncio.to_thread(self._outside.read)
        except OSError as error:
            self._outside_trouble = f"The note in {self._outside.where} cannot be read: {error.strerror}."
            return ""

    def _take(self, entries: Sequence[Entry], note: str) -> None:
        """Absorb what is new of *entries*. *note* was read after them."""
        self.notary.expect(note, self.view.signers)
        new = [entry for entry in entries if entry.seq > self.view.head.seq]
        for part in self.notary.parts(new):
            for entry in part:
                self._absorb(entry)
            self.notary.grow(part, self.view.signers)

    def _keep_outside(self) -> None:
        if self._outside and (self._keeper is None or self._keeper.done()):
            self._keeper = asyncio.create_task(self._keep_for_a_while(), name=f"note:{self.tenant}")

    async def _keep_for_a_while(self) -> None:
        kept = ""
        while kept != self.notary.note:
            kept = self.notary.note
            await self._keep()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OUTSIDE_S):
                    await self._closing.wait()

    async def _keep(self) -> None:
        if self._outside is None:
            return
        try:
            await asyncio.to_thread(self._outside.keep, self.notary.note)
            self._unkept = ""
        except OSError as error:
            self._unkept = f"The newest note cannot be kept in {self._outside.where}: {error.strerror}."

    def _absorb(self, entry: Entry) -> None:
        try:
            self.view.absorb(entry)
        except (BrokenChain, UnknownEvent, Illegal, ValidationError) as broken:
            raise Sealed(f"entry {entry.seq}: {broken}") from broken

    def _lost(self, down: StoreDown) -> None:
        if not self.away_since_ms:
            log.warning("The ledger of %s is away: %s", self.tenant, down)
            self.away_since_ms = epoch_ms(self._clock.now())
            self._tell()

    def _reached(self) -> None:
        if self.away_since_ms:
            log.warning("The ledger of %s is back", self.tenant)
            self.away_since_ms = 0
            self._tell()

    def distrust(self, why: str) -> None:
        """Seal it: nothing executes until a person looks."""
        self._seal(why)

    def _seal(self, why: str) -> None:
        if not self.sealed:
            log.error("The ledger of %s is sealed: %s", self.tenant, why)
            self.sealed = f"{why.rstrip('.')}."
            self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _stage_after(view: View, event: Event) -> str:
    if not event.incident_id:
        return ""
    incident = view.incidents.get(event.incident_id)
    stage = incident.stage if incident else None
    return TRANSITIONS[stage].get(type(event)) or ""
