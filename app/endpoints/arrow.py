"""Arrow IPC streams as bodies of requests and responses."""

from collections.abc import Mapping
from typing import Any

from app.http.body import Media
from app.http.codings import weights
from app.loaded import Loaded
from app.model.arrow import writer
from app.model.arrow.rows import read_rows
from app.model.output import Predictions
from app.model.rows import Rows

ARROW = "application/vnd.apache.arrow.stream"
MEDIA = Media.of(
    "JSON or an Arrow IPC stream",
    f"application/json, {ARROW}",
    f"Content-Type: application/json or {ARROW}",
    rb"application/vnd\.apache\.arrow\.stream[ \t]*(?:;.*)?",
)
_ARROW = ARROW.encode()


class Stream(bytes):
    """A response body that is an Arrow IPC stream."""


def rows_of(loaded: Loaded, content: bytes, kind: bytes, most: int) -> Rows:
    """Return the rows of a body of one of the types in `MEDIA`.

    Args:
        loaded: The model.
        content: The body.
        kind: Content-Type of the body.
        most: Maximum number of rows.

    Raises:
        ProblemError: The body is invalid.
    """
    if kind[: len(_ARROW)].lower() == _ARROW:
        return read_rows(content, loaded.model.signature, most)
    return loaded.reader.read(content)


def wanted(accept: bytes) -> bool:
    """Return whether a client with this Accept header prefers a stream to JSON as the response."""
    if len(accept) < len(_ARROW) or _ARROW not in accept.lower():
        return False
    found = weights(accept)
    return found.get(ARROW, 0.0) > 0 and found[ARROW] >= found.get("application/json", 0.0)


def written(loaded: Loaded, predictions: Predictions) -> Stream:
    """Return the predictions as a stream: one column per value, and the name and version of the model as metadata."""
    columns = columns_of(predictions)
    if loaded.feedback:
        columns["token"] = loaded.feedback.tokens(predictions)
    identity: Mapping[str, str] = loaded.model.provenance.identity
    return Stream(writer.write(columns, {f"model_{key}": value for key, value in identity.items()}))


def columns_of(predictions: Predictions) -> dict[str, Any]:
    """Return the values of predictions by column."""
    output, numbers = predictions.output, predictions.numbers
    values = predictions.values if numbers is None else []
    if output.form == "number":
        return {"prediction": values if numbers is None else numbers[:, 0]}
    if output.form == "record":
        return {name: [each[name] for each in values] for name in output.names}
    if output.form == "numbers":
        names = output.names or [f"prediction_{place}" for place in range(output.width)]
        if numbers is None:
            return {name: [each[place] for each in values] for place, name in enumerate(names)}
        return dict(zip(names, numbers.T, strict=True))
    places = [] if numbers is None else output.labels(numbers)
    labels = [output.classes[place] for place in places] or [each["label"] for each in values]
    columns: dict[str, Any] = {"label": labels}
    if output.form == "probabilities":
        for place, name in enumerate(output.classes):
            if numbers is None:
                share: Any = [each["probabilities"][name] for each in values]
            elif output.width > 1:
                share = numbers[:, place]
            else:
                share = numbers[:, 0] if place else 1 - numbers[:, 0]
            columns[f"probability_{name}"] = share
    return columns
