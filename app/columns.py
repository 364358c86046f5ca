"""Say which columns a model takes: from MLflow's signature, else from its contract, else from the booster itself."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from app.booster import CATEGORICAL, Category, Feature
from app.contract import CONTRACT_FILE, Contract
from app.errors import LoadError

REALS = frozenset({"double", "float"})
INTEGER_BITS = {"long": 64, "integer": 32}
FLOAT32_MAX = float(np.finfo(np.float32).max)
UNKNOWN_CATEGORY = "must be one of the model's categories"
LISTED_CATEGORIES = 10  # in a message; the API's description has all

_TYPES = REALS | INTEGER_BITS.keys() | {"boolean", "string"}
# XGBoost's types of features, as MLflow names the values. Without a type it is a number.
_FEATURE_TYPES = {"": "double", "float": "double", "q": "double", "int": "long", "i": "boolean"}
_REMEDY = "log the model with a signature of named columns (mlflow.models.infer_signature)"


@dataclass(frozen=True)
class Column:
    """One input by MLflow's words; `required: false` means that it may be left out.

    A column with categories takes these and nothing else; their place is the number that the booster knows.
    """

    name: str
    type: str
    required: bool = True
    categories: tuple[Category, ...] = ()

    @property
    def nullable(self) -> bool:
        """Whether null is an answer: for a real number or a category it is XGBoost's missing value."""
        return not self.required or self.type in REALS or bool(self.categories)

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value, in words that do not repeat it; "" when nothing is."""
        if value is None:
            return "" if self.nullable else f"must not be null: a {self.type} has no missing value"
        if self.categories:
            known = not isinstance(value, list | dict) and (type(value), value) in self.codes
            return "" if known else f"{UNKNOWN_CATEGORY}: {self._listed()}"
        if self.type == "boolean":
            return "" if isinstance(value, bool) else f"must be true or false, not {kind(value)}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number, not {kind(value)}"
        if self.type in INTEGER_BITS:
            bits = INTEGER_BITS[self.type]
            if value != value or value in (math.inf, -math.inf) or value != int(value):
                return "must be a whole number"
            return "" if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1) else f"must fit in {bits} bits"
        # Above this, float32 is infinite; the comparison also takes integers that no float can hold.
        return "" if -FLOAT32_MAX <= value <= FLOAT32_MAX else "must be finite as a 32-bit number"

    @cached_property
    def codes(self) -> dict[tuple[Any, Any], float]:
        """The booster's number of each value of a categorical column. By type too: in Python, true equals 1."""
        found: dict[tuple[Any, Any], float] = {(type(None), None): math.nan}
        for number, category in enumerate(self.categories):
            found[type(category), category] = number
            if isinstance(category, int):
                found[float, float(category)] = number
        return found

    def document(self) -> dict[str, Any]:
        """The column as JSON."""
        known = {"name": self.name, "type": self.type, "required": self.required}
        return known | ({"categories": list(self.categories)} if self.categories else {})

    def _listed(self) -> str:
        more = len(self.categories) - LISTED_CATEGORIES
        listed = ", ".join(json.dumps(each, ensure_ascii=False) for each in self.categories[:LISTED_CATEGORIES])
        return listed + (f" and {more} more" if more > 0 else "")


def columns_of(
    mlmodel: Mapping[str, Any], contract: Contract | None, features: tuple[Feature, ...]
) -> tuple[Column, ...]:
    """Return the columns in the order of the booster's features.

    Args:
        mlmodel: content of the file MLmodel; its signature comes first.
        contract: names the columns of a model without a signature, and categories that the booster does not know.
        features: what the booster says about its inputs.

    Raises:
        LoadError: nothing names the columns, they do not fit the booster, or they cannot be checked.
    """
    columns = tuple(_named(mlmodel, contract, features))
    for column in columns:
        if column.type not in _TYPES:
            raise LoadError(f"input {column.name} is of type {column.type}, which cannot be served", _REMEDY)
    names = tuple(column.name for column in columns)
    if len(set(names)) != len(names):
        raise LoadError("two inputs have the same name", _REMEDY)
    known = tuple(feature.name for feature in features)
    if len(names) != len(known) or (any(known) and names != known):
        raise LoadError(
            f"the booster's {len(known)} features are not the signature's {len(names)} columns in their order",
            "log the model with the signature of its training data",
        )
    stated = {column.name: column.categories for column in contract.columns} if contract else {}
    return tuple(
        _with_categories(column, feature, stated.get(column.name, ()))
        for column, feature in zip(columns, features, strict=True)
    )


def kind(value: Any) -> str:
    """Name a JSON value's type."""
    names = {str: "a string", bool: "a boolean", dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value), "a number")


def _named(mlmodel: Mapping[str, Any], contract: Contract | None, features: tuple[Feature, ...]) -> Iterator[Column]:
    signature = mlmodel.get("signature")
    if isinstance(signature, dict) and signature.get("inputs"):
        for entry in json.loads(signature["inputs"]):
            if not entry.get("name"):
                raise LoadError(f"input (unnamed) is of type {entry.get('type')}, which cannot be served", _REMEDY)
            yield Column(entry["name"], str(entry.get("type")), entry.get("required", True))
    elif contract and contract.columns:
        for stated in contract.columns:
            yield Column(stated.name, stated.type, stated.required)
    elif all(feature.name for feature in features):
        for feature in features:
            strings = any(isinstance(each, str) for each in feature.categories)
            yield Column(feature.name, _FEATURE_TYPES.get(feature.type, "string" if strings else "long"))
    else:
        raise LoadError(f"MLmodel has no signature, and neither {CONTRACT_FILE} nor the booster names columns", _REMEDY)


def _with_categories(column: Column, feature: Feature, stated: tuple[Category, ...]) -> Column:
    """Add the categories, which must be known: XGBoost answers an unknown one like any other number."""
    if feature.type != CATEGORICAL:
        if column.type == "string":
            raise LoadError(f"input {column.name} is of type string, and its feature is not categorical", _REMEDY)
        return column
    if stated and feature.categories and stated != feature.categories:
        raise LoadError(
            f"{CONTRACT_FILE} names other categories of {column.name} than the booster", "correct what training writes"
        )
    if not (categories := feature.categories or stated):
        raise LoadError(
            f"feature {column.name} is categorical, and the booster does not name its categories",
            f"train from a data frame with XGBoost 3.1 or newer, or name them in {CONTRACT_FILE}",
        )
    return replace(column, categories=categories)
