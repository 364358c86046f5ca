"""Models of every kind that the service serves, as MLflow saves them; a further kind is one more entry."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

from app.contract import CONTRACT_FILE

_FEATURE_TYPES = {"double": "float", "float": "float", "long": "int", "integer": "int", "boolean": "i"}


@dataclass(frozen=True)
class Kind:
    """A model to train on made data, and what goes beside it.

    Args:
        columns: name to MLflow's type; a type that ends in "?" may be left out.
        parameters: of XGBoost.
        contract: what contract.json says; empty: there is none.
    """

    columns: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    contract: Mapping[str, Any] = field(default_factory=dict)


KINDS = {
    "binary": Kind(
        {"mean radius": "double", "texture": "double", "count": "long"},
        {"objective": "binary:logistic"},
        {"task": "binary", "target": "diagnosis", "classes": ["malignant", "benign"]},
    ),
    "multiclass": Kind(
        {"a": "double", "b": "float", "c": "integer"},
        {"objective": "multi:softprob", "num_class": 3},
        {"task": "multiclass", "target": "species", "classes": ["Iris setosa", "ÄÖ\u2028", '"quoted", yes']},
    ),
    "odd names": Kind(
        {
            "$ref": "double",
            "a b/c~d": "double",
            'say "hi"': "double",
            "数量 %2F": "long",
            "\u2028": "float",
            " ": "float",
        },
        {"objective": "reg:squarederror"},
        {"task": "regression", "target": "price"},
    ),
    "optional": Kind(
        {"age": "double", "member": "boolean", "visits": "integer?", "score": "double?", "active": "boolean?"},
        {"objective": "reg:squarederror"},
    ),
}


def save(kind: Kind, folder: Path) -> Path:
    """Train the model, and let MLflow save it into `folder`, which must not exist."""
    with warnings.catch_warnings(action="ignore"):
        import mlflow.xgboost
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema
        from mlflow.types.schema import TensorSpec

        specs: list[ColSpec | TensorSpec] = [
            ColSpec(t.rstrip("?"), name, required=not t.endswith("?")) for name, t in kind.columns.items()
        ]
        example = {"columns": list(kind.columns), "data": [_row(kind, np.random.default_rng(1))]}
        mlflow.xgboost.save_model(
            train(kind),
            str(folder),
            model_format="ubj",
            signature=ModelSignature(Schema(specs)),
            pip_requirements=["xgboost-cpu"],
        )
    (folder / "input_example.json").write_text(json.dumps(example))
    if kind.contract:
        (folder / CONTRACT_FILE).write_text(json.dumps({"schema_version": 1, **kind.contract}))
    return folder


def train(kind: Kind) -> xgb.Booster:
    """Return a small booster whose answer depends on every column."""
    draw = np.random.default_rng(0)
    rows = np.array([_row(kind, draw) for _ in range(200)], dtype=np.float32)
    spread = rows.sum(axis=1)
    classes = int(kind.parameters.get("num_class", 2))
    ranks = np.digitize(spread, np.quantile(spread, np.arange(1, classes) / classes))
    label = spread if kind.parameters["objective"].startswith("reg:") else ranks
    types = [_FEATURE_TYPES[t.rstrip("?")] for t in kind.columns.values()]
    matrix = xgb.DMatrix(rows, label=label, feature_names=None, feature_types=types)
    return xgb.train({"max_depth": 4, "nthread": 1} | dict(kind.parameters), matrix, 10)


def _row(kind: Kind, draw: np.random.Generator) -> list[Any]:
    """Values as a caller writes them."""
    made = {"long": lambda: int(draw.integers(10)), "integer": lambda: int(draw.integers(10))}
    made["boolean"] = lambda: bool(draw.integers(2))
    return [made.get(t.rstrip("?"), lambda: round(float(draw.random()), 3))() for t in kind.columns.values()]
