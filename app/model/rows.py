"""Request bodies of predictions, parsed into the rows of a model.

A body whose cells have the types of their columns is converted directly into a matrix (app.model.typed). All other
bodies take the full path, which reports every invalid cell.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic_core import from_json

from app.errors import InvalidInputError, NotJsonError, TooLargeError
from app.model import pieces
from app.model.parameters import NO_PARAMETERS, Parameters, checked
from app.model.signature import Cells, Signature
from app.model.typed import SPLIT, Typed

_FORMS = (
    'Send {"instances": [{column: value}]} or {"columns": [...], "data": [[...]]}, with "params" if the model has any.'
)
_MEMBERS = frozenset({"instances", *SPLIT[1]})
# Members by which other protocols are recognized, and where those are served.
_OTHERS = {
    "dataframe_split": "MLflow's protocol: send it to /invocations",
    "dataframe_records": "MLflow's protocol: send it to /invocations",
    "inputs": "MLflow's protocol or the Open Inference Protocol: send it to /invocations or /v2/models/{name}/infer",
}


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
    """Parser of request bodies for one model. Thread-safe.

    Args:
        signature: Signature of the model.
        most: Maximum number of rows per body.
    """

    def __init__(self, signature: Signature, most: int) -> None:
        self._signature = signature
        self._most = most
        self.typed = Typed(signature, most)

    def read(self, body: bytes) -> Rows:
        """Parse the body. Its cells are validated when the matrix is requested.

        Raises:
            NotJsonError: The body is not valid JSON.
            InvalidInputError: The body has neither of the two forms.
            TooLargeError: The body has too many rows.
        """
        if (narrow := self.typed.read(body, _MEMBERS)) is not None:
            self._check(len(narrow))
            return Rows(len(narrow), lambda: narrow, lambda: _parse(body, self._most))
        payload = _parse(body, self._most)
        rows, columns = self._form(payload)
        self._check(len(rows))
        signature = self._signature
        parameters = checked(signature.parameters, payload["params"]) if "params" in payload else signature.defaults
        unseen: list[str] = []
        if columns is None:
            return Rows(len(rows), lambda: signature.from_records(rows, unseen), lambda: payload, parameters, unseen)
        return Rows(len(rows), lambda: signature.from_split(columns, rows, unseen), lambda: payload, parameters, unseen)

    def _form(self, payload: Any) -> tuple[list[Any], list[Any] | None]:
        """Return the rows of a body and the names of their columns; None for records."""
        keys = payload.keys() - {"params"} if isinstance(payload, dict) else set()
        if keys == {"instances"}:
            rows, columns = payload["instances"], None
            if isinstance(rows, list) and rows and isinstance(rows[0], list):
                columns = list(self._signature.names)
        elif sorted(keys) in SPLIT:
            rows, columns = payload["data"], payload["columns"]
        else:
            other = next((f"{key} belongs to {_OTHERS[key]}. Here: " for key in _OTHERS if key in keys), "")
            raise InvalidInputError(other + _FORMS)
        if not isinstance(rows, list) or not rows or not isinstance(columns, list | None):
            raise InvalidInputError(f"The body must contain at least one row. {_FORMS}")
        return rows, columns

    def _check(self, count: int) -> None:
        if count > self._most:
            raise TooLargeError(f"The body has {count} rows; the limit is {self._most}.")


def _parse(body: bytes, most: int) -> Any:
    try:
        return pieces.parsed(body, partial(from_json, allow_inf_nan=False), most)
    except ValueError:  # also for invalid UTF-8, numbers with thousands of digits and deep nesting
        raise NotJsonError(
            "The body is not valid JSON. Use null for missing values; NaN and Infinity are not allowed."
        ) from None
