"""A long message is cut where a reader would cut it, and stays HTML."""

import re
from html import escape

from hypothesis import given
from hypothesis import strategies as st

from bot.channels.cutting import clip, cut
from bot.sandbox import markup
from bot.words import units

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)
tagged = st.tuples(st.sampled_from(["b", "i", "code"]), texts).map(
    lambda t: f"<{t[0]}>{escape(t[1])}</{t[0]}>"
)
nested = texts.map(lambda t: f"<b>{escape(t)}\n\n<i>{escape(t)}</i> {escape(t)}</b>")
sources = st.lists(
    st.one_of(texts.map(escape), tagged, nested, st.sampled_from(["\n", "\n\n", " "])), max_size=12
).map("".join)


def squeezed(html: str) -> str:
    return re.sub(r"\s+", "", re.sub(r"<[^<>]*>", "", html))


@given(sources, st.integers(40, 120))
def test_every_part_fits_and_parses_and_nothing_is_lost(html, most):
    parts = cut(html, most)
    assert all(units(part) <= most for part in parts)
    assert all(part == part.strip() and markup.parse(part).text.strip() for part in parts)
    assert squeezed("".join(parts)) == squeezed(html)


@given(sources)
def test_what_fits_is_one_message(html):
    assert cut(html) in ([], [html.strip()])


def test_the_cut_is_between_blocks_where_it_can_be():
    blocks = ["<b>one</b>\nline", "two two two two two", "three"]
    assert cut("\n\n".join(blocks), 30) == ["<b>one</b>\nline", "two two two two two\n\nthree"]


def test_a_block_that_is_too_long_is_cut_between_its_lines():
    assert cut("aaaa\nbbbb\ncccc", 10) == ["aaaa\nbbbb", "cccc"]


def test_a_tag_that_is_open_at_the_cut_goes_on_in_the_next_message():
    assert cut("<b>aaaa bbbb cccc</b>", 16) == ["<b>aaaa bbbb</b>", "<b>cccc</b>"]


def test_an_entity_is_never_cut():
    assert cut("&lt;" * 5, 10) == ["&lt;&lt;", "&lt;&lt;", "&lt;"]


def test_astral_characters_count_twice_and_stay_whole():
    assert units("🔴") == 2
    assert cut("🔴" * 5, 5) == ["🔴🔴", "🔴🔴", "🔴"]
    assert clip("🔴🔴🔴", 4) == "🔴…"
    assert clip("🔴🔴", 4) == "🔴🔴"


@given(st.text(max_size=300))
def test_a_clipped_text_fits(text):
    assert units(clip(text, 200)) <= 200
