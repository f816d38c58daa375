"""The one-line answers to a tap: what happened, or why nothing did. At most 200 characters each.

Every one says which it is, and what the person can do next. Times are given as the reader's own clock shows
them (`bot.words.hm`, `hms`); names are the charter's. `TOAST` names those that need no box.
"""

from collections.abc import Mapping, Sequence

from bot.words import about, cap, listed

MOST = 200
_NAME = 24
_TITLE = 40


def _fit(text: str) -> str:
    return cap(text, MOST)


def _who(name: str) -> str:
    return cap(name, _NAME) or "somebody"


def won(title: str, at: str, seq: int) -> str:
    """The vote that met the quorum."""
    return f"Approved {at}. “{cap(title, _TITLE)}” is running. #{seq}"


def counted(have: int, need: int, title: str, seq: int) -> str:
    """A vote that did not yet meet it."""
    return f"Your approval counts: {have} of {need} for “{cap(title, _TITLE)}”. Nothing runs yet. #{seq}"


def again_same(at: str, have: int, need: int) -> str:
    """The same person, the same choice, twice."""
    return (
        f"You approved this already, {at}: {have} of {need}. It needs somebody else. /withdraw takes it back."
    )


def withdrawn(have: int, need: int) -> str:
    return (
        f"Your approval is taken back: {have} of {need} now. Nothing runs. Approve on the card counts anew."
    )


def no_vote(service: str) -> str:
    """Nothing to take back."""
    return f"You stand for nothing that is asked for {_who(service)} now. Nothing was changed."


def used_link() -> str:
    """A link, or a copy of one, that decided before."""
    return "This link decided once and decides nothing more. /approve gives you a new one. Nothing was run."


def rules_changed(what: str) -> str:
    """*what* is charter or policy. The request dies with the rules under which it was made."""
    return (
        f"Not run: the {_who(what)} changed after you were asked. "
        "Tap Deny, then Ask again: the new request is made under the new one."
    )


def late_open(late_ms: int) -> str:
    return f"Too late by {about(late_ms)}, nothing was run. Renewed with fresh numbers: tap Approve again."


def late_unasked(late_ms: int) -> str:
    """Too late, and only looked at: nothing was renewed."""
    return f"Too late by {about(late_ms)}, nothing was run. Send /ask in the chat to have it asked again."


def late_solved(service: str, recovered_at: str, who: str = "", approved_at: str = "") -> str:
    if not who:
        return f"Nothing to do: {_who(service)} recovered by itself at {recovered_at}. Nothing was run."
    ran = f"{_who(who)} approved at {approved_at}"
    return f"Nothing to do: {ran} and {_who(service)} recovered at {recovered_at}."


def closed(service: str, at: str, who: str = "") -> str:
    """A person closed it."""
    return f"Nothing to do: {_who(service)} was closed by {_who(who) if who else 'policy'} at {at}."


def second_same(who: str, at: str) -> str:
    return f"{_who(who)} was first, {at}. It runs once. Yours is noted."


def second_other(who: str, at: str, theirs: str, yours: str) -> str:
    """Another option won. *theirs* and *yours* are the options' keys, A and B."""
    return (
        f"{_who(who)} trusted theory {theirs} at {at}, it is running. {yours} was not run. "
        f"If {theirs} fails, {yours} is offered again."
    )


def denied(at: str, seq: int) -> str:
    return f"Denied {at}. Nothing runs. Ask again on the card renews it. #{seq}"


def trusted_without_action(theory: str, at: str, seq: int) -> str:
    return f"Noted {at}: you trust theory {theory}, which runs nothing. You look yourself. #{seq}"


def already_denied(who: str, at: str) -> str:
    return f"{_who(who)} denied it at {at}. Nothing was run. Ask again renews it with fresh numbers."


def deny_after_approve(who: str, at: str) -> str:
    return (
        f"Too late to deny: approved by {_who(who)} {at}, request already sent. /pause stops what comes next."
    )


def nothing_asked(service: str) -> str:
    """A vote where no request stands."""
    return f"Nothing is asked for {_who(service)} now, and nothing was run. /incident shows where it stands."


def superseded(service: str) -> str:
    """A tap on a request that a newer one replaced."""
    older = f"That was an older request for {_who(service)}, nothing was run."
    return f"{older} The newest card has the live buttons."


def not_entitled(approve: str, names: Sequence[str]) -> str:
    """*approve* is the charter's quorum, such as "1 oncall or 2 dev"."""
    roles = " or ".join(part.split(" ", 1)[-1] for part in approve.split(" or ") if part.strip())
    if not roles or not names:
        return "Nobody may approve this: the charter names no approver. Ask an admin. Your tap is on record."
    can = listed([cap(name, 16) for name in names[:3]])
    return _fit(f"You are not an approver of this ({roles} needed). {can} can. Your tap is on record.")


def bare_yes() -> str:
    return (
        "A bare yes approves nothing: it does not say what. Tap the card, or send its code, "
        "such as RUN 4812. Nothing was run. Your word is on record."
    )


def own_proposal() -> str:
    return "You proposed this yourself, so somebody else must approve it. Your tap is on record."


def unknown_person() -> str:
    return "I do not know you. Ask an admin for a /link code. Your tap is on record."


def forged() -> str:
    return "This button is not one I made for this chat. Nothing was run. Your tap is on record."


def forwarded() -> str:
    return (
        "This is a forwarded copy. Tap on the card in its own chat. Nothing was run. Your tap is on record."
    )


def second_tap() -> str:
    """High risk: the exact request is shown in private."""
    return "High risk: nothing runs yet. I sent you the full request in private. Tap there to approve it."


