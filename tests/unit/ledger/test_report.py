"""The auditor's page: every figure is what the entries say, in one order, on one page, whatever they hold."""

import io
import json
import re
from collections import Counter
from dataclasses import replace
from hashlib import sha256

import pypdf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import events as ev
from ledger import report_signed
from ledger.balance import Kind
from ledger.chain import GENESIS, Frontier, receipt
from ledger.commands.report import days
from ledger.events import Act, Actor, Event, Option, Reading
from ledger.export import export
from ledger.machine import TRANSITIONS
from ledger.note import Checkpoint, Signer, Witness, signed
from ledger.report import page, statement
from ledger.report_case import case
from ledger.report_fit import cut, visible, wrapped
from ledger.report_gather import Scope, Sign, gather
from ledger.report_period import period
from ledger.report_source import NoSuchIncident, Outside, page_from, page_of
from ledger.report_verdict import Known, Made, Reconciliation, Standing, Verdict
from ledger.report_watch import absent
from ledger.report_words import BadZone, Times
from ledger.store import MemoryStore
from ledger.view import epoch_ms
from tests.chains import NOON, sealed, tell_story
from tests.exports import OLD, vkey

NAME = "checkout-1"
NOON_MS = epoch_ms(NOON)
POLICY, BOT = Actor.policy(), Actor.orchestrator("bot.1")
RUDO, TENDAI = Actor.engineer("rudo", "telegram"), Actor.engineer("tendai", "whatsapp")
CHARTER = json.dumps(
    {
        "people": [
            {"id": "rudo", "name": "Rudo", "roles": ["oncall", "dev"]},
            {"id": "tendai", "name": "Tendai", "roles": ["dev"]},
        ]
    }
)
DIGEST = sha256(CHARTER.encode()).hexdigest()
TEXTS = {DIGEST: CHARTER}
READING = Reading(
    service="checkout", rule="r", signal="errors", severity="critical", headline="h", explanation="36 of 187",
    n=187, failed=36, error_permille=193, p95_ms=998, window_ms=10_000,
)  # fmt: skip
WELL = READING.model_copy(update={"failed": 0, "n": 140, "error_permille": 0})
OPTION = Option(
    key="1", action="restart", title="Restart workers", request="POST shop/recover", digest="d1" * 32,
    impact="two seconds", undo="none", approve="2 dev or 1 oncall",
)  # fmt: skip
SEEN = Verdict(Standing.INTACT, "acme", 20, "ab" * 32, signer="countersign/acme/00", fingerprint="key+1+AQ")
KNOWN = Known(
    SEEN, Reconciliation({str(k): 0 for k in Kind}, {str(k): 0 for k in Kind}, "balance 0", "cd" * 32)
)
ABOUT = Scope(NAME)
MADE = Made(NOON_MS + 3_600_000, "Rudo M.", "Africa/Harare", "0.1.0")
SECTIONS = [
    "1. Title and times", "2. Verdict", "3. The change", "4. Who", "5. When", "6. Result", "7. Exceptions",
    "8. What this page does not cover", "9. Check it yourself",
]  # fmt: skip


