"""Input columns of a model, from MLflow's signature, otherwise from the contract, otherwise from the booster."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from app.errors import LoadError
from app.model.booster import CATEGORICAL, Category, Feature
from app.model.columns import FLOAT32_MAX, INTEGER_BITS, REALS, Column, column_name
from app.model.contract import CONTRACT_FILE, Contract, UnknownCategory

UNNAMED = "inputs"  # name of a tensor that has no name and is not a matrix
_TYPES = REALS | INTEGER_BITS.keys() | {"boolean", "string"}
# MLflow's column types for NumPy's types. Narrow integers are integers with their own bounds (Column.dtype).
_TENSOR_TYPES = {
    **{"float64": "double", "float32": "float", "int64": "long", "int32": "integer", "bool": "boolean"},
    **dict.fromkeys(("int8", "int16", "uint8", "uint16"), "integer"),
    **{"uint32": "long", "float16": "float", "str": "string", "object": "string"},
}
# MLflow's column types for XGBoost's feature types; a feature without a type is a number.
_FEATURE_TYPES = {"": "double", "float": "double", "q": "double", "int": "long", "i": "boolean", CATEGORICAL: "long"}
_TENSORS = "log the model with tensors of numbers, booleans or strings, whose first dimension is -1"
_VALUE = "model.categories"
_MOST_NAMED = 10  # columns in an error message
_REMEDY = "log the model with a signature of named columns (mlflow.models.infer_signature)"


def columns_of(
    mlmodel: Mapping[str, Any],
    contract: Contract | None,
    features: tuple[Feature, ...],
    categories: Mapping[str, tuple[Category, ...]],
    unknown: UnknownCategory | Literal[""] = "",
) -> tuple[Column, ...]:
    """Return the columns in the order of the booster's features.

    Args:
        mlmodel: Content of the file MLmodel; its signature takes precedence.
        contract: Contract with the columns of a model without a signature, and with categories the booster lacks.
        features: Features of the booster.
        categories: Categories by column from the settings, for a model that has them nowhere else.
        unknown: How to take an unknown category, from the settings; "": as the contract says, which refuses by default.

    Raises:
        LoadError: The columns are unknown, do not fit the booster, or cannot be checked.
    """
    columns = tuple(_with_parts(_named(mlmodel, contract, features), contract))
    for column in columns:
        if (column.type not in _TYPES and not column.parts) or column.shape:
            raise LoadError(f"input {column.name} has type {column.type}, which is not supported", _REMEDY)
    names = tuple(column.name for column in columns)
    if len(set(names)) != len(names):
        raise LoadError("two inputs have the same name", _REMEDY)
    known = tuple(feature.name for feature in features)
    made = tuple(feature.name for column in columns for feature in column.features)
    if len(made) != len(known) or (None not in known and made != known):
        raise LoadError(
            f"the {len(known)} features of the booster differ from the {len(made)} columns of the signature in "
            "number, name or order",
            "log the model with the signature of its training data",
        )
    rule = unknown or (contract.unknown_category if contract else "error")
    places = accumulate((len(column.features) for column in columns[:-1]), initial=0)
    firsts = tuple(features[place] for place in places)
    found = _with_categories(columns, contract, firsts, categories)
    return tuple(replace(column, unknown=rule) if column.categories else column for column in found)


def inputs_of(mlmodel: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the inputs of MLmodel's signature in MLflow's terms, or an empty list.

    The name of a column is always a string; an input without a name has no member `name`.

    Raises:
        LoadError: The signature is not one that MLflow writes.
    """
    signature = mlmodel.get("signature")
    try:
        stated = json.loads((signature.get("inputs") if isinstance(signature, dict) else None) or "[]")
        return [_input(each) for each in stated]
    except (TypeError, ValueError, KeyError, AttributeError):
        raise LoadError("the signature in MLmodel is not one that MLflow writes", _REMEDY) from None


def _input(stated: dict[str, Any]) -> dict[str, Any]:
    """Return one input with a checked name, type and shape.

    Raises:
        TypeError, ValueError, KeyError, AttributeError: MLflow does not write such an input.
    """
    found: dict[str, Any] = {"type": str(stated["type"]), "required": bool(stated.get("required", True))}
    if stated.get("name") is not None:
        if (name := column_name(stated["name"])) is None:
            raise ValueError(name)
        found["name"] = name
    if spec := stated.get("tensor-spec"):
        shape = [int(size) for size in spec.get("shape") or ()]
        found["tensor-spec"] = {"dtype": str(spec.get("dtype")), "shape": shape}
    return found


