"""What was refused stands in the ledger, once per person, kind and minute; then it is counted."""

from bot import votes
from bot.ports import Tap
from bot.room import Room
from ledger.events import Actor
from ledger.ledger import Refusal


class Refusals:
    """*process* is the name of this process, in whose voice refusals stand in the ledger."""

    def __init__(self, process: str) -> None:
        self._actor = Actor.orchestrator(process)
        self._minute = 0
        self._counted: dict[tuple[str, str, str], int] = {}

    async def note(self, room: Room, kind: str, tap: Tap, person: str, incident: str) -> None:
        """Put it on record that *tap* was refused. Where the ledger is away, the next one like it is."""
        key = (room.tenant, person or f"{tap.channel}:{tap.vendor_id}", kind)
        if not self._is_first(key, room.now_ms() // 60_000):
            return
        made = await room.ledger.record(self._actor, votes.refuse(kind, person, incident, tap.act))
        if isinstance(made, Refusal) and made.kind == "ledger_away":
            self._counted.pop(key, None)

    def _is_first(self, key: tuple[str, str, str], minute: int) -> bool:
        if minute != self._minute:
            self._minute, self._counted = minute, {}
        self._counted[key] = self._counted.get(key, 0) + 1
        return self._counted[key] == 1
