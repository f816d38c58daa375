"""What words on WhatsApp mean, what a template carries, and how long texts are cut: without a server."""

from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.cards import render
from bot.channels.twilio_api import _NUMBER
from bot.channels.whatsapp import MOST_BODY, how_to_answer, pages
from bot.channels.whatsapp_book import FAILED, RANKS
from bot.channels.whatsapp_contents import (
    MEANS,
    NOTHING,
    SESSION_BUTTONS,
    TITLE,
    asking,
    codes,
    content,
    digest,
    filled,
    offers,
    same,
)
from bot.channels.whatsapp_door import read
from bot.channels.whatsapp_receiver import page_failed, why
from bot.channels.whatsapp_templates import variable
from bot.channels.whatsapp_words import Wish, code, decides_nothing, opinion, wish
from bot.letters import TEMPLATES
from bot.ports import Button, Verb
from bot.sandbox.content import Content, read_content
from bot.scene import Reader
from bot.settings import NAMES
from ledger.ledger import Refusal
from ledger.view import View
from tests.unit.bot.stories import MOMENTS, charter

AT_MOST = 255
"""Twilio's limit for a variable's value."""


def shown(name, with_codes=("4812", "5190")):
    story = MOMENTS[name]
    given = {"1": with_codes[0], "A": with_codes[0], "B": with_codes[1]}
    return render(
        story.incident, charter(), Reader("tendai", "Africa/Harare"), story.at_ms, approval_code=given
    )


# --- words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("RUN", Wish(Verb.APPROVE)),
        ("  run! ", Wish(Verb.APPROVE)),
        ("approve", Wish(Verb.APPROVE)),
        ("“Trust theory B”", Wish(Verb.APPROVE, "B")),
        ("trust a", Wish(Verb.APPROVE, "A")),
        ("RUN B", Wish(Verb.APPROVE, "B")),
        ("NO", Wish(Verb.DENY)),
        ("No: it is the payday peak", Wish(Verb.DENY, words="it is the payday peak")),
        ("neither", Wish(Verb.DENY)),
        ("I'm on it", Wish(Verb.ACK)),
        ("ask again", Wish(Verb.ASK_AGAIN)),
    ],
)
def test_words_of_ours_ask_for_what_the_button_asks(text, meant):
    assert wish(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "run it and tell me", "should we run?", "rerun", "runs", "not now", "nobody knows", "trust me", "yes",
        "ok", "👍", "yesterday", "okay then", "status", "RUN 4812", "NO 4812 reason", "no 4812", "", " ", "A",
        "trust theory c",
    ],
)  # fmt: skip
def test_other_words_ask_for_nothing(text):
    assert wish(text) is None


def test_an_opinion_is_said_of_the_incident_that_the_message_is_about():
    assert opinion("Not an incident!", "checkout-3") == "/feedback checkout-3 not"
    assert opinion("new normal", "checkout-3") == "/feedback checkout-3 normal"
    assert opinion("not an incident", "") == ""
    assert opinion("is this not an incident?", "checkout-3") == ""


@pytest.mark.parametrize(
    "text", ["yes", "YES.", "ok", "Okay!", "k", "👍", "👍🏽", "go ahead", "do it", "run", "no", "✅"]
)
def test_a_bare_yes_and_a_bare_no_decide_nothing(text):
    assert decides_nothing(text)


@pytest.mark.parametrize(
    "text",
    ["yesterday it was fine", "status", "RUN 4812", "ok what happened", "/approve", "/run", "help", "ack"],
)
def test_sentences_and_commands_are_more_than_a_yes(text):
    assert not decides_nothing(text)


@given(st.text())
def test_nothing_but_our_own_words_ever_approves(text):
    meant = wish(text)
    if meant and meant.verb is Verb.APPROVE:
        words = "".join(c for c in text.casefold() if c.isalnum() or c.isspace()).split()
        assert words[0] in {"run", "approve", "trust"}
        assert len(words) <= 3


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=12), st.integers(1000, 999_999))
def test_words_with_a_code_are_never_taken_for_a_button(reason, digits):
    assert wish(f"NO {digits} {reason}") is None
    assert wish(f"RUN {digits}") is None
    assert code(f"RUN {digits} {reason}") == str(digits)


# --- templates and what they carry ------------------------------------------------------------------------


def test_every_button_of_every_template_means_something():
    titles = {title for template in TEMPLATES.values() for title in template.buttons}
    assert titles == set(MEANS)
    assert all(len(t.buttons) <= SESSION_BUTTONS for t in TEMPLATES.values())
    assert all(len(title) <= TITLE for title in titles)


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_a_template_is_what_twilio_takes_and_whatsapp_approves(name):
    made: Content = read_content(content(name, TEMPLATES[name]))
    made.submit()
    assert (made.approved, made.why) == (True, "")


