"""The live gate: a real Prometheus that scrapes a real service, which compares two real versions."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.datasets import load_breast_cancer

from tests.app.harness import running_service
from tests.prometheus import prometheus
from tests.training.conftest import Result, Server
from tests.training.gate.test_promote import verified
from tools.cluster.access import http, wait_for_series
from tools.loopback import free_port, until
from training.gate.live import Live, LiveError, judge_live, mean_at_least, share_at_most
from training.gate.promotion import LiveRules

NAME = "live"
NOWHERE = "http://127.0.0.1:9"
# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


def rules(address: str, **changes: Any) -> LiveRules:
    """Return rules that two good versions pass."""
    known = LiveRules(
        address=address, window="10m", selector="", min_rows=500, max_error_ratio=0.01, max_disagreement=0.5,
        min_labels=500, min_gain=0.0, confidence=0.95,
    )  # fmt: skip
    return replace(known, **changes)


@dataclass(frozen=True)
class Compared:
    """Two versions that a service compared on the rows of the data set, and the Prometheus that has the counts."""

    prometheus: str
    server: Server
    champion: dict[str, Any]
    candidate: dict[str, Any]
    disagreement: float
    gain: np.ndarray[Any, Any]  # of each label

    def judged(self, **changes: Any) -> Live:
        """Return the checks of the candidate."""
        versions = self.champion["version"], self.candidate["version"]
        return judge_live(rules(self.prometheus, **changes), NAME, *versions, self.candidate["sha256"])


@pytest.fixture(scope="module")
def compared(
    server: Server, trained: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compared]:
    champion = trained(server, NAME, "--early-stopping-rounds=0", "--rounds=1", "--max-depth=1")
    candidate = trained(server, NAME, "--early-stopping-rounds=0", "--rounds=60")
    server.client.set_registered_model_alias(NAME, "champion", champion["version"])
    place, port = tmp_path_factory.mktemp("live"), free_port()
    keys = place / "keys"
    keys.mkdir()
    (keys / "key").write_text("a-key-of-16-chars-or-more")
    settings = {
        "MLFLOW_TRACKING_URI": server.uri,
        "CHALLENGER_URI": candidate["uri"],
        "CHALLENGER_LABELS": "true",
        "FEEDBACK_KEYS_DIR": str(keys),
        "PORT": str(port),
    }
    variables = {f"MODEL_SERVICE_{name}": value for name, value in settings.items()}
    metrics = place / "prometheus"
    metrics.mkdir()
    with (
        prometheus(metrics, [f"127.0.0.1:{port}"]) as address,
        running_service(champion["uri"], place, **variables) as service,
    ):
        until(lambda: http(f"{service.address}/model")["challenger"]["state"] == "comparing")
        seen = "count_over_time(model_challenger_rows_total[1m]) >= 2"  # the increase from zero counts
        wait_for_series(address, seen)
        scores, truth = asked(service.address, server, champion, candidate)
        total = f"model_challenger_rows_total == {len(truth)} and on () model_challenger_labels_total == {len(truth)}"
        wait_for_series(address, total)
        wait_for_series(address, f"count_over_time(({total})[20s:1s]) >= 3")
        old, new = scores
        gain = (old - truth) ** 2 - (new - truth) ** 2
        yield Compared(address, server, champion, candidate, float(((old > 0.5) != (new > 0.5)).mean()), gain)


def asked(service: str, server: Server, *versions: dict[str, Any]) -> tuple[list[Any], Any]:
    """Send all rows and their labels to the service; return the scores of the versions, and the labels."""
    data = load_breast_cancer(as_frame=True)
    known = http(f"{service}/model")
    names = [column["name"] for column in known["signature"]]
    rows = data.data[names].to_numpy().tolist()
    answer = http(f"{service}/predict", {"columns": names, "data": rows})
    yes = known["classes"][1]
    labels = [str(data.target_names[number]) if isinstance(yes, str) else number for number in data.target]
    found = [{"token": token, "label": label} for token, label in zip(answer["tokens"], labels, strict=True)]
    assert http(f"{service}/feedback", {"labels": found})["accepted"] == len(rows)
    scores = [own_scores(server, each, names, rows) for each in versions]
    shown = np.array([each["probabilities"][yes] for each in answer["predictions"]], dtype=np.float32)
    assert np.allclose(shown, scores[0], atol=1e-6)
    return scores, np.array([label == yes for label in labels], dtype=float)


def own_scores(server: Server, version: dict[str, Any], names: list[str], rows: list[list[float]]) -> Any:
    """Return XGBoost's own scores of the second class."""
    import xgboost as xgb

    booster = xgb.Booster(model_file=str(server.model_folder(NAME, version["version"]) / "model.ubj"))
    matrix = xgb.DMatrix(np.array(rows, dtype=np.float32), feature_names=names)
    return booster.predict(matrix, validate_features=False)


