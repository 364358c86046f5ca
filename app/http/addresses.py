"""Addresses of clients, also behind proxies that add them to the header X-Forwarded-For."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import Scope

MOST_CACHED = 4096
LONGEST_HEADER = 1024  # bytes from the end, about 25 addresses: more would fill the cache with what clients sent
_NETWORK_BITS = 64  # of IPv6: a client gets at least this network, and may use any address in it

Address = IPv4Address | IPv6Address


class Addresses:
    """Finds the address of each request's client.

    Args:
        trusted: Networks of the proxies in front of the service, in CIDR notation. Only these proxies are believed.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = [ip_network(each, strict=False) for each in trusted]
        self._found = lru_cache(MOST_CACHED)(self._find)

    def of(self, scope: Scope) -> str:
        """Return the address of the client, for IPv6 its network of 64 bits; "" if it is unknown."""
        peer = scope["client"][0] if scope.get("client") else ""
        if not self._trusted:
            return self._found(peer, b"")
        lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return self._found(peer, b",".join(lines)[-LONGEST_HEADER:])

    def _find(self, peer: str, forwarded: bytes) -> str:
        """Return the address that is nearest to the service and is not one of a trusted proxy.

        Each proxy appends the address from which it got the request, so only what trusted proxies appended is true. A
        client can put any address in front.
        """
        address = _parsed(peer)
        if address is None:
            return peer
        for text in reversed(forwarded.split(b",")):
            if not any(address in network for network in self._trusted):
                break
            earlier = _parsed(text.decode("latin-1"))
            if earlier is None:  # an unusable entry, or the end
                break
            address = earlier
        if isinstance(address, IPv4Address):
            return str(address)
        return str(ip_network((address.packed, _NETWORK_BITS), strict=False))


def _parsed(text: str) -> Address | None:
    """Return an address, to which proxies may add a port; None if the text is not an address."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
