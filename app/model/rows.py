"""Request bodies of predictions, parsed into the rows of a model.

A body with only numbers for all columns in order is converted directly into a matrix, without a Python object per cell,
in a quarter of the time. All other bodies take the full path, which reports every invalid cell.
"""

from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import simdjson
from numpy.typing import NDArray
from pydantic_core import from_json

from app.errors import InvalidInputError, NotJsonError, TooLargeError
from app.model.parameters import NO_PARAMETERS, Parameters, checked
from app.model.signature import Cells, Signature

_FORMS = (
    'Send {"instances": [{column: value}]} or {"columns": [...], "data": [[...]]}, with "params" if the model has any.'
)


@dataclass(frozen=True)
class Rows:
    """The rows of one request.

    Args:
        count: Number of rows, at least one.
        matrix: Validates and returns the rows, shape (count, columns).
        payload: Returns the body as Python objects.
        parameters: Parameters of the model, checked and completed with defaults.
        unseen: Column of each unknown category that `matrix` has taken as a missing value.
    """

    count: int
    matrix: Callable[[], Cells]
    payload: Callable[[], dict[str, Any]]
    parameters: Parameters = NO_PARAMETERS
    unseen: list[str] = field(default_factory=list)


class Reader:
    """Parser of request bodies for one model, for use in one thread.

    Args:
        signature: Signature of the model.
        most: Maximum number of rows per body.
    """

    def __init__(self, signature: Signature, most: int) -> None:
        self._signature = signature
        self._most = most
        self._parser = simdjson.Parser()

    def read(self, body: bytes) -> Rows:
        """Parse the body. Its cells are validated when the matrix is requested.

        Raises:
            NotJsonError: The body is not valid JSON.
            InvalidInputError: The body has neither of the two forms.
            TooLargeError: The body has too many rows.
        """
        if self._signature.numeric and (wide := self._numbers(body)) is not None:
            self._check(len(wide))
            narrow = self._signature.from_numbers(wide)
            if narrow is not None:
                return Rows(len(narrow), lambda: narrow, lambda: _parse(body))
        payload = _parse(body)
        keys = payload.keys() - {"params"} if isinstance(payload, dict) else set()
        if keys == {"instances"}:
            rows, columns = payload["instances"], None
        elif keys == {"columns", "data"}:
            rows, columns = payload["data"], payload["columns"]
        else:
            raise InvalidInputError(_FORMS)
        if not isinstance(rows, list) or not rows or not isinstance(columns, list | None):
            raise InvalidInputError(f"The body must contain at least one row. {_FORMS}")
        self._check(len(rows))
        signature = self._signature
        parameters = checked(signature.parameters, payload["params"]) if "params" in payload else signature.defaults
        unseen: list[str] = []
        if columns is None:
            return Rows(len(rows), lambda: signature.from_records(rows, unseen), lambda: payload, parameters, unseen)
        return Rows(len(rows), lambda: signature.from_split(columns, rows, unseen), lambda: payload, parameters, unseen)

    def _check(self, count: int) -> None:
        if count > self._most:
            raise TooLargeError(f"The body has {count} rows; the limit is {self._most}.")

    def _numbers(self, body: bytes) -> NDArray[np.float64] | None:
        """Return the values of a body in split form with only numbers, or None for any other body."""
        names = self._signature.names
        # The first condition excludes a byte order mark, which simdjson accepts; the second one excludes records, which
        # would be parsed twice.
        if body[:1] != b"{" or b'"columns"' not in body:
            return None
        try:
            document = self._parser.parse(body)
            if not isinstance(document, simdjson.Object) or len(document) != 2:
                return None
            columns, rows = document["columns"], document["data"]
            if not isinstance(columns, simdjson.Array) or not isinstance(rows, simdjson.Array):
                return None
            if columns.as_list() != list(names):
                return None
            # The values are flat, so this checks that each row has the right length and contains no lists. Strings and
            # objects, which also have a length, fail below.
            if body.count(b"[") != len(rows) + 2 or set(map(len, cast(Iterable[Sized], rows))) != {len(names)}:
                return None
            values = np.frombuffer(rows.as_buffer(of_type="d"))
        except (KeyError, TypeError, ValueError, RuntimeError):
            return None
        return values.reshape(-1, len(names)) if values.size else None


def _parse(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:  # also for invalid UTF-8, numbers with thousands of digits and deep nesting
        raise NotJsonError(
            "The body is not valid JSON. Use null for missing values; NaN and Infinity are not allowed."
        ) from None