def test_candidate_passes_by_what_the_pods_measured(compared: Compared) -> None:
    live = compared.judged(max_disagreement=compared.disagreement + 0.05)

    assert [check.name for check in live.checks] == ["live rows", "live errors", "live disagreement", "live quality"]
    assert all(check.passed for check in live.checks), live.checks
    values = {query.split("(increase(")[1].split("{")[0]: value for query, value in live.queries.items()}
    rows = values["model_challenger_rows_total"] or 1
    assert rows > 0.99 * len(compared.gain)  # increase() extrapolates by up to two scrapes, which are slow here
    differ = (values["model_challenger_disagreements_total"] or 0) / rows
    assert differ == pytest.approx(compared.disagreement, rel=0.02)
    signs = {sign: next(query for query in live.queries if f'sign="{sign}"' in query) for sign in ("better", "worse")}
    gain = (live.queries[signs["better"]] or 0) - (live.queries[signs["worse"]] or 0)
    labels = values["model_challenger_labels_total"] or 1
    assert gain / labels == pytest.approx(compared.gain.mean(), rel=0.05)


@pytest.mark.parametrize(
    ("changes", "failed", "reason"),
    [
        ({"min_rows": 100_000}, ["live rows"], "rows with version 2 within 10m, at least 100000 are required"),
        ({"selector": 'job="elsewhere"'}, ["live rows"], "predicted 0 rows with version 2"),
        ({"max_disagreement": 0.0}, ["live disagreement"], "0.000% is allowed"),
        ({"min_labels": 100_000}, ["live labels"], "at least 100000 are required: set challenger.labels=true"),
        ({"min_gain": 0.5}, ["live quality"], "at least +0.5 is required"),
        ({"max_error_ratio": 0.0001}, ["live errors"], "it failed on 0 of "),
    ],
)
def test_candidate_is_refused(compared: Compared, changes: dict[str, Any], failed: list[str], reason: str) -> None:
    checks = compared.judged(**changes).checks

    assert [check.name for check in checks if not check.passed] == failed
    assert reason in next(check.detail for check in checks if not check.passed)


def test_limits_without_labels_and_disagreement_need_rows_only(compared: Compared) -> None:
    checks = compared.judged(max_disagreement=None, min_gain=None).checks

    assert [(check.name, check.passed) for check in checks] == [("live rows", True), ("live errors", True)]


def test_other_bytes_under_the_version_are_refused(compared: Compared) -> None:
    live = judge_live(
        rules(compared.prometheus), NAME, compared.champion["version"], compared.candidate["version"], "ab"
    )

    assert [(check.name, check.passed) for check in live.checks] == [("live model", False)]
    assert compared.candidate["sha256"] in live.checks[0].detail


def test_command_refuses_then_promotes_and_writes_the_queries(
    compared: Compared, command: Callable[..., Result], tmp_path: Path
) -> None:
    verification = tmp_path / "verified.json"
    verification.write_text(verified(compared.candidate["sha256"]).model_dump_json())
    given = [
        *("promote", compared.candidate["uri"], f"--mlflow-tracking-uri={compared.server.uri}"),
        *(f"--verification={verification}", "--metric=logloss", f"--live={compared.prometheus}", "--live-window=10m"),
    ]

    refused = command(*given, "--live-min-rows=100000")
    assert refused.code == 3
    assert "at least 100000 are required: set challenger.uri to it, and wait." in refused.messages[-1]

    promoted = command(*given, "--live-min-rows=500", "--live-min-gain=0", "--live-max-disagreement=0.5")

    assert promoted.code == 0, promoted.messages
    assert "live rows were predicted by both versions" in promoted.published["reason"]
    tags = compared.server.client.get_model_version(NAME, compared.candidate["version"]).tags
    queries = json.loads(tags["gate.live"])
    assert any(query.startswith("sum(increase(model_challenger_rows_total{") for query in queries)
    compared.server.client.set_registered_model_alias(NAME, "champion", compared.champion["version"])


