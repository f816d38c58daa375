"""The outside world in one process: it starts all that the bot talks to, and knows every address and secret.

    async with World(folder, environment) as world:
        run_the_bot_with(world.env(), world.charter_toml())
        await world.shop.faults(db=True)
        await world.phone("rudo").expects_card("checkout")

The secrets are made once and kept in the folder, readable by their owner alone. The world refuses to start on
a dyno or beside production settings. It is given the environment as a mapping, and reads no other.
"""

import json
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bot.receipts import Receipt, read
from bot.sandbox.chats import User
from bot.sandbox.deploys import APP, REPOSITORY, WORKFLOW, Deploys
from bot.sandbox.load import Load
from bot.sandbox.loopback import HOST
from bot.sandbox.models import Models
from bot.sandbox.phone import Phone, TelegramPhone, WhatsAppPhone
from bot.sandbox.premises import Keys, Premises, free_port
from bot.sandbox.telegram import Telegram
from bot.sandbox.twilio import Twilio

RUDO, TENDAI, STRANGER, GROUP = 1001, 1002, 6666, -100200300
PEOPLE = {"rudo": (RUDO, "Rudo"), "tendai": (TENDAI, "Tendai"), "stranger": (STRANGER, "Stranger")}
NUMBERS = {"rudo": "+263770000001", "tendai": "+263770000002", "stranger": "+263770000666"}
TIMEZONE = "Africa/Harare"
SENDER = "+14155238886"
MODEL_A, MODEL_B = "claude-haiku-5-5", "claude-sonnet-5-5"
PRODUCTION = (
    "REDIS_URL",
    "REDIS_DEPLOY_URL",
    "REDIS_TLS_URL",
    "TWILIO_AUTH_TOKEN",
    "SLACK_BOT_TOKEN",
    "SENT_API_KEY",
    "PUBLIC_BASE_URL",
    "ALERTENGINE_BASE_URL",
    "LEDGER_SINK_URL",
    "LEDGER_WITNESS_URL",
)
MADE = ("ALERT_SECRET", "LEDGER_KEY", "TELEGRAM_WEBHOOK_SECRET", "TWILIO_AUTH_TOKEN", "ANTHROPIC_API_KEY")
HEALTH, RECOVERY = "ACME_CHECKOUT_HEALTH", "ACME_CHECKOUT_RECOVERY"
GITHUB_TOKEN, HEROKU_TOKEN = "ACME_GITHUB", "ACME_HEROKU"
TENANTS = (HEALTH, RECOVERY, GITHUB_TOKEN, HEROKU_TOKEN)
OURS = (*TENANTS, "SANDBOX_OPS", "SANDBOX_PAGE")


class NotHere(Exception):
    """The sandbox does not start in this place; the message says why, and what to do."""


def check_place(environment: Mapping[str, str]) -> None:
    """Raises NotHere on a dyno or beside production settings; nothing was started then."""
    if environment.get("DYNO"):
        raise NotHere("The sandbox does not run on a dyno (DYNO is set). Run it on your own machine.")
    found = [name for name in PRODUCTION if environment.get(name)]
    if found:
        raise NotHere(f"The sandbox does not run beside production settings. Unset {', '.join(found)}.")


