"""Drift counts of live values in the bins of the reference profile."""

import json
import logging
import threading
import time
from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from prometheus_client import REGISTRY, CollectorRegistry
from starlette.testclient import TestClient

from app.errors import LoadError
from app.model.columns import Column
from app.model.contract import CONTRACT_FILE, Profile, Variable
from app.model.output import Output
from app.monitoring.bins import BLOCK_ROWS, MISSING, OTHER, UNSEEN
from app.monitoring.drift import Distributions, Drift
from app.service import Service
from tests.app.harness import serving, settings_for
from tests.app.kinds import KINDS, ROWS
from tools.loopback import until
from training.fitting.reference_profile import Feature, predictions_of, profile_of

BINARY = Output("binary", "probabilities", ("no", "yes"), 1)
COLUMNS = (
    Column("age", "double"),
    Column("city", "string", categories=("rome", "oslo", "bern")),
    Column("pay", "double"),
)
AGE = Variable(name="age", edges=(20, 40), shares=(0.5, 0.25, 0.25), samples=8, minimum=10, maximum=60, importance=0.5)
CITY = Variable(name="city", categories=("rome", "bern"), shares=(0.5, 0.4), other=0.1, samples=8, importance=0.3)
PAY = Variable(name="pay", edges=(-1.5,), shares=(0.5, 0.5), samples=8, minimum=-2, maximum=5, importance=0.2)
SCORE = Variable(name="score", edges=(0.5,), shares=(0.6, 0.4), samples=4, positive=(0.1, 0.9))


def drift(
    *features: Variable, predictions: tuple[Variable, ...] = (SCORE,), output: Output = BINARY, most: int = 20
) -> Drift:
    profile = Profile(created_at=datetime.now(UTC), features=features or (AGE, CITY, PAY), predictions=predictions)
    return Drift(profile, COLUMNS, output, ("churn", "3"), most)


def counts(found: Drift) -> dict[str, dict[str, int]]:
    counted = found.counts()
    return {
        each.variable.name: {name: counted[each.first + i] for i, name in enumerate(each.bins)}
        for each in found.bins.variables
    }


def outside(found: Drift) -> dict[str, tuple[int, int]]:
    """Return the numbers of values below and above the training range, by variable."""
    counted = found.counts()
    return {each.variable.name: (counted[each.below], counted[each.above]) for each in found.bins.variables}


