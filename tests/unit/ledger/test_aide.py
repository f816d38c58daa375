"""A log read by two processes is judged as by one, line for line, also when the second ends or errs."""

import re
from collections.abc import Iterator
from itertools import batched
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import aide as module
from ledger import books as booked
from ledger import receipts
from ledger.aide import Aide, Judged, judge
from ledger.audit import Audit, audit
from ledger.books import Books
from ledger.reader import UNKNOWN, Reader
from ledger.reconcile import Kind
from ledger.shapes import ASKED
from ledger.verify import Tampered
from tests.months import TEXTS, Month

LEGAL = Month(7).incidents(120)
LINES = [entry.line for entry in LEGAL.lines]
PAGE = 64


class Here(Aide):
    """The same without a second process."""

    def __init__(self) -> None:
        self.reader = Reader()

    def pages(self, lines) -> Iterator[tuple[tuple[bytes, ...], Judged | None]]:
        for page in batched(lines, PAGE):
            yield page, judge(self.reader, page)


@pytest.fixture(scope="module")
def second() -> Iterator[Aide]:
    with Aide() as aide:
        assert aide.has_begun(within_s=60)
        yield aide


def told(lines: list[bytes], aide: Aide | None) -> tuple[str, str, str]:
    """What an audit and the books say in all."""
    books = Books(TEXTS)
    found = audit(lines, books=books, aide=aide)
    report = books.report(found.tenant, books.last_ms, 0, books.last_ms, found.hash)
    return found.head.hash, found.tree.root().hex(), report.text()


def test_two_processes_find_what_one_finds(second: Aide):
    assert all(known for _, known in second.pages(LINES))
    assert told(LINES, second) == told(LINES, None)


@pytest.mark.parametrize("kind", Kind)
def test_what_is_wrong_in_the_books_is_found_from_a_glance_too(kind: Kind):
    month = Month(2, kind).incidents(60)
    lines = [entry.line for entry in month.lines]
    try:
        slowly = told(lines, None)
    except Tampered as broken:
        with pytest.raises(Tampered, match=re.escape(str(broken))):
            told(lines, Here())
    else:
        assert told(lines, Here()) == slowly
        assert f"1 {kind}\n" in slowly[-1]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_changed_line_is_refused_as_by_one_process(data: st.DataObject):
    at = data.draw(st.integers(0, 80))
    line = bytearray(LINES[at])
    place = data.draw(st.integers(0, len(line) - 1))
    match data.draw(st.sampled_from(["flip", "drop", "insert"])):
        case "flip":
            line[place] ^= 1 << data.draw(st.integers(0, 7))
        case "drop":
            del line[place]
        case _:
            line.insert(place, data.draw(st.sampled_from(b'0 "\\,.-eaz\n\x00\xff\xc3')))
    changed = [*LINES[:at], bytes(line), *LINES[at + 1 : at + 3]]
    assert verdict(changed, Here()) == verdict(changed, None)


def verdict(lines: list[bytes], aide: Aide | None) -> str:
    try:
        return audit(lines, aide=aide).head.hash
    except Tampered as broken:
        return str(broken)


def again(at: int, **changed: object) -> bytes:
    fields = orjson.loads(LINES[at])
    fields["data"] |= changed
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


@pytest.mark.parametrize(
    "last",
    [
        again(-1),
        again(-1, later="version"),
        again(-1, due=True),
        again(-1, due=1.5),
        LINES[-1] + b"\n",
        b"\n".join([LINES[-1], LINES[-1]]),
        b"",
        LINES[-1].replace(b"Watched", b"Watches"),
        LINES[-2],
    ],
)
def test_what_goes_the_long_way_goes_it_in_the_first_process(second: Aide, last: bytes):
    lines = [*LINES[:-1], last]
    assert verdict(lines, second) == verdict(lines, None)


def test_nothing_is_known_of_what_has_no_good_form():
    known = judge(Reader(), [LINES[0], LINES[0] + b" ", b"", LINES[1]])
    numbers = [Reader().rules[LEGAL.lines[at].event.encode()].number for at in (0, 1)]
    assert [*known.numbers] == [numbers[0], UNKNOWN, UNKNOWN, numbers[1]]
    assert known.leaves[:32].hex() == LEGAL.lines[0].hash


def test_a_second_process_that_ends_leaves_the_rest_to_the_first():
    with Aide() as aide:
        assert aide.has_begun(within_s=60)
        pages = aide.pages(iter(LINES * 3))
        first, known = next(pages)
        assert known
        aide.end()
        rest = list(pages)
        assert [*first, *(line for page, _ in rest for line in page)] == LINES * 3
        assert rest[-1][1] is None
        assert told(LINES, aide) == told(LINES, None)


def test_before_it_has_begun_the_first_process_reads_alone(monkeypatch: pytest.MonkeyPatch):
    with Aide() as aide:
        monkeypatch.setattr(aide, "has_begun", lambda: False)
        assert {known for _, known in aide.pages(LINES)} == {None}


@pytest.mark.parametrize("source", [booked, receipts, Audit], ids=["books", "receipts", "audit"])
def test_a_glance_has_all_that_rules_and_books_ask_for(source: object):
    module_of = getattr(source, "__module__", getattr(source, "__name__", ""))
    text = Path(*Path(module.__file__).parts[:-2], *module_of.split(".")).with_suffix(".py").read_text()
    asked = {
        *re.findall(r"\bdata\.(?!get\b)(\w+)", text),
        *re.findall(r'\bdata(?:\.get\(|\[|, )"(\w+)"', text),
    }
    assert asked
    assert asked <= ASKED


def test_a_page_that_does_not_fit_is_left_to_the_first_process(second: Aide, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LINES", 2)
    monkeypatch.setattr(module, "PLACE", 1 + len(LINES[0]) + len(LINES[1]))
    known = [found for _, found in second.pages([LINES[0], LINES[1], LINES[0] + b" ", LINES[1]])]
    assert [one is None for one in known] == [False, True]