class Tale:
    """Entries of one log, told event by event, a second apart."""

    def __init__(self) -> None:
        self.entries, self.stages, self.now_ms = [], {}, NOON_MS

    def says(self, actor: Actor, event: Event, after_ms: int = 1000):
        self.now_ms += after_ms
        name = event.incident_id
        if name:
            self.stages[name] = TRANSITIONS[self.stages.get(name)][type(event)]
        entry = sealed(
            self.entries[-1].head if self.entries else GENESIS,
            ts=NOON.fromtimestamp(self.now_ms / 1000, NOON.tzinfo),
            incident_id=name or None,
            event=type(event).__name__,
            stage=self.stages[name].value if name else None,
            actor=actor.model_dump(mode="json"),
            decision=event.decision,
            reason=event.reason,
            confidence=event.confidence,
            ref=event.ref.model_dump() if event.ref else None,
            data=event.data(),
        )
        self.entries.append(entry)
        return ev.Ref(seq=entry.seq, hash=entry.hash)

    def begins(self, name: str = NAME, **detected):
        self.says(BOT, ev.Started(version="0.1.0"))
        self.says(
            RUDO, ev.CharterAdopted(digest=DIGEST, policy_digest="", policy_label="2026.1", by_console=True)
        )
        self.says(TENDAI, ev.Linked(person="tendai", channel="whatsapp", identity="c0", issued_by="rudo"))
        self.says(POLICY, ev.Detected(incident_id=name, reading=READING, **detected))

    def asks(self, options=(OPTION,), name: str = NAME, reason: str = "Both models agree"):
        self.says(BOT, ev.Proposed(incident_id=name, options=options))
        deadline_ms = self.now_ms + 300_000
        asked = ev.Validated(
            incident_id=name, options=options, deadline_ms=deadline_ms, charter_digest=DIGEST, reason=reason
        )
        return self.says(POLICY, asked)

    def runs(self, request, voters=(RUDO,), name: str = NAME):
        *early, last = voters
        for one in early:
            self.says(one, ev.Approved(incident_id=name, option="1", ref=request))
        ids = tuple(one.id for one in voters)
        act = Act(channel=last.via, update="7", digest="e" * 64)
        yes = self.says(
            last,
            ev.Authorized(
                incident_id=name,
                option="1",
                action="restart",
                digest="d1" * 32,
                voters=ids,
                ref=request,
                act=act,
            ),
        )
        self.says(BOT, ev.ExecutionStarted(incident_id=name, attempt=1, by="bot.1", until_ms=1, ref=yes))
        ran = ev.Executed(
            incident_id=name,
            attempt=1,
            status=200,
            took_ms=522,
            receipt="matches",
            receipt_counter=7,
            ref=yes,
        )
        self.says(BOT, ran)
        self.says(POLICY, ev.Verified(incident_id=name, before=READING, after=WELL, reason="quiet"))
        return yes

    def gathered(self, scope: Scope):
        return gather(lambda: self.entries, scope)


def usual() -> Tale:
    tale = Tale()
    tale.begins()
    tale.says(BOT, ev.Paged(incident_id=NAME, recipient="tendai", channel="whatsapp", card_digest="ca" * 32))
    tale.says(BOT, ev.Refused(incident_id=NAME, kind="late", person="rudo"))
    tale.says(BOT, ev.Refused(kind="unknown"))
    tale.runs(tale.asks(), (RUDO, TENDAI))
    return tale


def made(tale: Tale, scope: Scope = ABOUT, known: Known = KNOWN, texts=TEXTS, **changed) -> bytes:
    return page(tale.gathered(scope), texts, known, scope, replace(MADE, **changed))


def pages(pdf: bytes) -> list[str]:
    return [one.extract_text() for one in pypdf.PdfReader(io.BytesIO(pdf)).pages]


def spoken(tale: Tale, scope: Scope = ABOUT, known: Known = KNOWN, texts=TEXTS) -> str:
    """The page's text before it is cut to fit."""
    said = statement(tale.gathered(scope), texts, known, scope, MADE)
    return "\n".join(
        f"{line.label}: {' | '.join(line.items)}" for part in said.sections for line in part.lines
    )


# --- what stands on it --------------------------------------------------------------------------------


def test_the_sections_stand_in_the_auditors_order_and_on_one_page():
    first, *annex = pages(made(usual()))
    at = [first.index(title) for title in SECTIONS]
    assert at == sorted(at)
    assert first.index("INTACT") < at[0]
    assert first.index("Prepared by") > at[-1]
    assert "Annex A: every entry of the incident" in annex[0]
    assert DIGEST in "".join(annex)


def test_the_change_is_the_exact_request_with_digest_reason_risk_impact_and_undo():
    said = spoken(usual())
    assert "1: POST shop/recover (Restart workers, action restart)" in said
    assert "Digest: " + "d1" * 32 in said
    assert "Both models agree | Policy saw: 36 of 187" in said
    assert "1: risk low; impact: two seconds; undo: none" in said


