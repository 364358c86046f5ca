"""All kinds of XGBoost models: their training, their MLflow folder, requests, and XGBoost's own predictions."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

from app.model.contract import CONTRACT_FILE

ROWS = 80
ODD_NAMES = [" ", "größe in µm", "😀", 'quo"te', "a.b/c\\d~e", "$ref", "__proto__", "new\nline", "%2F", "\u2028", "-1"]


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Args:
        frame: Training data, whose rows are also used in requests.
        train: Returns the model to log.
        own: Returns XGBoost's own predictions, shape (rows,) or (rows, outputs).
        contract: Content of contract.json; None for a model without this file.
        signature: Whether the model is logged with a signature.
    """

    frame: pd.DataFrame
    train: Callable[[pd.DataFrame], Any]
    own: Callable[[Any, pd.DataFrame], Any]
    contract: dict[str, Any] = field(default_factory=dict)
    signature: bool = True

    def save(self, folder: Path) -> Any:
        """Save the model with MLflow and return it."""
        with warnings.catch_warnings(action="ignore"):  # from MLflow's imports and the deprecated DART
            model = self.train(self.frame)
            import mlflow.xgboost
            from mlflow.models import infer_signature

            extra: dict[str, Any] = {"pip_requirements": ["xgboost-cpu"]}
            if self.signature:
                extra |= {"signature": infer_signature(self.frame), "input_example": self.frame.head(2)}
            mlflow.xgboost.save_model(model, str(folder), model_format="ubj", **extra)
        if self.contract:
            (folder / CONTRACT_FILE).write_text(json.dumps({"target": "y"} | self.contract))
        return model

    def body(self) -> dict[str, Any]:
        """Return a request with all rows, in split form."""
        data = self.frame.astype(object).where(self.frame.notna(), None).to_numpy().tolist()
        return {"columns": list(self.frame.columns), "data": data}

    def matrix(self) -> xgb.DMatrix:
        """Return the rows as input of XGBoost's own functions."""
        if self.own is _own_of_codes:
            return xgb.DMatrix(_coded(self.frame), feature_names=list(self.frame.columns), feature_types=["q", "c"])
        return xgb.DMatrix(self.frame, enable_categorical=True)


def _frame(names: list[str], missing: float = 0) -> pd.DataFrame:
    drawn = np.random.default_rng(len(names)).random((ROWS, len(names)), dtype=np.float32)
    drawn[np.random.default_rng(1).random(drawn.shape) < missing] = np.nan
    return pd.DataFrame(drawn, columns=names)


def _categorical() -> pd.DataFrame:
    drawn = np.random.default_rng(5)
    frame = _frame(["size"])
    frame["colour"] = pd.Categorical(drawn.choice(["red", "grün", "sky blue"], ROWS))
    frame["floor"] = pd.Categorical(drawn.choice([1, 2, 7], ROWS))
    frame["rare"] = pd.Categorical(drawn.choice(["a", "b", None], ROWS))
    frame["count"] = drawn.integers(0, 9, ROWS)
    return frame


def _optional() -> pd.DataFrame:
    drawn = np.random.default_rng(6)
    frame = _frame(["age"]).assign(member=drawn.random(ROWS) > 0.5)
    frame["visits"] = pd.Series(drawn.integers(0, 9, ROWS)).astype("Int64").where(drawn.random(ROWS) < 0.7)
    frame["active"] = pd.Series(drawn.random(ROWS) > 0.3).astype("boolean").where(drawn.random(ROWS) < 0.7)
    return frame


def _score(frame: pd.DataFrame) -> Any:
    """Return a target that the columns predict: a number from 0 to 1 per row."""
    first = frame.iloc[:, 0].fillna(0.3).to_numpy(dtype=np.float64)
    last = pd.factorize(frame.iloc[:, -1])[0]
    return (first + (last % 3) / 3) / 2


def _booster(label: Callable[[Any], Any], **parameters: Any) -> Callable[[pd.DataFrame], xgb.Booster]:
    def train(frame: pd.DataFrame) -> xgb.Booster:
        matrix = xgb.DMatrix(frame, label=label(_score(frame)), enable_categorical=True)
        return xgb.train({"max_depth": 3, "nthread": 1, "seed": 1, **parameters}, matrix, 6)

    return train


