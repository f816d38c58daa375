"""What the carriers of a choice prove, and what they refuse."""

from datetime import UTC, datetime

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.ports import Verb
from bot.tokens import (
    MOST_DATA_BYTES,
    UNREADABLE,
    BadToken,
    Passes,
    Tokens,
    derived,
)
from ledger.clock import ManualClock

SECRET = b"a secret of the operator, 32 bytes or more"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HASH = "7f3a91c2" * 8
words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


def tokens(clock: ManualClock | None = None, secret: bytes = SECRET) -> Tokens:
    return Tokens(secret, clock or ManualClock(NOON))


@given(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=32),
    st.integers(-(2**52), 2**52).map(str),
    st.sampled_from(Verb),
    st.sampled_from(["", "1", "A", "B"]),
    st.text("0123456789abcdef", min_size=64, max_size=64),
)
def test_what_was_minted_is_read_back_and_fits_a_button(tenant, chat, verb, option, anchor):
    data = tokens().mint(tenant, chat, verb, option, anchor)
    assert len(data.encode()) <= MOST_DATA_BYTES
    assert tokens().read(data, tenant, chat) == (verb, option, anchor[:16], True)


@given(st.data())
def test_a_button_with_any_character_changed_is_not_genuine(data):
    good = tokens().mint("acme", "-100200300", Verb.APPROVE, "A", HASH)
    at = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda c: c != good[at]))
    assert not tokens().read(good[:at] + other + good[at + 1 :], "acme", "-100200300").genuine


def test_a_button_is_genuine_in_its_own_tenant_and_chat_alone():
    data = tokens().mint("acme", "-1", Verb.APPROVE, "A", HASH)
    assert tokens().read(data, "acme", "-1").genuine
    assert not tokens().read(data, "acme", "-2").genuine
    assert not tokens().read(data, "other", "-1").genuine
    assert not tokens(secret=SECRET[::-1]).read(data, "acme", "-1").genuine


@given(st.one_of(words, st.text(), st.just("1|ap|A|\ud800|\ud800")))
def test_data_that_nobody_minted_is_read_without_an_error(data):
    assert not tokens().read(data, "acme", "-1").genuine


def test_data_of_another_form_reads_as_a_harmless_wish():
    assert tokens().read("approve everything", "acme", "-1") == UNREADABLE
    assert UNREADABLE.verb is Verb.AUDIT


def test_a_button_that_telegram_would_not_take_is_refused_at_once():
    with pytest.raises(ValueError, match="button"):
        tokens().mint("acme", "-1", Verb.APPROVE, "x" * 40, HASH)
    with pytest.raises(ValueError, match="button"):
        tokens().mint("acme", "-1", Verb.APPROVE, "A|B", HASH)


def test_a_short_secret_is_refused_with_its_length():
    with pytest.raises(ValueError, match="31 bytes and needs 32"):
        tokens(secret=b"x" * 31)


def test_keys_are_derived_as_rfc_5869_says():
    """The expansion of RFC 5869's third test case: no salt, no info, the first block."""
    assert derived(b"\x0b" * 22, b"").hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    )


# --- links ----------------------------------------------------------------------------------------------


def test_a_link_says_who_may_decide_what_for_five_minutes():
    clock = ManualClock(NOON)
    ours = tokens(clock)
    token = ours.mint_link("acme", "rudo", Verb.APPROVE, "A", HASH)
    link = ours.read_link(token)
    assert (link.tenant, link.person, link.verb, link.option, link.anchor) == (
        "acme",
        "rudo",
        Verb.APPROVE,
        "A",
        HASH,
    )
    assert link.jti != ours.read_link(ours.mint_link("acme", "rudo", Verb.APPROVE, "A", HASH)).jti
    clock.advance(299)
    assert ours.read_link(token).person == "rudo"
    clock.advance(1)
    with pytest.raises(BadToken, match="is over"):
        ours.read_link(token)


def test_a_link_that_shows_and_one_that_decides_are_made_with_different_keys():
    shows = Passes(SECRET, ManualClock(NOON)).mint("countersign/action", "acme", "rudo", "w", "s", 60)
    decides = tokens().mint_link("acme", "rudo", Verb.APPROVE, "A", HASH)
    assert jwt.get_unverified_header(shows)["kid"] != jwt.get_unverified_header(decides)["kid"]
    with pytest.raises(BadToken, match="another key"):
        tokens().read_link(shows)


def forged(key: bytes | str | None = None, algorithm: str = "HS256", kid: str | None = None, **changes):
    ours = tokens()
    claims = jwt.decode(
        ours.mint_link("acme", "rudo", Verb.APPROVE, "A", HASH), options={"verify_signature": False}
    )
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(
        claims, ours._link_key if key is None else key, algorithm, headers={"kid": kid or ours._kid}
    )


def test_a_forgery_that_changes_nothing_would_pass():
    assert tokens().read_link(forged()).person == "rudo"


@pytest.mark.parametrize(
    "token",
    [
        forged(key=b"another key, of more than 32 bytes"),
        forged(key="", algorithm="none"),
        forged(key=b"k" * 64, algorithm="HS512"),
        forged(kid="00000000"),
        forged(aud="countersign/other"),
        forged(aud=None),
        forged(exp=None),
        forged(sub=None),
        forged(jti=None),
        forged(exp="4102444800"),
        forged(verb="rm"),
        forged(option=7),
        forged(tenant=None),
        "no.token.at.all",
        "",
    ],
)
def test_a_forged_link_decides_nothing(token):
    with pytest.raises(BadToken):
        tokens().read_link(token)


@given(words)
def test_any_other_text_is_no_link(text):
    with pytest.raises(BadToken):
        tokens().read_link(text)
