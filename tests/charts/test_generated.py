"""Tests that generated files match their sources, and that every value is documented."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.charts import MLFLOW, MODEL_SERVICE, OBSERVABILITY
from tools.generate.charts import outputs

OUTPUTS = outputs()


def undocumented(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the leaves of the values without a description of their own or of a parent."""
    for key, child in schema.get("properties", {}).items():
        if "description" not in child:
            deeper = list(undocumented(child, f"{path}.{key}"))
            yield from deeper if child.get("properties") else [f"{path}.{key}"]


def open_levels(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the objects with known keys that accept unknown ones, unless a description covers the whole object."""
    if schema.get("properties") and schema.get("additionalProperties") is not False:
        yield path
    for key, child in schema.get("properties", {}).items():
        if "description" not in child:
            yield from open_levels(child, f"{path}.{key}")


@pytest.mark.parametrize("path", OUTPUTS, ids=lambda path: "/".join(path.parts[-2:]))
def test_file_matches_its_source(path: Path) -> None:
    assert path.read_text() == OUTPUTS[path](), f"{path.name} is out of date: run python -m tools.generate"


@pytest.mark.parametrize("chart", [MODEL_SERVICE, MLFLOW, OBSERVABILITY], ids=lambda chart: chart.name)
def test_every_value_is_documented(chart: Path) -> None:
    assert list(undocumented(json.loads((chart / "values.schema.json").read_text()))) == []


@pytest.mark.parametrize("chart", [MODEL_SERVICE, MLFLOW], ids=lambda chart: chart.name)
def test_schema_rejects_unknown_keys_of_the_chart(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())

    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert list(open_levels(schema)) == [".global"]  # shared with the other charts of an installation
    assert "global" in schema["properties"]
