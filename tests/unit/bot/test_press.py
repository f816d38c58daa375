"""What a card says beside its own incident: codes of its reader, and what happened at this service before."""

from dataclasses import replace

from bot.ports import Address
from bot.press import Press, record
from handlers.governor import ran
from ledger import events as ev
from ledger.store import StoreDown
from ledger.view import Run, View
from tests.unit.bot.stories import (
    FALLBACK_B,
    RESTART_A,
    START,
    charter,
    reading,
    told,
)

GROUP = Address("telegram", "-100200300", "chat1")


def past(*stories) -> View:
    """A view in which *stories* are checkout-1, checkout-2 and so on."""
    incidents = {f"checkout-{n}": replace(s.incident, id=f"checkout-{n}") for n, s in enumerate(stories, 1)}
    return View("acme", incidents=incidents, numbers={"checkout": len(stories)})


def agreed_and_helped():
    return told().agreed().asked().authorized().started().executed().verified()


def disagreed(chosen, *, helped: bool):
    story = told().disagreed().asked(RESTART_A, FALLBACK_B, verdict="DISSENT")
    story.authorized(chosen=chosen).started().executed()
    return story.verified() if helped else story.not_recovered()


def test_who_was_right_here_before_is_counted_from_what_helped():
    view = past(
        agreed_and_helped(),
        disagreed(RESTART_A, helped=True),
        disagreed(FALLBACK_B, helped=False),
        told(),
    )
    assert record(view, view.incidents["checkout-4"]) == {
        "restart_workers": (2, 2),
        "fallback": (0, 1),
        "A": (2, 2),
        "B": (1, 3),
        "AB": (1, 1),
    }


def test_each_run_of_an_incident_counts_for_its_action():
    story = disagreed(RESTART_A, helped=False).asked(FALLBACK_B, verdict="DISSENT")
    story.authorized(chosen=FALLBACK_B).started().executed().verified()
    view = past(story, told())
    assert record(view, view.incidents["checkout-2"]) == {
        "restart_workers": (0, 1),
        "fallback": (1, 1),
        "A": (0, 1),
        "B": (1, 1),
    }


def test_an_incident_is_no_witness_in_its_own_case():
    view = past(agreed_and_helped())
    assert record(view, view.incidents["checkout-1"]) == {}


def test_runs_of_the_last_hour_are_counted_by_action():
    old, new = START - 3_700_000, START - 60_000
    view = View("acme", runs=(
        Run("checkout-1", "checkout", "restart_workers", old),
        Run("checkout-2", "checkout", "restart_workers", new),
        Run("checkout-3", "checkout", "restart_workers", new),
        Run("cart-1", "cart", "restart_workers", new),
    ))  # fmt: skip
    assert ran(view, "checkout", START) == {"restart_workers": 2}


class Codes:
    def __init__(self) -> None:
        self.asked: list[tuple] = []

    async def issue(self, tenant, recipient, anchor, option, until_ms) -> str:
        self.asked.append((tenant, recipient, anchor, option, until_ms))
        return "4812" if option in {"1", "A"} else "5190"


async def printed(story, codes, **more):
    view = past(story)
    incident = view.incidents["checkout-1"]
    return await Press(codes, **more).card(view, incident, charter(), GROUP, story.at_ms)


async def test_each_option_that_runs_something_has_a_code_of_its_own_until_the_deadline():
    codes = Codes()
    story = told().disagreed().asked(RESTART_A, FALLBACK_B, verdict="DISSENT")
    card = await printed(story, codes)
    request = story.incident.last(ev.Validated)
    until = request.event.deadline_ms
    assert codes.asked == [("acme", "chat1", request.hash, key, until) for key in ("A", "B")]
    assert "<code>/approve 4812</code> (A), <code>/approve 5190</code> (B)" in card.html


async def test_no_code_is_issued_where_nothing_is_asked():
    codes = Codes()
    await printed(told(), codes)
    await printed(agreed_and_helped(), codes)
    assert codes.asked == []


class NoStore:
    async def issue(self, *about) -> str:
        raise StoreDown("gone")


async def test_without_a_store_for_codes_the_buttons_still_stand():
    card = await printed(told().agreed().asked(), NoStore())
    assert "/approve" not in card.html
    assert card.rows[0][0].label == "✅ Approve: restart workers"


async def test_a_card_shows_the_present_a_warning_and_what_ran_before():
    now = reading(n=5_980, failed=1_310, window_ms=300_000, error_permille=219)
    story = told().agreed().asked().expired()
    card = await printed(story, None, now=lambda service: now, warning=lambda: "Durability is declared.")
    assert "Getting worse: errors 19 → 22 %." in card.html
    assert "Durability is declared." in card.html