def test_named_data_need_what_the_pods_measured_too(
    compared: Compared, command: Callable[..., Result], tmp_path: Path
) -> None:
    verification, table = tmp_path / "verified.json", tmp_path / "table.csv"
    verification.write_text(verified(compared.candidate["sha256"]).model_dump_json())
    contract = compared.server.model_folder(NAME, compared.candidate["version"]) / "contract.json"
    classes = json.loads(contract.read_text())["classes"]
    data = load_breast_cancer(as_frame=True)
    names = data.target_names if isinstance(classes[0], str) else range(len(classes))
    data.data.assign(diagnosis=[names[number] for number in data.target]).to_csv(table, index=False)
    given = [
        *("promote", compared.candidate["uri"], f"--mlflow-tracking-uri={compared.server.uri}", "--dry-run"),
        *(f"--verification={verification}", f"--data={table}", "--target=diagnosis", "--metric=logloss"),
        *(f"--live={compared.prometheus}", "--live-window=10m"),
    ]

    refused, promoted = (command(*given, f"--live-min-rows={rows}") for rows in (100_000, 500))

    assert (refused.code, promoted.code) == (3, 0), (refused.messages, promoted.messages)
    assert "at least 100000 are required: set challenger.uri to it, and wait." in refused.messages[-1]
    assert promoted.published["outcome"] == "would be promoted"
    assert "live rows were predicted by both versions" in promoted.published["reason"]


def test_first_promotion_has_nothing_to_compare_with(
    compared: Compared, command: Callable[..., Result], tmp_path: Path
) -> None:
    verification = tmp_path / "verified.json"
    verification.write_text(verified(compared.candidate["sha256"]).model_dump_json())

    found = command(
        "promote", compared.candidate["uri"], f"--mlflow-tracking-uri={compared.server.uri}", "--alias=fresh",
        f"--verification={verification}", f"--live={NOWHERE}",
    )  # fmt: skip

    assert (found.code, found.published["outcome"]) == (0, "promoted")


@contextmanager
def answering(status: int, content: bytes) -> Iterator[str]:
    """Yield the address of a server that answers everything in the same way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "content", "problem"),
    [
        (200, b"<html>", "did not return samples: check that it is Prometheus"),
        (200, b'{"status": "success", "data": {"resultType": "scalar", "result": []}}', "did not return samples"),
        (401, b"who are you?", "failed with status 401: who are you?"),
    ],
)
def test_answer_that_is_not_prometheus_is_an_error(status: int, content: bytes, problem: str) -> None:
    with answering(status, content) as address, pytest.raises(LiveError, match=problem) as error:
        judge_live(rules(address), NAME, "1", "2", "ab")

    assert error.value.exit_code == 1


def test_unreachable_prometheus_is_an_error() -> None:
    with pytest.raises(LiveError, match=f"Prometheus at {NOWHERE} is unreachable"):
        judge_live(rules(NOWHERE), NAME, "1", "2", "ab")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--live-min-rows=5"], "live_min_rows requires --live, the address of a Prometheus"),
        (["--live=prometheus"], "--live (TRAINING_LIVE): "),
        (["--live=http://a:b@prometheus"], "without credentials; use TRAINING_LIVE_TOKEN"),
        (["--live=http://p", "--live-window=soon"], "--live-window (TRAINING_LIVE_WINDOW): "),
        (["--live=http://p", "--live-selector=prod"], "--live-selector (TRAINING_LIVE_SELECTOR): "),
        (
            ["--live=http://p", "--live-max-disagreement=2"],
            "--live-max-disagreement (TRAINING_LIVE_MAX_DISAGREEMENT): ",
        ),
        (["--live=http://p", "--live-min-labels=3"], "--live-min-labels (TRAINING_LIVE_MIN_LABELS): "),
    ],
)
def test_bad_option_is_named(command: Callable[..., Result], arguments: list[str], problem: str) -> None:
    result = command("promote", "models:/churn/1", "--mlflow-tracking-uri=http://127.0.0.1:9", *arguments)

    assert result.code == 2
    assert problem in result.messages[-1]


@pytest.mark.parametrize(("count", "total"), [(0, 100), (0, 10_000), (3, 50), (50, 50), (120, 4000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_share_has_the_bound_of_scipy(count: int, total: int, confidence: float) -> None:
    interval = binomtest(count, total, alternative="less").proportion_ci(confidence, method="wilson")

    assert share_at_most(count, total, confidence) == pytest.approx(interval.high, abs=1e-9)


def test_bound_of_a_mean_holds_as_often_as_it_promises() -> None:
    drawn = np.random.default_rng(3)
    held = 0
    for _ in range(2000):
        values = drawn.gamma(2.0, 1.0, 200) - drawn.gamma(2.0, 1.0, 200)  # a true mean of 0
        held += mean_at_least(float(values.sum()), float((values**2).sum()), 200, 0.95) <= 0
    assert 0.93 < held / 2000 < 0.97


def test_equal_values_have_no_spread() -> None:
    assert mean_at_least(-3.0, 0.09, 100, 0.95) == pytest.approx(-0.03)