def test_who_decided_is_named_with_account_link_card_and_the_rule_that_they_met():
    tale = usual()
    said = spoken(tale)
    yes = next(e for e in tale.entries if e.event == "Authorized")
    assert f"authorized by #{yes.seq} | idempotency key {yes.hash}" in said
    assert "Rudo (rudo) voted for option 1" in said
    assert "telegram account named in the charter, not linked by a code" in said
    tendai = said[said.index("Tendai (tendai) authorized option 1") :].split(" | ")[0].split("\n")[0]
    assert "whatsapp account linked 2026-06-03 14:00:03 (#3) with a code issued by rudo" in tendai
    assert "raw request eeeeeeeeeeeeeeee; first card shown #5, digest cacacacacacacaca" in tendai
    assert 'approve = 1: "2 dev or 1 oncall"' in said
    assert "2 of 2 dev: Rudo (rudo) had oncall + dev, Tendai (tendai) had dev" in said
    assert "1 of 1 oncall: Rudo (rudo)" in said
    assert "Denied by: nobody" in said
    assert "adopted 2026-06-03 14:00:02 (#2) by Rudo (rudo), with the console code" in said


@pytest.mark.parametrize("texts", [{}, {DIGEST: CHARTER + " "}, {DIGEST: "[]"}])
def test_a_charter_whose_text_is_missing_or_another_proves_nothing(texts):
    assert "Why it was met: cannot be said" in spoken(usual(), texts=texts)


def test_a_person_whom_the_charter_did_not_entitle_is_said_not_to_have_met_the_rule():
    tale = Tale()
    tale.begins()
    tale.runs(tale.asks(), (TENDAI,))
    assert "Why it was met: NOT MET by the charter then in force | 1 of 2 dev" in spoken(tale)


def test_before_and_after_the_receipt_and_the_outcome_are_those_of_the_entries():
    said = spoken(usual())
    assert "executed: HTTP 200 in 0.522 s" in said
    assert "Before: 36 of 187 requests failed (19.3 %), p95 998 ms" in said
    assert "After: 0 of 140 requests failed (0.0 %)" in said
    assert "App's receipt: matches; the app's own count is 7" in said


def test_zeros_are_printed_for_every_kind_of_exception():
    first = " ".join(pages(made(usual()))[0].split())
    for kind in Kind:
        assert f"{kind}: 0" in first


def test_exceptions_are_counted_for_the_incident_and_for_the_whole_log():
    here, whole = {str(k): 0 for k in Kind}, {str(k): 0 for k in Kind}
    here[Kind.DIGEST], whole[Kind.DIGEST] = 1, 3
    said = spoken(
        usual(), known=Known(SEEN, Reconciliation(here, whole, "the trial balance is 0", "ef" * 32))
    )
    assert "digest differs: 1" in said
    assert "Whole log: 3 exceptions; the trial balance is 0; report " + "ef" * 32 in said


def test_refused_attempts_are_counted_in_the_incident_and_outside_any():
    assert "Refused attempts: late 1; outside any incident in this time: unknown 1" in spoken(usual())


def test_the_verdict_names_signer_root_receipts_cosignatures_durability_and_the_copy():
    seen = replace(
        SEEN,
        receipts=3,
        receipts_to=18,
        cosignatures=1,
        cosigned_to=20,
        durability="durable",
        off_box="2 s behind",
    )
    said = spoken(usual(), known=Known(seen, None))
    assert "Entries: #1 to #20 verified" in said
    assert "Root: " + "ab" * 32 in said
    assert "Signed by: countersign/acme/00" in said
    assert "Held by others: 3 receipts up to #18; 1 cosignature up to #20" in said
    assert "Durability: durable\nOff-box copy: 2 s behind" in said
    assert "By kind: not reconciled" in said


def test_a_log_that_is_not_intact_says_so_first_in_large_with_the_first_bad_entry():
    bad = replace(
        SEEN, standing=Standing.NOT_INTACT, first_bad=17, last_seq=16, why="Entry 17: prev is wrong."
    )
    pdf = made(usual(), known=Known(bad, None))
    sizes = []
    pypdf.PdfReader(io.BytesIO(pdf)).pages[0].extract_text(
        visitor_text=lambda text, cm, tm, font, size: sizes.append((size, text))
    )
    size, text = max(sizes)
    assert "NOT INTACT: first bad entry #17" in text
    assert size >= 20
    assert "rests on these alone" in pages(pdf)[0]


def test_every_moment_stands_in_the_readers_zone_and_in_utc():
    tale = usual()
    detected = next(e for e in tale.entries if e.event == "Detected")
    said = spoken(tale)
    assert f"Detected: 2026-06-03 14:00:04.000 CAT (12:00:04.000 UTC) (#{detected.seq})" in said
    assert "Generated: 2026-06-03 15:00:00.000 CAT (13:00:00.000 UTC) by Rudo M.; zone Africa/Harare" in said


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "\x00"])
def test_a_zone_that_is_none_is_named(zone):
    with pytest.raises(BadZone, match="no time zone"):
        Times(zone)


