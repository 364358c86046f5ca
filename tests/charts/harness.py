"""Helpers that render charts and return parts of the objects."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.charts import MODEL_SERVICE, Object, Values, render

NOTES = """apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data:
  text: {{ tpl (.Files.Get "NOTES.txt") . | quote }}
"""

# The smallest values with which charts/model-service renders.
MINIMAL: Values = {"model": {"uri": "file:///models/example"}}
# Every pod and address, except those of the clouds' metadata servers, which serve credentials.
ANYWHERE = [
    {"namespaceSelector": {}},
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::/32", "fd20:ce::/32"]}},
]


Promtool = Callable[..., str]  # runs promtool in a folder, with arguments, and returns its output


def rendered(values: Values | None = None, release: str = "demo") -> list[Object]:
    """Return the objects of charts/model-service for the smallest valid values, with `values` merged over them."""
    return render(MODEL_SERVICE, {**MINIMAL, **(values or {})}, release=release)


def value_paths(values: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted path of each key in a chart's values, in their order."""
    for key, value in values.items() if isinstance(values, dict) else ():
        yield f"{path}{key}"
        yield from value_paths(value, f"{path}{key}.")


def kinds(objects: Sequence[Object]) -> list[str]:
    """Return the kinds of the objects, sorted."""
    return sorted(item["kind"] for item in objects)


def only(objects: Sequence[Object], kind: str) -> Object:
    """Return the one object of a kind. Headless Services, which only parts of the release itself use, do not count.

    Raises:
        AssertionError: There is not exactly one.
    """
    of_kind = (item for item in objects if item["kind"] == kind)
    found = [item for item in of_kind if kind != "Service" or item["spec"].get("clusterIP") != "None"]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} among {kinds(objects)}"
    return found[0]


def pod_specs(objects: Sequence[Object]) -> list[Object]:
    """Return the specs of all pods."""
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
    """Return the environment of the main container: the value or the source of each variable."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(objects)["env"]}


def show_notes(chart: Path) -> None:
    """Change a copy of a chart to render its notes as the ConfigMap `notes`, because `helm template` omits them."""
    shutil.move(chart / "templates" / "NOTES.txt", chart / "NOTES.txt")
    (chart / "templates" / "notes.yaml").write_text(NOTES)