def rows(*cells: list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(cells, dtype=np.float32)


@pytest.mark.parametrize("repeats", [1, 300], ids=["few rows", "more than a block"])
def test_every_value_falls_into_its_bin(repeats: int) -> None:
    nan = float("nan")
    found = drift()
    values = rows([20, 0, -1.5], [20.5, 1, -1.4], [99, 2, -3], [nan, nan, 9], [5, 0, nan])
    found.count(np.tile(values, (repeats, 1)), np.tile(rows([0.5], [0.6], [0], [1], [0.2]), (repeats, 1)))
    expected = {
        "age": {"00": 2, "01": 1, "02": 1, MISSING: 1},  # a bin includes its upper bound
        "city": {"rome": 2, "bern": 1, OTHER: 1, MISSING: 1, UNSEEN: 0},
        "pay": {"00": 2, "01": 2, MISSING: 1},
        "score": {"00": 3, "01": 2, MISSING: 0},
    }
    assert counts(found) == {name: {k: v * repeats for k, v in each.items()} for name, each in expected.items()}
    assert outside(found) == {"age": (repeats, repeats), "city": (0, 0), "pay": (repeats, repeats), "score": (0, 0)}


def test_counts_equal_bisection_for_any_block_size() -> None:
    random = np.random.default_rng(3)
    edges = [np.sort(random.normal(size=size).astype(np.float32)) for size in (9, 4)]
    numbers = [
        Variable(
            name=name,
            edges=tuple(edge.tolist()),
            shares=(1 / (len(edge) + 1),) * (len(edge) + 1),
            samples=9,
            minimum=-1,
            maximum=1,
        )
        for name, edge in zip(("age", "pay"), edges, strict=True)
    ]
    one, all_at_once = drift(*numbers, CITY), drift(*numbers, CITY)
    values = np.column_stack([random.normal(size=5000), random.integers(0, 3, 5000), random.normal(size=5000)])
    values[random.random(values.shape) < 0.1] = np.nan
    values[:9, 0] = edges[0]  # each one on a bound
    values, scores = values.astype(np.float32), random.random((5000, 1)).astype(np.float32)
    all_at_once.count(values, scores)
    for i in range(0, 5000, 5):
        one.count(values[i : i + 5], scores[i : i + 5])
    assert one.counts() == all_at_once.counts()
    for column, each in ((0, numbers[0]), (2, numbers[1])):
        expected = Counter(bisect_left(each.edges, value) for value in values[:, column].tolist() if value == value)
        found = counts(one)[each.name]
        assert found.pop(MISSING) == np.isnan(values[:, column]).sum()
        assert found == {f"{place:02d}": expected[place] for place in range(len(each.edges) + 1)}
    assert outside(one)["age"] == (int((values[:, 0] < -1).sum()), int((values[:, 0] > 1).sum()))
    assert sum(sum(each.values()) for each in counts(one).values()) == 5000 * 4


def test_waiting_values_are_bounded() -> None:
    found = drift()
    for size in (1, BLOCK_ROWS, 3 * BLOCK_ROWS + 1):
        for _ in range(3):
            found.count(np.zeros((size, 3), dtype=np.float32), np.zeros((size, 1), dtype=np.float32))
            assert len(found._rows) < BLOCK_ROWS * 3 * 4
    assert counts(found)["age"]["00"] == 3 * (4 * BLOCK_ROWS + 2)


def test_counting_takes_at_most_10_us_per_row_and_1_ms_per_1000_rows() -> None:
    edges, names = tuple(range(9)), [f"feature_{i}" for i in range(20)]
    features = tuple(Variable(name=name, edges=edges, shares=(0.1,) * 10, samples=9) for name in names)
    profile = Profile(created_at=datetime.now(UTC), features=features, predictions=(SCORE,))
    found = Drift(profile, [Column(name, "double") for name in names], BINARY, ("churn", "3"), 20)
    values = np.random.default_rng(3).normal(4, 4, (1000, 20)).astype(np.float32)
    scores = np.full((1000, 1), 0.1, dtype=np.float32)

    def spent(size: int) -> float:
        """Return the CPU time of counting 1,000 rows, in blocks of `size` rows."""
        begin = time.thread_time()
        for i in range(0, 1000, size):
            found.count(values[i : i + size], scores[i : i + size])
        found.counts()
        return time.thread_time() - begin

    assert min(spent(1) for _ in range(10)) / 1000 < 10e-6
    assert min(spent(1000) for _ in range(10)) < 1e-3


def test_threads_lose_no_counts() -> None:
    found = drift()
    few, many = rows([20, 0, 1]), np.tile(rows([20, 0, 1]), (50, 1))

    def work() -> None:
        for _ in range(300):
            found.count(few, rows([0.1]))
            found.count(many, np.full((50, 1), 0.1, dtype=np.float32))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(found)["age"]["00"] == 4 * 300 * 51


def test_unseen_category_is_counted_for_categorical_columns() -> None:
    found = drift()
    found.count_unseen(["city", "city", "age", None, "nonsense"])
    assert counts(found)["city"][UNSEEN] == 2
    assert sum(found.counts()) == 2


def test_multiclass_counts_the_most_probable_class() -> None:
    classes = Output("multiclass", "probabilities", ("a", "b", "c"), 3)
    label = Variable(name="label", categories=("a", "b", "c"), shares=(0.2, 0.3, 0.5), samples=9)
    found = drift(predictions=(label,), output=classes)
    found.count(rows([1, 0, 1], [1, 0, 1]), rows([0.1, 0.7, 0.2], [0.8, 0.1, 0.1]))
    assert counts(found)["label"] == {"a": 1, "b": 1, "c": 0, OTHER: 0, MISSING: 0, UNSEEN: 0}


def test_negative_and_several_numbers_are_counted() -> None:
    several = Output("regression", "numbers", (), 2)
    both = tuple(Variable(name=f"value_{i}", edges=(-10,), shares=(0.5, 0.5), samples=9) for i in range(2))
    found = drift(predictions=both, output=several)
    found.count(rows([1, 0, 1]), rows([-11, -9]))
    assert [counts(found)[f"value_{i}"]["00"] for i in range(2)] == [1, 0]


@pytest.mark.parametrize("repeats", [1, 300], ids=["few rows", "more than a block"])
def test_varying_constant_feature_is_counted_below_and_above(repeats: int) -> None:
    (constant,) = profile_of([Feature("pay")], np.full((1, 9), 3, dtype=np.float32), {}, ()).features
    found = drift(AGE, CITY, constant)
    found.count(np.tile(rows([20, 0, 3], [20, 0, 2.999], [20, 0, 3.001]), (repeats, 1)), rows(*[[0.1]] * 3 * repeats))
    assert counts(found)["pay"] == {"00": repeats, "01": repeats, "02": repeats, MISSING: 0}
    assert outside(found)["pay"] == (repeats, repeats)


@pytest.mark.parametrize("repeats", [1, 300], ids=["few rows", "more than a block"])
def test_infinite_values_are_counted_in_the_outer_bins_and_out_of_range(repeats: int) -> None:
    infinite = float("inf")
    found = drift()
    found.count(np.tile(rows([infinite, 0, -infinite]), (repeats, 1)), rows(*[[infinite]] * repeats))
    assert counts(found)["age"] == {"00": 0, "01": 0, "02": repeats, MISSING: 0}
    assert counts(found)["pay"] == {"00": repeats, "01": 0, MISSING: 0}
    assert counts(found)["score"] == {"00": 0, "01": repeats, MISSING: 0}
    assert (outside(found)["age"], outside(found)["pay"]) == ((0, repeats), (repeats, 0))


def test_new_class_counts_as_drift_from_a_single_class_reference() -> None:
    classes = Output("multiclass", "probabilities", ("a", "b", "c"), 3)
    predictions = predictions_of("multiclass", classes.classes, np.eye(3, dtype=np.float32)[[1, 1]])
    found = drift(predictions=predictions, output=classes)
    found.count(rows([1, 0, 1], [1, 0, 1]), rows([0.1, 0.7, 0.2], [0.8, 0.1, 0.1]))
    assert predictions[0].shares == (0.0, 1.0, 0.0)
    assert counts(found)["label"] == {"a": 1, "b": 1, "c": 0, OTHER: 0, MISSING: 0, UNSEEN: 0}


def test_only_the_most_important_features_are_counted() -> None:
    found = drift(PAY, CITY, AGE, most=2)
    assert [each.variable.name for each in found.bins.variables] == ["age", "city", "score"]
    assert [each.variable.name for each in drift(most=0).bins.variables] == ["score"]


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        ({"features": (PAY.model_copy(update={"name": "wage"}),)}, "wage, which is not a column"),
        (
            {"features": (CITY.model_copy(update={"name": "age"}),)},
            "age as a category, but the model has it as a number",
        ),
        (
            {"features": (AGE.model_copy(update={"name": "city"}),)},
            "city as a number, but the model has it as a category",
        ),
        ({"predictions": (SCORE, SCORE)}, "2 predictions, but the model has 1"),
    ],
)
def test_profile_of_another_model_is_rejected(profile: dict[str, Any], problem: str) -> None:
    with pytest.raises(LoadError, match=problem):
        Drift(Profile(created_at=datetime.now(UTC), **profile), COLUMNS, BINARY, ("churn", "3"), 20)


