"""The card of an incident: what is wrong, what would run, who may approve it, until when.

Pure. The first line is the notification and stands alone. Then: why, numbers, nearest deploy, exactly what
runs, who and until when, that nothing runs, small print. Every card is at most 900 UTF-16 units of Telegram's
HTML; foreign text is escaped; only AGREE is called agreement.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bot import moments_after, moments_ask, moments_no, moments_open, moments_over
from bot.draft import Draft
from bot.fit import fit
from bot.letters import letter
from bot.ports import Card
from bot.rings import mark
from bot.scene import NO_NOTES, Notes, Reader, Scene
from bot.words import plain
from handlers.charter import Charter
from ledger.machine import Incident, Stage

__all__ = ["MOMENTS", "Notes", "Reader", "render"]

S = Stage
_NO_CODES: Mapping[str, str] = MappingProxyType({})

MOMENTS: Mapping[Stage, Callable[[Scene], Draft]] = {
    S.DETECTED: moments_open.opened,
    S.PROPOSED: moments_open.opened,
    S.WITHHELD: moments_open.withheld,
    S.VALIDATED: moments_ask.request,
    S.EXPIRED: moments_no.expired,
    S.DENIED: moments_no.denied,
    S.AUTHORIZED: moments_after.running,
    S.EXECUTING: moments_after.running,
    S.EXECUTED: moments_after.running,
    S.STOOD_DOWN: moments_after.stood_down,
    S.WEBHOOK_FAILED: moments_after.webhook_failed,
    S.UNKNOWN: moments_after.unknown,
    S.NOT_RECOVERED: moments_after.not_recovered,
    S.INCONCLUSIVE: moments_after.inconclusive,
    S.RECOVERED: moments_over.recovered,
    S.RESOLVED: moments_over.resolved,
}
"""Every stage has its moment."""


def render(
    incident: Incident,
    charter: Charter,
    reader: Reader,
    now_ms: int,
    *,
    approval_code: Mapping[str, str] = _NO_CODES,
    notes: Notes = NO_NOTES,
) -> Card:
    """The card of *incident* as *reader* sees it at *now_ms*. *approval_code* is by option key."""
    scene = Scene(incident, charter, reader, now_ms, approval_code, notes)
    draft = MOMENTS[incident.stage](scene)
    html = fit(draft.paragraphs)
    stands = mark(incident, reader.person, warnings_ring=notes.warnings_ring)
    told = letter(scene, plain(html))
    return Card(
        incident=incident.id,
        revision=stands.revision,
        sounded=stands.sounded,
        ring=stands.ring,
        html=html,
        plain=plain(html),
        rows=draft.rows,
        template=told.template,
        variables=told.variables,
        sms=told.sms,
    )
