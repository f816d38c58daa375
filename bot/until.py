"""Until when, as people type it: 2h, 14:00, 2026-06-04 08:00, on their own clock."""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

MOST_MS = 31 * 86_400_000
_UNITS = {"m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_SPAN = re.compile(r"(\d{1,4})(m|min|h|d)", re.ASCII)
_HOUR = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})", re.ASCII)
HOW = "Write until 14:00, until 2h, or until 2026-06-04 08:00."


class NoInstant(ValueError):
    """What was typed is no time, or one that cannot be meant; the message says what to write."""


def until(words: str, now_ms: int, zone: ZoneInfo) -> tuple[int, str]:
    """The instant in epoch ms, and the words behind it. Raises NoInstant.

    An hour is the next one of that name. More than a month is refused: what is forgotten stays silent.
    """
    found = words.strip()
    if found.lower().startswith("until "):
        found = found[6:].strip()
    at_ms, rest = _read(found.replace("T", " ", 1) if _DAY.match(found) else found, now_ms, zone)
    if at_ms <= now_ms:
        raise NoInstant(f"That is over already. {HOW}")
    if at_ms > now_ms + MOST_MS:
        raise NoInstant(f"That is more than a month away. {HOW}")
    return at_ms, rest


def _read(words: str, now_ms: int, zone: ZoneInfo) -> tuple[int, str]:
    first, _, rest = words.partition(" ")
    now = datetime.fromtimestamp(now_ms / 1000, zone)
    if span := _SPAN.fullmatch(first):
        return now_ms + int(span[1]) * _UNITS[span[2]], rest.strip()
    if hour := _HOUR.fullmatch(first):
        at = _on(now, hour)
        return _ms(at if _ms(at) > now_ms else _on(now + timedelta(days=1), hour)), rest.strip()
    second, _, after = rest.strip().partition(" ")
    day, hour = _DAY.fullmatch(first), _HOUR.fullmatch(second)
    if not day or not hour:
        raise NoInstant(f"Until when? {HOW}")
    try:
        return _ms(_on(datetime.fromisoformat(day[1]).replace(tzinfo=zone), hour)), after.strip()
    except ValueError:
        raise NoInstant(f"There is no day {day[1]}. {HOW}") from None


def _on(day: datetime, hour: re.Match[str]) -> datetime:
    return day.replace(hour=int(hour[1]), minute=int(hour[2]), second=0, microsecond=0)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