def test_every_series_exists_from_the_start() -> None:
    registry, shown = CollectorRegistry(), Distributions()
    shown.add(drift())
    shown.add(found := drift())  # the same model replaces its previous counts
    found.count(rows([99, 1, 0]), rows([0.7]))
    registry.register(shown)
    model = {"model_name": "churn", "model_version": "3"}

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, model | labels)

    city = {"role": "feature", "variable": "city"}
    assert value("model_distribution_values_total", **city, bin=UNSEEN) == 0
    assert value("model_distribution_values_total", **city, bin=OTHER) == 1
    assert value("model_reference_distribution_ratio", **city, bin="bern", upper="") == 0.4
    assert value("model_reference_distribution_ratio", **city, bin=OTHER, upper="") == 0.1
    age = {"role": "feature", "variable": "age"}
    assert value("model_reference_distribution_ratio", **age, bin="01", upper="40") == 0.25
    assert value("model_reference_distribution_ratio", **age, bin="02", upper="+Inf") == 0.25
    assert value("model_reference_distribution_samples", **age) == 8
    assert value("model_feature_importance_ratio", variable="age") == 0.5
    assert value("model_feature_out_of_range_total", variable="age", side="above") == 1
    assert value("model_feature_out_of_range_total", variable="age", side="below") == 0
    assert value("model_reference_positive_ratio", variable="score", bin="01") == 0.9


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model with categories and with a reference profile of its training data."""
    kind, folder = KINDS["categorical"], tmp_path_factory.mktemp("profiled") / "model"
    booster = kind.save(folder)
    matrix = xgb.DMatrix(kind.frame, enable_categorical=True)
    coded = kind.frame.apply(lambda column: column.cat.codes if column.dtype == "category" else column)
    values = coded.to_numpy(dtype=np.float32)
    values[kind.frame.isna().to_numpy()] = np.nan
    features = [
        Feature(str(name), tuple(column.cat.categories) if column.dtype == "category" else ())
        for name, column in kind.frame.items()
    ]
    predictions = predictions_of("binary", ("no", "yes"), booster.predict(matrix))
    profile = profile_of(features, values.T, booster.get_score(importance_type="total_gain"), predictions)
    contract = {"target": "y", **kind.contract, "profile": profile.model_dump(mode="json")}
    (folder / CONTRACT_FILE).write_text(json.dumps(contract))
    return folder


def live(client: TestClient, name: str = "model_distribution_values_total") -> dict[tuple[str, str], float]:
    """Return the counts in /metrics by variable and bin."""
    version = client.get("/model").json()["version"]
    return {
        (sample.labels["variable"], sample.labels["bin"]): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name and sample.labels["model_version"] == version
    }


@pytest.mark.parametrize("at_once", [1, 7, ROWS])
def test_training_data_has_no_drift(profiled: Path, tmp_path: Path, at_once: int) -> None:
    body = KINDS["categorical"].body()
    with serving(settings_for(profiled.as_uri(), tmp_path)) as client:
        assert set(live(client).values()) == {0.0}
        for i in range(0, ROWS, at_once):
            answer = client.post("/predict", json={"columns": body["columns"], "data": body["data"][i : i + at_once]})
            assert answer.status_code == 200
        counted, shares = live(client), live(client, "model_reference_distribution_ratio")
    assert counted.keys() == shares.keys()
    assert {name for name, _ in counted} == {*KINDS["categorical"].frame.columns, "score"}
    for place, count in counted.items():
        assert count == pytest.approx(shares[place] * ROWS), place


def test_rejected_request_counts_only_its_unseen_categories(profiled: Path, tmp_path: Path) -> None:
    body = KINDS["categorical"].body()
    wrong = [*body["data"][0]]
    wrong[body["columns"].index("colour")] = "octarine"
    with serving(settings_for(profiled.as_uri(), tmp_path)) as client:
        before = live(client)
        assert client.post("/predict", json={"columns": body["columns"], "data": [wrong]}).status_code == 422
        after = live(client)
    assert {place: after[place] - before[place] for place in after if after[place] != before[place]} == {
        ("colour", UNSEEN): 1
    }


def test_model_without_a_profile_is_served_and_logs_it(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), serving(settings_for(saved.as_uri(), tmp_path)) as client:
        assert live(client) == {}
        assert client.post("/predict", json=client.get("/model").json()["input_example"]).status_code == 200
        assert live(client) == {}
    (said,) = [record for record in caplog.records if "drift" in record.message]
    assert (said.message, vars(said)["why"]) == ("drift is not counted", "contract.json has no reference profile")


def test_disabled_drift_counts_nothing(profiled: Path, tmp_path: Path) -> None:
    body = KINDS["categorical"].body()
    with serving(settings_for(profiled.as_uri(), tmp_path, drift_max_features=0)) as client:
        before = live(client)
        assert client.post("/predict", json=body).status_code == 200
        assert live(client) == before


def test_unsuitable_profile_fails_the_load(profiled: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "model"
    wrong.mkdir()
    for path in profiled.iterdir():
        (wrong / path.name).write_bytes(path.read_bytes())
    contract = json.loads((wrong / CONTRACT_FILE).read_text())
    contract["profile"]["features"][0]["name"] = "mass"
    (wrong / CONTRACT_FILE).write_text(json.dumps(contract))
    said: list[str] = []
    Service(settings_for(wrong.as_uri(), tmp_path), said.append).start()
    until(lambda: said)
    assert "the profile in contract.json has mass, which is not a column of the model" in said[0]


def test_training_metrics_are_exported(profiled: Path, tmp_path: Path) -> None:
    changed = tmp_path / "model"
    changed.mkdir()
    for path in profiled.iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    contract = json.loads((changed / CONTRACT_FILE).read_text()) | {"metrics": {"auc": 0.93}}
    (changed / CONTRACT_FILE).write_text(json.dumps(contract))
    with serving(settings_for(changed.as_uri(), tmp_path, model_name="measured")) as client:
        model = client.get("/model").json()
    where = {"model_name": "measured", "model_version": model["version"], "metric": "auc"}
    assert REGISTRY.get_sample_value("model_reference_metric", where) == 0.93
