"""Parameters of a model's signature, which clients may send as `params`, and their defaults."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.errors import CellError, InvalidInputError, LoadError
from app.model.columns import FLOAT64_MAX, SCALARS, Column, kind

Parameters = Mapping[str, Any]

NO_PARAMETERS: Parameters = MappingProxyType({})


@dataclass(frozen=True)
class Parameter:
    """One parameter, in MLflow's terms; `many` means a list of values."""

    column: Column
    default: Any
    many: bool

    @property
    def name(self) -> str:
        """Name of the parameter."""
        return self.column.name

    def document(self) -> dict[str, Any]:
        """Return the parameter as JSON."""
        return {"name": self.name, "type": self.column.type, "default": self.default, "list": self.many}

    def problem(self, value: Any) -> str:
        """Return the problem of a value, or "" if it is valid. null is valid if it is the default."""
        if value is None and self.default is None:
            return ""
        if not self.many:
            return self.column.problem(value)
        if not isinstance(value, list):
            return f"must be a list, not {kind(value)}"
        return next((found for each in value if (found := self.column.problem(each))), "")


def parameters_of(mlmodel: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Return the parameters of MLmodel's signature.

    Raises:
        LoadError: The type of a parameter is not supported.
    """
    signature = mlmodel.get("signature")
    stated = json.loads((signature.get("params") if isinstance(signature, dict) else None) or "[]")
    found = []
    for entry in stated:
        if entry.get("type") not in SCALARS:
            raise LoadError(
                f"parameter {entry.get('name')} has type {entry.get('type')}, which is not supported",
                "log the model with parameters of numbers, booleans and strings",
            )
        # Never nullable, because a missing parameter has its default.
        column = Column(entry["name"], entry["type"], largest=FLOAT64_MAX, missing=False)
        found.append(Parameter(column, entry.get("default"), bool(entry.get("shape"))))
    return tuple(found)


def picked(parameters: tuple[Parameter, ...], given: Any) -> Parameters:
    """Return the result of `checked`, ignoring unknown parameters."""
    if isinstance(given, dict):
        names = {each.name for each in parameters}
        given = {name: value for name, value in given.items() if name in names}
    return checked(parameters, given)


def checked(parameters: tuple[Parameter, ...], given: Any) -> Parameters:
    """Return the value of each parameter: the client's, otherwise the default.

    Raises:
        InvalidInputError: A parameter is unknown, or its value is invalid.
    """
    if not isinstance(given, dict):
        raise InvalidInputError(f"params must be an object with one value per parameter, not {kind(given)}.")
    known = {each.name: each for each in parameters}
    taken = ", ".join(known) or "none"
    problems = [
        f"is not a parameter of this model, which has {taken}" if name not in known else known[name].problem(value)
        for name, value in given.items()
    ]
    errors = [CellError(None, f"params.{name}"[:200], text) for name, text in zip(given, problems, strict=True) if text]
    if errors:
        raise InvalidInputError("The parameters do not fit the model's signature.", errors, len(errors))
    return {name: known[name].column.native(given.get(name, known[name].default)) for name in known}
