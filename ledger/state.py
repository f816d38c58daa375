"""The state that a log makes, written down: the same log gives the same bytes, on any machine. Pure.

Canonical lines (ledger/chain.py): first what holds for the tenant, then each incident by its id. All of the
view is in it; whoever adds something to the view adds it here, and a test says so.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256

from ledger.chain import JSON, canonical
from ledger.events import Event
from ledger.machine import Fact, Incident
from ledger.view import View


def dump(view: View) -> Iterator[bytes]:
    """The lines, each with its newline."""
    yield canonical(_tenant(view)) + b"\n"
    for name in sorted(view.incidents):
        yield canonical(_incident(view.incidents[name])) + b"\n"


def digest(view: View) -> str:
    """The SHA-256 of the dump, in hex."""
    found = sha256()
    for line in dump(view):
        found.update(line)
    return found.hexdigest()


def _tenant(view: View) -> dict[str, JSON]:
    rules = view.rules
    return {
        "tenant": view.tenant,
        "head": [view.head.seq, view.head.hash],
        "rules": [rules.charter, rules.policy, rules.label],
        "signers": [*view.signers],
        "paused": _event(view.paused) if view.paused else None,
        "overridden": _event(view.overridden) if view.overridden else None,
        "spent": [*view.spent],
        "maintenance": _pairs(view.maintenance),
        "links": [[person, channel, to] for (person, channel), to in sorted(view.links.items())],
        "runs": [[run.incident, run.service, run.action, run.at_ms] for run in view.runs],
        "open_ids": [*view.open_ids],
        "unreviewed": [*view.unreviewed],
        "numbers": _pairs(view.numbers),
        "normals": _pairs(view.normals),
        "anchors": _pairs(view.anchors),
        "acts": [[channel, update, seq] for (channel, update), seq in sorted(view.acts.items())],
        "noted": _pairs(view.noted),
        "touched": [[seq, name] for seq, name in view.touched],
    }


def _incident(incident: Incident) -> dict[str, JSON]:
    return {
        "id": incident.id,
        "stage": incident.stage.value,
        "entered_ms": incident.entered_ms,
        "facts": [_fact(fact) for fact in incident.facts],
    }


def _fact(fact: Fact) -> dict[str, JSON]:
    actor = [fact.actor.kind.value, fact.actor.id, fact.actor.via]
    said: dict[str, JSON] = {"seq": fact.seq, "hash": fact.hash, "at_ms": fact.at_ms, "actor": [*actor]}
    return said | _event(fact.event)


def _event(event: Event) -> dict[str, JSON]:
    return {"event": type(event).__name__} | event.model_dump(mode="json")


def _pairs(named: Mapping[str, JSON]) -> list[JSON]:
    """Names as values: a key of canonical JSON is ASCII, and a name need not be."""
    return [[name, named[name]] for name in sorted(named)]
