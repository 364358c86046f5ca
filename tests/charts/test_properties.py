"""Whatever the values are: valid objects, or a sentence of the schema or of validate.yaml; never an error of Go's."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.charts.harness import MINIMAL, MODEL_SERVICE, HelmError, Values, kinds, render
from tests.charts.schemas import problems
from tests.charts.strategies import DEFAULTS, SCHEMA, accepted, drawn, keys, merged, redrawn, spoiled
from tests.charts.test_schemas import EVERYTHING, KEDA, NULLS

SENTENCES = (
    "values don't meet the specifications of the schema",
    "execution error at (model-service/templates/validate.yaml",
)
ERRORS_OF_GO = ("nil pointer", "wrong type", "can't evaluate", "error calling", "parse error", "error converting")
ODD: list[Any] = [None, {}, [], "", 0, -1, True, 1.5, "Ünïcode ✓", "a" * 300, "{{ .Values }}"]
SAMPLES = merged(EVERYTHING, KEDA)
# A model that can be served, so that most draws get past the first sentence.
MODELS = st.sampled_from([MINIMAL, {key: EVERYTHING[key] for key in ("model", "mlflow")}])


def outcome(values: Values, release: str = "demo") -> str:
    """Render values and return what is wrong with the outcome, "" when nothing is."""
    try:
        objects = render(MODEL_SERVICE, values, release=release)
    except HelmError as refused:
        text = str(refused)
        understood = any(sentence in text for sentence in SENTENCES) and not any(word in text for word in ERRORS_OF_GO)
        return "" if understood else text
    except yaml.YAMLError as broken:
        return f"no YAML: {broken}"
    # The name of an existing ServiceAccount is the user's, and may be longer than a label.
    longest = max(len(item["metadata"]["name"]) for item in objects if item["kind"] != "ServiceAccount")
    return "; ".join(problems(objects)) or (f"a name has {longest} characters" if longest > 63 else "")


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_drawn_values_render_or_are_refused_by_a_sentence(data: st.DataObject) -> None:
    values = merged(data.draw(drawn(SCHEMA, SAMPLES)), data.draw(MODELS))

    assert outcome(values) == ""


@pytest.mark.long
@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_many_drawn_values_render_or_are_refused_by_a_sentence(data: st.DataObject) -> None:
    values = merged(data.draw(drawn(SCHEMA, SAMPLES)), data.draw(MODELS))

    assert outcome(values) == ""


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_redrawn_leaves_render_or_are_refused_by_a_sentence(data: st.DataObject) -> None:
    values = data.draw(redrawn({**MINIMAL, **EVERYTHING}, SAMPLES))

    assert not accepted(values) or outcome(values) == ""


@pytest.mark.long
@pytest.mark.parametrize("base", [{}, EVERYTHING, KEDA], ids=["default", "everything", "keda"])
@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_many_redrawn_leaves_render_or_are_refused_by_a_sentence(base: Values, data: st.DataObject) -> None:
    values = data.draw(redrawn({**MINIMAL, **base}, SAMPLES))

    assert not accepted(values) or outcome(values) == ""


# What YAML takes for a boolean, null or a number when it is not quoted.
@pytest.mark.parametrize("name", ["n", "on", "null", "true"])
@pytest.mark.parametrize("namespace", ["7", "0x1f", "1e3", "0-1"])
def test_names_that_yaml_takes_for_something_else_stay_text(name: str, namespace: str) -> None:
    values = {**EVERYTHING, "nameOverride": name, "fullnameOverride": name, "namespaceOverride": namespace}

    assert outcome(values, release=name) == ""


def spoils(base: Mapping[str, Any], odd: list[Any]) -> list[dict[str, Any]]:
    """Return values with one key spoiled each, those that the schema refuses left out."""
    found = [spoiled({**MINIMAL, **base}, path, value) for path in keys() for value in odd]
    return [values for values in found if accepted(values)]


def wrong(cases: list[dict[str, Any]]) -> list[str]:
    """Render the cases and return what is wrong with the outcomes."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return [problem for problem in pool.map(outcome, cases) if problem]


def test_nulls_and_empty_values_for_every_key() -> None:
    cases = spoils(EVERYTHING, [None, {}, [], ""])

    assert len(cases) > 50
    assert wrong(cases) == []


@pytest.mark.long
@pytest.mark.parametrize("base", [{}, EVERYTHING, KEDA, NULLS], ids=["default", "everything", "keda", "nulls"])
def test_odd_values_for_every_key(base: Values) -> None:
    assert wrong(spoils(base, ODD)) == []


def test_schema_refuses_a_null_level_as_helm_does() -> None:
    refused = [key for key in DEFAULTS if not accepted({**MINIMAL, key: None})]

    assert {"image", "model", "autoscaling", "keda", "networkPolicy"} <= set(refused)
    for key in refused[:3]:
        with pytest.raises(HelmError, match=f"missing propert.*{key}"):
            render(MODEL_SERVICE, {**MINIMAL, key: None})


@pytest.mark.parametrize("length", [1, 53])
@pytest.mark.parametrize("override", ["", "a" * 50])
def test_longest_names_fit(length: int, override: str) -> None:
    values = {**EVERYTHING, "nameOverride": override, "namespaceOverride": "n" * 63}

    assert outcome(values, release="a" * length) == ""


@pytest.mark.parametrize("length", [63, 253])
@pytest.mark.parametrize("key", ["nameOverride", "fullnameOverride"])
def test_longer_names_are_refused_by_a_sentence_that_names_the_key(key: str, length: int) -> None:
    with pytest.raises(HelmError, match=rf"{key}=a+ has {length} characters: shorten it to"):
        render(MODEL_SERVICE, {**MINIMAL, key: "a" * length})


def test_template_expressions_in_values_stay_text() -> None:
    objects = render(MODEL_SERVICE, {**MINIMAL, "commonAnnotations": {"note": "{{ .Values }}"}})

    assert "Pod" in kinds(objects)
    assert all(item["metadata"]["annotations"]["note"] == "{{ .Values }}" for item in objects)
