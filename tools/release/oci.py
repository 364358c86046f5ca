"""Client of an image registry: manifests by digest and by tag, with the credentials of `docker login`."""

import base64
import hashlib
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.cluster.console import Failure

INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Registry:
    """Where a release is pushed to, and how what is there is signed."""

    prefix: str  # ghcr.io/owner
    key: Path | None = None  # the private key next to its .pub; without it, the workflow's identity signs

    @property
    def local(self) -> bool:
        """Whether it is on loopback, where there is no TLS."""
        return self.prefix.startswith("127.0.0.1:")


@dataclass(frozen=True)
class Manifest:
    """A manifest or an index, byte for byte."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """Its digest."""
        return "sha256:" + hashlib.sha256(self.content).hexdigest()

    @property
    def document(self) -> dict[str, Any]:
        """Its content, parsed."""
        return dict(json.loads(self.content))

    @property
    def descriptor(self) -> dict[str, Any]:
        """What an index contains of it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


class Repository:
    """One repository of a registry."""

    def __init__(self, name: str) -> None:
        """Args:
        name: Host and path, `ghcr.io/owner/model-service`.
        """
        self.name = name
        self._host, _, self._path = name.partition("/")
        self._authorization = _basic(self._host)

    def manifest(self, reference: str) -> Manifest | None:
        """Return the manifest of a tag or digest, or None if the repository does not have it."""
        accepted = ", ".join((INDEX, DOCKER_LIST, MANIFEST, DOCKER_MANIFEST))
        try:
            content, headers = self._ask("GET", f"manifests/{reference}", {"Accept": accepted})
        except urllib.error.HTTPError as error:
            # ghcr.io answers 403 for a package that does not exist yet.
            if error.code in (403, 404):
                return None
            raise Failure(f"{self.name}: the registry answers {error.code} for {reference}.") from error
        return Manifest(headers["Content-Type"], content)

    def existing(self, reference: str) -> Manifest:
        """Return the manifest of a tag or digest.

        Raises:
            Failure: The repository does not have it.
        """
        if found := self.manifest(reference):
            return found
        raise Failure(f"{self.name} has no {reference}. Push it first, or run `docker login`.")

    def blob(self, digest: str) -> bytes:
        """Return the content of a blob."""
        return self._ask("GET", f"blobs/{digest}", {})[0]

    def put(self, manifest: Manifest, reference: str = "") -> str:
        """Store a manifest under a tag, or under its digest alone, and return the digest.

        Raises:
            Failure: The registry refuses it.
        """
        try:
            headers = {"Content-Type": manifest.media_type}
            self._ask("PUT", f"manifests/{reference or manifest.digest}", headers, manifest.content)
        except urllib.error.HTTPError as error:
            remedy = "Is `docker login` done with an account that may push?"
            raise Failure(f"{self.name}: the registry answers {error.code} to a push. {remedy}") from error
        return manifest.digest

    def put_blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        """Store a blob and return its descriptor."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        _, headers = self._ask("POST", "blobs/uploads/", {}, b"")
        address = urllib.parse.urljoin(self._url("blobs/uploads/"), headers["Location"])
        separator = "&" if "?" in address else "?"
        binary = {"Content-Type": "application/octet-stream"}
        self._ask("PUT", f"{address}{separator}digest={urllib.parse.quote(digest)}", binary, content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def _url(self, path: str) -> str:
        scheme = "http" if self._host.startswith("127.0.0.1:") else "https"
        return path if path.startswith("http") else f"{scheme}://{self._host}/v2/{self._path}/{path}"

    def _ask(
        self, method: str, path: str, headers: dict[str, str], content: bytes | None = None
    ) -> tuple[bytes, dict[str, str]]:
        """Send a request; if the registry asks for a token, get one and send it again."""
        for again in (True, False):
            extra = {"Authorization": self._authorization} if self._authorization else {}
            request = urllib.request.Request(self._url(path), content, {**headers, **extra}, method=method)  # noqa: S310 - http or https above
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                    return answer.read(), dict(answer.headers)
            except urllib.error.HTTPError as error:
                challenge = error.headers.get("WWW-Authenticate", "")
                if error.code != 401 or not again or not challenge.startswith("Bearer"):
                    raise
                self._authorization = f"Bearer {self._token(challenge)}"
            except OSError as error:
                raise Failure(f"{self._host} does not answer: {error}. Check the network, then run again.") from error
        raise AssertionError("the second request returns or raises")

    def _token(self, challenge: str) -> str:
        asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        query = urllib.parse.urlencode(
            {"service": asked.get("service", ""), "scope": f"repository:{self._path}:pull,push"}
        )
        basic = _basic(self._host)
        headers = {"Authorization": basic} if basic else {}
        request = urllib.request.Request(f"{asked['realm']}?{query}", headers=headers)  # noqa: S310 - the registry's own
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return str(json.load(answer)["token"])


def revision(repository: Repository, manifest: Manifest) -> str:
    """Return the commit that an image or a chart was made from, by its label or annotation ("" if it has neither)."""
    document = manifest.document
    if found := document.get("annotations", {}).get("org.opencontainers.image.revision"):
        return str(found)
    if "manifests" in document:
        return revision(repository, repository.existing(document["manifests"][0]["digest"]))
    config = json.loads(repository.blob(document["config"]["digest"]))
    labels = config.get("config", {}).get("Labels") or {}
    return str(labels.get("org.opencontainers.image.revision", ""))


def index_of(repository: Repository, digests: list[str]) -> Manifest:
    """Return an index of images that were pushed for one platform each, with their attestations."""
    entries: list[dict[str, Any]] = []
    for digest in digests:
        found = repository.existing(digest)
        if "manifests" in found.document:
            entries += found.document["manifests"]
        else:
            config = json.loads(repository.blob(found.document["config"]["digest"]))
            platform = {"os": config["os"], "architecture": config["architecture"]}
            entries.append({**found.descriptor, "platform": platform})
    docker = any(entry["mediaType"] == DOCKER_MANIFEST for entry in entries)
    media_type = DOCKER_LIST if docker else INDEX
    content = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    return Manifest(media_type, json.dumps(content, separators=(",", ":")).encode())


def attestations(repository: Repository, index: Manifest) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the in-toto statements that BuildKit stored with an image, by architecture and type of the predicate."""
    entries = index.document.get("manifests", [])
    architectures = {entry["digest"]: entry["platform"]["architecture"] for entry in entries}
    found = {}
    for entry in entries:
        marks = entry.get("annotations", {})
        if marks.get("vnd.docker.reference.type") != "attestation-manifest":
            continue
        architecture = architectures[marks["vnd.docker.reference.digest"]]
        for layer in repository.existing(entry["digest"]).document["layers"]:
            predicate = layer["annotations"]["in-toto.io/predicate-type"]
            found[architecture, predicate] = dict(json.loads(repository.blob(layer["digest"])))
    return found


def _basic(host: str) -> str:
    """Return the Authorization header for what `docker login` stored of a host ("" if nothing)."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        stored = json.loads((folder / "config.json").read_text())["auths"][host]["auth"]
        base64.b64decode(stored, validate=True)
    except (OSError, KeyError, ValueError):
        return ""
    return f"Basic {stored}"
