"""Whether entries obey the rules of `ledger.machine`, told entry by entry.

The chain says that nothing was changed after it was written. This says that what was written was allowed:
each transition, each actor, each reference, each stage.
"""

from pydantic import ValidationError

from ledger.chain import BrokenChain, Entry, parse
from ledger.machine import Illegal, unsettled
from ledger.verify import Tampered
from ledger.view import UnknownEvent, View


class Replay:
    """Takes one line after the other and keeps the view that they make."""

    def __init__(self) -> None:
        self.view = View("")

    def take(self, line: bytes) -> Entry:
        """The entry of *line*, a form that was checked before. Raises Tampered where it breaks a rule."""
        entry = parse(line)
        self.view.tenant = self.view.tenant or entry.tenant_id
        try:
            self.view.absorb(entry)
        except (BrokenChain, Illegal, UnknownEvent, ValidationError) as error:
            raise Tampered(entry.seq, f"it breaks a rule: {error}") from error
        incident = self.view.incidents.get(entry.incident_id or "")
        stage = incident.stage.value if incident else None
        if entry.stage != stage:
            raise Tampered(entry.seq, f"it says that the stage is {entry.stage}, and the rules say {stage}")
        return entry

    def unsettled(self) -> int:
        """How many authorizations have no outcome yet."""
        return len(unsettled(self.view.incidents.values()))
