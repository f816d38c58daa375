"""`python -m bot templates`: makes the four templates at Twilio and hands them to WhatsApp for approval.

It may be run again at any time: what is there already is found and only reported on. A changed wording is a
new content, and needs a new approval.
"""

from collections.abc import Callable

from bot.channels.twilio_api import Approval, TwilioApi
from bot.channels.whatsapp_contents import content, digest, same
from bot.letters import TEMPLATES
from bot.ports import SendError
from bot.settings import Twilio

NOT_SET = "Set TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and TWILIO_WHATSAPP_FROM first."
REFUSED = frozenset({"rejected", "paused", "disabled"})

type Print = Callable[[str], None]


def variable(name: str) -> str:
    """The setting that names a template's content: TWILIO_CONTENT_SID_REQUEST of cs_request."""
    return f"TWILIO_CONTENT_SID_{name.removeprefix('cs_').upper()}"


async def make_templates(settings: Twilio | None, show: Print) -> int:
    """Make what is missing, and *show* the settings to be made and how each review stands.

    Returns 0, or 1 where Twilio or WhatsApp refuses something, or 2 where no account is set.
    """
    if settings is None:
        show(NOT_SET)
        return 2
    api = TwilioApi(settings)
    try:
        return await _make_all(api, show)
    except SendError as error:
        show(f"# {error}")
        return 1
    finally:
        await api.close()


async def _make_all(api: TwilioApi, show: Print) -> int:
    found, refused = await api.contents(), 0
    for name, template in TEMPLATES.items():
        wanted = content(name, template)
        sid = next((str(one["sid"]) for one in found if same(one, wanted)), "")
        sid = sid or await api.make_content(wanted)
        stands = await _submitted(api, sid, f"{name}_{digest(wanted)}")
        show(f"{variable(name)}={sid}")
        show(f"# {name}: {stands.status}{': ' + stands.why if stands.why else ''}")
        refused += stands.status in REFUSED
    return 1 if refused else 0


async def _submitted(api: TwilioApi, sid: str, name: str) -> Approval:
    stands = await api.approval(sid)
    return await api.submit(sid, name) if stands.status == "unsubmitted" else stands
