"""Generated files that are committed: schemas, chart READMEs, dashboards and golden renders.

`python -m tools.generate` writes them. test_generated.py fails if one differs from what this module makes.
"""

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tools.charts import CHARTS, MLFLOW, MODEL_SERVICE, OBSERVABILITY, program, render

GOLDEN = Path(__file__).parents[2] / "tests" / "charts" / "golden"
CASES = sorted((MODEL_SERVICE / "ci").glob("*-values.yaml"))
MLFLOW_CASES = sorted((MLFLOW / "ci").glob("*-values.yaml"))


def schema(chart: Path) -> str:
    """Return the schema of the chart's values, closed and complete at its own levels (settings: .schema.yaml)."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "values.schema.json"
        _run(["helm-values-schema-json", "--output", str(written)], chart)
        found = json.loads(written.read_text())
    if chart == MODEL_SERVICE:
        _let_jobs_override(found["properties"])
    _complete(found)
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _let_jobs_override(values: dict[str, Any]) -> None:
    """Let `training` and `batch` set each key of `jobs`, or null to keep its default."""
    for block in ("training", "batch"):
        for key, default in values["jobs"]["properties"].items():
            override = copy.deepcopy(default) | {"description": f"Overrides `jobs.{key}`."}
            override.pop("required", None)
            values[block]["properties"][key] = override


def _complete(level: dict[str, Any], own: bool = True) -> None:
    """Allow null for the optional keys of our own levels, and leave objects without known keys open.

    Helm removes a key whose value is null. Keys that templates cannot do without are marked `required:true`.

    Args:
        level: Object of the schema, changed in place.
        own: False for the items of a list, which users write and may leave keys out of.
    """
    children = level.get("properties", {})
    if level.get("additionalProperties") is False:
        if not children:
            del level["additionalProperties"]
        elif own:
            for key in children.keys() - set(level.get("required", ())):
                _allow_null(children[key])
    for child in children.values():
        _complete(child, own)
    if isinstance(item := level.get("items"), dict):
        _complete(item, own=False)


def _allow_null(child: dict[str, Any]) -> None:
    """Let a value be null, which is how Helm users delete a default."""
    types = child["type"] if isinstance(child["type"], list) else [child["type"]]
    child["type"] = [*types, *({"null"} - set(types))]
    if "enum" in child:
        child["enum"] = [*child["enum"], None]


def readme(chart: Path) -> str:
    """Return the chart's README with the table of its values."""
    arguments = ["--dry-run", "--skip-version-footer", "--sort-values-order=file", "--chart-to-generate=."]
    return _run(["helm-docs", *arguments], chart).strip() + "\n"


def dashboard(code: Path) -> str:
    """Return the dashboard that its code prints."""
    environment = {**os.environ, "PYTHONPATH": str(CHARTS.parent)}
    command = [sys.executable, str(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment).stdout


def golden(case: Path) -> str:
    """Return what the chart renders with a ci case; version labels and the files in ConfigMaps are masked."""
    objects = render(case.parents[1], files=[case])
    for item in objects:
        if item["kind"] == "ConfigMap":
            item |= {key: dict.fromkeys(item[key], "<masked>") for key in ("binaryData", "data") if key in item}
    text = yaml.safe_dump_all(objects, width=140)
    text = re.sub(r"(helm\.sh/chart|app\.kubernetes\.io/version): .*", r"\1: <masked>", text)
    return re.sub(r"(image: \S+):[^\s:]+", r"\1:<masked>", text)


def outputs() -> dict[Path, Callable[[], str]]:
    """Return each generated file with the function that makes its text."""
    files: dict[Path, Callable[[], str]] = {}
    for chart in (MODEL_SERVICE, MLFLOW, OBSERVABILITY):
        files[chart / "values.schema.json"] = partial(schema, chart)
        files[chart / "README.md"] = partial(readme, chart)
    for chart in (MODEL_SERVICE, MLFLOW):
        for code in sorted((chart / "dashboards").glob("*.py")):
            files[chart / "files" / "dashboards" / f"{code.stem}.json"] = partial(dashboard, code)
    for case in CASES:
        files[GOLDEN / case.name.replace("-values", "")] = partial(golden, case)
    for case in MLFLOW_CASES:
        files[GOLDEN / "mlflow" / case.name.replace("-values", "")] = partial(golden, case)
    return files


def _run(command: list[str], chart: Path) -> str:
    name, *arguments = command
    finished = subprocess.run(
        [program(name), *arguments], cwd=chart, capture_output=True, text=True, timeout=60, check=False
    )
    if finished.returncode:
        raise RuntimeError(f"{name} failed in {chart.relative_to(CHARTS)}: {finished.stderr.strip()}")
    return finished.stdout
