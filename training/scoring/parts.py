"""The parts of a scored data set, which stay correct and without duplicates if the process is killed at any moment.

A part is written atomically, and its number determines its rows. `_manifest.json` is written before the first part and
contains the plan: data, model and options. A later run with the same plan continues after the last part. A run with a
different plan is refused. `_SUCCESS` is written last and lists the parts.
"""

import hashlib
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from training.data.storage import Place, read, write
from training.errors import InputError

MANIFEST, SUCCESS = "_manifest.json", "_SUCCESS"
_PLAN = b"model-service.plan"


class Parts:
    """The output of one scoring.

    Args:
        place: The folder.
        plan: JSON that determines every byte of the parts.

    Raises:
        InputError: The folder contains parts of a different plan.
        TrainingError: The folder cannot be read or written.
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
                f"{place.uri} contains predictions of a different run ({', '.join(differing)} differ): use another "
                "folder, or empty this one."
            )

    @property
    def complete(self) -> dict[str, Any] | None:
        """The summary that `finish` wrote, or None."""
        found = read(self.place, SUCCESS)
        return None if found is None else _json(found)

    def done(self) -> list[dict[str, Any]]:
        """Return the existing parts from the first on, as `write` returned them.

        Raises:
            InputError: A file is not a part of this plan.
        """
        found: list[dict[str, Any]] = []
        while (content := read(self.place, _name(len(found)))) is not None:
            try:
                metadata = parquet.read_metadata(io.BytesIO(content))
            except pa.ArrowInvalid:
                metadata = None
            if metadata is None or (metadata.metadata or {}).get(_PLAN, b"").decode() != self._digest:
                raise InputError(f"{self.place.uri}/{_name(len(found))} does not belong to this run: remove it.")
            found.append(_part(len(found), metadata.num_rows, content))
        return found

    def write(self, number: int, table: pa.Table) -> dict[str, Any]:
        """Write a part, and return its name, rows and sha256."""
        buffer = io.BytesIO()
        parquet.write_table(table.replace_schema_metadata({_PLAN: self._digest.encode()}), buffer)
        content = buffer.getvalue()
        write(self.place, _name(number), content)
        return _part(number, table.num_rows, content)

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the output as complete."""
        write(self.place, SUCCESS, json.dumps(summary, indent=2).encode() + b"\n")


def started(place: Place) -> dict[str, Any] | None:
    """Return the plan of an earlier run in this folder, or None."""
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
        raise InputError(f"{MANIFEST} or {SUCCESS} is not valid JSON: empty the output folder.")
    return found
