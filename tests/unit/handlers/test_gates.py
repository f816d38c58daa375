"""What a gate lets through is exactly what the charter names: the action, and what may be chosen for it."""

import pytest

from handlers.charter import parse
from handlers.gates import RETIRED, Present, held
from ledger import events as ev
from ledger.events import Given
from ledger.view import View
from tests.rooms import CHARTER

RULES = parse(
    CHARTER.replace("{approve}", "1 oncall")
    .replace("{risk}", "low")
    .replace(
        "idempotent = true\n",
        "idempotent = true\n"
        '[[services.actions.parameters]]\nid = "count"\nkind = "integer"\nleast = 1\nmost = 3\ndefault = 1\n',
        1,
    )
)
COUNT = (Given(name="count", value="3"),)


def passes(*given: Given, **changes: str) -> bool:
    """Whether an option passes that was proposed with exactly what is *given*."""
    service = RULES.service("checkout")
    digest = service.action("restart_workers").digest("checkout", given)
    made = {
        "key": "1",
        "action": "restart_workers",
        "title": "Restart",
        "parameters": given,
        "digest": digest,
    }
    found = held(ev.Option(**(made | changes)), Present(View("acme"), 1, RULES, service, down=False))
    assert found is None or found.why == RETIRED
    return found is None


def test_what_the_charter_allows_passes():
    assert passes(*COUNT)


@pytest.mark.parametrize("value", ["0", "4", "03", "three", ""])
def test_what_the_charter_does_not_allow_is_held_whatever_was_bound(value):
    assert not passes(Given(name="count", value=value))


@pytest.mark.parametrize("given", [(), (*COUNT, *COUNT), (*COUNT, Given(name="more", value="1"))])
def test_what_is_not_whole_or_more_than_whole_is_held(given):
    assert not passes(*given)


@pytest.mark.parametrize("changes", [{"digest": "0" * 64}, {"digest": ""}, {"action": "drop_tables"}])
def test_another_request_than_the_charters_is_held(changes):
    assert not passes(*COUNT, **changes)
