"""Every setting, read once from the environment. The only file that looks there.

A `.env` in the working folder stands behind it: what the environment says, an empty text too, wins.
A wrong setting names itself and its remedy; nothing starts on a guess.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from ledger.note import BadKey, Verifier

DOTENV = ".env"
LEAST_SECRET = 32
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


class BadSettings(Exception):
    """One sentence a setting that is wrong: which, why, and what to write instead."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


@dataclass(frozen=True, slots=True)
class Twilio:
    account_sid: str
    auth_token: str
    whatsapp_from: str
    api_base: str = ""
    content_sids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Telegram:
    token: str
    secret: str
    api_base: str = "https://api.telegram.org"


@dataclass(frozen=True, slots=True)
class Council:
    api_key: str
    model_a: str = "claude-haiku-5-5"
    model_b: str = "claude-sonnet-5-5"
    base_url: str = ""


@dataclass(frozen=True, slots=True)
class LedgerWitness:
    """Where checkpoints are cosigned, and with which key."""

    url: str
    key: Verifier


@dataclass(frozen=True, slots=True)
class Settings:
    """What the program was told. An empty text or None: that part is off."""

    alert_secret: bytes
    ledger_key: bytes
    charter: Path
    data_dir: Path
    port: int = 8000
    host: str = "0.0.0.0"  # noqa: S104  a platform's router must reach it
    redis_url: str = ""
    redis_deploy_url: str = ""
    redis_tls_verify: str = "full"
    durability_declared: bool = False
    ledger_sink_url: str = ""
    ledger_witness: LedgerWitness | None = None
    public_base_url: str = ""
    telegram: Telegram | None = None
    twilio: Twilio | None = None
    council: Council | None = None
    github_token: str = ""
    github_api_base: str = "https://api.github.com"
    heroku_api_base: str = "https://api.heroku.com"
    loop_interval_s: float = 5.0
    policy: Mapping[str, str] = field(default_factory=dict)
    dyno: str = ""
    notices: tuple[str, ...] = ()


NAMES = frozenset(
    {
        "ALERTENGINE_BASE_URL", "ALERT_SECRET", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CHARTER",
        "COUNCIL_ENABLED", "COUNCIL_MODEL_A", "COUNCIL_MODEL_B", "DATA_DIR", "DYNO", "GITHUB_API_BASE",
        "GITHUB_TOKEN", "HEROKU_API_BASE", "HOST",
        "LEDGER_DURABILITY", "LEDGER_KEY", "LEDGER_SINK_URL", "LEDGER_WITNESS_KEY",
        "LEDGER_WITNESS_URL", "LOOP_INTERVAL_S", "PORT", "PUBLIC_BASE_URL", "REDIS_DEPLOY_URL",
        "REDIS_TLS_URL", "REDIS_TLS_VERIFY", "REDIS_URL", "SENT_API_KEY", "SENT_PHONE_ID", "SLACK_BOT_TOKEN",
        "SLACK_SIGNING_SECRET", "TELEGRAM_API_BASE", "TELEGRAM_BOT_TOKEN", "TELEGRAM_WEBHOOK_SECRET",
        "TWILIO_ACCOUNT_SID", "TWILIO_API_BASE_URL", "TWILIO_AUTH_TOKEN", "TWILIO_WHATSAPP_FROM",
    }
)  # fmt: skip
"""The names that this file reads: a charter may not use one of them for a secret of its own."""

TEMPLATES = ("cs_opened", "cs_request", "cs_dissent", "cs_outcome")


