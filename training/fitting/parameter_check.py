"""XGBoost's own check of parameters: the names that it does not use, and the values that it refuses."""

import json
import warnings
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import xgboost as xgb

from training.errors import InputError
from training.train_options import TREE_PARAMS

_UNUSED = "} are not used"
# Names of XGBoost's scikit-learn interface, with the options that replace them.
_SKLEARN = {"n_estimators": "--rounds", "num_boost_round": "--rounds"}


def check_used(params: Mapping[str, Any], matrix: xgb.DMatrix) -> None:
    """Refuse parameters that XGBoost does not use, because it ignores misspelled names.

    Args:
        params: Parameters of the training.
        matrix: Any row of the training data. Nothing is trained.

    Raises:
        InputError: A parameter is not used, or its value is refused. The message contains the closest valid name.
    """
    given = {name: value for name, value in params.items() if name != "verbosity"}  # 0 hides the list
    with warnings.catch_warnings(record=True) as found, xgb.config_context(verbosity=1):
        warnings.simplefilter("always")
        try:
            config = xgb.Booster(given | {"validate_parameters": True}, [matrix]).save_config()
        except (xgb.core.XGBoostError, ValueError) as error:
            raise refusal(error) from None
    lists = [text.partition("{")[2] for each in found if _UNUSED in (text := str(each.message))]
    if unused := sorted(name for name in given if any(f'"{name}"' in each for each in lists)):
        valid = set(_names(json.loads(config)))
        sentences = ", ".join(f"{name}{_hint(name, valid)}" for name in unused)
        raise InputError(f"--params (TRAINING_PARAMS): XGBoost does not use {sentences} with these settings.")


def refusal(error: Exception) -> InputError:
    """Return the error for parameters that XGBoost refuses, without its C++ stack trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return InputError(f"XGBoost refuses these parameters for this data: {lines[0][:300]}")


def _names(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the values in XGBoost's configuration."""
    for name, value in config.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from _names(inner)
            else:
                yield name


def _hint(name: str, valid: set[str]) -> str:
    close = _SKLEARN.get(name) or next(iter(get_close_matches(name, sorted(valid), n=1)), "")
    if close in TREE_PARAMS:
        close = f"--{close.replace('_', '-')}"
    return f" (did you mean {close}?)" if close else ""
