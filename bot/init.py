"""`python -m bot init`: from a clone to one's own phone. It asks for a bot token and a health address.

1. What exists is not overwritten without `--force`; then its secrets are kept, because the ledger knows them.
2. Nothing is written before Telegram has taken the token and the charter was read back.
3. The secrets are made here, into a file that its owner alone can read.
4. Whoever opens the printed link first is the admin: the code in it is the console's.
"""

import json
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from bot.channels.telegram import API, speaking
from bot.ports import SendError
from bot.roster import console_code
from bot.settings import DOTENV, LEAST_SECRET, NAMES, kept_in
from bot.state import EnvironmentSecrets
from bot.tokens import Tokens
from bot.words import listed
from detectors.policy import Policy
from detectors.verdict import ServiceState, judge
from detectors.window import Tick
from handlers.adapters.health import HttpHealth
from handlers.charter import Charter, CharterError, parse
from handlers.ports import PortError
from ledger.clock import WallClock
from ledger.view import epoch_ms

Say = Callable[[str], None]
Ask = Callable[[str], str]

CHARTER = "charter.toml"
MADE = ("ALERT_SECRET", "LEDGER_KEY", "TELEGRAM_WEBHOOK_SECRET")
MOST_ROUTES = 5
PRIVATE = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
LOCALTIME = Path("/etc/localtime")


class CannotBegin(Exception):
    """Nothing was written. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator wants: an empty text is asked for, or left out."""

    folder: Path
    token: str = ""
    health_url: str = ""
    team: str = "home"
    name: str = "app"
    webhook: str = ""
    timezone: str = ""
    api_base: str = API
    force: bool = False

    @property
    def prefix(self) -> str:
        """What the names of this team's and service's secrets begin with."""
        return f"{self.team}_{self.name}".upper().replace("-", "_")


async def init(wishes: Wishes, ask: Ask, say: Say) -> None:
    """Write `.env` and `charter.toml`, and say what to do next. Raises CannotBegin."""
    kept = _what_is_there(wishes)
    token = wishes.token or ask("Telegram bot token (from @BotFather, such as 123456:ABC…): ").strip()
    health_url = wishes.health_url or ask("Health address of your app (such as https://…/health/alerts): ")
    made = {name: kept.get(name) or secrets.token_urlsafe(LEAST_SECRET) for name in _needed(wishes)}
    text = charter_text(wishes, health_url.strip())
    charter = _read(text)
    bot = await _bot_name(token, wishes.api_base, made["ALERT_SECRET"].encode())
    say(f"Telegram knows this bot: @{bot}.")
    say(await _first_look(charter, made))
    _write_private(wishes.folder / DOTENV, _dotenv(kept | made | _told(wishes, token)))
    (wishes.folder / CHARTER).write_text(text, encoding="utf-8")
    _say_next(wishes, bot, console_code(made["ALERT_SECRET"].encode(), wishes.team), say)


def _say_next(wishes: Wishes, bot: str, code: str, say: Say) -> None:
    say(f"Written: {wishes.folder / DOTENV} (secrets, for your eyes alone) and {wishes.folder / CHARTER}.")
    if not wishes.webhook:
        say(f"Nothing can be run yet: name an action in {CHARTER} when you have a recovery webhook.")
    say("Now, both in any order:")
    say("  start: python -m bot")
    say(f"  open on your phone: https://t.me/{bot}?start={code}")
    say("Whoever opens that link first is the admin, so keep it to yourself.")


def _what_is_there(wishes: Wishes) -> dict[str, str]:
    """The settings of an earlier `init`. Raises CannotBegin where they are not to be touched."""
    there = [name for name in (DOTENV, CHARTER) if (wishes.folder / name).exists()]
    if there and not wishes.force:
        verb = "is" if len(there) == 1 else "are"
        raise CannotBegin(
            f"{listed(there, 'and')} {verb} in {wishes.folder} already, and nothing was changed. "
            "Start with `python -m bot`, or overwrite with --force; its secrets are kept then."
        )
    return kept_in(wishes.folder / DOTENV)


def _needed(wishes: Wishes) -> tuple[str, ...]:
    return (*MADE, f"{wishes.prefix}_RECOVERY") if wishes.webhook else MADE


def _told(wishes: Wishes, token: str) -> dict[str, str]:
    base = {} if wishes.api_base == API else {"TELEGRAM_API_BASE": wishes.api_base}
    return {"TELEGRAM_BOT_TOKEN": token, "CHARTER": CHARTER, **base}


async def _bot_name(token: str, api_base: str, secret: bytes) -> str:
    """The bot's name, as Telegram says it. Raises CannotBegin."""
    try:
        async with speaking(token, api_base, Tokens(secret, WallClock())) as channel:
            return await channel.me()
    except SendError as error:
        remedy = (
            "Copy it again from @BotFather." if error.permanent else "Is this machine online? Then try again."
        )
        raise CannotBegin(f"Telegram does not take this token ({error}). {remedy}") from error


