"""Validation of objects against the API of a Kubernetes version, by kubeconform.

kubeconform reads one JSON schema per kind. This module generates them from the projects' Go modules: the OpenAPI file
of Kubernetes and the CustomResourceDefinitions of the others. Nothing is copied into the repository. The schemas are
strict: an unknown key is an error, as with `kubectl --validate=strict`.
"""

import collections
import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tools.charts import Object, program
from tools.cluster.cache import CACHE, key_of
from tools.cluster.programs import CLUSTER, KUBERNETES_VERSION, only_one
from tools.go import module

# The oldest version that the charts' kubeVersion allows, and the version of the test cluster.
KUBERNETES_VERSIONS = ("1.30.14", KUBERNETES_VERSION)
KEDA = "github.com/kedacore/keda/v2@v2.21.0"
GATEWAY_API = "sigs.k8s.io/gateway-api@v1.4.0"
TRAINER = "github.com/kubeflow/trainer/v2@v2.3.0"
OPERATOR = "github.com/prometheus-operator/prometheus-operator"

type Schema = dict[str, Any]

# Types that the definitions declare as a string, although the API also accepts a number.
NUMBERS_TOO = ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity")
REFERENCE = "#/definitions/"
# Objects that were found valid, by version of Kubernetes. Most objects are the same in hundreds of renders.
_VALID: dict[str, set[str]] = collections.defaultdict(set)


def problems(objects: Sequence[Object], kubernetes: str = KUBERNETES_VERSION) -> list[str]:
    """Return the errors of kubeconform, each with its kind. An unknown kind is an error."""
    texts = {json.dumps(item, ensure_ascii=False, sort_keys=True) for item in objects}
    unknown = texts - _VALID[kubernetes]
    found = problems_of_text("\n---\n".join(unknown), kubernetes) if unknown else []
    if not found:
        _VALID[kubernetes] |= unknown
    return found


def problems_of_text(manifests: str, kubernetes: str = KUBERNETES_VERSION) -> list[str]:
    """Return the same for YAML documents, in which duplicate keys are errors too."""
    location = f"{schemas(kubernetes)}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    finished = subprocess.run(
        [program("kubeconform"), "-strict", "-output=json", f"-schema-location={location}", "-"],
        input=manifests,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # The text before the first `- at` is the path of the schema.
    resources = json.loads(finished.stdout)["resources"]
    return sorted(f"{found['kind']}: {found['msg'][max(found['msg'].find('- at '), 0) :]}" for found in resources)


@functools.cache
def schemas(kubernetes: str) -> Path:
    """Return the folder with one schema per kind, generated once per version and named as kubeconform expects."""
    folder = CACHE / "schemas" / f"{kubernetes}-{key_of([Path(__file__), CLUSTER / 'go.mod'])}"
    with only_one("schemas"):
        if not folder.exists():
            work = folder.with_suffix(".writing")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            for kind, group, version, schema in [*kubernetes_kinds(kubernetes), *custom_kinds()]:
                parts = [kind, group.partition(".")[0], version]
                (work / ("-".join(filter(None, parts)).lower() + ".json")).write_text(json.dumps(schema))
            work.rename(folder)
    return folder


def kubernetes_kinds(version: str) -> Iterator[tuple[str, str, str, Schema]]:
    """Yield kind, group, version and closed schema of each kind of a Kubernetes version."""
    text = (module(f"k8s.io/kubernetes@v{version}") / "api" / "openapi-spec" / "swagger.json").read_text()
    definitions: dict[str, Schema] = {name: closed(found) for name, found in json.loads(text)["definitions"].items()}
    definitions.update({name: {"type": ["string", "number"]} for name in NUMBERS_TOO})
    for name, definition in definitions.items():
        for served in definition.get("x-kubernetes-group-version-kind", ()):
            needed = {used: definitions[used] for used in references(name, definitions)}
            schema = {"$ref": REFERENCE + name, "definitions": needed}
            yield served["kind"], served["group"], served["version"], schema


def references(name: str, definitions: dict[str, Schema]) -> set[str]:
    """Return the names of a definition and of all definitions that it references."""
    found, left = set[str](), [name]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += re.findall(rf'"{REFERENCE}([^"]+)"', json.dumps(definitions[name]))
    return found


def custom_kinds() -> Iterator[tuple[str, str, str, Schema]]:
    """Yield kind, group, version and closed schema of each custom kind."""
    for resource in custom_resources():
        spec = resource["spec"]
        for served in spec["versions"]:
            yield spec["names"]["kind"], spec["group"], served["name"], closed(served["schema"]["openAPIV3Schema"])


def custom_resources() -> Iterator[Object]:
    """Yield the CustomResourceDefinitions of the kinds that the charts render."""
    pinned = re.search(rf"{OPERATOR} (v\S+)", (CLUSTER / "go.mod").read_text())
    assert pinned, f"{CLUSTER / 'go.mod'} does not pin {OPERATOR}"
    operator = f"{OPERATOR}@{pinned[1]}"
    for kind in ("alertmanagers", "podmonitors", "prometheuses", "prometheusrules", "servicemonitors"):
        yield from definitions_in(operator, f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml")
    yield from definitions_in(KEDA, "config/crd/bases/keda.sh_scaledobjects.yaml")
    yield from definitions_in(TRAINER, "manifests/base/crds/trainer.kubeflow.org_trainjobs.yaml")
    yield from definitions_in(GATEWAY_API, "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml")


def definitions_in(name: str, path: str) -> Iterator[Object]:
    """Yield the documents of a YAML file in a Go module."""
    yield from (found for found in yaml.load_all((module(name) / path).read_text(), Loader=yaml.CSafeLoader) if found)


def closed(schema: Any) -> Any:
    """Return a copy of a schema that rejects unknown keys."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: closed(value) for key, value in schema.items() if key != "description" or isinstance(value, dict)}
    if isinstance(copy.get("properties"), dict) and not copy.get("x-kubernetes-preserve-unknown-fields"):
        copy.setdefault("additionalProperties", False)
    return copy