def test_another_utc_day_is_named():
    assert (
        Times("Asia/Tokyo").full(NOON_MS + 4 * 3_600_000)
        == "2026-06-04 01:00:00.000 JST (2026-06-03 16:00:00.000 UTC)"
    )


def test_a_denied_request_says_who_denied_it_and_that_nothing_ran():
    tale = Tale()
    tale.begins()
    tale.says(TENDAI, ev.Denied(incident_id=NAME, ref=tale.asks(), words="w"))
    said = spoken(tale)
    assert "Denied by: Tendai (tendai) denied" in said
    assert "Outcome: nothing was authorized, so nothing ran" in said
    assert "Why it was met: not met" in said


def test_the_clock_offset_is_the_newest_that_was_measured():
    tale = Tale()
    for offset in (40, -3):
        tale.says(BOT, ev.Watched(due=720, made=700, missed=20, clock_offset_ms=offset, clock="redis"))
    tale.begins()
    assert "Clock offset: -3 ms against redis, 2026-06-03 14:00:02 (#2)" in spoken(tale)


# --- figures, recomputed ------------------------------------------------------------------------------

WILD = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


@st.composite
def tales(draw) -> Tale:
    """An incident with any number of pages, refusals and votes, any words, and any way to end."""
    tale = Tale()
    tale.begins(reason=draw(WILD))
    for kind in draw(st.lists(st.sampled_from(["late", "again", "not_entitled"]), max_size=4)):
        tale.says(BOT, ev.Refused(incident_id=NAME, kind=kind), draw(st.integers(0, 10**7)))
    for reached in draw(st.lists(st.booleans(), max_size=4)):
        kind = ev.Paged if reached else ev.PageFailed
        tale.says(BOT, kind(incident_id=NAME, recipient="rudo", channel="telegram"))
    if draw(st.booleans()):
        tale.says(TENDAI, ev.Denied(incident_id=NAME, ref=tale.asks(reason=draw(WILD))))
        tale.says(RUDO, ev.AskedAgain(incident_id=NAME))
    request = tale.asks(reason=draw(WILD))
    if draw(st.booleans()):
        tale.runs(request, draw(st.sampled_from([(RUDO,), (RUDO, TENDAI), (TENDAI, RUDO)])))
    return tale


def raw(tale: Tale) -> list[dict]:
    return [json.loads(entry.line) for entry in tale.entries if entry.incident_id]


@settings(max_examples=60, deadline=None)
@given(tales())
def test_every_figure_of_an_incident_is_what_its_entries_say(tale: Tale):
    entries, gathered = raw(tale), tale.gathered(Scope(NAME))
    found = case(gathered.incidents[0], gathered, TEXTS)
    of = Counter(entry["event"] for entry in entries)
    assert (found.paged, found.unpaged) == (of["Paged"], of["PageFailed"])
    assert found.requests == of["Validated"]
    assert found.attempts == of["ExecutionStarted"]
    assert found.refused == Counter(e["data"]["kind"] for e in entries if e["event"] == "Refused")
    assert len(found.deeds) == sum(e["actor"]["kind"] == "engineer" for e in entries)
    assert [moment.at_ms for moment in found.moments] == sorted(moment.at_ms for moment in found.moments)
    by_seq = {entry["seq"]: entry for entry in entries}
    assert all(NOON.fromisoformat(by_seq[m.seq]["ts"]).timestamp() * 1000 == m.at_ms for m in found.moments)
    yes = [entry for entry in entries if entry["event"] == "Authorized"]
    assert bool(found.authorized) == bool(yes)
    if yes:
        assert found.request.seq == yes[-1]["ref"]["seq"]
        assert [s.met for s in found.shares] == [len(yes[-1]["data"]["voters"]) == 2, True]


