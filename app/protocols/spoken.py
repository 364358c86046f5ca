"""What the application has to know about a protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import Route

from app.errors import Shape


@dataclass(frozen=True)
class Spoken:
    """One protocol.

    Args:
        routes: of its endpoints.
        parts: with which their paths begin, without slashes.
        shape: turns a problem into its kind of error.
    """

    routes: Sequence[Route]
    parts: Sequence[str]
    shape: Shape


def sentence(problem: dict[str, Any]) -> str:
    """Return a problem with the places that are wrong as one text, for protocols that have no list for them."""
    places = []
    for each in problem.get("errors", []):
        row = [] if each["row"] is None else [f"row {each['row']}"]
        column = [] if each["column"] is None else [f"column {each['column']!r}"]
        where = ", ".join(row + column)
        places.append(f"{where}: {each['problem']}" if where else each["problem"])
    return " ".join([problem["detail"], "; ".join(places)]).strip() + ("." if places else "")
