"""The addresses behind which an auditor finds the web page, and a file that a chat does not take.

Each belongs to the person who asked and is good for minutes. Opening one changes nothing and fetches nothing
(a messenger looks at links by itself): the page behind it asks for one press.
"""

from dataclasses import dataclass
from urllib.parse import quote

from bot.room import Room
from bot.tokens import Passes
from handlers.charter import Person

PAGE, FILE = "countersign/audit", "countersign/file"
PAGE_PATH, FILE_PATH = "/audit", "/audit/file"
PAGE_S, FILE_S = 1_800, 300


@dataclass(frozen=True, slots=True)
class Ways:
    """*base* is where people reach us from outside."""

    passes: Passes
    base: str

    def page(self, room: Room, person: Person, scope: str) -> str:
        """The read-only page, for half an hour."""
        token = self.passes.mint(PAGE, room.tenant, person.id, "web", scope, PAGE_S)
        return f"{self.base}{PAGE_PATH}?token={quote(token)}"

    def file(self, room: Room, person: Person, what: str, scope: str) -> str:
        """One file, for five minutes."""
        token = self.passes.mint(FILE, room.tenant, person.id, what, scope, FILE_S)
        return f"{self.base}{FILE_PATH}?token={quote(token)}"
