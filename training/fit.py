"""Fit the booster and measure it. Pure: data and settings in, booster and numbers out."""

from dataclasses import dataclass

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from training.data import Data, Matrix, Split
from training.options import TrainOptions

OBJECTIVE = {"objective": "binary:logistic", "eval_metric": "logloss", "tree_method": "hist"}


@dataclass(frozen=True)
class Fitted:
    """A booster, the rounds it was given and its metrics on the holdout."""

    booster: xgb.Booster
    rounds: int
    metrics: dict[str, float]

    @property
    def ubj(self) -> bytes:
        """The model file: what is registered, and what its sha256 is taken of."""
        return bytes(self.booster.save_raw("ubj"))


def fit(data: Data, split: Split, settings: TrainOptions) -> Fitted:
    """Fit on all rows outside the holdout and measure on the holdout.

    Early stopping only chooses the number of rounds; the booster is then fitted with that number. So the
    model file follows from data, settings and XGBoost's version alone, and holds no trees to be skipped.
    """
    params = OBJECTIVE | settings.booster_params
    rounds = _search_rounds(data, split, settings) if settings.early_stopping_rounds else settings.rounds
    rows = np.union1d(split.train, split.validation)
    booster = xgb.train(params, _matrix(data, rows, settings.nthread), num_boost_round=rounds)
    probability = booster.predict(_matrix(data, split.holdout, settings.nthread))
    return Fitted(booster, rounds, measure(data.target[split.holdout], probability))


def measure(target: Matrix, probability: Matrix) -> dict[str, float]:
    """Compare probabilities of class 1, shape (rows,), with the truth, shape (rows,) of 0 and 1."""
    # float64, because log_loss clips at the type's own epsilon.
    p = probability.astype(np.float64)
    return {
        "holdout_auc": float(roc_auc_score(target, p)),
        "holdout_logloss": float(log_loss(target, p, labels=[0, 1])),
        "holdout_brier": float(brier_score_loss(target, p)),
        "holdout_accuracy": float(accuracy_score(target, p >= 0.5)),
    }


def _search_rounds(data: Data, split: Split, settings: TrainOptions) -> int:
    """Return the number of rounds after which the loss on the validation rows was lowest."""
    booster = xgb.train(
        OBJECTIVE | settings.booster_params,
        _matrix(data, split.train, settings.nthread),
        num_boost_round=settings.rounds,
        evals=[(_matrix(data, split.validation, settings.nthread), "validation")],
        early_stopping_rounds=settings.early_stopping_rounds,
        verbose_eval=False,
    )
    return int(booster.best_iteration) + 1


def _matrix(data: Data, rows: NDArray[np.int64], nthread: int) -> xgb.DMatrix:
    return xgb.DMatrix(
        data.features[rows],
        label=data.target[rows],
        feature_names=list(data.frame.columns),
        nthread=nthread,
    )
