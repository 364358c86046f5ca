"""Keep the parts of a scored data set: what is there after a kill at any moment is right, and nothing is there twice.

A part holds fixed rows and is written whole or not at all; its number says which rows. `_manifest.json`, written
before the first part, says what is scored by which model; a later run of the same goes on behind the last part, a run
of anything else is refused. `_SUCCESS`, written last, lists the parts.
"""

import hashlib
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from training.errors import InputError
from training.storage import Place, read, write

MANIFEST, SUCCESS = "_manifest.json", "_SUCCESS"
_PLAN = b"model-service.plan"


class Parts:
    """The output of one scoring.

    Args:
        place: the folder.
        plan: JSON that decides every byte of the parts.

    Raises:
        InputError: the folder holds parts of another plan.
        TrainingError: it cannot be read or written.
    """

    def __init__(self, place: Place, plan: dict[str, Any]) -> None:
        self.place = place
        self._digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
        found = read(place, MANIFEST)
        if found is None:
            write(place, MANIFEST, json.dumps(plan, indent=2).encode() + b"\n")
        elif (known := _json(found)) != plan:
            differing = sorted(key for key in {*plan, *known} if plan.get(key) != known.get(key))
            raise InputError(
                f"{place.uri} holds predictions that were made otherwise ({', '.join(differing)} differ): "
                "give another folder, or empty this one."
            )

    @property
    def complete(self) -> dict[str, Any] | None:
        """What `finish` wrote, None when it did not."""
        found = read(self.place, SUCCESS)
        return None if found is None else _json(found)

    def done(self) -> list[dict[str, Any]]:
        """Return the parts from the first on that are there, as `write` returned them.

        Raises:
            InputError: one of them is no part of this plan.
        """
        found: list[dict[str, Any]] = []
        while (content := read(self.place, _name(len(found)))) is not None:
            try:
                metadata = parquet.read_metadata(io.BytesIO(content))
            except pa.ArrowInvalid:
                metadata = None
            if metadata is None or (metadata.metadata or {}).get(_PLAN, b"").decode() != self._digest:
                raise InputError(f"{self.place.uri}/{_name(len(found))} is no part of this run: remove it.")
            found.append(_part(len(found), metadata.num_rows, content))
        return found

    def write(self, number: int, table: pa.Table) -> dict[str, Any]:
        """Write a part; return its name, rows and sha256."""
        buffer = io.BytesIO()
        parquet.write_table(table.replace_schema_metadata({_PLAN: self._digest.encode()}), buffer)
        content = buffer.getvalue()
        write(self.place, _name(number), content)
        return _part(number, table.num_rows, content)

    def finish(self, summary: dict[str, Any]) -> None:
        """Say that all parts are there."""
        write(self.place, SUCCESS, json.dumps(summary, indent=2).encode() + b"\n")


def started(place: Place) -> dict[str, Any] | None:
    """Return the plan of an earlier run in this folder, None when there is none."""
    found = read(place, MANIFEST)
    return None if found is None else _json(found)


def _name(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _part(number: int, rows: int, content: bytes) -> dict[str, Any]:
    return {"name": _name(number), "rows": rows, "sha256": hashlib.sha256(content).hexdigest()}


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{MANIFEST} or {SUCCESS} is no JSON: empty the folder of the output.")
    return found
