"""Every answer to a tap fits into one box and says whether anything ran."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import phrases, words

PHRASES = {
    name: phrase
    for name, phrase in inspect.getmembers(phrases, inspect.isfunction)
    if phrase.__module__ == "bot.phrases" and not name.startswith("_")
}
NUMBERS = {"seq": 123_456, "have": 1, "need": 2, "late_ms": 14 * 60_000, "left": 4}
CLOCKS = {"at", "approved_at", "recovered_at", "until"}


def arguments(phrase, text: str) -> dict:
    def one(name: str):
        if name in NUMBERS:
            return NUMBERS[name]
        if name in CLOCKS:
            return "03:14:02"
        if name == "right":
            return True
        if name == "service":
            return text[:32]
        if name in {"theory", "theirs", "yours"}:
            return "A"
        return [text] * 5 if name == "names" else text

    return {name: one(name) for name in inspect.signature(phrase).parameters}


@pytest.mark.parametrize("name", PHRASES)
@given(text=st.text(max_size=500))
def test_every_phrase_fits_into_one_box(name: str, text: str):
    said = PHRASES[name](**arguments(PHRASES[name], text))
    assert 0 < words.units(said) <= phrases.MOST
    assert "\n" not in said


def test_the_winner_reads_what_is_running():
    assert (
        phrases.won("Restart checkout workers", "03:14:02", 45)
        == "Approved 03:14:02. “Restart checkout workers” is running. #45"
    )


def test_a_late_tap_reads_by_how_much_and_what_to_do():
    assert phrases.late_open(14 * 60_000) == (
        "Too late by 14 min, nothing was run. Renewed with fresh numbers: tap Approve again."
    )


def test_who_may_not_approve_reads_who_can():
    assert phrases.not_entitled("2 dev or 1 oncall", ["Rudo", "Tendai"]) == (
        "You are not an approver of this (dev or oncall needed). Rudo or Tendai can. Your tap is on record."
    )


def test_an_empty_approver_list_is_said_to_be_nobody():
    assert phrases.not_entitled("", []).startswith("Nobody may approve this")


def test_the_names_of_toasts_are_phrases():
    assert PHRASES.keys() >= phrases.TOAST
