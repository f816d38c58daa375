"""`/status SERVICE`: one service as policy sees it now, with what is usual for it, and its last half hour.

* Whoever looks at the service, this process or another: its figures are those of the last look, and an old
  look is called old.
* A name that is not in the charter is answered with those that are near.
* The picture comes after the words and never holds them up.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches

from bot.chart import shown_ms, shown_rate
from bot.commands import STAGE_WORDS
from bot.easel import Easel
from bot.lookback import Lookback, Past, chart_of
from bot.order import Order
from bot.ports import Answer, Picture
from bot.room import Room
from bot.words import about, foreign, hm, hms, listed, many, one_line, percent, plain, span, tenths
from detectors import history
from detectors.policy import Policy
from detectors.verdict import Verdict
from handlers import maintenance
from handlers.charter import Charter
from handlers.detect import Detect
from handlers.sights import Sight
from ledger.machine import Incident

NEAR, MOST_NAMED = 0.5, 6
DRAW_S = 3.0
LATELY_MS = 1_800_000
MOST_GAUGES = 6


class ServiceStatus:
    """Answers `/status SERVICE`. *watch* finds the detection of a room, *lookback* makes its past."""

    def __init__(
        self, watch: Callable[[Room], Detect], lookback: Callable[[Detect], Lookback], easel: Easel
    ) -> None:
        self._watch = watch
        self._lookback = lookback
        self._easel = easel

    async def answer(self, order: Order) -> Answer:
        charter = order.room.charter
        if charter is None:
            return Answer("No charter is in force: nothing is watched. /status shows how I am.")
        order = order.with_words(order.first.lower())
        if charter.service(order.first) is None:
            return Answer(unknown(order.first, [one.id for one in charter.services]))
        detect = self._watch(order.room)
        past = await self._lookback(detect).of(order.first)
        html = "\n".join(lines(order, charter, detect, past))
        return Answer(plain(html), html=html, picture=await self._picture(order, past))

    async def _picture(self, order: Order, past: Past | None) -> Picture | None:
        """Drawn in time, or none."""
        if past is None:
            return None
        room = order.room
        chart = chart_of(
            order.first,
            past,
            latest(room, order.first),
            order.zone,
            _policy(room, order.first),
            room.now_ms(),
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAW_S):
                return await self._easel.picture(chart)
        return None


def unknown(name: str, services: list[str]) -> str:
    """What there is instead of *name*."""
    near = [one for one in services if one.startswith(name)] or get_close_matches(
        name, services, MOST_NAMED, NEAR
    )
    meant = f"Did you mean {listed(near[:MOST_NAMED])}?" if near else f"There is {_some(services)}."
    return f"There is no service {one_line(name)[:40]}. {meant} /status shows all of them."


def latest(room: Room, service: str) -> Incident | None:
    """The open incident of *service*, or one that was closed within the last half hour."""
    view = room.ledger.view
    found = view.open_for(service) or view.newest_for(service)
    recent = found and (found.is_open or room.now_ms() - found.entered_ms < LATELY_MS)
    return found if recent else None


def lines(order: Order, charter: Charter, detect: Detect, past: Past | None) -> list[str]:
    """One service in a few lines of Telegram's HTML."""
    room, name = order.room, order.first
    sight = detect.latest(name)
    policy = _policy(room, name)
    found = [_head(name, sight, room.now_ms(), detect.fresh_ms), _incident(room, name, order.zone)]
    if sight:
        found += _figures(sight.verdict, past, policy)
        found.append(_thought(sight))
    found += [_gauges(past)] if past and past.state.gauges else []
    found += _deploy(detect, charter, name, room.now_ms())
    until_ms = maintenance.until_ms(charter, room.ledger.view, name, room.now_ms())
    found += [f"🔧 In maintenance until {hm(until_ms, order.zone)}."] if until_ms else []
    return [*found, _looked(sight, room.now_ms(), order.zone)]


