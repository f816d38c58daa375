"""Until when a service is left alone: by the charter's windows, and by what was declared in chat. Pure.

In maintenance nothing is run on a service, and policy's incidents of it wake nobody. Its verdicts are
recorded all the same, and what is still wrong afterwards is told then.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from handlers.charter import Charter
from ledger.events import ENGINEER
from ledger.machine import Incident
from ledger.view import View


def until_ms(charter: Charter, view: View, service: str, now_ms: int) -> int:
    """When the maintenance of *service* ends that is going on, in epoch ms; 0 where there is none."""
    declared = view.maintenance.get(service, 0)
    ends = max(declared, _window_ms(charter, service, now_ms))
    return ends if ends > now_ms else 0


def silent_until_ms(charter: Charter, view: View, incident: Incident, now_ms: int) -> int:
    """Until when nobody is woken for *incident*; 0: now. What a person began is told at once."""
    decided = incident.authorization
    if incident.facts[0].actor.kind is ENGINEER or (decided and decided[0].at_ms >= incident.asked_ms):
        return 0
    return until_ms(charter, view, incident.service, now_ms)


def _window_ms(charter: Charter, service: str, now_ms: int) -> int:
    zone = ZoneInfo(charter.tenant.timezone)
    local = datetime.fromtimestamp(now_ms / 1000, zone).replace(tzinfo=None)
    ends = [
        end
        for window in charter.maintenance
        if (not window.services or service in window.services) and (end := window.ends_at(local))
    ]
    return max((round(end.replace(tzinfo=zone).timestamp() * 1000) for end in ends), default=0)
