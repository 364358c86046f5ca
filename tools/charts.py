"""The charts' own tools: Helm renders, helm-values-schema-json and helm-docs generate.

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

from tools.cluster import programs

CHARTS = Path(__file__).parents[1] / "charts"
MODEL_SERVICE = CHARTS / "model-service"
OBSERVABILITY = CHARTS / "observability"
MLFLOW = OBSERVABILITY / "charts" / "mlflow"

type Object = dict[str, Any]
type Values = Mapping[str, Any]


class HelmError(Exception):
    """Helm refused to render; the text is what a user reads."""


def program(name: str) -> str:
    """Return the path of a tool; build it first if PATH leads to a launcher, whose callers have time limits.

    Raises:
        FileNotFoundError: neither its environment variable nor PATH leads to it.
    """
    variable = name.upper().replace("-", "_")
    found = shutil.which(os.environ.get(variable) or name)
    if not found:
        raise FileNotFoundError(f"{name} is not on PATH: install it, or set {variable} to its path")
    return _built(name) if Path(found).parent.parent == programs.LAUNCHERS else found


@functools.cache
def _built(name: str) -> str:
    return str(programs.program(name))


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
    # libyaml's loader takes a tenth of the time, and a release has hundreds of KiB of dashboards.
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


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
