"""Tests of what is published, against a real registry: indexes, tags that never move, and charts with their images."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, run
from tools.cluster.programs import find
from tools.release import oci, publish
from tools.release.oci import INDEX, MANIFEST, Manifest, Registry, Repository
from tools.release.packaging import with_images
from tools.release.registry import running_registry

VERSION, COMMIT, OTHER = "0.1.0", "a" * 40, "b" * 40
DIGEST = "sha256:" + "c" * 64
NAMES = ("model-service", "model-service-training", "model-service-mlflow")
IMAGES = [f"ghcr.io/somebody/{name}@{DIGEST}" for name in NAMES]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a running registry."""
    with running_registry(tmp_path_factory.mktemp("registry")) as (address, _):
        yield address


def push_built(repository: Repository, architecture: str, commit: str = COMMIT) -> str:
    """Push what BuildKit pushes for one platform: an index of an image and its attestations."""
    config = {
        "os": "linux", "architecture": architecture,
        "config": {"Labels": {"org.opencontainers.image.revision": commit}},
    }  # fmt: skip
    image = manifest(repository, config, {})
    statements = {
        "https://spdx.dev/Document": {"predicate": {"spdxVersion": "SPDX-2.3", "name": architecture}},
        "https://slsa.dev/provenance/v1": {"predicateType": "https://slsa.dev/provenance/v1", "predicate": {}},
    }
    attested = manifest(repository, {}, statements)
    entries = [
        {**image.descriptor, "platform": {"os": "linux", "architecture": architecture}},
        {
            **attested.descriptor,
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": image.digest,
            },
        },
    ]
    index = Manifest(INDEX, json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode())
    return repository.put(index)


def manifest(repository: Repository, config: object, statements: dict[str, object]) -> Manifest:
    """Push a manifest with a configuration and one layer per statement."""
    described = repository.put_blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    layers = [
        repository.put_blob(json.dumps(statement).encode(), "application/vnd.in-toto+json")
        | {"annotations": {"in-toto.io/predicate-type": predicate}}
        for predicate, statement in statements.items()
    ]
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
    made = Manifest(MANIFEST, json.dumps(document).encode())
    repository.put(made)
    return made


def parts(registry: Registry, commit: str = COMMIT) -> dict[str, dict[str, str]]:
    """Push the service for both architectures and return the references."""
    repository = Repository(f"{registry.prefix}/model-service")
    pushed = {name: push_built(repository, name, commit) for name in publish.ARCHITECTURES}
    return {name: {"model-service": f"{repository.name}@{digest}"} for name, digest in pushed.items()}


def test_index_has_both_platforms_and_no_tag_before_it_is_signed(address: str, tmp_path: Path) -> None:
    registry = Registry(f"{address}/one")

    [reference] = publish.combine_images(registry, VERSION, COMMIT, parts=parts(registry), folder=tmp_path)

    repository = Repository(f"{registry.prefix}/model-service")
    index = repository.existing(reference.partition("@")[2]).document["manifests"]
    assert [entry["platform"]["architecture"] for entry in index] == ["amd64", "unknown", "arm64", "unknown"]
    assert repository.manifest(VERSION) is None
    publish.tag_images([reference], VERSION)
    assert repository.existing(VERSION).digest == reference.partition("@")[2]


def test_sbom_and_provenance_of_each_platform_become_files(address: str, tmp_path: Path) -> None:
    registry = Registry(f"{address}/files")

    publish.combine_images(registry, VERSION, COMMIT, parts=parts(registry), folder=tmp_path)

    assert [path.name for path in publish.files(tmp_path)] == [
        f"model-service-0.1.0-{name}.{suffix}"
        for name in ("amd64", "arm64")
        for suffix in ("intoto.jsonl", "spdx.json")
    ]
    assert json.loads((tmp_path / "model-service-0.1.0-arm64.spdx.json").read_text())["name"] == "arm64"


def test_published_version_is_never_overwritten(address: str, tmp_path: Path) -> None:
    registry = Registry(f"{address}/tags")
    [first] = publish.combine_images(registry, VERSION, COMMIT, parts=parts(registry), folder=tmp_path)
    publish.tag_images([first], VERSION)

    [again] = publish.combine_images(registry, VERSION, COMMIT, parts=parts(registry), folder=tmp_path)
    with pytest.raises(Failure, match=f"is already published, from commit {COMMIT}"):
        publish.combine_images(registry, VERSION, OTHER, parts=parts(registry, OTHER), folder=tmp_path)

    assert again == first
    assert Repository(f"{registry.prefix}/model-service").existing(VERSION).digest == first.partition("@")[2]


