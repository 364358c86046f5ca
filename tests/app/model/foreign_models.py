"""Models of another environment: `python foreign_models.py FOLDER` saves one of each kind with its packages.

The program runs on Python 3.9 and newer with MLflow, pandas, scikit-learn and XGBoost of any version, without this
project. It writes each model to its own folder, and to answers.json what the environment itself predicts.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.xgboost
import numpy as np
import pandas as pd
import xgboost as xgb
from mlflow.models import infer_signature

ROWS = 60
FORMATS = {"default": {}, "ubj": {"model_format": "ubj"}, "json": {"model_format": "json"}}
GIVEN = ("signature", "example", "none")
XGBOOST = tuple(int(part) for part in xgb.__version__.split(".")[:2])

Frame = Any
Trained = Any


def frame_of(names: Any = ("a", "b", "c")) -> Frame:
    """Return the rows that models are trained on and predict, without a missing value."""
    drawn = np.random.default_rng(7).random((ROWS, 3), dtype=np.float32)
    return pd.DataFrame(drawn, columns=list(names))


def coloured() -> Frame:
    """Return rows with a column of strings, which are categories."""
    return frame_of().assign(colour=pd.Categorical(["red", "green", "blue"] * (ROWS // 3)))


def _label(frame: Frame) -> Any:
    first = np.asarray(frame.iloc[:, 0] if hasattr(frame, "iloc") else frame[:, 0], dtype=np.float64)
    return first + (np.arange(ROWS) % 3) / 3


def _booster(label: Callable[[Any], Any] = lambda score: score, **parameters: Any) -> Callable[[Frame], Trained]:
    def train(frame: Frame) -> Trained:
        types = {"enable_categorical": True} if hasattr(frame, "iloc") else {}
        matrix = xgb.DMatrix(frame, label=label(_label(frame)), **types)
        return xgb.train({"max_depth": 3, "nthread": 1, "seed": 1, **parameters}, matrix, 5)

    return train


def _wrapped(kind: type, label: Callable[[Any], Any], **parameters: Any) -> Callable[[Frame], Trained]:
    def train(frame: Frame) -> Trained:
        return kind(n_estimators=5, max_depth=3, n_jobs=1, **parameters).fit(frame, label(_label(frame)))

    return train


def _half(score: Any) -> Any:
    return (score > np.median(score)).astype(int)


def _third(score: Any) -> Any:
    return np.argsort(np.argsort(score)) * 3 // len(score)


KINDS: dict[str, tuple[Callable[[], Frame], Callable[[Frame], Trained]]] = {
    "Booster": (frame_of, _booster()),
    "binary Booster": (frame_of, _booster(_half, objective="binary:logistic")),
    "DART": (frame_of, _booster(booster="dart", rate_drop=0.5)),
    "linear": (frame_of, _booster(booster="gblinear")),
    "XGBRegressor": (frame_of, _wrapped(xgb.XGBRegressor, lambda score: score)),
    "XGBClassifier": (frame_of, _wrapped(xgb.XGBClassifier, _half)),
    "XGBClassifier of three": (frame_of, _wrapped(xgb.XGBClassifier, _third)),
    "categorical": (
        coloured,
        _wrapped(xgb.XGBClassifier, _half, enable_categorical=True, tree_method="hist"),
    ),
    "array": (lambda: frame_of().to_numpy(), _booster()),
    "integer names": (lambda: frame_of((0, 1, 2)), _booster()),
    "one tree, several targets": (
        frame_of,
        _booster(lambda score: np.c_[score, 1 - score], multi_strategy="multi_output_tree", tree_method="hist"),
    ),
}


def predict(model: Trained, frame: Frame) -> list[list[float]]:
    """Return the predictions of this environment, shape (rows, outputs)."""
    if isinstance(model, xgb.Booster):
        types = {"enable_categorical": True} if hasattr(frame, "iloc") else {}
        found = model.predict(xgb.DMatrix(frame, **types))
    else:
        found = model.predict_proba(frame) if hasattr(model, "predict_proba") else model.predict(frame)
    return np.asarray(found, dtype=np.float32).reshape(ROWS, -1).astype(float).tolist()


def save(folder: Path, model: Trained, frame: Frame, form: str, given: str) -> list[list[float]]:
    """Save a model as MLflow does and return what its reloaded form predicts."""
    extra: dict[str, Any] = {"pip_requirements": ["xgboost"]} | FORMATS[form]
    if given != "none":
        extra["signature"] = infer_signature(frame)
    if given == "example":
        extra["input_example"] = frame[:2]
    mlflow.xgboost.save_model(model, str(folder), **extra)
    return predict(mlflow.xgboost.load_model(str(folder)), frame)


def autolog(folder: Path) -> list[list[float]]:
    """Train as notebooks do, with everything logged by MLflow, and move the model to the folder."""
    store = folder.with_name("runs")
    mlflow.set_tracking_uri(store.as_uri())
    mlflow.xgboost.autolog()
    frame = frame_of()
    model = _booster(_half, objective="binary:logistic")(frame)
    mlflow.xgboost.autolog(disable=True)
    (found,) = store.rglob("MLmodel")
    found.parent.rename(folder)
    return predict(model, frame)


def rows_of(frame: Frame) -> dict[str, Any]:
    """Return the rows as a request."""
    if not hasattr(frame, "iloc"):
        return {"columns": [str(place) for place in range(frame.shape[1])], "data": frame.astype(float).tolist()}
    return {"columns": [str(name) for name in frame.columns], "data": frame.astype(object).to_numpy().tolist()}


def main(target: str) -> None:
    """Write all models, the rows and the answers."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    folder = Path(target)
    answers: dict[str, Any] = {}
    for kind, (rows, train) in KINDS.items():
        if "targets" in kind and XGBOOST < (2, 0):
            continue
        frame = rows()
        model = train(frame)
        for form in FORMATS:
            for given in GIVEN:
                name = f"{kind}, {form}, {given}"
                try:
                    predictions = save(folder / name, model, frame, form, given)
                except Exception as error:  # the environment cannot write or read its own model
                    answers[name] = {"error": str(error).partition("\n")[0]}
                else:
                    answers[name] = {"rows": rows_of(frame), "predictions": predictions}
    answers["autolog"] = {"rows": rows_of(frame_of()), "predictions": autolog(folder / "autolog")}
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(sys.argv[1])
