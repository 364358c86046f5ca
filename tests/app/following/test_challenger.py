"""A challenger next to the served model: real models, real requests, and XGBoost's own predictions as the truth."""

import io
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from backports import zstd
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from app.endpoints.arrow import ARROW
from app.http.body import INLINE_BYTES
from app.model.booster import Matrix
from app.model.contract import MODEL_FILE
from app.monitoring import payload
from app.monitoring.challenger import DIFFERENCE_BUCKETS
from app.settings import Settings
from tests.app.following.registry import NAME, Registry
from tests.app.following.test_following import body, failing, retrained, varied
from tests.app.harness import COLUMNS, logged, serving, settings_for, silent_server, write_contract
from tools.loopback import until


@pytest.fixture
def other(saved: Path, rows: Matrix, tmp_path: Path) -> Path:
    """Folder of a model whose predictions differ from those of the saved one."""
    return varied(saved, tmp_path / "other", bytes(retrained(rows).save_raw("ubj")))


def challenged(saved: Path, tmp_path: Path, challenger: Path | str, **changes: Any) -> Settings:
    """Return settings of a service that serves the saved model with a challenger."""
    uri = challenger if isinstance(challenger, str) else challenger.as_uri()
    name = tmp_path.name  # of one test alone, because counters outlive a service
    # The process that tries a challenger has a low priority, so it takes long while other tests run.
    given = {"model_name": name, "challenger_uri": uri, "challenger_poll_seconds": 0.1, "load_timeout_seconds": 170}
    given |= changes
    return settings_for(saved.as_uri(), tmp_path, **given)


