"""What is sent for a run: by which method, where to, with which body and which secret. Pure.

* A webhook of the charter's: a POST that is signed, and that names who approved it.
* GitHub: `workflow_dispatch` of one workflow on one branch; the parameters are its inputs.
  docs.github.com/rest/actions/workflows#create-a-workflow-dispatch-event
* Heroku: a restart of one dyno, or of all.
  devcenter.heroku.com/articles/platform-api-reference#dyno-restart

The last two know no signature and no idempotency key: a token says who asks, and asking twice runs it twice.
"""

from dataclasses import dataclass

from handlers.charter import Action
from handlers.charter_action import GITHUB, HEROKU
from handlers.ports import Call
from handlers.preconditions import Case
from ledger.chain import canonical
from sdk import signature

_GITHUB = {"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"}
_HEROKU = {"accept": "application/vnd.heroku+json; version=3"}


@dataclass(frozen=True, slots=True)
class Vendors:
    """Where the vendors' programs listen, without a slash at the end."""

    github: str = GITHUB
    heroku: str = HEROKU


REAL = Vendors()


def key_of(action: Action, secret: bytes | None) -> bytes | None:
    """What *action*'s calls are made with, from the secret that it names; None where that is unset or broken.

    For a webhook it is the HMAC key, for a vendor the token.
    """
    if not secret:
        return None
    try:
        text = secret.decode()
        if action.webhook:
            return signature.key_of(text)
    except UnicodeDecodeError:
        return secret if action.webhook else None
    except ValueError:
        return None
    token = text.strip()
    return token.encode() if token and token.isascii() and token.isprintable() and " " not in token else None


def call(case: Case, action: Action, key: bytes, attempt: int, now_ms: int, vendors: Vendors) -> Call:
    """The request. Its body and key are the same at each try, so that a receiver can tell that it is one."""
    url, body, headers = _sent(case, action, vendors)
    return Call(
        url=url,
        body=body,
        secret=key,
        message_id=f"cs_{case.fact.hash[:32]}",
        timestamp=now_ms // 1000,
        idempotency_key=case.fact.hash,
        allow_networks=case.charter.tenant.allow_networks if case.charter else (),
        headers={"countersign-attempt": str(attempt), **headers},
        method=action.method,
        bearer=not action.webhook,
    )


def _sent(case: Case, action: Action, vendors: Vendors) -> tuple[str, bytes, dict[str, str]]:
    inputs = {one.name: one.value for one in case.given}
    if action.github:
        wanted: dict[str, object] = {"ref": action.github.branch}
        body = wanted | {"inputs": inputs} if inputs else wanted
        return vendors.github + action.github.path, canonical(body), _GITHUB
    if action.heroku:
        return vendors.heroku + action.heroku.path, b"", _HEROKU
    return action.webhook, canonical(_told(case, action)), {}


def _told(case: Case, action: Action) -> dict[str, object]:
    """What a webhook of ours is told."""
    fact, voters = case.fact, case.authorized.voters or (case.fact.actor.id,)
    body: dict[str, object] = {
        "tenant": case.view.tenant,
        "incident": case.incident.id,
        "service": case.incident.service,
        "action": action.id,
        "cause": case.authorized.cause.value,
        "authorization": {"seq": fact.seq, "hash": fact.hash},
        "approved_by": list(voters),
        "approved_at_ms": fact.at_ms,
    }
    if case.given:
        body["parameters"] = {one.name: one.value for one in case.given}
    if action.change_ref:
        body["change_ref"] = action.change_ref
    return body
