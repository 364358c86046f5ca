"""BentoML's service of an XGBoost model."""

import os

import bentoml
import numpy as np
import xgboost as xgb


@bentoml.service
class Model:
    """One model, one route."""

    def __init__(self) -> None:
        self.booster = xgb.Booster({"nthread": 1}, model_file=os.environ["BENCH_MODEL"])

    @bentoml.api
    def predict(self, data: np.ndarray) -> np.ndarray:
        return np.asarray(self.booster.predict(xgb.DMatrix(data, nthread=1), validate_features=False))