@pytest.mark.parametrize("name", list(MOMENTS))
def test_a_card_of_any_moment_fills_its_template_within_whatsapps_limits(name):
    card = shown(name)
    template = TEMPLATES.get(card.template)
    if template is None:
        assert card.variables == ()
        return
    assert len(card.variables) == len(template.samples)
    made = read_content(content(card.template, template))
    given = orjson.loads(filled(template, card.variables, {}))
    body, buttons = made.render(given)
    assert len(body) <= 1024
    assert "{{" not in body
    assert all(0 < len(value) <= AT_MOST for value in given.values())
    assert not any(c in value for value in given.values() for c in "\n\t\r")
    assert {button.id for button in buttons} == {NOTHING}


@pytest.mark.parametrize("name", list(MOMENTS))
def test_a_template_offers_what_the_card_offers_and_no_more(name):
    card = shown(name)
    buttons = {(b.verb, b.option, b.anchor) for row in card.rows for b in row}
    assert {(one.verb, one.option, one.anchor) for one in offers(card)} <= buttons
    if card.template in {"cs_request", "cs_dissent"} and any(verb is Verb.APPROVE for verb, _, _ in buttons):
        approving = {o for v, o, _ in buttons if v is Verb.APPROVE}
        assert {one.option for one in offers(card) if one.verb is Verb.APPROVE} == approving


def test_the_codes_of_a_request_are_those_that_its_template_prints():
    assert codes(shown("consensus")) == ("4812",)
    assert codes(shown("dissent")) == ("4812", "5190")
    assert codes(shown("opened")) == ()
    assert how_to_answer(("4812",)) == "Reply RUN 4812 or NO 4812."
    assert "RUN 5190 for theory B" in how_to_answer(("4812", "5190"))
    assert how_to_answer(()) == ""


def test_what_tells_contents_apart_is_what_they_say():
    one, other = (content(name, TEMPLATES[name]) for name in ("cs_request", "cs_dissent"))
    assert digest(one) != digest(other)
    assert same(one | {"sid": "HX1", "variables": {}}, one)
    assert not same(one | {"friendly_name": "cs_other"}, one)
    assert not same({"friendly_name": "cs_request", "types": {"twilio/text": {"body": "x"}}}, one)


some_buttons = st.lists(
    st.builds(Button, st.sampled_from(Verb), st.text(min_size=1, max_size=80), st.just("a" * 64)),
    min_size=1,
    max_size=6,
)


@given(some_buttons)
def test_buttons_of_an_answer_fit_a_message_inside_the_24_hours(buttons):
    template, offered = asking(buttons)
    assert 1 <= len(template.buttons) <= SESSION_BUTTONS
    assert all(len(title) <= TITLE for title in template.buttons)
    assert [one.verb for one in offered] == [button.verb for button in buttons[:SESSION_BUTTONS]]


def test_the_settings_of_the_templates_are_named_after_them():
    assert variable("cs_request") == "TWILIO_CONTENT_SID_REQUEST"
    assert {"TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_WHATSAPP_FROM"} <= NAMES


# --- texts, forms, errors ---------------------------------------------------------------------------------


@given(st.text(max_size=6000), st.integers(20, MOST_BODY))
def test_a_long_text_is_cut_and_nothing_but_line_breaks_is_lost(text, most):
    parts = pages(text, most)
    assert all(0 < len(part) <= most for part in parts)
    assert "".join(parts).replace("\n", "") == text.replace("\n", "") or not text.strip()


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=20))
def test_a_form_is_read_whole_blanks_and_repeats_included(fields):
    assert read(urlencode(fields).encode()) == fields


def test_a_message_only_moves_on():
    order = [RANKS[one] for one in ("queued", "sent", "delivered", "read", "failed")]
    assert order == sorted(set(order))
    assert {RANKS[one] for one in FAILED} == {max(RANKS.values())}


def test_an_error_of_twilios_is_told_in_words_and_without_a_number():
    assert why("63024") == "the number takes no WhatsApp (Twilio error 63024)"
    assert why("12345") == "Twilio error 12345"
    assert why("") == "Twilio error unknown"
    assert (
        _NUMBER.sub("it", "Invalid 'To' Phone Number: whatsapp:+263770000001")
        == "Invalid 'To' Phone Number: it"
    )


def test_a_card_of_an_incident_that_nobody_knows_did_not_fail():
    refused = page_failed("checkout-9", "rudo", "x")(View("acme"), MOMENTS["opened"].at_ms)
    assert isinstance(refused, Refusal)