@settings(max_examples=40, deadline=None)
@given(st.lists(tales(), min_size=1, max_size=3), st.integers(0, 60_000), st.integers(1, 60_000))
def test_every_figure_of_a_period_is_counted_from_the_entries_in_it(told, start, length):
    (tale, *_), scope = told, Scope(from_ms=NOON_MS + start, to_ms=NOON_MS + start + length)
    inside = [
        e for e in raw(tale) if scope.from_ms <= NOON.fromisoformat(e["ts"]).timestamp() * 1000 < scope.to_ms
    ]
    found = period(tale.gathered(scope), scope)
    assert found.counts == Counter(entry["event"] for entry in inside)
    assert found.opened == sum(entry["event"] == "Detected" for entry in inside)
    assert len(found.incidents) == bool(inside)
    voted = [
        e["actor"]["id"] for e in inside if e["event"] in {"Approved", "Authorized", "Denied", "Withdrawn"}
    ]
    assert found.votes == Counter(voted)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=6),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_minutes_without_a_process_are_those_that_no_process_covers(spans, one, other):
    first, last = sorted((one, other))
    signs = [Sign(str(n), min(span), max(span), stopped=True) for n, span in enumerate(spans)]
    covered = {ms for span in spans for ms in range(min(span), max(span))}
    assert absent(signs, first, last) == len(set(range(first, last)) - covered)


# --- what may not break it ----------------------------------------------------------------------------


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tales())
def test_any_incident_has_its_head_on_one_page_and_the_same_bytes_twice(tale: Tale):
    pdf = made(tale)
    first, second, *_ = pages(pdf)
    assert all(title in first for title in SECTIONS)
    assert "Prepared by" in first
    assert SECTIONS[0] not in second
    assert made(tale) == pdf


def worst() -> Tale:
    """Everything as long as an entry can hold."""
    long, tale = "Lorem ipsum <b>dolor</b> & " * 150, Tale()
    options = tuple(
        OPTION.model_copy(
            update={"key": key, "title": long[:900], "request": "POST " + "x" * 1800, "impact": long[:800]}
        )
        for key in "123"
    )
    tale.begins(reason=long)
    for n in range(60):
        tale.says(BOT, ev.Refused(incident_id=NAME, kind=f"kind_{n}_{'k' * 40}"))
    request = tale.asks(options, reason=long[:1200])
    for n in range(30):
        tale.says(
            Actor.engineer(f"p{n}" + "n" * 200, "telegram"),
            ev.Approved(incident_id=NAME, option="1", ref=request),
        )
    tale.runs(request)
    return tale


def test_the_longest_incident_still_has_all_sections_on_one_page_and_says_what_was_cut():
    first = pages(made(worst()))[0]
    for kind in Kind:
        assert f"{kind}: 0" in " ".join(first.split())
    assert re.search(r"Authorized by\s+Rudo \(rudo\) authorized option 1, #97", first)
    assert re.search(r"idempotency key [0-9a-f]{64}\s", first)
    assert re.search(r"Request\s+1: POST x+… \(", first)
    assert re.search(r"Voted\s+p0n+", first)
    assert all(title in first for title in SECTIONS)
    assert re.search(r"… \(\d[\d,]* more\)", first)
    assert min(y for text, y in heights(made(worst())).items() if text) > 17


def test_the_sections_never_run_into_the_lines_to_sign():
    for tale in (usual(), worst()):
        at = heights(made(tale))
        signed = next(y for text, y in at.items() if text.startswith("Prepared by"))
        assert at["Receipts"] - signed > 20


def heights(pdf: bytes) -> dict[str, float]:
    """Where each text of the first page stands first, in points from its foot."""
    found = {}
    first = pypdf.PdfReader(io.BytesIO(pdf)).pages[0]
    first.extract_text(visitor_text=lambda text, cm, tm, font, size: found.setdefault(text.strip(), tm[5]))
    return found


def test_markup_in_foreign_text_stays_text():
    tale = Tale()
    tale.begins()
    tale.asks(reason='<b>bold</b> <a href="javascript:x">&amp; <img src="http://127.0.0.1/x"/>')
    pdf = made(tale)
    first = " ".join(pages(pdf)[0].split())
    assert '<b>bold</b> <a href="javascript:x">&amp; <img src="http://127.0.0.1/x"/>' in first
    assert b"/URI" not in pdf
    assert not pypdf.PdfReader(io.BytesIO(pdf)).pages[0].get("/Annots")


def test_what_has_no_glyph_or_turns_the_text_around_stands_as_its_number():
    tale = Tale()
    tale.begins()
    tale.asks(reason="Zoë – \u202egnp.exe 中文 عربي \u200b")
    first = " ".join(pages(made(tale))[0].split())
    assert "Zoë – [U+202E]gnp.exe [U+4E2D U+6587]" in first
    assert "[U+200B]" in first


