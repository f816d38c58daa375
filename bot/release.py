"""`python -m bot release`: what must be so before a release serves. Safe to run again and again.

1. Settings and charters are read; every mistake is told, and nothing was touched then.
2. The ledger's FUNCTION is loaded, by `REDIS_DEPLOY_URL` where the app's own user may not.
3. Whether entries are durable is told. A server that may lose them does not keep a release back: the bot
   goes on telling people, executes nothing, and says so on every card.
4. Telegram is told where we are, and the menu of commands.
"""

from collections.abc import Awaitable, Callable, Mapping

from bot.channels.telegram import speaking
from bot.commands import COMMANDS
from bot.opening import read_charters
from bot.ports import SendError
from bot.settings import BadSettings, Settings, Telegram, read
from bot.tokens import Tokens
from bot.words import many
from detectors.policy import BadOverride
from handlers.charter import CharterError
from ledger.clock import WallClock
from ledger.redis_store import RedisStore, connect
from ledger.store import Durability, StoreDown

Say = Callable[[str], None]
WEBHOOK = "/telegram/webhook"


class NotReady(Exception):
    """A step failed. The message says which, why, and what to do; the steps before it stand."""


async def release(environment: Mapping[str, str], say: Say) -> int:
    """Do every step, a line each. 0, or 1 at the first that fails: the release before goes on serving."""
    try:
        settings = read(environment)
        for step in STEPS:
            say(await step(settings))
    except (BadSettings, CharterError, BadOverride, NotReady) as why:
        say(f"NOT released.\n{why}")
        return 1
    return 0


async def _settings(settings: Settings) -> str:
    return "\n".join(["Settings: good.", *settings.notices])


async def _charters(settings: Settings) -> str:
    found = read_charters(settings)
    told = (
        f"{name} ({len(c.people)} people, {many(len(c.services), 'service')})"
        for name, (c, _) in found.items()
    )
    return f"Charter: good, of {', '.join(told)}."


async def _functions(settings: Settings) -> str:
    if not settings.redis_url:
        return "Store: REDIS_URL is not set, so the embedded server is used; it is set up when it starts."
    store = _store(settings, settings.redis_deploy_url or settings.redis_url)
    try:
        await store.load_functions()
    except StoreDown as down:
        raise NotReady(f"{down} The FUNCTION needs a user who may load it: set REDIS_DEPLOY_URL.") from down
    finally:
        await store.close()
    return "Store: the function ledger_append is loaded."


async def _durability(settings: Settings) -> str:
    """What the app's own user finds. It may be one who is not shown the functions."""
    if not settings.redis_url:
        return f"Durability: {Durability.DURABLE.sentence}"
    store = _store(settings, settings.redis_url)
    try:
        await store.head("release")
        return f"Durability: {(await store.durability()).sentence}"
    except StoreDown as down:
        raise NotReady(f"{down} Check REDIS_URL and REDIS_TLS_VERIFY.") from down
    finally:
        await store.close()


async def _telegram(settings: Settings) -> str:
    known = settings.telegram
    if known is None:
        return "Telegram: TELEGRAM_BOT_TOKEN is not set, so it is off."
    if not settings.public_base_url:
        return (
            "Telegram: PUBLIC_BASE_URL is not set, so the bot will ask for updates (one process at a time)."
        )
    if not known.secret:
        raise NotReady(
            "Telegram: TELEGRAM_WEBHOOK_SECRET must be set beside PUBLIC_BASE_URL. Make one, 32 "
            "letters or more."
        )
    try:
        return await _introduce(settings, known)
    except SendError as error:
        remedy = "Check TELEGRAM_BOT_TOKEN and PUBLIC_BASE_URL." if error.permanent else "Release again."
        raise NotReady(f"Telegram: {error}. {remedy}") from error


async def _introduce(settings: Settings, known: Telegram) -> str:
    url = f"{settings.public_base_url}{WEBHOOK}"
    async with speaking(known.token, known.api_base, Tokens(settings.alert_secret, WallClock())) as channel:
        name = await channel.me()
        await channel.set_webhook(url, known.secret)
        await channel.set_commands([(command, row.says) for command, row in COMMANDS.items()])
    return f"Telegram: @{name} sends updates to {url}; {len(COMMANDS)} commands are in its menu."


STEPS: tuple[Callable[[Settings], Awaitable[str]], ...] = (
    _settings,
    _charters,
    _functions,
    _durability,
    _telegram,
)


def _store(settings: Settings, url: str) -> RedisStore:
    client = connect(url, tls_verify=settings.redis_tls_verify)
    return RedisStore(client, declared=settings.durability_declared)