def _policy(room: Room, service: str) -> Policy:
    return room.rulebook.policy(room.ledger.view).of(service)


def _some(services: list[str]) -> str:
    more = len(services) - MOST_NAMED
    return listed(services[:MOST_NAMED], "and") + (f" and {more} more" if more > 0 else "")


def _head(name: str, sight: Sight | None, now_ms: int, fresh_ms: int) -> str:
    if sight is None:
        return f"<b>{name}: not seen yet</b>"
    if not sight.is_news(now_ms, fresh_ms):
        return f"<b>{name}: not known now</b>, the figures below are old"
    if sight.missed:
        return f"<b>🔴 {name} does not answer: {many(sight.missed, 'poll')} missed in a row</b>"
    light = {"critical": "🔴", "warning": "🟠", None: "✅"}[sight.verdict.severity]
    return f"<b>{light} {name}: {sight.verdict.score}/100, {sight.verdict.trend}</b>"


def _incident(room: Room, name: str, zone: str) -> str:
    found = latest(room, name)
    if found is None:
        return "No open incident."
    headline, words = foreign(found.reading.headline, 90), STAGE_WORDS[found.stage]
    return f"{found.id} since {hm(found.opened_ms, zone)}: {headline}. {words}."


def _figures(verdict: Verdict, past: Past | None, policy: Policy) -> list[str]:
    seen, usual = verdict.numbers, past.state.baseline if past else None
    low, high = history.usual_p95_us(usual, seen.n) if usual else (0, 0)
    rate = history.usual_rps_milli(usual) if usual else 0
    normal = tenths(round(policy.rows[0].p0 * 1000))
    known = f"usual {shown_ms(low)} to {shown_ms(high)}" if high else "what is usual is not known yet"
    often = f", usual {shown_rate(rate)}" if rate else ""
    found = [
        f"p95 {span(seen.p95_ms)}, {known}",
        f"errors {percent(seen.error_permille)} %, normal is at most {normal} %",
        f"{shown_rate(seen.rps_milli)} requests/s{often}",
    ]
    if seen.inflight:
        found.append(f"{seen.inflight} in flight, the oldest for {span(seen.oldest_ms)}")
    return found


def _thought(sight: Sight) -> str:
    """What policy thinks, with its numbers."""
    verdict = sight.verdict
    if verdict.alarms:
        return "\n".join(foreign(alarm.explanation, 300) for alarm in verdict.alarms[:2])
    if sight.missed:
        return "What it would say is not known until it answers."
    return f"Policy sees nothing wrong, and has not for {span(verdict.quiet_ms)} of watching."


def _gauges(past: Past) -> str:
    shown: Iterable[str] = (
        f"{foreign(one.name, 32)} {one.used} of {one.limit}"
        if one.limit
        else f"{foreign(one.name, 32)} {one.used}"
        for one in past.state.gauges[:MOST_GAUGES]
    )
    return "Gauges: " + ", ".join(shown)


def _deploy(detect: Detect, charter: Charter, name: str, now_ms: int) -> list[str]:
    """What is live, as far as anybody reported it."""
    service = charter.service(name)
    near = detect.changes.before(service.repository, 1 << 53) if service and service.repository else ()
    if not near:
        return []
    change, since = near[0], about(now_ms - near[0].at_ms)
    said = f" “{foreign(change.title, 70)}”" if change.title else ""
    by = f" ({foreign(change.author, 24)})" if change.author else ""
    word = "Live" if change.live else "Newest commit"
    return [f"{word}: <code>{foreign(change.sha[:7], 7)}</code>{said}{by}, {since} ago"]


def _looked(sight: Sight | None, now_ms: int, zone: str) -> str:
    if sight is None or not sight.at_ms:
        return "It was not looked at yet."
    who = f" by {foreign(sight.by, 40)}" if sight.by else ""
    return f"Looked at {about(now_ms - sight.at_ms)} ago{who}, {hms(sight.at_ms, zone)}."
