"""Feedback: tokens that any pod can verify and nobody can forge, and counters from which quality is computed."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate
from prometheus_client import REGISTRY
from sklearn.metrics import roc_auc_score
from starlette.testclient import TestClient

from app.model.contract import CONTRACT_FILE, SCORE_BINS
from app.model.output import Output
from app.monitoring.tokens import Signer, Token, TokenError
from app.service import Service
from tests.app.harness import serving, settings_for
from tests.app.kinds import KINDS
from tools.loopback import until

KEY, OLD = "new-key-0123456789", "old-key-0123456789"
MONTH = 2_592_000


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "2025").write_text(OLD)
    (folder / "2026").write_text(KEY)
    return folder


def folder_of(kind: str, place: Path, **contract: Any) -> str:
    """Save a model with a version that no other test uses, and return its URI."""
    KINDS[kind].save(place / "model")
    if contract:
        (place / "model" / CONTRACT_FILE).write_text(json.dumps({"target": "y", **KINDS[kind].contract, **contract}))
    return (place / "model").as_uri()


@pytest.fixture(scope="module")
def binary(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("binary")
    profile = {"created_at": "2026-01-01T00:00:00Z", "score_edges": [0.3, 0.5, 0.7]}
    uri = folder_of("binary", place, profile=profile)
    with serving(settings_for(uri, place, feedback_keys_dir=keys, max_rows=100)) as client:
        yield client


def predicted(client: TestClient, kind: str = "binary") -> tuple[list[Any], list[str]]:
    answer = client.post("/predict", json=KINDS[kind].body())
    assert answer.status_code == 200
    return answer.json()["predictions"], answer.json()["tokens"]


def send(client: TestClient, *labels: tuple[Any, Any]) -> Any:
    return client.post("/feedback", json={"labels": [{"token": token, "label": label} for token, label in labels]})


def totals(client: TestClient, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a counter by its labels, without those of the model."""
    model = client.get("/model").json()
    return {
        tuple(value for key, value in sorted(sample.labels.items()) if not key.startswith("model_")): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name
        and sample.labels["model_name"] == model["name"]
        and sample.labels.get("model_version", model["version"]) == model["version"]
    }


def test_counters_yield_auc_calibration_and_brier_score(binary: TestClient) -> None:
    predictions, given_tokens = predicted(binary)
    scores = np.array([each["probabilities"]["yes"] for each in predictions])
    truth = np.random.default_rng(4).random(len(scores)) < scores
    names = ("model_feedback_scores_total", "model_feedback_scores_cumulative_total", "model_feedback_score_sum_total")
    before = [totals(binary, name) for name in names]
    error = totals(binary, "model_feedback_squared_error_total")[()]

    answer = send(binary, *zip(given_tokens, np.where(truth, "yes", "no").tolist(), strict=True))

    assert answer.json() == {"accepted": len(scores), "rejected": []}
    counted, cumulative, sums = (
        {place: value - old[place] for place, value in totals(binary, name).items()}
        for name, old in zip(names, before, strict=True)
    )
    place = np.searchsorted([0.3, 0.5, 0.7], scores)
    for outcome, which in (("positive", truth), ("negative", ~truth)):
        expected = np.bincount(place[which], minlength=SCORE_BINS)
        found = [counted[f"{i:02d}", outcome] for i in range(SCORE_BINS)]
        assert found == expected.tolist()
        assert [cumulative[f"{i:02d}", outcome] for i in range(SCORE_BINS)] == expected.cumsum().tolist()
    assert [sums[(f"{i:02d}",)] for i in range(4)] == pytest.approx([scores[place == i].sum() for i in range(4)])
    brier = totals(binary, "model_feedback_squared_error_total")[()] - error
    assert brier == pytest.approx(((scores - truth) ** 2).sum(), rel=1e-5)
    positive = np.array([counted[f"{i:02d}", "positive"] for i in range(SCORE_BINS)])
    negative = np.array([counted[f"{i:02d}", "negative"] for i in range(SCORE_BINS)])
    auc = (positive * (negative.cumsum() - negative / 2)).sum() / positive.sum() / negative.sum()
    assert auc == pytest.approx(roc_auc_score(truth, place))  # AUC of the bins, which is all that PromQL can compute


