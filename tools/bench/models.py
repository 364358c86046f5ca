"""The served models, the rows of the requests, and the booster's own predictions for them."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.model.contract import CONTRACT_FILE, MODEL_FILE

CLASSES = ["malignant", "benign"]
SIZES = ((30, 100), (100, 500))  # features, trees
PROBES = (1, 100)  # rows of the bodies whose answers are checked
TOLERANCE = 1e-6  # of a probability: decimal digits are lost on some ways


@dataclass(frozen=True)
class Model:
    """A model in MLflow's format, and rows for it.

    Args:
        values: rows that are asked again and again, in the order of the columns.
        expected: the booster's own probability of the second class for each of them.
    """

    name: str
    folder: Path
    columns: list[str]
    values: list[list[float]]
    expected: list[float]

    @property
    def file(self) -> Path:
        return self.folder / MODEL_FILE

    def rows(self, count: int) -> list[list[float]]:
        return [self.values[i % len(self.values)] for i in range(count)]

    def check(self, answers: list[float], rows: int) -> None:
        """Compare the answers to the first rows with the booster's.

        Raises:
            ValueError: they differ, or are not one per row.
        """
        if len(answers) != rows:
            raise ValueError(f"{rows} rows are answered with {len(answers)} predictions")
        for row, answer in enumerate(answers):
            expected = self.expected[row % len(self.values)]
            if abs(answer - expected) > TOLERANCE:
                raise ValueError(f"row {row} is predicted as {answer}, but the booster predicts {expected}")


def train(folder: Path, features: int, trees: int) -> Model:
    """Train a binary model and save it as the training image does."""
    with warnings.catch_warnings(action="ignore"):
        import mlflow.xgboost
        import xgboost as xgb
        from mlflow.models import infer_signature

        from training.fitting.evaluate import importance
        from training.fitting.reference_profile import Feature, predictions_of, profile_of, score_edges_of

        frame, target = _data(features)
        matrix = xgb.DMatrix(frame, label=target, nthread=1)
        depth = 4 if features == 30 else 6
        parameters = {"objective": "binary:logistic", "max_depth": depth, "eta": 0.05, "nthread": 1, "seed": 0}
        booster = xgb.train(parameters, matrix, trees)
        expected = booster.predict(matrix)
        extra: dict[str, Any] = {"signature": infer_signature(frame, expected), "pip_requirements": ["xgboost"]}
        mlflow.xgboost.save_model(booster, str(folder), model_format="ubj", **extra)
        predictions = predictions_of("binary", CLASSES, expected, np.asarray(target))
        gain = importance(booster)
        features_of = [Feature(name) for name in frame.columns]
        rows = frame.to_numpy(np.float32)
        profile = profile_of(features_of, rows.T, gain, predictions, score_edges_of(expected))
    contract = {"schema_version": 1, "task": "binary", "target": "diagnosis", "classes": CLASSES}
    (folder / CONTRACT_FILE).write_text(json.dumps(contract | {"profile": profile.model_dump(mode="json")}))
    values = frame.to_numpy().tolist()
    return Model(f"{features} x {trees}", folder, frame.columns.tolist(), values, expected.tolist())


def probability(prediction: dict[str, Any]) -> float:
    """Return the booster's own number from an answer of the service."""
    return float(prediction["probabilities"][CLASSES[1]])


def encode(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _data(features: int) -> tuple[Any, Any]:
    from sklearn.datasets import load_breast_cancer, make_classification

    if features == 30:
        data = load_breast_cancer(as_frame=True)
        return data.data, data.target
    import pandas as pd

    rows, target = make_classification(2000, features, n_informative=features // 2, random_state=0)
    return pd.DataFrame(rows.round(4), columns=[f"feature_{i}" for i in range(features)]), target
