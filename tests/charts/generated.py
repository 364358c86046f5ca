"""Make the files that are generated and committed: schemas, chart READMEs, dashboards and the golden renders.

`python -m tests.charts.generated` writes them; test_generated.py fails while one differs from what this makes.
"""

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

from tests.charts.harness import CHARTS, MLFLOW, MODEL_SERVICE, OBSERVABILITY, program, render

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted((MODEL_SERVICE / "ci").glob("*-values.yaml"))
MLFLOW_CASES = sorted((MLFLOW / "ci").glob("*-values.yaml"))


def schema(chart: Path) -> str:
    """Return the schema of the chart's values, closed and complete at its own levels (settings: .schema.yaml)."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "values.schema.json"
        _run(["helm-values-schema-json", "--output", str(written)], chart)
        found = json.loads(written.read_text())
    _complete(found)
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _complete(level: dict[str, Any], own: bool = True) -> None:
    """Require each key of our own levels that may not be null, and leave an object open of which we name no key.

    Helm takes a key away whose value is null: without this, a template would trip over the missing key. A list's items
    are the user's (`own` is false): they may leave keys out.
    """
    children = level.get("properties", {})
    if level.get("additionalProperties") is False:
        if not children:
            del level["additionalProperties"]
        elif own:
            level["required"] = sorted(key for key, child in children.items() if "null" not in child.get("type", ()))
    for child in children.values():
        _complete(child, own)
    if isinstance(item := level.get("items"), dict):
        _complete(item, own=False)


def readme(chart: Path) -> str:
    """Return the chart's README with the table of its values."""
    arguments = ["--dry-run", "--skip-version-footer", "--sort-values-order=file", "--chart-to-generate=."]
    return _run(["helm-docs", *arguments], chart).strip() + "\n"


def dashboard(code: Path) -> str:
    """Return the dashboard that its code prints."""
    environment = {**os.environ, "PYTHONPATH": str(CHARTS / "dashboards")}
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


if __name__ == "__main__":
    for path, make in outputs().items():
        path.write_text(make())
        print(path.relative_to(CHARTS.parent))
