"""The HTML of the auditor's pages: rows, filter, files, the verdict on top. No script, every text escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import urlencode

from bot.paper import STYLE
from bot.words import at, cap
from ledger.chain import Entry, receipt
from ledger.rows import row
from ledger.view import epoch_ms

TABLE = (
    "body{max-width:70em}table{border-collapse:collapse;width:100%;font-size:.85em}"
    "th,td{text-align:left;vertical-align:top;padding:.35em .5em;border-bottom:1px solid #8884}"
    "td code{white-space:nowrap}form{display:inline-block;margin:0 .6em .6em 0}"
    "form button{width:auto;min-height:2.4em;padding:0 1em;margin:0}form input{width:16em}"
    ".bad{background:#8c1d18;color:#fff;padding:.6em}"
)
HEADINGS = ("#", "when", "incident", "stage", "what", "who", "decision and reason", "receipt")


@dataclass(frozen=True, slots=True)
class Sheet:
    """One page of rows, newest first. *older* is the `before` of the next one, 0 where there is none."""

    tenant: str
    zone: str
    token: str
    scope: str
    verdict: str
    intact: bool
    rows: Sequence[Entry]
    older: int = 0
    wrong: str = ""
    files: Sequence[str] = ()

    def html(self) -> str:
        title = escape(f"Ledger of {self.tenant}: {self.scope}")
        verdict = f'<p class="state{"" if self.intact else " bad"}">{escape(self.verdict)}</p>'
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<meta name="robots" content="noindex"><title>{title}</title>'
            f"<style>{STYLE}{TABLE}</style></head><body><h1>{title}</h1>{verdict}{self._filter()}{self._files()}{self._table()}{self._older()}"
            f'<p class="small">Times are of {escape(self.zone)}. Read-only. What you read and take is on '
            "record.</p></body></html>"
        )

    def _filter(self) -> str:
        wrong = f'<p class="bad">{escape(self.wrong)}</p>' if self.wrong else ""
        shown = "" if self.scope == "all" else self.scope
        return (
            f'{wrong}<form method="get">{_hidden("token", self.token)}'
            f'<input name="of" value="{escape(shown)}" placeholder="incident, person or day" '
            'aria-label="Incident, person or day"> <button>Show</button></form>'
        )

    def _files(self) -> str:
        return "".join(
            f'<form method="post" action="audit/file">{_hidden("token", self.token)}'
            f"{_hidden('what', what)}{_hidden('of', self.scope)}<button>{escape(what)}</button></form>"
            for what in self.files
        )

    def _table(self) -> str:
        if not self.rows:
            return "<p>No entry.</p>"
        head = "".join(f'<th scope="col">{name}</th>' for name in HEADINGS)
        body = "".join(self._row(entry) for entry in reversed(self.rows))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _row(self, entry: Entry) -> str:
        found = row(entry)
        who = found["actor_id"] if found["actor"] == "engineer" else f"{found['actor']} {found['actor_id']}"
        sure = "" if found["confidence"] is None else f" ({found['confidence']:g})"
        said = cap(": ".join(filter(None, (entry.decision, entry.reason))), 200) + sure
        when = f"{at(epoch_ms(entry.at), self.zone):%Y-%m-%d %H:%M:%S}"
        cells = (entry.seq, when, found["incident_id"], found["stage"], entry.event, who, said)
        plain = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
        return f"<tr>{plain}<td><code>{receipt(entry)}</code></td></tr>"

    def _older(self) -> str:
        if not self.older:
            return ""
        ask = urlencode({"token": self.token, "of": self.scope, "before": self.older})
        return f'<p><a href="?{escape(ask)}">Older</a></p>'


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{name}" value="{escape(value)}">'