def tensor_columns(entry: Mapping[str, Any], names: Sequence[str] = (), largest: float = FLOAT32_MAX) -> list[Column]:
    """Return the columns of a tensor: all columns of an unnamed matrix, otherwise the tensor as one column.

    Args:
        entry: Entry of the signature.
        names: Names of the columns of a matrix; empty: the numbers from 0, if the matrix has a fixed width.
        largest: Largest real number.

    Raises:
        LoadError: The type or shape of the tensor is not supported.
    """
    name, spec = entry.get("name"), entry.get("tensor-spec") or {}
    dtype, shape = str(spec.get("dtype")), tuple(spec.get("shape") or ())
    if dtype not in _TENSOR_TYPES or not shape or shape[0] != -1:
        raise LoadError(
            f"tensor {name or '(unnamed)'} has dtype {dtype} and shape {list(shape)}, which is not supported", _TENSORS
        )
    if "float" in dtype:
        largest = min(largest, float(np.finfo(dtype).max))
    one = Column(name or UNNAMED, _TENSOR_TYPES[dtype], largest=largest, dtype=dtype)
    if not name and len(shape) == 2 and (shape[1] > 0 or names):
        return [replace(one, name=each) for each in names or map(str, range(shape[1]))]
    return [replace(one, shape=shape[1:])]


def _named(mlmodel: Mapping[str, Any], contract: Contract | None, features: tuple[Feature, ...]) -> Iterator[Column]:
    # Without names in the file, which boosters trained on arrays lack, the features are numbered from 0.
    known = [str(place) if feature.name is None else feature.name for place, feature in enumerate(features)]
    if inputs := inputs_of(mlmodel):
        if len(inputs) == 1 and inputs[0]["type"] == "tensor" and "name" not in inputs[0]:
            yield from tensor_columns(inputs[0], known)
            return
        numbered = len(inputs) == len(known) and not any("name" in entry for entry in inputs)
        for entry, name in zip(inputs, known if numbered else [""] * len(inputs), strict=True):
            if entry["type"] == "tensor" or not (numbered or "name" in entry):
                what = f"input {entry.get('name', '(unnamed)')} has type {entry['type']}"
                raise LoadError(f"{what}, which is not supported", _REMEDY)
            yield Column(entry.get("name", name), entry["type"], entry["required"])
    elif contract and contract.columns:
        for stated in contract.columns:
            yield Column(stated.name, stated.type, stated.required)
    else:
        for name, feature in zip(known, features, strict=True):
            yield Column(name, _FEATURE_TYPES[feature.type])


def _with_parts(columns: Iterator[Column], contract: Contract | None) -> Iterator[Column]:
    """Add the parts of dates, which are the features of the booster."""
    parts = {column.name: column.parts for column in contract.columns} if contract else {}
    for column in columns:
        found = parts.get(column.name, ())
        if found and column.type != "datetime":
            raise LoadError(
                f"input {column.name} has type {column.type}, but {CONTRACT_FILE} has parts of a date for it",
                "log the model with a datetime column in its signature",
            )
        yield replace(column, parts=found) if found else column


def _with_categories(
    columns: tuple[Column, ...],
    contract: Contract | None,
    features: tuple[Feature, ...],
    set_by_user: Mapping[str, tuple[Category, ...]],
) -> tuple[Column, ...]:
    """Add the categories, which must be known, because XGBoost predicts for unknown codes as for any number."""
    categorical = {column.name for column, each in zip(columns, features, strict=True) if each.type == CATEGORICAL}
    if strange := sorted(set_by_user.keys() - categorical):
        raise LoadError(f"{_VALUE} names {strange[0]}, which is not a categorical feature of the model", "remove it")
    in_contract = {column.name: column.categories for column in contract.columns} if contract else {}
    found = []
    for column, feature in zip(columns, features, strict=True):
        if column.type == "string" and feature.type != CATEGORICAL:
            raise LoadError(f"input {column.name} has type string, but its feature is not categorical", _REMEDY)
        origins = {CONTRACT_FILE: in_contract.get(column.name, ()), _VALUE: set_by_user.get(column.name, ())}
        agreed = _agreed(column.name, feature, origins)
        kind = "string" if any(isinstance(each, str) for each in agreed) else column.type
        found.append(replace(column, type=kind, categories=agreed))
    if unknown := [column.name for column in found if column.name in categorical and not column.categories]:
        named = ", ".join(unknown[:_MOST_NAMED]) + (" and others" if len(unknown) > _MOST_NAMED else "")
        example = json.dumps({unknown[0]: ["…", "…"]}, ensure_ascii=False)
        raise LoadError(
            f"the categories of {named} are unknown, because XGBoost before 3.1 does not save them",
            f"list them in {_VALUE}, such as {example}, in the order of training (pandas: column.cat.categories)",
        )
    return tuple(found)


def _agreed(name: str, feature: Feature, origins: Mapping[str, tuple[Category, ...]]) -> tuple[Category, ...]:
    """Return the categories of a feature, empty if they are unknown or it has none.

    Raises:
        LoadError: Two origins contradict each other, or a category appears twice.
    """
    if feature.type != CATEGORICAL:
        return ()
    known, first = feature.categories, "the booster"
    for origin, stated in origins.items():
        if len(set(stated)) != len(stated):
            raise LoadError(f"a category of {name} appears twice in {origin}", "list each category once")
        if stated and known and stated != known:
            raise LoadError(
                f"the categories of {name} in {origin} differ from those of {first}", f"correct or remove {origin}"
            )
        if stated and not known:
            known, first = stated, origin
    return known