async def _first_look(charter: Charter, environment: Mapping[str, str]) -> str:
    """What one poll of the charter's only service sees, in a line."""
    service, health = charter.services[0], HttpHealth(EnvironmentSecrets(environment))
    now_ms = epoch_ms(WallClock().now())
    try:
        polled = await health.poll(charter, service, 0, now_ms)
    except PortError as error:
        return (
            f"{service.id} {error} at {service.health_url}. It is written down all the same: instrument the "
            f"app, or correct the address in {CHARTER}, before you start."
        )
    finally:
        await health.close()
    return f"{service.id} answers. {seen(polled.tick)}"


def seen(tick: Tick) -> str:
    """What one poll brought: score, traffic, and the busiest routes."""
    _, verdict = judge(ServiceState(), tick, Policy(), open_incident=False)
    numbers = verdict.numbers
    busiest = sorted(tick.routes, key=lambda route: -route.n)[:MOST_ROUTES]
    routes = ", ".join(f"{route.name} ({route.n})" for route in busiest) or "none was asked for yet"
    return (
        f"Score {verdict.score}/100, {numbers.rps_milli / 1000:.1f} requests a second, "
        f"{numbers.error_permille / 10:g} % errors, p95 {numbers.p95_ms} ms. Routes: {routes}."
    )


def _dotenv(settings: Mapping[str, str]) -> str:
    """The settings as the lines of a `.env`, each as it is: nothing between single quotes is expanded."""
    lines = [f"{name}='{_quoted(value)}'" for name, value in sorted(settings.items())]
    return "\n".join(["# Made by `python -m bot init`. Keep it secret, and keep a copy.", *lines, ""])


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _write_private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(text, encoding="utf-8")


def _read(text: str) -> Charter:
    try:
        return parse(text, CHARTER, NAMES)
    except CharterError as error:
        raise CannotBegin(f"Nothing was written, because that would be no charter.\n{error}") from error


def charter_text(wishes: Wishes, health_url: str) -> str:
    """The first charter: one admin, who is linked by the console's code, and one service."""
    networks = sorted({*_networks(health_url), *(_networks(wishes.webhook) if wishes.webhook else ())})
    zone = wishes.timezone or local_timezone()
    return FIRST_CHARTER.format(
        team=json.dumps(wishes.team),
        zone=json.dumps(zone),
        networks=json.dumps(networks),
        service=json.dumps(wishes.name),
        health=json.dumps(health_url),
        prefix=wishes.prefix,
        action=_action(wishes),
    )


def _action(wishes: Wishes) -> str:
    """The action's block: live where its webhook is known, else as a comment to be filled in."""
    block = ACTION.format(
        webhook=json.dumps(wishes.webhook or "https://ops.example.com/recover/restart"),
        secret=json.dumps(f"{wishes.prefix}_RECOVERY"),
        title=json.dumps(f"Restart {wishes.name}"),
    )
    return block if wishes.webhook else "\n".join(f"# {line}" for line in block.splitlines())


def _networks(url: str) -> list[str]:
    """The private ranges in which *url* lies now, which the charter has to name. Empty for a public one."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(urlsplit(url).hostname or "", None)}
    except (OSError, ValueError):
        return []
    addresses = [ip_address(str(one)) for one in found]
    return [
        n for n in PRIVATE if any(a in ip_network(n) for a in addresses if a.version == ip_network(n).version)
    ]


def local_timezone(localtime: Path = LOCALTIME) -> str:
    """This machine's zone by its name, or UTC."""
    name = str(localtime.resolve()).rpartition("zoneinfo/")[2]
    return name if name in available_timezones() else "UTC"


FIRST_CHARTER = """\
# Who the people are, what is watched, what may run, and who may approve it.
# `python -m bot charter check charter.toml` explains every mistake. A change takes force when an admin taps
# Adopt in chat: saving this file alone changes nothing.

[tenant]
id = {team}
timezone = {zone}
# the private ranges that health addresses and webhooks may lie in
allow_networks = {networks}

[[people]]
id = "me"                          # linked to your phone by the code that the console prints
name = "Me"
roles = ["oncall", "dev", "admin"]

# [[people]]                       # somebody else; then send the bot /link rudo, and give Rudo the code
# id = "rudo"
# name = "Rudo"
# roles = ["oncall"]

# [[chats]]                        # a group in which cards shall stand, too
# telegram = -100200300

[[services]]
id = {service}
health_url = {health}
# token_env = "{prefix}_HEALTH"    # the name of a setting with a bearer token, where the address wants one

{action}
"""

ACTION = """\
[[services.actions]]
id = "restart"
title = {title}
webhook = {webhook}
secret_env = {secret}   # the name of the setting with which its requests are signed
approve = "1 oncall"    # or "2 dev or 1 admin"; an empty text means nobody
risk = "low"            # high asks for a second tap in private
impact = "a few seconds of refused requests"
undo = "none: a restart has nothing to undo"
causes = ["database", "capacity", "memory"]
default = true          # offered when no model has an opinion
idempotent = false      # true if the same request twice does no more than once"""
