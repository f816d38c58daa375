"""A command as it was typed, by whom and where, and whom its words name."""

from dataclasses import dataclass, replace

from bot.ports import Said, Tap, Verb
from bot.room import Room
from handlers.charter import Person


@dataclass(frozen=True, slots=True)
class Order:
    """One command of one person. *words* is what stands behind the command."""

    room: Room
    person: Person
    said: Said
    words: str

    @property
    def zone(self) -> str:
        return str(self.room.zone(self.person))

    @property
    def first(self) -> str:
        return self.words.split(maxsplit=1)[0] if self.words else ""

    @property
    def rest(self) -> str:
        return self.words[len(self.first) :].strip()

    def with_words(self, words: str) -> "Order":
        return replace(self, words=words)

    def tap(self, verb: Verb, anchor: str, option: str = "", words: str = "") -> Tap:
        """The tap that means the same."""
        said = self.said
        return Tap(
            said.channel,
            said.vendor_id,
            said.chat,
            verb,
            anchor,
            said.act,
            option,
            words=words,
            private=said.private,
        )


def person_named(room: Room, words: str) -> Person | None:
    """The person whose charter id or name *words* is."""
    wanted = words.split(maxsplit=1)[0].lower() if words else ""
    return next((p for p in room.people.people if wanted in {p.id, p.name.lower()}), None)
