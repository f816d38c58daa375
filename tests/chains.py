"""Chains of entries for tests: any that hold together, and one that also obeys the rules."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from hypothesis import strategies as st

from ledger import events as ev
from ledger.chain import GENESIS, MAX_INT, Entry, Head, seal
from ledger.clock import ManualClock
from ledger.events import Actor, Ref
from ledger.ledger import Ledger
from ledger.note import public_key
from ledger.store import Store
from ledger.view import epoch_ms

NOON = datetime(2026, 6, 3, 12, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-MAX_INT, MAX_INT) | TEXT
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
DATA = st.dictionaries(KEYS, PLAIN, max_size=5)


def sealed(head: Head = GENESIS, **changed: Any) -> Entry:
    """An entry after *head*, plain but for what is *changed*."""
    fields: dict[str, Any] = {
        "ts": NOON,
        "tenant_id": "acme",
        "incident_id": "checkout-3",
        "event": "Authorized",
        "stage": "AUTHORIZED",
        "actor": {"kind": "engineer", "id": "rudo", "via": "telegram"},
        "decision": "approve",
        "reason": "Database connection pool exhausted: restart recommended",
        "confidence": 87,
        "policy_version": "2026.1+3f9ac1d2",
        "ref": {"seq": 1, "hash": "ab" * 32},
        "data": {},
    }
    return seal(head, **(fields | changed))


def chain(count: int, head: Head = GENESIS, **changed: Any) -> Sequence[Entry]:
    """*count* entries after *head*, each linked to the one before."""
    entries = []
    for _ in range(count):
        entries.append(sealed(head, **changed))
        head = entries[-1].head
    return entries


def standard(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def rewritten(**changed: object) -> bytes:
    """A well-formed line with some of its fields replaced, whatever they are."""
    return standard(json.loads(sealed().line) | changed)


CHARTER, POLICY_TEXT = '{"tenant":{"id":"acme"}}', '{"version":"2026.1"}'
OPTION = ev.Option(key="1", action="restart_workers", title="Restart", approve="1 oncall")
READING = ev.Reading(
    service="checkout", rule="err_crit", signal="errors", severity="critical", headline="h", explanation="e"
)


async def tell_story(store: Store, tenant: str = "acme", signer: bytes | None = None) -> list[Entry]:
    """One incident from its charter to its end, as the rules allow it, written to *store*.

    With *signer*, a seed, it is signed, and begins with the Started that names the key.
    """
    clock = ManualClock(NOON)
    ledger = Ledger(tenant, store, clock, random.Random(1), signer=signer)
    policy, bot = Actor.policy(), Actor.orchestrator("bot.1")
    rudo = Actor.engineer("rudo", "telegram")
    told: list[Entry] = []

    async def say(actor: Actor, event: ev.Event) -> Ref:
        clock.advance(1)
        entry = await ledger.record(actor, lambda view, now: event)
        assert isinstance(entry, Entry), entry
        told.append(entry)
        return Ref(seq=entry.seq, hash=entry.hash)

    digests = [sha256(text.encode()).hexdigest() for text in (CHARTER, POLICY_TEXT)]
    for digest, text in zip(digests, (CHARTER, POLICY_TEXT), strict=True):
        await store.put_text(tenant, digest, text)
    this = {"incident_id": "checkout-1"}
    if signer:
        await say(bot, ev.Started(version="1.0", signer=public_key(signer)))
    adopted = ev.CharterAdopted(digest=digests[0], policy_digest=digests[1], policy_label="2026.1")
    await say(rudo, adopted)
    await say(policy, ev.Detected(**this, reading=READING))
    await say(bot, ev.Proposed(**this, options=(OPTION,)))
    deadline = epoch_ms(NOON) + 300_000
    request = await say(policy, ev.Validated(**this, options=(OPTION,), deadline_ms=deadline))
    yes = await say(rudo, ev.Authorized(**this, option="1", action="restart_workers", ref=request))
    await say(bot, ev.ExecutionStarted(**this, attempt=1, by="bot.1", until_ms=deadline, ref=yes))
    await say(bot, ev.Executed(**this, attempt=1, status=200, ref=yes))
    await say(policy, ev.Verified(**this, before=READING, after=READING))
    await ledger.close()
    return told
