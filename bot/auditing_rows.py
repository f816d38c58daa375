"""The ledger as lines of a chat: what happened, who, when and the receipt, at most nine hundred characters.

What machines note about themselves (`HIDDEN`), and who read in a chat, is counted and not listed.
"""

from collections.abc import Sequence
from html import escape

from bot.auditing_scope import Scope, bounds, newest, pages
from bot.ports import Answer
from bot.room import Room
from bot.words import cap, hms, plain, units
from ledger.chain import BrokenChain, Entry, receipt
from ledger.rows import row
from ledger.view import epoch_ms

MOST = 900
MOST_ROWS = 25
PERSONS_MOST, LOOK_BACK = 200, 20_000
HIDDEN = frozenset({"Paged", "Watched"})


async def told(room: Room, scope: Scope, zone: str, what: str = "") -> Answer:
    """The newest entries of *scope* that fit, newest last, and whether they are linked to the known head."""
    try:
        entries, verdict = await _read(room, scope)
    except BrokenChain as broken:
        entries, verdict = [], f"⚠️ The chain is broken. {broken} Nothing in it can be relied on."
    html = _written(entries, verdict, what or scope.name, zone)
    return Answer(plain(html), html=html)


async def _read(room: Room, scope: Scope) -> tuple[list[Entry], str]:
    if scope.person:
        found, _ = await newest(room, scope, PERSONS_MOST, LOOK_BACK)
        looked = min(LOOK_BACK, room.ledger.view.head.seq)
        return found, f"Among the newest {looked} entries. /audit verify checks the chain."
    after, last = await bounds(room, scope)
    found = [e async for page in pages(room, after, last) for e in page if scope.holds(e)]
    if scope.incident:
        _check_known(room, scope.incident, found)
    return found, f"Chain verifies, #{after + 1} to #{last}. /audit verify checks all."


def _check_known(room: Room, incident: str, found: Sequence[Entry]) -> None:
    """Raises BrokenChain unless *found* are the entries that this process folded."""
    for fact, entry in zip(room.ledger.view.incidents[incident].facts, found, strict=False):
        if fact.hash != entry.hash:
            raise BrokenChain(entry.seq, "it is not the one that was written")


def _written(entries: Sequence[Entry], verdict: str, what: str, zone: str) -> str:
    shown = [e for e in entries if not _is_noise(e)]
    policy = ", ".join(sorted({e.policy_version for e in shown})) or "none"
    end = f"<i>{escape(f'Policy {policy}. {verdict}', quote=False)}</i>"
    lines: list[str] = []
    room = MOST - units(end) - 120
    for entry in reversed(shown[-MOST_ROWS:]):
        line = _line(entry, zone)
        room -= units(plain(line)) + 1
        if room < 0 and lines:
            break
        lines.append(line)
    return "\n".join([_head(what, entries, len(lines), len(shown)), *reversed(lines), end])


def _is_noise(entry: Entry) -> bool:
    return entry.event in HIDDEN or (entry.event == "Exported" and entry.data.get("what") == "chat")


def _head(what: str, entries: Sequence[Entry], lines: int, shown: int) -> str:
    head = f"<b>Audit of {escape(what, quote=False)}</b>: {_counted(len(entries))}"
    return head if lines == shown else f"{head}. <i>The newest {lines}; /audit csv has all.</i>"


def _counted(n: int) -> str:
    return f"{n} entry" if n == 1 else f"{n} entries"


def _line(entry: Entry, zone: str) -> str:
    found = row(entry)
    who = found["actor_id"] if found["actor"] == "engineer" else found["actor"]
    what = cap(entry.reason or entry.decision, 60)
    said = f"#{entry.seq} {hms(epoch_ms(entry.at), zone)} <b>{entry.event}</b> {escape(who, quote=False)}"
    return f"{said}{': ' if what else ''}{escape(what, quote=False)} <code>{receipt(entry)}</code>"
