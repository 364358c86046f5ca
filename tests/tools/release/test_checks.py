"""Tests of the checks before a release: one error line, status 1, and nothing is pushed."""

import base64
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from tools.cluster.cache import CACHE, ROOT
from tools.cluster.console import Failure, run
from tools.cluster.images import PRODUCTS
from tools.release import access, deploy
from tools.release.checks import notes, pinned, project_version, release_version
from tools.release.oci import Registry

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "sha256:" + "a" * 64
IMAGES = [f"ghcr.io/owner/model-service@{DIGEST}", f"ghcr.io/owner/model-service-training@{DIGEST}"]
CHARTS = [f"ghcr.io/owner/charts/model-service@{DIGEST}"]
REGISTRY = Registry("ghcr.io/owner")


def verb(name: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a verb like the workflow."""
    command = [sys.executable, "-m", "tools.release", name]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)


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
    refused = verb("build", clone, GITHUB_REF="refs/tags/v9.9.9", RELEASE_REGISTRY="127.0.0.1:1/never")

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
    monkeypatch.setattr(access, "kubeconfig", lambda *_: Path("/nowhere"))
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


EXPIRES = 1_800_000_000


class _Issuer(http.server.BaseHTTPRequestHandler):
    """HTTP handler that answers like GitHub's token service."""

    def do_GET(self) -> None:
        claims = {"aud": self.path, "presented": self.headers["Authorization"], "exp": EXPIRES}
        parts = ({"alg": "RS256"}, claims)
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"value": ".".join([*encoded, "signature"])}).encode())

    def log_message(self, *_: object) -> None:
        """Suppress the log."""


def test_each_command_gets_a_new_token_of_the_job(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Issuer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        job = {
            "DEPLOY_SERVER": "https://cluster.example",
            "DEPLOY_CA": "Q0E=",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{server.server_port}/token?v=1",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job",
        }
        path = access.kubeconfig(tmp_path, job)
        config = json.loads(path.read_text())
        plugin = config["users"][0]["user"]["exec"]
        given = {entry["name"]: entry["value"] for entry in plugin["env"]}
        command = [plugin["command"], *plugin["args"]]
        env = {**os.environ, **job, **given}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=True)
        server.shutdown()

    answer = json.loads(done.stdout)
    payload = answer["status"]["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert path.stat().st_mode & 0o077 == 0
    assert config["clusters"][0]["cluster"]["server"] == "https://cluster.example"
    assert answer["apiVersion"] == plugin["apiVersion"]
    assert (claims["aud"], claims["presented"]) == ("/token?v=1&audience=https://cluster.example", "Bearer job")
    assert answer["status"]["expirationTimestamp"] == "2027-01-15T08:00:00Z"
    assert "token" not in path.read_text().replace("tools.release", "").replace("TOKEN", "")


def test_publishing_needs_only_the_release_group(tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    env |= {"UV_PROJECT_ENVIRONMENT": str(tmp_path / "venv")}
    uv = shutil.which("uv") or CACHE / "uv" / "bin" / "uv"
    run([uv, "sync", "--quiet", "--frozen", "--only-group", "release"], cwd=ROOT, env=env)

    helped = run([tmp_path / "venv" / "bin" / "python", "-m", "tools.release", "--help"], cwd=ROOT, env=env)

    installed = {path.name for path in (tmp_path / "venv" / "lib").glob("python3*/site-packages/*.dist-info")}
    assert "announce" in helped
    assert {name.partition("-")[0] for name in installed} == {"pyyaml"}


def test_page_of_a_release_can_be_published_again(tmp_path: Path) -> None:
    """`gh` records what it is called with, and knows the page from the second call of `view` on."""
    clone, calls = tmp_path / "clone", tmp_path / "calls"
    run(["git", "clone", "--quiet", ROOT, clone])
    changelog = clone / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("[Unreleased]", f"[{project_version()}] - 2026-12-01", 1))
    release = clone / "build" / "release"
    release.mkdir(parents=True)
    for name in ("model-service-0.1.0.tgz", "model-service-0.1.0-amd64.spdx.json"):
        (release / name).touch()
        (release / f"{name}.sigstore.json").touch()
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(f'#!/bin/sh\necho "$*" >> {calls}\n[ "$2" != view ] || [ "$(grep -c view {calls})" -gt 1 ]\n')
    gh.chmod(0o755)

    for _ in range(2):
        done = verb("announce", clone, PATH=f"{gh.parent}:{os.environ['PATH']}")
        assert done.returncode == 0, done.stdout

    verbs = [line.split()[1] for line in calls.read_text().splitlines()]
    assert verbs == ["view", "create", "upload", "view", "edit", "upload"]
    uploaded = next(line for line in calls.read_text().splitlines() if " upload " in line)
    assert uploaded.startswith(f"release upload v{project_version()} --clobber")
    assert len(re.findall(r"build/release/\S+", uploaded)) == 4
