"""The HTML of the approval pages: plain, under ten kilobytes, no script, readable on a small phone.

Every text is escaped here and nowhere else. A page says first what it asks or what happened, then why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape

STYLE = (
    "body{font:17px/1.5 system-ui,sans-serif;margin:0 auto;max-width:34em;padding:1em;color:#111;"
    "background:#fff;overflow-wrap:anywhere}h1{font-size:1.3em;line-height:1.25}"
    "dt{color:#555;font-size:.85em;margin-top:.9em}dd{margin:0}code{font-size:.9em}"
    "button{font:inherit;font-weight:600;width:100%;min-height:3em;margin-top:1.2em;border:0;"
    "border-radius:.5em;background:#0a6b3d;color:#fff}button.no{background:#8c1d18}"
    "input{font:inherit;width:100%;box-sizing:border-box;padding:.5em;margin-top:.3em}"
    ".small{color:#555;font-size:.85em}.state{font-weight:600}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#111}dt,.small{color:#aaa}}"
)

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


@dataclass(frozen=True, slots=True)
class Form:
    """The one button of a page. One that denies has a line above it in which a reason may be typed.

    *action* is where it goes, seen from the page; *seen* is the digest of what the page shows; *code* whether
    it asks for the six digits of a second factor.
    """

    token: str
    label: str
    denies: bool = False
    seen: str = ""
    action: str = "recover/confirm"
    code: bool = False


@dataclass(frozen=True, slots=True)
class Paper:
    """What a page says: a title, one sentence on how things stand, rows of name and value, small print."""

    title: str
    state: str
    rows: Sequence[tuple[str, str]] = ()
    form: Form | None = None
    small: Sequence[str] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of what it says, without how things stand at this second."""
        said = [self.title, *(part for row in self.rows for part in row), *self.small]
        return sha256("\n".join(said).encode()).hexdigest()

    def html(self) -> str:
        title = escape(self.title)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<meta name="robots" content="noindex"><title>{title}</title><style>{STYLE}</style></head>'
            f'<body><h1>{title}</h1><p class="state">{escape(self.state)}</p>{self._rows()}{self._form()}'
            f"{''.join(f'<p class="small">{escape(line)}</p>' for line in self.small)}</body></html>"
        )

    def _rows(self) -> str:
        rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in self.rows)
        return f"<dl>{rows}</dl>" if rows else ""

    def _form(self) -> str:
        if self.form is None:
            return ""
        reason = '<label>Why? <input name="reason" maxlength="500" autocomplete="off"></label>'
        code = (
            '<label>Six digits of your authenticator app <input name="code" inputmode="numeric" '
            'maxlength="7" autocomplete="one-time-code"></label>'
        )
        kind = ' class="no"' if self.form.denies else ""
        return (
            f'<form method="post" action="{escape(self.form.action)}">'
            f'<input type="hidden" name="token" value="{escape(self.form.token)}">'
            f'<input type="hidden" name="seen" value="{escape(self.form.seen)}">'
            f"{reason if self.form.denies else ''}{code if self.form.code else ''}"
            f"<button{kind}>{escape(self.form.label)}</button></form>"
        )
