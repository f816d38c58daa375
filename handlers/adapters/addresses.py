"""Where a request of ours may go: nowhere private, unless the charter names the network.

1. An address is http or https, with a host and without a user in it. A host that is an IP literal is judged.
2. A name is resolved once, when a connection is made, and the connection goes to the addresses that were
   judged. One forbidden address among them forbids all: a name that points both ways is a trap.
3. An IPv6 address that carries an IPv4 one (mapped, 6to4, NAT64) is judged as the IPv4 one.

A session that uses an `Addresses` is never shared with a tenant whose networks differ: a connection that is
kept open is not judged again.
"""

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

from handlers.ports import PortError

Address = IPv4Address | IPv6Address
NAT64 = IPv6Network("64:ff9b::/96")


class Addresses(AbstractResolver):
    """The addresses that one tenant may reach: any public one, and those in its *allow_networks*."""

    def __init__(self, allow_networks: Iterable[str] = (), names: AbstractResolver | None = None) -> None:
        self._networks = tuple(ip_network(network) for network in allow_networks)
        self._names = names

    def check(self, url: str) -> URL:
        """*url*, parsed. Raises PortError, permanent, if nothing may be sent there."""
        try:
            parsed = URL(url)
        except ValueError:
            raise _forbidden("An address that cannot be read") from None
        if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.user or parsed.password:
            raise _forbidden("An address that is not http(s)://host/path")
        if ":" in parsed.host or parsed.host.replace(".", "").isdigit():
            self._judge(parsed.host, parsed.host)
        return parsed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of the name *host*. Raises PortError, permanent, if one of them is forbidden."""
        if self._names is None:
            self._names = DefaultResolver()
        found = await self._names.resolve(host, port, family)
        for one in found:
            self._judge(one["host"], host)
        return found

    async def close(self) -> None:
        if self._names is not None:
            await self._names.close()

    def admits(self, address: Address) -> bool:
        """Whether a request may go to *address*."""
        plain = _carried(address)
        if any(plain in network for network in self._networks):
            return True
        return plain.is_global and not (plain.is_multicast or plain.is_reserved)

    def _judge(self, text: str, host: str) -> None:
        try:
            address = ip_address(text)
        except ValueError:
            raise _forbidden(f"{host} is no address; it") from None
        if not self.admits(address):
            raise _forbidden(
                f"{host} is an address inside a private network that allow_networks does not name; it"
            )


def _carried(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _forbidden(what: str) -> PortError:
    return PortError(f"{what} is never called.", permanent=True)
