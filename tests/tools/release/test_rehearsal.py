"""Rehearsal of a release with the code of the workflow: push to a registry, sign, verify and pull by digest."""

import json
import os
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, run, wait_for
from tools.cluster.images import APP
from tools.cluster.programs import find
from tools.release.oci import Registry
from tools.release.publish import build_images, combine_images, push_charts
from tools.release.registry import running_registry
from tools.release.signing import attest, cosign, sbom, sign, sign_files, verify, verify_files

pytestmark = pytest.mark.long  # cosign is four minutes of a processor when it is not built yet

MLFLOW = ROOT / "charts" / "observability" / "charts" / "mlflow"
VERSION, COMMIT = "0.1.0-rehearsal.g0", "0" * 40
# Images of a release, for charts that are packaged without pushing images.
IMAGES = [f"ghcr.io/owner/model-service{suffix}@sha256:{'a' * 64}" for suffix in ("", "-training", "-mlflow")]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a temporary private key, with its public key next to it."""
    folder = tmp_path_factory.mktemp("key")
    run([cosign(), "generate-key-pair"], cwd=folder, env={**os.environ, "COSIGN_PASSWORD": ""})
    return folder / "cosign.key"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[Registry]:
    """Return a running registry."""
    with running_registry(tmp_path_factory.mktemp("registry")) as (address, _):
        yield Registry(f"{address}/rehearsal", key)


@pytest.fixture(scope="module")
def charts(registry: Registry, page: Path) -> list[str]:
    """Return the pushed and signed charts."""
    references = push_charts(registry, VERSION, COMMIT, IMAGES, folder=page)
    sign(registry, references)
    return references


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the files of the release's page."""
    return tmp_path_factory.mktemp("page")


def push_app(registry: Registry, folder: Path) -> str:
    """Build and push the image of the service, without a tag, and return its reference."""
    parts = {"amd64": build_images(registry, VERSION, COMMIT, [APP], folder=folder)}
    [reference] = combine_images(registry, VERSION, COMMIT, parts=parts, folder=folder)
    return reference


def test_signed_charts_are_verified(registry: Registry, charts: list[str]) -> None:
    verify(registry, charts)


