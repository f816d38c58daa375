"""A stretch of time as people name it, on the reader's own clock.

`today`, `yesterday`, `7d`, `2026-11`, `2026-11-20`, `2026-11-01..2026-11-20`. Days begin at the reader's
midnight, on the days when clocks change too; both ends of `..` belong to it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from ledger.view import epoch_ms

FORMS = "today, yesterday, 7d, 2026-11, 2026-11-20 or 2026-11-01..2026-11-20"
MOST_DAYS = 3_650
_DAY = r"(\d{4}-\d\d-\d\d)"
_DOTS = r"\s*(?:\.\.|…|–)\s*"


class BadPeriod(ValueError):
    """These words name no stretch of time. The message says which would."""


@dataclass(frozen=True, slots=True)
class Period:
    """From *first* to *last*, both whole days in *zone*. *start_ms* belongs to it, *end_ms* not any more."""

    first: date
    last: date
    zone: str

    @property
    def name(self) -> str:
        """How it is written so that it means the same tomorrow."""
        return f"{self.first}" if self.first == self.last else f"{self.first}..{self.last}"

    @property
    def start_ms(self) -> int:
        return _midnight(self.first, self.zone)

    @property
    def end_ms(self) -> int:
        return _midnight(self.last + timedelta(days=1), self.zone)

    def holds(self, moment: datetime) -> bool:
        return self.start_ms <= epoch_ms(moment) < self.end_ms


def parse(words: str, now: datetime) -> Period:
    """What *words* mean to somebody on whose clock it is *now*. Raises BadPeriod."""
    zone = now.tzinfo
    if not isinstance(zone, ZoneInfo):
        raise TypeError("now must be on a reader's clock")
    text = words.strip().lower()
    for form, ends in _ENDS.items():
        if found := re.fullmatch(form, text):
            try:
                first, last = ends(now.date(), *found.groups())
            except (ValueError, OverflowError):
                break
            if first <= last and first.year > 1970 and last.year < 9_000:
                return Period(first, last, str(zone))
            break
    raise BadPeriod(f"“{words.strip()[:40]}” is no period. Write {FORMS}.")


type Ends = tuple[date, date]


def _days(today: date, count: str) -> Ends:
    if not 1 <= int(count) <= MOST_DAYS:
        raise ValueError(count)
    return today - timedelta(days=int(count) - 1), today


def _month(today: date, year: str, month: str) -> Ends:
    first = date(int(year), int(month), 1)
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def _day(today: date, day: str) -> Ends:
    return date.fromisoformat(day), date.fromisoformat(day)


def _between(today: date, first: str, last: str) -> Ends:
    return date.fromisoformat(first), date.fromisoformat(last)


def _yesterday(today: date) -> Ends:
    return today - timedelta(days=1), today - timedelta(days=1)


_ENDS: dict[str, Callable[..., Ends]] = {
    "today": lambda today: (today, today),
    "yesterday": _yesterday,
    r"(\d{1,4})\s*d": _days,
    r"(\d{4})-(\d\d)": _month,
    _DAY: _day,
    _DAY + _DOTS + _DAY: _between,
}


def _midnight(day: date, zone: str) -> int:
    return epoch_ms(datetime.combine(day, time(), ZoneInfo(zone)))
