"""Run the charts' own tools: Helm renders, helm-values-schema-json and helm-docs generate.

Each program is found by its environment variable (HELM, HELM_DOCS, HELM_VALUES_SCHEMA_JSON) or on PATH. A missing one
is an error and never a skip: a skipped chart test would look green.
"""

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

CHARTS = Path(__file__).parents[2] / "charts"
MODEL_SERVICE = CHARTS / "model-service"
OBSERVABILITY = CHARTS / "observability"
MLFLOW = OBSERVABILITY / "charts" / "mlflow"

NOTES = """apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data:
  text: {{ tpl (.Files.Get "NOTES.txt") . | quote }}
"""

type Object = dict[str, Any]
type Values = Mapping[str, Any]

# The least that charts/model-service renders with.
MINIMAL: Values = {"model": {"uri": "file:///models/example"}}


class HelmError(Exception):
    """Helm refused to render; the text is what a user reads."""


def program(name: str) -> str:
    """Return the path of a tool.

    Raises:
        FileNotFoundError: neither its environment variable nor PATH leads to it.
    """
    variable = name.upper().replace("-", "_")
    found = shutil.which(os.environ.get(variable) or name)
    if not found:
        raise FileNotFoundError(f"{name} is not on PATH: install it, or set {variable} to its path")
    return found


def render(
    chart: Path,
    values: Values | None = None,
    *,
    files: Sequence[Path] = (),
    release: str = "demo",
    namespace: str = "models",
) -> list[Object]:
    """Return the objects that `helm template` makes of a chart, helm tests included.

    Raises:
        HelmError: the schema or validate.yaml refuses the values.
    """
    arguments = [release, str(chart), "--namespace", namespace]
    for file in files:
        arguments += ["--values", str(file)]
    text = template(tuple(arguments), json.dumps(values or {}, ensure_ascii=False))
    return [document for document in yaml.safe_load_all(text) if document]


@functools.cache
def template(arguments: tuple[str, ...], values: str) -> str:
    """Return the text that `helm template` prints with `values` (JSON) as its last values file."""
    finished = subprocess.run(
        [program("helm"), "template", *arguments, "--values", "-"],
        input=values,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if finished.returncode:
        raise HelmError(finished.stderr)
    return finished.stdout


def rendered(values: Values | None = None, release: str = "demo") -> list[Object]:
    """Return the objects of charts/model-service for its smallest valid values and `values` above them."""
    return render(MODEL_SERVICE, {**MINIMAL, **(values or {})}, release=release)


def kinds(objects: Sequence[Object]) -> list[str]:
    """Return the kinds of the objects, sorted."""
    return sorted(item["kind"] for item in objects)


def only(objects: Sequence[Object], kind: str) -> Object:
    """Return the one object of a kind.

    Raises:
        AssertionError: there is none, or more than one.
    """
    found = [item for item in objects if item["kind"] == kind]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} among {kinds(objects)}"
    return found[0]


def pod_specs(objects: Sequence[Object]) -> list[Object]:
    """Return the specs of all pods that the objects make."""
    pods = [item["spec"] for item in objects if item["kind"] == "Pod"]
    return pods + [item["spec"]["template"]["spec"] for item in objects if item["kind"] == "Deployment"]


def pod_template(objects: Sequence[Object]) -> Object:
    """Return the Deployment's pod template."""
    found: Object = only(objects, "Deployment")["spec"]["template"]
    return found


def container(objects: Sequence[Object]) -> Object:
    """Return the main container of the Deployment."""
    found: Object = pod_template(objects)["spec"]["containers"][0]
    return found


def environment(objects: Sequence[Object]) -> dict[str, Any]:
    """Return the main container's environment: text by name, or the reference that fills it in."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(objects)["env"]}


def show_notes(chart: Path) -> None:
    """Make a copy of a chart render its notes as the ConfigMap `notes`; `helm template` leaves them out."""
    shutil.move(chart / "templates" / "NOTES.txt", chart / "NOTES.txt")
    (chart / "templates" / "notes.yaml").write_text(NOTES)
