"""Tests of the settings of the kind cluster."""

import pytest

from tools.cluster import engine, kind
from tools.cluster.console import Failure


@pytest.mark.parametrize(("family", "ranges"), [("ipv6", {"ipFamily": "ipv6"}), ("dual", {"ipFamily": "dual"})])
def test_family_of_addresses_reaches_kind(monkeypatch: pytest.MonkeyPatch, family: str, ranges: object) -> None:
    monkeypatch.setattr(engine, "ours", lambda: False)
    monkeypatch.setenv("IP_FAMILY", family)

    assert kind.configuration()["networking"] == ranges


def test_engine_of_make_up_has_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ours", lambda: True)
    monkeypatch.setenv("IP_FAMILY", "ipv6")

    with pytest.raises(Failure, match="IP_FAMILY=ipv6 needs a Docker engine of yours"):
        kind.configuration()


def test_unknown_family_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IP_FAMILY", "ipx")

    with pytest.raises(Failure, match="IP_FAMILY=ipx is not a family of addresses"):
        kind.configuration()