def keys_in(folder: Path) -> dict[str, str]:
    """The sandbox's secrets, made at the first call, in a file that only its owner reads."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "sandbox-keys.json"
    kept: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    missing = {name: secrets.token_urlsafe(36) for name in (*MADE, *OURS) if name not in kept}
    if missing:
        kept |= missing
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_text(json.dumps(kept, indent=1))
    return kept


class World:
    """Vendors, shop, customers and people; `shop=False` leaves the shop out, `rate` is customers a second."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, shop: bool = True, rate: float = 20.0
    ) -> None:
        check_place(environment)
        self.folder, self.environment = folder, environment
        self.keys = keys_in(folder)
        self.telegram = Telegram("100200:sandbox-" + self.keys["SANDBOX_PAGE"][:20])
        self.twilio = Twilio("AC" + "0" * 32, self.keys["TWILIO_AUTH_TOKEN"], SENDER)
        self.models = Models(self.keys["ANTHROPIC_API_KEY"])
        self.shop = Premises(
            folder / "shop",
            Keys(
                self.keys["ACME_CHECKOUT_HEALTH"],
                self.keys["ACME_CHECKOUT_RECOVERY"],
                self.keys["SANDBOX_OPS"],
            ),
        )
        self.load = Load(self.shop.url, rate)
        self.deploys = Deploys(self.keys[GITHUB_TOKEN], self.keys[HEROKU_TOKEN])
        self.port = free_port()
        self._with_shop = shop
        self._people()

    def _people(self) -> None:
        for who, (user_id, name) in PEOPLE.items():
            self.telegram.chats.add_person(User(user_id, name, who), opened=who != "stranger")
            self.twilio.add_person(NUMBERS[who], name)
        self.telegram.chats.add_group(GROUP, "acme on-call", {RUDO, TENDAI, STRANGER})
        self.twilio.inbound_url = f"{self.bot_url}/twilio/whatsapp"

    @property
    def bot_url(self) -> str:
        """Where the bot is expected to listen."""
        return f"http://{HOST}:{self.port}"

    @property
    def has_real_telegram(self) -> bool:
        return bool(self.environment.get("TELEGRAM_BOT_TOKEN"))

    async def start(self) -> Self:
        """Everything up and answering."""
        await self.telegram.start()
        await self.twilio.start()
        await self.models.start()
        await self.deploys.start()
        if self._with_shop:
            await self.shop.start()
            self.load.start()
        return self

    async def close(self) -> None:
        await self.load.close()
        await self.shop.close()
        for server in (self.telegram, self.twilio, self.models, self.deploys):
            await server.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def phone(self, who: str) -> TelegramPhone:
        """The Telegram of rudo, tendai or stranger."""
        return TelegramPhone(who, PEOPLE[who][0], self.telegram)

    def whatsapp(self, who: str) -> WhatsAppPhone:
        """The WhatsApp of rudo, tendai or stranger."""
        return WhatsAppPhone(who, NUMBERS[who], self.twilio)

    def receipts(self, people: Collection[str] = (*PEOPLE,)) -> set[Receipt]:
        """Every receipt that phones of *people* ever showed: what they can hold against the ledger."""
        phones: list[Phone] = [self.phone(who) for who in people]
        phones += [self.whatsapp(who) for who in people]
        return {receipt for phone in phones for text in phone.history() for receipt in read(text)}

    def env(self) -> dict[str, str]:
        """What the bot must find in its environment to live in this world.

        With a real TELEGRAM_BOT_TOKEN or ANTHROPIC_API_KEY around, that vendor is the real one.
        """
        env = {
            "PORT": str(self.port),
            "PUBLIC_BASE_URL": self.bot_url,
            "DATA_DIR": str(self.folder),
            "COUNCIL_MODEL_A": MODEL_A,
            "COUNCIL_MODEL_B": MODEL_B,
        }
        env |= {name: self.keys[name] for name in ("ALERT_SECRET", "LEDGER_KEY", *TENANTS)}
        env |= {"GITHUB_API_BASE": self.deploys.github_url, "HEROKU_API_BASE": self.deploys.heroku_url}
        return env | self._telegram_env() | self._twilio_env() | self._models_env()

    def _telegram_env(self) -> dict[str, str]:
        if real := self.environment.get("TELEGRAM_BOT_TOKEN"):
            return {"TELEGRAM_BOT_TOKEN": real}
        return {
            "TELEGRAM_API_BASE": self.telegram.url,
            "TELEGRAM_BOT_TOKEN": self.telegram.token,
            "TELEGRAM_WEBHOOK_SECRET": self.keys["TELEGRAM_WEBHOOK_SECRET"],
        }

    def _twilio_env(self) -> dict[str, str]:
        return {
            "TWILIO_API_BASE_URL": self.twilio.url,
            "TWILIO_ACCOUNT_SID": self.twilio.account,
            "TWILIO_AUTH_TOKEN": self.twilio.token,
            "TWILIO_WHATSAPP_FROM": f"whatsapp:{SENDER}",
        }

    def _models_env(self) -> dict[str, str]:
        if real := self.environment.get("ANTHROPIC_API_KEY"):
            return {"ANTHROPIC_API_KEY": real}
        return {"ANTHROPIC_BASE_URL": self.models.url, "ANTHROPIC_API_KEY": self.models.key}

    def charter_toml(
        self,
        *,
        approve: str = "1 oncall",
        risk: str = "low",
        cooldown: str = "10m",
        expires: str = "5m",
        health_url: str = "",
        webhook: str = "",
        idempotent: bool = True,
        telegram: Mapping[str, int] | None = None,
        chats: tuple[int, ...] = (GROUP,),
        policy: Mapping[str, Any] | None = None,
        vendors: bool = False,
        totp: bool = False,
        break_glass: str = "",
    ) -> str:
        """The charter of acme, whose checkout this is. *telegram* are the linked ids by person; *vendors*
        adds a roll back at GitHub and a restart at Heroku; *totp* asks for a code on high risk.
        """
        ids = {"rudo": RUDO, "tendai": TENDAI} if telegram is None else telegram
        action = {"approve": approve, "risk": risk, "cooldown": cooldown, "expires": expires}
        tenant = {"break_glass": break_glass} if break_glass else {}
        parts = [
            _table(
                "tenant",
                id="acme",
                timezone=TIMEZONE,
                language="en",
                allow_networks=["127.0.0.0/8"],
                **tenant,
            ),
            _person("rudo", ["oncall", "dev", "admin"], ids),
            _person("tendai", ["oncall"], ids),
            *(_table("[chats]", telegram=chat) for chat in chats),
            _table(
                "[services]",
                id="checkout",
                health_url=health_url or self.shop.health_url,
                token_env=HEALTH,
                repository="acme/checkout",
            ),
            _table("[services.checks]", id="slow_log", title="DB slow query log", causes=["database"]),
            _table(
                "[services.checks]",
                id="payments_times",
                title="payments-api response times",
                causes=["dependency", "network"],
            ),
            _table(
                "[services.actions]",
                id="restart_workers",
                title="Restart checkout workers",
                webhook=webhook or self.shop.webhook("restart_workers"),
                secret_env=RECOVERY,
                impact="about 2 s of refused requests",
                undo="none: a restart has nothing to undo",
                causes=["database", "capacity"],
                default=True,
                idempotent=idempotent,
                **action,
            ),
            _table(
                "[services.actions]",
                id="switch_payments",
                title="Switch to payments fallback",
                webhook=self.shop.webhook("switch_payments"),
                secret_env=RECOVERY,
                impact="cards are charged through the second provider",
                undo="switch back by hand",
                causes=["dependency", "network"],
                idempotent=idempotent,
                **action,
            ),
            *(_at_vendors(action) if vendors else []),
            *([_table("[rules]", risk="high", totp=True)] if totp else []),
            *([_table("policy", **policy)] if policy else []),
        ]
        return "\n".join(parts)


def _at_vendors(action: Mapping[str, Any]) -> list[str]:
    return [
        _table(
            "[services.actions]",
            id="roll_back",
            title="Roll checkout back",
            secret_env=GITHUB_TOKEN,
            **action,
        ),
        _table("services.actions.github", repository=REPOSITORY, workflow=WORKFLOW, branch="main"),
        _table("[services.actions.parameters]", id="steps", kind="integer", least=1, most=3),
        _table("[services.actions]", id="bounce", title="Restart web.1", secret_env=HEROKU_TOKEN, **action),
        _table("services.actions.heroku", app=APP, dyno="web.1"),
    ]


def _person(who: str, roles: list[str], ids: Mapping[str, int]) -> str:
    linked = {"telegram": ids[who]} if who in ids else {}
    return _table("[people]", id=who, name=PEOPLE[who][1], roles=roles, **linked, whatsapp=NUMBERS[who])


def _table(head: str, **values: Any) -> str:
    """One table of TOML: strings, numbers, booleans and lists of strings are written as JSON writes them."""
    return "\n".join([f"[{head}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])