def _wrapped(kind: type, label: Callable[[Any], Any], **parameters: Any) -> Callable[[pd.DataFrame], Any]:
    def train(frame: pd.DataFrame) -> Any:
        model = kind(n_estimators=30, max_depth=3, n_jobs=1, early_stopping_rounds=2, **parameters)
        y = label(_score(frame))
        noise = np.random.default_rng(3).permutation(y)  # random labels, so that training stops early
        extra = {"qid": np.arange(ROWS) // 8, "eval_qid": [np.arange(ROWS) // 8]} if kind is xgb.XGBRanker else {}
        model.fit(frame, y, eval_set=[(frame, noise)], verbose=False, **extra)
        assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
        return model

    return train


def _survival(frame: pd.DataFrame) -> xgb.Booster:
    matrix = xgb.DMatrix(frame)
    matrix.set_float_info("label_lower_bound", _score(frame) + 1)
    matrix.set_float_info("label_upper_bound", _score(frame) + 2)
    return xgb.train({"objective": "survival:aft", "nthread": 1}, matrix, 3)


def _codes(frame: pd.DataFrame) -> xgb.Booster:
    types = ["q", "c"]
    matrix = xgb.DMatrix(_coded(frame), label=_score(frame), feature_names=list(frame.columns), feature_types=types)
    return xgb.train({"nthread": 1}, matrix, 3)


def _coded(frame: pd.DataFrame) -> Any:
    return frame.assign(colour=frame["colour"].map({"red": 0, "blue": 1})).to_numpy(dtype=np.float32)


def _own_of_codes(model: xgb.Booster, frame: pd.DataFrame) -> Any:
    return model.inplace_predict(_coded(frame), validate_features=False)


def _own(model: xgb.Booster, frame: pd.DataFrame) -> Any:
    return model.predict(xgb.DMatrix(frame, enable_categorical=True))


def _proba(model: Any, frame: pd.DataFrame) -> Any:
    return model.predict_proba(frame)


def _plain(model: Any, frame: pd.DataFrame) -> Any:
    return model.predict(frame)


def _half(score: Any) -> Any:
    return score > np.median(score)


def _third(score: Any) -> Any:
    return np.argsort(np.argsort(score)) * 3 // len(score)


def _same(score: Any) -> Any:
    return score


_ABC = _frame(["a", "b", "c"])
_BINARY = {"task": "binary", "classes": ["no", "yes"]}
_MULTICLASS = {"task": "multiclass", "classes": ["bad", "güt \u2028", '"best", of all']}
_COLOURED = _frame(["a", "b"]).assign(colour=["red", "blue"] * (ROWS // 2))

KINDS = {
    "binary": Kind(_ABC, _booster(_half, objective="binary:logistic"), _own, _BINARY),
    "multiclass": Kind(_ABC, _booster(_third, objective="multi:softprob", num_class=3), _own, _MULTICLASS),
    "softmax": Kind(_ABC, _booster(_third, objective="multi:softmax", num_class=3), _own, _MULTICLASS),
    "hinge": Kind(_ABC, _booster(_half, objective="binary:hinge"), _own),
    "logit": Kind(_ABC, _booster(_half, objective="binary:logitraw"), _own),
    "regression": Kind(_ABC, _booster(_same), _own, {"task": "regression"}),
    "ranking": Kind(_ABC, _wrapped(xgb.XGBRanker, _third), _plain, {"task": "ranking"}),
    "poisson": Kind(_ABC, _booster(_third, objective="count:poisson"), _own),
    "gamma": Kind(_ABC, _booster(lambda score: score + 1, objective="reg:gamma"), _own),
    "survival": Kind(_ABC, _survival, _own),
    "quantiles": Kind(_ABC, _booster(_same, objective="reg:quantileerror", quantile_alpha=[0.1, 0.5, 0.9]), _own),
    "targets": Kind(_ABC, _booster(lambda score: np.c_[score, 1 - score]), _own),
    "targets in one tree": Kind(
        _ABC,
        _booster(lambda score: np.c_[score, 1 - score], multi_strategy="multi_output_tree", tree_method="hist"),
        _own,
    ),
    "multilabel": Kind(_ABC, _booster(lambda s: np.c_[_half(s), ~_half(s)], objective="binary:logistic"), _own),
    "dart": Kind(_ABC, _booster(_same, booster="dart", rate_drop=0.5), _own),
    "linear": Kind(_frame(["a", "b", "c"], missing=0.1), _booster(_same, booster="gblinear"), _own),
    "classifier": Kind(_ABC, _wrapped(xgb.XGBClassifier, _half), _proba),
    "classifier of three": Kind(_ABC, _wrapped(xgb.XGBClassifier, _third), _proba, _MULTICLASS),
    "regressor": Kind(_ABC, _wrapped(xgb.XGBRegressor, _same), _plain),
    "categorical": Kind(_categorical(), _booster(_half, objective="binary:logistic"), _own, _BINARY),
    "missing": Kind(_frame(["a", "b", "c"], missing=0.4), _booster(_same), _own),
    "optional": Kind(_optional(), _booster(_same), _own, {"task": "regression"}),
    "odd names": Kind(_frame(ODD_NAMES), _booster(_same), _own),
    "one feature": Kind(_frame(["only"]), _booster(_same), _own),
    "1000 features": Kind(_frame([f"f{i}" for i in range(1000)]), _booster(_same), _own),
    "no signature": Kind(_categorical(), _booster(_same), _own, signature=False),
    "codes": Kind(
        _COLOURED[["a", "colour"]],
        _codes,
        _own_of_codes,
        {
            "task": "regression",
            "columns": [{"name": "a"}, {"name": "colour", "type": "string", "categories": ["red", "blue"]}],
        },
        signature=False,
    ),
}
