"""Say which columns a model takes: from MLflow's signature, else from its contract, else from the booster itself."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from app.booster import CATEGORICAL, Category, Feature
from app.columns import FLOAT32_MAX, INTEGER_BITS, REALS, Column
from app.contract import CONTRACT_FILE, Contract
from app.errors import LoadError

UNNAMED = "inputs"  # a tensor that has no name, and is no matrix
_TYPES = REALS | INTEGER_BITS.keys() | {"boolean", "string"}
# Of tensors, as MLflow names the values; narrow integers are integers with bounds of their own (Column.dtype).
_TENSOR_TYPES = {
    **{"float64": "double", "float32": "float", "int64": "long", "int32": "integer", "bool": "boolean"},
    **dict.fromkeys(("int8", "int16", "uint8", "uint16"), "integer"),
    **{"uint32": "long", "float16": "float", "str": "string", "object": "string"},
}
# XGBoost's types of features, as MLflow names the values. Without a type it is a number.
_FEATURE_TYPES = {"": "double", "float": "double", "q": "double", "int": "long", "i": "boolean"}
_TENSORS = "log the model with tensors of numbers, booleans or strings, whose first dimension is -1"
_REMEDY = "log the model with a signature of named columns (mlflow.models.infer_signature)"


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
