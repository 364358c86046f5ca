"""Strict schemas of Kubernetes objects, made from the API definitions that the projects' own Go modules ship.

Strict means that a key which the API does not know is an error, as with `kubectl apply --validate=strict`. The modules
come through Go's ordinary client into its cache; nothing of them is copied here.
"""

import functools
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

from tests.charts.harness import Object, program
from tests.cluster.programs import CLUSTER, KUBERNETES_VERSION

# The oldest Kubernetes that the chart's kubeVersion lets in.
OLDEST_KUBERNETES = "1.30.14"
KEDA = "github.com/kedacore/keda/v2@v2.21.0"
GATEWAY_API = "sigs.k8s.io/gateway-api@v1.4.0"
OPERATOR = "github.com/prometheus-operator/prometheus-operator"

type Schema = dict[str, Any]

# What the Kubernetes definitions call a string and the API takes as a number too.
NUMBERS_TOO = ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity")


def problems(item: Object, kubernetes: str = KUBERNETES_VERSION) -> list[str]:
    """Return what the API would refuse in an object, each as the path and a sentence."""
    errors = validator(item["apiVersion"], item["kind"], kubernetes).iter_errors(item)
    return [f"{item['kind']}{error.json_path.removeprefix('$')}: {error.message}" for error in errors]


@functools.cache
def validator(api_version: str, kind: str, kubernetes: str) -> Draft7Validator:
    """Return what checks objects of a kind.

    Raises:
        LookupError: neither Kubernetes nor one of the projects above has the kind.
    """
    definitions = kubernetes_definitions(kubernetes)
    group, _, version = api_version.rpartition("/")
    wanted = {"group": group, "version": version, "kind": kind}
    for name, definition in definitions.items():
        if wanted in definition.get("x-kubernetes-group-version-kind", ()):
            return Draft7Validator({"$ref": f"#/definitions/{name}", "definitions": definitions})
    for resource in custom_resources():
        if (resource["spec"]["group"], resource["spec"]["names"]["kind"]) == (group, kind):
            for served in resource["spec"]["versions"]:
                if served["name"] == version:
                    return Draft7Validator(closed(served["schema"]["openAPIV3Schema"]))
    raise LookupError(f"no definition of {kind} in {api_version}")


@functools.cache
def kubernetes_definitions(version: str) -> dict[str, Schema]:
    """Return the closed definitions of a Kubernetes release."""
    text = (module(f"k8s.io/kubernetes@v{version}") / "api" / "openapi-spec" / "swagger.json").read_text()
    definitions: dict[str, Schema] = json.loads(text)["definitions"]
    for name in NUMBERS_TOO:
        definitions[name] = {"type": ["string", "number"]}
    return {name: closed(definition) for name, definition in definitions.items()}


def custom_resources() -> Iterator[Object]:
    """Yield the CustomResourceDefinitions of the kinds that the charts render."""
    pinned = re.search(rf"{OPERATOR} (v\S+)", (CLUSTER / "go.mod").read_text())
    assert pinned, f"{CLUSTER / 'go.mod'} does not pin {OPERATOR}"
    operator = f"{OPERATOR}@{pinned[1]}"
    yield from definitions_in(operator, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml")
    yield from definitions_in(KEDA, "config/crd/bases/keda.sh_scaledobjects.yaml")
    yield from definitions_in(GATEWAY_API, "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml")


def definitions_in(name: str, path: str) -> Iterator[Object]:
    """Yield the documents of a YAML file in a Go module."""
    yield from (found for found in yaml.safe_load_all((module(name) / path).read_text()) if found)


@functools.cache
def module(name: str) -> Path:
    """Return the folder of a Go module, `<path>@<version>`, which Go fetches when its cache lacks it.

    Raises:
        RuntimeError: Go cannot fetch it; the text is Go's.
    """
    command = [program("go"), "mod", "download", "-json", name]
    with tempfile.TemporaryDirectory() as outside_any_module:
        finished = subprocess.run(
            command, cwd=outside_any_module, capture_output=True, text=True, timeout=300, check=False
        )
    if finished.returncode:
        raise RuntimeError(f"{name} cannot be fetched: {finished.stdout}{finished.stderr}")
    return Path(json.loads(finished.stdout)["Dir"])


def closed(schema: Any) -> Any:
    """Return a copy of a schema that refuses keys which it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: closed(value) for key, value in schema.items() if key != "description" or isinstance(value, dict)}
    if isinstance(copy.get("properties"), dict) and not copy.get("x-kubernetes-preserve-unknown-fields"):
        copy.setdefault("additionalProperties", False)
    return copy
