"""Hypothesis strategies for values of charts/model-service, and values with one key replaced."""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tools.charts import MODEL_SERVICE, Values

type Schema = dict[str, Any]
type Path = tuple[str, ...]

SCHEMA: Schema = json.loads((MODEL_SERVICE / "values.schema.json").read_text())
DEFAULTS: dict[str, Any] = yaml.safe_load((MODEL_SERVICE / "values.yaml").read_text())
VALIDATOR = Draft7Validator(SCHEMA)
LARGEST_INTEGER = 100_000
# Text that YAML can contain without escapes.
CHARACTERS = st.characters(categories=("L", "M", "N", "P", "S", "Zs"))  # Helm refuses control characters in YAML
TEXTS = st.text(CHARACTERS, max_size=70)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two sets of values merged as Helm does: a null removes a key."""
    found = {key: value for key, value in copy.deepcopy(dict(below)).items() if above.get(key, value) is not None}
    for key, value in above.items():
        both_maps = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        if both_maps:
            found[key] = merged(found[key], value)
        elif value is not None:
            found[key] = value
    return found


def accepted(values: Mapping[str, Any]) -> bool:
    """Return whether the schema accepts values merged over the defaults."""
    return VALIDATOR.is_valid(merged(DEFAULTS, values))


def keys(schema: Schema = SCHEMA, path: Path = ()) -> Iterator[Path]:
    """Yield the path of each key in the schema, including sections."""
    for key, child in schema.get("properties", {}).items():
        if path or key != "global":
            yield (*path, key)
            yield from keys(child, (*path, key))


def spoiled(values: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """Return a copy of the values with a replacement at a path."""
    inner = values.get(path[0]) if len(path) > 1 else None
    below = spoiled(inner if isinstance(inner, Mapping) else {}, path[1:], value) if len(path) > 1 else value
    return {**values, path[0]: below}


def drawn(schema: Schema, samples: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for values of a schema. Objects and lists of free form come from the samples.

    Args:
        schema: Schema of a section or leaf.
        samples: Value that the tests use at this place, or None.
    """
    kinds = schema.get("type", "object")
    if isinstance(kinds, list):
        return st.one_of([drawn({**schema, "type": kind}, samples) for kind in kinds])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if kinds == "object" and schema.get("properties"):
        known = samples if isinstance(samples, Mapping) else {}
        parts = {key: drawn(child, known.get(key)) for key, child in schema["properties"].items()}
        return st.fixed_dictionaries({}, optional=parts)
    if kinds == "object" and schema.get("additionalProperties") == {"type": "string"}:
        return st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), TEXTS, max_size=2)
    if kinds in ("object", "array"):
        empty: Any = {} if kinds == "object" else []
        return st.sampled_from([empty, samples] if isinstance(samples, type(empty)) else [empty])
    if kinds == "string":
        longest = schema.get("maxLength", 70)
        if "pattern" not in schema:
            return TEXTS
        pattern = schema["pattern"].replace(".+", "[!-~]{1,30}")
        drawn_texts = st.from_regex(pattern, fullmatch=True, alphabet=CHARACTERS)
        return drawn_texts.filter(lambda text: len(text) <= longest)
    if kinds == "integer":
        least = schema.get("minimum", -5)
        return st.integers(least, schema.get("maximum", max(LARGEST_INTEGER, 2 * least)))
    return {"boolean": st.booleans(), "null": st.none(), "number": st.floats(0.001, 64)}[kinds]


def redrawn(values: Values, samples: Any) -> st.SearchStrategy[Values]:
    """Return a strategy that replaces a few leaves, so that most draws pass the schema and the validation.

    Args:
        values: Values that render.
        samples: Sample values, as for `drawn`.
    """

    def at(place: Any, path: Path) -> Any:
        for key in path:
            place = place.get(key) if isinstance(place, Mapping) else None
        return place

    def leaf(path: Path) -> Schema:
        schema = SCHEMA
        for key in path:
            schema = schema["properties"][key]
        return schema

    leaves = [path for path in keys() if not leaf(path).get("properties")]

    @st.composite
    def strategy(draw: st.DrawFn) -> Values:
        found = values
        for path in draw(st.lists(st.sampled_from(leaves), min_size=1, max_size=5, unique=True)):
            found = spoiled(found, path, draw(drawn(leaf(path), at(samples, path))))
        return found

    return strategy()
