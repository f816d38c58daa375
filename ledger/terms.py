"""What a charter's text says about who may approve what: all that a judge of the ledger needs of it. Pure.

The text is the canonical JSON that the ledger keeps by digest, so that a year later, on another machine, the
question is answered from the charter that was in force, not from the one of today.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from ledger.chain import canonical


@dataclass(frozen=True, slots=True)
class Quorum:
    """Who must agree, such as "2 dev or 1 admin": alternatives of (how many, of which role)."""

    alternatives: tuple[tuple[int, str], ...]

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> "Quorum":
        """Raises ValueError. An empty text is nobody."""
        if not text.strip():
            return cls(())
        parts = [re.fullmatch(r"([1-9])\s+([a-z][a-z0-9_]*)", part.strip()) for part in text.split(" or ")]
        if not all(parts):
            raise ValueError(f'{text!r} is no quorum. Write "1 oncall" or "2 dev or 1 admin"')
        return cls(tuple((int(part[1]), part[2]) for part in parts if part))

    def admits(self, roles: Collection[str]) -> bool:
        """Whether a person of these roles may vote."""
        return any(role in roles for _, role in self.alternatives)

    def met_by(self, voters: Iterable[Collection[str]]) -> bool:
        """Whether these voters, each given by their roles, are enough. One person counts once."""
        present = list(voters)
        return any(sum(role in roles for roles in present) >= need for need, role in self.alternatives)

    def needs(self) -> int:
        """The fewest votes that can be enough; 0 where nobody may approve."""
        return min((need for need, _ in self.alternatives), default=0)


def request_digest(
    service: str, action: str, url: str, method: str = "POST", parameters: Mapping[str, str] | None = None
) -> str:
    """What exactly an approval covers: SHA-256 over what is sent where, for which service."""
    bound: dict[str, Any] = {"service": service, "action": action, "method": method, "url": url}
    if parameters:
        bound["parameters"] = dict(parameters)
    return sha256(canonical(bound)).hexdigest()


@dataclass(frozen=True, slots=True)
class Term:
    """One action as the charter had it."""

    approve: str
    digest: str
    origin: str
    totp: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """A charter's people by id with their roles, and its actions by service and id."""

    roles: dict[str, frozenset[str]]
    actions: dict[tuple[str, str], Term]
    break_glass: str = ""
    """Who may approve alone what needs more."""

    @classmethod
    def read(cls, text: str) -> "Terms":
        """Raises ValueError where *text* is no charter's."""
        try:
            said = json.loads(text)
            return cls(
                {person["id"]: frozenset(person["roles"]) for person in said["people"]},
                {
                    (service["id"], action["id"]): _term(service["id"], action)
                    for service in said["services"]
                    for action in service["actions"]
                },
                said.get("tenant", {}).get("break_glass", ""),
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no charter: {error}") from None

    def admits(self, term: Term, voters: Iterable[str]) -> bool:
        """Whether *voters* are enough for *term*. Whom the charter does not name does not count."""
        return self._met(term.approve, voters)

    def breaks(self, term: Term, person: str) -> bool:
        """Whether *person* may approve alone what *term* wants more for. What nobody approves stays so."""
        return bool(term.approve.strip()) and self._met(self.break_glass, [person])

    def _met(self, quorum: str, voters: Iterable[str]) -> bool:
        present = [self.roles[name] for name in voters if name in self.roles]
        return Quorum.parse(quorum).met_by(present)


def _term(service: str, action: dict[str, Any]) -> Term:
    url = action["webhook"]
    digest = request_digest(service, action["id"], url)
    return Term(action["approve"], digest, urlsplit(url).netloc, action.get("totp") is True)