GLASS: Mapping[str, str] = {
    "group": "Only in a private chat: send it to me there. Nothing was run.",
    "no_reason": "Nothing was run. Say why behind the action, in ten characters or more: it is kept.",
    "no_glass": "You may not break the glass: the charter's break_glass does not name you. It is on record.",
    "no_need": "No glass needs breaking: your own approval is enough. Tap Approve on the card.",
    "second_look": "Look twice: this approves alone what needs more people. Nothing runs yet.",
}
"""What is said of a break-glass that does not go through, or not yet."""


def code_wanted() -> str:
    """High risk, and the charter asks for a one-time code with it."""
    return "Nothing runs yet. Send me the six digits of your authenticator app, in private."


NO_CODE: Mapping[str, str] = {
    "no_totp": "This needs a one-time code, and you have no second factor. Send me /totp in private first.",
    "wrong_totp": "That is not the code of this half minute. Nothing was run. Send the next one, or /cancel.",
    "used_totp": "That code was used. Nothing was run. Wait for the next one and send that.",
    "locked_totp": "Too many wrong codes: none counts for 15 minutes. Nothing was run. Others can approve.",
}
"""Why a one-time code did not count, by the refusal's kind."""


def open_the_bot() -> str:
    """High risk, and no private chat with this person."""
    return "High risk: open me in private, send /start, then tap here again. Nothing was run."


STOOD_DOWN: Mapping[str, str] = {
    "recovered": "the service recovered before it was sent",
    "lapsed": "your approval was over 60 s old before it could be sent. Ask again, then tap",
    "superseded": "a newer request replaced this one",
    "paused": "everything is paused. /resume ends it",
    "maintenance": "the service is in maintenance",
    "deploy": "the deploy changed after you were asked. Look again, then tap",
    "charter": "the charter changed after you were asked. Look again, then tap",
    "policy": "the policy changed after you were asked. Look again, then tap",
    "entitled": "the approver is no longer entitled",
    "withdrawn": "the approval was withdrawn",
    "not_durable": "the ledger may lose entries. Nothing runs until it cannot",
}
"""Why an approved action was not sent, by StoodDown's `why`."""


def stood_down(why: str, detail: str = "") -> str:
    """`Not run: checkout recovered 20 s ago.` *detail*, where given, stands instead of the general words."""
    said = (detail or STOOD_DOWN.get(why, why)).removeprefix("Not run: ").rstrip(".")
    return _fit(f"Not run: {said}.")


def ledger_away() -> str:
    return "Not run: the ledger cannot be written. Nothing runs until it can. Retry in a minute."


def ledger_sealed() -> str:
    return "Not run: the ledger is sealed, its tail is not ours. Nothing runs until a person has looked."


def slow() -> str:
    """After 1.5 s. The verdict follows as a message."""
    return "Received, deciding. The answer follows here."


def renewed(at: str) -> str:
    return f"Asked again {at} with fresh numbers. It runs nothing; the new Approve does."


def acknowledged(until: str) -> str:
    return f"You are on it. No more calls until {until}; nothing else changes, the request stays open."


def already_acknowledged(who: str, at: str) -> str:
    return f"{_who(who)} is on it since {at}. Now you are, too."


def not_an_incident() -> str:
    return "Closed as not an incident, and so counted in /policy. Nothing was run. It opens again if worse."


def noted_not_an_incident() -> str:
    """Said of one that is over."""
    return "Noted: not an incident. It counts in /policy and changes nothing else."


def new_normal(*, is_open: bool) -> str:
    learned = "Noted: this is the new normal. What is usual is learned anew from now."
    return f"{learned} Once a minute was quiet it closes by itself." if is_open else learned


def said_already() -> str:
    return "You said that already. It is on record once, and counted once."


def older(service: str, newest: str) -> str:
    """A new normal is said of the newest incident of a service."""
    return _fit(f"{_who(service)} has a newer incident: say it of that one. /feedback {newest} normal")


def no_new_normal(service: str) -> str:
    """Policy saw it recover: what is seen now is what was usual before."""
    over = f"{_who(service)} recovered, so what is seen now is the old normal: nothing was changed"
    return f"{over}. If it was no incident, say so: Not an incident, on its card."


def not_learned(signal: str) -> str:
    """Nothing is learned there that could be learned anew."""
    what = "Only what is usual in latency, traffic and hangs is learned"
    return _fit(f"{what}, not {signal or 'this'}. Its thresholds are the charter's [policy]: /policy.")


def in_flight(who: str) -> str:
    """Closing while something runs."""
    return f"Not closed: what {_who(who)} approved is running. Its outcome comes first, in seconds."


def escalated(names: Sequence[str]) -> str:
    if not names:
        return "There is nobody else to wake: the charter names no other on-call."
    return _fit(f"Waking {listed([_who(name) for name in names[:4]], 'and')} now.")


def cause_noted(theory: str, *, right: bool) -> str:
    what = f"theory {theory}" if theory else "the cause"
    return f"Noted: {what} was {'right' if right else 'wrong'}. It counts in /council."


def adopted(at: str) -> str:
    return f"Charter in force since {at}."


def nothing_known(what: str) -> str:
    """The thing that the button is about is not there."""
    return _fit(f"I find no {what} here. Nothing was run. /incidents lists what is open.")


def failed() -> str:
    return "That went wrong on my side, nothing was run. Retry, or send /status."


TOAST = frozenset({"won", "counted", "slow", "acknowledged", "cause_noted", "renewed", "denied"})
"""The phrases that need no box: they confirm. All others ask for attention."""
