"""Tests of the packaged chart, its Artifact Hub metadata, and the compatibility promise in its README."""

import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from tools.charts import CHARTS, MODEL_SERVICE, program

LARGEST_PACKAGE_BYTES = 100 * 1024
# https://artifacthub.io/docs/topics/annotations/helm/
KINDS_OF_CHANGE = {"added", "changed", "deprecated", "removed", "fixed", "security"}
METADATA = yaml.safe_load((MODEL_SERVICE / "Chart.yaml").read_text())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the packaged chart."""
    folder = tmp_path_factory.mktemp("package")
    command = [program("helm"), "package", str(MODEL_SERVICE), "--destination", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(folder.glob("*.tgz"))


def test_package_contains_only_what_helm_reads(package: Path) -> None:
    with tarfile.open(package) as archive:
        names = {name.removeprefix("model-service/") for name in archive.getnames()}

    others = {name for name in names if not name.startswith(("templates/", "files/"))}
    assert {name for name in names if name.startswith("files/")} == {
        *(f"files/dashboards/{name}.json" for name in ("fleet", "model", "service")),
        *(f"files/rules/{name}.yaml" for name in ("canary", "challenger", "drift", "log", "quality", "service")),
    }
    profiles = {"values-openshift.yaml", "values-small.yaml"}
    assert others == {"Chart.yaml", "README.md", "values.schema.json", "values.yaml", *profiles}
    assert {name for name in names if "test" in name} == {"templates/tests/predict.yaml"}, "only the helm test"


def test_package_is_small(package: Path) -> None:
    assert package.stat().st_size < LARGEST_PACKAGE_BYTES


def test_artifact_hub_metadata_is_complete() -> None:
    assert METADATA["icon"].endswith("/charts/model-service/icon.svg")
    assert (MODEL_SERVICE / "icon.svg").read_text().startswith("<svg ")
    for key in ("home", "sources", "maintainers", "keywords", "kubeVersion"):
        assert METADATA[key], key
    assert METADATA["annotations"]["artifacthub.io/license"] == "Apache-2.0"
    assert (CHARTS.parent / "LICENSE").read_text().lstrip().startswith("Apache License")


def test_annotations_contain_yaml_lists() -> None:
    changes = yaml.safe_load(METADATA["annotations"]["artifacthub.io/changes"])
    links = yaml.safe_load(METADATA["annotations"]["artifacthub.io/links"])

    screenshots = yaml.safe_load(METADATA["annotations"]["artifacthub.io/screenshots"])
    assert changes
    assert all((CHARTS.parent / image["url"].partition("/main/")[2]).is_file() for image in screenshots)
    assert all(change.keys() == {"kind", "description"} for change in changes)
    assert {change["kind"] for change in changes} <= KINDS_OF_CHANGE
    assert all(link["url"].startswith("https://") for link in links)


def test_readme_contains_the_compatibility_promise() -> None:
    readme = (MODEL_SERVICE / "README.md").read_text()

    for part in ("## Compatibility", "**Deprecation.**", "**Upgrades.**", "**Not covered**"):
        assert part in readme