def test_missing_platform_is_named() -> None:
    with pytest.raises(Failure, match="No images were built for arm64"):
        publish.combine_images(Registry("ghcr.io/somebody"), VERSION, COMMIT, parts={"amd64": {}})


def test_chart_of_a_fork_names_the_images_of_its_release(address: str, tmp_path: Path) -> None:
    registry = Registry(f"{address}/charts")

    pushed = publish.push_charts(registry, VERSION, COMMIT, IMAGES, folder=tmp_path)
    again = publish.push_charts(registry, VERSION, COMMIT, IMAGES, folder=tmp_path)

    assert again == pushed
    values = ["--set=model.uri=models:/a/1", "--set=mlflow.trackingUri=http://mlflow", "--set=training.enabled=true"]
    charts = [
        run([find("helm"), "template", "demo", f"oci://{chart}", "--plain-http", *arguments])
        for chart, arguments in zip(pushed, (values, []), strict=True)
    ]
    rendered = [item for text in charts for item in yaml.safe_load_all(text)]
    found = {image for image in _images(rendered) if "model-service" in image}
    assert found == {f"ghcr.io/somebody/{name}:{VERSION}@{DIGEST}" for name in NAMES}
    with pytest.raises(Failure, match="A published version is never overwritten"):
        publish.push_charts(registry, VERSION, OTHER, IMAGES, folder=tmp_path)


def _images(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("image"), str):
            yield value["image"]
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            yield from _images(child)


def test_artifact_hub_finds_its_metadata_next_to_the_chart(address: str, tmp_path: Path) -> None:
    charts = publish.push_charts(Registry(f"{address}/hub"), VERSION, COMMIT, IMAGES, folder=tmp_path)

    publish.push_metadata(charts)

    repository = Repository(charts[0].partition("@")[0])
    found = repository.existing("artifacthub.io").document
    [layer] = found["layers"]
    assert found["config"]["mediaType"] == "application/vnd.cncf.artifacthub.config.v1+yaml"
    assert layer["mediaType"] == "application/vnd.cncf.artifacthub.repository-metadata.layer.v1.yaml"
    assert yaml.safe_load(repository.blob(layer["digest"])).keys() <= {"owners", "repositoryID"}


def test_tag_of_a_user_replaces_the_digest_too(tmp_path: Path) -> None:
    images = dict(zip(NAMES, IMAGES, strict=True))
    values = tmp_path / "values.yaml"
    values.write_text(with_images((ROOT / "charts/model-service/values.yaml").read_text(), images, VERSION))
    command = [find("helm"), "template", "demo", ROOT / "charts/model-service", "--values", values]
    command += ["--set=model.uri=models:/a/1", "--set=mlflow.trackingUri=http://mlflow"]

    custom = run([*command, "--set=image.repository=churn", "--set-string=image.tag=2"])
    mirrored = run([*command, "--set=global.imageRegistry=mirror.example"])

    assert "image: ghcr.io/churn:2\n" in custom.replace('"', "")
    assert f"image: mirror.example/somebody/model-service:{VERSION}@{DIGEST}\n" in mirrored.replace('"', "")


def test_image_that_the_release_does_not_have_is_named() -> None:
    with pytest.raises(Failure, match="names model-service-training, which is not among the images"):
        with_images((ROOT / "charts/model-service/values.yaml").read_text(), {NAMES[0]: IMAGES[0]}, VERSION)


class _Registry(BaseHTTPRequestHandler):
    """HTTP handler that requires a token, as ghcr.io does, and gives one to the login of a test."""

    def do_GET(self) -> None:
        given, host = self.headers.get("Authorization", ""), self.headers["Host"]
        if self.path.startswith("/token?"):
            self.answer(200 if given == f"Basic {LOGIN}" else 403, {"token": "t0"})
        elif given == "Bearer t0":
            self.answer(200, {"manifests": []})
        else:
            self.answer(401, {}, f'Bearer realm="http://{host}/token",service="{host}",scope="ignored"')

    def answer(self, status: int, document: object, challenge: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", INDEX)
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_: object) -> None:
        """Suppress the log."""


LOGIN = base64.b64encode(b"somebody:password").decode()


def test_credentials_of_docker_login_are_exchanged_for_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": LOGIN}}}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

        found = Repository(f"{host}/somebody/private").manifest("1")
        monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
        unknown = Repository(f"{host}/somebody/private").manifest("1")
        server.shutdown()

    assert found is not None
    assert found.document == {"manifests": []}
    assert unknown is None
    assert oci.index_of(Repository(f"{host}/a"), []).document["manifests"] == []
