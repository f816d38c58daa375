"""How the auditor's page writes a time, a duration, a share, a digest and a list. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ledger.events import Reading

NOTHING = "–"


class BadZone(ValueError):
    """There is no such time zone."""


@dataclass(frozen=True, slots=True)
class Times:
    """Writes instants in one zone and in UTC. Raises BadZone."""

    zone: str
    _zone: ZoneInfo = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "_zone", ZoneInfo(self.zone))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise BadZone(
                f'{self.zone!r} is no time zone. Write one such as "Africa/Harare" or "UTC".'
            ) from None

    def full(self, ms: int) -> str:
        """2026-06-03 11:57:54.123 CAT (09:57:54.123 UTC); the UTC date where it is another."""
        here, there = self._here(ms), utc(ms)
        if self.zone == "UTC":
            return f"{there:%Y-%m-%d} {_clock(there)} UTC"
        day = "" if here.date() == there.date() else f"{there:%Y-%m-%d} "
        return f"{here:%Y-%m-%d} {_clock(here)} {here:%Z} ({day}{_clock(there)} UTC)"

    def span(self, from_ms: int, to_ms: int) -> str:
        """From one instant to another; the day once where both lie on it."""
        first, last = self.full(from_ms), self.full(to_ms)
        return f"{first} to {last.removeprefix(first[:11]) if from_ms < to_ms else last}"

    def short(self, ms: int) -> str:
        """2026-06-03 11:57:54, in the zone alone."""
        return f"{self._here(ms):%Y-%m-%d %H:%M:%S}"

    def _here(self, ms: int) -> datetime:
        return utc(ms).astimezone(self._zone)


def utc(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"


def after(ms: int) -> str:
    """A duration: 0.451 s, 12.3 s, 4 min 5 s, 3 h 20 min."""
    if ms < 0:
        return f"-{after(-ms)}"
    if ms < 10_000:
        return f"{ms / 1000:.3f} s"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(ms // 1000, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count(number: int, one: str, many: str = "") -> str:
    """1 entry, 3 entries."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def tally(counts: Mapping[str, int]) -> str:
    """late 2, not_entitled 1; "none" where nothing was counted."""
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "none"


def listed(items: Iterable[str]) -> str:
    return ", ".join(items) or NOTHING


def measured(reading: Reading) -> str:
    """What policy measured, in its own figures."""
    share = f"{reading.error_permille // 10}.{reading.error_permille % 10} %"
    figures = f"{reading.failed} of {reading.n} requests failed ({share}), p95 {reading.p95_ms} ms"
    return f"{figures}, score {reading.score} of 100, in {reading.window_ms / 1000:g} s"
