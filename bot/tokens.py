"""The carriers of a choice: the data of a button, the token of a link, the digits of a code.

1. A carrier says what is meant and proves that we made it. Whether the person may, and whether it still
   counts, is decided by the ledger at the tap: single use is the ledger's, not the carrier's.
2. A button's data is `1|verb|option|anchor16|MAC`, at most 64 bytes. The MAC covers tenant and chat, so that
   a copy of the button elsewhere is not ours any more.
3. Each kind has its own key, derived from `ALERT_SECRET` (HKDF, RFC 5869).
4. Codes are for those who can only type. A code means one recipient's one option of one request, is never
   given twice while it is open, and whoever guesses has five tries.
"""

import base64
import hmac
import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import jwt

from bot.ports import Verb
from ledger.clock import Clock
from ledger.redis_store import Commands
from ledger.view import epoch_ms

VERSION = "1"
LEAST_SECRET_BYTES = 32
MOST_DATA_BYTES = 64
ANCHOR = 16
MAC_BYTES = 9
AUDIENCE = "countersign/action"
LINK_S = 300
TRIES = 5
LOCKED_MS = 15 * 60_000
_DRAWS = 20


class BadToken(Exception):
    """A link that decides nothing. The message says why, to the person who opened it.

    *tenant* and *person* are known where it is ours and came too late.
    """

    def __init__(self, why: str, tenant: str = "", person: str = "") -> None:
        super().__init__(why)
        self.tenant, self.person = tenant, person


class Choice(NamedTuple):
    """What a button's data says. *anchor* is the start of the entry's hash; *genuine* whether we made it."""

    verb: Verb
    option: str
    anchor: str
    genuine: bool


UNREADABLE = Choice(Verb.AUDIT, "", "", genuine=False)
"""What data reads as that no button of ours ever had: the most harmless wish, and not ours."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a link of ours means: *person* may look at, and decide on, this option of this request."""

    tenant: str
    person: str
    verb: Verb
    option: str
    anchor: str
    jti: str


class Tokens:
    """Makes and reads buttons' data and links. Raises ValueError for a secret under 32 bytes."""

    def __init__(self, secret: bytes, clock: Clock) -> None:
        if len(secret) < LEAST_SECRET_BYTES:
            raise ValueError(f"ALERT_SECRET has {len(secret)} bytes and needs {LEAST_SECRET_BYTES} or more.")
        self._clock = clock
        self._button_key = derived(secret, b"countersign/button/1")
        self._link_key = derived(secret, b"countersign/link/1")
        self._kid = sha256(self._link_key).hexdigest()[:8]

    def mint(self, tenant: str, chat: str, verb: Verb, option: str, anchor: str) -> str:
        """The data of a button in *chat*. Raises ValueError if Telegram would not take it."""
        said = "|".join((VERSION, verb, option, anchor[:ANCHOR]))
        data = f"{said}|{self._mac(tenant, chat, said)}"
        if len(data.encode()) > MOST_DATA_BYTES or data.count("|") != 4:
            raise ValueError(f"{data!r} cannot be the data of a button.")
        return data

    def read(self, data: str, tenant: str, chat: str) -> Choice:
        """What *data* from *chat* says. Data that cannot be read is UNREADABLE, never an error."""
        said, _, mac = data.rpartition("|")
        try:
            version, verb, option, anchor = said.split("|")
            ours = hmac.compare_digest(mac.encode(), self._mac(tenant, chat, said).encode())
            return Choice(Verb(verb), option, anchor, genuine=ours and version == VERSION)
        except ValueError:
            return UNREADABLE

    def _mac(self, tenant: str, chat: str, said: str) -> str:
        covered = "\x00".join((tenant, chat, said)).encode()
        mac = hmac.digest(self._button_key, covered, sha256)
        return base64.urlsafe_b64encode(mac[:MAC_BYTES]).decode()

    def mint_link(self, tenant: str, person: str, verb: Verb, option: str, anchor: str) -> str:
        """A token for *person* alone, good for five minutes. It belongs into a private chat."""
        now = int(self._clock.now().timestamp())
        claims = {
            "aud": AUDIENCE,
            "tenant": tenant,
            "sub": person,
            "jti": secrets.token_urlsafe(12),
            "iat": now,
            "exp": now + LINK_S,
            "verb": verb,
            "option": option,
            "anchor": anchor,
        }
        return jwt.encode(claims, self._link_key, algorithm="HS256", headers={"kid": self._kid})

    def read_link(self, token: str) -> Link:
        """What a link says. Raises BadToken."""
        claims = self._claims(token)
        try:
            verb = Verb(claims["verb"])
            words = [claims[name] for name in ("tenant", "sub", "option", "anchor", "jti")]
        except (KeyError, ValueError):
            raise BadToken("This link does not say what it is for.") from None
        if not all(isinstance(word, str) for word in words):
            raise BadToken("This link does not say what it is for.")
        tenant, person, option, anchor, jti = words
        if claims["exp"] <= self._clock.now().timestamp():
            over = "This link was good for five minutes and is over. Nothing was run."
            raise BadToken(over, tenant, person)
        return Link(tenant, person, verb, option, anchor, jti)

    def _claims(self, token: str) -> Mapping[str, Any]:
        return _claims(token, self._link_key, self._kid, AUDIENCE)