def test_class_is_counted_with_the_predicted_class(keys: Path, tmp_path: Path) -> None:
    uri = folder_of("multiclass", tmp_path)
    with serving(settings_for(uri, tmp_path, feedback_keys_dir=keys)) as client:
        predictions, given_tokens = predicted(client, "multiclass")
        classes = client.get("/model").json()["classes"]
        assert totals(client, "model_feedback_confusion_total") == {(a, b): 0 for a in classes for b in classes}
        assert send(client, (given_tokens[0], classes[2]), (given_tokens[1], classes[0])).status_code == 200
        confusion = totals(client, "model_feedback_confusion_total")
    for row, actual in ((0, classes[2]), (1, classes[0])):
        assert confusion[actual, predictions[row]["label"]] >= 1
    assert sum(confusion.values()) == 2


def test_number_is_compared_with_the_prediction(keys: Path, tmp_path: Path) -> None:
    uri = folder_of("regression", tmp_path)
    with serving(settings_for(uri, tmp_path, feedback_keys_dir=keys)) as client:
        values, given_tokens = predicted(client, "regression")
        assert send(client, (given_tokens[0], values[0] - 2), (given_tokens[1], values[1] + 0.5)).status_code == 200
        assert totals(client, "model_feedback_squared_error_total")[()] == pytest.approx(4.25, rel=1e-5)
        errors = totals(client, "model_feedback_absolute_error_total")
        assert errors == pytest.approx({("over",): 2.0, ("under",): 0.5}, rel=1e-5)
        for wrong in ("1", True, None, [1]):
            assert "must be a number" in send(client, (given_tokens[2], wrong)).json()["errors"][0]["problem"]


def test_label_whose_error_would_overflow_is_rejected(keys: Path, tmp_path: Path) -> None:
    uri = folder_of("regression", tmp_path)
    with serving(settings_for(uri, tmp_path, feedback_keys_dir=keys)) as client:
        _, given_tokens = predicted(client, "regression")
        for wrong in (1e200, -1e200, 3.5e38, 10**400):
            answer = send(client, (given_tokens[0], wrong))
            assert answer.status_code == 422
            assert answer.json()["errors"] == [
                {"row": 0, "column": "label", "problem": "must be between -3.4e+38 and 3.4e+38"}
            ]
        before = totals(client, "model_feedback_squared_error_total")[()]
        assert send(client, (given_tokens[0], 3.4e38), (given_tokens[1], -3.4e38)).status_code == 200
        after = totals(client, "model_feedback_squared_error_total")[()]

    assert after - before == pytest.approx(2 * 3.4e38**2)
    assert np.isfinite((after - before) ** 2), "the square of a gain, which is a difference of squared errors"


@pytest.mark.parametrize("number_of_labels", [1, 3])
def test_token_counts_once(binary: TestClient, number_of_labels: int) -> None:
    _, given_tokens = predicted(binary)
    before = totals(binary, "model_feedback_rejected_total")

    answer = send(binary, *[(given_tokens[0], "yes")] * number_of_labels)
    again = send(binary, (given_tokens[0], "no"))

    rejected = [{"row": row, "column": "token", "problem": "was already scored"} for row in range(1, number_of_labels)]
    assert answer.json() == {"accepted": 1, "rejected": rejected}
    assert (again.status_code, again.json()["errors"][0]["problem"]) == (422, "was already scored")
    after = totals(binary, "model_feedback_rejected_total")
    assert after[("duplicate",)] - before[("duplicate",)] == number_of_labels


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_clock_that_jumps_costs_no_prediction_and_no_label(
    binary: TestClient, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    _, (before, *_) = predicted(binary)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + seconds)
    _, (after, *_) = predicted(binary)

    assert send(binary, (before, "yes"), (after, "yes")).json()["accepted"] == 2


