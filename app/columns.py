"""Say which columns a model takes: from MLflow's signature, else from its contract, else from the booster itself."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from app.booster import CATEGORICAL, Category, Feature
from app.contract import CONTRACT_FILE, Contract
from app.errors import LoadError
from app.values import binary_problem, datetime_problem, moment

REALS = frozenset({"double", "float"})
INTEGER_BITS = {"long": 64, "integer": 32}
FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT64_MAX = float(np.finfo(np.float64).max)
# MLflow's types of which a cell is one JSON value; and those whose cells are checked by MLflow itself.
SCALARS = REALS | INTEGER_BITS.keys() | {"boolean", "string", "datetime", "binary"}
NESTED = {"array": "a list", "map": "an object", "object": "an object", "any": ""}
UNKNOWN_CATEGORY = "must be one of the model's categories"
LISTED_CATEGORIES = 10  # in a message; the API's description has all

_TYPES = REALS | INTEGER_BITS.keys() | {"boolean", "string"}
# Of tensors, as MLflow names the values; narrow integers are integers with bounds of their own (Column.dtype).
_TENSOR_TYPES = {
    **{"float64": "double", "float32": "float", "int64": "long", "int32": "integer", "bool": "boolean"},
    **dict.fromkeys(("int8", "int16", "uint8", "uint16"), "integer"),
    **{"uint32": "long", "float16": "float", "str": "string", "object": "string"},
}
# XGBoost's types of features, as MLflow names the values. Without a type it is a number.
_FEATURE_TYPES = {"": "double", "float": "double", "q": "double", "int": "long", "i": "boolean"}
UNNAMED = "inputs"  # a tensor that has no name, and is no matrix
_TENSORS = "log the model with tensors of numbers, booleans or strings, whose first dimension is -1"
_REMEDY = "log the model with a signature of named columns (mlflow.models.infer_signature)"


@dataclass(frozen=True)
class Column:
    """One input by MLflow's words; `required: false` means that it may be left out.

    A column with categories takes these and nothing else; their place is the number that the booster knows.

    Args:
        largest: of a real number; XGBoost computes in 32 bits, whatever the signature says.
        shape: of a cell of a tensor, -1 for any length; empty: a single value.
        dtype: NumPy's name of a tensor's type; empty: it comes from a column of a data frame.
        missing: whether a real number may be missing.
    """

    name: str
    type: str
    required: bool = True
    categories: tuple[Category, ...] = ()
    largest: float = FLOAT32_MAX
    shape: tuple[int, ...] = ()
    dtype: str = ""
    missing: bool = True

    @property
    def nullable(self) -> bool:
        """Whether null is an answer: for a real number or a category it is XGBoost's missing value."""
        return self.missing and (not self.required or self.type in REALS or bool(self.categories))

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The least and the greatest integer of a column of integers."""
        if self.type not in INTEGER_BITS:
            return None
        if self.dtype:
            return int(np.iinfo(self.dtype).min), int(np.iinfo(self.dtype).max)
        half = 2 ** (INTEGER_BITS[self.type] - 1)
        return -half, half - 1

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value, in words that do not repeat it; "" when nothing is."""
        return self._nested(value, self.shape) if self.shape else self._single(value)

    def native(self, value: Any) -> Any:
        """Return a checked value as Python's type for it."""
        if isinstance(value, list):
            return [self.native(each) for each in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value) if self.type in INTEGER_BITS else float(value)
        return moment(value) if self.type == "datetime" else value

    def _single(self, value: Any) -> str:
        if value is None:
            return "" if self.nullable else f"must not be null: a {self.type} has no missing value"
        if self.categories:
            known = not isinstance(value, list | dict) and (type(value), value) in self.codes
            return "" if known else f"{UNKNOWN_CATEGORY}: {self._listed()}"
        if self.type == "boolean":
            return "" if isinstance(value, bool) else f"must be true or false, not {kind(value)}"
        if self.type in NESTED:
            wanted = NESTED[self.type]
            return "" if wanted in ("", kind(value)) else f"must be {wanted}, not {kind(value)}"
        if self.type not in REALS and self.type not in INTEGER_BITS:
            if not isinstance(value, str):
                return f"must be a string, not {kind(value)}"
            return {"datetime": datetime_problem, "binary": binary_problem}.get(self.type, lambda _: "")(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number, not {kind(value)}"
        if bounds := self.bounds:
            if value != value or value in (math.inf, -math.inf) or value != int(value):
                return "must be a whole number"
            bits = INTEGER_BITS[self.type]
            wanted = f"be between {bounds[0]} and {bounds[1]}" if self.dtype else f"fit in {bits} bits"
            return "" if bounds[0] <= value <= bounds[1] else f"must {wanted}"
        # Above this, float32 is infinite; the comparison also takes integers that no float can hold.
        bits = 32 if self.largest == FLOAT32_MAX else 64
        return "" if -self.largest <= value <= self.largest else f"must be finite as a {bits}-bit number"

    def _nested(self, value: Any, shape: Sequence[int]) -> str:
        """Return the first problem of a tensor's cell: nested lists, in its shape."""
        if not shape:
            return self._single(value)
        if not isinstance(value, list):
            return f"must be a list of the shape {list(self.shape)}, not {kind(value)}"
        if shape[0] not in (-1, len(value)):
            return f"must be of the shape {list(self.shape)}: a list has {len(value)} values instead of {shape[0]}"
        return next((found for each in value if (found := self._nested(each, shape[1:]))), "")

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
        return (
            known
            | ({"categories": list(self.categories)} if self.categories else {})
            | ({"shape": list(self.shape)} if self.shape else {})
            | ({"dtype": self.dtype} if self.dtype else {})
        )

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
        if column.type not in _TYPES or column.shape:
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


def inputs_of(mlmodel: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the inputs of MLmodel's signature, in MLflow's words; none when it has none."""
    signature = mlmodel.get("signature")
    return list(json.loads((signature.get("inputs") if isinstance(signature, dict) else None) or "[]"))


def tensor_columns(entry: Mapping[str, Any], names: Sequence[str] = (), largest: float = FLOAT32_MAX) -> list[Column]:
    """Return a tensor's columns: of an unnamed matrix one for each of its columns, else the tensor as one.

    Args:
        entry: of the signature.
        names: of a matrix' columns; none: they are numbered from 0.
        largest: of its real numbers.

    Raises:
        LoadError: its type or its shape cannot be served.
    """
    name, spec = entry.get("name"), entry.get("tensor-spec") or {}
    dtype, shape = str(spec.get("dtype")), tuple(spec.get("shape") or ())
    if dtype not in _TENSOR_TYPES or not shape or shape[0] != -1:
        raise LoadError(
            f"tensor {name or '(unnamed)'} is of {dtype} in {list(shape)}, which cannot be served", _TENSORS
        )
    if "float" in dtype:
        largest = min(largest, float(np.finfo(dtype).max))
    one = Column(name or UNNAMED, _TENSOR_TYPES[dtype], largest=largest, dtype=dtype)
    if not name and len(shape) == 2 and shape[1] > 0:
        return [replace(one, name=each) for each in names or map(str, range(shape[1]))]
    return [replace(one, shape=shape[1:])]


def _named(mlmodel: Mapping[str, Any], contract: Contract | None, features: tuple[Feature, ...]) -> Iterator[Column]:
    if inputs := inputs_of(mlmodel):
        known = [feature.name for feature in features]
        for entry in inputs:
            if entry.get("type") == "tensor" and len(inputs) == 1 and not entry.get("name"):
                yield from tensor_columns(entry, known if all(known) else ())
            elif not entry.get("name") or entry.get("type") == "tensor":
                what = f"input {entry.get('name') or '(unnamed)'} is of type {entry.get('type')}"
                raise LoadError(f"{what}, which cannot be served", _REMEDY)
            else:
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
