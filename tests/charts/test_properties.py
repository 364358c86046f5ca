"""Property tests: any values render valid objects or fail with a message of the schema or validate.yaml.

Errors of Go's template engine never reach the user.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.charts.harness import MINIMAL, kinds, only
from tests.charts.schemas import problems
from tests.charts.strategies import SCHEMA, accepted, drawn, keys, merged, redrawn, spoiled
from tests.charts.test_schemas import EVERYTHING, KEDA, NULLS
from tools.charts import MODEL_SERVICE, HelmError, Values, render

MESSAGES = (
    "values don't meet the specifications of the schema",
    "execution error at (model-service/templates/validate.yaml",
    "execution error at (model-service/templates/environment/validate.yaml",
    "execution error at (model-service/templates/challenger/validate.yaml",
    "execution error at (model-service/templates/canary/validate.yaml",
)
ERRORS_OF_GO = ("nil pointer", "wrong type", "can't evaluate", "error calling", "parse error", "error converting")
ODD: list[Any] = [None, {}, [], "", 0, -1, True, 1.5, "Ünïcode ✓", "a" * 300, "{{ .Values }}"]
SAMPLES = merged(EVERYTHING, KEDA)
# Nothing else gives these a meaning.
REQUIRED = {
    "image", "image.repository", "model", "model.uri", "model.environment.python",
    "model.environment.image.repository", "model.environment.index.caBundle.key", "mlflow", "mlflow.trackingUri",
    "api.grpc.port",
    "mlflow.caBundle.key", "service", "service.port", "httpRoute.canary.port", "httpRoute.canary.weight",
    "canary.replicaCount", "canary.weight", "canary.analysis", "canary.analysis.window", "canary.analysis.minSamples",
    "canary.analysis.maxErrorIncrease", "canary.analysis.maxLatencyRatio", "canary.analysis.maxPsiIncrease",
    "canary.analysis.maxAucDecrease",
    "autoscaling.minReplicas", "autoscaling.maxReplicas", "monitoring.slo", "monitoring.slo.availability",
    "monitoring.slo.latency",
    "monitoring.slo.latency.thresholdSeconds", "monitoring.slo.latency.ratio", "monitoring.drift",
    "monitoring.drift.window", "monitoring.drift.longWindow", "monitoring.drift.minSamples",
    "monitoring.prometheusRule.thresholds", "monitoring.prometheusRule.thresholds.predictionDriftPsi",
    "monitoring.prometheusRule.thresholds.featureDriftPsi", "monitoring.prometheusRule.thresholds.featureMissingRatio",
    "monitoring.prometheusRule.thresholds.overloadedRatio", "monitoring.prometheusRule.thresholds.invalidInputsRatio",
    "monitoring.prometheusRule.thresholds.aucDrop", "monitoring.prometheusRule.thresholds.staleDays",
    "jobs", "jobs.image", "jobs.image.repository", "training.trainJob.runtime",
}  # fmt: skip
# Valid models, so that most draws pass the first check.
MODELS = st.sampled_from([MINIMAL, {key: EVERYTHING[key] for key in ("model", "mlflow")}])


def outcome(values: Values, release: str = "demo") -> str:
    """Render values and return the problems of the outcome, or "" if there are none."""
    try:
        objects = render(MODEL_SERVICE, values, release=release)
    except HelmError as refused:
        text = str(refused)
        understood = any(message in text for message in MESSAGES) and not any(word in text for word in ERRORS_OF_GO)
        return "" if understood else text
    except yaml.YAMLError as broken:
        return f"invalid YAML: {broken}"
    # Users name an existing ServiceAccount themselves, possibly longer than a label.
    longest = max(len(item["metadata"]["name"]) for item in objects if item["kind"] != "ServiceAccount")
    return "; ".join(problems(objects)) or (f"a name has {longest} characters" if longest > 63 else "")


@settings(max_examples=25)
@given(st.data())
def test_drawn_values_render_or_fail_with_a_message(data: st.DataObject) -> None:
    values = merged(data.draw(drawn(SCHEMA, SAMPLES)), data.draw(MODELS))

    assert outcome(values) == ""


@pytest.mark.long
@settings(max_examples=500)
@given(st.data())
def test_many_drawn_values_render_or_fail_with_a_message(data: st.DataObject) -> None:
    values = merged(data.draw(drawn(SCHEMA, SAMPLES)), data.draw(MODELS))

    assert outcome(values) == ""


@settings(max_examples=20)
@given(st.data())
def test_redrawn_leaves_render_or_fail_with_a_message(data: st.DataObject) -> None:
    values = data.draw(redrawn({**MINIMAL, **EVERYTHING}, SAMPLES))

    assert not accepted(values) or outcome(values) == ""


@pytest.mark.long
@pytest.mark.parametrize("base", [{}, EVERYTHING, KEDA], ids=["default", "everything", "keda"])
@settings(max_examples=500)
@given(st.data())
def test_many_redrawn_leaves_render_or_fail_with_a_message(base: Values, data: st.DataObject) -> None:
    values = data.draw(redrawn({**MINIMAL, **base}, SAMPLES))

    assert not accepted(values) or outcome(values) == ""


# Without quotes, YAML reads these as a boolean, null or a number.
@pytest.mark.parametrize("name", ["n", "on", "null", "true"])
@pytest.mark.parametrize("namespace", ["7", "0x1f", "1e3", "0-1"])
def test_names_that_look_like_other_yaml_types_stay_strings(name: str, namespace: str) -> None:
    values = {**EVERYTHING, "nameOverride": name, "fullnameOverride": name, "namespaceOverride": namespace}

    assert outcome(values, release=name) == ""


def spoils(base: Mapping[str, Any], odd: list[Any]) -> list[dict[str, Any]]:
    """Return one set of values per changed key, without those that the schema rejects."""
    found = [spoiled({**MINIMAL, **base}, path, value) for path in keys() for value in odd]
    return [values for values in found if accepted(values)]


def wrong(cases: list[dict[str, Any]]) -> list[str]:
    """Render the cases and return the problems of their outcomes."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return [problem for problem in pool.map(outcome, cases) if problem]


