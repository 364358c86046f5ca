"""Values for service meshes: native sidecars for every pod, which Jobs and init containers with network access need."""

from pathlib import Path

import pytest
import yaml

from tests.charts.harness import MINIMAL
from tests.charts.schemas import problems
from tests.charts.strategies import merged
from tests.charts.test_schemas import JOBS
from tools.charts import MODEL_SERVICE, Object, render
from tools.cluster.cache import ROOT

FOLDER = ROOT / "docs" / "how-to" / "service-mesh"
NATIVE = {
    "istio": "sidecar.istio.io/nativeSidecar",
    "linkerd": "config.beta.linkerd.io/proxy-enable-native-sidecar",
}


def templates(objects: list[Object]) -> dict[str, Object]:
    """Return the pod template of each workload, or the pod itself, by kind and name."""
    found = {f"{each['kind']} {each['metadata']['name']}": each for each in objects}
    pods = {name: each for name, each in found.items() if each["kind"] in ("Deployment", "Job", "Pod")}
    return {name: each if each["kind"] == "Pod" else each["spec"]["template"] for name, each in pods.items()}


def test_each_file_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == NATIVE.keys()


@pytest.mark.parametrize("mesh", NATIVE)
def test_every_pod_asks_for_a_native_sidecar(mesh: str) -> None:
    objects = render(MODEL_SERVICE, merged(MINIMAL, JOBS), files=[FOLDER / f"{mesh}.yaml"])
    pods = templates(objects)

    assert len(pods) == 4, "service, training, batch and helm test"
    assert {name: pod["metadata"]["annotations"][NATIVE[mesh]] for name, pod in pods.items()} == dict.fromkeys(
        pods, "true"
    )
    assert problems([each for each in objects if each["kind"] != "PeerAuthentication"]) == []


def test_istio_accepts_plain_requests_for_metrics_only() -> None:
    objects = render(MODEL_SERVICE, MINIMAL, files=[FOLDER / "istio.yaml"])
    [policy] = [each for each in objects if each["kind"] == "PeerAuthentication"]
    [deployment] = [each for each in objects if each["kind"] == "Deployment"]

    assert policy["spec"]["selector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
    assert policy["spec"]["portLevelMtls"] == {"8002": {"mode": "PERMISSIVE"}}
    assert 8002 in [port["containerPort"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]]


@pytest.mark.parametrize("mesh", NATIVE)
def test_annotations_are_not_part_of_a_selector(mesh: str) -> None:
    before = render(MODEL_SERVICE, MINIMAL)
    after = render(MODEL_SERVICE, MINIMAL, files=[FOLDER / f"{mesh}.yaml"])

    def selectors(objects: list[Object]) -> list[Object]:
        return [each["spec"]["selector"] for each in objects if each["kind"] in ("Deployment", "Service")]

    assert selectors(before) == selectors(after)
    assert yaml.safe_load(Path(FOLDER / f"{mesh}.yaml").read_text())
