"""Parameters that XGBoost would ignore or refuse."""

from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from app.model.booster import Booster
from training.errors import InputError
from training.fitting.parameter_check import check_used


@pytest.fixture(scope="module")
def row() -> xgb.DMatrix:
    return xgb.DMatrix(np.ones((1, 2)), label=[1], feature_names=["a", "b"])


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"gama": 1}, r"XGBoost does not use gama \(did you mean gamma\?\) with"),
        ({"max_dept": 3}, r"does not use max_dept \(did you mean --max-depth\?\) with"),
        (
            {"gama": 1, "subsampel": 0.5},
            r"gama \(did you mean gamma\?\), subsampel \(did you mean --subsample\?\) with",
        ),
        ({"n_estimators": 3}, r"does not use n_estimators \(did you mean --rounds\?\) with"),
        ({"huber_slope": 1}, "does not use huber_slope with"),
        ({"gama": 1, "verbosity": 0}, "does not use gama"),
        ({"gama": 1, "validate_parameters": False}, "does not use gama"),
        ({"gamma": "high"}, "XGBoost refuses these parameters for this data: .*min_split_loss"),
        ({"objective": "no:such"}, "XGBoost refuses these parameters for this data: .*no:such"),
    ],
    ids=lambda value: str(value),
)
def test_parameter_without_effect_is_refused_with_the_closest_name(
    row: xgb.DMatrix, params: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        check_used({"objective": "binary:logistic", "max_depth": 4} | params, row)


@pytest.mark.parametrize(
    "params",
    [
        {"gamma": 0.5, "alpha": 1, "eta": 0.1, "lambda": 2, "min_split_loss": 1},
        {"objective": "reg:pseudohubererror", "huber_slope": 1},
        {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]},
        {"eval_metric": ["auc", "logloss"], "scale_pos_weight": 3, "seed_per_iteration": True, "verbosity": 0},
        {"monotone_constraints": {"a": 1}, "interaction_constraints": [["a"], ["b"]]},
        {"tree_method": "approx", "grow_policy": "lossguide", "max_leaves": 4, "max_bin": 16},
        {"rate_drop": 0.1, "num_parallel_tree": 2, "multi_strategy": "one_output_per_tree"},
    ],
    ids=lambda value: ",".join(value),
)
def test_parameters_of_xgboost_are_accepted(row: xgb.DMatrix, params: dict[str, Any]) -> None:
    check_used(params, row)


def test_worker_without_rows_checks_parameters_too(row: xgb.DMatrix) -> None:
    nothing = xgb.DMatrix(np.ones((0, 2)), label=[], feature_names=row.feature_names)

    check_used({"gamma": 1}, nothing)
    with pytest.raises(InputError, match="does not use gama"):
        check_used({"gama": 1}, nothing)


def test_check_reads_the_log_of_xgboost_after_another_reader(row: xgb.DMatrix) -> None:
    Booster(bytes(xgb.train({}, xgb.DMatrix(np.ones((2, 1)), label=[0, 1]), 1).save_raw("ubj")))  # registers its own

    with pytest.raises(InputError, match="does not use gama"):
        check_used({"gama": 1}, row)