def test_rejected_labels_are_explained_and_counted(binary: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (first, second, *_) = predicted(binary)
    before = totals(binary, "model_feedback_rejected_total")
    wrong = [(first, "maybe"), (first, 1), ("forged", "yes"), (first[:-4] + "AAAA", "yes"), ("é", "yes"), (7, "yes")]

    answer = send(binary, *wrong, (second, "yes"))

    assert answer.json()["accepted"] == 1
    problems = [each["problem"] for each in answer.json()["rejected"]]
    assert problems[:2] == ["must be one of the model's classes: no, yes"] * 2
    assert problems[2:5] == ["is not a token of a prediction by this service"] * 3
    assert problems[5] == "is missing: each entry must be an object with token and label"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + MONTH + 2)
    late = send(binary, (first, "yes"))
    assert late.json()["errors"][0]["problem"] == "is older than 2592000 s, the maximum age for a label"
    after = totals(binary, "model_feedback_rejected_total")
    assert {reason: after[reason] - before[reason] for reason in after} == {
        ("bad_label",): 2, ("bad_token",): 4, ("expired",): 1, ("duplicate",): 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400), (b"[]", 422), (b"{}", 422), (b'{"labels":[]}', 422), (b'{"labels":[1]}', 422),
        (b'{"labels":[{"token":"x"}]}', 422), (b'{"labels":[{"token":"x","label":1,"more":2}]}', 422),
        (b'{"labels":[' + b",".join([b"1"] * 101) + b"]}", 413),
    ],
)  # fmt: skip
def test_invalid_body_is_rejected(binary: TestClient, content: bytes, status: int) -> None:
    answer = binary.post("/feedback", content=content)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_service_without_keys_has_no_tokens_and_no_feedback(client: TestClient) -> None:
    answer = client.post("/predict", json={"instances": [{"mean radius": 0.5, "texture": 0.25, "count": 3}]})

    assert answer.json().keys() == {"model", "predictions"}
    assert client.post("/feedback", json={"labels": []}).status_code == 404
    assert "/feedback" not in client.get("/openapi.json").json()["paths"]


def test_openapi_describes_labels_and_tokens(binary: TestClient) -> None:
    document = binary.get("/openapi.json").json()
    validate(document)

    assert "tokens" in document["components"]["schemas"]["Predictions"]["required"]
    label = document["components"]["schemas"]["Labels"]["properties"]["labels"]["items"]["properties"]["label"]
    assert label["enum"] == ["no", "yes"]


@pytest.mark.parametrize(
    ("form", "classes", "possible"),
    [
        ("number", (), True), ("label", ("a", "b"), True), ("probabilities", ("a", "b"), True),
        ("numbers", (), False), ("record", (), False), ("label", (), False),
    ],
)  # fmt: skip
def test_only_numbers_and_named_classes_are_comparable(form: Any, classes: tuple[str, ...], possible: bool) -> None:
    assert Output("binary", form, classes, 1).comparable is possible


def test_several_numbers_fail_the_load_with_feedback(keys: Path, tmp_path: Path) -> None:
    said: list[str] = []
    Service(settings_for(folder_of("targets", tmp_path), tmp_path, feedback_keys_dir=keys), said.append).start()
    until(lambda: said)
    assert "so a label cannot be compared with one; turn feedback off" in said[0]


@given(st.floats(width=32, allow_nan=False), st.integers(0, 255), st.text(max_size=16))
def test_token_is_read_by_every_pod_with_the_key(answer: float, place: int, version: str) -> None:
    (text,) = Signer([OLD, KEY], "churn").issue(version, [(answer, place)])
    found = Signer([KEY], "churn").read(text)

    assert (found.version, found.answer, found.bin) == (version, answer, place)
    assert abs(found.issued_at - time.time()) < 5


def test_tokens_survive_key_rotation_and_fit_no_other_model() -> None:
    (text,) = Signer([OLD], "churn").issue("7", [(0.5, 1)])

    assert isinstance(Signer([OLD, KEY], "churn").read(text), Token)
    for stranger in (Signer([KEY], "churn"), Signer([OLD], "fraud")):
        with pytest.raises(TokenError):
            stranger.read(text)


def test_tokens_are_unique() -> None:
    signer = Signer([KEY], "churn")
    issued = [*signer.issue("7", [(0.5, 1)] * 100), *Signer([KEY], "churn").issue("7", [(0.5, 1)] * 100)]

    assert len({signer.read(text).identity for text in issued}) == 200


@given(st.data())
def test_token_with_a_changed_bit_is_rejected(data: st.DataObject) -> None:
    signer = Signer([KEY], "churn")
    content = bytearray(base64.urlsafe_b64decode(signer.issue("7", [(0.5, 1)])[0]))
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    content[place // 8] ^= 1 << place % 8
    with pytest.raises(TokenError):
        signer.read(base64.urlsafe_b64encode(content).decode())


@given(st.text(max_size=200))
def test_arbitrary_text_is_rejected(text: str) -> None:
    with pytest.raises(TokenError):
        Signer([KEY], "churn").read(text)


def test_the_oldest_tokens_are_forgotten_first(binary: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.monitoring.feedback.REMEMBERED_TOKENS", 2)
    _, (first, second, third, *_) = predicted(binary)
    for token in (first, second, third):
        assert send(binary, (token, "yes")).status_code == 200

    assert send(binary, (third, "yes")).status_code == 422
    assert send(binary, (first, "yes")).status_code == 200
