"""Addresses of clients: direct, behind trusted proxies, and with headers that a client has forged."""

from typing import Any

import pytest

from app.http import addresses
from app.http.addresses import Addresses

PROXIES = ["10.0.0.0/8", "fd00::/8"]


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", each.encode("latin-1")) for each in forwarded)]
    return {"client": None if peer is None else (peer, 50_000), "headers": headers}


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),  # IPv4 on a socket for both families
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),  # the same client
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        (None, ""),
    ],
)
def test_client_is_the_peer_without_proxies(peer: str | None, found: str) -> None:
    assert Addresses([]).of(scope(peer, "198.51.100.9")) == found


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("10.1.2.3", ["203.0.113.7"], "203.0.113.7"),
        ("10.1.2.3", ["203.0.113.7, 10.9.9.9"], "203.0.113.7"),  # two proxies
        ("10.1.2.3", ["203.0.113.7", "10.9.9.9"], "203.0.113.7"),  # in two lines
        ("10.1.2.3", [" 203.0.113.7:4711 "], "203.0.113.7"),
        ("10.1.2.3", ["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        ("10.1.2.3", ["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        ("fd00::1", ["203.0.113.7"], "203.0.113.7"),
        ("::ffff:10.1.2.3", ["203.0.113.7"], "203.0.113.7"),
        ("10.1.2.3", ["10.9.9.9"], "10.9.9.9"),  # a client inside
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", [""], "10.1.2.3"),
    ],
)
def test_client_behind_trusted_proxies_is_what_they_appended(peer: str, forwarded: list[str], found: str) -> None:
    assert Addresses(PROXIES).of(scope(peer, *forwarded)) == found


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.7", ["198.51.100.9"], "203.0.113.7"),  # not from a proxy
        ("203.0.113.7", ["10.0.0.1"], "203.0.113.7"),
        ("10.1.2.3", ["198.51.100.9, 203.0.113.7"], "203.0.113.7"),  # the proxy appended what it saw
        ("10.1.2.3", ["10.0.0.1, 203.0.113.7"], "203.0.113.7"),
        ("10.1.2.3", ["198.51.100.9", "203.0.113.7"], "203.0.113.7"),
        ("10.1.2.3", ["198.51.100.9, 203.0.113.7, 10.9.9.9"], "203.0.113.7"),
        ("10.1.2.3", ["unknown, 203.0.113.7"], "203.0.113.7"),
        ("10.1.2.3", ["203.0.113.7, unknown"], "10.1.2.3"),  # what the proxy appended is unusable
        ("10.1.2.3", ["203.0.113.7, 10.0.0.0/8"], "10.1.2.3"),
        ("10.1.2.3", ["\xff\xfe"], "10.1.2.3"),
    ],
)
def test_forged_headers_do_not_choose_the_address(peer: str, forwarded: list[str], found: str) -> None:
    assert Addresses(PROXIES).of(scope(peer, *forwarded)) == found


def test_long_header_is_read_from_its_end_and_fills_no_memory() -> None:
    known = Addresses(PROXIES)

    for number in range(3 * addresses.MOST_CACHED):
        forged = "198.51.100.9," * 100 + f"{number},203.0.113.7"
        assert known.of(scope("10.1.2.3", forged)) == "203.0.113.7"

    assert known._found.cache_info().currsize == addresses.MOST_CACHED
