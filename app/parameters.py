"""The parameters of a model's own signature: what a caller may send as `params`, and what holds without it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.columns import FLOAT64_MAX, SCALARS, Column, kind
from app.errors import CellError, InvalidInputError, LoadError

Parameters = Mapping[str, Any]

NO_PARAMETERS: Parameters = MappingProxyType({})


@dataclass(frozen=True)
class Parameter:
    """One parameter by MLflow's words; `many`: a list of values."""

    column: Column
    default: Any
    many: bool

    @property
    def name(self) -> str:
        """Its name."""
        return self.column.name

    def document(self) -> dict[str, Any]:
        """The parameter as JSON."""
        return {"name": self.name, "type": self.column.type, "default": self.default, "list": self.many}

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value; "" when nothing is. null is fine where it is the default."""
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
        LoadError: one is of a type that cannot be served.
    """
    signature = mlmodel.get("signature")
    stated = json.loads((signature.get("params") if isinstance(signature, dict) else None) or "[]")
    found = []
    for entry in stated:
        if entry.get("type") not in SCALARS:
            raise LoadError(
                f"parameter {entry.get('name')} is of type {entry.get('type')}, which cannot be served",
                "log the model with parameters of numbers, booleans and strings",
            )
        # Not nullable, whatever its type: a parameter has a default for what is missing.
        column = Column(entry["name"], entry["type"], largest=FLOAT64_MAX, missing=False)
        found.append(Parameter(column, entry.get("default"), bool(entry.get("shape"))))
    return tuple(found)


def picked(parameters: tuple[Parameter, ...], given: Any) -> Parameters:
    """Return what `checked` does, passing over what is no parameter of the model's."""
    if isinstance(given, dict):
        names = {each.name for each in parameters}
        given = {name: value for name, value in given.items() if name in names}
    return checked(parameters, given)


def checked(parameters: tuple[Parameter, ...], given: Any) -> Parameters:
    """Return a value for each parameter, the caller's or the default.

    Raises:
        InvalidInputError: a parameter is unknown or its value does not fit.
    """
    if not isinstance(given, dict):
        raise InvalidInputError(f"params must be an object with a value per parameter, not {kind(given)}.")
    known = {each.name: each for each in parameters}
    taken = ", ".join(known) or "none"
    problems = [
        f"is no parameter of this model, which takes {taken}" if name not in known else known[name].problem(value)
        for name, value in given.items()
    ]
    errors = [CellError(None, f"params.{name}"[:200], text) for name, text in zip(given, problems, strict=True) if text]
    if errors:
        raise InvalidInputError("The parameters do not fit the model's signature.", errors, len(errors))
    return {name: known[name].column.native(given.get(name, known[name].default)) for name in known}