def state(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/model").json()["challenger"]
    return found


def reaches(client: TestClient, wanted: str) -> dict[str, Any]:
    """Wait for a state, and return what the service says about its challenger."""

    def reached() -> bool:
        time.sleep(0.1)  # leaves the CPU to the process that tries the challenger
        return bool(state(client)["state"] == wanted)

    until(reached)
    return state(client)


def total(client: TestClient, name: str, **labels: str) -> float:
    """Return the sum of a metric over the series of this service."""
    labels["model_name"] = client.get("/model").json()["name"]
    return sum(
        sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def counted(client: TestClient, rows: int) -> None:
    """Wait until a number of rows has been compared."""
    until(lambda: total(client, "model_challenger_rows_total") == rows)


def test_counts_equal_those_of_the_models_themselves(
    saved: Path, other: Path, booster: xgb.Booster, rows: Matrix, tmp_path: Path
) -> None:
    old, new = (model.inplace_predict(rows, validate_features=False) for model in (booster, retrained(rows)))
    difference = np.abs(new - old)
    with serving(challenged(saved, tmp_path, other)) as client:
        known = reaches(client, "comparing")

        answer = client.post("/predict", json=body(rows, *range(len(rows)))).json()
        counted(client, len(rows))

        shown = np.array([each["probabilities"]["benign"] for each in answer["predictions"]], dtype=np.float32)
        assert (shown == old).all()
        assert known["sha256"] != client.get("/model").json()["sha256"]
        assert total(client, "model_challenger_disagreements_total") == ((old > 0.5) != (new > 0.5)).sum() > 0
        for bound in DIFFERENCE_BUCKETS:
            found = total(client, "model_challenger_difference_bucket", le=str(bound))
            assert found == (difference <= np.float32(bound)).sum()
        assert total(client, "model_challenger_difference_sum") == pytest.approx(difference.sum(), rel=1e-5)
        assert total(client, "model_challenger_info", challenger_version=known["version"]) == 1
        assert total(client, "model_challenger_duration_seconds_count") > 0
        assert total(client, "model_challenger_errors_total") == 0
        assert total(client, "model_challenger_dropped_rows_total") == 0


@pytest.fixture(scope="module")
def comparing(saved: Path, rows: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Client of a service that compares a challenger."""
    place = tmp_path_factory.mktemp("comparing")
    folder = varied(saved, place / "other", bytes(retrained(rows).save_raw("ubj")))
    with serving(challenged(saved, place, folder)) as client:
        reaches(client, "comparing")
        yield client


def stream(given: dict[str, Any]) -> bytes:
    """Return a request as an Arrow stream."""
    table = pa.table(dict(zip(COLUMNS, map(list, zip(*given["data"], strict=True)), strict=True)))
    output = io.BytesIO()
    with pa.ipc.new_stream(output, table.schema) as to:
        to.write_table(table)
    return output.getvalue()


def sent(protocol: str, model: str, given: dict[str, Any]) -> tuple[str, str, bytes]:
    """Return path, Content-Type and body of a request."""
    tensors = [
        {"name": name, "shape": [len(data)], "datatype": "INT64" if name == "count" else "FP32", "data": list(data)}
        for name, data in zip(COLUMNS, zip(*given["data"], strict=True), strict=True)
    ]
    kind = "application/json"
    lines = "\n".join(",".join(map(str, line)) for line in (COLUMNS, *given["data"]))
    return {
        "predict": ("/predict", kind, json.dumps(given).encode()),
        "arrow": ("/predict", ARROW, stream(given)),
        "mlflow": ("/invocations", kind, json.dumps({"dataframe_split": given}).encode()),
        "mlflow, CSV": ("/invocations", "text/csv", lines.encode()),
        "open inference": (f"/v2/models/{model}/infer", kind, json.dumps({"inputs": tensors}).encode()),
    }[protocol]


@pytest.mark.parametrize("coding", ["", "zstd"])
@pytest.mark.parametrize("request_rows", [1, 150], ids=["on the event loop", "in a thread"])
@pytest.mark.parametrize("protocol", ["predict", "arrow", "mlflow", "mlflow, CSV", "open inference"])
def test_every_protocol_is_compared(
    comparing: TestClient, rows: Matrix, protocol: str, request_rows: int, coding: str
) -> None:
    before = total(comparing, "model_challenger_rows_total")
    given = body(rows, *(number % len(rows) for number in range(request_rows)))
    path, kind, content = sent(protocol, comparing.get("/model").json()["name"], given)
    headers = {"Content-Type": kind} | ({"Content-Encoding": coding} if coding else {})

    answer = comparing.post(path, content=zstd.compress(content) if coding else content, headers=headers)

    assert answer.status_code == 200, answer.text
    counted(comparing, int(before) + request_rows)


def test_body_that_a_thread_reads_is_compared(comparing: TestClient, rows: Matrix) -> None:
    before = total(comparing, "model_challenger_rows_total")
    content = json.dumps(body(rows, 0, 1)).encode() + b" " * INLINE_BYTES

    assert comparing.post("/predict", content=content).status_code == 200

    counted(comparing, int(before) + 2)


def damaged(folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes((folder / MODEL_FILE).read_bytes()[:-100])


def renamed(folder: Path) -> None:
    write_contract(folder, classes=["malignant", "gone"])


def reversed_classes(folder: Path) -> None:
    write_contract(folder, classes=["benign", "malignant"])


@pytest.mark.parametrize(
    ("spoil", "changes", "reason", "cause"),
    [
        (damaged, {}, "load", "is damaged or not a model file of XGBoost"),
        (renamed, {}, "interface", "its classes are malignant, gone, the champion's are malignant, benign"),
        (reversed_classes, {}, "interface", "its classes are in a different order"),
        (None, {"challenger_sha256": "0" * 64}, "digest", f"but {'0' * 64} is pinned"),
    ],
)
def test_broken_challenger_is_refused_and_changes_nothing(
    saved: Path,
    other: Path,
    rows: Matrix,
    tmp_path: Path,
    spoil: Callable[[Path], None] | None,
    changes: dict[str, Any],
    reason: str,
    cause: str,
) -> None:
    if spoil:
        spoil(other)
    with serving(challenged(saved, tmp_path, other, **changes)) as client:
        known = reaches(client, "refused")

        assert (known["reason"], cause in known["cause"]) == (reason, True), known
        assert total(client, "model_challenger_refused_info", reason=reason) == 1
        assert client.get("/health/ready").status_code == 200
        assert client.post("/predict", json=body(rows, 0)).status_code == 200
        assert total(client, "model_challenger_rows_total") == total(client, "model_challenger_info") == 0


def test_service_is_ready_while_the_source_of_the_challenger_does_not_respond(
    saved: Path, rows: Matrix, tmp_path: Path
) -> None:
    with serving(challenged(saved, tmp_path, "models:/a@b", mlflow_tracking_uri=silent_server()), 10) as client:
        assert state(client)["state"] == "loading"
        assert client.post("/predict", json=body(rows, 0)).status_code == 200


def test_incomplete_challenger_is_tried_again(saved: Path, other: Path, tmp_path: Path) -> None:
    content = (other / MODEL_FILE).read_bytes()
    (other / MODEL_FILE).unlink()
    with serving(challenged(saved, tmp_path, other)) as client:
        assert "does not contain an XGBoost model" in reaches(client, "unavailable")["cause"]

        (other / MODEL_FILE).write_bytes(content)

        reaches(client, "comparing")
        assert total(client, "model_challenger_refused_info") == 0


def test_unreachable_challenger_is_tried_again(saved: Path, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:1"
    with serving(challenged(saved, tmp_path, "models:/a/7", mlflow_tracking_uri=nowhere)) as client:
        known = reaches(client, "unavailable")

        assert f"Cannot load models:/a/7 from {nowhere}: " in known["cause"]
        assert total(client, "model_challenger_refused_info", reason="unavailable") == 1


def test_challenger_that_fails_on_rows_is_counted_and_switched_off(saved: Path, rows: Matrix, tmp_path: Path) -> None:
    model, bad = failing(rows)
    folder = varied(saved, tmp_path / "failing", model)
    with serving(challenged(saved, tmp_path, folder)) as client:
        reaches(client, "comparing")
        assert client.post("/predict", json=body(rows, 0, bad)).status_code == 200
        counted(client, 1)
        assert total(client, "model_challenger_errors_total") == 1

        for count in range(2, 7):
            assert client.post("/predict", json=body(rows, bad)).status_code == 200
            until(partial(lambda wanted: total(client, "model_challenger_errors_total") == wanted, count))

        known = reaches(client, "refused")
        assert known["reason"] == "errors"
        assert client.post("/predict", json=body(rows, bad)).status_code == 200


def test_challenger_with_the_served_files_is_not_compared(saved: Path, rows: Matrix, tmp_path: Path) -> None:
    with serving(challenged(saved, tmp_path, saved)) as client:
        reaches(client, "same")
        assert client.post("/predict", json=body(rows, 0)).status_code == 200
        assert total(client, "model_challenger_refused_info") == total(client, "model_challenger_info") == 0


def test_payload_log_contains_the_predictions_of_both(saved: Path, other: Path, rows: Matrix, tmp_path: Path) -> None:
    with logged() as lines, serving(challenged(saved, tmp_path, other, payload_sample_ratio=1)) as client:
        version = reaches(client, "comparing")["version"]
        client.post("/predict", json=body(rows, 0, 1))
        client.post("/predict", json={"instances": [{**dict(zip(COLUMNS, body(rows, 2)["data"][0], strict=True))}]})
        counted(client, 3)

    new = retrained(rows).inplace_predict(rows[:3], validate_features=False)
    found = [line for line in lines if line["logger"] == payload.__name__]
    given = [each["probabilities"]["benign"] for line in found for each in line[f"challenger_{version}"]]
    assert (np.array(given, dtype=np.float32) == new).all()
    assert [len(line["predictions"]) for line in found] == [2, 1]


def test_labels_are_scored_for_both_models(
    saved: Path, other: Path, booster: xgb.Booster, rows: Matrix, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "key").write_text("a-key-of-16-chars-or-more")
    truth = rows[:, 0] > 0.5
    settings = challenged(saved, tmp_path, other, challenger_labels=True, feedback_keys_dir=keys)
    with serving(settings) as client:
        version = reaches(client, "comparing")["version"]
        half = len(rows) // 2
        tokens = client.post("/predict", json=body(rows, *range(half))).json()["tokens"]
        arrow = client.post("/predict", json=body(rows, *range(half, len(rows))), headers={"Accept": ARROW})
        tokens += pa.ipc.open_stream(arrow.content).read_all()["token"].to_pylist()
        labels = [
            {"token": token, "label": "benign" if positive else "malignant"}
            for token, positive in zip(tokens, truth, strict=True)
        ]
        assert client.post("/feedback", json={"labels": labels}).json()["accepted"] == len(rows)

        losses = []
        served = client.get("/model").json()["version"]
        for model, name in ((booster, served), (retrained(rows), version)):
            scores = model.inplace_predict(rows, validate_features=False)
            losses.append((scores - truth) ** 2)
            assert total(client, "model_feedback_labels_total", model_version=name) == len(rows)
            right = ((scores > 0.5) == truth).sum()
            assert total(client, "model_feedback_correct_total", model_version=name) == right
            found = total(client, "model_feedback_squared_error_total", model_version=name)
            assert found == pytest.approx(losses[-1].sum(), rel=1e-5)
        gain = losses[0] - losses[1]
        pair = {"model_version": served, "challenger_version": version}
        assert total(client, "model_challenger_labels_total", **pair) == len(rows)
        for sign, expected in (("better", gain[gain > 0].sum()), ("worse", -gain[gain < 0].sum())):
            found = total(client, "model_challenger_gain_total", sign=sign, **pair)
            assert found == pytest.approx(expected, rel=1e-4)
        squares = total(client, "model_challenger_squared_gain_total", **pair)
        assert squares == pytest.approx((gain**2).sum(), rel=1e-4)


def test_row_on_which_the_challenger_fails_has_a_token_of_the_served_model(
    saved: Path, rows: Matrix, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "key").write_text("a-key-of-16-chars-or-more")
    model, bad = failing(rows)
    folder = varied(saved, tmp_path / "failing", model)
    settings = challenged(saved, tmp_path, folder, challenger_labels=True, feedback_keys_dir=keys)
    with serving(settings) as client:
        version = reaches(client, "comparing")["version"]
        tokens = client.post("/predict", json=body(rows, 0, bad)).json()["tokens"]
        labels = [{"token": token, "label": "benign"} for token in tokens]

        assert client.post("/feedback", json={"labels": labels}).json()["accepted"] == 2

        served = client.get("/model").json()["version"]
        assert total(client, "model_feedback_labels_total", model_version=served) == 2
        assert total(client, "model_feedback_labels_total", model_version=version) == 1


def test_alias_of_the_challenger_is_followed(
    mlflow_server: str, saved: Path, other: Path, rows: Matrix, tmp_path: Path
) -> None:
    registry = Registry(mlflow_server, "challenged")
    served, first = registry.register(saved), registry.register(other)
    broken = varied(other, tmp_path / "broken")
    damaged(broken)
    registry.point(first)
    names = {"model_uri": f"models:/challenged/{served}", "mlflow_tracking_uri": mlflow_server}
    with serving(challenged(saved, tmp_path, "models:/challenged@live", **names)) as client:
        assert reaches(client, "comparing")["version"] == first
        assert client.post("/predict", json=body(rows, 0, 1)).status_code == 200
        counted(client, 2)

        registry.point(registry.register(broken))
        assert reaches(client, "refused")["reason"] == "load"
        registry.point(served)
        reaches(client, "same")
        registry.point(first)
        assert reaches(client, "comparing")["version"] == first
        assert client.get("/model").json()["version"] == served


def test_challenger_is_compared_with_each_model_that_is_served(
    mlflow_server: str, saved: Path, other: Path, rows: Matrix, tmp_path: Path
) -> None:
    registry = Registry(mlflow_server, "both")
    first, second = registry.register(saved), registry.register(other)
    registry.point(first)
    quick = {"follow_poll_seconds": 0.1, "follow_stagger_seconds": 0, "follow_watch_seconds": 0}
    names = {"model_uri": "models:/both@live", "mlflow_tracking_uri": mlflow_server, "model_name": NAME + "-both"}
    with serving(challenged(saved, tmp_path, f"models:/both/{second}", **names, **quick)) as client:
        reaches(client, "comparing")
        assert client.post("/predict", json=body(rows, 0)).status_code == 200
        counted(client, 1)

        registry.point(second)

        reaches(client, "same")
        assert client.get("/model").json()["version"] == second
        registry.point(first)
        reaches(client, "comparing")
        assert client.post("/predict", json=body(rows, 0)).status_code == 200
        counted(client, 2)
