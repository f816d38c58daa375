"""Who could do what under the charter that was in force, read from its kept text. Pure.

The text is believed only when its SHA-256 is the digest that the entry names.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from ledger.terms import Quorum


@dataclass(frozen=True, slots=True)
class Share:
    """One alternative of a quorum: how many of which role it needs, and who of the voters counted."""

    need: int
    role: str
    counted: tuple[str, ...]

    @property
    def met(self) -> bool:
        return len(self.counted) >= self.need


@dataclass(frozen=True, slots=True)
class Member:
    id: str
    name: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Charter:
    """The people of one charter. `known` is False where its text is missing or is another one."""

    digest: str
    known: bool
    people: Mapping[str, Member]
    break_glass: str = ""

    def name(self, person: str) -> str:
        """A person's name with the id behind it, or the id alone."""
        found = self.people.get(person)
        return f"{found.name} ({person})" if found and found.name != person else person

    def shares(self, quorum: str, voters: Iterable[str]) -> tuple[Share, ...]:
        """How far *voters* met *quorum*, such as "2 dev or 1 admin". Empty: it is none, or names nobody."""
        once = tuple(dict.fromkeys(voters))
        try:
            wanted = Quorum.parse(quorum).alternatives
        except ValueError:
            return ()
        return tuple(
            Share(need, role, tuple(one for one in once if role in self.roles(one))) for need, role in wanted
        )

    def roles(self, person: str) -> tuple[str, ...]:
        found = self.people.get(person)
        return found.roles if found else ()


def charter(digest: str, texts: Mapping[str, str]) -> Charter:
    """The charter of *digest*. Never raises: a text that is none names nobody."""
    text = texts.get(digest, "")
    if not text or sha256(text.encode()).hexdigest() != digest:
        return Charter(digest, known=False, people={})
    try:
        said = json.loads(text)
        people = [_member(one) for one in said["people"]]
        glass = str(said.get("tenant", {}).get("break_glass", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Charter(digest, known=False, people={})
    return Charter(digest, known=True, people={one.id: one for one in people}, break_glass=glass)


def _member(raw: Mapping[str, object]) -> Member:
    roles = raw["roles"]
    named = tuple(str(role) for role in roles) if isinstance(roles, list) else ()
    return Member(str(raw["id"]), str(raw["name"]), named)