def test_chart_is_pulled_by_digest_and_has_the_version(charts: list[str], tmp_path: Path) -> None:
    run([find("helm"), "pull", f"oci://{charts[0]}", "--plain-http", "--untar", "--untardir", tmp_path])

    chart = yaml.safe_load((tmp_path / "model-service" / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)


def test_pushed_chart_renders_like_the_checkout_but_for_its_images(charts: list[str]) -> None:
    values = ["--values", str(ROOT / "charts" / "model-service" / "ci" / "default-values.yaml")]
    pushed = run([find("helm"), "template", "demo", f"oci://{charts[0]}", "--plain-http", *values])
    here = run([find("helm"), "template", "demo", ROOT / "charts" / "model-service", *values])

    ours = here.replace(
        "ghcr.io/model-service/model-service:0.1.0", f"ghcr.io/owner/model-service:{VERSION}@sha256:{'a' * 64}"
    )
    assert ours != here
    assert pushed.replace(VERSION, "0.1.0") == ours.replace(VERSION, "0.1.0")


def test_files_of_the_page_are_signed(registry: Registry, charts: list[str], page: Path, tmp_path: Path) -> None:
    packed = sorted(page.glob("*.tgz"))
    assert len(packed) == len(charts) == 2
    sign_files(registry, packed)
    verify_files(registry, packed)

    changed = tmp_path / packed[0].name
    changed.write_bytes(packed[0].read_bytes() + b"\0")
    (tmp_path / f"{changed.name}.sigstore.json").write_bytes((page / f"{changed.name}.sigstore.json").read_bytes())
    with pytest.raises(Failure, match="is not signed by this project: do not use it"):
        verify_files(registry, [changed])


def test_unsigned_chart_is_rejected(registry: Registry, tmp_path: Path) -> None:
    other = Registry(f"{registry.prefix}-unsigned", registry.key)
    references = push_charts(other, VERSION, COMMIT, IMAGES, folder=tmp_path)

    with pytest.raises(Failure, match="is not signed by this project: do not deploy it"):
        verify(other, references)


def test_signature_of_a_different_key_is_rejected(registry: Registry, charts: list[str], tmp_path: Path) -> None:
    run([cosign(), "generate-key-pair"], cwd=tmp_path, env={**os.environ, "COSIGN_PASSWORD": ""})

    with pytest.raises(Failure, match="is not signed by this project"):
        verify(Registry(registry.prefix, tmp_path / "cosign.key"), charts)


def test_image_is_pushed_signed_and_verified_by_digest(registry: Registry, tmp_path: Path) -> None:
    reference = push_app(registry, tmp_path)
    with pytest.raises(Failure, match="is not signed by this project"):
        verify(registry, [reference])

    sign(registry, [reference])
    verify(registry, [reference])
    assert reference.startswith(f"{registry.prefix}/model-service@sha256:")


def test_image_has_a_signed_sbom(registry: Registry, tmp_path: Path) -> None:
    reference = push_app(registry, tmp_path)
    with pytest.raises(Failure, match="has no SBOM that this project signed"):
        sbom(registry, reference)

    attest(registry, [reference])

    found = {package["name"]: package.get("versionInfo") for package in sbom(registry, reference)["packages"]}
    locked = {
        package["name"]: package["version"] for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    }
    for name in ("fastapi", "numpy", "orjson", "xgboost-cpu"):
        assert found[name] == locked[name]
    assert "openssl" in str(found)  # Debian's packages too
    assert not {"mlflow", "pandas", "pip", "scipy", "uv"} & found.keys()


def test_interrupted_push_leaves_no_partial_image(tmp_path: Path, key: Path) -> None:
    def begun() -> bool:
        return int(run(["du", "--summarize", "--bytes", tmp_path / "data"]).split()[0]) > 1_000_000

    with running_registry(tmp_path) as (address, process), ThreadPoolExecutor() as pool:
        pushed = pool.submit(build_images, Registry(f"{address}/half", key), VERSION, COMMIT, [APP], folder=tmp_path)
        wait_for("the push to begin", begun, timeout_seconds=300, remedy="Is the image built?")
        process.kill()
        with pytest.raises(Failure, match="run again; finished layers are kept"):
            pushed.result()

    with running_registry(tmp_path) as (address, _):
        half = Registry(f"{address}/half", key)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://{address}/v2/half/model-service/manifests/{VERSION}")
        reference = push_app(half, tmp_path)  # the same verb again
        sign(half, [reference])
        verify(half, [reference])


def test_unreachable_registry_stops_the_release(tmp_path: Path, key: Path) -> None:
    with running_registry(tmp_path) as (address, process):
        gone = Registry(f"{address}/rehearsal", key)
        [first] = push_charts(gone, VERSION, COMMIT, IMAGES, [ROOT / "charts" / "model-service"], folder=tmp_path)
        process.kill()
        process.wait()

        with pytest.raises(Failure, match="does not answer"):
            push_charts(gone, VERSION, COMMIT, IMAGES, [MLFLOW], folder=tmp_path)
        with pytest.raises(Failure, match="cosign sign failed"):
            sign(gone, [first])


def test_verbs_of_the_workflow_release_and_verify(registry: Registry, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone])
    environment = {"RELEASE_REGISTRY": f"{registry.prefix}-Verbs", "RELEASE_KEY": str(registry.key)}
    env = {k: v for k, v in os.environ.items() if k != "GITHUB_REF"} | environment

    def verb(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.release", name]
        return subprocess.run(command, cwd=clone, env=env, capture_output=True, text=True, timeout=1500, check=False)

    too_early = verb("sign")
    assert (too_early.returncode, too_early.stdout.count("\n")) == (1, 1)
    assert "nothing was pushed yet" in too_early.stdout
    for name in ("check", "build", "images", "charts", "sign", "verify", "tag"):
        finished = verb(name)
        assert finished.returncode == 0, finished.stdout + finished.stderr

    names = {
        f"{registry.prefix.partition('/')[2]}-verbs/model-service{suffix}" for suffix in ("", "-mlflow", "-training")
    }
    assert names <= set(repositories(registry))


def repositories(registry: Registry) -> list[str]:
    """Return the names of the repositories of the registry."""
    with urllib.request.urlopen(f"http://{registry.prefix.partition('/')[0]}/v2/_catalog", timeout=300) as answer:
        return list(json.load(answer)["repositories"])