class _Reader:
    """Reads one setting after the other and keeps what was wrong."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.mistakes: list[str] = []
        self.notices: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        return self._environment.get(name, "").strip() or default

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.text(name).lower()
        if text and text not in _TRUE | _FALSE:
            self.mistakes.append(f"{name} is {text!r}: write true or false.")
        return text in _TRUE if text else default

    def number(self, name: str, default: float, low: float, high: float) -> float:
        text = self.text(name)
        try:
            value = float(text) if text else default
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            self.mistakes.append(f"{name} is {text!r}: write a number from {low:g} to {high:g}.")
            return default
        return value

    def address(self, name: str, default: str = "") -> str:
        text = self.text(name, default).rstrip("/")
        if text and not text.startswith(("http://", "https://")):
            self.mistakes.append(f"{name} is {text!r}: write an address that starts with https://.")
        return text

    def secret(self, name: str, made: str) -> bytes:
        """At least `LEAST_SECRET` bytes. *made* is the command that makes one."""
        value = self.text(name).encode()
        if len(value) < LEAST_SECRET:
            self.mistakes.append(
                f"{name} needs {LEAST_SECRET} bytes or more and has {len(value)}. Make one: {made}"
            )
        return value

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        text = self.text(name, default)
        if not text.startswith(allowed):
            self.mistakes.append(f"{name} is {text!r}: write one of {', '.join(allowed)}.")
        return text

    def together(self, names: tuple[str, ...]) -> bool:
        """Whether all of *names* are set. Some but not all is a mistake."""
        missing = [name for name in names if not self.text(name)]
        if missing and len(missing) < len(names):
            self.mistakes.append(f"{', '.join(missing)} must be set too, beside {names[0]}.")
        return not missing


def read(environment: Mapping[str, str]) -> Settings:
    """The settings in *environment*. Raises BadSettings with every mistake."""
    reader = _Reader(environment)
    base = reader.address("PUBLIC_BASE_URL")
    if not base and reader.text("ALERTENGINE_BASE_URL"):
        base = reader.address("ALERTENGINE_BASE_URL")
        reader.notices.append("ALERTENGINE_BASE_URL was taken; its name here is PUBLIC_BASE_URL.")
    settings = Settings(
        alert_secret=reader.secret(
            "ALERT_SECRET", 'python -c "import secrets; print(secrets.token_hex(32))"'
        ),
        ledger_key=reader.secret("LEDGER_KEY", "python -m ledger keygen"),
        charter=Path(reader.text("CHARTER", "charter.toml")),
        data_dir=Path(reader.text("DATA_DIR", "var")),
        port=int(reader.number("PORT", 8000, 0, 65535)),
        host=reader.text("HOST", "0.0.0.0"),  # noqa: S104  as above
        redis_url=reader.text("REDIS_TLS_URL") or reader.text("REDIS_URL"),
        redis_deploy_url=reader.text("REDIS_DEPLOY_URL"),
        redis_tls_verify=reader.choice("REDIS_TLS_VERIFY", "full", ("full", "none", "ca:")),
        durability_declared=reader.text("LEDGER_DURABILITY").lower() == "declared",
        ledger_sink_url=reader.address("LEDGER_SINK_URL"),
        ledger_witness=_witness(reader),
        public_base_url=base,
        telegram=_telegram(reader),
        twilio=_twilio(reader, environment),
        council=_council(reader),
        github_token=reader.text("GITHUB_TOKEN"),
        github_api_base=reader.address("GITHUB_API_BASE", "https://api.github.com"),
        heroku_api_base=reader.address("HEROKU_API_BASE", "https://api.heroku.com"),
        loop_interval_s=reader.number("LOOP_INTERVAL_S", 5, 0.2, 300),
        policy=_policy(environment),
        dyno=reader.text("DYNO"),
        notices=tuple(reader.notices),
    )
    if settings.dyno and not settings.redis_url:
        reader.mistakes.append("REDIS_URL must be set on a dyno: its disk does not outlive a restart.")
    if settings.redis_url and not settings.redis_url.startswith(("redis://", "rediss://", "unix://")):
        reader.mistakes.append("REDIS_URL must start with redis://, rediss:// or unix://.")
    if reader.mistakes:
        raise BadSettings(reader.mistakes)
    return settings


def environment(folder: Path = Path()) -> Mapping[str, str]:
    """What this process was told: its environment, and behind it the `.env` of *folder*.

    For those who must hand it on as well: the secrets that charters name are found in it.
    """
    return kept_in(folder / DOTENV) | process_environment()


def process_environment() -> dict[str, str]:
    """The environment alone, for the sandbox: a `.env` holds the keys of the real thing."""
    return dict(os.environ)


def kept_in(file: Path) -> dict[str, str]:
    """The settings in *file* as they stand there, nothing expanded. Empty where there is no such file."""
    return {
        name: value for name, value in dotenv_values(file, interpolate=False).items() if value is not None
    }


def _telegram(reader: _Reader) -> Telegram | None:
    token = reader.text("TELEGRAM_BOT_TOKEN")
    base = reader.address("TELEGRAM_API_BASE", "https://api.telegram.org")
    return Telegram(token, reader.text("TELEGRAM_WEBHOOK_SECRET"), base) if token else None


def _twilio(reader: _Reader, environment: Mapping[str, str]) -> Twilio | None:
    names = ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_WHATSAPP_FROM")
    if not reader.together(names):
        return None
    sids = {t: environment.get(f"TWILIO_CONTENT_SID_{t.removeprefix('cs_').upper()}", "") for t in TEMPLATES}
    sid, token, sender = map(reader.text, names)
    return Twilio(
        sid, token, sender, reader.address("TWILIO_API_BASE_URL"), {k: v for k, v in sids.items() if v}
    )


def _witness(reader: _Reader) -> LedgerWitness | None:
    url = reader.address("LEDGER_WITNESS_URL")
    if not reader.together(("LEDGER_WITNESS_URL", "LEDGER_WITNESS_KEY")):
        return None
    try:
        key = Verifier.parse(reader.text("LEDGER_WITNESS_KEY"))
    except BadKey as error:
        reader.mistakes.append(f"LEDGER_WITNESS_KEY: {error} `python -m ledger witness` prints its own.")
        return None
    return LedgerWitness(url, key)


def _council(reader: _Reader) -> Council | None:
    key = reader.text("ANTHROPIC_API_KEY")
    enabled = reader.flag("COUNCIL_ENABLED", default=True)
    if not key or not enabled:
        return None
    return Council(
        key,
        reader.text("COUNCIL_MODEL_A", "claude-haiku-5-5"),
        reader.text("COUNCIL_MODEL_B", "claude-sonnet-5-5"),
        reader.address("ANTHROPIC_BASE_URL"),
    )


RIVALS = {"MIN_SCORE_TO_ALERT": "min_score_to_alert", "RECOVER_SCORE": "recover_score"}


def _policy(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The overrides in `POLICY_…`, by the threshold's name. The policy refuses what it does not know."""
    found = {k.removeprefix("POLICY_"): v for k, v in environment.items() if k.startswith("POLICY_")}
    return {RIVALS.get(key, key.lower()): value for key, value in found.items()}
