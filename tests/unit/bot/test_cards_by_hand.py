"""The cards of what a person began: who, what exactly, how often it ran, and in their words."""

import pytest

from bot.cards import Notes, Reader, render
from bot.words import units
from handlers.charter import parse
from handlers.charter_parameters import SPOKEN
from handlers.manual import DECLARED, RUN, _detected
from ledger import events as ev
from ledger.view import View
from tests.unit.bot.stories import CHARTER, POLICY, RUDO, Story, charter, option

VALUES = (ev.Given(name="count", value="3"), ev.Given(name="region", value="eu"))
SCALE = option("restart_workers", parameters=VALUES, blast_radius="all card payments", change_ref="CHG-1042")


def card(story: Story, **notes):
    reader = Reader.of(charter(), "tendai")
    return render(story.incident, charter(), reader, story.at_ms, notes=Notes(**notes))


def asked_by_hand(chosen: ev.Option = SCALE) -> Story:
    story = Story().say(RUDO, _detected(View("acme"), "checkout", RUN, "", None))
    story.say(RUDO, ev.Proposed(options=(chosen,)), 0.1)
    return story.say(POLICY, ev.Validated(options=(chosen,), deadline_ms=story.at_ms + 300_000), 0.1)


def test_a_run_by_hand_says_who_proposed_exactly_what():
    html = card(asked_by_hand(), runs={"restart_workers": 3}, record={"restart_workers": (7, 9)}).html
    assert html.startswith("<b>🟠 checkout: asked for by hand. Restart workers? Until ")
    assert "<b>Proposed by Rudo</b>, not by policy." in html
    assert "Restart checkout workers with <code>count=3, region=eu</code> (<code>POST ops.acme" in html
    assert "Helped 7 of 9 times.\nTouches all card payments. Change <code>CHG-1042</code>." in html
    assert "⚠️ This would be its fourth run in an hour." in html


def test_what_a_person_declared_stands_on_it_in_their_words_escaped():
    story = Story().say(RUDO, _detected(View("acme"), "checkout", DECLARED, "c" * 64, None))
    html = card(story, said="carts <b>empty</b>, see https://x.example").html
    assert html.startswith("<b>🟠 checkout: declared by hand. Your approval will be asked in seconds.</b>")
    assert "Declared by Rudo at 02:11, not by policy.\n“carts &lt;b&gt;empty&lt;/b&gt;, see [link]”" in html
    assert "“" not in card(story).html


@pytest.mark.parametrize("value", ["x" * (SPOKEN - 2), "&" * 17, "@rudo", "https://x.example/a"])
def test_values_stand_whole_and_unchanged_on_the_longest_card(value: str):
    chosen = SCALE.model_copy(
        update={
            "parameters": (ev.Given(name="v", value=value),),
            "impact": "i" * 120,
            "blast_radius": "b" * 120,
            "change_ref": "c" * 60,
            "request": "POST " + "r" * 300,
            "title": "T" * 60,
        }
    )
    html = card(asked_by_hand(chosen), runs={"restart_workers": 8}, warning="w" * 200).html
    assert f"<code>v={value.replace('&', '&amp;')}</code>" in html
    assert units(html) <= 900
    assert "Nothing will run without your approval" in html


def test_values_that_do_not_fit_into_one_sms_are_decided_in_the_chat():
    assert "Decide in the chat" in card(asked_by_hand()).sms
    assert (
        card(asked_by_hand())
        .variables[3]
        .startswith("Restart checkout workers with count=3, region=eu (POST")
    )


def test_what_the_charter_says_to_look_at_for_the_cause_stands_before_what_would_run():
    looks = 'title = "DB slow query log"\ncauses = ["database"]'
    rules = parse(CHARTER.replace('title = "DB slow query log"', looks))
    story = Story().detected().agreed().asked()
    reader = Reader.of(rules, "tendai")
    html = render(story.incident, rules, reader, story.at_ms, notes=Notes()).html
    assert "<b>Look first</b>: DB slow query log." in html
    assert html.index("Look first") < html.index("Your tap runs exactly this")
    assert "Look first" not in card(story).html
