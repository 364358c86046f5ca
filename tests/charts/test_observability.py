"""The umbrella: what it pins, how it sets its dependencies, and the copy that renders without a registry."""

import hashlib
import json
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.charts.harness import MLFLOW, OBSERVABILITY, kinds, only, render
from tests.charts.umbrella import DEPENDENCY, copy_umbrella, pinned_version

CHART = yaml.safe_load((OBSERVABILITY / "Chart.yaml").read_text())
VALUES = yaml.safe_load((OBSERVABILITY / "values.yaml").read_text())
WITHOUT_STACK = {DEPENDENCY: {"enabled": False}}


@pytest.fixture
def umbrella(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the umbrella with the placeholder dependency."""
    monkeypatch.delenv("KPS_CHART", raising=False)
    return copy_umbrella(tmp_path / "observability")


def archive(folder: Path, version: str) -> Path:
    """Write a packaged chart with the stack's name and one object, and return its path."""
    chart = folder / "packaged" / DEPENDENCY
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: {DEPENDENCY}\nversion: {version}\n")
    (chart / "templates" / "configmap.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: real\n")
    packed = folder / "stack.tgz"
    with tarfile.open(packed, "w:gz") as file:
        file.add(chart, arcname=DEPENDENCY)
    return packed


@pytest.mark.parametrize("kind", ["serviceMonitor", "podMonitor", "rule", "probe", "scrapeConfig"])
def test_prometheus_takes_objects_of_all_releases(kind: str) -> None:
    assert VALUES[DEPENDENCY]["prometheus"]["prometheusSpec"][f"{kind}SelectorNilUsesHelmValues"] is False


def test_scrapes_every_fifteen_seconds() -> None:
    assert VALUES[DEPENDENCY]["prometheus"]["prometheusSpec"]["scrapeInterval"] == "15s"


def test_dependencies_are_pinned_and_conditional() -> None:
    for dependency in CHART["dependencies"]:
        assert dependency["version"].replace(".", "").isdigit()
        assert dependency["condition"] == f"{dependency['name']}.enabled"
        assert VALUES[dependency["name"]]["enabled"] is True


def test_lock_is_in_step_with_the_pins() -> None:
    lock = yaml.safe_load((OBSERVABILITY / "Chart.lock").read_text())
    fields = ("name", "version", "repository", "condition")
    wanted = [{key: dependency[key] for key in fields} for dependency in CHART["dependencies"]]
    locked = [{key: dependency[key] for key in fields[:3]} for dependency in lock["dependencies"]]

    # Helm's own digest (internal/resolver.HashReq): the JSON of both lists.
    digest = hashlib.sha256(json.dumps([wanted, locked], separators=(",", ":")).encode()).hexdigest()

    assert locked == [{key: dependency[key] for key in fields[:3]} for dependency in wanted]
    assert lock["digest"] == f"sha256:{digest}"


def test_umbrella_has_no_templates_but_notes() -> None:
    assert [path.name for path in (OBSERVABILITY / "templates").iterdir()] == ["NOTES.txt"]


def test_mlflow_is_reachable_by_the_agreed_name(umbrella: Path) -> None:
    objects = render(umbrella, WITHOUT_STACK, release="obs", namespace="monitoring")

    service = only(objects, "Service")

    assert (service["metadata"]["name"], service["metadata"]["namespace"]) == ("obs-mlflow", "monitoring")
    assert service["spec"]["ports"][0]["port"] == 5000


def test_umbrella_adds_nothing_to_the_mlflow_chart(umbrella: Path) -> None:
    assert kinds(render(umbrella, WITHOUT_STACK)) == kinds(render(MLFLOW))


def test_mlflow_absent_when_disabled(umbrella: Path) -> None:
    assert render(umbrella, {**WITHOUT_STACK, "mlflow": {"enabled": False}}) == []


def test_copy_leaves_the_original_alone(umbrella: Path) -> None:
    assert (umbrella / "charts" / DEPENDENCY / "Chart.yaml").is_file()
    assert not (OBSERVABILITY / "charts" / DEPENDENCY).exists()


def test_copy_takes_the_real_chart_when_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPS_CHART", str(archive(tmp_path, pinned_version())))

    objects = render(copy_umbrella(tmp_path / "copy"), {"mlflow": {"enabled": False}})

    assert [item["metadata"]["name"] for item in objects] == ["real"]


def test_copy_refuses_another_version_of_the_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPS_CHART", str(archive(tmp_path, "1.2.3")))

    with pytest.raises(ValueError, match=f"is not {DEPENDENCY} {pinned_version()}, which the umbrella pins"):
        copy_umbrella(tmp_path / "copy")
