"""Generated files are what their sources make, and say something about every value."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.charts.generated import outputs
from tests.charts.harness import MLFLOW, MODEL_SERVICE, OBSERVABILITY

OUTPUTS = outputs()


def undocumented(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the leaves of the values that have no description, neither of their own nor above them."""
    for key, child in schema.get("properties", {}).items():
        if "description" not in child:
            deeper = list(undocumented(child, f"{path}.{key}"))
            yield from deeper if child.get("properties") else [f"{path}.{key}"]


def open_levels(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the objects with keys of ours that let any other key pass, unless a leaf's description covers them."""
    if schema.get("properties") and schema.get("additionalProperties") is not False:
        yield path
    for key, child in schema.get("properties", {}).items():
        if "description" not in child:
            yield from open_levels(child, f"{path}.{key}")


@pytest.mark.parametrize("path", OUTPUTS, ids=lambda path: "/".join(path.parts[-2:]))
def test_file_is_in_step_with_its_source(path: Path) -> None:
    assert path.read_text() == OUTPUTS[path](), f"{path.name} is out of step: run python -m tests.charts.generated"


@pytest.mark.parametrize("chart", [MODEL_SERVICE, MLFLOW, OBSERVABILITY], ids=lambda chart: chart.name)
def test_every_value_is_documented(chart: Path) -> None:
    assert list(undocumented(json.loads((chart / "values.schema.json").read_text()))) == []


@pytest.mark.parametrize("chart", [MODEL_SERVICE, MLFLOW], ids=lambda chart: chart.name)
def test_schema_is_closed_at_our_own_levels(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())

    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert list(open_levels(schema)) == []
    assert "global" in schema["properties"]