@dataclass(frozen=True, slots=True)
class Pass:
    """What a link that only shows is for: *person* of *tenant* may look at *what*, until *until_s*."""

    tenant: str
    person: str
    what: str
    scope: str
    jti: str
    until_s: int


class Passes:
    """Makes and reads links that show and decide nothing: a key and an audience of their own."""

    def __init__(self, secret: bytes, clock: Clock) -> None:
        self._clock = clock
        self._key = derived(secret, b"countersign/pass/1")
        self._kid = sha256(self._key).hexdigest()[:8]

    def mint(self, audience: str, tenant: str, person: str, what: str, scope: str, seconds: int) -> str:
        """A token for *person* alone, good for *seconds*. It belongs into a private chat."""
        now = int(self._clock.now().timestamp())
        claims = {
            "aud": audience,
            "tenant": tenant,
            "sub": person,
            "what": what,
            "scope": scope,
            "jti": secrets.token_urlsafe(12),
            "exp": now + seconds,
        }
        return jwt.encode(claims, self._key, algorithm="HS256", headers={"kid": self._kid})

    def read(self, audience: str, token: str) -> Pass:
        """What a link says. Raises BadToken."""
        claims = _claims(token, self._key, self._kid, audience)
        if claims["exp"] <= self._clock.now().timestamp():
            raise BadToken("This link is over: it was good for a few minutes. Ask the bot for a new one.")
        words: list[Any] = [claims.get(name) for name in ("tenant", "sub", "what", "scope", "jti")]
        if not all(isinstance(word, str) for word in words):
            raise BadToken("This link does not say what it is for.")
        tenant, person, what, scope, jti = words
        return Pass(tenant, person, what, scope, jti, claims["exp"])


def _claims(token: str, key: bytes, kid: str, audience: str) -> Mapping[str, Any]:
    try:
        if jwt.get_unverified_header(token).get("kid") != kid:
            raise BadToken("This link was made with another key.")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["HS256"],
            audience=audience,
            options={"require": ["exp", "aud", "sub", "jti"], "verify_exp": False, "verify_iat": False},
        )
    except jwt.InvalidTokenError:
        raise BadToken("This link is not one of ours.") from None
    if not isinstance(claims["exp"], int):
        raise BadToken("This link is not one of ours.")
    return claims


def derived(secret: bytes, purpose: bytes) -> bytes:
    """The 32-byte key for *purpose*: HKDF-SHA256 of RFC 5869 with no salt and one block."""
    pseudorandom = hmac.digest(bytes(32), secret, sha256)
    return hmac.digest(pseudorandom, purpose + b"\x01", sha256)


# --- codes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grant:
    """What a code stands for."""

    recipient: str
    anchor: str
    option: str
    until_ms: int