@given(WILD)
def test_visible_text_has_nothing_invisible_and_loses_nothing_that_it_can_show(text):
    seen = visible(text, lambda one: one.isascii())
    assert seen.isascii()
    assert seen.isprintable()
    if text.isascii() and text.isprintable():
        assert seen == " ".join(text.split())


@given(st.text(st.sampled_from("ab c"), max_size=200), st.integers(20, 60), st.integers(1, 5))
def test_wrapped_text_keeps_every_letter_and_a_cut_says_how_many_are_gone(text, room, most):
    text = " ".join(text.split())
    lines = wrapped(text, room, len)
    assert all(len(one) <= room for one in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    kept = cut(lines, most, room, len)
    assert len(kept) <= most
    if len(lines) > most:
        said = re.search(r"(.*)… \(([\d,]+) more\)$", kept[-1])
        whole = sum(map(len, lines))
        assert sum(map(len, kept[:-1])) + len(said[1]) + int(said[2].replace(",", "")) == whole


# --- the receipt --------------------------------------------------------------------------------------


def modules(pdf: bytes) -> list[list[bool]]:
    """The QR code as it is painted: read from the rectangles of the page."""
    content = pypdf.PdfReader(io.BytesIO(pdf)).pages[0].get_contents().get_data().decode("latin-1")
    found = [tuple(map(float, m)) for m in re.findall(r"n (\S+) (\S+) (\S+) (\S+) re f", content)]
    size = min(h for *_, h in found)
    dark = [one for one in found if abs(one[3] - size) < 0.01]
    left, top = min(x for x, *_ in dark), max(y for _, y, *_ in dark)
    cells = {
        (round((top - y) / size), round((x - left) / size) + n)
        for x, y, w, _ in dark
        for n in range(round(w / size))
    }
    side = max(row for row, _ in cells) + 1
    return [[(row, column) in cells for column in range(side)] for row in range(side)]


MASKS = (
    lambda r, c: (r + c) % 2, lambda r, c: r % 2, lambda r, c: c % 3, lambda r, c: (r + c) % 3,
    lambda r, c: (r // 2 + c // 3) % 2, lambda r, c: r * c % 2 + r * c % 3,
    lambda r, c: (r * c % 2 + r * c % 3) % 2, lambda r, c: ((r + c) % 2 + r * c % 3) % 2,
)  # fmt: skip
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"


def decoded(code: list[list[bool]]) -> str:
    """What a QR code of version 2 says, of letters and digits alone (ISO/IEC 18004)."""
    assert len(code) == 25, "only version 2 is read here"
    mask = MASKS[(code[8][2] << 2 | code[8][3] << 1 | code[8][4]) ^ 0b101]
    aligned = {(r, c) for r in range(16, 21) for c in range(16, 21)}
    bits = ""
    for number, right in enumerate((24, 22, 20, 18, 16, 14, 12, 10, 8, 5, 3, 1)):
        for step in range(25):
            row = step if number % 2 else 24 - step
            for column in (right, right - 1):
                corner = (row < 9 and (column < 9 or column > 16)) or (row > 16 and column < 9)
                if not corner and row != 6 and column != 6 and (row, column) not in aligned:
                    bits += str(int(code[row][column] ^ (mask(row, column) == 0)))
    assert bits[:4] == "0010"
    count, at, text = int(bits[4:13], 2), 13, ""
    while len(text) + 1 < count:
        high, low = divmod(int(bits[at : at + 11], 2), 45)
        text, at = text + LETTERS[high] + LETTERS[low], at + 11
    return text + (LETTERS[int(bits[at : at + 6], 2)] if len(text) < count else "")


def test_the_qr_code_says_the_receipt_of_the_authorization_as_the_verifier_takes_it():
    tale = usual()
    yes = next(entry for entry in tale.entries if entry.event == "Authorized")
    pdf = made(tale)
    assert decoded(modules(pdf)) == f"{yes.seq}:{receipt(yes)}"
    assert f"--receipt {yes.seq}:{receipt(yes)}" in pages(pdf)[0]


# --- from an export and from a store ------------------------------------------------------------------


async def exported(folder):
    store = MemoryStore()
    told = await tell_story(store)
    await export(store, "acme", folder)
    return store, told


async def test_a_page_is_made_from_an_export_and_from_the_store_alike(tmp_path):
    store, told = await exported(tmp_path / "acme")
    outside = Outside({told[-1].seq: receipt(told[-1])})
    whole = page_from(tmp_path / "acme", Scope(NAME), MADE, outside)
    assert "INTACT UP TO #8" in pages(whole)[0]
    assert await page_of(store, "acme", Scope(NAME), MADE, outside) == whole


async def test_a_log_for_which_nobody_vouches_is_not_called_intact(tmp_path):
    await exported(tmp_path / "acme")
    first = pages(page_from(tmp_path / "acme", Scope(NAME), MADE))[0]
    assert "NOT CHECKABLE" in first
    assert "Nobody signed it" in first


async def test_a_receipt_that_differs_names_its_entry_and_the_page_rests_on_what_stands_before(tmp_path):
    await exported(tmp_path / "acme")
    wrong = Outside({6: "0000-0000-0000-0000"})
    first = pages(page_from(tmp_path / "acme", Scope(NAME), MADE, wrong))[0]
    assert "NOT INTACT: first bad entry #6" in first
    assert "#1 to #5 verified" in first
    assert "execution began" not in first.lower()


async def test_an_incident_that_the_log_does_not_tell_of_is_named(tmp_path):
    await exported(tmp_path / "acme")
    with pytest.raises(NoSuchIncident, match="checkout-9"):
        page_from(tmp_path / "acme", Scope("checkout-9"), MADE)


async def test_a_period_lists_its_incidents_after_one_page_of_figures(tmp_path):
    await exported(tmp_path / "acme")
    day = NOON.date()
    first, second = pages(page_from(tmp_path / "acme", days(day, day, "Africa/Harare"), MADE))[:2]
    assert "Authorized: 1" in first
    assert "Executed: 1 · OutcomeUnknown: 0 · StoodDown: 0 · WebhookFailed: 0" in first
    assert "Incidents" in second
    assert "restart_workers (#5)" in second


def test_a_day_is_the_readers():
    day = NOON.date()
    assert days(day, day, "Africa/Harare") == Scope(
        from_ms=NOON_MS - 14 * 3_600_000, to_ms=NOON_MS + 10 * 3_600_000
    )


# --- more than one of a kind --------------------------------------------------------------------------


def test_the_page_is_about_the_last_run_and_its_own_end():
    tale = Tale()
    tale.begins()
    request = tale.asks()
    yes = tale.says(RUDO, ev.Authorized(incident_id=NAME, option="1", action="restart", ref=request))
    tale.says(BOT, ev.ExecutionStarted(incident_id=NAME, attempt=1, by="bot.1", until_ms=1, ref=yes))
    tale.says(BOT, ev.Executed(incident_id=NAME, attempt=1, status=200, ref=yes))
    tale.says(POLICY, ev.NotRecovered(incident_id=NAME, before=READING, after=READING))
    tale.runs(tale.asks())
    gathered = tale.gathered(ABOUT)
    found = case(gathered.incidents[0], gathered, TEXTS)
    assert isinstance(found.end.event, ev.Verified)
    assert found.attempts == 1
    assert "one of 2 requests of this incident, the annex has all" in spoken(tale)


def test_the_end_of_an_earlier_run_is_not_that_of_one_still_running():
    tale = Tale()
    tale.begins()
    tale.runs(tale.asks())
    tale.says(POLICY, ev.Reopened(incident_id=NAME, reading=READING))
    request = tale.asks()
    yes = tale.says(RUDO, ev.Authorized(incident_id=NAME, option="1", action="restart", ref=request))
    tale.says(BOT, ev.ExecutionStarted(incident_id=NAME, attempt=1, by="bot.1", until_ms=1, ref=yes))
    tale.says(BOT, ev.Executed(incident_id=NAME, attempt=1, status=200, ref=yes))
    gathered = tale.gathered(ABOUT)
    found = case(gathered.incidents[0], gathered, TEXTS)
    assert found.end is None
    assert found.after is None


def test_an_account_that_was_linked_again_later_is_told_as_it_was():
    tale = usual()
    tale.says(TENDAI, ev.Linked(person="tendai", channel="whatsapp", identity="c1", issued_by="console"))
    assert "(#3) with a code issued by rudo" in spoken(tale)
    assert "issued by console" not in spoken(tale)


def test_a_period_ends_before_its_last_moment():
    tale = usual()
    at_ms = epoch_ms(next(entry for entry in tale.entries if entry.event == "Authorized").at)
    for from_ms, to_ms, count in (
        (0, at_ms, 0),
        (0, at_ms + 1, 1),
        (at_ms, at_ms + 1, 1),
        (at_ms + 1, at_ms + 9_999, 0),
    ):
        scope = Scope(from_ms=from_ms, to_ms=to_ms)
        assert period(tale.gathered(scope), scope).counts["Authorized"] == count


def test_a_cut_counts_what_it_takes_from_the_line_that_it_shortens():
    assert cut(["a" * 20, "b" * 20], 1, 20, len) == ["a" * 9 + "… (31 more)"]


async def test_a_text_that_is_not_the_adopted_one_makes_its_entry_the_first_bad_one(tmp_path):
    await exported(tmp_path / "acme")
    text = next(file for file in (tmp_path / "acme" / "texts").iterdir() if "tenant" in file.read_text())
    text.write_text(text.read_text() + " ")
    first = pages(page_from(tmp_path / "acme", ABOUT, MADE))[0]
    assert "NOT INTACT: first bad entry #1" in first
    assert "none could be verified" in first
    assert "no verified entry tells of it" in first


def test_the_same_page_has_the_same_bytes():
    assert made(usual()) == made(usual())


# --- who signed ---------------------------------------------------------------------------------------


def signed_folder(folder, entries, *, size=None, keys=("log",)):
    """A checkpoint of *entries* in *folder*, with the keys that it names; and their tree."""
    tree = Frontier()
    for entry in entries:
        tree = tree.append(bytes.fromhex(entry.hash))
    origin = "countersign/acme/0000000000000000"
    log, seen = Signer(origin, b"l" * 32), Witness("witness.example", b"w" * 32)
    checkpoint = Checkpoint(origin, size or tree.size, tree.root())
    note = signed(checkpoint, log) + seen.sign(checkpoint.text(), NOON_MS // 1000)
    (folder / "checkpoint").write_text(note)
    (folder / "keys.txt").write_text("".join({"log": log, "witness": seen}[key].vkey + "\n" for key in keys))
    return tree, log


def test_a_signature_counts_for_exactly_the_entries_that_are_here(tmp_path):
    tale = usual()
    tree, log = signed_folder(tmp_path, tale.entries)
    assert report_signed.signed(tmp_path, tree) == report_signed.Signed(log.name, log.vkey, 0)
    assert report_signed.signed(tmp_path, tree.append(b"\0" * 32)) == report_signed.Signed()
    signed_folder(tmp_path, tale.entries, size=tree.size + 1)
    assert report_signed.signed(tmp_path, tree) == report_signed.Signed()


def test_a_witness_counts_where_its_key_is_here_and_never_for_the_log_itself(tmp_path):
    tree, _ = signed_folder(tmp_path, usual().entries, keys=("log", "witness"))
    assert report_signed.signed(tmp_path, tree).others == 1
    tree, _ = signed_folder(tmp_path, usual().entries, keys=("witness",))
    assert report_signed.signed(tmp_path, tree) == report_signed.Signed()


@pytest.mark.parametrize("name", ["checkpoint", "keys.txt"])
@pytest.mark.parametrize("text", [b"", b"\xff", b"a\n1\nb\n", None])
def test_a_note_or_key_that_cannot_be_read_was_signed_by_nobody(tmp_path, name, text):
    tree, _ = signed_folder(tmp_path, usual().entries)
    (tmp_path / name).unlink() if text is None else (tmp_path / name).write_bytes(text)
    assert report_signed.signed(tmp_path, tree) == report_signed.Signed()


async def test_a_signed_export_is_intact_and_its_key_stands_on_the_page(tmp_path):
    store = MemoryStore()
    told = await tell_story(store, signer=OLD)
    await export(store, "acme", tmp_path / "acme")
    first = pages(page_from(tmp_path / "acme", ABOUT, MADE))[0]
    assert "INTACT UP TO" not in first
    assert "NOT " not in first[: first.index("1. Title")]
    assert vkey([entry.line for entry in told], OLD) in first.replace("\n", "")
