"""The images of all charts, one per line, for a mirror: `make images-list`.

The list contains those of kube-prometheus-stack if its package is present (KPS_CHART, or `helm dependency build`).
"""

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.charts import MODEL_SERVICE, Object, Values, render
from tools.cluster.umbrella import DEPENDENCY, copy_umbrella, stack_package

# Each image of the charts is in one of these.
SERVICE: Values = {
    "model": {"uri": "models:/name/1"},
    "mlflow": {"trackingUri": "http://mlflow:5000"},
    "training": {"enabled": True},
    "batch": {"enabled": True, "data": "/data", "output": "/scores"},
}
UMBRELLA: Values = {"mlflow": {"garbageCollection": {"enabled": True}}}
_ARGUMENT = re.compile(r"--[a-z-]*(?:reloader|base-image)=(\S+/\S+)")  # images that the operator starts


def images(objects: Sequence[Object]) -> set[str]:
    """Return the images of rendered objects: of containers, of custom resources and in the operator's arguments."""
    return set(_images(objects))


def _images(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, child in value.items():
            if key == "image" and isinstance(child, str):
                yield child
            yield from _images(child)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for child in value:
            yield from _images(child)
    elif isinstance(value, str) and (found := _ARGUMENT.fullmatch(value)):
        yield found[1]


def all_objects(shared: Values | None = None) -> list[Object]:
    """Return the objects of both charts.

    Args:
        shared: The values below `global`.
    """
    stack = {DEPENDENCY: {"enabled": stack_package() is not None}}
    values = {"global": shared or {}}
    with tempfile.TemporaryDirectory() as folder:
        umbrella = copy_umbrella(Path(folder) / "observability")
        return render(MODEL_SERVICE, {**SERVICE, **values}) + render(umbrella, {**UMBRELLA, **stack, **values})


if __name__ == "__main__":
    if stack_package() is None:
        sys.stderr.write(f"without {DEPENDENCY}: run helm dependency build charts/observability first\n")
    print("\n".join(sorted(images(all_objects()))))
