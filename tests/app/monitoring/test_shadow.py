"""The comparison of two models: bounded, and right for each kind of prediction."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from prometheus_client import REGISTRY

from app.errors import LoadError
from app.model import xgboost
from app.model.booster import Matrix
from app.model.contract import CONTRACT_FILE
from app.model.files import Provenance
from app.model.translation import Translation
from app.model.xgboost import BoosterModel
from app.monitoring.shadow import Comparison, Shadow
from app.settings import Settings
from tests.app.harness import settings_for

CATEGORIES = ["red", "green", "blue"]


def model(
    folder: Path,
    objective: str,
    version: str,
    contract: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    names: tuple[str, ...] = ("a", "b"),
) -> BoosterModel:
    """Train and load a model with columns of numbers, and a column "colour" of categories if it is among them."""
    drawn = np.random.default_rng(seed)
    data = drawn.random((200, len(names)), dtype=np.float32)
    known: dict[str, Any] = {"task": "regression", "target": "y"} | (contract or {})
    listed = {each["name"]: each["categories"] for each in known.get("columns", []) if "categories" in each}
    for name, categories in listed.items():
        data[:, names.index(name)] = drawn.integers(len(categories), size=200)
    types = ["c" if name in listed else "float" for name in names]
    kinds = 3 if objective.startswith("multi:") else 2
    label = data.sum(axis=1) if objective.startswith("reg:") else drawn.integers(kinds, size=200)
    matrix = xgb.DMatrix(data, label, feature_names=list(names), feature_types=types, enable_categorical=True)
    settings = {"objective": objective, "nthread": 1, "max_depth": 3} | ({"num_class": 3} if kinds == 3 else {})
    folder.mkdir()
    (folder / "model.ubj").write_bytes(xgb.train(settings, matrix, 5).save_raw("ubj"))
    flavor = "    data: model.ubj\n    model_class: xgboost.core.Booster\n"
    (folder / "MLmodel").write_text(f"flavors:\n  xgboost:\n{flavor}")
    inputs = [each for each in known.pop("columns", []) if each["name"] in names]
    plain = [{"name": name, "type": "double"} for name in names if name not in listed]
    known["columns"] = sorted([*inputs, *plain], key=lambda each: names.index(each["name"]))
    (folder / CONTRACT_FILE).write_text(json.dumps({"schema_version": 1, **known}))
    return xgboost.load(folder, Provenance(folder.parent.name, version, folder.as_uri()))


def settings_of(tmp_path: Path, **changes: Any) -> Settings:
    return settings_for("file:///models/x", tmp_path, challenger_uri="file:///models/y", **changes)


def value(name: str, tmp_path: Path) -> float:
    """Return the sum of a counter over the series of a test."""
    return sum(
        sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name and sample.labels.get("model_name") == tmp_path.name
    )


ROWS: Matrix = np.random.default_rng(9).random((300, 2), dtype=np.float32)
BINARY = {"task": "binary", "classes": ["no", "yes"]}
THREE = {"task": "multiclass", "classes": ["x", "y", "z"]}


@pytest.mark.parametrize(
    ("objective", "contract"),
    [("binary:logistic", BINARY), ("multi:softprob", THREE), ("multi:softmax", THREE), ("reg:squarederror", {})],
)
def test_disagreements_and_differences_equal_those_of_numpy(
    tmp_path: Path, objective: str, contract: dict[str, Any]
) -> None:
    profile = {
        "created_at": "2026-01-01T00:00:00Z",
        "predictions": [{"name": "y", "edges": [0.5, 1.0, 1.5], "shares": [0.25] * 4, "samples": 8}],
    }
    extra = {"profile": profile} if objective.startswith("reg:") else {}
    champion = model(tmp_path / "a", objective, "1", contract | extra)
    challenger = model(tmp_path / "b", objective, "2", contract, seed=1)
    comparison = Comparison(settings_of(tmp_path), champion, challenger)

    comparison.add(ROWS, champion.answer(ROWS))
    comparison.work()

    old, new = champion.answer(ROWS), challenger.answer(ROWS)
    if objective.startswith("reg:"):
        difference = np.abs(old - new)[:, 0]  # in units of 1.5 - 0.5, the distance between the outer edges
        differ = difference > 0.1
    elif objective == "multi:softmax":
        differ = (old != new)[:, 0]
        difference = differ.astype(float)
    else:
        wide = [each if each.shape[1] > 1 else np.hstack([1 - each, each]) for each in (old, new)]
        difference = np.abs(wide[0] - wide[1]).max(axis=1)
        differ = wide[0].argmax(axis=1) != wide[1].argmax(axis=1)
    assert value("model_challenger_rows_total", tmp_path) == len(ROWS)
    assert 0 < value("model_challenger_disagreements_total", tmp_path) == differ.sum() < len(ROWS)
    assert value("model_challenger_difference_sum", tmp_path) == pytest.approx(difference.sum(), rel=1e-4)


def test_full_queue_drops_whole_requests_and_counts_their_rows(tmp_path: Path) -> None:
    champion = model(tmp_path / "a", "reg:squarederror", "1")
    comparison = Comparison(settings_of(tmp_path, challenger_queue_rows=256), champion, champion)
    answers = champion.answer(ROWS)

    assert not comparison.add(ROWS[:200], answers[:200]), "the block is not complete"
    assert not comparison.add(ROWS[:57], answers[:57])
    assert comparison.add(ROWS[:56], answers[:56]), "the block is complete"
    comparison.work()
    comparison.add(ROWS[:1], answers[:1])
    comparison.work()

    assert value("model_challenger_dropped_rows_total", tmp_path) == 57
    assert value("model_challenger_rows_total", tmp_path) == 257


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 0), (1.0, 400)])
def test_share_of_the_calls_is_sampled(tmp_path: Path, ratio: float, expected: int) -> None:
    champion = model(tmp_path / "a", "reg:squarederror", "1")
    settings = settings_of(tmp_path, challenger_sample_ratio=ratio)
    shadow = Shadow(settings, threading.Event())
    shadow.comparison = Comparison(settings, champion, champion)
    other = model(tmp_path / "b", "reg:squarederror", "2")

    for _ in range(400):
        shadow.offer(champion, ROWS[:1], champion.answer(ROWS[:1]), 0)
        shadow.offer(other, ROWS[:1], champion.answer(ROWS[:1]), 0)  # a request that began with another model

    shadow.comparison.work()
    assert value("model_challenger_rows_total", tmp_path) == expected


def test_rows_are_translated_to_other_orders_and_codes(tmp_path: Path) -> None:
    def columns(*categories: str) -> dict[str, Any]:
        return {"columns": [{"name": "colour", "type": "string", "categories": list(categories)}]}

    old = model(tmp_path / "a", "reg:squarederror", "1", columns(*CATEGORIES), names=("size", "colour"))
    names = ("colour", "size")
    new = model(tmp_path / "b", "reg:squarederror", "2", columns("blue", "gold", "green", "red"), names=names)
    data = [[1.5, "red"], [2.5, "blue"], [3.5, None], [None, "green"]]
    rows = old.signature.from_split(["size", "colour"], data)
    before = rows.copy()

    translated = Translation(old, new)(rows)

    expected = new.signature.from_split(["size", "colour"], data)
    assert np.array_equal(translated, expected, equal_nan=True)
    assert np.array_equal(rows, before, equal_nan=True)
    with pytest.raises(LoadError, match="it has the column colour, which the served model does not have"):
        Translation(model(tmp_path / "c", "reg:squarederror", "1", names=("size",)), new)


def test_categories_alone_are_translated(tmp_path: Path) -> None:
    def columns(*categories: str) -> dict[str, Any]:
        return {"columns": [{"name": "colour", "type": "string", "categories": list(categories)}]}

    old = model(tmp_path / "a", "reg:squarederror", "1", columns(*CATEGORIES), names=("colour",))
    new = model(tmp_path / "b", "reg:squarederror", "2", columns("blue", "green", "red"), names=("colour",))
    rows = old.signature.from_split(["colour"], [["red"], ["green"], ["blue"], [None]])

    assert np.array_equal(Translation(old, new)(rows)[:, 0], [2, 1, 0, np.nan], equal_nan=True)
    assert np.array_equal(rows[:, 0], [0, 1, 2, np.nan], equal_nan=True)
