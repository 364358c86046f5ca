"""Tests of the checks before a release: one error line, status 1, and nothing is pushed."""

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, run
from tools.cluster.images import PRODUCTS
from tools.release import deploy
from tools.release.checks import notes, pinned, project_version, release_version
from tools.release.publish import Registry

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "sha256:" + "a" * 64
IMAGES = [f"ghcr.io/owner/model-service@{DIGEST}", f"ghcr.io/owner/model-service-training@{DIGEST}"]
CHARTS = [f"ghcr.io/owner/charts/model-service@{DIGEST}"]
REGISTRY = Registry("ghcr.io/owner")


def verb(name: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a verb like the workflow."""
    command = [sys.executable, "-m", "tools.release", name]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a clone of the current commit."""
    run(["git", "clone", "--quiet", ROOT, tmp_path / "clone"])
    return tmp_path / "clone"


def test_tag_is_a_release_and_a_branch_a_pre_release() -> None:
    version = project_version()

    assert release_version(f"v{version}", COMMIT) == version
    assert release_version("", COMMIT) == f"{version}-main.g0123456789ab"


def test_tag_of_a_different_version_pushes_nothing(clone: Path) -> None:
    refused = verb("images", clone, GITHUB_REF="refs/tags/v9.9.9", RELEASE_REGISTRY="127.0.0.1:1/never")

    assert refused.returncode == 1
    assert refused.stdout == (
        f"error: Tag v9.9.9 does not match version {project_version()} of pyproject.toml. "
        f"Tag the commit as v{project_version()}.\n"
    )


def test_dirty_clone_is_rejected(clone: Path) -> None:
    clean = verb("check", clone, GITHUB_REF="refs/heads/main")
    (clone / "README.md").write_text("changed")

    refused = verb("charts", clone, GITHUB_REF="", RELEASE_REGISTRY="127.0.0.1:1/never")

    assert clean.returncode == 0, clean.stdout
    assert refused.returncode == 1
    assert refused.stdout.startswith("error: The work tree differs from its commit (M README.md, …).")


def test_chart_of_a_different_version_is_rejected(clone: Path) -> None:
    chart = clone / "charts" / "model-service" / "Chart.yaml"
    chart.write_text(chart.read_text().replace(f"version: {project_version()}", "version: 7.7.7", 1))
    run(["git", "-C", clone, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "test: another version"])

    refused = verb("check", clone, GITHUB_REF="")

    assert refused.returncode == 1
    assert "charts/model-service/Chart.yaml has version 7.7.7" in refused.stdout


def test_registry_without_a_path_is_rejected() -> None:
    refused = verb("sign", RELEASE_REGISTRY="ghcr.io")

    assert refused.returncode == 1
    assert refused.stdout.startswith("error: RELEASE_REGISTRY=ghcr.io is not a registry with a path.")


def test_missing_program_is_named(tmp_path: Path) -> None:
    refused = verb("check", PATH=str(tmp_path))

    assert refused.returncode == 1
    assert refused.stdout == "error: git is not installed. Install it and run again.\n"


def test_notes_are_the_section_of_the_version() -> None:
    text = "# Changelog\n\n## [Unreleased]\n\n## [1.0.0] - 2026-01-02\n\n### Added\n\n- One.\n\n## [0.9.0]\n\n- Old.\n"

    assert notes("1.0.0", text) == "### Added\n\n- One.\n"
    for version in ("1.1.0", "Unreleased"):
        with pytest.raises(Failure, match="has no section"):
            notes(version, text)


def test_changelog_has_the_required_format() -> None:
    assert notes("Unreleased", (ROOT / "CHANGELOG.md").read_text()).startswith("### Added")


@pytest.mark.parametrize("reference", ["ghcr.io/owner/image:1.0", "ghcr.io/owner/image@sha256:12", "", f"a b@{DIGEST}"])
def test_reference_without_digest_is_rejected(reference: str) -> None:
    with pytest.raises(Failure, match="has no digest"):
        pinned(reference)


def test_deploy_rejects_an_image_without_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "_kubeconfig", lambda *_: Path("/nowhere"))
    environment = {"DEPLOY_VALUES": "charts/model-service/ci/default-values.yaml"}

    with pytest.raises(Failure, match=r"ghcr\.io/owner/model-service:1 has no digest"):
        deploy.deploy(REGISTRY, ["ghcr.io/owner/model-service:1"], CHARTS, environment)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "DEPLOY_VALUES= is not a file in this repository"),
        ({"DEPLOY_VALUES": "nowhere.yaml"}, "DEPLOY_VALUES=nowhere.yaml is not a file"),
        ({"DEPLOY_VALUES": "charts/model-service/values.yaml"}, "names an image, and the release decides which"),
        ({"DEPLOY_VALUES": "charts/model-service/ci/batch-values.yaml"}, "DEPLOY_SERVER is not set"),
    ],
)
def test_deploy_names_the_missing_variable(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(Failure, match=sentence):
        deploy.deploy(REGISTRY, IMAGES, CHARTS, environment)


def test_released_images_match_the_chart() -> None:
    values = yaml.safe_load((ROOT / "charts" / "model-service" / "values.yaml").read_text())

    names = {f"model-service/{image.name}" for image in PRODUCTS}
    assert {values["image"]["repository"], values["jobs"]["image"]["repository"]} < names
    assert deploy.image_values(IMAGES) == [
        "--set=image.registry=ghcr.io", "--set=image.repository=owner/model-service", f"--set=image.digest={DIGEST}",
    ]  # fmt: skip


class _Issuer(http.server.BaseHTTPRequestHandler):
    """HTTP handler that answers like GitHub's token service."""

    def do_GET(self) -> None:
        asked = f"{self.path} {self.headers['Authorization']}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"value": asked}).encode())

    def log_message(self, *_: object) -> None:
        """Suppress the log."""


def test_cluster_access_uses_the_token_of_the_job(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Issuer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        environment = {
            "DEPLOY_SERVER": "https://cluster.example",
            "DEPLOY_CA": "Q0E=",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{server.server_port}/token?v=1",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job",
        }
        path = deploy._kubeconfig(tmp_path, environment)

    config = json.loads(path.read_text())
    assert path.stat().st_mode & 0o077 == 0
    assert config["users"] == [
        {"name": "deploy", "user": {"token": "/token?v=1&audience=https://cluster.example Bearer job"}}
    ]
    assert config["clusters"][0]["cluster"]["server"] == "https://cluster.example"