def test_empty_values_for_every_key() -> None:
    cases = spoils(EVERYTHING, [{}, [], ""])

    assert len(cases) > 50
    assert wrong(cases) == []


@pytest.mark.long
@pytest.mark.parametrize("base", [{}, EVERYTHING, KEDA, NULLS], ids=["default", "everything", "keda", "nulls"])
def test_odd_values_for_every_key(base: Values) -> None:
    assert wrong(spoils(base, ODD)) == []


@pytest.mark.parametrize(
    "base", [pytest.param({}, marks=pytest.mark.long, id="default"), pytest.param(EVERYTHING, id="everything")]
)
def test_null_deletes_every_optional_key(base: Values) -> None:
    # test_jobs.py has the jobs' keys, which need jobs to be enabled.
    paths = [path for path in keys() if path[0] not in ("jobs", "training", "batch")]
    cases = [spoiled({**MINIMAL, **base}, path, None) for path in paths if ".".join(path) not in REQUIRED]

    assert len(cases) >= 150
    assert all(accepted(values) for values in cases)
    assert wrong(cases) == []


def test_null_deletes_every_optional_key_of_a_model_with_its_own_python() -> None:
    base = merged(MINIMAL, {"model": {"flavor": "pyfunc"}, "networkPolicy": {"enabled": True}})
    paths = [path for path in keys() if path[0] == "model" and ".".join(path) not in REQUIRED]

    assert wrong([spoiled(base, path, None) for path in paths]) == []


def test_null_of_a_required_key_is_rejected_by_name() -> None:
    refused = [path for path in keys() if not accepted(spoiled(MINIMAL, path, None))]

    assert {".".join(path) for path in refused} == REQUIRED
    for *above, key in refused[:3]:
        with pytest.raises(HelmError, match=f"missing property '{key}'"):
            render(MODEL_SERVICE, spoiled(MINIMAL, (*above, key), None))


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("livenessProbe", "livenessProbe"),
        ("startupProbe.periodSeconds", "'periodSeconds': 2"),
        ("resources.limits", "512Mi"),
        ("resources", "256Mi"),
        ("replicaCount", "replicas"),
        ("securityContext", "readOnlyRootFilesystem"),
        ("deployment", "maxSurge"),
        ("deployment.revisionHistoryLimit", "revisionHistoryLimit"),
        ("pod.securityContext", "runAsNonRoot"),
        ("pod.preStopSleepSeconds", "preStop"),
        ("pod.terminationGracePeriodSeconds", "terminationGracePeriodSeconds"),
        ("pod.topologySpreadConstraints", "topologySpreadConstraints"),
        ("api.maxRows", "MODEL_SERVICE_MAX_ROWS"),
        ("logging", "MODEL_SERVICE_LOG_LEVEL"),
        ("monitoring", "MODEL_SERVICE_LATENCY_BUCKETS"),
    ],
)
def test_null_removes_what_the_default_sets(path: str, gone: str) -> None:
    changed = spoiled(MINIMAL, tuple(path.split(".")), None)
    default, without = (only(render(MODEL_SERVICE, values), "Deployment") for values in (MINIMAL, changed))

    assert gone in str(default)
    assert gone not in str(without)


@pytest.mark.parametrize("length", [1, 53])
@pytest.mark.parametrize("override", ["", "a" * 50])
def test_longest_names_fit(length: int, override: str) -> None:
    values = {**EVERYTHING, "nameOverride": override, "namespaceOverride": "n" * 63}

    assert outcome(values, release="a" * length) == ""


@pytest.mark.parametrize("length", [63, 253])
@pytest.mark.parametrize("key", ["nameOverride", "fullnameOverride"])
def test_longer_names_are_rejected_by_key(key: str, length: int) -> None:
    with pytest.raises(HelmError, match=rf"{key}=a+ has {length} characters: shorten it to"):
        render(MODEL_SERVICE, {**MINIMAL, key: "a" * length})


def test_template_expressions_in_values_are_not_evaluated() -> None:
    objects = render(MODEL_SERVICE, {**MINIMAL, "commonAnnotations": {"note": "{{ .Values }}"}})

    assert "Pod" in kinds(objects)
    assert all(item["metadata"]["annotations"]["note"] == "{{ .Values }}" for item in objects)
