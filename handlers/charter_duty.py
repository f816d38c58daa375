"""Who is woken when, and when a service is left alone: the rota, the steps of escalation, the windows.

All hours are those of the tenant's own clock, also when it is put forward or back.
"""

import re
from datetime import datetime, timedelta
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from handlers.charter_kinds import Duration, QuorumText, Strict

HOUR_MS = 3_600_000
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ONCALL, NEXT = "oncall", "next"
"""Whom a step of escalation may name beside people and roles: who is on call now, and who comes next."""

type Channel = Literal["telegram", "whatsapp"]


class Rota(Strict):
    """Shifts of equal length in turn. `starts` is when the first person's first shift began."""

    people: tuple[str, ...] = Field(min_length=1)
    starts: datetime
    every: Duration = 7 * 24 * HOUR_MS

    @field_validator("starts")
    @classmethod
    def _is_local(cls, starts: datetime) -> datetime:
        if starts.tzinfo is not None:
            raise ValueError("has an offset. Write the tenant's own hour, such as 2026-06-01T08:00:00")
        return starts

    @field_validator("every")
    @classmethod
    def _lasts(cls, every: int) -> int:
        if every < HOUR_MS:
            raise ValueError('is too short for a shift. Write "1h" or more, such as "7d"')
        return every

    def shift(self, local: datetime) -> tuple[str, str, datetime]:
        """Who has the shift at *local*, who the next, and when that begins. Before the first: the first's."""
        length = timedelta(milliseconds=self.every)
        number = max(0, (local - self.starts) // length)
        turn = number % len(self.people), (number + 1) % len(self.people)
        return self.people[turn[0]], self.people[turn[1]], self.starts + (number + 1) * length


class Step(Strict):
    """Whom to wake when nobody has answered for so long. No channels: on all that the person has."""

    after: Duration
    to: tuple[str, ...] = Field(min_length=1)
    channels: tuple[Channel, ...] = ()


class Window(Strict):
    """Hours that come again, in which services are in maintenance. No days: every day; no services: all."""

    begins: str
    ends: str
    days: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    @field_validator("begins", "ends")
    @classmethod
    def _is_an_hour(cls, text: str) -> str:
        if not re.fullmatch(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", text):
            raise ValueError(f'{text[:20]!r} is no hour of the day. Write one such as "02:30"')
        return text

    @field_validator("days")
    @classmethod
    def _are_days(cls, days: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := next((day for day in days if day not in DAYS), ""):
            raise ValueError(f"{wrong[:20]!r} is no day. Write {', '.join(DAYS)}")
        return days

    @model_validator(mode="after")
    def _lasts(self) -> "Window":
        if self.begins == self.ends:
            raise ValueError("begins when it ends. Let it end later; before it begins means the next day")
        return self

    def ends_at(self, local: datetime) -> datetime | None:
        """When the window ends that is open at *local*, or None. It belongs to the day on which it begins."""
        for day in (local, local - timedelta(days=1)):
            begins, ends = _on(day, self.begins), _on(day, self.ends)
            ends += timedelta(days=1) if ends <= begins else timedelta()
            if begins <= local < ends and (not self.days or DAYS[begins.weekday()] in self.days):
                return ends
        return None


class Rule(Strict):
    """What holds for actions of these services and this risk that do not say it themselves; left out: all."""

    LATER: ClassVar[frozenset[str]] = frozenset({"totp"})

    services: tuple[str, ...] = ()
    risk: Literal["low", "high"] | None = None
    approve: QuorumText | None = None
    cooldown: Duration | None = None
    expires: Duration | None = None
    per_hour: int | None = Field(default=None, ge=1, le=1000)
    totp: bool | None = None


RULED = ("approve", "cooldown", "expires", "per_hour", "totp")
"""What a rule can say of an action."""


class Price(Strict):
    """What a model costs, in dollars for a million tokens."""

    model: str = Field(min_length=1, max_length=80)
    input_usd: str = Field(pattern=r"^\d{1,4}(\.\d{1,4})?$")
    output_usd: str = Field(pattern=r"^\d{1,4}(\.\d{1,4})?$")


def _on(day: datetime, hour: str) -> datetime:
    return day.replace(hour=int(hour[:2]), minute=int(hour[3:]), second=0, microsecond=0)
