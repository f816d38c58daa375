"""A receipt as people copy it: every way of writing it is the same, and nothing else is one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.receipts import LETTERS, read
from ledger.chain import receipt_of

HASH = "7f3a91c2" * 8
CODE = receipt_of(HASH)
SHORT = CODE.replace("-", "")
CARD = f"🔴 checkout: 19 % fail. Until 03:17\ncheckout-3 · policy 2026.1+3f9ac1d2 · #42 · {CODE}"
OUTCOME = f"done 03:16:10: errors 19.3 → 0.2 %\nApproval #45 · {CODE}\nOutcome #49 · {receipt_of('ab' * 32)}"


@pytest.mark.parametrize(
    "words",
    [f"#42 · {CODE}", f"42:{CODE}", f"42:{SHORT}", f"42 {CODE.lower()}", f"#42 {CODE.replace('-', ' ')}",
     f"  #42·{CODE}. ", f"#42 - {CODE.replace('-', '–')}", f"(#42 · {CODE})", f"#４２ · {CODE}", CARD],
)  # fmt: skip
def test_every_way_of_copying_it_is_the_same_receipt(words):
    [found] = read(words)
    assert (found.seq, found.start, found.text) == (42, HASH[:20], f"#42 · {CODE}")


def test_a_whole_card_with_two_has_two():
    assert [one.seq for one in read(OUTCOME)] == [45, 49]


@pytest.mark.parametrize(
    "words",
    ["", "42", CODE, f"#0 · {CODE}", f"#42 · {CODE[:-1]}", f"#42 · {CODE}X", "#42 · UUUU-UUUU-UUUU-UUUU",
     "the checkout fails again and again since 03:14", "It got worse at 03:12: <OperationalError> is new.",
     "x" * 4096, "1 " * 2000],
)  # fmt: skip
def test_what_is_no_receipt_is_none(words):
    assert read(words) == []


@given(st.integers(1, 10**15), st.binary(min_size=32, max_size=32), st.randoms())
def test_letters_that_look_alike_are_alike_and_others_are_not(seq, digest, random):
    code = receipt_of(digest.hex())
    alike = re.sub("[01]", lambda m: random.choice({"0": "0Oo", "1": "1IiLl"}[m[0]]), code)
    [found] = read(f"#{seq} · {alike}")
    assert (found.seq, found.start) == (seq, digest.hex()[:20])
    at = random.choice([n for n, letter in enumerate(code) if letter != "-"])
    other = random.choice([letter for letter in LETTERS if letter != code[at]])
    [wrong] = read(f"#{seq} · {code[:at]}{other}{code[at + 1 :]}")
    assert wrong.start != digest.hex()[:20]


def test_more_than_four_are_not_looked_up():
    assert len(read("\n".join(f"#{n} · {CODE}" for n in range(1, 50)))) == 4
