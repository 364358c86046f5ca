"""Say what a column of a model's input takes, and what is wrong with a value."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from app.booster import Category
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


def kind(value: Any) -> str:
    """Name a JSON value's type."""
    names = {str: "a string", bool: "a boolean", dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value), "a number")
