"""Who somebody is: the charter's person behind a vendor's id, by the charter itself or by a link.

1. Identity is the vendor's numeric id or number, never a name.
2. A link made in chat stands in the ledger as a salted commitment; the id itself lies in Redis, beside it,
   where it can be erased. It counts only while both agree.
3. A console code makes the first admin; it works only as long as no charter was ever adopted.
"""

import base64
import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Protocol

from handlers.charter import Charter, Person, commitment
from ledger.view import View

CHANNELS = ("telegram", "whatsapp")


class Links(Protocol):
    """Which vendor ids were linked by code: `telegram:1001` to a person's charter id."""

    def all(self, tenant: str) -> Mapping[str, str]: ...

    async def put(self, tenant: str, identity: str, person: str) -> None: ...

    async def drop(self, tenant: str, identity: str) -> None: ...


def identity(channel: str, vendor_id: str) -> str:
    return f"{channel}:{vendor_id}"


class Roster:
    """The people of one tenant and their identities. *salt* makes the ledger's commitments unreadable."""

    def __init__(self, tenant: str, salt: str, links: Links) -> None:
        self.tenant = tenant
        self._salt = salt
        self._links = links
        self._charter: Charter | None = None
        self._written: Mapping[str, Person] = {}

    def commitment(self, channel: str, vendor_id: str) -> str:
        return commitment(self._salt, identity(channel, vendor_id))

    def who(self, view: View, charter: Charter, channel: str, vendor_id: str) -> Person | None:
        """The person of *charter* behind *vendor_id*, or None: a stranger."""
        if not vendor_id:
            return None
        known = identity(channel, vendor_id)
        if (person := self._by_identity(charter).get(known)) is not None:
            return person
        linked = self._links.all(self.tenant).get(known)
        if linked and view.links.get((linked, channel)) == self.commitment(channel, vendor_id):
            return charter.person(linked)
        return None

    def _by_identity(self, charter: Charter) -> Mapping[str, Person]:
        """The people of *charter* by the ids that stand in it; of two with the same id, the first."""
        if charter is not self._charter:
            self._charter = charter
            self._written = {
                identity(channel, vendor_id): person
                for channel in CHANNELS
                for person in reversed(charter.people)
                for vendor_id in self.written(person, channel)
            }
        return self._written

    def reach(self, view: View, person: Person, channel: str) -> str:
        """The vendor's id of *person* on *channel*, or an empty text."""
        for known in self.written(person, channel):
            return known
        for name, linked in self._links.all(self.tenant).items():
            kind, _, vendor_id = name.partition(":")
            proven = view.links.get((person.id, channel)) == self.commitment(channel, vendor_id)
            if kind == channel and linked == person.id and proven:
                return vendor_id
        return ""

    async def link(self, person: Person, channel: str, vendor_id: str) -> None:
        """Remember the id itself. The Linked entry must be in the ledger first."""
        await self._links.put(self.tenant, identity(channel, vendor_id), person.id)

    async def unlink(self, person: str, channel: str) -> None:
        """Forget the ids of *person*, a charter id. The Unlinked entry must be in the ledger first."""
        for name, linked in [*self._links.all(self.tenant).items()]:
            if linked == person and name.startswith(f"{channel}:"):
                await self._links.drop(self.tenant, name)

    @staticmethod
    def written(person: Person, channel: str) -> tuple[str, ...]:
        """The ids of *person* on *channel* that stand in the charter itself."""
        value = {"telegram": person.telegram, "whatsapp": person.whatsapp}.get(channel)
        return (str(value),) if value is not None else ()


class MemoryLinks:
    """Links for tests and the simulator."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, str]] = {}

    def all(self, tenant: str) -> Mapping[str, str]:
        return self._found.get(tenant, {})

    async def put(self, tenant: str, identity: str, person: str) -> None:
        self._found.setdefault(tenant, {})[identity] = person

    async def drop(self, tenant: str, identity: str) -> None:
        self._found.get(tenant, {}).pop(identity, None)


def console_code(secret: bytes, tenant: str) -> str:
    """The one-time code that the console prints for the first admin: 60 bits, the same until it was used.

    It needs no storage: it adopts only where nothing was ever adopted.
    """
    mac = hmac.new(secret, b"countersign/console\x00" + tenant.encode(), sha256).digest()
    return base64.b32encode(mac)[:12].decode()