class Codes(ABC):
    """The open codes of all tenants. A storage keeps one small map of texts a tenant.

    `code:4812` is a Grant, `of:chat1|<anchor>|A` the code that its recipient has, `tries:telegram:1001` how
    often somebody guessed wrong and since when.
    """

    def __init__(self, clock: Clock, draw: Callable[[int], int] = secrets.randbelow) -> None:
        self._clock = clock
        self._draw = draw

    async def issue(
        self, tenant: str, recipient: str, anchor: str, option: str, until_ms: int, *, digits: int = 4
    ) -> str:
        """The code by which *recipient* names this option until *until_ms*: the same one when asked again."""
        owner = f"of:{recipient}|{anchor}|{option}"
        grant = Grant(recipient, anchor, option, until_ms)
        if known := await self._get(tenant, owner):
            return known
        code = await self._claim_free(tenant, json.dumps(asdict(grant)), digits)
        if await self._claim(tenant, owner, code):
            return code
        await self._drop(tenant, [f"code:{code}"])
        return await self._get(tenant, owner) or code

    async def redeem(self, tenant: str, by: str, code: str, recipients: Collection[str]) -> Grant | None:
        """What *code* means when *by* types it, who reads the messages of *recipients*.

        None for a wrong or closed code, which costs one of five tries, and for whoever has no try left.
        """
        if await self._tries(tenant, by) >= TRIES:
            return None
        kept = await self._get(tenant, f"code:{code}")
        grant = Grant(**json.loads(kept)) if kept else None
        if grant and grant.until_ms > self._now() and grant.recipient in recipients:
            return grant
        await self._count(tenant, by)
        return None

    async def opened(self, tenant: str, code: str) -> bool:
        """Whether *tenant* has *code* open: it says whose a code is, for a person who is in several."""
        kept = await self._get(tenant, f"code:{code}")
        return kept is not None and bool(Grant(**json.loads(kept)).until_ms > self._now())

    async def close(self, tenant: str, anchor: str) -> None:
        """Forget the codes of a request that is over, and whatever ran out. Their digits are free again."""
        kept = await self._all(tenant)
        grants = {name: Grant(**json.loads(text)) for name, text in kept.items() if name.startswith("code:")}
        over = {n: g for n, g in grants.items() if g.anchor == anchor or g.until_ms <= self._now()}
        owners = [f"of:{g.recipient}|{g.anchor}|{g.option}" for g in over.values()]
        tries = [n for n, text in kept.items() if n.startswith("tries:") and self._aged(text)]
        await self._drop(tenant, [*over, *owners, *tries])

    async def _claim_free(self, tenant: str, grant: str, digits: int) -> str:
        """Digits that nobody else has. Where most are taken, one more digit is."""
        while True:
            for _ in range(_DRAWS):
                low = 10 ** (digits - 1)
                code = str(low + self._draw(9 * low))
                if await self._claim(tenant, f"code:{code}", grant):
                    return code
            digits += 1

    async def _tries(self, tenant: str, by: str) -> int:
        kept = await self._get(tenant, f"tries:{by}")
        return 0 if not kept or self._aged(kept) else int(kept.partition(" ")[0])

    async def _count(self, tenant: str, by: str) -> None:
        tries = await self._tries(tenant, by) + 1
        await self._put(tenant, f"tries:{by}", f"{tries} {self._now()}")

    def _aged(self, tries: str) -> bool:
        return int(tries.partition(" ")[2]) + LOCKED_MS <= self._now()

    def _now(self) -> int:
        return epoch_ms(self._clock.now())

    @abstractmethod
    async def _get(self, tenant: str, name: str) -> str | None: ...

    @abstractmethod
    async def _put(self, tenant: str, name: str, text: str) -> None: ...

    @abstractmethod
    async def _claim(self, tenant: str, name: str, text: str) -> bool:
        """Keep *text* unless *name* has one; whether it was kept."""

    @abstractmethod
    async def _drop(self, tenant: str, names: Collection[str]) -> None: ...

    @abstractmethod
    async def _all(self, tenant: str) -> dict[str, str]: ...


class MemoryCodes(Codes):
    """Codes for tests and the simulator."""

    def __init__(self, clock: Clock, draw: Callable[[int], int] = secrets.randbelow) -> None:
        super().__init__(clock, draw)
        self._kept: dict[str, dict[str, str]] = {}

    def _of(self, tenant: str) -> dict[str, str]:
        return self._kept.setdefault(tenant, {})

    async def _get(self, tenant: str, name: str) -> str | None:
        return self._of(tenant).get(name)

    async def _put(self, tenant: str, name: str, text: str) -> None:
        self._of(tenant)[name] = text

    async def _claim(self, tenant: str, name: str, text: str) -> bool:
        if name in self._of(tenant):
            return False
        self._of(tenant)[name] = text
        return True

    async def _drop(self, tenant: str, names: Collection[str]) -> None:
        for name in names:
            self._of(tenant).pop(name, None)

    async def _all(self, tenant: str) -> dict[str, str]:
        return dict(self._of(tenant))


class RedisCodes(Codes):
    """Codes in the hash `bot:{tenant}:codes`. Raises StoreDown when Redis does not answer."""

    def __init__(
        self, commands: Commands, clock: Clock, draw: Callable[[int], int] = secrets.randbelow
    ) -> None:
        super().__init__(clock, draw)
        self._redis = commands

    @staticmethod
    def _key(tenant: str) -> str:
        return f"bot:{{{tenant}}}:codes"

    async def _get(self, tenant: str, name: str) -> str | None:
        kept: bytes | None = await self._redis("HGET", self._key(tenant), name)
        return None if kept is None else kept.decode()

    async def _put(self, tenant: str, name: str, text: str) -> None:
        await self._redis("HSET", self._key(tenant), name, text)

    async def _claim(self, tenant: str, name: str, text: str) -> bool:
        return bool(await self._redis("HSETNX", self._key(tenant), name, text))

    async def _drop(self, tenant: str, names: Collection[str]) -> None:
        if names:
            await self._redis("HDEL", self._key(tenant), *names)

    async def _all(self, tenant: str) -> dict[str, str]:
        kept: Mapping[bytes, bytes] = await self._redis("HGETALL", self._key(tenant))
        return {name.decode(): text.decode() for name, text in kept.items()}
