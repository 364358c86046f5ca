"""Read the body of a prediction: JSON into the rows that a model takes.

The common body, numbers alone under all columns in order, goes from text to matrix at once: no Python object per
cell, a quarter of the time. Whatever else it is, or is wrong with it, is for the full way, which names each cell.
"""

from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import simdjson
from numpy.typing import NDArray
from pydantic_core import from_json

from app.errors import InvalidInputError, NotJsonError, TooLargeError
from app.parameters import NO_PARAMETERS, Parameters, checked
from app.signature import Cells, Signature

_FORMS = 'Send {"instances": [{column: value}]} or {"columns": [...], "data": [[...]]}, with "params" if it takes any.'


@dataclass(frozen=True)
class Rows:
    """The rows of one request.

    Args:
        count: how many there are, at least one.
        matrix: validates and returns them, shape (count, columns), float32.
        payload: returns the body as Python objects.
        parameters: of the model's own, checked and with defaults.
    """

    count: int
    matrix: Callable[[], Cells]
    payload: Callable[[], dict[str, Any]]
    parameters: Parameters = NO_PARAMETERS


class Reader:
    """Reads bodies for one model, in one thread.

    Args:
        signature: of the model.
        most: rows that one body may have.
    """

    def __init__(self, signature: Signature, most: int) -> None:
        self._signature = signature
        self._most = most
        self._parser = simdjson.Parser()

    def read(self, body: bytes) -> Rows:
        """Return the rows, whose cells are checked only when their matrix is asked for.

        Raises:
            NotJsonError: it is no JSON.
            InvalidInputError: it has neither of the two forms.
            TooLargeError: it has too many rows.
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
            raise InvalidInputError(f"There must be at least one row, in lists. {_FORMS}")
        self._check(len(rows))
        signature = self._signature
        parameters = checked(signature.parameters, payload["params"]) if "params" in payload else signature.defaults
        if columns is None:
            return Rows(len(rows), lambda: signature.from_records(rows), lambda: payload, parameters)
        return Rows(len(rows), lambda: signature.from_split(columns, rows), lambda: payload, parameters)

    def _check(self, count: int) -> None:
        if count > self._most:
            raise TooLargeError(f"The body has {count} rows; at most {self._most} are taken at once.")

    def _numbers(self, body: bytes) -> NDArray[np.float64] | None:
        """Return the values of a body in split form with nothing but numbers; None when it is any other."""
        names = self._signature.names
        # The first: a byte order mark, which simdjson passes over. The second: records, not to be read twice.
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
            # The values come flat: this is what says that each row has its own, and no list in place of one. What has
            # a length and is no list fails below.
            if body.count(b"[") != len(rows) + 2 or set(map(len, cast(Iterable[Sized], rows))) != {len(names)}:
                return None
            values = np.frombuffer(rows.as_buffer(of_type="d"))
        except (KeyError, TypeError, ValueError, RuntimeError):
            return None
        return values.reshape(-1, len(names)) if values.size else None


def _parse(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:  # also of bad UTF-8, of numbers with thousands of digits and of deep nesting
        raise NotJsonError("The body is no JSON (which has no NaN and no Infinity; null is a missing value).") from None
