"""XGBoost's own check of parameters: the names that it does not use, and the values that it refuses."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from ctypes import CFUNCTYPE, c_char_p
from difflib import get_close_matches
from typing import Any

import xgboost as xgb
from xgboost.core import _LIB  # type: ignore[attr-defined] # the only access to its log

from training.errors import InputError, TrainingError
from training.memory import is_lack_of_memory, lack_of_memory
from training.train_options import TREE_PARAMS

_UNUSED = "} are not used"
# Names of XGBoost's scikit-learn interface, with the options that replace them.
_SKLEARN = {"n_estimators": "--rounds", "num_boost_round": "--rounds"}


def check_used(params: Mapping[str, Any], matrix: xgb.DMatrix) -> None:
    """Refuse parameters that XGBoost does not use, because it ignores misspelled names.

    Args:
        params: Parameters of the training.
        matrix: A row of the training data, or none on a worker without rows. Nothing is trained.

    Raises:
        InputError: A parameter is not used, or its value is refused. The message contains the closest valid name.
    """
    given = {name: value for name, value in params.items() if name != "verbosity"}  # 0 hides the list
    try:
        with ThreadPoolExecutor(1) as thread:  # XGBoost's log belongs to a thread; this one belongs to the check
            lines, config = thread.submit(_configured, given | {"validate_parameters": True}, matrix).result()
    except (xgb.core.XGBoostError, ValueError) as error:
        raise refusal(error) from None
    lists = [line.partition("{")[2] for line in lines if _UNUSED in line]
    if unused := sorted(name for name in given if any(f'"{name}"' in each for each in lists)):
        valid = set(_names(config))
        sentences = ", ".join(f"{name}{_hint(name, valid)}" for name in unused)
        raise InputError(f"--params (TRAINING_PARAMS): XGBoost does not use {sentences} with these settings.")


def _configured(params: dict[str, Any], matrix: xgb.DMatrix) -> tuple[list[str], dict[str, Any]]:
    """Return what XGBoost logs about the parameters, and its whole configuration."""
    lines: list[str] = []
    callback = CFUNCTYPE(None, c_char_p)(lambda line: lines.append(line.decode("utf-8", "replace")))
    _LIB.XGBRegisterLogCallback(callback)
    return lines, json.loads(xgb.Booster(params, [matrix]).save_config())


def refusal(error: Exception) -> TrainingError:
    """Return the error for parameters that XGBoost refuses, without its C++ stack trace, or for lack of memory."""
    if is_lack_of_memory(error):
        return lack_of_memory(error)
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
