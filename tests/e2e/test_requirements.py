"""Installation before and after a CustomResourceDefinition exists. The cluster has no Gateway API of its own."""

import json
from collections.abc import Iterator

import pytest

from tests.charts.schemas import GATEWAY_API, definitions_in
from tools.cluster.access import Access
from tools.cluster.cache import ROOT
from tools.cluster.console import Failure
from tools.cluster.main_job import NAMESPACE

RELEASE = "routed"
CHART = ROOT / "charts" / "model-service"
DEFINITION = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"
CRD = "httproutes.gateway.networking.k8s.io"
COMMAND = [
    "upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--set=model.uri=file:///models/none",
    "--set=replicaCount=0", "--set=httpRoute.enabled=true", "--set=httpRoute.parentRefs[0].name=public",
]  # fmt: skip


@pytest.fixture
def no_route(access: Access) -> Iterator[None]:
    """A cluster without HTTPRoute, before and after."""
    assert CRD not in access.kubectl("get", "crd", "--output=name"), "the cluster has a Gateway API of its own"
    try:
        yield
    finally:
        access.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")
        access.kubectl("delete", "crd", CRD, "--ignore-not-found")


@pytest.mark.alone  # the test of the canary defines HTTPRoute
@pytest.mark.usefixtures("no_route")
def test_missing_definition_is_named_with_its_key_and_installs_once_it_exists(access: Access) -> None:
    with pytest.raises(
        Failure, match=r"httpRoute.enabled=true needs the kind HTTPRoute, which this cluster does not know"
    ):
        access.helm(*COMMAND)
    assert RELEASE not in access.helm("list", "--namespace", NAMESPACE, "--short")

    [definition] = definitions_in(GATEWAY_API, DEFINITION)
    access.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(definition))
    access.kubectl("wait", "crd", CRD, "--for=condition=Established")
    access.helm(*COMMAND)

    assert access.get("httproute", f"{RELEASE}-model-service", NAMESPACE)
