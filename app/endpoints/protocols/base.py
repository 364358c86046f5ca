"""The interface between a protocol and the application."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import Route

from app.errors import ErrorFormat
from app.http.front import Direct


@dataclass(frozen=True)
class Protocol:
    """One protocol.

    Args:
        routes: Routes of its endpoints.
        parts: First parts of its paths, without slashes.
        error_format: Converts a problem into the error format of the protocol.
        direct: Endpoints whose POST requests bypass routing, which have a route as well.
    """

    routes: Sequence[Route]
    parts: Sequence[str]
    error_format: ErrorFormat
    direct: Sequence[Direct] = ()


def sentence(problem: dict[str, Any]) -> str:
    """Return a problem and its list of errors as one text, for protocols whose errors have no list."""
    places = []
    for each in problem.get("errors", []):
        row = [] if each["row"] is None else [f"row {each['row']}"]
        column = [] if each["column"] is None else [f"column {each['column']!r}"]
        where = ", ".join(row + column)
        places.append(f"{where}: {each['problem']}" if where else each["problem"])
    return " ".join([problem["detail"], "; ".join(places)]).strip() + ("." if places else "")
